"""Backward errors of Bean's programs, rebuilt, beside the figures of its paper and artefact.

    python benchmarks/backward.py [--witnesses N] [--save FILE]

Vectors and matrices are tensors of ONNX, polynomials and conditionals FPCore kernels, the linear
solvers graphs of scalars with several outputs; binary64, to nearest. Bounds are on |ln(x̃/x)| in
units of u = 2⁻⁵³, as Bean's ε. Bean's seconds were measured for this project on a machine like
this one, the last figure is the paper's (Kellison, Zielinski, Bindel & Hsu 2025, PLDI). Seconds are
those of a processor, reading the program included.

With `--witnesses N`, N random chains of dense layers, half of them with numbers that underflow, are
each run sequentially, fused, pairwise and in an order of its own, and held to an exact witness
under their own contract and under any order: weights within the bound with which the exact output,
evaluated in rational numbers, is the bits that ran. Then MNIST 256x4 on onnxruntime, 100 inputs.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from measuring import MODELS, save
from random_chains import chain, executions, inputs_of
from rich.console import Console
from rich.table import Table

from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import IEEE_ANY, PAIRWISE, SEQUENTIAL
from gpu_check.emulator.emulator import emulate
from gpu_check.runtimes.tensors import OnnxMachine
from onnx_import import load
from onnx_import.graph import Array, DType, Graph, Node, TensorType, build_graph
from refine.perturbed.bound import backward_bound
from refine.perturbed.files import checked_constants
from refine.perturbed.standing import Laid
from refine.perturbed.witness import witness_of


@dataclass(frozen=True)
class Program:
    """A program, what of it is kept exact, and what Bean says: of inputs by the first letter of
    their names (the largest of each letter counts), or of each input."""

    name: str
    graph: Callable[[], Graph]
    discrete: tuple[str, ...]
    bean: dict[str, float]
    seconds: str
    contract: RuntimeContract = SEQUENTIAL
    theirs: bool = True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--witnesses", type=int, default=0, metavar="N")
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    rows = [row_of(program) for program in programs()]
    table = Table(title="backward error, binary64, in units of u")
    for title in ("program", "ours", "largest", "s", "Bean", "Bean s"):
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(
            row["program"],
            _shown(row["ours"]),
            f"{row['largest']:.3e}",
            f"{row['seconds']:.3f}",
            _shown(row["bean"]) or "-",
            row["bean_seconds"],
        )
    Console(width=120).print(table)
    worse = [row["program"] for row in rows if not row["as_good"]]
    print("every bound as Bean's or better" if not worse else f"worse: {', '.join(worse)}")
    held = witnesses(given.witnesses) if given.witnesses else []
    for row in held:
        print(", ".join(f"{key} {value}" for key, value in row.items()))
    if given.save is not None:
        save(given.save, [*rows, *held])


def witnesses(count: int) -> list[dict[str, Any]]:
    """Rows of random networks, with and without underflow, and one of MNIST where it is there."""
    rows = [chains(count // 2, tiny) for tiny in (False, True)]
    model = MODELS / "mnist_fc" / "mnist-net_256x4.onnx"
    return [*rows, mnist(model, 100)] if model.exists() else rows


def chains(count: int, tiny: bool) -> dict[str, Any]:
    """So many random networks, run in every way on two inputs each."""
    runs = rows = 0
    closest = Fraction(0)
    start = time.process_time()
    for k in range(count):
        rng = np.random.default_rng((2026, k, tiny))
        graph = chain(rng, tiny=tiny)
        x = inputs_of(rng, graph, 2, tiny=tiny)
        for _, contract in executions(rng, graph):
            with np.errstate(all="ignore"):
                ran = {**emulate(graph, {"x": x}, contract, every_tensor=True), "x": x}
            own = IEEE_ANY if contract.rules else contract
            for claimed in {own.name: own, IEEE_ANY.name: IEEE_ANY}.values():
                found = backward_bound(graph, claimed, Laid.WEIGHTS)
                witness = witness_of(found, ran)
                for sample in range(2):
                    checked_constants(found, witness, ran, sample)
                runs += 2
                rows += sum(layer.underflows for layer in witness.layers)
                shares = [layer.observed / layer.bound for layer in witness.layers if layer.bound]
                closest = max([closest, *shares])
    return {
        "program": f"{count} random chains{' that underflow' if tiny else ''}",
        "witnesses": runs,
        "rows_that_underflow": rows,
        "closest_to_the_bound": float(closest),
        "seconds": time.process_time() - start,
    }


def mnist(model: Path, inputs: int) -> dict[str, Any]:
    """onnxruntime's bits on random inputs, and the observed k of each layer."""
    graph = load(model)
    found = backward_bound(graph, IEEE_ANY, Laid.WEIGHTS)
    rng = np.random.default_rng(0)
    kinds = {t: graph.types[t] for t in graph.inputs}
    samples = [
        {t: rng.uniform(0, 1, k.shape).astype(k.dtype.numpy) for t, k in kinds.items()}
        for _ in range(inputs)
    ]
    start = time.process_time()
    ran = dict(OnnxMachine(graph, onnx.load(str(model))).tensors(samples))
    ran.update({t: np.stack([s[t] for s in samples]) for t in graph.inputs})
    witness = witness_of(found, ran)
    checked_constants(found, witness, ran, 0)
    return {
        "program": f"{model.name}, onnxruntime on {inputs} inputs",
        "witnesses": witness.samples,
        "rows_that_underflow": sum(layer.underflows for layer in witness.layers),
        "observed": [round(layer.multiples, 3) for layer in witness.layers],
        "bound": [float(layer.bound / Fraction(layer.unit)) for layer in witness.layers],
        "seconds": time.process_time() - start,
    }


