/* Scalar functions of the compute types, pnn_<name>_<tag>, with one meaning in every language: NumPy's, including
 * -0.0, infinities and NaN. No fast versions. Rendered elementwise kernels include this file; so may yours. */

/* What the language's library already does as we want it. */
#define PNN_MATH_1(T, M, name, f) DEVICE T pnn_##name##_##T(T x) { return M(f)(x); }
#define PNN_MATH_2(T, M, name, f) DEVICE T pnn_##name##_##T(T x, T y) { return M(f)(x, y); }
#define PNN_MATH_LIBRARY(T, M)                                                                    \
    PNN_MATH_1(T, M, exp, exp) PNN_MATH_1(T, M, exp2, exp2) PNN_MATH_1(T, M, expm1, expm1)        \
    PNN_MATH_1(T, M, log, log) PNN_MATH_1(T, M, log2, log2) PNN_MATH_1(T, M, log10, log10)        \
    PNN_MATH_1(T, M, log1p, log1p) PNN_MATH_1(T, M, sqrt, sqrt)                                   \
    PNN_MATH_1(T, M, sin, sin) PNN_MATH_1(T, M, cos, cos) PNN_MATH_1(T, M, tan, tan)              \
    PNN_MATH_1(T, M, asin, asin) PNN_MATH_1(T, M, acos, acos) PNN_MATH_1(T, M, atan, atan)        \
    PNN_MATH_1(T, M, sinh, sinh) PNN_MATH_1(T, M, cosh, cosh) PNN_MATH_1(T, M, tanh, tanh)        \
    PNN_MATH_1(T, M, asinh, asinh) PNN_MATH_1(T, M, acosh, acosh) PNN_MATH_1(T, M, atanh, atanh)  \
    PNN_MATH_1(T, M, erfc, erfc)                                                                  \
    PNN_MATH_1(T, M, floor, floor) PNN_MATH_1(T, M, ceil, ceil) PNN_MATH_1(T, M, trunc, trunc)    \
    PNN_MATH_1(T, M, round, rint) PNN_MATH_1(T, M, abs, fabs)                                     \
    PNN_MATH_2(T, M, pow, pow) PNN_MATH_2(T, M, atan2, atan2) PNN_MATH_2(T, M, hypot, hypot)      \
    PNN_MATH_2(T, M, copysign, copysign) PNN_MATH_2(T, M, nextafter, nextafter)                   \
    PNN_MATH_2(T, M, fmod, fmod)

/* What is ours. max and min propagate NaN; sign(-0.0) is 0.0; mod takes the sign of the divisor; floordiv is the
 * floor of the exact quotient that mod leaves, not floor(x / y), which rounds up just below an integer. */
#define PNN_MATH_OURS(T, M, L)                                                                    \
    DEVICE T pnn_rsqrt_##T(T x) { return L(1.0) / M(sqrt)(x); }                                   \
    DEVICE i32 pnn_isnan_##T(T x) { return x != x; }                                              \
    DEVICE i32 pnn_isinf_##T(T x) { return M(fabs)(x) > PNN_MAX_##T; }                            \
    DEVICE i32 pnn_isfinite_##T(T x) { return M(fabs)(x) <= PNN_MAX_##T; }                        \
    DEVICE i32 pnn_signbit_##T(T x) { return M(copysign)(L(1.0), x) < 0; }                        \
    DEVICE T pnn_max_##T(T x, T y) { return x >= y || x != x ? x : y; }                           \
    DEVICE T pnn_min_##T(T x, T y) { return x <= y || x != x ? x : y; }                           \
    DEVICE T pnn_sign_##T(T x) { return x > 0 ? L(1.0) : x < 0 ? L(-1.0) : x == 0 ? L(0.0) : x; } \
    DEVICE T pnn_mod_##T(T x, T y) {                                                              \
        const T r = M(fmod)(x, y);                                                                \
        if (r == 0) return M(copysign)(r, y);                                                     \
        return (r < 0) != (y < 0) ? r + y : r;                                                    \
    }                                                                                             \
    DEVICE T pnn_floordiv_##T(T x, T y) {                                                         \
        const T r = M(fmod)(x, y);                                                                \
        if (y == 0) return x / y;                                                                 \
        T q = (x - r) / y;                                                                        \
        if (r != 0 && (r < 0) != (y < 0)) q -= L(1.0);                                            \
        return q == 0 ? M(copysign)(q, x / y) : M(rint)(q);                                       \
    }                                                                                             \
    DEVICE T pnn_logaddexp_##T(T x, T y) {                                                        \
        const T d = x - y;                                                                        \
        if (x == y) return x + L(0.693147180559945309417232121458);                               \
        return d > 0 ? x + M(log1p)(M(exp)(-d)) : d <= 0 ? y + M(log1p)(M(exp)(d)) : d;           \
    }                                                                                             \
    DEVICE T pnn_ipow_##T(T x, i64 n) {                                                           \
        u64 k = n < 0 ? (u64)0 - (u64)n : (u64)n;                                                 \
        T r = L(1.0);                                                                             \
        for (; k != 0; k >>= 1, x *= x)                                                           \
            if (k & 1) r *= x;                                                                    \
        return n < 0 ? L(1.0) / r : r;                                                            \
    }

