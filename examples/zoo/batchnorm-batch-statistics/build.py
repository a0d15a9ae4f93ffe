"""BatchNormalization in inference against the mean and variance of the batch at hand."""

from building import network

SIGNATURE = "(float[2,2] x) => (float[2,2] y)"
EPSILON = 0.01

RIGHT = network(
    SIGNATURE,
    f"y = BatchNormalization <epsilon = {EPSILON}> (x, scale, bias, mean, variance)",
    scale=[1.0, 1.0],
    bias=[0.0, 0.0],
    mean=[0.25, -0.25],
    variance=[0.5, 1.0],
)
WRONG = network(
    SIGNATURE,
    """
    mean = ReduceMean <axes = [0]> (x)
    centred = Sub(x, mean)
    square = Mul(centred, centred)
    variance = ReduceMean <axes = [0]> (square)
    raised = Add(variance, epsilon)
    deviation = Sqrt(raised)
    y = Div(centred, deviation)
    """,
    epsilon=EPSILON,
)