def row_of(program: Program) -> dict[str, Any]:
    """One program bounded, and held to Bean's figures."""
    start = time.process_time()
    graph = program.graph()
    found = backward_bound(graph, program.contract, Laid.INPUTS, program.discrete)
    seconds = time.process_time() - start
    ours: dict[str, float] = {}
    for moved in found.moved:
        name = moved.tensor if moved.tensor in program.bean else moved.tensor[0]
        ours[name] = max(ours.get(name, 0.0), moved.multiples)
    expected = program.bean
    return {
        "program": program.name,
        "ours": ours,
        "largest": found.multiples * 2.0**-53,
        "relative": found.largest,
        "seconds": seconds,
        "bean": expected if program.theirs else {},
        "bean_seconds": program.seconds,
        "as_good": all(ours[name] <= expected[name] for name in expected),
        "inputs": sum(graph.types[t].size for t in graph.inputs),
    }


def programs() -> Iterator[Program]:
    """The rows of the table, in order."""
    measured = {100: ".3", 200: "2.4", 500: "36.5 (30)"}
    for n, seconds in measured.items():
        yield Program(f"DotProd {n}", partial(dot, n), ("y",), {"x": n}, seconds)
    for n, seconds in ((200, ".84"), (500, "12.3 (10)")):
        yield Program(f"Horner {n}", partial(horner, n), ("z",), {"a": 2 * n}, seconds)
    for n, seconds in ((20, "6.9"), (50, "> 250 (1000)")):
        yield Program(f"MatVecMul {n}", partial(matvec, n, n), ("x",), {"M": n}, seconds)
    yield Program(
        "MatVecMul 784×256", partial(matvec, 256, 784), ("x",), {"M": 784}, "-", theirs=False
    )
    for n, seconds in ((500, "4.7"), (1000, "36.7 (30)")):
        yield Program(f"Sum {n}", partial(total, n), (), {"x": n - 1}, seconds)
    for n, deep in ((500, 9), (1000, 10)):
        name = f"Sum {n}, pairwise"
        yield Program(name, partial(total, n), (), {"x": deep}, "-", PAIRWISE, theirs=False)
    for n, seconds in ((50, "5.9"), (100, "time-out")):
        yield Program(f"PolyVal {n}", partial(polyval, n), ("z",), {"a": n + 1}, seconds)
    yield Program("LinSolve 2×2", partial(solver, 2), (), {"a": 2.5, "b": 1.5}, "")
    yield Program("LinSolve 3×3", partial(solver, 3), (), {"a": 3.5, "b": 2.5}, "-", theirs=False)
    yield Program("PolyVal of degree 2", partial(polyval, 2), ("z",), {"a": 3}, "")
    each = {"a0": 1.0, "a1": 3.0, "a2": 4.0}
    yield Program("Horner of degree 2", partial(horner, 2), ("z",), each, "")


