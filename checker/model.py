"""An ONNX file read anew: its nodes as linear maps, hinges and maxima of flat tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from checker.exact import Array, Linear, Outside, add
from checker.maps import Index, chosen, convolution

FLOATS = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}
OPSETS = range(7, 27)
ZERO = np.zeros(())
_WINDOW = "auto_pad ceil_mode dilations kernel_shape pads strides "
OPERATORS = {  # the method that reads it, and the attributes that are understood
    "Add": ("sum", ""), "AveragePool": ("pool", _WINDOW + "count_include_pad"),
    "BatchNormalization": ("normalize", "epsilon momentum spatial training_mode"),
    "Concat": ("move", "axis"), "Constant": ("store", "value"), "Conv": ("conv", _WINDOW + "group"),
    "Div": ("scale", ""), "Dropout": ("dropout", "ratio seed"), "Flatten": ("move", "axis"),
    "Gather": ("move", "axis"), "Gemm": ("matrix", "alpha beta transA transB"),
    "Identity": ("move", ""), "LeakyRelu": ("hinge", "alpha"), "MatMul": ("matrix", ""),
    "MaxPool": ("pool", _WINDOW + "storage_order"), "Mul": ("scale", ""),
    "Pad": ("move", "mode pads value"), "Relu": ("hinge", ""), "Reshape": ("move", "allowzero"),
    "Shape": ("store", ""), "Slice": ("move", "axes ends starts"), "Squeeze": ("move", "axes"),
    "Sub": ("sum", ""), "Transpose": ("move", "perm"), "Unsqueeze": ("move", "axes"),
}  # fmt: skip


@dataclass(frozen=True)
class Node:
    """One node of the file. `kind` is affine (Σ maps·inputs + bias, which may be off by `unsure`),
    hinge (x, below 0 `below`·x) or maximum (of the elements that `index` chooses); `lemma` says how
    it rounds, `terms` how many numbers the longest of its sums adds, `stored` on what else."""

    title: str
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


@dataclass(frozen=True)
class Model:
    """The nodes in order; the format of all floats; sizes of all tensors that vary."""

    nodes: tuple[Node, ...]
    format: str
    sizes: Mapping[str, int]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def read_model(data: bytes, shapes: Mapping[str, Sequence[int]]) -> Model:
    """The model of a file's bytes, its inputs having these shapes. Raises Outside, naming the
    node, for whatever has no meaning here."""
    try:
        return _Reader(onnx.load_model_from_string(data), shapes).model()
    except Outside:
        raise
    except Exception as error:  # whatever a file does to this program
        raise Outside(f"the model is not read here ({type(error).__name__}: {error})") from error


def _array(tensor: onnx.TensorProto, kind: int) -> Any:
    """The stored tensor, floats of this kind in float64."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        raise Outside(f"the stored tensor '{tensor.name}' lies outside the model's file")
    value = numpy_helper.to_array(tensor)
    value = value.astype(np.float64) if tensor.data_type in FLOATS else value
    if tensor.data_type not in (kind, 6, 7) or not np.all(np.isfinite(value)):
        only = f"finite {FLOATS[kind]}, int32 or int64 numbers"
        raise Outside(f"'{tensor.name}' does not hold {only}")
    return value


