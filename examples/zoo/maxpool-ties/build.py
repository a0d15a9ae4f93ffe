"""The gradient of a maximum of two: to the first of equals, or to both."""

from building import network

SIGNATURE = "(float[1,1] upstream, float[1,1] a, float[1,1] b) => (float[1,2] gradient)"
BOTH = """
    to_a = Where(is_a, upstream, zero)
    to_b = Where(is_b, upstream, zero)
    gradient = Concat <axis = 1> (to_a, to_b)
"""

RIGHT = network(SIGNATURE, "is_a = GreaterOrEqual(a, b) is_b = Greater(b, a)" + BOTH, zero=0.0)
WRONG = network(
    SIGNATURE, "most = Max(a, b) is_a = Equal(a, most) is_b = Equal(b, most)" + BOTH, zero=0.0
)
