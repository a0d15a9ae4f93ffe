"""How far the roundings of one node scatter, where each is zero on average given those before it.

The run-time semantics of an operator is read in one more arithmetic. Of every value it keeps what
the sum of the squares of the roundings in it is at most, weighed by what each does to the value,
beside what their sizes add up to. Where the node computes with a value that its own roundings have
moved in a way that is not affine (a division by a computed sum, a root of one), there is no such
sum, and nothing is said: `NotScattered`. Each factor by which a rounding counts is known before it
happens, as the inequality of Azuma and Hoeffding asks: a factor is an input of the node, or is made
of these alone.

Numbers are float64, and each operation on them is rounded up by hand (`_more`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import NoReturn

import numpy as np

from encoders.arithmetic.runtime import Relation
from encoders.arithmetic.slices import Slices
from encoders.contract.contract import (
    AnyOrder,
    BiasPlacement,
    Contraction,
    OpenSchedule,
    RoundingMode,
    RuntimeContract,
    Sequential,
    Subnormals,
)
from encoders.contract.orders import alignment_of
from encoders.curves.curves import range_of
from encoders.functions.accuracy import Transcendental
from encoders.functions.function import Function
from encoders.numbers.enclosure import BoolArray, FloatArray, Interval
from encoders.numbers.formats import FloatFormat, round_array
from encoders.numbers.moving import sources
from encoders.operator import Operator, Site
from onnx_import.errors import UnsupportedModel
from onnx_import.graph import Array, DType

_MORE = 2.0**-50
_LEAST_SQUARE = 2.0**-1000
_TINY = 2.0**-1074  # more than a product that underflows in float64 is off by
_MOST = 0.5  # of all additions' relative errors together, in a sum of any order


class NotScattered(ValueError):
    """A computation whose error is no sum of its roundings, each times something known before."""


@dataclass(frozen=True)
class Scatter:
    """A node's rounding error, per output element: a sum of roundings that are zero on average, the
    squares of whose sizes add up to at most `square`, and something of size `rest` at most. `worst`
    bounds both together, whatever the signs."""

    square: FloatArray
    rest: FloatArray
    worst: FloatArray


@dataclass(frozen=True)
class Scattered:
    """A value: the range of what it would be without rounding, its error as in `Scatter`, and the
    operations whose roundings are in it. Arrays with a leading sample axis."""

    lo: FloatArray
    hi: FloatArray
    square: FloatArray
    rest: FloatArray
    worst: FloatArray
    sources: frozenset[int] = frozenset()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the value, sample axis included."""
        return self.lo.shape

    @property
    def size(self) -> FloatArray:
        """The largest magnitude without rounding."""
        return np.maximum(np.abs(self.lo), np.abs(self.hi))

    @property
    def exact(self) -> bool:
        """Has nothing been rounded yet?"""
        return not np.any(self.worst)

    def moved(self, f: Callable[[FloatArray], FloatArray]) -> Scattered:
        """The same elements elsewhere. Raises NotScattered where an element that has been rounded
        is then there twice: its rounding would count in two results."""
        if self.sources:
            places = sources(f, self.shape)
            if places is None:
                raise NotScattered("numbers that stand between rounded values")
            present = places[places >= 0]
            if len(np.unique(present)) < present.size:
                raise NotScattered("a rounded value that several results share")
        arrays = (self.lo, self.hi, self.square, self.rest, self.worst)
        return _made([np.asarray(f(a)) for a in arrays], self.sources)

    def joined(self, others: Sequence[Scattered], axis: int) -> Scattered:
        """This value and others along an axis."""
        every = (self, *others)
        arrays = zip(*((v.lo, v.hi, v.square, v.rest, v.worst) for v in every), strict=True)
        sources = frozenset[int]().union(*(v.sources for v in every))
        return _made([np.concatenate(a, axis=axis) for a in arrays], sources)

    def known(self) -> BoolArray:
        """Where it is one number in every execution."""
        return np.asarray((self.lo == self.hi) & (self.worst == 0))

    def zero(self) -> BoolArray:
        """Where it is 0 in every execution."""
        return np.asarray(self.known() & (self.lo == 0))

    def scale(self) -> BoolArray:
        """Where it is 0 or ±2^k with k ≥ 0 in every execution: products by it are exact."""
        mantissa, exponent = np.frexp(self.lo)
        power = (np.abs(mantissa) == 0.5) & (exponent >= 1)
        return np.asarray(self.known() & (power | (self.lo == 0)))


