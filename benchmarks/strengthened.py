"""Properties made stronger, proved over the reals by Marabou, and run on onnxruntime.

    python benchmarks/strengthened.py --marabou PYTHON [--seconds S] [--runs N]

PYTHON is an interpreter that has `maraboupy`. For each instance: what `refine strengthen` moves
rows by at most, Marabou's answer to the stronger property, how many of N runs on inputs of the
domain violate the original one, how near they come, and our own claim on it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from measuring import MODELS

import refine
from encoders.contract.presets import IEEE_ANY
from gpu_check.runtimes.runtimes import OnnxRuntime
from onnx_import import load
from onnx_import.graph import Array, Graph
from refine.domain.box import Box
from refine.domain.domain import DomainOptions, read_domain, tensors_of
from refine.domain.properties import Property, read_property

ACAS = "acasxu/ACASXU_run2a_{}_batch_2000.onnx"
INSTANCES = (
    *((ACAS.format(net), "acasxu/prop_3.vnnlib") for net in ("2_1", "2_2", "3_3")),
    *((ACAS.format(net), "acasxu/prop_4.vnnlib") for net in ("2_3", "3_3", "3_5", "3_6")),
    *(("mnist_fc/mnist-net_256x2.onnx", f"mnist_fc/prop_{n}_0.03.vnnlib") for n in (0, 2, 3)),
    *(
        ("rl_benchmarks/cartpole.onnx", f"rl_benchmarks/cartpole_case_safe_{n}.vnnlib")
        for n in (14, 72)
    ),
    *(
        ("rl_benchmarks/lunarlander.onnx", f"rl_benchmarks/lunarlander_case_safe_{n}.vnnlib")
        for n in (23, 57)
    ),
)
SCRIPT = Path(__file__).with_name("marabou_answer.py")
BUDGET = 40.0  # seconds


def inputs_of(box: Box, many: int) -> Iterator[Mapping[str, Array]]:
    rng = np.random.default_rng(0)
    for _ in range(0, many, 1000):
        points = box.sample(rng, min(many, 1000))
        for i in range(len(next(iter(points.values())))):
            yield {name: v[i] for name, v in points.items()}


def violations(
    graph: Graph, network: Path, unsafe: Property, boxes: tuple[Box, ...], runs: int
) -> tuple[int, float]:
    """How many runs are in the unsafe set, decided exactly, and the least slack of any."""
    runtime, found, least = OnnxRuntime(network), 0, float("inf")
    for box in boxes:
        for point in inputs_of(box, runs // len(boxes)):
            typed = {n: v.astype(graph.types[n].dtype.numpy) for n, v in point.items()}
            ran = runtime.run(typed)
            y = [float(v) for t in graph.outputs for v in np.ravel(ran[t]).tolist()]
            slack = min(
                max(
                    sum(float(c) * y[k] for k, c in row.outputs.items()) - float(row.at_most)
                    for row in part.rows
                )
                for part in unsafe.unsafe
            )
            least = min(least, slack)
            if slack <= 1e-9:
                x = [Fraction(float(v)) for n in graph.inputs for v in np.ravel(typed[n]).tolist()]
                exact = [Fraction(v) for v in y]
                found += any(part.holds(x, exact) for part in unsafe.unsafe)
    return found, least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--marabou", required=True, metavar="PYTHON")
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--runs", type=int, default=100_000)
    given = parser.parse_args()
    wrong = 0
    for network, file in ((MODELS / n, MODELS / p) for n, p in INSTANCES):
        graph = load(network)
        domain = read_domain(graph, DomainOptions(vnnlib=str(file)), IEEE_ANY.format_of)
        with TemporaryDirectory() as folder:
            target = Path(folder) / "stronger.vnnlib"
            made = refine.strengthen(network, file, target, version=1, budget=BUDGET)
            command = [given.marabou, str(SCRIPT), str(network), str(target), str(given.seconds)]
            ran = subprocess.run(command, capture_output=True, text=True, check=False)
        proved = (ran.stdout.split() or ["failed"])[-1]
        unsafe = read_property(file, tensors_of(graph))
        found, least = violations(graph, network, unsafe, domain.boxes, given.runs)
        ours = refine.check(network, file, claim="property", budget=BUDGET).verdict.value
        wrong += (found > 0 and proved == "unsat") or (ours == "violated" and proved == "unsat")
        print(
            f"{network.stem} {file.stem}: m* {made.bound:.3g}, Marabou {proved}, {found} "
            f"violations in {given.runs} runs, least slack {least:.4g}, ours {ours}",
            flush=True,
        )
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
