"""Small ONNX files and in-process runs for the tests of the command line and of verdicts."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from encoders.contract.presets import PRESETS
from onnx_import import load
from onnx_import.graph import Array, DType, Graph, Node, TensorType, build_graph
from refine.claims.kinds.accuracy import check
from refine.claims.options import Options
from refine.domain.domain import Domain, DomainOptions, read_domain
from refine.lemmas.cache import default_directory
from refine.options.options import contract_of
from refine.results.verdict import Result, Tolerance

Shape = Sequence[int | str | None]


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Shape | None],
    outputs: Mapping[str, Shape | None],
    weights: Mapping[str, Any] | None = None,
    *,
    opset: int = 17,
) -> Path:
    """A float32 model."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(np.asarray(w), n) for n, w in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def graph_of_nodes(
    nodes: Sequence[Node],
    stored: Mapping[str, Array],
    made: Mapping[str, tuple[int, ...]],
    dtype: DType = DType.FLOAT32,
) -> Graph:
    """A graph from x to y, all tensors of one type; `made` are the shapes of those not stored."""
    shapes = {**made, **{t: v.shape for t, v in stored.items()}}
    types = {t: TensorType(dtype, shape) for t, shape in shapes.items()}
    return build_graph(tuple(nodes), types, constants=stored, inputs=("x",), outputs=("y",))


def mlp(
    path: Path,
    widths: Sequence[int] = (2, 8, 1),
    seed: int = 0,
    scale: float = 1.0,
    leak: float | None = None,
) -> Path:
    """Gemm and Relu layers with random weights; input `x`, output `y`.

    With `leak`, LeakyRelu with this slope below zero instead of Relu.
    """
    bent: dict[str, Any] = {} if leak is None else {"alpha": leak}
    rng = np.random.default_rng(seed)
    nodes, weights, tensor = [], {}, "x"
    for k, (n, m) in enumerate(itertools.pairwise(widths), start=1):
        last = k == len(widths) - 1
        target = "y" if last else f"linear{k}"
        weights[f"w{k}"] = (rng.normal(size=(n, m)) * scale).astype(np.float32)
        weights[f"b{k}"] = rng.normal(size=m).astype(np.float32)
        nodes.append(helper.make_node("Gemm", [tensor, f"w{k}", f"b{k}"], [target], f"gemm{k}"))
        if not last:
            tensor = f"hidden{k}"
            name = "Relu" if leak is None else "LeakyRelu"
            nodes.append(helper.make_node(name, [target], [tensor], f"relu{k}", **bent))
    return save(path, nodes, {"x": [1, widths[0]]}, {"y": [1, widths[-1]]}, weights)


def two_outputs(path: Path) -> Path:
    """`small` = x + 0.1 and `large` = 1000·x + 0.1, of one input of 3 elements."""
    tenth = np.full(3, 0.1, np.float32)
    weights = {"tenth": tenth, "factor": np.full(3, 1000.0, np.float32)}
    nodes = [
        helper.make_node("Add", ["x", "tenth"], ["small"], "near"),
        helper.make_node("Mul", ["x", "factor"], ["product"], "scale"),
        helper.make_node("Add", ["product", "tenth"], ["large"], "far"),
    ]
    return save(path, nodes, {"x": [1, 3]}, {"small": [1, 3], "large": [1, 3]}, weights)


def two_inputs(path: Path) -> Path:
    nodes = [helper.make_node("Add", ["left", "right"], ["y"], "sum")]
    return save(path, nodes, {"left": [1, 3], "right": [1, 3]}, {"y": [1, 3]})


def overflowing(path: Path, factor: float = 1e30) -> Path:
    """x · factor · factor: beyond float32 from |x| about 1e-22 on."""
    weights = {"factor": np.full(2, factor, np.float32)}
    nodes = [
        helper.make_node("Mul", ["x", "factor"], ["t"], "once"),
        helper.make_node("Mul", ["t", "factor"], ["y"], "twice"),
    ]
    return save(path, nodes, {"x": [1, 2]}, {"y": [1, 2]}, weights)


def settled(
    model: Path,
    domain: str | DomainOptions = "-1..1",
    eps: str | Mapping[str, str] | None = None,
    contract: str = "ieee-any",
    fmt: str | None = None,
    **options: Any,
) -> Result:
    """`check` with little written down; no cross-check by Z3 unless asked."""
    graph = load(model)
    chosen = contract_of(contract, fmt, None)
    assert contract in PRESETS
    return check(
        graph,
        domain_of(model, domain, contract, fmt),
        chosen,
        tolerance(eps),
        Options(**{"cross_check": None, "cache": default_directory(), **options}),
    )


def domain_of(
    model: Path, domain: str | DomainOptions, contract: str = "ieee-any", fmt: str | None = None
) -> Domain:
    written = DomainOptions(inputs=(domain,)) if isinstance(domain, str) else domain
    return read_domain(load(model), written, contract_of(contract, fmt, None).format_of)


def tolerance(eps: str | Mapping[str, str] | None) -> Tolerance:
    if eps is None:
        return Tolerance()
    if isinstance(eps, str):
        return Tolerance(Fraction(eps))
    return Tolerance(None, {name: Fraction(e) for name, e in eps.items()})