def _more(a: FloatArray) -> FloatArray:
    """At least the exact result that float64 has rounded to this; of results ≥ 0."""
    return np.asarray(a * (1.0 + _MORE))


def _squared(size: FloatArray) -> FloatArray:
    """At least the squares of numbers ≥ 0, also of those whose squares float64 does not hold."""
    return np.where(size == 0, 0.0, np.maximum(_more(size * size), _LEAST_SQUARE))


def _wider(lo: FloatArray, hi: FloatArray) -> tuple[FloatArray, FloatArray]:
    return lo - np.abs(lo) * _MORE, hi + np.abs(hi) * _MORE


def _need_own(shape: tuple[int, ...], *values: Scattered) -> None:
    """Raises NotScattered where one rounding would count in several results."""
    if any(v.sources and v.lo.size < np.prod(shape, dtype=np.int64) for v in values):
        raise NotScattered("a rounded value that several results share")


def _made(arrays: Sequence[FloatArray], sources: frozenset[int]) -> Scattered:
    """A value of its five arrays."""
    lo, hi, square, rest, worst = arrays
    return Scattered(lo, hi, square, rest, worst, sources)


def _exactly(lo: FloatArray, hi: FloatArray, sources: frozenset[int] = frozenset()) -> Scattered:
    nothing = np.zeros(np.shape(lo))
    return Scattered(lo, hi, nothing, nothing, nothing, sources)


def _stored(values: Array) -> Scattered:
    exact = np.asarray(values).astype(np.float64)[np.newaxis]
    return _exactly(exact, exact)


