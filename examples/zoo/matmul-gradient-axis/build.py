"""The gradient of y = x·W by x: upstream·Wᵀ against upstream·W, for a square W."""

from building import network


def gradient(attributes: str):
    return network(
        "(float[2,2] upstream) => (float[2,2] gradient)",
        f"gradient = Gemm {attributes} (upstream, weight)",
        weight=[[1.0, 2.0], [-0.5, 0.25]],
    )


RIGHT, WRONG = gradient("<transB = 1>"), gradient("")
