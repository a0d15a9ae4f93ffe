"""Parts that bounds are put together from, each held to exact arithmetic or to every small case.

Inside a whole bound other parts cover for them, or no ordinary network comes where they matter.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import pytest
from given_radii import off_by
from operator_checks import (
    Described,
    Example,
    box_of,
    check_bounds,
    exact_values,
    example,
    graph_of,
    points,
)

from encoders.arithmetic.numpy_arithmetic import NumpyArithmetic
from encoders.contract.presets import IEEE_ANY, SEQUENTIAL
from encoders.curves import curves
from encoders.families.rows.normalization import scaled_differences
from encoders.functions.accuracy import Transcendental
from encoders.functions.curve import Piece
from encoders.functions.tanh import TANH
from encoders.lemmas.combining import EXACT
from encoders.lemmas.exponentials import LOG_MOVES
from encoders.lemmas.kernel import apply, exactly_zero
from encoders.lemmas.lemma import Lemma
from encoders.lemmas.ranges.placing import range_of
from encoders.lemmas.reading.exact import Exact
from encoders.lemmas.reading.outward import over_up
from encoders.lemmas.terms import bound, number, parameters, value, within
from encoders.numbers.enclosure import Interval
from encoders.numbers.formats import (
    is_representable,
    next_down,
    next_up,
    round_array,
    small_format,
    truncated_operands,
)
from encoders.operator import DifferenceMap, Moved, Operator, Site, site_of
from encoders.ops.products.matmul import _extent
from encoders.registry import lookup
from encoders.relaxations.elementwise import secant_of_slopes
from encoders.relaxations.form_fields import Forms
from encoders.relaxations.narrowing import product_constants
from encoders.relaxations.piecewise import _offsets, clamp
from encoders.rounding.any_order import any_order_sum
from encoders.rounding.operand_truncation import _loss
from encoders.rounding.rounding_bounds import Rounder
from gpu_check.emulator.emulator import emulate
from refine.bounds.network import network_bounds

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
    for steep in (np.array([np.inf]), np.array([np.nan])):
        found = secant_of_slopes(range_of(Interval(np.zeros(1), steep)), off_by(np.array([error])))
        assert found.slope[0] == 0.0
        assert found.remainder.bound[0] == (np.inf if error else 0.0)


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
    short = replace(SEQUENTIAL, compute_format=small_format(4, 20))
    case = example("LayerNormalization", "x s", (1, width), constants={"s": np.ones(width)},
                   opset=17)  # fmt: skip
    graph, _ = graph_of(case, np.float64)
    (node,) = graph.order
    site, operator = site_of(graph, node), lookup(node)
    at = round_array(np.random.default_rng(1).normal(0, 0.1, (1, width)), small_format(4, 20))
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


# --- in exact rationals ---------------------------------------------------------------------------


def test_scaled_differences_pay_for_their_product() -> None:
    rng = np.random.default_rng(4)
    e, scale, c = (rng.uniform(0.5, 1.0, n) for n in ((5,), (5,), (3, 5)))
    inner = DifferenceMap(off_by(e), lambda c: Moved((c,), off_by(np.zeros(len(c)))))
    pulled = scaled_differences(inner, scale).backward(c)
    for k, row in enumerate(c):
        (carried,) = pulled.coefficients
        assert carried is not None
        lost = sum(
            abs(Fraction(x) * Fraction(s) - Fraction(y)) * Fraction(d)
            for x, s, y, d in zip(*(v.tolist() for v in (row, scale, carried[k], e)), strict=True)
        )
        assert 0 < lost <= Fraction(float(pulled.constant[k]))


@pytest.mark.parametrize("low", [-0.3, 0.0])
def test_a_clip_lies_between_its_lines_to_the_last_bit(low: float) -> None:
    rng = np.random.default_rng(5)
    middle, slope = rng.normal(0, 1, 400), rng.uniform(-2, 2, 400)
    x = Interval(middle, middle + rng.exponential(0.5, 400))
    least, most = _offsets(clamp(low, 0.7), slope, x)
    for ends in (x.lo, x.hi):
        for p, s, below, above in zip(
            *(v.tolist() for v in (ends, slope, least, most)), strict=True
        ):
            exact = Fraction(min(max(p, low), 0.7)) - Fraction(s) * Fraction(p)
            assert Fraction(below) <= exact <= Fraction(above)


def test_where_a_line_touches_is_only_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any place will do: the distance is made up for."""
    rng = np.random.default_rng(6)

    def anywhere(piece: Piece, part: Interval, slope: Any, ascending: bool) -> Any:
        return part.lo + (part.hi - part.lo) * rng.random(part.lo.shape)

    monkeypatch.setattr(curves, "_tangency", anywhere)
    lo = rng.uniform(-3.0, 2.0, 40)
    x = Interval(lo, lo + rng.exponential(1.0, 40))
    lines = curves.linear_bounds_of(TANH.shape, x, curves.range_of(TANH.shape, x))
    for t in np.linspace(0.0, 1.0, 9):
        at = x.lo + t * (x.hi - x.lo)
        assert np.all(lines.low_slope * at + lines.low <= np.tanh(at) + 1e-12)
        assert np.all(np.tanh(at) <= lines.high_slope * at + lines.high + 1e-12)


