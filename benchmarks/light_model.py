"""The light models of the onnx package at a point: emulated, or what bounds of all tensors cost.

    python benchmarks/light_model.py --run [MODEL ...] [--save FILE]
    python benchmarks/light_model.py [--model resnet50] [--contract ieee-any] [--save FILE]

The models' own weights are all alike; they get seeded ones, filters and matrices scaled by their
fan-in (He et al. 2015), and for bounds normalisations that leave the scale as it is.

The first imports each model and sets its emulation under `ort-cpu` beside onnxruntime (one thread,
no graph optimisations): output elements with the same bits, the largest difference and the largest
output, seconds, and the peak memory so far. All of them are run if none is named; a run goes on
from what FILE holds. The second prints processor seconds of the bounds and of one onnxruntime pass,
their ratio, the peak memory, and the bound; where there is no finite one, the first node at which
it is lost.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from measuring import earlier, save
from onnx import numpy_helper
from rich.console import Console
from rich.table import Table

from encoders.contract import ORT_CPU, PRESETS
from encoders.enclosure import point
from gpu_check.emulator import emulate
from gpu_check.runtimes import OnnxRuntime
from onnx_import import load
from onnx_import.graph import Array
from refine.bounds import InputBox, NetworkBounds, network_bounds

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
SEED = 5
MODELS = (
    *("squeezenet", "shufflenet", "inception_v1", "inception_v2", "densenet121", "resnet50"),
    *("bvlc_alexnet", "zfnet512", "vgg19"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--contract", default="ieee-any", choices=sorted(PRESETS))
    parser.add_argument("--run", nargs="*", choices=MODELS, metavar="MODEL")
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    if given.run is not None:
        run_each(given.run or MODELS, given.save)
        return
    row = measured(given.model, given.contract)
    table = Table(title=f"light_{given.model} at a point, {given.contract}: processor seconds")
    for title in row:
        table.add_column(title.replace("_", " "), justify="right")
    table.add_row(*(f"{v:.3g}" if isinstance(v, float) else v for v in row.values()))
    Console(width=140).print(table)
    if given.save is not None:
        save(given.save, [row])


def run_each(models: Sequence[str], kept: Path | None) -> None:
    rows = {} if kept is None else dict(earlier(kept, "model"))
    for model in models:
        if (model,) not in rows:
            rows[model,] = ran(model)
            print(rows[model,], flush=True)
            if kept is not None:
                save(kept, list(rows.values()))
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
        ours = emulate(graph, {tensor: x}, ORT_CPU)[output][0]
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


def measured(model: str, contract: str) -> dict[str, float | str]:
    """Bounds by forward composition, and one pass of onnxruntime."""
    proto = onnx.load(LIGHT / f"light_{model}.onnx")
    with_sensible_weights(proto, np.random.default_rng(SEED))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(proto, path)
        graph = load(path)
        one = _one_pass(path)
    (tensor,) = graph.inputs
    shape = graph.types[tensor].shape
    x = np.random.default_rng(SEED).standard_normal(shape).astype(np.float32)
    box = InputBox({tensor: point(x.astype(np.float64))}, {tensor: np.zeros(shape)})
    start = time.process_time()
    bounds = network_bounds(graph, box, PRESETS[contract], backward=False)
    seconds = time.process_time() - start
    return {
        "bounds": seconds,
        "onnxruntime": one,
        "ratio": seconds / one,
        "peak_GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "bound": bounds.largest,
        "infinite_from": _first_infinite(bounds),
    }


def with_sensible_weights(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    """A seeded initializer for every ConstantOfShape: He's filters, and normalisations that keep
    the scale; the last of each residual branch is scaled down to a quarter."""
    shapes = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    last = {t for n in model.graph.node if n.op_type == "Sum" for t in n.input}
    role = {
        name: (kind, bool(last.intersection(n.output)))
        for n in model.graph.node
        if n.op_type == "BatchNormalization"
        for name, kind in zip(n.input[1:], ("scale", "shift", "shift", "scale"), strict=True)
    }
    for node in [n for n in model.graph.node if n.op_type == "ConstantOfShape"]:
        shape = tuple(int(n) for n in shapes[node.input[0]])
        kind, ends = role.get(node.output[0], ("shift", False))
        weights = np.full(shape, 1.0 if kind == "scale" else 0.0)
        if len(shape) > 1:
            weights = rng.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[1:]))
        elif ends and node.output[0].endswith("_s_0"):
            weights = weights / 4.0
        model.graph.initializer.append(
            numpy_helper.from_array(weights.astype(np.float32), node.output[0])
        )
        model.graph.node.remove(node)
    model.ir_version = max(model.ir_version, 4)


def with_random_weights(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    """A random initializer for every ConstantOfShape: matrices and filters scaled by their fan-in,
    vectors between ½ and 1, as variances and scales must be."""
    shapes = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in [n for n in model.graph.node if n.op_type == "ConstantOfShape"]:
        shape = tuple(int(n) for n in shapes[node.input[0]])
        weights: Array = rng.uniform(0.5, 1.0, shape)
        if len(shape) > 1:
            weights = rng.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[1:]))
        value = numpy_helper.from_array(weights.astype(np.float32), node.output[0])
        model.graph.initializer.append(value)
        model.graph.node.remove(node)
    model.ir_version = max(model.ir_version, 4)


def _one_pass(path: Path) -> float:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options)
    (read,) = session.get_inputs()[:1]
    x = np.zeros(read.shape, np.float32)
    seconds = []
    for _ in range(5):
        start = time.process_time()
        session.run(None, {read.name: x})
        seconds.append(time.process_time() - start)
    return float(np.median(seconds))


def _first_infinite(bounds: NetworkBounds) -> str:
    for node in bounds.nodes:
        if not np.all(np.isfinite(node.errors)):
            failed = [p.statement for p in node.rounding.preconditions if not p.holds]
            return f"{node.node.describe()}: {'; '.join(failed)}"
    return "-"


if __name__ == "__main__":
    main()
