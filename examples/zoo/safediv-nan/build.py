"""mask·(a/max(b, smallest)) against mask·(a/b), where the mask says b > smallest."""

from building import network

SIGNATURE = "(float[1,1] a, float[1,1] b) => (float[1,1] y)"
MASK = "valid = Greater(b, smallest) mask = Cast <to = 1> (valid)"
SMALLEST = 0.125

RIGHT = network(
    SIGNATURE,
    MASK + " harmless = Max(b, smallest) ratio = Div(a, harmless) y = Mul(mask, ratio)",
    smallest=SMALLEST,
)
WRONG = network(SIGNATURE, MASK + " ratio = Div(a, b) y = Mul(mask, ratio)", smallest=SMALLEST)
