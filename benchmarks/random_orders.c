/* Dense layers in float32, each sum in a random order of its own for every run, layer and group of
   columns; products rounded before they are added, or contracted (each layer by the toss of a coin).
   Compile without contraction of its own: -ffp-contract=off. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>

#define GROUP 64

static uint64_t next(uint64_t *state) { /* xorshift64*, Vigna 2016 */
    uint64_t x = *state;
    x ^= x >> 12, x ^= x << 25, x ^= x >> 27;
    *state = x;
    return x * 0x2545F4914F6CDD1DULL;
}

static void shuffle(int32_t *order, int32_t n, uint64_t *state) {
    for (int32_t i = n - 1; i > 0; i--) {
        int32_t j = (int32_t)(((next(state) >> 32) * (uint64_t)(i + 1)) >> 32);
        int32_t kept = order[i];
        order[i] = order[j], order[j] = kept;
    }
}

/* One layer: y[m] = sum over x[n]·w[n][m] and the bias, which is term n; relu if asked. Terms of
   which the factor is 0 change no sum and are left out. */
static void layer(const float *x, const float *w, const float *bias, float *y, int32_t n, int32_t m,
                  int relu, int32_t *order, uint64_t *state) {
    int32_t terms = 0;
    for (int32_t k = 0; k <= n; k++)
        if (k == n || x[k] != 0.0f) order[terms++] = k;
    for (int32_t from = 0; from < m; from += GROUP) {
        int32_t width = m - from < GROUP ? m - from : GROUP, fused = next(state) >> 63;
        float total[GROUP];
        shuffle(order, terms, state);
        for (int32_t k = 0; k < terms; k++) {
            int32_t at = order[k];
            const float *row = at == n ? bias + from : w + (ptrdiff_t)at * m + from;
            float factor = at == n ? 1.0f : x[at];
            if (!k)
                for (int32_t j = 0; j < width; j++) total[j] = factor * row[j];
            else if (fused)
                for (int32_t j = 0; j < width; j++) total[j] = fmaf(factor, row[j], total[j]);
            else
                for (int32_t j = 0; j < width; j++) total[j] = total[j] + factor * row[j];
        }
        for (int32_t j = 0; j < width; j++)
            y[from + j] = relu && total[j] < 0.0f ? 0.0f : total[j];
    }
}

/* `runs` runs of `layers` layers of these sizes from one input; results (runs, sizes[layers]). */
void run(const float *x, const float **weights, const float **biases, const int32_t *sizes,
         int32_t layers, int64_t runs, uint64_t seed, float *here, float *there, int32_t *order,
         float *results) {
    uint64_t state = seed * 0x9E3779B97F4A7C15ULL + 1;
    for (int64_t r = 0; r < runs; r++) {
        const float *from = x;
        for (int32_t l = 0; l < layers; l++) {
            float *to = l + 1 == layers ? results + r * sizes[layers] : l % 2 ? there : here;
            layer(from, weights[l], biases[l], to, sizes[l], sizes[l + 1], l + 1 < layers, order,
                  &state);
            from = to;
        }
    }
}
