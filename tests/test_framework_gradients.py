"""`refine grad --check --against`: rules beside what a framework differentiates, node by node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from small_models import save

from gpu_check.runtimes.library_kernels import (
    Library,
    jax_library,
    numpy_library,
    torch_library,
)
from onnx_import.graph import Array, Graph
from onnx_import.onnx.reader import load
from refine.cli.main import run
from refine.gradients.frameworks import WHOLE, beside
from refine.results.verdict import ExitCode

FRAMEWORKS: Mapping[str, Callable[[], Library]] = {"torch": torch_library, "jax": jax_library}


def network(folder: Path) -> Path:
    """A convolution, pooling, a normalised dense layer and a softmax, with data moved between."""
    rng = np.random.default_rng(4)
    nodes = [
        helper.make_node("Conv", ["x", "k", "kb"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("LeakyRelu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Reshape", ["p", "flat"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["g"]),
        helper.make_node("LayerNormalization", ["g", "s", "t"], ["n"], axis=-1),
        helper.make_node("Slice", ["n", "from", "to"], ["a"]),
        helper.make_node("Concat", ["a", "n", "one"], ["j"], axis=1),
        helper.make_node("Tanh", ["j"], ["h"]),
        helper.make_node("Softmax", ["h"], ["Y"], axis=1),
    ]
    shapes = {"k": (2, 1, 3, 3), "kb": (2,), "w": (18, 4), "b": (4,), "s": (4,), "t": (4,)}
    stored: dict[str, Any] = {n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items()}
    stored |= {"flat": np.array([1, 18]), "from": np.array([0, 1]), "to": np.array([1, 3])}
    stored["one"] = np.ones((1, 1), np.float32)
    return save(folder / "net.onnx", nodes, {"x": [1, 1, 6, 6]}, {"Y": [1, 7]}, stored)


def point(graph: Graph) -> dict[str, Array]:
    rng = np.random.default_rng(1)
    return {t: np.asarray(rng.normal(size=graph.types[t].shape), np.float32) for t in graph.inputs}


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_network_is_within_what_is_proved(name: str, tmp_path: Path) -> None:
    pytest.importorskip(name)
    graph = load(network(tmp_path))
    rows = list(beside(graph, point(graph), FRAMEWORKS[name]()))
    assert [row.node for row in rows][-1] == WHOLE
    assert len(rows) == 11
    for row in rows:
        assert not row.why, row
        assert row.share <= 1, row
        assert row.bound < 1e-2, row
    assert sum(row.same for row in rows) >= 4


def differences(factor: float = 1.0) -> Library:
    """numpy in float64, differentiated by central differences; a factor makes it wrong."""

    def differentiate(run: Any, at: Mapping[str, Any], up: Any) -> tuple[Any, Mapping[str, Any]]:
        slopes = {}
        for t, v in at.items():
            found = np.zeros(v.shape)
            for place in np.ndindex(v.shape):
                step = np.zeros(v.shape)
                step[place] = 1e-6
                ends = (np.sum(up * run({**at, t: v + sign * step})) for sign in (1, -1))
                found[place] = (next(ends) - next(ends)) / 2e-6 * factor
            slopes[t] = found
        return run(at), slopes

    def wide(values: Array) -> Any:
        return np.asarray(values).astype(np.float64) if values.dtype.kind == "f" else values

    return replace(numpy_library(), takes=wide, join=np.concatenate, differentiate=differentiate)


def test_differences_are_within_and_wrong_ones_are_not(tmp_path: Path) -> None:
    """A library that differentiates by itself, with nothing installed."""
    graph = load(network(tmp_path))
    given = point(graph)
    rows = {row.node: row for row in beside(graph, given, differences())}
    assert len(rows) == 11
    for row in rows.values():
        assert not row.why, row
        assert row.apart <= row.bound + 1e-6, row
    wrong = {row.node: row for row in beside(graph, given, differences(1.01))}
    assert all(row.outside and row.apart > 100 * row.bound for row in wrong.values())


def test_what_was_not_compared_is_said(tmp_path: Path) -> None:
    nodes = [helper.make_node("Tanh", ["x"], ["h"]), helper.make_node("Elu", ["h"], ["Y"])]
    graph = load(save(tmp_path / "e.onnx", nodes, {"x": [3]}, {"Y": None}))
    first, second, whole = beside(graph, point(graph), differences())
    assert "has no Elu here" in first.status
    assert "has no Elu here" in whole.status
    assert not second.why
    plain = [row.why for row in beside(graph, point(graph), numpy_library())]
    assert all("does not differentiate" in why for why in plain)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_command_compares_or_says_that_it_cannot(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["grad", str(network(tmp_path)), "--check", "--against", name]
    try:
        FRAMEWORKS[name]()
    except Exception:
        assert run(arguments) is ExitCode.INPUT_ERROR
        assert "nothing was compared" in capsys.readouterr().err
        return
    assert run(arguments) is ExitCode.VERIFIED
    assert "every rule is within what is proved" in capsys.readouterr().out


def test_what_is_no_framework_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(network(tmp_path))
    assert run(["grad", path, "--check", "--against", "tensor"]) is ExitCode.INPUT_ERROR
    assert "there is torch, jax" in capsys.readouterr().err
    assert run(["grad", path, "--against", "torch", "-o", "v.onnx"]) is ExitCode.INPUT_ERROR
    assert "belongs to --check" in capsys.readouterr().err
