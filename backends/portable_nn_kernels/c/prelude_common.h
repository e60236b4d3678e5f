/* The part of the dialect that is the same in every language: storage tags, compute types, rounding, constants. */
#define PNN_CAT(a, b) a##b
#define CAT(a, b) PNN_CAT(a, b)

#define INF_F32 AS_F32(0x7f800000u)
#define NAN_F32 AS_F32(0x7fc00000u)
#ifdef PNN_F64
#define INF_F64 AS_F64(0x7ff0000000000000ul)
#define NAN_F64 AS_F64(0x7ff8000000000000ul)
#endif

typedef struct { f32 x, y; } c64;
#ifdef PNN_F64
typedef struct { f64 x, y; } c128;
#endif

/* Array parameters: base pointer and offset in elements; the AT_ line in the body makes them one pointer. */
#define IN(tag, x) GLOBAL const TYPE(tag)* RESTRICT x##_base, const i64 x##_offset
#define OUT(tag, x) GLOBAL TYPE(tag)* RESTRICT x##_base, const i64 x##_offset
#define INOUT(tag, x) GLOBAL TYPE(tag)* RESTRICT x##_base, const i64 x##_offset
#define AT_IN(tag, x) GLOBAL const TYPE(tag)* RESTRICT x = x##_base + x##_offset
#define AT_OUT(tag, x) GLOBAL TYPE(tag)* RESTRICT x = x##_base + x##_offset
#define AT_INOUT(tag, x) GLOBAL TYPE(tag)* RESTRICT x = x##_base + x##_offset

/* Storage type, compute type, load to the compute type, store with round to nearest even. Global memory only. */
#define TYPE(tag) CAT(PNN_TYPE_, tag)
#define ACC(tag) CAT(PNN_ACC_, tag)
#define LOAD(tag, p, i) CAT(LOAD_, tag)(p, i)
#define STORE(tag, p, i, v) CAT(STORE_, tag)(p, i, v)

#define PNN_TYPE_b8 u8
#define PNN_TYPE_i8 i8
#define PNN_TYPE_i16 i16
#define PNN_TYPE_i32 i32
#define PNN_TYPE_i64 i64
#define PNN_TYPE_u8 u8
#define PNN_TYPE_u16 u16
#define PNN_TYPE_u32 u32
#define PNN_TYPE_u64 u64
#define PNN_TYPE_f16 u16
#define PNN_TYPE_bf16 u16
#define PNN_TYPE_f32 f32
#define PNN_TYPE_f64 f64
#define PNN_TYPE_c64 c64
#define PNN_TYPE_c128 c128

#define PNN_ACC_b8 i32
#define PNN_ACC_i8 i32
#define PNN_ACC_i16 i32
#define PNN_ACC_i32 i32
#define PNN_ACC_i64 i64
#define PNN_ACC_u8 u32
#define PNN_ACC_u16 u32
#define PNN_ACC_u32 u32
#define PNN_ACC_u64 u64
#define PNN_ACC_f16 f32
#define PNN_ACC_bf16 f32
#define PNN_ACC_f32 f32
#define PNN_ACC_f64 f64
#define PNN_ACC_c64 c64
#define PNN_ACC_c128 c128

/* The tag of the compute type: MADD(ACC_TAG(T), a, b, c), CAT(pnn_exp_, ACC_TAG(T)). */
#define ACC_TAG(tag) CAT(PNN_ACC_, tag)

#define LOAD_b8(p, i) ((i32)((p)[i] != 0))
#define LOAD_i8(p, i) ((i32)(p)[i])
#define LOAD_i16(p, i) ((i32)(p)[i])
#define LOAD_i32(p, i) ((p)[i])
#define LOAD_i64(p, i) ((p)[i])
#define LOAD_u8(p, i) ((u32)(p)[i])
#define LOAD_u16(p, i) ((u32)(p)[i])
#define LOAD_u32(p, i) ((p)[i])
#define LOAD_u64(p, i) ((p)[i])
#define LOAD_bf16(p, i) AS_F32((u32)(p)[i] << 16)
#define LOAD_f32(p, i) ((p)[i])
#define LOAD_f64(p, i) ((p)[i])
#define LOAD_c64(p, i) ((p)[i])
#define LOAD_c128(p, i) ((p)[i])

