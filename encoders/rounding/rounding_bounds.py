"""How far rounding can move one result: the bounds every operator's `rounding` is built from.

All bounds are on |computed − exact| for exact results of magnitude at most M, M itself an upper
bound. Sources: half an ulp of the largest value (IEEE 754); |fl(z) − z| ≤ u/(1+u)·|z| (Knuth;
Jeannerod & Rump 2018); additions are exact in the subnormal range (Hauser 1996). The any-order sum
is lemma `sum-any-order` of the library: m additions, each with partial sums at most M, err by at
most m·r(M), r(M) being the rounding error at M. Where m·u is near 1 or above, no M is known for
that lemma; `any-order-linear` holds for any m.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from encoders.arithmetic.number_path import Arrived, Hop, Path, arrived, stored_path
from encoders.contract.contract import RuntimeContract, Subnormals
from encoders.contract.orders import alignment_of
from encoders.numbers.enclosure import (
    FloatArray,
    Interval,
    add_up,
    in_blocks,
    multiply_up,
    nothing,
    some,
)
from encoders.numbers.formats import BINARY32, FloatFormat
from encoders.operator import Precondition, RoundingBound, Site
from onnx_import.graph import DType

OVERFLOW = "no-overflow"  # the name of that precondition

LONG_SUM = (
    "jeannerod-rump-rounding",
    "jeannerod-rump-bound",
    "any-order-linear-node",
    "any-order-linear-fused",
    "any-order-linear",
    "any-order-power",
    "any-order-power-growth",
)  # what a sum of any number of terms rests on where `sum-any-order` gives nothing

_ITERATIONS = 4
_EXPONENT = np.int64(0x7FF0_0000_0000_0000)  # the bits of 2^⌊log2 M⌋ in a normal float64 M


@dataclass(frozen=True)
class Rounder:
    """Rounding in one format under one contract, in float64 numbers rounded up.

    `path` is that of stored numbers; `alignment` and `least_factor` are those of the steps that
    matrix products may take.
    Raises OverflowError for a format whose range float64 cannot hold.
    """

    format: FloatFormat
    exact: bool
    flush_results: bool
    flush_operands: bool
    path: Path = ()
    alignment: int | None = None
    least_factor: int | None = None

    @property
    def unit(self) -> float:
        """u = 2^-p, exactly."""
        return float(self.format.unit_roundoff)

    @property
    def relative(self) -> float:
        """An upper bound on u/(1 + u)."""
        u = self.format.unit_roundoff
        return float(np.nextafter(float(u / (1 + u)), 1.0))

    @property
    def smallest_normal(self) -> float:
        return float(self.format.smallest_normal)

    @property
    def underflow(self) -> float:
        """Largest error of an operation other than ± whose result is below the normal range."""
        if self.flush_results:
            return self.smallest_normal
        return max(float(self.format.smallest_subnormal / 2), 2.0**-1074)

    def of_sum(self, magnitude: FloatArray) -> FloatArray:
        """Error of rounding z = x ± y for floats x, y and |z| ≤ magnitude."""
        if self.exact:
            return np.zeros_like(magnitude)
        bound = np.minimum(self.half_ulp(magnitude), multiply_up(magnitude, self.relative))
        bound = np.where(magnitude < self.smallest_normal, 0.0, bound)
        return self._flushed(bound, magnitude)

    def of_product(self, magnitude: FloatArray) -> FloatArray:
        """Error of rounding any real z with |z| ≤ magnitude (product, quotient, FMA, root)."""
        if self.exact:
            return np.zeros_like(magnitude)
        underflow = max(float(self.format.smallest_subnormal / 2), 2.0**-1074)
        relative = add_up(multiply_up(magnitude, self.relative), underflow)
        bound = np.minimum(self.half_ulp(magnitude), relative)
        return self._flushed(np.minimum(bound, magnitude), magnitude)

    def of_scaling(self, magnitude: FloatArray) -> FloatArray:
        """Error of a product by a power of two: none but by underflow."""
        if self.exact:
            return np.zeros_like(magnitude)
        return np.minimum(magnitude, self.underflow)

    def of_copy(self, magnitude: FloatArray) -> FloatArray:
        """Error of a result that is one of the operands: a flushing runtime may lose it."""
        if self.exact or not self.flush_results:
            return np.zeros_like(magnitude)
        return np.minimum(magnitude, self.smallest_normal)

    def of_step(self, products: float, magnitude: FloatArray) -> FloatArray:
        """Error of an aligned step (encoders/contract/orders.py) of so many products.

        The largest number in it, its result and `clamped` of its factors are at most `magnitude`.

        Every product and the running sum lose less than one unit, 2^-alignment of the largest; the
        truncated result loses less than an ulp (lemma `aligned-step`).
        """
        if self.exact or self.alignment is None:
            return np.zeros_like(magnitude)
        lost = (products + 1.0) * 2.0**-self.alignment
        after = add_up(magnitude, multiply_up(magnitude, lost))
        relative = add_up(multiply_up(magnitude, lost), multiply_up(after, 2.0 * self.unit))
        bound = add_up(relative, max(float(self.format.smallest_subnormal), 2.0**-1074))
        return self._flushed(bound, np.full_like(magnitude, np.inf))

    def clamped(self, x: FloatArray | float, y: FloatArray | float) -> float:
        """A bound on what factors below the normal range count for in an aligned step, where
        |x|·|y| is accounted for."""
        least = self.format.emin if self.least_factor is None else self.least_factor
        tiny = 2.0**least
        return tiny * max(float(np.max(x, initial=tiny)), float(np.max(y, initial=tiny)))

    def half_ulp(self, magnitude: FloatArray) -> FloatArray:
        """u·2^k with k = max(⌊log2 M⌋, emin): half the spacing at the largest value.

        Up to 2^k half the spacing is half of that; beyond, 2^k itself is a representable
        neighbour, at most M − 2^k away (format lemmas `half-ulp`, `correctly-rounded`).
        """
        return in_blocks(self._half_ulp, magnitude)

    def _half_ulp(self, magnitude: FloatArray) -> FloatArray:
        least = float(np.ldexp(1.0, self.format.emin))
        power = np.maximum((magnitude.view(np.int64) & _EXPONENT).view(np.float64), least)
        with np.errstate(invalid="ignore", under="ignore"):
            spacing = self.unit * power
            beyond = np.maximum(add_up(magnitude, -power), 0.5 * spacing)
        if magnitude.size and np.min(power) > least and np.max(power) < np.inf:
            return np.minimum(spacing, beyond)
        tight = np.where(power > least, np.minimum(spacing, beyond), spacing)
        bound = np.where(magnitude == 0, 0.0, np.maximum(tight, 2.0**-1074))
        return np.where(np.isfinite(magnitude), bound, np.inf)

    def spacing(self, magnitude: FloatArray) -> FloatArray:
        """The distance between neighbouring numbers at the largest value: one ulp.

        Not twice `half_ulp`, which knows that rounding to nearest never passes a power of two.
        """
        _, exponent = np.frexp(magnitude)
        last = np.maximum(exponent - 1, self.format.emin) - self.format.precision + 1
        return np.where(np.isfinite(magnitude), np.ldexp(1.0, last), np.inf)

    def _flushed(self, bound: FloatArray, magnitude: FloatArray) -> FloatArray:
        if not self.flush_results:
            return bound
        return np.minimum(np.maximum(bound, self.smallest_normal), magnitude)

    @property
    def flushed(self) -> float:
        """What one subnormal number loses by being flushed, as a result or as an operand."""
        flushes = self.flush_results or self.flush_operands
        return self.smallest_normal if flushes and not self.exact else 0.0

    @property
    def lost_operands(self) -> float:
        """What two operands of an addition can lose by being read as zero."""
        return 0.0 if self.exact or not self.flush_operands else 2.0 * self.smallest_normal

    def operand_loss(self, x: Interval) -> FloatArray:
        """How much a runtime that reads subnormal operands as zero changes x."""
        if self.exact or not self.flush_operands:
            return nothing(x.shape)
        return in_blocks(self._operand_loss, x.lo, x.hi)

    def _operand_loss(self, lo: FloatArray, hi: FloatArray) -> FloatArray:
        return below(Interval(lo, hi), self.smallest_normal)


def below(x: Interval, tiny: float) -> FloatArray:
    """How far numbers in a range move if those smaller than `tiny` may become zero."""
    touches = (x.lo < tiny) & (x.hi > -tiny)
    if not np.any(touches):
        return nothing(touches.shape)
    return np.where(touches, np.minimum(x.magnitude, tiny), 0.0)


def rounder(site: Site, contract: RuntimeContract) -> Rounder:
    """The rounding of the node's output under a contract."""
    return rounder_of(site.outputs[0].dtype, contract)


