"""Errors of margins, held against executions in orders of their own and against exact values."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from onnx import TensorProto, helper, load, save_model
from small_models import save

import refine
from encoders.contract.presets import IEEE_ANY
from encoders.numbers.enclosure import Interval
from onnx_import.errors import ModelError
from refine.bounds.network import InputBox, Known
from refine.bounds.properties.row_errors import ROWS, RowErrors
from refine.claims.outputs.labels import other_labels
from refine.cli.main import run
from refine.domain.properties import Property
from refine.results.verdict import ExitCode

Array = npt.NDArray[np.float32]


def classifier(path: Path, weights: list[Array], label: bool = False) -> Path:
    nodes, tensor = [], "x"
    for k, _ in enumerate(weights):
        nodes.append(helper.make_node("MatMul", [tensor, f"w{k}"], [f"s{k}"]))
        tensor = f"s{k}"
        if k + 1 < len(weights):
            nodes.append(helper.make_node("Relu", [tensor], [f"r{k}"]))
            tensor = f"r{k}"
    last, width = nodes[-1].output, weights[-1].shape[1]
    named = {f"w{k}": w for k, w in enumerate(weights)}
    last[0] = "y"
    if label:
        nodes.append(helper.make_node("ArgMax", ["y"], ["z"], axis=1, keepdims=0))
        made = load(save(path, nodes, {"x": [1, len(weights[0])]}, {"z": [1]}, named))
        made.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
        save_model(made, path)
        return path
    return save(path, nodes, {"x": [1, len(weights[0])]}, {"y": [1, width]}, named)


def exact(weights: list[Array], x: Array) -> list[Fraction]:
    values = [Fraction(float(v)) for v in x]
    for k, w in enumerate(weights):
        values = [
            sum((v * Fraction(float(w[i, j])) for i, v in enumerate(values)), Fraction(0))
            for j in range(w.shape[1])
        ]
        if k + 1 < len(weights):
            values = [max(v, Fraction(0)) for v in values]
    return values


def executed(weights: list[Array], x: Array, rng: np.random.Generator) -> Array:
    """A float32 run whose sums go in an order of its own, without our code."""
    for k, w in enumerate(weights):
        y = np.zeros(w.shape[1], np.float32)
        for i in rng.permutation(len(x)):
            y = (y + (x[i] * w[i]).astype(np.float32)).astype(np.float32)
        x = np.maximum(y, np.float32(0.0)) if k + 1 < len(weights) else y
    return x


def random_weights(seed: int) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [
        rng.normal(0, 0.7, (n, m)).astype(np.float32) for n, m in itertools.pairwise((4, 8, 6, 3))
    ]


@pytest.mark.parametrize("seed", range(3))
def test_no_execution_shrinks_a_margin_by_more(tmp_path: Path, seed: int) -> None:
    weights, rng = random_weights(seed), np.random.default_rng(100 + seed)
    model = classifier(tmp_path / "m.onnx", weights)
    every = refine.bound(model, "-1..1", margin=True, budget=0.5, z3="none")
    ones = [refine.bound(model, "-1..1", margin=k, budget=0.3, z3="none") for k in range(3)]
    assert every.verdict == "verified"
    limits = np.array([one.bounds["margin"] for one in ones])
    assert np.all(np.diag(limits) == 0.0)
    largest = 0.0
    for _ in range(60):
        x = rng.uniform(-1, 1, 4).astype(np.float32)
        real, ran = exact(weights, x), executed(weights, x, rng)
        for a, b in itertools.permutations(range(3), 2):
            shrunk = (real[a] - real[b]) - (Fraction(float(ran[a])) - Fraction(float(ran[b])))
            assert shrunk <= Fraction(float(limits[a, b]))
            assert shrunk <= Fraction(float(every.bounds["margin"][a]))
            largest = max(largest, float(shrunk))
    assert 0 < every.bound < 100 * largest


def test_shared_errors_cancel(tmp_path: Path) -> None:
    """Two scores that are one sum, moved by exact factors: their difference errs by less than
    theirs together."""
    first = np.random.default_rng(5).normal(0, 1, (32, 1)).astype(np.float32)
    last = np.array([[1.0, 0.5]], np.float32)
    model = classifier(tmp_path / "m.onnx", [first, last])
    plain = refine.bound(model, "0.5..1", budget=1.0, z3="none", no_search=True)
    margin = refine.bound(model, "0.5..1", margin=0, budget=1.0, z3="none")
    one, other = plain.bounds["y"].reshape(-1)
    assert margin.bound < 0.6 * (one + other)


def test_the_scores_behind_a_label(tmp_path: Path) -> None:
    weights = random_weights(7)
    shown = refine.bound(classifier(tmp_path / "a.onnx", weights), "-1..1", margin=1, budget=0.5)
    hidden = refine.bound(
        classifier(tmp_path / "b.onnx", weights, label=True), "-1..1", margin=1, budget=0.5
    )
    assert hidden.verdict == "verified"
    assert 0.7 * shown.bound < hidden.bound < 1.5 * shown.bound


def test_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    classifier(tmp_path / "m.onnx", random_weights(1))
    options = ["--input", "-1..1", "--budget", "1", "--no-conform", "-q"]
    assert run(["bound", "m.onnx", *options, "--margin"]) is ExitCode.VERIFIED
    assert run(["bound", "m.onnx", "--margin", "2", *options]) is ExitCode.VERIFIED
    assert run(["bound", "m.onnx", "--margin", "y[2]", *options]) is ExitCode.VERIFIED
    assert run(["bound", "m.onnx", "--margin", "3", *options]) is ExitCode.INPUT_ERROR
    claim = ["check", "m.onnx", *options, "--claim", "margin:2"]
    assert run([*claim, "--eps", "1e-3"]) is ExitCode.VERIFIED
    assert run([*claim, "--eps", "1e-12"]) is ExitCode.UNKNOWN
    assert run([*claim, "--eps", "y=1"]) is ExitCode.INPUT_ERROR
    assert run(claim) is ExitCode.INPUT_ERROR


def test_what_is_no_margin_is_refused(tmp_path: Path) -> None:
    model = classifier(tmp_path / "m.onnx", random_weights(1))
    for margin, why in ((3, "labels 0 to 2"), ("z", "'z' is not one"), (0.5, "a label or text")):
        with pytest.raises(ModelError, match=why):
            refine.bound(model, "-1..1", margin=margin)  # type: ignore[arg-type]
    wide = classifier(tmp_path / "w.onnx", [np.ones((1, 80), np.float32)])
    with pytest.raises(ModelError, match="80 labels, too many"):
        refine.bound(wide, "-1..1", margin=True)
    assert refine.bound(wide, "-1..1", margin=79).bounds["margin"].shape == (80,)
    assert refine.bound(model, "-1..1", margin=0, contract="exact").bound == 0.0


def test_boxes_in_batches_have_bounds_of_their_own(tmp_path: Path) -> None:
    """Each box of a batch about as one alone, and above what executions do in it."""
    weights, rng = random_weights(4), np.random.default_rng(4)
    graph = refine.load(classifier(tmp_path / "m.onnx", weights))
    unsafe = Property(other_labels(graph, "y", 1).unsafe, "")
    problem = RowErrors(graph, IEEE_ANY, unsafe)
    assert problem.batches is not None
    boxes = []
    for width in (1.0, 0.3, 0.1, 0.0):
        lo = rng.uniform(-1, 0.0, (1, 4)).astype(np.float32).astype(np.float64)
        boxes.append(InputBox({"x": Interval(lo, lo + width)}, {"x": np.zeros((1, 4))}))
    batch = problem.batches.bounded(boxes, Known({}, {}), [{} for _ in boxes])
    assert batch is not None
    for box, found in zip(boxes, batch.boxes, strict=True):
        alone = problem.bounds(box).errors[ROWS]
        assert np.all(found.errors[ROWS] <= 2.0 * alone)
        assert np.all(alone <= 2.0 * found.errors[ROWS])
        for _ in range(30):
            x = rng.uniform(box.values["x"].lo[0], box.values["x"].hi[0]).astype(np.float32)
            inside = np.clip(x.astype(np.float64), box.values["x"].lo, box.values["x"].hi)[0]
            if not np.array_equal(inside, x):
                continue
            real, ran = exact(weights, x), executed(weights, x, rng)
            for k, j in enumerate((0, 2)):
                run_margin = Fraction(float(ran[1])) - Fraction(float(ran[j]))
                assert real[1] - real[j] - run_margin <= Fraction(float(found.errors[ROWS][k]))
