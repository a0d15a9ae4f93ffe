"""Sequences and optionals of known length, against ONNX's reference and onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from encoders.contract.presets import SEQUENTIAL
from encoders.program import program_of
from gpu_check.emulator.emulator import emulate
from onnx_import import load
from onnx_import.errors import UnsupportedModel
from onnx_import.onnx.sequences import SEQUENCES

STORED = {
    "zero": np.int64(0), "one": np.int64(1), "back": np.int64(-1), "far": np.int64(-2),
    "many": np.int64(7), "two": np.int64(2), "sizes": np.array([1, 2], np.int64),
}  # fmt: skip
ADDED = helper.make_graph(
    [helper.make_node("Add", ["p", "q"], ["r"])],
    "added",
    [helper.make_tensor_value_info(t, TensorProto.FLOAT, None) for t in "pq"],
    [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)],
)
KIND = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
WITHOUT_REFERENCE = {  # which takes an optional for a list, and Optional of nothing for something
    "an optional sequence", "nothing in it",
}  # fmt: skip
THREE = ("SequenceConstruct: x z x -> s",)
WAYS: dict[str, tuple[Any, ...]] = {
    "the last": (*THREE, "SequenceAt: s back -> y"),
    "the second of three": (*THREE, "SequenceAt: s one -> y"),
    "one more": (*THREE, "SequenceInsert: s w -> t", "SequenceAt: t back -> y"),
    "one before the last": (*THREE, "SequenceInsert: s w back -> t", "SequenceAt: t two -> y"),
    "one at the front": (*THREE, "SequenceInsert: s w zero -> t", "SequenceAt: t zero -> y"),
    "the last left out": (
        *THREE, "SequenceErase: s -> t",
        ("ConcatFromSequence: t -> y", {"axis": 0}),
    ),
    "one left out": (
        *THREE, "SequenceErase: s far -> t",
        ("ConcatFromSequence: t -> y", {"axis": 1, "new_axis": 1}),
    ),
    "stacked at the end": (*THREE, ("ConcatFromSequence: s -> y", {"axis": -1, "new_axis": 1})),
    "how many": (*THREE, "SequenceLength: s -> y"),
    "made of nothing": (
        ("SequenceEmpty: -> s", {}), "SequenceInsert: s x -> t", "SequenceAt: t zero -> y"
    ),
    "rows": (
        ("SplitToSequence: x -> s", {"axis": 0, "keepdims": 0}), "SequenceAt: s two -> y",
    ),
    "thick rows": (("SplitToSequence: x -> s", {"axis": -2}), "SequenceAt: s two -> y"),
    "pairs of columns": (("SplitToSequence: x two -> s", {"axis": 1}), "SequenceAt: s back -> y"),
    "parts": (
        ("SplitToSequence: x sizes -> s", {"axis": 0, "keepdims": 0}), "SequenceAt: s one -> y",
    ),
    "mapped": (*THREE, ("SequenceMap: s w -> t", {"body": ADDED}), "SequenceAt: t one -> y"),
    "an optional": ("Optional: x -> o", "OptionalGetElement: o -> y"),
    "an optional sequence": (
        *THREE, "Optional: s -> o", "OptionalGetElement: o -> t", "SequenceAt: t one -> y",
    ),
    "nothing in it": (("Optional: -> o", {"type": KIND}), "OptionalHasElement: o -> y"),
    "something in it": ("Optional: x -> o", "OptionalHasElement: o -> y"),
    "a sequence comes out": (("SplitToSequence: x -> y", {"axis": 1, "keepdims": 0}),),
}  # fmt: skip
REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "beyond the end": ((*THREE, "SequenceAt: s many -> y"), "position 7 is out of range"),
    "a computed position": (
        (*THREE, ("Cast: w -> p", {"to": 7}), "SequenceAt: s p -> y"), "is computed from the inputs"
    ),
    "nothing to give": (
        (("Optional: -> o", {"type": KIND}), "OptionalGetElement: o -> y"), "holds nothing"
    ),
    "one erased of none": (("SequenceEmpty: -> s", "SequenceErase: s -> y"), "empty"),
    "no sequence": (("SequenceLength: x -> y",), "no sequence"),
    "a sequence of sequences": (
        (*THREE, "SequenceConstruct: s -> t", "SequenceLength: t -> y"), "'s' is a sequence, and no"
    ),
}  # fmt: skip


def model(ways: tuple[Any, ...], opset: int = 18) -> onnx.ModelProto:
    nodes = []
    for way in ways:
        text, attributes = way if isinstance(way, tuple) else (way, {})
        op, _, names = text.partition(":")
        inputs, _, outputs = names.partition("->")
        nodes.append(helper.make_node(op, inputs.split(), outputs.split(), **attributes))
    shapes = {"x": [3, 4], "z": [3, 4]}
    shapes["w"] = [1, 1] if any("Cast" in str(way) for way in ways) else [3, 4]
    made = helper.make_graph(
        nodes, "sequences",
        [helper.make_tensor_value_info(t, TensorProto.FLOAT, s) for t, s in shapes.items()],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(np.asarray(v), t) for t, v in STORED.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(made, opset_imports=opsets, ir_version=8)


def saved(made: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """The model with the type of its output, written to the file."""
    made = onnx.shape_inference.infer_shapes(made)
    if not made.graph.output[0].type.WhichOneof("value"):
        made.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    onnx.save(made, path)
    return made


@pytest.mark.parametrize("name", WAYS)
def test_sequences_are_what_onnx_and_onnxruntime_make_of_them(name: str, tmp_path: Path) -> None:
    made = saved(model(WAYS[name]), tmp_path / "s.onnx")
    graph = program_of(load(tmp_path / "s.onnx")).checked.graph
    rng = np.random.default_rng(1)
    given = {t: rng.standard_normal(graph.types[t].shape).astype(np.float32) for t in graph.inputs}
    values = emulate(graph, {t: v[None] for t, v in given.items()}, SEQUENTIAL)
    ours = [np.asarray(values[t])[0] for t in graph.outputs]
    session = onnxruntime.InferenceSession(made.SerializeToString())
    theirs: list[Any] = [session.run(None, given)]
    if name not in WITHOUT_REFERENCE:
        theirs.append(ReferenceEvaluator(made).run(None, given))
    for found in theirs:
        wanted = found[0] if isinstance(found[0], list) else found
        assert len(wanted) == len(ours)
        for mine, other in zip(ours, wanted, strict=True):
            assert mine.shape == np.shape(other)
            np.testing.assert_array_equal(mine, other)


def test_every_operator_of_sequences_is_tried() -> None:
    tried = "".join(map(str, WAYS.values()))
    assert all(f"{op}:" in tried for op in SEQUENCES)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_known_of_sequences_is_refused(name: str, tmp_path: Path) -> None:
    ways, why = REFUSED[name]
    saved(model(ways), tmp_path / "s.onnx")
    with pytest.raises(UnsupportedModel, match=why):
        load(tmp_path / "s.onnx")


def test_a_sequence_grows_in_a_loop(tmp_path: Path) -> None:
    """h := h + x, every h kept; the sequence is carried from step to step."""
    floats = helper.make_sequence_type_proto(KIND)
    body = helper.make_graph(
        [
            helper.make_node("Add", ["h", "x"], ["n"]),
            helper.make_node("SequenceInsert", ["s", "n"], ["t"]),
            helper.make_node("Identity", ["c"], ["d"]),
        ],
        "step",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("h", TensorProto.FLOAT, None),
            helper.make_value_info("s", floats),
        ],
        [
            helper.make_tensor_value_info("d", TensorProto.BOOL, []),
            helper.make_tensor_value_info("n", TensorProto.FLOAT, None),
            helper.make_value_info("t", floats),
        ],
    )
    nodes = [
        helper.make_node("SequenceEmpty", [], ["e"]),
        helper.make_node("Loop", ["two", "", "z", "e"], ["h2", "all"], body=body),
        helper.make_node("ConcatFromSequence", ["all"], ["y"], axis=0),
    ]
    made = model(())
    made.graph.node.extend(nodes)
    saved(made, tmp_path / "l.onnx")
    graph = program_of(load(tmp_path / "l.onnx")).checked.graph
    given = {t: np.full((3, 4), v, np.float32) for t, v in zip("xzw", (0.1, 3.0, 0), strict=True)}
    y = np.asarray(emulate(graph, {t: v[None] for t, v in given.items()}, SEQUENTIAL)["y"])[0]
    (theirs,) = onnxruntime.InferenceSession(str(tmp_path / "l.onnx")).run(None, given)
    np.testing.assert_array_equal(y, theirs)


def test_a_computed_condition_cannot_choose_between_sequences(tmp_path: Path) -> None:
    sides = {}
    for side in ("then", "else"):
        name = f"{side}_s"
        out = helper.make_value_info(name, helper.make_sequence_type_proto(KIND))
        node = helper.make_node("SequenceConstruct", ["x"], [name])
        sides[f"{side}_branch"] = helper.make_graph([node], side, [], [out])
    made = model(())
    made.graph.node.extend(
        [
            helper.make_node("Cast", ["w"], ["c"], to=TensorProto.BOOL),
            helper.make_node("If", ["c"], ["s"], name="either", **sides),
            helper.make_node("SequenceAt", ["s", "zero"], ["y"]),
        ]
    )
    made.graph.input[2].type.tensor_type.shape.dim[0].dim_value = 1
    made.graph.input[2].type.tensor_type.shape.dim[1].dim_value = 1
    saved(made, tmp_path / "i.onnx")
    with pytest.raises(UnsupportedModel, match=r"'either' \(If\): a branch gives a sequence"):
        load(tmp_path / "i.onnx")
