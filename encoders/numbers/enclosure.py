"""Outward-rounded float64 arithmetic: every number the analyser reports is an upper bound.

Error analysis, used throughout. Let U = 2^-53. A float64 sum or dot product of n terms in any
order, with or without FMA, has absolute error at most γ(n)·Σ|a_i b_i| with γ(n) = nU/(1 − nU)
(Higham 2002, §3.1; Jeannerod & Rump 2013), plus at most n·2^-1074 from underflowing products.
Matrix products through BLAS are such sums: conventional, not Strassen's. Where all terms are
non-negative, exact ≤ fl/(1 − γ(n)), so multiplying by 1 + γ(2n + 4) rounds up; products cannot
underflow once every non-zero operand is raised to at least 2^-500 (`raised`), which only
increases a non-negative sum. Single operations are widened by a few U relative to their result,
so that exact zeros stay zero. Overflow gives infinite bounds, ∞ − ∞ a NaN that counts as unknown;
callers that may meet either silence numpy's warnings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

UNIT = 2.0**-53
SMALLEST = 2.0**-1074
_FLOOR = 2.0**-500
_NORMAL = 2.0**-1000
_ABOVE = 1.0 + 4.0 * UNIT  # times s ≥ 0, rounded, it is at least (1 + 2U)·s, unless s is subnormal
_BLOCK = 2**14
_MANY = 2**10


def gamma(terms: int) -> float:
    """An upper bound on γ(n) = nU/(1 − nU). Raises ValueError beyond 2^40 terms."""
    if terms > 2**40:
        raise ValueError(f"a sum of {terms} terms is too long for the float64 error analysis")
    return terms * UNIT * (1.0 + 2.0**-12)


def in_blocks(f: Callable[..., FloatArray], *arguments: FloatArray | float) -> FloatArray:
    """f of arrays that broadcast, f working element by element; large ones in pieces, so that what
    f needs on the way stays in the processor's cache."""
    arrays, small = [], True
    for given in arguments:
        a = np.asarray(given, np.float64)
        arrays.append(a)
        small = small and a.size <= _BLOCK
    if small:
        return f(*arrays)
    return all_in_blocks(lambda *blocks: (f(*blocks),), *arrays)[0]


def _are_small(arrays: Sequence[FloatArray]) -> bool:
    """Asked of every operation: a loop, for a generator costs as much as adding up a hundred
    numbers."""
    for a in arrays:  # noqa: SIM110
        if a.size > _BLOCK:
            return False
    return True


def all_in_blocks(
    f: Callable[..., tuple[FloatArray, ...]], *arguments: FloatArray | float
) -> tuple[FloatArray, ...]:
    """The same for an f that gives several arrays."""
    arrays = [np.asarray(a, dtype=np.float64) for a in arguments]
    if _are_small(arrays):
        return f(*arrays)
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    flat = [_flat(a, shape) for a in arrays]
    size = math.prod(shape)
    rows: list[FloatArray] = []
    for start in range(0, size, _BLOCK):
        piece = slice(start, start + _BLOCK)
        found = f(*(a if a.size == 1 else a[piece] for a in flat))
        if not rows:
            rows = [np.empty(size) for _ in found]
        for row, part in zip(rows, found, strict=True):
            row[piece] = part
    return tuple(row.reshape(shape) for row in rows)


def any_in_blocks(f: Callable[[FloatArray], BoolArray], a: FloatArray) -> bool:
    """Whether f, working element by element, holds of any; looked at in pieces."""
    if a.size <= _BLOCK:
        return bool(f(a).any())
    flat = a.reshape(-1)
    return any(bool(f(flat[i : i + _BLOCK]).any()) for i in range(0, flat.size, _BLOCK))


