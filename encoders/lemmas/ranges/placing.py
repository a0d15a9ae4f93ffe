"""Ranges out of ranges whose elements are moved about, joined, or held together: with `enclosed` of
the kernel, what makes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from encoders.lemmas.application import Application
from encoders.lemmas.kernel import Places, enclosed, there
from encoders.lemmas.lemma import RangeLemma
from encoders.lemmas.ranges.functions import EITHER_RANGE
from encoders.lemmas.ranges.operations import LARGER_RANGE, SMALLER_RANGE, STORED_RANGE
from encoders.lemmas.ranges.range import _RANGE_KEY, Range, known_ends
from encoders.lemmas.ranges.reals import FOUND_RANGE, MOVED_RANGE
from encoders.numbers.enclosure import FloatArray, Interval, LinearPart


def range_of(x: Interval, lemma: RangeLemma = FOUND_RANGE) -> Range:
    """The range that it is, or, of an interval that code of ours found without a lemma, a range
    that says so."""
    if isinstance(x, Range):
        return x
    lo, hi = known_ends(x.lo, x.hi)
    return enclosed(lemma, a=lo, b=hi)


def stored_range(values: FloatArray) -> Range:
    """Of stored numbers."""
    return enclosed(STORED_RANGE, a=values)


def range_moved(x: Range, f: Callable[[FloatArray], FloatArray]) -> Range:
    """After moving elements about, as f does: `moved-range`.

    Raises ValueError for an f that makes other numbers.
    """
    lo, hi = there(f, x.lo, x.hi)
    return _placed(lo, hi, (x,))


def range_taken(x: Range, places: Places) -> Range:
    """The elements at these places of the flat array."""
    return _placed(np.take(x.lo, places), np.take(x.hi, places), (x,))


def range_through(x: Range, part: LinearPart) -> Range:
    """Of what a linear map makes of it that only moves elements, or changes their sign.

    Raises ValueError for one that computes.
    """
    if part.terms:
        raise ValueError("this computes: each element of its result is a sum of products")
    a, b = part.apply(x.lo[None])[0], part.apply(x.hi[None])[0]
    return _placed(np.minimum(a, b), np.maximum(a, b), (x,))


def range_signed(x: Range, s: FloatArray | float) -> Range:
    """Of s·x, element by element, each s one of −1, 0 and 1.

    Raises ValueError for any other.
    """
    signs = np.asarray(s)
    if np.any((signs != 0.0) & (np.abs(signs) != 1.0)):
        raise ValueError("this scales what it should only move")
    lo, hi = (np.where(signs < 0.0, -b, a) for a, b in ((x.lo, x.hi), (x.hi, x.lo)))
    if np.any(signs == 0.0):
        lo, hi = np.where(signs == 0.0, 0.0, lo), np.where(signs == 0.0, 0.0, hi)
    return _placed(lo, hi, (x,), s=float(signs.flat[0]) if signs.size else 1.0)


def range_on(x: Range, shape: tuple[int, ...]) -> Range:
    """Broadcast to a shape."""
    if x.shape == shape:
        return x
    return _placed(np.broadcast_to(x.lo, shape), np.broadcast_to(x.hi, shape), (x,))


def ranges_joined(parts: Sequence[Range], axis: int = 0) -> Range:
    """Concatenated along an axis."""
    lo, hi = (np.concatenate(ends, axis) for ends in ([x.lo for x in parts], [x.hi for x in parts]))
    return _placed(lo, hi, parts)


def range_of_cases(shape: tuple[int, ...], cases: Sequence[tuple[Places, Range]]) -> Range:
    """Of elements that are each in one of these ranges, by their places in the flat array, it is
    not known in which: the induction of `either-range`; anywhere where there is none."""
    lo, hi = np.full(shape, np.inf), np.full(shape, -np.inf)
    low, high = lo.reshape(-1), hi.reshape(-1)
    for places, x in cases:
        low[places] = np.minimum(low[places], x.lo)
        high[places] = np.maximum(high[places], x.hi)
    return _held(lo, hi, tuple(x for _, x in cases))


def range_along(x: Range, axis: int) -> Range:
    """Of any one of the elements along an axis, which is kept, of length 1."""
    lo = np.min(x.lo, axis, keepdims=True, initial=np.inf)
    hi = np.max(x.hi, axis, keepdims=True, initial=-np.inf)
    return _held(lo, hi, (x,))


def extreme_range(x: Range, largest: bool) -> Range:
    """Of the largest or the least of the elements along the first axis, which goes: `larger-range`
    or `smaller-range`, of halves of them, of halves of what is left and so on."""
    lemma = LARGER_RANGE if largest else SMALLER_RANGE
    while (n := x.shape[0]) > 1:
        half = n // 2
        pairs = enclosed(lemma, X=_cut(x, slice(half)), Y=_cut(x, slice(half, 2 * half)))
        x = ranges_joined([pairs, _cut(x, slice(2 * half, n))]) if n % 2 else pairs
    return _cut(x, 0)


def _cut(x: Range, at: slice | int) -> Range:
    return _placed(np.asarray(x.lo[at]), np.asarray(x.hi[at]), (x,))


def _placed(lo: FloatArray, hi: FloatArray, given: Sequence[Range], s: float = 1.0) -> Range:
    """Elements of these ranges at other places."""
    records = tuple(x.record for x in given)
    return Range(_RANGE_KEY, lo, hi, _record(MOVED_RANGE, {"s": s}, lo, hi, records))


def _held(lo: FloatArray, hi: FloatArray, given: Sequence[Range]) -> Range:
    """What these ranges hold together."""
    first = {"Y": float(lo.flat[0]), "Y_hi": float(hi.flat[0])} if lo.size else {}
    records = tuple(x.record for x in given)
    return Range(_RANGE_KEY, lo, hi, _record(EITHER_RANGE, first, lo, hi, records))


def _record(
    lemma: RangeLemma,
    first: dict[str, float],
    lo: FloatArray,
    hi: FloatArray,
    premises: tuple[Application, ...],
) -> Application:
    if lo.size:
        first = first | {"X": float(lo.flat[0]), "X_hi": float(hi.flat[0])}
    numbers = tuple(first.get(p.name, 0.0) for p in lemma.read)
    return Application(lemma, numbers, 0.0, lo.size, premises)
