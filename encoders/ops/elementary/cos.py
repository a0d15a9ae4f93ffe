"""Cos: the cosine, as accurate as the contract says."""

from encoders.contract.functions import Function
from encoders.families.smooth import function_operator

OPERATORS = (function_operator("Cos", 7, Function.COS),)
