"""The emulator's arithmetic against exact rationals, rounded by `round_fraction`."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import cache
from itertools import pairwise

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from encoders.arithmetic.exact_fields import Balls, RationalArithmetic, Rationals, enclosure
from encoders.arithmetic.numpy_arithmetic import NumpyArithmetic
from encoders.contract.contract import Contraction, Subnormals
from encoders.contract.presets import IEEE_ANY, SEQUENTIAL, SEQUENTIAL_FMA
from encoders.numbers.formats import (
    BFLOAT16,
    BINARY16,
    BINARY32,
    BINARY64,
    FloatFormat,
    is_representable,
    next_down,
    next_up,
    round_array,
    round_down,
    round_fraction,
    round_up,
    small_format,
)

STANDARD = (BINARY16, BFLOAT16, BINARY32, BINARY64)
SMALL = tuple(small_format(*widths) for widths in ((2, 2), (2, 3), (3, 3), (3, 4), (4, 4)))
TINY = (small_format(2, 2), small_format(2, 3), small_format(3, 2))
INF, NAN = math.inf, math.nan

every_format = pytest.mark.parametrize("fmt", STANDARD + SMALL, ids=lambda f: f.name)
standard_format = pytest.mark.parametrize("fmt", STANDARD, ids=lambda f: f.name)


def finite_numbers(fmt: FloatFormat) -> list[float]:
    """All finite numbers of a small format, −0 included."""
    positive = [0.0]
    while (following := next_up(positive[-1], fmt)) < INF:
        positive.append(following)
    return positive + [-v for v in positive]


def numbers(fmt: FloatFormat) -> st.SearchStrategy[float]:
    """Finite numbers of the format, with plenty of extremes, short significands and neighbours."""
    exponents = st.integers(fmt.emin - fmt.precision + 1, fmt.emax)
    near = st.integers(-fmt.precision - 2, fmt.precision + 2)
    significands = st.one_of(
        st.integers(0, 2**fmt.precision - 1),
        st.builds(lambda k, d: max(0, 2**k + d), st.integers(0, fmt.precision - 1), near),
        st.sampled_from([0, 1, 2**fmt.precision - 1]),
    )

    def number(m: int, e: int, centre: bool, shift: int, negative: bool) -> float:
        scale = shift if centre else e
        exact = Fraction(m, 2 ** (fmt.precision - 1)) * Fraction(2) ** scale
        value = float(min(round_fraction(exact, fmt), fmt.largest_finite))
        return -value if negative else value

    return st.builds(number, significands, exponents, st.booleans(), near, st.booleans())


def rounded(exact: Fraction, fmt: FloatFormat) -> float:
    """The correctly rounded result; zeros that underflow keep the sign of the exact value."""
    size = abs(float(round_fraction(exact, fmt)))
    return -size if exact < 0 else size


def same(got: object, expected: float) -> bool:
    """Equal as bits, but for the payload of a NaN."""
    value = float(got)  # type: ignore[arg-type]
    if math.isnan(expected):
        return math.isnan(value)
    return value == expected and math.copysign(1, value) == math.copysign(1, expected)


def column(arithmetic: NumpyArithmetic, *values: float) -> list[np.ndarray]:
    return [np.array([v], arithmetic.carrier) for v in values]


def compute(arithmetic: NumpyArithmetic, operation: str, *values: float) -> float:
    (result,) = getattr(arithmetic, operation)(*column(arithmetic, *values))
    return float(result)


@every_format
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_round_array_is_round_fraction(fmt: FloatFormat, data: st.DataObject) -> None:
    value = data.draw(st.one_of(st.floats(allow_nan=False, allow_infinity=False), numbers(fmt)))
    middle = data.draw(numbers(fmt))
    halfway = (
        Fraction(middle) + Fraction(min(next_up(middle, fmt), float(fmt.largest_finite)))
    ) / 2
    for v in (value, float(halfway), math.nextafter(float(halfway), INF), -float(halfway)):
        if math.isinf(v):
            continue
        expected = math.copysign(float(round_fraction(Fraction(v), fmt)), v)
        assert same(round_array(np.array([v]), fmt)[0], expected), v


@pytest.mark.parametrize(
    ("fmt", "dtype"),
    [(BINARY16, np.float16), (BINARY32, np.float32), (BFLOAT16, ml_dtypes.bfloat16)],
)
def test_round_array_is_the_native_conversion(fmt: FloatFormat, dtype: type) -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 20000, dtype=np.uint32)
    with np.errstate(all="ignore"):
        values = bits.view(np.float32).astype(np.float64)
        # From float32: ml_dtypes converts float64 to bfloat16 with two roundings.
        expected = values.astype(np.float32).astype(dtype).astype(np.float64)
    np.testing.assert_array_equal(round_array(values, fmt), expected)
    assert round_array(-0.0, fmt).shape == ()
    assert np.signbit(round_array(-1e-300, fmt))


@pytest.mark.parametrize("fmt", SMALL, ids=lambda f: f.name)
def test_neighbours_and_directed_rounding(fmt: FloatFormat) -> None:
    line = [-INF, *sorted(set(finite_numbers(fmt))), INF]
    for low, high in pairwise(line):
        assert next_up(low, fmt) == high
        assert next_down(high, fmt) == low
        if math.isinf(low) or math.isinf(high):
            continue
        for exact in (Fraction(low) + Fraction(1, 10**9), (Fraction(low) + Fraction(high)) / 2):
            assert round_down(exact, fmt) == low
            assert round_up(exact, fmt) == high
            assert not is_representable(exact, fmt)
        assert is_representable(low, fmt)
        assert round_down(Fraction(low), fmt) == round_up(Fraction(low), fmt) == low
    beyond = 2 * fmt.largest_finite
    assert round_down(beyond, fmt) == fmt.largest_finite
    assert round_up(beyond, fmt) == INF
    assert not is_representable(beyond, fmt)
    assert not is_representable(INF, fmt)


@pytest.mark.parametrize("fmt", SMALL, ids=lambda f: f.name)
@pytest.mark.parametrize(
    ("name", "exact"),
    [("add", operator.add), ("multiply", operator.mul), ("divide", operator.truediv)],
)
def test_all_pairs_of_a_small_format(
    fmt: FloatFormat, name: str, exact: Callable[[Fraction, Fraction], Fraction]
) -> None:
    values = finite_numbers(fmt)
    column, row = np.array(values)[:, None], np.array(values)[None, :]
    gradual = getattr(NumpyArithmetic(fmt, SEQUENTIAL), name)(column, row).tolist()
    flush = replace(SEQUENTIAL, results=Subnormals.FLUSH)
    flushed = getattr(NumpyArithmetic(fmt, flush), name)(column, row).tolist()
    exacts = [Fraction(v) for v in values]
    normal = float(fmt.smallest_normal)
    nearest = cache(lambda q: rounded(q, fmt))
    for i, a in enumerate(exacts):
        for j, b in enumerate(exacts):
            if name == "divide" and b == 0:
                continue
            expected = nearest(exact(a, b))
            assert gradual[i][j] == expected, (a, b)
            assert flushed[i][j] == (expected if abs(expected) >= normal else 0.0), (a, b)


@pytest.mark.parametrize("fmt", TINY, ids=lambda f: f.name)
def test_all_triples_of_a_tiny_format(fmt: FloatFormat) -> None:
    values = finite_numbers(fmt)
    array = np.array(values)
    arguments = array[:, None, None], array[None, :, None], array[None, None, :]
    fused = NumpyArithmetic(fmt, SEQUENTIAL_FMA).multiply_add(*arguments)
    twice = NumpyArithmetic(fmt, SEQUENTIAL).multiply_add(*arguments)
    exact = [Fraction(v) for v in values]
    for i, a in enumerate(exact):
        for j, b in enumerate(exact):
            product = round_fraction(a * b, fmt)
            for k, c in enumerate(exact):
                assert float(fused[i, j, k]) == rounded(a * b + c, fmt)
                if isinstance(product, Fraction):
                    assert float(twice[i, j, k]) == rounded(product + c, fmt)


@every_format
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_every_operation_rounds_once(fmt: FloatFormat, data: st.DataObject) -> None:
    a, b, c = (data.draw(numbers(fmt)) for _ in range(3))
    x, y, z = map(Fraction, (a, b, c))
    arithmetic = NumpyArithmetic(fmt, SEQUENTIAL_FMA)
    assert compute(arithmetic, "add", a, b) == rounded(x + y, fmt)
    assert compute(arithmetic, "subtract", a, b) == rounded(x - y, fmt)
    assert compute(arithmetic, "multiply", a, b) == rounded(x * y, fmt)
    assert compute(arithmetic, "multiply_add", a, b, c) == rounded(x * y + z, fmt)
    assert compute(arithmetic, "maximum", a, b) == max(a, b)
    if b:
        assert compute(arithmetic, "divide", a, b) == rounded(x / y, fmt)
    if a > 0:
        root = compute(arithmetic, "sqrt", a)
        below = (Fraction(next_down(root, fmt)) + Fraction(root)) / 2
        above = (Fraction(root) + Fraction(next_up(root, fmt))) / 2
        assert below**2 <= x <= above**2


@standard_format
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_fused_near_a_tie(fmt: FloatFormat, data: st.DataObject) -> None:
    """c sits half way between two numbers' products, or next to it: the double-rounding trap."""
    a, b = (data.draw(numbers(fmt)) for _ in range(2))
    product = Fraction(a) * Fraction(b)
    ulps = data.draw(st.integers(0, 2 * fmt.precision + 40))
    near = round_fraction(product * Fraction(2) ** ulps, fmt)
    candidates = [near] if isinstance(near, Fraction) else []
    candidates += [-v for v in candidates]
    arithmetic = NumpyArithmetic(fmt, SEQUENTIAL_FMA)
    for c in [float(v) for v in candidates]:
        for d in (c, next_up(c, fmt), next_down(c, fmt)):
            if math.isfinite(d):
                expected = rounded(product + Fraction(d), fmt)
                assert same(compute(arithmetic, "multiply_add", a, b, d), expected) or not expected


