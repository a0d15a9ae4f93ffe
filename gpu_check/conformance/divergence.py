"""Where a runtime first leaves its emulation: node by node on one input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from encoders.contract.contract import RuntimeContract
from gpu_check.emulator.emulator import emulate
from gpu_check.runtimes.replay import NotReplayed, replay_on_onnxruntime
from onnx_import.graph import Array, Graph
from onnx_import.tensors import code_of


@dataclass(frozen=True)
class DivergingNode:
    """The first node, in the graph's order, whose bits differ: both values at one element of its
    output, and how many elements differ."""

    node: str
    op: str
    index: tuple[int, ...]
    emulated: float
    given: float
    differing: int
    elements: int


def first_diverging_node(
    graph: Graph, model: Path, inputs: Mapping[str, Array], contract: RuntimeContract
) -> DivergingNode | NotReplayed | None:
    """Compare a pinned contract's emulation with onnxruntime (optimisations off, one thread).

    `inputs` are arrays of the model's own shapes and dtypes. Tensors that only the graph as read
    here has, or only the file, are passed over. None if all that can be compared agrees.
    """
    outcome = replay_on_onnxruntime(_with_compared_outputs(model, graph), inputs)
    if isinstance(outcome, NotReplayed):
        return outcome
    batch = {name: np.asarray(v)[None] for name, v in inputs.items()}
    with np.errstate(all="ignore"):
        emulated = emulate(graph, batch, contract, every_tensor=True)
    for node in graph.order:
        for tensor in node.outputs:
            if tensor not in outcome.outputs or not graph.types[tensor].dtype.is_float:
                continue
            shape = graph.types[tensor].shape
            ours = np.asarray(emulated[tensor][0], np.float64)
            theirs = np.asarray(outcome.outputs[tensor]).astype(np.float64).reshape(shape)
            differs = ~((ours == theirs) | (np.isnan(ours) & np.isnan(theirs)))
            if np.any(differs):
                at = tuple(int(i) for i in np.argwhere(differs)[0])
                count = int(differs.sum())
                given = (float(ours[at]), float(theirs[at]))
                return DivergingNode(node.name, node.op, at, *given, count, differs.size)
    return None


def _with_compared_outputs(model: Path, graph: Graph) -> bytes:
    """The file with each of its tensors that can be compared made an output; of others, such as
    integers of four bits, onnxruntime may give no arrays."""
    proto = onnx.load(str(model))
    present = {o.name for o in proto.graph.output}
    for node in proto.graph.node:
        for tensor in node.output:
            kind = graph.types.get(tensor)
            if kind is not None and kind.dtype.is_float and tensor not in present:
                made = onnx.helper.make_tensor_value_info(tensor, code_of(kind.dtype), None)
                proto.graph.output.append(made)
                present.add(tensor)
    whole: bytes = proto.SerializeToString()
    return whole
