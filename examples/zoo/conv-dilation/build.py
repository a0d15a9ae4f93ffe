"""A dilated Conv against the same one without dilation, each padded to the shape of its input."""

from building import network


def convolution(dilation: int):
    return network(
        "(float[1,1,5] x) => (float[1,1,5] y)",
        f"y = Conv <pads = [{dilation}, {dilation}], dilations = [{dilation}]> (x, weight)",
        weight=[[[0.5, 1.0, -0.25]]],
    )


RIGHT, WRONG = convolution(2), convolution(1)
