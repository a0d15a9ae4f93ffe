"""The gradient of where(a ≤ 0, exp a, 1 + a): exp of min(a, 0), or of a."""

from building import network

SIGNATURE = "(float[1,1] upstream, float[1,1] a) => (float[1,1] gradient)"
BRANCHES = """
    left = LessOrEqual(a, zero)
    first = Where(left, upstream, zero)
    second = Where(left, zero, upstream)
"""
JOINED = " curved = Mul(first, power) gradient = Add(curved, second)"

RIGHT = network(SIGNATURE, BRANCHES + "below = Min(a, zero) power = Exp(below)" + JOINED, zero=0.0)
WRONG = network(SIGNATURE, BRANCHES + "power = Exp(a)" + JOINED, zero=0.0)
