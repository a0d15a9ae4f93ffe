"""The search for counterexamples: narrow breakdowns, aligned roundings, determinism."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import small_models
from onnx import helper
from small_models import domain_of, mlp, settled

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.contract.presets import EXACT, IEEE_ANY, PRESETS
from encoders.program import program_of
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_real
from gpu_check.emulator.screening import ScreeningArithmetic, agrees, screen
from onnx_import import load
from refine.bounds.widened import widened
from refine.claims import settle as settling
from refine.claims.hunting import Catch, hunt, hunt_at
from refine.claims.kind import Asked
from refine.claims.kinds.accuracy import accuracy
from refine.claims.kinds.difference import diff
from refine.claims.options import Options
from refine.claims.unsafe import kept_out
from refine.common.clock import Clock
from refine.domain.domain import DomainOptions
from refine.domain.properties import Conjunction, Property, Row
from refine.lemmas.cache import default_directory
from refine.proof.cross_check import EVERYTHING
from refine.results.verdict import Side, Tolerance, Verdict
from refine.search import search as search_module
from refine.search.evaluation import Hunt, score
from refine.search.gradients import adjoint_of
from refine.search.search import search
from refine.witness import witness

WEIGHTS = np.array([[0.5], [-0.25], [1.0]], np.float32)
CENTRE = np.array([0.3125], np.float32)
WIDTH = np.array([1e-4], np.float32)
HUGE = np.array([3e38], np.float32)


def projected(*rest: onnx.NodeProto) -> list[onnx.NodeProto]:
    """t = x·WEIGHTS − CENTRE, then `rest`."""
    first = [
        helper.make_node("MatMul", ["x", "w"], ["s"], "project"),
        helper.make_node("Sub", ["s", "centre"], ["t"], "shift"),
    ]
    return [*first, *rest]


def bump(*rest: onnx.NodeProto) -> list[onnx.NodeProto]:
    """b = relu(WIDTH − |t|): active only where |t| < WIDTH, then `rest`."""
    middle = [
        helper.make_node("Abs", ["t"], ["a"], "size"),
        helper.make_node("Sub", ["width", "a"], ["r"], "room"),
        helper.make_node("Relu", ["r"], ["b"], "bump"),
    ]
    return projected(*middle, *rest)


PLANTED: Mapping[str, Sequence[onnx.NodeProto]] = {
    "division": projected(helper.make_node("Div", ["width", "t"], ["y"], "divide")),
    "logarithm": bump(
        helper.make_node("Sub", ["width", "b"], ["c"], "left"),
        helper.make_node("Sub", ["c", "most"], ["d"], "less"),
        helper.make_node("Log", ["d"], ["y"], "log"),
    ),
    "exponential": bump(
        helper.make_node("Mul", ["b", "huge"], ["c"], "scale"),
        helper.make_node("Exp", ["c"], ["y"], "exp"),
    ),
    "overflow": bump(
        helper.make_node("Mul", ["b", "huge"], ["c"], "once"),
        helper.make_node("Mul", ["c", "huge"], ["y"], "twice"),
    ),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_breakdown_behind_a_narrow_range_is_found(tmp_path: Path, kind: str) -> None:
    """It needs |t| < 1e-4, or t = 0, while t ranges over an interval of length 3.5."""
    constants = {
        "w": WEIGHTS, "centre": CENTRE, "width": WIDTH, "huge": HUGE, "most": WIDTH / 2,
    }  # fmt: skip
    used = {name for node in PLANTED[kind] for name in node.input}
    weights = {name: v for name, v in constants.items() if name in used}
    model = small_models.save(
        tmp_path / "m.onnx", PLANTED[kind], {"x": [1, 3]}, {"y": [1, 1]}, weights
    )
    graph = load(model)
    box = domain_of(model, "-1..1").boxes[0]
    points = box.sample(np.random.default_rng(9), 1500)
    blind = score(
        Hunt(graph, box, PRESETS["sequential"], Tolerance()), points, PRESETS["sequential"]
    )
    assert np.all(np.isfinite(blind.excess)), "random points find it: the test shows nothing"
    result = settled(model, "-1..1", eps="1e-3", contract="sequential")
    assert result.verdict is Verdict.VIOLATED
    assert result.witness is not None
    assert not result.witness.error.finite
    given = {"x": np.asarray(result.witness.inputs["x"])[None]}
    with np.errstate(all="ignore"):
        assert not np.isfinite(emulate(graph, given, PRESETS["sequential"])["y"]).any()


def test_zero_over_zero_is_found(tmp_path: Path) -> None:
    """x/max(|x|, 0): NaN at one number of the box only, and no end of it."""
    nodes = [
        helper.make_node("Abs", ["x"], ["a"], "size"),
        helper.make_node("Max", ["a", "zero"], ["m"], "safe"),
        helper.make_node("Div", ["x", "m"], ["y"], "divide"),
    ]
    zero = {"zero": np.zeros(1, np.float32)}
    model = small_models.save(tmp_path / "z.onnx", nodes, {"x": [1, 2]}, {"y": [1, 2]}, zero)
    result = settled(model, "-1..1", eps="1e-3", contract="sequential")
    assert result.verdict is Verdict.VIOLATED
    assert result.witness is not None
    assert result.witness.inputs["x"].reshape(-1)[result.witness.index[-1]] == 0.0


def found(graph: Any, box: Any, contract: str, seed: int) -> Any:
    return search(Hunt(graph, box, PRESETS[contract], Tolerance()), seed)


@pytest.mark.parametrize("contract", ["sequential", "sequential-fma", "ort-cpu"])
def test_aligned_roundings_beat_random_inputs(tmp_path: Path, contract: str) -> None:
    """Long first sums: the search is well above the best of ten times as many random inputs."""
    model = mlp(tmp_path / "wide.onnx", (300, 8, 2), seed=3)
    graph = load(model)
    box = domain_of(model, "0..1").boxes[0]
    hunt = Hunt(graph, box, PRESETS[contract], Tolerance())
    rng = np.random.default_rng(5)
    best = max(score(hunt, box.sample(rng, 1000), PRESETS[contract]).excess.max() for _ in range(6))
    assert found(graph, box, contract, 0)[0].excess > 1.5 * best


def test_the_search_is_deterministic(tmp_path: Path) -> None:
    model = mlp(tmp_path / "m.onnx", (4, 8, 2))
    graph, box = load(model), domain_of(model, "-1..1").boxes[0]
    first, again = (found(graph, box, "ieee-any", 7) for _ in range(2))
    assert [c.excess for c in first] == [c.excess for c in again]
    assert all(
        np.array_equal(a.inputs["x"], b.inputs["x"]) for a, b in zip(first, again, strict=True)
    )


def test_candidates_lie_in_the_box_and_err_as_they_say(tmp_path: Path) -> None:
    model = mlp(tmp_path / "m.onnx", (4, 8, 2))
    graph, box = load(model), domain_of(model, "-1..1").boxes[0]
    for c in found(graph, box, "ieee-any", 1):
        assert box.contains({"x": c.inputs["x"].astype(np.float32)})
        given = {"x": np.asarray(c.inputs["x"], np.float32)[None]}
        value = emulate(graph, given, c.execution)[c.output][0][c.index]
        x = [Fraction(float(v)) for v in given["x"].reshape(-1)]
        real = exact_mlp(graph, x)[c.index[1]]
        assert abs(float(abs(Fraction(float(value)) - real)) - c.excess) < 1e-12


def test_an_output_that_no_input_reaches_is_searched_too(tmp_path: Path) -> None:
    """Models may have a constant output alone, or beside others."""
    nodes = [
        helper.make_node("Constant", [], ["y"], "constant", value_floats=[0.1, 0.2]),
        helper.make_node("Mul", ["x", "y"], ["z"], "scale"),
    ]
    for outputs in ({"y": [2]}, {"y": [2], "z": [1, 2]}):
        model = small_models.save(
            tmp_path / "m.onnx", nodes[: len(outputs)], {"x": [1, 2]}, outputs
        )
        result = settled(model, "-1..1")
        assert result.verdict is Verdict.VERIFIED
        assert (result.bound > 0) == ("z" in outputs)


def exact_mlp(graph: Any, x: list[Fraction]) -> list[Fraction]:
    for k in (1, 2):
        w, b = (graph.constants[f"{n}{k}"].astype(float) for n in "wb")
        x = [
            sum((v * Fraction(w[i, j]) for i, v in enumerate(x)), Fraction(b[j]))
            for j in range(w.shape[1])
        ]
        x = [max(v, Fraction(0)) for v in x] if k == 1 else x
    return x


def test_a_screen_that_agrees_gives_the_emulators_bits(tmp_path: Path) -> None:
    """Whether this machine's matrix product adds in order is for `agrees` to find out."""
    graph = load(mlp(tmp_path / "m.onnx", (40, 70, 3)))
    contract = PRESETS["ort-cpu"]
    rng = np.random.default_rng(0)
    draw = {"x": rng.uniform(-1, 1, (64, 1, 40)).astype(np.float32)}
    quick, slow = screen(graph, draw, contract)["y"], emulate(graph, draw, contract)["y"]
    assert np.allclose(quick, slow, rtol=1e-4, atol=1e-5)
    if agrees(graph, draw, contract):
        assert np.mean(quick == slow) > 0.9


