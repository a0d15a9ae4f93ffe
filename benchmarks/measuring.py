"""What the benchmarks share: where the models are, one pass of onnxruntime, rows kept as data."""

from __future__ import annotations

import datetime
import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from gpu_check.runtimes.runtimes import OnnxRuntime
from onnx_import.graph import Graph
from refine.results.verdict import Result

MODELS = Path(__file__).parents[2] / "shared" / "models"


def one_pass(runtime: OnnxRuntime, graph: Graph) -> float:
    """The median of 20 passes on zero inputs, one thread, no graph optimisations; seconds."""
    shapes = runtime.input_shapes()
    zeros = {t: np.zeros(shape, graph.types[t].dtype.numpy) for t, shape in shapes.items()}
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        runtime.run(zeros)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def figures(result: Result, path: Path, graph: Graph) -> dict[str, float]:
    """What every table says of a result, and the seconds of one onnxruntime pass beside it."""
    found = result.worst_found or 0.0
    return {
        "bound": result.bound,
        "worst_found": found,
        "ratio": result.bound / found if found else float("inf"),
        "seconds": result.seconds,
        "onnxruntime_seconds": one_pass(OnnxRuntime(path), graph),
    }


def largest_output(path: Path, inputs: Mapping[str, np.ndarray]) -> float:
    """The largest magnitude of a float output at a point, by onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    outputs = session.run(None, dict(inputs))
    arrays = [
        np.asarray([list(row.values()) for row in y]) if isinstance(y, list) else np.asarray(y)
        for y in outputs
    ]
    return max(float(np.max(np.abs(y))) for y in arrays if y.dtype.kind == "f")


def shown(value: object) -> str:
    """A cell of a table: three digits of a number, nothing where a row has none."""
    return f"{value:.3g}" if isinstance(value, float) else "" if value is None else str(value)


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows that a file keeps; none where there is no file."""
    if not path.exists():
        return []
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return rows


def earlier(path: Path, *keys: str) -> dict[tuple[Any, ...], Mapping[str, Any]]:
    """The same by the values of these keys."""
    return {tuple(row[k] for k in keys): row for row in rows_of(path)}


def save(path: Path, rows: Sequence[Mapping[str, Any]], **settings: float | str) -> None:
    """Rows as JSON, with the date, the machine and how they were made."""
    document = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        **settings,
        "rows": rows,
    }
    path.write_text(json.dumps(document, indent=2) + "\n")
