"""NonMaxSuppression of stored boxes, where no rounding can decide otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
import numpy.typing as npt

from onnx_import.graph import Array, Node
from onnx_import.passes.folding.values import integer

_UNIT = Fraction(1, 2**23)  # twice what an operation in float32 errs by, relatively
_SMALLEST, _LARGEST = Fraction(1, 2**100), Fraction(2**120)  # far from underflow and overflow
_MOST = 2**11  # boxes of a batch, each of which may be held against each


BoolArray = npt.NDArray[np.bool_]


class _Doubtful(Exception):
    """Rounding may decide."""


@dataclass(frozen=True)
class _About:
    """A number that a runtime computes in float32: it lies between these."""

    low: Fraction
    high: Fraction

    @classmethod
    def stored(cls, value: object) -> _About:
        exact = Fraction(float(np.float32(str(value))))
        return cls(exact, exact)

    def _rounded(self) -> _About:
        size = max(abs(self.low), abs(self.high))
        if size and not _SMALLEST < size < _LARGEST:
            raise _Doubtful
        if self.low == self.high and Fraction(float(np.float32(float(self.low)))) == self.low:
            return self
        slack = size * _UNIT
        return _About(self.low - slack, self.high + slack)

    def __add__(self, other: _About) -> _About:
        return _About(self.low + other.low, self.high + other.high)._rounded()

    def __sub__(self, other: _About) -> _About:
        return _About(self.low - other.high, self.high - other.low)._rounded()

    def __mul__(self, other: _About) -> _About:
        ends = [a * b for a in (self.low, self.high) for b in (other.low, other.high)]
        return _About(min(ends), max(ends))._rounded()

    def halved(self) -> _About:
        return _About(self.low / 2, self.high / 2)

    def over(self, other: _About) -> _About:
        """The quotient by a number above 0."""
        ends = [a / b for a in (self.low, self.high) for b in (other.low, other.high)]
        return _About(min(ends), max(ends))

    def least(self, other: _About) -> _About:
        return _About(min(self.low, other.low), min(self.high, other.high))

    def most(self, other: _About) -> _About:
        return _About(max(self.low, other.low), max(self.high, other.high))

    def above(self, limit: _About) -> bool:
        """Is it above the limit, whatever is rounded?"""
        if self.low > limit.high:
            return True
        if self.high <= limit.low:
            return False
        raise _Doubtful


_NOUGHT = _About(Fraction(0), Fraction(0))


@dataclass(frozen=True)
class _Box:
    """Two corners, the lower one first."""

    low: tuple[_About, _About]
    high: tuple[_About, _About]

    @cached_property
    def area(self) -> _About:
        return (self.high[0] - self.low[0]) * (self.high[1] - self.low[1])


Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Ranges:
    """Many numbers that a runtime computes in float32, each between two float64 numbers; no numbers
    at all where they come near underflow or overflow."""

    low: Floats
    high: Floats

    def _rounded(self) -> _Ranges:
        size = np.maximum(np.abs(self.low), np.abs(self.high))
        far = (size != 0) & ~((size > float(_SMALLEST)) & (size < float(_LARGEST)))
        slack = np.where(far, np.nan, size * float(2 * _UNIT))  # float64's own rounding included
        return _Ranges(self.low - slack, self.high + slack)

    def __add__(self, other: _Ranges) -> _Ranges:
        return _Ranges(self.low + other.low, self.high + other.high)._rounded()

    def __sub__(self, other: _Ranges) -> _Ranges:
        return _Ranges(self.low - other.high, self.high - other.low)._rounded()

    def __mul__(self, other: _Ranges) -> _Ranges:
        """The product of numbers that are not negative."""
        return _Ranges(self.low * other.low, self.high * other.high)._rounded()

    def over(self, other: _Ranges) -> _Ranges:
        """The quotient of numbers that are not negative."""
        return _Ranges(self.low / other.high, self.high / other.low)._rounded()

    def at(self, which: Sequence[int] | slice) -> _Ranges:
        return _Ranges(self.low[which], self.high[which])


class _Boxes:
    """All boxes of a batch, of which most pairs overlap by more than a share or by less, whatever
    is rounded; the others are looked at exactly."""

    def __init__(self, numbers: Array, centred: int, share: _About) -> None:
        self.numbers, self.centred, self.share = numbers, centred, share
        a, b, c, d = (_Ranges(v, v) for v in numbers.astype(np.float64).T)
        if centred:
            half = [_Ranges(v.low / 2, v.high / 2) for v in (c, d)]
            self.low, self.high = (a - half[0], b - half[1]), (a + half[0], b + half[1])
        else:
            self.low = _extreme(np.minimum, a, c), _extreme(np.minimum, b, d)
            self.high = _extreme(np.maximum, a, c), _extreme(np.maximum, b, d)
        with np.errstate(all="ignore"):
            self.area = (self.high[0] - self.low[0]) * (self.high[1] - self.low[1])
        self.exactly: dict[int, _Box] = {}

    def suppress(self, i: int, kept: Sequence[int]) -> bool:
        """Does one of the boxes that are kept overlap with box i by more than the share?"""
        if not kept:
            return False
        with np.errstate(all="ignore"):
            more, doubtful = self._over(i, kept)
        return bool(np.any(more)) or any(
            _overlap(self._exact(i), self._exact(j), self.share)
            for j in np.asarray(kept)[doubtful].tolist()
        )

    def _over(self, i: int, kept: Sequence[int]) -> tuple[BoolArray, BoolArray]:
        """Which boxes surely overlap with box i by more than the share, and which perhaps."""
        sides, apart = [], np.zeros(len(kept), bool)
        for axis in (0, 1):
            ours = (self.low[axis].at([i]), self.high[axis].at([i]))
            theirs = (self.low[axis].at(kept), self.high[axis].at(kept))
            low = _extreme(np.maximum, ours[0], theirs[0])
            high = _extreme(np.minimum, ours[1], theirs[1])
            apart |= high.high <= low.low
            sides.append(high - low)
        sure = (sides[0].low > 0) & (sides[1].low > 0)
        common = sides[0] * sides[1]
        sizes = self.area.at([i]), self.area.at(kept)
        together = sizes[0] + sizes[1] - common
        for v in (common, *sizes, together):
            sure = sure & (v.low > 0)
        part, limit = common.over(together), (float(self.share.low), float(self.share.high))
        more, less = sure & (part.low > limit[1]), sure & (part.high <= limit[0])
        return more, ~(more | less | apart)

    def _exact(self, i: int) -> _Box:
        if i not in self.exactly:
            self.exactly[i] = _box(self.numbers[i], self.centred)
        return self.exactly[i]


def _extreme(f: Callable[[Floats, Floats], Floats], one: _Ranges, other: _Ranges) -> _Ranges:
    """The lesser, or larger, numbers of two."""
    return _Ranges(f(one.low, other.low), f(one.high, other.high))


def suppressed(node: Node, values: Sequence[Array | None]) -> Array | None:
    """The chosen boxes (n, 3): batch, class, box, in order of falling scores; None where scores
    tie, or rounding may decide. Raises ValueError for inputs that do not fit each other."""
    boxes, scores, most, overlap, least = (*values, None, None, None)[:5]
    if boxes is None or scores is None:
        raise ValueError("boxes or scores are left out")
    batches, classes, count = scores.shape
    if boxes.shape != (batches, count, 4):
        raise ValueError(f"boxes {boxes.shape} and scores {scores.shape}")
    limit = 0 if most is None else int(most.reshape(()))
    share = _NOUGHT if overlap is None else _About.stored(overlap.reshape(()))
    if not 0 <= share.low <= 1:
        raise ValueError(f"a share of {float(share.low)}")
    if count > _MOST:
        return None
    chosen: list[tuple[int, int, int]] = []
    try:
        for batch in range(batches if limit > 0 else 0):
            placed = _Boxes(boxes[batch], integer(node, "center_point_box", 0), share)
            for kind in range(classes):
                own = scores[batch, kind].astype(np.float64)
                found = [
                    i for i in range(count) if least is None or own[i] > float(least.reshape(()))
                ]
                kept = _kept(placed, sorted(found, key=lambda i: -own[i]), own, limit)
                chosen += [(batch, kind, i) for i in kept]
    except _Doubtful:
        return None
    return np.array(chosen, np.int64).reshape(-1, 3)


def _kept(boxes: _Boxes, order: Sequence[int], scores: Array, limit: int) -> list[int]:
    if len({float(scores[i]) for i in order}) < len(order):
        raise _Doubtful  # which of them comes first is not said
    kept: list[int] = []
    for i in order:
        if len(kept) == limit:
            break
        if not boxes.suppress(i, kept):
            kept.append(i)
    return kept


def _box(numbers: Array, centred: int) -> _Box:
    a, b, c, d = (_About.stored(v) for v in numbers)
    if centred:
        return _Box((a - c.halved(), b - d.halved()), (a + c.halved(), b + d.halved()))
    return _Box((a.least(c), b.least(d)), (a.most(c), b.most(d)))


def _overlap(one: _Box, other: _Box, share: _About) -> bool:
    """Is what they have in common more than this share of what they cover together?"""
    low = [one.low[i].most(other.low[i]) for i in (0, 1)]
    high = [one.high[i].least(other.high[i]) for i in (0, 1)]
    if not (high[0].above(low[0]) and high[1].above(low[1])):
        return False
    common = (high[0] - low[0]) * (high[1] - low[1])
    sizes = (one.area, other.area)
    together = sizes[0] + sizes[1] - common
    if not all(v.above(_NOUGHT) for v in (common, *sizes, together)):
        return False
    part = common.over(together)
    if part.low == part.high <= share.low:
        return False  # rounding keeps the order of numbers
    return part._rounded().above(share)
