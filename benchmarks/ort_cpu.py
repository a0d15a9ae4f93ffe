"""Preset `ort-cpu` against onnxruntime (optimisations off, one thread): is its error ever larger?

One model per operator and class of shapes, in float32. Each is bounded over a box of numbers from
-1 to 1 and over small balls around numbers of alternating sign, in which sums cancel; onnxruntime
runs on points of each. `ratio` is its largest error over the bound, above 1 a wrong preset. Bits:
how many layers `refine conform` finds equal, inside their bounds where the contract leaves the sum
open, and outside. Errors are those against the real network in extended precision.

    python benchmarks/ort_cpu.py [WORDS ...]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from rich.table import Table

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import ORT_CPU
from encoders.numbers.enclosure import FloatArray, Interval
from gpu_check.conformance.conformance import BRIEF, How, conformance
from gpu_check.emulator.exact import evaluate_real
from gpu_check.runtimes.runtimes import OnnxRuntime
from onnx_import import load
from onnx_import.errors import ModelError
from onnx_import.graph import Graph
from refine.bounds.network import InputBox, network_bounds
from refine.options.runtime_choice import machine, runtime_choice

LENGTHS = (2, 7, 8, 16, 17, 64, 128, 257, 1000, 4096)
POINTS, BALLS, RADIUS = 24, 6, 1e-6
_OPSET = 17


@dataclass(frozen=True)
class Case:
    """A model with the input `x` and the output `y`: nodes as text, and what they store."""

    row: str
    shape: str
    nodes: tuple[onnx.NodeProto, ...]
    x: tuple[int, ...]
    stored: Mapping[str, Any]
    opset: int = _OPSET

    def __str__(self) -> str:
        return f"{self.row} {self.shape}"


@dataclass(frozen=True)
class Held:
    """What one case gave: the worst ratio of error to bound, that error, and layers by bits."""

    ratio: float
    error: float
    equal: int
    inside: int
    outside: int


def node(op: str, *inputs: str, to: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [to], f"{op.lower()} of {to}", **attributes)


def reductions() -> Iterator[Case]:
    layouts: dict[str, tuple[Callable[[int], tuple[int, ...]], tuple[int, ...]]] = {
        "all": (lambda n: (n,), (0,)),
        "last": (lambda n: (3, n), (1,)),
        "first": (lambda n: (n, 3), (0,)),
        "mid": (lambda n: (2, n, 3), (1,)),
        "outer+inner": (lambda n: (2, 3, (n + 1) // 2), (0, 2)),
    }
    for op in ("Sum", "Mean", "L1", "L2", "SumSquare", "LogSum", "LogSumExp"):
        for where, (shape, axes) in layouts.items():
            for n in LENGTHS:
                x = shape(n)
                if op in ("Sum", "LogSum"):
                    kept: dict[str, Any] = {"a": np.array(axes)}
                    reduce = node(f"Reduce{op}", "v", "a", keepdims=0)
                else:
                    reduce, kept = node(f"Reduce{op}", "v", axes=axes, keepdims=0), {}
                before = node("Abs", "x", to="v") if op == "LogSum" else node("Neg", "x", to="v")
                opset = 18 if op == "LogSum" else _OPSET
                yield Case(f"Reduce{op} {where}", f"n={n}", (before, reduce), x, kept, opset)
    for n in LENGTHS:
        yield Case("GlobalAveragePool", f"n={n}", (node("GlobalAveragePool", "x"),), (1, 2, n), {})
        whole = node("AveragePool", "x", kernel_shape=[n])
        yield Case("AveragePool whole", f"n={n}", (whole,), (1, 2, n), {})
    pools: tuple[tuple[str, dict[str, Any]], ...] = (
        ("AveragePool", {"count_include_pad": 1}),
        ("LpPool", {"p": 2}),
    )
    for k in (2, 3, 5):
        for op, more in pools:
            pool = node(op, "x", kernel_shape=[k, k], pads=[1] * 4, **more)
            yield Case(op, f"{k}x{k}", (pool,), (1, 2, 7, 7), {})
    for n in (2, 3, 9):
        names = [f"v{i}" for i in range(n)]
        scaled = [node("Mul", "x", f"c{i}", to=name) for i, name in enumerate(names)]
        kept = {f"c{i}": np.float32(1 + i / 7) for i in range(n)}
        for op in ("Sum", "Mean"):
            yield Case(f"{op} of {n}", "", (*scaled, node(op, *names)), (9,), kept)


def products(rng: np.random.Generator) -> Iterator[Case]:
    sizes = [(m, k, n) for m in (1, 3) for k in (8, 128, 257, 1000) for n in (1, 4, 20, 40, 70)]

    def sampled(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(np.float32)

    for m, k, n in sizes:
        size = f"M={m} K={k} N={n}"
        w, b = sampled(k, n), sampled(n)
        right, plain = (node("MatMul", "x", "w"),), (node("Gemm", "x", "w"),)
        yield Case("MatMul const right", size, right, (m, k), {"w": w})
        yield Case("MatMul batch, const right", size, right, (2, m, k), {"w": w})
        yield Case("MatMul batch of weights", size, right, (2, m, k), {"w": sampled(2, k, n)})
        yield Case("MatMul vector left", size, right, (k,), {"w": w})
        yield Case(
            "MatMul const left", size, (node("MatMul", "w", "x"),), (k, n), {"w": sampled(m, k)}
        )
        computed = node("Transpose", "v", to="w")
        yield Case("MatMul computed right", size, (computed, *right), (m, k), {"v": w.T})
        both = (node("Mul", "x", "c", to="w"), node("MatMul", "x", "u", to="z"))
        square = (*both, node("MatMul", "w", "z"))
        yield Case(
            "MatMul both vary", size, square, (k, k), {"c": sampled(k, k), "u": sampled(k, n)}
        )
        yield Case("Gemm", size, (node("Gemm", "x", "w", "b"),), (m, k), {"w": w, "b": b})
        yield Case("Gemm no bias", size, plain, (m, k), {"w": w})
        for a, t in ((0.3, 0), (1.0, 1)):
            gemm = node("Gemm", "x", "w", "b", alpha=a, beta=0.7, transA=t, transB=t)
            kept = {"w": w.T if t else w, "b": b}
            yield Case(f"Gemm alpha={a} trans={t}", size, (gemm,), (k, m) if t else (m, k), kept)
        made = (computed, node("Gemm", "x", "w", "b"))
        yield Case("Gemm computed weights", size, made, (m, k), {"v": w.T, "b": b})
        for text, x, shape in (
            ("ij,jk->ik", (m, k), (k, n)),
            ("ij,j->i", (n, k), (k,)),
            ("bij,bjk->bik", (2, m, k), (2, k, n)),
        ):
            einsum = node("Einsum", "x", "w", equation=text)
            yield Case(f"Einsum {text}", size, (einsum,), x, {"w": sampled(*shape)})


def convolutions(rng: np.random.Generator) -> Iterator[Case]:
    kinds = [
        (c, s, m, k, g)
        for c, m, g in ((3, 8, 1), (16, 16, 1), (16, 16, 16), (16, 32, 16), (16, 8, 2), (64, 1, 1))
        for s in (1, 2, 4, 6, 9)
        for k in (1, 3)
    ]
    kinds += [(512, s, 8, 1, 1) for s in (1, 3, 5, 9)] + [(32, 8, 32, 3, 32), (300, 2, 4, 3, 1)]
    for c, s, m, k, g in kinds:
        size = f"C={c} S={s} M={m} k={k} group={g}"
        b = rng.standard_normal(m).astype(np.float32)
        for rank in (1, 2, 3):
            if rank != 2 and (c > 16 or s > 6):
                continue
            w = rng.standard_normal((m, c // g, *(k,) * rank)).astype(np.float32)
            conv = node("Conv", "x", "w", "b", group=g, pads=[k // 2] * (2 * rank))
            yield Case(f"Conv{rank}D", size, (conv,), (1, c, *(s,) * rank), {"w": w, "b": b})
        w = rng.standard_normal((c, m // g, k, k)).astype(np.float32)
        back = node("ConvTranspose", "x", "w", "b", group=g, strides=[2, 2])
        if c <= 16 and s <= 4:
            yield Case("ConvTranspose", size, (back,), (1, c, s, s), {"w": w, "b": b})


def matrices_as_they_are() -> Iterator[Case]:
    """A matrix in a batch of one, and images that are their own matrix."""
    rng = np.random.default_rng(1)

    def sampled(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(np.float32)

    product, conv = (node("MatMul", "x", "w"),), (node("Conv", "x", "w"),)
    for n in (1, 5):
        size = f"K=33 N={n}"
        yield Case(f"MatMul batch of 1 {n}", size, product, (8, 1, 33), {"w": sampled(1, 33, n)})
        deep = {"w": sampled(1, 1, 33, n)}
        yield Case(f"MatMul deep batch of 1 {n}", size, product, (8, 1, 33), deep)
        left, turned = {"w": sampled(8, 1, 33)}, (node("MatMul", "w", "x"),)
        yield Case(f"MatMul of a batch of 1 {n}", size, turned, (1, 33, n), left)
    for m, rows in ((1, 2), (1, 6), (4, 2), (4, 6)):
        size = f"M={m} rows={rows}"
        stored = {"w": sampled(m, 1, rows, 5)}
        yield Case(f"Conv2D whole rows {m} {rows}", size, conv, (1, 1, 6, 5), stored)
        line = {"w": sampled(m, 1, 5 * rows)}
        yield Case(f"Conv1D whole rows {m} {rows}", size, conv, (1, 1, 5 * rows), line)


def determinants() -> Iterator[Case]:
    for n in (*range(1, 6), 8, 10):
        yield Case("Det", f"n={n}", (node("Det", "x"),), (2, n, n), {})


def normalizations(rng: np.random.Generator) -> Iterator[Case]:
    for n in LENGTHS[:-1]:
        g, b, m = (rng.standard_normal(4).astype(np.float32) for _ in range(3))
        kept = {"g": g, "b": b, "m": m, "v": (np.abs(m) + 0.5).astype(np.float32)}
        x = (2, 4, max(n // 16, 1))
        batch = node("BatchNormalization", "x", "g", "b", "m", "v")
        yield Case("BatchNormalization", f"n={n}", (batch,), x, kept)
        some = {"g": g, "b": b}
        instance = node("InstanceNormalization", "x", "g", "b")
        yield Case("InstanceNormalization", f"n={n}", (instance,), (1, 4, n), some)
        row = {k: rng.standard_normal(n).astype(np.float32) for k in ("g", "b")}
        layer = node("LayerNormalization", "x", "g", "b")
        yield Case("LayerNormalization", f"n={n}", (layer,), (2, n), row)
        root = node("RMSNormalization", "x", "g")
        yield Case("RMSNormalization", f"n={n}", (root,), (2, n), {"g": row["g"]}, 23)
        group = node("GroupNormalization", "x", "g", "b", num_groups=2)
        yield Case("GroupNormalization", f"n={n}", (group,), (1, 4, n), some, 21)
        for op in ("Softmax", "LogSoftmax"):
            for axis in (0, 1):
                given = (n, 3) if axis == 0 else (3, n)
                row_of = node(op, "x", axis=axis)
                yield Case(f"{op} axis {axis}", f"n={n}", (row_of,), given, {})
    for size in (1, 3, 5):
        yield Case("LRN", f"size={size}", (node("LRN", "x", size=size),), (1, 7, 3, 3), {})


def functions() -> Iterator[Case]:
    plain: tuple[str, ...] = ("Abs", "Celu", "Cos", "Elu", "Erf", "Exp", "HardSigmoid")
    plain += ("HardSwish", "LeakyRelu")
    plain += ("Neg", "Relu", "Selu", "Sigmoid", "Sin", "Softplus", "Softsign", "Tanh", "Mish")
    plain += ("Gelu",)
    newer = {"Mish": 18, "Gelu": 20}
    for n in (3, 17, 1000):
        for op in plain:
            opset = newer.get(op, _OPSET)
            yield Case(op, f"n={n}", (node(op, "x"),), (n,), {}, opset)
        tanh = node("Gelu", "x", approximate="tanh")
        yield Case("Gelu tanh", f"n={n}", (tanh,), (n,), {}, 20)
        away = node("Add", "x", "c", to="v")
        for op in ("Log", "Sqrt", "Reciprocal"):
            yield Case(op, f"n={n}", (away, node(op, "v")), (n,), {"c": np.float32(1.5)})
        power = (away, node("Pow", "v", "e"))
        yield Case("Pow", f"n={n}", power, (n,), {"c": np.float32(1.5), "e": np.float32(1.7)})
        for op in ("Add", "Sub", "Mul", "Div", "PRelu"):
            yield Case(op, f"n={n}", (node(op, "x", "c"),), (n,), {"c": np.float32(0.3)})
    wide = node("Resize", "x", "", "s", mode="linear")
    for scale in (1.5, 2.0, 3.7):
        kept = {"s": np.array([1, 1, scale, scale], np.float32)}
        yield Case("Resize linear", f"{scale:g}", (wide,), (1, 1, 4, 5), kept)


def cases(seed: int = 0) -> list[Case]:
    rng = np.random.default_rng(seed)
    sums = (*reductions(), *products(rng), *convolutions(rng), *normalizations(rng))
    return [*sums, *functions(), *determinants(), *matrices_as_they_are()]


def write(case: Case, path: Path) -> Path:
    shape = list(case.x)
    body = helper.make_graph(
        list(case.nodes),
        "case",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in case.stored.items()],
    )
    opsets = [helper.make_opsetid("", case.opset)]
    model = helper.make_model(body, opset_imports=opsets, ir_version=8)
    model = onnx.shape_inference.infer_shapes(model)
    for value in model.graph.output:
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    onnx.save(model, path)
    return path


def held(
    case: Case,
    path: Path,
    contract: RuntimeContract = ORT_CPU,
    seed: int = 0,
    count: int = POINTS,
) -> Held:
    """The case's bounds beside what onnxruntime does. Raises ModelError for what is refused."""
    graph, runtime = load(write(case, path)), OnnxRuntime(path)
    rng = np.random.default_rng(seed)
    whole = Interval(np.full(case.x, -1.0), np.full(case.x, 1.0))
    inside = rng.uniform(-1, 1, (count, *case.x)).astype(np.float32)
    domains = [(whole, inside)]
    for _ in range(BALLS):
        signs = np.where(np.arange(np.prod(case.x)) % 2, -1.0, 1.0).reshape(case.x)
        centre = (signs * rng.uniform(0.5, 1.0, case.x)).astype(np.float32).astype(np.float64)
        ball = Interval(centre - RADIUS, centre + RADIUS)
        domains.append((ball, centre[None].astype(np.float32)))
    worst, largest = 0.0, 0.0
    for box, points in domains:
        found = network_bounds(graph, InputBox({"x": box}, {"x": np.zeros(case.x)}), contract)
        error = _errors(graph, runtime, points)
        bound = found.errors["y"]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(error > 0, error / bound, 0.0)
        worst, largest = max(worst, float(np.max(ratio))), max(largest, float(np.max(error)))
    with machine(runtime_choice("onnxruntime"), graph) as one:
        seen = conformance(
            graph, one, contract, samples=[{"x": v} for v in inside[:4]], depth=BRIEF
        )
    outside = sum(n.divergence is not None for n in seen.nodes)
    counted = [n.how for n in seen.nodes if n.divergence is None]
    return Held(worst, largest, counted.count(How.BITS), counted.count(How.ENCLOSURE), outside)


