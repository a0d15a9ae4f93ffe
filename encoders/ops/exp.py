"""Exp: e^x. Overflow of a result is excluded by its precondition on the range."""

from encoders.functions import Function
from encoders.smooth import function_operator

OPERATORS = (function_operator("Exp", 6, Function.EXP),)