def test_fused_does_not_round_through_double() -> None:
    """a·a = 1 + 2^-11 + 2^-24, a middle of two float32; c decides, but is lost in float64."""
    a = 1.0 + 2.0**-12
    low, high = 1.0 + 2.0**-11, 1.0 + 2.0**-11 + 2.0**-23
    assert float(np.float32(a * a + 2.0**-80)) == low, "the trap does not work"
    arithmetic = NumpyArithmetic(BINARY32, SEQUENTIAL_FMA)
    for c, expected in ((2.0**-80, high), (-(2.0**-80), low), (0.0, low)):
        assert compute(arithmetic, "multiply_add", a, a, c) == expected
        assert compute(arithmetic, "multiply_add", -a, a, -c) == -expected


def test_fused_tie_among_subnormal_numbers() -> None:
    arithmetic = NumpyArithmetic(BINARY32, SEQUENTIAL_FMA)
    half = 2.0**-75  # half·half = 2^-150, half of the smallest subnormal float32
    least = 2.0**-149
    assert compute(arithmetic, "multiply_add", half, half, 0.0) == 0.0
    assert compute(arithmetic, "multiply_add", half, half, least) == 2 * least
    assert compute(arithmetic, "multiply_add", half * (1 + 2.0**-23), half, 0.0) == least
    assert compute(arithmetic, "multiply_add", -half, half * (1 - 2.0**-24), least) == least


