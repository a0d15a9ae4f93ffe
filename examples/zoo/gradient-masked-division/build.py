"""The gradient of a masked x/d by x: upstream·mask·(1/d), with and without a harmless divisor."""

from building import network

SIGNATURE = "(float[1,1] upstream, float[1,1] d) => (float[1,1] gradient)"
MASK = "kept = Greater(d, smallest) mask = Cast <to = 1> (kept) arrived = Mul(upstream, mask)"
SLOPE = " slope = Reciprocal({}) gradient = Mul(arrived, slope)"
SMALLEST = 0.125

RIGHT = network(
    SIGNATURE, MASK + " safe = Max(d, smallest)" + SLOPE.format("safe"), smallest=SMALLEST
)
WRONG = network(SIGNATURE, MASK + SLOPE.format("d"), smallest=SMALLEST)
