// One tile on the tensor cores of a card: d = a b + c with a 16 x terms, b terms x 16, c and d
// 16 x 16. a is row-major, b column-major; c and d are float32 and row-major; terms is a multiple
// of the length of an instruction. One warp. The sum goes from one instruction to the next in the
// registers of d; where numbers lie in registers is the business of PTX's wmma instructions.

#define FOUR(F) F(0), F(1), F(2), F(3)
#define EIGHT(F) FOUR(F), F(4), F(5), F(6), F(7)
#define NAMES_4(A, B, C, D) "{%" #A ", %" #B ", %" #C ", %" #D "}"
#define NAMES_8(A, B, C, D, E, F, G, H)                                                   \
    "{%" #A ", %" #B ", %" #C ", %" #D ", %" #E ", %" #F ", %" #G ", %" #H "}"
#define SUMS NAMES_8(0, 1, 2, 3, 4, 5, 6, 7)

#define WRITES_D(i) "=f"(d[i])
#define READS_D(i) "f"(d[i])
#define CHANGES_D(i) "+f"(d[i])
#define WRITES_X(i) "=r"(x[i])
#define READS_X(i) "r"(x[i])
#define WRITES_Z(i) "=r"(z[i])
#define READS_Z(i) "r"(z[i])

// LOADED: operands of a load of REGISTERS registers; FACTORS: their names in the product.
#define TILE(NAME, TYPE, SHAPE, STEP, KIND, KINDS, REGISTERS, ALL, LOADED, FACTORS)           \
    extern "C" __global__ void NAME(const TYPE* a, const TYPE* b, const float* c, float* out, \
                                    int terms) {                                              \
        float d[8];                                                                           \
        asm volatile("wmma.load.c.sync.aligned.row." SHAPE ".f32 " SUMS ", [%8], 16;"         \
                     : EIGHT(WRITES_D) : "l"(c) : "memory");                                  \
        for (int k = 0; k < terms; k += STEP) {                                               \
            unsigned x[REGISTERS], z[REGISTERS];                                              \
            asm volatile("wmma.load.a.sync.aligned.row." SHAPE KIND LOADED                    \
                         : ALL(WRITES_X) : "l"(a + k), "r"(terms) : "memory");                \
            asm volatile("wmma.load.b.sync.aligned.col." SHAPE KIND LOADED                    \
                         : ALL(WRITES_Z) : "l"(b + k), "r"(terms) : "memory");                \
            asm volatile("wmma.mma.sync.aligned.row.col." SHAPE KINDS                         \
                         SUMS ", " FACTORS ", " SUMS ";"                                      \
                         : EIGHT(CHANGES_D) : ALL(READS_X), ALL(READS_Z));                    \
        }                                                                                     \
        asm volatile("wmma.store.d.sync.aligned.row." SHAPE ".f32 [%8], " SUMS ", 16;"        \
                     :: EIGHT(READS_D), "l"(out) : "memory");                                 \
    }

#define LOADED_8 SUMS ", [%8], %9;"
#define LOADED_4 NAMES_4(0, 1, 2, 3) ", [%4], %5;"
#define FACTORS_8 \
    NAMES_8(8, 9, 10, 11, 12, 13, 14, 15) ", " NAMES_8(16, 17, 18, 19, 20, 21, 22, 23)
#define FACTORS_4 NAMES_4(8, 9, 10, 11) ", " NAMES_4(12, 13, 14, 15)

TILE(tile_float16, unsigned short, "m16n16k16", 16, ".f16 ", ".f32.f32 ", 8, EIGHT, LOADED_8,
     FACTORS_8)
TILE(tile_bfloat16, unsigned short, "m16n16k16", 16, ".bf16 ", ".f32.bf16.bf16.f32 ", 4, FOUR,
     LOADED_4, FACTORS_4)
TILE(tile_tf32, float, "m16n16k8", 8, ".tf32 ", ".f32.tf32.tf32.f32 ", 4, FOUR, LOADED_4,
     FACTORS_4)