@given(a=numbers(BINARY64), b=numbers(BINARY64), c=numbers(BINARY64))
@example(2.0**1023, 2.0, -(2.0**1023))
@example(2.0**1023, 2.0, -INF)
@example(2.0**-1074, 0.5, 0.0)
@example(-(2.0**-1074), 0.5, 0.0)
@example(1 + 2.0**-52, 1 - 2.0**-52, -1.0)
@example(2.0**-537, 2.0**-538, 2.0**-1074)
@settings(max_examples=60, deadline=None)
def test_binary64_fused(a: float, b: float, c: float) -> None:
    got = compute(NumpyArithmetic(BINARY64, SEQUENTIAL_FMA), "multiply_add", a, b, c)
    if math.isinf(c):
        assert got == c
        return
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    assert got == rounded(exact, BINARY64)
    if exact:
        assert math.copysign(1, got) == (-1 if exact < 0 else 1)


@every_format
def test_special_values(fmt: FloatFormat) -> None:
    arithmetic = NumpyArithmetic(fmt, SEQUENTIAL_FMA)
    top, least = float(fmt.largest_finite), float(fmt.smallest_subnormal)
    cases = [
        ("add", (INF, -INF), NAN),
        ("add", (INF, -1.0), INF),
        ("add", (-0.0, -0.0), -0.0),
        ("add", (-0.0, 0.0), 0.0),
        ("add", (1.0, -1.0), 0.0),
        ("add", (top, top), INF),
        ("subtract", (-top, top), -INF),
        ("subtract", (INF, INF), NAN),
        ("multiply", (0.0, INF), NAN),
        ("multiply", (-0.0, 1.0), -0.0),
        ("multiply", (-least, least), -0.0),
        ("divide", (0.0, 0.0), NAN),
        ("divide", (-1.0, 0.0), -INF),
        ("divide", (1.0, -0.0), -INF),
        ("divide", (INF, INF), NAN),
        ("divide", (1.0, -INF), -0.0),
        ("sqrt", (-1.0,), NAN),
        ("sqrt", (-0.0,), -0.0),
        ("sqrt", (INF,), INF),
        ("sqrt", (NAN,), NAN),
        ("maximum", (NAN, 1.0), NAN),
        ("maximum", (1.0, NAN), NAN),
        ("maximum", (-INF, NAN), NAN),
        ("maximum", (-0.0, 0.0), -0.0),
        ("maximum", (0.0, -0.0), 0.0),
        ("maximum", (-least, 0.0), 0.0),
        ("multiply_add", (0.0, INF, 1.0), NAN),
        ("multiply_add", (0.0, INF, NAN), NAN),
        ("multiply_add", (INF, 1.0, -INF), NAN),
        ("multiply_add", (top, top, -INF), -INF),
        (
            "multiply_add",
            (top, 2.0**fmt.emin, -top),
            rounded(fmt.largest_finite * (fmt.smallest_normal - 1), fmt),
        ),
        ("multiply_add", (1.0, 1.0, -1.0), 0.0),
        ("multiply_add", (-0.0, 1.0, -0.0), -0.0),
        ("multiply_add", (-0.0, 1.0, 0.0), 0.0),
        ("multiply_add", (-least, least / 2 if least / 2 else least, -0.0), -0.0),
        ("multiply_add", (top, 1.0, top), INF),
    ]
    for name, arguments, expected in cases:
        assert same(compute(arithmetic, name, *arguments), expected), (name, arguments)


