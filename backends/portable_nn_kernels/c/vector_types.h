/* OpenCL's vectors by compute tag and lanes, and PNN_VLOAD_tag(p): VW elements of storage type from p on, as compute type.
 * Defines: VW, the lanes. */
#define PNN_VEC_f32_16 float16
#define PNN_VEC_f32_8 float8
#define PNN_VEC_f32_4 float4
#define PNN_VEC_f64_8 double8
#define PNN_VEC_f64_4 double4
#define PNN_VEC_f64_2 double2

#define PNN_VLOAD_f32(p) CAT(vload, VW)(0, p)
#define PNN_VLOAD_f64(p) CAT(vload, VW)(0, p)
#define PNN_VLOAD_f16(p) CAT(vload_half, VW)(0, (GLOBAL const half*)(p))
#define PNN_VLOAD_bf16(p) CAT(as_float, VW)(CAT(convert_uint, VW)(CAT(vload, VW)(0, p)) << 16)
