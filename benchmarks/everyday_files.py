"""Small files of every kind that people have: is each accepted, and is onnxruntime within bounds?

    python benchmarks/everyday_files.py [PATTERN ...] [--folder DIR] [--inputs N] [--balls K]
                                        [--save FILE]

In each of K small boxes at random places an error bound is proved (no search, no budget), and N
random inputs over all the boxes are run on onnxruntime, as the file is written. How far a run is
from the real network is found in long double precision, but for outputs of integers and choices,
whose real values a jump away would be an error of 1. "share" is the largest error beside its bound.
"""

from __future__ import annotations

import argparse
import fnmatch
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from measuring import MODELS, save, shown
from rich.console import Console
from rich.table import Table

import refine
from encoders.arithmetic.approximate_field import ApproximateReals
from gpu_check.emulator.exact import evaluate_real
from gpu_check.runtimes.runtimes import OnnxRuntime
from onnx_import.errors import ModelError
from onnx_import.graph import Graph

Array = np.ndarray[Any, Any]
COLUMNS = ("file", "boxes", "finite", "inputs", "bound", "largest error", "share", "above", "cpu s")
# of the inputs whose dimensions a file leaves open
SHAPES: Mapping[str, dict[str, tuple[int, ...]]] = {
    "dynamic_dim": {"x": (1, 3, 8, 8)},
    "h_dynseq": {"x": (1, 5, 8)},
    "sk_forest": {"X": (1, 64)},
    "sk_mlp": {"X": (1, 64)},
}
WHOLE = {"h_uint8img": 256, "h_tokens": 8, "int_input": 5}  # integers from 0 on, below these
RADIUS = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("patterns", nargs="*", default=["*"])
    parser.add_argument("--folder", type=Path, default=MODELS.parent / "cases" / "files")
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--balls", type=int, default=5)
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    table = Table(title=f"{given.inputs} random inputs each; boxes of ±{RADIUS:g}")
    for title in COLUMNS:
        table.add_column(title)
    rows = []
    for path in sorted(given.folder.glob("*.onnx")):
        if any(fnmatch.fnmatch(path.stem, pattern) for pattern in given.patterns):
            rows.append(measured(path, given.inputs, given.balls))
            table.add_row(*(shown(rows[-1].get(c)) for c in COLUMNS))
            print(*rows[-1].values(), sep="  ", flush=True)
    Console(width=160).print(table)
    if given.save is not None:
        save(given.save, rows)


def measured(path: Path, inputs: int, balls: int) -> dict[str, Any]:
    """One row; one that says why, where the file is refused."""
    start, shapes = time.process_time(), SHAPES.get(path.stem, {})
    try:
        graph = refine.load(path, shapes=shapes)
    except ModelError as error:
        return {"file": path.stem, "boxes": "refused", "finite": str(error)}
    runtime = OnnxRuntime(path)
    rng = np.random.default_rng(0)
    finite, widest, largest, share, above = 0, 0.0, 0.0, 0.0, 0
    for _ in range(balls):
        lo, hi = box(rng, graph, WHOLE.get(path.stem, 2))
        result = refine.bound(
            path, {t: (lo[t], hi[t]) for t in lo}, shapes=shapes, budget=0, workers=1,
            conform=False, z3="none",
        )  # fmt: skip
        finite += bool(np.isfinite(result.bound))
        widest = max(widest, result.bound)
        for _ in range(inputs // balls):
            x = drawn(rng, lo, hi)
            for t, off in apart(runtime, graph, x).items():
                bound = np.asarray(result.bounds[t]).reshape(off.shape)
                above += int(np.sum(off > bound))
                largest = max(largest, float(np.max(off, initial=0.0)))
                with np.errstate(all="ignore"):
                    shares = np.where(off > 0, off / bound, 0.0)
                share = max(share, float(np.max(shares, initial=0.0)))
    return {
        "file": path.stem,
        "boxes": balls,
        "finite": finite,
        "inputs": inputs // balls * balls,
        "bound": widest,
        "largest error": largest,
        "share": share,
        "above": above,
        "cpu s": round(time.process_time() - start, 1),
    }


def box(rng: np.random.Generator, graph: Graph, count: int) -> tuple[dict[str, Array], ...]:
    """Ends around a point of −1 … 1; of integers two neighbours below `count`."""
    lo, hi = {}, {}
    for t in graph.inputs:
        kind = graph.types[t]
        if kind.dtype.is_float:
            middle = rng.uniform(-1, 1, kind.shape)
            lo[t] = (middle - RADIUS).astype(kind.dtype.numpy)
            hi[t] = (middle + RADIUS).astype(kind.dtype.numpy)
        else:
            lo[t] = rng.integers(0, count - 1, kind.shape).astype(kind.dtype.numpy)
            hi[t] = lo[t] + np.ones((), kind.dtype.numpy)
    return lo, hi


def drawn(
    rng: np.random.Generator, lo: Mapping[str, Array], hi: Mapping[str, Array]
) -> dict[str, Array]:
    found = {}
    for t, low in lo.items():
        if low.dtype.kind == "f":
            found[t] = np.clip(rng.uniform(low, hi[t]).astype(low.dtype), low, hi[t])
        else:
            found[t] = rng.integers(low, hi[t], endpoint=True).astype(low.dtype)
    return found


def apart(runtime: OnnxRuntime, graph: Graph, x: Mapping[str, Array]) -> dict[str, Array]:
    """|onnxruntime's outputs − the real network's|, element by element."""
    field = ApproximateReals(wide=True)
    real = evaluate_real(graph, {t: field.constant(v) for t, v in x.items()}, field)
    run = runtime.run(dict(x))
    return {
        t: np.asarray(np.abs(np.asarray(run[t], np.longdouble) - np.asarray(real[t])[0]))
        for t in graph.outputs
    }


if __name__ == "__main__":
    main()
