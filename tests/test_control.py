"""If, Loop and Scan: unrolled and inlined, against ONNX's reference and onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from encoders.contract.presets import IEEE_ANY, SEQUENTIAL
from encoders.numbers.enclosure import Interval
from gpu_check.emulator.emulator import emulate
from onnx_import import load
from onnx_import.errors import UnsupportedModel
from refine.bounds.network import InputBox, network_bounds

F, WHOLE, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def value(name: str, kind: int, shape: Any) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def graph(nodes: Any, inputs: Any, outputs: Any, stored: Any = ()) -> onnx.GraphProto:
    kept = [numpy_helper.from_array(np.asarray(v), k) for k, v in dict(stored).items()]
    return helper.make_graph(nodes, "g", inputs, outputs, kept)


def model(
    nodes: Any, outputs: Sequence[str], stored: Any = (), opset: int = 17, kind: int = F
) -> onnx.ModelProto:
    made = graph(nodes, [value("x", kind, [2, 3])], [value(o, kind, None) for o in outputs], stored)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    names = ["" if t == "-" else t for t in inputs.split()]
    return helper.make_node(op, names, outputs.split(), **attributes)


def branch(*nodes: onnx.NodeProto, stored: Any = ()) -> onnx.GraphProto:
    return graph(list(nodes), [], [value(nodes[-1].output[0], F, None)], stored)


def chosen(condition: Sequence[onnx.NodeProto], stored: Any) -> onnx.ModelProto:
    """Two branches with names in common, one of which reads an outer tensor by an inner If."""
    inner = node(
        "If", "flag", "r",
        then_branch=branch(node("Neg", "t", "u")),
        else_branch=branch(node("Abs", "t", "v")),
    )  # fmt: skip
    then = branch(
        node("Exp", "x", "p"), inner, node("Mul", "r k", "q"), stored={"k": np.float32(2)}
    )
    other = branch(node("Add", "x k", "a"), node("Tanh", "a", "z"), stored={"k": np.float32(1)})
    nodes = [node("Mul", "x x", "t"), *condition,
             node("If", "c", "y", then_branch=then, else_branch=other)]  # fmt: skip
    return model(nodes, ["y"], {"flag": np.array(False), **stored})


def loop(
    going: Sequence[onnx.NodeProto], count: int | None, more: Any = (), opset: int = 17
) -> onnx.ModelProto:
    """h := tanh(h + i·x), and every h; goes on while `going` says so."""
    steps = [
        node("Cast", "i", "f", to=F), node("Mul", "f x", "a"), node("Add", "h a", "b"),
        node("Tanh", "b", "n"), node("Identity", "n", "each"), *going,
    ]  # fmt: skip
    body = graph(
        steps, [value("i", WHOLE, []), value("c", B, []), value("h", F, None)],
        [value("d", B, []), value("n", F, None), value("each", F, None)],
    )  # fmt: skip
    stored = {"three": np.int64(3), "limit": np.int64(2), "yes": np.array(True), **dict(more)}
    if count is not None:
        stored["count"] = np.int64(count)
    nodes = [node("Loop", f"{'-' if count is None else 'count'} yes x", "last every", body=body)]
    return model(nodes, ["last", "every"], stored, opset)


def scan(opset: int, **given: Any) -> onnx.ModelProto:
    """A running sum of rows or columns and its exponentials."""
    body = graph(
        [node("Add", "s r", "n"), node("Exp", "n", "e")],
        [value("s", F, None), value("r", F, None)],
        [value("n", F, None), value("e", F, None)],
    )
    columns = given.get("scan_input_axes") == [1]
    stored = {"zero": np.zeros(2 if columns else 3, np.float32)}
    made = node("Scan", "zero x", "sum every", body=body, num_scan_inputs=1, **given)
    return model([made], ["sum", "every"], stored, opset)


ON = [node("Identity", "c", "d")]
UNTIL = [node("Less", "i limit", "d")]
CASES = {
    "If on a constant": chosen([node("Identity", "no", "c")], {"no": np.array(False)}),
    "If on a shape": chosen(
        [node("Shape", "x", "s"), node("Gather", "s one", "n"), node("Equal", "n three", "c")],
        {"one": np.int64(1), "three": np.int64(3)},
    ),
    "If on what is computed": chosen(
        [node("ReduceMax", "x", "m", keepdims=0), node("Greater", "m k0", "c")],
        {"k0": np.float32(0.5)},
    ),
    "Loop with a count": loop(ON, 3),
    "Loop with a count before opset 13": loop(ON, 2, opset=11),
    "Loop with a condition": loop(UNTIL, 9),
    "Loop with a condition alone": loop(UNTIL, None),
    "Scan": scan(17),
    "Scan of columns": scan(11, scan_input_axes=[1], scan_output_axes=[1]),
    "Scan backwards": scan(13, scan_input_directions=[1], scan_output_directions=[1]),
}


@pytest.mark.parametrize("name", CASES)
def test_control_is_the_reference_and_onnxruntime(name: str, tmp_path: Path) -> None:
    made = CASES[name]
    onnx.save(made, tmp_path / "m.onnx")
    read = load(tmp_path / "m.onnx")
    x = np.random.default_rng(1).uniform(-1, 1, (6, 2, 3)).astype(np.float32)
    found = emulate(read, {"x": x}, SEQUENTIAL)
    session = onnxruntime.InferenceSession(
        made.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    box = InputBox({"x": Interval(np.full((2, 3), -1.0), np.full((2, 3), 1.0))},
                   {"x": np.zeros((2, 3))})  # fmt: skip
    bounds = network_bounds(read, box, IEEE_ANY).maps
    runners: list[Any] = [session.run]
    if name.startswith("If") or name == "Scan":  # it joins a Loop's outputs, and has no directions
        runners.append(ReferenceEvaluator(made).run)
    for k in range(len(x)):
        for runner in runners:
            for tensor, want in zip(read.outputs, runner(None, {"x": x[k]}), strict=True):
                got: Any = found[tensor][k]
                assert got.shape == np.shape(want)
                np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
                assert np.all(bounds.values[tensor].lo <= np.asarray(want) + 1e-5)
                assert np.all(bounds.values[tensor].hi >= np.asarray(want) - 1e-5)


LATE = [node("ReduceMax", "n", "m", keepdims=0), node("Less", "m limit", "d")]


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (loop(LATE, 3, {"limit": np.float32(2)}), "whether it goes on after step 1"),
        (loop(ON, None), "runs more than"),
        (loop(ON, 0), "it never runs"),
        (scan(8), "before opset 9"),
    ],
)
def test_what_is_not_known_to_end_is_refused(
    made: onnx.ModelProto, words: str, tmp_path: Path
) -> None:
    onnx.save(made, tmp_path / "m.onnx")
    with pytest.raises(UnsupportedModel, match=words):
        load(tmp_path / "m.onnx")


def test_bodies_are_read_where_nodes_are_put_in_order(tmp_path: Path) -> None:
    """What only a branch reads is written before, wherever it stands in the file."""
    made = CASES["If on a constant"]
    shuffled = onnx.ModelProto.FromString(made.SerializeToString())
    nodes = list(made.graph.node)[::-1]
    del shuffled.graph.node[:]
    shuffled.graph.node.extend(nodes)
    for name, each in (("a", made), ("b", shuffled)):
        onnx.save(each, tmp_path / f"{name}.onnx")
    straight, other = (load(tmp_path / f"{name}.onnx") for name in "ab")
    assert [n.op for n in straight.order] == [n.op for n in other.order]
    assert [n.op for n in straight.order] == ["Add", "Tanh", "Identity"]


def test_integers_are_truth_values_where_a_branch_asks(tmp_path: Path) -> None:
    """A size that is not 1 is true, as ONNX casts it."""
    condition = [
        node("Shape", "x", "s"), node("Gather", "s one", "n"), node("Cast", "n", "c", to=B)
    ]  # fmt: skip
    onnx.save(chosen(condition, {"one": np.int64(1)}), tmp_path / "m.onnx")
    assert "Abs" in [n.op for n in load(tmp_path / "m.onnx").order]


@pytest.mark.parametrize("shapes", [([3], [1, 3]), ([3, 1], [1, 3])])
def test_branches_of_other_shapes_are_not_stretched(
    shapes: Sequence[Sequence[int]], tmp_path: Path
) -> None:
    """What one branch gives is not what a Where makes of both."""
    branches = [
        branch(node("ReduceSum", "x axis", "s"), node("Reshape", "s shape", "r"),
               stored={"shape": np.array(shape, np.int64)})
        for shape in shapes
    ]  # fmt: skip
    condition = [node("ReduceMax", "x", "m", keepdims=0), node("Greater", "m zero", "c")]
    made = model(
        [*condition, node("If", "c", "y", then_branch=branches[0], else_branch=branches[1])],
        ["y"],
        {"axis": np.array([0], np.int64), "zero": np.float32(0)},
    )
    session = onnxruntime.InferenceSession(
        made.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for sign, shape in zip((1, -1), shapes, strict=True):
        (ran,) = session.run(None, {"x": np.full((2, 3), sign, np.float32)})
        assert np.shape(np.asarray(ran)) == tuple(shape)
    onnx.save(made, tmp_path / "m.onnx")
    with pytest.raises(UnsupportedModel, match="its branches give the shapes"):
        load(tmp_path / "m.onnx")