def dot(n: int) -> Graph:
    """x·y of two vectors of inputs."""
    return _tensors("MatMul", {"x": (1, n), "y": (n, 1)}, (1, 1))


def matvec(rows: int, columns: int) -> Graph:
    """M·x, both inputs."""
    return _tensors("MatMul", {"M": (rows, columns), "x": (columns, 1)}, (rows, 1))


def total(n: int) -> Graph:
    """The sum of n inputs."""
    return _tensors("ReduceSum", {"x": (n,)}, (1,))


def horner(n: int) -> Graph:
    """A polynomial by Horner's rule."""
    steps = [f"(s{n - 1} (+ a{n - 1} (* z a{n})))"]
    steps += [f"(s{k} (+ a{k} (* z s{k + 1})))" for k in range(n - 2, -1, -1)]
    return _kernel(n, f"(let* ({' '.join(steps)}) s0)")


def polyval(n: int) -> Graph:
    """A polynomial term by term: aₖ·z·…·z, added from the first to the last."""
    steps = ["(s0 a0)"]
    for k in range(1, n + 1):
        steps.append(f"(p{k}_0 a{k})")
        steps += [f"(p{k}_{i} (* p{k}_{i - 1} z))" for i in range(1, k + 1)]
        steps.append(f"(s{k} (+ s{k - 1} p{k}_{k}))")
    return _kernel(n, f"(let* ({' '.join(steps)}) s{n})")


def solver(n: int) -> Graph:
    """A·x = b with a lower triangular A, by forward substitution: n outputs."""
    nodes: list[Node] = []

    def node(op: str, *inputs: str) -> str:
        name = f"{op.lower()}{len(nodes)}"
        nodes.append(Node(name, op, inputs, (f"t{len(nodes)}",), {}, 17))
        return nodes[-1].outputs[0]

    found: list[str] = []
    for i in range(n):
        rest = f"b{i}"
        for j, x in enumerate(found):
            rest = node("Sub", rest, node("Mul", f"a{i}{j}", x))
        found.append(node("Div", rest, f"a{i}{i}"))
    given = [f"a{i}{j}" for i in range(n) for j in range(i + 1)] + [f"b{i}" for i in range(n)]
    return _graph(
        nodes,
        dict.fromkeys(given, ()),
        dict.fromkeys((n.outputs[0] for n in nodes), ()),
        outputs=found,
    )


def _tensors(op: str, inputs: dict[str, tuple[int, ...]], shape: tuple[int, ...]) -> Graph:
    attributes = {} if op == "MatMul" else {"keepdims": 1}
    node = Node("node", op, tuple(inputs), ("out",), attributes, 17)
    return _graph([node], inputs, {"out": shape}, outputs=["out"])


def _graph(
    nodes: Sequence[Node],
    inputs: dict[str, tuple[int, ...]],
    made: dict[str, tuple[int, ...]],
    *,
    outputs: Sequence[str],
) -> Graph:
    shapes = {**inputs, **made}
    types = {t: TensorType(DType.FLOAT64, shape) for t, shape in shapes.items()}
    nothing: dict[str, Array] = {}
    return build_graph(
        tuple(nodes), types, constants=nothing, inputs=tuple(inputs), outputs=tuple(outputs)
    )


def _kernel(n: int, body: str) -> Graph:
    names = " ".join(f"a{k}" for k in range(n + 1))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.fpcore"
        path.write_text(f"(FPCore (z {names}) :precision binary64 {body})\n", encoding="utf-8")
        return load(path)


def _shown(bounds: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:g}u" for name, value in bounds.items())


if __name__ == "__main__":
    main()
