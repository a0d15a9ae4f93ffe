"""Normalising rows: z = (x − μ)/√(var + ε), or x/√(mean x² + ε) without the mean.

With P the projection that takes the mean away, √(n·var) = ‖Px‖, which moves by at most
‖d‖ with x; ∂z_i/∂x_j = (δ_ij − 1/n − z_i·z_j/n)/σ; Σ z² ≤ n and Σ z = 0 give |z_i| ≤ √(n − 1).
Between two rows ẑ − z = M·d exactly for a matrix M (`secants`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encoders.lemmas.kernel import carried_back, enclosed
from encoders.lemmas.ranges.functions import MONOTONE_RANGE
from encoders.lemmas.ranges.making import both_ranges
from encoders.lemmas.ranges.operations import MAGNITUDE_RANGE
from encoders.lemmas.ranges.placing import range_along, range_of
from encoders.lemmas.ranges.range import Range
from encoders.lemmas.ranges.rows import NORMALIZED_RANGE
from encoders.numbers.enclosure import (
    UNIT,
    FloatArray,
    Interval,
    add_down,
    add_up,
    dot_up,
    gamma,
    inner_up,
    midpoint_radius,
    multiply_up,
    norms_up,
    sum_up,
)
from encoders.numbers.row_forms import RowForms
from encoders.operator import Contribution, DifferenceMap, Moved, ValueMap
from encoders.relaxations.low_rank import LowRank, Pairs, is_wide, low_rank
from encoders.relaxations.quotients import quotient_range
from encoders.rounding.error_arithmetic import interval_product, interval_quotient

MOST_ENTRIES = (
    2**23
)  # of Jacobians that are stored entry by entry: a little tighter, as fits the memory


@dataclass(frozen=True)
class Normalized:
    """Ranges over rows (rows, n): deviations c, their mean square, σ = √(var + ε), and z = c/σ."""

    mean: Interval
    deviation: Range
    variance: Range
    sigma: Range
    z: Range


def normalized(
    x: Interval,
    epsilon: float,
    *,
    centred: bool,
    least: FloatArray | None = None,
    forms: RowForms | None = None,
) -> Normalized:
    """Infinite or NaN ends stay what they are: nothing is known of such rows but |z|. `least`
    (rows, 1) are norms that rows have at least, less their means where these are taken away, and
    `forms` enclose them."""
    n = x.shape[1]
    middle, radius = midpoint_radius(x)
    mean_middle = np.mean(middle, axis=1, keepdims=True) if centred else np.zeros((len(middle), 1))
    c = middle - mean_middle
    if centred:
        average = sum_up(radius, axis=1)[:, None] / n * (1.0 + 2.0**-50)
        slack = gamma(n + 6) * (
            np.abs(middle) + sum_up(np.abs(middle), axis=1)[:, None] / n * (1.0 + 2.0**-50)
        )
        own = add_up(multiply_up(radius, max(1.0 - 2.0 / n, 0.0) + 2 * UNIT), average)
        wide = add_up(own, slack)
        mean_wide = add_up(average, np.max(slack, axis=1, keepdims=True))
        mean = Interval(add_down(mean_middle, -mean_wide), add_up(mean_middle, mean_wide))
    else:
        wide, slack = radius, np.zeros_like(radius)
        mean = Interval(np.zeros_like(mean_middle), np.zeros_like(mean_middle))
    deviation = _deviation(x, c, wide)
    if forms is not None:
        near = add_down(forms.middle, -forms.wide), add_up(forms.middle, forms.wide)
        deviation = both_ranges(deviation, Interval(*near))
    variance = _mean_square(c, radius, slack, deviation)
    if forms is not None:
        variance = both_ranges(variance, _square_near(forms))
    if least is not None:
        low = np.maximum(least * least / n * (1.0 - 2.0**-50) - 2.0**-1000, 0.0)
        variance = both_ranges(variance, Interval(low, np.full(low.shape, np.inf)))
    shifted = Interval(add_down(variance.lo, epsilon), add_up(variance.hi, epsilon))
    with np.errstate(invalid="ignore"):
        low = np.nextafter(np.sqrt(np.maximum(shifted.lo, 0.0)), 0.0)
        high = np.nextafter(np.sqrt(shifted.hi), np.inf)
    sigma = enclosed(MONOTONE_RANGE, X=variance, a=low, b=high)
    known = np.broadcast_to((sigma.lo > 0.0) & np.isfinite(sigma.hi), x.shape)
    known = known & np.isfinite(deviation.magnitude)
    z = quotient_range(deviation, sigma, known)
    squares = n - 1.0 if centred else float(n)
    most = float(np.sqrt(squares)) * (1.0 + 2.0**-50)
    z = both_ranges(z, enclosed(NORMALIZED_RANGE, n=squares, M=most))
    return Normalized(mean, deviation, variance, sigma, z)


def _deviation(x: Interval, c: FloatArray, wide: FloatArray) -> Range:
    """Of what is left of the numbers of a row when its mean is taken away, or not: each within
    `wide` of c, the same of the middles."""
    known = np.isfinite(c) & np.isfinite(wide)
    low = np.where(known, add_down(c, -wide), -np.inf)
    high = np.where(known, add_up(c, wide), np.inf)
    return enclosed(MONOTONE_RANGE, X=range_along(range_of(x), axis=1), a=low, b=high)


def _mean_square(c: FloatArray, radius: FloatArray, slack: FloatArray, deviation: Range) -> Range:
    """Range of Σc²/n, (rows, 1): from the elements' ranges, in whose magnitudes it rises, and from
    the norm's triangle rule: it rises in the norm."""
    n = c.shape[1]
    largest, least = deviation.magnitude, np.maximum(np.maximum(deviation.lo, -deviation.hi), 0.0)
    shrink = 1.0 - gamma(2 * n + 8)
    tiny = n * 2.0**-1000
    high = sum_up(multiply_up(largest, largest), axis=1)[:, None]
    low = np.maximum(np.sum(least * least, axis=1, keepdims=True) * shrink - tiny, 0.0)
    norm_high = norms_up(c, axis=1)[:, None]
    norm_low = np.sqrt(np.maximum(np.sum(c * c, axis=1, keepdims=True) * shrink - tiny, 0.0))
    reach = add_up(*(norms_up(v, axis=1)[:, None] for v in (radius, slack)))
    outer = add_up(norm_high, reach)
    inner = np.maximum(add_down(norm_low * (1.0 - 2.0**-50), -reach), 0.0)
    high = np.minimum(high, multiply_up(outer, outer))
    low = np.maximum(low, inner * inner * (1.0 - 2.0**-50))
    sizes = enclosed(MAGNITUDE_RANGE, X=range_along(deviation, axis=1))
    ends = low / n * (1.0 - 2.0**-50), high / n * (1.0 + 2.0**-50)
    return enclosed(MONOTONE_RANGE, X=sizes, a=ends[0], b=ends[1])


