"""Networks that onnxruntime's own tool has quantised: imported, emulated bit for bit, bounded."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, version_converter
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from ort_schedule import ORT_BLOCKS

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.contract.presets import IEEE_ANY, ORT_CPU
from gpu_check.conformance.conformance import How, conformance
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_real
from gpu_check.runtimes.runtimes import OnnxRuntime
from gpu_check.runtimes.tensors import OnnxMachine
from onnx_import import load
from onnx_import.graph import Array, Graph
from refine.bounds.network import network_bounds
from refine.claims.assumptions import assumptions_of
from refine.domain.domain import Domain, DomainOptions, read_domain
from refine.proof.proof import input_box

MNIST = Path(__file__).resolve().parents[2] / "shared" / "models" / "mnist_fc"
POINTS = 24


class Samples(CalibrationDataReader):
    """Random points of a box, one at a time."""

    def __init__(self, graph: Graph, domain: Domain, count: int = 8) -> None:
        self.rest: Iterator[dict[str, Array]] = iter(samples(graph, domain, count, seed=3))

    def get_next(self) -> Any:
        return next(self.rest, None)


def samples(graph: Graph, domain: Domain, count: int, seed: int) -> list[dict[str, Array]]:
    (box,) = domain.boxes
    rng = np.random.default_rng(seed)
    return [
        {name: rng.uniform(box.lo[name], box.hi[name]).astype(np.float32) for name in graph.inputs}
        for _ in range(count)
    ]


@dataclass(frozen=True)
class Way:
    """How the tool quantises: statically in a format, or, without one, dynamically."""

    name: str
    format: QuantFormat | None
    options: Mapping[str, Any] = field(default_factory=dict)

    def apply(self, source: Path, target: Path, reader: Samples) -> Path:
        logging.getLogger().setLevel(
            logging.ERROR
        )  # it asks for a preparation that changes nothing
        if self.format is None:
            quantize_dynamic(source, target, **self.options)
        else:
            quantize_static(source, target, reader, quant_format=self.format, **self.options)
        return target


QDQ = Way("QDQ", QuantFormat.QDQ)
SIGNED = Way("QDQ, int8", QuantFormat.QDQ, {"activation_type": QuantType.QInt8})
CHANNELS = Way("QDQ, by channels", QuantFormat.QDQ, {"per_channel": True})
# processors without VNNI saturate sums of products by int8 weights of more than 7 bits
NARROW: Mapping[str, Any] = {"reduce_range": True}
MATRICES = Way("QOperator, MatMul", QuantFormat.QOperator,
               {"op_types_to_quantize": ["MatMul"], **NARROW})  # fmt: skip
GEMMS = Way("QOperator, Gemm", QuantFormat.QOperator, NARROW)
COLUMNS = Way("QOperator, Gemm by columns", QuantFormat.QOperator, {"per_channel": True, **NARROW})
FILTERS = Way("QOperator, Conv", QuantFormat.QOperator,
              {"op_types_to_quantize": ["Conv"], "per_channel": True, **NARROW})  # fmt: skip
DYNAMIC = Way("dynamic", None, NARROW)


LIMITS = [(QDQ, 1.1), (CHANNELS, 1.1), (GEMMS, 1.1), (DYNAMIC, 6e3)]


def saved(path: Path, nodes: Any, shape: tuple[int, ...], out: tuple[int, ...],
          weights: Mapping[str, Any]) -> Path:  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        [numpy_helper.from_array(np.array(w, np.float32), t) for t, w in weights.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def dense(path: Path) -> Path:
    rng = np.random.default_rng(7)
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["a"], name="first"),
        helper.make_node("Add", ["a", "b"], ["c"], name="bias"),
        helper.make_node("Relu", ["c"], ["d"], name="relu"),
        helper.make_node("MatMul", ["d", "V"], ["y"], name="second"),
    ]
    weights = {
        "W": rng.standard_normal((6, 9)),
        "b": rng.standard_normal(9),
        "V": rng.standard_normal((9, 3)),
    }
    return saved(path, nodes, (1, 6), (1, 3), weights)


def fused(path: Path) -> Path:
    """Gemm, once with B transposed."""
    rng = np.random.default_rng(9)
    nodes = [
        helper.make_node("Gemm", ["x", "W", "b"], ["a"], name="first", transB=1),
        helper.make_node("Relu", ["a"], ["c"], name="relu"),
        helper.make_node("Gemm", ["c", "V", "d"], ["y"], name="second"),
    ]
    weights = {
        "W": rng.standard_normal((9, 6)),
        "b": rng.standard_normal(9),
        "V": rng.standard_normal((9, 3)),
        "d": rng.standard_normal(3),
    }
    return saved(path, nodes, (1, 6), (1, 3), weights)


def convolutional(path: Path) -> Path:
    rng = np.random.default_rng(8)
    nodes = [
        helper.make_node("Conv", ["x", "W", "b"], ["a"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["c"], name="relu"),
        helper.make_node("Conv", ["c", "V"], ["y"], name="second", strides=[2, 2]),
    ]
    weights = {
        "W": rng.standard_normal((4, 2, 3, 3)),
        "b": rng.standard_normal(4),
        "V": rng.standard_normal((3, 4, 2, 2)),
    }
    return saved(path, nodes, (1, 2, 6, 6), (1, 3, 3, 3), weights)


def judged(source: Path, way: Way, options: DomainOptions, folder: Path) -> float:
    """The proved bound, onnxruntime's bits having been found to be the emulated ones."""
    plain = load(source)
    domain = read_domain(plain, options, IEEE_ANY.format_of)
    quantized = way.apply(source, folder / "quantised.onnx", Samples(plain, domain))
    graph = load(quantized)
    (output,) = graph.outputs
    given = samples(graph, domain, POINTS, seed=5)
    batch = {name: np.stack([s[name] for s in given]) for name in graph.inputs}
    runtime = OnnxRuntime(quantized)
    actual = np.stack([np.asarray(runtime.run(s)[output]) for s in given])
    np.testing.assert_array_equal(np.asarray(emulate(graph, batch, ORT_BLOCKS)[output]), actual)
    (box,) = domain.boxes
    bound = network_bounds(graph, input_box(box, domain, IEEE_ANY), IEEE_ANY).errors[output]
    assert np.all(np.isfinite(bound))
    reals = {name: v.astype(np.float64) for name, v in batch.items()}
    exact = evaluate_real(graph, reals, ApproximateReals())[output]
    assert np.all(np.abs(actual.astype(np.float64) - exact) <= bound)
    return float(np.max(bound))