def _flat(a: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """In one dimension; one number that stands for all is left alone."""
    if a.size == 1 or not any(a.strides):
        return a[tuple(slice(1) for _ in a.shape)].reshape(1)
    return np.broadcast_to(a, shape).reshape(-1)


def nothing(shape: tuple[int, ...]) -> FloatArray:
    """Zeros, read only, that take no memory to speak of."""
    if math.prod(shape) > _MANY:
        return np.broadcast_to(0.0, shape)
    zeros = np.zeros(shape)
    zeros.flags.writeable = False
    return zeros


def some(a: FloatArray) -> bool:
    """Whether a number is not 0; one that stands for all is read once."""
    if a.size > 1 and not any(a.strides):
        return bool(a.item(0) != 0.0)
    return bool(a.size) and (highest(a) != 0.0 or lowest(a) != 0.0)


def lowest(x: FloatArray) -> float:
    """The least number, NaN if there is one, +∞ of none: `min`, and quicker of few."""
    return float(x.item(x.argmin())) if x.size else float("inf")


def highest(x: FloatArray) -> float:
    """The greatest number, NaN if there is one, −∞ of none: `max`, and quicker of few."""
    return float(x.item(x.argmax())) if x.size else -float("inf")


def add_up(a: FloatArray | float, b: FloatArray | float) -> FloatArray:
    """An upper bound on a + b, within five roundings of it; exact zeros stay zero.

    With s = fl(a + b), a + b ≤ s + U|s|, and fl(s + fl(4U|s|)) is at least that, as is
    fl((1 + 4U)·s) where s ≥ 0 (a subnormal s is exact). A sum below the range of float64 gives NaN.
    """
    return in_blocks(_add_up, a, b)


def _add_up(a: FloatArray, b: FloatArray) -> FloatArray:
    s = np.asarray(a + b)
    if s.size > _MANY and lowest(s) >= 0.0:
        s *= _ABOVE
        return s
    up = np.abs(s)
    up *= 4.0 * UNIT
    up += s
    return np.asarray(up)


def add_down(a: FloatArray, b: FloatArray | float) -> FloatArray:
    """A lower bound on a + b, within five roundings of it; exact zeros stay zero."""
    return in_blocks(_add_down, a, b)


def _add_down(a: FloatArray, b: FloatArray) -> FloatArray:
    s = np.asarray(a + b)
    down = np.abs(s)
    down *= -4.0 * UNIT
    down += s
    return np.asarray(down)


def multiply_up(a: FloatArray, b: FloatArray | float) -> FloatArray:
    """An upper bound on a·b, within three roundings of it; exact zeros stay zero, and 0·∞ counts
    as 0."""
    return in_blocks(_multiply_up, a, b)


def _multiply_up(a: FloatArray, b: FloatArray) -> FloatArray:
    p = np.asarray(a * b)
    many = p.size > _MANY and highest(p) < np.inf
    if many and not ((a != 0) & (p < _NORMAL)).any():  # neither negative nor near underflow
        p *= _ABOVE
        return p
    zero = (a == 0.0) | (b == 0.0)
    if not many or not (up := np.abs(p)).max() < np.inf:
        return np.where(zero, 0.0, np.nextafter(p, np.inf))
    # Quicker where there are many: the next number is at most 2U|p| or, if p is subnormal, 2^-1074
    # away.
    up *= 2.0 * UNIT
    up += (~zero).astype(np.int64).view(np.float64)  # the bits of 0 and of 2^-1074
    up += p
    return np.asarray(up)


def raised(a: FloatArray) -> FloatArray:
    """Non-negative numbers with every non-zero one raised to at least 2^-500."""
    return np.where(_tiny(a), _FLOOR, a) if any_in_blocks(_tiny, a) else a


def _tiny(a: FloatArray) -> BoolArray:
    return (a > 0) & (a < _FLOOR)


def sum_up(a: FloatArray, axis: int | tuple[int, ...] | None = None) -> FloatArray:
    """An upper bound on the sum of non-negative numbers along `axis`."""
    total = np.sum(a, axis=axis)
    terms = int(a.size // max(np.size(total), 1))
    return np.asarray(total * (1.0 + gamma(2 * terms + 4)))


def signed_sums_up(v: FloatArray) -> FloatArray:
    """Upper bounds on the sums of v (k, terms), of either sign, along its last axis."""
    return add_up(np.sum(v, axis=1), sum_up(np.abs(v), axis=1) * gamma(v.shape[1] + 4))


def norms_up(v: FloatArray, axis: int) -> FloatArray:
    """Upper bounds on the Euclidean norms of vectors that lie along `axis`, which goes."""
    squares = sum_up(multiply_up(v, v), axis=axis)
    return np.asarray(np.sqrt(squares) * (1.0 + 2.0**-50))


def dot_up(weights: FloatArray, values: FloatArray, kept: int = 0) -> FloatArray:
    """Upper bounds on |c|·v for functionals c of shape (k, *shape) and v ≥ 0 of that shape.

    Over the first `kept` axes of v nothing is summed: each position there has functionals of its
    own, and the bounds have the shape (k, *those axes).
    """
    if kept:
        return _dots_up(weights, values, kept)
    flat = values.reshape(-1)
    if not some(flat):
        return np.zeros(weights.shape[0])
    rows = weights.reshape(weights.shape[0], -1)
    reached = None
    if not (highest(flat) < np.inf and lowest(flat) > -np.inf):
        # 0·∞: an unbounded element with weight zero must not poison the row.
        unbounded = ~np.isfinite(flat)
        reached = np.any(rows[:, unbounded] != 0, axis=1)
        flat = np.where(unbounded, 0.0, flat)
    step = max(_BLOCK // max(rows.shape[0], 1), 2**10)  # columns, few enough to stay in the cache
    with np.errstate(invalid="ignore", over="ignore"):
        total = np.abs(rows[:, :step]) @ flat[:step]
        for start in range(step, rows.shape[1], step):
            total += np.abs(rows[:, start : start + step]) @ flat[start : start + step]
        total *= 1.0 + gamma(2 * rows.shape[1] + 4)
    total = add_up(total, _underflowing(rows, total))
    return total if reached is None else np.where(reached, np.inf, total)


def _dots_up(weights: FloatArray, values: FloatArray, kept: int) -> FloatArray:
    """`dot_up` of many values, whose functionals are multiplied at once."""
    rows, flat = _apart(weights, values, kept)
    shape = weights.shape[: 1 + kept]
    if not some(flat):
        return np.zeros(shape)
    reached = None
    if not highest(flat) < np.inf:
        unbounded = ~np.isfinite(flat)
        reached = np.any((rows != 0) & unbounded, axis=2)
        flat = np.where(unbounded, 0.0, flat)
    with np.errstate(invalid="ignore", over="ignore"):
        total = _sums(np.abs(rows), flat)
        total *= 1.0 + gamma(2 * flat.shape[1] + 4)
    total = add_up(total, _underflowing(rows, total))
    return (total if reached is None else np.where(reached, np.inf, total)).reshape(shape)


def _apart(weights: FloatArray, values: FloatArray, kept: int) -> tuple[FloatArray, FloatArray]:
    """Functionals (k, n, elements) of values (n, elements), one set for each of n positions."""
    many, terms = math.prod(values.shape[:kept]), math.prod(values.shape[kept:])
    return weights.reshape(weights.shape[0], many, terms), values.reshape(many, terms)


def _sums(rows: FloatArray, flat: FloatArray) -> FloatArray:
    """Σ over the last axis, (k, n)."""
    return np.asarray(np.matmul(rows.swapaxes(0, 1), flat[:, :, None])[:, :, 0].T)


def _underflowing(rows: FloatArray, total: FloatArray) -> FloatArray | float:
    """What products of these functionals may lose to underflow; zero ones, of which those are asked
    whose `total` is zero, lose nothing."""
    lost: float = 2.0 * rows.shape[-1] * SMALLEST
    if lowest(total) > 0.0:
        return lost
    zero: BoolArray = total == 0.0
    zero[zero] = ~np.any(rows[zero], axis=-1)
    return np.asarray(np.where(zero, 0.0, lost))


def inner_up(weights: FloatArray, values: FloatArray, kept: int = 0) -> FloatArray:
    """Upper bounds on c·v for functionals c of shape (k, *shape) and signed v: infinite where an
    element of v is, or where it is no number. `kept` as in `dot_up`."""
    if kept:
        rows, flat = _apart(weights, values, kept)
    else:
        rows, flat = weights.reshape(weights.shape[0], -1), values.reshape(-1)
    shape = weights.shape[: 1 + kept]
    if not some(flat):
        return np.zeros(shape)
    size = dot_up(weights, np.abs(values), kept)
    slack = size * gamma(flat.shape[-1] + 1)
    tiny: FloatArray | float = flat.shape[-1] * SMALLEST
    if not lowest(size) > 0.0:
        tiny = np.where(size == 0.0, 0.0, tiny)
    with np.errstate(invalid="ignore"):
        sums = _sums(rows, flat).reshape(shape) if kept else rows @ flat
        total = add_up(add_up(sums, slack), tiny)
    return np.where(np.isnan(total), np.inf, total) if np.isnan(lowest(total)) else total


@dataclass(frozen=True)
class Interval:
    """Elementwise enclosures lo ≤ x ≤ hi, arrays of one shape; infinite ends mean unbounded."""

    lo: FloatArray
    hi: FloatArray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.lo.shape

    @property
    def magnitude(self) -> FloatArray:
        """max |x| per element."""
        return in_blocks(lambda lo, hi: np.maximum(np.abs(lo), np.abs(hi)), self.lo, self.hi)

    def inflate(self, radius: FloatArray) -> Interval:
        """All points within `radius` of the interval: no others than its own where that is 0."""
        return Interval(*all_in_blocks(_inflated, self.lo, self.hi, radius))

    def intersect(self, other: Interval) -> Interval:
        """Common points. Both must enclose the same quantity, so the result is not empty."""
        return Interval(np.maximum(self.lo, other.lo), np.minimum(self.hi, other.hi))

    def move(self, f: Callable[[FloatArray], FloatArray]) -> Interval:
        """The interval after moving its elements about (reshape, transpose, slice…)."""
        return Interval(f(self.lo), f(self.hi))


def _inflated(lo: FloatArray, hi: FloatArray, radius: FloatArray) -> tuple[FloatArray, ...]:
    still = np.equal(radius, 0.0)
    below, above = _add_down(lo, -radius), _add_up(hi, radius)
    if not still.any():
        return below, above
    return np.where(still, lo, below), np.where(still, hi, above)


def point(values: FloatArray) -> Interval:
    """Exactly known values."""
    return Interval(values, values)


def anywhere(shape: tuple[int, ...]) -> Interval:
    """Of what nothing is known."""
    return Interval(np.full(shape, -np.inf), np.full(shape, np.inf))


def with_zero(x: Interval, where: BoolArray) -> Interval:
    """The ranges, widened to hold zero at these places."""
    low, high = np.minimum(x.lo, 0.0), np.maximum(x.hi, 0.0)
    return Interval(np.where(where, low, x.lo), np.where(where, high, x.hi))


def midpoint_radius(x: Interval) -> tuple[FloatArray, FloatArray]:
    """A float64 point m and r ≥ 0 with [lo, hi] ⊆ [m − r, m + r]; r = 0 for points."""
    with np.errstate(over="ignore", invalid="ignore"):
        mid, radius = all_in_blocks(_midpoint_radius, x.lo, x.hi)
    return mid, radius


def _midpoint_radius(lo: FloatArray, hi: FloatArray) -> tuple[FloatArray, ...]:
    mid = np.where(lo == hi, lo, 0.5 * lo + 0.5 * hi)
    return mid, np.maximum(_add_up(hi, -mid), _add_up(mid, -lo))


@dataclass(frozen=True)
class LinearPart:
    """The linear action M of one variable input on a node's output, in float64.

    `apply` (k, *in) → (k, *out) computes M·x; `apply_abs` computes |M|·v for v ≥ 0 with non-zero
    coefficients of |M| raised to 2^-500; `adjoint` (k, *out) → (k, *in) computes Mᵀc. `terms` and
    `adjoint_terms` bound the number of products in one element of `apply` and `adjoint`; 0 says
    that the result is exact (data movement). The true coefficients are M·(1 + θ), |θ| ≤ `relative`.
    """

    apply: Callable[[FloatArray], FloatArray]
    apply_abs: Callable[[FloatArray], FloatArray]
    adjoint: Callable[[FloatArray], FloatArray]
    terms: int
    adjoint_terms: int
    relative: float = 0.0

    def magnitude_up(self, values: FloatArray) -> FloatArray:
        """An upper bound on |M_true|·v for one v ≥ 0 of the input's shape."""
        largest = max(highest(values), 0.0)
        if largest == 0.0:
            return np.zeros_like(self.apply_abs(values[None])[0])
        if not largest < np.inf:
            # 0·∞ inside a matrix product is NaN: find which outputs an unbounded input reaches.
            unbounded = ~np.isfinite(values)
            reached = self.apply_abs(unbounded.astype(np.float64)[None])[0] > 0
            rest = self.magnitude_up(np.where(unbounded, 0.0, values))
            return np.where(reached, np.inf, rest)
        total = self.apply_abs(raised(values)[None])[0]
        if self.terms == 0:
            return np.asarray(total)
        return np.asarray(total * ((1.0 + gamma(2 * self.terms + 8)) * (1.0 + 2 * self.relative)))

    @property
    def exact(self) -> bool:
        """Is `adjoint` computed without an error?"""
        return self.adjoint_terms == 0 and self.relative == 0.0

    def adjoint_error(self, magnitudes: FloatArray) -> FloatArray:
        """ρ with |c·M_true x − fl(Mᵀc)·x| ≤ |c|·ρ for every |x| ≤ magnitudes, underflow apart."""
        if self.exact:
            return np.zeros_like(self.apply_abs(magnitudes[None])[0])
        factor = gamma(self.adjoint_terms) + self.relative
        return multiply_up(self.magnitude_up(magnitudes), factor * (1.0 + 2.0**-40))

    def adjoint_underflow(self, magnitudes: FloatArray) -> float:
        """What underflowing products in fl(Mᵀc) can add to |fl(Mᵀc)·x|."""
        if self.adjoint_terms == 0 or magnitudes.size == 0:
            return 0.0
        largest = float(np.max(magnitudes))
        return largest * SMALLEST * (2.0 * self.adjoint_terms * magnitudes.size)
