"""Jets: numbers with a derivative along one direction, over balls or over Z3's real terms.

The real semantics of a graph, run over jets, gives its derivative along a direction by the chain
rule alone. It knows nothing of the rules of gradients, which are held to it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import flint
import numpy as np

from encoders.arithmetic.exact_fields import Balls, ObjectArray, object_array
from encoders.arithmetic.real_terms import RealTerms
from encoders.arithmetic.runtime import Relation
from encoders.functions.accuracy import Transcendental
from encoders.functions.function import Function
from onnx_import.graph import Array

Base = Any
"""A ball or a term of Z3."""


@dataclass(frozen=True, eq=False)
class Jet:
    """value + tangent·t, to first order in t. `jets` keeps the divisors that were met.

    Beside an array it leaves the computation to that, element by element.
    """

    value: Base
    tangent: Base
    jets: Jets

    def __add__(self, other: Any) -> Any:
        if isinstance(other, np.ndarray):
            return NotImplemented
        b = self.jets.jet(other)
        return Jet(self.value + b.value, self.tangent + b.tangent, self.jets)

    def __sub__(self, other: Any) -> Any:
        if isinstance(other, np.ndarray):
            return NotImplemented
        b = self.jets.jet(other)
        return Jet(self.value - b.value, self.tangent - b.tangent, self.jets)

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, np.ndarray):
            return NotImplemented
        b = self.jets.jet(other)
        tangent = self.tangent * b.value + self.value * b.tangent
        return Jet(self.value * b.value, tangent, self.jets)

    def __truediv__(self, other: Any) -> Any:
        if isinstance(other, np.ndarray):
            return NotImplemented
        b = self.jets.jet(other)
        self.jets.divisors.append(b.value)
        tangent = (self.tangent * b.value - self.value * b.tangent) / (b.value * b.value)
        return Jet(self.value / b.value, tangent, self.jets)

    def __neg__(self) -> Jet:
        return Jet(-self.value, -self.tangent, self.jets)

    def __radd__(self, other: Any) -> Any:
        return self.jets.jet(other) + self

    def __rsub__(self, other: Any) -> Any:
        return self.jets.jet(other) - self

    def __rmul__(self, other: Any) -> Any:
        return self.jets.jet(other) * self

    def __rtruediv__(self, other: Any) -> Any:
        return self.jets.jet(other) / self


_values = np.frompyfunc(operator.attrgetter("value"), 1, 1)
_tangents = np.frompyfunc(operator.attrgetter("tangent"), 1, 1)


@dataclass(eq=False)
class Jets:
    """`Field` of jets over another field.

    `divisors` are the values that were divided by, `roots` those of which a root was taken,
    `compared` the pairs that were compared or of which the larger was taken: where two are equal a
    derivative may not exist.
    """

    base: Balls | RealTerms
    divisors: list[Base] = field(default_factory=list)
    roots: list[Base] = field(default_factory=list)
    compared: list[tuple[Base, Base]] = field(default_factory=list)

    def working(self) -> AbstractContextManager[None]:
        """What a computation needs around itself."""
        return self.base.working() if isinstance(self.base, Balls) else _nothing()

    def jet(self, number: Any) -> Jet:
        """A jet as it is; a number of Python, of FLINT or of the field as one that is constant."""
        if isinstance(number, Jet):
            return number
        if isinstance(self.base, Balls) and not isinstance(number, flint.arb):
            number = flint.arb(number)
        return Jet(number, self._zero(), self)

    def of(self, values: ObjectArray, tangents: ObjectArray) -> ObjectArray:
        """Jets of values with their tangents, arrays of one shape."""
        pairs = zip(values.ravel().tolist(), tangents.ravel().tolist(), strict=True)
        return object_array((Jet(v, t, self) for v, t in pairs), values.shape)

    def parts(self, jets: ObjectArray) -> tuple[ObjectArray, ObjectArray]:
        """Values and tangents."""
        whole = self._whole(jets)
        return np.asarray(_values(whole), object), np.asarray(_tangents(whole), object)

    def constant(self, values: Array) -> ObjectArray:
        return self._whole(self.base.constant(values))

    def number(self, value: Fraction) -> Any:
        number = self.base.number(value)
        return self.jet(number.item() if isinstance(number, np.ndarray) else number)

    def maximum(self, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        a, b = np.broadcast_arrays(self._whole(a), self._whole(b))
        below = self.compare(Relation.LESS, a, b)
        return self.select(below, b, a)

    def sqrt(self, a: ObjectArray) -> ObjectArray:
        values, tangents = self.parts(np.asarray(a))
        roots = self.base.sqrt(values)
        self.roots += values.ravel().tolist()
        return self.of(roots, np.asarray(tangents / (roots + roots), object))

    def floor(self, a: ObjectArray) -> ObjectArray:
        return self._whole(self.base.floor(self.parts(a)[0]))

    def nearest(self, a: ObjectArray) -> ObjectArray:
        return self._whole(self.base.nearest(self.parts(a)[0]))

    def compare(self, relation: Relation, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        left, right = np.broadcast_arrays(self.parts(a)[0], self.parts(b)[0])
        self.compared += zip(left.ravel().tolist(), right.ravel().tolist(), strict=True)
        return self._whole(self.base.compare(relation, left, right))

    def select(self, condition: ObjectArray, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        chosen = np.broadcast_arrays(condition, self._whole(a), self._whole(b))
        holds = self.parts(chosen[0])[0]
        both = zip(self.parts(chosen[1]), self.parts(chosen[2]), strict=True)
        values, tangents = (self.base.select(holds, yes, no) for yes, no in both)
        return self.of(values, tangents)

    def pi(self) -> Any:
        return self.jet(self.base.pi())

    def function(self, f: Function, a: ObjectArray) -> ObjectArray:
        """By the function's power series over balls; by its curve's slope where it has none."""
        if not isinstance(self.base, Balls):
            raise Transcendental(f"Z3 has no term for {f.name}")
        values, tangents = self.parts(np.asarray(a))
        with self.base.working():
            slope = _slope_of(f, self.base)
            slopes = object_array((slope(v) for v in values.ravel().tolist()), values.shape)
        results = self.base.function(f, values)
        return self.of(results, np.asarray(slopes * tangents, object))

    def matmul(self, a: ObjectArray, b: ObjectArray) -> ObjectArray:
        (x, dx), (y, dy) = self.parts(a), self.parts(b)
        tangents = self.base.matmul(dx, y) + self.base.matmul(x, dy)
        return self.of(self.base.matmul(x, y), tangents)

    def _zero(self) -> Base:
        zero = self.base.number(Fraction(0))
        return zero.item() if isinstance(zero, np.ndarray) else zero

    def _whole(self, numbers: ObjectArray) -> ObjectArray:
        """Jets, of an array in which some are plain numbers."""
        array = np.asarray(numbers, object)
        return object_array((self.jet(n) for n in array.ravel().tolist()), array.shape)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _slope_of(f: Function, balls: Balls) -> Callable[[flint.arb], flint.arb]:
    series = f.series
    if series is not None:
        known = series
        return lambda v: known(flint.arb_series([v, 1], prec=2))[1]
    curve = f.shape

    def slope(v: flint.arb) -> flint.arb:
        (piece, *_) = (p for p in curve.pieces if v >= p.start and v <= p.end)
        found = piece.slope(balls, np.array([v], object))
        ball: flint.arb = np.asarray(found, object).reshape(-1)[0]
        return ball

    return slope
