"""Exp: e^x. Overflow of a result is excluded by its precondition on the range."""

from encoders.contract.functions import Function
from encoders.families.smooth import function_operator

OPERATORS = (function_operator("Exp", 6, Function.EXP),)
