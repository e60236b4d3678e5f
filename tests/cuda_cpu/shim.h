/* What a CUDA kernel needs to run on the CPU: put before the kernel text, then compile with g++ as a shared library.
 * No headers, so that a program compiles in tens of milliseconds. x86-64 only (the stack switch is assembly).
 *
 * One block at a time; its threads are fibers on stacks of their own. A thread runs until it returns or meets a
 * barrier. A fiber whose thread returns takes the next one, so a kernel without barriers is a plain loop on one stack.
 * Nothing runs at the same time: a missing barrier shows as a wrong value, because threads run far ahead of each other
 * (first to last, or last to first: see `reverse`), and shared memory is filled with 0xFF before each block.
 * A barrier that not all threads of a block reach, or that they reach on different lines, is reported, not passed. */
#define PNN_LINKAGE static
#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(n)

typedef unsigned long pnn_size;
struct pnn_dim3 { unsigned x, y, z; };
static pnn_dim3 threadIdx, blockIdx, blockDim, gridDim;

#ifdef PNN_SANITIZED /* the sanitizer guards plain globals, not those of a section of ours */
#define __shared__ static
static char* const pnn_shared_begin = 0;
static char* const pnn_shared_end = 0;
#define PNN_STACK (1ul << 19)
#else
#define __shared__ static __attribute__((section("pnn_shared")))
extern char __start_pnn_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_pnn_shared[] __attribute__((weak, visibility("hidden")));
#define pnn_shared_begin __start_pnn_shared
#define pnn_shared_end __stop_pnn_shared
#define PNN_STACK (1ul << 17)
#endif

