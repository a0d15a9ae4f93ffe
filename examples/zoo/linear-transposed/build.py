"""x·Wᵀ against x·W, for a square W."""

from building import network


def linear(attributes: str):
    return network(
        "(float[1,2] x) => (float[1,2] y)",
        f"y = Gemm {attributes} (x, weight, bias)",
        weight=[[1.0, 2.0], [-0.5, 0.25]],
        bias=[0.5, -0.5],
    )


RIGHT, WRONG = linear("<transB = 1>"), linear("")
