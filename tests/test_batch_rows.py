"""Batch claims of networks whose rows are not all treated alike, held against onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper
from small_models import save

from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import EXACT, PRESETS
from onnx_import import load
from onnx_import.errors import ModelError
from refine.claims.batch_rows import reading_of
from refine.claims.kinds.batch_invariance import batch_invariance
from refine.claims.options import Options
from refine.cli.main import run
from refine.domain.domain import DomainOptions, read_domain
from refine.lemmas.cache import default_directory
from refine.options.options import tolerance_of
from refine.results.verdict import ExitCode, Result, Verdict

WIDTH = 3
BATCH = 4


def node(op: str, inputs: str, output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(op, inputs.split(), [output], output, **attributes)


def model(path: Path, nodes: list[NodeProto], held: dict[str, Any], axis: int = 0) -> Path:
    """From x [N, 3] to y, [N, 3] or, with another axis, its transpose."""
    shapes: dict[str, list[str | int | None]] = {
        "x": ["N", WIDTH],
        "y": ["N", WIDTH] if axis == 0 else [WIDTH, "N"],
    }
    given, gives = (
        [helper.make_tensor_value_info(t, TensorProto.FLOAT, shapes[t])] for t in ("x", "y")
    )
    stored = [numpy_helper.from_array(np.asarray(v), n) for n, v in held.items()]
    graph = helper.make_graph(nodes, "g", given, gives, stored)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


ROWS = [  # the number of rows, as an integer and as a float; their numbers, [N, 1]
    node("Shape", "x", "shape"),
    node("Gather", "shape zero", "count"),
    node("Cast", "count", "rows", to=TensorProto.FLOAT),
    node("Range", "zero count one", "numbers"),
    node("Cast", "numbers", "places", to=TensorProto.FLOAT),
    node("Unsqueeze", "places last", "column"),
]
HELD: dict[str, Any] = {
    "zero": np.array(0),
    "one": np.array(1),
    "last": np.array([1]),
    "half": np.float32(0.5),
    "minus": np.array([-1]),
    "first": np.array([0]),
    "two": np.array([2]),
    "w": np.array([[1, 2, 0], [0, 1, 1], [1, 0, -1]], np.float32),
    "b": np.array([0.5, -0.25, 0.125], np.float32),
    "many": np.array([100]),
    "flip": np.array([-1]),
    "low": np.array([-(2**31)]),
    "table": np.arange(64, dtype=np.float32)[:, None] / 8,
    "small": np.full((64, 1), 0.125, np.float32),
}
ALIKE = {
    "gemm": [node("Gemm", "x w b", "y")],
    "softmax": [node("Softmax", "x", "y", axis=1)],
    "mean of a row": [
        node("ReduceMean", "x", "m", axes=[1]),
        node("Sub", "x m", "y"),
    ],
    "reshaped by the number of rows": [
        *ROWS,
        node("Unsqueeze", "count first", "n"),
        node("Concat", "minus last", "flat", axis=0),
        node("Reshape", "x flat", "z"),
        node("Relu", "z", "r"),
        node("Shape", "x", "back"),
        node("Reshape", "r back", "y"),
    ],
    "the same number for all": [
        *ROWS,
        node("Mul", "rows half", "h"),
        node("Sub", "h h", "none"),
        node("Add", "x none", "y"),
    ],
    "a table of equal rows": [
        *ROWS,
        node("Gather", "small numbers", "part", axis=0),
        node("Add", "x part", "y"),
    ],
}
APART = {
    "position": [*ROWS, node("Add", "x column", "y")],
    "position times": [*ROWS, node("Mul", "x column", "p"), node("Tanh", "p", "y")],
    "divided": [*ROWS, node("Div", "x rows", "y")],
    "position masked": [
        *ROWS,
        node("Less", "column half", "c"),
        node("Where", "c x half", "y"),
    ],
    "a table": [*ROWS, node("Gather", "table numbers", "part", axis=0), node("Add", "x part", "y")],
    "behind a clip": [
        *ROWS,
        node("Mul", "x column", "p"),
        node("Clip", "p", "q"),
        node("Relu", "q", "y"),
    ],
    "reversed": [node("Slice", "x flip low first flip", "y")],
    "the first row": [
        node("Gather", "x first", "f", axis=0),
        node("Sub", "x f", "y"),
    ],
    "softmax of columns": [node("Softmax", "x", "y", axis=0)],
    "mean of the batch": [node("ReduceMean", "x", "m", axes=[0]), node("Sub", "x m", "y")],
    "largest of the batch": [
        node("ReduceMax", "x", "m", axes=[0]),
        node("Less", "x m", "c"),
        node("Where", "c x half", "y"),
    ],
    "transposed back to front": [
        node("Transpose", "x", "t", perm=[1, 0]),
        node("Shape", "x", "back"),
        node("Reshape", "t back", "y"),
    ],
    "shape of the batch": [
        node("Shape", "x", "shape"),
        node("ReduceProd", "shape", "size", keepdims=0),
        node("Cast", "size", "s", to=TensorProto.FLOAT),
        node("Mul", "x s", "y"),
    ],
}


def claim(path: Path, contract: RuntimeContract, eps: str, batch: int = BATCH) -> Result:
    graph = load(path)
    domain = read_domain(graph, DomainOptions(inputs=("-1..1",)), contract.format_of)
    tolerance = tolerance_of((eps,), graph.outputs, zero=True)
    options = Options(None, default_directory(), budget=1.0)
    return batch_invariance(
        graph, batch, domain=domain, contract=contract, tolerance=tolerance, options=options
    )


def gap_on_onnxruntime(path: Path, batch: int, axis: int = 0) -> float:
    """The largest difference between rows of some batches and the same rows alone."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(5)
    worst = 0.0
    for _ in range(5):
        x = rng.uniform(-1, 1, (batch, WIDTH)).astype(np.float32)
        together = np.asarray(session.run(None, {"x": x})[0])
        alone = [np.asarray(session.run(None, {"x": x[i : i + 1]})[0]) for i in range(batch)]
        worst = max(worst, float(np.max(np.abs(together - np.concatenate(alone, axis=axis)))))
    return worst


