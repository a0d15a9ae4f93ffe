"""Batch invariance: bit for bit where the contract pins the schedule for any number of rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, helper
from small_models import mlp, save

from encoders.contract.contract import (
    BiasPlacement,
    Blocked,
    Contraction,
    RuntimeContract,
    Schedule,
    ScheduleRule,
)
from encoders.contract.presets import ORT_CPU, PRESETS, SEQUENTIAL_FMA
from gpu_check.emulator.emulator import emulate
from gpu_check.runtimes.runtimes import OnnxRuntime
from onnx_import import load
from onnx_import.errors import ModelError
from refine.claims.kinds.batch_invariance import batch_invariance
from refine.claims.options import Options
from refine.domain.domain import DomainOptions, read_domain
from refine.lemmas.cache import default_directory
from refine.options.options import tolerance_of
from refine.results.verdict import Result, Verdict

IN_BLOCKS = Schedule(Blocked(4), Contraction.ALWAYS, BiasPlacement.LAST)
BY_ROWS = replace(SEQUENTIAL_FMA, rules=(ScheduleRule(IN_BLOCKS, operator="Gemm", rows=4),))


def open_batch(path: Path) -> Path:
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    onnx.save(model, path)
    return path


def claim(model: Path, contract: RuntimeContract, eps: str = "0", batch: int = 4) -> Result:
    graph = load(model)
    domain = read_domain(graph, DomainOptions(inputs=("-1..1",)), contract.format_of)
    tolerance = tolerance_of((eps,), graph.outputs, zero=True)
    options = Options(None, default_directory())
    return batch_invariance(
        graph, batch, domain=domain, contract=contract, tolerance=tolerance, options=options
    )


@pytest.mark.parametrize("contract", ["sequential", "sequential-fma", "pairwise", "ort-cpu"])
def test_a_pinned_schedule_is_the_same_for_any_number_of_rows(
    tmp_path: Path, contract: str
) -> None:
    result = claim(open_batch(mlp(tmp_path / "m.onnx")), PRESETS[contract])
    assert result.verdict is Verdict.VERIFIED
    assert result.bound == 0.0


def test_any_order_is_not_invariant_but_within_a_bound(tmp_path: Path) -> None:
    model = open_batch(mlp(tmp_path / "m.onnx"))
    exactly = claim(model, PRESETS["ieee-any"])
    assert exactly.verdict is Verdict.VIOLATED
    assert exactly.witness is not None
    assert exactly.witness.replays
    assert claim(model, PRESETS["ieee-any"], "1e-4").verdict is Verdict.VERIFIED


def test_a_schedule_that_depends_on_the_rows_is_caught(tmp_path: Path) -> None:
    model = open_batch(mlp(tmp_path / "m.onnx"))
    result = claim(model, BY_ROWS)
    assert result.verdict is Verdict.VIOLATED
    witness = result.witness
    assert witness is not None
    row = witness.index[0]
    together = emulate(load(model, 4), {"x": witness.inputs["x"][np.newaxis]}, BY_ROWS)["y"]
    alone = emulate(load(model), {"x": witness.inputs["x"][np.newaxis, row : row + 1]}, BY_ROWS)
    apart = float(together[0, row, 0]) - float(alone["y"][0, 0, 0])
    assert abs(apart) == float(witness.error.lo) > 0
    assert claim(model, BY_ROWS, batch=5).verdict is Verdict.VERIFIED
    assert claim(model, BY_ROWS, "1e-4").verdict is Verdict.VERIFIED


@pytest.mark.parametrize(
    "nodes",
    [
        [
            helper.make_node("ReduceMean", ["x"], ["m"], axes=[0]),
            helper.make_node("Sub", ["x", "m"], ["y"]),
        ],
        [helper.make_node("Softmax", ["x"], ["y"], axis=0)],
        [
            helper.make_node("ReduceMax", ["x"], ["m"], axes=[0]),
            helper.make_node("Less", ["x", "m"], ["c"]),
            helper.make_node("Where", ["c", "x", "zero"], ["y"]),
        ],
    ],
)
def test_rows_that_depend_on_each_other_are_violations(
    tmp_path: Path, nodes: list[NodeProto]
) -> None:
    held = {"zero": np.float32(0)} if any("zero" in n.input for n in nodes) else {}
    model = save(tmp_path / "m.onnx", nodes, {"x": (1, 3)}, {"y": (1, 3)}, held)
    result = claim(open_batch(model), PRESETS["sequential"])
    assert result.verdict is Verdict.VIOLATED
    assert any("depends on the others" in note for note in result.notes)


def test_a_fixed_batch_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    model = save(tmp_path / "m.onnx", nodes, {"x": (2, 3)}, {"y": (2, 3)}, {})
    with pytest.raises(ModelError, match="first dimension"):
        claim(model, PRESETS["sequential"])


def test_what_onnxruntime_does_with_rows_together_and_alone_counts_as_found(
    tmp_path: Path,
) -> None:
    """Its logarithm has other bits in the vectors of a batch than in the rest of a row."""
    node = helper.make_node("Log", ["x"], ["y"], "log")
    path = save(tmp_path / "log.onnx", [node], {"x": [1, 3]}, {"y": [1, 3]})
    model = open_batch(path)
    graph = load(model)
    domain = read_domain(graph, DomainOptions(inputs=("0.5..2",)), ORT_CPU.format_of)
    tolerance = tolerance_of(("0",), graph.outputs, zero=True)
    options = Options(None, default_directory(), conform=True)
    result = batch_invariance(
        graph, 8, domain=domain, contract=ORT_CPU, tolerance=tolerance, options=options
    )
    assert result.verdict is Verdict.UNKNOWN
    runtime = OnnxRuntime(model)
    x = np.random.default_rng(3).uniform(0.5, 2, (400, 8, 3)).astype(np.float32)
    apart = max(
        float(np.max(np.abs(runtime.run({"x": b})["y"][i] - runtime.run({"x": b[i : i + 1]})["y"])))
        for b in x
        for i in range(4)
    )
    assert result.shown is not None
    assert 0 <= result.shown.error <= result.bound
    assert result.largest_found == result.shown.error
    assert (result.shown.error > 0) == (apart > 0)


def test_a_batch_of_one_that_is_read_as_more_is_noted(tmp_path: Path) -> None:
    fixed = mlp(tmp_path / "one.onnx", (2, 3))
    assert load(fixed, batch=1).notes == load(fixed).notes == ()
    (note,) = load(fixed, batch=4).notes
    assert "is 1 in the file and was read as 4" in note
