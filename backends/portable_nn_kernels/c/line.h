/* Lines: kernels that make one result, or one line of results, from each line of an array along one axis.
 *
 * Line k = (k1, k0) of an operand t starts at k1 tk1 + k0 tk0; its element c lies c tc further. LINES(t) are the three
 * stride parameters. With LANES the G work-items of a group share a line (EACH walks it, JOIN combines what they hold);
 * without, every work-item has a line of its own: for short lines, and for axes that are not innermost.
 * UNIT says that elements of a line are neighbours in every operand, DENSE that lines k0 and k0 + 1 start side by side. */
#include "tree.h"

#define LINES(t) const i64 t##k1, const i64 t##k0, const i64 t##c
#ifdef DENSE
#define LINE(t) (k1 * t##k1 + k0)
#else
#define LINE(t) (k1 * t##k1 + k0 * t##k0)
#endif
#ifdef UNIT
#define ITEM(t, i) (t##_line + (i))
#else
#define ITEM(t, i) (t##_line + (i) * t##c)
#endif

#define LINE_BLOCK 64 /* terms a lane adds up before it adds the sum to another: error grows with the depth */

#ifdef LANES
#define LINE_LOCALS LOCAL R lanes[G]; const i64 lane = LOCAL_ID(0);
/* A group's lines lie side by side: with every NUM_GROUPS-th line, a CPU's prefetcher follows none (half the bandwidth). */
#define EACH_LINE(lines)                                                                                        \
    for (i64 k = (lines) * GROUP_ID(0) / NUM_GROUPS(0), last_ = (lines) * (GROUP_ID(0) + 1) / NUM_GROUPS(0); k < last_; ++k)
/* Runs `body` for the elements c of [0, n) that are this work-item's; whole vectors first, without a mask. */
#define EACH(c, n, body)                                                                                        \
    {                                                                                                           \
        i64 base_ = 0;                                                                                          \
        for (; base_ + G <= (n); base_ += G) { const i64 c = base_ + lane; body }                               \
        if (base_ + lane < (n)) { const i64 c = base_ + lane; body }                                            \
    }
#define EACH_SUM(sum, c, n, body)                                                                               \
    for (i64 block_ = 0; block_ < (n); block_ += G * LINE_BLOCK) {                                              \
        const i64 end_ = block_ + G * LINE_BLOCK < (n) ? block_ + G * LINE_BLOCK : (n);                         \
        R part_ = 0;                                                                                            \
        i64 base_ = block_;                                                                                     \
        for (; base_ + G <= end_; base_ += G) { const i64 c = base_ + lane; body }                              \
        if (base_ + lane < end_) { const i64 c = base_ + lane; body }                                           \
        sum += part_;                                                                                           \
    }
#define JOIN(value, f) TREE(R, value, lanes, lane, G, f)
#define FIRST_LANE (lane == 0)
#else
#define LINE_LOCALS
#define EACH_LINE(lines) for (i64 k = GLOBAL_ID(0); k < (lines); k += NUM_GROUPS(0) * G)
#define EACH(c, n, body) for (i64 c = 0; c < (n); ++c) { body }
#define EACH_SUM(sum, c, n, body)                                                                               \
    for (i64 block_ = 0; block_ < (n); block_ += LINE_BLOCK) {                                                  \
        const i64 end_ = block_ + LINE_BLOCK < (n) ? block_ + LINE_BLOCK : (n);                                 \
        R part_ = 0;                                                                                            \
        for (i64 c = block_; c < end_; ++c) { body }                                                            \
        sum += part_;                                                                                           \
    }
#define JOIN(value, f)
#define FIRST_LANE 1
#endif
#ifdef FLAT
#define LINE_PLACE const i64 k1 = 0, k0 = k;
#else
#define LINE_PLACE const i64 k1 = k / k0s, k0 = k - k1 * k0s;
#endif
#define R_MAX(a, b) CAT(pnn_max_, R)(a, b)
#define R_SUM(a, b) ((a) + (b))
#define R_INF_f32 INF_F32
#define R_INF_f64 INF_F64