@dataclass(frozen=True)
class ScatterArithmetic:
    """`Arithmetic[Scattered]` of one format under a contract whose order is `Sequential` where it
    leaves it open; `any_order` then says that sums of products are to be right for every order."""

    format: FloatFormat
    contract: RuntimeContract
    any_order: bool
    numbers: count[int]

    def half_gap(self, size: FloatArray) -> FloatArray:
        """Half the spacing of the format at numbers of at most this size; +∞ from overflow on."""
        _, exponent = np.frexp(size)
        gap = np.ldexp(1.0, np.maximum(exponent - 1, self.format.emin) - self.format.precision)
        gap = np.maximum(gap, 2.0**-1074)  # half of float64's least gap is no number of float64
        return np.where(size < self.format.largest_number, gap, np.inf)

    @property
    def _stochastic(self) -> bool:
        return self.contract.rounding is RoundingMode.STOCHASTIC

    @property
    def _tiny(self) -> float:
        """What flushing may take from a result."""
        kept = self.contract.results is Subnormals.KEEP and not self._operand
        return 0.0 if kept else 2.0**self.format.emin

    @property
    def _operand(self) -> float:
        """What flushing may take from an operand."""
        return 0.0 if self.contract.operands is Subnormals.KEEP else 2.0**self.format.emin

    def _rounded(self, value: Scattered, exact: BoolArray | bool = False) -> Scattered:
        """The value rounded once to the format, but where that is known to be exact."""
        half = np.where(exact, 0.0, self.half_gap(_more(value.size + value.worst)))
        if not np.any(half) and not self._tiny:
            return value
        lost = np.where(value.zero(), 0.0, self._tiny)
        most = 2.0 * half if self._stochastic else half
        return replace(
            value,
            square=_more(value.square + _squared(half)),
            rest=_more(value.rest + lost),
            worst=_more(value.worst + _more(most + lost)),
            sources=value.sources | {next(self.numbers)},
        )

    def constant(self, values: Array) -> Scattered:
        """Numbers of a formula, off by what rounding to the format does to them."""
        exact = np.asarray(values).astype(np.float64)[np.newaxis]
        off = _more(np.abs(round_array(exact, self.format) - exact))
        return Scattered(exact, exact, np.zeros(exact.shape), off, off)

    def add(self, a: Scattered, b: Scattered) -> Scattered:
        """a + b, rounded."""
        return self._rounded(self._sum(a, b), a.zero() | b.zero())

    def _sum(self, a: Scattered, b: Scattered) -> Scattered:
        lo, hi = _wider(a.lo + b.lo, a.hi + b.hi)
        _need_own(lo.shape, a, b)
        if a.sources.isdisjoint(b.sources):
            square = _more(a.square + b.square)
        else:  # the same roundings may be in both: norms add up
            square = _more(_more(np.sqrt(a.square) + np.sqrt(b.square)) ** 2)
        lost = 2.0 * self._operand
        rest, worst = (_more(v + w) + lost for v, w in ((a.rest, b.rest), (a.worst, b.worst)))
        arrays = np.broadcast_arrays(lo, hi, square, rest, worst)
        return _made(arrays, a.sources | b.sources)

    def subtract(self, a: Scattered, b: Scattered) -> Scattered:
        """a − b, rounded."""
        return self.add(a, self.negate(b))

    def negate(self, a: Scattered) -> Scattered:
        """−a."""
        return replace(a, lo=-a.hi, hi=-a.lo)

    def multiply(self, a: Scattered, b: Scattered) -> Scattered:
        """a·b, rounded; one of them must be exact."""
        return self._rounded(self._product(a, b), a.scale() | b.scale())

    def _product(self, a: Scattered, b: Scattered) -> Scattered:
        if not a.exact:
            a, b = b, a
        if not a.exact:
            raise NotScattered("a product of two values that have been rounded")
        ends = (a.lo * b.lo, a.lo * b.hi, a.hi * b.lo, a.hi * b.hi)
        lo, hi = _wider(np.minimum.reduce(ends), np.maximum.reduce(ends))
        _need_own(lo.shape, b)
        size, lost = a.size, _more(a.size + b.size + 1.0) * self._operand
        nothing = a.zero() | b.zero()
        lo, hi = (np.where(nothing, 0.0, end + off) for end, off in ((lo, -_TINY), (hi, _TINY)))
        lost = np.where(nothing, 0.0, lost + np.where(b.worst == 0, 0.0, _TINY))
        arrays = np.broadcast_arrays(
            lo,
            hi,
            _squared(_more(size * _more(np.sqrt(b.square)))),
            _more(size * b.rest) + lost,
            _more(size * b.worst) + lost,
        )
        return _made(arrays, b.sources)

    def divide(self, a: Scattered, b: Scattered) -> Scattered:
        """a/b, rounded; b must be exact and not 0."""
        least = np.minimum(np.abs(b.lo), np.abs(b.hi))
        if not b.exact or np.any((b.lo <= 0) & (b.hi >= 0)) or np.any(least <= self._operand):
            raise NotScattered("a quotient by a value that has been rounded or may be 0")
        one = _exactly(*_wider(1.0 / b.hi, 1.0 / b.lo))
        return self._rounded(self._product(a, one), a.zero() | b.scale() & (b.size == 1.0))

    def sqrt(self, a: Scattered) -> Scattered:
        """√a, rounded; a must be exact and not negative."""
        if not a.exact or np.any(a.lo < 0) or self._operand:
            raise NotScattered("a root of a value that has been rounded or may be negative")
        return self._rounded(_exactly(*_wider(np.sqrt(a.lo), np.sqrt(a.hi))), a.zero())

    def maximum(self, a: Scattered, b: Scattered) -> Scattered:
        """The larger of two exact values."""
        self._need_exact(a, b, flushed=True)
        found = _exactly(np.maximum(a.lo, b.lo), np.maximum(a.hi, b.hi))
        lost = np.where(found.zero(), 0.0, self._operand)
        return replace(found, rest=lost, worst=lost)

    def minimum(self, a: Scattered, b: Scattered) -> Scattered:
        """The smaller of two exact values."""
        return self.negate(self.maximum(self.negate(a), self.negate(b)))

    def absolute(self, a: Scattered) -> Scattered:
        """|a| of an exact value."""
        self._need_exact(a)
        return _exactly(np.maximum(0.0, np.maximum(a.lo, -a.hi)), a.size)

    def floor(self, a: Scattered) -> Scattered:
        """⌊a⌋ of an exact value."""
        self._need_exact(a)
        return _exactly(np.floor(a.lo), np.floor(a.hi))

    def nearest(self, a: Scattered) -> Scattered:
        """The integer nearest to an exact value."""
        self._need_exact(a)
        return _exactly(np.rint(a.lo), np.rint(a.hi))

    def compare(self, relation: Relation, a: Scattered, b: Scattered) -> Scattered:
        """1 or 0, of exact values."""
        self._need_exact(a, b)
        shape = np.broadcast_shapes(a.shape, b.shape)
        return _exactly(np.zeros(shape), np.ones(shape))

    def select(self, condition: Scattered, a: Scattered, b: Scattered) -> Scattered:
        """a or b, as an exact value says: it is known before either is rounded."""
        self._need_exact(condition)
        never, always = condition.zero(), ~((condition.lo <= 0) & (condition.hi >= 0))
        _need_own(np.broadcast_shapes(condition.shape, a.shape, b.shape), a, b)

        def chosen(one: FloatArray, other: FloatArray, either: FloatArray) -> FloatArray:
            return np.where(always, one, np.where(never, other, either))

        arrays = (
            chosen(a.lo, b.lo, np.minimum(a.lo, b.lo)),
            *(
                chosen(v, w, np.maximum(v, w))
                for v, w in (
                    (a.hi, b.hi),
                    (a.square, b.square),
                    (a.rest, b.rest),
                    (a.worst, b.worst),
                )
            ),
        )
        return _made(arrays, a.sources | b.sources)

    def _need_exact(self, *values: Scattered, flushed: bool = False) -> None:
        if not all(v.exact for v in values) or (self._operand and not flushed):
            raise NotScattered("a choice between values that have been rounded, or may be flushed")

    def function(self, f: Function, a: Scattered) -> Scattered:
        """f of an exact value: one rounding, if the contract has it rounded correctly."""
        if not a.exact or self._operand:
            raise NotScattered("a function of a value that has been rounded, or may be flushed")
        result = range_of(f.shape, Interval(a.lo, a.hi))
        if not (np.all(np.isfinite(result.lo)) and np.all(np.isfinite(result.hi))):
            raise NotScattered("a function of a value where it may not be finite")
        value, accuracy = _exactly(result.lo, result.hi), self.contract.functions.accuracy(f)
        if accuracy.ulps == 0.5 and accuracy.units is None and not accuracy.flushes:
            return self._rounded(value)
        if self._stochastic:
            raise NotScattered("a function that is not rounded stochastically")
        bounds = []
        if accuracy.ulps is not None:
            bounds.append(_more(2.0 * accuracy.ulps * self.half_gap(_more(value.size))))
        if accuracy.units is not None:
            units = accuracy.units * float(self.format.unit_roundoff)
            bounds.append(np.full(value.shape, units))
        off = np.minimum.reduce(bounds) + max(self._tiny, 2.0**self.format.emin * accuracy.flushes)
        return replace(value, rest=_more(off), worst=_more(off))

    def multiply_add(self, a: Scattered, b: Scattered, c: Scattered) -> Scattered:
        """a·b + c; where the contract leaves it open whether the product is rounded, it is."""
        if self.contract.contraction is not Contraction.ALWAYS:
            return self.add(self.multiply(a, b), c)
        product = self._product(a, b)
        return self._rounded(self._sum(product, c), product.zero())

    def chain(
        self, pairs: Sequence[tuple[Scattered, Scattered]], start: Scattered | None
    ) -> Scattered | None:
        """A sum of products in any order, where that is asked; else None: term by term."""
        if not self.any_order:
            return None
        if not isinstance(pairs, Slices):
            raise NotScattered("a sum whose terms do not lie along an axis")
        products = self.multiply(*pairs.stacked())
        return self._in_any_order(products, start)

    def _in_any_order(self, products: Scattered, start: Scattered | None) -> Scattered:
        """Every partial sum of ideal terms lies between the sums of the negative and of the
        positive parts; so it is at most L without rounding, and L with all errors before it."""
        lo, hi = products.lo.sum(axis=-1), products.hi.sum(axis=-1)
        up = np.maximum(products.hi, 0.0).sum(axis=-1)
        down = np.maximum(-products.lo, 0.0).sum(axis=-1)
        terms = (~products.zero()).sum(axis=-1).astype(np.float64)
        square, rest, worst = (
            a.sum(axis=-1) for a in (products.square, products.rest, products.worst)
        )
        sources = products.sources
        if start is not None:
            lo, hi = lo + start.lo, hi + start.hi
            up, down = up + np.maximum(start.hi, 0.0), down + np.maximum(-start.lo, 0.0)
            terms = terms + ~start.zero()
            square, rest, worst = (
                square + start.square,
                rest + start.rest,
                worst + start.worst,
            )
            if not sources.isdisjoint(start.sources):
                raise NotScattered("a bias that shares roundings with the products")
            sources = sources | start.sources
        slack = (products.lo.shape[-1] + 4) * 2.0**-52
        grown = 1.0 + slack
        spread = (up + down) * slack
        additions = np.maximum(terms - 1.0, 0.0)
        unit = (2.0 if self._stochastic else 1.0) * float(self.format.unit_roundoff)
        if np.any(additions * unit > _MOST):
            raise NotScattered("a sum of so many terms that nothing is known of its size")
        tiny = _more(
            additions * (self._tiny + 2.0 ** (self.format.emin - self.format.precision + 1))
        )
        before = (np.maximum(up, down) + worst) * grown
        largest = _more(_more(before + tiny) / (1.0 - additions * unit) * grown)
        half = self.half_gap(largest)
        lost = additions * self._tiny
        most = 2.0 * half if self._stochastic else half
        arrays = (
            lo - spread,
            hi + spread,
            _more(square * grown + _more(additions * _squared(half))),
            _more(rest * grown + lost),
            _more(worst * grown + _more(_more(additions * most) + lost)),
        )
        return _made(np.broadcast_arrays(*arrays), sources | {next(self.numbers)})

    def of_type(self, dtype: DType) -> NoReturn:
        """Raises NotScattered: of conversions nothing is said, nor of what follows."""
        raise NotScattered("a computation in several formats")

    def in_format(self, fmt: FloatFormat) -> NoReturn:
        """As `of_type`."""
        raise NotScattered("a computation in several formats")

    def converted(self, a: Scattered) -> NoReturn:
        """As `of_type`."""
        raise NotScattered("a computation in several formats")

    def read(self, a: Scattered) -> NoReturn:
        """As `of_type`."""
        raise NotScattered("a computation in several formats")

    def integers(self) -> NoReturn:
        """As `of_type`."""
        raise NotScattered("a computation with integers")


