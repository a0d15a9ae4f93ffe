"""Elementary functions: shapes, ranges, bounds, slopes, correct rounding, accuracy claims."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import flint
import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from operator_checks import Example, exact_values, example, graph_of, points

from encoders.arithmetic.approximate_field import approximate_function
from encoders.arithmetic.exact_fields import Balls, Rationals, enclosure
from encoders.arithmetic.rounded_functions import rounded_function
from encoders.contract.functions import CONSERVATIVE, CORRECTLY_ROUNDED, ORT_FUNCTIONS, Functions
from encoders.contract.members import members
from encoders.contract.presets import IEEE_ANY, ORT_CPU, PRESETS
from encoders.curves.curves import linear_bounds_of, range_of, slopes_of
from encoders.curves.gated_curves import GELU, GELU_TANH, MISH, swish_curve
from encoders.functions.accuracy import Evidence, FunctionAccuracy, Transcendental
from encoders.functions.asin import ACOS, ASIN
from encoders.functions.atan import ATAN
from encoders.functions.curve import Curve, Piece, Shape
from encoders.functions.erf import ERF
from encoders.functions.exp import EXP
from encoders.functions.function import Function
from encoders.functions.hyperbolic import ACOSH, ASINH, ATANH, COSH, SINH
from encoders.functions.log import LOG
from encoders.functions.registry import every_function, function_named
from encoders.functions.sigmoid import SIGMOID
from encoders.functions.softplus import SOFTPLUS
from encoders.functions.tan import TAN
from encoders.functions.tanh import TANH
from encoders.functions.waves import COS, SIN
from encoders.numbers.enclosure import Interval
from encoders.numbers.formats import (
    BFLOAT16,
    BINARY16,
    BINARY32,
    BINARY64,
    FloatFormat,
    round_fraction,
)
from encoders.ops.activations.elu import SELU_ALPHA, SELU_GAMMA, _exponential_curve
from encoders.ops.activations.hard_sigmoid import HARD_SWISH, clipped_line
from encoders.ops.activations.softsign import CURVE as SOFTSIGN
from encoders.rounding.rounding_bounds import Rounder
from encoders.rounding.tracked_functions import function_error
from refine.claims.assumptions import assumptions_of
from refine.domain.box import Box
from refine.domain.domain import DomainOptions, read_domain

OF_ONE_VARIABLE = [f for f in every_function().values() if f.curve is not None]
CURVES: dict[str, Curve] = {
    **{f.name: f.shape for f in OF_ONE_VARIABLE},
    "gelu": GELU,
    "gelu-tanh": GELU_TANH,
    "mish": MISH,
    "swish": swish_curve(1.0),
    "swish-1.7": swish_curve(1.7),
    "softsign": SOFTSIGN,
    "elu": _exponential_curve(0.7, 1.0, 1.0),
    "elu-negative": _exponential_curve(-1.5, 1.0, 1.0),
    "selu": _exponential_curve(SELU_GAMMA * SELU_ALPHA, 1.0, SELU_GAMMA),
    "celu": _exponential_curve(0.3, 0.3, 1.0),
    "hard-sigmoid": clipped_line(Fraction(np.float32(0.2).item()), Fraction(1, 2)),
    "hard-swish": HARD_SWISH,
}
every_curve = pytest.mark.parametrize("name", CURVES)
each_function = pytest.mark.parametrize("f", OF_ONE_VARIABLE, ids=lambda f: f.name)


class Series:
    """A field of power series around a ball: Taylor coefficients enclose derivatives on it."""

    def number(self, value: Fraction) -> flint.arb:
        return flint.arb(flint.fmpq(value.numerator, value.denominator))

    def constant(self, values: Any) -> Any:
        return np.array([flint.arb(float(values))], dtype=object)

    def pi(self) -> flint.arb:
        return flint.arb.pi()

    def maximum(self, a: Any, b: Any) -> Any:
        raise NotImplementedError

    def sqrt(self, a: Any) -> Any:
        return np.array([v.sqrt() for v in np.ravel(a)], dtype=object)

    def function(self, f: Function, x: flint.arb_series) -> flint.arb_series:
        one = flint.arb_series([1], prec=4)
        down = -x if x[0].mid() > 0 else x  # −|x|, so that its powers stay small
        match f.name:
            case "tanh":
                power = (2 * down).exp()
                return (one - power) / (one + power) * (1 if x[0].mid() > 0 else -1)
            case "sigmoid":
                power = down.exp()
                return (one if x[0].mid() > 0 else power) / (one + power)
            case "softplus":
                rest = (one + down.exp()).log()
                return x + rest if x[0].mid() > 0 else rest
            case "sinh":
                return (x.exp() - (-x).exp()) / 2
            case "cosh":
                return (x.exp() + (-x).exp()) / 2
            case "asinh":
                rise = (-down + (1 + x * x).sqrt()).log()
                return rise if x[0].mid() > 0 else -rise
            case "acosh":
                return (x + ((x - 1) * (x + 1)).sqrt()).log()
            case "atanh":
                return ((1 + x) / (1 - x)).log() / 2
        if hasattr(x, f.name):
            found: flint.arb_series = getattr(x, f.name)()
            return found
        assert f.series is not None
        return f.series(x)


def derivatives(piece: Piece, lo: float, hi: float) -> list[flint.arb]:
    """Enclosures of f, f', f'' and f''' over [lo, hi]."""
    at = flint.arb_series([flint.arb(lo).union(flint.arb(hi)), 1], prec=4)
    value = piece.value(Series(), at)
    if not isinstance(value, flint.arb_series):
        value = flint.arb_series([value], prec=4)
    return [value[k] * math.factorial(k) for k in range(4)]


def curvature(piece: Piece, lo: float, hi: float) -> set[int]:
    """Signs of f'' over [lo, hi] by bisection; 0 where the second derivative is exactly 0."""
    if hi - lo <= 0.125:
        second = derivatives(piece, lo, hi)[2]
        if second.is_zero() or second > 0 or second < 0:
            return {0 if second.is_zero() else 1 if second > 0 else -1}
    assert hi - lo > 1e-6, f"the sign of f'' on [{lo}, {hi}] stays open"
    middle = 0.5 * (lo + hi)
    return curvature(piece, lo, middle) | curvature(piece, middle, hi)


def past_bend(piece: Piece, end: float, inward: float) -> float:
    """Where bisection may start: `inward`, once f'' is shown to leave 0 at `end` the right way."""
    want = 1 if piece.shape is Shape.CONVEX else -1
    second = derivatives(piece, end, end)[2]
    third = derivatives(piece, min(end, inward), max(end, inward))[3]
    if third.is_zero() or not flint.arb(0, 1e-9).overlaps(second):
        return end
    assert second.contains(0) or (second > 0) == (want > 0)
    assert (third > 0) if (want > 0) == (inward > end) else (third < 0)
    return inward


def steep(piece: Piece, end: float) -> bool:
    """Is it vertical there, or nearly?"""
    return not derivatives(piece, end, end)[1].abs_upper() < 1e4


@every_curve
def test_pieces_have_the_shapes_they_state(name: str) -> None:
    """Signs of f'' on [−30, 30], or where the curve is known."""
    near = 2.0**-7
    with flint.ctx.workprec(160):
        for piece in CURVES[name].pieces:
            if piece.shape is Shape.UNKNOWN:
                assert piece.end - piece.start < 1e-12
                continue
            lo, hi = max(piece.start, -30.0), min(piece.end, 30.0)
            lo, hi = lo + near * steep(piece, lo), hi - near * steep(piece, hi)
            if lo >= hi:
                continue
            want = 1 if piece.shape is Shape.CONVEX else -1
            first = past_bend(piece, lo, lo + near) if lo == piece.start else lo
            last = past_bend(piece, hi, hi - near) if hi == piece.end else hi
            assert curvature(piece, first, last) <= {0, want}, (name, piece.start, piece.end)


@every_curve
def test_slopes_are_derivatives(name: str) -> None:
    balls = Balls(160)
    rng = np.random.default_rng(0)
    with balls.working():
        for piece in CURVES[name].pieces:
            if piece.shape is Shape.UNKNOWN:
                continue
            lo, hi = max(piece.start, -70.0), min(piece.end, 70.0)
            for x in rng.uniform(lo, hi, 8):
                at = np.array([flint.arb(float(x))], dtype=object)
                value = np.broadcast_to(piece.value(balls, at), (1,))[0]
                slope = np.broadcast_to(piece.slope(balls, at), (1,))[0]
                first = derivatives(piece, float(x), float(x))
                assert flint.arb(value).overlaps(first[0]), (name, x)
                assert flint.arb(slope).overlaps(first[1]), (name, x)


def fraction(value: float) -> Any:
    """Exactly; infinite where nothing is known."""
    return Fraction(float(value)) if math.isfinite(value) else float(value)


def exactly(curve: Curve, x: float) -> tuple[Fraction, Fraction]:
    """f(x) as an enclosure."""
    balls = Balls(200)
    (piece, *_) = (p for p in curve.pieces if p.start <= x <= p.end)
    with balls.working():
        at = np.array([flint.arb(x)], dtype=object)
        value = np.broadcast_to(piece.value(balls, at), (1,))[0]
        return enclosure(flint.arb(value))


@every_curve
@settings(max_examples=60, deadline=None)
@given(
    st.floats(-1.0, 1.0).map(lambda t: math.copysign(t * t * 60.0, t)),
    st.sampled_from([0.0, 1e-9, 1e-3, 0.5, 4.0, 25.0]),
    st.lists(st.floats(0.0, 1.0), min_size=4, max_size=4),
)
def test_enclosures_against_balls(name: str, lo: float, width: float, where: list[float]) -> None:
    """Range, linear bounds and difference quotients at points of a range, exactly."""
    curve = CURVES[name]
    lo = abs(lo) + 2.0**-40 if name == "log" else lo
    lo = min(max(lo, curve.start), curve.end)
    hi = min(lo + width, curve.end)
    x = Interval(np.array([lo]), np.array([hi]))
    range_ = range_of(curve, x)
    bounds, slopes = linear_bounds_of(curve, x, range_), slopes_of(curve, x)
    ends = [fraction(v[0]) for v in (bounds.low_slope, bounds.low, bounds.high_slope, bounds.high)]
    places = sorted({lo, hi, *(min(max(lo + t * (hi - lo), lo), hi) for t in where)})
    known = [(Fraction(p), *exactly(curve, p)) for p in places]
    for p, below, above in known:
        assert fraction(range_.lo[0]) <= above
        assert below <= fraction(range_.hi[0])
        assert ends[0] * p + ends[1] <= above
        assert below <= ends[2] * p + ends[3]
    for (p, p_low, p_high), (q, q_low, q_high) in pairwise(known):
        assert fraction(slopes[0][0]) * (q - p) <= q_high - p_low
        assert q_low - p_high <= fraction(slopes[1][0]) * (q - p)


@every_curve
def test_unbounded_arguments_leave_what_is_known_of_the_whole_line(name: str) -> None:
    curve = CURVES[name]
    x = Interval(np.array([-np.inf, 1.0]), np.array([np.inf, np.inf]))
    range_ = range_of(curve, x)
    low, high = slopes_of(curve, x)
    for p in (-25.0, -1.0, 0.5, 3.0, 25.0):
        if curve.start <= p <= curve.end:
            value = float(exactly(curve, p)[0])
            assert range_.lo[0] - 1e-9 <= value <= range_.hi[0] + 1e-9
    assert np.all(low <= high)
    bounds = linear_bounds_of(curve, x, range_)
    assert np.all(bounds.low_slope == 0)
    assert np.all(bounds.high_slope == 0)


@each_function
@pytest.mark.parametrize("fmt", [BINARY16, BFLOAT16, BINARY32, BINARY64], ids=lambda f: f.name)
def test_rounded_functions_are_rounded_correctly(f: Function, fmt: FloatFormat) -> None:
    rng = np.random.default_rng(3)
    x = np.concatenate([rng.normal(size=60) * 4, np.exp(rng.uniform(-40, 6, 60)), [1.0, 0.5, 2.0]])
    x = np.array([float(round_fraction(Fraction(v), fmt)) for v in x.tolist()])
    x = np.abs(x) + float(fmt.smallest_normal) if f is LOG else x
    x = np.array([float(round_fraction(Fraction(v), fmt)) for v in x.tolist()])
    x = x if f.domain is None else x[(x >= f.domain[0]) & (x <= f.domain[1])]
    got = rounded_function(f, x, fmt)
    for at, value in zip(x.tolist(), got.tolist(), strict=True):
        if math.isinf(at):
            continue
        with flint.ctx.workprec(400):
            ball = f.on_balls(flint.arb(at))
            if ball.abs_upper() > flint.arb(2) ** 1100:
                assert math.isinf(value)
                continue
            low, high = enclosure(ball)
        assert float(round_fraction(low, fmt)) == value == float(round_fraction(high, fmt)), at


@each_function
def test_every_float16_is_rounded_correctly(f: Function) -> None:
    """Against a float64 evaluation, which is far from every midpoint but where balls decide."""
    x = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float64)
    got = rounded_function(f, x, BINARY16)
    with np.errstate(all="ignore"):
        plain = approximate_function(f, x).astype(np.float16).astype(np.float64)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(plain))
    assert np.mean(got == plain) > 0.9 - np.mean(np.isnan(plain))
    different = (got != plain) & ~np.isnan(got)
    assert np.count_nonzero(different) <= 4


def test_special_arguments() -> None:
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan])
    for fmt in (BINARY16, BINARY32, BINARY64):
        tanh = rounded_function(TANH, special, fmt)
        np.testing.assert_array_equal(tanh, [0.0, -0.0, 1.0, -1.0, np.nan])
        assert math.copysign(1.0, tanh[1]) == -1.0
        np.testing.assert_array_equal(
            rounded_function(EXP, special, fmt), [1, 1, np.inf, 0, np.nan]
        )
        np.testing.assert_array_equal(
            rounded_function(SIGMOID, special, fmt), [0.5, 0.5, 1, 0, np.nan]
        )
        np.testing.assert_array_equal(
            rounded_function(LOG, special, fmt), [-np.inf, -np.inf, np.inf, np.nan, np.nan]
        )
        assert np.all(np.isnan(rounded_function(SIN, special[2:], fmt)))


OPERATOR_OF = {
    EXP: "Exp", LOG: "Log", TANH: "Tanh", SIGMOID: "Sigmoid",
    ERF: "Erf", SIN: "Sin", COS: "Cos", ATAN: "Atan", SOFTPLUS: "Softplus", ASIN: "Asin",
    ACOS: "Acos", SINH: "Sinh", COSH: "Cosh", ASINH: "Asinh", ACOSH: "Acosh", ATANH: "Atanh",
    TAN: "Tan",
}  # fmt: skip


def on_onnxruntime(op: str, x: Any) -> Any:
    code = helper.np_dtype_to_tensor_dtype(x.dtype)
    graph = helper.make_graph(
        [helper.make_node(op, ["x"], ["y"])],
        "one",
        [helper.make_tensor_value_info("x", code, [None])],
        [helper.make_tensor_value_info("y", code, [None])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": x})[0]


def allowed(accuracy: FunctionAccuracy, y: Any, fmt: FloatFormat) -> Any:
    r = Rounder(fmt, exact=False, flush_results=False, flush_operands=False)
    return function_error(r, accuracy, Interval(y, y)).bound


@each_function
def test_onnxruntime_keeps_the_accuracy_stated(f: Function) -> None:
    rng = np.random.default_rng(5)
    bits = rng.integers(0, 2**32, 200_000, dtype=np.uint32).view(np.float32)
    x = np.concatenate([bits[np.isfinite(bits)], rng.normal(size=100_000).astype(np.float32) * 8])
    x = np.abs(x) + np.float32(1e-44) if f is LOG else x
    got = on_onnxruntime(OPERATOR_OF[f], x).astype(np.float64)
    with np.errstate(all="ignore"):
        want = approximate_function(f, x.astype(np.float64))
    finite = np.isfinite(got) & (np.abs(want) < float(BINARY32.largest_finite))
    error = np.abs(got[finite] - want[finite])
    for table in (ORT_FUNCTIONS, CONSERVATIVE):
        limit = allowed(table.accuracy(f), want[finite], BINARY32)
        assert np.all(error <= limit * (1 + 1e-6)), (table.name, np.max(error / limit))
    excess = ORT_FUNCTIONS.accuracy(f).excess * 2.0**-24
    if f in (TANH, SIGMOID, ERF, SIN, COS):
        assert np.all(np.abs(got[finite]) <= 1.0 + excess)


@each_function
def test_onnxruntime_on_every_float16(f: Function) -> None:
    x = np.arange(2**16, dtype=np.uint16).view(np.float16)
    x = x[np.isfinite(x) & ((x > 0) | (f is not LOG))]
    try:
        got = on_onnxruntime(OPERATOR_OF[f], x).astype(np.float64)
    except ort.capi.onnxruntime_pybind11_state.NotImplemented:
        pytest.skip("onnxruntime has no float16 kernel for it")
    with np.errstate(all="ignore"):
        want = approximate_function(f, x.astype(np.float64))
    finite = np.isfinite(got) & (np.abs(want) <= float(BINARY16.largest_finite))
    error = np.abs(got[finite] - want[finite])
    for table in (ORT_FUNCTIONS, CONSERVATIVE):
        limit = allowed(table.accuracy(f), want[finite], BINARY16)
        assert np.all(error <= limit * (1 + 1e-9)), (table.name, np.max(error / limit))


def test_correct_rounding_is_within_every_table() -> None:
    y = np.concatenate([np.linspace(0.01, 1.0, 50), [1e-30, 1e-40]])
    for f in OF_ONE_VARIABLE:
        exact = allowed(CORRECTLY_ROUNDED.accuracy(f), y, BINARY32)
        for table in (CONSERVATIVE, ORT_FUNCTIONS):
            assert np.all(exact <= allowed(table.accuracy(f), y, BINARY32))


def test_tables_and_contracts() -> None:
    assert IEEE_ANY.functions is CONSERVATIVE
    assert ORT_CPU.functions is ORT_FUNCTIONS
    assert PRESETS["sequential"].functions is CORRECTLY_ROUNDED
    assert "functions conservative" in IEEE_ANY.describe()
    assert all(m.functions is CORRECTLY_ROUNDED for m in members(IEEE_ANY))
    assert Evidence.VENDOR.conditional
    assert not Evidence.EXHAUSTIVE.conditional
    with pytest.raises(ValueError, match="needs a bound"):
        FunctionAccuracy(None, None, Evidence.PROVED, "")
    with pytest.raises(Transcendental):
        Rationals().function(EXP, Rationals().constant(np.ones(())))


def test_used_functions_are_assumptions() -> None:
    graph, _ = graph_of(example("Softmax", "x", (1, 3)))
    domain = read_domain(graph, DomainOptions(inputs=("-1..1",)), IEEE_ANY.format_of)
    assert isinstance(domain.boxes[0], Box)
    said = [a.text for a in assumptions_of(graph, domain, IEEE_ANY) if a.name == "function"]
    assert len(said) == 1
    assert "exp" in said[0]
    assert "conditional" in said[0]
    pinned = assumptions_of(graph, domain, PRESETS["sequential"])
    assert not any("conditional" in a.text for a in pinned)


def test_points_of_examples_are_in_the_box() -> None:
    case: Example = example("Log", "x", (3,), lo=0.5)
    graph, _ = graph_of(case)
    inputs = points(case, graph, 5)
    assert np.all(inputs["x"] >= 0.5)
    with pytest.raises(ValueError, match="not rational"):
        exact_values(case, graph, inputs)


MEASURED = Path(__file__).parents[1] / "benchmarks" / "results" / "functions.json"


def test_what_was_measured_is_within_the_tables() -> None:
    """Every runtime measured is covered by the conservative table, onnxruntime by its own."""
    rows = json.loads(MEASURED.read_text(encoding="utf-8"))["rows"]
    assert {row["runtime"].split()[0] for row in rows} == {"onnxruntime", "torch", "numpy"}
    for row in rows:
        own = row["runtime"].startswith("onnxruntime")
        for table in (CONSERVATIVE, ORT_FUNCTIONS) if own else (CONSERVATIVE,):
            claim = table.accuracy(function_named(row["function"]))
            near = claim.ulps is not None and row["ulps"] <= claim.ulps
            assert near or (claim.units is not None and row["units"] <= claim.units), row
            assert claim.flushes or claim.units is not None or not row["flushes"], row
            assert row["beyond"] <= max(claim.excess, 0.0), row


@pytest.mark.parametrize("fmt", [BINARY16, BINARY32, BFLOAT16])
@pytest.mark.parametrize("table", [CONSERVATIVE, ORT_FUNCTIONS])
def test_the_error_of_a_function_just_beyond_a_power_of_two_counts_whole_ulps(
    fmt: FloatFormat, table: Functions
) -> None:
    accuracy = table.accuracy(EXP)
    rounder = Rounder(fmt, exact=False, flush_results=False, flush_operands=False)
    assert accuracy.ulps is not None
    for k in (-3, 0, 5):
        start = 2.0**k
        for beyond in (0.0, start * 2.0**-40, start * 2.0**-9):
            ulp = Fraction(2) ** (k - fmt.precision + 1)
            high = np.array([start + beyond])
            error = function_error(rounder, accuracy, Interval(0.9 * high, high)).bound
            assert Fraction(float(error[0])) >= Fraction(accuracy.ulps) * ulp


def test_a_ball_with_a_part_too_small_to_write_down_is_enclosed_quickly() -> None:
    """erf(1e38) is 1 within 2^-(1e76): that radius has no fraction that memory could hold."""
    import flint

    from encoders.arithmetic.exact_fields import enclosure

    ball = flint.arb(1, 0) + flint.arb(0, 1) * flint.arb(2) ** -(10**12)
    low, high = enclosure(ball)
    assert low <= 1 <= high
    assert high - low < 2.0**-1000


@pytest.mark.parametrize("size", ["nan", "inf", "huge"])
def test_what_is_no_number_or_cannot_be_written_down_has_no_nearest_integer(size: str) -> None:
    """It stays what it is, within half a unit, and is not turned into rationals for that."""
    value = flint.arb(2) ** 10**8 if size == "huge" else flint.arb(size)
    given = np.array([value], dtype=object)
    (found,) = Balls().nearest(given)
    if size == "huge":
        assert found.contains(value)
    else:
        assert not found.is_finite()
