"""Functions of one real variable, piece by piece convex or concave, enclosed rigorously.

A `Curve` states its formula, its derivative and where it bends; everything a bound needs of it
follows from that by ball arithmetic: its range, the range of its slope, and linear bounds.
On a convex piece a function is largest at an end, and at least any of its tangents; float64
proposes slopes and points of tangency, balls give the intercepts that make them true. That the
pieces have the shapes stated is argued beside each curve and certified by the tests (signs of f''
on a subdivision).
"""

from __future__ import annotations

from collections.abc import Iterator

import flint
import numpy as np
import numpy.typing as npt

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.arithmetic.exact_fields import ObjectArray, object_array
from encoders.curves.values import BALLS, MANY, ball_array, enclosed, lower, upper
from encoders.functions.curve import Curve, Formula, Piece, Shape
from encoders.lemmas.functions import CONVEX_PIECE
from encoders.lemmas.kernel import Places, apply
from encoders.lemmas.kernel import enclosed as enclosed_by
from encoders.lemmas.ranges.functions import (
    BALL_RANGE,
    CONVEX_RANGE,
    SLOPE_RANGE,
    STATED_RANGE,
)
from encoders.lemmas.ranges.making import both_ranges
from encoders.lemmas.ranges.placing import range_moved, range_of_cases, range_signed, range_taken
from encoders.lemmas.ranges.placing import range_of as as_range
from encoders.lemmas.ranges.range import Range
from encoders.numbers.enclosure import SMALLEST, UNIT, FloatArray, Interval, add_down, add_up
from encoders.operator import LinearBounds

Mask = npt.NDArray[np.bool_]

_SAMPLES = 16
_LINES = 9  # on either side, where several are asked for
_BISECTIONS = 30
_CHUNK = 4096
_LARGEST = float(np.finfo(np.float64).max)
_MANY = 256  # elements from which on equal ones are looked for
_REALS = ApproximateReals()


def range_of(curve: Curve, x: Interval) -> Range:
    """Where f is over each interval: of what its pieces say of it there, and of what is stated
    beside it."""
    given = as_range(x)
    first, back = _representatives(given.lo, given.hi)
    few = range_taken(given, first)
    inside = _inside(curve, few)
    cases = []
    for piece, part, at in _parts(curve, few, inside):
        places = np.flatnonzero(at)
        cases.append((places, _piece_range(piece, part, range_taken(few, places))))
    crude = curve.range(few)
    stated = enclosed_by(STATED_RANGE, X=few, a=crude.lo, b=crude.hi)
    found = both_ranges(range_of_cases(few.shape, cases), stated)
    return range_moved(found, lambda v: v[back].reshape(x.shape))


def _piece_range(piece: Piece, part: Interval, x: Range) -> Range:
    """Where f is for arguments in these ranges that are on this piece, in `part`."""
    if piece.shape is Shape.UNKNOWN:
        with BALLS.working():
            whole = _on_balls(piece, part, np.zeros(part.shape))
            return enclosed_by(BALL_RANGE, X=x, a=whole.lo, b=whole.hi)
    convex = piece.shape is Shape.CONVEX
    touch = _tangency(piece, part, np.zeros(x.shape), ascending=convex)
    ends, there = (
        [enclosed(piece.value, at) for at in (part.lo, part.hi)],
        enclosed(piece.value, touch),
    )
    tilt = enclosed(piece.slope, touch)
    if not convex:  # the negative of a concave function is convex
        ends, there, tilt = [_negative(v) for v in ends], _negative(there), _negative(tilt)
    found = enclosed_by(
        CONVEX_RANGE,
        X=x,
        start=max(piece.start, -_LARGEST),
        end=min(piece.end, _LARGEST),
        at=touch,
        low=there.lo,
        top=np.maximum(ends[0].hi, ends[1].hi),
        tau_lo=tilt.lo,
        tau_hi=tilt.hi,
    )
    return found if convex else range_signed(found, -1.0)


def _negative(x: Interval) -> Interval:
    return Interval(-x.hi, -x.lo)


