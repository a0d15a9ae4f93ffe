"""An ONNX file read anew: its nodes as linear maps, hinges and maxima of flat tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from checker.exact import Array, Index, Linear, Outside, add
from checker.maps import chosen, convolution, product, windows

FLOATS = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}
OPSETS = range(7, 27)
ZERO = np.zeros(())


@dataclass(frozen=True)
class Node:
    """One node of the file. `kind` is affine (Σ maps·inputs + bias, which may be off by `unsure`),
    hinge (x, below 0 `below`·x) or maximum (of the elements that `index` chooses); `lemma` says how
    it rounds, `terms` how many numbers the longest of its sums adds, `stored` on what else."""

    name: str
    op: str
    output: str
    format: str
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


@dataclass(frozen=True)
class Model:
    """The nodes in order; sizes of all tensors that vary; names of inputs and outputs."""

    nodes: tuple[Node, ...]
    sizes: Mapping[str, int]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def read_model(data: bytes, shapes: Mapping[str, Sequence[int]]) -> Model:
    """The model of a file's bytes, its inputs having these shapes. Raises Outside, naming the
    node, for whatever has no meaning here."""
    try:
        proto = onnx.load_model_from_string(data)
    except Exception as error:
        raise Outside(f"the model is no ONNX file ({type(error).__name__})") from error
    return _Reader(proto, shapes).model()


def _array(tensor: onnx.TensorProto) -> Any:
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        raise Outside(f"the stored tensor '{tensor.name}' lies outside the model's file")
    value = numpy_helper.to_array(tensor)
    value = value.astype(np.float64) if tensor.data_type in FLOATS else value
    if tensor.data_type not in (*FLOATS, 6, 7) or not np.all(np.isfinite(value)):
        raise Outside(f"the stored tensor '{tensor.name}' is not of finite floats, int32 or int64")
    return value


class _Reader:
    """The reader at one node after the other; a method for each kind of operator."""

    def __init__(self, proto: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> None:
        versions = [o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")]
        if len(versions) != 1 or versions[0] not in OPSETS:
            raise Outside(f"the model's opset is {versions}, not among those read here")
        if proto.functions or proto.graph.sparse_initializer or proto.training_info:
            raise Outside("the model has functions, sparse tensors or training information")
        self.graph, self.opset = proto.graph, versions[0]
        self.stored = {t.name: _array(t) for t in self.graph.initializer}
        given = {i.name: i.type.tensor_type for i in self.graph.input if i.name not in self.stored}
        kept = {t: tuple(shapes.get(t, ())) for t in given}
        for t, kind in given.items():
            dims = [
                d.dim_value if d.HasField("dim_value") else n
                for d, n in zip(kind.shape.dim, kept[t], strict=False)
            ]
            if tuple(dims) != kept[t] or min((1, *dims)) < 1 or kind.elem_type not in FLOATS:
                raise Outside(f"input '{t}' does not hold floats in the certificate's shape")
        if set(given) != set(shapes):
            raise Outside(f"the model's inputs are {sorted(given)}, not {sorted(shapes)}")
        self.shapes, self.nodes = kept, list[Node]()
        self.formats = {t: FLOATS[k.elem_type] for t, k in given.items()}

    def model(self) -> Model:
        inputs = tuple(self.shapes)
        for position, proto in enumerate(self.graph.node):
            self.proto, self.op = proto, proto.op_type
            self.name = proto.name or f"{self.op}_{position}"
            self.held = {a.name: a for a in proto.attribute}
            self.require(
                proto.domain in ("", "ai.onnx") and self.op in OPERATORS, "another operator"
            )
            act, read = OPERATORS[self.op]
            for unknown in sorted(set(self.held) - set(read.split())):
                self.require(False, f"it without attribute '{unknown}'")
            try:
                act(self)
            except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
                self.require(False, f"inputs that fit each other ({error})")
        outputs = tuple(o.name for o in self.graph.output)
        if not outputs or any(o not in self.shapes for o in outputs):
            raise Outside("an output of the model is stored or missing")
        return Model(
            tuple(self.nodes), {t: prod(s) for t, s in self.shapes.items()}, inputs, outputs
        )

    # --- what a node reads and writes

    def require(self, holds: Any, what: str) -> None:
        if not holds:
            title = f"node '{self.name}' ({self.op})"
            raise Outside(f"{title}: only {what} is in the checker's language")

    def a(self, name: str, default: Any) -> Any:
        value = onnx.helper.get_attribute_value(self.held[name]) if name in self.held else default
        return value.decode() if isinstance(value, bytes) else value

    def given(self, k: int) -> str:
        return self.proto.input[k] if k < len(self.proto.input) else ""

    def varies(self, k: int) -> bool:
        name = self.given(k)
        self.require(name in self.shapes or name in self.stored, "what the nodes before it write")
        return name in self.shapes

    def constant(self, k: int) -> Any:
        """Input k, which must be stored; None where it is left out."""
        self.require(not self.given(k) or not self.varies(k), f"a stored input {k}")
        return self.stored[self.given(k)] if self.given(k) else None

    def shape(self, k: int) -> tuple[int, ...]:
        return self.shapes[self.given(k)] if self.varies(k) else self.constant(k).shape

    def varying(self, k: int = 0) -> tuple[int, ...]:
        self.require(self.varies(k), f"an input {k} that varies")
        return self.shape(k)

    def output(self) -> str:
        name = str(self.proto.output[0])
        once = name not in self.shapes and name not in self.stored
        self.require(once and not any(self.proto.output[1:]), "one output, written once,")
        return name

    def put(self, shape: Any, sources: Sequence[int], kind: str, lemma: str, **what: Any) -> None:
        """A node of the model that reads the inputs `sources`."""
        name, inputs = self.output(), tuple(self.given(k) for k in sources)
        form = self.formats[inputs[0]]
        self.require({self.formats[t] for t in inputs} == {form}, "one type of inputs")
        for key in ("bias", "unsure"):
            what[key] = np.broadcast_to(what.get(key, ZERO), shape).reshape(-1)
        wide = (np.asarray(v, np.float64) for v in what.pop("stored", ()))
        stored = tuple(v if lemma == "sum-any-order" else self.flat(v, shape) for v in wide)
        where = (self.name, self.op, name, form, inputs, kind, lemma)
        self.nodes.append(Node(*where, stored=stored, **what))
        self.shapes[name], self.formats[name] = tuple(int(n) for n in shape), form

    def flat(self, v: Any, shape: Sequence[int]) -> Any:
        return np.broadcast_to(v, shape).reshape(-1) if v.size != prod(shape) else v.reshape(-1)

    # --- operators that move data

    def move(self, act: Callable[..., Any], sources: Sequence[int] = (0,)) -> None:
        """What `act` does to arrays, done to the places of their elements."""
        varying, bias, maps = [k for k in sources if self.varies(k)], ZERO, []
        if not varying:
            self.stored[self.output()] = np.asarray(act(*(self.constant(k) for k in sources)))
            return
        ends = np.cumsum([0, *(prod(self.shape(k)) for k in sources)])
        places = [np.arange(*ends[i : i + 2]).reshape(self.shape(k)) for i, k in enumerate(sources)]
        moved = np.asarray(act(*places))
        for i, k in enumerate(sources):
            here = np.where((moved >= ends[i]) & (moved < ends[i + 1]), moved - ends[i], -1)
            if k in varying:
                maps.append(chosen(here.reshape(1, -1), int(ends[i + 1] - ends[i]), np.ones(())))
            else:
                bias = bias + np.where(here < 0, 0.0, self.constant(k).reshape(-1)[here])
        self.put(moved.shape, varying, "affine", "movement", maps=tuple(maps), bias=bias)

    def axes(self) -> Any:
        found = self.a("axes", None) if self.opset < 13 else self.constant(1)
        return None if found is None else tuple(int(v) for v in found)

    def concat(self) -> None:
        self.move(lambda *x: np.concatenate(x, self.a("axis", None)), range(len(self.proto.input)))

    def reshape(self) -> None:
        wanted, shape = [int(v) for v in self.constant(1)], self.shape(0)
        self.require(0 not in wanted or not self.a("allowzero", 0), "'allowzero' of 0")
        self.move(lambda x: x.reshape([shape[i] if n == 0 else n for i, n in enumerate(wanted)]))

    def dropout(self) -> None:
        self.require(not self.given(2) or not bool(self.constant(2)), "inference")
        del self.proto.output[1:]  # the mask: whoever reads it finds nothing
        self.move(lambda x: x)

    def gather(self) -> None:
        index, axis = np.asarray(self.constant(1)), self.a("axis", 0)
        self.move(lambda x: np.take(x, np.where(index < 0, index + x.shape[axis], index), axis))

    def slice(self) -> None:
        read = [self.a(n, None) for n in ("starts", "ends", "axes")]
        starts, ends, axes = read if self.opset < 10 else [self.constant(k) for k in (1, 2, 3)]
        steps = self.constant(4) if self.opset >= 10 and self.given(4) else [1] * len(starts)
        self.require(min(steps) > 0, "a step that is positive")
        axes, cut = range(len(starts)) if axes is None else axes, {}
        for axis, *sides in zip(axes, starts, ends, steps, strict=True):
            cut[int(axis) % len(self.shape(0))] = slice(*(int(v) for v in sides))
        self.move(lambda x: x[tuple(cut.get(i, slice(None)) for i in range(x.ndim))])

    def pad(self) -> None:
        old, rank = self.opset < 11, len(self.varying())
        pads = [int(p) for p in (self.a("pads", None) if old else self.constant(1))]
        value = self.a("value", 0.0) if old else self.constant(2)
        plain = self.a("mode", "constant") == "constant" and not self.given(3) and min(pads) >= 0
        zero = value is None or not np.any(np.asarray(value))
        self.require(plain and zero, "padding of all axes with zeros")
        sides = list(zip(pads[:rank], pads[rank:], strict=True))
        self.move(lambda x: np.pad(x, sides, constant_values=-1))

    def store(self) -> None:
        held = np.array(self.shape(0), np.int64) if self.given(0) else _array(self.a("value", None))
        self.stored[self.output()] = held

    # --- sums of products

    def products(self, linear: Linear, shape: Sequence[int], bias: Any) -> None:
        bias, weights = ZERO if bias is None else bias, linear.weights
        used = linear.forward((weights != 0).astype(float), np.ones((1, prod(self.varying()))))
        what = {"maps": (linear,), "bias": bias, "stored": (weights,)}
        terms = int(np.max(used)) + int(np.any(bias))
        self.put(shape, [0], "affine", "sum-any-order", terms=terms, **what)

    def matrix(self) -> None:
        """Gemm and MatMul with a stored matrix behind."""
        shape, weights, gemm = self.varying(), self.constant(1), self.op == "Gemm"
        plain = self.a("alpha", 1.0) == 1.0 == self.a("beta", 1.0) and not self.a("transA", 0)
        self.require(plain and (len(shape) == 2 or not gemm), "'alpha' 1, 'beta' 1, 'transA' 0")
        weights = weights.T if self.a("transB", 0) else weights
        self.require(weights.ndim == 2 and len(weights) == shape[-1], "a stored matrix that fits")
        bias = self.constant(2) if gemm else None
        self.products(product(weights), (*shape[:-1], weights.shape[1]), bias)

    def window(self, kernel: Sequence[int]) -> tuple[Index, list[int]]:
        """The pixels that each window reads, and the output's pixels."""
        pixels, rank = self.varying()[2:], len(kernel)
        strides, dilations = self.a("strides", [1] * rank), self.a("dilations", [1] * rank)
        pads, mode = self.a("pads", [0] * (2 * rank)), self.a("auto_pad", "NOTSET")
        plain = mode == "NOTSET" or (mode == "VALID" and not any(pads))
        output = [
            (n + pads[i] + pads[i + rank] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1
            for i, n in enumerate(pixels)
        ]
        fits = len(pixels) == rank and min((*kernel, *strides, *dilations, *output)) > 0
        plain = plain and not self.a("ceil_mode", 0) and min((*pads, 0)) >= 0
        self.require(fits and plain, "a window that fits, with stated pads,")
        return windows(pixels, kernel, strides, dilations, pads[:rank], output), output

    def conv(self) -> None:
        shape, weights, bias = self.varying(), self.constant(1), self.constant(2)
        (m, inside, *kernel), groups = weights.shape, self.a("group", 1)
        fits = inside * groups == shape[1] and m % groups == 0
        self.require(fits and self.a("kernel_shape", kernel) == kernel, "weights that fit")
        index, output = self.window(kernel)
        linear = convolution(weights, index, shape[1], prod(shape[2:]), groups)
        bias = None if bias is None else bias.reshape(1, m, *(1,) * len(kernel))
        self.products(linear, (shape[0], m, *output), bias)

    # --- one operation per element

    def spread(self, k: int, shape: Sequence[int], scale: Any, unsure: Any = ZERO) -> Linear:
        """Input k, broadcast to a shape and scaled."""
        size = prod(self.shape(k))
        index = np.broadcast_to(np.arange(size).reshape(self.shape(k)), shape).reshape(1, -1)
        wide = [np.broadcast_to(v, shape).reshape(-1) for v in (scale, unsure)]
        return chosen(index, size, *wide)

    def sum(self) -> None:
        signs = (1.0, -1.0 if self.op == "Sub" else 1.0)
        shape = np.broadcast_shapes(self.shape(0), self.shape(1))
        sources = [k for k in (0, 1) if self.varies(k)]
        maps = tuple(self.spread(k, shape, signs[k]) for k in sources)
        stored = [signs[k] * self.constant(k) for k in (0, 1) if k not in sources]
        self.require(sources, "a sum with what varies")
        what = {"bias": sum(stored, ZERO), "terms": 2, "maps": maps, "stored": stored}
        self.put(shape, sources, "affine", "sum-of-two", **what)

    def scale(self) -> None:
        divide = self.op == "Div"
        k = 0 if divide or self.varies(0) else 1
        shape, factor = (
            np.broadcast_shapes(self.varying(k), self.shape(1 - k)),
            self.constant(1 - k),
        )
        self.require(not divide or np.min(np.abs(factor)) > 2.0**-120, "a divisor that is not 0")
        scale, exact = 1.0 / factor if divide else factor, np.abs(np.frexp(factor)[0]) == 0.5
        unsure = np.where(exact, 0.0, np.abs(scale) * 2.0**-52) if divide else ZERO
        lemma, linear = "quotient" if divide else "product", self.spread(k, shape, scale, unsure)
        self.put(shape, [k], "affine", lemma, maps=(linear,), stored=(factor,))

    def normalize(self) -> None:
        shape = self.varying()
        tall = (1, -1, *(1,) * (len(shape) - 2))
        gamma, beta, mean, var = (self.constant(k).reshape(tall) for k in (1, 2, 3, 4))
        base = var + np.float64(np.float32(self.a("epsilon", 1e-5)))
        plain = not self.a("training_mode", 0) and self.a("spatial", 1) == 1
        positive = np.min(var) >= 0 and np.min(base) >= 2.0**-60
        self.require(plain and positive, "inference with a variance that is positive")
        scale = gamma / np.sqrt(base)  # each operation errs by half a unit of float64
        shift, unsure = beta - mean * scale, np.abs(scale) * 2.0**-50
        off = add(np.abs(mean) * unsure, (np.abs(mean * scale) + np.abs(shift)) * 2.0**-50)
        what = {"bias": shift, "unsure": off, "stored": (beta, mean, base)}
        linear = self.spread(0, shape, scale, unsure)
        self.put(shape, [0], "affine", "normalization", maps=(linear,), **what)

    # --- hinges and pools

    def hinge(self) -> None:
        below = float(np.float32(self.a("alpha", 0.01))) if self.op == "LeakyRelu" else 0.0
        self.require(below == 0 or 2.0**-12 <= below <= 1.0, "a slope in [2^-12, 1]")
        one = self.spread(0, self.varying(), 1.0)
        self.put(self.shape(0), [0], "hinge", "hinge", below=below, maps=(one,))

    def pool(self) -> None:
        shape = self.varying()
        index, output = self.window(self.a("kernel_shape", ()))
        start = np.arange(shape[0] * shape[1])[:, None] * prod(shape[2:])
        index = np.where(index[:, None] < 0, -1, index[:, None] + start).reshape(len(index), -1)
        whole, present = (*shape[:2], *output), np.sum(index >= 0, axis=0).astype(float)
        self.require(np.all(present > 0), "no window in the padding")
        if self.op == "MaxPool":
            first = np.take_along_axis(index, np.argmax(index >= 0, axis=0)[None], axis=0)
            self.put(whole, [0], "maximum", "copy", index=np.where(index < 0, first, index))
            return
        counts = 0.0 * present + len(index) if self.a("count_include_pad", 0) else present
        unsure = np.where(np.frexp(counts)[0] == 0.5, 0.0, 2.0**-53 / counts)
        linear = chosen(index, prod(shape), 1.0 / counts, unsure)
        what = {"terms": int(np.max(present)), "stored": (counts, present)}
        self.put(whole, [0], "affine", "mean", maps=(linear,), **what)


_WINDOW = "auto_pad ceil_mode dilations kernel_shape pads strides"
OPERATORS: Mapping[str, tuple[Callable[[_Reader], None], str]] = {  # and attributes understood
    "Add": (_Reader.sum, ""), "AveragePool": (_Reader.pool, f"{_WINDOW} count_include_pad"),
    "BatchNormalization": (_Reader.normalize, "epsilon momentum spatial training_mode"),
    "Concat": (_Reader.concat, "axis"), "Constant": (_Reader.store, "value"),
    "Conv": (_Reader.conv, f"{_WINDOW} group"), "Div": (_Reader.scale, ""),
    "Dropout": (_Reader.dropout, "ratio seed"), "Gather": (_Reader.gather, "axis"),
    "Flatten": (lambda r: r.move(lambda x: x.reshape(prod(x.shape[: r.a("axis", 1)]), -1)), "axis"),
    "Gemm": (_Reader.matrix, "alpha beta transA transB"), "MatMul": (_Reader.matrix, ""),
    "Identity": (lambda r: r.move(lambda x: x), ""), "LeakyRelu": (_Reader.hinge, "alpha"),
    "MaxPool": (_Reader.pool, f"{_WINDOW} storage_order"), "Mul": (_Reader.scale, ""),
    "Pad": (_Reader.pad, "mode pads value"), "Relu": (_Reader.hinge, ""),
    "Reshape": (_Reader.reshape, "allowzero"), "Shape": (_Reader.store, ""),
    "Slice": (_Reader.slice, "axes ends starts"), "Sub": (_Reader.sum, ""),
    "Squeeze": (lambda r: r.move(lambda x: np.squeeze(x, r.axes())), "axes"),
    "Transpose": (lambda r: r.move(lambda x: np.transpose(x, r.a("perm", None))), "perm"),
    "Unsqueeze": (lambda r: r.move(lambda x: np.expand_dims(x, r.axes())), "axes"),
}  # fmt: skip
