"""Nodes that have no one meaning, or would end the process: refused by name, each kind once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from grid_cases import Case, Data, const, kept, made_of, run
from onnx import TensorProto, helper, numpy_helper

from encoders.contract.contract import RuntimeContract
from encoders.program import program_of
from gpu_check.emulator.emulator import emulate
from onnx_import import load
from onnx_import.errors import ModelError, UnsupportedModel
from onnx_import.graph import Graph

LAST = 2**63 - 1


def whole(*values: object) -> Data:
    return const(np.array(values[0] if len(values) == 1 else values, np.int64), "int64")


def graph_of(case: Case, folder: Path) -> Graph:
    """Read, and looked through node by node. Raises ModelError."""
    path = folder / "model.onnx"
    path.write_bytes(made_of(case).model.SerializeToString())
    return program_of(load(path)).checked.graph


PADDED = {"kernel_shape": (2,), "auto_pad": "SAME_UPPER", "pads": (1, 1)}
REFUSED = (
    (Case("MaxPool", 13, (run(1, 1, 4),), PADDED, "float32"), "exclude each other"),
    (Case("LpPool", 18, (run(1, 1, 4),), PADDED, "float32"), "exclude each other"),
    (Case("Conv", 13, (run(1, 1, 4), kept(1, 1, 2)), PADDED, "float32"), "exclude each other"),
    (
        Case("ConvTranspose", 13, (run(1, 1, 4), kept(1, 1, 2)), PADDED, "float32"),
        "exclude each other",
    ),
    (
        Case(
            "AveragePool",
            19,
            (run(1, 1, 4),),
            {
                "kernel_shape": (2,),
                "strides": (2,),
                "pads": (0, 1),
                "ceil_mode": 1,
            },
            "float32",
        ),
        "start in the padding",
    ),
    (
        Case("Conv", 13, (run(1, 2, 4), kept(4, 2, 2), kept(1)), {}, "float32"),
        "input 2 must have the shape",
    ),
    (
        Case("ConvTranspose", 13, (run(1, 2, 4), kept(2, 2, 2), kept(1)), {}, "float32"),
        "input 2 must",
    ),
    (
        Case("BatchNormalization", 15, (run(3), kept(1), kept(1), kept(1), kept(1)), {}, "float32"),
        "no axis",
    ),
    (
        Case("InstanceNormalization", 13, (run(1, 3, 2), kept(1), kept(1)), {}, "float32"),
        "input 1 must",
    ),
    (
        Case(
            "GroupNormalization", 21, (run(1, 4, 2), kept(2), kept(2)), {"num_groups": 2}, "float32"
        ),
        "input 1 must have the shape",
    ),
    (Case("PRelu", 16, (run(3), kept(2, 3)), {}, "float32"), "does not broadcast"),
    (
        Case("LayerNormalization", 17, (run(2, 3), kept(4, 2, 3)), {}, "float32"),
        "does not broadcast",
    ),
    (Case("Max", 7, (run(2, 3), run(1)), {}, "float32"), "opset 7 does not broadcast"),
    (Case("Mean", 7, (run(2, 3), kept(0, 1)), {}, "float32"), "opset 7 does not broadcast"),
    (Case("GatherElements", 13, (run(2, 3), whole(0, 1)), {}, "float32"), "do not fit data"),
    (Case("GatherElements", 13, (run(2, 3), whole([[0, 1, 0, 1]])), {}, "float32"), "do not fit"),
    (
        Case(
            "GatherND", 13, (run(2, 3), whole([[[0]], [[1]], [[0]]])), {"batch_dims": 1}, "float32"
        ),
        "here",
    ),
    (Case("ScatterElements", 13, (run(2, 3), whole(0, 1), run(2)), {}, "float32"), "do not fit"),
    (
        Case("Pad", 18, (run(2, 0), whole(0, 0, 0, 1)), {"mode": "edge"}, "float32"),
        "no elements left",
    ),
    (Case("Squeeze", 7, (run(2, 1),), {"axes": (-1,)}, "float32"), "must not be negative"),
    (Case("Unsqueeze", 7, (run(2),), {"axes": (-1,)}, "float32"), "must not be negative"),
    (
        Case(
            "Slice", 13, (run(4), whole([3]), whole([LAST]), whole([0]), whole([-1])), {}, "float32"
        ),
        "goes backwards",
    ),
    (
        Case(
            "Slice",
            13,
            (kept(4), whole([3]), whole([LAST]), whole([0]), whole([-1])),
            {},
            "float32",
        ),
        "goes backwards",
    ),
    (Case("CenterCropPad", 18, (run(3, 4), whole([7])), {}, "float32"), "does not fit its inputs"),
    (Case("ScatterElements", 13, (run(), whole(0), run()), {}, "float32"), "out of range"),
    (Case("LRN", 13, (run(1, 2, 2),), {"size": 0}, "float32"), "must be positive"),
    (Case("LRN", 13, (run(1, 2, 2),), {"size": 1, "alpha": 1e38}, "float16"), "no float16 number"),
    (Case("LRN", 13, (run(1, 2, 2),), {"size": 1, "alpha": 0.5, "beta": 0.7}, "float16"), "'beta'"),
    (
        Case(
            "QuantizeLinear", 23, (run(3), kept(1, kind="positive")), {"precision": -1}, "float32"
        ),
        "attribute 'precision'",
    ),
    (
        Case("RotaryEmbedding", 23, (run(1, 2, 3, 4), kept(1, 3, 1), kept(1, 3, 1)), {}, "float32"),
        "half as many are needed",
    ),
    (
        Case("NegativeLogLikelihoodLoss", 13, (run(2, 3), whole(-1, 0)), {}, "float32"),
        "is negative",
    ),
)


@pytest.mark.parametrize(("case", "why"), REFUSED, ids=[str(c)[:60] for c, _ in REFUSED])
def test_what_runtimes_read_differently_or_not_at_all_is_refused(
    case: Case, why: str, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedModel, match=why):
        graph_of(case, tmp_path)


@pytest.mark.parametrize(
    ("op", "shape", "outputs", "attributes"),
    [
        ("Split", [4, 3], ["y", "y1", "y2"], {"num_outputs": 2}),
        ("Split", [4, 3], ["y"], {"num_outputs": 2**31}),
        ("LayerNormalization", [2, 3], ["y", "y1"], {"axis": 2**31}),
        ("GatherND", [2, 3], ["y"], {"batch_dims": -2}),
    ],
)
def test_what_ends_the_process_in_onnx_is_not_shown_to_it(
    op: str, shape: list[int], outputs: list[str], attributes: dict[str, Any], tmp_path: Path
) -> None:
    """Read in this very process, which ONNX's shape inference would abort."""
    stored = {"GatherND": np.array([[0]]), "LayerNormalization": np.ones(3, np.float32)}.get(op)
    names = ["x"] if stored is None else ["x", "k"]
    graph = helper.make_graph(
        [helper.make_node(op, names, outputs, name="here", **attributes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(t, TensorProto.FLOAT, None) for t in outputs],
        [] if stored is None else [numpy_helper.from_array(stored, "k")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=rf"'here' \({op}\): attribute"):
        load(tmp_path / "model.onnx")


def test_a_slice_backwards_from_before_the_first_element_starts_there(tmp_path: Path) -> None:
    """ONNX's text clamps starts to 0; Python finds nothing."""
    for data in (run(4), kept(4)):
        bounds = (whole([-10]), whole([-(2**63)]), whole([0]), whole([-1]))
        case = Case("Slice", 13, (data, *bounds), {}, "float32")
        graph = graph_of(case, tmp_path)
        x = np.arange(4, dtype=np.float32)[None]
        (y,) = emulate(graph, dict.fromkeys(graph.inputs, x), _sequential()).values()
        assert y.shape == (1, 1)
        if graph.inputs:
            assert y[0, 0] == 0.0


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_scales_that_change_no_length_are_said_to_be_read_differently(
    mode: str, tmp_path: Path
) -> None:
    given = {"mode": mode, "scales": (1.3,), "coordinate_transformation_mode": "asymmetric"}
    (note,) = program_of(graph_of(Case("Resize", 13, (run(3),), given, "float32"), tmp_path)).notes
    assert "onnxruntime copies its input" in note


def test_group_normalization_is_said_to_cancel_in_onnxruntime(tmp_path: Path) -> None:
    """Of 40000 to 40003 it makes hundreds, where rows of 4 reach √3 at most."""
    given = (run(1, 2, 2), kept(2), kept(2))
    case = Case("GroupNormalization", 21, given, {"num_groups": 1}, "float32")
    made = made_of(case).model
    (note,) = program_of(graph_of(case, tmp_path)).notes
    assert "mean of squares" in note
    ones = [("s", np.ones(2, np.float32)), ("b", np.zeros(2, np.float32))]
    del made.graph.initializer[:]
    made.graph.node[0].input[1:] = [name for name, _ in ones]
    made.graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in ones)
    x = np.arange(40000, 40004, dtype=np.float32).reshape(1, 2, 2)
    session = ort.InferenceSession(made.SerializeToString())
    (y,) = session.run(None, {session.get_inputs()[0].name: x})
    assert np.max(np.abs(np.asarray(y))) > 100.0


def _sequential() -> RuntimeContract:
    from encoders.contract.presets import SEQUENTIAL

    return SEQUENTIAL
