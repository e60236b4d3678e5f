/* The portable dialect in CUDA C++ (NVRTC, nvcc: no header needed) and HIP (hipRTC, hipcc). Put before every kernel
 * text; see DIALECT.md. Compile with --fmad=false (HIP: -ffp-contract=off). */
#define PNN_CUDA 1
#ifndef PNN_F64
#define PNN_F64 1
#endif

typedef signed char i8;
typedef short i16;
typedef int i32;
typedef long long i64;
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef float f32;
typedef double f64;

#define GLOBAL
#define LOCAL __shared__
#define LOCALP
#ifdef PNN_IN_PLACE /* an output lies where an operand does: no promise that they do not overlap */
#define RESTRICT
#else
#define RESTRICT __restrict__
#endif
#define DEVICE static __device__ __forceinline__
#define BARRIER() __syncthreads()

#ifndef PNN_LINKAGE /* `static` where a compiler for CPUs runs one kernel of a file and may drop the others */
#define PNN_LINKAGE extern "C"
#endif
#define KERNEL(name, x, y, z) PNN_LINKAGE __global__ PNN_BOUNDS((x) * (y) * (z)) void name

#define PNN_GROUP_ID_0 blockIdx.x
#define PNN_GROUP_ID_1 blockIdx.y
#define PNN_GROUP_ID_2 blockIdx.z
#define PNN_LOCAL_ID_0 threadIdx.x
#define PNN_LOCAL_ID_1 threadIdx.y
#define PNN_LOCAL_ID_2 threadIdx.z
#define PNN_LOCAL_SIZE_0 blockDim.x
#define PNN_LOCAL_SIZE_1 blockDim.y
#define PNN_LOCAL_SIZE_2 blockDim.z
#define PNN_NUM_GROUPS_0 gridDim.x
#define PNN_NUM_GROUPS_1 gridDim.y
#define PNN_NUM_GROUPS_2 gridDim.z
#define GROUP_ID(d) ((i64)CAT(PNN_GROUP_ID_, d))
#define LOCAL_ID(d) ((i64)CAT(PNN_LOCAL_ID_, d))
#define GLOBAL_ID(d) (GROUP_ID(d) * (i64)CAT(PNN_LOCAL_SIZE_, d) + LOCAL_ID(d))
#define NUM_GROUPS(d) ((i64)CAT(PNN_NUM_GROUPS_, d))

#define FMA(a, b, c) pnn_fma(a, b, c)
DEVICE f32 pnn_fma(f32 a, f32 b, f32 c) { return fmaf(a, b, c); }
DEVICE f64 pnn_fma(f64 a, f64 b, f64 c) { return fma(a, b, c); }

#if defined(__CUDACC_RTC__) || (defined(__NVCC__) && !defined(__HIP__))
/* No bounds: a group of 256 may use every register there is, and told of bounds, ptxas spills a few registers of small
 * kernels to fit one group more (21 of 649 programs on sm_90; without, none does, at 3 % more registers). */
#define PNN_BOUNDS(n)
#pragma nv_diag_suppress 177 /* a program rarely uses every helper */
#define AS_U32(x) __float_as_uint(x)
#define AS_F32(x) __uint_as_float((u32)(x))
#define AS_U64(x) ((u64)__double_as_longlong(x))
#define AS_F64(x) __longlong_as_double((i64)(x))
/* Two PTX instructions instead of cuda_fp16.h: NVRTC then needs no include path. */
DEVICE f32 pnn_f16_to_f32(u16 h) {
    f32 x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(h));
    return x;
}
DEVICE u16 pnn_f32_to_f16(f32 x) {
    u16 h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x));
    return h;
}
#else /* HIP, and C++ compilers that run kernel text on the CPU */
#define PNN_BOUNDS(n) __launch_bounds__(n) /* HIP leaves room for groups of 1024 without them */
#define AS_U32(x) __builtin_bit_cast(u32, (f32)(x))
#define AS_F32(x) __builtin_bit_cast(f32, (u32)(x))
#define AS_U64(x) __builtin_bit_cast(u64, (f64)(x))
#define AS_F64(x) __builtin_bit_cast(f64, (u64)(x))
DEVICE f32 pnn_f16_to_f32(u16 h) { return (f32)__builtin_bit_cast(_Float16, h); }
DEVICE u16 pnn_f32_to_f16(f32 x) { return __builtin_bit_cast(u16, (_Float16)x); }
#endif
#define LOAD_f16(p, i) pnn_f16_to_f32((p)[i])
#define STORE_f16(p, i, v) ((p)[i] = pnn_f32_to_f16((f32)(v)))

/* Sets *word (an i32) from 0 to code; true for the one caller that did. */
#define PNN_CLAIM(word, code) (atomicCAS((int*)(word), 0, (int)(code)) == 0)

/* One name per precision: math.h builds on these. */
#define PNN_M32(name) name##f
#define PNN_M64(name) name
