"""What rows are off by that a runtime normalises: bounds from the numbers in each row.

A runtime is taken to make two passes, mean first and then the mean of squared deviations, or what
else an operator's layout says, and to divide by the root or multiply by its reciprocal. Sums may go
in any order. Where the contract pins no order, the reciprocal root may be off by 6 u (vendor
functions for it: 2 ulp and half an ulp).

Deviations are off by one number, the mean's error, and each by roundings of its own. Beside a σ
that is small against the deviations' range what counts is what errors are relative to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encoders.contract.contract import AnyOrder, RuntimeContract
from encoders.families.rows.normalization import Normalized
from encoders.families.rows.running_moments import running_mean, running_most, running_sigma
from encoders.lemmas.combining import EXACT
from encoders.lemmas.exponentials import ROUNDED_TWICE
from encoders.lemmas.kernel import Radius, apply, exactly_zero
from encoders.lemmas.normalizing import (
    FOLDED,
    FOLDED_SCALE,
    KNOWN_OPERAND,
    NORMALIZED,
    OVER_SIGMA,
    RECIPROCAL,
    RELATIVELY_ROUNDED,
    ROUNDED_THRICE,
    SHIFTED_NORM,
)
from encoders.lemmas.operations import COMPUTED_PRODUCT, UNTOUCHED
from encoders.lemmas.rows import SAME_RANGE
from encoders.numbers.enclosure import (
    FloatArray,
    Interval,
    add_down,
    add_up,
    multiply_up,
    sum_up,
)
from encoders.rounding.any_order import any_order_sum
from encoders.rounding.norms import norm_moved, relative_root, root_of_squares, root_off, underflown
from encoders.rounding.rounding_bounds import Rounder, below_normal, formula_loss, stored_loss


@dataclass(frozen=True)
class NormalizationError:
    """|computed z − z| ≤ `z`; the computed 1/σ is off by the relative `factor` (a product with it
    included), the computed mean by `mean`; `reached` is the largest magnitude on the way."""

    z: Radius
    factor: Radius
    mean: Radius
    reached: float


def normalization_error(
    r: Rounder,
    contract: RuntimeContract,
    x: Interval,
    *,
    v: Normalized,
    epsilon: float,
    centred: bool,
    converted: Radius,
    one_pass: bool = False,
    running: bool = False,
    squaring: int = 1,
) -> NormalizationError:
    """For run-time inputs x, read with an error of at most `converted` and no other flaw. With
    `one_pass` the variance may also be the mean of squares less the square of the mean; with
    `running` both may be kept from number to number. A square takes `squaring` roundings."""
    n = x.shape[1]
    c = v.deviation.magnitude
    read = r.operand_loss(x) + converted
    error = read
    mean, reached = exactly_zero(EXACT, v.variance.shape), 0.0
    if centred:
        up = sum_up(np.maximum(x.hi, 0.0), axis=1)[:, None]
        down = sum_up(np.maximum(-x.lo, 0.0), axis=1)[:, None]
        partial = np.maximum(up, down)
        steps = np.full_like(partial, n - 1.0)
        terms = _total(converted) + _flushed(r, float(n))
        every = sum_up(x.magnitude, axis=1)[:, None]
        total = any_order_sum(r, partial, steps, terms, total=every)
        mean = _averaged(r, total, v.mean.magnitude, n, r.flushed)
        error = r.after(r.of_sum, c, mean + error)
        reached = float(np.max(add_up(partial, total.bound), initial=0.0))
    error = error + _flushed(r)
    squares = apply(COMPUTED_PRODUCT, X=c, Y=c, ex=error, ey=error)
    products = squares
    for _ in range(squaring):
        products = r.after(r.of_product, multiply_up(c, c), products)
    exact = multiply_up(v.variance.hi, float(n) * (1.0 + 2.0**-50))
    wrong = _total(products) + _flushed(r, float(n))
    total = any_order_sum(r, exact, np.full_like(exact, float(n)), wrong, total=exact)
    reached = max(reached, float(np.max(add_up(exact, total.bound), initial=0.0)))
    variance = _averaged(r, total, v.variance.hi, n, 2.0 * r.flushed)
    variance = variance + formula_loss(r, np.asarray(epsilon))
    variance = r.after(r.of_sum, add_up(v.variance.hi, epsilon), variance)
    moved = root_off(variance, add_down(v.variance.lo, epsilon)).and_also(
        _norm_error(r, error, v.sigma.hi, times=n + 2 + squaring)
    )
    reached = max(reached, _largest_square(add_up(v.variance.hi, epsilon), variance, v, moved))
    root = r.after(r.of_product, v.sigma.hi, moved)
    inverting = 8.0 if isinstance(contract.order, AnyOrder) else 3.0
    deviation = apply(OVER_SIGMA, e=error, low=v.sigma.lo)
    factor = _inverse(r, root, k=inverting, low=v.sigma.lo, top=v.sigma.hi)
    times = n + 2 + squaring
    near = _relative_sigma(r, read, mean, low=v.sigma.lo, length=n, times=times)
    at_least = np.maximum(v.sigma.hi, 1.0)
    factor = factor.and_also(_inverse(r, near, k=inverting, low=1.0, top=at_least))
    top = add_up(v.sigma.hi, norm_moved(error).bound)
    capped = _capped(r, epsilon, n, inverting=inverting, top=top, times=times)
    z = _divided(r, deviation, factor, v.z.magnitude)
    z = z.and_also(capped.on(z.bound.shape))
    if one_pass and centred:
        other, most = _less_square(r, x, v, epsilon=epsilon, read=read, mean=mean)
        cancelling = _inverse(r, other, k=inverting, low=v.sigma.lo, top=v.sigma.hi)
        z = z.or_else(_divided(r, deviation, cancelling, v.z.magnitude))
        factor, reached = factor.or_else(cancelling), max(reached, most)
    if running and centred and n > 1:
        kept = running_mean(r, x, read)
        sigma = running_sigma(r, x, v, mean=kept, read=read)
        moving = _inverse(r, sigma, k=inverting, low=1.0, top=at_least)
        error = r.after(r.of_sum, c, read + kept + _flushed(r)) + _flushed(r)
        moved_on = apply(OVER_SIGMA, e=error, low=v.sigma.lo)
        z = z.or_else(_divided(r, moved_on, moving, v.z.magnitude))
        mean, factor = mean.or_else(kept), factor.or_else(moving)
        reached = max(reached, running_most(r, x, v, mean=kept, read=read, sigma=sigma))
    return NormalizationError(z, factor, mean, reached)


def _inverse(
    r: Rounder, f: Radius, *, k: float, low: FloatArray | float, top: FloatArray
) -> Radius:
    """What 1/σ̂ is off by, relatively, by k roundings of a σ in [low, top] that is off by f; of
    relative errors for a `low` of 1 and a `top` no less than that and σ."""
    return apply(RECIPROCAL, f=f, low=low, top=top, least=r.smallest_normal, k=k, u=r.unit)


def _divided(r: Rounder, deviation: Radius, factor: Radius, z: FloatArray | float) -> Radius:
    """Of z = c/σ, of magnitude at most `z`, where c/σ is off by `deviation` and 1/σ̂ by `factor`."""
    return apply(NORMALIZED, e=deviation, Z=z, F=factor, h=r.underflow, lost=r.flushed)


def _less_square(
    r: Rounder, x: Interval, v: Normalized, *, epsilon: float, read: Radius, mean: Radius
) -> tuple[Radius, float]:
    """What √(E[x²] − μ² + ε) is off by as it is computed, (rows, 1), for numbers that are read with
    an error `read`; and the largest magnitude on the way. It cancels: +∞ where the difference may
    come out below −ε."""
    n = x.shape[1]
    size, middle = x.magnitude, v.mean.magnitude
    flushed = _flushed(r)
    squares = apply(COMPUTED_PRODUCT, X=size, Y=size, ex=read + flushed, ey=read + flushed)
    each = multiply_up(size, size)
    products = r.after(r.of_product, each, squares)
    exact = sum_up(each, axis=1)[:, None]
    wrong = _total(products) + _flushed(r, float(n))
    total = any_order_sum(r, exact, np.full_like(exact, float(n)), wrong, total=exact)
    share = exact / n * (1.0 + 2.0**-50)
    of_squares = _averaged(r, total, share, n, 2.0 * r.flushed)
    off = mean + flushed
    square = apply(COMPUTED_PRODUCT, X=middle, Y=middle, ex=off, ey=off)
    square = r.after(r.of_product, multiply_up(middle, middle), square)
    variance = r.after(r.of_sum, v.variance.hi, of_squares + square + _flushed(r, 2.0))
    variance = variance + formula_loss(r, np.asarray(epsilon)) + flushed
    variance = r.after(r.of_sum, add_up(v.variance.hi, epsilon), variance)
    moved = root_off(variance, add_down(v.variance.lo, epsilon))
    most = float(np.max(add_up(exact, total.bound), initial=0.0))
    most = max(most, _largest_square(add_up(v.variance.hi, epsilon), variance, v, moved))
    return r.after(r.of_product, v.sigma.hi, moved), most


def _largest_square(square: FloatArray, error: Radius, v: Normalized, moved: Radius) -> float:
    """The most that var + ε, at most `square` and off by `error`, is as it is computed, whose root
    is off by `moved`: ε may be large where no number of a row is."""
    root = add_up(v.sigma.hi, moved.bound)
    most = np.minimum(add_up(square, error.bound), multiply_up(root, root))
    return float(np.max(most, initial=0.0))


def _capped(
    r: Rounder, epsilon: float, n: int, *, inverting: float, top: FloatArray, times: int
) -> Radius:
    """|computed z − z|, (rows, 1), where nothing is known of deviations: those that a run computes,
    over their own norm with ε, are within √n as z is, and the computed σ ≤ `top` is near that
    norm, `times` roundings away."""
    low = np.asarray(np.sqrt(epsilon) * (1.0 - 2.0**-50))
    rounded = apply(RELATIVELY_ROUNDED, e=relative_root(r, times, low=low), u=r.unit)
    if low > 0.0:
        rounded = rounded + underflown(r, low)
    factor = _inverse(r, rounded, k=inverting, low=1.0, top=np.maximum(2.0 * top, 1.0))
    most = float(np.sqrt(float(n))) * (1.0 + 2.0**-50)
    apart = apply(SAME_RANGE, lo=-most, hi=most)
    rest = _divided(r, exactly_zero(EXACT, factor.bound.shape), factor, most)
    return rest + apart.on(rest.bound.shape)


def _total(each: Radius) -> Radius:
    """(rows, n) summed, (rows, 1)."""
    return each.summed(axis=1).moved(lambda v: v[:, None])


def _flushed(r: Rounder, times: float = 1.0) -> Radius:
    """What a number, or each of so many, loses by being flushed."""
    if not r.flushed:
        return exactly_zero(UNTOUCHED, ())
    one = below_normal(r.flushed)
    return one if times == 1.0 else one.times(times)


def _averaged(r: Rounder, total: Radius, mean: FloatArray, n: int, lost: float) -> Radius:
    """Of a sum that is off by `total`, divided by n; `mean` is its exact magnitude."""
    share = total.times(float(np.nextafter(1.0 / n, np.inf)))
    return apply(ROUNDED_TWICE, Y=mean, e=share, u=r.unit, h=r.underflow, lost=lost)


def _relative_sigma(
    r: Rounder, read: Radius, mean: Radius, *, low: FloatArray, length: int, times: int
) -> Radius:
    """What the computed σ ≥ `low` (rows, 1), rounded, is off by, relative to σ, for numbers read
    with an error `read` (rows, n) and a mean that is off by `mean`: one number, so that it counts
    by its square. Deviations are rounded by at most u of themselves, as a vector too, and their
    squares `times` on the way to the root."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        share = mean.bound / low
        part = share * share * (0.5 + 2.0**-50) + 2.0**-1000
        part = np.where(np.isfinite(part), part, np.inf)
    shifted = apply(SHIFTED_NORM, M=mean.bound, a=part, low=low)
    rounded = apply(RELATIVELY_ROUNDED, e=shifted, u=r.unit)
    apart = (read.times(1.0 + r.unit) + _flushed(r, 2.0)).times(
        (1.0 + 2.0**-50) / float(np.sqrt(length))
    )
    moved = norm_moved(apart)
    norm = rounded + apply(OVER_SIGMA, e=moved, low=low)
    least = np.maximum(add_down(low * (1.0 - r.unit) * (1.0 - 2.0**-50), -moved.bound), 0.0)
    root = apply(COMPUTED_PRODUCT, X=1.0, Y=1.0, ex=norm, ey=relative_root(r, times, low=least))
    return apply(RELATIVELY_ROUNDED, e=root, u=r.unit) + underflown(r, low)


