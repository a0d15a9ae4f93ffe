"""LogSoftmax against Log of Softmax."""

from building import network

SIGNATURE = "(float[1,2] x) => (float[1,2] y)"

RIGHT = network(SIGNATURE, "y = LogSoftmax <axis = 1> (x)")
WRONG = network(SIGNATURE, "p = Softmax <axis = 1> (x) y = Log(p)")
