"""a/(max(b, 0) + ε) against a/(b + ε)."""

from building import network

SIGNATURE = "(float[1,1] a, float[1,1] b) => (float[1,1] y)"

RIGHT = network(
    SIGNATURE,
    "positive = Relu(b) raised = Add(positive, epsilon) y = Div(a, raised)",
    epsilon=0.1,
)
WRONG = network(SIGNATURE, "raised = Add(b, epsilon) y = Div(a, raised)", epsilon=0.1)
