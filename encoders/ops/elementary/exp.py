"""Exp: e^x. Overflow of a result is excluded by its precondition on the range."""

from encoders.families.smooth import function_operator
from encoders.functions.exp import EXP
from encoders.traits import Breaks

OPERATORS = (function_operator("Exp", 6, EXP, breaks=Breaks(growing=0)),)
