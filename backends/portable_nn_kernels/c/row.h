/* Reductions over a work-group: every work-item brings a value, all of them receive the result. Free to include in other
 * kernels:
 *
 *     LOCAL f32 lanes[256];
 *     const f32 total = pnn_row_sum_f32(mine, lanes, LOCAL_ID(0), 256);
 *
 * pnn_row_<sum|max|min>_<f32|f64|i32|i64>. `lanes` is local memory for `size` values, free again on return; `size` is the
 * number of work-items of the group, a power of two. All of them must come here. The order is fixed: halves, then halves
 * of those; max and min propagate NaN; integers wrap. */
#include "math.h"
#include "tree.h"

#define PNN_ROW_REDUCTION(name, T, f)                                                           \
    DEVICE T pnn_row_##name##_##T(T value, LOCALP T* lanes, i64 lane, i64 size) {               \
        TREE(T, value, lanes, lane, size, f##_##T)                                              \
        return value;                                                                           \
    }
#define PNN_ROW_REDUCTIONS(T)                                                                   \
    PNN_ROW_REDUCTION(sum, T, pnn_add)                                                          \
    PNN_ROW_REDUCTION(max, T, pnn_max)                                                          \
    PNN_ROW_REDUCTION(min, T, pnn_min)
PNN_ROW_REDUCTIONS(f32)
PNN_ROW_REDUCTIONS(i32)
PNN_ROW_REDUCTIONS(i64)
#ifdef PNN_F64
PNN_ROW_REDUCTIONS(f64)
#endif