def _norm_error(r: Rounder, deviation: Radius, sigma: FloatArray, *, times: int) -> Radius:
    """Of √(Σc²/n + ε), at most `sigma` (rows, 1), where each c is off by `deviation` (rows, n).

    σ is the norm of (c/√n, √ε), which moves by no more than its coordinates do, whatever the size
    of c; then Σĉ²/n + ε is rounded `times` on the way from each of its terms: n + 3, where a square
    is one product.
    """
    n = deviation.shape[1]
    moved = norm_moved(deviation.times((1.0 + 2.0**-50) / float(np.sqrt(n))))
    reached = add_up(sigma, moved.bound)
    return moved + root_of_squares(r, times, reached)


def folded_error(
    r: Rounder,
    x: Interval,
    v: Normalized,
    *,
    e: NormalizationError,
    scale: FloatArray,
    bias: FloatArray,
) -> tuple[Radius, FloatArray]:
    """|computed − y| for y = x·s + (bias − mean·s), s = scale/σ, which cancels; and magnitudes.

    s is off by the relative `factor` and a rounding, so both products are; the rest is three
    roundings and the mean's error.
    """
    size, low, mean = np.abs(scale), v.sigma.lo, v.mean.magnitude
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = size / low * (1.0 + 2.0**-49)
    slopes = apply(
        FOLDED_SCALE,
        S=size,
        P=slope,
        low=low,
        e=apply(OVER_SIGMA, e=_lost(r, scale), low=low),
        F=e.factor,
        u=r.unit,
    )
    error = apply(
        FOLDED,
        X=x.magnitude,
        M=mean,
        em=e.mean,
        es=slopes,
        P=slope,
        h=8.0 * (r.underflow + r.flushed),
        eb=_lost(r, bias),
    )
    spread = add_up(x.magnitude, add_up(mean, e.mean.bound))
    steep = add_up(slope, slopes.bound)
    magnitude = add_up(add_up(multiply_up(spread, steep), np.abs(bias)), error.bound)
    rounded = r.of_product(magnitude)
    error = apply(ROUNDED_THRICE, e=error, M=magnitude, r=rounded)
    # numbers so small that their products with it are mild hide a slope that overflows
    reached = np.maximum(add_up(magnitude, multiply_up(rounded.bound, 3.0)), steep)
    return _known(error, e.factor), reached


