/* The device error word: three i64 per queue, [code, index, value], all zero while nothing is wrong.
 * A launch's ErrorWord(code) argument becomes TWO kernel arguments: the pointer and the code (i32, never 0).
 *
 *     KERNEL(pnn_gather, 256, 1, 1)(IN(f32, x), ..., ERROR_WORD(err)) {
 *         if (k < 0 || k >= n) { REPORT(err, err_code, i, k); k = 0; }
 *
 * The first reporter wins (an integer compare-exchange on the low word of the code); later ones change nothing. */
#define ERROR_WORD(err) GLOBAL i64* err, const i32 err##_code
#define REPORT(err, code, index, value) pnn_report(err, code, (i64)(index), (i64)(value))

DEVICE void pnn_report(GLOBAL i64* err, i32 code, i64 index, i64 value) {
    if (PNN_CLAIM(err, code)) {
        err[1] = index;
        err[2] = value;
    }
}
