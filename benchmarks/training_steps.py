"""A step of training of an MLP of MNIST's size, 784-512-512-10 with cross-entropy, at data points.

    python benchmarks/training_steps.py [--save FILE]

Proved bounds on the cotangents of the scores, of both hidden layers and of the input, and on
the weights after a step of SGD, with sums in any order and under ort-cpu; beside each the largest
error of onnxruntime at the points. Weights are at most 3/5: He's initialisation; the same trained
for 400 steps of SGD on images of digits that are drawn here; and numbers that are uniform up to
3/5, for which the network is far from any that is trained.

A published proof in Lean speaks of a network that was trained (12 epochs of MNIST from He's
initialisation, weights of at most 0.52) and has 2.1e-2 for the cotangent of the scores, softmax −
target, where 2.2e-6 was measured, and 5/4 for the step of the last layer's weights, which it
counts as W2 from 0 and which are W3 here, where 7.5e-9 was.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

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
from onnx_import.graph import Graph
from onnx_import.onnx.writer import model_of
from refine.gradients.request import Request

Numbers: TypeAlias = npt.NDArray[Any]
SIZES = (784, 512, 512, 10)
LARGEST = 0.6
RATE = 0.1
STEPS = 400
POINTS = 2
CONTRACTS = ("ieee-any", "ort-cpu")
COTANGENTS = {"b3": "scores", "b2": "second hidden layer", "b1": "first hidden layer", "x": "input"}
"""At one point the gradient by a bias is the cotangent of what it is added to."""

FONT = (
    "01110100011001110101110011000101110",
    "00100011000010000100001000010001110",
    "01110100010000100010001000100011111",
    "11111000100010000010000011000101110",
    "00010001100101010010111110001000010",
    "11111100001111000001000011000101110",
    "00110010001000011110100011000101110",
    "11111000010001000100010000100001000",
    "01110100011000101110100011000101110",
    "01110100011000101111000010001001100",
)  # rows of five dots, from top to bottom


def network(weights: Mapping[str, Numbers]) -> onnx.ModelProto:
    """Scores of one image."""
    text = (
        '<ir_version: 8, opset_import: ["": 17]> mlp (float[1,784] x) => (float[1,10] y) {'
        "z1 = Gemm(x, W1, b1)  h1 = Relu(z1)  z2 = Gemm(h1, W2, b2)  h2 = Relu(z2)"
        "  y = Gemm(h2, W3, b3) }"
    )
    return parsed(text, weights)


def initial(kind: str, rng: np.random.Generator) -> dict[str, Numbers]:
    """Weights of a kind, and biases of 0."""
    found: dict[str, Numbers] = {}
    for layer, (n, m) in enumerate(itertools.pairwise(SIZES), start=1):
        normal = np.clip(rng.normal(size=(n, m)) * np.sqrt(2 / n), -LARGEST, LARGEST)
        values = rng.uniform(-LARGEST, LARGEST, (n, m)) if kind == "uniform" else normal
        found[f"W{layer}"] = values.astype(np.float32)
        found[f"b{layer}"] = np.zeros(m, np.float32)
    return found


def digits(rng: np.random.Generator, count: int) -> tuple[Numbers, Numbers]:
    """Images of digits, of a font of 5×7, three times as large, in any place, worn and blurred;
    and which digits they are."""
    labels = rng.integers(len(FONT), size=count)
    images = np.zeros((count, 28, 28))
    for image, label in zip(images, labels, strict=True):
        glyph = np.array([int(c) for c in FONT[label]]).reshape(7, 5)
        large = np.kron(glyph, np.ones((3, 3)))
        top, left = rng.integers(0, 8), rng.integers(0, 14)
        worn = large * (rng.random(large.shape) < 0.85)
        image[top : top + 21, left : left + 15] = worn * rng.uniform(0.3, 1)
    for axis in (1, 2):
        images = (np.roll(images, 1, axis) + 2 * images + np.roll(images, -1, axis)) / 4
    pixels = (np.rint(255 * images) / 255).reshape(count, -1)
    return pixels.astype(np.float32), labels


def trained(weights: Mapping[str, Numbers], rng: np.random.Generator) -> dict[str, Numbers]:
    """The weights after steps of SGD on batches of 128 images."""
    images, labels = digits(rng, 6000)
    layers = range(1, len(SIZES))
    found = dict(weights)
    for _ in range(STEPS):
        chosen = rng.integers(len(images), size=128)
        read = forward(found, images[chosen])
        up = softmax(read[-1]) - np.eye(SIZES[-1], dtype=np.float32)[labels[chosen]]
        up = (up / len(chosen)).astype(np.float32)
        slopes: dict[str, Numbers] = {}
        for i in reversed(layers):
            slopes[f"W{i}"], slopes[f"b{i}"] = read[i - 1].T @ up, up.sum(axis=0)
            up = (up @ found[f"W{i}"].T) * (read[i - 1] > 0)
        for name, slope in slopes.items():
            found[name] = found[name] - np.float32(RATE) * slope
    return found


def forward(weights: Mapping[str, Numbers], x: Numbers) -> list[Numbers]:
    """What each layer reads, and the scores."""
    read = [x]
    for i in range(1, len(SIZES)):
        scores = read[-1] @ weights[f"W{i}"] + weights[f"b{i}"]
        read.append(scores if i == len(SIZES) - 1 else np.maximum(scores, 0))
    return read


def softmax(scores: Numbers) -> Numbers:
    """Row by row."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: Numbers = powers / powers.sum(axis=1, keepdims=True)
    return shares


