"""That parts of a box cover it, and what is proved of them is proved of the box.

The box is cut in two along an end of a part that lies strictly inside it, and each half asked about
the parts that have inner points in common with it, until one part holds all of a piece or none
meets it. Ends are compared as the numbers they are. Where each piece lies in a part, lemmas carry
the parts' bounds over to the pieces (`within-part`, `of-part`), and from both sides of each cut to
the whole (`cut`): docs/lemmas.md states the induction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from encoders.lemmas.claims import CUT, OF_PART, WITHIN_PART
from encoders.lemmas.kernel import Radius, apply, nothing_known
from encoders.numbers.enclosure import FloatArray
from refine.bounds.network import InputBox
from refine.proof.input_splitting import Part

_Places: TypeAlias = npt.NDArray[np.intp]


@dataclass(frozen=True)
class _Ends:
    """All elements of a box's inputs in one dimension: both ends, and what a run receives may be so
    far off."""

    lo: FloatArray
    hi: FloatArray
    off: FloatArray


@dataclass
class _Piece:
    """A part of the whole, between two ends along the axes in which parts differ. It lies in part
    `row`, or is cut where `axis` of these is `at` into pieces `below` and `above`."""

    lo: FloatArray
    hi: FloatArray
    row: int = -1
    axis: int = -1
    at: float = 0.0
    below: int = -1
    above: int = -1


@dataclass(frozen=True)
class _Cut:
    """The whole, which comes first, and what it is cut into along some axes: each piece before
    those that it is cut into."""

    axes: _Places
    pieces: list[_Piece]


def covers(whole: InputBox, parts: Sequence[Part]) -> bool:
    """Do closed boxes cover the whole one, whatever else they overlap or reach beyond?

    What the runtime receives may be as far from its input in a part as in the whole. Sides of no
    width are compared as they are; a part with a NaN is left out.
    """
    return bool(_pieces(whole, parts).pieces)


def united(whole: InputBox, parts: Sequence[Part]) -> Mapping[str, Radius]:
    """What is proved of the whole by its parts; nothing if they do not cover it."""
    names = parts[0].radii
    cut = _pieces(whole, parts)
    pieces = cut.pieces
    if not pieces or any(part.radii.keys() != names.keys() for part in parts):
        return {t: nothing_known(radius.shape) for t, radius in names.items()}
    inputs = tuple(whole.values)
    box, axes = _ends(whole, inputs), cut.axes
    found: list[Mapping[str, Radius]] = [{} for _ in pieces]
    for place in range(len(pieces) - 1, -1, -1):  # what a piece is cut into stands behind it
        piece = pieces[place]
        if piece.row >= 0:
            part = parts[piece.row]
            lies = _lies(piece, axes, box, _ends(part.box, inputs))
            found[place] = {t: apply(OF_PART, z=lies, e=part.radii[t]) for t in names}
            continue
        below, above = found[piece.below], found[piece.above]
        found[piece.below] = found[piece.above] = {}
        ends = {
            "s": float(pieces[piece.below].hi[piece.axis]),
            "t": float(pieces[piece.above].lo[piece.axis]),
        }
        found[place] = {t: apply(CUT, **ends, e=below[t], f=above[t]) for t in names}
    return found[0]


def _lies(piece: _Piece, axes: _Places, box: _Ends, part: _Ends) -> Radius:
    """How far inputs of the piece are from the part."""
    if not box.lo.size:  # no input has an element
        return apply(WITHIN_PART, lo=0, hi=0, a=0, b=0, given=0, allowed=0)
    lo, hi = box.lo.copy(), box.hi.copy()
    lo[axes], hi[axes] = piece.lo, piece.hi
    return apply(
        WITHIN_PART,
        lo=lo,
        hi=hi,
        a=part.lo,
        b=part.hi,
        given=box.off,
        allowed=part.off,
    ).worst()


def _pieces(whole: InputBox, parts: Sequence[Part]) -> _Cut:
    """What the whole is cut into; no pieces where the parts do not cover it."""
    names = tuple(whole.values)
    none = _Cut(np.zeros(0, np.intp), [])
    if any(set(p.box.values) != set(names) for p in parts):
        return none
    if any(np.any(~(p.box.errors[n] >= whole.errors[n])) for p in parts for n in names):
        return none
    box = _ends(whole, names)
    lo, hi = box.lo, box.hi
    if np.any(np.isnan(lo)) or np.any(np.isnan(hi)) or np.any(lo > hi):
        return none
    every = [_ends(p.box, names) for p in parts]
    known = [i for i, e in enumerate(every) if not (np.isnan(e.lo).any() or np.isnan(e.hi).any())]
    if not known:
        return none
    lows, highs = np.stack([every[i].lo for i in known]), np.stack([every[i].hi for i in known])
    flat = lo == hi
    kept = np.all((lows[:, flat] <= lo[flat]) & (hi[flat] <= highs[:, flat]), axis=1)
    axes = np.flatnonzero(~flat & (np.any(lows > lo, axis=0) | np.any(highs < hi, axis=0)))
    rows = np.asarray(known, np.intp)[kept]
    piece = _Piece(lo[axes], hi[axes])
    return _Cut(axes, _cut_up(piece, lows[kept][:, axes], highs[kept][:, axes], rows))


def _cut_up(whole: _Piece, lows: FloatArray, highs: FloatArray, names: _Places) -> list[_Piece]:
    """The pieces of a box whose sides have inner points, or none; rows are parts, of these
    names."""
    pieces, pending = [whole], [(0, np.arange(len(lows)))]
    while pending:
        place, rows = pending.pop()
        piece = pieces[place]
        low, high = piece.lo, piece.hi
        rows = rows[np.all((lows[rows] < high) & (highs[rows] > low), axis=1)]
        if not len(rows):
            return []
        holding = rows[np.all((lows[rows] <= low) & (highs[rows] >= high), axis=1)]
        if len(holding):
            piece.row = int(names[holding[0]])
            continue
        piece.axis, piece.at = _place_to_cut(low, high, lows[rows], highs[rows])
        below, above = high.copy(), low.copy()
        below[piece.axis] = above[piece.axis] = piece.at
        piece.below, piece.above = len(pieces), len(pieces) + 1
        pieces += [_Piece(low, below), _Piece(above, high)]
        pending += [(piece.below, rows), (piece.above, rows)]
    return pieces


def _place_to_cut(
    low: FloatArray, high: FloatArray, lows: FloatArray, highs: FloatArray
) -> tuple[int, float]:
    """An end of a part strictly inside the box, with as few parts on both sides of it as can be."""
    best: tuple[int, int, int, float] | None = None
    for axis in np.flatnonzero(np.any((lows > low) | (highs < high), axis=0)):
        first, last = np.sort(lows[:, axis]), np.sort(highs[:, axis])
        ends = np.unique(np.concatenate([first, last]))
        ends = ends[(low[axis] < ends) & (ends < high[axis])]
        below = np.searchsorted(first, ends, side="left")
        above = len(last) - np.searchsorted(last, ends, side="right")
        both, larger = below + above - len(lows), np.maximum(below, above)
        k = int(np.lexsort((larger, both))[0])
        found = (int(both[k]), int(larger[k]), int(axis), float(ends[k]))
        best = found if best is None else min(best, found)
    assert best is not None
    return best[2], best[3]


def _ends(box: InputBox, names: Sequence[str]) -> _Ends:
    def joined(arrays: Iterator[FloatArray]) -> FloatArray:
        return np.concatenate([*(a.reshape(-1) for a in arrays), np.zeros(0)])

    values = [box.values[n] for n in names]
    return _Ends(
        joined(x.lo for x in values),
        joined(x.hi for x in values),
        joined(np.broadcast_to(box.errors[n], box.values[n].shape) for n in names),
    )
