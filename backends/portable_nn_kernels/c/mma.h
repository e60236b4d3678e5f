/* Tensor cores of NVIDIA GPUs (sm_80 and later), as much of PTX's mma.sync as gemm_mma.c needs: CUDA only.
 *
 * PNN_MMA(kind, d, a, b): d = a b + d for a warp, a 16 x 8 words, b 8 words x 8, d 16 x 8 floats. A word holds one number for kind
 * tf32, two neighbours along k for f16 and bf16, the first in its lower half; so all kinds share one layout (PTX ISA,
 * fragments of mma.m16n8k8 and mma.m16n8k16). Thread 4 g + t of the warp holds
 *   of a the words (row g, word t), (g + 8, t), (g, t + 4), (g + 8, t + 4);   of b (word t, column g), (t + 4, g);
 *   of d (g, 2 t), (g, 2 t + 1), (g + 8, 2 t), (g + 8, 2 t + 1).
 * Products are exact; sums are kept in float32, in an order and with a rounding that hardware does not tell. */
#define UNROLL _Pragma("unroll")

/* float32 to TF32, in its upper 19 bits: to nearest, halves away from zero; NaN and infinity stay what they are. */
DEVICE u32 pnn_tf32(f32 x) {
    const u32 u = AS_U32(x);
    return (u & 0x7f800000u) == 0x7f800000u ? u : (u + 0x1000u) & 0xffffe000u;
}

#ifdef PNN_FIBERS /* tests run kernels on the CPU: their shim computes what a warp's tensor core does */
#define PNN_HALVES_tf32 1
#define PNN_HALVES_f16 2
#define PNN_HALVES_bf16 2
#define PNN_MMA(kind, d, a, b) pnn_mma(d, a, b, CAT(PNN_HALVES_, kind), CAT(pnn_number_, kind), __LINE__)
#else
#define PNN_MMA(kind, d, a, b) CAT(pnn_mma_, kind)(d, a, b)
#define PNN_DEFINE_MMA(kind, instruction)                                                                       \
    DEVICE void pnn_mma_##kind(f32* d, const u32* a, const u32* b) {                                            \
        asm volatile("mma.sync.aligned." instruction " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"   \
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                           \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                       \
    }
PNN_DEFINE_MMA(tf32, "m16n8k8.row.col.f32.tf32.tf32.f32")
PNN_DEFINE_MMA(f16, "m16n8k16.row.col.f32.f16.f16.f32")
PNN_DEFINE_MMA(bf16, "m16n8k16.row.col.f32.bf16.bf16.f32")
#endif
