// Just enough of CUDA C for the kernels to run on a processor: one thread after another, with the
// rounding intrinsics as what they promise. Compile with -ffp-contract=off.

#include <cmath>

#define __global__
#define __device__

struct Index { unsigned x; };
static Index blockIdx, blockDim, threadIdx;

static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
static inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
