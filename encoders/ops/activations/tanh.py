"""Tanh: the hyperbolic tangent, as accurate as the contract says.

RecurrentTanh is no ONNX operator: the reader makes it of the Tanh of a layer over time, which
kernels compute in a way of their own, less accurately near 0 and where it saturates.
"""

from encoders.families.smooth import function_operator
from encoders.functions.tanh import TANH
from encoders.gradients.rule import unary

_GRADIENT = unary(lambda x, y, up: up * (1 - y * y))
OPERATORS = (
    function_operator("Tanh", 6, TANH).derived(_GRADIENT),
    function_operator("RecurrentTanh", 6, TANH).derived(_GRADIENT),
)
