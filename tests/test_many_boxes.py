"""Boxes bounded many at a time: the numbers are those of each box alone, and hold what runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from small_models import mlp, save

from encoders.arithmetic.exact_fields import Rationals, enclosure
from encoders.contract.presets import EXACT, FP16, IEEE_ANY, ORT_CPU, SEQUENTIAL
from encoders.lemmas.claims import UNMET
from encoders.lemmas.kernel import apply
from encoders.numbers.enclosure import Interval, dot_up, inner_up
from encoders.operator import Carry
from encoders.program import program_of
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_exact
from onnx_import import load
from onnx_import.graph import Graph
from refine.bounds.batch import batch_bounds
from refine.bounds.network import InputBox, Known, NetworkBounds, network_bounds
from refine.bounds.properties.deficits import DEFICIT
from refine.bounds.properties.limits import limits_of
from refine.bounds.properties.margins import Margins
from refine.bounds.widened import widened
from refine.domain.properties import Conjunction, Property, Row
from refine.domain.vnnlib import Half, is_empty, meet
from refine.process.pool import Here
from refine.proof.cover import covers
from refine.proof.input_splitting import Part, bound_parts, part_of, split_box

NOTHING = Known({}, {})
CONTRACTS = {"any": IEEE_ANY, "pinned": SEQUENTIAL, "exact": EXACT, "short": FP16, "ort": ORT_CPU}


def dense(path: Path) -> Path:
    return mlp(path, (3, 10, 10, 8, 2), seed=3, scale=0.8)


def leaky(path: Path) -> Path:
    return mlp(path, (3, 8, 8, 2), seed=4, scale=0.8, leak=0.1)


def branching(path: Path) -> Path:
    """Two ways to the output that meet, one of them through a tensor that is read twice."""
    rng = np.random.default_rng(5)
    weights = {n: rng.normal(0, 0.7, s) for n, s in (("w", (4, 6)), ("v", (6, 6)), ("u", (6, 3)))}
    weights["mean"] = rng.normal(0, 0.3, (1, 4))
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["c"]),
        helper.make_node("MatMul", ["c", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("MatMul", ["r", "v"], ["b"]),
        helper.make_node("Add", ["b", "r"], ["s"]),
        helper.make_node("Relu", ["s"], ["t"]),
        helper.make_node("Sub", ["t", "a"], ["d"]),
        helper.make_node("MatMul", ["d", "u"], ["y"]),
    ]
    held = {n: w.astype(np.float32) for n, w in weights.items()}
    return save(path, nodes, {"x": [1, 4]}, {"y": [1, 3]}, held)


def convolution(path: Path) -> Path:
    rng = np.random.default_rng(6)
    weights = {
        "k": rng.normal(0, 0.6, (3, 2, 2, 2)).astype(np.float32),
        "kb": rng.normal(0, 0.3, 3).astype(np.float32),
        "w": rng.normal(0, 0.6, (12, 2)).astype(np.float32),
        "flat": np.array([1, 12]),
    }
    nodes = [
        helper.make_node("Transpose", ["x"], ["m"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["m", "k", "kb"], ["c"]),
        helper.make_node("Tanh", ["c"], ["t"]),
        helper.make_node("Reshape", ["t", "flat"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["g"]),
        helper.make_node("Sigmoid", ["g"], ["y"]),
    ]
    return save(path, nodes, {"x": [1, 3, 3, 2]}, {"y": [1, 2]}, weights)


NETWORKS = (dense, leaky, branching, convolution)


def boxes_of(graph: Graph, many: int, seed: int = 0) -> list[InputBox]:
    """Boxes of many sizes, the last a point."""
    rng = np.random.default_rng(seed)
    (name,) = graph.inputs
    shape = graph.types[name].shape
    found = []
    for width in (*np.geomspace(1.0, 0.01, many - 1), 0.0):
        middle = rng.uniform(-1.0, 1.0, shape)
        x = Interval(middle - width, middle + width)
        found.append(InputBox({name: x}, {name: np.zeros(shape)}))
    return found


def at_once(graph: Graph, boxes: Sequence[InputBox], contract: Any = IEEE_ANY) -> NetworkBounds:
    wide = widened(program_of(graph), len(boxes))
    assert wide is not None
    with np.errstate(all="ignore"):
        given: list[dict[str, Interval]] = [{}] * len(boxes)
        bounds, _ = batch_bounds(wide, boxes, contract, around=NOTHING, ranges=given)
        return bounds


@pytest.mark.parametrize("contract", CONTRACTS)
@pytest.mark.parametrize("make", NETWORKS)
def test_a_box_among_others_is_bounded_as_by_itself(
    tmp_path: Path, make: Any, contract: str
) -> None:
    """Whatever else is in the batch: ranges, errors and roundings differ by their last digits."""
    graph = load(make(tmp_path / "m.onnx"))
    boxes = boxes_of(graph, 7)
    together = at_once(graph, boxes, CONTRACTS[contract])
    for i, box in enumerate(boxes):
        alone = at_once(graph, [box], CONTRACTS[contract])
        for tensor, x in alone.maps.values.items():
            found = together.maps.values[tensor]
            scale = float(np.max(np.abs([x.lo, x.hi])))
            for one, many in ((x.lo, found.lo), (x.hi, found.hi)):
                np.testing.assert_allclose(many[i : i + 1], one, rtol=1e-9, atol=1e-12 * scale)
            errors = alone.maps.errors[tensor]
            np.testing.assert_allclose(
                together.maps.errors[tensor][i : i + 1], errors, rtol=1e-6, atol=1e-40
            )


@pytest.mark.parametrize("make", NETWORKS)
def test_bounds_are_those_of_a_pass_over_one_box(tmp_path: Path, make: Any) -> None:
    """Which elements are pulled back differs: only those whose sign is open are here, so that what
    intervals alone give of later ones is wider."""
    graph = load(make(tmp_path / "m.onnx"))
    boxes = boxes_of(graph, 5)
    together = at_once(graph, boxes)
    for i, box in enumerate(boxes[:-1]):  # at a point the other pass evaluates
        alone = network_bounds(graph, box, IEEE_ANY)
        for tensor, x in alone.maps.values.items():
            found = together.maps.values[tensor]
            lo, hi = found.lo[i : i + 1], found.hi[i : i + 1]
            wanted = (lo < 0) & (hi > 0) if make is not convolution else hi - lo > 1e-9
            if any(not step.affine for step in program_of(graph).readers(tensor)):
                wider = (hi - lo)[wanted] / (x.hi - x.lo)[wanted]
                assert np.all(wider > 1.0 - 1e-9), tensor
                assert np.all(wider < (1.0 + 1e-6 if i > 2 else 1.3)), tensor


@pytest.mark.parametrize("make", NETWORKS)
def test_bounds_hold_of_executions(tmp_path: Path, make: Any) -> None:
    graph = load(make(tmp_path / "m.onnx"))
    boxes, rng = boxes_of(graph, 6, seed=1), np.random.default_rng(1)
    found = at_once(graph, boxes, SEQUENTIAL)
    (name,) = graph.inputs
    for i, box in enumerate(boxes):
        x = box.values[name]
        point = rng.uniform(x.lo, x.hi).astype(np.float32)
        inside = (x.lo <= point) & (point <= x.hi)
        if not np.all(inside):
            continue
        computed = emulate(graph, {name: point[None]}, SEQUENTIAL, every_tensor=True)
        exact: Any = None
        if make is not convolution:  # its functions have no rational values
            exact = evaluate_exact(graph, {name: point}, Rationals(), every_tensor=True)
        for tensor, got in computed.items():
            values, errors = found.maps.values[tensor], found.maps.errors[tensor][i].ravel()
            lo, hi = values.lo[i].ravel(), values.hi[i].ravel()
            run = np.asarray(got, np.float64).ravel()
            assert np.all((lo - errors <= run) & (run <= hi + errors))
            for place, v in enumerate(() if exact is None else exact[tensor].ravel()):
                real, _ = enclosure(v)
                assert lo[place] <= real <= hi[place], tensor
                assert abs(real - Fraction(float(run[place]))) <= errors[place], tensor


def test_what_mixes_rows_is_not_widened(tmp_path: Path) -> None:
    swapped = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t"], ["y"]),
    ]
    doubled = [helper.make_node("Concat", ["x", "x"], ["y"], axis=0)]
    summed = [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=1)]
    computed = [helper.make_node("MatMul", ["x", "z"], ["y"])]
    shapes = ([1, 1], [2, 3], [1, 1], [1, 1])
    for k, nodes in enumerate((swapped, doubled, summed, computed)):
        inputs: dict[str, Any] = {"x": [1, 3]}
        if k == 3:
            inputs["z"] = [3, 1]
        path = save(tmp_path / f"{k}.onnx", nodes, inputs, {"y": shapes[k]})
        assert widened(program_of(load(path)), 4) is None


def test_costs_are_summed_within_a_position_alone() -> None:
    rng = np.random.default_rng(2)
    c, v = rng.normal(size=(4, 5, 2, 3)), rng.normal(size=(5, 2, 3))
    v[1] = 0.0
    v[2, 0, 0] = np.inf
    c[1, 2, 0, 0] = 0.0
    for up, values in ((dot_up, np.abs(v)), (inner_up, v)):
        together = up(c, values, 1)
        for k in range(4):
            for b in range(5):
                alone = up(c[k : k + 1, b], values[b])[0]
                assert together[k, b] == pytest.approx(alone, rel=1e-12), (k, b)


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("exact", [False, True])
def test_what_carrying_costs_is_the_same_apart(exact: bool, bounded: bool) -> None:
    rng = np.random.default_rng(3)
    c = rng.normal(size=(4, 5, 6)) * (rng.random((4, 5, 6)) < 0.7)
    around, above, below = np.abs(rng.normal(size=(3, 5, 6)))
    above[1] = 0.0
    sides = {"above": above, "below": -below} if bounded else {}
    if exact:
        sides["exact"] = rng.normal(size=(5, 6))

    def carry(box: int | slice) -> Carry:
        given = {name: v[box] for name, v in sides.items()}
        return Carry(lambda c: (2.0 * c,), around[box], least=1e-300, **given)

    together = carry(slice(None))(c, 1)
    for b in range(5):
        alone = carry(b)(c[:, b])
        np.testing.assert_allclose(together.constant[:, b], alone.constant, rtol=1e-12)
        (mine,), (other,) = together.coefficients, alone.coefficients
        assert mine is not None
        np.testing.assert_array_equal(mine[:, b], other)


def problem_of(graph: Graph, at_most: float) -> Margins:
    """That y₀ − y₁ stays above a number."""
    row = Row({0: Fraction(1), 1: Fraction(-1)}, {}, Fraction(at_most), strict=False)
    return Margins(graph, IEEE_ANY, Property((Conjunction({}, (row,)),), "a test"))


@pytest.mark.parametrize("make", NETWORKS)
def test_margins_of_a_batch_are_those_of_its_boxes(tmp_path: Path, make: Any) -> None:
    graph = load(make(tmp_path / "m.onnx"))
    boxes, problem = boxes_of(graph, 6), problem_of(graph, 0.125)
    assert problem.batches is not None
    batch = problem.batches.bounded(boxes, NOTHING, [{}] * len(boxes))
    assert batch is not None
    for i, (box, found) in enumerate(zip(boxes, batch.boxes, strict=True)):
        alone = problem.bounds(box)
        (mine,), (other,) = found.margins, alone.margins
        assert mine.run <= mine.real
        if i > 2:  # the slopes chosen over wide boxes differ
            assert mine.run == pytest.approx(other.run, rel=1e-4, abs=1e-6)
        assert mine.safe == (mine.run > 0)
        assert found.radii[DEFICIT].largest == max(-mine.run, 0.0) or mine.safe


def test_splitting_in_batches_decides_what_holds(tmp_path: Path) -> None:
    """Leaves that cover the box, each proved; and none is, where an input of it is unsafe."""
    graph = load(dense(tmp_path / "m.onnx"))
    (name,) = graph.inputs
    x = Interval(np.full((1, 3), -0.5), np.full((1, 3), 0.5))
    box = InputBox({name: x}, {name: np.zeros((1, 3))})
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (500, 1, 3)).astype(np.float32)
    (output,) = graph.outputs
    y = emulate(graph, {name: points}, SEQUENTIAL)[output].reshape(500, 2)
    lowest = float(np.min(y[:, 0] - y[:, 1]))
    for slack, holds in ((-0.5, True), (0.01, False)):
        problem = problem_of(graph, lowest + slack)
        split = split_box(
            problem,
            part_of(box, problem.bounds(box)),
            excess=lambda errors: float(errors[DEFICIT][0]),
            enough=0.0,
            deadline=time.monotonic() + (60.0 if holds else 2.0),
            pool=Here(),
        )
        assert covers(box, split.parts)
        assert all(p.margins[0].safe for p in split.parts) is holds
        for part in split.parts:
            inside = part.box.values[name]
            there = np.all((points >= inside.lo) & (points <= inside.hi), axis=(1, 2))
            least = np.min((y[:, 0] - y[:, 1])[there], initial=np.inf) - (lowest + slack)
            assert part.margins[0].run <= least


def test_blame_goes_to_the_input_that_relaxations_hang_on(tmp_path: Path) -> None:
    """y = 100·x₀ + relu(x₁ + x₂/8) − relu(x₁): a plane in x₀, of which nothing is lost."""
    weights = {
        "w": np.array([[1, 0, 0], [0, 1, 1], [0, 0.125, 0]], np.float32),
        "lift": np.array([50.0, 0.0, 0.0], np.float32),
        "v": np.array([[100.0, 0.0], [1.0, 0.0], [-1.0, 0.0]], np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["s"]),
        helper.make_node("Add", ["s", "lift"], ["a"]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("MatMul", ["r", "v"], ["y"]),
    ]
    graph = load(save(tmp_path / "m.onnx", nodes, {"x": [1, 3]}, {"y": [1, 2]}, weights))
    x = Interval(np.full((1, 3), -1.0), np.full((1, 3), 1.0))
    boxes = [InputBox({"x": x}, {"x": np.zeros((1, 3))})] * 2
    problem = problem_of(graph, 1e4)
    assert problem.batches is not None
    batch = problem.batches.bounded(boxes, NOTHING, [{}, {}])
    assert batch is not None
    for found in batch.boxes:
        blamed = found.influence["x"].ravel()
        assert blamed[1] > 4 * blamed[2] > 0.0
    wide = widened(program_of(graph), 2)
    assert wide is not None
    with np.errstate(all="ignore"):
        _, shares = batch_bounds(wide, boxes, IEEE_ANY, around=NOTHING, ranges=[{}, {}])
    expected = np.array([[0.0, 0.0, 0.0], [0.0, 8 / 9, 1 / 9], [0.0, 1.0, 0.0]])
    np.testing.assert_allclose(shares["a"]["x"][0], expected)


def test_which_boxes_meet_limits_is_decided_exactly(tmp_path: Path) -> None:
    graph = load(dense(tmp_path / "m.onnx"))
    rng = np.random.default_rng(8)
    ends = [0.5, 0.25, float(np.nextafter(0.25, 1)), 0.0, -0.5]
    exact = [Fraction(1, 3), Fraction(1, 4), Fraction(0), Fraction(-1, 2)]
    boxes, every, met = [], list[Conjunction](), list[list[bool]]()
    for _ in range(60):
        low, high = np.sort(rng.choice(ends, (2, 1, 3)), axis=0)
        boxes.append(InputBox({graph.inputs[0]: Interval(low, high)}, {}))
    for _ in range(60):
        limits = {}
        for i in range(3):
            lo, hi = sorted(rng.choice(len(exact), 2))[::-1]
            sides = (exact[lo] if rng.random() < 0.7 else None, exact[hi])
            limits[i] = Half(*sides, bool(rng.random() < 0.5), bool(rng.random() < 0.5))
        unsafe = (Conjunction(limits, ()),)
        every += unsafe
        met.append([])
        for box in boxes:
            x = box.values[graph.inputs[0]]
            there = all(
                not is_empty(
                    meet(half, Half(Fraction(float(x.lo[0, i])), Fraction(float(x.hi[0, i]))))
                )
                for i, half in limits.items()
            )
            decided = limits_of(unsafe, [box], graph)
            assert decided.met.tolist() == [[there]]
            assert [radius.largest for radius in decided.why_not(0)] == [0.0] * (not there)
            met[-1].append(there)
    assert limits_of(every, boxes, graph).met.tolist() == met


@pytest.mark.parametrize(
    ("least", "upto", "apart", "shown"),
    [(1.0, 1.0, 0.0, False), (1.0, 1.0, 1.0, True), (2.0, 1.0, 0.0, True), (1.0, 2.0, 1.0, False)],
)
def test_limits_that_may_be_met_are_no_reason(
    least: float, upto: float, apart: float, shown: bool
) -> None:
    """Whoever decides that no input meets them: the lemma looks at the numbers."""
    lacks = apply(UNMET, least=least, upto=upto, open=apart)
    assert (lacks.largest == 0.0) is shown
    assert (lacks.record.failed is None) is shown


def test_what_ends_just_at_a_limit_is_decided_in_a_batch(tmp_path: Path) -> None:
    """A sum of Relus is not below 0, though a functional, rounded outwards, may be."""
    rng = np.random.default_rng(9)
    weights = {"w": rng.normal(size=(2, 4)).astype(np.float32)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["y"]),
    ]
    graph = load(save(tmp_path / "m.onnx", nodes, {"x": [1, 2]}, {"y": [1, 4]}, weights))
    row = Row({0: Fraction(1, 3)}, {}, Fraction(0), strict=True)
    problem = Margins(graph, EXACT, Property((Conjunction({}, (row,)),), "a test"))
    boxes = boxes_of(graph, 4)
    assert problem.batches is not None
    batch = problem.batches.bounded(boxes, NOTHING, [{}] * 4)
    assert batch is not None
    assert all(b.margins[0].safe for b in batch.boxes)
    assert all(b.errors[DEFICIT][0] == 0.0 for b in batch.boxes)


def test_a_batch_that_owes_something_is_bounded_one_by_one(tmp_path: Path) -> None:
    """An overflow in one box is not laid to the others' charge."""
    graph = load(mlp(tmp_path / "m.onnx", (2, 4, 2), scale=1e18))
    (name,) = graph.inputs
    problem = problem_of(graph, -1e30)
    zeros = {name: np.zeros((1, 2))}
    ends = (np.full((1, 2), r) for r in (1e-3, 1e4))
    boxes = [InputBox({name: Interval(-e, e)}, zeros) for e in ends]
    small, large = bound_parts((problem, NOTHING), [(box, NOTHING) for box in boxes])
    assert isinstance(small, Part)
    assert small.failure is None
    assert large.failure is not None
