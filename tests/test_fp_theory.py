"""Z3's FloatingPoint terms against exact rationals rounded by the oracle below.

The oracle shares no code with the product: it scans a format's numbers or works in integers, and
knows the IEEE 754 rules for zeros, infinities and NaN. Terms are evaluated twice: by Z3's
simplifier, which has the numbers, and by its solver, which only has the bits.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import z3

from encoders.arithmetic import fp_theory as fp
from encoders.arithmetic.fp_theory import FpTermArithmetic
from encoders.contract.contract import Subnormals
from encoders.contract.presets import IEEE_ANY, PAIRWISE, SEQUENTIAL, SEQUENTIAL_FMA
from encoders.numbers.formats import (
    BFLOAT16,
    BINARY16,
    BINARY32,
    BINARY64,
    FloatFormat,
    small_format,
)

E2P3, E3P3, E3P4, E4P4 = (small_format(*w) for w in ((2, 3), (3, 3), (3, 4), (4, 4)))
FORMATS = (E2P3, E3P3, E3P4, E4P4, BFLOAT16, BINARY16, BINARY32)
ARITY = {"add": 2, "subtract": 2, "multiply": 2, "divide": 2, "sqrt": 1, "fma": 3, "maximum": 2}
OPERATIONS = {name: getattr(fp, name) for name in ARITY}

every_format = pytest.mark.parametrize("fmt", FORMATS, ids=lambda f: f.name)


# --- the oracle ---------------------------------------------------------------------------------


def round_to(value: Fraction, fmt: FloatFormat, negative_zero: bool = False) -> float:
    """Nearest number of the format, ties to even, as a float with the right zero."""
    sign = -1.0 if value < 0 or (value == 0 and negative_zero) else 1.0
    size = abs(value)
    ulp = Fraction(2) ** (fmt.emin - fmt.precision + 1)
    while size >= ulp * 2**fmt.precision:
        ulp *= 2
    count, rest = divmod(size, ulp)
    if rest * 2 > ulp or (rest * 2 == ulp and count % 2 == 1):
        count += 1
    result = count * ulp
    top = Fraction(2) ** (fmt.emax + 1)
    return math.copysign(math.inf if result >= top else float(result), sign)


def sign_of(x: float) -> float:
    return math.copysign(1.0, x)


def oracle(name: str, fmt: FloatFormat, *args: float) -> float:
    if any(map(math.isnan, args)):
        return math.nan
    match name, args:
        case "maximum", (a, b):
            return a if a >= b else b
        case "subtract", (a, b):
            return oracle("add", fmt, a, -b)
        case "add", (a, b):
            if math.isinf(a) or math.isinf(b):
                return a + b
            if a == b == 0:
                return math.copysign(0.0, -1.0 if sign_of(a) < 0 and sign_of(b) < 0 else 1.0)
            return round_to(Fraction(a) + Fraction(b), fmt)
        case "multiply", (a, b):
            return product(fmt, a, b)
        case "divide", (a, b):
            if b == 0 or math.isinf(b):
                if (a == 0 and b == 0) or (math.isinf(a) and math.isinf(b)):
                    return math.nan
                return math.copysign(math.inf if b == 0 else 0.0, sign_of(a) * sign_of(b))
            if math.isinf(a):
                return math.copysign(math.inf, sign_of(a) * sign_of(b))
            return round_to(Fraction(a) / Fraction(b), fmt, sign_of(a) * sign_of(b) < 0)
        case "sqrt", (a,):
            return root(fmt, a)
        case "fma", (a, b, c):
            exact = product(None, a, b)
            if math.isnan(exact) or math.isinf(exact) or math.isinf(c):
                return exact + c
            total = Fraction(a) * Fraction(b) + Fraction(c)
            both_negative = sign_of(a) * sign_of(b) < 0 and sign_of(c) < 0
            zeros = (a == 0 or b == 0) and c == 0
            return round_to(total, fmt, zeros and both_negative)
    raise AssertionError(name)


def product(fmt: FloatFormat | None, a: float, b: float) -> float:
    """Rounded to the format; without one, only the special cases matter."""
    sign = sign_of(a) * sign_of(b)
    if math.isinf(a) or math.isinf(b):
        return math.nan if a == 0 or b == 0 else math.copysign(math.inf, sign)
    if fmt is None:
        return math.copysign(0.0, sign)
    return round_to(Fraction(a) * Fraction(b), fmt, sign < 0)


def root(fmt: FloatFormat, a: float) -> float:
    if a == 0 or a == math.inf:
        return a
    if a < 0:
        return math.nan
    # Two more bits than any midpoint, and a sticky one: the rest decides no tie.
    scale = Fraction(4) ** (2 * fmt.precision - fmt.emin + 8)
    scaled = Fraction(a) * scale
    floor = math.isqrt(int(scaled))
    sticky = Fraction(0) if floor * floor == scaled else Fraction(1, 2)
    return round_to((floor + sticky) / Fraction(math.isqrt(int(scale))), fmt)


def flushed(x: float, fmt: FloatFormat) -> float:
    return math.copysign(0.0, x) if abs(x) < 2.0**fmt.emin else x


def same(x: float, y: float) -> bool:
    return (math.isnan(x) and math.isnan(y)) or (x == y and sign_of(x) == sign_of(y))


def numbers(fmt: FloatFormat, chance: random.Random) -> float:
    """One number of the format, special and extreme ones often."""
    smallest = 2.0 ** (fmt.emin - fmt.precision + 1)
    special = (0.0, math.inf, math.nan, 1.0, smallest, 2.0**fmt.emin - smallest, 2.0**fmt.emin)
    largest = float((2 - Fraction(2) ** (1 - fmt.precision)) * Fraction(2) ** fmt.emax)
    kind = chance.random()
    if kind < 0.25:
        value = chance.choice((*special, largest))
    elif kind < 0.4:
        value = smallest * chance.randrange(2 ** (fmt.precision - 1))
    else:
        near = chance.random() < 0.7
        low, high = (-2, 2) if near else (fmt.emin, fmt.emax)
        exponent = chance.randint(max(low, fmt.emin), min(high, fmt.emax))
        significand = chance.randrange(2 ** (fmt.precision - 1), 2**fmt.precision)
        value = math.ldexp(significand, exponent - fmt.precision + 1)
    return value if chance.random() < 0.5 else -value


def all_numbers(fmt: FloatFormat) -> list[float]:
    smallest = Fraction(2) ** (fmt.emin - fmt.precision + 1)
    positive = [smallest * k for k in range(2**fmt.precision)]
    for _ in range(fmt.emin, fmt.emax):
        positive += [v * 2 for v in positive[-(2 ** (fmt.precision - 1)) :]]
    values = [float(v) for v in positive]
    return [*values, math.inf, *(-v for v in values), -math.inf, math.nan]


# --- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", [E2P3, E3P3, E3P4, E4P4], ids=lambda f: f.name)
def test_constants_are_every_number_of_the_format(fmt: FloatFormat) -> None:
    values = all_numbers(fmt)
    width = fmt.exponent_bits + fmt.precision
    assert len(values) == 2**width - 2 * (2 ** (fmt.precision - 1) - 1) + 1
    for value in values:
        term = fp.constant(value, fmt)
        assert term.sort() == z3.FPSort(fmt.exponent_bits, fmt.precision)
        assert same(fp.float_value(term), value)
        if math.isfinite(value):
            assert fp.exact_value(term) == Fraction(value)


def test_constant_refuses_what_the_format_lacks() -> None:
    for value in (0.1, 2.0**16, 2.0**-25, 65519.0):
        with pytest.raises(ValueError, match="not a value of float16"):
            fp.constant(value, BINARY16)
    assert fp.float_value(fp.constant(65504.0, BINARY16)) == 65504.0


def test_formats_without_a_sort_are_refused() -> None:
    for fmt in (FloatFormat("odd", 8, -100, 127), FloatFormat("bf0", 2, -2, 3)):
        with pytest.raises(ValueError, match="not an IEEE"):
            fp.sort_of(fmt)


def test_exact_value_needs_a_numeral() -> None:
    with pytest.raises(ValueError, match="not an FP numeral"):
        fp.exact_value(fp.variable("x", BINARY16))


def test_model_values_beyond_float64_stay_exact() -> None:
    wide = small_format(15, 64)
    value = Fraction(2) ** 9000 + Fraction(2) ** 8940
    assert fp.model_value(fp.constant(value, wide)) == value
    assert same(fp.model_value(fp.constant(-0.0, BINARY16)), -0.0)  # type: ignore[arg-type]


def test_predicates() -> None:
    def holds(formula: Any) -> bool:
        return z3.is_true(z3.simplify(formula))

    zero, minus, nan = (fp.constant(v, BINARY16) for v in (0.0, -0.0, math.nan))
    small, inf = fp.constant(2.0**-24, BINARY16), fp.constant(-math.inf, BINARY16)
    assert holds(fp.ieee_equal(zero, minus))
    assert not holds(fp.same(zero, minus))
    assert not holds(fp.ieee_equal(nan, nan))
    assert holds(fp.same(nan, nan))
    assert [holds(fp.is_finite(t)) for t in (zero, small, inf, nan)] == [True, True, False, False]
    assert [holds(fp.is_subnormal(t)) for t in (zero, small, inf, nan)] == [
        False,
        True,
        False,
        False,
    ]
    assert holds(fp.is_nan(nan))
    assert holds(fp.is_zero(minus))


# --- operations ---------------------------------------------------------------------------------


@every_format
@pytest.mark.parametrize("name", ARITY)
def test_simplifier_agrees_with_the_oracle(fmt: FloatFormat, name: str) -> None:
    chance = random.Random(f"{fmt.name} {name}")
    for _ in range(200):
        args = [numbers(fmt, chance) for _ in range(ARITY[name])]
        got = fp.float_value(OPERATIONS[name](*(fp.constant(a, fmt) for a in args)))
        assert same(got, oracle(name, fmt, *args)), (name, args, got)


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "sqrt", "maximum"])
@pytest.mark.parametrize(
    ("fmt", "dtype"), [(BINARY16, np.float16), (BINARY32, np.float32)], ids=["16", "32"]
)
def test_simplifier_agrees_with_numpy(fmt: FloatFormat, dtype: Any, name: str) -> None:
    chance = random.Random(name)
    with np.errstate(all="ignore"):
        for _ in range(200):
            args = [numbers(fmt, chance) for _ in range(ARITY[name])]
            want = float(getattr(np, name)(*(dtype(a) for a in args)))
            got = fp.float_value(OPERATIONS[name](*(fp.constant(a, fmt) for a in args)))
            if name == "maximum":
                assert got == want or (math.isnan(got) and math.isnan(want))
            else:
                assert same(got, want), (args, got, want)


class Blaster:
    """Z3's solver made to compute: operands are variables, fixed only when it is asked."""

    def __init__(self, fmt: FloatFormat, name: str) -> None:
        self.fmt = fmt
        self.operands = [fp.variable(f"x{i}", fmt) for i in range(ARITY[name])]
        self.result = fp.variable("result", fmt)
        self.solver = z3.Solver()
        self.solver.add(fp.same(self.result, OPERATIONS[name](*self.operands)))
        assert self.solver.check() == z3.sat

    def __call__(self, *args: float) -> float:
        self.solver.push()
        for operand, value in zip(self.operands, args, strict=True):
            self.solver.add(fp.same(operand, fp.constant(value, self.fmt)))
        assert self.solver.check() == z3.sat
        value = fp.float_value(fp.evaluate(self.solver.model(), self.result))
        self.solver.pop()
        return value


