"""Tanh: the hyperbolic tangent, as accurate as the contract says."""

from encoders.families.smooth import function_operator
from encoders.functions.tanh import TANH

OPERATORS = (function_operator("Tanh", 6, TANH),)
