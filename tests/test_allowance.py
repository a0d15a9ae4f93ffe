"""A pass has so much work for its pull-backs, and no more: what comes out is as true with next to
none of it, never tighter, and the same where there is enough."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import small_models
from onnx import helper

from encoders.arithmetic.exact_fields import Balls
from encoders.contract.presets import IEEE_ANY
from encoders.numbers.enclosure import Interval
from encoders.program import program_of
from gpu_check.emulator.exact import evaluate_exact
from gpu_check.runtimes.runtimes import OnnxRuntime
from onnx_import import load
from onnx_import.graph import Graph
from refine.bounds.evaluated import enclosed
from refine.bounds.local import allowance
from refine.bounds.local.allowance import ERRORS, VALUES, Allowance
from refine.bounds.network import InputBox, NetworkBounds, network_bounds
from refine.bounds.problem import Network
from refine.bounds.pruning import gained, in_parts
from refine.common.clock import Clock, ShortOfTime
from refine.domain.domain import DomainOptions, read_domain
from refine.proof.proof import first_proof

WIDE, STEPS = 6, 8


def recurrent(path: Path) -> Graph:
    """A state that is moved through tanh and relu by turns, eight times, and normalised."""
    rng = np.random.default_rng(5)
    nodes, stored, state = [], {}, "x"
    for i in range(STEPS):
        stored[f"w{i}"] = rng.normal(0, 0.5, (WIDE, WIDE)).astype(np.float32)
        nodes.append(helper.make_node("MatMul", [state, f"w{i}"], [f"h{i}"], f"h{i}"))
        nodes.append(helper.make_node("Tanh" if i % 2 else "Relu", [f"h{i}"], [f"s{i}"], f"s{i}"))
        nodes.append(helper.make_node("Add", [f"s{i}", "x"], [f"a{i}"], f"a{i}"))
        state = f"a{i}"
    stored["scale"] = np.ones(WIDE, np.float32)
    nodes.append(helper.make_node("LayerNormalization", [state, "scale"], ["n"], "n", axis=-1))
    nodes.append(helper.make_node("Softmax", ["n"], ["y"], "y", axis=-1))
    return load(small_models.save(path, nodes, {"x": [1, WIDE]}, {"y": [1, WIDE]}, stored))


def box_of(graph: Graph, radius: float) -> InputBox:
    middle = np.linspace(-1, 1, WIDE).astype(np.float32)[np.newaxis]
    by = np.float32(radius)
    x = Interval((middle - by).astype(np.float64), (middle + by).astype(np.float64))
    return InputBox({"x": x}, {"x": np.zeros((1, WIDE))})


@pytest.mark.parametrize("radius", [0.0, 0.1])
@pytest.mark.parametrize("most", [0, 3 * 10**8])
def test_next_to_no_work_gives_true_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, radius: float, most: int
) -> None:
    graph = recurrent(tmp_path / "m.onnx")
    box = box_of(graph, radius)
    whole = network_bounds(graph, box, IEEE_ANY)
    forward = network_bounds(graph, box, IEEE_ANY, backward=False)
    monkeypatch.setattr(allowance, "_ALLOWANCE", most)
    found = network_bounds(graph, box, IEEE_ANY)
    assert not whole.cut_short
    assert found.cut_short
    assert whole.largest <= found.largest <= forward.largest
    runtime = OnnxRuntime(tmp_path / "m.onnx")
    rng = np.random.default_rng(0)
    lo, hi = (v.astype(np.float32) for v in (box.values["x"].lo, box.values["x"].hi))
    for _ in range(20):
        x = np.clip(rng.uniform(lo, hi).astype(np.float32), lo, hi)
        real = enclosed(evaluate_exact(graph, {"x": x}, Balls(128))["y"])
        run = np.asarray(runtime.run({"x": x})["y"], np.float64)
        off = np.minimum(np.abs(run - real.lo), np.abs(run - real.hi))
        assert np.all(off <= found.errors["y"])
        y = found.maps.values["y"]
        assert np.all((y.lo <= real.hi) & (real.lo <= y.hi))


def passing(graph: Graph, most: float) -> Allowance:
    return Allowance.of(graph, (), (), most)


def test_what_is_asked_within_the_allowance_is_granted_whole(tmp_path: Path) -> None:
    graph = recurrent(tmp_path / "m.onnx")
    rows, measure = np.arange(WIDE), np.ones(WIDE)
    enough = passing(graph, 10**12)
    for i in range(STEPS):
        for kind in (VALUES, ERRORS):
            granted = enough.granted(f"h{i}", kind, rows, measure, None)
            assert granted.nodes is None
            assert granted.rows.tolist() == rows.tolist()
            assert granted.price(rows) >= granted.price(rows[:2]) > 0
            assert granted.price(rows[:0]) == 0
            enough.spend(granted.price(rows))
    assert not enough.cut


def test_what_does_not_suffice_is_shared_and_outputs_get_more(tmp_path: Path) -> None:
    graph = recurrent(tmp_path / "m.onnx")
    rows, measure = np.arange(WIDE), np.array([1.0, 5.0, 2.0, 9.0, 0.0, 3.0])
    little = passing(graph, 5 * 10**8)
    spent = 0.0
    for step in program_of(graph).steps:
        for kind in (VALUES, ERRORS):
            granted = little.granted(step.output, kind, rows, measure, None)
            price = granted.price(granted.rows)
            assert price <= little.left or step.output == "y"
            spent += price if step.output != "y" else 0.0
            little.spend(price)
    assert spent <= 5 * 10**8
    assert len(little.cut) > 0
    nothing = passing(graph, 0)
    assert len(nothing.granted("h6", ERRORS, rows, measure, None).rows) == 0
    assert nothing.granted("y", ERRORS, rows, measure, None).rows.tolist() == [3]


def test_functionals_that_cost_much_pass_fewer_nodes_before_fewer_of_them_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allowance, "_FEWEST_NODES", 4)
    graph = recurrent(tmp_path / "m.onnx")
    rows, measure = np.arange(WIDE), np.ones(WIDE)
    seen = []
    for most in (10**10, 5 * 10**9, 10**9, 3 * 10**8, 10**7):
        granted = passing(graph, most).granted("h7", ERRORS, rows, measure, None)
        seen.append((granted.nodes, len(granted.rows)))
    assert seen[0] == (None, WIDE)
    nodes = [n for n, _ in seen if n is not None]
    assert nodes == sorted(nodes, reverse=True)
    assert nodes[-1] == 4
    assert [k for _, k in seen] == sorted((k for _, k in seen), reverse=True)


def test_elements_that_cost_much_are_asked_in_part_first() -> None:
    rows, measure = np.arange(200), np.arange(200.0)
    asked, others = in_parts(rows, measure, 10.0**9)
    assert {198, 199} <= set(asked)
    assert 4 <= len(asked) < 20
    assert sorted((*asked, *others)) == list(range(1, 200))
    assert gained(measure, 0.95 * measure, 10.0**8)
    assert not gained(measure, 0.95 * measure, 10.0**11)
    assert gained(measure, 0.85 * measure, 10.0**11)
    assert not gained(measure, 0.95 * measure, 10.0**8, 10.0**7)
    asked, others = in_parts(rows, measure, 10.0**6, 10.0**7)
    assert len(asked) < len(others)
    asked, others = in_parts(rows, measure, 10.0**6)
    assert len(asked) == 200
    assert not len(others)


def proved(graph: Graph, seconds: float | None) -> NetworkBounds:
    domain = read_domain(graph, DomainOptions(inputs=("-0.1..0.1",)), IEEE_ANY.format_of)
    clock = Clock(time.monotonic(), seconds, lambda stage: None)
    return first_proof(Network(graph, IEEE_ANY), domain, True, clock).boxes[0].whole


def test_where_time_is_short_the_rest_is_composed_forward(tmp_path: Path) -> None:
    graph = recurrent(tmp_path / "m.onnx")
    plenty, none = proved(graph, None), proved(graph, 1e-9)
    assert not plenty.hurried
    assert none.hurried
    assert plenty.largest < none.largest < np.inf


def test_bounds_of_a_pass_that_is_stopped_anywhere_lie_between(tmp_path: Path) -> None:
    graph = recurrent(tmp_path / "m.onnx")
    box = box_of(graph, 0.1)
    whole = network_bounds(graph, box, IEEE_ANY)
    forward = network_bounds(graph, box, IEEE_ANY, backward=False)
    for stop in range(0, 300, 70):
        left = iter(range(stop))

        def tick(left: object = left) -> None:
            if next(left, None) is None:  # type: ignore[call-overload]
                raise ShortOfTime

        found = network_bounds(graph, box, IEEE_ANY, tick=tick)
        assert found.hurried
        assert whole.largest <= found.largest <= forward.largest
