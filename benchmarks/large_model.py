"""Networks of 100 million parameters and more: memory and seconds of `refine bound`.

    python benchmarks/large_model.py [NAME …] [--contract NAME] [--timeout SECONDS] [--save FILE]

A convolutional network that ends in wide dense layers (102 million parameters), a dense one of
seven layers of 4096 neurons (105 million), and VGG-19 as the onnx package has it (144 million, all
alike). Inputs lie in a ball of radius 0.001. Each is written to a file and bounded by a process of
its own, whose peak memory is what is reported; 24 GiB are what it may take.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from measuring import save
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from rich.table import Table

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
MOST_GIB = 24.0
SEED = 3
RADIUS = "0.001"
COLUMNS = ("model", "parameters", "verdict", "bound", "seconds", "peak GiB", "at most")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MODELS))
    parser.add_argument("--contract", default="ieee-any")
    parser.add_argument("--timeout", type=float, default=300.0)
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    names = given.names or list(MODELS)
    rows = [measured(name, MODELS[name], given.contract, given.timeout) for name in names]
    table = Table(title=f"refine bound, {given.contract}")
    for title in COLUMNS:
        table.add_column(title, justify="left" if title == "model" else "right")
    for row in rows:
        table.add_row(
            str(row["model"]),
            f"{row['parameters']:,}",
            str(row["verdict"]),
            f"{row['bound']:.3g}" if isinstance(row["bound"], float) else str(row["bound"]),
            f"{row['seconds']:.0f}",
            f"{row['peak_gib']:.2f}",
            f"{MOST_GIB:g}",
        )
    Console(width=110).print(table)
    if given.save is not None:
        save(given.save, rows, at_most_gib=MOST_GIB, timeout=given.timeout)


def measured(
    name: str, make: Callable[[], onnx.ModelProto], contract: str, timeout: float
) -> dict[str, float | str | int]:
    """One row: the command line in a process of its own, and what that process needed."""
    with tempfile.TemporaryDirectory() as folder:
        path, answer = Path(folder) / "model.onnx", Path(folder) / "answer.json"
        onnx.save(make(), path)
        command = [sys.executable, "-m", "refine", "bound", str(path), "--contract", contract]
        command += ["--center", "0.5", "--radius", RADIUS, "--json", str(answer)]
        command += ["--timeout", str(timeout)]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, _, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        document = json.loads(answer.read_text())
    return {
        "model": name,
        "parameters": document["model"]["parameters"],
        "verdict": document["verdict"],
        "bound": document["bound"],
        "worst_found": document["worst_found"],
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "seconds": seconds,
        "peak_gib": usage.ru_maxrss / 2**20,
    }


def dense() -> onnx.ModelProto:
    """1024 inputs, seven hidden layers of 4096 neurons, 10 outputs."""
    return _model((1, 1024), [], [1024, 4096, 4096, 4096, 4096, 4096, 4096, 4096, 10])


def convolutional() -> onnx.ModelProto:
    """Six convolutions on 3 × 64 × 64, the last four halving, then two dense layers of 4096."""
    filters = [(3, 64, 1), (64, 64, 2), (64, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2)]
    return _model((1, 3, 64, 64), filters, [512 * 8 * 8, 2700, 4096, 10])


def vgg() -> onnx.ModelProto:
    return onnx.load(LIGHT / "light_vgg19.onnx")


def _model(
    shape: Sequence[int], filters: Sequence[tuple[int, int, int]], widths: Sequence[int]
) -> onnx.ModelProto:
    """Seeded weights scaled by their fan-in (He et al. 2015), a Relu after every layer but the
    last; `filters` are inputs, outputs and stride of 3 × 3 convolutions."""
    rng = np.random.default_rng(SEED)
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    last = "x"

    def weights(name: str, *size: int) -> str:
        values = rng.standard_normal(size, np.float32) * np.float32(np.sqrt(2 / np.prod(size[1:])))
        constants.append(numpy_helper.from_array(values, name))
        return name

    def add(op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op}{len(nodes)}"
        nodes.append(helper.make_node(op, [*inputs], [name], **attributes))
        return name

    for i, (read, written, stride) in enumerate(filters):
        kernel = weights(f"k{i}", written, read, 3, 3)
        last = add("Conv", last, kernel, pads=[1, 1, 1, 1], strides=[stride, stride])
        last = add("Relu", last)
    if filters:
        last = add("Flatten", last)
    for i, (read, written) in enumerate(pairwise(widths)):
        last = add("Gemm", last, weights(f"w{i}", written, read), transB=1)
        if i < len(widths) - 2:
            last = add("Relu", last)
    graph = helper.make_graph(
        nodes,
        "large",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, [1, widths[-1]])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


MODELS = {"dense": dense, "convolutional": convolutional, "vgg19": vgg}


if __name__ == "__main__":
    main()
