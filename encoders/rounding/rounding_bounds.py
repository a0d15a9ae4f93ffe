"""How far rounding can move one result: the bounds every operator's `rounding` is built from.

All bounds are on |computed − exact| for exact results of magnitude at most M, M itself an upper
bound. Sources: half an ulp of the largest value (IEEE 754); |fl(z) − z| ≤ u/(1+u)·|z| (Knuth;
Jeannerod & Rump 2018); additions are exact in the subnormal range (Hauser 1996). The any-order sum
is lemma `sum-any-order` of the library: m additions, each with partial sums at most M, err by at
most m·r(M), r(M) being the rounding error at M. Where m·u is near 1 or above, no M is known for
that lemma; `any-order-linear` holds for any m.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from encoders.arithmetic.number_path import Arrived, Hop, Path, arrived, stored_path
from encoders.contract.contract import RoundingMode, RuntimeContract, Subnormals
from encoders.contract.orders import alignment_of
from encoders.lemmas.combining import EXACT
from encoders.lemmas.functions import IN_ULPS, IN_UNITS
from encoders.lemmas.kernel import Radius, Rounding, apply, exactly_zero
from encoders.lemmas.lemma import RoundingLemma
from encoders.lemmas.operations import (
    OPERAND_LOSS,
    ROUNDING_MODEL,
    STORED_NUMBER,
    UNTOUCHED,
    WITHIN_RANGE,
)
from encoders.lemmas.products import FLUSHED_SUM
from encoders.lemmas.rounding import ALIGNED, COPIED, ROUNDED, ROUNDED_SUM, SCALED, UNROUNDED
from encoders.numbers.enclosure import (
    FloatArray,
    Interval,
    add_up,
    highest,
    in_blocks,
    lowest,
    multiply_up,
)
from encoders.numbers.formats import BINARY32, FloatFormat
from encoders.operator import RoundingBound, Site
from onnx_import.errors import UnsupportedModel
from onnx_import.graph import DType

OVERFLOW = "no-overflow"  # the name of that precondition

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

    def of_sum(self, magnitude: FloatArray) -> Rounding:
        """Error of rounding z = x ± y for floats x, y and |z| ≤ magnitude."""
        return self._nearest(ROUNDED_SUM, magnitude)

    def of_product(self, magnitude: FloatArray) -> Rounding:
        """Error of rounding any real z with |z| ≤ magnitude (product, quotient, FMA, root)."""
        return self._nearest(ROUNDED, magnitude)

    def _nearest(self, lemma: RoundingLemma, magnitude: FloatArray) -> Rounding:
        if self.exact:
            return apply(UNROUNDED, M=magnitude)
        return apply(
            lemma,
            M=magnitude,
            P=in_blocks(self._power, magnitude),
            u=self.unit,
            least=self.smallest_normal,
            tiny=self._tiny,
        )

    def of_scaling(self, magnitude: FloatArray) -> Rounding:
        """Error of a product by a power of two: none but by underflow."""
        if self.exact:
            return apply(UNROUNDED, M=magnitude)
        return apply(SCALED, M=magnitude, u=self.unit, least=self.smallest_normal, tiny=self._tiny)

    def of_copy(self, magnitude: FloatArray) -> Rounding:
        """Error of a result that is one of the operands: a flushing runtime may lose it."""
        if self.exact or not self.flush_results:
            return apply(UNROUNDED, M=magnitude)
        return apply(COPIED, M=magnitude, tiny=self._tiny)

    @property
    def _tiny(self) -> float:
        """Results below it may become 0."""
        return self.smallest_normal if self.flush_results else 0.0

    def _power(self, magnitude: FloatArray) -> FloatArray:
        """2^k with k = max(⌊log2 M⌋, emin)."""
        power = (np.ascontiguousarray(magnitude).view(np.int64) & _EXPONENT).view(np.float64)
        return np.maximum(power.reshape(magnitude.shape), self.smallest_normal)

    def of_step(self, products: float, magnitude: FloatArray) -> Rounding:
        """Error of an aligned step (encoders/contract/orders.py) of so many products.

        The largest number in it, its result and `clamped` of its factors are at most `magnitude`.
        """
        if self.exact or self.alignment is None:
            return apply(UNROUNDED, M=magnitude)
        return apply(
            ALIGNED,
            M=magnitude,
            k=products,
            share=2.0**-self.alignment,
            u=self.unit,
            least=self.smallest_normal,
            tiny=self._tiny,
        )

    def clamped(self, x: FloatArray | float, y: FloatArray | float) -> float:
        """A bound on what factors below the normal range count for in an aligned step, where
        |x|·|y| is accounted for."""
        least = self.format.emin if self.least_factor is None else self.least_factor
        tiny = 2.0**least
        return tiny * max(float(np.max(x, initial=tiny)), float(np.max(y, initial=tiny)))

    def of_ulps(self, ulps: float, magnitude: FloatArray, y: Interval) -> Radius:
        """Error of a function computed to so many ulps, of results y of at most `magnitude`; that
        is not `of_product` twice, which knows that rounding never passes a power of two."""
        return apply(
            IN_ULPS,
            M=magnitude,
            P=in_blocks(self._power, magnitude),
            u=self.unit,
            least=self.smallest_normal,
            ulps=ulps,
            tiny=self._tiny,
            lo=y.lo,
            hi=y.hi,
        )

    def of_units(self, units: float, magnitude: FloatArray, y: Interval) -> Radius:
        """Error of a function computed to so many units of roundoff, absolutely."""
        return apply(
            IN_UNITS,
            M=magnitude,
            limit=sys.float_info.max,
            u=self.unit,
            units=units,
            tiny=self._tiny,
            lo=y.lo,
            hi=y.hi,
        )

    @property
    def flushed(self) -> float:
        """What one subnormal number loses by being flushed, as a result or as an operand."""
        flushes = self.flush_results or self.flush_operands
        return self.smallest_normal if flushes and not self.exact else 0.0

    @property
    def lost(self) -> float:
        """What an operation may lose below the normal numbers."""
        return self.underflow + self.flushed + self.lost_operands

    @property
    def lost_operands(self) -> float:
        """What two operands of an addition can lose by being read as zero."""
        return 0.0 if self.exact or not self.flush_operands else 2.0 * self.smallest_normal

    def operand_loss(self, x: Interval) -> Radius:
        """How much a runtime that reads subnormal operands as zero changes x."""
        if self.exact or not self.flush_operands:
            return exactly_zero(EXACT, x.shape)
        return below(x, self.smallest_normal)

    def with_finished_sum(self, terms: Radius, largest: FloatArray) -> Radius:
        """Errors of a sum's terms, and what is lost where the sum of them, no partial one more than
        `largest`, is flushed as adding a zero product or reading it flushes it."""
        if not self.flushed:
            return terms
        return terms + apply(FLUSHED_SUM, T=largest, tiny=self.flushed)

    def after(
        self, rounded: Callable[[FloatArray], Rounding], magnitude: FloatArray, moved: Radius
    ) -> Radius:
        """Error of an operation whose exact result, at most `magnitude`, moves by `moved` on
        computed operands, and is then `rounded`: lemma `rounding-model`."""
        node = rounded(beyond(magnitude, moved.bound))
        return apply(ROUNDING_MODEL, M=magnitude, e=moved, r=node)


def below_normal(tiny: float) -> Radius:
    """Of what loses at most `tiny` below the normal numbers."""
    return apply(FLUSHED_SUM, T=1.0, tiny=tiny)


def beyond(magnitude: FloatArray, error: FloatArray) -> FloatArray:
    """M + e, so far rounded up that the reading of a lemma cannot find it less."""
    with np.errstate(invalid="ignore", over="ignore"):
        return multiply_up(add_up(magnitude, error), 1.0 + 2.0**-49)


def below(x: Interval, tiny: float) -> Radius:
    """How far numbers in a range move if those smaller than `tiny` may become zero."""
    if lowest(x.lo) >= tiny or highest(x.hi) <= -tiny:
        return exactly_zero(UNTOUCHED, x.shape)
    touched = (x.lo < tiny) & (x.hi > -tiny)
    if not touched.any() or not (touched & ((x.lo != 0.0) | (x.hi != 0.0))).any():
        return exactly_zero(UNTOUCHED, touched.shape)
    return apply(OPERAND_LOSS, lo=x.lo, hi=x.hi, tiny=tiny)


def rounder(site: Site, contract: RuntimeContract) -> Rounder:
    """The rounding of the node's output under a contract."""
    return rounder_of(site.outputs[0].dtype, contract)


