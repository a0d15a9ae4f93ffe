"""Attention whose scores a runtime scales behind the sum, as onnxruntime does and ONNX does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from small_models import settled

from encoders.contract.presets import IEEE_ANY
from gpu_check.runtimes.runtimes import OnnxRuntime
from onnx_import import load
from onnx_import.graph import Graph
from refine.bounds.point_bounds import bound_at
from refine.domain.domain import DomainOptions
from refine.results.verdict import Result, Verdict
from refine.witness.witness import error_between, real_outputs

SHAPE = (1, 2, 3, 4)


def attention(
    folder: Path,
    scale: float | None,
    stored: str = "",
    causal: int = 0,
    shape: tuple[int, ...] = SHAPE,
) -> Graph:
    given: dict[str, Any] = {} if scale is None else {"scale": scale}
    held = {t: np.linspace(-1, 1, 24).reshape(SHAPE).astype(np.float32) for t in stored}
    graph = helper.make_graph(
        [helper.make_node("Attention", ["q", "k", "v"], ["y"], is_causal=causal, **given)],
        "attention",
        [helper.make_tensor_value_info(t, 1, shape) for t in "qkv" if t not in stored],
        [helper.make_tensor_value_info("y", 1, shape)],
        [numpy_helper.from_array(v, t) for t, v in held.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    onnx.save(model, folder / "m.onnx")
    return load(folder / "m.onnx")


def answer(graph: Graph, size: float, contract: str) -> Result:
    """Of q and k up to `size`, v up to 1; nothing is run."""
    assert graph.source is not None
    box = tuple(
        f"{t}=-{1.0 if t == 'v' else size:g}..{1.0 if t == 'v' else size:g}" for t in graph.inputs
    )
    return settled(graph.source, DomainOptions(inputs=box), contract=contract)


@pytest.mark.parametrize("contract", ["ieee-any", "ort-cpu"])
@pytest.mark.parametrize("causal", [0, 1])
def test_sums_that_overflow_unscaled_are_not_verified(
    contract: str, causal: int, tmp_path: Path
) -> None:
    graph = attention(tmp_path, 1e-30, causal=causal)
    far = np.full(SHAPE, 3e19, np.float32)
    far[..., 1::2] *= -1
    x = {"q": far, "k": far[:, :, ::-1, ::-1].copy(), "v": np.ones(SHAPE, np.float32)}
    assert np.isnan(OnnxRuntime(tmp_path / "m.onnx").run(x)["y"]).any()
    assert answer(graph, 3e19, contract).verdict is not Verdict.VERIFIED
    assert answer(graph, 5e18, contract).verdict is Verdict.VERIFIED


@pytest.mark.parametrize("stored", ["k", "q"])
def test_stored_queries_and_keys_are_summed_unscaled_too(stored: str, tmp_path: Path) -> None:
    graph = attention(tmp_path, 2.0**-130, stored)
    assert answer(graph, 3e38, "ieee-any").verdict is not Verdict.VERIFIED
    assert answer(graph, 1e37, "ieee-any").verdict is Verdict.VERIFIED


def test_a_large_scale_multiplies_what_underflows(tmp_path: Path) -> None:
    """Products below half the least number vanish unscaled; scaled by roots first they do not."""
    shape = (1, 1, 2, 64)
    graph = attention(tmp_path, 3e38, shape=shape)
    x = {t: np.full(shape, 2.6e-23, np.float32) for t in "qk"}
    x["k"][:, :, 1] *= -1
    x["v"] = np.linspace(-1, 1, 128).reshape(shape).astype(np.float32)
    bound = bound_at(graph, x, IEEE_ANY)["y"].ravel()
    run, exact = OnnxRuntime(tmp_path / "m.onnx").run(x)["y"].ravel(), real_outputs(graph, x)["y"]
    errors = [float(error_between(float(r), e).hi) for r, e in zip(run, exact, strict=True)]
    assert max(errors) > 5e-6
    assert np.all(np.array(errors) <= bound)


@pytest.mark.parametrize("scale", [None, 1.0, 0.3])
def test_ordinary_attention_has_the_bound_of_what_onnx_defines(
    scale: float | None, tmp_path: Path
) -> None:
    graph = attention(tmp_path, scale)
    assert sum(n.op == "MatMul" for n in graph.order) == (2 if scale == 1.0 else 3)
    assert max(np.max(b) for b in answer(graph, 1.0, "ieee-any").bounds.values()) < 1e-5
