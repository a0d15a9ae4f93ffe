"""Sigmoid: 1/(1 + e^−x), as accurate as the contract says."""

from encoders.contract.functions import Function
from encoders.families.smooth import function_operator

OPERATORS = (function_operator("Sigmoid", 6, Function.SIGMOID),)