def rounder_of(dtype: DType, contract: RuntimeContract) -> Rounder:
    """The rounding of tensors of a floating-point type under a contract."""
    return Rounder(
        contract.format_of(dtype),
        contract.exact,
        flush_results=contract.results is not Subnormals.KEEP,
        flush_operands=contract.operands is not Subnormals.KEEP,
        path=stored_path(contract, dtype),
        alignment=alignment_of(contract.order),
        least_factor=contract.least_factor,
    )


def conversion_error(r: Rounder, source: FloatFormat, x: Interval) -> FloatArray:
    """Of numbers of `source` in the ranges x, converted to the format of r: one rounding unless it
    holds them all; either side may lose a subnormal number."""
    lost = np.maximum(r.operand_loss(x), replace(r, format=source).operand_loss(x))
    magnitude = add_up(x.magnitude, lost)
    fresh = r.of_copy(magnitude) if r.format.holds(source) else r.of_product(magnitude)
    return add_up(lost, fresh)


def stored_loss(r: Rounder, values: FloatArray) -> FloatArray:
    """|ŵ − w| for stored numbers w, which reach the operation that uses them along `r.path`."""
    if r.exact or (len(r.path) == 1 and r.format.holds(BINARY32) and _in_float32(values)):
        return nothing(values.shape)
    return _loss_of(values, held(r, values))


