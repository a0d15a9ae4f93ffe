// Dot products, one kernel per schedule; every rounding is explicit, so that no compiler choice
// (contraction, flush-to-zero, reassociation) can change it. y[r*columns + c] is the dot product
// of row r of a (rows x terms) and column c of b (terms x columns), both row-major.
//
// Compiled by NVRTC for a card, and by a C++ compiler against shim.h for the tests.

#define ELEMENT                                                        \
    const long long at = blockIdx.x * (long long)blockDim.x + threadIdx.x; \
    if (at >= (long long)rows * columns) return;                       \
    const float* left = a + (at / columns) * terms;                    \
    const float* right = b + at % columns;

// The first product, then each product rounded and added.
extern "C" __global__ void sequential(const float* a, const float* b, float* y, int rows,
                                      int terms, int columns) {
    ELEMENT
    float total = __fmul_rn(left[0], right[0]);
    for (int k = 1; k < terms; ++k)
        total = __fadd_rn(__fmul_rn(left[k], right[(long long)k * columns]), total);
    y[at] = total;
}

// The same with one rounding per step.
extern "C" __global__ void sequential_fma(const float* a, const float* b, float* y, int rows,
                                          int terms, int columns) {
    ELEMENT
    float total = __fmul_rn(left[0], right[0]);
    for (int k = 1; k < terms; ++k)
        total = __fmaf_rn(left[k], right[(long long)k * columns], total);
    y[at] = total;
}

__device__ float halves(const float* left, const float* right, int terms, int columns) {
    if (terms == 1) return __fmul_rn(left[0], right[0]);
    const int middle = (terms + 1) / 2;
    return __fadd_rn(halves(left, right, middle, columns),
                     halves(left + middle, right + (long long)middle * columns, terms - middle,
                            columns));
}

// Halved recursively, the first half not the smaller one.
extern "C" __global__ void pairwise(const float* a, const float* b, float* y, int rows, int terms,
                                    int columns) {
    ELEMENT
    y[at] = halves(left, right, terms, columns);
}

// What a warp does: lane l adds terms l, l + 32, ... fused and in order, then the 32 sums are
// folded 16, 8, 4, 2, 1 apart. One thread plays all lanes: the order is the same.
extern "C" __global__ void warp_tree(const float* a, const float* b, float* y, int rows, int terms,
                                     int columns) {
    ELEMENT
    float lane[32];
    for (int l = 0; l < 32; ++l) {
        lane[l] = l < terms ? __fmul_rn(left[l], right[(long long)l * columns]) : 0.0f;
        for (int k = l + 32; k < terms; k += 32)
            lane[l] = __fmaf_rn(left[k], right[(long long)k * columns], lane[l]);
    }
    for (int apart = 16; apart > 0; apart /= 2)
        for (int l = 0; l < apart; ++l) lane[l] = __fadd_rn(lane[l], lane[l + apart]);
    y[at] = lane[0];
}

// Blocks of `size` terms, each fused and in order from its first product; then the block sums in
// order.
extern "C" __global__ void split_k(const float* a, const float* b, float* y, int rows, int terms,
                                   int columns, int size) {
    ELEMENT
    float total = 0.0f;
    for (int start = 0; start < terms; start += size) {
        const int end = start + size < terms ? start + size : terms;
        float block = __fmul_rn(left[start], right[(long long)start * columns]);
        for (int k = start + 1; k < end; ++k)
            block = __fmaf_rn(left[k], right[(long long)k * columns], block);
        total = start == 0 ? block : __fadd_rn(total, block);
    }
    y[at] = total;
}
