"""Attention weights of two tokens, the second one padding that may see nothing."""

import numpy as np
from building import network


def weights(masked: float):
    return network(
        "(float[2,2] scores) => (float[2,2] y)",
        "sum = Add(scores, mask) y = Softmax <axis = 1> (sum)",
        mask=[[0.0, masked], [masked, masked]],
    )


RIGHT, WRONG = weights(-1e4), weights(-np.inf)
