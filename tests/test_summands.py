"""Convolutions that add a tensor in their own sums, as onnxruntime fuses residual blocks, beside a
convolution, its normalisation and a sum."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from small_models import save

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.contract.presets import EXACT, ORT_CPU
from encoders.program import program_of
from gpu_check.emulator.exact import evaluate_real
from onnx_import import load
from onnx_import.graph import Graph
from refine.claims.kinds.difference import diff
from refine.claims.options import Options
from refine.domain.domain import DomainOptions, read_domain
from refine.options.optimised import optimised_into
from refine.pair.equality import equal_outputs
from refine.pair.pair import pair_of
from refine.pair.summands import summand_of
from refine.results.verdict import Side, Tolerance

_N = helper.make_node
_OPTIONS = Options(None, None, timeout=60, budget=0)


@dataclass
class Blocks:
    """Residual blocks of 4 channels with a shortcut, under way."""

    normalised: bool = False
    group: int = 1
    stride: int = 1
    first: bool = False  # is the shortcut written before the block?
    turned: bool = False
    count: int = 2

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(5)
        self.nodes: list[onnx.NodeProto] = []
        self.held: dict[str, Any] = {}

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(_N(op, list(inputs), [name], name=f"{op}{len(self.nodes)}", **attributes))
        return name

    def stored(self, values: Any) -> str:
        name = f"c{len(self.held)}"
        self.held[name] = np.asarray(values, np.float32)
        return name

    def conv(self, x: str, size: int, stride: int, group: int = 1) -> str:
        weights = self.stored(self.rng.normal(size=(4, 4 // group, size, size)) / 2)
        pads = [size // 2] * 4
        bias = self.stored(self.rng.normal(size=4) / 4)
        y = self.add("Conv", x, weights, bias, pads=pads, strides=[stride] * 2, group=group)
        if not self.normalised:
            return y
        numbers = [
            self.rng.uniform(0.5, 2, 4), *(self.rng.normal(size=(2, 4)) / 8),
            self.rng.uniform(0.5, 2, 4),
        ]  # fmt: skip
        return self.add("BatchNormalization", y, *map(self.stored, numbers))

    def block(self, x: str) -> str:
        z = self.conv(x, 1, self.stride) if self.first else ""
        y = self.add("Relu", self.conv(x, 3, self.stride))
        y = self.conv(y, 3, 1, self.group)
        z = z or (self.conv(x, 1, self.stride) if self.stride > 1 else x)
        return self.add("Relu", self.add("Add", *((z, y) if self.turned else (y, z))))

    def saved(self, path: Path) -> Path:
        x, size = self.add("Relu", self.conv("x", 3, 1)), 5
        for _ in range(self.count):
            x, size = self.block(x), -(-size // self.stride)
        self.nodes[-1].output[0] = "y"
        return save(path, self.nodes, {"x": (1, 4, 5, 5)}, {"y": (1, 4, size, size)}, self.held)


def _sides(blocks: Blocks, folder: Path) -> tuple[Side, Side]:
    spec = blocks.saved(folder / "m.onnx")
    impl = optimised_into(spec, "all", folder / "all.onnx")
    assert "FusedConv" in {n.op_type for n in onnx.load(impl).graph.node}
    return Side(load(spec), EXACT), Side(load(impl), ORT_CPU)


_SHAPES = [
    Blocks(),
    Blocks(turned=True, group=2),
    Blocks(stride=2),
    Blocks(stride=2, first=True),
    Blocks(stride=1, first=True, turned=True),
]


@pytest.mark.parametrize("place", range(len(_SHAPES)))
def test_fused_residual_blocks_are_equal_over_the_reals(place: int, tmp_path: Path) -> None:
    spec, impl = _sides(_SHAPES[place], tmp_path)
    pair = pair_of(spec, impl)
    assert equal_outputs(pair) == frozenset(pair.outputs)
    steps = program_of(impl.graph).steps
    assert sum(summand_of(impl.graph, step) is not None for step in steps) == 2


def _moved(path: Path, change: str) -> None:
    """The optimised model with one number changed by an ulp, or two tensors exchanged."""
    model = onnx.load(path)
    node = [n for n in model.graph.node if n.op_type == "FusedConv" and len(n.input) == 4][-1]
    if change == "added":
        others = {n.output[0] for n in model.graph.node if n.output[0] == node.input[0]}
        assert node.input[3] not in others
        (node.input[3],) = others
    else:
        tensor = next(
            t for t in model.graph.initializer if t.name == node.input[1 + (change == "b")]
        )
        values = onnx.numpy_helper.to_array(tensor).copy()
        values.flat[-1] = np.nextafter(values.flat[-1], np.float32(9))
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(model, path)


@pytest.mark.parametrize("change", ["w", "b", "added"])
def test_what_is_not_quite_the_sum_is_not_equal(change: str, tmp_path: Path) -> None:
    spec, _ = _sides(Blocks(), tmp_path)
    _moved(tmp_path / "all.onnx", change)
    impl = Side(load(tmp_path / "all.onnx"), ORT_CPU)
    assert equal_outputs(pair_of(spec, impl)) == frozenset()


def _values(x: Any, *graphs: Graph) -> list[Any]:
    """The outputs at a point, in float64."""
    given = {"x": np.asarray(x, np.float64)[None]}
    return [next(iter(evaluate_real(g, given, ApproximateReals()).values())) for g in graphs]


_NORMALISED = [
    Blocks(normalised=True, count=1),
    Blocks(normalised=True, turned=True, count=1),
    Blocks(normalised=True, stride=2, first=True, group=2, count=1),
]


@pytest.mark.parametrize("blocks", _NORMALISED)
def test_normalisations_folded_into_such_layers_are_charged(blocks: Blocks, tmp_path: Path) -> None:
    spec, impl = _sides(blocks, tmp_path)
    domain = read_domain(impl.graph, DomainOptions(center="0.5", radius="0.01"), ORT_CPU.format_of)
    real = diff(spec, Side(impl.graph, EXACT), domain, Tolerance(), _OPTIONS)
    run = diff(spec, impl, domain, Tolerance(), _OPTIONS)
    assert "correspond node by node" in real.notes[-1]
    found = 0.0
    for x in domain.boxes[0].sample(np.random.default_rng(0), 5)["x"]:
        a, b = _values(x, impl.graph, spec.graph)
        found = max(found, float(np.max(np.abs(a - b))))
    assert 1e-9 < found < real.bound < 1e3 * found
    assert real.bound < run.bound < 1e-2


def test_a_tensor_added_to_itself_keeps_its_error(tmp_path: Path) -> None:
    """The layer that is executed with the sum is one of its operands, and the other one is the same
    tensor, computed for itself: that one's error counts."""
    rng = np.random.default_rng(3)
    weights = rng.normal(size=(2, 2, 1, 1)).astype(np.float32)
    nodes = [_N("Conv", ["x", "w", "b"], ["c"]), _N("Add", ["c", "c"], ["y"])]
    bias = rng.normal(size=2).astype(np.float32)
    shape = (1, 2, 3, 3)
    spec = save(tmp_path / "m.onnx", nodes, {"x": shape}, {"y": shape}, {"w": weights, "b": bias})
    off = weights * np.float32(1 + 2.0**-10)
    fused = _N("FusedConv", ["x", "w", "b", "c"], ["y"], domain="com.microsoft")
    model = onnx.load(spec)
    model.graph.initializer.append(onnx.numpy_helper.from_array(off, "off"))
    del model.graph.node[:]
    model.graph.node.extend([_N("Conv", ["x", "off", "b"], ["c"]), fused])
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, tmp_path / "all.onnx")
    sides = Side(load(spec), EXACT), Side(load(tmp_path / "all.onnx"), EXACT)
    domain = read_domain(
        sides[1].graph, DomainOptions(center="0.5", radius="0.1"), ORT_CPU.format_of
    )
    theirs, mine = _values(np.full(shape, 0.5), *(s.graph for s in sides))
    apart = float(np.max(np.abs(mine - theirs)))
    result = diff(*sides, domain, Tolerance(), _OPTIONS)
    assert result.worst_found is not None
    assert 0 < apart <= result.worst_found <= result.bound < 1.01 * result.worst_found


