"""Improving a bound: halving the domain, choosing slopes, branching on phases."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import small_models
from given_radii import off_by

from encoders.arithmetic.exact_fields import Rationals, enclosure
from encoders.contract.presets import IEEE_ANY, SEQUENTIAL
from encoders.numbers.enclosure import Interval
from encoders.numbers.formats import BINARY32, round_array, small_format
from encoders.program import program_of
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_exact
from onnx_import import load
from onnx_import.graph import Graph
from refine.bounds.alpha import Branching
from refine.bounds.backward import FixedSlopes
from refine.bounds.cases import secant_branching as secants
from refine.bounds.cases.feasible import impossible
from refine.bounds.network import InputBox, Known, network_bounds
from refine.bounds.problem import Network
from refine.cli.main import run
from refine.common.clock import Clock
from refine.domain.domain import DomainOptions, read_domain
from refine.process.pool import Here, Pool, Processes
from refine.proof import proof
from refine.proof.cover import covers, united
from refine.proof.input_splitting import Part, Split, halved, part_of, split_box
from refine.proof.unproved_boxes import remains
from refine.results.verdict import ExitCode, Tolerance

EFFORTS = (Branching(4), Branching(4, 64, 1024))


LEAKS = (0.1, -0.3)


@pytest.fixture
def deep(tmp_path: Path) -> Graph:
    return load(small_models.mlp(tmp_path / "deep.onnx", (3, 12, 12, 12, 2), scale=1.5))


@pytest.fixture(params=(None, *LEAKS))
def bent(request: pytest.FixtureRequest, tmp_path: Path) -> Graph:
    path = tmp_path / "bent.onnx"
    return load(small_models.mlp(path, (3, 12, 12, 12, 2), scale=1.5, leak=request.param))


def box_of(graph: Graph, low: float = -1.0, high: float = 1.0) -> InputBox:
    (name,) = graph.inputs
    shape = graph.types[name].shape
    return InputBox(
        {name: Interval(np.full(shape, low), np.full(shape, high))}, {name: np.zeros(shape)}
    )


def largest(errors: Mapping[str, np.ndarray]) -> float:
    return max(float(np.max(e)) for e in errors.values())


def split(graph: Graph, seconds: float, pool: Pool | None = None, gain: float = 0.0) -> Split:
    """Split until the bound is `gain` times that of the whole, or time is over."""
    box = box_of(graph)
    whole = part_of(box, network_bounds(graph, box, SEQUENTIAL))
    deadline, enough = time.monotonic() + seconds, gain * largest(whole.errors)
    return split_box(
        Network(graph, SEQUENTIAL),
        whole,
        excess=largest,
        enough=enough,
        deadline=deadline,
        pool=pool or Here(),
    )


def test_the_search_gets_the_parts_that_are_left(deep: Graph) -> None:
    """Those with the largest bounds above ε, inside the domain, with ends that can be received."""
    domain = read_domain(deep, DomainOptions(inputs=("-1..0.7",)), SEQUENTIAL.format_of)
    clock = Clock(time.monotonic(), None, lambda stage: None)
    whole = proof.first_proof(Network(deep, SEQUENTIAL), domain, True, clock)
    (covered,) = whole.boxes
    parts = [covered.parts[0].box]
    for _ in range(3):
        parts = [h for box in parts for h in halved(covered_by(deep, box)) or ()]
    split_up = replace(covered, parts=tuple(covered_by(deep, box) for box in parts))
    errors = sorted((largest(p.errors) for p in split_up.parts), reverse=True)
    proved = replace(whole, boxes=(split_up,))
    assert remains(whole, domain, Tolerance()) is None, "nothing was split"
    left = remains(proved, domain, Tolerance())
    assert left is not None
    assert len(left.boxes) == 4
    for box, error in zip(left.boxes, errors, strict=False):
        assert domain.boxes[0].contains(box.lo)
        assert domain.boxes[0].contains(box.hi)
        x = {n: Interval(box.lo[n], box.hi[n]) for n in box.lo}
        again = covered_by(deep, InputBox(x, {n: np.zeros(v.shape) for n, v in x.items()}))
        assert largest(again.errors) == pytest.approx(error, rel=1e-3)
    between = Tolerance(Fraction(0.5 * (errors[1] + errors[2])))
    few = remains(proved, domain, between)
    assert few is not None
    assert len(few.boxes) == 2
    assert remains(proved, domain, Tolerance(Fraction(2 * errors[0]))) is None


def covered_by(graph: Graph, box: InputBox) -> Part:
    return part_of(box, network_bounds(graph, box, SEQUENTIAL))


def test_parts_cover_the_box_and_only_improve(deep: Graph) -> None:
    whole = network_bounds(deep, box_of(deep), SEQUENTIAL)
    parts = split(deep, 3.0).parts
    assert len(parts) > 4
    assert covers(box_of(deep), parts)
    assert not covers(box_of(deep), parts[1:])
    assert max(largest(p.errors) for p in parts) < 0.7 * whole.largest
    for part in parts:
        for output, error in part.errors.items():
            assert np.all(error <= whole.errors[output])


def plain_part(box: InputBox, error: float = 0.0) -> Part:
    return Part(box, {"y": off_by(np.array([error]))}, {}, Known({}, {}), None)


def plain_box(*sides: tuple[float, float], error: float = 0.0) -> InputBox:
    lo, hi = (np.array([s[i] for s in sides]) for i in (0, 1))
    return InputBox({"x": Interval(lo, hi)}, {"x": np.full(lo.shape, error)})


@pytest.mark.parametrize(
    ("parts", "holds"),
    [
        ([[(0, 1)], [(0, 1)]], False),
        ([[(0, 1)], [(1, 2)]], True),
        ([[(0, 1.5)], [(0.5, 2)]], True),
        ([[(-1, 3)]], True),
        ([[(0, 1)], [(1 + 2.0**-52, 2)]], False),
        ([[(0, 2)], [(5, 6)]], True),
        ([[(math.nan, math.nan)]], False),
        ([[(0, math.nan)], [(0, 2)]], True),
        ([], False),
    ],
)
def test_a_cover_is_one_point_by_point(parts: list[list[tuple[float, float]]], holds: bool) -> None:
    """Not by volumes, of which [0, 1] and [0, 1] have as much as [0, 2]."""
    found = covers(plain_box((0, 2)), [plain_part(plain_box(*sides)) for sides in parts])
    assert found is holds


def test_parts_cover_sides_of_no_width_and_differences_of_inputs() -> None:
    whole = plain_box((0, 2), (1, 1), error=0.5)
    halves = [plain_box((0, 1), (1, 1), error=0.5), plain_box((1, 2), (1, 1), error=0.5)]
    elsewhere = plain_box((1, 2), (2, 2), error=0.5)
    exact = plain_box((1, 2), (1, 1))
    assert covers(whole, [plain_part(b) for b in halves])
    assert not covers(whole, [plain_part(halves[0]), plain_part(elsewhere)])
    assert not covers(whole, [plain_part(halves[0]), plain_part(exact)])
    assert covers(plain_box((1, 1)), [plain_part(plain_box((0, 3)))])
    assert not covers(plain_box((1, 1)), [plain_part(plain_box((2, 3)))])


def test_what_is_proved_of_parts_is_proved_of_the_whole() -> None:
    parts = [plain_part(plain_box(sides), e) for sides, e in (((0, 1), 1.0), ((1, 2), 3.0))]
    far = plain_part(plain_box((5, 6)), 7.0)
    assert united(plain_box((0, 2)), [*parts, far])["y"].bound.tolist() == [3.0]
    assert united(plain_box((0, 1)), [*parts, far])["y"].bound.tolist() == [1.0]
    assert {"cut", "of-part", "within-part"} <= set(
        united(plain_box((0, 2)), parts)["y"].record.lemmas
    )
    assert united(plain_box((0, 2), error=1.0), parts)["y"].bound.tolist() == [np.inf]


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_covers_agrees_with_looking_at_every_cell(axes: int) -> None:
    """Boxes with small integer ends: every cell of the grid is in one, or is not."""
    rng = np.random.default_rng(axes)
    size, outcomes = 3, set()
    for _ in range(250):
        n = int(rng.integers(1, 4 * axes + 2))
        ends = np.sort(rng.integers(-1, size + 2, (n, axes, 2)), axis=2)
        if rng.random() < 0.5:  # an exact subdivision, one part sometimes replaced
            ends = _subdivided(rng, axes, size, n)
            if rng.random() < 0.5:
                ends[rng.integers(len(ends))] = ends[rng.integers(len(ends))]
        cells = np.zeros((size,) * axes, dtype=bool)
        for sides in ends:
            cells[tuple(slice(max(a, 0), max(b, 0)) for a, b in sides)] = True
        parts = [plain_part(plain_box(*(tuple(side) for side in sides))) for sides in ends]
        whole = plain_box(*((0, size),) * axes)
        assert covers(whole, parts) == bool(cells.all()), ends
        assert united(whole, parts)["y"].largest == (0.0 if cells.all() else np.inf), ends
        outcomes.add(bool(cells.all()))
    assert outcomes == {True, False}


def _subdivided(rng: np.random.Generator, axes: int, size: int, cuts: int) -> np.ndarray:
    """A box of integer sides, cut again and again."""
    boxes = [np.array([[0, size]] * axes)]
    for _ in range(cuts):
        k, axis = int(rng.integers(len(boxes))), int(rng.integers(axes))
        low, high = boxes[k][axis]
        if high - low > 1:
            one, other = boxes[k].copy(), boxes[k].copy()
            one[axis, 1] = other[axis, 0] = rng.integers(low + 1, high)
            boxes[k : k + 1] = [one, other]
    return np.stack(boxes)


def test_worker_processes_give_the_same_kind_of_answer(deep: Graph) -> None:
    parts = split(deep, 120.0, Processes(2), gain=0.6).parts
    assert covers(box_of(deep), parts)
    assert len(parts) > 2


def test_every_part_holds_against_exact_executions(deep: Graph) -> None:
    rng = np.random.default_rng(1)
    (name,), (output,) = deep.inputs, deep.outputs
    for part in split(deep, 2.0).parts[:6]:
        x = part.box.values[name]
        points = (x.lo + (x.hi - x.lo) * rng.random((8, *x.lo.shape))).astype(np.float32)
        points = np.clip(points, np.nextafter(x.lo.astype(np.float32), 9), x.hi)
        computed = emulate(deep, {name: points.astype(np.float32)}, SEQUENTIAL)[output]
        for point, got in zip(points, computed, strict=True):
            exact = evaluate_exact(deep, {name: point.astype(np.float32)}, Rationals())[output]
            for e, g, bound in zip(
                exact.ravel(), got.ravel(), part.errors[output].ravel(), strict=True
            ):
                assert abs(enclosure(e)[0] - type(enclosure(e)[0])(float(g))) <= bound


@pytest.mark.parametrize("effort", EFFORTS)
def test_chosen_slopes_and_phases_keep_every_real_value(bent: Graph, effort: Branching) -> None:
    box = box_of(bent)
    plain = network_bounds(bent, box, IEEE_ANY)
    known = Known(plain.maps.values, plain.maps.radii)
    better = network_bounds(bent, box, IEEE_ANY, known=known, branching=effort)
    (name,) = bent.inputs
    rng = np.random.default_rng(0)
    shape = bent.types[name].shape
    narrower = 0
    for kind in range(40):
        point = np.sign(rng.standard_normal(shape)) if kind % 2 else rng.uniform(-1, 1, shape)
        values = evaluate_exact(bent, {name: point}, Rationals(), every_tensor=True)
        for tensor, x in better.maps.values.items():
            lo, hi = x.lo.ravel(), x.hi.ravel()
            for i, v in enumerate(values[tensor].ravel()):
                exact, _ = enclosure(v)
                assert lo[i] <= exact <= hi[i], tensor
    for tensor, x in better.maps.values.items():
        wide = plain.maps.values[tensor]
        assert np.all(wide.lo <= x.lo)
        assert np.all(x.hi <= wide.hi)
        narrower += int(np.any(x.hi < wide.hi))
    assert narrower > 0
    assert better.largest <= plain.largest


def test_more_effort_decides_more_signs(deep: Graph) -> None:
    def open_signs(effort: Branching | None) -> int:
        bounds = network_bounds(deep, box_of(deep), IEEE_ANY, branching=effort)
        tensors = [n.node.inputs[0] for n in bounds.nodes if n.node.op == "Relu"]
        ranges = [bounds.maps.values[t] for t in tensors]
        return sum(int(np.sum((x.lo < 0) & (x.hi > 0))) for x in ranges)

    counts = [open_signs(None), *(open_signs(e) for e in EFFORTS)]
    assert counts == sorted(counts, reverse=True)


def test_a_pass_cut_short_keeps_the_bound(deep: Graph) -> None:
    """Each pass is given the bounds of the one before; one without time for effort adds none."""
    domain = read_domain(deep, DomainOptions(inputs=("-1..1",)), IEEE_ANY.format_of)
    clock = Clock(time.monotonic(), None, lambda stage: None)
    problem = Network(deep, IEEE_ANY)
    covered = proof.first_proof(problem, domain, True, clock).boxes[0]
    efforts = (Branching(4, cases=256), *(Branching(4, cases=64, until=0.0) for _ in range(2)))
    bounds = [covered.whole.largest]
    for effort in efforts:
        covered = proof._branched(covered, problem, effort, math.inf, clock)
        bounds.append(covered.whole.largest)
    assert bounds[1] < bounds[0]
    assert bounds[1:] == [bounds[1]] * 3


def test_halves_meet_and_a_point_cannot_be_halved(deep: Graph) -> None:
    box = box_of(deep)
    (name,) = deep.inputs
    below, above = halved(part_of(box, network_bounds(deep, box, SEQUENTIAL))) or (box, box)
    assert np.all(np.maximum(below.values[name].hi, above.values[name].hi) == 1.0)
    assert np.sum(below.values[name].hi == above.values[name].lo) == 1
    still = box_of(deep, 0.25, 0.25)
    assert halved(part_of(still, network_bounds(deep, still, SEQUENTIAL))) is None


def test_a_budget_verifies_what_one_pass_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small_models.mlp(tmp_path / "deep.onnx", (3, 12, 12, 12, 2), scale=1.5)
    graph = load(tmp_path / "deep.onnx")
    eps = 0.7 * network_bounds(graph, box_of(graph), IEEE_ANY).largest
    command = ["check", "deep.onnx", "--input=-1..1", "--eps", repr(eps), "--no-search", "-q"]
    assert run([*command, "--budget", "0"]) is ExitCode.UNKNOWN
    assert run([*command, "--budget", "30"]) is ExitCode.VERIFIED


@pytest.mark.parametrize("leak", [None, *LEAKS, 1.75])
def test_branching_on_slopes_holds_where_it_bites(tmp_path: Path, leak: float | None) -> None:
    """In a format of 5 bits of precision errors are as large as pre-activations, so that Relus
    really differ in phase between runtime and reals."""
    graph = load(small_models.mlp(tmp_path / "toy.onnx", (2, 6, 6, 6, 1), scale=1.0, leak=leak))
    fmt = small_format(6, 5)
    toy = replace(SEQUENTIAL, compute_format=fmt)
    box = box_of(graph, -0.5, 0.5)
    plain = network_bounds(graph, box, toy)
    known = Known(plain.maps.values, plain.maps.radii)
    cases = Branching(4, cases=256)
    better = network_bounds(graph, box, toy, known=known, branching=cases)
    assert better.largest < 0.98 * plain.largest
    axis = np.unique(round_array(np.linspace(-0.5, 0.5, 65), fmt))
    (name,), (output,) = graph.inputs, graph.outputs
    points = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, *graph.types[name].shape)
    computed = emulate(graph, {name: points}, toy, every_tensor=True)
    flips = 0
    for i in range(0, len(points), 3 if leak is None else 17):
        exact = evaluate_exact(graph, {name: points[i]}, Rationals(), every_tensor=True)
        for tensor, errors in better.maps.errors.items():
            got = np.asarray(computed[tensor][i], np.float64).ravel() if tensor in computed else ()
            for g, e, bound in zip(got, exact[tensor].ravel(), errors.ravel(), strict=False):
                assert abs(enclosure(e)[0] - Fraction(float(g))) <= bound, tensor
                flips += (enclosure(e)[0] > 0) != (g > 0)
    assert output in computed
    assert flips > 0


def test_one_case_alone_is_not_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both slopes are needed: keeping only slope 0 must give a smaller, wrong, number."""
    graph = load(small_models.mlp(tmp_path / "toy.onnx", (2, 6, 6, 6, 1), scale=1.0))
    toy = replace(SEQUENTIAL, compute_format=small_format(6, 5))
    box, cases = box_of(graph, -0.5, 0.5), Branching(4, cases=256)
    right = network_bounds(graph, box, toy, branching=cases).largest
    both = secants._both

    def only_zero(parents: Any) -> Any:
        return np.minimum(both(parents), 0)

    monkeypatch.setattr(secants, "_both", only_zero)
    assert network_bounds(graph, box, toy, branching=cases).largest < right


