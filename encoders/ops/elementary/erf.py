"""Erf: the error function, as accurate as the contract says."""

from fractions import Fraction

from encoders.families.smooth import function_operator
from encoders.functions.erf import ERF
from encoders.gradients.rule import Carried, Gradient, Reverse


def gradient(r: Reverse) -> Carried:
    scale = r.tape.root(Fraction(4), r.x.kind.dtype, pi=-1)
    return {0: r.up * ((-(r.x * r.x)).apply("Exp") * scale)}


OPERATORS = (function_operator("Erf", 9, ERF).derived(Gradient(rule=gradient)),)
