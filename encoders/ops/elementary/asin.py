"""Asin and Acos: the inverse sine and cosine, of arguments from −1 to 1 in every execution."""

from encoders.families.smooth import function_operator
from encoders.functions.asin import ACOS, ASIN
from encoders.gradients.rule import unary
from encoders.gradients.tape import Term


def _steepness(x: Term) -> Term:
    """√(1 − x²), which is 0 at both ends."""
    return (-((x - 1) * (x + 1))).apply("Sqrt")


OPERATORS = (
    function_operator("Asin", 7, ASIN).derived(unary(lambda x, y, up: up / _steepness(x))),
    function_operator("Acos", 7, ACOS).derived(unary(lambda x, y, up: -up / _steepness(x))),
)
