"""A step of a bias that is added to two rows: its gradient is the sum over the rows, or none."""

from building import network

SIGNATURE = "(float[2,2] upstream, float[2,2] x) => (float[2,2] y)"
STEP = " scaled = Mul(gradient, rate) moved = Sub(bias, scaled) y = Add(x, moved)"

RIGHT = network(
    SIGNATURE,
    "gradient = ReduceSum <keepdims = 1> (upstream, axes)" + STEP,
    axes=[0],
    bias=[[0.5, -0.5]],
    rate=0.125,
)
WRONG = network(SIGNATURE, "gradient = Identity(upstream)" + STEP, bias=[[0.5, -0.5]], rate=0.125)
