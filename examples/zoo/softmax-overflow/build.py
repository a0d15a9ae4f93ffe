"""Softmax against exp(x)/Σexp(x)."""

from building import network

SIGNATURE = "(float[1,2] x) => (float[1,2] y)"

RIGHT = network(SIGNATURE, "y = Softmax <axis = 1> (x)")
WRONG = network(SIGNATURE, "e = Exp(x) sum = ReduceSum(e, axes) y = Div(e, sum)", axes=[1])