def rounder_of(dtype: DType, contract: RuntimeContract) -> Rounder:
    """The rounding of tensors of a floating-point type under a contract.

    Raises UnsupportedModel under stochastic rounding: the lemmas are of rounding to nearest.
    """
    if contract.rounding is RoundingMode.STOCHASTIC:
        raise UnsupportedModel(
            f"contract '{contract.name}' rounds stochastically, and every lemma is of rounding to "
            "nearest; ask how far executions scatter: refine bound MODEL --confidence 1e-9"
        )
    return Rounder(
        contract.format_of(dtype),
        contract.exact,
        flush_results=contract.results is not Subnormals.KEEP,
        flush_operands=contract.operands is not Subnormals.KEEP,
        path=stored_path(contract, dtype),
        alignment=alignment_of(contract.order),
        least_factor=contract.least_factor,
    )


def conversion_error(r: Rounder, source: FloatFormat, x: Interval) -> Radius:
    """Of numbers of `source` in the ranges x, converted to the format of r: one rounding unless it
    holds them all; either side may lose a subnormal number."""
    lost = r.operand_loss(x).or_else(replace(r, format=source).operand_loss(x))
    return r.after(r.of_copy if r.format.holds(source) else r.of_product, x.magnitude, lost)


def stored_loss(r: Rounder, values: FloatArray) -> Radius:
    """|ŵ − w| for stored numbers w, which reach the operation that uses them along `r.path`."""
    if r.exact or (len(r.path) == 1 and r.format.holds(BINARY32) and _in_float32(values)):
        return exactly_zero(EXACT, values.shape)
    return _loss_of(values, held(r, values))


