"""The light models of the onnx package at a point, emulated beside onnxruntime.

    python benchmarks/light_models.py [MODEL ...] [--save FILE]

The models' own weights are all alike; they get seeded ones, filters and matrices scaled by their
fan-in. Each is imported, and its emulation under `ort-cpu` set beside onnxruntime (one thread, no
graph optimisations): output elements with the same bits, the largest difference and the largest
output, seconds, and the peak memory so far. A run goes on from what FILE holds.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from light_model import LIGHT, SEED, with_weights
from measuring import earlier, save
from rich.console import Console
from rich.table import Table

from encoders.contract.members import members
from encoders.contract.presets import ORT_CPU
from gpu_check.emulator.emulator import emulate
from gpu_check.runtimes.runtimes import OnnxRuntime
from onnx_import import load

MODELS = (
    *("squeezenet", "shufflenet", "inception_v1", "inception_v2", "densenet121", "resnet50"),
    *("bvlc_alexnet", "zfnet512", "vgg19"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", choices=(*MODELS, []), metavar="MODEL")
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    rows = {} if given.save is None else earlier(given.save, "model")
    for model in given.models or MODELS:
        if (model,) not in rows:
            rows = {**rows, (model,): ran(model)}
            if given.save is not None:
                save(given.save, list(rows.values()))
    table = Table(title="emulated beside onnxruntime at a point")
    for title in next(iter(rows.values())):
        table.add_column(title.replace("_", " "), justify="right")
    for row in rows.values():
        table.add_row(*(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()))
    Console(width=140).print(table)


def ran(model: str) -> dict[str, float | int | str]:
    """One pass of the emulator, one of onnxruntime."""
    proto = onnx.load(LIGHT / f"light_{model}.onnx")
    with_random_weights(proto, np.random.default_rng(SEED))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(proto, path)
        start = time.perf_counter()
        graph = load(path)
        loaded = time.perf_counter()
        (tensor,), (output,) = graph.inputs, graph.outputs
        shape = graph.types[tensor].shape
        x = np.random.default_rng(SEED).standard_normal((1, *shape)).astype(np.float32)
        ours = emulate(graph, {tensor: x}, members(ORT_CPU)[0])[output][0]
        emulated = time.perf_counter()
        given = np.asarray(OnnxRuntime(path).run({tensor: x[0]})[output])
    return {
        "model": model,
        "parameters": graph.parameters,
        "import_seconds": loaded - start,
        "emulation_seconds": emulated - loaded,
        "elements": given.size,
        "equal": int(np.count_nonzero(given == ours)),
        "largest_difference": float(np.max(np.abs(given.astype(np.float64) - ours))),
        "largest_output": float(np.max(np.abs(given))),
        "peak_GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def with_random_weights(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    """Vectors between ½ and 1, as variances and scales must be."""
    with_weights(model, rng, lambda name, shape: rng.uniform(0.5, 1.0, shape))


if __name__ == "__main__":
    main()
