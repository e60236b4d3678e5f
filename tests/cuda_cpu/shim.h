/* What a CUDA kernel needs to run on the CPU: put before the kernel text, then compile with g++ as a shared library.
 * No headers, so that a program compiles in tens of milliseconds. x86-64 only (the stack switch is assembly).
 *
 * One block at a time; its threads are fibers on stacks of their own. A thread runs until it returns or meets a
 * barrier. A fiber whose thread returns takes the next one, so a kernel without barriers is a plain loop on one stack.
 * Nothing runs at the same time: a missing barrier shows as a wrong value, because threads run far ahead of each other
 * (first to last, or last to first: see `reverse`), and shared memory is filled with 0xFF before each block.
 * A barrier that not all threads of a block reach, or that they reach on different lines, is reported, not passed.
 * Exchanges within a warp (shuffles, mma) wait for the 32 threads of the warp alone: the other warps stand where they are. */
#define PNN_LINKAGE static
#define PNN_FIBERS 1
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
void* memcpy(void*, const void*, pnn_size);
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
enum { PNN_RUNS = 0, PNN_AT_BARRIER = 1, PNN_IN_WARP = 2 };
static int pnn_now, pnn_next, pnn_count, pnn_reverse;
static int pnn_waits; /* what the fiber that came back last waits for: PNN_RUNS if its thread returned */
static int pnn_stay;  /* a fiber whose thread returns takes no other */
static void (*pnn_body)(void**);
static void** pnn_args;

static void pnn_is_thread(int t) {
    threadIdx.x = (unsigned)t % blockDim.x;
    threadIdx.y = (unsigned)t / blockDim.x % blockDim.y;
    threadIdx.z = (unsigned)t / (blockDim.x * blockDim.y);
}

static void pnn_run_threads() {
    for (;;) {
        while (pnn_next < pnn_count && !pnn_stay) {
            const int t = pnn_thread[pnn_now] = pnn_reverse ? pnn_count - 1 - pnn_next : pnn_next;
            ++pnn_next;
            pnn_is_thread(t);
            pnn_body(pnn_args);
        }
        pnn_waits = PNN_RUNS;
        pnn_switch(&pnn_fiber[pnn_now], pnn_scheduler);
    }
}

static __attribute__((noinline)) void pnn_wait(int line, int what) {
    pnn_line[pnn_now] = line;
    pnn_waits = what;
    pnn_switch(&pnn_fiber[pnn_now], pnn_scheduler);
}
#define __syncthreads() pnn_wait(__LINE__, PNN_AT_BARRIER)

/* -- exchanges within a warp ---------------------------------------------------------------------------------------
 * Every thread puts what it has into its slot, the warp meets, every thread reads the others' slots. Two sets of slots
 * take turns, so that one meeting is enough: who writes a set again has met the others since they read it. */
enum { PNN_WORDS = 8 };
static unsigned pnn_slots[2][PNN_THREADS][PNN_WORDS];
static unsigned char pnn_turn[PNN_THREADS];

/* Leaves `count` words in this thread's slot, meets the warp, and returns the slots of its 32 threads. */
static unsigned (*pnn_meet(const void* words, int count, int line))[PNN_WORDS] {
    const int t = pnn_thread[pnn_now], turn = pnn_turn[t] ^= 1;
    memcpy(pnn_slots[turn][t], words, (pnn_size)count * 4);
    pnn_wait(line, PNN_IN_WARP);
    return pnn_slots[turn] + t / 32 * 32;
}
template <class T> static inline T pnn_from(unsigned mask, T value, int lane, int line) {
    (void)mask;
    T got;
    memcpy(&got, pnn_meet(&value, sizeof(T) / 4, line)[lane & 31], sizeof(T));
    return got;
}
#define PNN_LANE (pnn_thread[pnn_now] & 31)
#define __shfl_sync(mask, value, lane) pnn_from(mask, value, lane, __LINE__)
#define __shfl_xor_sync(mask, value, far) pnn_from(mask, value, PNN_LANE ^ (far), __LINE__)

/* Tensor cores: d = a b + d for a 16 x 8-word a and an 8-word x 8 b, fragments as the PTX ISA has them for mma.m16n8k8 (tf32: a word is
 * a number, of which its upper 19 bits count) and mma.m16n8k16 (f16, bf16: a word is two numbers, the lower half first). Of thread 4 g + t:
 * a[0..3] are words (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4); b[0..1] words (t, g), (t + 4, g); d[0..3] are
 * (g, 2 t), (g, 2 t + 1), (g + 8, 2 t), (g + 8, 2 t + 1). Products are exact and summed in float64, rounded once: hardware
 * says nothing of its order and rounding. */