def points_of(weights: Mapping[str, Numbers], rng: np.random.Generator) -> list[dict[str, Numbers]]:
    """An image, and that of twenty of which the network is least certain."""
    images, labels = digits(rng, 20)
    certain = softmax(forward(weights, images)[-1]).max(axis=1)
    eye = np.eye(SIZES[-1], dtype=np.float32)
    chosen = (0, int(np.argmin(certain)))
    return [{"x": images[i : i + 1], "target": eye[labels[i : i + 1]]} for i in chosen]


def bounds_at(
    graph: Graph, point: Mapping[str, Numbers], folder: Path, contract: str
) -> Iterator[tuple[str, float, float]]:
    """Each output's proved bound at the point, and the error of onnxruntime there."""
    path = folder / "gradient.onnx"
    path.write_bytes(model_of(graph, "gradient").SerializeToString())
    ends = {f"{n}_{end}": v for n, v in point.items() for end in ("lo", "hi")}
    np.savez(folder / "point.npz", **ends)  # type: ignore[arg-type]
    result = refine.bound(
        path, box=folder / "point.npz", budget=0.0, no_search=True, conform=False, z3="none",
        contract=contract,
    )  # fmt: skip
    read = load(path)
    wide = {n: np.asarray(v, np.float64)[None] for n, v in point.items()}
    real = evaluate_real(read, wide, ApproximateReals())
    run = OnnxRuntime(path).run(point)
    for name in read.outputs:
        apart = np.abs(np.asarray(run[name], np.float64) - real[name][0])
        bound: npt.NDArray[np.float64] = result.bounds[name]
        yield name, float(np.max(bound)), float(np.max(apart))


def measured(kind: str) -> Iterator[dict[str, object]]:
    """Of each contract and tensor the largest over all points."""
    rng = np.random.default_rng(0)
    most: dict[tuple[str, str], list[float]] = {}
    weights = initial(kind, rng)
    if kind == "trained":
        weights = trained(weights, rng)
    largest = max(float(np.max(np.abs(w))) for name, w in weights.items() if name[0] == "W")
    assert largest <= np.float32(LARGEST)
    with TemporaryDirectory() as name:
        folder = Path(name)
        onnx.save(network(weights), folder / "mlp.onnx")
        graph = load(folder / "mlp.onnx")
        asked = [
            Request(loss="cross-entropy", wrt=",".join(COTANGENTS)),
            Request(loss="cross-entropy", wrt="W1,W2,W3", step="sgd", rate=RATE),
        ]
        gradients = [request.gradient_of(graph) for request in asked]
        for point in points_of(weights, rng):
            for made, contract in itertools.product(gradients, CONTRACTS):
                for tensor, bound, error in bounds_at(made, point, folder, contract):
                    known = most.setdefault((contract, tensor), [0.0, 0.0])
                    known[:] = max(known[0], bound), max(known[1], error)
    for (contract, tensor), (bound, error) in most.items():
        plain = tensor.removeprefix("grad_")
        if plain[0] != "W":
            what = f"cotangent of the {COTANGENTS[plain]}" if plain in COTANGENTS else tensor
            yield {
                "weights": f"{kind}, at most {largest:.2f}",
                "contract": contract,
                "tensor": what,
                "bound": bound,
                "onnxruntime": error,
            }


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given.add_argument("--save", type=Path)
    asked = given.parse_args()
    rows = [row for kind in ("he", "trained", "uniform") for row in measured(kind)]
    table = Table(title=f"{POINTS} points, one image each, rate {RATE}")
    for column in ("weights", "contract", "tensor", "proved bound", "onnxruntime"):
        table.add_column(column, justify="right" if column[0] in "po" else "left")
    for row in rows:
        numbers = (f"{row[name]:.2e}" for name in ("bound", "onnxruntime"))
        table.add_row(*(str(row[name]) for name in ("weights", "contract", "tensor")), *numbers)
    Console(width=120).print(table)
    if asked.save is not None:
        save(asked.save, rows)


if __name__ == "__main__":
    main()
