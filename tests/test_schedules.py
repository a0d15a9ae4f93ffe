"""`sum_of_products` against schedules written down a second time, in exact rationals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.arithmetic.exact_fields import RationalArithmetic
from encoders.arithmetic.numpy_arithmetic import NumpyArithmetic
from encoders.arithmetic.runtime import sum_of_products
from encoders.contract.contract import (
    BiasPlacement,
    Blocked,
    Contraction,
    Order,
    Pairwise,
    RuntimeContract,
    Sequential,
)
from encoders.contract.orders import (
    Blocks,
    Dwindling,
    Lanes,
    Strided,
    Tree,
    checked_tree,
    merges_of,
    named_order,
    same_tree,
)
from encoders.contract.presets import IEEE_ANY, PRESETS, SEQUENTIAL
from encoders.numbers.formats import BINARY16, BINARY32, FloatFormat, round_fraction, small_format
from onnx_import.errors import ModelError

Terms = Sequence[tuple[Fraction, Fraction]]
ORDERS = (
    Sequential(),
    Pairwise(),
    Blocked(1),
    Blocked(3),
    Blocked(4),
    Blocked(256),
    Blocks((2, 3)),
    Lanes(4),
    Dwindling(4),
    Strided(4),
)
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

    def in_four_lanes() -> Fraction:
        rest = len(terms) - len(terms) % 4
        if not rest:
            return accumulate(None, terms)
        lane = [accumulate(None, [terms[k] for k in range(i, rest, 4)]) for i in range(4)]
        total = rnd(rnd(lane[0] + lane[2]) + rnd(lane[1] + lane[3]))
        return accumulate(total, terms[rest:])

    def in_four_strides() -> Fraction:
        lane = [accumulate(None, terms[i::4]) for i in range(min(4, len(terms)))]
        low = rnd(lane[0] + lane[1]) if len(lane) > 1 else lane[0]
        high = rnd(lane[2] + lane[3]) if len(lane) > 3 else lane[-1]
        return rnd(low + high) if len(lane) > 2 else low

    first, last, after = (
        bias if contract.bias is placement else None
        for placement in (
            BiasPlacement.FIRST,
            BiasPlacement.LAST,
            BiasPlacement.AFTER_FIRST_BLOCK,
        )
    )
    order = contract.order
    if isinstance(order, Pairwise | Lanes | Strided):
        ways = {Pairwise: lambda: halves(terms), Lanes: in_four_lanes, Strided: in_four_strides}
        total = ways[type(order)]()
        return total if bias is None else rnd(total + bias)
    ends = list(range(0, len(terms), order.size if isinstance(order, Blocked) else len(terms)))
    if isinstance(order, Blocks):
        ends = [0, *(e for e in (2, 5) if e < len(terms))]
    if isinstance(order, Dwindling):
        whole = len(terms) // 4 * 4
        ends = [*range(0, whole, 4), *([whole] if len(terms) % 4 else [])]
        ends += [whole + 2] if len(terms) % 4 == 3 else []
    ends.append(len(terms))
    total = accumulate(first, terms[: ends[1]])
    if after is not None:
        total = rnd(total + after)
    for start, end in pairwise(ends[1:]):
        total = rnd(total + accumulate(None, terms[start:end]))
    return total if last is None else rnd(total + last)


def sampled(data: st.DataObject, fmt: FloatFormat, count: int) -> list[Fraction]:
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
    a, b = sampled(data, fmt, length), sampled(data, fmt, length)
    (added,) = sampled(data, fmt, 1)
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


TREES = {
    "right to left": ((3, 4), (5, 2), (6, 1), (7, 0)),
    "two pairs and one": ((0, 1), (3, 2), (5, 6), (7, 4)),
    "as in a vector loop": ((0, 2), (1, 3), (5, 6), (4, 7)),
}


@pytest.mark.parametrize("merges", TREES.values(), ids=TREES)
@pytest.mark.parametrize("contraction", [Contraction.NEVER, Contraction.ALWAYS], ids=str)
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_trees(
    merges: tuple[tuple[int, int], ...], contraction: Contraction, data: st.DataObject
) -> None:
    """A term that meets a partial sum joins it, by FMA if products are contracted."""
    fmt = small_format(5, 4)
    a, b = sampled(data, fmt, 5), sampled(data, fmt, 5)

    def rnd(value: Fraction) -> Fraction:
        result = round_fraction(value, fmt)
        assert isinstance(result, Fraction)
        return result

    sums: dict[int, Fraction] = {}
    for k, (left, right) in enumerate(merges):
        terms = [i for i in (left, right) if i < 5]
        joined = [sums[i] for i in (left, right) if i >= 5]
        if len(terms) == 2:
            joined = [rnd(a[terms[0]] * b[terms[0]])]
        if terms:
            product = a[terms[-1]] * b[terms[-1]]
            exact = product if contraction is Contraction.ALWAYS else rnd(product)
            joined.append(exact)
        sums[5 + k] = rnd(joined[0] + joined[1])
    contract = RuntimeContract("test", Tree(merges), contraction)
    arithmetic = NumpyArithmetic(fmt, contract)
    pairs = [
        (np.array([float(x)], arithmetic.carrier), np.array([float(y)], arithmetic.carrier))
        for x, y in zip(a, b, strict=True)
    ]
    assert Fraction(float(sum_of_products(arithmetic, contract, pairs)[0])) == sums[8]


@pytest.mark.parametrize("order", [*ORDERS[:2], *ORDERS[3:], Lanes(8)], ids=str)
@pytest.mark.parametrize("terms", [1, 2, 7, 16, 40])
def test_an_order_is_recognised_by_its_tree(order: Order, terms: int) -> None:
    merges = merges_of(order, terms)
    named = named_order(merges)
    assert not isinstance(named, Tree)
    assert same_tree(merges_of(named, terms), merges)
    swapped = tuple((b, a) for a, b in merges)
    assert same_tree(swapped, merges)
    if terms > 3:
        assert not same_tree(merges_of(Tree(tuple(reversed_chain(terms))), terms), merges)


def reversed_chain(terms: int) -> list[tuple[int, int]]:
    """Terms added from last to first: the tree of no order above."""
    return [(terms - 1, terms - 2), *((terms + k, terms - 3 - k) for k in range(terms - 2))]


def test_only_trees_are_trees() -> None:
    for merges in (((0, 0),), ((0, 1), (0, 2)), ((0, 4), (1, 2)), ((0, 1), (1, 2))):
        with pytest.raises(ValueError, match="exactly once"):
            checked_tree(merges)
    with pytest.raises(ModelError, match="cannot add 3"):
        merges_of(Tree(((0, 1),)), 3)


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
    assert "18 rules" in PRESETS["ort-cpu"].describe()
    assert not PRESETS["ort-cpu"].pinned
    assert all(rule.schedule.pinned for rule in PRESETS["ort-cpu"].rules)
