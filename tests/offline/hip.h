/* What hipRTC puts before a program, as much of it as the dialect needs, from clang's own headers and built-ins: so HIP
 * text compiles without ROCm. Math functions are those of ROCm's device library. */
#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __host__ __attribute__((host))
#define __shared__ __attribute__((shared))
#define __constant__ __attribute__((constant))
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(n) __attribute__((amdgpu_flat_work_group_size(1, n)))
typedef __SIZE_TYPE__ size_t;
typedef __INT32_TYPE__ int32_t;
typedef __INT64_TYPE__ int64_t;
typedef __UINT8_TYPE__ uint8_t;
typedef __UINT16_TYPE__ uint16_t;
typedef __UINT32_TYPE__ uint32_t;
typedef __UINT64_TYPE__ uint64_t;
#define INT_MAX __INT_MAX__
#define INT_MIN (-INT_MAX - 1)
#define INFINITY __builtin_inff()
#define NAN __builtin_nanf("")
#include <__clang_hip_libdevice_declares.h>
#include <__clang_hip_math.h>

#define PNN_COORDINATE(NAME, READ)                                                  \
    struct pnn_##NAME {                                                             \
        struct X { __device__ operator unsigned() const { return READ(x); } } x;    \
        struct Y { __device__ operator unsigned() const { return READ(y); } } y;    \
        struct Z { __device__ operator unsigned() const { return READ(z); } } z;    \
    };                                                                              \
    static const __device__ pnn_##NAME NAME{};
#define PNN_READ_GROUP(d) __builtin_amdgcn_workgroup_id_##d()
#define PNN_READ_ITEM(d) __builtin_amdgcn_workitem_id_##d()
#define PNN_READ_SIZE(d) __builtin_amdgcn_workgroup_size_##d()
#define PNN_READ_GROUPS(d) (__builtin_amdgcn_grid_size_##d() / __builtin_amdgcn_workgroup_size_##d())
PNN_COORDINATE(blockIdx, PNN_READ_GROUP)
PNN_COORDINATE(threadIdx, PNN_READ_ITEM)
PNN_COORDINATE(blockDim, PNN_READ_SIZE)
PNN_COORDINATE(gridDim, PNN_READ_GROUPS)

static __device__ inline void __syncthreads() {
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
    __builtin_amdgcn_s_barrier();
    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
}
static __device__ inline int atomicCAS(int* p, int expected, int wanted) {
    __hip_atomic_compare_exchange_strong(p, &expected, wanted, __ATOMIC_RELAXED, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
    return expected;
}
