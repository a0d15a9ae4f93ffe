"""A padded MaxPool against MaxPool over an input padded with zeros."""

from building import network

SIGNATURE = "(float[1,1,3] x) => (float[1,1,3] y)"

RIGHT = network(SIGNATURE, "y = MaxPool <kernel_shape = [3], pads = [1, 1]> (x)")
WRONG = network(
    SIGNATURE, "padded = Pad(x, pads) y = MaxPool <kernel_shape = [3]> (padded)", pads=[0, 0, 1] * 2
)
