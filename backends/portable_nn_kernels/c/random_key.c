/* Keys from a key: row i of y is Philox of counter number + i under the key, whose word 1 is marked with MARK so that no draw
 * meets it. NUMBER, if defined, is the tag of a 0-d integer array that is added to `number`. One work-item per row. */
#include "random.h"

KERNEL(pnn_random_key, 64, 1, 1)(IN(u32, key),
#ifdef NUMBER
    IN(NUMBER, more),
#endif
    OUT(u32, y), const i64 key_step, const i64 number, const i64 rows) {
    AT_IN(u32, key);
#ifdef NUMBER
    AT_IN(NUMBER, more);
#endif
    AT_OUT(u32, y);
    const i64 row = GLOBAL_ID(0);
    if (row < rows) {
        u32 w[4];
        i64 counter = number + row;
#ifdef NUMBER
        counter += (i64)LOAD(NUMBER, more, 0);
#endif
        pnn_block(pnn_load_key(key, key_step, MARK), counter, w);
        for (i32 i = 0; i < 4; i++) STORE(u32, y, 4 * row + i, w[i]);
    }
}
