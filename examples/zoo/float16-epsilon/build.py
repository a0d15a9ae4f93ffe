"""x/√(x² + ε) in float16, with an ε that float16 holds and one that it does not."""

import numpy as np
from building import network


def normalised(epsilon: float):
    return network(
        "(float16[1,1] x) => (float16[1,1] y)",
        "square = Mul(x, x) raised = Add(square, epsilon) root = Sqrt(raised) y = Div(x, root)",
        epsilon=np.float16(epsilon),
    )


RIGHT, WRONG = normalised(0.0625), normalised(1e-8)
