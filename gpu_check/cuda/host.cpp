// The kernels of schedules.cu and elementary.cu on a processor: a launch is a loop over its threads.

#include "shim.h"
#include "schedules.cu"
#include "elementary.cu"

#define LAUNCH(THREADS, CALL)                          \
    blockDim.x = 1;                                    \
    threadIdx.x = 0;                                   \
    for (long long i = 0; i < (THREADS); ++i) {        \
        blockIdx.x = (unsigned)i;                      \
        CALL;                                          \
    }

#define RUN(NAME)                                                                           \
    extern "C" void run_##NAME(const float* a, const float* b, float* y, int rows, int terms, \
                               int columns, int) {                                          \
        LAUNCH((long long)rows * columns, NAME(a, b, y, rows, terms, columns))                                         \
    }

RUN(sequential)
RUN(sequential_fma)
RUN(pairwise)
RUN(warp_tree)

extern "C" void run_split_k(const float* a, const float* b, float* y, int rows, int terms,
                            int columns, int size) {
    LAUNCH((long long)rows * columns, split_k(a, b, y, rows, terms, columns, size))
}

#define RUN_OVER(NAME)                                                          \
    extern "C" void run_##NAME(const float* x, float* y, int count) {           \
        LAUNCH(count, NAME(x, y, count))                                        \
    }

RUN_OVER(apply_exp)
RUN_OVER(apply_log)
RUN_OVER(apply_tanh)
RUN_OVER(apply_erf)
RUN_OVER(apply_sin)
RUN_OVER(apply_cos)
RUN_OVER(apply_sqrt)
RUN_OVER(apply_rsqrt)
