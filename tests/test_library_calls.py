"""Every call of a library of arrays against onnxruntime on the same node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from encoders.registry import operators
from gpu_check.runtimes.library_kernels import (
    Library,
    LibraryKernels,
    LibraryMachine,
    jax_library,
    numpy_library,
    torch_library,
)
from gpu_check.runtimes.runtimes import OnnxRuntime, RuntimeUnavailable
from onnx_import import load

RNG = np.random.default_rng(3)
IMAGE = RNG.normal(0, 1, (2, 4, 6, 6)).astype(np.float32)
ROWS = RNG.normal(0, 1, (3, 5)).astype(np.float32)
OTHER = RNG.normal(0, 1, (3, 5)).astype(np.float32)
POSITIVE = np.abs(ROWS) + np.float32(0.25)
CHANNELS = [np.abs(RNG.normal(1, 0.2, 4)).astype(np.float32) for _ in range(4)]
KERNEL = RNG.normal(0, 1, (6, 2, 3, 3)).astype(np.float32)
MASK = np.where(OTHER > 0, -np.inf, OTHER).astype(np.float32)
MASK[0], MASK[:, 0] = 0, 0  # every row and column keeps something
TURNED = RNG.normal(0, 1, (4, 3, 3, 2)).astype(np.float32)
BIAS = RNG.normal(0, 1, 6).astype(np.float32)
AXES = np.array([1], np.int64)
GATES = {n: [np.ones((1, 2 * n, k), np.float32) for k in (5, 2)] for n in (1, 3)}  # W and R

UNARY = (
    *("Abs", "Atan", "Ceil", "Cos", "Elu", "Erf", "Exp", "Floor", "Gelu", "LeakyRelu", "Neg"),
    *("Relu", "Round", "Sigmoid", "Sign", "Sin", "Softplus", "Tanh"),
    *("Asinh", "Cosh", "Sinh", "Tan"),
)
PAIRS = ("Add", "Div", "Mul", "Sub")
SEVERAL = ("Max", "Min", "Sum")
TRUTHS = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
REDUCED = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum")
Case = tuple[list[Any], list[Any], Mapping[str, Any]]  # varying, stored, attributes
CASES: dict[str, Case] = {
    **{op: ([ROWS], [], {}) for op in UNARY},
    **{op: ([POSITIVE], [], {}) for op in ("Log", "Reciprocal", "Sqrt")},
    **{op: ([np.tanh(ROWS)], [], {}) for op in ("Acos", "Asin", "Atanh")},
    "Acosh": ([POSITIVE + np.float32(1)], [], {}),
    **{op: ([ROWS, OTHER], [], {}) for op in PAIRS},
    **{op: ([ROWS, OTHER, POSITIVE], [], {}) for op in SEVERAL},
    **{op: ([ROWS], [AXES], {"keepdims": 0}) for op in REDUCED},
    "AveragePool": ([IMAGE], [], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}),
    "BatchNormalization": ([IMAGE], CHANNELS, {"epsilon": 1e-3}),
    "Clip": ([ROWS], [np.float32(-0.5), np.float32(0.75)], {}),
    "Conv": ([IMAGE], [KERNEL, BIAS], {"group": 2, "strides": [2, 1], "pads": [1, 1, 1, 1]}),
    "ConvTranspose": (
        [IMAGE],
        [TURNED, BIAS],
        {
            "group": 2,
            "strides": [2, 3],
            "pads": [1, 2, 1, 2],
            "dilations": [2, 1],
            "output_padding": [1, 0],
        },
    ),
    "Gemm": ([ROWS], [OTHER, np.ones((1, 3), np.float32)], {"transB": 1}),
    "GlobalAveragePool": ([IMAGE], [], {}),
    "InstanceNormalization": ([IMAGE], CHANNELS[:2], {"epsilon": 1e-3}),
    "LayerNormalization": ([ROWS], [np.ones(5, np.float32), ROWS[0]], {"epsilon": 1e-3}),
    "LogSoftmax": ([ROWS], [], {"axis": 0}),
    "MatMul": ([ROWS, OTHER.T.copy()], [], {}),
    "MaskedWhere": ([ROWS], [MASK], {}),
    "MaskedLogSoftmax": ([ROWS], [MASK], {"axis": 0}),
    "MaskedSoftmax": ([ROWS], [MASK], {"axis": -1}),
    "MaxPool": ([IMAGE], [], {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "Pow": ([POSITIVE], [np.float32(3)], {}),
    "Softmax": ([ROWS], [], {"axis": -1}),
    "GlobalMaxPool": ([IMAGE], [], {}),
    "RecurrentSigmoid": ([ROWS[None]], GATES[3], {"activations": ["Relu", "Sigmoid"]}),
    "RecurrentTanh": ([ROWS[None]], GATES[1], {}),
    "ReduceSumSquare": ([ROWS], [AXES], {"keepdims": 0}),
    "Where": ([ROWS, OTHER], [], {}),  # chosen by a comparison
}
CASES |= {op: ([ROWS, np.where(ROWS > 0, ROWS, OTHER)], [], {}) for op in TRUTHS}
LIBRARIES = {"numpy": numpy_library, "torch": torch_library, "jax": jax_library}
MISSING = {
    "numpy": {"Elu", "Erf", "Gelu"},
    "torch": {"GlobalMaxPool", "ReduceSumSquare"},
    "jax": set(),
}
"""What a library has no call for, and refuses."""


def model(op: str, case: Case) -> onnx.ModelProto:
    given, stored, attributes = case
    names = [f"x{i}" for i in range(len(given))]
    held = {f"c{i}": np.asarray(v) for i, v in enumerate(stored)}
    reads = [*names, *held]
    nodes = []
    if op == "Where":
        nodes.append(helper.make_node("Greater", names, ["truth"], "compare"))
        reads = ["truth", *names]
    written = "t" if op in TRUTHS else "y"
    if op.startswith("Masked"):  # of an Exp or softmax behind stored -inf
        nodes.append(helper.make_node("Add", reads, ["score"], "mask"))
        op, reads = "Exp" if op == "MaskedWhere" else op.removeprefix("Masked"), ["score"]
    if op.startswith("Recurrent"):  # of a layer over time
        op, attributes = "RNN" if "Tanh" in op else "GRU", {"hidden_size": 2, **attributes}
    nodes.append(helper.make_node(op, reads, [written], "node", **attributes))
    if op in TRUTHS:
        nodes.append(helper.make_node("Cast", ["t"], ["y"], "cast", to=onnx.TensorProto.FLOAT))
    graph = helper.make_graph(
        nodes,
        op,
        [
            helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, v.shape)
            for n, v in zip(names, given, strict=True)
        ],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, n) for n, v in held.items()],
    )
    opset = [helper.make_opsetid("", 20 if op == "Gelu" else 18)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)


def opened(name: str) -> Library:
    try:
        return LIBRARIES[name]()
    except RuntimeUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", LIBRARIES)
def test_calls_give_what_onnxruntime_gives(name: str, tmp_path: Any) -> None:
    library = opened(name)
    wrong = []
    for op, case in CASES.items():
        path = tmp_path / f"{op}.onnx"
        onnx.save(model(op, case), path)
        graph = load(path)
        inputs = {f"x{i}": v for i, v in enumerate(case[0])}
        (expected,) = OnnxRuntime(path).run(inputs).values()
        machine = LibraryMachine(graph, LibraryKernels(graph, library))
        if op in MISSING[name]:
            with pytest.raises(RuntimeUnavailable, match=f"has no {op} here"):
                machine.tensors([inputs])
            continue
        found = np.asarray(machine.tensors([inputs])["y"][0])
        same = found.dtype == expected.dtype and found.shape == expected.shape
        if not same or not np.allclose(found, expected, rtol=1e-5, atol=1e-6):
            wrong.append(op)
    assert not wrong


def test_every_call_is_of_an_operator_and_is_tried() -> None:
    calls = set(numpy_library().calls)
    assert calls <= set(operators())
    assert calls - set(CASES) == {"And", "Cast", "Not", "Or"}  # Cast is behind comparisons


def test_what_the_reader_names_itself_is_said_as_the_file_has_it(tmp_path: Any) -> None:
    """A Cast to eight bits has a name of its own in graphs here, and no call in numpy."""
    text = (
        '<ir_version: 10, opset_import: ["": 19]> net (float[3] x) => (float[3] y) '
        "{ h = Mul(x, x)  q = Cast <to = 17> (h)  y = Cast <to = 1> (q) }"
    )
    onnx.save(onnx.parser.parse_model(text), tmp_path / "narrow.onnx")
    graph = load(tmp_path / "narrow.onnx")
    machine = LibraryMachine(graph, LibraryKernels(graph, numpy_library()))
    with pytest.raises(RuntimeUnavailable, match="has no Cast to floating-point types of at most"):
        machine.tensors([{"x": np.ones(3, np.float32)}])
    assert all("(Narrow)" not in node.describe() for node in graph.order)