@pytest.mark.parametrize("fmt", [E2P3, E3P4, BINARY16], ids=lambda f: f.name)
@pytest.mark.parametrize("name", ARITY)
def test_solver_agrees_with_the_oracle(fmt: FloatFormat, name: str) -> None:
    """The simplifier has its own code; proofs come from the solver's circuits."""
    chance = random.Random(f"{fmt.name} {name}")
    blaster = Blaster(fmt, name)
    for _ in range(40):
        args = [numbers(fmt, chance) for _ in range(ARITY[name])]
        assert same(blaster(*args), oracle(name, fmt, *args)), args


@pytest.mark.parametrize("name", ["add", "multiply"])
def test_solver_agrees_with_the_oracle_on_a_whole_format(name: str) -> None:
    blaster = Blaster(E2P3, name)
    for args in itertools.product(all_numbers(E2P3), repeat=2):
        assert same(blaster(*args), oracle(name, E2P3, *args)), args


def narrowings() -> Iterator[tuple[FloatFormat, FloatFormat]]:
    for wide in (E4P4, BINARY16, BINARY32, BINARY64, small_format(6, 23)):
        for narrow in (E2P3, E3P4, BINARY16, BINARY32):
            if narrow.exponent_bits < wide.exponent_bits:
                yield wide, narrow