@every_format
def test_flushing(fmt: FloatFormat) -> None:
    normal, least = float(fmt.smallest_normal), float(fmt.smallest_subnormal)
    results = NumpyArithmetic(fmt, replace(SEQUENTIAL_FMA, results=Subnormals.FLUSH))
    operands = NumpyArithmetic(fmt, replace(SEQUENTIAL_FMA, operands=Subnormals.FLUSH))
    gradual = NumpyArithmetic(fmt, SEQUENTIAL_FMA)
    above = next_up(normal, fmt)
    for first, second in ((above, normal), (-above, -normal)):
        zero = math.copysign(0.0, first)
        assert same(compute(gradual, "subtract", first, second), math.copysign(least, first))
        assert same(compute(results, "subtract", first, second), zero)
        assert same(compute(operands, "subtract", first, second), math.copysign(least, first))
        assert same(compute(results, "add", first, zero), first)
    for sign in (1.0, -1.0):
        tiny, zero = sign * least, sign * 0.0
        assert same(compute(operands, "multiply", tiny, 1.0), zero)
        assert same(compute(operands, "sqrt", tiny), zero)
        assert same(compute(operands, "multiply_add", tiny, 1.0, 1.0), 1.0)
        assert same(compute(operands, "maximum", tiny, -1.0), zero)
        assert same(compute(results, "maximum", tiny, -1.0), tiny)
        assert same(compute(results, "multiply_add", tiny, 1.0, zero), zero)


def test_operands_are_not_written_to() -> None:
    contract = replace(SEQUENTIAL_FMA, operands=Subnormals.FLUSH, results=Subnormals.FLUSH)
    for fmt in (BINARY32, BINARY64, BINARY16):
        arithmetic = NumpyArithmetic(fmt, contract)
        a, b, c = column(arithmetic, float(fmt.smallest_subnormal), 1.0, 2.0)
        arithmetic.multiply_add(a, b, c)
        arithmetic.maximum(a, b)
        arithmetic.add(a, b)
        assert (a[0], b[0], c[0]) == (float(fmt.smallest_subnormal), 1.0, 2.0)


def test_large_fused_products_are_cut_into_the_right_pieces() -> None:
    rng = np.random.default_rng(2)
    arithmetic = NumpyArithmetic(BINARY32, SEQUENTIAL_FMA)
    a, b, c = (
        rng.standard_normal(shape).astype(np.float32)
        for shape in ((700, 1, 150), (1, 1, 150), (700, 1, 150))
    )
    whole = arithmetic.multiply_add(a, b, c)
    rows = [arithmetic.multiply_add(a[i : i + 1], b, c[i : i + 1])[0] for i in range(700)]
    np.testing.assert_array_equal(whole, np.stack(rows))
    lower_rank = arithmetic.multiply_add(a, b[0, 0], c)
    np.testing.assert_array_equal(whole, lower_rank)


