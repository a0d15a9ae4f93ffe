"""x·(scale·(q − zero point)) with a zero point of 3 against 4."""

from building import network


def dequantised(zero: float):
    return network(
        "(float[1,2] x) => (float[1,2] y)",
        """
        shifted = Sub(q, zero)
        weight = Mul(shifted, scale)
        y = MatMul(x, weight)
        """,
        q=[[-128.0, 127.0], [3.0, 40.0]],
        zero=zero,
        scale=0.0078125,
    )


RIGHT, WRONG = dequantised(3.0), dequantised(4.0)
