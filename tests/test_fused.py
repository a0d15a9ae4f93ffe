"""Operators that onnxruntime's optimiser writes, against onnxruntime's own kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from ort_schedule import ORT_BLOCKS

from encoders.arithmetic.exact_fields import Balls
from encoders.contract.presets import IEEE_ANY, ORT_CPU, SEQUENTIAL
from encoders.numbers.enclosure import Interval
from encoders.operator import site_of
from encoders.scheduling import contract_at
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_exact
from onnx_import import load
from onnx_import.errors import UnsupportedModel
from refine.bounds.network import InputBox, network_bounds

RNG = np.random.default_rng(11)


def numbers(*shape: int) -> Any:
    return RNG.uniform(-1, 1, shape).astype(np.float32)


def fused(
    op: str,
    inputs: Mapping[str, tuple[int, ...]],
    stored: Mapping[str, Any] | None = None,
    order: str = "",
    outputs: str = "y",
    before: list[onnx.NodeProto] | None = None,
    after: list[onnx.NodeProto] | None = None,
    **attributes: Any,
) -> onnx.ModelProto:
    kept = stored or {}
    names = ["" if t == "-" else t for t in order.split()] or [*inputs, *kept]
    node = helper.make_node(op, names, ["" if t == "-" else t for t in outputs.split()],
                            name="f", domain="com.microsoft", **attributes)  # fmt: skip
    nodes = [*(before or []), node, *(after or [])]
    written = [t for t in nodes[-1].output if t]
    graph = helper.make_graph(
        nodes,
        "fused",
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, s) for k, s in inputs.items()],
        [helper.make_tensor_value_info(t, TensorProto.FLOAT, None) for t in written],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in kept.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def gemm(activation: str, **more: Any) -> onnx.ModelProto:
    kept = {"b": numbers(4, 3), "c": numbers(4)}
    return fused("FusedGemm", {"x": (2, 3)}, kept, activation=activation, transB=1, **more)


def conv(activation: str = "", group: int = 1, added: bool = False, **more: Any) -> onnx.ModelProto:
    inputs: dict[str, tuple[int, ...]] = {"x": (1, 4, 5, 5)}
    kept = {"w": numbers(4, 4 // group, 3, 3), "b": numbers(4)}
    if added:
        inputs["z"] = (1, 4, 5, 5)
    given: dict[str, Any] = {"activation": activation} if activation else {}
    return fused("FusedConv", inputs, kept, "x w b z" if added else "x w b", group=group,
                 kernel_shape=[3, 3], pads=[1, 1, 1, 1], **given, **more)  # fmt: skip


def added(
    size: Sequence[int], kernel: Sequence[int], result: Sequence[int], /, **more: Any
) -> onnx.ModelProto:
    """A convolution of 4 channels that adds a tensor of its result's size."""
    inputs = {"x": (2, 4, *size), "z": (2, 6, *result)}
    kept = {"w": numbers(6, 4 // more.get("group", 1), *kernel), "b": numbers(6)}
    return fused("FusedConv", inputs, kept, "x w b z", activation="Relu", **more)


def matmul(a: tuple[int, ...], b: tuple[int, ...], **attributes: Any) -> onnx.ModelProto:
    return fused("FusedMatMul", {"x": a, "z": b}, **attributes)


def quantised(channels_last: int) -> onnx.ModelProto:
    """x, quantised, convolved, and back to float."""
    kept = {
        "s": np.float32(0.02), "o": np.uint8(120),
        "w": RNG.integers(-90, 90, (3, 2, 2, 2), np.int8),
        "ws": np.float32(0.01), "wo": np.int8(0), "t": np.float32(0.03), "p": np.uint8(100),
    }  # fmt: skip
    shape = (1, 4, 4, 2) if channels_last else (1, 2, 4, 4)
    quantise = helper.make_node("QuantizeLinear", ["x", "s", "o"], ["q"])
    back = helper.make_node("DequantizeLinear", ["r", "t", "p"], ["y"])
    return fused("QLinearConv", {"x": shape}, kept, "q s o w ws wo t p", "r", [quantise], [back],
                 channels_last=channels_last)  # fmt: skip


def between(
    op: str, shape: tuple[int, ...] = (2, 30), order: str = "q s o t p", /, **attributes: Any
) -> onnx.ModelProto:
    """x, quantised, a layer of quantised tensors, and back to float."""
    kept = {"s": np.float32(0.02), "o": np.uint8(120), "t": np.float32(0.011), "p": np.uint8(100)}
    quantise = helper.make_node("QuantizeLinear", ["x", "s", "o"], ["q"])
    back = helper.make_node("DequantizeLinear", ["r", "t", "p"], ["y"])
    return fused(op, {"x": shape}, kept, order, "r", [quantise], [back], **attributes)


def blocks(bits: int, columns: int, zeros: bool) -> onnx.ModelProto:
    """Three rows of weights in blocks of 16."""
    count = -(-columns // 16)
    kept: dict[str, Any] = {
        "w": RNG.integers(0, 255, (3, count, 16 * bits // 8), np.uint8),
        "s": np.abs(numbers(3, count)) / 10,
    }
    if zeros:
        kept |= {"o": RNG.integers(0, 255, (3, -(-count * bits // 8)), np.uint8), "b": numbers(3)}
    return fused("MatMulNBits", {"x": (1, 2, columns)}, kept, "x w s o - b" if zeros else "x w s",
                 K=columns, N=3, bits=bits, block_size=16)  # fmt: skip


def quantised_lstm(direction: str) -> onnx.ModelProto:
    d = 2 if direction == "bidirectional" else 1
    kept = {
        "w": RNG.integers(-90, 90, (d, 2, 12), np.int8),
        "r": RNG.integers(-90, 90, (d, 3, 12), np.int8),
        "b": numbers(d, 24), "h": numbers(d, 1, 3),
        "ws": np.full(d, 0.01, np.float32), "wo": np.zeros(d, np.int8),
        "rs": np.full(d, 0.02, np.float32), "ro": np.zeros(d, np.int8),
    }  # fmt: skip
    return fused("DynamicQuantizeLSTM", {"x": (4, 1, 2)}, kept, "x w r b - h - - ws wo rs ro",
                 "y l c", hidden_size=3, direction=direction)  # fmt: skip


CASES = {
    "FusedGemm Relu": gemm("Relu", alpha=0.7, beta=0.3),
    "FusedGemm LeakyRelu": gemm("LeakyRelu", activation_alpha=0.1),
    "FusedGemm Tanh": gemm("Tanh"),
    "FusedGemm Sigmoid": gemm("Sigmoid"),
    "FusedGemm HardSigmoid": gemm("HardSigmoid", activation_alpha=0.3, activation_beta=0.4),
    "FusedGemm Elu": gemm("Elu", activation_alpha=0.7),
    "FusedGemm Selu": gemm("Selu", activation_alpha=1.5, activation_gamma=1.1),
    "FusedGemm Softplus": gemm("Softplus"),
    "FusedGemm Softsign": gemm("Softsign"),
    "FusedGemm ThresholdedRelu": gemm("ThresholdedRelu", activation_alpha=0.3),
    "FusedConv Relu": conv("Relu"),
    "FusedConv Clip": conv("Clip", activation_params=[-0.25, 0.5]),
    "FusedConv HardSigmoid": conv("HardSigmoid", activation_params=[0.25, 0.5]),
    "FusedConv Sigmoid in groups": conv("Sigmoid", group=2),
    "FusedConv of a sum": conv(added=True),
    "FusedConv of a sum in groups": conv("Relu", group=2, added=True),
    "FusedConv of a sum in strides": added(
        (5, 6), (3, 3), (3, 3), strides=[2, 2], pads=[1, 1, 1, 1], group=2
    ),
    "FusedConv of a sum through one place": added((5, 6), (1, 1), (3, 2), strides=[2, 3]),
    "FusedConv of a smaller sum": added((5, 6), (3, 2), (3, 5)),
    "FusedConv of a sum, dilated": added(
        (7, 7), (3, 3), (4, 4), pads=[0, 1, 1, 0], dilations=[2, 2]
    ),
    "FusedConv of a sum, SAME_UPPER": added(
        (5, 6), (2, 3), (3, 3), strides=[2, 2], auto_pad="SAME_UPPER"
    ),
    "FusedConv of a sum, SAME_LOWER": added((6, 5), (4, 3), (6, 5), auto_pad="SAME_LOWER"),
    "FusedConv of a sum, VALID": added((5, 6), (2, 3), (2, 2), strides=[2, 2], auto_pad="VALID"),
    "FusedMatMul scaled": matmul((2, 3, 4), (4, 2), alpha=0.3),
    "FusedMatMul long": matmul((2, 200), (200, 2), alpha=0.3),
    "FusedMatMul transposed": matmul((2, 4, 3), (2, 5, 4), transA=1, transB=1),
    "FusedMatMul batches": matmul((4, 2, 3), (4, 2, 3), transBatchA=1, transBatchB=1, transB=1),
    "Gelu": fused("Gelu", {"x": (2, 5)}),
    "BiasGelu": fused("BiasGelu", {"x": (2, 5)}, {"b": numbers(5)}),
    "FastGelu": fused("FastGelu", {"x": (2, 5)}, {"b": numbers(5)}),
    "MatMulNBits": blocks(4, 32, zeros=False),
    "MatMulNBits with zeros and a bias": blocks(4, 40, zeros=True),
    "MatMulNBits of bytes": blocks(8, 32, zeros=False),
    "QuickGelu": fused("QuickGelu", {"x": (2, 5)}, alpha=1.702),
    "SkipLayerNormalization": fused(
        "SkipLayerNormalization", {"x": (1, 2, 6), "z": (1, 2, 6)},
        {"g": numbers(6), "b": numbers(6), "c": numbers(6)}, epsilon=1e-3,
    ),
    "SkipLayerNormalization and its sum": fused(
        "SkipLayerNormalization", {"x": (1, 2, 6), "z": (1, 2, 6)}, {"g": numbers(6)},
        outputs="y - - s", epsilon=1e-3,
    ),
    "SkipSimplifiedLayerNormalization": fused(
        "SkipSimplifiedLayerNormalization", {"x": (1, 2, 6), "z": (1, 2, 6)}, {"g": numbers(6)},
        epsilon=1e-3,
    ),
    "QLinearConv": quantised(0),
    "QLinearConv with channels last": quantised(1),
    "QLinearSigmoid": between("QLinearSigmoid"),
    "QLinearLeakyRelu": between("QLinearLeakyRelu", alpha=0.3),
    "QLinearConcat": between("QLinearConcat", (2, 30), "t p q s o q t p", axis=1),
    "DynamicQuantizeLSTM": quantised_lstm("forward"),
    "DynamicQuantizeLSTM backwards": quantised_lstm("reverse"),
    "DynamicQuantizeLSTM both ways": quantised_lstm("bidirectional"),
    "DynamicQuantizeMatMul": fused(
        "DynamicQuantizeMatMul", {"x": (2, 4)},
        {"w": RNG.integers(-90, 90, (4, 3), np.int8), "s": np.float32(0.01),
         "o": np.int8(0), "b": numbers(3)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_fused_operator_is_what_onnxruntime_computes(name: str, tmp_path: Path) -> None:
    """Within the bound of each point, and little else."""
    made = CASES[name]
    onnx.save(made, tmp_path / "m.onnx")
    graph = load(tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(
        made.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    rng = np.random.default_rng(2)
    x = {t: rng.uniform(-2, 2, (8, *graph.types[t].shape)).astype(np.float32) for t in graph.inputs}
    emulated = emulate(graph, x, SEQUENTIAL)
    for k in range(8):
        one = {t: v[k] for t, v in x.items()}
        ran = dict(zip(graph.outputs, map(np.asarray, session.run(list(graph.outputs), one)),
                       strict=True))  # fmt: skip
        for tensor, want in ran.items():
            got: Any = emulated[tensor][k]
            assert got.shape == want.shape
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
        if k > 1:
            continue
        box = {t: Interval(*2 * (v.astype(np.float64),)) for t, v in one.items()}
        still = {t: np.zeros(v.shape) for t, v in one.items()}
        bounds = network_bounds(graph, InputBox(box, still), IEEE_ANY).maps
        real = evaluate_exact(graph, one, Balls(), every_tensor=True)
        for tensor, value in ran.items():
            exact = np.array([float(v) for v in np.ravel(real[tensor])])
            limit = np.ravel(bounds.errors[tensor])
            assert np.all(np.abs(np.ravel(value).astype(np.float64) - exact) <= limit + 1e-14)
            assert name.startswith(("QLinear", "Dynamic")) or np.all(limit < 1e-2)


LONG = {
    "Gemm Relu": fused("FusedGemm", {"x": (3, 700)}, {"b": numbers(700, 9), "c": numbers(9)},
                       activation="Relu"),
    "Gemm LeakyRelu": fused("FusedGemm", {"x": (3, 100), "b": (5, 100)}, {"c": numbers(5)},
                            order="x b c", activation="LeakyRelu", activation_alpha=0.25,
                            transB=1),
    "Conv": fused("FusedConv", {"x": (1, 40, 5, 5)}, {"w": numbers(6, 40, 3, 3), "b": numbers(6)}),
    "Conv Relu": fused("FusedConv", {"x": (1, 80, 6, 6)},
                       {"w": numbers(4, 40, 3, 3), "b": numbers(4)}, group=2, activation="Relu"),
    "MatMul": fused("FusedMatMul", {"x": (2, 3, 700)}, {"w": numbers(700, 7)}),
    "MatMul of batches": fused("FusedMatMul", {"x": (2, 3, 1100), "w": (2, 1100, 7)}),
}  # fmt: skip


@pytest.mark.parametrize("name", LONG)
def test_a_fused_kernel_adds_up_as_the_operator_does(name: str, tmp_path: Path) -> None:
    """What `ort-cpu` says of Gemm, Conv and MatMul it says of kernels that fuse them."""
    made = LONG[name]
    onnx.save(made, tmp_path / "m.onnx")
    graph = load(tmp_path / "m.onnx")
    (layer,) = (n for n in graph.order if n.op == name.split()[0])
    assert contract_at(site_of(graph, layer), ORT_CPU).schedule.pinned
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        made.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    x = {t: RNG.uniform(-2, 2, graph.types[t].shape).astype(np.float32) for t in graph.inputs}
    (want,) = session.run(None, x)
    got = emulate(graph, {t: v[None] for t, v in x.items()}, ORT_BLOCKS)["y"][0]
    np.testing.assert_array_equal(np.asarray(got), np.asarray(want))


@pytest.mark.parametrize(
    ("made", "op"),
    [
        (fused("FusedMatMul", {"x": (2, 300, 3), "w": (2, 300, 7)}, transA=1), "MatMul"),
        (fused("FusedMatMul", {"x": (3, 300)}, {"w": numbers(300, 7)}, alpha=0.5), "Gemm"),
        (conv(added=True), "Conv"),
        (fused("MatMulNBits", {"x": (1, 2, 32)},
               {"w": RNG.integers(0, 255, (3, 2, 8), np.uint8), "s": np.abs(numbers(3, 2))},
               "x w s", K=32, N=3, bits=4, block_size=16), "Gemm"),
    ],
)  # fmt: skip
def test_of_other_kernels_nothing_is_said(made: onnx.ModelProto, op: str, tmp_path: Path) -> None:
    onnx.save(made, tmp_path / "m.onnx")
    graph = load(tmp_path / "m.onnx")
    (layer,) = (n for n in graph.order if n.op == op)
    assert not contract_at(site_of(graph, layer), ORT_CPU).schedule.pinned


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
@pytest.mark.parametrize(
    ("op", "order", "attributes"),
    [
        ("QLinearSigmoid", "q s o t p", {}),
        ("QLinearLeakyRelu", "q s o t p", {"alpha": 0.3}),
        ("QLinearConcat", "t p q s o", {"axis": 0}),
    ],
)
def test_layers_of_integers_are_the_same_bits_for_each(
    op: str, order: str, attributes: dict[str, Any], kind: Any, tmp_path: Path
) -> None:
    """For every integer there is, of scales that are powers of two (ties) and others."""
    least = np.iinfo(kind).min
    quantise = helper.make_node("QuantizeLinear", ["x", "s", "o"], ["q"])
    back = helper.make_node("DequantizeLinear", ["r", "t", "p"], ["y"])
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    for s, t in ((2.0**-5, 2.0**-4), (2.0**-3, 2.0**-6), (0.021, 0.0173), (0.011, 0.043)):
        kept = {"s": np.float32(s), "t": np.float32(t), "o": kind(17), "p": kind(9)}
        made = fused(op, {"x": (256,)}, kept, order, "r", [quantise], [back], **attributes)
        onnx.save(made, tmp_path / "m.onnx")
        x = (np.arange(least, least + 256) - 17).astype(np.float32) * np.float32(s)
        session = onnxruntime.InferenceSession(
            made.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        (want,) = session.run(None, {"x": x})
        got = emulate(load(tmp_path / "m.onnx"), {"x": x[None]}, SEQUENTIAL)["y"][0]
        np.testing.assert_array_equal(np.asarray(got), np.asarray(want))


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (gemm("Softmax"), "attribute 'activation' is 'Softmax'"),
        (gemm("Elu"), "attribute 'activation' is 'Elu'"),
        (conv("Softplus"), "attribute 'activation' is 'Softplus'"),
        (conv(added=True, strides=[2, 2]), "they must be the same"),
        (added((4, 4), (2, 2), (5, 5), pads=[1, 1, 1, 1]), "always lies inside the input"),
        (fused("SkipLayerNormalization", {"x": (1, 2, 6), "z": (1, 2, 6)}, {"g": numbers(6)},
               outputs="y m"), "its mean or deviation"),
        (fused("Gelu", {"x": (2,)}, quality=1), "attribute 'quality'"),
        (fused("FusedMatMul", {"x": (3,), "z": (3, 2)}), "is a vector"),
        (fused("DynamicQuantizeMatMul", {"x": (2, 4)}, {"s": np.float32(1)}, order="x - s"),
         "leaves out input 1"),
    ],
)  # fmt: skip
def test_what_has_no_meaning_is_refused(made: onnx.ModelProto, words: str, tmp_path: Path) -> None:
    onnx.save(made, tmp_path / "m.onnx")
    with pytest.raises(UnsupportedModel, match=words):
        load(tmp_path / "m.onnx")


def test_a_convolution_in_blocks_names_the_level_that_saves_none(tmp_path: Path) -> None:
    plain = fused("Conv", {"x": (1, 8, 2, 2)}, {"w": numbers(8, 8, 1, 1)})
    plain.graph.node[0].domain = ""
    onnx.save(plain, tmp_path / "plain.onnx")
    load(tmp_path / "plain.onnx")
    blocked = fused("Conv", {"x": (1, 8, 2, 2)}, {"w": numbers(8, 8, 1, 1)})
    blocked.graph.node[0].domain = "com.microsoft.nchwc"
    blocked.opset_import.append(helper.make_opsetid("com.microsoft.nchwc", 1))
    onnx.save(blocked, tmp_path / "m.onnx")
    with pytest.raises(UnsupportedModel, match="at level ORT_ENABLE_EXTENDED"):
        load(tmp_path / "m.onnx")
