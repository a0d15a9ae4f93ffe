"""ResNet-50 from the onnx package at a point: what bounds of ten of its logits cost.

    python benchmarks/light_model.py [--model resnet50] [--contract ieee-any] [--save FILE]

Once with the model's own weights, which are all alike, and once with seeded ones, filters and
matrices scaled by their fan-in (He et al. 2015), normalisations that leave the scale as it is.
Prints processor seconds of composing bounds forward (of all tensors), of pulling the differences of
ten elements before the Softmax back to the input, and of one onnxruntime pass (one thread, no graph
optimisations; the least of five before and five after); the ratio of forward composition to that
pass; the peak memory; the largest bound of the ten, and the largest relative to their values.
Where there is no finite one, the first node at which it is lost is named.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from measuring import save
from onnx import numpy_helper
from rich.console import Console
from rich.table import Table

from encoders.contract.presets import PRESETS
from encoders.numbers.enclosure import point
from encoders.program import program_of
from onnx_import import load
from onnx_import.graph import Array
from refine.bounds.backward import pull_back, unit_functionals
from refine.bounds.network import InputBox, NetworkBounds, network_bounds

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
SEED = 5
OUTPUTS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--contract", default="ieee-any", choices=sorted(PRESETS))
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    rows = [measured(given.model, given.contract, seeded) for seeded in (False, True)]
    table = Table(title=f"light_{given.model} at a point, {given.contract}: processor seconds")
    for title in rows[0]:
        table.add_column(title.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*(f"{v:.3g}" if isinstance(v, float) else v for v in row.values()))
    Console(width=140).print(table)
    if given.save is not None:
        save(given.save, rows, outputs=OUTPUTS)


def measured(model: str, contract: str, seeded: bool) -> dict[str, float | str]:
    """Bounds by forward composition and by one backward pass, between passes of onnxruntime."""
    proto = onnx.load(LIGHT / f"light_{model}.onnx")
    if seeded:
        with_sensible_weights(proto, np.random.default_rng(SEED))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(proto, path)
        graph = load(path)
        before = _one_pass(path)
        (tensor,) = graph.inputs
        shape = graph.types[tensor].shape
        x = np.random.default_rng(SEED).standard_normal(shape).astype(np.float32)
        box = InputBox({tensor: point(x.astype(np.float64))}, {tensor: np.zeros(shape)})
        graph = program_of(graph).checked.graph  # as `check` does first; it loads the operators
        start = time.process_time()
        bounds = network_bounds(graph, box, PRESETS[contract], backward=False)
        forward = time.process_time() - start
        logits = next(node for node in graph.order if node.op == "Softmax").inputs[0]
        rows = np.linspace(0, graph.types[logits].size - 1, OUTPUTS).astype(np.intp)
        unit = unit_functionals(graph.types[logits].shape, rows)
        start = time.process_time()
        with np.errstate(all="ignore"):
            pulled = pull_back(bounds.maps, {}, {logits: unit}).upper
        backward = time.process_time() - start
        one = min(before, _one_pass(path))
    errors = np.minimum(pulled, bounds.maps.errors[logits].reshape(-1)[rows])
    values = bounds.maps.values[logits].magnitude.reshape(-1)[rows]
    return {
        "weights": "seeded" if seeded else "own",
        "forward": forward,
        "backward": backward,
        "onnxruntime": one,
        "ratio": forward / one,
        "peak_GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "bound": float(np.max(errors)),
        "relative": float(np.max(errors / values)),
        "infinite_from": "-" if np.all(np.isfinite(errors)) else _first_infinite(bounds),
    }


def with_sensible_weights(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    """Seeded initializers: He's filters, and normalisations that keep the scale; the last of each
    residual branch is scaled down to a quarter."""
    last = {t for n in model.graph.node if n.op_type == "Sum" for t in n.input}
    role = {
        name: (kind, bool(last.intersection(n.output)))
        for n in model.graph.node
        if n.op_type == "BatchNormalization"
        for name, kind in zip(n.input[1:], ("scale", "shift", "shift", "scale"), strict=True)
    }

    def vector(name: str, shape: tuple[int, ...]) -> Array:
        kind, ends = role.get(name, ("shift", False))
        if kind == "shift":
            return np.zeros(shape)
        return np.full(shape, 0.25 if ends and name.endswith("_s_0") else 1.0)

    with_weights(model, rng, vector)


def with_weights(
    model: onnx.ModelProto,
    rng: np.random.Generator,
    vector: Callable[[str, tuple[int, ...]], Array],
) -> None:
    """An initializer for every ConstantOfShape: matrices and filters scaled by their fan-in (He et
    al. 2015), vectors as `vector` makes them of name and shape."""
    shapes = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in [n for n in model.graph.node if n.op_type == "ConstantOfShape"]:
        shape = tuple(int(n) for n in shapes[node.input[0]])
        weights = vector(node.output[0], shape)
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
    return min(seconds)


def _first_infinite(bounds: NetworkBounds) -> str:
    for node in bounds.nodes:
        if not np.all(np.isfinite(node.errors)):
            failed = [p.statement for p in node.rounding.preconditions if not p.holds]
            return f"{node.node.describe()}: {'; '.join(failed)}"
    return "-"


if __name__ == "__main__":
    main()
