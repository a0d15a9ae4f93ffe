"""x·W with int8 weights around a zero point of 3 against 4."""

import numpy as np
from building import network


def dequantized(zero: int):
    return network(
        "(float[1,2] x) => (float[1,2] y)",
        "weight = DequantizeLinear(q, scale, zero) y = MatMul(x, weight)",
        q=np.array([[-128, 127], [3, 40]], np.int8),
        scale=0.0078125,
        zero=np.int8(zero),
    )


RIGHT, WRONG = dequantized(3), dequantized(4)