def slopes_of(curve: Curve, x: Interval) -> tuple[FloatArray, FloatArray]:
    """Enclosure [s−, s+] of every difference quotient of f over each interval.

    f' is monotone on a piece of known shape, so its ends enclose it; f is continuous, so the mean
    value theorem carries this across pieces.
    """
    (lo, hi), back = _distinct(x.lo, x.hi)
    return tuple(s[back].reshape(x.shape) for s in _slopes(curve, Interval(lo, hi)))  # type: ignore[return-value]


def slope_range(curve: Curve, x: Interval) -> Range:
    """Where every difference quotient of f is, of two arguments in each range."""
    low, high = slopes_of(curve, x)
    return enclosed_by(SLOPE_RANGE, X=as_range(x), a=low, b=high)


def _slopes(curve: Curve, x: Interval) -> tuple[FloatArray, FloatArray]:
    low, high = np.full(x.shape, np.inf), np.full(x.shape, -np.inf)
    inside = _inside(curve, x)
    for piece, part, at in _parts(curve, x, inside):
        if piece.shape is Shape.UNKNOWN:
            with BALLS.working():
                whole = piece.slope(BALLS, _hull_balls(part))
                found = [Interval(lower(whole), upper(whole))]
        else:
            found = [enclosed(piece.slope, end) for end in (part.lo, part.hi)]
        for slope in found:
            low[at], high[at] = np.minimum(low[at], slope.lo), np.maximum(high[at], slope.hi)
    known = inside & (low <= high)
    least, most = curve.slopes
    # across a pole, where slopes are unbounded, difference quotients are no slopes
    whole = np.isfinite(low) & np.isfinite(high) | bool(np.all(np.isfinite(curve.slopes)))
    low = np.where(whole, np.maximum(low, least), low)
    high = np.where(whole, np.minimum(high, most), high)
    return np.where(known, low, least), np.where(known, high, most)