class _Reader:
    """The reader at one node after the other; a method for each kind of operator. `shapes` are of
    what varies, `stored` what does not."""

    def __init__(self, proto: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> None:
        versions = [o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")]
        if len(versions) != 1 or versions[0] not in OPSETS:
            raise Outside(f"the model's opset is {versions}, not among those read here")
        if proto.functions or proto.graph.sparse_initializer or proto.training_info:
            raise Outside("the model has functions, sparse tensors or training information")
        self.graph, self.opset, self.nodes = proto.graph, versions[0], list[Node]()
        held = {t.name for t in self.graph.initializer}
        given = {i.name: i.type.tensor_type for i in self.graph.input if i.name not in held}
        if set(given) != set(shapes):
            raise Outside(f"the model's inputs are {sorted(given)}, not {sorted(shapes)}")
        self.kind = max((k.elem_type for k in given.values()), default=0)
        self.shapes = {t: tuple(shapes[t]) for t in given}
        for t, shape in self.shapes.items():
            dims = given[t].shape.dim
            fits = all(d.dim_value in (n, 0) and n > 0 for d, n in zip(dims, shape, strict=True))
            if not fits or given[t].elem_type != self.kind or self.kind not in FLOATS:
                raise Outside(f"input '{t}' does not hold floats in the certificate's shape")
        self.stored = {t.name: _array(t, self.kind) for t in self.graph.initializer}

    def model(self) -> Model:
        inputs, outputs = tuple(self.shapes), tuple(o.name for o in self.graph.output)
        for position, self.proto in enumerate(self.graph.node):  # noqa: B020
            self.op = self.proto.op_type
            self.name = self.proto.name or f"{self.op}_{position}"
            self.title = f"node '{self.name}' ({self.op})"
            self.given = [*self.proto.input, "", "", "", ""]  # what is left out has no name
            self.held = {a.name: a for a in self.proto.attribute}
            known = self.proto.domain in ("", "ai.onnx") and self.op in OPERATORS
            self.require(known, "another operator")
            act, read = OPERATORS[self.op]
            unknown = sorted(set(self.held) - set(read.split()))
            self.require(not unknown, f"it without the attributes {unknown}")
            written = {"", *self.shapes, *self.stored}
            self.require(written.issuperset(self.given), "what the nodes before it write")
            one = not any(self.proto.output[1:]) or self.op == "Dropout"  # whose mask nobody finds
            self.require(one and self.proto.output[0] not in written, "one output, written once,")
            try:
                getattr(self, act)()
            except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
                self.require(False, f"inputs that fit each other ({error})")
        if not outputs or any(o not in self.shapes for o in outputs):
            raise Outside("an output of the model is stored or missing")
        sizes = {t: prod(s) for t, s in self.shapes.items()}
        return Model(tuple(self.nodes), FLOATS[self.kind], sizes, inputs, outputs)

    def require(self, holds: Any, what: str) -> None:
        if not holds:
            raise Outside(f"{self.title}: only {what} is in the checker's language")

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

    def put(self, shape: Any, sources: Sequence[int], kind: str, lemma: str, **what: Any) -> None:
        """A node of the model that reads the inputs `sources`."""
        inputs, output = tuple(self.given[k] for k in sources), self.proto.output[0]
        output, stored = what.pop("output", output), what.pop("stored", ())
        for key in ("bias", "unsure"):
            what[key] = np.broadcast_to(what.get(key, ZERO), shape).reshape(-1)
        if lemma != "sum-any-order":
            stored = tuple(np.broadcast_to(v, shape).reshape(-1) for v in stored)
        where = (self.title, self.name, self.op, output, inputs, kind, lemma)
        self.nodes.append(Node(*where, stored=stored, **what))
        self.shapes[output] = tuple(int(n) for n in shape)

    def move(self) -> None:
        """What ONNX's reference does to arrays, done to the places of their elements."""
        inputs = list(self.proto.input)
        names = list(dict.fromkeys(n for n in inputs if n))
        data = names if self.op == "Concat" else names[:1]
        held = {n: self.stored[n] for n in names if n not in self.shapes}
        self.require(set(names) <= {*data, *held}, "stored inputs behind the first")
        if self.op == "Pad":
            self.require(not np.any(held.get(self.given[2], self.a("value", 0))), "zeros in it")
            held |= {n: np.int64(0) for n in inputs[2:3] if n}
        run = self.reference()
        if not any(n in self.shapes for n in data):
            (self.stored[self.proto.output[0]],) = run(None, held)
            return
        shapes = [self.shapes[n] if n in self.shapes else held[n].shape for n in data]
        ends = np.cumsum([1, *map(prod, shapes)])
        places = [np.arange(*ends[i : i + 2]).reshape(s) for i, s in enumerate(shapes)]
        (given,) = run(None, held | dict(zip(data, places, strict=True)))
        moved, bias, maps, sources = np.asarray(given), ZERO, [], []
        for i, n in enumerate(data):
            here = np.where((moved >= ends[i]) & (moved < ends[i + 1]), moved - ends[i], -1)
            if n in self.shapes:
                maps.append(chosen(here.reshape(-1), prod(shapes[i]), 1.0))
                sources.append(inputs.index(n))
            else:
                bias = bias + np.where(here < 0, 0.0, held[n].reshape(-1)[here])
        self.put(moved.shape, sources, "affine", "movement", maps=tuple(maps), bias=bias)

    def reference(self) -> Any:
        if self.op == "Flatten" and self.given[0] in self.shapes:  # the most frequent, without it
            shape, axis = self.varying(), self.a("axis", 1)
            if 0 <= axis <= len(shape):
                rows = prod(shape[:axis])
                return lambda _, given: (given[self.given[0]].reshape(rows, -1),)
        from onnx.reference import ReferenceEvaluator  # takes longer to import than most files

        return ReferenceEvaluator(self.proto, opsets={"": self.opset}).run

    def dropout(self) -> None:
        self.require(not self.given[2] or not bool(self.constant(2)), "inference")
        self.proto = onnx.helper.make_node("Identity", self.given[:1], self.proto.output[:1])
        self.move()

    def store(self) -> None:
        shape = np.array(self.varying(), np.int64) if self.given[0] else None
        held = _array(self.a("value", None), self.kind) if shape is None else shape
        self.stored[self.proto.output[0]] = held

    def products(self, linear: Linear, shape: Sequence[int], bias: Any, **what: Any) -> None:
        bias, weights = ZERO if bias is None else bias, linear.weights
        used = linear.forward((weights != 0).astype(float), np.ones(prod(self.varying())))
        terms = int(np.max(used)) + int(np.any(bias))
        what |= {"maps": (linear,), "bias": bias, "stored": (weights,), "terms": terms}
        self.put(shape, [0], "affine", "sum-any-order", **what)

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

    def convolved(self, weights: Array, groups: int, bias: Any, **what: Any) -> tuple[int, ...]:
        shape, (m, inside, *kernel) = self.varying(), weights.shape
        self.require(inside * groups == shape[1] and m % groups == 0, "weights that fit")
        index, output = self.window(kernel)
        linear = convolution(weights, index, shape[1], prod(shape[2:]), groups)
        bias = None if bias is None else bias.reshape(1, m, *(1,) * len(kernel))
        self.products(linear, (shape[0], m, *output), bias, **what)
        return (shape[0], m, *output)

    def conv(self) -> None:
        weights, bias = self.constant(1), self.constant(2)
        fits = self.a("kernel_shape", list(weights.shape[2:])) == list(weights.shape[2:])
        self.require(fits, "weights that fit")
        self.convolved(weights, self.a("group", 1), bias)

    def pool(self) -> None:
        shape, kernel = self.varying(), self.a("kernel_shape", ())
        index, output = self.window(kernel)
        inside = np.sum(index >= 0, axis=0).astype(float)
        self.require(np.all(inside > 0), "no window in the padding")
        if self.op == "AveragePool":
            counts = 0.0 * inside + len(index) if self.a("count_include_pad", 0) else inside
            total = f"{self.proto.output[0]} before it is divided"
            self.require(total not in self.shapes, "another name of its output")
            whole = self.convolved(np.ones((shape[1], 1, *kernel)), shape[1], None, output=total)
            self.given[0] = total
            self.scaled(0, whole, np.broadcast_to(counts.reshape(output), whole), "mean")
            return
        start = np.arange(shape[0] * shape[1])[:, None] * prod(shape[2:])
        index = np.where(index[:, None] < 0, -1, index[:, None] + start).reshape(len(index), -1)
        first = np.take_along_axis(index, np.argmax(index >= 0, axis=0)[None], axis=0)
        index = np.where(index < 0, first, index)
        self.put((*shape[:2], *output), [0], "maximum", "copy", index=index)

    def spread(self, k: int, shape: Sequence[int], scale: Any, unsure: Any = ZERO) -> Linear:
        """Input k, broadcast to a shape and scaled."""
        places = np.arange(prod(self.varying(k))).reshape(self.varying(k))
        index, *wide = (np.broadcast_to(v, shape).reshape(-1) for v in (places, scale, unsure))
        return chosen(index, places.size, *wide)

    def sum(self) -> None:
        signs, stored = (
            (1.0, -1.0 if self.op == "Sub" else 1.0),
            [self.stored.get(n) for n in self.given[:2]],
        )
        sources = [k for k in (0, 1) if stored[k] is None]
        self.require(sources, "a sum with what varies")
        whole = np.broadcast_shapes(
            *(self.varying(k) if v is None else v.shape for k, v in enumerate(stored))
        )
        maps = tuple(self.spread(k, whole, signs[k]) for k in sources)
        numbers = [signs[k] * v for k, v in enumerate(stored) if v is not None]
        what = {"bias": sum(numbers, ZERO), "terms": 2, "maps": maps, "stored": numbers}
        self.put(whole, sources, "affine", "sum-of-two", **what)

    def scale(self) -> None:
        """By a stored factor, or divided by one."""
        k = 0 if self.op == "Div" or self.given[0] in self.shapes else 1
        factor = self.constant(1 - k)
        shape = np.broadcast_shapes(self.varying(k), factor.shape)
        self.scaled(k, shape, factor, "quotient" if self.op == "Div" else "product")

    def scaled(self, k: int, shape: Sequence[int], factor: Any, lemma: str) -> None:
        scale, unsure = factor, ZERO
        if lemma != "product":
            self.require(np.min(np.abs(factor)) > 2.0**-120, "a divisor that is not 0")
            scale, exact = 1.0 / factor, np.abs(np.frexp(factor)[0]) == 0.5
            unsure = np.where(exact, 0.0, np.abs(scale) * 2.0**-52)
        linear = self.spread(k, shape, scale, unsure)
        self.put(shape, [k], "affine", lemma, maps=(linear,), stored=(factor,))

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
        linear = self.spread(0, shape, scale, unsure)
        what = {"bias": shift, "unsure": off, "stored": (beta, mean, base), "maps": (linear,)}
        self.put(shape, [0], "affine", "normalization", **what)

    def hinge(self) -> None:
        below = float(np.float32(self.a("alpha", 0.01))) if self.op == "LeakyRelu" else 0.0
        self.require(below == 0 or 2.0**-12 <= below <= 1.0, "a slope in [2^-12, 1]")
        one = self.spread(0, self.varying(), 1.0)
        self.put(self.varying(), [0], "hinge", "hinge", below=below, maps=(one,))
