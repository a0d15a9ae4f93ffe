"""Sinh, Cosh, Asinh, Acosh, Atanh: hyperbolic functions and their inverses.

Acosh takes arguments of at least 1, Atanh such between −1 and 1, in every execution.
"""

from encoders.families.smooth import function_operator
from encoders.functions.hyperbolic import ACOSH, ASINH, ATANH, COSH, SINH
from encoders.gradients.rule import unary
from encoders.traits import Breaks

_GROWS = Breaks(growing=0)
_SINH = unary(lambda x, y, up: up * x.apply("Cosh"))
_COSH = unary(lambda x, y, up: up * x.apply("Sinh"))
_ASINH = unary(lambda x, y, up: up / (x * x + 1).apply("Sqrt"))
_ACOSH = unary(lambda x, y, up: up / ((x - 1) * (x + 1)).apply("Sqrt"))
_ATANH = unary(lambda x, y, up: -up / ((x - 1) * (x + 1)))
OPERATORS = (
    function_operator("Sinh", 9, SINH, breaks=_GROWS).derived(_SINH),
    function_operator("Cosh", 9, COSH, breaks=_GROWS).derived(_COSH),
    function_operator("Asinh", 9, ASINH).derived(_ASINH),
    function_operator("Acosh", 9, ACOSH).derived(_ACOSH),
    function_operator("Atanh", 9, ATANH).derived(_ATANH),
)
