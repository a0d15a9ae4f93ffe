// float32 functions of the card over a range of bit patterns: y[i] = f(float of bits first + i).

#define OVER_BITS(NAME, CALL)                                                                  \
    extern "C" __global__ void NAME(float* y, unsigned first, unsigned count) {               \
        const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;                             \
        if (i >= count) return;                                                               \
        const float x = __uint_as_float(first + i);                                           \
        y[i] = CALL(x);                                                                       \
    }

OVER_BITS(over_exp, expf)
OVER_BITS(over_tanh, tanhf)
OVER_BITS(over_erf, erff)
OVER_BITS(over_log, logf)
OVER_BITS(over_rsqrt, rsqrtf)
OVER_BITS(over_sqrt, sqrtf)
