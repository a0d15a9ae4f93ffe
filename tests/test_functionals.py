"""Goals on outputs: bounds of functionals held against executions, evaluated in exact rationals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_models import mlp

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.contract.contract import RuntimeContract
from encoders.contract.members import members
from encoders.contract.presets import PRESETS
from encoders.numbers.enclosure import FloatArray, Interval
from gpu_check.emulator.emulator import emulate
from onnx_import import load
from onnx_import.graph import Array, Graph
from refine.bounds.functionals import Functionals, Goal, Row
from refine.bounds.network import InputBox
from refine.witness.witness import real_outputs

CONTRACTS = ("ieee-any", "sequential")
ROWS = 6


def box_of(graph: Graph, lo: float, hi: float) -> InputBox:
    shapes = {t: graph.types[t].shape for t in graph.inputs}
    values = {t: Interval(np.full(s, lo), np.full(s, hi)) for t, s in shapes.items()}
    return InputBox(values, {t: np.zeros(s) for t, s in shapes.items()})


def goals_of(*goals: Goal) -> Mapping[str, ObjectArray]:
    made = np.empty(len(goals), dtype=object)
    made[:] = goals
    return {"goals": made}


def excess_of(
    graph: Graph, contract: RuntimeContract, *goals: Goal, lo: float = -1, hi: float = 1
) -> FloatArray:
    problem = Functionals(graph, contract, goals_of(*goals))
    return problem.bounds(box_of(graph, lo, hi)).errors["goals"]


def inner(c: FloatArray, values: Array) -> Fraction:
    pairs = zip(c.reshape(-1), values.reshape(-1), strict=True)
    return sum((Fraction(float(a)) * Fraction(float(b)) for a, b in pairs), Fraction(0))


def executed(
    graph: Graph, contract: RuntimeContract
) -> Iterator[tuple[Mapping[str, Array], Mapping[str, Array]]]:
    """Inputs, and what an allowed execution gives, of one sample each."""
    rng = np.random.default_rng(3)
    for execution in islice(members(contract), 4):
        for _ in range(10):
            x = {
                t: rng.choice([-1.0, 1.0, rng.uniform(-1, 1)], graph.types[t].shape).astype("f4")
                for t in graph.inputs
            }
            given = emulate(graph, {t: v[None] for t, v in x.items()}, execution)
            yield x, {t: np.asarray(v[0]) for t, v in given.items()}


@pytest.mark.parametrize("name", CONTRACTS)
def test_what_runs_and_what_is_meant_are_within_their_bounds(tmp_path: Path, name: str) -> None:
    """The left sides of rows on computed values, on real ones and on errors, in exact numbers."""
    graph, contract = load(mlp(tmp_path / "m.onnx", (2, 8, 3))), PRESETS[name]
    (output,) = graph.outputs
    rng = np.random.default_rng(1)
    cs = [rng.normal(size=graph.types[output].shape) for _ in range(ROWS)]
    least = Fraction(-(10**6))  # every left side lies above, so that excesses are its bounds
    rows = [
        *(Row.run({output: c}, least) for c in cs),
        *(Row({output: c}, {}, least) for c in cs),
        *(Row({}, {output: c}, least) for c in cs),
    ]
    bounds = [
        Fraction(float(e)) + least
        for e in excess_of(graph, contract, *(Goal.all_of(row) for row in rows))
    ]
    seen = [Fraction(-(10**9))] * len(rows)
    for x, given in executed(graph, contract):
        real = real_outputs(graph, x)[output]
        for i, c in enumerate(cs):
            weights = [Fraction(float(v)) for v in c.reshape(-1)]
            ran = inner(c, given[output])
            meant = Fraction(0)
            for w, value in zip(weights, real, strict=True):
                assert value is not None
                meant += w * value.lo
            for k, left in enumerate((ran, meant, ran - meant)):
                seen[k * ROWS + i] = max(seen[k * ROWS + i], left)
    slack = Fraction(1, 2**60)  # of the enclosure of real values
    assert all(s <= b + slack for s, b in zip(seen, bounds, strict=True))
    errors = list(zip(seen[2 * ROWS :], bounds[2 * ROWS :], strict=True))
    assert all(b < Fraction(1, 1000) for _, b in errors), "errors are bounded as errors are"
    joint = bounds[:ROWS]
    apart = [a + b for a, b in zip(bounds[ROWS : 2 * ROWS], bounds[2 * ROWS :], strict=True)]
    assert all(j <= a + Fraction(1, 2**30) for j, a in zip(joint, apart, strict=True))
    # a limit that an execution passes is not met
    for i, c in enumerate(cs):
        passed = Goal.all_of(Row.run({output: c}, seen[i], strict=True))
        assert excess_of(graph, contract, passed)[0] > 0


def test_a_row_is_met_up_to_its_limit_alone() -> None:
    below, at = Fraction(1, 3), Fraction(0.5)
    assert Row({}, {}, below).excess(0.25) == 0
    assert Row({}, {}, at).excess(0.5) == 0
    assert Row({}, {}, at, strict=True).excess(0.5) > 0
    assert Fraction(Row({}, {}, below).excess(0.5)) >= at - below
    assert Row({}, {}, at).excess(np.inf) == np.inf
    assert Row({}, {}, at).excess(np.nan) == np.inf
    assert Row({}, {}, at, strict=True).excess(-np.inf) == 0


def test_goals_need_all_rows_of_one_alternative(tmp_path: Path) -> None:
    graph, contract = load(mlp(tmp_path / "m.onnx")), PRESETS["sequential"]
    (output,) = graph.outputs
    one = np.zeros(graph.types[output].shape)
    one.reshape(-1)[0] = 1.0
    easy, hard = (Row.run({output: one}, Fraction(limit)) for limit in (1000, -1000))
    found = excess_of(
        graph,
        contract,
        Goal.all_of(easy),
        Goal.all_of(hard),
        Goal.all_of(easy, hard),
        Goal.any_of(easy, hard),
        Goal(((hard, easy), (hard,))),
    )
    assert found[0] == found[3] == 0
    assert found[1] == found[2] == found[4] > 900


def test_an_output_that_is_stored_or_an_input(tmp_path: Path) -> None:
    stored = numpy_helper.from_array(np.array([0.1, 3.0], np.float32), "s")
    kinds = [helper.make_tensor_value_info(t, TensorProto.FLOAT, [2]) for t in ("x", "y", "s")]
    node = helper.make_node("Relu", ["x"], ["y"])
    made = helper.make_graph([node], "g", kinds[:1], kinds[1:], [stored])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "m")
    graph, contract = load(tmp_path / "m"), PRESETS["sequential"]
    both = {t: np.ones(2) for t in graph.outputs}
    limit = 2 + Fraction(float(np.float32(0.1))) + 3
    rows = [Row.run(both, limit), Row.run(both, limit - Fraction(1, 1000))]
    found = excess_of(graph, contract, *(Goal.all_of(row) for row in rows))
    assert found[0] < 1e-12
    assert 0.000999 < found[1] < 0.001001
