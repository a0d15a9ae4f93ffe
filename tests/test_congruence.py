"""Rewrites far apart in deep graphs: each is equal by itself, from what is equal before it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from small_models import save

from encoders.contract.presets import EXACT
from onnx_import import load
from refine.pair import equality
from refine.pair.equality import equal_outputs
from refine.pair.pair import Pair, pair_of
from refine.results.verdict import Side

_N = helper.make_node
_F = np.float32
_DEPTH, _WIDTH = 12, 24
Written = Callable[[str, str, str], list[onnx.NodeProto]]


def _layer(x: str, y: str, i: str) -> list[onnx.NodeProto]:
    """Relu(xᵀ)ᵀ·w + b, over the rows of x."""
    return [
        _N("Transpose", [x], [f"t{i}"], perm=[1, 0]),
        _N("Relu", [f"t{i}"], [f"r{i}"]),
        _N("Transpose", [f"r{i}"], [f"u{i}"], perm=[1, 0]),
        _N("MatMul", [f"u{i}", f"w{i}"], [f"m{i}"]),
        _N("Add", [f"m{i}", f"b{i}"], [y]),
    ]


def _other(x: str, y: str, i: str) -> list[onnx.NodeProto]:
    return [
        _N("Max", [x, "zero"], [f"r{i}"]),
        _N("Gemm", [f"r{i}", f"w{i}", f"b{i}"], [y]),
    ]


def _pair(folder: Path, impl: Written, scale: float = 1.0) -> Pair:
    rng = np.random.default_rng(1)
    held: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = {"zero": np.zeros((), _F)}
    for i in range(_DEPTH):
        held |= {
            f"w{i}": rng.normal(size=(_WIDTH, _WIDTH)).astype(_F) / _F(5),
            f"b{i}": rng.normal(size=_WIDTH).astype(_F),
        }
    sides: list[Side] = []
    for name, written in (("spec", _layer), ("impl", impl)):
        names = [*(f"x{i}" for i in range(_DEPTH)), "y"]
        nodes = [
            n for i in range(_DEPTH) for n in written(names[i] if i else "x", names[i + 1], str(i))
        ]
        if name == "impl":
            held["w3"] = np.asarray(held["w3"] * scale, _F)
        shape = (5, _WIDTH)
        path = save(folder / f"{name}.onnx", nodes, {"x": shape}, {"y": shape}, held)
        sides.append(Side(load(path), EXACT))
    return pair_of(sides[0], sides[1])


def test_what_a_rewrite_costs_does_not_grow_with_what_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(equality, "_TERMS", 0)  # nothing is left for all terms at once
    assert equal_outputs(_pair(tmp_path, _other)) == {"y"}


def test_values_that_agree_are_not_equal_by_that(tmp_path: Path) -> None:
    near = float(np.nextafter(_F(1), _F(2)))
    assert equal_outputs(_pair(tmp_path, _other, scale=near)) == frozenset()


def test_a_difference_below_all_values_is_told(tmp_path: Path) -> None:
    """Behind a layer that hides it at every point drawn, the constant is another one still."""

    def hidden(x: str, y: str, i: str) -> list[onnx.NodeProto]:
        if i != "5":
            return _other(x, y, i)
        made = _other(x, f"h{i}", i)
        tiny = helper.make_tensor("c", onnx.TensorProto.DOUBLE, (), [1e-13])
        cast = _N("Cast", [f"h{i}"], [f"d{i}"], to=onnx.TensorProto.DOUBLE)
        return [
            *made,
            cast,
            _N("Constant", [], ["tiny"], value=tiny),
            _N("Add", [f"d{i}", "tiny"], [f"s{i}"]),
            _N("Cast", [f"s{i}"], [y], to=onnx.TensorProto.FLOAT),
        ]

    assert equal_outputs(_pair(tmp_path, hidden)) == frozenset()


@pytest.mark.parametrize(
    "held",
    [
        (np.asarray([1.0], _F), np.asarray([2.0], _F)),
        (np.asarray([-1], np.int64), np.asarray([2**64 - 1], np.uint64)),
    ],
    ids=["floats", "integers"],
)
def test_stored_outputs_are_compared(
    tmp_path: Path, held: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]
) -> None:
    sides: list[Side] = []
    for place, values in enumerate(held):
        kind = helper.np_dtype_to_tensor_dtype(values.dtype)
        ends = [
            helper.make_tensor_value_info(n, k, [1])
            for n, k in (("x", onnx.TensorProto.FLOAT), ("y", onnx.TensorProto.FLOAT), ("z", kind))
        ]
        nodes = [_N("Relu", ["x"], ["y"]), _N("Identity", ["c"], ["z"])]
        stored = [onnx.numpy_helper.from_array(values, "c")]
        graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], stored)
        path = tmp_path / f"{place}.onnx"
        onnx.save(helper.make_model(graph, ir_version=10), path)
        sides.append(Side(load(path), EXACT))
    spec, impl = sides
    assert equal_outputs(pair_of(spec, impl)) == {"y"}
    assert equal_outputs(pair_of(impl, spec)) == {"y"}
    assert equal_outputs(pair_of(impl, impl)) == {"y", "z"}
