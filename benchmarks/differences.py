"""Copies of networks beside the originals: one weight moved by an ulp, float16, int8.

    python benchmarks/differences.py [PATTERN ...] [--budget SECONDS] [--models DIR] [--save FILE]

The original is read over the reals. The copy of one ulp is too; the others run: float16 under
`fp16`, int8 under `ort-cpu`. Each bound, of the pair jointly, stands beside the largest difference
found and beside what two separate analyses give: the farthest that the two real output ranges can
be apart, plus the copy's own rounding error. The copies are written by onnxruntime's own tools.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from measuring import MODELS, save
from onnx import TensorProto, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from onnxruntime.transformers.float16 import convert_float_to_float16
from rich.console import Console
from rich.table import Table

from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import EXACT, PRESETS
from gpu_check.runtimes.runtimes import OnnxRuntime
from onnx_import import load
from onnx_import.graph import Array, Graph
from refine.bounds.network import InputBox, network_bounds
from refine.claims.kinds.accuracy import check
from refine.claims.kinds.difference import diff
from refine.claims.options import Options
from refine.domain.domain import Domain, DomainOptions, read_domain
from refine.lemmas.cache import default_directory
from refine.proof.proof import input_box
from refine.results.verdict import Side, Tolerance

NETWORKS = (
    ("mnist_fc/mnist-net_256x2", "mnist_fc/prop_0_0.03"),
    ("mnist_fc/mnist-net_256x4", "mnist_fc/prop_0_0.03"),
)
ULPS = 5  # weights moved, one in each copy
CALIBRATION = 32  # inputs


@dataclass(frozen=True)
class Original:
    """A network, its file, and where it is used."""

    path: Path
    graph: Graph
    domain: Domain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("patterns", nargs="*", default=["*"], help="of rows, such as '*float16*'")
    parser.add_argument("--budget", type=float, default=60.0)
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    logging.disable(logging.WARNING)  # of onnxruntime's quantiser
    rows = []
    table = Table(title=f"budget {given.budget:g} s")
    for title in ("network", "copy", "contract", "bound", "found", "ratio", "separately", "gain"):
        table.add_column(title)
    for model, prop in NETWORKS:
        original = opened(given.models, model, prop)
        for name, copy, contract in copies(original):
            if not any(fnmatch(f"{model} {name}", p) for p in given.patterns):
                continue
            row = measured(original, copy, contract, given.budget)
            rows.append({"network": model, "domain": prop, "copy": name, **row})
            numbers = ("bound", "worst_found", "ratio", "separately", "gain")
            cells = [Path(model).name, name, contract.name, *(f"{row[k]:.3g}" for k in numbers)]
            table.add_row(*cells)
            print(*cells, flush=True)
    Console(width=140).print(table)
    if given.save is not None:
        save(given.save, rows, budget=given.budget)


def opened(models: Path, model: str, prop: str) -> Original:
    path = models / f"{model}.onnx"
    graph = load(path)
    options = DomainOptions(vnnlib=str(models / f"{prop}.vnnlib"))
    return Original(path, graph, read_domain(graph, options, EXACT.format_of))


def copies(original: Original) -> Iterator[tuple[str, Callable[[Path], Path], RuntimeContract]]:
    """Name, writer and contract of each copy."""
    for seed in range(ULPS):
        yield f"one ulp, {seed}", partial(one_ulp, original, seed=seed), EXACT
    yield "float16", lambda to: in_float16(original.path, to), PRESETS["fp16"]
    yield "int8", lambda to: in_int8(original, to), PRESETS["ort-cpu"]


def one_ulp(original: Original, target: Path, seed: int) -> Path:
    """One random weight that has an effect at the middle of the domain moved by an ulp."""
    (box,), rng = original.domain.boxes, np.random.default_rng(seed)
    middle = {n: ((box.lo[n] + box.hi[n]) / 2).astype(np.float32) for n in box.lo}
    model = onnx.load(original.path)
    matrices = [t for t in model.graph.initializer if len(t.dims) > 1]
    before = OnnxRuntime(original.path).run(middle)
    while True:
        tensor = matrices[rng.integers(len(matrices))]
        values, at = numpy_helper.to_array(tensor), rng.integers(math.prod(tensor.dims))
        for factor in (2.0, 1.0 + 2.0**-23):
            moved = values.copy()
            moved.flat[at] *= np.float32(factor)
            tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))
            onnx.save(model, target)
            after = OnnxRuntime(target).run(middle)
            if factor == 2.0 and all(np.array_equal(before[t], after[t]) for t in before):
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
                break
        else:
            return target


def in_float16(source: Path, target: Path) -> Path:
    """Weights and arithmetic; inputs and outputs stay as they are."""
    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)
    return target


class Samples(CalibrationDataReader):
    """Random inputs of the domain."""

    def __init__(self, original: Original) -> None:
        (box,), rng = original.domain.boxes, np.random.default_rng(0)
        self._left: list[dict[str, Array]] = [
            {n: rng.uniform(box.lo[n], box.hi[n]).astype(np.float32) for n in box.lo}
            for _ in range(CALIBRATION)
        ]

    def get_next(self) -> dict[str, Array] | None:  # type: ignore[override]
        return self._left.pop() if self._left else None


def in_int8(original: Original, target: Path) -> Path:
    """QuantizeLinear and DequantizeLinear around every product."""
    quantize_static(
        original.path,
        target,
        Samples(original),
        quant_format=QuantFormat.QDQ,
        extra_options={"ActivationSymmetric": False},
    )
    assert any(t.data_type == TensorProto.INT8 for t in onnx.load(target).graph.initializer)
    return target


def measured(
    original: Original, copy: Callable[[Path], Path], contract: RuntimeContract, budget: float
) -> dict[str, float | str]:
    """The joint bound, the largest difference found, and the two separate analyses."""
    with tempfile.TemporaryDirectory() as folder:
        graph = load(copy(Path(folder) / "copy.onnx"))
        options = Options(None, default_directory(), budget=budget, workers=os.cpu_count() or 1)
        spec, impl = Side(original.graph, EXACT), Side(graph, contract)
        result = diff(spec, impl, original.domain, Tolerance(), options)
        apart = separately(original, graph, contract, replace(options, search=False))
    found = result.worst_found or 0.0
    return {
        "contract": contract.name,
        "bound": result.bound,
        "worst_found": found,
        "ratio": result.bound / found if found else float("inf") if result.bound else 1.0,
        "separately": apart,
        "gain": apart / result.bound if result.bound else float("inf"),
        "seconds": result.seconds,
    }


def separately(
    original: Original, copy: Graph, contract: RuntimeContract, options: Options
) -> float:
    """max |y′ − y| over the two real output ranges, plus the copy's rounding error, which gets the
    same budget."""
    (box,) = original.domain.boxes
    mine = input_box(box, original.domain, EXACT)
    ((values, errors),) = zip(mine.values.values(), mine.errors.values(), strict=True)
    theirs = InputBox({copy.inputs[0]: values}, {copy.inputs[0]: errors})
    (before,), (after,) = original.graph.outputs, copy.outputs
    a = network_bounds(original.graph, mine, EXACT).maps.values[before]
    b = network_bounds(copy, theirs, EXACT).maps.values[after]
    own = 0.0
    if not contract.exact:
        own = check(copy, original.domain, contract, Tolerance(), options).bound
    return float(np.max(np.maximum(b.hi - a.lo, a.hi - b.lo))) + own


if __name__ == "__main__":
    main()
