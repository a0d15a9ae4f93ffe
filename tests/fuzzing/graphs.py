"""Random ONNX graphs over the whole registry, and random contracts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from encoders.contract.contract import (
    BiasPlacement,
    Contraction,
    FactorRounding,
    Normalization,
    RuntimeContract,
    Schedule,
    ScheduleRule,
    Subnormals,
)
from encoders.contract.functions import TABLES
from encoders.contract.orders import (
    AlignedSteps,
    AnyOrder,
    Blocked,
    Blocks,
    Dwindling,
    Lanes,
    Pairwise,
    Sequential,
    Strided,
)
from encoders.contract.presets import IEEE_ANY, PRESETS
from encoders.numbers.formats import (
    BFLOAT16,
    BINARY16,
    BINARY32,
    BINARY64,
    TENSOR_FLOAT_32,
    small_format,
)

Shape = tuple[int, ...]
CODES = {
    "float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16, "float64": TensorProto.DOUBLE,
}  # fmt: skip


@dataclass
class Builder:
    """A graph in the making: `pool` are computed tensors with their shapes."""

    rng: np.random.Generator
    opset: int
    dtype: str
    long: int
    scale: float
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    stored: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Shape] = field(default_factory=dict)
    pool: dict[str, Shape] = field(default_factory=dict)

    def pick(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def n(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def shape(self, rank: int | None = None) -> Shape:
        rank = self.n(1, 3) if rank is None else rank
        return tuple(self.n(1, 4) for _ in range(rank))

    def tensor(self, fits: Callable[[Shape], bool] = lambda s: True, new: Any = None) -> str:
        """A tensor of the pool that fits, else a new input."""
        fitting = [t for t, s in self.pool.items() if fits(s)]
        if fitting and self.rng.random() < 0.85:
            return fitting[min(int(self.rng.geometric(0.5)), len(fitting)) * -1]
        name = f"x{len(self.inputs)}"
        self.inputs[name] = self.pool[name] = self.shape() if new is None else tuple(new)
        return name

    def weights(self, shape: Shape, positive: bool = False) -> str:
        values = self.rng.standard_normal(shape) * 10.0 ** self.pick(-1, 0, 0, 0, 1)
        values = np.where(self.rng.random(shape) < 0.1, 0.0, values)
        if self.rng.random() < 0.15:
            values = np.ones(shape) * self.pick(1.0, 1.0, 0.1, -1.0, 2.0**-3)
        if positive:
            values = np.abs(values) + 0.25
        return self.keep(values)

    def keep(self, values: Any, kind: Any = None) -> str:
        name = f"k{len(self.stored)}"
        values = np.asarray(values)
        if kind is None and values.dtype.kind == "f":
            import ml_dtypes

            kind = ml_dtypes.bfloat16 if self.dtype == "bfloat16" else np.dtype(self.dtype)
        self.stored[name] = values.astype(kind) if kind is not None else values
        return name

    def ints(self, *values: int) -> str:
        return self.keep(np.array(values, np.int64), np.int64)

    def add(self, op: str, inputs: list[str], shape: Shape, count: int = 1, domain: str = "",
            held: bool = True, **attributes: Any) -> str:  # fmt: skip
        outputs = [f"t{len(self.nodes)}"] + [f"t{len(self.nodes)}_{i}" for i in range(1, count)]
        name = f"n{len(self.nodes)}_{op}"
        self.nodes.append(
            helper.make_node(op, inputs, outputs, name=name, domain=domain, **attributes)
        )
        if held:
            self.pool[outputs[0]] = tuple(shape)
        return outputs[0]


class Named(Protocol):
    def __call__(self, b: Builder, /, op: str) -> object: ...


Recipe = Callable[[Builder], object]
RECIPES: dict[str, Recipe] = {}


def _recipe(*names: str) -> Callable[[Named], Named]:
    def register(f: Named) -> Named:
        RECIPES.update({name: partial(f, op=name) for name in names})
        return f

    return register


SINCE = {
    "Celu": 12, "Gelu": 20, "Mish": 18, "Swish": 24, "HardSwish": 14, "ReduceLogSum": 18,
    "LayerNormalization": 17,
    "RMSNormalization": 23, "Attention": 23, "RotaryEmbedding": 23, "GroupNormalization": 21,
    "CenterCropPad": 18, "Trilu": 14, "BitShift": 11,
    "ReverseSequence": 10, "IsInf": 10, "GridSample": 20, "RoiAlign": 16, "Narrow": 19,
    "CumProd": 26,
}  # fmt: skip


@_recipe("Abs", "Neg", "Relu", "Exp", "Tanh", "Sigmoid", "Erf", "Sin", "Cos", "Atan", "Softplus",
         "Sinh", "Cosh", "Asinh",
         "Softsign", "HardSwish", "Mish", "Floor", "Ceil", "Round", "Sign", "Identity")  # fmt: skip
def _plain(b: Builder, op: str) -> None:
    x = b.tensor()
    b.add(op, [x], b.pool[x])


@_recipe("Asin", "Acos", "Atanh", "Tan", "Acosh")
def _inverse(b: Builder, op: str) -> None:
    """Mostly where it is defined."""
    x = b.tensor()
    s = b.pool[x]
    if b.rng.random() < 0.8:
        inner = ("Exp", "Cosh") if op == "Acosh" else ("Sin", "Tanh", "Erf")
        x = b.add(b.pick(*inner), [x], s)
        if op == "Acosh" or b.rng.random() < 0.7:
            how = "Add" if op == "Acosh" else "Mul"
            x = b.add(how, [x, b.keep(np.float64(b.pick(0.1, 0.5, 0.96)))], s)
    b.add(op, [x], s)


@_recipe("Log", "Sqrt", "Reciprocal")
def _away(b: Builder, op: str) -> None:
    """Mostly where it is defined."""
    x = b.tensor()
    s = b.pool[x]
    if b.rng.random() < 0.8:
        x = b.add(b.pick("Exp", "Abs", "Softplus"), [x], s)
        if b.rng.random() < 0.7:
            x = b.add("Add", [x, b.keep(np.float64(b.pick(0.1, 0.5, 1e-3)))], s)
    b.add(op, [x], s)


@_recipe("LeakyRelu", "Elu", "Celu", "ThresholdedRelu", "Swish", "Selu", "HardSigmoid", "Gelu")
def _shaped(b: Builder, op: str) -> None:
    x = b.tensor()
    value = float(b.pick(0.1, 0.5, 1.0, 1.7, 0.01))
    attributes: dict[str, Any] = {"alpha": value} if b.rng.random() < 0.7 else {}
    if op == "HardSigmoid":
        attributes = {"alpha": b.pick(0.2, 0.3, -0.5), "beta": b.pick(0.5, 0.1)}
    if op == "Gelu":
        attributes = {"approximate": b.pick("none", "tanh")}
    b.add(op, [x], b.pool[x], **attributes)


@_recipe("Clip")
def _clipped(b: Builder, op: str) -> None:
    x = b.tensor()
    ends = sorted(b.rng.standard_normal(2))
    low = b.keep(np.float64(ends[0])) if b.rng.random() < 0.8 else ""
    high = b.keep(np.float64(ends[1])) if b.rng.random() < 0.8 else ""
    b.add(op, [x, low, high], b.pool[x])


@_recipe("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "PRelu", "Pow")
def _pairs(b: Builder, op: str) -> None:
    x = b.tensor()
    s = b.pool[x]
    constant = b.rng.random() < 0.45 or op in ("PRelu", "Pow")
    if op == "Pow":
        y = b.keep(np.float64(b.pick(2.0, 3.0, 5.0, 4.0)))
    elif constant:
        part = s if b.rng.random() < 0.5 else s[int(b.rng.integers(len(s) + 1)) :]
        y = b.weights(part, positive=op == "Div")
    elif b.rng.random() < 0.2:
        y = x
    else:
        y = b.tensor(lambda t: t == s, s)
        if op == "Div":
            y = b.add("Abs", [y], s)
            y = b.add("Add", [y, b.keep(np.float64(b.pick(0.1, 1.0)))], s)
    pair = [x, y]
    if op in ("Add", "Sub", "Mul", "Max") and b.rng.random() < 0.3:
        pair.reverse()
    if op in ("Sum", "Mean", "Max", "Min") and b.rng.random() < 0.4:
        pair += [b.tensor(lambda t: t == s, s) for _ in range(b.n(1, 3))]
    b.add(op, pair, s)


@_recipe("Less", "Greater", "LessOrEqual", "GreaterOrEqual", "Equal", "And", "Or", "Xor", "Not",
         "Where", "IsNaN", "IsInf")  # fmt: skip
def _logic(b: Builder, op: str) -> None:
    """Comparisons that choose between two numbers."""
    x = b.tensor()
    s = b.pool[x]
    y = b.weights(s) if b.rng.random() < 0.6 else b.tensor(lambda t: t == s, s)

    def relation(name: str) -> str:
        return b.add(name, [x, y], s, held=False)

    relations = ("Less", "Greater", "LessOrEqual", "GreaterOrEqual")
    condition = relation(op if op in (*relations, "Equal") else b.pick(*relations))
    if op == "Not":
        condition = b.add(op, [condition], s, held=False)
    elif op in ("And", "Or", "Xor"):
        condition = b.add(op, [condition, relation(b.pick(*relations))], s, held=False)
    elif op in ("IsNaN", "IsInf"):
        condition = b.add(op, [x], s, held=False)
    elif op == "Where" and b.rng.random() < 0.3:
        condition = b.keep(b.rng.random(s) < 0.5)
    other = b.weights(s) if b.rng.random() < 0.5 else b.tensor(lambda t: t == s, s)
    b.add("Where", [condition, x, other], s)


def _length(b: Builder) -> int:
    return b.long if b.rng.random() < 0.5 else b.n(1, 8)


@_recipe("MatMul")
def _matmul(b: Builder, op: str) -> str:
    k = _length(b)
    x = b.tensor(lambda t: len(t) >= 2 and t[-1] == k, (*b.shape(b.n(0, 1)), b.n(1, 3), k))
    s = b.pool[x]
    m = b.n(1, 3)
    if b.rng.random() < 0.6:
        return b.add(op, [x, b.weights((k, m))], (*s[:-1], m))
    if b.rng.random() < 0.4:
        return b.add(op, [b.weights((m, s[-2])), x], (*s[:-2], m, k))
    y = b.tensor(lambda t: t == (k, m), (k, m))
    return b.add(op, [x, y], (*s[:-1], m))


@_recipe("Gemm")
def _gemm(b: Builder, op: str) -> None:
    k, m = _length(b), b.n(1, 3)
    x = b.tensor(lambda t: len(t) == 2 and t[-1] == k, (b.n(1, 3), k))
    rows, trans = b.pool[x][0], b.n(0, 1)
    shape = (m, k) if trans else (k, m)
    computed = b.rng.random() < 0.2
    w = b.tensor(lambda t: t == shape, shape) if computed else b.weights(shape)
    inputs = [x, w]
    if b.rng.random() < 0.7:
        c = b.pick((m,), (rows, m), (1, m))
        inputs.append(b.weights(c) if b.rng.random() < 0.8 else b.tensor(lambda t: t == c, c))
    more = {"alpha": b.pick(0.3, 2.0), "beta": b.pick(0.5, 1.0)} if b.rng.random() < 0.3 else {}
    b.add(op, inputs, (rows, m), transB=trans, **more)


@_recipe("RNN", "GRU", "LSTM")
def _recurrent(b: Builder, op: str) -> None:
    n, size, gates = b.n(1, 3), b.n(1, 3), {"RNN": 1, "GRU": 3, "LSTM": 4}[op]
    shape = (b.n(1, 3), b.n(1, 2), size)
    x = b.tensor(lambda t: t == shape, shape)
    inputs = [x, b.weights((1, gates * n, size)), b.weights((1, gates * n, n))]
    inputs += [b.weights((1, 2 * gates * n))] if b.rng.random() < 0.7 else []
    more: dict[str, Any] = {"linear_before_reset": b.n(0, 1)} if op == "GRU" else {}
    b.add(op, inputs, (*shape[:1], 1, shape[1], n), hidden_size=n,
          direction=b.pick("forward", "reverse"), **more)  # fmt: skip


@_recipe("FusedGemm", "FusedMatMul", "QuickGelu", "BiasGelu")
def _optimised(b: Builder, op: str) -> None:
    """What onnxruntime's optimiser writes, in float32."""
    k, m, n = b.n(1, 4), b.n(1, 3), b.n(1, 3)
    x = b.tensor(lambda t: t == (n, k), (n, k))
    given: dict[str, Any] = {"domain": "com.microsoft"}
    if op == "FusedGemm":
        given |= b.pick({"activation": "Relu"}, {"activation": "Tanh"},
                        {"activation": "LeakyRelu", "activation_alpha": 0.1})  # fmt: skip
        b.add(op, [x, b.weights((k, m)), b.weights((m,))], (n, m), **given)
    elif op == "FusedMatMul":
        trans = b.n(0, 1)
        y = b.weights((m, k) if trans else (k, m))
        b.add(op, [x, y], (n, m), alpha=b.pick(1.0, 0.3, 2.0), transB=trans, **given)
    elif op == "QuickGelu":
        b.add(op, [x], (n, k), alpha=1.702, **given)
    else:
        b.add(op, [x, b.weights((k,))], (n, k), **given)


