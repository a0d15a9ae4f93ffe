"""Operators that are affine in their variable inputs: y = Σ_i M_i·x_i + b.

One description (`AffineMap`) serves the range of real values, functionals pulled back
through them, and differences, since d_out = Σ_i M_i·d_i exactly. The soundness of each float64
step rests on the bounds stated in `encoders.numbers.enclosure`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial, reduce

import numpy as np

from encoders.lemmas.carrying import UNDERFLOWN
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import Radius, apply, exactly_zero
from encoders.numbers.enclosure import (
    SMALLEST,
    FloatArray,
    Interval,
    LinearPart,
    add_down,
    add_up,
    all_in_blocks,
    gamma,
    midpoint_radius,
    multiply_up,
    nothing,
    some,
)
from encoders.operator import Carry, DifferenceCarry, DifferenceMap, Site, ValueMap, remembered


@dataclass(frozen=True)
class AffineMap:
    """y = Σ parts·x + b with |b − `bias`| ≤ `bias_radius`, both of the output's shape."""

    parts: tuple[LinearPart, ...]
    bias: FloatArray
    bias_radius: FloatArray

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
    affine: AffineMap, ranges: Sequence[Interval], range_: Interval | None = None
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


def _range(affine: AffineMap, ranges: Sequence[Interval]) -> Interval:
    if all(part.terms == 0 for part in affine.parts):
        return _moved_range(affine, ranges)
    terms = len(affine.parts)
    slack = gamma(2 * terms + 2) if terms > 1 or np.any(affine.bias) else 0.0
    balls: list[FloatArray] = []
    for part, x in zip(affine.parts, ranges, strict=True):
        own = (gamma(part.terms) + part.relative) * (1.0 + 2.0**-40)
        with np.errstate(over="ignore", invalid="ignore"):
            mid, rad = all_in_blocks(partial(_centred, own), x.lo, x.hi)
        tiny = 2.0 * part.terms * SMALLEST if some(mid) else 0.0
        balls += (part.apply(mid[None])[0], add_up(part.magnitude_up(rad), tiny))
    lo, hi = all_in_blocks(partial(_ends, slack), affine.bias, affine.bias_radius, *balls)
    return Interval(lo, hi)


def _moved_range(affine: AffineMap, ranges: Sequence[Interval]) -> Interval:
    """Sums of the ends of what is moved, where every coefficient is -1, 0 or 1."""
    range_ = Interval(affine.bias, affine.bias)
    if np.any(affine.bias_radius):
        range_ = range_.inflate(affine.bias_radius)
    shifted = bool(np.any(range_.lo) or np.any(range_.hi))
    for part, x in zip(affine.parts, ranges, strict=True):
        a, b = part.apply(x.lo[None])[0], part.apply(x.hi[None])[0]
        moved = Interval(np.minimum(a, b), np.maximum(a, b))  # a coefficient may be -1
        if shifted:
            range_ = Interval(add_down(range_.lo, moved.lo), add_up(range_.hi, moved.hi))
        else:
            range_, shifted = moved, True
    return range_


def _centred(relative: float, lo: FloatArray, hi: FloatArray) -> tuple[FloatArray, ...]:
    """A midpoint and radius, widened by what coefficients off by `relative` do to the midpoint."""
    mid, radius = midpoint_radius(Interval(lo, hi))
    bounded = np.isfinite(radius) & np.isfinite(mid)
    if not np.all(bounded):
        mid, radius = np.where(bounded, mid, 0.0), np.where(bounded, radius, np.inf)
    if relative:
        radius = add_up(radius, multiply_up(np.abs(mid), relative))
    return mid, radius


def _ends(
    slack: float, bias: FloatArray, bias_radius: FloatArray, *balls: FloatArray
) -> tuple[FloatArray, ...]:
    """bias + Σ centres, with what their float64 sum errs by, plus and minus the radii; `balls`
    holds centres and radii in turn."""
    centre, absolute, radius = np.zeros_like(bias), np.abs(bias), bias_radius
    for middle, around in zip(balls[::2], balls[1::2], strict=True):
        centre = centre + middle
        absolute = absolute + np.abs(middle)
        radius = add_up(radius, around)
    centre = centre + bias
    if slack:
        radius = add_up(radius, multiply_up(absolute, slack))
    return add_down(centre, -radius), add_up(centre, radius)


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
    spread = int(np.prod(output, dtype=np.int64)) // max(int(np.prod(shape, dtype=np.int64)), 1)
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
