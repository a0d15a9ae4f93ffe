"""A transformer encoder block as PyTorch exports it: `examples/encoder_block.py` made the files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.contract.members import members
from encoders.contract.presets import FP16, IEEE_ANY, SEQUENTIAL
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_real
from gpu_check.runtimes.runtimes import OnnxRuntime
from onnx_import import load
from onnx_import.graph import Array, Graph
from refine.bounds.network import network_bounds
from refine.domain.domain import DomainOptions, read_domain
from refine.proof.proof import input_box

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "encoder"
SAMPLE = FOLDER / "sample.npy"
RADIUS = "1e-3"


def block(name: str) -> tuple[Path, Graph]:
    path = FOLDER / f"{name}.onnx"
    return path, load(path)


def apart(path: Path, graph: Graph, count: int) -> float:
    """The largest |onnxruntime − emulation| at random points of the ball."""
    rng = np.random.default_rng(11)
    (name,) = graph.inputs
    centre, dtype = np.load(SAMPLE), graph.types[name].dtype.numpy
    points = (centre + rng.uniform(-9e-4, 9e-4, (count, *centre.shape))).astype(dtype)
    with np.errstate(all="ignore"):
        emulated: Mapping[str, Array] = emulate(graph, {name: points}, SEQUENTIAL)
    runtime, (output,) = OnnxRuntime(path), graph.outputs
    found = np.stack([np.asarray(runtime.run({name: x})[output]) for x in points])
    assert np.all(np.isfinite(found))
    gap = found.astype(np.float64) - np.asarray(emulated[output]).astype(np.float64)
    return float(np.max(np.abs(gap)))


def test_the_bound_of_the_block_in_float32() -> None:
    """Both runs are within the bound of the reals, so within twice the bound of each other."""
    path, graph = block("dynamo-float32")
    domain = read_domain(
        graph, DomainOptions(center=str(SAMPLE), radius=RADIUS), IEEE_ANY.format_of
    )
    (box,) = domain.boxes
    bound = network_bounds(graph, input_box(box, domain, IEEE_ANY), IEEE_ANY).largest
    gap = apart(path, graph, 100)
    assert 0 < gap < 2 * bound
    assert bound < 2e-4


def test_the_bound_of_the_block_in_float16() -> None:
    """Accumulated in float32, as half-precision libraries do: the worst of its executions found
    lies below a finite bound."""
    _, graph = block("dynamo-float16")
    domain = read_domain(graph, DomainOptions(center=str(SAMPLE), radius=RADIUS), FP16.format_of)
    (box,) = domain.boxes
    bound = network_bounds(graph, input_box(box, domain, FP16), FP16).largest
    points = box.sample(np.random.default_rng(3), 2)
    real = evaluate_real(graph, points, ApproximateReals())
    typed = {t: v.astype(graph.types[t].dtype.numpy) for t, v in points.items()}
    found = 0.0
    for execution in members(FP16)[1:2]:
        computed = emulate(graph, typed, execution)
        for t in graph.outputs:
            gap = computed[t].astype(np.float64) - np.asarray(real[t], np.float64)
            found = max(found, float(np.max(np.abs(gap))))
    assert 1e-3 < found < bound < 0.02


@pytest.mark.parametrize(
    ("name", "limit"),
    [("torchscript-float32", 2e-6), ("dynamo-float16", 1e-2), ("torchscript-float16", 1e-2)],
)
def test_onnxruntime_is_near_the_emulation(name: str, limit: float) -> None:
    """Within a few units in the last place of the largest output, whose magnitude is about 4."""
    assert apart(*block(name), 100) < limit
