"""Exp: e^x. Overflow of a result is excluded by its precondition on the range."""

from encoders.families.smooth import function_operator
from encoders.functions.exp import EXP
from encoders.gradients.rule import unary
from encoders.traits import Breaks

_GRADIENT = unary(lambda x, y, up: up * y)
OPERATORS = (function_operator("Exp", 6, EXP, breaks=Breaks(growing=0)).derived(_GRADIENT),)