@pytest.mark.parametrize(("wide", "narrow"), list(narrowings()), ids=lambda f: f.name)
def test_solver_narrows_rightly(wide: FloatFormat, narrow: FloatFormat) -> None:
    x, y = fp.variable("x", wide), fp.variable("y", narrow)
    solver = z3.Solver()
    solver.add(fp.same(y, fp.convert(x, narrow)))
    assert solver.check() == z3.sat
    chance = random.Random(wide.name + narrow.name)
    low = wide.emin - wide.precision + 1
    powers = [2.0**k for k in {low, low + 1, wide.emin - 1, wide.emin, -3, 0, 2, wide.emax}]
    for value in [*powers, *(numbers(wide, chance) for _ in range(12))]:
        solver.push()
        solver.add(fp.same(x, fp.constant(value, wide)))
        assert solver.check() == z3.sat
        got = fp.float_value(fp.evaluate(solver.model(), y))
        solver.pop()
        want = (
            value
            if not math.isfinite(value)
            else round_to(Fraction(value), narrow, sign_of(value) < 0)
        )
        assert same(got, want), (value, got, want)


def test_a_narrowing_that_z3_gets_wrong_is_refused() -> None:
    wide = small_format(5, 22)
    with pytest.raises(ValueError, match="wrongly"):
        fp.convert(fp.variable("x", wide), E3P3)
    assert not fp.can_narrow(wide)
    assert all(fp.can_narrow(f) for f in (BINARY16, BFLOAT16, BINARY32, BINARY64))


