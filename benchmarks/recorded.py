"""Tensors in float64 that know what they were made from, and how much each was rounded.

From the record come derivatives of an output in every tensor, backwards, and changes of every
tensor, forwards: what `sensitivities` needs, and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from encoders.numbers.formats import FloatFormat, round_array

FloatArray = npt.NDArray[np.float64]
Parts = tuple[FloatArray | None, ...]

_HALF_ULP_ON_AVERAGE = 0.72  # of u·|v|: where W is made smooth, to climb it


def half_ulp(values: FloatArray, fmt: FloatFormat) -> FloatArray:
    """The most that rounding a real number of this size to nearest may change it, overflow apart.

    Half the spacing, and never more than u/(1 + u) of the number itself.
    """
    size, half = np.abs(values), half_spacing(values, fmt)
    u = float(fmt.unit_roundoff)
    normal = size >= 2.0**fmt.emin
    return np.where(size > 0, np.where(normal, np.minimum(half, size * (u / (1.0 + u))), half), 0.0)


def half_spacing(values: FloatArray, fmt: FloatFormat) -> FloatArray:
    """Half the distance of two neighbours at a number of this size."""
    _, exponent = np.frexp(np.abs(values))
    return np.asarray(np.ldexp(1.0, np.maximum(exponent - 1, fmt.emin) - fmt.precision))


def is_scaling(values: FloatArray) -> npt.NDArray[np.bool_]:
    """Where a number is 0 or a power of two, so that products by it are exact."""
    mantissa, _ = np.frexp(values)
    return np.asarray((np.abs(mantissa) == 0.5) | (values == 0))


@dataclass(eq=False)
class Recorded:
    """A tensor (samples, *shape) in float64 and what it was made from.

    `back` takes the derivatives of a functional in this tensor to those in its parents, `ahead` the
    changes of the parents to its own, to first order. `bend` takes such derivatives and changes of
    the parents to what a further change of each parent adds to the functional. `radius` is how much
    it may be rounded here, and `swell` takes weights of that to its derivatives in the parents,
    made smooth. A tensor without `tape` is constant.
    """

    value: FloatArray
    format: FloatFormat | None = None
    radius: FloatArray | None = None
    tape: list[Recorded] | None = None
    parents: tuple[Recorded, ...] = ()
    back: Callable[[FloatArray], Parts] | None = None
    ahead: Callable[[Parts], FloatArray] | None = None
    bend: Callable[[FloatArray, Parts], Parts] | None = None
    swell: Callable[[FloatArray], Parts] | None = None
    place: int = -1

    def __post_init__(self) -> None:
        if self.tape is not None:
            self.place = len(self.tape)
            self.tape.append(self)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    def moved(self, f: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> Recorded:
        """The numbers moved about, zeros in between where f puts some."""
        value = np.asarray(f(self.value))
        if self.tape is None:
            return Recorded(value, self.format)
        size, shape = self.value.size, self.value.shape
        places: list[npt.NDArray[np.int64]] = []

        def back(s: FloatArray) -> Parts:
            if not places:  # 0 is where f puts a zero
                places.append(np.asarray(f(np.arange(1, size + 1).reshape(shape))))
            found = np.bincount(places[0].ravel(), s.ravel(), size + 1)[1:]
            return (np.asarray(found, np.float64).reshape(shape),)

        def ahead(changes: Parts) -> FloatArray:
            (change,) = changes
            assert change is not None
            return np.asarray(f(change))

        return Recorded(value, self.format, tape=self.tape, parents=(self,), back=back, ahead=ahead)

    def joined(self, others: Sequence[Recorded], axis: int) -> Recorded:
        """This and the others along an axis, constants repeated for every sample."""
        every = (self, *others)
        samples = max(r.shape[0] for r in every)

        def full(a: FloatArray) -> FloatArray:
            return np.broadcast_to(a, (samples, *a.shape[1:]))

        value = np.concatenate([full(r.value) for r in every], axis=axis)
        tape = next((r.tape for r in every if r.tape is not None), None)
        if tape is None:
            return Recorded(value, self.format)
        ends = np.cumsum([r.shape[axis] for r in every])[:-1]

        def back(s: FloatArray) -> Parts:
            pieces = np.split(s, ends, axis=axis)
            return tuple(reduced(p, r.shape) for p, r in zip(pieces, every, strict=True))

        def ahead(changes: Parts) -> FloatArray:
            given = (
                np.zeros(r.shape) if c is None else c for r, c in zip(every, changes, strict=True)
            )
            return np.concatenate([full(c) for c in given], axis=axis)

        return Recorded(value, self.format, tape=tape, parents=every, back=back, ahead=ahead)


def reduced(array: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """The sums over the axes along which an array of this shape was repeated."""
    extra = array.ndim - len(shape)
    axes = (*range(extra), *(extra + i for i, n in enumerate(shape) if n == 1))
    kept = tuple(a for a in axes if array.shape[a] != 1 or a < extra)
    return array.sum(axis=kept).reshape(shape) if kept else array.reshape(shape)


def _live(operands: Iterable[Recorded]) -> list[Recorded] | None:
    return next((r.tape for r in operands if r.tape is not None), None)


def rounded_constant(
    value: FloatArray, fmt: FloatFormat, radius: FloatArray, tape: list[Recorded] | None
) -> Recorded:
    """A constant that is computed or converted as the network runs: always with the same error,
    at most what rounding its exact value would be."""
    error = np.minimum(radius, np.abs(round_array(value, fmt) - value))
    return Recorded(value, fmt, error, tape) if np.any(error) else Recorded(value, fmt)


Bends = Callable[[], Sequence[tuple[int, int, FloatArray | float]]]


def elementwise(
    value: FloatArray,
    parents: Sequence[Recorded],
    slopes: Sequence[FloatArray | float],
    fmt: FloatFormat,
    radius: FloatArray | None = None,
    bends: Bends | None = None,
    tape: list[Recorded] | None = None,
) -> Recorded:
    """A function of single elements with its derivatives in each parent, and its second ones.

    Of constants it is a constant, but for its rounding, which is written on the tape."""
    live = _live(parents)
    if live is None:
        if radius is None:
            return Recorded(value, fmt)
        return rounded_constant(value, fmt, radius, tape)
    tape = live

    def back(s: FloatArray) -> Parts:
        return tuple(
            None if p.tape is None else reduced(s * d, p.shape)
            for p, d in zip(parents, slopes, strict=True)
        )

    def ahead(changes: Parts) -> FloatArray:
        total = np.zeros(value.shape)
        for change, slope in zip(changes, slopes, strict=True):
            if change is not None:
                total += change * slope
        return total

    def bend(s: FloatArray, changes: Parts) -> Parts:
        found: list[FloatArray | None] = [None] * len(parents)
        for i, j, second in bends() if bends is not None else ():
            change = changes[j]
            if change is not None and parents[i].tape is not None:
                term = reduced(s * second * change, parents[i].shape)
                known = found[i]
                found[i] = term if known is None else known + term
        return tuple(found)

    def swell(weights: FloatArray) -> Parts:
        rate = weights * np.sign(value) * (_HALF_ULP_ON_AVERAGE * float(fmt.unit_roundoff))
        return back(rate)

    return Recorded(
        value,
        fmt,
        None if radius is None else np.broadcast_to(radius, value.shape),
        tape,
        tuple(parents),
        back,
        ahead,
        None if bends is None else bend,
        None if radius is None else swell,
    )


@dataclass(frozen=True)
class Chain:
    """A sum of products, all terms along the last axis, and the order in which they are added.

    The first term of `terms` may be the number that the chain starts with. `loudest` adds them in
    whichever of two orders rounds more: from the largest to the smallest, or the other way round.
    """

    a: FloatArray
    b: FloatArray
    start: FloatArray | None
    fused: bool
    loudest: bool
    fmt: FloatFormat
    terms: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        products = self.a * self.b
        if self.start is not None:
            shape = np.broadcast_shapes(products.shape[:-1], self.start.shape)
            first = np.broadcast_to(self.start, shape)[..., None]
            wide = np.broadcast_to(products, (*shape, products.shape[-1]))
            products = np.concatenate([first, wide], axis=-1)
        object.__setattr__(self, "terms", products)

    @property
    def value(self) -> FloatArray:
        return np.asarray(self.terms.sum(axis=-1))

    def radius(self) -> FloatArray:
        found = self._sums(self.terms)
        if self.loudest:
            ascending = np.sort(self.terms, axis=-1)
            found = np.maximum(self._sums(ascending), self._sums(ascending[..., ::-1]))
        return np.asarray(found if self.fused else found + self._products().sum(axis=-1))

    def _products(self) -> FloatArray:
        exact = is_scaling(self.a) | is_scaling(self.b)
        return np.where(exact, 0.0, half_ulp(self.a * self.b, self.fmt))

    def _sums(self, terms: FloatArray) -> FloatArray:
        """The roundings of partial sums in this order: none where one of the two is zero, but that
        of the product where it is fused."""
        partial = np.cumsum(terms, axis=-1)
        rounded = half_ulp(partial, self.fmt)
        rounded[terms == 0] = 0.0
        if not self.fused:
            rounded[..., 1:][partial[..., :-1] == 0] = 0.0
            rounded[..., 0] = 0.0
            return np.asarray(rounded.sum(axis=-1))
        if self.start is not None:
            rounded[..., 0] = 0.0
        elif terms.shape[-1]:
            exact = is_scaling(self.a[..., 0]) | is_scaling(self.b[..., 0])
            rounded[..., 0] = np.where(exact, 0.0, rounded[..., 0])
        return np.asarray(rounded.sum(axis=-1))

    def swell(self, weights: FloatArray) -> FloatArray:
        """The derivatives of the weighted radius, made smooth, in every term."""
        rate = _HALF_ULP_ON_AVERAGE * float(self.fmt.unit_roundoff)
        if self.loudest:
            order = np.argsort(self.terms, axis=-1)
            ascending = np.take_along_axis(self.terms, order, axis=-1)
            up, down = self._sums(ascending), self._sums(ascending[..., ::-1])
            rise = _later_signs(ascending)
            fall = _later_signs(ascending[..., ::-1])[..., ::-1]
            chosen = np.where((up >= down)[..., None], rise, fall)
            signs = np.empty_like(chosen)
            np.put_along_axis(signs, order, chosen, axis=-1)
        else:
            signs = _later_signs(self.terms)
        if not self.fused:
            own = np.sign(self.terms)
            if self.start is not None:
                own[..., 0] = 0.0
            signs = signs + own
        return np.asarray(weights[..., None] * rate * signs)


def _later_signs(terms: FloatArray) -> FloatArray:
    signs = np.sign(np.cumsum(terms, axis=-1))
    return np.cumsum(signs[..., ::-1], axis=-1)[..., ::-1]


def chained(
    a: Recorded, b: Recorded, start: Recorded | None, made: Chain, tape: list[Recorded]
) -> Recorded:
    """A chain of multiply-adds as one tensor, with all its roundings."""
    parents = (a, b) if start is None else (a, b, start)
    value, radius = made.value, made.radius()
    if _live(parents) is None:
        return rounded_constant(value, made.fmt, radius, tape)
    first = 0 if start is None else 1

    def to_factors(terms: FloatArray) -> list[FloatArray | None]:
        return [
            None if a.tape is None else reduced(terms * b.value, a.shape),
            None if b.tape is None else reduced(terms * a.value, b.shape),
        ]

    def with_start(found: list[FloatArray | None], s: FloatArray) -> Parts:
        if start is not None:
            found.append(None if start.tape is None else reduced(s, start.shape))
        return tuple(found)

    def back(s: FloatArray) -> Parts:
        return with_start(to_factors(s[..., None]), s)

    def ahead(changes: Parts) -> FloatArray:
        total = np.zeros(value.shape)
        if changes[0] is not None:
            total += _dot(changes[0], b.value)
        if changes[1] is not None:
            total += _dot(a.value, changes[1])
        if start is not None and changes[2] is not None:
            total += changes[2]
        return total

    def bend(s: FloatArray, changes: Parts) -> Parts:
        da, db = changes[:2]
        found = [
            None if a.tape is None or db is None else reduced(s[..., None] * db, a.shape),
            None if b.tape is None or da is None else reduced(s[..., None] * da, b.shape),
        ]
        return (*found, *(None for _ in parents[2:]))

    def swell(weights: FloatArray) -> Parts:
        terms = made.swell(weights)
        return with_start(to_factors(terms[..., first:]), terms[..., 0])

    both = a.tape is not None and b.tape is not None
    return Recorded(
        value, made.fmt, radius, tape, parents, back, ahead, bend if both else None, swell
    )


def _dot(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.asarray((a * b).sum(axis=-1))
