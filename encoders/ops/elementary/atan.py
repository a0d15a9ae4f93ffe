"""Atan: the inverse tangent, as accurate as the contract says."""

from encoders.families.smooth import function_operator
from encoders.functions.atan import ATAN
from encoders.gradients.rule import unary

_GRADIENT = unary(lambda x, y, up: up / (x * x + 1))
OPERATORS = (function_operator("Atan", 7, ATAN).derived(_GRADIENT),)
