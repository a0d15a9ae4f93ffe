"""AveragePool over what is there against AveragePool that counts the zeros around it."""

from building import network


def averaged(counted: int):
    return network(
        "(float[1,1,3] x) => (float[1,1,3] y)",
        f"y = AveragePool <kernel_shape = [3], pads = [1, 1], count_include_pad = {counted}> (x)",
    )


RIGHT, WRONG = averaged(0), averaged(1)
