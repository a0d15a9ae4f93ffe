"""Inputs that hold integers or truth values: intervals of them, and points, which are constants."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import refine
from onnx_import import load
from onnx_import.errors import ModelError

ort = pytest.importorskip("onnxruntime")
QUICK: dict[str, Any] = {"z3": "none", "conform": False, "budget": 0.0, "no_search": True}


def write(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: Mapping[str, tuple[int, list[int]]],
    weights: dict[str, Any],
) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, code, shape) for n, (code, shape) in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(w), n) for n, w in weights.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def image(path: Path, code: int, rows: int = 2) -> Path:
    """y = tanh(W·(x/255))."""
    rng = np.random.default_rng(1)
    weights = {"w": rng.normal(size=(6, 3)).astype(np.float32), "s": np.float32(255.0)}
    nodes = [
        helper.make_node("Cast", ["x"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["c", "s"], ["d"]),
        helper.make_node("MatMul", ["d", "w"], ["m"]),
        helper.make_node("Tanh", ["m"], ["y"]),
    ]
    return write(path, nodes, {"x": (code, [rows, 6])}, weights)


@pytest.mark.parametrize(
    ("code", "kind", "lo", "hi"),
    [
        (TensorProto.UINT8, np.uint8, 0, 255),
        (TensorProto.INT8, np.int8, -128, 127),
        (TensorProto.INT64, np.int64, -7, 70000),
        (TensorProto.BOOL, np.bool_, 0, 1),
    ],
)
def test_no_execution_leaves_the_bound(
    tmp_path: Path, code: int, kind: Any, lo: int, hi: int
) -> None:
    path = image(tmp_path / "m.onnx", code)
    # ends beyond the type, and between integers, are none of its numbers
    outside = hi + 0.5 if kind is not np.bool_ else 7.5
    result = refine.bound(path, f"{lo - 0.5}..{outside}", **QUICK)
    box = (0, 1) if kind is np.bool_ else (lo, hi)
    weights = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    session = ort.InferenceSession(path)
    rng = np.random.default_rng(0)
    for _ in range(100):
        x = rng.integers(box[0], box[1] + 1, (2, 6)).astype(kind)
        (y,) = session.run(None, {"x": x})
        exact = np.tanh(x.astype(np.float64) / 255.0 @ weights["w"].astype(np.float64))
        assert np.all(np.abs(y - exact) <= result.bounds["y"] + 1e-15)
    assert 0 < result.bound < 1e-2


def test_numbers_that_are_found_are_whole_and_replayed(tmp_path: Path) -> None:
    path, place = image(tmp_path / "m.onnx", TensorProto.UINT8), tmp_path / "c.json"
    result = refine.check(path, "3..30", 1e-12, conform=False, z3="none", counterexample=place)
    assert result.witness is not None
    x = result.witness.inputs["x"]
    assert x.dtype == np.uint8
    assert x.min() >= 3
    assert x.max() <= 30
    assert refine.replay(place).violated


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """y = Σ over the tokens of E[ids mod 7]·mask, with the mask computed as ids > 2."""
    table = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    nodes = [
        helper.make_node("Mod", ["ids", "seven"], ["i"]),
        helper.make_node("Gather", ["E", "i"], ["e"]),
        helper.make_node("Greater", ["ids", "two"], ["some"]),
        helper.make_node("Cast", ["some"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["m"]),
        helper.make_node("Mul", ["e", "m"], ["kept"]),
        helper.make_node("Mul", ["kept", "x"], ["scaled"]),
        helper.make_node("ReduceSum", ["scaled", "one"], ["y"], keepdims=0),
    ]
    weights = {
        "E": table,
        "seven": np.int64(7),
        "two": np.int64(2),
        "last": np.array([-1]),
        "one": np.array([1]),
    }
    inputs = {"ids": (TensorProto.INT64, [1, 5]), "x": (TensorProto.FLOAT, [1])}
    return write(tmp_path / "tokens.onnx", nodes, inputs, weights)


def test_a_point_of_integers_is_constant(tokens: Path, tmp_path: Path) -> None:
    ids = np.array([[1, 9, 3, 20, 6]])
    domain = {"ids": (ids, ids), "x": (0.5, 1.0)}
    result = refine.bound(tokens, domain, **QUICK)
    session = ort.InferenceSession(tokens)
    table = numpy_helper.to_array(onnx.load(tokens).graph.initializer[0]).astype(np.float64)
    for x in np.linspace(0.5, 1.0, 40, dtype=np.float32):
        (y,) = session.run(None, {"ids": ids, "x": np.array([x])})
        exact = (table[ids[0] % 7] * (ids[0] > 2)[:, None]).sum(axis=0) * np.float64(x)
        assert np.all(np.abs(y[0] - exact) <= result.bounds["y"][0] + 1e-15)
    assert result.bound < 1e-5
    assert any("'ids' is one point" in note for note in result.notes + result.graph.notes)
    place = tmp_path / "c.json"
    found = refine.check(tokens, domain, 1e-12, conform=False, z3="none", counterexample=place)
    assert found.witness is not None
    assert np.array_equal(found.witness.inputs["ids"], ids)
    assert refine.replay(place).violated
    with pytest.raises(ModelError, match="another one"):
        refine.bound(result.graph, {"ids": (ids + 1, ids + 1), "x": (0.5, 1.0)}, **QUICK)


def test_what_no_domain_holds_is_refused(tokens: Path, tmp_path: Path) -> None:
    path = image(tmp_path / "m.onnx", TensorProto.INT64)
    with pytest.raises(ModelError, match="up to 16777215"):
        refine.bound(path, "0..16777216", **QUICK)
    with pytest.raises(ModelError, match="contains no whole number"):
        refine.bound(path, "0.25..0.75", **QUICK)
    proto = onnx.load(tokens)
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.STRING
    with pytest.raises(ModelError, match="string"):
        load_bytes(proto, tmp_path)


def load_bytes(proto: onnx.ModelProto, folder: Path) -> None:
    onnx.save(proto, folder / "strings.onnx")
    load(folder / "strings.onnx")


@pytest.mark.parametrize("op", ["Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"])
@pytest.mark.parametrize("code", [TensorProto.INT32, TensorProto.INT64])
def test_integers_are_compared(op: str, code: int, tmp_path: Path) -> None:
    """y is 0.5 where the integers are so related, else −2; decided everywhere, or nowhere."""
    nodes = [
        helper.make_node(op, ["i", "k"], ["c"]),
        helper.make_node("Where", ["c", "a", "b"], ["y"]),
    ]
    kind = helper.tensor_dtype_to_np_dtype(code)
    weights = {"k": np.array([3, 4, 9], kind), "a": np.float32(0.5), "b": np.float32(-2.0)}
    path = write(tmp_path / "m.onnx", nodes, {"i": (code, [3])}, weights)
    session = ort.InferenceSession(path)
    result = refine.bound(path, "3..4", **QUICK)
    assert result.bound < 1e-30  # a flushed copy
    (last,) = (n for n in result.nodes if n.op == "Where")
    seen = np.concatenate([
        session.run(None, {"i": np.full(3, v, kind)})[0] for v in (3, 4)
    ])  # fmt: skip
    assert last.low == seen.min()
    assert last.high == seen.max()


def test_from_no_numbers_none_is_picked(tmp_path: Path) -> None:
    nodes = [helper.make_node("Gather", ["d", "x"], ["y"])]
    data = {"d": np.ones((0, 3), np.float32)}
    path = write(tmp_path / "m.onnx", nodes, {"x": (TensorProto.INT64, [4])}, data)
    with pytest.raises(ModelError, match="picks nothing, or from no numbers"):
        refine.bound(path, "0..1", **QUICK)


def test_a_name_that_a_body_has_of_its_own_is_not_the_point(tmp_path: Path) -> None:
    """A loop whose counter has the name of an input: y = x + (0 + 1 + 2) + ids."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["goes"]),
            helper.make_node("Cast", ["ids"], ["c"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["s", "c"], ["t"]),
        ],
        "body",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, []),
         helper.make_tensor_value_info("going", TensorProto.BOOL, []),
         helper.make_tensor_value_info("s", TensorProto.FLOAT, [3])],
        [helper.make_tensor_value_info("goes", TensorProto.BOOL, []),
         helper.make_tensor_value_info("t", TensorProto.FLOAT, [3])],
    )  # fmt: skip
    nodes = [
        helper.make_node("Loop", ["count", "", "x"], ["l"], body=body),
        helper.make_node("Cast", ["ids"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["l", "f"], ["y"]),
    ]
    inputs = {"x": (TensorProto.FLOAT, [3]), "ids": (TensorProto.INT64, [])}
    path = write(tmp_path / "m.onnx", nodes, inputs, {"count": np.array(3, np.int64)})
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    ran = session.run(None, {"x": np.ones(3, np.float32), "ids": np.array(5)})[0]
    assert ran.tolist() == [9.0] * 3
    domain = {"x": (1, 1), "ids": (5, 5)}
    assert refine.check(path, domain, claim="y[0] <= 9.001", **QUICK)
    assert not refine.check(path, domain, claim="y[0] <= 8.999", **QUICK)


def test_points_of_integers_are_decided(tmp_path: Path) -> None:
    path = image(tmp_path / "m.onnx", TensorProto.UINT8, rows=1)
    points = np.random.default_rng(0).integers(0, 256, (3, 1, 6)).astype(np.uint8)
    quick: dict[str, Any] = {"no_search": True, "z3": "none", "conform": False}
    session = ort.InferenceSession(path)
    found = refine.stable(path, points, **quick)
    labels = [int(np.argmax(session.run(None, {"x": x})[0])) for x in points]
    claimed = zip(found, labels, strict=True)
    assert all(f"is element {label}," in d.claim for d, label in claimed)
    assert found.stable == 3
    with pytest.raises(ModelError, match="not all are whole"):
        refine.stable(path, points + 0.5, **quick)


def test_a_centre_for_each_input_takes_integers_as_they_are(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["x", "i"], ["g"], axis=0),
            helper.make_node("Add", ["g", "z"], ["y"]),
        ],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2]),
            helper.make_tensor_value_info("i", TensorProto.INT64, [1]),
            helper.make_tensor_value_info("z", TensorProto.FLOAT, [2]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
    )
    model, center = tmp_path / "m.onnx", tmp_path / "c.npz"
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), model)
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.savez(center, x=x, i=np.array([2]), z=np.zeros(2, np.float32))
    result = refine.bound(model, ["--center", str(center)], radius=0.25, **QUICK)
    assert 2.0**-22 <= result.bound <= 2.0**-21  # a sum between 3.5 and 5.5, rounded once
    np.savez(center, x=x)
    with pytest.raises(ModelError, match="expected one for each input: 'x', 'i', 'z'"):
        refine.bound(model, ["--center", str(center)], radius=0.25, **QUICK)
