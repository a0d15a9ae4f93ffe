"""An ONNX file read anew: its nodes as linear maps, hinges and maxima of flat tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from checker.arithmetic import Array, Index, Linear, Outside, add, chosen, convolution

FLOATS = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}
OPSETS = range(7, 27)
DOMAINS = ("", "ai.onnx")
ZERO = np.zeros(())
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
    "Sub": ("sum", ""), "Transpose": ("move", "perm"), "Unsqueeze": ("move", "axes"),
}  # fmt: skip


@dataclass(frozen=True)
class Node:
    """One node of the file. `kind` is affine (Σ maps·inputs + bias, which may be off by `unsure`),
    hinge (x, below 0 `below`·x) or maximum (of the elements that `index` chooses); `lemma` says how
    it rounds, `terms` how many numbers the longest of its sums adds, `stored` on what else."""

    name: str
    op: str
    output: str
    inputs: tuple[str, ...]
    kind: str
    lemma: str
    bias: Array
    unsure: Array
    stored: tuple[Array, ...] = ()
    maps: tuple[Linear, ...] = ()
    terms: int = 1
    below: float = 0.0
    index: Index = field(default_factory=lambda: np.zeros((0, 0), np.int64))

    @property
    def title(self) -> str:
        return f"node '{self.name}' ({self.op})"


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
    """The nodes in order; the format of all floats; sizes of all tensors that vary.

    It is read node after node, by a method for each kind of operator. `shapes` are of what varies,
    `stored` what does not.
    """

    def __init__(self, proto: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> None:
        versions, graph = (
            [o.version for o in proto.opset_import if o.domain in DOMAINS],
            proto.graph,
        )
        if len(versions) != 1 or versions[0] not in OPSETS:
            raise Outside(f"the model's opset is {versions}, not among those read here")
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
            self.read(node, node.name or f"{node.op_type}_{position}")
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
            only = f"finite {self.format}, int32 or int64 numbers"
            raise Outside(f"'{tensor.name}' does not hold {only}")
        return value

    def read(self, proto: onnx.NodeProto, name: str) -> None:
        self.proto, self.op, self.name = proto, proto.op_type, name
        self.given = [*proto.input, "", "", "", ""]  # what is left out has no name
        self.held = {a.name: a for a in proto.attribute}
        known = proto.domain in DOMAINS and self.op in OPERATORS
        self.require(known, "another operator")
        act, understood = OPERATORS[self.op]
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

    def require(self, holds: Any, what: str) -> None:
        if not holds:
            only = f"only {what} is in the checker's language"
            raise Outside(f"node '{self.name}' ({self.op}): {only}")

    def a(self, name: str, default: Any) -> Any:
        value = onnx.helper.get_attribute_value(self.held[name]) if name in self.held else default
        return value.decode() if isinstance(value, bytes) else value

    def constant(self, k: int) -> Any:
        """Input k, which must be stored; None where it is left out."""
        self.require(self.given[k] not in self.shapes, f"a stored input {k}")
        return self.stored.get(self.given[k])

    def varying(self, k: int = 0) -> tuple[int, ...]:
        """The shape of input k, which must vary."""
        self.require(self.given[k] in self.shapes, f"an input {k} that varies")
        return self.shapes[self.given[k]]

    def put(
        self,
        shape: Any,
        inputs: Sequence[str],
        kind: str,
        lemma: str,
        output: str = "",
        **what: Any,
    ) -> None:
        """A node of the model, which writes what the file's node does, or another tensor."""
        for key in ("bias", "unsure"):
            what[key] = np.broadcast_to(what.get(key, ZERO), shape).reshape(-1)
        where = (self.name, self.op, output or self.proto.output[0], tuple(inputs), kind, lemma)
        self.nodes.append(Node(*where, **what))
        self.shapes[where[2]] = tuple(int(n) for n in shape)

    def tensor(self, t: str) -> str:
        """An input as a tensor that varies: what is stored becomes a node without inputs."""
        if t not in self.stored:
            return t
        name, value = f"{t} in {self.proto.output[0]}", self.stored[t]
        self.put(value.shape, (), "affine", "movement", name, bias=value)
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
        names = [self.tensor(t) for t in data]
        ends = np.cumsum([1, *(prod(self.shapes[t]) for t in names)])
        spans = list(zip(ends, ends[1:], names, strict=False))
        places = [np.arange(a, b).reshape(self.shapes[t]) for a, b, t in spans]
        moved = self.reference(held | dict(zip(data, places, strict=True)))
        here = [np.where((moved >= a) & (moved < b), moved - a, -1) for a, b, _ in spans]
        maps = tuple(
            chosen(p.reshape(-1), int(b - a)) for p, (a, b, _) in zip(here, spans, strict=True)
        )
        self.put(moved.shape, names, "affine", "movement", maps=maps)

    def reference(self, given: Mapping[str, Any]) -> Any:
        if self.op == "Flatten":  # the most frequent one, without ONNX's
            x, axis = given[self.given[0]], self.a("axis", 1)
            self.require(-x.ndim <= axis <= x.ndim, "an axis that it has")
            return x.reshape(prod(x.shape[:axis]), -1)
        if self.op == "Dropout":
            return given[self.given[0]]
        from onnx.reference import ReferenceEvaluator  # takes longer to import than most files

        made, *_ = ReferenceEvaluator(self.proto, opsets={"": self.opset}).run(None, dict(given))
        return np.asarray(made)

    def products(self, linear: Linear, shape: Sequence[int], bias: Any, output: str = "") -> None:
        bias, weights = ZERO if bias is None else bias, linear.weights
        used = linear.forward((weights != 0).astype(float), np.ones(prod(self.varying())))
        terms, what = int(np.max(used)) + int(np.any(bias)), {"bias": bias, "maps": (linear,)}
        what |= {"terms": terms, "stored": (weights,)}
        self.put(shape, self.given[:1], "affine", "sum-any-order", output, **what)

    def matrix(self) -> None:
        """Gemm and MatMul with a stored matrix behind."""
        shape, weights, gemm = self.varying(), self.constant(1), self.op == "Gemm"
        plain = self.a("alpha", 1.0) == 1.0 == self.a("beta", 1.0) and not self.a("transA", 0)
        self.require(plain and (len(shape) == 2 or not gemm), "'alpha' 1, 'beta' 1, 'transA' 0")
        weights = weights if self.a("transB", 0) else weights.T
        fits = weights.ndim == 2 and weights.shape[1] == shape[-1]
        self.require(fits, "a stored matrix that fits")
        linear = convolution(weights[..., None], np.zeros((1, 1), np.int64), shape[-1], 1, 1)
        self.products(linear, (*shape[:-1], len(weights)), self.constant(2) if gemm else None)

    def window(self, kernel: Sequence[int]) -> tuple[Index, tuple[int, ...]]:
        """(places of the kernel, outputs): pixels that windows read, -1 in the padding; and the
        output's pixels."""
        pixels, rank, mode = self.varying()[2:], len(kernel), self.a("auto_pad", "NOTSET")
        steps, dilations = self.a("strides", [1] * rank), self.a("dilations", [1] * rank)
        pads = self.a("pads", [0] * (2 * rank))
        fits = rank == len(pixels) == len(steps) == len(dilations) == len(pads) / 2 > 0
        fits = fits and min(*kernel, *steps, *dilations) > 0 <= min(pads)
        plain = (mode == "NOTSET" or (mode == "VALID" and not any(pads))) and fits
        self.require(plain and not self.a("ceil_mode", 0), "a window that fits, with stated pads,")
        sides = list(zip(pads[:rank], pads[rank:], strict=True))
        padded = np.pad(np.arange(prod(pixels)).reshape(pixels), sides, constant_values=-1)
        spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
        seen = np.lib.stride_tricks.sliding_window_view(padded, spans)
        seen = seen[tuple(slice(None, None, step) for step in (*steps, *dilations))]
        return seen.reshape(-1, prod(kernel)).T, seen.shape[:rank]

    def conv(self) -> None:
        weights, kernel = self.constant(1), list(self.constant(1).shape[2:])
        self.require(self.a("kernel_shape", kernel) == kernel, "weights that fit")
        self.convolved(weights, self.a("group", 1), self.constant(2))

    def convolved(self, weights: Array, groups: int, bias: Any, output: str = "") -> None:
        shape, (m, inside, *kernel) = self.varying(), weights.shape
        self.require(inside * groups == shape[1] and m % groups == 0, "weights that fit")
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
        self.put((*shape[:2], *pixels), self.given[:1], "maximum", "copy", index=index)

    def spread(self, t: str, shape: Sequence[int], scale: Any, unsure: Any = ZERO) -> Linear:
        """A tensor, broadcast to a shape and scaled."""
        places = np.arange(prod(self.shapes[t])).reshape(self.shapes[t])
        index, *wide = (np.broadcast_to(v, shape).reshape(-1) for v in (places, scale, unsure))
        return chosen(index, places.size, *wide)

    def sum(self) -> None:
        names, sign = [self.tensor(t) for t in self.given[:2]], -1.0 if self.op == "Sub" else 1.0
        whole = np.broadcast_shapes(*(self.shapes[t] for t in names))
        maps = self.spread(names[0], whole, 1.0), self.spread(names[1], whole, sign)
        self.put(whole, names, "affine", "sum-of-two", maps=maps, terms=2)

    def scale(self) -> None:
        """By a stored factor, or divided by one."""
        k = 0 if self.op == "Div" or self.given[0] in self.shapes else 1
        lemma = "quotient" if self.op == "Div" else "product"
        self.scaled(self.given[k], self.constant(1 - k), lemma)

    def scaled(self, t: str, factor: Any, lemma: str) -> None:
        scale, unsure, shape = factor, ZERO, np.broadcast_shapes(self.shapes[t], factor.shape)
        if lemma != "product":
            self.require(np.min(np.abs(factor)) > 2.0**-120, "a divisor that is not 0")
            scale, exact = 1.0 / factor, np.abs(np.frexp(factor)[0]) == 0.5
            unsure = np.where(exact, 0.0, np.abs(scale) * 2.0**-52)
        maps, stored = (self.spread(t, shape, scale, unsure),), np.broadcast_to(factor, shape)
        self.put(shape, [t], "affine", lemma, maps=maps, stored=(stored.reshape(-1),))

    def normalize(self) -> None:
        shape = self.varying()
        tall = (1, -1, *(1,) * (len(shape) - 2))
        gamma, beta, mean, var = (self.constant(k).reshape(tall) for k in (1, 2, 3, 4))
        base = var + np.float64(np.float32(self.a("epsilon", 1e-5)))
        plain = not self.a("training_mode", 0) and self.a("spatial", 1) == 1
        self.require(plain and np.min(var) >= 0 and np.min(base) >= 2.0**-60, "inference")
        scale = gamma / np.sqrt(base)  # each operation errs by half a unit of float64
        shift, unsure = beta - mean * scale, np.abs(scale) * 2.0**-50
        off = add(np.abs(mean) * unsure, (np.abs(mean * scale) + np.abs(shift)) * 2.0**-50)
        stored = tuple(np.broadcast_to(v, shape).reshape(-1) for v in (beta, mean, base))
        maps, what = (
            (self.spread(self.given[0], shape, scale, unsure),),
            {"bias": shift, "unsure": off},
        )
        self.put(shape, self.given[:1], "affine", "normalization", maps=maps, stored=stored, **what)

    def hinge(self) -> None:
        below = float(np.float32(self.a("alpha", 0.01))) if self.op == "LeakyRelu" else 0.0
        self.require(below == 0 or 2.0**-12 <= below <= 1.0, "a slope in [2^-12, 1]")
        maps, inputs = (self.spread(self.given[0], self.varying(), 1.0),), self.given[:1]
        self.put(self.varying(), inputs, "hinge", "hinge", below=below, maps=maps)
