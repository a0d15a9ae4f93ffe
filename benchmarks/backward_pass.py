"""Interval bounds and one backward pass on mnist 256x4: processor seconds, real ranges and errors.

    python benchmarks/backward_pass.py [--models DIR] [--save FILE]

auto_LiRPA's CROWN took about 18 ms of processor time for the 10 outputs where this was measured;
ten times that is what bounds of both semantics may take.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from measuring import MODELS, save
from rich.console import Console
from rich.table import Table

from encoders.contract.presets import PRESETS
from onnx_import import load
from refine.bounds.backward import pull_back, unit_functionals
from refine.bounds.network import network_bounds
from refine.domain.domain import DomainOptions, read_domain
from refine.proof.proof import input_box

CONTRACTS = ("ieee-any", "sequential-fma")
MOST = 0.18
REPEATS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    rows = [measured(given.models, contract) for contract in CONTRACTS]
    table = Table(title="mnist-net_256x4, prop_0_0.03: processor seconds, best of 5")
    for title in ("contract", "intervals", "backward pass", "together", "at most", "bound"):
        table.add_column(title, justify="right")
    for row in rows:
        seconds = (f"{row[k]:.3f}" for k in ("intervals", "backward", "together", "at_most"))
        table.add_row(str(row["contract"]), *seconds, f"{row['bound']:.3g}")
    Console(width=100).print(table)
    if given.save is not None:
        save(given.save, rows)


def measured(models: Path, contract: str) -> dict[str, float | str]:
    """The quickest of a few repeats: forward, then both semantics of every output pulled back."""
    graph = load(models / "mnist_fc/mnist-net_256x4.onnx")
    chosen = PRESETS[contract]
    options = DomainOptions(vnnlib=str(models / "mnist_fc/prop_0_0.03.vnnlib"))
    domain = read_domain(graph, options, chosen.format_of)
    box = input_box(domain.boxes[0], domain, chosen)
    (output,) = graph.outputs
    unit = unit_functionals(graph.types[output].shape, np.arange(graph.types[output].size))
    both = np.concatenate([unit, -unit])
    best = (np.inf, np.inf, np.inf)
    bound = np.inf
    for _ in range(REPEATS):
        start = time.process_time()
        maps = network_bounds(graph, box, chosen, backward=False).maps
        middle = time.process_time()
        pull_back(maps, {output: both}, {})
        bound = float(np.max(pull_back(maps, {}, {output: unit}).upper))
        end = time.process_time()
        best = min(best, (end - start, middle - start, end - middle))
    return {
        "contract": contract,
        "intervals": best[1],
        "backward": best[2],
        "together": best[0],
        "at_most": MOST,
        "bound": bound,
    }


if __name__ == "__main__":
    main()