def _square_near(forms: RowForms) -> Interval:
    """Of Σc²/n, (rows, 1): norms are within `reach` of the middle's; along the middle, they are
    what a functional of the row is, and across it at most `reach`."""
    n = forms.middle.shape[1]
    norm, reach = norms_up(forms.middle, axis=1)[:, None], forms.reach[:, None]
    less = 1.0 - gamma(4 * n + 16)
    with np.errstate(divide="ignore", invalid="ignore"):
        unit = np.where(norm > 0.0, forms.middle / norm, 0.0)  # no longer than 1
        moved = forms.along(unit[None])[0][:, None]
        # as much as the rounded unit vector and its product with the middle are off by
        moved = moved + gamma(4 * n + 16) * (norm + reach)
    moved = np.where(np.isfinite(moved), np.minimum(moved, reach), reach)
    outer = add_up(norm, reach)
    far = add_up(norm, moved)
    square = np.minimum(
        multiply_up(outer, outer), add_up(multiply_up(far, far), multiply_up(reach, reach))
    )
    inner = np.maximum(add_down(norm * less, -moved), 0.0)
    low = np.maximum(inner * inner / n * (1.0 - 2.0**-50) - 2.0**-1000, 0.0)
    return Interval(low, square / n * (1.0 + 2.0**-50))


