"""Relative precision: NumFuzz's programs beside its figures, and executions held to the bounds.

    python benchmarks/relative.py [--executions N] [--save FILE]

The programs are built here as ONNX graphs in float64, inputs in [0.1, 1000]: their mathematics, not
their text. NumFuzz (Kellison & Hsu 2024, PLDI) bounds the relative precision |ln(x̂/x)| of rounding
upwards, in steps of 2u where rounding to nearest takes u; its figures are the published ones, those
of its matrix products and long sums as they were measured for this project. `at most` is what a row
here has to reach; the exit code is 1 if one does not. Seconds are those of a processor.

Then the same programs, and ones with softmax, attention and the denominators of normalisations, in
float32: at least N executions of outputs each, by several schedules and with subnormal numbers kept
and flushed, are held to the relative bound and to the rtol and atol of what may be 0.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from measuring import save
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from rich.table import Table

import refine
from encoders.contract.contract import BiasPlacement, RuntimeContract, Subnormals
from encoders.contract.presets import IEEE_ANY, PAIRWISE, SEQUENTIAL, SEQUENTIAL_FMA
from gpu_check.emulator.emulator import emulate
from onnx_import.graph import Array
from refine.results.relative import RelativeFigures

FMA = replace(SEQUENTIAL_FMA, name="sequential-fma-bias-first", bias=BiasPlacement.FIRST)
FLUSHING = replace(PAIRWISE, results=Subnormals.FLUSH, operands=Subnormals.FLUSH)
WIDE = ("0.1", "1000")
_NEARLY = 1.0 + 2.0**-30  # figures are compared as they are, but for the last digits
_SLACK = 2.0**-45  # what the reference in float64 may be off by, relatively


@dataclass(frozen=True)
class Program:
    """A graph of a type, its contract, the ranges of its inputs, and NumFuzz's figure and seconds.

    `at_most` is in units of u = 2^−53.
    """

    name: str
    build: Callable[[int], onnx.ModelProto]
    contract: RuntimeContract = IEEE_ANY
    numfuzz: float | None = None
    numfuzz_seconds: float | None = None
    at_most: float | None = None
    ranges: Mapping[str, tuple[str, str]] | None = None

    def domain(self, model: onnx.ModelProto) -> dict[str, str]:
        """By input, as the command line takes it."""
        given = self.ranges or {}
        ends = {i.name: given.get(i.name, WIDE) for i in model.graph.input}
        return {name: f"{lo}..{hi}" for name, (lo, hi) in ends.items()}


def written(
    elem: int,
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int]],
    output: Sequence[int],
    **constants: Any,
) -> onnx.ModelProto:
    """A model of one floating-point type, output y; constants of int64 stay what they are."""
    floats = helper.tensor_dtype_to_np_dtype(elem)
    stored = []
    for name, value in constants.items():
        array = np.asarray(value)
        array = array if array.dtype == np.int64 else array.astype(floats)
        stored.append(numpy_helper.from_array(array, name))
    graph = helper.make_graph(
        list(nodes),
        "program",
        [helper.make_tensor_value_info(n, elem, list(s)) for n, s in inputs.items()],
        [helper.make_tensor_value_info("y", elem, list(output))],
        stored,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class _Formula:
    """Nodes written one after the other, named as they come."""

    def __init__(self, elem: int, *inputs: str, **constants: Any) -> None:
        self.elem, self.inputs, self.constants = elem, inputs, constants
        self.nodes: list[onnx.NodeProto] = []

    def do(self, op: str, *read: str) -> str:
        written = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(read), [written]))
        return written

    def model(self, last: str) -> onnx.ModelProto:
        nodes = [*self.nodes, helper.make_node("Identity", [last], ["y"])]
        inputs = dict.fromkeys(self.inputs, (1, 1))
        return written(self.elem, nodes, inputs, (1, 1), **self.constants)


def horner(degree: int) -> Callable[[int], onnx.ModelProto]:
    """a₀ + x·(a₁ + x·(…)), one fused multiply-add a step."""

    def build(elem: int) -> onnx.ModelProto:
        f = _Formula(elem, "x", *(f"a{k}" for k in range(degree + 1)))
        total = f"a{degree}"
        for k in range(degree - 1, -1, -1):
            total = f.do("Gemm", total, "x", f"a{k}")
        return f.model(total)

    return build


def polynomial(degree: int) -> Callable[[int], onnx.ModelProto]:
    """Σ aₖ·xᵏ, powers by repeated multiplication, from the highest term down."""

    def build(elem: int) -> onnx.ModelProto:
        f = _Formula(elem, "x", *(f"a{k}" for k in range(degree + 1)))
        powers = ["x"]
        for _ in range(degree - 1):
            powers.append(f.do("Mul", powers[-1], "x"))
        terms = [f.do("Mul", f"a{k}", powers[k - 1]) for k in range(degree, 0, -1)]
        total = terms[0]
        for term in (*terms[1:], "a0"):
            total = f.do("Add", total, term)
        return f.model(total)

    return build


def total(terms: int) -> Callable[[int], onnx.ModelProto]:
    def build(elem: int) -> onnx.ModelProto:
        node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=1)
        return written(elem, [node], {"x": (1, terms)}, (1, 1), axes=np.array([1], np.int64))

    return build


def matrices(size: int) -> Callable[[int], onnx.ModelProto]:
    def build(elem: int) -> onnx.ModelProto:
        node = helper.make_node("MatMul", ["a", "b"], ["y"])
        return written(elem, [node], {"a": (size, size), "b": (size, size)}, (size, size))

    return build


def _of(write: Callable[[_Formula], str], *inputs: str, **constants: Any) -> Any:
    def build(elem: int) -> onnx.ModelProto:
        f = _Formula(elem, *inputs, **constants)
        return f.model(write(f))

    return build


ONE = np.ones((1, 1))


def _hypot(f: _Formula) -> str:
    return f.do("Sqrt", f.do("Add", f.do("Mul", "x", "x"), f.do("Mul", "z", "z")))


def _verhulst(f: _Formula) -> str:
    grown = f.do("Add", "one", f.do("Div", "x", "K"))
    return f.do("Div", f.do("Mul", "r", "x"), grown)


def _predator_prey(f: _Formula) -> str:
    part = f.do("Div", "x", "K")
    below = f.do("Add", "one", f.do("Mul", part, part))
    return f.do("Div", f.do("Mul", f.do("Mul", "r", "x"), "x"), below)


def _sqrt_add(f: _Formula) -> str:
    roots = f.do("Add", f.do("Sqrt", f.do("Add", "x", "one")), f.do("Sqrt", "x"))
    return f.do("Div", "one", roots)


SCALARS: tuple[tuple[str, float, float, Any], ...] = (
    ("hypot", 5.55e-16, 2.5, _of(_hypot, "x", "z")),
    ("x_by_xy", 4.44e-16, 2.0, _of(lambda f: f.do("Div", "x", f.do("Add", "x", "z")), "x", "z")),
    (
        "one_by_sqrtxx",
        5.55e-16,
        2.5,
        _of(lambda f: f.do("Div", "one", f.do("Sqrt", f.do("Mul", "x", "x"))), "x", one=ONE),
    ),
    ("sqrt_add", 9.99e-16, 4.5, _of(_sqrt_add, "x", one=ONE)),
    ("sum8", 1.554e-15, 7.0, total(8)),
    (
        "nonlin1",
        4.44e-16,
        2.0,
        _of(lambda f: f.do("Div", "x", f.do("Add", "x", "one")), "x", one=ONE),
    ),
    ("verhulst", 8.88e-16, 4.0, _of(_verhulst, "x", one=ONE, r=[[4.0]], K=[[1.11]])),
    ("predatorPrey", 1.554e-15, 7.0, _of(_predator_prey, "x", one=ONE, r=[[4.0]], K=[[1.11]])),
    (
        "i4",
        4.44e-16,
        2.0,
        _of(lambda f: f.do("Sqrt", f.do("Add", "x", f.do("Mul", "z", "z"))), "x", "z"),
    ),
)
TABLE = (
    Program("Horner50 (FMA)", horner(50), FMA, 1.110e-14, None, 50.0),
    Program("Horner100 (FMA)", horner(100), FMA, 2.220e-14, None, 100.0),
    Program("poly50", polynomial(50), IEEE_ANY, 2.942e-13, 1.6, 100.0),
    Program("serial_sum 1024", total(1024), SEQUENTIAL, 2.2715e-13, 3.1, 1023.0),
    Program("pairwise_sum 1024", total(1024), PAIRWISE, None, None, 10.0),
    Program("MatMul 4", matrices(4), IEEE_ANY, 1.554e-15, None, 4.0),
    Program("MatMul 16", matrices(16), IEEE_ANY, 6.883e-15, None, 16.0),
    Program("MatMul 64", matrices(64), IEEE_ANY, 2.820e-14, 5.4, 64.0),
    Program("MatMul 128", matrices(128), IEEE_ANY, None, 18 * 60.0, 128.0),
    *(Program(name, build, IEEE_ANY, f, None, k) for name, f, k, build in SCALARS),
)
SIGNED = ("-1", "1")


def softmax(elem: int) -> onnx.ModelProto:
    weights = np.random.default_rng(0).standard_normal((8, 8))
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["s"]),
        helper.make_node("Softmax", ["s"], ["y"], axis=-1),
    ]
    return written(elem, nodes, {"x": (1, 8)}, (1, 8), w=weights)


def attention(elem: int) -> onnx.ModelProto:
    rng = np.random.default_rng(1)
    nodes = [
        helper.make_node("MatMul", ["x", "wq"], ["q"]),
        helper.make_node("MatMul", ["x", "wk"], ["k"]),
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["s"]),
        helper.make_node("Softmax", ["s"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "v"], ["y"]),
    ]
    wq, wk = (rng.standard_normal((8, 8)) / 3 for _ in range(2))
    return written(elem, nodes, {"x": (1, 4, 8), "v": (1, 4, 8)}, (1, 4, 8), wq=wq, wk=wk)


def denominator(elem: int) -> onnx.ModelProto:
    """√(mean x² + ε) over inputs of both signs, 0 and subnormal ones among them."""
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["q"]),
        helper.make_node("ReduceMean", ["q"], ["m"], axes=[1], keepdims=1),
        helper.make_node("Add", ["m", "eps"], ["z"]),
        helper.make_node("Sqrt", ["z"], ["y"]),
    ]
    return written(elem, nodes, {"x": (1, 16)}, (1, 1), eps=np.array([1e-5]))


def dense(elem: int) -> onnx.ModelProto:
    """Weights of one sign on inputs that may be 0: no relative error, but an rtol with an atol."""
    rng = np.random.default_rng(2)
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["z"]),
        helper.make_node("Relu", ["z"], ["r"]),
        helper.make_node("MatMul", ["r", "v"], ["y"]),
    ]
    w, v = rng.random((12, 6)), rng.random((6, 3))
    return written(elem, nodes, {"x": (1, 12)}, (1, 3), w=w, v=v, b=np.zeros(6))


WAYS = (SEQUENTIAL, SEQUENTIAL_FMA, PAIRWISE, FLUSHING)
NETWORKS = (
    Program("softmax of 8 scores", softmax, ranges={"x": SIGNED}),
    Program("attention, 4 tokens", attention, ranges={"x": SIGNED, "v": ("0.1", "1")}),
    Program("√(mean x² + ε) of 16", denominator, ranges={"x": SIGNED}),
    Program("dense, weights ≥ 0", dense, ranges={"x": ("0", "1")}),
)
MODEST = {"x": ("0.5", "2")} | {f"a{k}": ("0.5", "2") for k in range(101)}
"""Ranges in which powers stay within float32."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--executions", type=int, default=100_000)
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    console = Console(width=120)
    rows = [_proved(program) for program in TABLE]
    table = Table(title="relative precision, float64, to nearest")
    for title in ("program", "NumFuzz", "s", "at most", "ours", "in u", "s", "answer", "held"):
        table.add_column(title, justify="left" if title == "program" else "right")
    for row in rows:
        table.add_row(
            row["program"],
            *("–" if row[k] is None else f"{row[k]:.4g}" for k in ("numfuzz", "numfuzz_seconds")),
            f"{row['at_most']:.4g}",
            f"{row['precision']:.4g}",
            f"{row['units']:.6g}",
            f"{row['seconds']:.2f}",
            row["verdict"],
            "yes" if row["held"] else "NO",
        )
    console.print(table)
    tried = [_tried(program, given.executions) for program in (*TABLE, *NETWORKS)]
    second = Table(title="executions in float32")
    for title in ("program", "relative", "in u", "rtol", "atol", "executions", "reached", "held"):
        second.add_column(title, justify="left" if title == "program" else "right")
    for row in tried:
        second.add_row(
            row["program"],
            *(f"{row[k]:.4g}" for k in ("relative_error", "units", "rtol", "atol")),
            str(row["executions"]),
            f"{100 * row['reached']:.0f} %",
            "yes" if row["held"] else "NO",
        )
    console.print(second)
    if given.save is not None:
        save(given.save, [_finite(row) for row in (*rows, *tried)])
    sys.exit(0 if all(row["held"] for row in (*rows, *tried)) else 1)


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as JSON has it: null where there is no figure."""
    return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in row.items()}


def _figures(
    program: Program, elem: int, ranges: Mapping[str, tuple[str, str]] | None
) -> tuple[onnx.ModelProto, RelativeFigures, str, float]:
    model = program.build(elem)
    domain = replace(program, ranges=ranges).domain(model)
    start = time.process_time()
    result = refine.bound(
        model,
        domain,
        relative=True,
        contract=program.contract,
        conform=False,
        no_search=True,
        z3="none",
        budget=0,
    )
    seconds = time.process_time() - start
    (figures,) = result.relative
    return model, figures, result.verdict.value, seconds


def _proved(program: Program) -> dict[str, Any]:
    _, figures, verdict, seconds = _figures(program, TensorProto.DOUBLE, program.ranges)
    assert program.at_most is not None
    unit = 2.0**-53
    within = figures.precision <= program.at_most * unit * _NEARLY
    return {
        "program": program.name,
        "numfuzz": program.numfuzz,
        "numfuzz_seconds": program.numfuzz_seconds,
        "at_most": program.at_most * unit,
        "precision": figures.precision,
        "units": figures.precision / unit,
        "relative_error": figures.error,
        "seconds": seconds,
        "verdict": verdict,
        "held": within and verdict == "verified",
    }


def _tried(program: Program, executions: int) -> dict[str, Any]:
    """The float32 program: executions of its outputs' elements against what is proved of them."""
    wide = program.name.startswith(("Horner", "poly"))
    ranges = MODEST if wide else program.ranges
    model, figures, verdict, seconds = _figures(program, TensorProto.FLOAT, ranges)
    ways = WAYS if program.contract is IEEE_ANY else (program.contract,)
    outputs = int(np.prod([d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim]))
    samples = -(-executions // (outputs * len(ways)))
    ends = replace(program, ranges=ranges).domain(model)
    rng = np.random.default_rng(5)
    given = {
        i.name: _drawn(rng, samples, i, *map(float, ends[i.name].split("..")))
        for i in model.graph.input
    }
    exact = _run(_widened(model), given, SEQUENTIAL, np.float64)
    size = np.abs(exact)
    held, reached = True, 0.0
    for way in ways:
        off = np.abs(_run(model, given, way, np.float32) - exact)
        slack = _SLACK * size
        held = held and bool(np.all(off <= figures.rtol * size + figures.atol + slack))
        held = held and bool(np.all(off <= figures.error * size + slack))
        limit = figures.rtol * size + figures.atol
        reached = max(reached, float(np.max(off / np.where(limit > 0, limit, np.inf))))
    return {
        "program": program.name,
        "type": "float32",
        "relative_error": figures.error,
        "units": figures.error * 2.0**24,
        "rtol": figures.rtol,
        "atol": figures.atol,
        "executions": samples * outputs * len(ways),
        "reached": reached,
        "seconds": seconds,
        "verdict": verdict,
        "held": held,
    }


def _widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same real function, its numbers in float64."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for tensor in (*wide.graph.input, *wide.graph.output):
        tensor.type.tensor_type.elem_type = TensorProto.DOUBLE
    for stored in wide.graph.initializer:
        if stored.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(stored).astype(np.float64)
            stored.CopyFrom(numpy_helper.from_array(values, stored.name))
    return wide


def _drawn(
    rng: np.random.Generator, samples: int, given: onnx.ValueInfoProto, lo: float, hi: float
) -> npt.NDArray[np.float32]:
    """Numbers of a range; where it holds 0, a third are 0 or of any size down to subnormal ones,
    and where it does not, half are spread over the sizes."""
    shape = (samples, *(d.dim_value for d in given.type.tensor_type.shape.dim))
    low, high = (np.float32(lo), np.float32(hi))
    low = np.nextafter(low, np.float32(np.inf)) if float(low) < lo else low
    high = np.nextafter(high, np.float32(-np.inf)) if float(high) > hi else high
    drawn = rng.uniform(low, high, shape)
    if lo > 0:
        spread = np.exp(rng.uniform(np.log(low), np.log(high), shape))
        drawn = np.where(rng.random(shape) < 0.5, spread, drawn)
    else:
        tiny = np.sign(drawn) * np.exp(rng.uniform(np.log(1e-45), 0.0, shape)) * min(hi, 1.0)
        choice = rng.random(shape)
        drawn = np.where(choice < 0.1, 0.0, np.where(choice < 0.33, tiny, drawn))
    return np.clip(drawn.astype(np.float32), low, high)


def _run(
    model: onnx.ModelProto,
    given: Mapping[str, npt.NDArray[np.float32]],
    contract: RuntimeContract,
    dtype: npt.DTypeLike,
) -> npt.NDArray[np.float64]:
    """The emulator's execution, as float64 numbers."""
    inputs: dict[str, Array] = {name: value.astype(dtype) for name, value in given.items()}
    (output,) = emulate(refine.load(model), inputs, contract).values()
    return np.asarray(output, np.float64)


if __name__ == "__main__":
    main()
