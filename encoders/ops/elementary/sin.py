"""Sin: the sine, as accurate as the contract says."""

from encoders.families.smooth import function_operator
from encoders.functions.waves import SIN

OPERATORS = (function_operator("Sin", 7, SIN),)
