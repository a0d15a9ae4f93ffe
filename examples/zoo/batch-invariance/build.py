"""x·W by products and sums, each row on its own, against MatMul; W is no stored tensor.

onnxruntime packs stored weights, and then all rows run one kernel.
"""

from building import network

SIGNATURE = "(float[N,2] x) => (float[N,2] y)"
MINUS = [[0.3, -0.7], [-0.9, 0.1]]

RIGHT = network(
    SIGNATURE,
    """
    weight = Neg(minus)
    wide = Unsqueeze(x, axis)
    products = Mul(wide, weight)
    y = ReduceSum <keepdims = 0> (products, last)
    """,
    minus=list(zip(*MINUS, strict=True)),
    axis=[1],
    last=[2],
)
WRONG = network(SIGNATURE, "weight = Neg(minus) y = MatMul(x, weight)", minus=MINUS)
