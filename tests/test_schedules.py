"""`sum_of_products` against schedules written down a second time, in exact rationals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.arithmetic import sum_of_products
from encoders.contract import (
    IEEE_ANY,
    PRESETS,
    SEQUENTIAL,
    BiasPlacement,
    Blocked,
    Contraction,
    Order,
    Pairwise,
    RuntimeContract,
    Sequential,
)
from encoders.exact_fields import RationalArithmetic
from encoders.formats import BINARY16, BINARY32, FloatFormat, round_fraction, small_format
from encoders.numpy_arithmetic import NumpyArithmetic

Terms = Sequence[tuple[Fraction, Fraction]]
ORDERS = (Sequential(), Pairwise(), Blocked(1), Blocked(3), Blocked(4), Blocked(256))
FORMATS = (BINARY32, BINARY16, small_format(5, 4))

every_schedule = pytest.mark.parametrize(
    ("order", "contraction", "bias"),
    [
        (order, contraction, bias)
        for order in ORDERS
        for contraction in (Contraction.NEVER, Contraction.ALWAYS)
        for bias in (BiasPlacement.FIRST, BiasPlacement.LAST, BiasPlacement.AFTER_FIRST_BLOCK)
    ],
    ids=str,
)


def expected_sum(
    terms: Terms, bias: Fraction | None, contract: RuntimeContract, fmt: FloatFormat
) -> Fraction:
    """The schedule step by step: `steps` is a program for one accumulator."""

    def rnd(value: Fraction) -> Fraction:
        result = round_fraction(value, fmt)
        assert isinstance(result, Fraction), "these tests stay finite"
        return result

    def accumulate(total: Fraction | None, block: Terms) -> Fraction:
        for a, b in block:
            if total is None:
                total = rnd(a * b)
            elif contract.contraction is Contraction.ALWAYS:
                total = rnd(a * b + total)
            else:
                total = rnd(rnd(a * b) + total)
        assert total is not None
        return total

    def halves(block: Terms) -> Fraction:
        if len(block) == 1:
            return accumulate(None, block)
        cut = math.ceil(len(block) / 2)
        left, right = block[:cut], block[cut:]
        if len(right) == 1:
            return accumulate(halves(left), right)
        return rnd(halves(left) + halves(right))

    first, last, after = (
        bias if contract.bias is placement else None
        for placement in (
            BiasPlacement.FIRST,
            BiasPlacement.LAST,
            BiasPlacement.AFTER_FIRST_BLOCK,
        )
    )
    order = contract.order
    if isinstance(order, Pairwise):
        total = halves(terms)
        return total if bias is None else rnd(total + bias)
    size = order.size if isinstance(order, Blocked) else len(terms)
    total = accumulate(first, terms[:size])
    if after is not None:
        total = rnd(total + after)
    for start in range(size, len(terms), size):
        total = rnd(total + accumulate(None, terms[start : start + size]))
    return total if last is None else rnd(total + last)


def drawn(data: st.DataObject, fmt: FloatFormat, count: int) -> list[Fraction]:
    """Numbers of moderate size: every sum of a few products stays finite in the format."""
    scale = Fraction(1, 2 ** (fmt.precision - 1))
    number = st.integers(-(2**fmt.precision) + 1, 2**fmt.precision - 1).map(lambda m: m * scale)
    return data.draw(st.lists(number, min_size=count, max_size=count))


@every_schedule
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_orders(
    order: Order, contraction: Contraction, bias: BiasPlacement, data: st.DataObject
) -> None:
    fmt = data.draw(st.sampled_from(FORMATS))
    contract = RuntimeContract("test", order, contraction, bias)
    length = data.draw(st.integers(1, 11))
    a, b = drawn(data, fmt, length), drawn(data, fmt, length)
    (added,) = drawn(data, fmt, 1)
    arithmetic = NumpyArithmetic(fmt, contract)

    def array(value: Fraction) -> np.ndarray:
        return np.array([float(value)], arithmetic.carrier)

    pairs = [(array(x), array(y)) for x, y in zip(a, b, strict=True)]
    terms = list(zip(a, b, strict=True))
    for start in (None, added):
        given_bias = None if start is None else array(start)
        got = sum_of_products(arithmetic, contract, pairs, given_bias)
        assert Fraction(float(got[0])) == expected_sum(terms, start, contract, fmt)


@every_schedule
def test_every_order_is_the_sum_when_nothing_rounds(
    order: Order, contraction: Contraction, bias: BiasPlacement
) -> None:
    contract = RuntimeContract("test", order, contraction, bias, exact=True)
    arithmetic = RationalArithmetic()
    rng = np.random.default_rng(0)
    a, b, c = rng.standard_normal((3, 7))
    pairs = [(arithmetic.constant(x), arithmetic.constant(y)) for x, y in zip(a, b, strict=True)]
    (total,) = sum_of_products(arithmetic, contract, pairs, arithmetic.constant(c[0]))
    exact = sum((Fraction(x) * Fraction(y) for x, y in zip(a, b, strict=True)), Fraction(c[0]))
    assert Fraction(int(total.p), int(total.q)) == exact


def test_schedules_differ_where_they_should() -> None:
    """One sum that tells the orders apart, so that the tests above are not vacuous."""
    rng = np.random.default_rng(5)
    a, b = rng.standard_normal((2, 9)).astype(np.float32)
    c = np.array([0.3], np.float32)
    seen: dict[float, set[str]] = {}
    for order in (Sequential(), Pairwise(), Blocked(3)):
        for contraction in (Contraction.NEVER, Contraction.ALWAYS):
            for bias in (BiasPlacement.FIRST, BiasPlacement.LAST):
                contract = RuntimeContract("test", order, contraction, bias)
                arithmetic = NumpyArithmetic(BINARY32, contract)
                pairs = [(x.reshape(1), y.reshape(1)) for x, y in zip(a, b, strict=True)]
                total = sum_of_products(arithmetic, contract, pairs, c)
                seen.setdefault(float(total[0]), set()).add(str(order))
    assert len(seen) > 2


@pytest.mark.parametrize(
    "contract",
    [IEEE_ANY, replace(SEQUENTIAL, bias=BiasPlacement.ANY)],
    ids=lambda c: c.name,
)
def test_open_orders_are_refused(contract: RuntimeContract) -> None:
    one = np.ones(1, np.float32)
    arithmetic = NumpyArithmetic(BINARY32, SEQUENTIAL)
    with pytest.raises(ValueError, match="does not pin"):
        sum_of_products(arithmetic, contract, [(one, one)], one)
    with pytest.raises(ValueError, match="no products"):
        sum_of_products(arithmetic, contract, [])


def test_presets_describe_themselves() -> None:
    describe: Callable[[RuntimeContract], str] = RuntimeContract.describe
    assert len({describe(c) for c in PRESETS.values()}) == len(PRESETS)
    assert "blocks of 256" in PRESETS["ort-cpu"].describe()
    assert PRESETS["ort-cpu"].pinned