# --- what is said of nodes ------------------------------------------------------------------------


def site_and_operator(case: Example, dtype: Any = np.float32) -> tuple[Site, Operator]:
    graph, _ = graph_of(case, dtype)
    (node,) = graph.order
    return site_of(graph, node), lookup(node)


def test_the_facts_of_a_row_are_those_of_its_node() -> None:
    constants = {"w": np.array([[0.5, 3.0], [2.0, 0.0]]), "b": np.array([0.75, -3.0])}
    site, operator = site_and_operator(example("Gemm", "x w b", (1, 2), constants=constants))
    x = Interval(np.array([[-1.0, 0.0]]), np.array([[1.0, 2.0]]))
    bound_ = operator.rounding(site, [x], operator.values(site, [x]).range, IEEE_ANY)
    assert bound_.row is not None
    facts = bound_.row(1)
    assert facts.weights == (Fraction(3),)
    assert facts.bias_low == facts.bias_high == -3
    assert bound_.row(0).weights == (Fraction(1, 2), Fraction(2))


def test_a_product_by_a_stored_left_factor_is_not_narrowed() -> None:
    constants = {"w": np.ones((2, 3))}
    columns = np.array([0])
    left, _ = site_and_operator(example("MatMul", "w x", (3, 2), constants=constants))
    assert product_constants(left, columns, columns) is None
    right, _ = site_and_operator(example("MatMul", "x w", (4, 2), constants=constants))
    assert product_constants(right, columns, columns) is not None


@pytest.mark.parametrize(("shape", "columns"), [((3, 5), 5), ((3,), 1)])
def test_the_columns_of_a_product_are_counted(shape: tuple[int, ...], columns: int) -> None:
    site, _ = site_and_operator(example("MatMul", "x w", (2, 3), constants={"w": np.ones(shape)}))
    assert _extent(site).columns == columns


@pytest.mark.parametrize(("largest", "fits"), [(2.0, True), (20.0, False)])
def test_squares_that_overflow_are_not_bounded(largest: float, fits: bool) -> None:
    """2^8 is no number of the format, though the norm is."""
    short = replace(SEQUENTIAL, compute_format=TINY)
    case = example("ReduceL2", "x", (1, 2), axes=[1])
    site, operator = site_and_operator(case, np.float64)
    at = np.array([[largest, 1.0]])
    x = Interval(at, at)
    found = operator.rounding(site, [x], operator.values(site, [x]).range, short)
    assert all(c.holds for c in found.preconditions) == fits