extern "C" {
void* mmap(void*, pnn_size, int, int, int, long);
void* memset(void*, int, pnn_size);
#define PNN_F1(m) float m##f(float); double m(double);
#define PNN_F2(m) float m##f(float, float); double m(double, double);
PNN_F1(exp) PNN_F1(exp2) PNN_F1(expm1) PNN_F1(log) PNN_F1(log2) PNN_F1(log10) PNN_F1(log1p) PNN_F1(sqrt)
PNN_F1(sin) PNN_F1(cos) PNN_F1(tan) PNN_F1(asin) PNN_F1(acos) PNN_F1(atan) PNN_F1(sinh) PNN_F1(cosh) PNN_F1(tanh)
PNN_F1(asinh) PNN_F1(acosh) PNN_F1(atanh) PNN_F1(erf) PNN_F1(erfc) PNN_F1(floor) PNN_F1(ceil) PNN_F1(trunc)
PNN_F1(rint) PNN_F1(fabs)
PNN_F2(pow) PNN_F2(atan2) PNN_F2(hypot) PNN_F2(copysign) PNN_F2(nextafter) PNN_F2(fmod)
float fmaf(float, float, float);
double fma(double, double, double);

/* Saves the callee's registers and stack pointer in *from, and goes on where `to` was saved. */
void pnn_switch(void** from, void* to);
}
asm(".text\n.type pnn_switch,@function\npnn_switch:\n"
    "push %rbx\npush %rbp\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "mov %rsp,(%rdi)\nmov %rsi,%rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbp\npop %rbx\nret\n.size pnn_switch,.-pnn_switch\n");

static inline int atomicCAS(int* p, int expected, int wanted) {
    const int found = *p;
    if (found == expected) *p = wanted;
    return found;
}

/* -- threads of a block ----------------------------------------------------------------------------------------- */
enum { PNN_THREADS = 1024 };
static void* pnn_fiber[PNN_THREADS];     /* saved stack pointers */
static char* pnn_stack[PNN_THREADS];
static int pnn_thread[PNN_THREADS];      /* the thread that waits in a fiber */
static int pnn_line[PNN_THREADS];        /* and the line of its barrier */
static void* pnn_scheduler;
static int pnn_now, pnn_next, pnn_count, pnn_reverse, pnn_waits;
static void (*pnn_body)(void**);
static void** pnn_args;

static void pnn_is_thread(int t) {
    threadIdx.x = (unsigned)t % blockDim.x;
    threadIdx.y = (unsigned)t / blockDim.x % blockDim.y;
    threadIdx.z = (unsigned)t / (blockDim.x * blockDim.y);
}

static void pnn_run_threads() {
    for (;;) {
        while (pnn_next < pnn_count) {
            const int t = pnn_thread[pnn_now] = pnn_reverse ? pnn_count - 1 - pnn_next : pnn_next;
            ++pnn_next;
            pnn_is_thread(t);
            pnn_body(pnn_args);
        }
        pnn_waits = 0;
        pnn_switch(&pnn_fiber[pnn_now], pnn_scheduler);
    }
}

static __attribute__((noinline)) void pnn_barrier(int line) {
    pnn_line[pnn_now] = line;
    pnn_waits = 1;
    pnn_switch(&pnn_fiber[pnn_now], pnn_scheduler);
}
#define __syncthreads() pnn_barrier(__LINE__)

static void pnn_resume(int fiber) {
    pnn_now = fiber;
    pnn_switch(&pnn_scheduler, pnn_fiber[fiber]);
}

static void pnn_make(int fiber) {
    if (!pnn_stack[fiber]) /* PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE */
        pnn_stack[fiber] = (char*)mmap(0, PNN_STACK, 3, 0x4022, -1, 0);
    void** top = (void**)(pnn_stack[fiber] + PNN_STACK);
    *--top = 0; /* keeps the stack aligned as after a call */
    *--top = (void*)pnn_run_threads;
    for (int i = 0; i < 6; ++i) *--top = 0;
    pnn_fiber[fiber] = top;
}

/* Runs one block; 0, or the line of a barrier that some thread missed (in `report`: how many came, of how many). */
static int pnn_block(int* report) {
    int live = 0; /* fibers that hold a waiting thread: 0 .. live - 1 */
    pnn_next = 0;
    while (pnn_next < pnn_count) {
        pnn_make(live);
        pnn_resume(live);
        if (pnn_waits) ++live;
    }
    while (live) {
        int same = live == pnn_count;
        for (int f = 1; f < live; ++f) same &= pnn_line[f] == pnn_line[0];
        if (!same) {
            report[0] = live, report[1] = pnn_count;
            return pnn_line[0];
        }
        int left = 0;
        for (int f = 0; f < live; ++f) {
            pnn_is_thread(pnn_thread[f]);
            pnn_resume(f);
            if (pnn_waits) ++left; /* a fiber that is done has no next thread to take */
            else pnn_line[f] = -1;
        }
        if (left && left != live) {
            report[0] = left, report[1] = pnn_count;
            for (int f = 0; f < live; ++f)
                if (pnn_line[f] >= 0) return pnn_line[f];
        }
        live = left;
    }
    return 0;
}

/* -- calling a kernel with an array of pointers to its arguments --------------------------------------------------- */
template <unsigned... I> struct pnn_seq {};
template <class... A, unsigned... I> static inline void pnn_apply(void (*f)(A...), void** a, pnn_seq<I...>) {
    f(*(A*)a[I]...);
}
template <class... A> static inline void pnn_call(void (*f)(A...), void** a) {
    pnn_apply(f, a, pnn_seq<__integer_pack(sizeof...(A))...>{});
}
template <class... A> static inline int pnn_sizes(void (*)(A...), int* sizes) {
    const int all[] = {(int)sizeof(A)..., 0};
    for (unsigned i = 0; i < sizeof...(A); ++i) sizes[i] = all[i];
    return sizeof...(A);
}

static int pnn_launch(void (*body)(void**), const unsigned* grid, const unsigned* block, void** args, int flags, int* report) {
    const int reverse = flags & 1;
    const unsigned before = __builtin_ia32_stmxcsr();
    if (flags & 2) __builtin_ia32_ldmxcsr(before | 0x8040u); /* subnormal results and operands are zero */
    gridDim = pnn_dim3{grid[0], grid[1], grid[2]};
    blockDim = pnn_dim3{block[0], block[1], block[2]};
    pnn_body = body, pnn_args = args, pnn_reverse = reverse;
    pnn_count = (int)(block[0] * block[1] * block[2]);
    const pnn_size blocks = (pnn_size)grid[0] * grid[1] * grid[2];
    int missed = 0;
    for (pnn_size i = 0; i < blocks && !missed; ++i) {
        const pnn_size b = reverse ? blocks - 1 - i : i;
        blockIdx = pnn_dim3{(unsigned)(b % grid[0]), (unsigned)(b / grid[0] % grid[1]), (unsigned)(b / grid[0] / grid[1])};
        if (pnn_shared_begin) memset(pnn_shared_begin, 0xFF, (pnn_size)(pnn_shared_end - pnn_shared_begin));
        missed = pnn_block(report);
    }
    __builtin_ia32_ldmxcsr(before);
    return missed;
}

/* After the kernel text: PNN_STUB(name) makes what Python calls. */
#define PNN_STUB(name)                                                                                                   \
    static void pnn_stub_body(void** a) { pnn_call(name, a); }                                                           \
    extern "C" int pnn_stub_sizes(int* sizes) { return pnn_sizes(name, sizes); }                                         \
    extern "C" pnn_size pnn_stub_shared() { return (pnn_size)(pnn_shared_end - pnn_shared_begin); }                      \
    extern "C" int pnn_stub(const unsigned* g, const unsigned* b, void** a, int flags, int* report) {                    \
        return pnn_launch(pnn_stub_body, g, b, a, flags, report);                                                        \
    }
