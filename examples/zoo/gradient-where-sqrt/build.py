"""The gradient of where(x > smallest, √x, 0): the root of max(x, smallest), or of x."""

from building import network

SIGNATURE = "(float[1,1] upstream, float[1,1] x) => (float[1,1] gradient)"
MASK = "kept = Greater(x, smallest) arrived = Where(kept, upstream, zero)"
SLOPE = " root = Sqrt({}) twice = Mul(root, two) gradient = Div(arrived, twice)"
SMALLEST = 0.0625

RIGHT = network(
    SIGNATURE,
    MASK + " safe = Max(x, smallest)" + SLOPE.format("safe"),
    smallest=SMALLEST,
    zero=0.0,
    two=2.0,
)
WRONG = network(SIGNATURE, MASK + SLOPE.format("x"), smallest=SMALLEST, zero=0.0, two=2.0)
