"""Two backends train one network, step by step: how far apart, and the first step outside.

    python benchmarks/backends.py [--only NAME…] [--steps N] [--save FILE]

Every runtime that is installed runs the step that `refine grad --step sgd` writes on its own
weights. Of each, beside onnxruntime: the largest difference of a loss and of a weight over all
steps, how many tensors have equal bits, and whether every number of every step is within what is
proved of two executions from the weights that both had. Published traces of two backends differ by
1.97e-7 (a dense network) and 1.08e-5 to 1.24e-4 (convolutions with BatchNormalization).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from descent import descent, parsed
from measuring import save
from rich.console import Console
from rich.table import Table

from encoders.contract.presets import IEEE_ANY
from encoders.families.pooling import reduced_axes
from encoders.operator import Site
from gpu_check.runtimes.library_kernels import LibraryKernels, LibraryMachine, numpy_library
from onnx_import.errors import ModelError
from onnx_import.graph import Array, Graph
from refine.options.runtime_choice import machine, runtime_choice
from refine.traces.comparing import Comparison, Status, compare
from refine.traces.recording import Opening

RUNTIMES = ("numpy", "torch", "jax", "numpy, sums in sequence")
RATE = 0.125
CLASSES = 10


@dataclass(frozen=True)
class Network:
    """A classifier in ONNX's text form, the shapes of its input and weights, and whether the bounds
    of its steps are computed."""

    body: str
    x: tuple[int, ...]
    weights: Mapping[str, tuple[int, ...]]
    bounded: bool


def convolutional(batch: int, pixels: int, bounded: bool) -> Network:
    return Network(
        """
        h = Conv <pads = [1, 1, 1, 1]> (x, K)
        n, running_mean, running_variance =
            BatchNormalization <training_mode = 1, epsilon = 0.00001> (h, scale, shift, zeros, ones)
        r = Relu(n)
        s = ReduceMean <keepdims = 0> (r, pixels)
        y = MatMul(s, W)
        """,
        (batch, 1, pixels, pixels),
        {"K": (8, 1, 3, 3), "scale": (8,), "shift": (8,), "W": (8, CLASSES)},
        bounded,
    )


NETWORKS = {
    "dense": Network(
        "h = MatMul(x, W1) a = Add(h, b1) r = Relu(a) z = MatMul(r, W2) y = Add(z, b2)",
        (32, 64),
        {"W1": (64, 32), "b1": (32,), "W2": (32, CLASSES), "b2": (CLASSES,)},
        bounded=True,
    ),
    "conv + BatchNorm, 4×8×8": convolutional(4, 8, bounded=True),
    "conv + BatchNorm, 128×28×28": convolutional(128, 28, bounded=False),
}


def model(network: Network, weights: Mapping[str, Array]) -> onnx.ModelProto:
    """The network as an ONNX model."""
    size = f"float[{','.join(map(str, network.x))}]"
    constants: dict[str, Array] = {}
    if "K" in weights:
        constants = {
            "zeros": np.zeros(8, np.float32),
            "ones": np.ones(8, np.float32),
            "pixels": np.array([2, 3]),
        }
    text = (
        f'<ir_version: 8, opset_import: ["": 18]> net ({size} x) => '
        f"(float[{network.x[0]},{CLASSES}] y) {{ {network.body} }}"
    )
    return parsed(text, {**weights, **constants})


def trained(name: str, network: Network, steps: int) -> list[dict[str, Any]]:
    """A row for each runtime beside onnxruntime."""
    rng = np.random.default_rng(1)
    weights: dict[str, Array] = {
        n: rng.normal(0, 0.3, s).astype(np.float32) for n, s in network.weights.items()
    }
    if "scale" in weights:
        weights["scale"] = np.ones(8, np.float32)
    labels = rng.integers(0, CLASSES, (steps, network.x[0]))
    given = {
        "x": rng.normal(0, 1, (steps, *network.x)).astype(np.float32),
        "target": np.eye(CLASSES, dtype=np.float32)[labels],
    }
    with TemporaryDirectory() as place:
        made = descent(
            Path(place),
            model(network, weights),
            weights,
            given,
            loss="cross-entropy",
            rate=RATE,
            steps=steps,
        )
        first = made.recorded(opening("onnxruntime"), keep=network.bounded)
        rows = []
        for runtime in RUNTIMES:
            try:
                second = made.recorded(opening(runtime), keep=network.bounded)
            except ModelError as error:
                Console().print(f"left out: {error}")
                continue
            known = made.read if network.bounded else None
            found = compare(first, second, known, (IEEE_ANY, IEEE_ANY))
            rows.append({"network": name, "runtime": second.runtime, "steps": steps, **said(found)})
    return rows


def opening(runtime: str) -> Opening:
    """A runtime by name; numpy also with every sum taken from first to last."""
    if runtime != RUNTIMES[-1]:
        return partial(machine, runtime_choice(runtime))

    def total(x: Any, axes: tuple[int, ...]) -> Any:
        moved = np.moveaxis(x, axes, range(len(axes))).reshape(-1, *_kept(x.shape, axes))
        return np.cumsum(moved, axis=0, dtype=x.dtype)[-1].reshape(_ones(x.shape, axes))

    def mean(x: Any, axes: tuple[int, ...]) -> Any:
        count = np.prod([x.shape[a] for a in axes])
        return total(x, axes) / x.dtype.type(count)

    def normal(site: Site, a: Sequence[Any]) -> Any:
        axes = tuple(range(2, a[0].ndim))
        scale, shift = (v.reshape(-1, *(1,) * len(axes)) for v in a[1:3])
        centred = a[0] - mean(a[0], axes)
        raised = mean(centred * centred, axes) + a[0].dtype.type(site.real("epsilon", 1e-5))
        return centred / np.sqrt(raised) * scale + shift

    plain = numpy_library()
    sums = {
        "InstanceNormalization": normal,
        "ReduceMean": lambda site, a: mean(a[0], reduced_axes(site)),
        "ReduceSum": lambda site, a: total(a[0], reduced_axes(site)),
    }
    library = replace(plain, title=runtime, calls={**plain.calls, **sums})

    @contextmanager
    def opened(graph: Graph) -> Iterator[LibraryMachine]:
        yield LibraryMachine(graph, LibraryKernels(graph, library))

    return opened


def _kept(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for i, n in enumerate(shape) if i not in axes)


def _ones(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def said(found: Comparison) -> dict[str, Any]:
    """What a comparison comes to."""
    loss = weight = 0.0
    for run in range(found.first.runs):
        ours, theirs = found.first.of(run)["loss"], found.second.of(run)["loss"]
        loss = max(loss, abs((ours.low or 0.0) - (theirs.low or 0.0)))  # of one number
        starts = found.first.received(run), found.second.received(run)
        for t in found.first.fed:
            off = np.abs(np.float64(starts[0][t]) - np.float64(starts[1][t]))
            weight = max(weight, float(np.max(off)))
    outside = found.outside[0].line if found.outside else None
    return {
        "loss_apart": loss,
        "weight_apart": weight,
        "tensors": len(found.rows),
        "equal": sum(r.status is Status.EQUAL for r in found.rows),
        "within": sum(r.status is Status.WITHIN for r in found.rows),
        "not_known": len(found.open),
        "first_outside": None if outside is None else f"step {outside.run}, {outside.node}",
    }


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    given.add_argument("--steps", type=int, default=10)
    given.add_argument("--save", type=Path)
    asked = given.parse_args()
    rows = []
    for name in asked.only:
        rows += trained(name, NETWORKS[name], asked.steps)
    table = Table(title=f"beside onnxruntime, {asked.steps} steps")
    titles = ("network", "runtime", "loss", "weights", "equal bits", "within", "first outside")
    for title in titles:
        table.add_column(title, justify="left" if title in titles[:2] else "right")
    for row in rows:
        table.add_row(
            row["network"],
            row["runtime"],
            f"{row['loss_apart']:.2e}",
            f"{row['weight_apart']:.2e}",
            f"{row['equal']} of {row['tensors']}",
            str(row["within"]) if NETWORKS[row["network"]].bounded else "not asked",
            row["first_outside"] or "none",
        )
    Console(width=130).print(table)
    if asked.save is not None:
        save(asked.save, rows)


if __name__ == "__main__":
    main()
