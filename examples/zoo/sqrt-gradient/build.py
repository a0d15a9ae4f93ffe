"""upstream/(2·√max(x, ε)) against upstream/(2·√x)."""

from building import network

SIGNATURE = "(float[1,1] upstream, float[1,1] x) => (float[1,1] gradient)"
GRADIENT = "twice = Mul(root, two) gradient = Div(upstream, twice)"

RIGHT = network(
    SIGNATURE,
    "positive = Max(x, epsilon) root = Sqrt(positive) " + GRADIENT,
    epsilon=1e-2,
    two=2.0,
)
WRONG = network(SIGNATURE, "root = Sqrt(x) " + GRADIENT, two=2.0)