def held(r: Rounder, values: FloatArray) -> Arrived:
    """Stored numbers as the runtime holds them, if none of them is flushed."""
    return arrived(r.path, values, r.flush_operands, r.flush_results)


def formula_loss(r: Rounder, values: FloatArray) -> Radius:
    """|ĉ − c| for numbers c of a formula or an attribute, rounded once.

    A bound that charges this covers a runtime that keeps c in float32, and rounds what it makes of
    it once to the format, too: float32 is nearer to c than any shorter format, and the operation's
    own rounding is charged at what the rounded c may give.
    """
    if r.exact or (r.format.holds(BINARY32) and _in_float32(values)):
        return exactly_zero(EXACT, values.shape)
    return _loss_of(values, arrived((Hop(r.format),), values, False, False))


def _loss_of(values: FloatArray, there: Arrived) -> Radius:
    flushed = there.flushed.astype(np.float64)
    return apply(STORED_NUMBER, w=values, w_hat=there.values, zeroed=flushed)


def _in_float32(values: FloatArray) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.all(values.astype(np.float32) == values))


def no_overflow(bound: RoundingBound, r: Rounder, magnitude: FloatArray) -> RoundingBound:
    """The bound if every intermediate result is at most `magnitude`, so that none rounds to
    infinity.

    Rounding is monotone and takes the threshold beyond every number below it, so it makes no
    difference whether the results are meant before they are rounded or after.
    """
    largest = max(highest(magnitude), 0.0)
    limit = r.format.overflow_threshold
    return bound.given(
        OVERFLOW,
        f"intermediate magnitudes reach at most {largest:.6g}, which must stay below "
        f"{_shown(limit)}, from where numbers round to infinity",
        WITHIN_RANGE,
        M=math.inf if r.exact and math.isnan(largest) else largest,
        limit=math.inf if r.exact else _largest_below(r.format),
    )


def _shown(limit: Fraction) -> str:
    """To six digits; the threshold of float64 is no float64."""
    return f"{float(min(limit, Fraction(sys.float_info.max))):.6g}"


def finish(r: Rounder, radius: Radius, magnitude: FloatArray) -> RoundingBound:
    """A rounding bound that is infinite unless overflow is excluded."""
    return no_overflow(RoundingBound(radius), r, magnitude)


def _largest_below(fmt: FloatFormat) -> float:
    """The largest float64 below the overflow threshold."""
    nearest = min(fmt.overflow_threshold, Fraction(sys.float_info.max))
    found = float(nearest)
    return found if Fraction(found) < fmt.overflow_threshold else math.nextafter(found, 0.0)


def no_rounding(site: Site) -> RoundingBound:
    """For operators that only move data."""
    return RoundingBound(exactly_zero(EXACT, site.outputs[0].shape))


def exact_unless_flushed(site: Site, result: Interval, contract: RuntimeContract) -> RoundingBound:
    """For max, min, abs, negation: exact, except that a flushing runtime may lose a subnormal."""
    r = rounder(site, contract)
    lost = replace(r, flush_operands=r.flush_operands or r.flush_results).operand_loss(result)
    return RoundingBound(lost)
