"""Executions that a contract allows, with random choices wherever it leaves one.

A second reading of the contract: rounding, sums, fused products and elementary functions are
written here anew, on float64 arrays with a sample axis in front. Only the contract's own data
classes are read from the project.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import flint
import numpy as np
from reals import FUNCTIONS, Open

from encoders.contract.contract import (
    BiasPlacement,
    Contraction,
    FactorRounding,
    Normalization,
    RuntimeContract,
    Schedule,
    ScheduleRule,
    Span,
    Subnormals,
)
from encoders.contract.orders import (
    AlignedSteps,
    AnyOrder,
    Blocked,
    Blocks,
    Dwindling,
    Lanes,
    Order,
    Pairwise,
    Sequential,
    Strided,
    Tree,
)
from encoders.functions.registry import function_named
from encoders.numbers.formats import BFLOAT16, BINARY16, BINARY32, BINARY64, FloatFormat

Array = Any
_FORMATS = {1: BINARY32, 10: BINARY16, 11: BINARY64, 16: BFLOAT16}
_CLOSE = 1.0 - 2.0**-30  # of an accuracy's bound: the reference is rounded to float64 itself


def nearest(x: Array, fmt: FloatFormat) -> Array:
    """Float64 numbers rounded to a format, ties to even, an infinity beyond its range."""
    x = np.asarray(x, np.float64)
    if fmt.precision >= 53:
        return x.copy()
    unit = ulp(x, fmt)
    rounded = np.rint(x / unit) * unit
    largest = (2.0 - 2.0 ** (1 - fmt.precision)) * 2.0**fmt.emax
    rounded = np.where(np.abs(rounded) > largest, np.copysign(np.inf, x), rounded)
    return np.where(np.isfinite(x), rounded, x)


def ulp(x: Array, fmt: FloatFormat) -> Array:
    _, exponent = np.frexp(np.where(np.isfinite(x), x, 1.0))
    return np.ldexp(1.0, np.maximum(np.where(x == 0, fmt.emin, exponent - 1), fmt.emin)
                    - fmt.precision + 1)  # fmt: skip


def _toward_zero(x: Array, fmt: FloatFormat) -> Array:
    unit = ulp(x, fmt)
    kept = np.trunc(x / unit) * unit
    kept = np.where(
        np.abs(kept) > (2.0 - 2.0 ** (1 - fmt.precision)) * 2.0**fmt.emax,
        np.copysign(np.inf, kept),
        kept,
    )
    return np.where(np.isfinite(x), kept, x)


_TYPES = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}


@dataclass(frozen=True)
class Place:
    """Where a sum stands, for the rules of a contract."""

    operator: str
    node: str
    constant: bool | None = None
    rows: int | None = None
    columns: int | None = None
    terms: int | None = None
    kind: int = 0
    plain: bool | None = None
    written: bool = True

    def meant(self, rule: ScheduleRule) -> bool:
        """Does a rule of the contract speak of this place?"""
        if rule.form is not None:
            raise ValueError("forms of nodes are not read here")
        if rule.type is not None and rule.type.value != _TYPES.get(self.kind):
            return False
        for name in ("terms", "rows", "columns"):
            asked, found = getattr(rule, name), getattr(self, name)
            if isinstance(asked, Span):
                if found is None or found < asked.least:
                    return False
                if asked.most is not None and found > asked.most:
                    return False
            elif asked is not None and asked != found:
                return False
        names = ("operator", "node", "constant", "plain", "written")
        return all(getattr(rule, n) in (None, getattr(self, n)) for n in names)


class Machine:
    """One runtime: a format, a contract, a random stream and habits for what is left open.

    `habits`: how often it fuses, flushes results and flushes operands where it may choose.
    """

    exact = False

    def __init__(
        self,
        fmt: FloatFormat,
        contract: RuntimeContract,
        rng: np.random.Generator,
        habits: dict[str, Any],
    ) -> None:
        self.format, self.contract, self.rng, self.habits = fmt, contract, rng, habits
        self.tiny = 2.0**fmt.emin
        self.held = fmt  # what tensors are in, where a node computes in a wider format

    def within(self, fmt: FloatFormat) -> Machine:
        return Machine(fmt, self.contract, self.rng, self.habits)

    def accumulating(self, wide: FloatFormat) -> Machine:
        """The machine inside a node that computes in a wider format than its tensors have."""
        inner = self.within(wide)
        inner.held = self.format
        return inner

    def of(self, kind: int) -> Machine:
        """What computes with tensors of an element type."""
        return self.within(self.contract.compute_format or _FORMATS[kind])

    def at(self, place: Place) -> Machine:
        """The same runtime with the contraction that the contract states for one place."""
        fused = replace(self.contract, contraction=self.schedule(place).contraction)
        return Machine(self.format, fused, self.rng, self.habits)

    # --- numbers

    def stored(self, values: Array) -> Array:
        """Weights of a file: rounded to the format of weights first, if there is one."""
        values = np.asarray(values, np.float64)
        if self.contract.stored_format is not None:
            return self.result(nearest(values, self.contract.stored_format))[None]
        return nearest(values, self.format)[None]

    def constant(self, values: Array) -> Array:
        return nearest(np.asarray(values, np.float64), self.format)[None]

    def integers(self, values: Array) -> Array:
        return np.asarray(values).astype(np.float64)[None]

    def truth(self, values: Array) -> Array:
        return values.astype(np.float64)

    def rational(self, numerators: Array, denominator: int) -> Array:
        exact = [float(Fraction(int(n), denominator)) for n in np.ravel(numerators)]
        return self.constant(np.array(exact).reshape(np.shape(numerators)))

    def _chosen(self, choice: Subnormals, habit: str, shape: tuple[int, ...]) -> Any:
        if choice is Subnormals.EITHER:
            return self.rng.random(shape) < self.habits[habit]
        return choice is Subnormals.FLUSH

    def read(self, a: Array) -> Array:
        lost = self._chosen(self.contract.operands, "flush_operands", np.shape(a))
        return np.where((np.abs(a) < self.tiny) & lost, a * 0.0, a)

    def flushed(self, a: Array, tiny: float, *, read: bool = False) -> Array:
        """Results, or operands that are `read`, of a format whose normal numbers begin at `tiny`,
        as they are left."""
        choice = self.contract.operands if read else self.contract.results
        lost = self._chosen(choice, "flush_operands" if read else "flush_results", np.shape(a))
        return np.where((np.abs(a) < tiny) & lost, a * 0.0, a)

    def result(self, exact: Array, always: bool = False) -> Array:
        rounded = nearest(exact, self.format)
        lost = self._chosen(self.contract.results, "flush_results", np.shape(rounded))
        if always and self.habits["flush_functions"]:
            lost = True
        return np.where((np.abs(rounded) < self.tiny) & lost, rounded * 0.0, rounded)

    def converted(self, a: Array) -> Array:
        return self.result(np.asarray(a, np.float64))

    # --- single operations

    def add(self, a: Array, b: Array) -> Array:
        return self.result(self.read(a) + self.read(b))

    def subtract(self, a: Array, b: Array) -> Array:
        return self.result(self.read(a) - self.read(b))

    def multiply(self, a: Array, b: Array) -> Array:
        return self.result(self.read(a) * self.read(b))

    def divide(self, a: Array, b: Array) -> Array:
        return self.result(self.read(a) / self.read(b))

    def sqrt(self, a: Array) -> Array:
        return self.result(np.sqrt(self.read(a)))

    def negate(self, a: Array) -> Array:
        return -a

    def absolute(self, a: Array) -> Array:
        return np.abs(a)

    def maximum(self, a: Array, b: Array) -> Array:
        return np.maximum(self.read(a), self.read(b))

    def minimum(self, a: Array, b: Array) -> Array:
        return np.minimum(self.read(a), self.read(b))

    def floor(self, a: Array) -> Array:
        return self.result(np.floor(self.read(a)))

    def remainder(self, a: Array, b: Array) -> Array:
        return self.result(np.fmod(self.read(a), self.read(b)))

    def nearest(self, a: Array) -> Array:
        return self.result(np.rint(self.read(a)))

    def steps(self, a: Array) -> Array:
        """The nearest integers, which no format rounds."""
        return np.rint(self.read(a))

    def truncate(self, a: Array) -> Array:
        return np.trunc(self.read(a))

    def less(self, a: Array, b: Array) -> Array:
        return self.read(a) < self.read(b)

    def multiply_add(self, a: Array, b: Array, c: Array) -> Array:
        return self._multiply_add(a, b, c, self.contract.contraction)

    def _multiply_add(self, a: Array, b: Array, c: Array, way: Contraction) -> Array:
        if way is Contraction.NEVER:
            return self.add(self.multiply(a, b), c)
        if way is Contraction.ALWAYS:
            return self._fused(a, b, c)
        share = self.habits["fuse"]
        if share in (0.0, 1.0):
            return self._multiply_add(a, b, c, Contraction.ALWAYS if share else Contraction.NEVER)
        fused, split = self._fused(a, b, c), self.add(self.multiply(a, b), c)
        return np.where(self.rng.random(np.shape(split)) < share, fused, split)

    def _fused(self, a: Array, b: Array, c: Array) -> Array:
        a, b, c = np.broadcast_arrays(self.read(a), self.read(b), self.read(c))
        if self.format.precision >= 53:
            return self.result(_exact_fma(a, b, c))
        product = a * b
        total = product + c
        part = total - product
        rest = (product - (total - part)) + (c - part)
        # where float64 rounded onto a midpoint of the format, the lost rest decides
        unit = ulp(total, self.format) / 2
        middle = np.isfinite(total) & (np.mod(total / unit, 2) == 1)
        tiny = np.abs(total) < 2.0 ** (self.format.emin + 1)
        nudged = np.nextafter(total, np.copysign(np.inf, rest))
        return self.result(np.where((middle | tiny) & (rest != 0), nudged, total))

    def function(self, name: str, a: Array) -> Array:
        """As accurate as the contract says: some number within the bound on its error."""
        a = self.read(a)
        return self._near(name, _REFERENCE[name](a).astype(np.float64))

    def root(self, a: Array, p: int) -> Array:
        """The p-th root, as a function pow gives it of 1/p in float32."""
        with np.errstate(all="ignore"):
            exact = np.power(np.asarray(self.read(a), np.float64), np.float32(1) / np.float32(p))
        return self._near("pow", exact)

    def _near(self, name: str, exact: Array) -> Array:
        accuracy = self.contract.functions.accuracy(function_named(name))
        fmt = self.format
        bound = np.full(np.shape(exact), np.inf)
        if accuracy.ulps is not None:
            bound = np.minimum(bound, accuracy.ulps * ulp(exact, fmt))
        if accuracy.units is not None:
            bound = np.minimum(bound, accuracy.units * 2.0**-fmt.precision)
        plain = nearest(exact, fmt)
        habit = self.habits["functions"]
        if habit and fmt.precision < 53:
            share = self.rng.choice([-1.0, 1.0, 0.0, self.rng.uniform(-1, 1)], np.shape(exact))
            if habit in (-1, 1):
                share = np.full(np.shape(exact), float(habit))
            with np.errstate(all="ignore"):
                tried = nearest(exact + share * bound, fmt)
                low, high = _RANGES.get(name, (-np.inf, np.inf))
                over = accuracy.excess * 2.0**-fmt.precision
                allowed = (np.abs(tried - exact) <= bound * _CLOSE) & (tried <= high + over)
                allowed &= tried >= (low if low == 0 else low - over)
            plain = np.where(allowed & np.isfinite(plain) & np.isfinite(tried), tried, plain)
        return self.result(plain, always=accuracy.flushes)

    # --- sums

    def schedule(self, place: Place) -> Schedule:
        for rule in self.contract.rules:
            if place.meant(rule):
                return rule.schedule
        c = self.contract
        return Schedule(c.order, c.contraction, c.bias)

    def products(
        self, a: Array, b: Array, bias: Array | None, place: Place, factors: bool
    ) -> Array:
        """Σ a·b over the last axis, and a bias; `factors`: of a matrix product, which a runtime
        may truncate and add up in aligned steps."""
        a, b = np.broadcast_arrays(a, b)
        if factors:
            a, b = self._short(a), self._short(b)
        s = self.schedule(place)
        order: Order = s.order
        if not factors and isinstance(order, AnyOrder):
            order = AnyOrder()
        if not factors and isinstance(order, AlignedSteps):
            order = Sequential()
        where = s.bias
        if where is BiasPlacement.ANY:
            where = self.habits["bias"]
        n = a.shape[-1]

        def term(k: int, start: Array | None) -> Array:
            if start is None:
                return self.multiply(a[..., k], b[..., k])
            return self._multiply_add(a[..., k], b[..., k], start, s.contraction)

        if isinstance(order, AnyOrder):
            free = self._any_order(order, n)
            if free is None:
                a, b = self._shuffled(a, b)
                order = self.habits["orders"][self.rng.integers(len(self.habits["orders"]))]
            else:
                return self._steps(a, b, bias, free, where is BiasPlacement.FIRST)
        if isinstance(order, AlignedSteps):
            cuts = [min(order.terms, n - k) for k in range(0, n, order.terms)]
            step = (tuple(cuts), order.alignment)
            return self._steps(a, b, bias, step, where is BiasPlacement.FIRST)
        return self._ordered(term, order, n, bias, where)

    def _any_order(self, order: AnyOrder, n: int) -> tuple[tuple[int, ...], int] | None:
        if order.alignment is None or self.rng.random() < 0.5 or self.format.precision >= 53:
            return None
        cuts, left = [], n
        while left:
            cut = min(left, int(self.rng.integers(1, 20)))
            cuts.append(cut)
            left -= cut
        return tuple(cuts), order.alignment

    def _shuffled(self, a: Array, b: Array) -> tuple[Array, Array]:
        if self.habits["shuffle"] == "none":
            return a, b
        if self.habits["shuffle"] == "sign":  # all that is of one sign first
            key = np.where(a * b > 0, 0.0, 1.0) + self.rng.random(a.shape) * 0.5
        elif self.habits["shuffle"] == "size":
            key = -np.abs(a * b)
        else:
            key = self.rng.random(a.shape)
        at = np.argsort(key, axis=-1, kind="stable")
        return np.take_along_axis(a, at, -1), np.take_along_axis(b, at, -1)

    def _ordered(
        self,
        term: Callable[[int, Array | None], Array],
        order: Order,
        n: int,
        bias: Array | None,
        where: BiasPlacement,
    ) -> Array:
        def chain(which: Sequence[int], start: Array | None) -> Array:
            for k in which:
                start = term(k, start)
            return start

        def halves(low: int, high: int) -> Array | tuple[int]:
            if high - low == 1:
                return (low,)
            middle = low + -(-(high - low) // 2)
            return self._merge(term, halves(low, middle), halves(middle, high))

        lengths: Sequence[int] | None = None
        match order:
            case Sequential():
                lengths = [n]
            case Blocked(size):
                lengths = [min(size, n - k) for k in range(0, n, size)]
            case Dwindling(size):
                lengths, left, each = [], n, size
                while left > 0:
                    while left < each:
                        each //= 2
                    lengths.append(each)
                    left -= each
            case Blocks(given):
                lengths, left = [], n
                for g in given:
                    if left > 0:
                        lengths.append(min(g, left))
                        left -= min(g, left)
                if left > 0:
                    lengths.append(left)
        if lengths is not None:
            total: Array | None = None
            at = 0
            for i, length in enumerate(lengths):
                which = range(at, at + length)
                at += length
                if i == 0:
                    first = bias is not None and where is BiasPlacement.FIRST
                    total = chain(which, bias if first else None)
                    if bias is not None and where is BiasPlacement.AFTER_FIRST_BLOCK:
                        total = self.add(total, bias)
                else:
                    total = self.add(total, chain(which, None))
            if bias is not None and where is BiasPlacement.LAST:
                total = self.add(total, bias)
            return total
        match order:
            case Pairwise():
                found = halves(0, n)
                total = term(found[0], None) if isinstance(found, tuple) else found
            case Lanes(count):
                full = n // count * count
                if full:
                    lanes = [chain(range(i, full, count), None) for i in range(count)]
                    while len(lanes) > 1:
                        h = len(lanes) // 2
                        lanes = [self.add(x, y) for x, y in zip(lanes[:h], lanes[h:], strict=True)]
                    total = chain(range(full, n), lanes[0])
                else:
                    total = chain(range(n), None)
            case Strided(count):
                two: list[Array] = []
                for low in (0, count // 2):
                    lanes = [
                        chain(range(low + i, n, count), None)
                        for i in range(count // 2)
                        if low + i < n
                    ]
                    if lanes:
                        whole = lanes[0]
                        for lane in lanes[1:]:
                            whole = self.add(whole, lane)
                        two.append(whole)
                total = two[0] if len(two) == 1 else self.add(*two)
            case Tree(merges):
                items: list[Any] = [(k,) for k in range(n)]
                for left, right in merges:
                    items.append(self._merge(term, items[left], items[right]))
                total = term(0, None) if n == 1 else items[-1]
            case _:
                raise AssertionError(order)
        return total if bias is None else self.add(total, bias)

    def _merge(self, term: Any, left: Any, right: Any) -> Array:
        """Two terms: the second is added to the first; a term is added to a partial sum."""
        if isinstance(left, tuple) and not isinstance(right, tuple):
            left, right = right, left
        if isinstance(left, tuple):
            left = term(left[0], None)
        return term(right[0], left) if isinstance(right, tuple) else self.add(left, right)

    def total(self, terms: Array, place: Place) -> Array:
        """Σ over the last axis."""
        s = self.schedule(place)
        order: Order = s.order
        if isinstance(order, AlignedSteps):
            order = Sequential()
        if isinstance(order, AnyOrder):
            terms, _ = self._shuffled(terms, np.ones_like(terms))
            order = self.habits["orders"][self.rng.integers(len(self.habits["orders"]))]

        def term(k: int, start: Array | None) -> Array:
            return terms[..., k] if start is None else self.add(start, terms[..., k])

        return self._ordered(term, order, terms.shape[-1], None, BiasPlacement.LAST)

    def extreme(self, terms: Array, sign: int) -> Array:
        best = terms[..., 0]
        for k in range(1, terms.shape[-1]):
            best = (self.maximum if sign > 0 else self.minimum)(best, terms[..., k])
        return best

    # --- tensor cores

    def _short(self, a: Array) -> Array:
        short = self.contract.factor_format
        own = self.held
        if short is None or short.precision >= own.precision:
            return a
        if (short.emin, short.emax) != (own.emin, own.emax):
            return a
        way = self.contract.factor_rounding
        if way is FactorRounding.ANY:
            way = self.habits["factors"]
        if way is None:
            return a
        a = self.read(a)
        return nearest(a, short) if way is FactorRounding.NEAREST else _toward_zero(a, short)

    def _steps(
        self,
        a: Array,
        b: Array,
        bias: Array | None,
        step: tuple[tuple[int, ...], int],
        first: bool,
    ) -> Array:
        cuts, alignment = step
        own = self.held if self.held != self.format else self.contract.compute_format
        held = self.contract.factor_format or own
        least = self.format.emin if held is None else held.emin
        total = bias if first else None
        at = 0
        for cut in cuts:
            x, y = self.read(a[..., at : at + cut]), self.read(b[..., at : at + cut])
            at += cut
            values = x * y
            sizes = _exponent(x, least) + _exponent(y, least)
            sizes = np.where(values == 0, -(10**6), sizes)
            if total is not None:
                t = np.broadcast_to(self.read(total), values.shape[:-1])[..., None]
                values = np.concatenate([values, t], axis=-1)
                size = np.where(t == 0, -(10**6), _exponent(t, self.format.emin))
                sizes = np.concatenate([sizes, size], axis=-1)
            largest = np.max(sizes, axis=-1, keepdims=True)
            unit = np.ldexp(1.0, np.where(largest > -(10**5), largest - alignment, 0))
            whole = np.sum(np.trunc(values / unit), axis=-1) * unit[..., 0]
            if self.format.precision >= 53:
                added = None if total is None else t[..., 0]
                whole = _exact_step(x, y, added, largest[..., 0] - alignment)
            plain = np.sum(values, axis=-1)
            finite = np.all(np.isfinite(x) & np.isfinite(y), axis=-1)
            finite &= True if total is None else np.isfinite(t[..., 0])
            whole = np.where(finite, whole, plain)
            kept = _toward_zero(whole, self.format)
            lost = self._chosen(self.contract.results, "flush_results", np.shape(kept))
            total = np.where((np.abs(kept) < self.tiny) & lost, kept * 0.0, kept)
        if bias is not None and not first:
            total = self.add(total, bias)
        return total


def _exponent(x: Array, least: int) -> Array:
    _, e = np.frexp(np.where(np.isfinite(x), x, 1.0))
    return np.maximum(e - 1, least)


def _exact_step(x: Array, y: Array, total: Array | None, grid: Array) -> Array:
    """Σ x·y over the last axis and a total, each cut to a multiple of 2^grid, toward zero."""
    shape = grid.shape
    x, y = (np.broadcast_to(v, (*shape, v.shape[-1])) for v in np.broadcast_arrays(x, y))
    found = np.zeros(shape)
    for at in np.ndindex(*shape):
        terms = [(float(a), float(b)) for a, b in zip(x[at], y[at], strict=True)]
        terms += [] if total is None else [(float(total[at]), 1.0)]
        if not np.all(np.isfinite(terms)) or grid[at] < -(10**5):
            continue
        unit = Fraction(2) ** int(grid[at])
        whole = sum(int(Fraction(a) * Fraction(b) / unit) for a, b in terms) * unit
        if abs(whole) >= Fraction(2) ** 1024:
            found[at] = np.inf if whole > 0 else -np.inf
            continue
        near = float(whole)
        past = abs(Fraction(near)) > abs(whole)
        found[at] = np.nextafter(near, 0.0) if past else near
    return found


def _exact_fma(a: Array, b: Array, c: Array) -> Array:
    def one(x: float, y: float, z: float) -> float:
        plain = x * y + z
        if not (np.isfinite(x) and np.isfinite(y) and np.isfinite(z)):
            return float(plain)
        exact = Fraction(x) * Fraction(y) + Fraction(z)
        try:
            return float(exact) if exact else float(plain)  # true division rounds correctly
        except OverflowError:
            return float(np.copysign(np.inf, 1.0 if exact > 0 else -1.0))

    made: Array = np.asarray(np.frompyfunc(one, 3, 1)(a, b, c))
    return made.astype(np.float64)


def _reference(name: str) -> Callable[[Array], Array]:
    def one(x: float) -> float:
        if np.isnan(x):
            return x
        if np.isinf(x):
            return _LIMITS[name](x)
        if name == "log" and x <= 0:
            return -np.inf if x == 0 else np.nan
        if name == "atanh" and abs(x) == 1:
            return np.inf * x
        if name == "softplus" and x > 2000:
            return x
        if name in ("exp", "softplus") and abs(x) > 2000:
            return np.inf if x > 0 else 0.0
        if name == "sigmoid" and abs(x) > 2000:
            return 1.0 if x > 0 else 0.0
        saved, flint.ctx.prec = flint.ctx.prec, 160
        try:
            return float(FUNCTIONS[name](flint.arb(float(x))).mid())
        except Open:
            return np.nan
        finally:
            flint.ctx.prec = saved

    return np.frompyfunc(one, 1, 1)


_LIMITS: dict[str, Callable[[float], float]] = {
    "exp": lambda x: np.inf if x > 0 else 0.0,
    "log": lambda x: np.inf if x > 0 else np.nan,
    "tanh": lambda x: np.sign(x),
    "erf": lambda x: np.sign(x),
    "sigmoid": lambda x: 1.0 if x > 0 else 0.0,
    "sin": lambda x: np.nan,
    "cos": lambda x: np.nan,
    "atan": lambda x: np.sign(x) * np.pi / 2,
    "softplus": lambda x: np.inf if x > 0 else 0.0,
    "sinh": lambda x: x,
    "asinh": lambda x: x,
    "cosh": np.abs,
    "acosh": lambda x: np.inf if x > 0 else np.nan,
    **{name: lambda x: np.nan for name in ("asin", "acos", "atanh", "tan")},
}
_RANGES = {
    "exp": (0.0, np.inf), "tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0), "erf": (-1.0, 1.0),
    "sin": (-1.0, 1.0), "cos": (-1.0, 1.0), "atan": (-1.5708, 1.5708), "softplus": (0.0, np.inf),
    "asin": (-1.5708, 1.5708), "acos": (0.0, 3.1416), "cosh": (1.0, np.inf), "acosh": (0.0, np.inf),
}  # fmt: skip
_REFERENCE = {name: _reference(name) for name in FUNCTIONS}


def habits(rng: np.random.Generator) -> dict[str, Any]:
    """What a runtime does where it may choose: sometimes always the same, sometimes at random."""

    def share() -> float:
        return float(rng.choice([0.0, 1.0, 0.5, 0.1]))

    def one(*ways: object) -> object:
        return ways[int(rng.integers(len(ways)))]

    size = int(rng.integers(2, 9))
    ways = [w for w in Normalization if w is not Normalization.EITHER]
    return {
        "fuse": share(),
        "flush_results": share(),
        "flush_operands": share(),
        "flush_functions": bool(rng.random() < 0.3),
        "functions": rng.choice([0, 1, -1, 2]),
        "bias": one(BiasPlacement.FIRST, BiasPlacement.LAST, BiasPlacement.AFTER_FIRST_BLOCK),
        "factors": one(FactorRounding.NEAREST, FactorRounding.TRUNCATE, None),
        "shuffle": str(rng.choice(["none", "sign", "size", "random"])),
        "orders": [(Sequential(), Sequential(), Pairwise(), Blocked(size), Lanes(4))[i]
                   for i in rng.permutation(5)[: int(rng.integers(1, 4))]],
        "normalization": ways[int(rng.integers(len(ways)))],
    }  # fmt: skip


def accumulated(machine: Machine) -> Machine | None:
    """What computes inside a node whose tensors have a narrower format; None where they do not."""
    wide, own = machine.contract.accumulation, machine.format
    if wide is None or wide == own or wide.precision < own.precision or wide.emax < own.emax:
        return None
    if wide.emin - wide.precision > own.emin - own.precision:
        return None
    return machine.accumulating(wide)
