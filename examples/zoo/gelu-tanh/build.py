"""Gelu by erf against its tanh approximation."""

from building import network


def gelu(approximate: str):
    return network(
        "(float[1,1] x) => (float[1,1] y)",
        f'y = Gelu <approximate = "{approximate}"> (x)',
        opset=20,
    )


RIGHT, WRONG = gelu("none"), gelu("tanh")
