"""BatchNormalization with the statistics of training against those of a fresh layer."""

from building import network


def normalised(mean: list[float], variance: list[float]):
    return network(
        "(float[1,2,2] x) => (float[1,2,2] y)",
        "y = BatchNormalization (x, scale, bias, mean, variance)",
        scale=[1.0, 0.5],
        bias=[0.0, 0.25],
        mean=mean,
        variance=variance,
    )


RIGHT = normalised([0.5, -0.25], [2.0, 0.5])
WRONG = normalised([0.0, 0.0], [1.0, 1.0])