def test_a_screen_that_disagrees_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = load(mlp(tmp_path / "m.onnx", (40, 70, 3)))
    draw = {"x": np.random.default_rng(0).uniform(-1, 1, (64, 1, 40)).astype(np.float32)}

    def careless(self: Any, pairs: Any, start: Any) -> Any:
        total = sum(a.astype(np.float64) * b for a, b in pairs[::-1])
        return np.asarray(total if start is None else total + start).astype(np.float32)

    monkeypatch.setattr(ScreeningArithmetic, "chain", careless)
    assert not agrees(graph, draw, PRESETS["sequential-fma"])


def test_the_solvers_counterexample_is_an_input(tmp_path: Path) -> None:
    """Where Z3 refutes that a node of the inputs is finite, the numbers that it names are tried."""
    nodes = [helper.make_node("Div", ["a", "b"], ["y"], "divide")]
    shapes = {"a": [1, 2], "b": [1, 2]}
    model = small_models.save(tmp_path / "d.onnx", nodes, shapes, {"y": [1, 2]})
    box = DomainOptions(inputs=("a=-1..1", "b=-1..1"))
    result = settled(model, box, "1e-3", "sequential", search=False, cross_check=EVERYTHING)
    every = [o for n in result.nodes for o in n.obligations]
    points = [o.point for o in every if o.point]
    assert result.verdict is Verdict.UNKNOWN
    assert points
    assert all({name for name, _ in p} <= {"a", "b"} for p in points)
    clock = Clock(time.monotonic(), None, lambda stage: None)
    domain, contract = domain_of(model, box), PRESETS["sequential"]
    sought = accuracy(Side(load(model), contract)).quarry
    assert sought is not None
    catch = hunt_at(points, sought, domain, Tolerance(), clock)
    assert catch.violation is not None
    assert not catch.violation.error.finite
    outside = [{("a", 0): 2.0, ("b", 0): 0.0}]
    assert hunt_at(outside, sought, domain, Tolerance(), clock).worst is None


