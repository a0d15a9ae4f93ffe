// float32 functions as the card computes them: y[i] = f(x[i]).

#define APPLY(NAME, CALL)                                                          \
    extern "C" __global__ void NAME(const float* x, float* y, int count) {        \
        const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;     \
        if (i < count) y[i] = CALL(x[i]);                                          \
    }

APPLY(apply_exp, expf)
APPLY(apply_log, logf)
APPLY(apply_tanh, tanhf)
APPLY(apply_erf, erff)
APPLY(apply_sin, sinf)
APPLY(apply_cos, cosf)
APPLY(apply_sqrt, sqrtf)
APPLY(apply_rsqrt, rsqrtf)
