"""Stored numbers that a model computes of others, so that reading it may fold them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MADE = "made"  # how the names of what is added begin
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
READERS = ("Add", "Sub", "Mul", "Max", "Min", "Sum", "Mean", "Less", "Greater", "Equal", "Where")


def with_computed_constants(model: onnx.ModelProto, rng: np.random.Generator) -> onnx.ModelProto:
    """The model with some of what elementwise operators read of it computed of other constants."""
    made = onnx.ModelProto.FromString(model.SerializeToString())
    opset = next(o.version for o in made.opset_import if not o.domain)
    readers: dict[str, set[str]] = {}
    for node in made.graph.node:
        for tensor in node.input:
            readers.setdefault(tensor, set()).add(node.op_type)
    added: list[onnx.NodeProto] = []
    for stored in list(made.graph.initializer):
        if stored.data_type in FLOATS and readers.get(stored.name, {""}) <= {*READERS}:
            added += _Work(made.graph, stored, opset, rng, len(added)).nodes()
    nodes = [*added, *made.graph.node]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return onnx.shape_inference.infer_shapes(made)


def constants_of(model: onnx.ModelProto) -> set[str]:
    """The tensors that are computed of constants alone."""
    known = {t.name for t in model.graph.initializer}
    for node in model.graph.node:
        if known.issuperset(t for t in node.input if t):
            known.update(node.output)
    return known


class _Work:
    """One stored tensor, which is replaced by the result of nodes."""

    def __init__(
        self,
        graph: onnx.GraphProto,
        stored: onnx.TensorProto,
        opset: int,
        rng: np.random.Generator,
        count: int,
    ) -> None:
        self.graph, self.stored, self.opset, self.rng, self.count = graph, stored, opset, rng, count
        self.values = numpy_helper.to_array(stored)
        self.made: list[onnx.NodeProto] = []

    def nodes(self) -> list[onnx.NodeProto]:
        ways = ["largest", "compared", "counted", "cast", "nothing"]
        if self.opset >= 13 and self.stored.data_type == TensorProto.FLOAT:
            ways += ["scaled", "quantised"]
        getattr(self, ways[int(self.rng.integers(len(ways)))])()
        if self.made:
            self.graph.initializer.remove(self.stored)
            self.made[-1].output[0] = self.stored.name
        return self.made

    def keep(self, values: Any) -> str:
        name = f"{MADE}_k{self.count}_{len(self.graph.initializer)}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{MADE}_t{self.count}_{len(self.made)}"
        self.made.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def near(self) -> Any:
        """The numbers, some of them moved by very little."""
        moved = 1.0 + self.rng.choice([0.0, 2.0**-10, -(2.0**-13), 2.0**-20], self.values.shape)
        return (self.values.astype(np.float64) * moved).astype(self.values.dtype)

    def nothing(self) -> None:
        pass

    def largest(self) -> None:
        op = str(self.rng.choice(["Max", "Min"]))
        self.add(op, self.keep(self.values), self.keep(self.near()))

    def compared(self) -> None:
        op = str(self.rng.choice(["Equal", "Less", "Greater"] if self.opset >= 11 else ["Less"]))
        which = self.add(op, self.keep(self.values), self.keep(self.near()))
        self.add("Where", which, self.keep(self.values), self.keep(-self.values))

    def counted(self) -> None:
        """Integers of floats, near and beyond what short formats hold."""
        whole = np.rint(self.values.astype(np.float64) * 2.0 ** self.rng.integers(0, 10))
        near = np.clip(whole, -1000, 1000).astype(self.values.dtype)
        half = near + self.values.dtype.type(0.5) * (self.rng.random() < 0.5)
        integers = self.add("Cast", self.keep(half), to=TensorProto.INT64)
        self.add("Cast", integers, to=self.stored.data_type)

    def cast(self) -> None:
        other = int(self.rng.choice([TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.FLOAT]))
        held = self.values.astype(np.float16).astype(self.values.dtype)
        self.add("Cast", self.add("Cast", self.keep(held), to=other), to=self.stored.data_type)

    def scaled(self) -> None:
        q = self.rng.integers(-128, 128, self.values.shape).astype(np.int8)
        self.add("DequantizeLinear", self.keep(q), self.keep(self.scale()), self.zero())

    def quantised(self) -> None:
        scale, zero = self.keep(self.scale()), self.zero()
        ties = np.where(self.rng.random(self.values.shape) < 0.5, 100.6, 12.5).astype(np.float32)
        q = self.add("QuantizeLinear", self.keep(self.values * ties), scale, zero)
        self.add("DequantizeLinear", q, scale, zero)

    def scale(self) -> Any:
        return np.float32(self.rng.choice([1.0, 0.125, 0.1003, 3e-5, 1000.0, 1 + 2.0**-11]))

    def zero(self) -> str:
        return self.keep(np.int8(self.rng.choice([0, 0, 5, -100])))
