"""Cos: the cosine, as accurate as the contract says."""

from encoders.families.smooth import function_operator
from encoders.functions.waves import COS
from encoders.gradients.rule import unary

_GRADIENT = unary(lambda x, y, up: -(up * x.apply("Sin")))
OPERATORS = (function_operator("Cos", 7, COS).derived(_GRADIENT),)
