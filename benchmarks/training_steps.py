"""A step of training of an MLP of MNIST's size, 784-512-512-10 with cross-entropy, at data points.

    python benchmarks/training_steps.py [--save FILE]

Proved bounds on the cotangents of the scores, of both hidden layers and of the input, and on W2
after a step of SGD, for weights of at most 3/5: He's initialisation cut off there, and numbers that
are uniform up to there, for which the network is far from any that is trained. Beside each the
largest error of onnxruntime at the point. A published proof in Lean of such a step has 2.1e-2 for
the cotangent, where 2.2e-6 was measured, and 5/4 for the weights, where 7.5e-9 was.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import onnx
from descent import parsed
from measuring import save
from rich.console import Console
from rich.table import Table

import refine
from encoders.arithmetic.approximate_field import ApproximateReals
from gpu_check.emulator.exact import evaluate_real
from gpu_check.runtimes.runtimes import OnnxRuntime
from onnx_import import load
from onnx_import.graph import Array, Graph
from onnx_import.onnx.writer import model_of
from refine.gradients.request import Request

SIZES = (784, 512, 512, 10)
LARGEST = 0.6
RATE = 0.1
POINTS = 2
COTANGENTS = {"b3": "scores", "b2": "second hidden layer", "b1": "first hidden layer", "x": "input"}
"""At one point the gradient by a bias is the cotangent of what it is added to."""


def network(weights: Mapping[str, Array]) -> onnx.ModelProto:
    """Scores of one image."""
    text = (
        '<ir_version: 8, opset_import: ["": 17]> mlp (float[1,784] x) => (float[1,10] y) {'
        "z1 = Gemm(x, W1, b1)  h1 = Relu(z1)  z2 = Gemm(h1, W2, b2)  h2 = Relu(z2)"
        "  y = Gemm(h2, W3, b3) }"
    )
    return parsed(text, weights)


def drawn(kind: str, rng: np.random.Generator) -> dict[str, Array]:
    """Weights of a kind, and biases of 0."""
    found: dict[str, Array] = {}
    for layer, (n, m) in enumerate(itertools.pairwise(SIZES), start=1):
        normal = np.clip(rng.normal(size=(n, m)) * np.sqrt(2 / n), -LARGEST, LARGEST)
        values = normal if kind == "he" else rng.uniform(-LARGEST, LARGEST, (n, m))
        found[f"W{layer}"] = values.astype(np.float32)
        found[f"b{layer}"] = np.zeros(m, np.float32)
    return found


def image(rng: np.random.Generator) -> dict[str, Array]:
    """As sparse as an image of a digit, with a label."""
    ink = rng.random((1, SIZES[0])) < 0.2
    pixels = np.where(ink, rng.integers(1, 256, ink.shape) / 255, 0)
    target = np.eye(SIZES[-1], dtype=np.float32)[[rng.integers(SIZES[-1])]]
    return {"x": pixels.astype(np.float32), "target": target}


def bounds_at(
    graph: Graph, point: Mapping[str, Array], folder: Path
) -> Iterator[tuple[str, float, float]]:
    """Each output's proved bound at the point, and the error of onnxruntime there."""
    path = folder / "gradient.onnx"
    path.write_bytes(model_of(graph, "gradient").SerializeToString())
    ends = {f"{n}_{end}": v for n, v in point.items() for end in ("lo", "hi")}
    np.savez(folder / "point.npz", **ends)  # type: ignore[arg-type]
    result = refine.bound(
        path, box=folder / "point.npz", budget=0.0, no_search=True, conform=False, z3="none"
    )
    read = load(path)
    wide = {n: np.asarray(v, np.float64)[None] for n, v in point.items()}
    real = evaluate_real(read, wide, ApproximateReals())
    run = OnnxRuntime(path).run(point)
    for name in read.outputs:
        apart = np.abs(np.asarray(run[name], np.float64) - real[name][0])
        bound: npt.NDArray[np.float64] = result.bounds[name]
        yield name, float(np.max(bound)), float(np.max(apart))


def measured(kind: str) -> Iterator[dict[str, object]]:
    """Of each tensor the largest over all points."""
    rng = np.random.default_rng(0)
    most: dict[str, list[float]] = {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        onnx.save(network(drawn(kind, rng)), folder / "mlp.onnx")
        graph = load(folder / "mlp.onnx")
        asked = [
            Request(loss="cross-entropy", wrt=",".join(COTANGENTS)),
            Request(loss="cross-entropy", wrt="W2", step="sgd", rate=RATE),
        ]
        for _ in range(POINTS):
            point = image(rng)
            for request in asked:
                for tensor, bound, error in bounds_at(request.gradient_of(graph), point, folder):
                    known = most.setdefault(tensor, [0.0, 0.0])
                    known[:] = max(known[0], bound), max(known[1], error)
    for tensor, (bound, error) in most.items():
        plain = tensor.removeprefix("grad_")
        what = f"cotangent of the {COTANGENTS[plain]}" if plain in COTANGENTS else tensor
        yield {"weights": kind, "tensor": what, "bound": bound, "onnxruntime": error}


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given.add_argument("--save", type=Path)
    asked = given.parse_args()
    rows = [row for kind in ("he", "uniform") for row in measured(kind)]
    table = Table(title=f"{POINTS} points, one image each, rate {RATE}")
    for column in ("weights", "tensor", "proved bound", "onnxruntime"):
        table.add_column(column, justify="right" if column[0] in "po" else "left")
    for row in rows:
        numbers = (f"{row[name]:.2e}" for name in ("bound", "onnxruntime"))
        table.add_row(str(row["weights"]), str(row["tensor"]), *numbers)
    Console(width=100).print(table)
    if asked.save is not None:
        save(asked.save, rows)


if __name__ == "__main__":
    main()