def test_only_slopes_that_no_input_allows_are_void(tmp_path: Path) -> None:
    """Every sampled input's own phases must stay possible; most opposite patterns are not."""
    graph = load(small_models.mlp(tmp_path / "toy.onnx", (2, 6, 6, 1), scale=1.0))
    bounds = network_bounds(graph, box_of(graph), SEQUENTIAL)
    relus = [n.node for n in bounds.nodes if n.node.op == "Relu"]
    (name,) = graph.inputs
    generator = np.random.default_rng(0)
    points = generator.uniform(-1, 1, (200, *graph.types[name].shape))
    fixed = {}
    for node in relus:
        exact = [
            evaluate_exact(graph, {name: round_array(p, BINARY32)}, Rationals(), every_tensor=True)
            for p in points
        ]
        phase = np.array([[float(v > 0) for v in e[node.inputs[0]].ravel()] for e in exact])
        phase = phase.reshape(len(points), *bounds.maps.values[node.outputs[0]].shape)
        fixed[node.name] = FixedSlopes(phase, np.ones(phase.shape, dtype=bool))
    assert not np.any(impossible(bounds.maps, fixed))
    flipped = {n: FixedSlopes(1.0 - f.slope, f.at) for n, f in fixed.items()}
    assert np.mean(impossible(bounds.maps, flipped)) > 0.5


def test_only_networks_of_affine_operators_and_hinges_are_branched_on(tmp_path: Path) -> None:
    """A remainder of another operator says nothing of differences that other slopes would make."""
    assert secants.can_branch(program_of(load(small_models.mlp(tmp_path / "hinges.onnx"))))
    nodes = [
        onnx.helper.make_node("Relu", ["x"], ["h"]),
        onnx.helper.make_node("Sigmoid", ["h"], ["y"]),
    ]
    small_models.save(tmp_path / "curved.onnx", nodes, {"x": [3]}, {"y": [3]})
    assert not secants.can_branch(program_of(load(tmp_path / "curved.onnx")))
