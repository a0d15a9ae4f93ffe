"""Single nodes on real runtimes: the node alone in a model, its constants replaced at will."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import onnx
from onnx import helper, numpy_helper

from gpu_check.runtimes.runtimes import OnnxRuntime, OnnxRuntimeOptions, onnxruntime_version
from onnx_import.graph import Array, Graph, Node, TensorType
from onnx_import.tensors import code_of

Run = Callable[[Mapping[str, Array]], Array]


class Kernels(Protocol):
    """Nodes of one graph on one runtime."""

    @property
    def varying(self) -> frozenset[str]:
        """Constants of the graph that the runtime computes or receives as inputs, so that its
        kernels do not see them as constant."""

    @property
    def absent(self) -> frozenset[str]:
        """Nodes of the graph, by name, that the runtime does not run as such: what is run alone in
        their place says nothing of what it computes there."""

    def describe(self) -> str: ...

    def on(self, graph: Graph) -> Kernels:
        """The same runtime on another graph, all of whose constants it sees."""

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Run:
        """The node's first output from the inputs that `constants` does not name.

        Raises RuntimeUnavailable if the runtime refuses the node.
        """


@dataclass(frozen=True)
class OnnxKernels:
    """Nodes of one graph on onnxruntime."""

    graph: Graph
    varying: frozenset[str] = frozenset()
    options: OnnxRuntimeOptions = field(default_factory=OnnxRuntimeOptions)

    @property
    def absent(self) -> frozenset[str]:
        return frozenset(n.name for n in self.graph.order if not n.written)

    def describe(self) -> str:
        return f"onnxruntime {onnxruntime_version()} (CPU, {self.options.describe()})"

    def on(self, graph: Graph) -> OnnxKernels:
        return replace(self, graph=graph, varying=frozenset())

    def kernel(self, node: Node, constants: Mapping[str, Array]) -> Run:
        held = {t: v for t, v in constants.items() if t not in self.varying}
        given = {t: v for t, v in constants.items() if t in self.varying}
        proto = one_node_model(self.graph, node, held)
        runtime = OnnxRuntime(proto.SerializeToString(), self.options)
        return lambda inputs: runtime.run({**inputs, **given})[node.outputs[0]]


def one_node_model(graph: Graph, node: Node, constants: Mapping[str, Array]) -> onnx.ModelProto:
    """The node as a model of its own, its other inputs as the model's inputs."""
    made = helper.make_node(node.op, node.inputs, node.outputs, name=node.name, domain=node.domain)
    made.attribute.extend(helper.make_attribute(k, v) for k, v in node.attributes.items())
    inputs = dict.fromkeys(t for t in node.inputs if t and t not in constants)
    body = helper.make_graph(
        [made],
        "one-node",
        [_value_info(t, graph.types[t]) for t in inputs],
        [_value_info(t, graph.types[t]) for t in node.outputs if t],
        [
            numpy_helper.from_array(v.astype(graph.types[t].dtype.numpy, copy=False), t)
            for t, v in constants.items()
        ],
    )
    opset = helper.make_opsetid(node.domain, node.opset)
    return helper.make_model(body, opset_imports=[opset], ir_version=8)


def _value_info(tensor: str, kind: TensorType) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(tensor, code_of(kind.dtype), kind.shape)


def varying_constants(graph: Graph) -> frozenset[str]:
    """Constants of the graph that onnxruntime, running the file as written, does not see as such:
    those it computes, and initializers that are also inputs and so may be overridden."""
    read = ((t, i in n.stored) for n in graph.order for i, t in enumerate(n.inputs))
    return frozenset(t for t, stored in read if graph.is_constant(t) and not stored)