@pytest.mark.parametrize("name", ALIKE)
def test_rows_that_are_treated_alike_are_verified(tmp_path: Path, name: str) -> None:
    path = model(tmp_path / "m.onnx", ALIKE[name], HELD)
    assert gap_on_onnxruntime(path, BATCH) < 1e-5
    assert claim(path, PRESETS["ieee-any"], "1e-4").verdict is Verdict.VERIFIED
    exactly = claim(path, PRESETS["sequential"], "0").verdict
    same_constants = name != "the same number for all"  # else the bits are not compared
    assert exactly is (Verdict.VERIFIED if same_constants else Verdict.UNKNOWN)


@pytest.mark.parametrize("contract", [PRESETS["ieee-any"], PRESETS["sequential"], EXACT])
@pytest.mark.parametrize("nodes", APART.values(), ids=APART.keys())
def test_rows_that_are_not_treated_alike_are_violations(
    tmp_path: Path, nodes: list[NodeProto], contract: RuntimeContract
) -> None:
    path = model(tmp_path / "m.onnx", nodes, HELD)
    assert gap_on_onnxruntime(path, BATCH) > 1e-2
    result = claim(path, contract, "1e-3")
    assert result.verdict is Verdict.VIOLATED
    witness = result.witness
    assert witness is not None
    assert witness.inputs["x"].shape == (BATCH, WIDTH)
    assert witness.error.lo > 0
    assert result.graph.types["x"].shape == (BATCH, WIDTH)


def test_a_violation_is_replayed_on_the_batch_and_on_the_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    model(tmp_path / "m.onnx", APART["position"], HELD)
    asked = ["--claim", "batch-invariant", "--batch", "3", "--input", "-1..1", "--eps", "1e-3"]
    assert run(["check", "m.onnx", *asked]) is ExitCode.VIOLATED
    assert run(["replay", "m-counterexample.json"]) is ExitCode.VIOLATED
    out = capsys.readouterr().out
    assert "): row 2 of a" in out