@pytest.mark.parametrize("way", [QDQ, SIGNED, CHANNELS, MATRICES, DYNAMIC], ids=lambda w: w.name)
def test_a_dense_network(way: Way, tmp_path: Path) -> None:
    options = DomainOptions(inputs=("0.5..1",))
    assert 0 < judged(dense(tmp_path / "plain.onnx"), way, options, tmp_path) < 10.0


@pytest.mark.parametrize("way", [QDQ, GEMMS, COLUMNS], ids=lambda w: w.name)
def test_a_network_of_gemms(way: Way, tmp_path: Path) -> None:
    options = DomainOptions(inputs=("-1..1",))
    assert 0 < judged(fused(tmp_path / "plain.onnx"), way, options, tmp_path) < 10.0


@pytest.mark.parametrize("way", [QDQ, SIGNED, CHANNELS, FILTERS], ids=lambda w: w.name)
def test_a_convolutional_network(way: Way, tmp_path: Path) -> None:
    options = DomainOptions(inputs=("-1..1",))
    assert 0 < judged(convolutional(tmp_path / "plain.onnx"), way, options, tmp_path) < 10.0


@pytest.mark.parametrize(("way", "said"), [(QDQ, 0), (MATRICES, 1), (DYNAMIC, 1)],
                         ids=lambda v: getattr(v, "name", ""))  # fmt: skip
def test_exact_integer_sums_are_an_assumption(way: Way, said: int, tmp_path: Path) -> None:
    source = dense(tmp_path / "plain.onnx")
    plain = load(source)
    domain = read_domain(plain, DomainOptions(inputs=("0..1",)), IEEE_ANY.format_of)
    graph = load(way.apply(source, tmp_path / "quantised.onnx", Samples(plain, domain)))
    assumed = assumptions_of(graph, domain, IEEE_ANY)
    assert sum(a.name == "integers" for a in assumed) == said


def test_conformance_compares_every_quantised_tensor(tmp_path: Path) -> None:
    source = dense(tmp_path / "plain.onnx")
    plain = load(source)
    domain = read_domain(plain, DomainOptions(inputs=("0..1",)), IEEE_ANY.format_of)
    path = QDQ.apply(source, tmp_path / "quantised.onnx", Samples(plain, domain))
    graph = load(path)
    machine = OnnxMachine(graph, onnx.load(path))
    found = conformance(graph, machine, ORT_CPU, samples=samples(graph, domain, 8, seed=5))
    quantized = [n for n in found.nodes if n.node.op in ("QuantizeLinear", "DequantizeLinear")]
    assert len(quantized) == 8
    assert all(n.how is How.BITS and n.divergence is None for n in quantized)


@pytest.mark.skipif(not MNIST.is_dir(), reason="needs ../shared/models/mnist_fc")
@pytest.mark.parametrize(("way", "limit"), LIMITS, ids=lambda v: getattr(v, "name", ""))
def test_mnist_on_its_property(way: Way, limit: float, tmp_path: Path) -> None:
    """A stored type caps what jumps can add up to; scales that depend on the input do not."""
    model = version_converter.convert_version(onnx.load(MNIST / "mnist-net_256x4.onnx"), 13)
    model.ir_version = 8
    source = tmp_path / "plain.onnx"
    onnx.save(model, source)
    options = DomainOptions(vnnlib=str(MNIST / "prop_0_0.03.vnnlib"))
    assert 0 < judged(source, way, options, tmp_path) < limit
