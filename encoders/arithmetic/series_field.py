"""Power series over balls: the derivatives of a formula, enclosed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import flint
import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray, Rationals, object_array
from encoders.arithmetic.runtime import Relation
from encoders.functions.accuracy import Transcendental
from encoders.functions.function import Function

_BITS = 96


class Smooth:
    """What a `Field` of numbers with derivatives refuses: what has none, and sums of rows."""

    def floor(self, a: ObjectArray) -> ObjectArray:
        raise Transcendental("a step has no derivative")

    def nearest(self, a: ObjectArray) -> ObjectArray:
        raise Transcendental("a step has no derivative")

    def compare(self, relation: Relation, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        raise Transcendental("a comparison has no derivative")

    def select(self, condition: ObjectArray, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        raise Transcendental("a choice has no derivative")

    def matmul(self, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        raise Transcendental("a sum is no formula of one number")


class SeriesField(Smooth):
    """`Field` of power series over balls, cut after `order` coefficients, with the functions that
    have one. A computation belongs inside `with field.working():`."""

    def __init__(self, order: int) -> None:
        self.order = order

    @contextmanager
    def working(self) -> Iterator[None]:
        before, cap = flint.ctx.prec, flint.ctx.cap
        flint.ctx.prec, flint.ctx.cap = _BITS, self.order
        try:
            yield
        finally:
            flint.ctx.prec, flint.ctx.cap = before, cap

    def around(self, middle: flint.arb, width: float = 1.0) -> flint.arb_series:
        """middle + width·t, of which formulas are taken."""
        return flint.arb_series([middle, flint.arb(width)], prec=self.order)

    def constant(self, values: Any) -> ObjectArray:
        rational = Rationals().constant(values)
        items = (self._number(v) for v in rational.ravel().tolist())
        return object_array(items, rational.shape)

    def number(self, value: Fraction) -> flint.arb_series:
        return self._number(flint.fmpq(value.numerator, value.denominator))

    def _number(self, value: flint.fmpq) -> flint.arb_series:
        return flint.arb_series([flint.arb(value)], prec=self.order)

    def maximum(self, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        raise Transcendental("a maximum has no power series")

    def sqrt(self, a: ObjectArray) -> ObjectArray:
        return object_array((v.sqrt() for v in np.ravel(a).tolist()), np.shape(a))

    def pi(self) -> flint.arb_series:
        return flint.arb_series([flint.arb.pi()], prec=self.order)

    def function(self, f: Function, a: ObjectArray) -> ObjectArray:
        if f.series is None:
            raise Transcendental(f"{f.name} has no power series here")
        return object_array((f.series(v) for v in np.ravel(a).tolist()), np.shape(a))