def scatter_of(
    operator: Operator, site: Site, inputs: Sequence[Interval], contract: RuntimeContract
) -> Scatter:
    """The rounding error of a node on run-time inputs in these ranges, as it scatters.

    `contract` is what holds at this place (`encoders.scheduling.contract_at`). Raises NotScattered
    where the error is no sum of roundings.
    """
    dtype = site.outputs[0].dtype
    if not dtype.is_float or len(site.outputs) != 1:
        raise NotScattered("a node that writes no single tensor of floating-point numbers")
    formats = (contract.accumulation, contract.stored_format, contract.factor_format)
    if any(f is not None for f in formats) or contract.compute_format is not None:
        raise NotScattered("a computation in several formats")
    if alignment_of(contract.order) is not None:
        raise NotScattered("aligned steps, whose truncations are not zero on average")
    plain, any_order = _one_order(operator, contract)
    arithmetic = ScatterArithmetic(contract.format_of(dtype), plain, any_order, count())
    given = site.arguments(
        (_exactly(x.lo[np.newaxis], x.hi[np.newaxis]) for x in inputs), lambda v, _: _stored(v)
    )
    try:
        with np.errstate(all="ignore"):
            (out,) = operator.runtime(site, given, arithmetic, plain)
    except (OpenSchedule, Transcendental, UnsupportedModel) as error:
        raise NotScattered(str(error)) from error
    shape = site.outputs[0].shape
    found = (out.square, out.rest, out.worst)
    return Scatter(*(np.broadcast_to(a[0], shape) for a in found))


def _one_order(operator: Operator, contract: RuntimeContract) -> tuple[RuntimeContract, bool]:
    """The contract with an order in which to go through sums of products, and whether these are to
    be right for any. Other sums keep an open order, so that they are refused."""
    products = operator.sums is not None and operator.sums.products
    is_open = isinstance(contract.order, AnyOrder) or contract.bias is BiasPlacement.ANY
    if not products or not is_open:
        return contract, False
    return replace(contract, order=Sequential(), bias=BiasPlacement.FIRST), True
