"""LayerNormalization with ε = 1e-5 against 1e-6, on rows of small variance."""

from building import network


def normalized(epsilon: str):
    return network(
        "(float[1,3] x) => (float[1,3] y)",
        f"y = LayerNormalization <epsilon = {epsilon}> (x, scale)",
        scale=[1.0, 1.0, 1.0],
    )


RIGHT, WRONG = normalized("0.00001"), normalized("0.000001")
