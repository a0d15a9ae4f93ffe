/* Chains and trees of multiply-adds in binary32, or (with STEPS defined) the steps of tensor cores:
   what encoders/arithmetic/numpy_arithmetic.py does, as loops that a compiler turns into vector
   instructions. fmaf rounds once; the separate form rounds twice, for which contraction must be off
   (-ffp-contract=off).

   Element (r, c) of the result is y[r][c] + sum over k of a[k]*b[k]. Each operand says where row r
   begins (rows[r], in elements) and how far apart its columns are. RESULT and OPERAND say what
   becomes of subnormal numbers: `kept` or `flushed`. */

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

#ifndef RESULT
#define RESULT kept
#endif
#ifndef OPERAND
#define OPERAND kept
#endif

static inline int32_t bits_of(float v)
{
    int32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

static inline float of_bits(int32_t bits)
{
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static inline int64_t long_bits_of(double v)
{
    int64_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

static inline double of_long_bits(int64_t bits)
{
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* HALF and BRAIN: numbers of binary16 and of bfloat16, each held in a float. A product of two is
   exact (in bfloat16 but for what rounds to zero anyway), a sum may be rounded twice, for binary32
   has 2p + 2 bits, and a multiply-add is rounded to odd first. */
#if defined(HALF)

#define SMALLEST 0x1p-14f

/* Ties to even: adding 1.5 * 2^23 steps of the grid at v rounds to that grid. */
static inline float rounded(float v)
{
    int32_t binade = bits_of(v) & 0x7f800000;
    binade = binade < (113 << 23) ? 113 << 23 : binade; /* the smallest normal number */
    binade = binade > (143 << 23) ? 143 << 23 : binade; /* what is infinite anyway */
    const float shift = of_bits((binade + (13 << 23)) | 0x400000);
    const float near = (v + shift) - shift;
    return copysignf(fabsf(near) > 65504.0f ? INFINITY : near, v);
}

/* Exact but for the last rounding: all is a multiple of 2^-48 and below 2^33. */
static inline float once(float u, float v, float w)
{
    const float p = u * v, s = p + w, t = s - p, error = (p - (s - t)) + (w - t);
    const int32_t against = (bits_of(error) ^ bits_of(s)) < 0;
    const float odd = of_bits((bits_of(s) - against) | 1);
    return rounded(fabsf(error) > 0.0f ? odd : s);
}

#elif defined(BRAIN)

#define SMALLEST 0x1p-126f

static inline float rounded(float v)
{
    const uint32_t bits = (uint32_t)bits_of(v);
    const uint32_t near = (bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000;
    return v != v ? v : of_bits((int32_t)near);
}

/* In binary32, for a product that is exact there: all is a multiple of 2^-149. What overflows is
   infinite in bfloat16, too. */
static inline float within(float u, float v, float w)
{
    const float p = u * v, s = p + w, t = s - p, error = (p - (s - t)) + (w - t);
    const int32_t inexact = fabsf(error) > 0.0f, against = (bits_of(error) ^ bits_of(s)) < 0;
    const int32_t odd = (bits_of(s) - (against & inexact)) | inexact;
    const uint32_t near = ((uint32_t)odd + 0x7fff + (((uint32_t)odd >> 16) & 1)) & 0xffff0000;
    return of_bits(s != s ? odd : (int32_t)near);
}

/* The least and the largest exponent field of numbers other than zero. */
static inline __attribute__((always_inline)) void span(const float *v, int64_t many, int32_t *least,
                                                       int32_t *most)
{
    uint32_t low = 0xffffffff, high = 0;
    for (int64_t j = 0; j < many; ++j) {
        const uint32_t size = (uint32_t)bits_of(v[j]) & 0x7fffffff;
        low = size - 1 < low ? size - 1 : low; /* zero is above all */
        high = size > high ? size : high;
    }
    const int32_t lowest = high ? (int32_t)((low + 1) >> 23) : 255;
    *least = lowest < *least ? lowest : *least;
    *most = (int32_t)(high >> 23) > *most ? (int32_t)(high >> 23) : *most;
}

/* Is every product of an a with a b zero or exact in binary32: of normal numbers, at least 2^-133
   and below 2^128? */
static inline __attribute__((always_inline)) int are_within(
    int64_t rows, int64_t columns, int64_t terms, const float *const *a, const int64_t *a_rows,
    const float *const *b, const int64_t *b_rows)
{
    int32_t least_a = 255, most_a = 0, least_b = 255, most_b = 0;
    for (int64_t k = 0; k < terms; ++k)
        for (int64_t r = 0; r < rows; ++r) {
            span(a[k] + a_rows[r], 1, &least_a, &most_a);
            if (!r || b_rows[r] != b_rows[r - 1])
                span(b[k] + b_rows[r], columns, &least_b, &most_b);
        }
    return least_a > 0 && least_b > 0 && least_a + least_b >= 254 - 133
        && most_a + most_b <= 254 + 126;
}

/* In binary64, whose range holds every product. */
static inline float once(float a, float b, float c)
{
    const double p = (double)a * (double)b, w = c;
    const double s = p + w, t = s - p, error = (p - (s - t)) + (w - t);
    const int64_t against = (long_bits_of(error) ^ long_bits_of(s)) < 0;
    const double odd = of_long_bits((long_bits_of(s) - against) | 1);
    const double v = fabs(error) > 0.0 ? odd : s;
    int64_t binade = long_bits_of(v) & (2047LL << 52);
    binade = binade < (897LL << 52) ? 897LL << 52 : binade;
    binade = binade > (1151LL << 52) ? 1151LL << 52 : binade;
    const double shift = of_long_bits((binade + (45LL << 52)) | (1LL << 51));
    return (float)copysign((v + shift) - shift, v);
}

#else

#define SMALLEST 0x1p-126f
static inline float rounded(float v) { return v; }
static inline float once(float u, float v, float w) { return fmaf(u, v, w); }

#endif

static inline float kept(float v) { return v; }
static inline float flushed(float v) { return fabsf(v) < SMALLEST ? v * 0.0f : v; }

#ifndef STEPS

typedef float Lanes __attribute__((vector_size(4 * LANES)));

#define ALONG(STEP)                                                                              \
    for (int64_t k = 0; k < terms; ++k) {                                                        \
        Lanes v;                                                                                 \
        memcpy(&v, b[k] + b_rows[r] + c, sizeof v);                                              \
        _Pragma("GCC unroll 8")                                                                  \
        for (int i = 0; i < ROWS; ++i) {                                                         \
            const Lanes u = a[k][a_rows[r + i]] - (Lanes){0};                                    \
            Lanes w = total[i], next;                                                            \
            for (int j = 0; j < LANES; ++j) next[j] = STEP(u[j], v[j], w[j]);                    \
            total[i] = next;                                                                     \
        }                                                                                        \
    }

/* QUICK is STEP where ARE_QUICK. */
#define CHAINS(NAME, STEP, QUICK, ARE_QUICK)                                                                       \
    FOR_EVERY_PROCESSOR                                                                          \
    void NAME(int64_t rows, int64_t columns, int64_t terms,                                      \
              const float *const *a, const int64_t *a_rows, int64_t a_column,                    \
              const float *const *b, const int64_t *b_rows, int64_t b_column, float *y)          \
    {                                                                                            \
        const int plain = a_column == 0 && b_column == 1;                                        \
        const int quick = plain && ARE_QUICK(rows, columns, terms, a, a_rows, b, b_rows);        \
        for (int64_t c = 0; c < columns; c += LANES) {                                           \
            const int width = columns - c < LANES ? (int)(columns - c) : LANES;                  \
            int64_t r = 0;                                                                       \
            while (r < rows) {                                                                   \
                float *into = y + r * columns + c;                                               \
                int64_t same = 1;                                                                \
                while (same < ROWS && r + same < rows && b_rows[r + same] == b_rows[r]) ++same;  \
                if (same == ROWS && width == LANES && plain) {                                   \
                    Lanes total[ROWS];                                                           \
                    for (int i = 0; i < ROWS; ++i)                                               \
                        memcpy(total + i, into + i * columns, sizeof *total);                    \
                    if (quick) ALONG(QUICK) else ALONG(STEP)                                     \
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

#define ONCE(u, v, w) RESULT(once(OPERAND(u), OPERAND(v), OPERAND(w)))
#define PRODUCT(u, v) RESULT(rounded(OPERAND(u) * OPERAND(v)))
#define SUM(u, v) RESULT(rounded(OPERAND(u) + OPERAND(v)))
#define TWICE(u, v, w) SUM(PRODUCT(u, v), w)

#define NEVER(...) 0

#if defined(BRAIN)
#define WITHIN(u, v, w) RESULT(within(OPERAND(u), OPERAND(v), OPERAND(w)))
CHAINS(fused, ONCE, WITHIN, are_within)
#else
CHAINS(fused, ONCE, ONCE, NEVER)
#endif
CHAINS(separate, TWICE, TWICE, NEVER)

#define BLOCK 64 /* columns at a time, to be told fewer times what comes next */

/* A tree of additions: partial sum k adds numbers first[k] and second[k], of which 0 ... terms - 1
   are terms, and terms + i is what lies at place i of `sums`; it goes to place places[k]. The
   second is a term unless both are sums. y is not read. */
#define TREES(NAME, STEP)                                                                        \
    static inline __attribute__((always_inline)) void NAME##_lanes(                              \
        int width, int64_t terms, const float *const *a, int64_t a_at, int64_t a_column,         \
        const float *const *b, int64_t b_at, int64_t b_column,                                   \
        const int64_t *first, const int64_t *second, const int64_t *places, float *sums, float *y)\
    {                                                                                            \
        float *into = sums;                                                                      \
        for (int64_t k = 0; k < terms - 1; ++k) {                                                \
            const int64_t p = first[k], q = second[k];                                           \
            into = sums + places[k] * BLOCK;                                                     \
            const float *w = p < terms ? into : sums + (p - terms) * BLOCK;                      \
            if (p < terms)                                                                       \
                for (int j = 0; j < width; ++j)                                                  \
                    into[j] = PRODUCT(a[p][a_at + j * a_column], b[p][b_at + j * b_column]);     \
            if (q >= terms) {                                                                    \
                const float *v = sums + (q - terms) * BLOCK;                                     \
                for (int j = 0; j < width; ++j) into[j] = SUM(w[j], v[j]);                       \
            } else                                                                               \
                for (int j = 0; j < width; ++j)                                                  \
                    into[j] = STEP(a[q][a_at + j * a_column], b[q][b_at + j * b_column], w[j]);  \
        }                                                                                        \
        memcpy(y, into, width * sizeof *y);                                                      \
    }                                                                                            \
    FOR_EVERY_PROCESSOR                                                                          \
    void NAME(int64_t rows, int64_t columns, int64_t terms,                                      \
              const float *const *a, const int64_t *a_rows, int64_t a_column,                    \
              const float *const *b, const int64_t *b_rows, int64_t b_column,                    \
              const int64_t *first, const int64_t *second, const int64_t *places, float *sums,   \
              float *y)                                                                          \
    {                                                                                            \
        for (int64_t r = 0; r < rows; ++r)                                                       \
            for (int64_t c = 0; c < columns; c += BLOCK) {                                       \
                const int width = columns - c < BLOCK ? (int)(columns - c) : BLOCK;              \
                const int64_t a_at = a_rows[r] + c * a_column, b_at = b_rows[r] + c * b_column;  \
                float *into = y + r * columns + c;                                               \
                if (width == BLOCK && a_column == 0 && b_column == 1)                            \
                    NAME##_lanes(BLOCK, terms, a, a_at, 0, b, b_at, 1, first, second, places,    \
                                 sums, into);                                                    \
                else                                                                             \
                    NAME##_lanes(width, terms, a, a_at, a_column, b, b_at, b_column, first, second,\
                                 places, sums, into);                                            \
            }                                                                                    \
    }

TREES(fused_tree, ONCE)
TREES(separate_tree, TWICE)

#else

typedef double Wides __attribute__((vector_size(8 * LANES)));
typedef int32_t Wholes __attribute__((vector_size(4 * LANES)));

#define NO_EXPONENT -900 /* below that of any product of two numbers other than zero */

static inline double power(int32_t exponent)
{
    return of_long_bits((int64_t)(exponent + 1023) << 52);
}

/* The exponent of a number other than zero, at least `least`, which is that of a normal number. */
static inline int32_t exponent_of(float v, int32_t least)
{
    const int32_t found = ((bits_of(v) >> 23) & 255) - 127;
    return found < least ? least : found;
}

/* Toward zero to binary32; the conversion of what is left is exact, or an infinity. */
static inline float truncated(double v)
{
    const double normal = of_long_bits(long_bits_of(v) & ~(((int64_t)1 << 29) - 1));
    const double subnormal = trunc(v * 0x1p149) * 0x1p-149;
    return (float)(fabs(v) < 0x1p-126 ? subnormal : normal);
}

/* One step: all products and the running sum y, truncated to multiples of 2^(e - alignment), where
   e is the largest exponent among them, then added exactly and truncated to binary32. Exact in
   binary64: the multiples are whole numbers below 2^(alignment + 2). Columns beyond `width` are
   computed with zeros. */
static inline __attribute__((always_inline)) void step(
    int width, int64_t terms, const float *const *a, int64_t a_at, int64_t a_column,
    const float *const *b, int64_t b_at, int64_t b_column, int32_t alignment, int32_t least,
    float *y)
{
    float u[LANES] = {0}, v[LANES] = {0}, w[LANES] = {0};
    Wholes largest = {0};
    Wides unit = {0}, whole = {0}, plain = {0}, back = {0};
    for (int j = 0; j < width; ++j) w[j] = y[j];
    for (int j = 0; j < LANES; ++j) {
        w[j] = OPERAND(w[j]);
        const int32_t own = exponent_of(w[j], -126);
        largest[j] = w[j] == 0.0f ? NO_EXPONENT : own;
    }
    for (int64_t k = 0; k < terms; ++k) {
        Wholes next = {0};
        for (int j = 0; j < width; ++j) u[j] = a[k][a_at + j * a_column];
        for (int j = 0; j < width; ++j) v[j] = b[k][b_at + j * b_column];
        for (int j = 0; j < LANES; ++j) {
            const float x = OPERAND(u[j]), z = OPERAND(v[j]);
            const int32_t sum = exponent_of(x, least) + exponent_of(z, least);
            const int32_t counted = (x == 0.0f) | (z == 0.0f) ? NO_EXPONENT : sum;
            next[j] = counted > largest[j] ? counted : largest[j];
        }
        largest = next;
    }
    for (int j = 0; j < LANES; ++j) {
        unit[j] = power(alignment - largest[j]);
        back[j] = power(largest[j] - alignment);
        plain[j] = w[j];
        whole[j] = 0.0 + trunc(plain[j] * unit[j]); /* never -0 */
    }
    for (int64_t k = 0; k < terms; ++k) {
        Wides product = {0}, cut = {0};
        for (int j = 0; j < width; ++j) u[j] = a[k][a_at + j * a_column];
        for (int j = 0; j < width; ++j) v[j] = b[k][b_at + j * b_column];
        for (int j = 0; j < LANES; ++j)
            product[j] = (double)OPERAND(u[j]) * (double)OPERAND(v[j]);
        for (int j = 0; j < LANES; ++j) cut[j] = trunc(product[j] * unit[j]);
        whole += cut;
        plain += product;
    }
    for (int j = 0; j < LANES; ++j) {
        const double sum = whole[j] * back[j];
        w[j] = RESULT(truncated(fabs(plain[j]) < INFINITY ? sum : plain[j]));
    }
    for (int j = 0; j < width; ++j) y[j] = w[j];
}

FOR_EVERY_PROCESSOR
void steps(int64_t rows, int64_t columns, int64_t terms,
           const float *const *a, const int64_t *a_rows, int64_t a_column,
           const float *const *b, const int64_t *b_rows, int64_t b_column,
           int32_t alignment, int32_t least, float *y)
{
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < columns; c += LANES) {
            const int width = columns - c < LANES ? (int)(columns - c) : LANES;
            const int64_t a_at = a_rows[r] + c * a_column, b_at = b_rows[r] + c * b_column;
            float *into = y + r * columns + c;
            if (width == LANES && a_column == 0 && b_column == 1)
                step(LANES, terms, a, a_at, 0, b, b_at, 1, alignment, least, into);
            else
                step(width, terms, a, a_at, a_column, b, b_at, b_column, alignment, least, into);
        }
}

#endif