def test_constants_are_rounded_once() -> None:
    arithmetic = NumpyArithmetic(BINARY16, SEQUENTIAL)
    stored = arithmetic.constant(np.array([[1.0 + 2.0**-11, 1e9, -1e-9]], np.float32))
    assert stored.shape == (1, 1, 3)
    assert stored.ravel().tolist() == [1.0, INF, 0.0]
    big = 2**60 + 2**36 + 1  # just above the middle of two float32; float64 drops the 1
    wide = NumpyArithmetic(BINARY32, SEQUENTIAL).constant(np.array(big))
    assert wide.tolist() == [float(round_fraction(Fraction(big), BINARY32))]
    half = NumpyArithmetic(BINARY32, SEQUENTIAL).constant(np.array([0.1], ml_dtypes.bfloat16))
    assert half.dtype == np.float32
    assert float(half[0, 0]) == 0.10009765625


@pytest.mark.parametrize(
    "contract",
    [
        IEEE_ANY,
        replace(SEQUENTIAL, results=Subnormals.EITHER),
        replace(SEQUENTIAL, operands=Subnormals.EITHER),
        replace(SEQUENTIAL, exact=True),
    ],
)
def test_open_contracts_are_refused(contract: object) -> None:
    with pytest.raises(ValueError, match="contract"):
        NumpyArithmetic(BINARY32, contract)  # type: ignore[arg-type]


def test_open_contraction_is_refused_where_it_matters() -> None:
    arithmetic = NumpyArithmetic(BINARY32, replace(SEQUENTIAL, contraction=Contraction.EITHER))
    one = arithmetic.constant(np.ones(1, np.float32))
    assert arithmetic.add(one, one) == 2
    with pytest.raises(ValueError, match="contraction"):
        arithmetic.multiply_add(one, one, one)


def test_formats_without_a_carrier_are_refused() -> None:
    with pytest.raises(ValueError, match="carrier"):
        NumpyArithmetic(FloatFormat("wide", 40, -126, 127), SEQUENTIAL)
    with pytest.raises(ValueError, match="rounded"):
        round_array(1.0, FloatFormat("wide", 40, -126, 127))


def test_exact_fields_agree() -> None:
    rng = np.random.default_rng(1)
    a = rng.standard_normal((2, 1, 3, 4)).astype(np.float32)
    b = rng.standard_normal((5, 4, 2))
    exact, balls = Rationals(), Balls(200)
    product = exact.matmul(exact.constant(a)[0], exact.constant(b)[0])
    around = balls.matmul(balls.constant(a)[0], balls.constant(b)[0])
    assert product.shape == around.shape == (2, 5, 3, 2)
    at = (1, 4, 2, 1)
    terms = zip(a[1, 0, 2], b[4, :, 1], strict=True)
    assert enclosure(product[at])[0] == sum(
        (Fraction(float(x)) * Fraction(float(y)) for x, y in terms), Fraction()
    )
    for rational, ball in zip(product.ravel(), around.ravel(), strict=True):
        low, high = enclosure(ball)
        assert low <= enclosure(rational)[0] <= high
    third_low, third_high = enclosure(balls.number(Fraction(1, 3)))
    assert third_low < Fraction(1, 3) < third_high
    assert third_high - third_low < Fraction(1, 2**198)
    with pytest.raises(ValueError, match="square"):
        exact.sqrt(exact.constant(np.array(2.0)))
    with pytest.raises(ValueError, match="real numbers"):
        balls.constant(np.array([INF]))


def test_rational_arithmetic_rounds_nothing() -> None:
    arithmetic = RationalArithmetic()
    third = arithmetic.divide(arithmetic.constant(np.array(1)), arithmetic.constant(np.array(3)))
    three = arithmetic.constant(np.array(3.0))
    (one,) = arithmetic.multiply_add(third, three, arithmetic.constant(np.array(0)))
    assert one == 1
    (root,) = arithmetic.sqrt(arithmetic.multiply(third, third))
    assert enclosure(root) == (Fraction(1, 3), Fraction(1, 3))
    (largest,) = arithmetic.maximum(third, arithmetic.subtract(third, three))
    assert largest == third[0]
    with pytest.raises(ZeroDivisionError):
        arithmetic.divide(third, arithmetic.constant(np.array(0)))