def test_a_step_has_no_first_order_form() -> None:
    for step in (Forms(1).floor, Forms(1).nearest):
        with pytest.raises(Transcendental):
            step(np.zeros(1, dtype=object))


def test_a_node_of_an_induction_adds_no_more_than_its_step() -> None:
    e, x = bound("e"), value("x")
    lemma = Lemma("step", "", "", (), (within(x, e),), error=x, radius=e, step=e)
    assert all(Exact({"e": Fraction(1), "x": Fraction(1)}).holds(c) for c in lemma.conclusions)


def test_a_factor_below_the_normal_range_is_aligned_as_if_it_were_not() -> None:
    """Its whole product is cut off, though it is larger than the unit of so small a sum."""
    fmt = small_format(5, 8)
    r = Rounder(fmt, exact=False, flush_results=False, flush_operands=False, alignment=4)
    x, y = np.full((1, 1), 1.9 * 2.0 ** (fmt.emin - 6)), np.ones((1, 1))
    x = round_array(x, fmt)
    computed = NumpyArithmetic(fmt, SEQUENTIAL).step([(x, y)], None, 4, None)
    found = any_order_sum(
        r,
        x[0],
        additions=np.zeros(1),
        products=exactly_zero(EXACT, (1,)),
        steps=1.0,
        clamped=r.clamped(x, y),
        total=x[0],
    )
    assert computed[0, 0] == 0.0
    assert np.all(np.abs(computed - x)[0] <= found.bound)


def test_the_next_number_below_is_the_next() -> None:
    every = sorted({m * 2.0**k for k in range(-8, 6) for m in range(-7, 8)})
    numbers = [v for v in every if is_representable(v, TINY)]
    for below, v in pairwise(numbers):
        assert next_down(v, TINY) == below
        assert next_up(below, TINY) == v
        between = 0.75 * below + 0.25 * v
        assert (next_down(between, TINY), next_up(between, TINY)) == (below, v)


def test_a_quotient_by_what_may_be_zero_is_not_bounded() -> None:
    low = np.array([-1.0, 0.0])
    assert np.all(np.isnan(over_up(np.ones(2), low, np.ones(2))))
    assert np.isnan(over_up(1.0, 0.0, 1.0))
    assert over_up(1.0, 0.5, 1.0) >= 2.0


@pytest.mark.parametrize(
    ("op", "opset", "constants"),
    [
        ("Elu", 13, {}),
        ("Selu", 13, {}),
        ("Celu", 13, {}),
        ("LeakyRelu", 13, {}),
        ("HardSigmoid", 13, {}),
        ("ThresholdedRelu", 13, {}),
        ("Swish", 24, {}),
        ("Gemm", 13, {"w": np.array([[0.3, 1.0], [2.0, 0.7]]), "b": np.array([0.1, 0.2])}),
        ("LayerNormalization", 17, {"s": np.ones(2)}),
        ("RMSNormalization", 23, {"s": np.ones(2)}),
    ],
)
def test_a_number_that_is_not_stated_is_onnx_s(op: str, opset: int, constants: Any) -> None:
    """Runs, values and errors are those of the same node with its schema's default written out."""
    schema = onnx.defs.get_schema(op, opset)
    stated: dict[str, Any] = {
        name: a.default_value.f
        for name, a in schema.attributes.items()
        if a.default_value.type == onnx.AttributeProto.FLOAT
    }
    assert stated
    x = np.random.default_rng(3).normal(0, 1, (5, 4, 2)).astype(np.float32)
    found = []
    plain: dict[str, Any] = {}
    for attributes in (plain, stated):
        case = example(op, " ".join(("x", *constants)), (4, 2), constants=constants, opset=opset,
                       **attributes)  # fmt: skip
        graph, _ = graph_of(case)
        maps = network_bounds(graph, box_of(case, graph), SEQUENTIAL).maps
        computed = emulate(graph, {"x": x}, SEQUENTIAL)["y"]
        found.append((computed, maps.errors["y"], maps.values["y"].lo, maps.values["y"].hi))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
