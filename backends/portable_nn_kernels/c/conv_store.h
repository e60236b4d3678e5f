/* How channels-last convolutions store a vector of output channels; needs the defines of conv_last.c and vector_cpu.h. */
#ifndef VEPILOGUE
#define VEPILOGUE(v) (v)
#endif
/* What is stored: the sum, SUM_MORE: and what lies at its place in `more`, SUM_RELU_GRAD: where `gate` is over 0, else 0. */
#define SUM_MORE 1
#define SUM_RELU_GRAD 2

/* The first `live` lanes of `sum` at `place` of y, channels `step` apart; whole vectors of neighbours where `end` is not 0. */
DEVICE void pnn_conv_store(VEC sum, GLOBAL TYPE(T)* y, i64 place, i64 step, i64 live, GLOBAL const TYPE(T)* more, GLOBAL const TYPE(T)* gate, i32 end) {
    if (end) {
        sum += VGET(T, more + place, 0);
        VPUT(T, y + place, end == SUM_MORE ? sum : select((VEC)(0), sum, VGET(T, gate + place, 0) > 0));
    } else if (step == 1 && live == VW)
        VPUT(T, y + place, VEPILOGUE(sum));
    else {
        R lane[VW];
        CAT(vstore, VW)(VEPILOGUE(sum), 0, lane);
        ONE_COPY for (i64 l = 0; l < live; ++l) STORE(T, y, place + l * step, lane[l]);
    }
}
