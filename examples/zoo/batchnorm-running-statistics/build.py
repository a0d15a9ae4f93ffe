"""BatchNormalization with the statistics of training against those of a fresh layer."""

from building import network


def normalized(mean: list[float], variance: list[float]):
    return network(
        "(float[1,2,2] x) => (float[1,2,2] y)",
        "y = BatchNormalization (x, scale, bias, mean, variance)",
        scale=[1.0, 0.5],
        bias=[0.0, 0.25],
        mean=mean,
        variance=variance,
    )


RIGHT = normalized([0.5, -0.25], [2.0, 0.5])
WRONG = normalized([0.0, 0.0], [1.0, 1.0])
