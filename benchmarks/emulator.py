"""How many inputs a second the emulator runs, bit for bit, beside one onnxruntime pass.

    python benchmarks/emulator.py [--models DIR] [--batch N] [--save FILE]

Seconds are of processor time, all threads counted. `numpy` is the emulator where there is no C
compiler; both give the same bits, which is checked.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from measuring import MODELS, one_pass, save
from rich.console import Console
from rich.table import Table

from encoders.arithmetic.numpy_arithmetic import NumpyArithmetic
from encoders.contract.contract import RuntimeContract, Subnormals
from encoders.contract.members import members
from encoders.contract.orders import Lanes
from encoders.contract.presets import CUDA_TF32, ORT_CPU, PRESETS, SEQUENTIAL_FMA
from encoders.numbers.formats import BFLOAT16, BINARY16, round_array
from gpu_check.emulator.compiled import compiled_chains
from gpu_check.emulator.emulator import emulate
from gpu_check.runtimes.runtimes import OnnxRuntime
from onnx_import import load
from onnx_import.graph import Array

FLUSH = Subnormals.FLUSH
CONTRACTS: Mapping[str, RuntimeContract] = {
    **{name: PRESETS[name] for name in ("sequential", "sequential-fma", "pairwise")},
    "ort-cpu": members(ORT_CPU)[0],
    "lanes of 8, FMA": replace(SEQUENTIAL_FMA, order=Lanes(8)),
    "ort-cpu, flushing": replace(members(ORT_CPU)[0], results=FLUSH, operands=FLUSH),
    "tf32, steps of 16": members(CUDA_TF32)[0],
    **{
        f"{fmt.name}{', FMA' if fused else ''}": replace(
            SEQUENTIAL_FMA if fused else PRESETS["sequential"], compute_format=fmt
        )
        for fmt in (BINARY16, BFLOAT16)
        for fused in (False, True)
    },
}
ROWS = tuple(
    (model, contract)
    for model in (
        "acasxu/ACASXU_run2a_1_1_batch_2000",
        "mnist_fc/mnist-net_256x4",
        "oval21/cifar_base_kw",
    )
    for contract in CONTRACTS
)
_SLOW = 8  # times fewer inputs for the emulator without a compiler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    rows = [measured(given.models, *row, given.batch) for row in ROWS]
    table = Table(title=f"inputs per second of processor time, batches of {given.batch}")
    for title in ("network", "contract", "inputs/s", "numpy", "onnxruntime, one at a time"):
        table.add_column(title)
    for row in rows:
        speeds = (row["inputs_per_second"], row["numpy_inputs_per_second"])
        ort = 1.0 / float(row["onnxruntime_seconds"])
        name = Path(str(row["network"])).name
        table.add_row(name, str(row["contract"]), *(f"{v:.0f}" for v in (*speeds, ort)))
    Console(width=120).print(table)
    if given.save is not None:
        save(given.save, rows, batch=given.batch, compiled=float(compiled_chains() is not None))


def measured(models: Path, model: str, contract: str, batch: int) -> dict[str, float | str]:
    path = models / f"{model}.onnx"
    graph = load(path)
    rng = np.random.default_rng(0)
    chosen = CONTRACTS[contract]
    inputs = {
        t: round_array(
            rng.random((batch, *graph.types[t].shape)), chosen.format_of(graph.types[t].dtype)
        )
        for t in graph.inputs
    }
    few = {t: v[: max(batch // _SLOW, 1)] for t, v in inputs.items()}
    quick, quick_seconds = timed(lambda: emulate(graph, inputs, chosen))
    slow, slow_seconds = timed(lambda: emulate(graph, few, chosen, arithmetic=NumpyArithmetic))
    for t in graph.outputs:
        np.testing.assert_array_equal(quick[t][: len(slow[t])], slow[t])
    return {
        "network": model,
        "contract": contract,
        "inputs_per_second": batch / quick_seconds,
        "numpy_inputs_per_second": max(batch // _SLOW, 1) / slow_seconds,
        "onnxruntime_seconds": one_pass(OnnxRuntime(path), graph),
    }


def timed(run: Callable[[], Mapping[str, Array]]) -> tuple[Mapping[str, Array], float]:
    """The result, and the least processor time of two runs."""
    seconds = []
    for _ in range(2):
        start = time.process_time()
        result = run()
        seconds.append(time.process_time() - start)
    return result, min(seconds)


if __name__ == "__main__":
    main()