/* erf for a float32 scalar or vector F: x P(x^2) / Q(x^2), the best such quotient up to 3.92 (fitted to 2e-8), beyond which
 * float32's erf is 1; rounding makes it 2.8 eps at most. Without branches and tables it runs in vectors: OpenCL's own took
 * 5 cycles an element on a CPU of 16 lanes, two thirds of the time of gelu. */
#define PNN_ERF(F, name)                                                                          \
    DEVICE F name(F x) {                                                                          \
        const F c = x > 3.92f ? (F)3.92f : x < -3.92f ? (F)-3.92f : x, t = c * c;                 \
        F p = FMA((F)2.0501072413026122e-06f, t, (F)0.00028487647068686783f);                     \
        F q = FMA((F)3.809159170486964e-05f, t, (F)0.001162480330094695f);                        \
        p = FMA(p, t, (F)0.003765400731936097f);                                                  \
        q = FMA(q, t, (F)0.014968786388635635f);                                                  \
        p = FMA(p, t, (F)0.05274805426597595f);                                                   \
        q = FMA(q, t, (F)0.11410708725452423f);                                                   \
        p = FMA(p, t, (F)0.19040162861347198f);                                                   \
        q = FMA(q, t, (F)0.5020717978477478f);                                                    \
        p = FMA(p, t, (F)1.1283791065216064f);                                                    \
        q = FMA(q, t, (F)1.0f);                                                                   \
        const F r = c * p / q;                                                                    \
        return r > 1.0f || x >= 3.92f ? (F)1.0f : r < -1.0f || x <= -3.92f ? (F)-1.0f : r;        \
    }

#define PNN_MAX_f32 3.402823466e38f
PNN_ERF(f32, pnn_erf_f32)
PNN_MATH_LIBRARY(f32, PNN_M32)
PNN_MATH_OURS(f32, PNN_M32, PNN_LIT_f32)
#ifdef PNN_F64
#define PNN_MAX_f64 1.7976931348623157e308
PNN_MATH_LIBRARY(f64, PNN_M64)
PNN_MATH_1(f64, PNN_M64, erf, erf)
PNN_MATH_OURS(f64, PNN_M64, PNN_LIT_f64)

/* float64 to float32 so that a second rounding, to float16 or bfloat16, gives what one rounding would: the inexact
 * result keeps a sticky last bit (round to odd). For casts: STORE(f16, y, i, pnn_narrow_f64(x)). */
DEVICE f32 pnn_narrow_f64(f64 x) {
    const f32 near = (f32)x;
    u32 bits = AS_U32(near);
    if (!((f64)near != x) || !(x == x)) return near;
    if (PNN_M64(fabs)((f64)near) > PNN_M64(fabs)(x)) bits -= 1u;
    return AS_F32(bits | 1u);
}
#endif

/* Integers wrap, and nothing traps: x / 0 and x % 0 are 0, the most negative number / -1 is itself, a shift by the
 * width or more gives 0 (-1 for a negative number shifted right), a power with a negative exponent is 0 unless the
 * base is 1 or -1. U is the unsigned type of the same width. */