def test_a_pair_too_large_to_evaluate_is_not_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bound is proved all the same, and the report says that nobody searched."""
    model = mlp(tmp_path / "m.onnx", (2, 8, 1))
    monkeypatch.setattr(witness, "_TOO_MUCH", 10)
    spec, impl = Side(load(model), EXACT), Side(load(model), IEEE_ANY)
    domain = domain_of(model, DomainOptions(inputs=("-1..1",)))
    result = diff(spec, impl, domain, Tolerance(), Options(None, None, budget=0.0))
    assert result.verdict is Verdict.VERIFIED
    assert result.worst_found is None
    assert any("no errors were searched for" in note for note in result.notes)


@pytest.mark.parametrize(
    ("op", "kind", "size"), [("Exp", onnx.TensorProto.FLOAT, 2**20), ("Erf", 11, 2**13)]
)
def test_little_is_tried_where_one_evaluation_is_dear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, op: str, kind: int, size: int
) -> None:
    """Between two looks at the clock no more than a few inputs are evaluated, and few in all."""
    values = [onnx.helper.make_tensor_value_info(n, kind, [size]) for n in ("x", "y")]
    graph = helper.make_graph([helper.make_node(op, ["x"], ["y"])], "g", values[:1], values[1:])
    path = tmp_path / "wide.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    done: list[int] = []
    looked: list[int] = []

    def counted(hunt: Hunt, points: Mapping[str, Any], *rest: Any) -> Any:
        done.append(points["x"].size)
        return score(hunt, points, *rest)

    def late() -> bool:
        looked.append(sum(done))
        return len(looked) > 3

    monkeypatch.setattr(search_module, "score", counted)
    domain, contract = domain_of(path, "-1..1"), PRESETS["ieee-any"]
    found = search(Hunt(load(path), domain.boxes[0], contract, Tolerance()), 0, late)
    assert found
    assert found[0].excess > 0
    assert np.all(np.diff(looked) <= 2**21)
    assert sum(done) <= 2**23


def test_slopes_of_many_samples_side_by_side(tmp_path: Path) -> None:
    """A widened program carries a functional of each sample as difference quotients have it."""
    graph = load(mlp(tmp_path / "m.onnx", widths=(3, 7, 5, 2), seed=3))
    rng = np.random.default_rng(0)
    x, c = rng.normal(size=(4, 3)), rng.normal(size=(4, 2))

    def values(at: npt.NDArray[np.float64]) -> Mapping[str, npt.NDArray[np.float64]]:
        return evaluate_real(graph, {"x": at[:, None]}, ApproximateReals(), every_tensor=True)

    wide = widened(program_of(graph), 4)
    assert wide is not None
    here = {t: v[:, 0] for t, v in values(x).items()}
    slopes = adjoint_of(wide, here, {"y": c[None]})["x"]
    step = 1e-6
    for j in range(3):
        ends = [values(x + sign * step * np.eye(3)[j])["y"][:, 0] for sign in (1, -1)]
        quotient = np.sum(c * (ends[0] - ends[1]), axis=1) / (2 * step)
        assert np.allclose(slopes.reshape(4, 3)[:, j], quotient, rtol=1e-6, atol=1e-6)


def test_what_splitting_shows_soon_is_not_searched_for_at_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim that first bounds leave open and a few halves settle: one short search, no more."""
    efforts: list[float] = []

    def hunted(*given: Any, **more: Any) -> Catch:
        efforts.append(more.get("effort", 1.0))
        return hunt(*given, **more)

    monkeypatch.setattr(settling, "hunt", hunted)
    model = mlp(tmp_path / "m.onnx", widths=(2, 8, 2), seed=1)
    graph, box = load(model), domain_of(model, "-1..1")
    corners = np.stack(np.meshgrid(*[np.linspace(-1, 1, 65)] * 2), axis=-1).reshape(-1, 1, 2)
    values = np.asarray(evaluate_real(graph, {"x": corners}, ApproximateReals())["y"])[:, 0]
    least = float(np.min(values[:, 0] - values[:, 1]))
    looked: list[list[float]] = []
    for margin in (0.4, 0.2, 0.1, 0.05):
        row = Row({0: Fraction(1), 1: Fraction(-1)}, {}, Fraction(least - margin), strict=False)
        told: list[str] = []
        efforts.clear()
        asked = Asked(
            text="property",
            side=Side(graph, PRESETS["ieee-any"]),
            domain=box,
            tolerance=Tolerance(),
            options=Options(cross_check=None, cache=default_directory(), budget=8.0),
            tell=told.append,
        )
        result = kept_out(asked, Property((Conjunction({}, (row,)),), "here"), "y stays above")
        assert result.verdict is Verdict.VERIFIED
        if "splitting the domain" in told:
            looked.append(list(efforts))
    assert looked
    assert all(len(one) == 1 and one[0] < 0.5 for one in looked)
