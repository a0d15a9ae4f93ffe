"""Tanh: the hyperbolic tangent, as accurate as the contract says."""

from encoders.families.smooth import function_operator
from encoders.functions.tanh import TANH
from encoders.gradients.rule import unary

_GRADIENT = unary(lambda x, y, up: up * (1 - y * y))
OPERATORS = (function_operator("Tanh", 6, TANH).derived(_GRADIENT),)