def _errors(graph: Graph, runtime: OnnxRuntime, points: Any) -> FloatArray:
    """onnxruntime's distance from the real network, the largest at each element of the output."""
    field = ApproximateReals(wide=True)
    worst = np.zeros(graph.types["y"].shape)
    for x in points:
        real = evaluate_real(graph, {"x": field.constant(x)}, field)["y"][0]
        given = np.asarray(runtime.run({"x": x})["y"]).astype(np.longdouble)
        worst = np.maximum(worst, np.abs(given - real).astype(np.float64))
    return worst


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="only cases whose name has one of these")
    words = parser.parse_args(arguments).words
    table = Table(title="ort-cpu beside onnxruntime")
    for title in ("operator", "cases", "OUTSIDE", "worst ratio", "bits", "open", "bits differ"):
        table.add_column(title)
    rows: dict[str, list[tuple[Case, Held]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for case in cases():
            if words and not any(word in str(case) for word in words):
                continue
            try:
                found = held(case, Path(folder) / "model.onnx")
            except ModelError as error:
                print(case, error, flush=True)
                continue
            if case.row not in rows:
                print(f"… {case.row}", file=sys.stderr, flush=True)
            rows.setdefault(case.row, []).append((case, found))
            if found.ratio > 1 or found.outside:
                print(case, found, flush=True)
    for row, pairs in rows.items():
        every = [h for _, h in pairs]
        table.add_row(
            row,
            str(len(every)),
            str(sum(h.ratio > 1 for h in every)),
            f"{max(h.ratio for h in every):.2f}",
            *(str(sum(getattr(h, n) for h in every)) for n in ("equal", "inside", "outside")),
        )
    total = [h for pairs in rows.values() for _, h in pairs]
    exceeded = sum(h.ratio > 1 for h in total)
    Console(width=120).print(table)
    print(f"{len(total)} models, {exceeded} OUTSIDE")
    return 1 if exceeded else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
