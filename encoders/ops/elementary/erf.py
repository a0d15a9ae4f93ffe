"""Erf: the error function, as accurate as the contract says."""

from encoders.contract.functions import Function
from encoders.families.smooth import function_operator

OPERATORS = (function_operator("Erf", 9, Function.ERF),)
