/* Softmax, log-softmax, logsumexp and their gradients along one axis.
 *
 * The forward kernel reads a line three times (maximum, sum of exponentials, result): from memory once, then from the
 * nearest cache, for lines up to its size; with PER > 0 (GPUs) a work-item keeps its PER elements in registers and
 * memory is read once. The gradient kernel reads both operands twice in the same way. A softmax in float32 or float64
 * by groups (STORE_EXP) stores the exponentials on its second walk, so that exp is taken once.
 * No overflow: the maximum is subtracted first. Idea: the usual three-pass softmax.
 *
 * Defines: T storage tag, R its compute type, KIND, NEGATE (the forward kernel reads -x: softmin), G, and those of line.h. */
#include "math.h"
#include "line.h"

#define SOFTMAX 0
#define LOG_SOFTMAX 1
#define LOGSUMEXP 2
#define EXP(v) CAT(pnn_exp_, R)(v)

#ifdef NEGATE
#define READ_X(c) (-LOAD(T, x, ITEM(x, c)))
#else
#define READ_X(c) LOAD(T, x, ITEM(x, c))
#endif

#if KIND <= LOGSUMEXP
#if PER > 0
#define LOAD_X(c) v[slot]
#define WALK(c, body) for (int slot = 0; slot < PER; ++slot) { const i64 c = slot * G + lane; body }
#else
#define LOAD_X(c) READ_X(c)
#endif
KERNEL(pnn_softmax, G, 1, 1)(IN(T, x), OUT(T, z), const i64 lines, const i64 k0s, const i64 n, LINES(x), LINES(z)) {
    LINE_LOCALS
    AT_IN(T, x);
    AT_OUT(T, z);
    EACH_LINE(lines) {
        LINE_PLACE
        const i64 x_line = LINE(x), z_line = LINE(z);
        R m = -CAT(R_INF_, R), sum = 0;
#if PER > 0
        R v[PER];
        WALK(c, v[slot] = c < n ? READ_X(c) : -CAT(R_INF_, R); m = R_MAX(m, v[slot]);)
#else
        EACH(c, n, m = R_MAX(m, LOAD_X(c));)
#endif
        JOIN(m, R_MAX)
#if KIND == LOGSUMEXP
        m = CAT(pnn_isinf_, R)(m) ? 0 : m;
#endif
#if PER > 0
        WALK(c, if (c < n) sum += EXP(v[slot] - m);)
#elif defined(STORE_EXP)
        EACH_SUM(sum, c, n, const R e = EXP(LOAD_X(c) - m); STORE(T, z, ITEM(z, c), e); part_ += e;)
#else
        EACH_SUM(sum, c, n, part_ += EXP(LOAD_X(c) - m);)
#endif
        JOIN(sum, R_SUM)
#if KIND == LOGSUMEXP
        const R value = m + CAT(pnn_log_, R)(sum);
        if (FIRST_LANE) STORE(T, z, z_line, value);
#elif KIND == LOG_SOFTMAX
        const R shift = CAT(pnn_log_, R)(sum);
#if PER > 0
        WALK(c, if (c < n) STORE(T, z, ITEM(z, c), v[slot] - m - shift);)
#else
        EACH(c, n, STORE(T, z, ITEM(z, c), LOAD_X(c) - m - shift);)
#endif
#else
        const R scale = 1 / sum;
#if PER > 0
        WALK(c, if (c < n) STORE(T, z, ITEM(z, c), EXP(v[slot] - m) * scale);)
#elif defined(STORE_EXP)
        EACH(c, n, STORE(T, z, ITEM(z, c), LOAD(T, z, ITEM(z, c)) * scale);)
#else
        EACH(c, n, STORE(T, z, ITEM(z, c), EXP(LOAD_X(c) - m) * scale);)
#endif
#endif
    }
}
#else
#define SOFTMAX_GRAD 3
KERNEL(pnn_softmax_grad, G, 1, 1)
(IN(T, g), IN(T, y), OUT(T, z), const i64 lines, const i64 k0s, const i64 n, LINES(g), LINES(y), LINES(z)) {
    LINE_LOCALS
    AT_IN(T, g);
    AT_IN(T, y);
    AT_OUT(T, z);
    EACH_LINE(lines) {
        LINE_PLACE
        const i64 g_line = LINE(g), y_line = LINE(y), z_line = LINE(z);
        R sum = 0;
#if KIND == SOFTMAX_GRAD
        EACH_SUM(sum, c, n, part_ = FMA(LOAD(T, g, ITEM(g, c)), LOAD(T, y, ITEM(y, c)), part_);)
        JOIN(sum, R_SUM)
        EACH(c, n, STORE(T, z, ITEM(z, c), LOAD(T, y, ITEM(y, c)) * (LOAD(T, g, ITEM(g, c)) - sum));)
#else
        EACH_SUM(sum, c, n, part_ += LOAD(T, g, ITEM(g, c));)
        JOIN(sum, R_SUM)
        EACH(c, n, STORE(T, z, ITEM(z, c), FMA(-EXP(LOAD(T, y, ITEM(y, c))), sum, LOAD(T, g, ITEM(g, c))));)
#endif
    }
}
#endif
