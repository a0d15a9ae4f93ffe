"""GlobalLpPool with p from 3 on: the norm (Σ|x|ᵖ)^(1/p) of each channel, and LpPool's of windows.

A runtime raises to p by products or by a function pow, adds, and raises to the stored number that
1/p is in float32 or in the node's format, by a pow. A norm moves by no more than the norm of what
its coordinates move by, which for p ≥ 2 is at most Euclid's (lemma `p-norm-moves`).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import reduce
from typing import Protocol, TypeGuard, runtime_checkable

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic, Relation, moved, sum_of_terms
from encoders.arithmetic.values import Inputs, V
from encoders.contract.contract import RuntimeContract
from encoders.families.signed_sum import check_float
from encoders.functions.exp import EXP
from encoders.functions.log import LOG
from encoders.functions.pow import POW
from encoders.gradients.rule import Carried, Gradient, Reverse
from encoders.lemmas.combining import EXACT
from encoders.lemmas.functions import FORMULA_APART
from encoders.lemmas.kernel import Radius, apply, enclosed, exactly_zero, nothing_known
from encoders.lemmas.ranges.functions import MONOTONE_RANGE
from encoders.lemmas.ranges.operations import MAGNITUDE_RANGE
from encoders.lemmas.ranges.placing import range_along, range_of
from encoders.lemmas.ranges.range import Range
from encoders.lemmas.rows import P_NORM, ROOT_OF_POWERS
from encoders.numbers.enclosure import UNIT, FloatArray, Interval, midpoint_radius, point
from encoders.operator import DifferenceMap, Field, Operator, RoundingBound, Site, ValueMap
from encoders.relaxations.row_maps import row_differences, row_values
from encoders.relaxations.rows import Rows, columns, reduced_rows
from encoders.rounding.error_arithmetic import interval_quotient
from encoders.rounding.norms import lost_of_sum, norm_moved, relative_sum
from encoders.rounding.rounding_bounds import Rounder, finish, rounder
from encoders.rounding.signs import not_negative
from encoders.rounding.tracked_functions import function_error
from onnx_import.errors import UnsupportedModel
from onnx_import.graph import DType

LEMMAS = ("p-norm-moves", "root-of-powers")
_HIGHEST = 16
_UP = 1.0 + 2.0**-40  # more than powers, roots and logarithms of numpy are off by


@runtime_checkable
class PowerArithmetic(Arithmetic[V], Protocol[V]):
    """An arithmetic that knows a function pow."""

    def power(self, a: V, exponent: float) -> V:
        """a^exponent for a ≥ 0, as a function pow gives it."""


def _knows_powers(arithmetic: Arithmetic[V]) -> TypeGuard[PowerArithmetic[V]]:
    return isinstance(arithmetic, PowerArithmetic)


def _p(site: Site) -> int:
    p = site.node.attributes.get("p", 2)
    assert isinstance(p, int)
    return p


def check(site: Site) -> None:
    check_float(site)
    if not 3 <= _p(site) <= _HIGHEST:
        raise site.unsupported(f"attribute 'p' is {_p(site)}; supported are 1 to {_HIGHEST}")
    if site.variable != (0,) or not site.type_of(0).size:
        raise site.unsupported("its input must be computed, and no empty tensor")


def _rows(site: Site) -> tuple[Rows, Rows]:
    shape = site.type_of(0).shape
    return reduced_rows(shape, tuple(range(2, len(shape))), site.outputs[0].shape)


def real(site: Site, inputs: Inputs[ObjectArray], field: Field) -> tuple[ObjectArray, ...]:
    inside, outside = _rows(site)
    x = inside.split(inputs[0])
    size, p = field.maximum(x, -x), _p(site)
    powers = reduce(lambda total, _: total * size, range(p - 1), size)
    total = np.add.reduce(powers, axis=2, keepdims=True)
    while p % 2 == 0:
        total, p = field.sqrt(total), p // 2
    if p > 1:
        zero = field.constant(np.zeros((1,) * (total.ndim - 1)))
        nothing = field.compare(Relation.AT_MOST, total, zero)
        held = field.select(nothing, zero + 1, total)
        root = field.function(EXP, field.function(LOG, held) / p)
        total = field.select(nothing, zero, root)
    return (outside.merge(total),)


def runtime(
    site: Site, inputs: Inputs[V], arithmetic: Arithmetic[V], contract: RuntimeContract
) -> tuple[V, ...]:
    if not _knows_powers(arithmetic):
        raise UnsupportedModel(f"powers have no meaning in {type(arithmetic).__name__}")
    inside, outside = _rows(site)
    terms = []
    for column in columns(moved(inputs[0], inside.split)):
        size = arithmetic.absolute(column)
        terms.append(reduce(arithmetic.multiply, [size] * _p(site)))
    total = sum_of_terms(arithmetic, contract, terms)
    return (moved(arithmetic.power(total, _exponent(site)), outside.merge),)


def _exponent(site: Site) -> float:
    """1/p, as runtimes hold it: in float32, of wider numbers as theirs."""
    if site.outputs[0].dtype is DType.FLOAT64:
        return 1.0 / _p(site)
    return float(np.float32(1.0) / np.float32(_p(site)))


def _norms(sizes: FloatArray, p: int) -> FloatArray:
    """(rows, n) numbers ≥ 0 to (rows, 1) norms, right to 2^-41 and n·u of them."""
    most = np.max(sizes, axis=1, keepdims=True)
    with np.errstate(all="ignore"):
        shares = np.where(most > 0, sizes / most, 0.0)
        found = most * np.sum(shares**p, axis=1, keepdims=True) ** (1.0 / p)
    norms: FloatArray = np.where(most == np.inf, np.inf, np.where(most > 0, found, 0.0))
    return norms


def _range(x: Interval, p: int) -> Range:
    least = np.maximum(np.maximum(x.lo, -x.hi), 0.0)
    off = _UP + 2.0 * UNIT * x.shape[1]
    low, high = _norms(least, p) / off, _norms(x.magnitude, p) * off
    low, high = np.maximum(low - 2.0**-1040, 0.0), high + 2.0**-1040 * (high > 0)
    sizes = enclosed(MAGNITUDE_RANGE, X=range_along(range_of(x), axis=1))
    return enclosed(MONOTONE_RANGE, X=sizes, a=low, b=high)


def _jacobian(x: Interval, y: Interval, p: int) -> Interval:
    """(|x_j|/y)^(p − 1) with the sign of x_j, within [−1, 1] wherever y is."""
    full = Interval(*(np.broadcast_to(v, x.shape) for v in (y.lo, y.hi)))
    ratio = interval_quotient(x, full)

    def power(v: FloatArray, outward: float) -> FloatArray:
        clipped = np.clip(v, -1.0, 1.0)
        found = np.sign(clipped) * np.abs(clipped) ** (p - 1)
        further: FloatArray = found + outward * (np.abs(found) * 2.0**-40 + 2.0**-1040)
        return np.asarray(np.clip(further, -1.0, 1.0))

    return Interval(power(ratio.lo, -1.0)[:, None, :], power(ratio.hi, 1.0)[:, None, :])


def values(site: Site, ranges: Sequence[Interval]) -> ValueMap:
    inside, outside = _rows(site)
    x, p = inside.of_interval(ranges[0]), _p(site)
    range_ = _range(x, p)
    at_middle = _range(point(midpoint_radius(x)[0]), p)
    jacobian = _jacobian(x, range_, p)
    return row_values(inside, outside, x=x, range_=range_, at_middle=at_middle, jacobian=jacobian)


def differences(site: Site, ranges: Sequence[Interval], errors: Sequence[Radius]) -> DifferenceMap:
    inside, outside = _rows(site)
    x, given, p = inside.of_interval(ranges[0]), inside.of_radius(errors[0]), _p(site)
    hull = x.inflate(given.bound)
    jacobian = _jacobian(hull, _range(hull, p), p)
    return row_differences(inside, outside, jacobian, given, _moved(given))


def _moved(given: Radius) -> Radius:
    """What p-norms move by, p ≥ 2, whose coordinates move by `given`."""
    return apply(P_NORM, e=norm_moved(given))


def rounding(
    site: Site, inputs: Sequence[Interval], result: Interval, contract: RuntimeContract
) -> RoundingBound:
    r, p = rounder(site, contract), _p(site)
    if r.exact:
        return RoundingBound(exactly_zero(EXACT, site.outputs[0].shape), (), LEMMAS)
    inside, outside = _rows(site)
    x = inside.of_interval(inputs[0])
    accuracy, y = contract.functions.accuracy(POW), _range(x, p)
    if accuracy.ulps is None:
        return RoundingBound(nothing_known(site.outputs[0].shape), (), LEMMAS)
    n = inside.length
    powered = max(float(p), float(np.ceil(2.0 * accuracy.ulps)) + 1.0)
    times = int(powered) + n
    root = _root(r, y.hi, p=p, times=times, operations=n * p)
    flushed = _moved(r.operand_loss(x))
    apart = apply(FORMULA_APART, U=_exponents_apart(r, y.hi, p, times))
    ends = Interval(np.zeros(y.shape), (y.hi + root.bound + flushed.bound + apart.bound) * _UP)
    last = function_error(r, accuracy, ends)
    with np.errstate(all="ignore"):
        largest = np.max(x.magnitude, initial=1.0) * (1.0 + 2.0**-10)
        reached = np.asarray(n * largest**p * (1.0 + 2.0 * relative_sum(r, times)) * _UP)
    error = outside.to_radius(root + flushed + apart + last)
    return finish(r, error, reached).using(*LEMMAS)


def _root(r: Rounder, norm: FloatArray, *, p: int, times: int, operations: int) -> Radius:
    """What the exact root of a computed sum of powers is off by."""
    relative = relative_sum(r, times)
    tau = lost_of_sum(r, times, operations=operations)
    return apply(
        ROOT_OF_POWERS,
        p=float(p),
        k=float(times),
        u=r.unit,
        B=relative,
        C=relative / (p * (1.0 - min(relative, 0.75))) * _UP,
        T=_root_above(tau, p),
        N=norm,
    )


def _root_above(tau: float, p: int) -> float:
    """A number whose p-th power is at least τ."""
    if not np.isfinite(tau):
        return float(np.inf)
    root: float = max(tau ** (1.0 / p) * _UP, 2.0**-50)
    while Fraction(root) ** p < Fraction(tau):
        root *= _UP
    return root


def _exponents_apart(r: Rounder, norm: FloatArray, p: int, times: int) -> FloatArray:
    """|Sᵐ − S^(1/p)| ≤ |m − 1/p|·|ln S|·Sᵗ for a t between them, over computed sums S whose root
    is about `norm` at most: above 1 that grows, below it is at most |m − 1/p|/(e·t), and while
    S ≤ e^(−1/t) it grows, too."""
    unit = max(r.unit, 2.0**-24)
    with np.errstate(all="ignore"):
        root = (norm * (1.0 + 2.0 * relative_sum(r, times)) + 2.0**-40) * (1.0 + 2.0**-10)
        logarithm = p * np.abs(np.log(root))
        at_end = root * logarithm * np.exp(unit * logarithm)
        most = np.where(root > 1.0, np.maximum(at_end, 0.38 * p), 0.38 * p)
        most = np.where(root < 0.36, at_end, most)
        found = most * (unit / p) * _UP
    return np.where(np.isnan(found), np.inf, found)


def gradient(r: Reverse) -> Carried:
    """x/norm times |x/norm|^(p − 2), which is 0/0 at 0."""
    ratio, rest = r.x / r.output, _p(r.site) - 2
    size = ratio.apply("Abs")
    if rest > 1:
        size = r.tape.elementwise(size, r.tape.number(rest, r.x.kind.dtype), op="Pow")
    return {0: r.up * (ratio * size)}


OPERATORS = (
    Operator(
        "GlobalLpPool",
        since=2,
        check=check,
        real=real,
        runtime=runtime,
        values=values,
        differences=differences,
        rounding=rounding,
        gradient=Gradient(rule=gradient),
        work=lambda site: site.type_of(0).size * _p(site),
        functions=(POW,),
        keeps=not_negative,
    ).reading("p"),
)
