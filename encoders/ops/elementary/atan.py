"""Atan: the inverse tangent, as accurate as the contract says."""

from encoders.families.smooth import function_operator
from encoders.functions.atan import ATAN

OPERATORS = (function_operator("Atan", 7, ATAN),)
