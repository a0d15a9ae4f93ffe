"""Sqrt, and Pow with a constant exponent.

A runtime may compute a whole power by repeated multiplication, one of quarters by square roots and
a reciprocal, any other as exp(n·log x), or each of them by a function pow of the accuracy that the
contract states: the bound covers both. The exponent is a stored number: where the contract rounds
it, the runtime raises to another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import reduce
from typing import cast

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import OpenSchedule, RuntimeContract, Subnormals
from encoders.curves.curves import range_of
from encoders.families.signed_sum import check_float
from encoders.families.smooth import LEMMAS, smooth_operator, stored
from encoders.functions.curve import Curve, Number, Piece, Reals, Shape
from encoders.functions.exp import EXP
from encoders.functions.log import LOG
from encoders.functions.pow import POW
from encoders.gradients.rule import Carried, Gradient, Reverse, unary
from encoders.lemmas.combining import EXACT
from encoders.lemmas.domains import DEFINED_ABOVE_ZERO, DEFINED_FROM_ZERO
from encoders.lemmas.functions import POWERS_APART
from encoders.lemmas.kernel import Radius, any_of, apply, exactly_zero, nothing_known
from encoders.numbers.enclosure import FloatArray, Interval, add_up
from encoders.operator import Field, Operator, RoundingBound, Site
from encoders.relaxations.elements import broadcast_element
from encoders.rounding.proportions import Proportion
from encoders.rounding.relative_arithmetic import RelativeArithmetic
from encoders.rounding.rounding_bounds import held, no_overflow, rounder, rounder_of
from encoders.rounding.signs import of_root, when
from encoders.rounding.tracked_functions import function_error
from encoders.traits import Absorbing, Absorption, Breaks

_INFINITY = float("inf")
_HIGHEST = 16


def _sqrt_range(x: Interval) -> Interval:
    """For arguments on which the root is defined."""
    with np.errstate(invalid="ignore"):
        high = np.nextafter(np.sqrt(np.maximum(x.hi, 0.0)), np.inf)
    return Interval(np.zeros(x.shape), high)


ROOT = Curve(
    (
        Piece(
            0.0,
            _INFINITY,
            Shape.CONCAVE,
            lambda field, x: field.sqrt(x),
            lambda field, x: 1 / (2 * field.sqrt(x)),
        ),
    ),
    _sqrt_range,
    (0.0, _INFINITY),
)


def _power(x: Number, n: int) -> Number:
    return reduce(lambda total, _: total * x, range(n - 1), x)


def _power_curve(n: int) -> Curve:
    """xⁿ: convex for even n, concave and then convex for odd n."""

    def value(field: Reals, x: Number) -> Number:
        return _power(x, n)

    def slope(field: Reals, x: Number) -> Number:
        return 0 * x + 1 if n == 1 else n * _power(x, n - 1)

    def range_(x: Interval) -> Interval:
        whole = np.full(x.shape, np.inf)
        return Interval(np.zeros(x.shape) if n % 2 == 0 else -whole, whole)

    if n % 2 == 0 or n == 1:
        pieces: tuple[Piece, ...] = (Piece(-_INFINITY, _INFINITY, Shape.CONVEX, value, slope),)
    else:
        pieces = (
            Piece(-_INFINITY, 0.0, Shape.CONCAVE, value, slope),
            Piece(0.0, _INFINITY, Shape.CONVEX, value, slope),
        )
    return Curve(pieces, range_, (-_INFINITY if n % 2 == 0 else 0.0, _INFINITY))


def _quarters(x: Number, n: float, field: Reals) -> Number:
    """xⁿ for x > 0 and n a multiple of ¼."""
    whole, part = divmod(round(4 * abs(n)), 4)
    root = field.sqrt(x) if part else x
    factors = [x] * whole + [root] * (part // 2)
    factors += [field.sqrt(root)] if part % 2 else []
    power = reduce(lambda total, factor: total * factor, factors)
    return power if n > 0 else 1 / power


def _quarters_curve(n: float) -> Curve:
    """xⁿ for x > 0, n no integer from 1 on: f'' has the sign of n·(n − 1)."""

    def slope(field: Reals, x: Number) -> Number:
        return round(4 * n) * _quarters(x, n - 1, field) / 4

    return Curve(
        (
            Piece(
                0.0 if n > 0 else 2.0**-1074,
                _INFINITY,
                Shape.CONCAVE if 0 < n < 1 else Shape.CONVEX,
                lambda field, x: _quarters(x, n, field),
                slope,
            ),
        ),
        lambda x: Interval(np.zeros(x.shape), np.full(x.shape, np.inf)),
        (0.0, _INFINITY) if n > 0 else (-_INFINITY, 0.0),
    )


def _general(x: Number, n: float, field: Reals) -> Number:
    """xⁿ for x > 0."""
    return field.function(EXP, field.number(Fraction(n)) * field.function(LOG, x))


def _general_curve(n: float) -> Curve:
    """xⁿ for x > 0: f'' has the sign of n·(n − 1)."""
    return Curve(
        (
            Piece(
                2.0**-1074,
                _INFINITY,
                Shape.CONCAVE if 0 < n < 1 else Shape.CONVEX,
                lambda field, x: _general(x, n, field),
                lambda field, x: field.number(Fraction(n)) * _general(x, n, field) / x,
            ),
        ),
        lambda x: Interval(np.zeros(x.shape), np.full(x.shape, np.inf)),
        (0.0, _INFINITY) if n > 0 else (-_INFINITY, 0.0),
    )


def _exponent(site: Site) -> float:
    """Raises UnsupportedModel unless it is constant, the same everywhere, and has a meaning."""
    given = site.constant(1)
    if given is None:
        raise site.unsupported("the exponent (input 1) must be a constant")
    found = np.unique(np.asarray(given, np.float64))
    if len(found) != 1 or site.outputs[0].shape != site.type_of(0).shape:
        raise site.unsupported("the exponent (input 1) must be one number")
    n = float(found[0])
    if n == 0 or abs(n) > _HIGHEST:
        raise site.unsupported(
            f"the exponent (input 1) is {n}; supported are numbers from -{_HIGHEST} to {_HIGHEST} "
            "other than 0"
        )
    return n


def _is_whole(n: float) -> bool:
    """Is xⁿ a polynomial?"""
    return n.is_integer() and n > 0


def _has_roots(n: float) -> bool:
    """Is xⁿ a matter of products, square roots and a reciprocal?"""
    return (4 * n).is_integer()


def _check(site: Site) -> None:
    check_float(site)
    if 0 not in site.variable:
        raise site.unsupported("the base (input 0) must depend on the network's input")
    _exponent(site)


def _curve(site: Site) -> Curve:
    n = _exponent(site)
    if n == 0.5:
        return ROOT
    if _is_whole(n):
        return _power_curve(int(n))
    return _quarters_curve(n) if _has_roots(n) else _general_curve(n)


def _real(site: Site, x: ObjectArray, field: Field) -> ObjectArray:
    n = _exponent(site)
    if _is_whole(n):
        return np.asarray(_power(x, int(n)))
    return np.asarray(_quarters(x, n, field) if _has_roots(n) else _general(x, n, field))


def _runtime(site: Site, x: V, arithmetic: Arithmetic[V]) -> V:
    n = _exponent(site)
    if not _has_roots(n):
        logarithm = arithmetic.function(LOG, x)
        scaled = arithmetic.multiply(stored(arithmetic, n), logarithm)
        return arithmetic.function(EXP, scaled)
    size = abs(n)
    terms = [x] * int(size)
    if size % 1:
        root = arithmetic.sqrt(x)
        terms += [root] if size % 1 >= 0.5 else []
        terms += [arithmetic.sqrt(root)] if size % 0.5 else []
    power = reduce(arithmetic.multiply, terms)
    return power if n > 0 else arithmetic.divide(stored(arithmetic, 1.0), power)


def _not_negative(bound: RoundingBound, site: Site, x: Interval) -> RoundingBound:
    low = float(np.min(x.lo, initial=np.inf)) + 0.0
    return bound.given(
        "argument-not-negative",
        f"{site.node.describe()}: the computed argument of the square root, at least "
        f"{low:.6g}, is not negative",
        DEFINED_FROM_ZERO,
        lo=x.lo,
    )


def _power_defined(bound: RoundingBound, site: Site, x: Interval) -> RoundingBound:
    """The bound if every computed base has such a power."""
    n = _exponent(site)
    if _is_whole(n):
        return bound
    if n > 0 and _has_roots(n):
        return _not_negative(bound, site, x)
    low = float(np.min(x.lo, initial=np.inf)) + 0.0
    return bound.given(
        "argument-positive",
        f"{site.node.describe()}: the computed base of the power {n:g}, at least {low:.6g}, is "
        "positive",
        DEFINED_ABOVE_ZERO,
        lo=x.lo,
    )


def _covering(by_steps: Operator) -> Operator:
    """The bound also covers a pow of the contract's accuracy."""

    def rounding(
        site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
    ) -> RoundingBound:
        bound = by_steps.rounding(site, inputs, result, contract)
        if contract.exact or _exponent(site) == 1.0:
            return bound
        r, accuracy = rounder(site, contract), contract.functions.accuracy(POW)
        (x,) = inputs
        lost: FloatArray = r.operand_loss(x).bound
        # what is read as zero moves towards zero: a range from 0 on stays one
        wide = x.inflate(lost)
        read = Interval(np.maximum(wide.lo, np.minimum(x.lo, 0.0)), wide.hi)
        whole = function_error(r, accuracy, range_of(_curve(site), read))
        whole = whole + bound.radius if np.any(lost) else whole
        return replace(bound, radius=bound.radius.or_else(whole))

    return replace(by_steps, rounding=rounding, followed=())