def jacobian(v: Normalized, centred: bool) -> Interval | LowRank:
    """(rows, n, n) from the ranges of z and σ."""
    if is_wide(v.z, MOST_ENTRIES):
        return _low_rank(v, centred)
    n = v.z.shape[1]
    a = Interval(v.z.lo[:, :, None], v.z.hi[:, :, None])
    b = Interval(v.z.lo[:, None, :], v.z.hi[:, None, :])
    product = interval_product(a, b)
    at = np.arange(n)
    product.lo[:, at, at] = _least_square(v.z)
    inner = _shares(np.eye(n)[None], product, n, centred)
    full = Interval(
        *(np.broadcast_to(s[:, :, None], inner.shape) for s in (v.sigma.lo, v.sigma.hi))
    )
    return interval_quotient(inner, full)


def secants(x: Normalized, between: Normalized, run: Normalized, centred: bool) -> Interval | None:
    """(rows, n, n): a matrix M with ẑ − z = M·d, from the ranges of what is read, x, of the means
    (x + x̂)/2 and of x̂; None where it has too many entries.

    σ̂² − σ² = 2·⟨c̄, d⟩/n with c̄ the deviations of the means, so that ẑ − z, which is
    Pd/σ̂ − z·(σ̂ − σ)/σ̂, is (P − z·ζᵀ/n)·d/σ̂ with ζ = 2·c̄/(σ̂ + σ), exactly. |c̄| ≤ (|c| + |ĉ|)/2
    as norms, so ζ keeps the limit of z.
    """
    if is_wide(x.z, MOST_ENTRIES):
        return None
    n = x.z.shape[1]
    both = Interval(add_down(x.sigma.lo, run.sigma.lo), add_up(x.sigma.hi, run.sigma.hi))
    half = Interval(*(np.broadcast_to(0.5 * s, x.z.shape) for s in (both.lo, both.hi)))
    most = float(np.sqrt(n - 1.0 if centred else float(n))) * (1.0 + 2.0**-50)
    quotient = interval_quotient(between.deviation, half)
    zeta = Interval(np.fmax(quotient.lo, -most), np.fmin(quotient.hi, most))  # NaN says nothing
    product = interval_product(
        Interval(x.z.lo[:, :, None], x.z.hi[:, :, None]),
        Interval(zeta.lo[:, None, :], zeta.hi[:, None, :]),
    )
    inner = _shares(np.eye(n)[None], product, n, centred)
    full = Interval(
        *(np.broadcast_to(s[:, :, None], inner.shape) for s in (run.sigma.lo, run.sigma.hi))
    )
    return interval_quotient(inner, full)


def closer(
    jacobian: Interval | LowRank, secant: Interval | None, error: FloatArray
) -> Interval | LowRank:
    """Of two enclosures of matrices M with f(x̂) − f(x) = M·d, for every element of f the one that
    leaves less open for |d| ≤ `error` (rows, n)."""
    if secant is None or isinstance(jacobian, LowRank):
        return jacobian
    with np.errstate(invalid="ignore"):  # NaN is never better
        left = [np.sum((m.hi - m.lo) * error[:, None, :], axis=2) for m in (jacobian, secant)]
    better = (left[1] < left[0])[:, :, None]
    return Interval(
        np.where(better, secant.lo, jacobian.lo), np.where(better, secant.hi, jacobian.hi)
    )


