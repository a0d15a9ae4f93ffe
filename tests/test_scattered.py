"""How roundings scatter: sizes beside the kernel's bounds, and executions drawn at random."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_models import mlp, save

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.arithmetic.stochastic import StochasticArithmetic
from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import PRESETS, STOCHASTIC
from encoders.numbers.enclosure import Interval
from encoders.numbers.formats import BINARY16, BINARY32, FloatFormat, round_fraction, small_format
from encoders.program import Step, program_of
from encoders.rounding.scattered import NotScattered, Scatter, scatter_of
from encoders.scheduling import contract_at
from gpu_check.emulator.exact import evaluate_real
from gpu_check.emulator.stochastic import drawn
from onnx_import import load
from onnx_import.errors import ModelError
from refine.claims.kinds.accuracy import check
from refine.claims.options import Options
from refine.domain.domain import DomainOptions, read_domain
from refine.lemmas.cache import default_directory
from refine.probable.likely import (
    Certain,
    ProbableErrors,
    Probably,
    factor_of,
    probable_errors,
)
from refine.proof.proof import input_box
from refine.results.verdict import Tolerance

NAMES = ("ieee-any", "sequential", "sequential-fma", "pairwise", "ort-cpu")


def _scatter(step: Step, x: Interval, contract: RuntimeContract) -> Scatter:
    return scatter_of(step.operator, step.site, [x], contract_at(step.site, contract))


@pytest.mark.parametrize("name", NAMES)
def test_the_worst_of_a_node_is_about_what_the_kernel_bounds(tmp_path: Path, name: str) -> None:
    """Neither is far from the other: both add up half ulps of the same partial sums."""
    contract = PRESETS[name]
    rng = np.random.default_rng(1)
    for step in program_of(load(mlp(tmp_path / "m.onnx", (17, 6, 3)))).steps:
        centre = rng.uniform(-1, 1, step.site.type_of(0).shape).astype(np.float32)
        for width in (0.0, 0.25):
            x = Interval(centre.astype(np.float64) - width, centre.astype(np.float64) + width)
            found = _scatter(step, x, contract)
            here = contract_at(step.site, contract)
            known = step.operator.rounding(step.site, [x], x, here).radius.bound
            assert np.all(found.worst <= known * 1.01 + 1e-35)
            assert np.all(found.worst >= known * 0.5)
            assert np.all(np.sqrt(found.square) <= found.worst + 1e-35)
            assert np.all(found.rest <= 1e-35)


def test_a_choice_between_rounded_values_is_refused(tmp_path: Path) -> None:
    """Which is the larger hangs on how they were rounded: the error is no sum of roundings."""
    node = helper.make_node("HardSigmoid", ["x"], ["y"], alpha=0.3, beta=0.4)
    path = save(tmp_path / "m.onnx", [node], {"x": [4]}, {"y": [4]})
    (step,) = program_of(load(path)).steps
    with pytest.raises(NotScattered, match="a choice between values that have been rounded"):
        _scatter(step, Interval(-np.ones(4), np.ones(4)), PRESETS["sequential"])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["mixed", "one sign"])
def test_what_is_negated_scatters_as_far(tmp_path: Path, name: str, kind: str) -> None:
    """Roundings to nearest know no sign, and neither do bounds on partial sums."""
    rng = np.random.default_rng(2)
    w = rng.uniform(-1 if kind == "mixed" else 0.25, 1, (20, 3)).astype(np.float32)
    x = Interval(np.full((1, 20), 0.25), rng.uniform(0.5, 1, (1, 20)))
    found = []
    for sign in (1, -1):
        node = helper.make_node("MatMul", ["x", "w"], ["y"])
        path = save(
            tmp_path / f"{sign}.onnx", [node], {"x": [1, 20]}, {"y": [1, 3]}, {"w": sign * w}
        )
        (step,) = program_of(load(path)).steps
        found.append(_scatter(step, x, PRESETS[name]))
    for one, other in zip(vars(found[0]).values(), vars(found[1]).values(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_a_rounding_that_several_results_share_is_refused(tmp_path: Path) -> None:
    """beta·C is rounded once and added to every row."""
    gemm = helper.make_node("Gemm", ["x", "w", "c"], ["y"], beta=0.3)
    weights = {"w": np.ones((2, 3), np.float32), "c": np.array([0.1], np.float32)}
    path = save(tmp_path / "m.onnx", [gemm], {"x": [4, 2]}, {"y": [4, 3]}, weights)
    (step,) = program_of(load(path)).steps
    x = Interval(np.zeros((4, 2)), np.ones((4, 2)))
    with pytest.raises(NotScattered):
        _scatter(step, x, PRESETS["sequential"])


@pytest.mark.parametrize("fmt", [BINARY32, BINARY16, small_format(3, 3)], ids=lambda f: f.name)
def test_a_stochastic_rounding_is_one_of_two_neighbours_with_the_right_mean(
    fmt: FloatFormat,
) -> None:
    rng = np.random.default_rng(2)
    arithmetic = StochasticArithmetic(fmt, STOCHASTIC, np.random.default_rng(3))
    draws = 10_000
    for _ in range(3):
        a, b = (float(round_fraction(Fraction(v), fmt)) for v in rng.uniform(-4, 4, 2))
        exact = {
            "add": Fraction(a) + Fraction(b),
            "multiply": Fraction(a) * Fraction(b),
            "subtract": Fraction(a) - Fraction(b),
        }
        wide = np.full(draws, a, arithmetic.carrier)
        for name, value in exact.items():
            found = getattr(arithmetic, name)(wide, np.full(draws, b, arithmetic.carrier))
            seen = sorted({Fraction(float(v)) for v in found})
            assert len(seen) <= 2
            gap = _gap(value, fmt)
            assert all(abs(v - value) < gap or v == value for v in seen)
            if len(seen) == 1:
                near = min(abs(seen[0] - value), gap)
                assert near <= gap * 24 / draws  # exact, or close to a number of the format
            mean = sum(map(Fraction, found.astype(float).tolist())) / draws
            assert abs(float((mean - value) / gap)) <= 5 * 0.5 / np.sqrt(draws)


def _gap(value: Fraction, fmt: FloatFormat) -> Fraction:
    _, exponent = np.frexp(float(abs(value)))
    return Fraction(2) ** int(max(int(exponent) - 1, fmt.emin) - fmt.precision + 1)


def _bounded(
    path: Path, contract: RuntimeContract, asked: DomainOptions, how: Certain | Probably
) -> ProbableErrors:
    graph = load(path)
    domain = read_domain(graph, asked, contract.format_of)
    (box,) = domain.boxes
    return probable_errors(graph, input_box(box, domain, contract), contract, how)


def _smooth(path: Path) -> Path:
    rng = np.random.default_rng(5)
    nodes = [
        helper.make_node("Gemm", ["x", "a", "b"], ["h"]),
        helper.make_node("Sigmoid", ["h"], ["s"]),
        helper.make_node("Mul", ["s", "h"], ["m"]),
        helper.make_node("MatMul", ["m", "c"], ["y"]),
    ]
    weights = {
        "a": rng.normal(size=(3, 16)).astype(np.float32),
        "b": rng.normal(size=16).astype(np.float32),
        "c": rng.normal(size=(16, 2)).astype(np.float32),
    }
    return save(path, nodes, {"x": [1, 3]}, {"y": [1, 2]}, weights)


MAKERS: dict[str, Any] = {"dense": lambda p: mlp(p, (3, 16, 16, 2), seed=2), "smooth": _smooth}


@pytest.mark.parametrize("kind", MAKERS)
def test_drawn_executions_exceed_no_more_often_than_asked(tmp_path: Path, kind: str) -> None:
    """At a point and over a box, where the relaxations count; the worst case is never exceeded."""
    path = MAKERS[kind](tmp_path / "m.onnx")
    graph, runs = load(path), 4_000
    for radius in ("0", "0.05"):
        asked = DomainOptions(center="0.3", radius=radius)
        worst = _bounded(path, STOCHASTIC, asked, Certain())
        rng = np.random.default_rng(4)
        x = (0.3 + float(radius) * rng.uniform(-1, 1, (1, 1, 3))).astype(np.float32)
        x = np.clip(x, np.float32(0.3 - float(radius)), None) if float(radius) else x
        ran = drawn(graph, {"x": np.repeat(x, runs, axis=0)}, STOCHASTIC, seed=11)["y"]
        real = evaluate_real(graph, {"x": x.astype(np.float64)}, ApproximateReals())["y"]
        off = np.abs(ran.astype(np.float64) - real)
        assert np.all(off <= worst.errors["y"])
        for failing in (0.5, 0.1, 1e-2):
            likely = _bounded(path, STOCHASTIC, asked, Probably(failing))
            often = np.mean(np.any(off > likely.errors["y"], axis=(1, 2)))
            assert often <= failing + 3 * np.sqrt(failing / runs)
        assert likely.largest < worst.largest


def test_the_worst_case_of_the_walk_is_that_of_a_check(tmp_path: Path) -> None:
    """The same coefficients, two ways of adding up half ulps: under rounding to nearest the walk's
    worst case must not lie below what is proved, but by its own sharper sums."""
    path = mlp(tmp_path / "m.onnx", (4, 12, 2), seed=3)
    for name in NAMES:
        contract, graph = PRESETS[name], load(path)
        asked = DomainOptions(center="0.25", radius="0.01")
        domain = read_domain(graph, asked, contract.format_of)
        options = Options(None, default_directory(), search=False)
        proved = check(graph, domain, contract, Tolerance(), options).bound
        found = _bounded(path, contract, asked, Certain())
        assert 0.5 * proved <= found.largest <= 1.05 * proved
        likely = _bounded(path, contract, asked, Probably(0.5))
        assert likely.largest < found.largest


def test_the_factor_counts_every_event() -> None:
    for failing, events in ((1e-9, 1), (1e-2, 1000), (0.5, 3)):
        factor = factor_of(failing, events)
        assert 2 * events * np.exp(-(factor**2) / 2) <= failing
    for outside in (0.0, 1.0, -1.0, 2.0):
        with pytest.raises(ModelError):
            factor_of(outside, 1)


def test_nothing_is_proved_under_stochastic_rounding(tmp_path: Path) -> None:
    graph = load(mlp(tmp_path / "m.onnx"))
    domain = read_domain(graph, DomainOptions(center="0.3", radius="0"), STOCHASTIC.format_of)
    with pytest.raises(ModelError, match="stochastically"):
        check(graph, domain, STOCHASTIC, Tolerance(), Options(None, default_directory()))


def _net(
    path: Path, nodes: list[Any], weights: dict[str, Any], out: tuple[int, ...] = (1, 4)
) -> Path:
    return save(path, nodes, {"x": [1, 4]}, {"y": list(out)}, weights)


_C = np.array([0.3, -1.7, 0.9, 1.1], np.float32)
_LONG = {"axes": np.array([0], np.int64), "shape": np.array([16, 4], np.int64)}
ODD: dict[str, tuple[list[Any], dict[str, Any], tuple[int, ...]]] = {
    "a value that meets itself again": (
        [
            helper.make_node("Mul", ["x", "c"], ["a"]),
            helper.make_node("Relu", ["a"], ["r"]),
            helper.make_node("Add", ["r", "a"], ["y"]),
        ],
        {"c": _C},
        (1, 4),
    ),
    "a square of what has been rounded": (
        [
            helper.make_node("Mul", ["x", "c"], ["a"]),
            helper.make_node("Mul", ["a", "a"], ["y"]),
        ],
        {"c": _C},
        (1, 4),
    ),
    "one rounding in many terms": (
        [
            helper.make_node("Mul", ["x", "c"], ["a"]),
            helper.make_node("Expand", ["a", "shape"], ["b"]),
            helper.make_node("ReduceSum", ["b", "axes"], ["y"], keepdims=0),
        ],
        {"c": _C[:1], **_LONG},
        (4,),
    ),
    "a slope by the sign": (
        [
            helper.make_node("Mul", ["x", "c"], ["a"]),
            helper.make_node("LeakyRelu", ["a"], ["y"], alpha=0.3),
        ],
        {"c": _C},
        (1, 4),
    ),
    "subnormal results": (
        [
            helper.make_node("Mul", ["x", "c"], ["a"]),
            helper.make_node("Mul", ["a", "c"], ["y"]),
        ],
        {"c": np.array([1e-20, 1e-22, 3e-19, 1.1e-38], np.float32)},
        (1, 4),
    ),
    "cancellation": (
        [
            helper.make_node("Add", ["x", "d"], ["a"]),
            helper.make_node("Sub", ["a", "d"], ["y"]),
        ],
        {"d": np.array([1e6, 1e3, 16777216, 3e7], np.float32)},
        (1, 4),
    ),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_networks_scatter_no_further(tmp_path: Path, kind: str) -> None:
    nodes, weights, out = ODD[kind]
    path, runs = _net(tmp_path / "m.onnx", nodes, weights, out), 1_500
    graph = load(path)
    for centre, radius in (("0.3", "0"), ("0", "0.25")):
        asked = DomainOptions(center=centre, radius=radius)
        worst = _bounded(path, STOCHASTIC, asked, Certain()).errors["y"].reshape(1, -1)
        x = np.full((1, 1, 4), float(centre) + 0.7 * float(radius)).astype(np.float32)
        ran = drawn(graph, {"x": np.repeat(x, runs, axis=0)}, STOCHASTIC, seed=5)["y"]
        reals = ApproximateReals(wide=True)
        real = evaluate_real(graph, {"x": x.astype(np.float64)}, reals)["y"]
        off = np.abs(ran.astype(np.longdouble) - real).reshape(runs, -1)
        assert np.all(off <= worst * (1 + 1e-9))
        for failing in (0.5, 0.05):
            likely = _bounded(path, STOCHASTIC, asked, Probably(failing)).errors["y"]
            often = np.mean(np.any(off > likely.reshape(1, -1), axis=1))
            assert often <= failing + 3 * np.sqrt(failing / runs)


@pytest.mark.parametrize("scale", [1.0, 1e-100, 1e-170, 1e-250, 1e-308])
def test_squares_that_underflow_count(tmp_path: Path, scale: float) -> None:
    """In float64 the squares of the roundings of small numbers are none of float64's numbers."""
    rng = np.random.default_rng(3)
    w = rng.uniform(-1, 1, (24, 3)) * scale
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.DOUBLE, [1, size])
        for name, size in (("x", 24), ("y", 3))
    )
    graph = helper.make_graph([node], "g", [x], [y], [numpy_helper.from_array(w, "w")])
    path = tmp_path / "m.onnx"
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    asked = DomainOptions(center="0", radius="1")
    found = _bounded(path, PRESETS["sequential"], asked, Probably(1e-9))
    (most,) = found.errors.values()
    for point in rng.uniform(-1, 1, (50, 24)):
        for column, limit in zip(w.T, most.reshape(-1), strict=True):
            ran, exact = 0.0, Fraction(0)
            for a, b in zip(point.tolist(), column.tolist(), strict=True):
                ran, exact = ran + a * b, exact + Fraction(a) * Fraction(b)
            assert abs(Fraction(ran) - exact) <= Fraction(float(limit))
