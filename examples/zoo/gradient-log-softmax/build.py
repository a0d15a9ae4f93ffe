"""The gradient of log softmax: upstream − p·Σupstream, or by hand through log and softmax."""

from building import network

SIGNATURE = "(float[1,2] upstream, float[1,2] x) => (float[1,2] gradient)"
AXES = [1]

RIGHT = network(
    SIGNATURE,
    """
    p = Softmax <axis = 1> (x)
    sum = ReduceSum <keepdims = 1> (upstream, axes)
    drawn = Mul(p, sum)
    gradient = Sub(upstream, drawn)
    """,
    axes=AXES,
)
WRONG = network(
    SIGNATURE,
    """
    p = Softmax <axis = 1> (x)
    through = Div(upstream, p)
    weighed = Mul(through, p)
    sum = ReduceSum <keepdims = 1> (weighed, axes)
    apart = Sub(through, sum)
    gradient = Mul(p, apart)
    """,
    axes=AXES,
)
