"""Operators that are affine in their variable inputs: y = Σ_i M_i·x_i + b.

One description (`AffineMap`) serves the interval image of real values, functionals pulled back
through them, and differences, since d_out = Σ_i M_i·d_i exactly. The soundness of each float64
step rests on the bounds stated in `encoders.enclosure`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from encoders.enclosure import (
    SMALLEST,
    FloatArray,
    Interval,
    LinearPart,
    add_down,
    add_up,
    dot_up,
    gamma,
    inner_up,
    midpoint_radius,
    multiply_up,
)
from encoders.operator import Contribution, DifferenceMap, Site, ValueMap


@dataclass(frozen=True)
class AffineMap:
    """y = Σ parts·x + b with |b − `bias`| ≤ `bias_radius`, both of the output's shape."""

    parts: tuple[LinearPart, ...]
    bias: FloatArray
    bias_radius: FloatArray


def affine_map(
    parts: Sequence[LinearPart], shape: tuple[int, ...], bias: FloatArray | None = None
) -> AffineMap:
    """An affine map with an exactly known bias (zero if None), broadcast to the output shape."""
    full = np.zeros(shape) if bias is None else np.broadcast_to(bias, shape).astype(np.float64)
    return AffineMap(tuple(parts), full, np.zeros(shape))


def affine_values(affine: AffineMap, ranges: Sequence[Interval]) -> ValueMap:
    """Interval image and pull-back of real values through an affine map."""
    magnitudes = [r.magnitude for r in ranges]
    rho = affine.bias_radius
    underflow = 0.0
    for part, magnitude in zip(affine.parts, magnitudes, strict=True):
        rho = add_up(rho, part.adjoint_error(magnitude))
        underflow += part.adjoint_underflow(magnitude)

    def backward(c: FloatArray) -> Contribution:
        constant = add_up(inner_up(c, affine.bias), dot_up(c, rho))
        return Contribution(
            tuple(part.adjoint(c) for part in affine.parts),
            add_up(constant, 2.0 * underflow),
        )

    return ValueMap(_image(affine, ranges), backward)


def _image(affine: AffineMap, ranges: Sequence[Interval]) -> Interval:
    shifted = np.any(affine.bias) or np.any(affine.bias_radius)
    if len(affine.parts) == 1 and affine.parts[0].terms == 0 and not shifted:
        move = affine.parts[0].apply
        a, b = move(ranges[0].lo[None])[0], move(ranges[0].hi[None])[0]
        return Interval(np.minimum(a, b), np.maximum(a, b))  # a coefficient may be -1
    centre = np.zeros_like(affine.bias)
    absolute = np.abs(affine.bias)
    radius = affine.bias_radius
    for part, x in zip(affine.parts, ranges, strict=True):
        mid, rad = midpoint_radius(x)
        unbounded = ~np.isfinite(rad) | ~np.isfinite(mid)
        mid = np.where(unbounded, 0.0, mid)
        rad = np.where(unbounded, np.inf, rad)
        image = part.apply(mid[None])[0]
        slack = (gamma(part.terms) + part.relative) * (1.0 + 2.0**-40)
        radius = add_up(radius, part.magnitude_up(add_up(rad, multiply_up(np.abs(mid), slack))))
        radius = add_up(radius, 2.0 * part.terms * SMALLEST if np.any(mid) else 0.0)
        centre = centre + image
        absolute = absolute + np.abs(image)
    centre = centre + affine.bias
    if len(affine.parts) > 1 or np.any(affine.bias):
        radius = add_up(radius, multiply_up(absolute, gamma(2 * len(affine.parts) + 2)))
    return Interval(add_down(centre, -radius), add_up(centre, radius))


def affine_differences(affine: AffineMap, errors: Sequence[FloatArray]) -> DifferenceMap:
    """Differences through an affine map, given |d| ≤ errors of the variable inputs."""
    radius = np.zeros_like(affine.bias)
    rho = np.zeros_like(affine.bias)
    underflow = 0.0
    for part, error in zip(affine.parts, errors, strict=True):
        radius = add_up(radius, part.magnitude_up(error))
        rho = add_up(rho, part.adjoint_error(error))
        underflow += part.adjoint_underflow(error)

    def backward(c: FloatArray) -> Contribution:
        return Contribution(
            tuple(part.adjoint(c) for part in affine.parts),
            add_up(dot_up(c, rho), 2.0 * underflow),
        )

    return DifferenceMap(radius, backward)


def affine_meanings(
    affine_of: Callable[[Site], AffineMap],
) -> tuple[
    Callable[[Site, Sequence[Interval]], ValueMap],
    Callable[[Site, Sequence[Interval], Sequence[FloatArray]], DifferenceMap],
]:
    """`Operator.values` and `Operator.differences` of an operator that is affine at every site."""

    def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
        return affine_values(affine_of(site), ranges)

    def differences(
        site: Site, ranges: Sequence[Interval], errors: Sequence[FloatArray]
    ) -> DifferenceMap:
        return affine_differences(affine_of(site), errors)

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