@_recipe("Scaler", "TreeEnsembleRegressor")
def _pipeline(b: Builder, op: str) -> None:
    """Classical pipelines: a Scaler, and stumps that read a scaled feature or one as it is."""
    n, k = b.n(1, 3), b.n(1, 3)
    x = b.tensor(lambda t: t == (n, k), (n, k))
    given: dict[str, Any] = {"domain": "ai.onnx.ml"}

    def some(count: int) -> list[float]:
        return [float(np.float32(v)) for v in b.rng.standard_normal(count)]

    if op == "Scaler" or b.rng.random() < 0.5:
        x = b.add("Scaler", [x], (n, k), offset=some(k), scale=some(k), **given)
    if op == "Scaler":
        return
    trees = b.n(1, 3)
    each = range(trees)
    b.add(op, [x], (n, 1), n_targets=1,
          nodes_treeids=[t for t in each for _ in range(3)], nodes_nodeids=[0, 1, 2] * trees,
          nodes_featureids=[f for _ in each for f in (b.n(0, k - 1), 0, 0)],
          nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"] * trees,
          nodes_values=[v for _ in each for v in (some(1)[0], 0.0, 0.0)],
          nodes_truenodeids=[1, 0, 0] * trees, nodes_falsenodeids=[2, 0, 0] * trees,
          target_treeids=[t for t in each for _ in range(2)], target_nodeids=[1, 2] * trees,
          target_ids=[0, 0] * trees, target_weights=some(2 * trees), **given)  # fmt: skip


