"""How accurately a runtime computes elementary functions: named tables of error bounds.

IEEE 754 fixes nothing here, so a contract has to say it. Measurements: onnxruntime 1.31.1, torch
2.13, numpy 2.4.6 and glibc 2.36 on x86-64, float32 (all inputs, or all of the interesting binades
and a sample of the rest); CUDA: the vendor's table plus half an ulp, since that table counts from
the correctly rounded result. In float16 the same numbers, in ulps of that format, hold of all
inputs on onnxruntime, torch and numpy (benchmarks/results/functions.json, which a test holds
against them). Of float64 they do not hold: there `WIDE` counts, from a sample of what onnxruntime
does, at least doubled.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from encoders.functions.accuracy import Evidence, FunctionAccuracy
from encoders.functions.function import SINGLE, Figures, Function
from encoders.functions.registry import every_function


@dataclass(frozen=True)
class Functions:
    """A named table: one accuracy per function, but another one inside the operators that `within`
    names."""

    name: str
    table: tuple[tuple[Function, FunctionAccuracy], ...]
    within: tuple[tuple[str, Function, FunctionAccuracy], ...] = ()

    def accuracy(self, function: Function) -> FunctionAccuracy:
        """Raises KeyError for a function that the table leaves out."""
        return dict(self.table)[function]

    def at(self, operator: str, digits: int) -> Functions:
        """The table that holds inside one operator in a format of so many digits; where the figure
        of a function says nothing of either, a conservative one. Where kernels of the operator are
        less accurate than the function's own, that counts too, whatever was measured of it."""
        inside = {f: a for op, f, a in self.within if op == operator}
        table = tuple((f, _at(f, inside.get(f, a), operator, digits)) for f, a in self.table)
        return self if table == self.table else Functions(self.name, table)


def _at(function: Function, a: FunctionAccuracy, operator: str, digits: int) -> FunctionAccuracy:
    found, apart = _said(function, a, operator, digits), dict(function.figures.apart).get(operator)
    if apart is None or found.evidence is Evidence.DEFINITION:
        return found
    return _either(function, found, apart if digits <= SINGLE else _doubled(apart))


def _either(function: Function, a: FunctionAccuracy, b: FunctionAccuracy) -> FunctionAccuracy:
    """What holds of a runtime that keeps to one of two accuracies, in units: of values of at most
    `largest` an ulp is no more than so many times two of these. It rests on the weaker evidence."""
    of_ulp = 2.0 * (math.inf if function.largest is None else max(function.largest, 1.0))
    units = (of_ulp * (v.ulps or 0.0) if v.units is None else v.units for v in (a, b))
    return FunctionAccuracy(
        None,
        max(units),
        max((a.evidence, b.evidence), key=tuple(Evidence).index),
        "; ".join(dict.fromkeys(v.source for v in (a, b) if v.source)),
        flushes=a.flushes or b.flushes,
        excess=max(a.excess, b.excess),
    )


def _said(function: Function, a: FunctionAccuracy, operator: str, digits: int) -> FunctionAccuracy:
    """What the figures of a function alone say of it inside an operator."""
    if a.digits is not None and digits > a.digits:
        return dict(WIDE.table)[function]
    if a.alone and operator != function.operator:
        return dict((CONSERVATIVE if digits <= SINGLE else WIDE).table)[function]
    return a


def _doubled(a: FunctionAccuracy) -> FunctionAccuracy:
    """For a format of more digits than it was measured in."""
    ulps, units = (None if n is None else 2 * n for n in (a.ulps, a.units))
    return replace(a, ulps=ulps, units=units, excess=2 * a.excess)


def _in_single(functions: Functions) -> Functions:
    table = tuple((f, replace(a, digits=SINGLE)) for f, a in functions.table)
    within = tuple((op, f, replace(a, digits=SINGLE)) for op, f, a in functions.within)
    return Functions(functions.name, table, within)


def _table(name: str, chosen: Callable[[Figures], FunctionAccuracy]) -> Functions:
    return _in_single(
        Functions(name, tuple((f, chosen(f.figures)) for f in every_function().values()))
    )


def _half_ulp() -> FunctionAccuracy:
    return FunctionAccuracy(0.5, None, Evidence.DEFINITION, "rounded correctly")


CORRECTLY_ROUNDED = Functions(
    "correctly-rounded", tuple((f, _half_ulp()) for f in every_function().values())
)
CONSERVATIVE = _table("conservative", lambda figures: figures.conservative)
WIDE = Functions("conservative", tuple((f, f.figures.wide) for f in every_function().values()))
ORT_FUNCTIONS = _in_single(
    Functions(
        "onnxruntime",
        tuple((f, f.figures.onnxruntime) for f in every_function().values()),
        tuple((op, f, a) for f in every_function().values() for op, a in f.figures.elsewhere),
    )
)
CUDA_FUNCTIONS = _table("cuda", lambda figures: figures.cuda)

TABLES = {t.name: t for t in (CORRECTLY_ROUNDED, CONSERVATIVE, ORT_FUNCTIONS, CUDA_FUNCTIONS)}
