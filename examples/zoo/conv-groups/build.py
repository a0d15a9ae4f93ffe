"""A depthwise Conv against a dense one with its weights repeated."""

from building import network

SIGNATURE = "(float[1,2,2] x) => (float[1,2,2] y)"

RIGHT = network(SIGNATURE, "y = Conv <group = 2> (x, weight)", weight=[[[1.0]], [[-0.5]]])
WRONG = network(SIGNATURE, "y = Conv (x, weight)", weight=[[[1.0], [1.0]], [[-0.5], [-0.5]]])
