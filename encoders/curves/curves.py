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
from encoders.arithmetic.exact_fields import Balls, ObjectArray, object_array
from encoders.functions.curve import Curve, Piece, Shape
from encoders.lemmas.functions import CONVEX_PIECE
from encoders.lemmas.kernel import apply
from encoders.numbers.enclosure import FloatArray, Interval, add_down
from encoders.operator import LinearBounds

Mask = npt.NDArray[np.bool_]

_SAMPLES = 16
_LINES = 5  # on either side, where several are asked for
_BISECTIONS = 30
_CHUNK = 4096
_MANY = 256  # elements from which on equal ones are looked for
BALLS = Balls(bits=96)
_REALS = ApproximateReals()


def range_of(curve: Curve, x: Interval) -> Interval:
    """Enclosure of f over each interval."""
    zero = np.zeros_like(x.lo)
    inside = _inside(curve, x)
    lo, hi = _extremes(curve, x, zero, inside)
    crude = curve.range(x)
    return Interval(np.where(inside, lo, crude.lo), np.where(inside, hi, crude.hi))


def slopes_of(curve: Curve, x: Interval) -> tuple[FloatArray, FloatArray]:
    """Enclosure [s−, s+] of every difference quotient of f over each interval.

    f' is monotone on a piece of known shape, so its ends enclose it; f is continuous, so the mean
    value theorem carries this across pieces.
    """
    (lo, hi), back = _distinct(x.lo, x.hi)
    return tuple(s[back].reshape(x.shape) for s in _slopes(curve, Interval(lo, hi)))  # type: ignore[return-value]


def _slopes(curve: Curve, x: Interval) -> tuple[FloatArray, FloatArray]:
    low, high = np.full(x.shape, np.inf), np.full(x.shape, -np.inf)
    inside = _inside(curve, x)
    with BALLS.working():
        for piece, part, at in _parts(curve, x, inside):
            ends = (
                (_hull_balls(part),)
                if piece.shape is Shape.UNKNOWN
                else (ball_array(part.lo), ball_array(part.hi))
            )
            for end in ends:
                slope = piece.slope(BALLS, end)
                low[at] = np.minimum(low[at], lower(slope))
                high[at] = np.maximum(high[at], upper(slope))
    return (
        np.where(inside & (low <= high), low, curve.slopes[0]),
        np.where(inside & (low <= high), high, curve.slopes[1]),
    )


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


def _distinct(*arrays: FloatArray) -> tuple[list[FloatArray], npt.NDArray[np.intp]]:
    """The distinct tuples of elements in the same places, flat, and where each place finds its own:
    balls are slow, and large tensors often repeat themselves."""
    flat = [np.ascontiguousarray(a, np.float64).reshape(-1) for a in arrays]
    every = np.arange(flat[0].size)
    if flat[0].size < _MANY:
        return flat, every
    bits = np.stack([f.view(np.uint64) for f in flat])
    order = np.lexsort(bits)
    ordered = bits[:, order]
    new = np.concatenate([[True], np.any(ordered[:, 1:] != ordered[:, :-1], axis=0)])
    back = np.empty_like(every)
    back[order] = np.cumsum(new) - 1
    return [f[order[new]] for f in flat], back


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
    m = ball_array(slope)

    def g(at: ObjectArray) -> ObjectArray:
        return np.asarray(piece.value(BALLS, at) - m * at, dtype=object)

    if piece.shape is Shape.UNKNOWN:
        whole = g(_hull_balls(part))
        return lower(whole), upper(whole)
    a, b = ball_array(part.lo), ball_array(part.hi)
    ends = g(a), g(b)
    convex = piece.shape is Shape.CONVEX
    touch = _tangency(piece, part, slope, ascending=convex)
    t = ball_array(touch)
    at_touch, tilt = g(t), np.asarray(piece.slope(BALLS, t) - m, dtype=object)
    if convex:
        top = np.maximum(upper(ends[0]), upper(ends[1]))
        return _over_convex(part, touch, lower(at_touch), top, (lower(tilt), upper(tilt))), top
    top = np.maximum(upper(-ends[0]), upper(-ends[1]))  # of −g, which is convex
    steep = -upper(tilt), -lower(tilt)
    return -top, -_over_convex(part, touch, -upper(at_touch), top, steep)


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
        for _ in range(_BISECTIONS):
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


_ball = np.frompyfunc(flint.arb, 1, 1)


def ball_array(x: FloatArray) -> ObjectArray:
    """Exact balls (radius 0) of float64 numbers, in an object array of the same shape."""
    return np.asarray(_ball(x.astype(object)), dtype=object)


def _hull_balls(x: Interval) -> ObjectArray:
    pairs = zip(x.lo.ravel().tolist(), x.hi.ravel().tolist(), strict=True)
    return object_array((flint.arb(a).union(flint.arb(b)) for a, b in pairs), x.shape)


def _up_number(v: flint.arb) -> float:
    if not v.is_finite():
        return float("inf")
    top = v.upper()
    near = float(top)
    return near if top <= flint.arb(near) else float(np.nextafter(near, np.inf))


def _down_number(v: flint.arb) -> float:
    return -_up_number(-v)


_ups, _downs = np.frompyfunc(_up_number, 1, 1), np.frompyfunc(_down_number, 1, 1)


def upper(balls: ObjectArray) -> FloatArray:
    """Float64 numbers at least as large as every point of the balls."""
    return np.asarray(_ups(balls), np.float64)


def lower(balls: ObjectArray) -> FloatArray:
    """Float64 numbers that are at most the lower ends of the balls."""
    return np.asarray(_downs(balls), np.float64)