def test_is_exact() -> None:
    one, tiny = fp.constant(1.0, BINARY16), fp.constant(2.0**-12, BINARY16)
    assert z3.is_true(z3.simplify(fp.is_exact(fp.add, one, one)))
    assert z3.is_false(z3.simplify(fp.is_exact(fp.add, one, tiny)))
    assert z3.is_true(z3.simplify(fp.is_exact(fp.subtract, one, one)))


# --- FpTermArithmetic -----------------------------------------------------------------------------

CONTRACTS = [
    replace(base, results=results, operands=operands)
    for base in (SEQUENTIAL, SEQUENTIAL_FMA)
    for results in (Subnormals.KEEP, Subnormals.FLUSH)
    for operands in (Subnormals.KEEP, Subnormals.FLUSH)
]
METHODS = {
    "add": "add",
    "subtract": "subtract",
    "multiply": "multiply",
    "divide": "divide",
    "sqrt": "sqrt",
    "maximum": "maximum",
    "multiply_add": "fma",
}


def runtime_oracle(method: str, arithmetic: FpTermArithmetic, args: list[float]) -> float:
    fmt, contract = arithmetic.format, arithmetic.contract
    if method == "multiply_add" and contract.contraction.value == "never":
        inner = runtime_oracle("multiply", arithmetic, args[:2])
        return runtime_oracle("add", arithmetic, [inner, args[2]])
    if contract.operands is Subnormals.FLUSH:
        args = [flushed(a, fmt) for a in args]
    result = oracle(METHODS[method], fmt, *args)
    keeps = contract.results is Subnormals.KEEP or method == "maximum"
    return result if keeps else flushed(result, fmt)


@pytest.mark.parametrize("fmt", [E2P3, E3P4, BINARY16, BINARY32], ids=lambda f: f.name)
@pytest.mark.parametrize("method", METHODS)
def test_arithmetic_follows_the_contract(fmt: FloatFormat, method: str) -> None:
    chance = random.Random(f"{fmt.name} {method}")
    for contract in CONTRACTS:
        arithmetic = FpTermArithmetic(fmt, contract)
        rows = [[numbers(fmt, chance) for _ in range(ARITY[METHODS[method]])] for _ in range(25)]
        columns = [arithmetic.constant(np.array(column)) for column in zip(*rows, strict=True)]
        terms = getattr(arithmetic, method)(*columns)
        assert terms.shape == (1, 25)
        for term, args in zip(terms[0], rows, strict=True):
            want = runtime_oracle(method, arithmetic, args)
            assert same(fp.float_value(term), want), (contract.describe(), args)


def test_constants_are_rounded_to_the_format() -> None:
    arithmetic = FpTermArithmetic(BINARY16, SEQUENTIAL)
    stored = np.array([[0.1, 1e6, -0.0], [2.0**-25, 2.0**-25 * 1.01, math.nan]], np.float32)
    terms = arithmetic.constant(stored)
    assert terms.shape == (1, 2, 3)
    with np.errstate(over="ignore"):
        want = stored.astype(np.float16)
    for term, value in zip(terms.ravel(), want.ravel(), strict=True):
        assert same(fp.float_value(term), float(value))


def test_shapes_broadcast_and_scalars_stay_arrays() -> None:
    arithmetic = FpTermArithmetic(E3P4, PAIRWISE)
    column = fp.variables("x", (2, 1), E3P4)
    assert column[0, 1, 0].decl().name() == "x[1,0]"
    assert arithmetic.add(column, fp.variables("y", (3,), E3P4)).shape == (1, 2, 3)
    scalar = arithmetic.multiply(fp.variables("z", (), E3P4), arithmetic.constant(np.array(2.0)))
    assert isinstance(scalar, np.ndarray)
    assert scalar.shape == (1,)


def test_unpinned_or_exact_contracts_are_refused() -> None:
    for contract in (
        IEEE_ANY,
        replace(SEQUENTIAL, results=Subnormals.EITHER),
        replace(SEQUENTIAL, contraction=IEEE_ANY.contraction),
    ):
        with pytest.raises(ValueError, match="more than one execution"):
            FpTermArithmetic(BINARY32, contract)
    with pytest.raises(ValueError, match="real arithmetic"):
        FpTermArithmetic(BINARY32, replace(SEQUENTIAL, exact=True))