def _least_square(z: Interval) -> FloatArray:
    least = np.maximum(np.maximum(z.lo, -z.hi), 0.0)
    return np.asarray(np.maximum(np.nextafter(least * least, -np.inf), 0.0))


def _shares(identity: FloatArray, product: Interval, n: int, centred: bool) -> Interval:
    """δ_ij − 1/n − z_i·z_j/n from the ranges of z_i·z_j."""
    fixed = identity - (1.0 / n if centred else 0.0)
    slack = 8.0 * UNIT
    return Interval(
        add_down(add_down(fixed, -slack), -np.nextafter(product.hi / n, np.inf)),
        add_up(add_up(fixed, slack), -np.nextafter(product.lo / n, -np.inf)),
    )


def _low_rank(v: Normalized, centred: bool) -> LowRank:
    """Off the diagonal −W − V_i·z_j with W = 1/(nσ) (0 without the mean) and V_i = z_i·W. Where
    V_i is within h of f and z_j within s of m, V_i·z_j is within (|f| + h)·s + h·|m| of f·m."""
    z, n, ones = v.z, v.z.shape[1], np.ones(v.z.shape)
    sigma = Interval(*(np.broadcast_to(s, z.shape) for s in (v.sigma.lo, v.sigma.hi)))
    squares = Interval(_least_square(z), multiply_up(z.magnitude, z.magnitude))
    own = interval_quotient(_shares(ones, squares, n, centred), sigma)
    m, s = midpoint_radius(z)
    f, h = _shared(interval_quotient(z, sigma), n)
    pairs: Pairs = ((-f, m),)
    loose: Pairs = ((add_up(np.abs(f), h), s), (h, np.abs(m)))
    if centred:
        w, off = _shared(interval_quotient(Interval(ones, ones), sigma), n)
        pairs, loose = ((-w, ones), *pairs), ((off, ones), *loose)
    return low_rank(pairs, loose, own)


def _shared(x: Interval, n: int) -> tuple[FloatArray, FloatArray]:
    """A middle of x/n and a radius around it, infinite where x is not bounded."""
    known = np.isfinite(x.lo) & np.isfinite(x.hi)
    low, high = (np.where(known, end / n, 0.0) for end in (x.lo, x.hi))
    part = Interval(np.nextafter(low, -np.inf), np.nextafter(high, np.inf))
    middle, radius = midpoint_radius(part)
    return middle, np.where(known, radius, np.inf)


def scaled_values(inner: ValueMap, scale: FloatArray, bias: FloatArray) -> ValueMap:
    """Real values through z·scale + bias; the product c·scale is charged at the largest |z|."""
    size = np.abs(scale)
    z = inner.range
    low = np.minimum(-multiply_up(scale, -z.lo), -multiply_up(scale, -z.hi))
    high = np.maximum(multiply_up(scale, z.lo), multiply_up(scale, z.hi))
    ends = add_down(low, bias), add_up(high, bias)
    range_ = enclosed(MONOTONE_RANGE, X=z, a=ends[0], b=ends[1])
    charge = multiply_up(multiply_up(size, z.magnitude), 2 * UNIT)

    def backward(c: FloatArray) -> Contribution:
        pulled = inner.backward(c * scale)
        constant = add_up(pulled.constant, add_up(inner_up(c, bias), dot_up(c, charge)))
        return Contribution(pulled.coefficients, constant)

    return ValueMap(range_, backward)


def scaled_differences(inner: DifferenceMap, scale: FloatArray) -> DifferenceMap:
    """Differences of scale·f, those of f being `inner`; `scale` is exact and broadcasts to them."""
    inexact = inner.radius.times(np.abs(scale) * (2 * UNIT))

    def backward(c: FloatArray) -> Moved:
        pulled = inner.backward(c * scale)
        return Moved(pulled.coefficients, carried_back((pulled.cost, inexact.weighed(c))))

    return DifferenceMap(inner.radius.times(np.abs(scale)), backward)
