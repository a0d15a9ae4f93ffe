"""Sums of products with stored coefficients: what Gemm, MatMul and Conv have in common.

An operator says once how a coefficient array acts (`Action`); from that come its float64 linear
part, the counts and magnitudes its rounding bound needs, and the bound itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial, reduce

import numpy as np
import numpy.typing as npt

from encoders.contract.contract import AnyOrder, BiasPlacement, RuntimeContract
from encoders.contract.orders import AlignedSteps, is_one_chain
from encoders.families.part_sums import Limits, limits_of
from encoders.lemmas.kernel import Radius, apply
from encoders.lemmas.products import PRODUCT_ERRORS
from encoders.numbers.enclosure import (
    BoolArray,
    FloatArray,
    Interval,
    LinearPart,
    add_up,
    all_in_blocks,
    any_in_blocks,
    gamma,
    in_blocks,
    multiply_up,
    raised,
    some,
)
from encoders.operator import RoundingBound, RowFacts, RuntimeSemantics, Site
from encoders.rounding.any_order import any_order_sum
from encoders.rounding.error_arithmetic import traced
from encoders.rounding.rounding_bounds import (
    Rounder,
    finish,
    rounder,
    stored_loss,
)

_FRACTION = np.int64(0x000F_FFFF_FFFF_FFFF)  # its bits are 0 in a power of two
_LONG = 0.125  # relative error of all additions from where Σ|w·x| gets a matrix product of its own
_MANY = 2**14  # elements beyond which a bound is worth less than a matrix product

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
        adjoint=action.adjoint(weights),
        terms=action.terms,
        adjoint_terms=action.adjoint_terms,
        relative=relative,
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
    bias_error: Radius | None = None


def any_order_rounding(
    r: Rounder, s: ProductSum, x: Interval, limits: Limits | None = None
) -> RoundingBound:
    """|computed − Σ w·x̂ − b| for run-time inputs in `x`, any order, with or without FMA.

    Partial sums lie in [−N, P] with P and N the sums of positive and negative parts, so each is
    at most max(P, N) = (|W|·(x⁺ + x⁻) + |W·(x⁺ − x⁻)|)/2, where x⁺ = max(hi, 0) and
    x⁻ = max(−lo, 0) (the bias joins in the same way). A product whose coefficient is a power of
    two rounds only by underflow; zero coefficients and inputs that are always zero cost nothing,
    but that a finished sum may be flushed when one of their products is added to it. Operands must
    be finite all the same: 0·∞ is NaN.
    """
    up, down, magnitude = all_in_blocks(_sides, x.lo, x.hi)
    part = linear_part(s.action, s.weights)
    total = part.magnitude_up(add_up(up, down))
    largest = _largest_partial(part, total, up, down, s.bias)
    if limits is not None:
        total = np.minimum(total, limits.total)
        largest = np.minimum(largest, _with_bias(limits, s.bias))
    stored, loss = np.abs(s.weights), stored_loss(r, s.weights).bound
    # in which counts are exact
    exact: npt.DTypeLike = np.float32 if s.action.terms < 2**24 else np.float64
    alive = (magnitude > 0).astype(exact)
    terms = s.action.apply((s.weights != 0).astype(exact))(alive[None])[0].astype(np.float64)
    if some(loss):  # the runtime multiplies by ŵ
        stored = add_up(stored, loss)
    wrong = r.with_finished_sum(
        _product_errors(r, s, x=x, stored=stored, loss=loss, total=total, terms=terms), largest
    )
    bias = np.zeros(()) if s.bias is None else s.bias.magnitude
    additions = in_blocks(_additions, terms, bias)
    if s.bias is not None and s.bias_error is not None:
        wrong = wrong + s.bias_error
    elif s.bias is not None and np.all(s.bias.lo == s.bias.hi):
        wrong = wrong + stored_loss(r, s.bias.lo)
    clamped = r.clamped(magnitude, stored)
    many = not r.exact and float(np.max(additions, initial=0.0)) * r.relative > _LONG
    every = add_up(part.magnitude_up(magnitude) if many else total, bias)
    steps = float(s.action.terms)
    radius = any_order_sum(
        r,
        largest,
        additions=additions,
        products=wrong,
        steps=steps,
        clamped=clamped,
        total=every,
    )
    sums = in_blocks(_reached, largest, radius.bound)
    reach = max(float(np.max(reached, initial=0.0)) for reached in (sums, magnitude, stored))
    done = finish(r, radius, np.asarray(reach))
    if limits is not None or r.exact or not np.all(np.isfinite(done.radius.bound)):
        return done  # where there are limits, ranges of the terms do not say the bound
    claimed = (largest, radius.bound, wrong.bound, additions, every)
    return replace(done, row=_rows(r, s, x, *claimed))


def _with_bias(limits: Limits, bias: Interval | None) -> FloatArray:
    """The largest partial sum in magnitude, of the products and the bias."""
    if bias is None:
        return np.maximum(limits.above, limits.below)
    plus, minus = np.maximum(bias.hi, 0.0), np.maximum(-bias.lo, 0.0)
    return np.maximum(add_up(limits.above, plus), add_up(limits.below, minus))


def _sides(lo: FloatArray, hi: FloatArray) -> tuple[FloatArray, ...]:
    """The largest x and -x above 0, and the largest |x|."""
    up, down = np.maximum(hi, 0.0), np.maximum(-lo, 0.0)
    return up, down, np.maximum(up, down)


def _additions(terms: FloatArray, bias: FloatArray) -> FloatArray:
    """Of so many products, and of a bias that is not 0."""
    additions = np.maximum(terms - 1.0, 0.0)
    return np.where((bias > 0) & (terms > 0), additions + 1.0, additions)


def _reached(largest: FloatArray, radius: FloatArray) -> FloatArray:
    return add_up(largest, np.where(np.isfinite(radius), radius, 0.0))


def _rows(
    r: Rounder,
    s: ProductSum,
    x: Interval,
    largest: FloatArray,
    radius: FloatArray,
    products: FloatArray,
    additions: FloatArray,
    every: FloatArray,
) -> Callable[[int], RowFacts]:
    """The facts of one output element, its weights read off by a unit functional."""

    def row(index: int) -> RowFacts:
        unit = np.zeros((1, *largest.shape))
        unit.reshape(-1)[index] = 1.0
        weights = s.action.adjoint(s.weights)(unit)[0].reshape(-1)
        used = np.flatnonzero(weights)
        bias = (0.0, 0.0)
        if s.bias is not None:
            low = np.broadcast_to(s.bias.lo, largest.shape).reshape(-1)[index]
            bias = (float(low), float(np.broadcast_to(s.bias.hi, largest.shape).reshape(-1)[index]))
        return RowFacts(
            _fractions(weights[used]),
            _fractions(x.lo.reshape(-1)[used]),
            highs=_fractions(x.hi.reshape(-1)[used]),
            bias_low=Fraction(bias[0]),
            bias_high=Fraction(bias[1]),
            partial_bound=Fraction(float(largest.reshape(-1)[index])),
            error_bound=Fraction(float(radius.reshape(-1)[index])),
            products=Fraction(float(products.reshape(-1)[index])),
            additions=int(additions.reshape(-1)[index]),
            format=r.format,
            underflow=Fraction(r.smallest_normal if r.flush_results else 0.0),
            lost_operands=Fraction(r.lost_operands),
            total_bound=Fraction(float(np.broadcast_to(every, largest.shape).reshape(-1)[index])),
        )

    return row


def _fractions(values: FloatArray) -> tuple[Fraction, ...]:
    return tuple(Fraction(float(v)) for v in values)


def _largest_partial(
    part: LinearPart,
    total: FloatArray,
    up: FloatArray,
    down: FloatArray,
    bias: Interval | None,
) -> FloatArray:
    with np.errstate(invalid="ignore"):
        difference = up - down
    finite = np.where(np.isfinite(difference), difference, 0.0)
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
    runtime: RuntimeSemantics,
) -> RoundingBound:
    """The rounding bound of a sum of products: closed form for free orders, step by step else; the
    least of both where the steps are additions of two numbers, which any order covers."""
    free_bias = s.bias is not None and contract.bias is BiasPlacement.ANY
    limits = limits_of(inputs[0], site, linear_part(s.action, s.weights))
    if isinstance(contract.order, AnyOrder) or free_bias:
        return any_order_rounding(rounder(site, contract), s, inputs[0], limits)
    chained = is_one_chain(contract.order, s.action.terms)
    prefixes = limits.prefixes if limits is not None and chained else None
    pinned = traced(runtime, site, inputs, contract, prefixes)
    if contract.exact or isinstance(contract.order, AlignedSteps):
        return pinned
    anyhow = rounder(site, replace(contract, order=AnyOrder()))
    free = any_order_rounding(anyhow, s, inputs[0], limits)
    least = pinned.radius.and_also(free.radius)
    if not all(c.holds for c in (*pinned.preconditions, *free.preconditions)):
        return pinned
    if np.array_equal(least.bound, np.broadcast_to(pinned.radius.bound, least.shape)):
        return pinned
    names = {c.name for c in pinned.preconditions}
    others = tuple(c for c in free.preconditions if c.name not in names)
    conditions = (*pinned.preconditions, *others)
    return RoundingBound(least, conditions, pinned.besides).using(*free.besides)


def misweighed(off: FloatArray) -> Radius:
    """What sums of products are off by, beside `product_rounding`, where what their weights are off
    by makes `off` of it."""
    return apply(PRODUCT_ERRORS, S=0.0, v=0.0, C=off, n=0.0, eta=0.0)


def _product_errors(
    r: Rounder,
    s: ProductSum,
    x: Interval,
    stored: FloatArray,
    loss: FloatArray,
    total: FloatArray,
    terms: FloatArray,
) -> Radius:
    """What products lose to rounding, to coefficients rounded to the compute format, and to
    subnormal operands read as zero.

    The runtime multiplies by ŵ: |ŵ − w| ≤ `loss` and |ŵ| ≤ `stored`. For large outputs the `total`
    of all magnitudes and the number of `terms` stand for matrix products of their own.
    """
    magnitude, lost_x = x.magnitude, r.operand_loss(x).bound
    relative, underflow = (0.0, 0.0) if r.exact else (r.relative, r.underflow)
    lost_w = r.operand_loss(Interval(s.weights, s.weights)).bound
    changed = some(loss) or some(lost_w)
    exact = any_in_blocks(_powers_of_two, stored)
    if total.size > _MANY and not changed and not exact:
        largest = np.asarray(np.max(stored, initial=0.0))
        lost = multiply_up(largest, float(np.max(lost_x, initial=0.0)))
        each = float(add_up(lost, underflow))
        return apply(PRODUCT_ERRORS, S=total, v=relative, C=0.0, n=terms, eta=each)
    rounded = multiply_up(magnitude, relative)
    charges = [(stored, add_up(rounded, lost_x))]
    if exact:
        powers = _powers_of_two(stored) & (loss == 0)
        charges = [(np.where(powers, 0.0, stored), rounded), (stored, lost_x)]
    if changed:
        charges.append((add_up(loss, lost_w), magnitude))
    parts = [linear_part(s.action, w).magnitude_up(v) for w, v in charges if np.any(v)]
    charged = reduce(add_up, parts, np.zeros(()))
    return apply(PRODUCT_ERRORS, S=charged, v=1.0, C=0.0, n=terms, eta=underflow)


def _powers_of_two(stored: FloatArray) -> BoolArray:
    whole: BoolArray = (stored.view(np.int64) & _FRACTION) == 0
    return whole & (stored > 0)
