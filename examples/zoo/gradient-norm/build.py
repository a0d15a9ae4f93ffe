"""upstream·x/√(Σx² + ε) against upstream·x/√(Σx²)."""

from building import network

SIGNATURE = "(float[1,1] upstream, float[1,2] x) => (float[1,2] gradient)"
SQUARES = "squares = Mul(x, x) sum = ReduceSum <keepdims = 1> (squares, axes)"
SLOPE = " norm = Sqrt({}) scaled = Mul(x, upstream) gradient = Div(scaled, norm)"
AXES = [1]

RIGHT = network(
    SIGNATURE,
    SQUARES + " raised = Add(sum, epsilon)" + SLOPE.format("raised"),
    axes=AXES,
    epsilon=1e-2,
)
WRONG = network(SIGNATURE, SQUARES + SLOPE.format("sum"), axes=AXES)
