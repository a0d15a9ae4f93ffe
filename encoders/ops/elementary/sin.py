"""Sin: the sine, as accurate as the contract says."""

from encoders.families.smooth import function_operator
from encoders.functions.waves import SIN
from encoders.gradients.rule import unary

_GRADIENT = unary(lambda x, y, up: up * x.apply("Cos"))
OPERATORS = (function_operator("Sin", 7, SIN).derived(_GRADIENT),)
