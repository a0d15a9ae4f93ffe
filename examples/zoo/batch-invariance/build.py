"""The first row of a batch multiplied alone against the same row of the batch's product."""

from building import network

SIGNATURE = "(float[2,2] x, float[2,2] weight) => (float[1,2] y)"
ROW = {"first": [0], "second": [1]}

RIGHT = network(SIGNATURE, "row = Slice(x, first, second, first) y = MatMul(row, weight)", **ROW)
WRONG = network(
    SIGNATURE, "product = MatMul(x, weight) y = Slice(product, first, second, first)", **ROW
)
