"""Attention that is accepted is what onnxruntime computes, whatever it sees of its keys."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from encoders.contract.presets import IEEE_ANY
from gpu_check.runtimes.runtimes import OnnxRuntime
from onnx_import import load
from onnx_import.errors import ModelError
from refine.bounds.point_bounds import bound_at
from refine.witness.witness import error_between, real_outputs

TYPES = (np.float16, np.float32, np.float64)
OPSETS = (23, 24)
Arrays = dict[str, Any]


def attention(inputs: Arrays, stored: Arrays, opset: int, causal: int) -> onnx.ModelProto:
    """One node, its inputs in order, with every output that past keys bring with them."""
    names = ["q", "k", "v", *("m" if t == "m" and "m" in stored else "" for t in "m")]
    outputs = ["y"]
    if "pk" in inputs:
        names, outputs = [*names, "pk", "pv"], [*outputs, "a", "b"]
    while not names[-1]:
        names.pop()
    kind = helper.np_dtype_to_tensor_dtype(inputs["q"].dtype)
    graph = helper.make_graph(
        [helper.make_node("Attention", names, outputs, is_causal=causal)],
        "attention",
        [helper.make_tensor_value_info(t, kind, v.shape) for t, v in inputs.items()],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(v, t) for t, v in stored.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def exceeded(made: onnx.ModelProto, inputs: Arrays, path: Path) -> bool | None:
    """Is onnxruntime off by more than is proved, or no number? None for what is refused."""
    onnx.save(made, path)
    try:
        graph = load(path)
        bound = bound_at(graph, inputs, IEEE_ANY)["y"].ravel()
    except ModelError:
        return None
    run, real = OnnxRuntime(path).run(inputs)["y"].ravel(), real_outputs(graph, inputs)["y"]
    return any(
        not np.isfinite(r) or float(error_between(float(r), e).lo) > b
        for r, e, b in zip(run, real, bound, strict=True)
        if np.isfinite(b)
    )


def masks(kind: Any) -> Iterator[Any]:
    """Of three queries and keys, the first row of every sort."""
    least = float(np.finfo(kind).min)
    rows: list[list[float]] = [
        [least] * 3, [least / 2] * 3, [-1e4] * 3, [-np.inf] * 3, [least, -np.inf, -np.inf],
        [least, 0.0, least], [-np.inf, 0.25, -np.inf], [-np.inf, least / 2, -np.inf],
    ]  # fmt: skip
    for row in rows:
        mask = np.full((3, 3), 0.25, kind)
        mask[0] = row
        yield mask
        if not set(row) - {-np.inf, 0.25}:
            yield np.isfinite(mask)


@pytest.mark.parametrize("kind", TYPES)
def test_masks_are_read_as_onnxruntime_reads_them(kind: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    q, k, v = (rng.uniform(0.1, 1.0, (1, 1, 3, 2)).astype(kind) for _ in "qkv")
    found = [
        exceeded(attention(x, {"m": mask}, opset, causal), x, tmp_path / "m.onnx")
        for mask, opset, causal in itertools.product(masks(kind), OPSETS, (0, 1))
        if not (causal and kind is np.float64)  # which onnxruntime does not run
        for x in [{"q": q, "k": k, "v": v}]
    ]
    assert not any(found)
    assert found.count(False) >= len(found) // 2


@pytest.mark.parametrize("kind", TYPES[:2])
@pytest.mark.parametrize("opset", OPSETS)
def test_queries_behind_past_keys_see_what_onnxruntime_shows_them(
    opset: int, kind: Any, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    found = {}
    for past, queries, keys in itertools.product((0, 1, 3), (1, 2, 3), (1, 2, 4)):
        lengths = {"q": queries, "k": keys, "v": keys} | ({"pk": past, "pv": past} if past else {})
        x = {t: rng.normal(size=(1, 1, n, 2)).astype(kind) for t, n in lengths.items()}
        made = attention(x, {}, opset, 1)
        found[past, queries, keys] = exceeded(made, x, tmp_path / "m.onnx")
    assert not any(found.values())
    refused = {case for case, how in found.items() if how is None}
    assert refused == {case for case in found if case[0] and case[1] == 1 and case[2] > 1}
