"""Real semantics read in first-order forms, and in forms with derivatives.

`Forms` encloses an operator's value over many boxes; `Duals` encloses its partial derivatives with
respect to the operator's own inputs as well (forward differentiation, Wengert 1964). Over a box
that contains x and x̂, the mean value theorem makes f(x̂) − f(x) = Σ s_i·(x̂_i − x_i) with s_i among
the derivatives enclosed; at kinks the hull of the one-sided ones serves (Lebourg 1975).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray, object_array
from encoders.arithmetic.runtime import Relation
from encoders.functions.accuracy import Transcendental
from encoders.functions.curve import Number
from encoders.functions.function import Function
from encoders.numbers.enclosure import BoolArray, Interval
from encoders.numbers.formats import BINARY64, round_down, round_up
from encoders.relaxations.affine_forms import Form, choose, exactly, flat, hull
from onnx_import.graph import Array

Slope = Form | int  # exact 0 and 1 cost nothing


@dataclass(frozen=True, eq=False)
class Dual:
    """A value and its partial derivatives with respect to some arguments."""

    value: Form
    slopes: tuple[Slope, ...]

    def __neg__(self) -> Dual:
        return Dual(-self.value, tuple(-s for s in self.slopes))

    def __add__(self, other: Dual | int) -> Dual:
        if isinstance(other, np.ndarray):
            return NotImplemented
        if isinstance(other, int):
            return Dual(self.value + other, self.slopes)
        pairs = zip(self.slopes, other.slopes, strict=True)
        return Dual(self.value + other.value, tuple(plus(s, t) for s, t in pairs))

    def __radd__(self, other: int) -> Dual:
        return self + other

    def __sub__(self, other: Dual | int) -> Dual:
        if isinstance(other, np.ndarray):
            return NotImplemented
        return self + (-other)

    def __rsub__(self, other: int) -> Dual:
        return -self + other

    def __mul__(self, other: Dual | int) -> Dual:
        if isinstance(other, np.ndarray):
            return NotImplemented
        if isinstance(other, int):
            return Dual(self.value * other, tuple(times(s, other) for s in self.slopes))
        a, b = self.value, other.value
        pairs = zip(self.slopes, other.slopes, strict=True)
        return Dual(a * b, tuple(plus(times(s, b), times(t, a)) for s, t in pairs))

    def __rmul__(self, other: int) -> Dual:
        return self * other

    def __truediv__(self, other: Dual) -> Dual:
        if isinstance(other, np.ndarray):
            return NotImplemented
        quotient, inverse = self.value / other.value, other.value.reciprocal()
        pairs = zip(self.slopes, other.slopes, strict=True)
        return Dual(
            quotient,
            tuple(times(plus(s, times(-t, quotient)), inverse) for s, t in pairs),
        )

    def __rtruediv__(self, other: int) -> Dual:
        count = len(self.slopes)
        at = exactly(np.array([float(other)]), len(self.value.slope))
        return Dual(at, (0,) * count) / self

    def chained(self, value: Form, slope: Form) -> Dual:
        """A function of this one, by the chain rule."""
        return Dual(value, tuple(times(s, slope) for s in self.slopes))


def plus(a: Slope, b: Slope) -> Slope:
    """a + b; the integer 0 stands for an array of zeros that need not be made."""
    if isinstance(a, int) and a == 0:
        return b
    if isinstance(b, int) and b == 0:
        return a
    return a + b


def times(a: Slope, b: Slope) -> Slope:
    """a·b; the integers −1, 0 and 1 stand for arrays that need not be made."""
    for one, other in ((a, b), (b, a)):
        if isinstance(one, int) and one in (-1, 0, 1):
            return 0 if one == 0 else other if one == 1 else -other
    return a * b


@dataclass(frozen=True)
class Forms:
    """`Field` of forms over boxes of so many inputs. Integer steps have no form."""

    inputs: int

    @contextmanager
    def working(self) -> Iterator[None]:
        with np.errstate(all="ignore"):
            yield

    def constant(self, values: Array) -> ObjectArray:
        numbers = np.asarray(values, np.float64).reshape(-1, 1)
        items = [exactly(v, self.inputs) for v in numbers]
        return object_array(items, np.shape(values))[np.newaxis]

    def number(self, value: Fraction) -> Form:
        ends = round_down(value, BINARY64), round_up(value, BINARY64)
        lo, hi = (np.array([end]) for end in ends)
        return flat(Interval(lo, hi), self.inputs)

    def pi(self) -> Form:
        return Forms.number(self, Fraction(np.pi)).inflate(np.array([2.0**-51]))

    def maximum(self, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        return _each(_larger, a, b)

    def sqrt(self, a: ObjectArray) -> ObjectArray:
        return _each(Form.root, a)

    def function(self, f: Function, a: ObjectArray) -> ObjectArray:
        _ = f.shape
        return _each(lambda x: x.apply(f), a)

    def floor(self, a: ObjectArray) -> ObjectArray:
        raise Transcendental("a step has no first-order form")

    def nearest(self, a: ObjectArray) -> ObjectArray:
        raise Transcendental("a step has no first-order form")

    def compare(self, relation: Relation, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        return _each(lambda x, y: _compared(relation, x, y), a, b)

    def select(self, condition: ObjectArray, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        return _each(_selected, condition, a, b)

    def matmul(self, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        raise Transcendental("matrix products are not read in forms")


@dataclass(frozen=True)
class Duals(Forms):
    """`Field` of forms with derivatives with respect to `arguments` quantities."""

    arguments: int

    def constant(self, values: Array) -> ObjectArray:
        return _each(self._still, super().constant(values))

    def number(self, value: Fraction) -> Number:
        return self._still(super().number(value))

    def pi(self) -> Number:
        return self._still(super().pi())

    def argument(self, position: int, value: Form) -> Dual:
        """One of the quantities that derivatives are taken with respect to."""
        return Dual(value, tuple(int(i == position) for i in range(self.arguments)))

    def maximum(self, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        return _each(self._larger, a, b)

    def sqrt(self, a: ObjectArray) -> ObjectArray:
        def root(x: Dual) -> Dual:
            value = x.value.root()
            return x.chained(value, (value * 2).reciprocal())

        return _each(root, a)

    def function(self, f: Function, a: ObjectArray) -> ObjectArray:
        forms = Forms(self.inputs)
        values = forms.function(f, _each(lambda x: x.value, a))
        slope = f.shape.pieces[0].slope

        def chained(x: Dual, value: Form) -> Dual:
            (steepness,) = slope(forms, object_array([x.value], (1,)))
            return x.chained(value, steepness)

        return _each(chained, a, values)

    def compare(self, relation: Relation, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        def compared(x: Dual, y: Dual) -> Dual:
            value = _compared(relation, x.value, y.value)
            steady = value.lo == value.hi
            return Dual(value, tuple(self._if(steady, 0) for _ in range(self.arguments)))

        return _each(compared, a, b)

    def select(self, condition: ObjectArray, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        def selected(c: Dual, x: Dual, y: Dual) -> Dual:
            yes, no = c.value.lo > 0, c.value.hi <= 0
            pairs = zip(x.slopes, y.slopes, strict=True)
            chosen = (self._choose(yes, s, t) for s, t in pairs)
            value = _selected(c.value, x.value, y.value)
            return Dual(value, tuple(self._if(yes | no, s) for s in chosen))

        return _each(selected, condition, a, b)

    def _still(self, value: Form) -> Dual:
        return Dual(value, (0,) * self.arguments)

    def _larger(self, a: Dual, b: Dual) -> Dual:
        above, below = a.value.lo >= b.value.hi, b.value.lo >= a.value.hi
        slopes = []
        for s, t in zip(a.slopes, b.slopes, strict=True):
            both = hull(self._form(s), self._form(t))
            slopes.append(choose(above, self._form(s), choose(below, self._form(t), both)))
        return Dual(_larger(a.value, b.value), tuple(slopes))

    def _form(self, slope: Slope) -> Form:
        if isinstance(slope, int):
            return exactly(np.array([float(slope)]), self.inputs)
        return slope

    def _choose(self, at: BoolArray, a: Slope, b: Slope) -> Form:
        return choose(at, self._form(a), self._form(b))

    def _if(self, known: BoolArray, slope: Slope) -> Form:
        """The slope where it is known, else any."""
        infinite = np.array([np.inf])
        return self._choose(known, slope, flat(Interval(-infinite, infinite), self.inputs))


def _larger(a: Form, b: Form) -> Form:
    range_ = Interval(np.maximum(a.lo, b.lo), np.maximum(a.hi, b.hi))
    undecided = flat(range_, len(a.slope))
    return choose(a.lo >= b.hi, a, choose(b.lo >= a.hi, b, undecided))


def _compared(relation: Relation, a: Form, b: Form) -> Form:
    """1 where surely true, 0 where surely false, else somewhere between."""
    holds, fails = {
        Relation.LESS: (a.hi < b.lo, a.lo >= b.hi),
        Relation.AT_MOST: (a.hi <= b.lo, a.lo > b.hi),
        Relation.EQUAL: (
            (a.lo == a.hi) & (b.lo == b.hi) & (a.lo == b.lo),
            (a.hi < b.lo) | (b.hi < a.lo),
        ),
    }[relation]
    range_ = Interval(holds.astype(np.float64), 1.0 - fails.astype(np.float64))
    return flat(range_, len(a.slope))


def _selected(condition: Form, a: Form, b: Form) -> Form:
    yes, no = condition.lo > 0, condition.hi <= 0
    return choose(yes, a, choose(no, b, hull(a, b)))


def _each(f: Callable[..., object], *arrays: ObjectArray) -> ObjectArray:
    return np.asarray(np.frompyfunc(f, len(arrays), 1)(*arrays), dtype=object)
