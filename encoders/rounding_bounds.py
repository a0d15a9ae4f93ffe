"""How far rounding can move one result: the bounds every operator's `rounding` is built from.

All bounds are on |computed − exact| for exact results of magnitude at most M, M itself an upper
bound. Sources: half an ulp of the largest value (IEEE 754); |fl(z) − z| ≤ u/(1+u)·|z| (Knuth;
Jeannerod & Rump 2018); additions are exact in the subnormal range (Hauser 1996). The any-order sum
is lemma `sum-any-order` of the library: m additions, each with partial sums at most M, err by at
most m·r(M), r(M) being the rounding error at M.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from encoders.contract import RuntimeContract, Subnormals
from encoders.enclosure import FloatArray, Interval, add_up, multiply_up
from encoders.formats import FloatFormat, round_array
from encoders.operator import Precondition, RoundingBound, Site
from onnx_import.graph import DType

_ITERATIONS = 4


@dataclass(frozen=True)
class Rounder:
    """Rounding in one format under one contract, in float64 numbers rounded up.

    `stored` is the format that stored numbers are rounded to first, if it is another one.
    Raises OverflowError for a format whose range float64 cannot hold.
    """

    format: FloatFormat
    exact: bool
    flush_results: bool
    flush_operands: bool
    stored: FloatFormat | None = None

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

    def half_ulp(self, magnitude: FloatArray) -> FloatArray:
        """u·2^k with k = max(⌊log2 M⌋, emin): half the spacing at the largest value.

        Up to 2^k half the spacing is half of that; beyond, 2^k itself is a representable
        neighbour, at most M − 2^k away (format lemmas `half-ulp`, `correctly-rounded`).
        """
        _, exponent = np.frexp(np.where(np.isfinite(magnitude), magnitude, 1.0))
        exponent = np.maximum(exponent - 1, self.format.emin)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            spacing = np.ldexp(self.unit, exponent)
            beyond = np.maximum(add_up(magnitude, -np.ldexp(1.0, exponent)), 0.5 * spacing)
        tight = np.where(exponent > self.format.emin, np.minimum(spacing, beyond), spacing)
        spacing = np.maximum(tight, 2.0**-1074)
        bound = np.where(magnitude == 0, 0.0, spacing)
        return np.where(np.isfinite(magnitude), bound, np.inf)

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
            return np.zeros_like(x.lo)
        tiny = self.smallest_normal
        touches = (x.lo < tiny) & (x.hi > -tiny)
        return np.where(touches, np.minimum(x.magnitude, tiny), 0.0)


def rounder(site: Site, contract: RuntimeContract) -> Rounder:
    """The rounding of the node's output under a contract."""
    return rounder_of(site.outputs[0].dtype, contract)


def rounder_of(dtype: DType, contract: RuntimeContract) -> Rounder:
    """The rounding of tensors of a floating-point type under a contract."""
    return Rounder(
        contract.format_of(dtype),
        contract.exact,
        contract.results is not Subnormals.KEEP,
        contract.operands is not Subnormals.KEEP,
        contract.stored_format,
    )


def conversion_error(r: Rounder, source: FloatFormat, x: Interval) -> FloatArray:
    """Of numbers of `source` in the ranges x, converted to the format of r: one rounding unless it
    holds them all; either side may lose a subnormal number."""
    lost = np.maximum(r.operand_loss(x), replace(r, format=source).operand_loss(x))
    magnitude = add_up(x.magnitude, lost)
    fresh = r.of_copy(magnitude) if r.format.holds(source) else r.of_product(magnitude)
    return add_up(lost, fresh)


def stored_loss(r: Rounder, values: FloatArray) -> FloatArray:
    """|ŵ − w| for stored numbers w that the runtime holds rounded to the compute format."""
    if r.exact:
        return np.zeros_like(values)
    first = values if r.stored is None else round_array(values, r.stored)
    stored = round_array(first, r.format)
    loss = np.abs(stored - values)
    return np.where(stored == values, 0.0, np.nextafter(loss, np.inf))


def any_order_sum(
    r: Rounder, partial: FloatArray, additions: FloatArray, products: FloatArray
) -> FloatArray:
    """|ŝ − s| for a sum in any order, with or without FMA: lemma `sum-any-order`.

    `partial` bounds every partial sum of the exact terms, `additions` counts the roundings of
    sums, `products` bounds the total error of the rounded terms. The result E satisfies
    E ≥ products + additions·r(partial + E), which makes the induction close; infinite where no
    such E was found.
    """
    error = products
    for _ in range(_ITERATIONS):
        error = add_up(products, multiply_up(additions, _of_node(r, add_up(partial, error))))
    best = np.full(np.broadcast_shapes(error.shape, partial.shape), np.inf)
    for factor in (1.0, 1.0 + 2.0**-8, 2.0):
        candidate = multiply_up(error, factor) if factor > 1.0 else error
        needed = add_up(products, multiply_up(additions, _of_node(r, add_up(partial, candidate))))
        best = np.where((needed <= candidate) & np.isinf(best), candidate, best)
    return best


def _of_node(r: Rounder, magnitude: FloatArray) -> FloatArray:
    """A node of the tree is an addition or, contracted, an FMA; the latter may underflow.

    Where subnormal operands may be read as zero, both partial sums may lose one.
    """
    return add_up(np.maximum(r.of_sum(magnitude), r.of_product(magnitude)), r.lost_operands)


def no_overflow(r: Rounder, magnitude: FloatArray) -> Precondition:
    """Every intermediate result is at most `magnitude`, so none rounds to infinity.

    Rounding is monotone and takes the threshold beyond every number below it, so it makes no
    difference whether the results are meant before they are rounded or after.
    """
    largest = float(np.max(magnitude, initial=0.0))
    limit = r.format.overflow_threshold
    return Precondition(
        "no-overflow",
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
    lost = r.operand_loss(result)
    if not r.exact and r.flush_results:
        tiny = r.smallest_normal
        touches = (result.lo < tiny) & (result.hi > -tiny)
        lost = np.maximum(lost, np.where(touches, np.minimum(result.magnitude, tiny), 0.0))
    return RoundingBound(lost, (), ("flush",) if np.any(lost) else ())
