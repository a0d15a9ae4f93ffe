// The kernels of schedules.cu on a processor: a launch is a loop over its threads.

#include "shim.h"
#include "schedules.cu"

#define LAUNCH(CALL)                                                    \
    blockDim.x = 1;                                                     \
    threadIdx.x = 0;                                                    \
    for (long long i = 0; i < (long long)rows * columns; ++i) {         \
        blockIdx.x = (unsigned)i;                                       \
        CALL;                                                           \
    }

#define RUN(NAME)                                                                           \
    extern "C" void run_##NAME(const float* a, const float* b, float* y, int rows, int terms, \
                               int columns, int) {                                          \
        LAUNCH(NAME(a, b, y, rows, terms, columns))                                         \
    }

RUN(sequential)
RUN(sequential_fma)
RUN(pairwise)
RUN(warp_tree)

extern "C" void run_split_k(const float* a, const float* b, float* y, int rows, int terms,
                            int columns, int size) {
    LAUNCH(split_k(a, b, y, rows, terms, columns, size))
}