def test_a_product_and_its_bias_are_executed_as_one(tmp_path: Path) -> None:
    """Beside a normalisation that is folded, so that the graphs are not equal."""
    rng = np.random.default_rng(4)
    held = {
        "w": rng.normal(size=(3, 4)), "b": rng.normal(size=(1, 4)), "v": rng.normal(size=(4, 4)),
        "c": rng.normal(size=4), "s": rng.uniform(1, 2, 4), "m": rng.normal(size=4),
    }  # fmt: skip
    stored = {k: np.asarray(v, np.float32) for k, v in held.items()}
    nodes = [
        _N("MatMul", ["x", "w"], ["p"]), _N("Add", ["b", "p"], ["q"]), _N("Relu", ["q"], ["r"]),
        _N("Gemm", ["r", "v", "c"], ["t"]),
        _N("BatchNormalization", ["t", "s", "c", "m", "s"], ["y"]),
    ]  # fmt: skip
    spec = save(tmp_path / "m.onnx", nodes, {"x": (2, 3)}, {"y": (2, 4)}, stored)
    scale = stored["s"] / np.sqrt(stored["s"] + np.float32(1e-5))
    stored |= {"g": stored["v"] * scale, "a": (stored["c"] - stored["m"]) * scale + stored["c"]}
    stored |= {"u": stored["w"].T.copy(), "d": stored["b"].reshape(-1)}
    fused = [
        _N("Gemm", ["x", "u", "d"], ["q"], transB=1), _N("Relu", ["q"], ["r"]),
        _N("Gemm", ["r", "g", "a"], ["y"]),
    ]  # fmt: skip
    for off in (0.0, 2.0**-12):
        stored["u"][1, 2] += off
        impl = save(tmp_path / "all.onnx", fused, {"x": (2, 3)}, {"y": (2, 4)}, stored)
        sides = Side(load(spec), EXACT), Side(load(impl), EXACT)
        domain = read_domain(sides[1].graph, DomainOptions(center="0.5", radius="0.5"), ORT_CPU.format_of)  # fmt: skip # noqa: E501
        result = diff(*sides, domain, Tolerance(), _OPTIONS)
        assert "correspond node by node" in result.notes[-1]
        assert result.worst_found is not None
        assert off / 8 < result.worst_found <= result.bound < 3 * result.worst_found + 1e-6
