/* Softmax, log-softmax, logsumexp and their gradients for CPUs, along an axis whose elements are neighbours: one work-item
 * walks whole lines with explicit vectors; no local memory, no barriers (softmax.c's tree of barriers per line took two
 * thirds of the time). Traffic: the operands once from memory, then from the nearest cache for lines up to its size.
 * The exponentials of a float32 or float64 softmax are kept in z between its walks (STORE_EXP), so that exp is taken once.
 * Defines: those of softmax.c, with G 1, UNIT and without LANES, and VW, the lanes of a vector of R. */
#include "math.h"
#include "line.h"
#include "vector_cpu.h"

#define SOFTMAX 0
#define LOG_SOFTMAX 1
#define LOGSUMEXP 2
#define SOFTMAX_GRAD 3

#ifdef PNN_OPENCL
#if KIND <= LOGSUMEXP
#ifdef NEGATE
#define READ_X(GET) (-GET(T, x + x_line + c, R_INF))
#else
#define READ_X(GET) GET(T, x + x_line + c, -R_INF)
#endif
#define R_INF CAT(R_INF_, R)
#define LARGEST(GET, PUT) m = pnn_vmax(m, READ_X(GET));
#define ADD_EXP(GET, PUT) part_ += exp(READ_X(GET) - top);
#define KEEP_EXP(GET, PUT) const VEC e = exp(READ_X(GET) - top); PUT(T, z + z_line + c, e); part_ += e;
#define SHIFTED(GET, PUT) PUT(T, z + z_line + c, READ_X(GET) - top - shift);
#define SCALED(GET, PUT) PUT(T, z + z_line + c, exp(READ_X(GET) - top) * scale);
#define KEPT_SCALED(GET, PUT) PUT(T, z + z_line + c, GET(T, z + z_line + c, 0) * scale);
KERNEL(pnn_softmax_cpu, 1, 1, 1)(IN(T, x), OUT(T, z), const i64 lines, const i64 k0s, const i64 n, LINES(x), LINES(z)) {
    AT_IN(T, x);
    AT_OUT(T, z);
    EACH_OWN_LINE(lines) {
        LINE_PLACE
        const i64 x_line = LINE(x), z_line = LINE(z);
        VEC m = (VEC)(-R_INF);
        EACH_VEC(c, n, LARGEST)
        R top = pnn_lanes_max(m), sum = 0;
#if KIND == LOGSUMEXP
        top = CAT(pnn_isinf_, R)(top) ? 0 : top;
#endif
#ifdef STORE_EXP
        EACH_VEC_SUM(sum, c, n, KEEP_EXP)
#else
        EACH_VEC_SUM(sum, c, n, ADD_EXP)
#endif
#if KIND == LOGSUMEXP
        STORE(T, z, z_line, top + CAT(pnn_log_, R)(sum));
#elif KIND == LOG_SOFTMAX
        const R shift = CAT(pnn_log_, R)(sum);
        EACH_VEC(c, n, SHIFTED)
#else
        const R scale = 1 / sum;
#ifdef STORE_EXP
        EACH_VEC(c, n, KEPT_SCALED)
#else
        EACH_VEC(c, n, SCALED)
#endif
#endif
    }
}
#else
#define READ_G(GET) GET(T, g + g_line + c, 0)
#define READ_Y(GET) GET(T, y + y_line + c, 0)
#define ADD_DOT(GET, PUT) part_ = fma(READ_G(GET), READ_Y(GET), part_);
#define ADD_G(GET, PUT) part_ += READ_G(GET);
#define SOFTMAX_OUT(GET, PUT) PUT(T, z + z_line + c, READ_Y(GET) * (READ_G(GET) - sum));
#define LOG_OUT(GET, PUT) PUT(T, z + z_line + c, fma(-exp(READ_Y(GET)), (VEC)(sum), READ_G(GET)));
KERNEL(pnn_softmax_grad_cpu, 1, 1, 1)
(IN(T, g), IN(T, y), OUT(T, z), const i64 lines, const i64 k0s, const i64 n, LINES(g), LINES(y), LINES(z)) {
    AT_IN(T, g);
    AT_IN(T, y);
    AT_OUT(T, z);
    EACH_OWN_LINE(lines) {
        LINE_PLACE
        const i64 g_line = LINE(g), y_line = LINE(y), z_line = LINE(z);
        R sum = 0;
#if KIND == SOFTMAX_GRAD
        EACH_VEC_SUM(sum, c, n, ADD_DOT)
        EACH_VEC(c, n, SOFTMAX_OUT)
#else
        EACH_VEC_SUM(sum, c, n, ADD_G)
        EACH_VEC(c, n, LOG_OUT)
#endif
    }
}
#endif
#endif
