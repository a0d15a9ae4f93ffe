"""Softplus: log(1 + e^x), as accurate as the contract says."""

from encoders.families.smooth import function_operator
from encoders.functions.softplus import SOFTPLUS

OPERATORS = (function_operator("Softplus", 1, SOFTPLUS),)
