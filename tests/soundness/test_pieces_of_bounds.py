"""Parts that bounds are put together from, each held to exact arithmetic or to every small case.

Inside a whole bound other parts cover for them, or no ordinary network comes where they matter.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from given_radii import off_by
from operator_checks import (
    Described,
    Example,
    check_bounds,
    exact_values,
    example,
    graph_of,
    points,
)

from encoders.contract.presets import SEQUENTIAL
from encoders.families.smooth import _known
from encoders.lemmas.exponentials import LOG_MOVES
from encoders.lemmas.kernel import apply
from encoders.lemmas.lemma import Lemma
from encoders.lemmas.terms import bound, number, parameters, value, within
from encoders.numbers.enclosure import Interval
from encoders.numbers.formats import round_array, small_format, truncated_operands
from encoders.operator import site_of
from encoders.registry import lookup
from encoders.relaxations.elementwise import Secant
from encoders.rounding.operand_truncation import _loss
from encoders.rounding.rounding_bounds import Rounder

TINY = small_format(4, 3)
ROUNDER = Rounder(TINY, exact=False, flush_results=False, flush_operands=False)


def test_a_quotient_by_what_is_left_of_one_is_rounded_up() -> None:
    rng = np.random.default_rng(0)
    b = rng.random(300) * 0.6
    for found, y in zip(apply(LOG_MOVES, W=off_by(b)).bound, b, strict=True):
        if found < np.inf:
            assert Fraction(float(found)) * (1 - Fraction(float(y))) >= Fraction(float(y))
        else:
            assert y > 0.5


@pytest.mark.parametrize("error", [1.0, 0.5, 0.0])
def test_an_unbounded_slope_leaves_nothing_known(error: float) -> None:
    steep = Secant(np.array([np.inf]), np.array([0.0]))
    found = _known(steep, np.array([error]))
    assert found.slope[0] == 0.0
    assert found.remainder[0] == (np.inf if error else 0.0)


def test_a_factor_cut_off_loses_no_more_than_is_charged() -> None:
    """Every number of a longer format, at the end of its range, those that become 0 among them."""
    longer = small_format(4, 7)
    every = np.concatenate([k * 2.0 ** np.arange(-13, 1) for k in range(1, 64)])
    x = round_array(np.concatenate([every, -every]), longer)
    points = Interval(x, x)
    for truncated in (True, False):
        lost = np.abs(truncated_operands(x, TINY, truncated) - x)
        assert np.all(lost <= _loss(ROUNDER, points, truncated).bound)


def test_a_wrong_lemma_gives_no_negative_radius() -> None:
    e, size, x = bound("e"), number("size"), value("x")
    wrong = Lemma("wrong", "", "", (), (within(x, size),), error=x, radius=e - size)
    made = apply(wrong, e=off_by(np.array([1.0, 3.0])), size=2.0)
    assert made.bound[0] == np.inf
    assert made.bound[1] == 1.0 or made.bound[1] == np.inf
    assert made.record.flawed
    assert made.largest == np.inf
    assert off_by(np.array([1.0, 3.0, 2.0])).largest == 3.0
    assert parameters(wrong.radius, wrong.error) == (e, size, x)


def test_of_a_product_with_an_unbounded_factor_nothing_is_known() -> None:
    graph, _ = graph_of(example("MatMul", "x w", {"x": (2, 3), "w": (3, 2)}))
    (node,) = graph.order
    ones = np.ones((2, 3))
    ranges = [Interval(-ones, ones), Interval(-ones.T, np.inf * ones.T)]
    found = lookup(node).values(site_of(graph, node), ranges)
    assert np.all(found.range.hi == np.inf)
    assert np.all(found.backward(np.ones((1, 2, 2))).constant == np.inf)


@pytest.mark.parametrize("width", [6, 300])
def test_a_row_that_is_longer_than_the_largest_number_overflows(width: int) -> None:
    """A mean divides by the length of the row, of which a format may have no number."""
    short = replace(SEQUENTIAL, compute_format=small_format(4, 9))
    case = example("LayerNormalization", "x s", (1, width), constants={"s": np.ones(width)},
                   opset=17)  # fmt: skip
    graph, _ = graph_of(case, np.float64)
    (node,) = graph.order
    site, operator = site_of(graph, node), lookup(node)
    at = round_array(np.random.default_rng(1).normal(0, 0.1, (1, width)), small_format(4, 9))
    at[0, 0] = 0.5
    x = Interval(at, at)
    result = operator.values(site, [x]).range
    held = operator.rounding(site, [x], result, short)
    assert all(c.holds for c in held.preconditions) == (width == 6)


def test_zero_points_of_a_stored_left_factor_are_those_of_its_rows() -> None:
    """onnxruntime has one for the whole factor only; ONNX has one for each row."""
    rng = np.random.default_rng(2)
    left, zeros = rng.integers(0, 256, (3, 3)).astype(np.uint8), np.array([200, 3, 128], np.uint8)
    nodes: tuple[Described, ...] = (
        ("QuantizeLinear", "x s z", "q", {}),
        ("MatMulInteger", "A q a z", "i", {}),
        ("Cast", "i", "y", {"to": 1}),
    )
    constants = {"s": 0.02, "z": np.array(100, np.uint8), "A": left, "a": zeros}
    case = Example("by rows", nodes, {"x": (3, 2)}, constants)
    graph, _ = graph_of(case)
    inputs = points(case, graph, 3)
    for found in exact_values(case, graph, inputs):
        read = found["q"] - 100
        expected = (left.astype(object) - zeros.astype(object)[:, None]) @ read
        assert np.array_equal(found["y"], expected)


def test_a_stored_number_is_cast_as_the_runtime_casts_it() -> None:
    """Flushed on its way too, if it is subnormal in the shorter type."""
    nodes: tuple[Described, ...] = (
        ("Cast", "k", "h", {"to": 10}),
        ("Cast", "h", "c", {"to": 1}),
        ("Add", "x c", "y", {}),
    )
    stored = np.array([1e-6, 3.3e-6, 0.3], np.float32)
    assert check_bounds(Example("cast", nodes, {"x": (3,)}, {"k": stored}), count=4) > 0.5
