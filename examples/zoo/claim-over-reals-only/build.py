"""The variance as the mean of squared deviations, and as E(x²) − E(x)²."""

from building import network

DEVIATIONS = network(
    "(float[1,4] x) => (float[1,1] variance)",
    """mean = ReduceMean <axes = [1]> (x) away = Sub(x, mean) squares = Mul(away, away)
    variance = ReduceMean <axes = [1]> (squares)""",
)
MOMENTS = network(
    "(float[1,4] x) => (float[1,1] variance)",
    """mean = ReduceMean <axes = [1]> (x) squares = Mul(x, x)
    second = ReduceMean <axes = [1]> (squares) square = Mul(mean, mean)
    variance = Sub(second, square)""",
)
RIGHT, WRONG = DEVIATIONS, MOMENTS
