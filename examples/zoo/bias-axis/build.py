"""A bias per row against the same numbers added per column."""

from building import network


def biased(bias: list):
    return network("(float[2,2] x) => (float[2,2] y)", "y = Add(x, bias)", bias=bias)


RIGHT, WRONG = biased([[1.0], [-0.5]]), biased([1.0, -0.5])