def _as_read(site: Site, contract: RuntimeContract) -> tuple[float, ...]:
    """The exponents that a runtime may raise to: the stored number where it arrives, and 0 in its
    place where that may be flushed."""
    n = _exponent(site)
    if contract.exact or not site.type_of(1).dtype.is_float:  # a stored integer is none to round
        return (n,)
    r = rounder_of(site.type_of(1).dtype, contract)
    there = held(r, np.array([n]))
    read = float(there.values[0])
    tiny = r.flush_operands and 0.0 < abs(read) < r.smallest_normal
    if not tiny and not there.flushed[0]:
        return (read,)
    certain = Subnormals.EITHER not in (contract.operands, contract.results)
    return (0.0,) if certain else (read, 0.0)


def _raising_to(site: Site, n: float) -> Site:
    """The same power with another exponent."""
    exponent = np.full(site.type_of(1).shape, n)
    return replace(site, constants=(None, exponent, *site.constants[2:]))


def _powers_apart(x: Interval, n: float, m: float) -> Radius:
    """|xᵐ − xⁿ| over ranges, n ≠ m being exponents with which it has a meaning there.

    |xᵐ − xⁿ| ≤ |m − n|·|ln x|·xᵗ for some t between them, and ≤ xᵐ + xⁿ; of whole exponents it is
    the same of |x|, where they are both even or both odd or x is not negative.
    """
    lowest, highest = np.maximum(np.maximum(x.lo, -x.hi), 0.0), x.magnitude
    with np.errstate(all="ignore"):
        corners = [np.power(b, t) for b in (lowest, highest) for t in (n, m)]
        below, above = (np.abs(np.log(b)) * np.maximum.reduce(corners) for b in (lowest, highest))
        if min(n, m) > 0:  # −ln x·xᵗ is at most 1/(e·t) for x up to 1
            below = np.fmin(below, 0.3679 / min(n, m))
        above, below = np.where(highest > 1, above, 0.0), np.where(lowest < 1, below, 0.0)
    signs = _is_whole(n) and _is_whole(m) and (n - m) % 2 == 0
    steep = np.maximum(above, below)
    steep = np.where(np.isnan(steep) | ((x.lo < 0) & (not signs)), np.inf, steep)
    return apply(
        POWERS_APART,
        n=n,
        m=m,
        N=_not_below(np.maximum(corners[0], corners[2])),
        K=_not_below(np.maximum(corners[1], corners[3])),
        D=_not_below(steep),
    )


