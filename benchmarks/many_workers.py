"""Parts of ACAS Xu 2_1, property 3, by one worker and by two: the same bound, and the seconds.

    python benchmarks/many_workers.py [--models DIR] [--share S] [--cluster ADDRESS] [--save FILE]

The box of prop_3 is halved until the bound is a share S of that of the whole. Pools are this
process, one and two worker processes, and the workers of a Dask scheduler where one is named. Which
parts there are, and the bound, must not depend on the pool.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from measuring import MODELS, save
from rich.console import Console
from rich.table import Table

from encoders.contract.presets import PRESETS
from encoders.numbers.enclosure import FloatArray
from onnx_import import load
from refine.bounds.problem import Network
from refine.domain.domain import DomainOptions, read_domain
from refine.process.cluster import Cluster
from refine.process.pool import Here, Pool, Processes
from refine.proof.input_splitting import part_of, split_box
from refine.proof.proof import input_box

MODEL, PROPERTY = "acasxu/ACASXU_run2a_2_1_batch_2000.onnx", "acasxu/prop_3.vnnlib"
CONTRACT = PRESETS["sequential-fma"]
LONGEST = 600.0  # seconds


def largest(errors: Mapping[str, FloatArray]) -> float:
    return max(float(np.max(e)) for e in errors.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--share", type=float, default=0.02)
    parser.add_argument("--cluster")
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    pools: dict[str, Pool] = {"here": Here(), "1 worker": Processes(1), "2 workers": Processes(2)}
    if given.cluster is not None:
        pools["cluster"] = Cluster(given.cluster)
    rows = [{"pool": name, **measured(given.models, given.share, p)} for name, p in pools.items()]
    table = Table(title=f"{Path(MODEL).stem}, prop_3, {CONTRACT.name}")
    for title in rows[0]:
        table.add_column(title)
    for row in rows:
        table.add_row(*(f"{v:.6g}" if isinstance(v, float) else str(v) for v in row.values()))
    Console(width=100).print(table)
    assert len({row["parts"] for row in rows}) == 1, "the parts depend on who made them"
    assert np.allclose([float(row["bound"]) for row in rows], float(rows[0]["bound"]), rtol=1e-12)
    if given.save is not None:
        save(given.save, rows, share=given.share)


def measured(models: Path, share: float, pool: Pool) -> dict[str, float | str]:
    """How many parts there are in the end, their bound, and the seconds that took."""
    graph = load(models / MODEL)
    domain = read_domain(graph, DomainOptions(vnnlib=str(models / PROPERTY)), CONTRACT.format_of)
    box = input_box(domain.boxes[0], domain, CONTRACT)
    problem = Network(graph, CONTRACT)
    whole = part_of(box, problem.bounds(box))
    start = time.monotonic()
    split = split_box(
        problem,
        whole,
        excess=largest,
        enough=share * largest(whole.errors),
        deadline=start + LONGEST,
        pool=pool,
    )
    seconds = time.monotonic() - start
    bound = max(largest(part.errors) for part in split.parts)
    return {"parts": float(len(split.parts)), "bound": bound, "seconds": seconds}


if __name__ == "__main__":
    main()
