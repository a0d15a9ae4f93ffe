"""mask·(a/b) against mask·(a/(b + ε))."""

from building import network

SIGNATURE = "(float[1,2] a, float[1,2] b) => (float[1,2] y)"
MASK = [[1.0, 0.0]]

RIGHT = network(SIGNATURE, "ratio = Div(a, b) y = Mul(mask, ratio)", mask=MASK)
WRONG = network(
    SIGNATURE,
    "raised = Add(b, epsilon) ratio = Div(a, raised) y = Mul(mask, ratio)",
    mask=MASK,
    epsilon=1e-3,
)
