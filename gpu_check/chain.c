/* Chains of multiply-adds in binary32 from first to last: what encoders/native_chain.py does, as
   loops that a compiler turns into vector instructions. fmaf rounds once; the separate form
   rounds twice, for which contraction must be off (-ffp-contract=off).

   Element (r, c) of the result is y[r][c] + sum over k of a[k]*b[k]. Each operand says where row r
   begins (rows[r], in elements) and how far apart its columns are. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#define LANES 16
#define ROWS 8

#if defined(__x86_64__) && defined(__gnu_linux__)
#define FOR_EVERY_PROCESSOR __attribute__((target_clones("avx512f", "arch=haswell", "default")))
#else
#define FOR_EVERY_PROCESSOR
#endif

typedef float Lanes __attribute__((vector_size(4 * LANES)));

#define CHAINS(NAME, STEP)                                                                       \
    FOR_EVERY_PROCESSOR                                                                          \
    void NAME(int64_t rows, int64_t columns, int64_t terms,                                      \
              const float *const *a, const int64_t *a_rows, int64_t a_column,                    \
              const float *const *b, const int64_t *b_rows, int64_t b_column, float *y)          \
    {                                                                                            \
        for (int64_t c = 0; c < columns; c += LANES) {                                           \
            const int width = columns - c < LANES ? (int)(columns - c) : LANES;                  \
            int64_t r = 0;                                                                       \
            while (r < rows) {                                                                   \
                float *into = y + r * columns + c;                                               \
                int64_t same = 1;                                                                \
                while (same < ROWS && r + same < rows && b_rows[r + same] == b_rows[r]) ++same;  \
                if (same == ROWS && width == LANES && a_column == 0 && b_column == 1) {          \
                    Lanes total[ROWS];                                                           \
                    for (int i = 0; i < ROWS; ++i)                                               \
                        memcpy(total + i, into + i * columns, sizeof *total);                    \
                    for (int64_t k = 0; k < terms; ++k) {                                        \
                        Lanes v;                                                                 \
                        memcpy(&v, b[k] + b_rows[r] + c, sizeof v);                              \
                        _Pragma("GCC unroll 8")                                                  \
                        for (int i = 0; i < ROWS; ++i) {                                         \
                            const Lanes u = a[k][a_rows[r + i]] - (Lanes){0};                    \
                            Lanes w = total[i], next;                                            \
                            for (int j = 0; j < LANES; ++j) next[j] = STEP(u[j], v[j], w[j]);    \
                            total[i] = next;                                                     \
                        }                                                                        \
                    }                                                                            \
                    for (int i = 0; i < ROWS; ++i)                                               \
                        memcpy(into + i * columns, total + i, sizeof *total);                    \
                    r += ROWS;                                                                   \
                    continue;                                                                    \
                }                                                                                \
                float total[LANES];                                                              \
                memcpy(total, into, width * sizeof *total);                                      \
                for (int64_t k = 0; k < terms; ++k) {                                            \
                    const float *x = a[k] + a_rows[r] + c * a_column;                            \
                    const float *z = b[k] + b_rows[r] + c * b_column;                            \
                    for (int j = 0; j < width; ++j)                                              \
                        total[j] = STEP(x[j * a_column], z[j * b_column], total[j]);             \
                }                                                                                \
                memcpy(into, total, width * sizeof *total);                                      \
                ++r;                                                                             \
            }                                                                                    \
        }                                                                                        \
    }

#define ONCE(u, v, w) fmaf(u, v, w)
#define TWICE(u, v, w) ((u) * (v) + (w))

CHAINS(fused, ONCE)
CHAINS(separate, TWICE)
