"""Decisions found in one pass over many points: those of each point alone, and true."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper, numpy_helper
from small_models import mlp, save

import refine
from refine.claims.many import stability
from refine.results.verdict import Verdict

USUAL: dict[str, Any] = {"workers": 1, "z3": "none", "no_search": True}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def alone(monkeypatch: pytest.MonkeyPatch, *given: Any, **words: Any) -> Sequence[Any]:
    """The same question, each point asked about by itself."""
    with monkeypatch.context() as patched:
        patched.setattr(stability, "_FIRST_BATCH", 0)
        return list(refine.stable(*given, **words))


def weights_of(path: Path) -> dict[str, npt.NDArray[Any]]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def label_in_float32(
    held: dict[str, npt.NDArray[Any]], x: npt.NDArray[Any], rng: np.random.Generator
) -> int:
    """What sums in a random order decide."""
    layers = len(held) // 2
    for k in range(1, layers + 1):
        w, total = held[f"w{k}"], np.zeros(held[f"w{k}"].shape[1], np.float32)
        for i in rng.permutation(len(w)):
            total = (total + x[i] * w[i]).astype(np.float32)
        x = (total + held[f"b{k}"]).astype(np.float32)
        if k < layers:
            x = np.maximum(x, np.float32(0))
    return int(np.argmax(x))


@pytest.mark.parametrize("radius", [0, 0.01])
def test_many_points_are_decided_as_each_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, radius: float
) -> None:
    path = mlp(folder / "m.onnx", (5, 16, 12, 4), seed=8)
    rng = np.random.default_rng(0)
    points = rng.normal(0, 2, (30, 5)).astype(np.float32)
    together = list(refine.stable("m.onnx", points, radius=radius, conform=False, **USUAL))
    one_by_one = alone(monkeypatch, "m.onnx", points, radius=radius, conform=False, **USUAL)
    stable = [d.point for d in together if d.verdict is Verdict.VERIFIED]
    assert len(stable) > 20
    assert [d.verdict for d in together] == [d.verdict for d in one_by_one]
    for many, one in zip(together, one_by_one, strict=True):
        assert (many.claim, many.code, many.point) == (one.claim, one.code, one.point)
        if many.margin is not None and one.margin is not None:
            assert many.margin == pytest.approx(one.margin, rel=0.05, abs=1e-3)
    held = weights_of(path)
    for number in stable:
        for _ in range(10):
            x = points[number] + np.float32(radius) * rng.uniform(-0.99, 0.99, 5)
            label = label_in_float32(held, x.astype(np.float32), rng)
            assert f"element {label}," in together[number].claim


def test_a_pass_over_many_settles_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No point that it settles is asked about again."""
    mlp(folder / "m.onnx", (5, 16, 12, 4), seed=8)
    points = np.random.default_rng(0).normal(0, 2, (12, 5)).astype(np.float32)

    def decided(self: stability.Stability, number: int) -> stability.Decision:
        raise AssertionError(f"point {number} is asked about alone")

    monkeypatch.setattr(stability.Stability, "decided", decided)
    found = refine.stable("m.onnx", points, conform=False, **USUAL)
    assert found.stable == 12


def test_labels_of_a_specification(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other network's label counts, and it has to keep it."""
    mlp(folder / "m.onnx", (5, 16, 4), seed=8)
    mlp(folder / "other.onnx", (5, 16, 4), seed=9)
    points = np.random.default_rng(3).normal(0, 2, (16, 5)).astype(np.float32)
    words = {"spec": "other.onnx", "conform": False, **USUAL}
    together = list(refine.stable("m.onnx", points, **words))
    one_by_one = alone(monkeypatch, "m.onnx", points, **words)
    assert [(d.verdict, d.claim) for d in together] == [(d.verdict, d.claim) for d in one_by_one]
    verdicts = {d.verdict for d in together}
    assert Verdict.VERIFIED in verdicts
    assert len(verdicts) > 1
    same = list(refine.stable("m.onnx", points, **{**words, "spec": "m.onnx"}))
    assert all(d.verdict is Verdict.VERIFIED for d in same)


def test_ties_go_to_the_first(folder: Path) -> None:
    """Of equal scores the first is the label, in every execution of the same operations."""
    nodes = [helper.make_node("Concat", ["x", "x", "z"], ["y"], axis=1)]
    save(folder / "m.onnx", nodes, {"x": [1, 1], "z": [1, 1]}, {"y": [1, 3]})
    x = np.arange(1.0, 9.0)[:, None]
    data = {"x": x, "z": x.copy()}
    found = list(refine.stable("m.onnx", data, conform=False, **USUAL))
    assert all(d.verdict is Verdict.VERIFIED and "element 0," in d.claim for d in found)
    data["z"] = x + 2.0**-20
    found = list(refine.stable("m.onnx", data, conform=False, **USUAL))
    assert all("element 2," in d.claim for d in found)


def test_a_model_that_gives_the_label(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = mlp(folder / "m.onnx", (5, 12, 4), seed=8)
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("ArgMax", ["y"], ["label"], axis=1))
    del model.graph.output[:]
    model.graph.output.append(
        helper.make_tensor_value_info("label", onnx.TensorProto.INT64, [1, 1])
    )
    onnx.save(model, path)
    points = np.random.default_rng(3).normal(0, 2, (10, 5)).astype(np.float32)
    together = list(refine.stable("m.onnx", points, conform=False, **USUAL))
    one_by_one = alone(monkeypatch, "m.onnx", points, conform=False, **USUAL)
    assert [(d.verdict, d.claim) for d in together] == [(d.verdict, d.claim) for d in one_by_one]
    assert any(d.verdict is Verdict.VERIFIED for d in together)
