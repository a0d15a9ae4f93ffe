"""Normalising rows: z = (x − μ)/√(var + ε), or x/√(mean x² + ε) without the mean.

A runtime is taken to make two passes, mean first and then the mean of squared deviations, and to
divide by the root or multiply by its reciprocal. Sums may go in any order. Where the contract pins
no order, the reciprocal root may be off by 6 u (vendor functions for it: 2 ulp and half an ulp).

Algebra. With P the projection that takes the mean away, √(n·var) = ‖Px‖, which moves by at most
‖d‖ with x; ∂z_i/∂x_j = (δ_ij − 1/n − z_i·z_j/n)/σ; Σ z² ≤ n and Σ z = 0 give |z_i| ≤ √(n − 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encoders.contract.contract import AnyOrder, RuntimeContract
from encoders.lemmas.kernel import unchecked
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
    sum_up,
)
from encoders.operator import Contribution, DifferenceMap, ValueMap
from encoders.relaxations.low_rank import LowRank, Pairs, is_wide, low_rank
from encoders.rounding.any_order import any_order_sum
from encoders.rounding.error_arithmetic import interval_product, interval_quotient
from encoders.rounding.rounding_bounds import Rounder, formula_loss, stored_loss

MOST_ENTRIES = (
    2**23
)  # of Jacobians that are stored entry by entry: a little tighter, as fits the memory


@dataclass(frozen=True)
class Normalized:
    """Ranges over rows (rows, n): deviations c, their mean square, σ = √(var + ε), and z = c/σ."""

    mean: Interval
    deviation: Interval
    variance: Interval
    sigma: Interval
    z: Interval


def normalized(x: Interval, epsilon: float, centred: bool) -> Normalized:
    """Infinite or NaN ends stay what they are: nothing is known of such rows but |z|."""
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
    deviation = Interval(add_down(c, -wide), add_up(c, wide))
    variance = _mean_square(c, radius, slack, deviation)
    shifted = Interval(add_down(variance.lo, epsilon), add_up(variance.hi, epsilon))
    with np.errstate(invalid="ignore"):
        low = np.nextafter(np.sqrt(np.maximum(shifted.lo, 0.0)), 0.0)
        sigma = Interval(low, np.nextafter(np.sqrt(shifted.hi), np.inf))
    most = float(np.sqrt(n - 1.0 if centred else float(n))) * (1.0 + 2.0**-50)
    quotient = interval_quotient(deviation, Interval(*np.broadcast_arrays(sigma.lo, sigma.hi)))
    lo, hi = (
        np.where(np.isnan(v), s * np.inf, v) for v, s in ((quotient.lo, -1), (quotient.hi, 1))
    )
    return Normalized(
        mean, deviation, variance, sigma, Interval(np.maximum(lo, -most), np.minimum(hi, most))
    )


def _mean_square(
    c: FloatArray, radius: FloatArray, slack: FloatArray, deviation: Interval
) -> Interval:
    """Range of Σc²/n, (rows, 1): from the elements' ranges, and from the norm's triangle rule."""
    n = c.shape[1]
    largest, least = deviation.magnitude, np.maximum(np.maximum(deviation.lo, -deviation.hi), 0.0)
    shrink = 1.0 - gamma(2 * n + 8)
    tiny = n * 2.0**-1000
    high = sum_up(multiply_up(largest, largest), axis=1)[:, None]
    low = np.maximum(np.sum(least * least, axis=1, keepdims=True) * shrink - tiny, 0.0)
    norm_high = np.sqrt(sum_up(multiply_up(c, c), axis=1))[:, None] * (1.0 + 2.0**-50)
    norm_low = np.sqrt(np.maximum(np.sum(c * c, axis=1, keepdims=True) * shrink - tiny, 0.0))
    reach = add_up(_norm(radius), _norm(slack))
    outer = add_up(norm_high, reach)
    inner = np.maximum(add_down(norm_low * (1.0 - 2.0**-50), -reach), 0.0)
    high = np.minimum(high, multiply_up(outer, outer))
    low = np.maximum(low, inner * inner * (1.0 - 2.0**-50))
    return Interval(low / n * (1.0 - 2.0**-50), high / n * (1.0 + 2.0**-50))


def _norm(v: FloatArray) -> FloatArray:
    """‖v‖ of rows, (rows, 1), rounded up."""
    return np.asarray(np.sqrt(sum_up(multiply_up(v, v), axis=1))[:, None] * (1.0 + 2.0**-50))


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


@dataclass(frozen=True)
class NormalizationError:
    """|computed z − z| ≤ `z`; the computed 1/σ is off by the relative `factor` (a product with it
    included), the computed mean by `mean`; `reached` is the largest magnitude on the way."""

    z: FloatArray
    factor: FloatArray
    mean: FloatArray
    reached: float


def normalization_error(
    r: Rounder,
    contract: RuntimeContract,
    x: Interval,
    *,
    v: Normalized,
    epsilon: float,
    centred: bool,
    converted: FloatArray | float = 0.0,
) -> NormalizationError:
    """For run-time inputs x, read with an error of at most `converted` and no other flaw."""
    n = x.shape[1]
    u = r.unit
    twice = (2 * u + u * u) * (1.0 + 2.0**-50)
    tiny, flushed = r.underflow, r.flushed
    c = v.deviation.magnitude
    read = add_up(r.operand_loss(x).bound, converted)
    if centred:
        up = sum_up(np.maximum(x.hi, 0.0), axis=1)[:, None]
        down = sum_up(np.maximum(-x.lo, 0.0), axis=1)[:, None]
        partial = np.maximum(up, down)
        steps = np.full_like(partial, n - 1.0)
        terms = add_up(sum_up(np.broadcast_to(converted, x.shape), axis=1)[:, None], n * flushed)
        every = sum_up(x.magnitude, axis=1)[:, None]
        total = any_order_sum(r, partial, steps, unchecked(terms), total=every).bound
        share = np.nextafter(total / n, np.inf)
        mean = add_up(multiply_up(share, 1.0 + twice), multiply_up(v.mean.magnitude, twice))
        off = add_up(add_up(mean, 4.0 * tiny + flushed), read)
        error = add_up(off, r.of_sum(add_up(c, off)).bound)
        reached = float(np.max(add_up(partial, total), initial=0.0))
        mean_error = add_up(mean, 4.0 * tiny + flushed)
    else:
        mean_error = np.zeros_like(v.variance.lo)
        error = read
        reached = 0.0
    error = add_up(error, flushed)
    computed = add_up(c, error)
    squares = add_up(multiply_up(multiply_up(c, 2.0), error), multiply_up(error, error))
    products = add_up(squares, r.of_product(multiply_up(computed, computed)).bound)
    exact = multiply_up(v.variance.hi, float(n) * (1.0 + 2.0**-50))
    partial = add_up(exact, sum_up(squares, axis=1)[:, None])
    wrong = add_up(sum_up(products, axis=1)[:, None], n * flushed)
    total = any_order_sum(
        r, partial, np.full_like(partial, float(n)), unchecked(wrong), total=partial
    ).bound
    reached = max(reached, float(np.max(add_up(partial, total), initial=0.0)))
    share = np.nextafter(total / n, np.inf)
    variance = add_up(multiply_up(share, 1.0 + twice), multiply_up(v.variance.hi, twice))
    variance = add_up(variance, 4.0 * tiny + 2.0 * flushed)
    variance = add_up(variance, formula_loss(r, np.asarray(epsilon)).bound)
    squared_low = add_down(v.variance.lo, epsilon)
    variance = add_up(variance, r.of_sum(add_up(add_up(v.variance.hi, epsilon), variance)).bound)
    room = add_down(squared_low, -variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        root = variance / (2.0 * np.sqrt(np.maximum(room, 0.0))) * (1.0 + 2.0**-48)
        root = add_up(root, r.of_product(add_up(v.sigma.hi, root)).bound)
        relative = root / v.sigma.lo * (1.0 + 2.0**-50)
        inverse = relative / (1.0 - relative) * (1.0 + 2.0**-48)
        scaled = error / v.sigma.lo * (1.0 + 2.0**-50)
    sound = (room > 0) & (relative < 0.5) & (v.sigma.hi * (4.0 * r.smallest_normal) < 1.0)
    slack = (8.0 if isinstance(contract.order, AnyOrder) else 3.0) * u * (1.0 + 16.0 * u)
    factor = add_up(inverse, multiply_up(add_up(1.0, inverse), slack))
    result = add_up(scaled, multiply_up(add_up(v.z.magnitude, scaled), factor))
    result = add_up(result, 2.0 * tiny + flushed)
    known = sound & np.isfinite(result)
    return NormalizationError(
        np.where(known, result, np.inf), np.where(sound, factor, np.inf), mean_error, reached
    )


def folded_error(
    r: Rounder,
    x: Interval,
    v: Normalized,
    *,
    e: NormalizationError,
    scale: FloatArray,
    bias: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """|computed − y| for y = x·s + (bias − mean·s), s = scale/σ, which cancels; and magnitudes.

    s is off by the relative `factor` and a rounding, so both products are; the rest is three
    roundings and the mean's error.
    """
    lost = add_up(stored_loss(r, scale).bound, r.operand_loss(Interval(scale, scale)).bound)
    size = add_up(np.abs(scale), lost)
    with np.errstate(divide="ignore", invalid="ignore"):
        steep = size / v.sigma.lo * (1.0 + 2.0**-50)
        off = lost / v.sigma.lo * (1.0 + 2.0**-50)
    mean = add_up(v.mean.magnitude, e.mean)
    spread = add_up(x.magnitude, mean)
    tiny = 8.0 * (r.underflow + r.flushed)
    relative = add_up(e.factor, multiply_up(add_up(1.0, e.factor), 8.0 * r.unit))
    error = add_up(multiply_up(multiply_up(spread, steep), relative), multiply_up(spread, off))
    error = add_up(error, multiply_up(multiply_up(e.mean, steep), add_up(1.0, relative)))
    # a product's operand read as zero takes the other with it
    error = add_up(error, multiply_up(add_up(add_up(spread, steep), 2.0), tiny))
    stored = add_up(stored_loss(r, bias).bound, r.operand_loss(Interval(bias, bias)).bound)
    error = add_up(error, stored)
    magnitude = add_up(add_up(multiply_up(spread, steep), np.abs(bias)), error)
    rounding = multiply_up(
        np.maximum(r.of_sum(magnitude).bound, r.of_product(magnitude).bound), 3.0
    )
    error = add_up(error, rounding)
    # a scale of 0 hides an infinity in these bounds, but not in a runtime: 0·∞ is NaN
    known = np.isfinite(relative) & np.isfinite(error)
    return np.where(known, error, np.inf), add_up(magnitude, rounding)


def scaled_error(
    r: Rounder, z: FloatArray, error: FloatArray, scale: FloatArray | None, bias: FloatArray | None
) -> tuple[FloatArray, FloatArray]:
    """Error after z·scale + bias with stored scale and bias, fused or not; and the magnitudes.

    Infinite where that of z is, of which a scale of 0 makes NaN.
    """
    known, magnitude = np.isfinite(error), add_up(z, error)
    if scale is not None:
        size = np.abs(scale)
        lost = add_up(stored_loss(r, scale).bound, r.operand_loss(Interval(scale, scale)).bound)
        error = add_up(
            multiply_up(add_up(error, r.flushed), add_up(size, lost)), multiply_up(z, lost)
        )
        magnitude = add_up(multiply_up(size, z), error)
        rounding = r.of_product(magnitude).bound
        error, magnitude = add_up(error, rounding), add_up(magnitude, rounding)
    if bias is not None:
        lost = add_up(stored_loss(r, bias).bound, r.operand_loss(Interval(bias, bias)).bound)
        error = add_up(add_up(error, r.flushed), lost)
        magnitude = add_up(add_up(magnitude, np.abs(bias)), lost)
        error = add_up(error, np.maximum(r.of_sum(magnitude).bound, r.of_product(magnitude).bound))
    return np.where(known, error, np.inf), magnitude


def scaled_values(inner: ValueMap, scale: FloatArray, bias: FloatArray) -> ValueMap:
    """Real values through z·scale + bias; the product c·scale is charged at the largest |z|."""
    size = np.abs(scale)
    z = inner.range
    low = np.minimum(-multiply_up(scale, -z.lo), -multiply_up(scale, -z.hi))
    high = np.maximum(multiply_up(scale, z.lo), multiply_up(scale, z.hi))
    range_ = Interval(add_down(low, bias), add_up(high, bias))
    charge = multiply_up(multiply_up(size, z.magnitude), 2 * UNIT)

    def backward(c: FloatArray) -> Contribution:
        pulled = inner.backward(c * scale)
        constant = add_up(pulled.constant, add_up(inner_up(c, bias), dot_up(c, charge)))
        return Contribution(pulled.coefficients, constant)

    return ValueMap(range_, backward)


def scaled_differences(inner: DifferenceMap, scale: FloatArray) -> DifferenceMap:
    """Differences of scale·f, those of f being `inner`; `scale` is exact and broadcasts to them."""
    charge = multiply_up(multiply_up(np.abs(scale), inner.radius.bound), 2 * UNIT)

    def backward(c: FloatArray) -> Contribution:
        pulled = inner.backward(c * scale)
        return Contribution(pulled.coefficients, add_up(pulled.constant, dot_up(c, charge)))

    return DifferenceMap(inner.radius.times(np.abs(scale)), backward)
