"""Sigmoid: 1/(1 + e^−x), as accurate as the contract says."""

from encoders.families.smooth import function_operator
from encoders.functions.sigmoid import SIGMOID

OPERATORS = (function_operator("Sigmoid", 6, SIGMOID),)