static inline float pnn_number_tf32(unsigned word, int) { return __builtin_bit_cast(float, word & 0xffffe000u); }
static inline float pnn_number_bf16(unsigned word, int half) { return __builtin_bit_cast(float, half ? word & 0xffff0000u : word << 16); }
static inline float pnn_number_f16(unsigned word, int half) {
    return (float)__builtin_bit_cast(_Float16, (unsigned short)(half ? word >> 16 : word));
}
template <class F> static inline void pnn_mma(float* d, const unsigned* a, const unsigned* b, int halves, F number, int line) {
    unsigned mine[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    unsigned (*slots)[PNN_WORDS] = pnn_meet(mine, 6, line);
    const int g = PNN_LANE / 4, t = PNN_LANE % 4;
    for (int e = 0; e < 4; ++e) {
        const int row = g + 8 * (e / 2), col = 2 * t + e % 2;
        double sum = d[e];
        for (int w = 0; w < 8; ++w)
            for (int half = 0; half < halves; ++half) {
                const unsigned x = slots[row % 8 * 4 + w % 4][row / 8 + 2 * (w / 4)], y = slots[col * 4 + w % 4][4 + w / 4];
                sum += (double)number(x, half) * (double)number(y, half);
            }
        d[e] = (float)sum;
    }
}

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

static int pnn_kind[PNN_THREADS]; /* what the thread in a fiber waits for */

static void pnn_go_on(int fiber) {
    pnn_is_thread(pnn_thread[fiber]);
    pnn_resume(fiber);
    pnn_kind[fiber] = pnn_waits;
}

static int pnn_missed(int* report, int line, int came, int of) {
    report[0] = came, report[1] = of;
    return line;
}

/* Lets the warp in fibers first .. last - 1 go on until none of its threads waits for the others of the warp. 0, or the
 * line of an exchange or a barrier that some of them missed. */
static int pnn_warp(int first, int last, int* report) {
    while (pnn_kind[first] == PNN_IN_WARP) {
        const int line = pnn_line[first];
        int came = 0, same = 0;
        for (int f = first; f < last; ++f) came += pnn_kind[f] == PNN_IN_WARP && pnn_line[f] == line;
        if (came != last - first) return pnn_missed(report, line, came, last - first);
        for (int f = first; f < last; ++f) pnn_go_on(f);
        for (int f = first; f < last; ++f) same += pnn_kind[f] == pnn_kind[first];
        for (int f = first; f < last && same < last - first; ++f)
            if (pnn_kind[f]) return pnn_missed(report, pnn_line[f], same, last - first);
    }
    return 0;
}

/* Runs one block; 0, or the line of a barrier that some thread missed (in `report`: how many came, of how many). */
static int pnn_block(int* report) {
    int live = 0; /* fibers that hold a waiting thread: 0 .. live - 1 */
    pnn_next = 0;
    pnn_stay = 0;
    memset(pnn_turn, 0, sizeof pnn_turn);
    while (pnn_next < pnn_count) {
        pnn_make(live);
        pnn_resume(live);
        if (!pnn_waits) continue;
        pnn_kind[live++] = pnn_waits;
        const int warp = pnn_thread[live - 1] / 32, last = pnn_count - warp * 32 < 32 ? pnn_count - warp * 32 : 32;
        if (pnn_waits == PNN_IN_WARP && live >= last && pnn_thread[live - last] / 32 == warp) {
            pnn_stay = 1;
            if (const int line = pnn_warp(live - last, live, report)) return line;
            pnn_stay = 0;
            if (!pnn_kind[live - 1]) live -= last; /* all returned */
        }
    }
    pnn_stay = 1;
    for (int f = 0; f < live; ++f) /* a warp of which some threads returned, or went to a barrier */
        if (pnn_kind[f] == PNN_IN_WARP) {
            int came = 0;
            for (int e = 0; e < live; ++e) came += pnn_thread[e] / 32 == pnn_thread[f] / 32 && pnn_kind[e] == PNN_IN_WARP;
            return pnn_missed(report, pnn_line[f], came, 32);
        }
    while (live) {
        int same = live == pnn_count;
        for (int f = 1; f < live; ++f) same &= pnn_line[f] == pnn_line[0];
        if (!same) return pnn_missed(report, pnn_line[0], live, pnn_count);
        int left = 0;
        for (int f = 0; f < live; ++f) pnn_line[f] = -1;
        for (int first = 0, last; first < live; first = last) {
            for (last = first; last < live && pnn_thread[last] / 32 == pnn_thread[first] / 32; ++last) pnn_go_on(last);
            for (int f = first; f < last; ++f)
                if (pnn_kind[f] == PNN_IN_WARP && pnn_kind[first] != PNN_IN_WARP) return pnn_missed(report, pnn_line[f], 1, last - first);
            if (const int line = pnn_warp(first, last, report)) return line;
            for (int f = first; f < last; ++f) left += pnn_kind[f] == PNN_AT_BARRIER; /* a fiber that is done has no next thread to take */
        }
        if (left && left != live)
            for (int f = 0; f < live; ++f)
                if (pnn_kind[f]) return pnn_missed(report, pnn_line[f], left, pnn_count);
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
