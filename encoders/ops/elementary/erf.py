"""Erf: the error function, as accurate as the contract says."""

from encoders.families.smooth import function_operator
from encoders.functions.erf import ERF

OPERATORS = (function_operator("Erf", 9, ERF),)