def _not_below(computed: FloatArray) -> FloatArray:
    """A power of numpy's is right to a few units of 2^-52 times 1 + |t·ln x|."""
    with np.errstate(all="ignore"):
        return np.asarray(computed * (1.0 + 2.0**-40) + 2.0**-1000)


def _reading(power: Operator) -> Operator:
    """The operator whose exponent is a stored number, which reaches it as others do."""

    def runtime(
        site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
    ) -> tuple[V, ...]:
        n, *others = _as_read(site, contract)
        if others:
            raise OpenSchedule(f"contract '{contract.name}' leaves a subnormal exponent open")
        if n == 0.0:
            return (arithmetic.constant(np.ones(site.outputs[0].shape)),)
        return power.runtime(_raising_to(site, n), inputs, arithmetic, contract)

    def rounding(
        site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
    ) -> RoundingBound:
        bounds = [
            _with(power, site, m=m, inputs=inputs, result=result, contract=contract)
            for m in _as_read(site, contract)
        ]
        return replace(
            bounds[0],
            radius=any_of([b.radius for b in bounds]),
            preconditions=tuple(c for b in bounds for c in b.preconditions),
        )

    def by_steps(
        site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
    ) -> tuple[V, ...]:
        _require_exponent_as_stored(site, contract)
        return power.runtime(site, inputs, arithmetic, contract)

    return replace(power, runtime=runtime, rounding=rounding, followed=(by_steps, _by_function))


