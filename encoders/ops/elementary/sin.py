"""Sin: the sine, as accurate as the contract says."""

from encoders.contract.functions import Function
from encoders.families.smooth import function_operator

OPERATORS = (function_operator("Sin", 7, Function.SIN),)
