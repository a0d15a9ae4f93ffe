"""Sigmoid: 1/(1 + e^−x), as accurate as the contract says."""

from encoders.families.smooth import function_operator
from encoders.functions.sigmoid import SIGMOID
from encoders.gradients.rule import unary

_GRADIENT = unary(lambda x, y, up: up * (1 - y) * y)
OPERATORS = (function_operator("Sigmoid", 6, SIGMOID).derived(_GRADIENT),)
