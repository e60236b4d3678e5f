/* Explicit vectors for CPU kernels: VEC is VW lanes of the compute type R (f32 or f64), one work-item alone in its group.
 * OpenCL only. A kernel's loop body is written once, as a macro BODY(GET, PUT) over the element c of a line of n, and
 * EACH_VEC runs it for whole vectors and then, with masks, for what is left: GET(tag, p, fill) reads VW elements from p
 * on (lanes past the end give `fill`), PUT(tag, p, v) writes them.
 * Defines: R, VW, and AHEAD 1 where the runtime's compiler knows __builtin_prefetch; with R = f32 the tags may be f32, f16 and bf16, with R = f64 f64. */
#include "vector_types.h"

#define VEC CAT(PNN_VEC_, CAT(R, CAT(_, VW)))

#define VGET(tag, p, fill) CAT(pnn_vget_, tag)(p)
#define VPUT(tag, p, v) CAT(pnn_vput_, tag)(p, v)
#define PART_GET(tag, p, fill) CAT(pnn_part_get_, tag)(p, n - c, fill)
#define PART_PUT(tag, p, v) CAT(pnn_part_put_, tag)(p, n - c, v)

/* Asks for the cache line at p, any address, before it is needed: nothing waits for it, so that memory works beside arithmetic. Into the
 * second level, for the first one is full of what is worked on. OpenCL's own prefetch() is a call and slow on Intel's runtime. */
#if AHEAD
#define PREFETCH(p) __builtin_prefetch((const void*)(size_t)(p), 0, 2)
#define PREFETCH_STORE(p) __builtin_prefetch((const void*)(size_t)(p), 1, 2) /* a line that will be written: for this core alone */
#else
#define PREFETCH(p)
#define PREFETCH_STORE(p)
#endif
#define CACHE_LINE(tag) ((i64)(64 / sizeof(TYPE(tag)))) /* elements of a cache line */

/* A work-item's lines, side by side: every 8th line, say, costs half the bandwidth (the prefetcher follows one stream). */
#define EACH_OWN_LINE(lines)                                                                    \
    for (i64 k = (lines) * GROUP_ID(0) / NUM_GROUPS(0); k < (lines) * (GROUP_ID(0) + 1) / NUM_GROUPS(0); ++k)

#define EACH_VEC(c, n, BODY)                                                                    \
    {                                                                                           \
        i64 c = 0;                                                                              \
        for (; c + VW <= (n); c += VW) { BODY(VGET, VPUT) }                                     \
        if (c < (n)) { BODY(PART_GET, PART_PUT) }                                               \
    }

#define VEC_BLOCK 64 /* vectors added up before their sum is added to another: error grows with the depth */
/* The same, where BODY adds to part_, a vector: `sum`, a number, grows by all of it, the same way for each length. */
#define EACH_VEC_SUM(sum, c, n, BODY)                                                           \
    {                                                                                           \
        VEC all_ = (VEC)(0);                                                                    \
        i64 c = 0;                                                                              \
        while (c < (n)) {                                                                       \
            const i64 end_ = c + VEC_BLOCK * VW < (n) ? c + VEC_BLOCK * VW : (n);               \
            VEC part_ = (VEC)(0);                                                               \
            for (; c + VW <= end_; c += VW) { BODY(VGET, VPUT) }                                \
            if (c < end_) { BODY(PART_GET, PART_PUT) c = end_; }                                \
            all_ += part_;                                                                      \
        }                                                                                       \
        sum += pnn_lanes_sum(all_);                                                             \
    }

/* What stands before the loops over lanes: by default compilers make code of each. */
#ifndef PART_LOOP
#define PART_LOOP
#endif
#define VEC_MEMORY(tag, load, store)                                                            \
    DEVICE VEC pnn_vget_##tag(GLOBAL const TYPE(tag)* p) { return load; }                       \
    DEVICE void pnn_vput_##tag(GLOBAL TYPE(tag)* p, VEC v) { store; }                           \
    DEVICE VEC pnn_part_get_##tag(GLOBAL const TYPE(tag)* p, i64 count, R fill) {               \
        R lane[VW];                                                                             \
        PART_LOOP for (i64 l = 0; l < VW; ++l) lane[l] = l < count ? (R)LOAD(tag, p, l) : fill; \
        return CAT(vload, VW)(0, lane);                                                         \
    }                                                                                           \
    DEVICE void pnn_part_put_##tag(GLOBAL TYPE(tag)* p, i64 count, VEC v) {                     \
        R lane[VW];                                                                             \
        CAT(vstore, VW)(v, 0, lane);                                                            \
        PART_LOOP for (i64 l = 0; l < VW && l < count; ++l) STORE(tag, p, l, lane[l]);          \
    }

DEVICE VEC pnn_vmax(VEC x, VEC y) { return select(y, x, (x >= y) | (x != x)); } /* propagates NaN, as pnn_max does */

#define PNN_WIDE_f32 1
#if CAT(PNN_WIDE_, R)
DEVICE CAT(ushort, VW) pnn_vbf16(VEC v) { /* pnn_f32_to_bf16 of each lane */
    const CAT(uint, VW) u = CAT(as_uint, VW)(v);
    const CAT(uint, VW) rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    return CAT(convert_ushort, VW)(select(rounded, (u >> 16) | 0x40u, (u & 0x7fffffffu) > 0x7f800000u));
}
VEC_MEMORY(f32, PNN_VLOAD_f32(p), CAT(vstore, VW)(v, 0, p))
VEC_MEMORY(f16, PNN_VLOAD_f16(p), CAT(CAT(vstore_half, VW), _rte)(v, 0, (GLOBAL half*)p))
VEC_MEMORY(bf16, PNN_VLOAD_bf16(p), CAT(vstore, VW)(pnn_vbf16(v), 0, p))
#else
VEC_MEMORY(f64, PNN_VLOAD_f64(p), CAT(vstore, VW)(v, 0, p))
#endif

/* The lanes joined in a fixed order: halves, then halves of those. */
#define PNN_JOIN_LANES(name, f)                                                                 \
    DEVICE R pnn_lanes_##name(VEC v) {                                                          \
        R lane[VW];                                                                             \
        CAT(vstore, VW)(v, 0, lane);                                                            \
        for (int half_ = VW / 2; half_ > 0; half_ /= 2)                                         \
            for (int l = 0; l < half_; ++l) lane[l] = f(lane[l], lane[l + half_]);              \
        return lane[0];                                                                         \
    }
#define PNN_LANE_SUM(x, y) ((x) + (y))
PNN_JOIN_LANES(sum, PNN_LANE_SUM)
PNN_JOIN_LANES(max, CAT(pnn_max_, R))