def _known(error: Radius, operand: Radius) -> Radius:
    """A scale of 0 hides an infinity in a bound, but not in a runtime: 0·∞ is NaN."""
    return apply(KNOWN_OPERAND, e=error, f=operand, limit=np.finfo(np.float64).max)


def _lost(r: Rounder, stored: FloatArray) -> Radius:
    return stored_loss(r, stored) + r.operand_loss(Interval(stored, stored))


def scaled_error(
    r: Rounder, z: FloatArray, error: Radius, scale: FloatArray | None, bias: FloatArray | None
) -> tuple[Radius, FloatArray]:
    """Error after z·scale + bias with stored scale and bias, fused or not; and the magnitudes.

    Infinite where that of z is, of which a scale of 0 makes NaN.
    """
    given, size = error, z
    reached = add_up(z, error.bound)
    if scale is not None:
        moved = apply(
            COMPUTED_PRODUCT, X=z, Y=np.abs(scale), ex=error + _flushed(r), ey=_lost(r, scale)
        )
        size = multiply_up(np.abs(scale), z)
        error = r.after(r.of_product, size, moved)
        reached = add_up(size, error.bound)
    if bias is not None:
        moved = error + _flushed(r) + _lost(r, bias)
        size = add_up(size, np.abs(bias))
        error = r.after(r.of_product, size, moved)
        reached = add_up(size, moved.bound)
    return error if error is given else _known(error, given), reached
