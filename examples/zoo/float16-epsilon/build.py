"""x/√(x² + ε) in float16, with an ε that float16 holds and one that it does not."""

import numpy as np
from building import network


def normalized(epsilon: float):
    return network(
        "(float16[1,1] x) => (float16[1,1] y)",
        "square = Mul(x, x) raised = Add(square, epsilon) root = Sqrt(raised) y = Div(x, root)",
        epsilon=np.float16(epsilon),
    )


RIGHT, WRONG = normalized(0.0625), normalized(1e-8)
