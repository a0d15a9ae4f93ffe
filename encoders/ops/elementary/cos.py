"""Cos: the cosine, as accurate as the contract says."""

from encoders.families.smooth import function_operator
from encoders.functions.waves import COS

OPERATORS = (function_operator("Cos", 7, COS),)