def held(r: Rounder, values: FloatArray) -> Arrived:
    """Stored numbers as the runtime holds them, if none of them is flushed."""
    return arrived(r.path, values, r.flush_operands, r.flush_results)


def formula_loss(r: Rounder, values: FloatArray) -> FloatArray:
    """|ĉ − c| for numbers c of a formula or an attribute, rounded once.

    A bound that charges this covers a runtime that keeps c in float32, and rounds what it makes of
    it once to the format, too: float32 is nearer to c than any shorter format, and the operation's
    own rounding is charged at what the rounded c may give.
    """
    if r.exact or (r.format.holds(BINARY32) and _in_float32(values)):
        return nothing(values.shape)
    return _loss_of(values, arrived((Hop(r.format),), values, False, False))


def _loss_of(values: FloatArray, there: Arrived) -> FloatArray:
    loss = np.abs(there.values - values)
    bound = np.where(there.values == values, 0.0, np.nextafter(loss, np.inf))
    return np.where(there.flushed, np.maximum(bound, np.abs(values)), bound)


def _in_float32(values: FloatArray) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.all(values.astype(np.float32) == values))


def any_order_sum(
    r: Rounder,
    partial: FloatArray,
    additions: FloatArray,
    products: FloatArray,
    steps: float = 0.0,
    clamped: float = 0.0,
    total: FloatArray | None = None,
) -> FloatArray:
    """|ŝ − s| for a sum in any order, with or without FMA: lemmas `sum-any-order` and, where that
    knows of no bound because there are too many additions, `any-order-linear` or `-power`.

    `partial` bounds every partial sum of the exact terms, `additions` counts the roundings of
    sums, `products` bounds the total error of the rounded terms, `total` Σ|term| (None: both signs
    may reach `partial`). Where aligned steps may be taken, there are at most `steps` of them, of
    one product each or of fewer and longer ones, and `clamped` is what factors count for at least.
    Infinite where a hypothesis of all three lemmas fails of these numbers.
    """
    every = multiply_up(partial, 2.0) if total is None else total
    return in_blocks(
        lambda *blocks: _any_order_sum(r, steps, clamped, *blocks),
        partial,
        additions,
        products,
        every,
    )


def _any_order_sum(
    r: Rounder,
    steps: float,
    clamped: float,
    partial: FloatArray,
    additions: FloatArray,
    products: FloatArray,
    total: FloatArray,
) -> FloatArray:
    aligned = r.alignment is not None and steps > 0.0

    def needed(error: FloatArray) -> FloatArray:
        reached = add_up(partial, error)
        total = add_up(products, multiply_up(additions, _of_node(r, reached)))
        if not aligned:
            return total
        return add_up(total, multiply_up(r.of_step(1.0, np.maximum(reached, clamped)), steps))

    # Where it closes with the relative error of a rounding in place of half an ulp, as it does
    # unless sums are very long, what half an ulp then asks for is a bound too.
    least = 2.0 * r.underflow + r.lost_operands
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        linear = products + additions * (r.relative * partial + least)
        guess = linear / (1.0 - r.relative * additions) * (1.0 + 2.0**-20)
        error = needed(guess)
        closes = (guess >= 0.0) & (error <= guess)
        if np.all(closes):
            return error
        best = np.where(closes, error, np.inf)
        error = np.broadcast_to(products, best.shape)
        for _ in range(_ITERATIONS):
            error = needed(error)
        for factor in (1.0, 1.0 + 2.0**-8, 2.0):
            candidate = multiply_up(error, factor)
            closes = (candidate >= 0.0) & (needed(candidate) <= candidate)
            best = np.where(closes, np.fmin(best, candidate), best)
        any_number = _powers if aligned else _linear
        best = np.fmin(best, any_number(r, steps, clamped, total, additions, products))
    known = (partial >= 0.0) & (additions >= 0.0) & (products >= 0.0) & (total >= 0.0)
    return np.where(known & (best >= 0.0), best, np.inf)


