"""Tan: the tangent. Nothing is known of it where a pole may be among its arguments."""

from encoders.families.smooth import function_operator
from encoders.functions.tan import TAN
from encoders.gradients.rule import unary

_GRADIENT = unary(lambda x, y, up: up * (y * y + 1))
OPERATORS = (function_operator("Tan", 7, TAN).derived(_GRADIENT),)
