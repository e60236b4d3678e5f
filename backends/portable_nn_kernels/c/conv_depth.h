/* The last vector of channels where they do not fill it: it begins so much earlier that they do, for masks cost more than what is
 * computed twice. Fewer channels than VW are masked. Included after vector_cpu.h; uses `channels`. */
#define DEPTH_FIRST(c) (VW <= channels && channels < (c) + VW ? channels - VW : (c))

/* Lanes `skip` on first, then zeros. */
DEVICE VEC pnn_depth_rest(VEC v, i64 skip) {
    R lane[2 * VW];
    CAT(vstore, VW)(v, 0, lane);
    CAT(vstore, VW)((VEC)(0), 1, lane);
    return CAT(vload, VW)(0, lane + skip);
}
