"""LayerNormalization against (x − mean)/√var."""

from building import network

SIGNATURE = "(float[1,2] x) => (float[1,2] y)"

RIGHT = network(SIGNATURE, "y = LayerNormalization <epsilon = 0.01> (x, scale)", scale=[1.0, 1.0])
WRONG = network(
    SIGNATURE,
    """
    mean = ReduceMean <axes = [1]> (x)
    centred = Sub(x, mean)
    square = Mul(centred, centred)
    variance = ReduceMean <axes = [1]> (square)
    deviation = Sqrt(variance)
    y = Div(centred, deviation)
    """,
)
