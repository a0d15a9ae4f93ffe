"""An ONNX file read anew: its nodes as linear maps, hinges and maxima of flat tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from checker.arithmetic import Array, Index, Linear, Outside, chosen, convolution

FLOATS = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}
OPSETS = range(7, 27)
DOMAINS, NONLINEAR = ("", "ai.onnx"), ("hinge", "maximum")
_WINDOW = "auto_pad ceil_mode dilations kernel_shape pads strides "
OPERATORS = {  # the method that reads it, and the attributes that are understood
    "Add": ("sum", ""), "AveragePool": ("pool", _WINDOW + "count_include_pad"),
    "BatchNormalization": ("normalize", "epsilon momentum spatial training_mode"),
    "Concat": ("move", "axis"), "Constant": ("move", "value"), "Conv": ("conv", _WINDOW + "group"),
    "Div": ("scale", ""), "Dropout": ("move", "ratio seed"), "Flatten": ("move", "axis"),
    "Gather": ("move", "axis"), "Gemm": ("matrix", "alpha beta transA transB"),
    "Identity": ("move", ""), "LeakyRelu": ("hinge", "alpha"), "MatMul": ("matrix", ""),
    "MaxPool": ("pool", _WINDOW + "storage_order"), "Mul": ("scale", ""),
    "Pad": ("move", "mode pads value"), "Relu": ("hinge", ""), "Reshape": ("move", "allowzero"),
    "Shape": ("move", ""), "Slice": ("move", "axes ends starts"), "Squeeze": ("move", "axes"),
    "Sub": ("sum", ""), "Transpose": ("move", "perm"), "Unsqueeze": ("move", "axes")}  # fmt: skip


@dataclass(frozen=True)
class Node:
    """One node of the file. `kind` is affine (Σ maps·inputs + bias), hinge (x, below 0 `below`·x)
    or maximum (of the elements that `index` chooses); `lemma` says how it rounds, `terms` how many
    numbers the longest of its sums adds, `stored` on what else."""

    title: str
    output: str
    inputs: tuple[str, ...]
    kind: str
    lemma: str
    bias: Array
    stored: tuple[Array, ...] = ()
    maps: tuple[Linear, ...] = ()
    terms: int = 1
    below: float = 0.0
    index: Index = field(default_factory=lambda: np.zeros((0, 0), np.int64))


def read_model(data: bytes, shapes: Mapping[str, Sequence[int]]) -> Model:
    """The model of a file's bytes, its inputs having these shapes. Raises Outside, naming the
    node, for whatever has no meaning here."""
    try:
        return Model(onnx.load_model_from_string(data), shapes)
    except Outside:
        raise
    except Exception as error:  # whatever a file does to this program
        raise Outside(f"the model is not read here ({type(error).__name__}: {error})") from error


class Model:
    """The nodes in order, of flat tensors; `sizes` and `shapes` of what varies, `stored` else."""

    def __init__(self, proto: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> None:
        graph = proto.graph
        versions = [o.version for o in proto.opset_import if o.domain in DOMAINS]
        if len(versions) != 1 or versions[0] not in OPSETS:
            raise Outside(f"opset {' and '.join(map(str, versions))} of the model is not read here")
        if proto.functions or graph.sparse_initializer or proto.training_info:
            raise Outside("the model has functions, sparse tensors or training information")
        held = {t.name for t in graph.initializer}
        given = {i.name: i.type.tensor_type for i in graph.input if i.name not in held}
        if set(given) != set(shapes):
            raise Outside(f"the model's inputs are {sorted(given)}, not {sorted(shapes)}")
        self.opset, self.nodes = versions[0], list[Node]()
        self.kind = max((k.elem_type for k in given.values()), default=0)
        self.shapes = {t: tuple(shapes[t]) for t in given}
        for t, shape in self.shapes.items():
            dims = zip(given[t].shape.dim, shape, strict=True)
            fits = all(d.dim_value in (n, 0) and n > 0 for d, n in dims)
            if not fits or given[t].elem_type != self.kind or self.kind not in FLOATS:
                raise Outside(f"input '{t}' does not hold floats in the certificate's shape")
        self.format, self.inputs = FLOATS[self.kind], tuple(self.shapes)
        self.stored = {t.name: self.array(t) for t in graph.initializer}
        for position, node in enumerate(graph.node):
            self.title = f"node '{node.name or f'{node.op_type}_{position}'}' ({node.op_type})"
            self.read(node)
        self.outputs = tuple(o.name for o in graph.output)
        if not self.outputs or any(o not in self.shapes for o in self.outputs):
            raise Outside("an output of the model is stored or missing")
        self.sizes = {t: prod(s) for t, s in self.shapes.items()}

    def array(self, tensor: onnx.TensorProto) -> Any:
        """The stored tensor, floats in float64."""
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise Outside(f"the stored tensor '{tensor.name}' lies outside the model's file")
        value = numpy_helper.to_array(tensor)
        value = value.astype(np.float64) if tensor.data_type in FLOATS else value
        if tensor.data_type not in (self.kind, 6, 7) or not np.all(np.isfinite(value)):
            raise Outside(f"'{tensor.name}' does not hold finite {self.format} or integer numbers")
        return value

    def read(self, proto: onnx.NodeProto) -> None:
        self.proto, self.op = proto, proto.op_type
        self.given = [*proto.input, "", "", "", ""]  # what is left out has no name
        self.held = {a.name: a for a in proto.attribute}
        act, understood = OPERATORS.get(self.op, ("", ""))
        self.require(proto.domain in DOMAINS and act, "such operator", "no")
        unknown = sorted(set(self.held) - set(understood.split()))
        self.require(not unknown, f"it without the attributes {unknown}")
        written = {"", *self.shapes, *self.stored}
        self.require(written.issuperset(self.given), "what the nodes before it write")
        one = not any(proto.output[1:]) or self.op == "Dropout"  # whose mask nobody finds
        self.require(one and proto.output[0] not in written, "one output, written once,")
        try:
            getattr(self, act)()
        except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
            self.require(False, f"inputs that fit each other ({error})")

    def require(self, holds: Any, what: str, only: str = "only") -> None:
        if not holds:
            raise Outside(f"{self.title}: {only} {what} is in the checker's language")

    def a(self, name: str, default: Any) -> Any:
        value = onnx.helper.get_attribute_value(self.held[name]) if name in self.held else default
        return value.decode() if isinstance(value, bytes) else value

    def constant(self, k: int) -> Any:
        """Input k, which must be stored; None where it is left out."""
        self.require(self.given[k] not in self.shapes, f"a stored input {k}")
        return self.stored.get(self.given[k])

    def varying(self) -> tuple[int, ...]:
        """The shape of the first input, which must vary."""
        self.require(self.given[0] in self.shapes, "a first input that varies")
        return self.shapes[self.given[0]]

    def put(self, shape: Any, inputs: Any, lemma: str, output: str = "", **what: Any) -> None:
        """A node of the model, which writes what the file's node does, or another tensor."""
        output, kind = output or self.proto.output[0], lemma if lemma in NONLINEAR else "affine"
        flat: Any = lambda v: np.broadcast_to(v, shape).reshape(-1)  # noqa: E731
        self.require(output not in self.shapes and output not in self.stored, "tensors named once")
        bias, stored = flat(what.pop("bias", 0.0)), tuple(map(flat, what.pop("stored", ())))
        where = (self.title, output, tuple(inputs), kind, lemma, bias, stored)
        self.nodes.append(Node(*where, **what))
        self.shapes[output] = tuple(int(n) for n in shape)

    def tensor(self, t: str) -> str:
        """An input as a tensor that varies: what is stored becomes a node without inputs."""
        if t not in self.stored:
            return t
        name, value = f"{t} in {self.proto.output[0]}", self.stored[t]
        self.put(value.shape, (), "movement", name, bias=value)
        return name

    def move(self) -> None:
        """What ONNX's reference does to arrays, done to the places of their elements."""
        inputs, output = list(dict.fromkeys(self.proto.input)), self.proto.output[0]
        data = inputs if self.op == "Concat" else inputs[:1]
        held = {t: self.stored[t] for t in inputs if t in self.stored}
        self.require({"", *data, *held}.issuperset(inputs), "stored inputs behind the first")
        if self.op == "Pad":
            self.require(not np.any(held.get(self.given[2], self.a("value", 0))), "zeros in it")
            held |= {t: np.int64(0) for t in self.proto.input[2:3] if t}
        self.require(self.op != "Dropout" or not np.any(held.get(self.given[2])), "inference")
        if self.op == "Constant":
            self.stored[output] = self.array(self.a("value", None))
        elif self.op == "Shape" and data[0] in self.shapes:
            self.stored[output] = np.array(self.varying(), np.int64)
        elif not any(t in self.shapes for t in data):
            self.stored[output] = self.reference(held)
        if output in self.stored:
            return
        names, places, first = [self.tensor(t) for t in data], dict[str, Any](), 1
        for t, shape in zip(data, (self.shapes[name] for name in names), strict=True):
            places[t] = np.arange(first, first + prod(shape)).reshape(shape)
            first += prod(shape)
        moved, maps = self.reference(held | places), []
        for p in places.values():
            here = np.where((moved >= p.flat[0]) & (moved <= p.flat[-1]), moved - p.flat[0], -1)
            maps.append(chosen(here.reshape(-1), p.size))
        self.put(moved.shape, names, "movement", maps=tuple(maps))

    def reference(self, given: Mapping[str, Any]) -> Any:
        if self.op == "Flatten":  # the most frequent one, without ONNX's
            x, axis = given[self.given[0]], self.a("axis", 1)
            self.require(-x.ndim <= axis <= x.ndim, "an axis that it has")
            return x.reshape(prod(x.shape[:axis]), -1)
        if self.op in ("Dropout", "Identity"):
            return given[self.given[0]]
        from onnx.reference import ReferenceEvaluator  # takes longer to import than most files

        made, *_ = ReferenceEvaluator(self.proto, opsets={"": self.opset}).run(None, dict(given))
        return np.asarray(made)

    def products(self, linear: Linear, shape: Sequence[int], bias: Any, output: str = "") -> None:
        used = linear.forward((linear.weights != 0) * 1.0, np.ones(prod(self.varying())))
        bias = 0.0 if bias is None else bias
        what = {"terms": int(np.max(used)) + int(np.any(bias)), "bias": bias, "maps": (linear,)}
        self.put(shape, self.given[:1], "sum-any-order", output, **what)

    def matrix(self) -> None:
        """Gemm and MatMul with a stored matrix behind."""
        shape, weights, gemm = self.varying(), self.constant(1), self.op == "Gemm"
        plain = self.a("alpha", 1.0) == 1.0 == self.a("beta", 1.0) and not self.a("transA", 0)
        self.require(plain and (len(shape) == 2 or not gemm), "'alpha' 1, 'beta' 1, 'transA' 0")
        weights = weights if self.a("transB", 0) else weights.T
        self.require(weights.shape[1:] == shape[-1:], "a stored matrix that fits")
        linear = convolution(weights[..., None], np.zeros((1, 1), np.int64), shape[-1], 1, 1)
        self.products(linear, (*shape[:-1], len(weights)), self.constant(2) if gemm else None)

    def window(self, kernel: Sequence[int]) -> tuple[Index, tuple[int, ...]]:
        """(places of the kernel, outputs): pixels read, -1 in the padding; and the output's."""
        pixels, rank = self.varying()[2:], len(kernel)
        steps, dilations = self.a("strides", [1] * rank), self.a("dilations", [1] * rank)
        pads = self.a("pads", [0] * (2 * rank))
        plain = self.a("auto_pad", "NOTSET") in ("NOTSET", "" if any(pads) else "VALID")
        plain = plain and rank == len(pixels) == len(steps) == len(dilations) == len(pads) / 2 > 0
        plain = plain and min(*kernel, *steps, *dilations) > 0 <= min(pads)
        self.require(plain and not self.a("ceil_mode", 0), "a window that fits, with stated pads,")
        sides = list(zip(pads[:rank], pads[rank:], strict=True))
        padded = np.pad(np.arange(prod(pixels)).reshape(pixels), sides, constant_values=-1)
        spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
        seen = np.lib.stride_tricks.sliding_window_view(padded, spans)
        seen = seen[tuple(slice(None, None, step) for step in (*steps, *dilations))]
        return seen.reshape(-1, prod(kernel)).T, seen.shape[:rank]

    def conv(self) -> None:
        self.convolved(self.constant(1), self.a("group", 1), self.constant(2))

    def convolved(self, weights: Array, groups: int, bias: Any, output: str = "") -> None:
        shape, (m, inside, *kernel) = self.varying(), weights.shape
        fits = inside * groups == shape[1] and m % groups == 0
        self.require(fits and self.a("kernel_shape", kernel) == kernel, "weights that fit")
        index, pixels = self.window(kernel)
        linear = convolution(weights, index, shape[1], prod(shape[2:]), groups)
        bias = None if bias is None else bias.reshape(1, m, *(1,) * len(kernel))
        self.products(linear, (shape[0], m, *pixels), bias, output)

    def pool(self) -> None:
        shape, kernel = self.varying(), self.a("kernel_shape", ())
        index, pixels = self.window(kernel)
        inside = np.sum(index >= 0, axis=0).astype(float)
        self.require(np.all(inside > 0), "no window in the padding")
        if self.op == "AveragePool":
            total = f"{self.proto.output[0]} before it is divided"
            self.convolved(np.ones((shape[1], 1, *kernel)), shape[1], None, total)
            counts = 0.0 * inside + len(index) if self.a("count_include_pad", 0) else inside
            self.scaled(total, counts.reshape(pixels), "mean")
            return
        start = np.arange(shape[0] * shape[1])[:, None] * prod(shape[2:])
        index = np.where(index[:, None] < 0, -1, index[:, None] + start).reshape(len(index), -1)
        first = np.take_along_axis(index, np.argmax(index >= 0, axis=0)[None], axis=0)
        index = np.where(index < 0, first, index)
        self.put((*shape[:2], *pixels), self.given[:1], "maximum", index=index)

    def spread(self, t: str, shape: Sequence[int], scale: Any = 1.0) -> Linear:
        """A tensor, broadcast to a shape and scaled."""
        places = np.arange(prod(self.shapes[t])).reshape(self.shapes[t])
        wide = scale if type(scale) is float else np.broadcast_to(scale, shape).reshape(-1)
        return chosen(np.broadcast_to(places, shape).reshape(-1), places.size, wide)

    def sum(self) -> None:
        names, sign = [self.tensor(t) for t in self.given[:2]], -1.0 if self.op == "Sub" else 1.0
        whole = np.broadcast_shapes(*(self.shapes[t] for t in names))
        maps = self.spread(names[0], whole), self.spread(names[1], whole, sign)
        self.put(whole, names, "sum-of-two", maps=maps, terms=2)

    def scale(self) -> None:
        """By a stored factor, or divided by one."""
        k = 0 if self.op == "Div" or self.given[0] in self.shapes else 1
        lemma = "quotient" if self.op == "Div" else "product"
        self.scaled(self.given[k], self.constant(1 - k), lemma)

    def scaled(self, t: str, factor: Any, lemma: str) -> None:
        shape, divides = np.broadcast_shapes(self.shapes[t], factor.shape), lemma != "product"
        self.require(not divides or np.min(np.abs(factor)) > 2.0**-120, "a divisor that is not 0")
        maps = (self.spread(t, shape, np.asarray(1.0 / factor if divides else factor)),)
        self.put(shape, [t], lemma, maps=maps, stored=(factor,))

    def normalize(self) -> None:
        shape, x, t = self.varying(), self.given[0], f"the mean in {self.proto.output[0]}"
        tall = (1, -1, *(1,) * (len(shape) - 2))
        gamma, beta, mean, var = (self.constant(k).reshape(tall) for k in (1, 2, 3, 4))
        base = var + np.float64(np.float32(self.a("epsilon", 1e-5)))
        plain = not self.a("training_mode", 0) and self.a("spatial", 1) == 1
        self.require(plain and np.min(var) >= 0 and np.min(base) >= 2.0**-60, "inference")
        scale = gamma / np.sqrt(base)  # each operation errs by half a unit of float64
        self.put(mean.shape, (), "movement", t, bias=mean)
        maps = self.spread(x, shape, scale), self.spread(t, shape, -scale)
        self.put(shape, (x, t), "normalization", bias=beta, maps=maps, stored=(beta, mean, base))

    def hinge(self) -> None:
        below = float(np.float32(self.a("alpha", 0.01))) if self.op == "LeakyRelu" else 0.0
        self.require(below == 0 or 2.0**-12 <= below <= 1.0, "a slope in [2^-12, 1]")
        maps = (self.spread(self.given[0], self.varying()),)
        self.put(self.varying(), self.given[:1], "hinge", below=below, maps=maps)