def _require_exponent_as_stored(site: Site, contract: RuntimeContract) -> None:
    if _as_read(site, contract) != (_exponent(site),):
        raise OpenSchedule(f"contract '{contract.name}' raises to another exponent")


def _by_function(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    """A pow of the contract's accuracy; nothing where the exponent is 1."""
    _require_exponent_as_stored(site, contract)
    n, x = _exponent(site), inputs[0]
    if n == 1.0:
        return ()
    if not isinstance(arithmetic, RelativeArithmetic) or not isinstance(x, Proportion):
        raise OpenSchedule("a power by one function has no meaning in this arithmetic")
    return (cast(V, arithmetic.power(POW, x, n, range_of(_curve(site), x.ideal))),)


def _with(
    power: Operator,
    site: Site,
    m: float,
    *,
    inputs: Sequence[Interval],
    result: Interval,
    contract: RuntimeContract,
) -> RoundingBound:
    """The bound where the runtime raises to m."""
    n = _exponent(site)
    if m == n:
        return power.rounding(site, inputs, result, contract)
    (x,) = inputs
    if m == 0.0:
        own = RoundingBound(exactly_zero(EXACT, x.shape), besides=LEMMAS)
    elif abs(m) <= _HIGHEST:
        own = power.rounding(_raising_to(site, m), inputs, result, contract)
    else:
        own = RoundingBound(nothing_known(x.shape), (), LEMMAS)
    apart = _powers_apart(x, n, m)
    reach = add_up(result.magnitude, add_up(apart.bound, own.radius.bound))
    found = _power_defined(replace(own, radius=own.radius + apart), site, x)
    return no_overflow(found, rounder(site, contract), reach)


def _keeps(site: Site, held: Sequence[Interval], contract: RuntimeContract) -> Interval | None:
    """Even powers, and powers of what is not negative, if the exponent is read as it is."""
    n = _exponent(site)
    even = _is_whole(n) and n % 2 == 0
    signed = even or bool(np.all(held[0].lo >= 0.0))
    kept = all(not contract.functions.accuracy(f).excess for f in (POW, EXP))
    return when(signed and kept and tuple(_as_read(site, contract)) == (n,), site)


def _squares(site: Site, contract: RuntimeContract) -> float | None:
    """A square by one product, or by a function of some relative accuracy."""
    if _exponent(site) != 2.0 or _as_read(site, contract) != (2.0,):
        return None
    ulps = contract.functions.accuracy(POW).ulps
    known = ulps is not None and 4.0 * ulps * rounder(site, contract).unit <= 1.0
    return float(np.ceil(2.0 * ulps) + 1.0) if known and ulps is not None else _INFINITY


def gradient(r: Reverse) -> Carried:
    """n·x^(n−1), and 2·x without a power; a power of 0 is constant."""
    if r.wants(1):
        raise r.site.unsupported("its exponent (input 1) must be stored to be differentiated")
    n = _exponent(r.site)
    if n == 0.0:
        return {}
    if n == 1.0:
        return {0: r.up}
    if n == 2.0:
        return {0: r.up * (r.x * 2)}
    power = r.tape.elementwise(r.x, r.tape.number(n - 1, r.x.kind.dtype), op="Pow")
    return {0: r.up * (power * n)}


OPERATORS = (
    replace(
        smooth_operator(
            "Sqrt",
            6,
            lambda site: ROOT,
            real=lambda site, x, field: field.sqrt(x),
            runtime=lambda site, x, arithmetic: arithmetic.sqrt(x),
            defined=_not_negative,
            element=broadcast_element,
            breaks=Breaks(vanishing=0),
            keeps=of_root,
        ).derived(unary(lambda x, y, up: up / (y * 2))),
        absorbs=Absorbing(Absorption.ROOT),
    ),
    replace(
        _reading(
            _covering(
                smooth_operator(
                    "Pow",
                    7,
                    curve=_curve,
                    real=_real,
                    runtime=_runtime,
                    check=_check,
                    defined=_power_defined,
                    uses=(POW, EXP, LOG),
                    element=broadcast_element,
                    breaks=Breaks(vanishing=0),
                    keeps=_keeps,
                ).derived(Gradient(rule=gradient))
            )
        ),
        squares=_squares,
    ),
)
