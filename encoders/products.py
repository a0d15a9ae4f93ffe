"""Sums of products with stored coefficients: what Gemm, MatMul and Conv have in common.

An operator says once how a coefficient array acts (`Action`); from that come its float64 linear
part, the counts and magnitudes its rounding bound needs, and the bound itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial, reduce
from typing import Any

import numpy as np

from encoders.contract import AnyOrder, BiasPlacement, RuntimeContract
from encoders.enclosure import (
    FloatArray,
    Interval,
    LinearPart,
    add_up,
    gamma,
    in_blocks,
    multiply_up,
    raised,
)
from encoders.error_arithmetic import traced
from encoders.operator import RoundingBound, RowFacts, Site
from encoders.rounding_bounds import Rounder, any_order_sum, finish, rounder, stored_loss

ANY_ORDER = (
    "sum-any-order",
    "fma-node",
    "dot-product",
    "dot-product-total",
    "underflow-term",
    "flush-operand-product",
    "flush-operand-sum",
)
KNOWN_ORDER = ("sequential-step", "underflow-term", "flush-operand-product", "flush-operand-sum")

_FRACTION = np.int64(0x000F_FFFF_FFFF_FFFF)  # its bits are 0 in a power of two

Map = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class Action:
    """How coefficients W act: `apply(W)` maps (k, *in) → (k, *out), `adjoint(W)` maps back.

    Linear in W, entry by entry: no two coefficients are combined.
    """

    apply: Callable[[FloatArray], Map]
    adjoint: Callable[[FloatArray], Map]
    terms: int
    adjoint_terms: int


def linear_part(action: Action, weights: FloatArray, relative: float = 0.0) -> LinearPart:
    """The float64 linear part of exactly stored weights (relative error of W apart)."""
    return LinearPart(
        action.apply(weights),
        lambda x: action.apply(raised(np.abs(weights)))(x),
        action.adjoint(weights),
        action.terms,
        action.adjoint_terms,
        relative,
    )


@dataclass(frozen=True)
class ProductSum:
    """Σ_k w_k·x_k + bias for every output element; the range `bias` broadcasts to the output.

    `bias_error` bounds how far the bias that is added may be from the exact one; None means as far
    as storing a constant takes it.
    """

    action: Action
    weights: FloatArray
    bias: Interval | None
    bias_error: FloatArray | None = None


def any_order_rounding(r: Rounder, s: ProductSum, x: Interval) -> RoundingBound:
    """|computed − Σ w·x̂ − b| for run-time inputs in `x`, any order, with or without FMA.

    Partial sums lie in [−N, P] with P and N the sums of positive and negative parts, so each is
    at most max(P, N) = (|W|·(x⁺ + x⁻) + |W·(x⁺ − x⁻)|)/2, where x⁺ = max(hi, 0) and
    x⁻ = max(−lo, 0) (the bias joins in the same way). A product whose coefficient is a power of
    two rounds only by underflow; zero coefficients and inputs that are always zero cost nothing,
    but that a finished sum may be flushed when one of their products is added to it. Operands must
    be finite all the same: 0·∞ is NaN.
    """
    up, down = np.maximum(x.hi, 0.0), np.maximum(-x.lo, 0.0)
    part = linear_part(s.action, s.weights)
    partial = _largest_partial(part, up, down, s.bias)
    alive = (x.magnitude > 0).astype(np.float64)
    terms = s.action.apply((s.weights != 0).astype(np.float64))(alive[None])[0]
    magnitude, stored, loss = x.magnitude, np.abs(s.weights), stored_loss(r, s.weights)
    if np.any(loss):  # the runtime multiplies by ŵ
        stored = add_up(stored, loss)
    products = _product_errors(r, s, x, stored, loss)
    products = add_up(products, multiply_up(terms, 0.0 if r.exact else r.underflow))
    additions = np.maximum(terms - 1.0, 0.0)
    if s.bias is not None:
        some = np.broadcast_to(s.bias.magnitude > 0, partial.shape)
        additions = np.where(some & (terms > 0), additions + 1.0, additions)
        if s.bias_error is not None:
            products = add_up(products, s.bias_error)
        elif np.all(s.bias.lo == s.bias.hi):
            products = add_up(products, stored_loss(r, s.bias.lo))
    products = add_up(products, np.where(partial > 0, r.flushed, 0.0))
    clamped = r.clamped(magnitude, stored)
    radius = any_order_sum(r, partial, additions, products, float(s.action.terms), clamped)
    sums = add_up(partial, np.where(np.isfinite(radius), radius, 0.0))
    largest = max(float(np.max(reached, initial=0.0)) for reached in (sums, magnitude, stored))
    done = finish(r, radius, np.asarray(largest), ANY_ORDER)
    if r.exact or not np.all(np.isfinite(done.radius)):
        return done
    return replace(done, row=_rows(r, s, x, partial, radius, products, additions))


def _rows(
    r: Rounder,
    s: ProductSum,
    x: Interval,
    partial: FloatArray,
    radius: FloatArray,
    products: FloatArray,
    additions: FloatArray,
) -> Callable[[int], RowFacts]:
    """The facts of one output element, its weights read off by a unit functional."""

    def row(index: int) -> RowFacts:
        unit = np.zeros((1, *partial.shape))
        unit.reshape(-1)[index] = 1.0
        weights = s.action.adjoint(s.weights)(unit)[0].reshape(-1)
        used = np.flatnonzero(weights)
        bias = (0.0, 0.0)
        if s.bias is not None:
            low = np.broadcast_to(s.bias.lo, partial.shape).reshape(-1)[index]
            bias = (float(low), float(np.broadcast_to(s.bias.hi, partial.shape).reshape(-1)[index]))
        return RowFacts(
            _fractions(weights[used]),
            _fractions(x.lo.reshape(-1)[used]),
            _fractions(x.hi.reshape(-1)[used]),
            Fraction(bias[0]),
            Fraction(bias[1]),
            Fraction(float(partial.reshape(-1)[index])),
            Fraction(float(radius.reshape(-1)[index])),
            Fraction(float(products.reshape(-1)[index])),
            int(additions.reshape(-1)[index]),
            r.format,
            Fraction(r.smallest_normal if r.flush_results else 0.0),
            Fraction(r.lost_operands),
        )

    return row


def _fractions(values: FloatArray) -> tuple[Fraction, ...]:
    return tuple(Fraction(float(v)) for v in values)


def _largest_partial(
    part: LinearPart, up: FloatArray, down: FloatArray, bias: Interval | None
) -> FloatArray:
    with np.errstate(invalid="ignore"):
        difference = up - down
    finite = np.where(np.isfinite(difference), difference, 0.0)
    total = part.magnitude_up(add_up(up, down))
    signed = part.apply(finite[None])[0]
    if bias is None:
        return in_blocks(partial(_largest_of, gamma(part.terms + 4)), total, signed)
    plus, minus = np.maximum(bias.hi, 0.0), np.maximum(-bias.lo, 0.0)
    largest = partial(_largest_of, gamma(part.terms + 6))
    return in_blocks(largest, total, signed, plus, minus)


def _largest_of(
    relative: float,
    total: FloatArray,
    signed: FloatArray,
    plus: FloatArray | float = 0.0,
    minus: FloatArray | float = 0.0,
) -> FloatArray:
    """(total + |signed|)/2 with a bias added to both; `relative` is how far the float64 number
    `signed` may be off, in totals."""
    total = add_up(total, add_up(plus, minus))
    slack = multiply_up(total, relative)
    balance = np.minimum(add_up(np.abs(signed + (plus - minus)), slack), total)
    return np.where(np.isfinite(total), 0.5 * add_up(total, balance), np.inf)


def product_rounding(
    site: Site,
    s: ProductSum,
    inputs: Sequence[Interval],
    contract: RuntimeContract,
    runtime: Callable[..., tuple[Any, ...]],
) -> RoundingBound:
    """The rounding bound of a sum of products: closed form for free orders, step by step else."""
    free_bias = s.bias is not None and contract.bias is BiasPlacement.ANY
    if isinstance(contract.order, AnyOrder) or free_bias:
        return any_order_rounding(rounder(site, contract), s, inputs[0])
    return traced(runtime, site, inputs, contract, KNOWN_ORDER)


def _product_errors(
    r: Rounder,
    s: ProductSum,
    x: Interval,
    stored: FloatArray,
    loss: FloatArray,
) -> FloatArray:
    """What products lose to rounding, underflow apart, to coefficients rounded to the compute
    format, and to subnormal operands read as zero.

    The runtime multiplies by ŵ: |ŵ − w| ≤ `loss` and |ŵ| ≤ `stored`.
    """
    magnitude, lost_x = x.magnitude, r.operand_loss(x)
    relative = 0.0 if r.exact else r.relative
    rounded = multiply_up(magnitude, relative)
    exact = ((stored.view(np.int64) & _FRACTION) == 0) & (stored > 0) & (loss == 0)
    if np.any(exact):
        charges = [(np.where(exact, 0.0, stored), rounded), (stored, lost_x)]
    else:
        charges = [(stored, add_up(rounded, lost_x))]
    lost_w = r.operand_loss(Interval(s.weights, s.weights))
    if np.any(loss) or np.any(lost_w):
        charges.append((add_up(loss, lost_w), magnitude))
    parts = [linear_part(s.action, w).magnitude_up(v) for w, v in charges if np.any(v)]
    return reduce(add_up, parts, np.zeros(()))
