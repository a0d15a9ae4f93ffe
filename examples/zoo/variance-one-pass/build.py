"""E[(x − E[x])²] against E[x²] − E[x]², on numbers with a large mean."""

from building import network

SIGNATURE = "(float[1,4] x) => (float[1,1] y)"
MEAN = "mean = ReduceMean <axes = [1]> (x)"

RIGHT = network(
    SIGNATURE,
    MEAN + " centred = Sub(x, mean) square = Mul(centred, centred) "
    "y = ReduceMean <axes = [1]> (square)",
)
WRONG = network(
    SIGNATURE,
    MEAN + " square = Mul(x, x) squares = ReduceMean <axes = [1]> (square) "
    "meant = Mul(mean, mean) y = Sub(squares, meant)",
)