def _of_any_node(r: Rounder) -> float:
    """λ: what a node of the tree may lose beyond the relative error of its rounding and what its
    operands bound: by underflow of a fused one, by flushing, and by operands read as zero."""
    if r.exact:
        return 0.0
    return float(add_up(r.underflow, r.lost_operands * (1.0 + 4.0 * r.relative)))


def _linear(
    r: Rounder,
    steps: float,
    clamped: float,
    total: FloatArray,
    additions: FloatArray,
    products: FloatArray,
) -> FloatArray:
    """Lemma `any-order-linear`: Π + m·v·(S + Π) with Π = products + m·λ, for any m."""
    v = 0.0 if r.exact else r.relative
    lost = add_up(products, multiply_up(additions, _of_any_node(r)))
    return add_up(lost, multiply_up(multiply_up(additions, v), add_up(total, lost)))


def _powers(
    r: Rounder,
    steps: float,
    clamped: float,
    total: FloatArray,
    additions: FloatArray,
    products: FloatArray,
) -> FloatArray:
    """Lemma `any-order-power`: Q·(S + Π) − S, Q the product of 1 + (relative error) over all nodes,
    aligned steps among them, and Π = products + Σλ."""
    assert r.alignment is not None
    if r.exact:
        return products
    share = 2.0 * 2.0**-r.alignment
    of_step = share + 2.0 * r.unit * (1.0 + share)
    of_step *= 1.0 + 2.0**-50
    least = max(float(r.format.smallest_subnormal), 2.0**-1074)
    least = max(least, r.smallest_normal if r.flush_results else 0.0)
    tiny = add_up(least, of_step * clamped)
    lost = add_up(products, multiply_up(additions, _of_any_node(r)))
    lost = add_up(lost, multiply_up(add_up(tiny, r.lost_operands), steps * (1.0 + of_step)))
    exponent = add_up(multiply_up(additions, r.relative), np.nextafter(steps * of_step, np.inf))
    # 1 + x ≤ e^x ≤ (1 − x/k)^−k, k = 2^20
    small = multiply_up(exponent, 2.0**-20)
    power = np.where(
        small <= 0.25, 1.0 / (1.0 - np.minimum(small, 0.25)) * (1.0 + 2.0**-50), np.inf
    )
    for _ in range(20):
        power = multiply_up(power, power)
    grown = add_up(power, -1.0)
    return add_up(multiply_up(power, lost), multiply_up(grown, total))


def _of_node(r: Rounder, magnitude: FloatArray) -> FloatArray:
    """A node of the tree is an addition or, contracted, an FMA; the latter may underflow, and
    errs by no less than an addition may.

    Where subnormal operands may be read as zero, both partial sums may lose one.
    """
    return add_up(r.of_product(magnitude), r.lost_operands)


def no_overflow(r: Rounder, magnitude: FloatArray) -> Precondition:
    """Every intermediate result is at most `magnitude`, so none rounds to infinity.

    Rounding is monotone and takes the threshold beyond every number below it, so it makes no
    difference whether the results are meant before they are rounded or after.
    """
    largest = float(np.max(magnitude, initial=0.0))
    limit = r.format.overflow_threshold
    return Precondition(
        OVERFLOW,
        f"intermediate magnitudes reach at most {largest:.6g}, which must stay below "
        f"{_shown(limit)}, from where numbers round to infinity",
        r.exact or (np.isfinite(largest) and Fraction(largest) < limit),
    )


def _shown(limit: Fraction) -> str:
    """To six digits; the threshold of float64 is no float64."""
    return f"{float(min(limit, Fraction(sys.float_info.max))):.6g}"


def finish(
    r: Rounder, radius: FloatArray, magnitude: FloatArray, lemmas: tuple[str, ...]
) -> RoundingBound:
    """A rounding bound that is infinite unless overflow is excluded."""
    condition = no_overflow(r, magnitude)
    if np.any(np.isnan(radius)) or not condition.holds:
        radius = np.full_like(radius, np.inf)
    return RoundingBound(radius, (condition,), lemmas)


def no_rounding(site: Site) -> RoundingBound:
    """For operators that only move data."""
    return RoundingBound(np.zeros(site.outputs[0].shape))


def exact_unless_flushed(site: Site, result: Interval, contract: RuntimeContract) -> RoundingBound:
    """For max, min, abs, negation: exact, except that a flushing runtime may lose a subnormal."""
    r = rounder(site, contract)
    lost = replace(r, flush_operands=r.flush_operands or r.flush_results).operand_loss(result)
    return RoundingBound(lost, (), ("flush",) if some(lost) else ())
