"""BatchNormalization against (x − mean)/(√var + ε), over a channel with a small variance."""

from building import network

MEAN, VARIANCE, EPSILON = [[0.5, -0.25], [1.0, 0.0001], 1e-3]
SIGNATURE = "(float[1,2,1] x) => (float[1,2,1] y)"

RIGHT = network(
    SIGNATURE,
    f"y = BatchNormalization <epsilon = {EPSILON}> (x, scale, bias, mean, variance)",
    scale=[1.0, 1.0],
    bias=[0.0, 0.0],
    mean=MEAN,
    variance=VARIANCE,
)
WRONG = network(
    SIGNATURE,
    "centred = Sub(x, mean) root = Sqrt(variance) deviation = Add(root, epsilon)"
    "y = Div(centred, deviation)",
    mean=[[[m] for m in MEAN]],
    variance=[[[v] for v in VARIANCE]],
    epsilon=EPSILON,
)