#define STORE_b8(p, i, v) ((p)[i] = (u8)((v) != 0))
#define STORE_i8(p, i, v) ((p)[i] = (i8)(v))
#define STORE_i16(p, i, v) ((p)[i] = (i16)(v))
#define STORE_i32(p, i, v) ((p)[i] = (i32)(v))
#define STORE_i64(p, i, v) ((p)[i] = (i64)(v))
#define STORE_u8(p, i, v) ((p)[i] = (u8)(v))
#define STORE_u16(p, i, v) ((p)[i] = (u16)(v))
#define STORE_u32(p, i, v) ((p)[i] = (u32)(v))
#define STORE_u64(p, i, v) ((p)[i] = (u64)(v))
#define STORE_bf16(p, i, v) ((p)[i] = pnn_f32_to_bf16((f32)(v)))
#define STORE_f32(p, i, v) ((p)[i] = (f32)(v))
#define STORE_f64(p, i, v) ((p)[i] = (f64)(v))
#define STORE_c64(p, i, v) ((p)[i] = (v))
#define STORE_c128(p, i, v) ((p)[i] = (v))

/* A literal of a compute type, LIT(T, 0.5): never an implicit double. */
#define LIT(tag, x) CAT(PNN_LIT_, ACC_TAG(tag))(x)
#define PNN_LIT_f32(x) x##f
#define PNN_LIT_f64(x) x
#define PNN_LIT_i32(x) ((i32)(x))
#define PNN_LIT_i64(x) ((i64)(x))
#define PNN_LIT_u32(x) ((u32)(x))
#define PNN_LIT_u64(x) ((u64)(x))

/* Round to nearest even in integers; a NaN keeps its sign and upper bits and stays a NaN. */
DEVICE u16 pnn_f32_to_bf16(f32 x) {
    const u32 u = AS_U32(x);
    const u32 rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    return (u16)((u & 0x7fffffffu) > 0x7f800000u ? (u >> 16) | 0x40u : rounded);
}

/* ZERO(T), ADD(T, a, b), MADD(T, a, b, c) = a * b + c in the compute type of T: all that sums of products need.
 * Integers wrap (computed unsigned: signed overflow is undefined in C). */
#define ZERO(tag) CAT(pnn_zero_, ACC_TAG(tag))()
#define ADD(tag, a, b) CAT(pnn_add_, ACC_TAG(tag))(a, b)
#define MADD(tag, a, b, c) CAT(pnn_madd_, ACC_TAG(tag))(a, b, c)
#define PNN_SUMS_INT(T, U)                                                                    \
    DEVICE T pnn_zero_##T(void) { return 0; }                                                 \
    DEVICE T pnn_add_##T(T a, T b) { return (T)((U)a + (U)b); }                               \
    DEVICE T pnn_madd_##T(T a, T b, T c) { return (T)((U)a * (U)b + (U)c); }
#define PNN_SUMS_FLOAT(T, C)                                                                  \
    DEVICE T pnn_zero_##T(void) { return 0; }                                                 \
    DEVICE T pnn_add_##T(T a, T b) { return a + b; }                                          \
    DEVICE T pnn_madd_##T(T a, T b, T c) { return FMA(a, b, c); }                             \
    DEVICE C pnn_zero_##C(void) { C r; r.x = 0; r.y = 0; return r; }                          \
    DEVICE C pnn_add_##C(C a, C b) { a.x += b.x; a.y += b.y; return a; }                      \
    DEVICE C pnn_madd_##C(C a, C b, C c) {                                                    \
        c.x = FMA(-a.y, b.y, FMA(a.x, b.x, c.x));                                             \
        c.y = FMA(a.y, b.x, FMA(a.x, b.y, c.y));                                              \
        return c;                                                                             \
    }
PNN_SUMS_INT(i32, u32)
PNN_SUMS_INT(i64, u64)
PNN_SUMS_INT(u32, u32)
PNN_SUMS_INT(u64, u64)
PNN_SUMS_FLOAT(f32, c64)
#ifdef PNN_F64
PNN_SUMS_FLOAT(f64, c128)
#endif

/* What C has no cast for: pnn_c64_of_f32(x) and so on, from compute types. */
DEVICE c64 pnn_c64(f32 x, f32 y) { c64 r; r.x = x; r.y = y; return r; }
DEVICE c64 pnn_c64_of_f32(f32 x) { c64 r; r.x = x; r.y = 0; return r; }
#ifdef PNN_F64
DEVICE c128 pnn_c128(f64 x, f64 y) { c128 r; r.x = x; r.y = y; return r; }
DEVICE c128 pnn_c128_of_f64(f64 x) { c128 r; r.x = x; r.y = 0; return r; }
DEVICE c128 pnn_c128_of_f32(f32 x) { return pnn_c128_of_f64(x); }
DEVICE c128 pnn_c128_of_c64(c64 x) { c128 r; r.x = x.x; r.y = x.y; return r; }
#endif
