"""Softplus: log(1 + e^x), as accurate as the contract says."""

from __future__ import annotations

from encoders.families.smooth import function_operator
from encoders.functions.softplus import SOFTPLUS
from encoders.gradients.rule import unary
from encoders.gradients.tape import Term


def _thresholded(x: Term, y: Term, up: Term) -> Term:
    z = x.apply("Exp")
    return (x > 20).chosen(up, up * z / (z + 1))


_GRADIENT = unary(lambda x, y, up: up * x.apply("Sigmoid"), frameworks={"torch": _thresholded})
OPERATORS = (function_operator("Softplus", 1, SOFTPLUS).derived(_GRADIENT),)