def linear_bounds_of(curve: Curve, x: Interval, range_: Interval) -> LinearBounds:
    """Linear bounds of f over each interval; constants where nothing better is known."""
    inside = _inside(curve, x)
    high_slope, low_slope = _proposed(curve, x, inside, _SAMPLES // 2)
    return _with_slopes(curve, x, range_, high_slope=high_slope, low_slope=low_slope)


def lines_of(curve: Curve, x: Interval, range_: Interval) -> tuple[LinearBounds, ...]:
    """Several linear bounds of f over each interval: of slopes evenly from that of the line that is
    best near its lower end to that of the one near its upper end."""
    inside = _inside(curve, x)
    first, last = (_proposed(curve, x, inside, place) for place in (1, _SAMPLES - 1))
    found = []
    for share in np.linspace(0.0, 1.0, _LINES):
        high, low = ((1.0 - share) * a + share * b for a, b in zip(first, last, strict=True))
        found.append(_with_slopes(curve, x, range_, high_slope=high, low_slope=low))
    return tuple(found)


def _with_slopes(
    curve: Curve, x: Interval, range_: Interval, *, high_slope: FloatArray, low_slope: FloatArray
) -> LinearBounds:
    inside = _inside(curve, x)
    _, high = _extremes(curve, x, high_slope, inside)
    low, _ = _extremes(curve, x, low_slope, inside)
    flat_high = ~inside | ~np.isfinite(high)
    flat_low = ~inside | ~np.isfinite(low)
    return LinearBounds(
        np.where(flat_low, 0.0, low_slope),
        np.where(flat_low, range_.lo, low),
        np.where(flat_high, 0.0, high_slope),
        np.where(flat_high, range_.hi, high),
    )


def band_of(curve: Curve, x: Interval, slope: FloatArray) -> Interval:
    """Bounds of f(x) − slope·x over each interval; infinite where f is not known."""
    inside = _inside(curve, x)
    low, high = _extremes(curve, x, slope, inside)
    return Interval(np.where(inside, low, -np.inf), np.where(inside, high, np.inf))


def _inside(curve: Curve, x: Interval) -> Mask:
    finite = np.isfinite(x.lo) & np.isfinite(x.hi)
    return np.asarray(finite & (x.lo >= curve.start) & (x.hi <= curve.end))


def _parts(curve: Curve, x: Interval, inside: Mask) -> Iterator[tuple[Piece, Interval, Mask]]:
    """Each piece with the elements whose interval meets it, cut to it."""
    for piece in curve.pieces:
        at = np.asarray(inside & (x.lo <= piece.end) & (x.hi >= piece.start))
        if np.any(at):
            cut = Interval(np.maximum(x.lo[at], piece.start), np.minimum(x.hi[at], piece.end))
            yield piece, cut, at


def _extremes(
    curve: Curve, x: Interval, slope: FloatArray, inside: Mask
) -> tuple[FloatArray, FloatArray]:
    """Lower and upper bounds of f(x) − slope·x over each interval."""
    (lo, hi, slopes), back = _distinct(x.lo, x.hi, slope)
    within = np.zeros(lo.shape, dtype=np.bool_)
    within[back] = inside.reshape(-1)
    found = _each_extreme(curve, Interval(lo, hi), slopes, within)
    return tuple(v[back].reshape(x.shape) for v in found)  # type: ignore[return-value]


def _distinct(*arrays: FloatArray) -> tuple[list[FloatArray], Places]:
    """The distinct tuples of elements in the same places, flat, and where each place finds its own:
    balls are slow, and large tensors often repeat themselves."""
    first, back = _representatives(*arrays)
    return [np.asarray(a, np.float64).reshape(-1)[first] for a in arrays], back


def _representatives(*arrays: FloatArray) -> tuple[Places, Places]:
    """The flat places of one of each of the distinct tuples, and where each place finds its own
    among these."""
    flat = [np.ascontiguousarray(a, np.float64).reshape(-1) for a in arrays]
    every = np.arange(flat[0].size)
    if flat[0].size < _MANY:
        return every, every
    bits = np.stack([f.view(np.uint64) for f in flat])
    order = np.lexsort(bits)
    ordered = bits[:, order]
    new = np.concatenate([[True], np.any(ordered[:, 1:] != ordered[:, :-1], axis=0)])
    back = np.empty_like(every)
    back[order] = np.cumsum(new) - 1
    return order[new], back


def _each_extreme(
    curve: Curve, x: Interval, slope: FloatArray, inside: Mask
) -> tuple[FloatArray, FloatArray]:
    low, high = np.full(x.shape, np.inf), np.full(x.shape, -np.inf)
    with BALLS.working():
        for piece, part, at in _parts(curve, x, inside):
            below, above = _piece_extremes(piece, part, slope[at])
            low[at], high[at] = np.minimum(low[at], below), np.maximum(high[at], above)
    return low, high


def _piece_extremes(
    piece: Piece, part: Interval, slope: FloatArray
) -> tuple[FloatArray, FloatArray]:
    if piece.shape is Shape.UNKNOWN:
        whole = _on_balls(piece, part, slope)
        return whole.lo, whole.hi
    convex = piece.shape is Shape.CONVEX
    touch = _tangency(piece, part, slope, ascending=convex)
    ends = [_beyond_line(piece.value, at, slope, at) for at in (part.lo, part.hi)]
    there = _beyond_line(piece.value, touch, slope, touch)
    tilt = _beyond_line(piece.slope, touch, slope, np.ones_like(touch))
    if convex:
        top = np.maximum(ends[0].hi, ends[1].hi)
        return _over_convex(part, touch, there.lo, top, (tilt.lo, tilt.hi)), top
    top = np.maximum(-ends[0].lo, -ends[1].lo)  # of −g, which is convex
    return -top, -_over_convex(part, touch, -there.hi, top, (-tilt.hi, -tilt.lo))


def _on_balls(piece: Piece, part: Interval, slope: FloatArray) -> Interval:
    """f(x) − slope·x on all of a part of unknown shape: as the formula says of the ball, and as the
    mean value theorem does."""
    at, middle = _hull_balls(part), ball_array(0.5 * part.lo + 0.5 * part.hi)
    line = ball_array(slope)
    first = np.asarray(piece.value(BALLS, at) - line * at, dtype=object)
    there = piece.value(BALLS, middle) - line * middle
    second = np.asarray(there + (piece.slope(BALLS, at) - line) * (at - middle), dtype=object)
    low = np.maximum(lower(first), lower(second))
    return Interval(low, np.minimum(upper(first), upper(second)))


def _beyond_line(
    formula: Formula, at: FloatArray, slope: FloatArray, height: FloatArray
) -> Interval:
    """formula(at) − slope·height, enclosed; in balls throughout where there are few."""
    if at.size < MANY:
        line = ball_array(slope) * ball_array(height)
        found = np.asarray(formula(BALLS, ball_array(at)) - line, dtype=object)
        return Interval(lower(found), upper(found))
    value, near = enclosed(formula, at), slope * height
    none = (slope == 0.0) | (height == 0.0)
    off = np.where(none, 0.0, np.abs(near) * (2.0 * UNIT) + SMALLEST)
    return Interval(add_down(value.lo, -add_up(near, off)), add_up(value.hi, add_up(-near, off)))


def _over_convex(
    part: Interval,
    touch: FloatArray,
    low: FloatArray,
    top: FloatArray,
    steep: tuple[FloatArray, FloatArray],
) -> FloatArray:
    """What a convex function is at least: at `touch` it is at least `low` and has a tangent of a
    slope between these, at the ends it is at most `top`."""
    less = apply(
        CONVEX_PIECE,
        a=part.lo,
        z=part.hi,
        at=touch,
        low=low,
        top=top,
        tau_lo=steep[0],
        tau_hi=steep[1],
    )
    return add_down(low, -less.bound)


def _tangency(piece: Piece, part: Interval, slope: FloatArray, ascending: bool) -> FloatArray:
    """About where f' passes `slope`, f' being monotone; an end where it does not."""
    a, b = part.lo.copy(), part.hi.copy()

    def beyond(at: FloatArray) -> Mask:
        tilt = np.asarray(piece.slope(_REALS, at), np.float64) - slope
        return np.asarray(tilt > 0 if ascending else tilt < 0)

    with np.errstate(all="ignore"):
        at_start, before_end = beyond(a), ~beyond(b)
        for _ in range(0 if np.all(at_start | before_end) else _BISECTIONS):
            middle = 0.5 * a + 0.5 * b
            right = beyond(middle)
            a, b = np.where(right, a, middle), np.where(right, middle, b)
        middle = np.clip(0.5 * a + 0.5 * b, part.lo, part.hi)
    return np.where(at_start, part.lo, np.where(before_end, part.hi, middle))


def _proposed(curve: Curve, x: Interval, inside: Mask, place: int) -> tuple[FloatArray, FloatArray]:
    """Slopes of the upper and the lower line whose heights at a sample are about the best: those of
    the edges of the hull of sampled points that lie over and under it."""
    shape = x.shape
    lo, hi = (np.where(inside, v, 0.0).reshape(-1) for v in (x.lo, x.hi))
    upper, lower = np.zeros(lo.size), np.zeros(lo.size)
    for start in range(0, lo.size, _CHUNK):
        cut = slice(start, start + _CHUNK)
        steps = np.linspace(0.0, 1.0, _SAMPLES + 1)
        at = lo[cut, None] + (hi[cut] - lo[cut])[:, None] * steps
        values = _approximate(curve, at)
        x0, y0 = at[:, :place, None], values[:, :place, None]
        x1, y1 = at[:, None, place + 1 :], values[:, None, place + 1 :]
        with np.errstate(all="ignore"):
            rise = (y1 - y0) / (x1 - x0)
            height = y0 + rise * (at[:, place, None, None] - x0)
        height = np.where(np.isfinite(height), height, np.nan)
        flat_rise, flat_height = rise.reshape(len(at), -1), height.reshape(len(at), -1)
        rows = np.arange(len(at))
        upper[cut] = flat_rise[rows, np.argmax(np.nan_to_num(flat_height, nan=-np.inf), axis=1)]
        lower[cut] = flat_rise[rows, np.argmin(np.nan_to_num(flat_height, nan=np.inf), axis=1)]
    return tuple(np.where(np.isfinite(m), m, 0.0).reshape(shape) for m in (upper, lower))  # type: ignore[return-value]


def _approximate(curve: Curve, at: FloatArray) -> FloatArray:
    found = np.zeros_like(at)
    with np.errstate(all="ignore"):
        for piece in curve.pieces:
            here = (at >= piece.start) & (at <= piece.end)
            if np.any(here):
                found[here] = piece.value(_REALS, at[here])
    return found


def _hull_balls(x: Interval) -> ObjectArray:
    pairs = zip(x.lo.ravel().tolist(), x.hi.ravel().tolist(), strict=True)
    return object_array((flint.arb(a).union(flint.arb(b)) for a, b in pairs), x.shape)
