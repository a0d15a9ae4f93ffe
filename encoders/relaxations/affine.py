"""Operators that are affine in their variable inputs: y = Σ_i M_i·x_i + b.

One description (`AffineMap`) serves the range of real values, functionals pulled back
through them, and differences, since d_out = Σ_i M_i·d_i exactly. The soundness of each float64
step rests on the bounds stated in `encoders.numbers.enclosure`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, reduce

import numpy as np

from encoders.lemmas.carrying import UNDERFLOWN
from encoders.lemmas.combining import COMPUTED_TERM, EXACT, HELD_NUMBER
from encoders.lemmas.kernel import Radius, apply, enclosed, exactly_zero
from encoders.lemmas.ranges.placing import range_of, range_through
from encoders.lemmas.ranges.range import Range
from encoders.lemmas.ranges.reals import AROUND, RANGE_SUM
from encoders.numbers.enclosure import (
    SMALLEST,
    UNIT,
    FloatArray,
    Interval,
    LinearPart,
    add_up,
    gamma,
    highest,
    in_blocks,
    lowest,
    nothing,
    some,
)
from encoders.operator import Carry, DifferenceCarry, DifferenceMap, Site, ValueMap, remembered


@dataclass(frozen=True)
class AffineMap:
    """y = Σ parts·x + b with |b − `bias`| ≤ `bias_radius`, both of the output's shape.

    `off` is that radius where lemmas gave it.
    """

    parts: tuple[LinearPart, ...]
    bias: FloatArray
    bias_radius: FloatArray
    off: Radius | None = None

    def adjoint(self, c: FloatArray) -> tuple[FloatArray, ...]:
        """Functionals of y as functionals of every x, the bias left out."""
        return tuple(part.adjoint(c) for part in self.parts)


def affine_map(
    parts: Sequence[LinearPart], shape: tuple[int, ...], bias: FloatArray | None = None
) -> AffineMap:
    """An affine map with an exactly known bias (zero if None), broadcast to the output shape."""
    full = np.asarray(0.0 if bias is None else bias, np.float64)
    return AffineMap(tuple(parts), np.broadcast_to(full, shape), nothing(shape))


def affine_values(
    affine: AffineMap, ranges: Sequence[Interval], range_: Range | None = None
) -> ValueMap:
    """Range and pull-back of real values through an affine map; `range_` if it is known."""

    @cache  # not before a functional is pulled back
    def carry() -> Carry:
        magnitudes = [r.magnitude for r in ranges]
        rho, underflow = _adjoint_errors(affine, magnitudes, affine.bias_radius)
        return Carry(affine.adjoint, rho, exact=affine.bias, least=underflow)

    whole = _range(affine, ranges) if range_ is None else range_
    return ValueMap(whole, lambda c: carry()(c), carry=carry)


def _adjoint_errors(
    affine: AffineMap, magnitudes: Sequence[FloatArray], start: FloatArray
) -> tuple[FloatArray, float]:
    """What float64 may cost a functional c pulled back, |x| ≤ `magnitudes`: |c|·ρ, ρ ≥ `start`,
    and, where products underflow, a constant."""
    rho, underflow = start, 0.0
    for part, magnitude in zip(affine.parts, magnitudes, strict=True):
        rho = add_up(rho, part.adjoint_error(magnitude))
        underflow += part.adjoint_underflow(magnitude)
    return rho, 2.0 * underflow


def _range(affine: AffineMap, ranges: Sequence[Interval]) -> Range:
    if all(part.terms == 0 for part in affine.parts):
        return _moved_range(affine, ranges)
    off: list[Radius] = []
    centre, size = np.zeros_like(affine.bias), np.zeros_like(affine.bias)
    for part, x in zip(affine.parts, ranges, strict=True):
        mid = _middle(x)
        term = apply(
            COMPUTED_TERM,
            X=range_of(x),
            m=mid,
            g=gamma(part.terms),
            r=part.relative,
            n=float(part.terms),
            u=UNIT,
        )
        off.append(term.carried(part))
        if part.terms and some(mid):
            off.append(apply(UNDERFLOWN, U=2.0 * part.terms * SMALLEST).on(size.shape))
        middle = part.apply(mid[None])[0]
        centre, size = centre + middle, size + np.abs(middle)
    if some(affine.bias_radius):
        off.append(_held(affine))
    biased = some(affine.bias)
    if biased:
        centre, size = centre + affine.bias, size + np.abs(affine.bias)
    sums = 2 * len(affine.parts) + 2 if biased or len(affine.parts) > 1 else 0
    around = reduce(operator.add, off)
    return enclosed(AROUND, m=centre, e=around, S=size, g=gamma(sums), n=float(sums), u=UNIT)


def _moved_range(affine: AffineMap, ranges: Sequence[Interval]) -> Range:
    """Sums of the ends of what is moved, where every coefficient is -1, 0 or 1."""
    moved = [range_through(range_of(x), p) for p, x in zip(affine.parts, ranges, strict=True)]
    if some(affine.bias) or some(affine.bias_radius) or not moved:
        moved.append(enclosed(AROUND, m=affine.bias, e=_held(affine), S=0.0, g=0.0, n=0.0, u=UNIT))
    return reduce(lambda x, y: enclosed(RANGE_SUM, X=x, Y=y), moved)


def _held(affine: AffineMap) -> Radius:
    """What the bias is off by."""
    return apply(HELD_NUMBER, U=affine.bias_radius) if affine.off is None else affine.off


def _middle(x: Interval) -> FloatArray:
    """A number about the middle of each range, 0 of an unbounded one."""
    with np.errstate(over="ignore", invalid="ignore"):
        mid = in_blocks(lambda lo, hi: np.where(lo == hi, lo, 0.5 * lo + 0.5 * hi), x.lo, x.hi)
    if np.isfinite(lowest(mid)) and np.isfinite(highest(mid)):
        return mid
    return np.where(np.isfinite(mid), mid, 0.0)


def affine_differences(affine: AffineMap, errors: Sequence[Radius]) -> DifferenceMap:
    """Differences through an affine map, given |d| ≤ errors of the variable inputs."""
    moved = [e.carried(part) for part, e in zip(affine.parts, errors, strict=True)]
    radius = reduce(operator.add, moved) if moved else exactly_zero(EXACT, affine.bias.shape)

    @cache
    def carry() -> DifferenceCarry:
        pairs = list(zip(affine.parts, errors, strict=True))
        own = [e.carried(_Adjoint(part)) for part, e in pairs if not part.exact]
        around = reduce(operator.add, own) if own else exactly_zero(EXACT, radius.shape)
        underflow = sum(part.adjoint_underflow(e.bound) for part, e in pairs)
        least = apply(UNDERFLOWN, U=2.0 * underflow) if underflow else None
        return DifferenceCarry(affine.adjoint, around, least)

    return DifferenceMap(radius, lambda c: carry()(c), carry=carry)


@dataclass(frozen=True)
class _Adjoint:
    """By how much float64 coefficients of a functional, carried back, may be off: per unit of |c|,
    as a map of magnitudes."""

    part: LinearPart

    def magnitude_up(self, values: FloatArray) -> FloatArray:
        """Σ|w|·v times the relative error of the coefficients."""
        return self.part.adjoint_error(values)


def affine_semantics(
    affine_of: Callable[[Site], AffineMap],
) -> tuple[
    Callable[[Site, Sequence[Interval]], ValueMap],
    Callable[[Site, Sequence[Interval], Sequence[Radius]], DifferenceMap],
]:
    """`Operator.values` and `Operator.differences` of an operator that is affine at every site."""

    affine_at = remembered(affine_of)

    def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
        return affine_values(affine_at(site), ranges)

    def differences(
        site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]
    ) -> DifferenceMap:
        return affine_differences(affine_at(site), errors)

    return values, differences


def moved_part(
    forward: Callable[[FloatArray], FloatArray], adjoint: Callable[[FloatArray], FloatArray]
) -> LinearPart:
    """Pure data movement: `forward` places input elements, each output element being one of them
    or zero; `adjoint` brings them back (elements placed once only)."""
    return LinearPart(forward, forward, adjoint, terms=0, adjoint_terms=0)


def scaled_part(
    scale: FloatArray, shape: tuple[int, ...], output: tuple[int, ...], relative: float = 0.0
) -> LinearPart:
    """Elementwise x·s, x of `shape` and s broadcasting to `output`.

    `relative` bounds the relative error of the float64 `scale` as the true coefficient.
    """
    unit = bool(np.all(np.abs(scale) == 1.0)) and relative == 0.0
    absolute = np.where(scale != 0, np.maximum(np.abs(scale), 2.0**-500), 0.0)
    spread = math.prod(output) // max(math.prod(shape), 1)
    rank = len(output)

    def aligned(x: FloatArray) -> FloatArray:
        return x.reshape(x.shape[0], *(1,) * (rank - len(shape)), *shape)

    def apply(x: FloatArray) -> FloatArray:
        return np.broadcast_to(aligned(x) * scale, (x.shape[0], *output))

    def apply_abs(x: FloatArray) -> FloatArray:
        return np.broadcast_to(aligned(x) * absolute, (x.shape[0], *output))

    def adjoint(c: FloatArray) -> FloatArray:
        return unbroadcast(c * scale, shape)

    return LinearPart(
        apply,
        apply_abs,
        adjoint,
        terms=0 if unit else 1,
        adjoint_terms=0 if unit and spread <= 1 else spread + 1,
        relative=relative,
    )


def unbroadcast(c: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Sum functionals (k, *broadcast shape) over the axes along which `shape` was broadcast."""
    extra = c.ndim - 1 - len(shape)
    summed = c.sum(axis=tuple(range(1, 1 + extra))) if extra else c
    axes = tuple(i + 1 for i, n in enumerate(shape) if n == 1 and summed.shape[i + 1] != 1)
    return summed.sum(axis=axes, keepdims=True) if axes else summed
