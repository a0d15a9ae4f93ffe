"""The gradient of a normalisation by its scale: over √(variance + ε), or over √variance + ε."""

from building import network

SIGNATURE = "(float[1,4] upstream, float[1,4] x) => (float[1,4] gradient)"
STATISTICS = """
    mean = ReduceMean <axes = [1], keepdims = 1> (x)
    centred = Sub(x, mean)
    squares = Mul(centred, centred)
    variance = ReduceMean <axes = [1], keepdims = 1> (squares)
"""
SLOPE = " slope = Div(centred, deviation) gradient = Mul(upstream, slope)"
EPSILON = 1e-2

RIGHT = network(
    SIGNATURE,
    STATISTICS + "raised = Add(variance, epsilon) deviation = Sqrt(raised)" + SLOPE,
    epsilon=EPSILON,
)
WRONG = network(
    SIGNATURE,
    STATISTICS + "root = Sqrt(variance) deviation = Add(root, epsilon)" + SLOPE,
    epsilon=EPSILON,
)