@_recipe("Conv")
def _conv(b: Builder, op: str) -> None:
    groups, c, m, n, k = b.pick(1, 1, 2), b.n(1, 2), b.n(1, 2), b.n(1, 2), b.n(1, 3)
    if b.rng.random() < 0.3:
        c = max(min(b.long // k**n, 64), 1)
    size = b.n(max(k, 2), 4)
    shape = (b.n(1, 2), groups * c, *(size,) * n)
    x = b.tensor(lambda t: t == shape, shape)
    pads = [b.n(0, k // 2) for _ in range(2 * n)]
    out = tuple(size + pads[i] + pads[n + i] - k + 1 for i in range(n))
    inputs = [x, b.weights((groups * m, c, *(k,) * n))]
    inputs += [b.weights((groups * m,))] if b.rng.random() < 0.6 else []
    b.add(op, inputs, (shape[0], groups * m, *out), group=groups, pads=pads,
          kernel_shape=[k] * n)  # fmt: skip


@_recipe("ConvTranspose")
def _conv_transpose(b: Builder, op: str) -> None:
    c, m, k, stride = b.n(1, 2), b.n(1, 2), b.n(1, 3), b.n(1, 2)
    size = b.n(2, 4)
    x = b.tensor(lambda t: t == (1, c, size), (1, c, size))
    out = (size - 1) * stride + k
    b.add(op, [x, b.weights((c, m, k))], (1, m, out), strides=[stride], kernel_shape=[k])


@_recipe("AveragePool", "MaxPool", "LpPool")
def _pool(b: Builder, op: str) -> None:
    k, size = b.n(1, 3), b.n(3, 5)
    if op != "MaxPool" and b.rng.random() < 0.3:
        k = size = min(b.long, 64)
    x = b.tensor(lambda t: len(t) == 3 and t[-1] == size, (1, b.n(1, 2), size))
    s = b.pool[x]
    pads = [b.n(0, (k - 1) // 2), b.n(0, (k - 1) // 2)]
    stride = b.n(1, 2)
    out = (size + sum(pads) - k) // stride + 1
    more: dict[str, Any] = {"count_include_pad": b.n(0, 1)} if op == "AveragePool" else {}
    if op == "LpPool":
        more = {"p": b.n(1, 4)}
    b.add(op, [x], (*s[:2], out), kernel_shape=[k], pads=pads, strides=[stride], **more)


@_recipe("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def _global(b: Builder, op: str) -> None:
    shape = (1, b.n(1, 2), _length(b))
    x = b.tensor(lambda t: len(t) == 3, shape)
    more = {"p": b.pick(2, 3, 5)} if op == "GlobalLpPool" else {}
    b.add(op, [x], (*b.pool[x][:2], 1), **more)


@_recipe("MaxUnpool")
def _unpool(b: Builder, op: str) -> None:
    n, s, k = b.n(1, 3), b.n(1, 3), b.n(1, 3)
    x = b.tensor(lambda t: t == (1, 2, n), (1, 2, n))
    size = (n - 1) * s + k
    places = b.rng.permutation(2 * size)[: 2 * n].reshape(1, 2, n)
    b.add(op, [x, b.keep(places.astype(np.int64), np.int64)], (1, 2, size), kernel_shape=[k],
          strides=[s])  # fmt: skip


@_recipe("Det")
def _det(b: Builder, op: str) -> None:
    n = b.n(1, 4)
    x = b.tensor(lambda t: len(t) > 1 and t[-1] == t[-2] < 5, (*b.pick((), (2,)), n, n))
    b.add(op, [x], b.pool[x][:-2])


REDUCTIONS = tuple(f"Reduce{n}" for n in (
    "Sum", "Mean", "Max", "Min", "L1", "L2", "SumSquare", "LogSumExp", "LogSum"))  # fmt: skip


@_recipe(*REDUCTIONS)
def _reduce(b: Builder, op: str) -> None:
    x = b.tensor(lambda t: t[-1:] == (b.long,), (b.n(1, 2), _length(b)))
    s = b.pool[x]
    if op == "ReduceLogSum":
        x = b.add("Add", [b.add("Abs", [x], s), b.keep(np.float64(0.25))], s)
    axes = sorted(b.rng.permutation(len(s))[: b.n(1, len(s))].tolist())
    keep = b.n(0, 1) if len(axes) < len(s) else 1
    shape = tuple(1 if i in axes else v for i, v in enumerate(s) if keep or i not in axes)
    if b.opset >= 18 or (op == "ReduceSum" and b.opset >= 13):
        b.add(op, [x, b.ints(*axes)], shape, keepdims=keep)
    else:
        b.add(op, [x], shape, axes=axes, keepdims=keep)


@_recipe("ArgMax", "ArgMin")
def _arg(b: Builder, op: str) -> None:
    x = b.tensor(lambda t: len(t) > 0)
    s = b.pool[x]
    axis = b.n(0, len(s) - 1)
    shape = tuple(1 if i == axis else v for i, v in enumerate(s))
    b.add(op, [x], shape, axis=axis, held=False)
    b.pool.setdefault(x, s)


@_recipe("WholeAdd", "WholeSub", "WholeMul")
def _whole(b: Builder, op: str) -> None:
    """Places of largest elements, computed with."""
    x = b.tensor()
    s = b.pool[x]
    picked = s[1:]
    at = b.add("ArgMax", [x], picked, axis=0, keepdims=0, held=False)
    b.pool.setdefault(x, s)
    pair = [at, b.keep(np.array(b.n(-3, 3)), np.int64)]
    made = b.add(op.removeprefix("Whole"), pair, picked, held=False)
    b.add("Cast", [made], picked, to=CODES[b.dtype])


@_recipe("Mod")
def _remainder(b: Builder, op: str) -> None:
    x = b.tensor()
    s = b.pool[x]
    by = b.pick(np.float64(0.3), np.float64(-2.5), b.rng.uniform(0.1, 3.0, s[-1:]))
    b.add(op, [x, b.keep(by)], s, fmod=1)


@_recipe("Lookup")
def _lookup(b: Builder, op: str) -> None:
    """What is picked from stored numbers by the place of the largest element."""
    x = b.tensor()
    s = b.pool[x]
    axis = b.n(0, len(s) - 1)
    at = b.add("ArgMax", [x], tuple(v for i, v in enumerate(s) if i != axis), axis=axis,
               keepdims=0, held=False)  # fmt: skip
    b.pool.setdefault(x, s)
    picked = tuple(v for i, v in enumerate(s) if i != axis)
    b.add("Gather", [b.weights((s[axis], 2)), at], (*picked, 2))


@_recipe("CumSum")
def _running(b: Builder, op: str) -> None:
    few = min(_length(b), 100)  # the interpreter adds every running sum up anew
    x = b.tensor(lambda t: 0 < max(t, default=0) <= 100, (b.n(1, 2), few))
    s = b.pool[x]
    axis = b.keep(np.array(b.n(-len(s), len(s) - 1)), np.int64)
    b.add(op, [x, axis], s, exclusive=b.n(0, 1), reverse=b.n(0, 1))


@_recipe("CumProd")
def _running_products(b: Builder, op: str) -> None:
    x = b.tensor(lambda t: 0 < max(t, default=0) <= 6, (b.n(1, 2), b.n(1, 4)))
    s = b.pool[x]
    axis = b.keep(np.array(b.n(-len(s), len(s) - 1)), np.int64)
    b.add(op, [x, axis], s, exclusive=b.n(0, 1), reverse=b.n(0, 1))


@_recipe("Shrink")
def _shrink(b: Builder, op: str) -> None:
    x = b.tensor()
    b.add(op, [x], b.pool[x], lambd=b.pick(0.0, 0.5, 1.0), bias=b.pick(0.0, 0.25, 1.0))


@_recipe("Softmax", "LogSoftmax", "Hardmax")
def _softmax(b: Builder, op: str) -> None:
    x = b.tensor(lambda t: len(t) > 0, (b.n(1, 2), _length(b)))
    b.add(op, [x], b.pool[x], axis=b.n(-len(b.pool[x]), -1))


@_recipe("MaskedSoftmax", "MaskedLogSoftmax")
def _masked(b: Builder, op: str) -> None:
    x = b.tensor(lambda t: len(t) == 2, (b.n(1, 3), b.n(2, 5)))
    s = b.pool[x]
    mask = b.rng.random(s) < 0.6
    mask[:, 0] = True
    y = b.add("Where", [b.keep(mask), x, b.keep(np.float64(-np.inf))], s, held=False)
    b.add(op.replace("Masked", ""), [y], s, axis=-1)


@_recipe("BatchNormalization", "InstanceNormalization", "GroupNormalization")
def _channels(b: Builder, op: str) -> None:
    c = b.pick(2, 4)
    shape = (1, c, _length(b))
    x = b.tensor(lambda t: len(t) == 3 and t[1] == c, shape)
    p = [b.weights((c,)), b.weights((c,))]
    if op == "BatchNormalization":
        p += [b.weights((c,)), b.weights((c,), positive=True)]
    more = {"num_groups": b.pick(1, 2)} if op == "GroupNormalization" else {}
    b.add(op, [x, *p], b.pool[x], epsilon=b.pick(1e-5, 0.1, 1e-3), **more)


@_recipe("LayerNormalization", "RMSNormalization", "MeanVarianceNormalization", "LRN")
def _rows(b: Builder, op: str) -> None:
    if op in ("MeanVarianceNormalization", "LRN"):
        x = b.tensor(lambda t: len(t) == 4, (1, 2, 2, b.n(1, 3)))
        more = {"size": b.n(1, 3), "beta": b.pick(0.75, 0.5, 1.0)} if op == "LRN" else {}
        b.add(op, [x], b.pool[x], **more)
        return
    x = b.tensor(lambda t: len(t) >= 2, (b.n(1, 2), _length(b)))
    s = b.pool[x]
    axis = b.n(-len(s), -1)
    inputs = [x, b.weights(s[axis:])]
    if op == "LayerNormalization" and b.rng.random() < 0.7:
        inputs.append(b.weights(s[axis:]))
    stash: dict[str, Any] = {} if b.dtype == "float32" else {"stash_type": CODES[b.dtype]}
    b.add(op, inputs, s, axis=axis, epsilon=b.pick(1e-5, 0.1), **stash)


@_recipe("Concat", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Gather",
         "GatherElements", "Pad", "Expand", "Tile", "Trilu", "Split", "CenterCropPad",
         "ReverseSequence", "ScatterND", "ScatterElements", "GatherND", "Dropout")  # fmt: skip
def _movement(b: Builder, op: str) -> None:
    x = b.tensor(lambda t: len(t) >= 2, b.shape(b.n(2, 3)))
    s = b.pool[x]
    axis = b.n(0, len(s) - 1)
    size = int(np.prod(s))

    def changed(n: int) -> tuple[int, ...]:
        return tuple(n if i == axis else v for i, v in enumerate(s))

    if op == "Concat":
        y = b.pick(x, b.weights(s))
        b.add(op, [x, y], changed(2 * s[axis]), axis=axis)
    elif op == "Transpose":
        perm = b.rng.permutation(len(s)).tolist()
        b.add(op, [x], tuple(s[p] for p in perm), perm=perm)
    elif op == "Reshape":
        b.add(op, [x, b.ints(s[0], -1)], (s[0], size // s[0]))
    elif op == "Flatten":
        first = int(np.prod(s[:axis]))
        b.add(op, [x], (first, size // first), axis=axis)
    elif op in ("Squeeze", "Unsqueeze"):
        wide = (*s[:axis], 1, *s[axis:])
        y = b.add("Unsqueeze", [x, b.ints(axis)], wide)
        if op == "Squeeze":
            b.add(op, [y, b.ints(axis)], s)
    elif op == "Slice":
        step = b.pick(1, 2, -1)
        k = len(range(s[axis])[::step])
        lo, hi = (s[axis] - 1, -(2**31)) if step < 0 else (0, s[axis])
        b.add(op, [x, *(b.ints(v) for v in (lo, hi, axis, step))], changed(k))
    elif op == "Gather":
        at = b.rng.integers(-s[axis], s[axis], b.n(1, 3))
        b.add(op, [x, b.ints(*at.tolist())], changed(len(at)), axis=axis)
    elif op == "GatherElements":
        b.add(op, [x, b.keep(b.rng.integers(0, s[axis], s), np.int64)], s, axis=axis)
    elif op == "GatherND":
        at = b.rng.integers(0, s[0], (2, 1))
        b.add(op, [x, b.keep(at, np.int64)], (2, *s[1:]))
    elif op == "Pad":
        pads = [b.n(0, 1) for _ in range(2 * len(s))]
        shape = tuple(v + pads[i] + pads[len(s) + i] for i, v in enumerate(s))
        b.add(op, [x, b.ints(*pads), b.keep(np.float64(b.pick(0.0, 0.3)))], shape)
    elif op == "Expand":
        b.add(op, [x, b.ints(2, *s)], (2, *s))
    elif op == "Tile":
        b.add(
            op, [x, b.ints(*changed(2))], tuple(v * r for v, r in zip(s, changed(2), strict=True))
        )
    elif op == "Trilu":
        b.add(op, [x, b.keep(np.int64(b.n(-1, 1)))], s, upper=b.n(0, 1))
    elif op == "ReverseSequence":
        lengths = b.rng.integers(0, s[0] + 1, s[1]).tolist()
        b.add(op, [x, b.ints(*lengths)], s)
    elif op == "Split":
        twice = b.add("Concat", [x, x], changed(2 * s[axis]), axis=axis)
        parts: dict[str, Any] = {"num_outputs": 2} if b.opset >= 18 else {}
        b.add(op, [twice], s, 2, axis=axis, **parts)
    elif op == "CenterCropPad":
        b.add(op, [x, b.ints(*(v + b.n(0, 1) for v in s))], s, held=False)
    elif op == "ScatterND":
        b.add(op, [x, b.keep(np.array([[s[0] - 1]]), np.int64), b.weights((1, *s[1:]))], s)
    elif op == "ScatterElements":
        place = b.keep(np.zeros((1,) * len(s)), np.int64)
        b.add(op, [x, place, b.weights((1,) * len(s))], s, axis=axis)
    else:
        b.add(op, [x], s)


@_recipe("DepthToSpace", "SpaceToDepth", "Resize", "Interpolate")
def _image(b: Builder, op: str) -> None:
    x = b.tensor(lambda t: t == (1, 4, 2, 2), (1, 4, 2, 2))
    if op == "DepthToSpace":
        b.add(op, [x], (1, 1, 4, 4), blocksize=2)
    elif op == "SpaceToDepth":
        b.add(op, [x], (1, 16, 1, 1), blocksize=2)
    elif op == "Interpolate" and b.opset >= 18 and b.rng.random() < 0.4:
        sizes = b.pick((1, 4, 1, 3), (1, 4, 3, 1), (1, 4, 1, 1))
        b.add("Resize", [x, "", "", b.keep(np.array(sizes), np.int64)], sizes, mode="linear",
              antialias=1, held=False)  # fmt: skip
    else:
        mode = "nearest" if op == "Resize" else "linear"
        where = b.pick("half_pixel", "asymmetric", "align_corners")
        size = b.keep(np.array([1.0, 1.0, *b.pick((2.0, 2.0), (1.5, 2.0))]), np.float32)
        b.add("Resize", [x, "", size], (1, 4, 4, 4), mode=mode, held=False,
              coordinate_transformation_mode=where)  # fmt: skip


@_recipe("GridSample")
def _grid_sample(b: Builder, op: str) -> None:
    x = b.tensor(lambda t: t == (1, 2, 3, 2), (1, 2, 3, 2))
    grid = b.rng.uniform(-1.3, 1.3, (1, 2, 1, 2))
    given = b.keep(np.round(grid * b.pick(4.0, 1e4)) / b.pick(4.0, 1e4), None)
    b.add(op, [x, given], (1, 2, 2, 1), mode=b.pick("linear", "linear", "cubic"),
          padding_mode=b.pick("zeros", "reflection"), align_corners=b.pick(0, 1))  # fmt: skip


@_recipe("RoiAlign")
def _roi_align(b: Builder, op: str) -> None:
    x = b.tensor(lambda t: t == (1, 2, 3, 2), (1, 2, 3, 2))
    ends = np.sort(b.rng.uniform(-0.5, 3.0, (2, 2)), axis=0)
    steps = b.pick(4.0, 1e4)
    rois = b.keep(np.round(ends.reshape(1, 4) * steps) / steps, None)
    given = {"sampling_ratio": b.pick(1, 1, 2), "mode": b.pick("avg", "avg", "max")}
    b.add(op, [x, rois, b.keep(np.zeros(1), np.int64)], (1, 2, 2, 1), output_height=2,
          output_width=1, **given)  # fmt: skip


@_recipe("Upsample")
def _upsample(b: Builder, op: str) -> None:
    b.opset = 9
    x = b.tensor(lambda t: t == (1, 1, 2, 2), (1, 1, 2, 2))
    scales = b.keep(np.array([1.0, 1.0, 2.0, 2.0]), np.float32)
    b.add(op, [x, scales], (1, 1, 4, 4), mode=b.pick("nearest", "linear"))


@_recipe("Einsum")
def _einsum(b: Builder, op: str) -> None:
    i, j, k = b.n(1, 3), b.n(1, 3), _length(b)
    x = b.tensor(lambda t: t == (i, k), (i, k))
    y = b.weights((k, j)) if b.rng.random() < 0.5 else b.tensor(lambda t: t == (k, j), (k, j))
    b.add(op, [x, y], (i, j), equation="ik,kj->ij")


@_recipe("Attention")
def _attention(b: Builder, op: str) -> None:
    s = (1, 1, b.n(1, 3), 2)
    q, k, v = (b.tensor(lambda t: t == s, s) for _ in range(3))
    b.add(op, [q, k, v], s, is_causal=b.n(0, 1))


@_recipe("RotaryEmbedding")
def _rotary(b: Builder, op: str) -> None:
    s = (1, 1, b.n(1, 3), 4)
    x = b.tensor(lambda t: t == s, s)
    angle = b.rng.random((1, s[2], 2))
    b.add(op, [x, b.keep(np.cos(angle)), b.keep(np.sin(angle))], s)


@_recipe("Cast", "Truncate")
def _cast(b: Builder, op: str) -> None:
    x = b.tensor()
    to = TensorProto.INT32 if op == "Truncate" else b.pick(TensorProto.FLOAT16, TensorProto.FLOAT)
    y = b.add("Cast", [x], b.pool[x], to=to, held=False)
    b.add("Cast", [y], b.pool[x], to=CODES[b.dtype])


@_recipe("Narrow")
def _narrow(b: Builder, op: str) -> None:
    x = b.tensor()
    to = b.pick(TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2)
    s = b.pool[x]
    if b.dtype == "float64":
        x = b.add("Cast", [x], s, to=TensorProto.FLOAT, held=False)
    y = b.add("Cast", [x], s, to=to, held=False)
    b.add("Cast", [y], s, to=CODES[b.dtype])


@_recipe("QuantizeLinear", "DequantizeLinear")
def _quantized(b: Builder, op: str) -> None:
    x = b.tensor()
    scale, zero = b.keep(np.float64(b.pick(0.1, 0.5))), b.keep(np.array(b.n(0, 9)), np.uint8)
    y = b.add("QuantizeLinear", [x, scale, zero], b.pool[x], held=False)
    b.add("DequantizeLinear", [y, scale, zero], b.pool[x])


@_recipe("QLinearAdd", "QLinearMul", "QLinearGlobalAveragePool")
def _layers(b: Builder, op: str) -> None:
    x = b.tensor(lambda t: t == (1, 2, 4), (1, 2, 4))
    scale, zero = b.keep(np.array(b.pick(0.1, 0.5))), b.keep(np.array(b.n(0, 9)), np.uint8)
    q = b.add("QuantizeLinear", [x, scale, zero], b.pool[x], held=False)
    pool = "Pool" in op
    inputs = [q, scale, zero, *(() if pool else (q, scale, zero)), scale, zero]
    out = (1, 2, 1) if pool else b.pool[x]
    y = b.add(op, inputs, out, domain="com.microsoft", held=False)
    b.add("DequantizeLinear", [y, scale, zero], out)


@_recipe("QLinearMatMul", "QLinearConv", "QGemm", "MatMulInteger", "ConvInteger",
         "DynamicQuantizeMatMul", "DynamicQuantizeConv")  # fmt: skip
def _integers(b: Builder, op: str) -> None:
    conv = "Conv" in op
    shape = (1, 2, 4) if conv else (2, 4)
    x = b.tensor(lambda t: t == shape, shape)
    scale, zero = b.keep(np.array(0.1)), b.keep(np.array(b.n(0, 9)), np.uint8)
    w_shape = (2, 2, 3) if conv else (4, 3)
    w = b.keep(b.rng.integers(0, 255, w_shape), np.uint8)
    out = (1, 2, 2) if conv else (2, 3)
    if op.startswith("Dynamic"):
        q = b.add("DynamicQuantizeLinear", [x], shape, 3, held=False)
        kind = "ConvInteger" if conv else "MatMulInteger"
        y = b.add(kind, [q, w, f"{q}_2"], out, held=False)
        y = b.add("Cast", [y], out, to=CODES[b.dtype], held=False)
        b.add("Mul", [y, f"{q}_1"], out)
        return
    q = b.add("QuantizeLinear", [x, scale, zero], shape, held=False)
    if op in ("MatMulInteger", "ConvInteger"):
        y = b.add(op, [q, w, zero], out, held=False)
        b.add("Cast", [y], out, to=CODES[b.dtype])
        return
    if op == "QGemm":
        inputs = [q, scale, zero, w, scale, zero, "", scale, zero]
        y = b.add(op, inputs, out, domain="com.microsoft", held=False)
    else:
        y = b.add(op, [q, scale, zero, w, scale, zero, scale, zero], out, held=False)
    b.add("DequantizeLinear", [y, scale, zero], out)


FORMATS = (BINARY16, BFLOAT16, BINARY32, BINARY64, small_format(3, 8), small_format(4, 4),
           small_format(5, 3), small_format(8, 9), small_format(4, 8))  # fmt: skip


DTYPES = (*("float32",) * 6, *("float16",) * 3, "float64", "bfloat16")
LENGTHS = (*(3,) * 6, *(8,) * 6, *(16,) * 4, *(40,) * 3, 200, 600)
FLOAT32_ONLY = ("Q", "Dyn", "Deq", "Conv", "MatMulI", "Celu", "MeanV", "Thre", "Fused", "Bias",
                "Scaler", "Tree", "Grid", "Roi")  # fmt: skip


def random_graph(
    rng: np.random.Generator, first: str | None = None, among: Sequence[str] = ()
) -> onnx.ModelProto:
    """1 to 5 recipes, of those `among`, if given; the first one is `first`, if given. In bfloat16,
    which ONNX does not have for every operator, it is sampled again until it is one."""
    while True:
        model = _sampled(rng, first, among or sorted(RECIPES))
        if all(v.type.HasField("tensor_type") for v in model.graph.output):
            return model
        if any(n.domain for n in model.graph.node):
            return model


def _sampled(rng: np.random.Generator, first: str | None, among: Sequence[str]) -> onnx.ModelProto:
    names = [str(n) for n in rng.choice(among, int(rng.integers(1, 6)))]
    names = [first, *names[1:]] if first is not None else names
    opset = int(rng.choice([13, 17, 18, 21, 23, 24]))
    opset = max([opset, *(SINCE.get(n, 13) for n in names)])
    dtype = str(rng.choice(DTYPES))
    if {"Upsample"} & set(names):
        names, dtype = [n for n in names if n == "Upsample"][:1], "float32"
    b = Builder(rng, opset, dtype, int(rng.choice(LENGTHS)), 1.0)
    if any(n.startswith(FLOAT32_ONLY) for n in names):
        b.dtype = "float32"
    for name in names:
        RECIPES[name](b)
    return model_of(b)


def one_operator(rng: np.random.Generator, name: str) -> onnx.ModelProto:
    """One recipe alone, in float32 and of the newest opset that has it."""
    b = Builder(rng, 9 if name == "Upsample" else 23, "float32", 8, 1.0)
    b.opset = max(b.opset, SINCE.get(name, 0))
    RECIPES[name](b)
    model = model_of(b)
    outputs = list(model.graph.output)
    del model.graph.output[:]
    for value in outputs:  # some of them ONNX's shape inference does not know of
        if value.type.HasField("tensor_type"):
            model.graph.output.append(value)
        elif value.name in b.pool:
            model.graph.output.append(
                helper.make_tensor_value_info(value.name, TensorProto.FLOAT, b.pool[value.name])
            )
    return model


def model_of(b: Builder) -> onnx.ModelProto:
    read = {t for node in b.nodes for t in node.input}
    made = [node.output[0] for node in b.nodes]
    outputs = [t for t in made if t not in read] or made[-1:]
    extra = [t for t in made if t in read]
    if extra and b.rng.random() < 0.2:
        outputs.append(b.pick(*extra))
    code = CODES[b.dtype]
    used = {name: s for name, s in b.inputs.items() if name in read}
    foreign = {n.output[0] for n in b.nodes if n.domain} & set(b.pool)  # which ONNX cannot type
    typed = {t: helper.make_tensor_value_info(t, code, b.pool[t]) for t in foreign}
    graph = helper.make_graph(
        b.nodes,
        "random",
        [helper.make_tensor_value_info(n, code, s) for n, s in used.items()],
        [typed.get(t, onnx.ValueInfoProto(name=t)) for t in dict.fromkeys(outputs)],
        [numpy_helper.from_array(v, n) for n, v in b.stored.items() if n in read],
        value_info=[v for t, v in typed.items() if t not in outputs],
    )
    opsets = [helper.make_opsetid("", b.opset), helper.make_opsetid("com.microsoft", 1),
              helper.make_opsetid("ai.onnx.ml", 3)]  # fmt: skip
    made_model = helper.make_model(graph, opset_imports=opsets)
    made_model.ir_version = 10
    return onnx.shape_inference.infer_shapes(made_model)


def random_contract(rng: np.random.Generator) -> RuntimeContract:
    """A preset, or every field at random."""

    def pick(*choices: Any) -> Any:
        return choices[int(rng.integers(len(choices)))]

    if rng.random() < 0.4:
        contract: RuntimeContract = pick(*(c for c in PRESETS.values() if not c.exact))
        return replace(contract, compute_format=pick(*FORMATS) if rng.random() < 0.4 else None)

    def schedule() -> Schedule:
        order = pick(
            AnyOrder(),
            AnyOrder(23),
            Sequential(),
            Pairwise(),
            Blocked(pick(2, 3, 8)),
            Blocks((2, 3)),
            Lanes(pick(2, 4)),
            Dwindling(pick(2, 4)),
            Strided(pick(2, 4)),
            AlignedSteps(pick(2, 4), pick(12, 23)),
        )
        return Schedule(order, pick(*Contraction), pick(*BiasPlacement))

    s = schedule()
    own = pick(*FORMATS) if rng.random() < 0.6 else None
    some = rng.random(4) < 0.3
    rules = tuple(
        ScheduleRule(schedule(), operator=pick("MatMul", "Gemm", "Conv", "ReduceSum"))
        for _ in range(int(rng.integers(0, 3)))
    )
    return replace(
        IEEE_ANY,
        name="random",
        order=s.order,
        contraction=s.contraction,
        bias=s.bias,
        results=pick(*Subnormals),
        operands=pick(*Subnormals),
        normalization=pick(*Normalization),
        compute_format=own,
        accumulation=pick(BINARY32, BINARY64, small_format(5, 8)) if some[0] else None,
        stored_format=pick(BINARY16, BFLOAT16, small_format(4, 4)) if some[1] else None,
        factor_format=pick(TENSOR_FLOAT_32, BFLOAT16) if some[2] else None,
        factor_rounding=pick(*FactorRounding),
        functions=pick(*TABLES.values()),
        rules=rules if some[3] else (),
    )
