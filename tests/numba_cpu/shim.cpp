/* What numba's kernels need to run on the CPU: the fibers of cuda_cpu, under the names that build.py gives NVVM's intrinsics. */
#include "../cuda_cpu/shim.h"

extern "C" {
unsigned nvvm_tid_x() { return threadIdx.x; }
unsigned nvvm_tid_y() { return threadIdx.y; }
unsigned nvvm_tid_z() { return threadIdx.z; }
unsigned nvvm_ntid_x() { return blockDim.x; }
unsigned nvvm_ntid_y() { return blockDim.y; }
unsigned nvvm_ntid_z() { return blockDim.z; }
unsigned nvvm_ctaid_x() { return blockIdx.x; }
unsigned nvvm_ctaid_y() { return blockIdx.y; }
unsigned nvvm_ctaid_z() { return blockIdx.z; }
unsigned nvvm_nctaid_x() { return gridDim.x; }
unsigned nvvm_nctaid_y() { return gridDim.y; }
unsigned nvvm_nctaid_z() { return gridDim.z; }
void pnn_barrier_number(int number) { pnn_wait(number, PNN_AT_BARRIER); }
void pnn_poison_bytes(void* p, pnn_size n) { memset(p, 0xFF, n); }
int pnn_float_as_int(float x) { return __builtin_bit_cast(int, x); }
float pnn_int_as_float(int x) { return __builtin_bit_cast(float, x); }
long long pnn_double_as_longlong(double x) { return __builtin_bit_cast(long long, x); }
double pnn_longlong_as_double(long long x) { return __builtin_bit_cast(double, x); }
int pnn_isnanf(float x) { return x != x; }
int pnn_isnand(double x) { return x != x; }
int pnn_isinff(float x) { return x == x && x - x != 0; }
int pnn_isinfd(double x) { return x == x && x - x != 0; }

/* pnn_launch of shim.h, with shared arrays that lie in the kernel's own object. */
int pnn_run(void (*body)(void**), void (*poison)(), const unsigned* grid, const unsigned* block, void** args, int reverse, int* report) {
    gridDim = pnn_dim3{grid[0], grid[1], grid[2]};
    blockDim = pnn_dim3{block[0], block[1], block[2]};
    pnn_body = body, pnn_args = args, pnn_reverse = reverse;
    pnn_count = (int)(block[0] * block[1] * block[2]);
    const pnn_size blocks = (pnn_size)grid[0] * grid[1] * grid[2];
    for (pnn_size i = 0; i < blocks; ++i) {
        const pnn_size b = reverse ? blocks - 1 - i : i;
        blockIdx = pnn_dim3{(unsigned)(b % grid[0]), (unsigned)(b / grid[0] % grid[1]), (unsigned)(b / grid[0] / grid[1])};
        poison();
        const int missed = pnn_block(report);
        if (missed) return missed;
    }
    return 0;
}
}
