"""relu(x·W + x) against relu(x·W) + x."""

from building import network

SIGNATURE = "(float[1,2] x) => (float[1,2] y)"
WEIGHT = [[0.5, -1.0], [0.25, 0.75]]

RIGHT = network(SIGNATURE, "h = MatMul(x, weight) sum = Add(h, x) y = Relu(sum)", weight=WEIGHT)
WRONG = network(SIGNATURE, "h = MatMul(x, weight) bent = Relu(h) y = Add(bent, x)", weight=WEIGHT)