#define PNN_MATH_INT(T, U)                                                                        \
    DEVICE T pnn_max_##T(T x, T y) { return x > y ? x : y; }                                      \
    DEVICE T pnn_min_##T(T x, T y) { return x < y ? x : y; }                                      \
    DEVICE T pnn_floor_##T(T x) { return x; }                                                     \
    DEVICE T pnn_ceil_##T(T x) { return x; }                                                      \
    DEVICE T pnn_trunc_##T(T x) { return x; }                                                     \
    DEVICE T pnn_round_##T(T x) { return x; }                                                     \
    DEVICE i32 pnn_isnan_##T(T x) { return 0; }                                                   \
    DEVICE i32 pnn_isinf_##T(T x) { return 0; }                                                   \
    DEVICE i32 pnn_isfinite_##T(T x) { return 1; }                                                \
    DEVICE T pnn_shl_##T(T x, T n) {                                                              \
        return (U)n >= 8 * sizeof(T) ? (T)0 : (T)((U)x << (U)n);                                  \
    }                                                                                             \
    DEVICE T pnn_shr_##T(T x, T n) {                                                              \
        return x >> ((U)n >= 8 * sizeof(T) - 1 ? (U)(8 * sizeof(T) - 1) : (U)n)                   \
                 >> ((U)n >= 8 * sizeof(T) ? (U)1 : (U)0);                                        \
    }

#define PNN_MATH_SIGNED(T, U)                                                                     \
    PNN_MATH_INT(T, U)                                                                            \
    DEVICE T pnn_abs_##T(T x) { return x < 0 ? (T)((U)0 - (U)x) : x; }                            \
    DEVICE T pnn_sign_##T(T x) { return (T)((x > 0) - (x < 0)); }                                 \
    DEVICE i32 pnn_signbit_##T(T x) { return x < 0; }                                             \
    DEVICE T pnn_mod_##T(T x, T y) {                                                              \
        const T r = y == 0 || y == -1 ? (T)0 : (T)(x % (y == 0 || y == -1 ? (T)1 : y));           \
        return r != 0 && (r < 0) != (y < 0) ? (T)(r + y) : r;                                     \
    }                                                                                             \
    DEVICE T pnn_floordiv_##T(T x, T y) {                                                         \
        const T d = y == 0 || y == -1 ? (T)1 : y;                                                 \
        const T q = x / d;                                                                        \
        if (y == 0) return 0;                                                                     \
        if (y == -1) return (T)((U)0 - (U)x);                                                     \
        return q * d != x && (x < 0) != (d < 0) ? (T)(q - 1) : q;                                 \
    }                                                                                             \
    DEVICE T pnn_ipow_##T(T x, T n) {                                                             \
        U r = 1, b = (U)x;                                                                        \
        if (n < 0) return x == 1 ? (T)1 : x == -1 ? (n & 1 ? (T)-1 : (T)1) : (T)0;                \
        for (U k = (U)n; k != 0; k >>= 1, b *= b)                                                 \
            if (k & 1) r *= b;                                                                    \
        return (T)r;                                                                              \
    }                                                                                             \
    DEVICE T pnn_pow_##T(T x, T n) { return pnn_ipow_##T(x, n); }

#define PNN_MATH_UNSIGNED(T)                                                                      \
    PNN_MATH_INT(T, T)                                                                            \
    DEVICE T pnn_abs_##T(T x) { return x; }                                                       \
    DEVICE T pnn_sign_##T(T x) { return (T)(x != 0); }                                            \
    DEVICE i32 pnn_signbit_##T(T x) { return 0; }                                                 \
    DEVICE T pnn_mod_##T(T x, T y) { return y == 0 ? (T)0 : (T)(x % (y == 0 ? (T)1 : y)); }       \
    DEVICE T pnn_floordiv_##T(T x, T y) { return y == 0 ? (T)0 : (T)(x / (y == 0 ? (T)1 : y)); }  \
    DEVICE T pnn_ipow_##T(T x, T n) {                                                             \
        T r = 1;                                                                                  \
        for (; n != 0; n >>= 1, x *= x)                                                           \
            if (n & 1) r *= x;                                                                    \
        return r;                                                                                 \
    }                                                                                             \
    DEVICE T pnn_pow_##T(T x, T n) { return pnn_ipow_##T(x, n); }

PNN_MATH_SIGNED(i32, u32)
PNN_MATH_SIGNED(i64, u64)
PNN_MATH_UNSIGNED(u32)
PNN_MATH_UNSIGNED(u64)
