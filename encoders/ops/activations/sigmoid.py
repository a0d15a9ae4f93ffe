"""Sigmoid: 1/(1 + e^−x), as accurate as the contract says.

RecurrentSigmoid is no ONNX operator: the reader makes it of the second activation of a GRU, which
kernels compute less accurately where it saturates.
"""

from encoders.families.smooth import function_operator
from encoders.functions.sigmoid import SIGMOID
from encoders.gradients.rule import unary

_GRADIENT = unary(lambda x, y, up: up * (1 - y) * y)
OPERATORS = (
    function_operator("Sigmoid", 6, SIGMOID).derived(_GRADIENT),
    function_operator("RecurrentSigmoid", 6, SIGMOID).derived(_GRADIENT),
)
