"""Tolerances that people set by hand, beside those that are proved and what onnxruntime does.

    python benchmarks/tolerances.py [--points N] [--runs N] [--save FILE]

First WebNN's elementwise operators (web-platform-tests, webnn/resources/utils.js), in float32 on
onnxruntime's CPU: at N points of all magnitudes, how often the runtime leaves the published number
of ulps, the worst of them, how often it leaves the tolerance proved at that point (never, unless
the contract is wrong), and the largest share of that which it uses. Then a matrix product with an
addend (as iree-test-suites 138) and one expert of a mixture in bfloat16 (as ROCm/aiter 5031). With
--runs, networks of VNN-COMP under ../shared/models at so many inputs within their properties, each
run held against the tolerance of its own input, and the largest of these beside the largest error;
a few inputs are bounded alone, as `refine tolerance` does it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
from measuring import MODELS, save
from onnx import helper, numpy_helper
from rich.console import Console
from rich.table import Table

from encoders.contract.presets import PRESETS
from encoders.numbers.enclosure import FloatArray, Interval, point
from encoders.program import program_of
from onnx_import import load
from onnx_import.graph import Graph
from refine.bounds.backward import pull_back
from refine.bounds.batch import batch_bounds
from refine.bounds.evaluated import values_at
from refine.bounds.network import InputBox, Known, network_bounds
from refine.bounds.widened import widened
from refine.domain.domain import DomainOptions, read_domain
from refine.everyday.allowance import allowance
from refine.options.models import opened, read_as

PUBLISHED: dict[str, tuple[int, dict[str, Any]]] = {
    "Sigmoid": (34, {}),
    "Gelu": (18, {}),
    "Elu": (18, {}),
    "Tanh": (16, {}),
    "Softplus": (18, {}),
    "Softsign": (3, {}),
    "HardSigmoid": (2, {"alpha": 0.2, "beta": 0.5}),
    "HardSwish": (4, {}),
    "LeakyRelu": (1, {"alpha": 0.01}),
}
"""The operator of ONNX, the ulps that WebNN allows in float32, and its default attributes."""
CHUNK = 2**16
NETWORKS = (
    ("mnist_fc/mnist-net_256x2", "ieee-any", 1.0),
    ("mnist_fc/mnist-net_256x4", "ieee-any", 1.0),
    ("mnist_fc/mnist-net_256x4", "ort-cpu", 0.01),
    ("cifar10_resnet/resnet_2b", "ieee-any", 1.0),
)
"""A network, a contract, and which part of the runs: pinned orders of long sums take time."""
BATCH = 64  # inputs bounded in one pass
MOST_ALONE = 64  # inputs bounded by themselves


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    table = Table(title=f"WebNN in float32, onnxruntime {onnxruntime.__version__}, CPU")
    for title in ("operator", "contract", "points", "ulps published", "seen", "at"):
        table.add_column(title)
    for title in ("outside these", "outside what is proved", "largest share of that"):
        table.add_column(title)
    rows: list[dict[str, Any]] = []
    for op in PUBLISHED:
        row = elementwise(op, given.points)
        rows.append(row)
        print(*(f"{key} {value}" for key, value in row.items()), sep="; ", flush=True)
        cells = (row["operator"], row["contract"], row["points"], row["allowed"])
        seen = (f"{row['ulps']:.4g}", f"{row['at']!r}", row["left_published"], row["left"])
        table.add_row(*map(str, (*cells, *seen)), f"{row['share']:.3f}")
    Console(width=150).print(table)
    others = Table(title="points of whole networks")
    for title in ("network", "contract", "largest |value|", "error seen", "atol proved", "CPU s"):
        others.add_column(title)
    for row in whole():
        rows.append(row)
        numbers = (row["largest"], row["seen"], row["atol"], row["seconds"])
        others.add_row(row["network"], row["contract"], *(f"{v:.3g}" for v in numbers))
    Console(width=120).print(others)
    if given.runs:
        runs = Table(title="inputs within the properties of networks")
        for title in ("network", "contract", "runs", "above", "largest error", "largest atol"):
            runs.add_column(title)
        for title in ("largest share", "of few: error", "atol", "CPU s"):
            runs.add_column(title)
        for name, contract, part in NETWORKS:
            row = runs_of(name, contract, max(int(given.runs * part), BATCH))
            rows.append(row)
            numbers = tuple(
                row[key] for key in ("seen", "atol", "share", "seen_alone", "alone", "seconds")
            )
            cells = (name, contract, str(row["runs"]), str(row["left"]))
            runs.add_row(*cells, *(f"{v:.3g}" for v in numbers))
        Console(width=120).print(runs)
    if given.save is not None:
        save(given.save, rows)


def elementwise(op: str, points: int) -> dict[str, Any]:
    """One operator at so many points."""
    allowed, attributes = PUBLISHED[op]
    name = "ort-cpu"
    inputs = of_all_sizes(points)
    found: dict[str, Any] = {"operator": op, "contract": name, "points": 0, "allowed": allowed}
    found |= {"ulps": 0.0, "at": 0.0, "left_published": 0, "left": 0, "share": 0.0}
    model = operator(op, attributes, CHUNK)
    graph, session = graph_of(model), session_of(model)
    for start in range(0, points - CHUNK + 1, CHUNK):
        x = inputs[start : start + CHUNK]
        (y,) = session.run(None, {"x": x})
        real, bound = at_point(graph, {"x": x}, name)["y"]
        off = distance(np.asarray(y, np.float64), real)
        ulps = off / spacing(real)
        worst = int(np.argmax(ulps))
        if ulps[worst] > found["ulps"]:
            found |= {"ulps": float(ulps[worst]), "at": float(x[worst])}
        share = np.where(off <= 0, 0.0, off / np.maximum(bound, np.finfo(np.float64).tiny))
        found["points"] += CHUNK
        found["left_published"] += int(np.sum(ulps > allowed))
        found["left"] += int(np.sum(off > bound))
        found["share"] = max(found["share"], float(np.max(share)))
    return found


def of_all_sizes(points: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Half of them evenly from -8 to 8, a quarter over all magnitudes down to the subnormal
    numbers, a quarter further out."""
    rng = np.random.default_rng(0)
    even = rng.uniform(-8, 8, points // 2)
    small = 10.0 ** rng.uniform(-45, 1, points // 4)
    far = 10.0 ** rng.uniform(0, 2, points - points // 2 - points // 4)
    signed = [even, *(rng.choice([-1, 1], len(v)) * v for v in (small, far))]
    return rng.permutation(np.concatenate(signed)).astype(np.float32)


def at_point(
    graph: Graph, inputs: dict[str, Any], contract: str
) -> dict[str, tuple[Interval, FloatArray]]:
    """By output, where the real values lie and how far runs may be from them."""
    wide = {t: np.asarray(v, np.float64).reshape(graph.types[t].shape) for t, v in inputs.items()}
    box = InputBox(
        {t: point(v) for t, v in wide.items()}, {t: np.zeros(v.shape) for t, v in wide.items()}
    )
    with np.errstate(all="ignore"):
        found = network_bounds(graph, box, PRESETS[contract], backward=len(graph.order) > 1)
    values = {**found.maps.values, **values_at(graph, box.values)}
    return {t: (values[t], found.errors[t]) for t in graph.outputs}


def distance(given: FloatArray, real: Interval) -> FloatArray:
    """At least |given − real|."""
    return np.asarray(np.maximum(np.maximum(given - real.hi, real.lo - given), 0.0))


def spacing(real: Interval) -> FloatArray:
    """Of float32 numbers at the real value."""
    _, exponent = np.frexp(real.magnitude)
    return np.asarray(np.ldexp(1.0, np.maximum(exponent - 24, -149)))


def operator(op: str, attributes: dict[str, Any], size: int) -> onnx.ModelProto:
    return model_of([helper.make_node(op, ["x"], ["y"], **attributes)], {"x": [size]}, "y", {})


def model_of(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[int]],
    output: str,
    held: dict[str, Any],
    kind: int = onnx.TensorProto.FLOAT,
) -> onnx.ModelProto:
    sides = [helper.make_tensor_value_info(t, kind, shape) for t, shape in inputs.items()]
    made = [helper.make_tensor_value_info(output, kind, None)]
    stored = [numpy_helper.from_array(v, t) for t, v in held.items()]
    graph = helper.make_graph(nodes, "g", sides, made, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


def runs_of(name: str, contract: str, runs: int) -> dict[str, Any]:
    """A network at random inputs within the boxes of its properties."""
    path = MODELS / f"{name}.onnx"
    graph, session = load(path), onnxruntime.InferenceSession(path)
    tensor, fed = graph.inputs[0], session.get_inputs()[0]
    shape = [d if isinstance(d, int) else 1 for d in fed.shape]
    files = [DomainOptions(vnnlib=str(file)) for file in sorted(path.parent.glob("*.vnnlib"))]
    formats = PRESETS[contract].format_of
    boxes = [box for file in files for box in read_domain(graph, file, formats).boxes]
    rng = np.random.default_rng(3)
    found: dict[str, Any] = {"network": path.stem, "contract": contract, "runs": 0, "left": 0}
    found |= {"seen": 0.0, "atol": 0.0, "share": 0.0, "alone": 0.0, "seen_alone": 0.0}
    start = time.process_time()
    for number in range(-(-runs // BATCH)):
        x = boxes[number % len(boxes)].sample(rng, BATCH)[tensor]
        real, bound = at_points(graph, x, contract)
        each = x.astype(np.float32).reshape(BATCH, *shape)
        y = np.stack([np.asarray(session.run(None, {fed.name: one})[0]) for one in each])
        off = distance(y.astype(np.float64).reshape(bound.shape), real)
        found["runs"] += BATCH
        found["left"] += int(np.sum(np.any(off > bound, axis=1)))
        found["seen"] = max(found["seen"], float(np.max(off)))
        found["atol"] = max(found["atol"], float(np.max(bound)))
        found["share"] = max(found["share"], float(np.max(off / bound)))
        if number < MOST_ALONE:
            own = InputBox({tensor: point(x[0])}, {tensor: np.zeros(graph.types[tensor].shape)})
            alone = network_bounds(graph, own, PRESETS[contract]).largest
            found["left"] += int(float(np.max(off[0])) > alone)
            found["alone"] = max(found["alone"], alone)
            found["seen_alone"] = max(found["seen_alone"], float(np.max(off[0])))
    return found | {"seconds": time.process_time() - start}


def at_points(graph: Graph, points: FloatArray, contract: str) -> tuple[Interval, FloatArray]:
    """Where the real values of the output lie at many inputs, and how far runs may be from them:
    (points, elements)."""
    (tensor,), (output,), many = graph.inputs, graph.outputs, len(points)
    wide = widened(program_of(graph), many)
    assert wide is not None, "rows of this network are no networks of their own"
    shape = graph.types[tensor].shape
    exactly = {tensor: np.zeros(shape)}
    boxes = [InputBox({tensor: point(x.reshape(shape))}, exactly) for x in points]
    with np.errstate(all="ignore"):
        found, _ = batch_bounds(
            wide, boxes, PRESETS[contract], around=Known({}, {}), ranges=[{} for _ in boxes]
        )
        values = found.maps.values[output]
        size = values.lo.size // many
        each = np.broadcast_to(np.eye(size)[:, None], (size, many, size))
        upper = pull_back(found.maps, {}, {output: each.reshape(size, *values.lo.shape)}).upper
    composed = np.broadcast_to(found.maps.errors[output], values.lo.shape).reshape(many, size)
    real = Interval(values.lo.reshape(many, size), values.hi.reshape(many, size))
    return real, np.minimum(composed, upper.T)


def graph_of(model: onnx.ModelProto) -> Graph:
    with opened(model) as source:
        return read_as(source)


def session_of(model: onnx.ModelProto) -> Any:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def whole() -> Iterator[dict[str, Any]]:
    for terms in (64, 128, 256):
        for contract in ("ieee-any", "ort-cpu"):
            yield product(terms, contract)
    yield expert(fused=True)
    yield expert(fused=False)


def product(terms: int, contract: str) -> dict[str, Any]:
    """A·B + C of float32 numbers from -1 to 1."""
    rng = np.random.default_rng(1)
    shapes = {"a": [128, terms], "b": [terms, 128], "c": [128, 128]}
    nodes = [
        helper.make_node("MatMul", ["a", "b"], ["m"]),
        helper.make_node("Add", ["m", "c"], ["y"]),
    ]
    model = model_of(nodes, shapes, "y", {})
    x = {t: rng.uniform(-1, 1, s).astype(np.float32) for t, s in shapes.items()}
    (y,) = session_of(model).run(None, x)
    return compared(f"A·B + C, {terms} terms", model, x, np.asarray(y, np.float64), contract)


def expert(fused: bool, tokens: int = 4, width: int = 512, inner: int = 256) -> dict[str, Any]:
    """down(silu(gate(x))·up(x)) of bfloat16 numbers, products added in float32, with weights so
    large that results reach some thousands. `fused` kernels round to bfloat16 at the end alone."""
    rng = np.random.default_rng(2)
    short = ml_dtypes.bfloat16
    shapes = {
        "gate": ((width, inner), 0.4),
        "up": ((width, inner), 0.4),
        "down": ((inner, width), 2),
    }
    held = {t: rng.normal(0, scale, shape).astype(short) for t, (shape, scale) in shapes.items()}
    wide = {t: f"{t}/wide" if fused else t for t in ("x", *held)}
    steps = [
        helper.make_node("MatMul", [wide["x"], wide["gate"]], ["g"]),
        helper.make_node("Sigmoid", ["g"], ["s"]),
        helper.make_node("Mul", ["g", "s"], ["silu"]),
        helper.make_node("MatMul", [wide["x"], wide["up"]], ["u"]),
        helper.make_node("Mul", ["silu", "u"], ["h"]),
        helper.make_node("MatMul", ["h", wide["down"]], ["w" if fused else "y"]),
    ]
    if fused:
        kind = onnx.TensorProto.FLOAT
        before = [helper.make_node("Cast", [t], [w], to=kind) for t, w in wide.items()]
        after = helper.make_node("Cast", ["w"], ["y"], to=onnx.TensorProto.BFLOAT16)
        steps = [*before, *steps, after]
    model = model_of(steps, {"x": [tokens, width]}, "y", held, onnx.TensorProto.BFLOAT16)
    x = rng.normal(0, 1, (tokens, width)).astype(short)
    ran = {t: v.astype(np.float32) for t, v in held.items()}

    def kept(v: Any) -> Any:
        return v if fused else rounded(v)

    g, u = (kept(x.astype(np.float32) @ ran[t]) for t in ("gate", "up"))
    with np.errstate(over="ignore"):
        silu = kept(g * kept(1 / (1 + np.exp(-g))))
    y = rounded(kept(silu * u) @ ran["down"])
    what = f"expert, bfloat16, {'rounded once' if fused else 'every step rounded'}"
    return compared(what, model, {"x": x}, y.astype(np.float64), "bf16")


def rounded(values: Any) -> Any:
    return values.astype(ml_dtypes.bfloat16).astype(np.float32)


def compared(
    what: str, model: onnx.ModelProto, x: dict[str, Any], ran: FloatArray, contract: str
) -> dict[str, Any]:
    """A run beside the tolerance at its own input."""
    start = time.process_time()
    graph = graph_of(model)
    real, bound = at_point(graph, x, contract)["y"]
    proved = allowance("y", bound, real, None, Fraction(0)).largest
    seconds = time.process_time() - start
    off = distance(ran, real)
    return {
        "network": what,
        "contract": contract,
        "largest": float(np.max(real.magnitude)),
        "seen": float(np.max(off)),
        "atol": proved,
        "left": int(np.sum(off > bound)),
        "seconds": seconds,
    }


if __name__ == "__main__":
    main()
