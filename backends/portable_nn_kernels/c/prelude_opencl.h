/* The portable dialect in OpenCL C 1.2. Put before every kernel text; see DIALECT.md.
 * PNN_F64 is defined by the backend where the device has float64 arithmetic. */
#define PNN_OPENCL 1
#pragma OPENCL FP_CONTRACT OFF
#ifdef PNN_F64
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#endif

typedef char i8;
typedef short i16;
typedef int i32;
typedef long i64;
typedef uchar u8;
typedef ushort u16;
typedef uint u32;
typedef ulong u64;
typedef float f32;
#ifdef PNN_F64
typedef double f64;
#endif

#define GLOBAL __global
#define LOCAL __local
#define LOCALP __local
#ifdef PNN_IN_PLACE /* an output lies where an operand does: no promise that they do not overlap */
#define RESTRICT
#else
#define RESTRICT restrict
#endif
#define DEVICE static inline
/* Before a loop that is short or seldom runs: one copy of its body. Compilers make eight and one of vectors, which takes them long. */
#define ONE_COPY _Pragma("clang loop unroll(disable) vectorize(disable) interleave(disable)")
#define BARRIER() barrier(CLK_LOCAL_MEM_FENCE)

#define KERNEL(name, x, y, z) __kernel __attribute__((reqd_work_group_size(x, y, z))) void name

/* size_t on this side is unsigned; i64 keeps index arithmetic signed and 64 bits wide (int is slow to vectorise). */
#define GROUP_ID(d) ((i64)get_group_id(d))
#define LOCAL_ID(d) ((i64)get_local_id(d))
#define GLOBAL_ID(d) ((i64)get_global_id(d))
#define NUM_GROUPS(d) ((i64)get_num_groups(d))

#define AS_U32(x) as_uint(x)
#define AS_F32(x) as_float((u32)(x))
#ifdef PNN_F64
#define AS_U64(x) as_ulong(x)
#define AS_F64(x) as_double((u64)(x))
#endif
#define FMA(a, b, c) fma(a, b, c)

/* float16 is stored as its bits; the half pointer exists only inside the call, so no fp16 extension is needed. */
#define LOAD_f16(p, i) vload_half((size_t)(i), (GLOBAL const half*)(p))
#define STORE_f16(p, i, v) vstore_half_rte((f32)(v), (size_t)(i), (GLOBAL half*)(p))

/* Sets *word (an i32) from 0 to code; true for the one caller that did. */
#define PNN_CLAIM(word, code) (atomic_cmpxchg((volatile GLOBAL int*)(word), 0, (int)(code)) == 0)

/* One name per precision: math.h builds on these. OpenCL's functions are overloaded. */
#define PNN_M32(name) name
#define PNN_M64(name) name
