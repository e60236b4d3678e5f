/* TREE(T, value, lanes, lane, size, f): `value` becomes f over the values that the work-items of a group hold, the same in
 * all of them. `lanes` is local memory for `size` values of type T, free again afterwards; `size` is the number of
 * work-items, a power of two up to 256; `lane` is the work-item's place. All of them must come here. f is commutative.
 *
 * The order is fixed: halves (f of lane i and lane i + size / 2), then halves of those. With PNN_WARP, which CUDA defines,
 * a lane reads its column of the first levels from local memory after one barrier, and the last five are
 * exchanges of registers in a warp: 2 barriers instead of 10 for 256 work-items, and the same pairs in the same order, hence the same bits. */
#if defined(__CUDACC_RTC__) || (defined(__NVCC__) && !defined(__HIP__)) || defined(PNN_FIBERS)
#define PNN_WARP 32
#endif

#define PNN_TREE_LOCAL(value, lanes, lane, size, f)                                                             \
    (lanes)[lane] = (value);                                                                                    \
    BARRIER();                                                                                                  \
    for (int span_ = (int)(size) / 2; span_ > 0; span_ /= 2) {                                                  \
        if ((lane) < span_) (lanes)[lane] = f((lanes)[lane], (lanes)[(lane) + span_]);                          \
        BARRIER();                                                                                              \
    }                                                                                                           \
    (value) = (lanes)[0];                                                                                       \
    BARRIER();

#ifdef PNN_WARP
/* What lane ^ mask holds, and what lane 0 of the warp does. All 32 lanes must come here. */
#define PNN_EXCHANGE(T)                                                                                         \
    DEVICE T pnn_exchange(T v, int mask) { return __shfl_xor_sync(0xffffffffu, v, mask); }                      \
    DEVICE T pnn_first(T v) { return __shfl_sync(0xffffffffu, v, 0); }
#define PNN_EXCHANGE_COMPLEX(T)                                                                                 \
    DEVICE T pnn_exchange(T v, int mask) {                                                                      \
        v.x = pnn_exchange(v.x, mask);                                                                          \
        v.y = pnn_exchange(v.y, mask);                                                                          \
        return v;                                                                                               \
    }                                                                                                           \
    DEVICE T pnn_first(T v) {                                                                                   \
        v.x = pnn_first(v.x);                                                                                   \
        v.y = pnn_first(v.y);                                                                                   \
        return v;                                                                                               \
    }
PNN_EXCHANGE(i32)
PNN_EXCHANGE(u32)
PNN_EXCHANGE(i64)
PNN_EXCHANGE(u64)
PNN_EXCHANGE(f32)
PNN_EXCHANGE(f64)
PNN_EXCHANGE_COMPLEX(c64)
PNN_EXCHANGE_COMPLEX(c128)

#define TREE(T, value, lanes, lane, size, f)                                                                    \
    if ((size) < PNN_WARP) {                                                                                    \
        PNN_TREE_LOCAL(value, lanes, lane, size, f)                                                             \
    } else {                                                                                                    \
        const int warps_ = (int)(size) / PNN_WARP;                                                              \
        T tree_[8];                                                                                             \
        (lanes)[lane] = (value);                                                                                \
        BARRIER();                                                                                              \
        _Pragma("unroll") for (int j_ = 0; j_ < 8; ++j_)                                                        \
            if (j_ < warps_) tree_[j_] = (lanes)[(lane) % PNN_WARP + j_ * PNN_WARP];                            \
        _Pragma("unroll") for (int n_ = 4; n_ > 0; n_ /= 2)                                                     \
            if (n_ < warps_)                                                                                    \
                _Pragma("unroll") for (int j_ = 0; j_ < n_; ++j_) tree_[j_] = f(tree_[j_], tree_[j_ + n_]);     \
        _Pragma("unroll") for (int mask_ = PNN_WARP / 2; mask_ > 0; mask_ /= 2)                                 \
            tree_[0] = f(tree_[0], pnn_exchange(tree_[0], mask_));                                              \
        (value) = pnn_first(tree_[0]);                                                                          \
        BARRIER();                                                                                              \
    }
#else
#define TREE(T, value, lanes, lane, size, f) PNN_TREE_LOCAL(value, lanes, lane, size, f)
#endif