def test_rows_need_not_be_the_first_axis_of_an_output(tmp_path: Path) -> None:
    turned = [node("Gemm", "x w b", "g"), node("Transpose", "g", "y", perm=[1, 0])]
    path = model(tmp_path / "m.onnx", turned, HELD, axis=1)
    assert gap_on_onnxruntime(path, BATCH, axis=1) < 1e-5
    assert claim(path, PRESETS["ieee-any"], "1e-4").verdict is Verdict.VERIFIED
    added = [*ROWS, node("Add", "x column", "g"), node("Transpose", "g", "y", perm=[1, 0])]
    path = model(tmp_path / "n.onnx", added, HELD, axis=1)
    result = claim(path, PRESETS["ieee-any"], "1e-4")
    assert result.verdict is Verdict.VIOLATED
    assert result.witness is not None
    assert result.witness.index[1] > 0


def test_rows_that_depend_on_each_other_where_no_batch_shows_it_are_refused(
    tmp_path: Path,
) -> None:
    """A mean of the batch enters only where it is above 5, which it never is."""
    hidden = [
        node("ReduceMean", "x", "m", axes=[0]),
        node("Sub", "m five", "d"),
        node("Relu", "d", "r"),
        node("Add", "x r", "y"),
    ]
    path = model(tmp_path / "m.onnx", hidden, {**HELD, "five": np.float32(5)})
    with pytest.raises(ModelError, match="depends on the others"):
        claim(path, PRESETS["sequential"], "1e-3")


def random_nodes(rng: np.random.Generator) -> list[NodeProto]:
    """A chain of layers; some of them treat rows unlike each other, or mix them."""
    steps: list[tuple[str, list[tuple[str, str, dict[str, Any]]]]] = [
        ("plain", [("Gemm", "{} w b", {})]),
        ("plain", [("Relu", "{}", {})]),
        ("plain", [("Softmax", "{}", {"axis": 1})]),
        ("plain", [("Tanh", "{}", {})]),
        ("apart", [("Add", "{} column", {})]),
        ("apart", [("Mul", "{} rows", {})]),
        ("apart", [("Sub", "{} part", {})]),
        ("mixed", [("Softmax", "{}", {"axis": 0})]),
        ("mixed", [("Slice", "{} flip low first flip", {})]),
    ]
    nodes = [*ROWS, node("Gather", "table numbers", "part", axis=0)]
    tensor = "x"
    depth = int(rng.integers(1, 5))
    for k in range(depth):
        weights = [3.0 if kind == "plain" else 0.5 for kind, _ in steps]
        chosen = rng.choice(len(steps), p=np.array(weights) / sum(weights))
        for op, inputs, attributes in steps[int(chosen)][1]:
            output = "y" if k == depth - 1 else f"t{k}"
            nodes.append(node(op, inputs.format(tensor), output, **attributes))
            tensor = output
    return nodes


@pytest.mark.parametrize("seed", range(24))
def test_no_batch_that_onnxruntime_tells_apart_is_verified(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    path = model(tmp_path / "m.onnx", random_nodes(rng), HELD)
    batch = int(rng.integers(2, 6))
    gap = gap_on_onnxruntime(path, batch)
    try:
        result = claim(path, PRESETS["ieee-any"], "1e-3", batch)
    except ModelError:
        assert gap > 0  # rows that depend on each other, and nothing was claimed
        return
    if gap > 1e-3:
        assert result.verdict is Verdict.VIOLATED
    else:
        assert result.verdict is not Verdict.VIOLATED or result.witness is not None


def test_an_output_that_is_left_out_is_none(tmp_path: Path) -> None:
    """A name that is empty, at the end: there is nothing to compare with a row."""
    left_out = helper.make_node("LayerNormalization", ["x", "s"], ["y", ""], "norm")
    scale = {"s": np.ones(3, np.float32)}
    file = save(tmp_path / "l.onnx", [left_out], {"x": ["N", 3]}, {"y": ["N", 3]}, scale)
    assert reading_of(load(file, 1), load(file, 2), 2).mixing is None
