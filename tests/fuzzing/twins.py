"""TorchLean graphs and FPCore kernels, each written twice: in its own format, and as an ONNX model
for the interpreter. The bound of the one is held against executions of the other.

`python tests/fuzzing/twins.py SECONDS [FOLDER] [SEED]` tries for so long.
"""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import flint
import numpy as np
import onnx
from graphs import CODES, random_contract
from interpreter import interpret
from machine import Machine, habits, nearest
from model_building import Building
from onnx import helper, numpy_helper
from reading import Unread
from reals import BITS, Open, Reals
from running import from_command_line, fuzzed
from trial import Finding, above, balls_of, misread, odd, range_of

from encoders.contract.contract import RuntimeContract
from encoders.numbers.formats import FORMAT_OF_DTYPE, FloatFormat
from onnx_import import load
from onnx_import.errors import ModelError
from refine.claims.kinds.accuracy import check
from refine.claims.options import Options
from refine.domain.box import Box
from refine.domain.domain import Domain
from refine.lemmas.cache import default_directory
from refine.results.verdict import Result, Tolerance

Array = Any
SAMPLES = 4
EXECUTIONS = 3


@dataclass
class Twin(Building):
    """A file's name and text, and the model that means the same. `inputs` are the shapes of those
    of both; `numbers` are inputs of the model alone that hold rationals."""

    rng: np.random.Generator
    dtype: str = "float32"
    file: str = ""
    text: str = ""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    stored: dict[str, Array] = field(default_factory=dict)
    inputs: dict[str, tuple[int, ...]] = field(default_factory=dict)
    numbers: dict[str, Fraction] = field(default_factory=dict)

    def pick(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def model(self) -> onnx.ModelProto:
        code = CODES[self.dtype]
        shapes = {**self.inputs, **dict.fromkeys(self.numbers, ())}
        graph = helper.make_graph(
            self.nodes,
            "twin",
            [helper.make_tensor_value_info(n, code, s) for n, s in shapes.items()],
            [onnx.ValueInfoProto(name=self.nodes[-1].output[0])],
            [numpy_helper.from_array(v, n) for n, v in self.stored.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return onnx.shape_inference.infer_shapes(model)


# FPCore


UNARY = {
    "-": "Neg", "sqrt": "Sqrt", "fabs": "Abs", "exp": "Exp", "log": "Log", "sin": "Sin",
    "cos": "Cos", "tanh": "Tanh", "erf": "Erf",
}  # fmt: skip
BINARY = {"+": "Add", "-": "Sub", "*": "Mul", "/": "Div", "fmin": "Min", "fmax": "Max"}
RELATIONS = {"<": "Less", "<=": "LessOrEqual", ">": "Greater", ">=": "GreaterOrEqual"}


def fpcore_twin(rng: np.random.Generator) -> Twin:
    """A kernel of up to three arguments; a repeated expression is computed once in both."""
    t = Twin(rng, dtype=str(rng.choice(["float32", "float64"])), file="kernel.fpcore")
    known: dict[str, str] = {}
    names = ["x", "y", "z"][: int(rng.integers(1, 4))]
    t.inputs = dict.fromkeys(names, ())

    def number() -> tuple[str, str]:
        text = t.pick("0.1", "1/3", "2", "0.5", "-1.25", "1e-3", "0x1.8p1", "7/10", "3.14159")
        value = Fraction(3) if text == "0x1.8p1" else Fraction(text)
        if text not in known:
            known[text] = f"q{len(t.numbers)}"
            t.numbers[known[text]] = value
        return text, known[text]

    def made(text: str, op: str, inputs: list[str]) -> tuple[str, str]:
        if text not in known:
            known[text] = t.add(op, inputs)
        return text, known[text]

    def expression(depth: int, computed: bool = False) -> tuple[str, str]:
        if depth == 0 or rng.random() < 0.1:
            name = t.pick(*names)
            return (name, name) if computed or rng.random() < 0.7 else number()
        kind = rng.random()
        if kind < 0.3:
            head = t.pick(*UNARY)
            text, tensor = expression(depth - 1, computed=True)
            if head in ("sqrt", "log") and rng.random() < 0.8:
                text, tensor = made(f"(fabs {text})", "Abs", [tensor])
                held, one = number()
                text, tensor = made(f"(+ {text} (fabs {held}))", "Add",
                                    [tensor, made(f"(fabs {held})", "Abs", [one])[1]])  # fmt: skip
            return made(f"({head} {text})", UNARY[head], [tensor])
        if kind < 0.9:
            head = t.pick(*BINARY)
            (a, left), (b, right) = expression(depth - 1, True), expression(depth - 1)
            return made(f"({head} {a} {b})", BINARY[head], [left, right])
        head = t.pick(*RELATIONS)
        (a, left), (b, right) = expression(depth - 1, True), expression(depth - 1)
        (c, yes), (d, no) = expression(depth - 1, True), expression(depth - 1, True)
        _, test = made(f"({head} {a} {b})", RELATIONS[head], [left, right])
        return made(f"(if ({head} {a} {b}) {c} {d})", "Where", [test, yes, no])

    text, tensor = expression(int(rng.integers(1, 5)))
    if not t.nodes or t.nodes[-1].output[0] != tensor:
        t.add("Identity", [tensor])
    precision = {"float32": "binary32", "float64": "binary64"}[t.dtype]
    t.text = f"(FPCore ({' '.join(names)}) :precision {precision} {text})"
    return t


# TorchLean


def torchlean_twin(rng: np.random.Generator) -> Twin:
    """A chain of layers, with sums of two of them here and there, on a batch of vectors."""
    t = Twin(rng, file="graph.json")
    rows, width = int(rng.integers(1, 3)), int(rng.choice([2, 3, 4, 8, 40]))
    t.inputs = {"x": (rows, width)}
    nodes: list[dict[str, Any]] = []
    pool: list[tuple[int, str, tuple[int, ...]]] = []

    def numbers(*shape: int, positive: bool = False) -> Array:
        made = rng.standard_normal(shape).astype(np.float32)
        return np.abs(made) + np.float32(0.25) if positive else made

    def emit(kind: str, parents: list[int], tensor: str, shape: Any, **more: Any) -> None:
        plain = {k: v.astype(float).tolist() if isinstance(v, np.ndarray) else v
                 for k, v in more.items()}  # fmt: skip
        nodes.append({"id": len(nodes), "kind": kind, "parents": parents, "shape": [*shape],
                      **plain})  # fmt: skip
        pool.append((len(nodes) - 1, tensor, tuple(shape)))

    emit("input", [], "x", (rows, width), value_kind="tensor")
    for _ in range(int(rng.integers(1, 6))):
        at, x, shape = pool[-1]
        kind = t.pick(
            "linear", "linear", "relu", "tanh", "sigmoid", "exp", "abs", "softmax", "reduce_sum",
            "reduce_mean", "layernorm", "batch_norm_eval", "add", "sub", "mul_elem", "max_elem",
            "permute", "concat", "const",
        )  # fmt: skip
        one = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "exp": "Exp", "abs": "Abs"}
        two = {"add": "Add", "sub": "Sub", "mul_elem": "Mul", "max_elem": "Max"}
        if kind == "linear":
            m = int(rng.integers(1, 5))
            w, b = numbers(m, shape[1]), numbers(m)
            y = t.add("Gemm", [x, t.keep(w), t.keep(b)], transB=1)
            emit(kind, [at], y, (shape[0], m), in_dim=shape[1], out_dim=m, weight=w, bias=b)
        elif kind in one:
            emit(kind, [at], t.add(one[kind], [x]), shape)
        elif kind in two:
            same = [p for p in pool if p[2] == shape]
            other = same[int(rng.integers(len(same)))]
            emit(kind, [at, other[0]], t.add(two[kind], [x, other[1]]), shape)
        elif kind == "const":
            values = numbers(*shape)
            held = t.keep(values)
            emit(kind, [], held, shape, value_shape=[*shape], values=values.ravel())
            pool.pop()
            y = t.add("Add", [x, held])
            emit("add", [at, len(nodes) - 1], y, shape)
        elif kind == "softmax":
            axis = int(rng.integers(2))
            emit(kind, [at], t.add("Softmax", [x], axis=axis), shape, axis=axis)
        elif kind in ("reduce_sum", "reduce_mean"):
            axis = int(rng.integers(2))
            axes = t.keep(np.array([axis], np.int64))
            kept = tuple(1 if i == axis else v for i, v in enumerate(shape))
            if kind == "reduce_sum":
                y = t.add("ReduceSum", [x, axes], keepdims=1)
            else:
                del t.stored[axes]
                y = t.add("ReduceMean", [x], axes=[axis], keepdims=1)
            emit(kind, [at], y, kept, axes=[axis], keepdim=True)
        elif kind == "layernorm":
            gamma, beta, eps = numbers(shape[1]), numbers(shape[1]), t.pick(0.25, 2.0**-10)
            y = t.add("LayerNormalization", [x, t.keep(gamma), t.keep(beta)], axis=1, epsilon=eps)
            emit(kind, [at], y, shape, axis=1, eps=eps, gamma=gamma, beta=beta)
        elif kind == "batch_norm_eval":
            c = shape[1]
            parts = [numbers(c), numbers(c), numbers(c), numbers(c, positive=True)]
            names = dict(zip(("gamma", "beta", "mean", "var"), parts, strict=True))
            y = t.add("BatchNormalization", [x, *map(t.keep, parts)], epsilon=0.25)
            emit(kind, [at], y, shape, channel_axis=1, channels=c, eps=0.25, **names)
        elif kind == "permute":
            emit(kind, [at], t.add("Transpose", [x], perm=[1, 0]), shape[::-1], perm=[1, 0])
        else:
            y = t.add("Concat", [x, x], axis=1)
            emit(kind, [at, at], y, (shape[0], 2 * shape[1]), axis=1)
    t.text = json.dumps({"format": "torchlean.ir.v1", "input_id": 0,
                         "output_ids": [len(nodes) - 1], "nodes": nodes})  # fmt: skip
    return t


# Judging


def twin_of(seed: int) -> tuple[Twin, RuntimeContract]:
    rng = np.random.default_rng(seed)
    twin = (fpcore_twin if seed % 2 else torchlean_twin)(rng)
    return twin, random_contract(rng)


def judged(twin: Twin, contract: RuntimeContract, seed: int) -> tuple[str, list[Finding]]:
    rng = np.random.default_rng(seed + 1)
    try:
        result, points = _bounded(twin, contract, rng)
    except ModelError as error:
        return ("refused: " + str(error))[:200], []
    except Exception as error:  # whatever escapes is a finding
        return "crashed", [Finding("crash", f"{type(error).__name__}: {error}")]
    saved, flint.ctx.prec = flint.ctx.prec, BITS
    try:
        with np.errstate(all="ignore"):
            return result.verdict.value, [*odd(result), *_exceeded(twin, contract, result, points)]
    except Unread as error:
        return f"unread: {error}", []
    except Open:
        return "open", []
    finally:
        flint.ctx.prec = saved


def _bounded(
    twin: Twin, contract: RuntimeContract, rng: np.random.Generator
) -> tuple[Result, dict[str, Array]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / twin.file
        path.write_text(twin.text)
        graph = load(path)
    formats = {n: contract.format_of(graph.types[n].dtype) for n in graph.inputs}
    lo, hi, points = {}, {}, {}
    kernel = twin.file.endswith("fpcore")
    given = dict(twin.inputs) if kernel else {graph.inputs[0]: twin.inputs["x"]}
    for name, shape in given.items():
        fmt = formats.get(name, FORMAT_OF_DTYPE[next(iter(graph.types.values())).dtype])
        low, high = range_of(rng, shape, fmt)
        if name in formats:
            lo[name], hi[name] = low, high
        inside = nearest(low + rng.random((SAMPLES - 1, *shape)) * (high - low), fmt)
        points[name] = np.concatenate([np.clip(inside, low, high), high[None]])
    box = Box(lo, hi, lo, hi, formats)
    options = Options(None, default_directory(), search=False)
    result = check(graph, Domain((box,), "random"), contract, Tolerance(), options)
    if not kernel:
        points = {"x": next(iter(points.values()))}
    return result, points


def _exceeded(
    twin: Twin, contract: RuntimeContract, result: Result, points: dict[str, Array]
) -> list[Finding]:
    rng = np.random.default_rng(0)
    model, reals = twin.model(), Reals()
    output = twin.nodes[-1].output[0]
    ((name, bound),) = result.bounds.items()
    fmt = contract.compute_format or FORMAT_OF_DTYPE[result.graph.types[name].dtype]
    numbers = {n: _ball(q) for n, q in twin.numbers.items()}
    exact = interpret(model, {**{n: reals.ball(v) for n, v in points.items()}, **numbers}, reals)
    inputs = result.graph.inputs
    given = points if len(points) > 1 else dict(zip(inputs, points.values(), strict=True))
    if misread(result.graph, given, {name: exact[output]}):
        return [Finding("misread", twin.text[:2000])]
    held = {n: np.array([_held(q, contract, fmt)]) for n, q in twin.numbers.items()}
    for _ in range(EXECUTIONS):
        habit = habits(rng)
        ran = interpret(model, {**points, **held}, Machine(fmt, contract, rng, habit))[output]
        finding = above(name, balls_of(exact[output]), ran, np.asarray(bound))
        if finding is not None:
            return [Finding(finding.kind, f"{finding.text}; {habit}; {twin.text[:2000]}")]
    return []


def _ball(q: Fraction) -> Array:
    made = np.empty(1, dtype=object)
    made[0] = flint.arb(flint.fmpq(q.numerator, q.denominator))
    return made


def _held(q: Fraction, contract: RuntimeContract, fmt: FloatFormat) -> float:
    """A stored number: rounded to the format of weights first, then to that of the tensors."""
    first = contract.stored_format or fmt
    return float(nearest(np.float64(_nearest(q, first)), fmt))


def _nearest(q: Fraction, fmt: FloatFormat) -> float:
    """To nearest, ties to even, from the rational itself."""
    if q == 0 or fmt.precision >= 53:
        return float(q)
    exponent = max(math.floor(math.log2(abs(q))), fmt.emin)
    unit = Fraction(2) ** (exponent - fmt.precision + 1)
    return float(nearest(np.float64(round(q / unit) * unit), fmt))


def main(seconds: float, folder: Path, seed: int) -> int:
    """How many findings there were."""

    def tried(seed: int) -> tuple[str, list[Finding]]:
        twin, contract = twin_of(seed)
        word, findings = judged(twin, contract, seed)
        return f"{twin.file} {word}", findings

    def keep(seed: int, finding: Finding) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        twin, _ = twin_of(seed)
        (folder / f"{seed}-{twin.file}").write_text(twin.text)

    return fuzzed(seconds, seed, tried, keep)


if __name__ == "__main__":
    from_command_line(main)
