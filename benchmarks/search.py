"""What the search finds in 30 seconds, beside the best of 10⁵ random inputs.

    python benchmarks/search.py [--seconds S] [--samples N] [--seeds N] [--rows PATTERN]
                                [--models DIR] [--save FILE]

One row per network, domain, contract and seed; both sides run the same execution of the contract.
Run with OPENBLAS_NUM_THREADS=1 on a machine that is busy.
"""

from __future__ import annotations

import argparse
import fnmatch
import math
import os
import time
from pathlib import Path

import numpy as np
from measuring import MODELS, save
from rich.console import Console
from rich.table import Table

from encoders.contract.presets import PRESETS
from onnx_import import load
from refine.claims.hunting import error_found
from refine.domain.domain import DomainOptions, read_domain
from refine.results.verdict import Tolerance
from refine.search.evaluation import Hunt, score
from refine.search.search import search
from refine.witness.witness import confirm

ROWS = (
    ("acasxu/ACASXU_run2a_1_1_batch_2000", "acasxu/prop_3", "sequential-fma"),
    ("mnist_fc/mnist-net_256x4", "mnist_fc/prop_0_0.03", "ort-cpu"),
)
BATCH = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--samples", type=int, default=10**5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--save", type=Path)
    parser.add_argument("--rows", default="*", help="networks to search, as in 'acasxu/*'")
    given = parser.parse_args()
    chosen = [row for row in ROWS if fnmatch.fnmatch(row[0], given.rows)]
    seeds = range(given.seed, given.seed + given.seeds)
    rows = [measured(given, *row, seed) for row in chosen for seed in seeds]
    table = Table(title=f"{given.samples} random inputs; {given.seconds:g} s of search")
    for title in ("network", "domain", "contract", "seed", "random", "found", "ratio"):
        table.add_column(title)
    for r in rows:
        names = (Path(str(r["network"])).name, Path(str(r["domain"])).name, str(r["contract"]))
        numbers = (f"{r[k]:.3g}" for k in ("random", "found", "ratio"))
        table.add_row(*names, str(r["seed"]), *numbers)
    Console(width=120).print(table)
    if given.save is not None:
        settings = {"seconds": given.seconds, "samples": given.samples}
        save(given.save, rows, **settings, load=os.getloadavg()[0])


def measured(
    given: argparse.Namespace, model: str, domain: str, contract: str, seed: int
) -> dict[str, float | str]:
    """One row: errors found at random (float64) and by the search (exactly confirmed)."""
    graph = load(given.models / f"{model}.onnx")
    chosen = PRESETS[contract]
    written = DomainOptions(vnnlib=str(given.models / f"{domain}.vnnlib"))
    (box,) = read_domain(graph, written, chosen.format_of).boxes
    hunt = Hunt(graph, box, chosen, Tolerance())
    deadline = time.monotonic() + given.seconds
    found = search(hunt, seed, lambda: time.monotonic() > deadline, effort=math.inf)
    best = max(error_found(confirm(graph, c)) for c in found[:2])
    rng = np.random.default_rng(seed + 1000)
    random = max(
        float(score(hunt, box.sample(rng, BATCH), found[0].execution).excess.max())
        for _ in range(max(given.samples // BATCH, 1))
    )
    return {
        "network": model,
        "domain": domain,
        "contract": contract,
        "seed": seed,
        "random": random,
        "found": best,
        "ratio": best / random,
    }


if __name__ == "__main__":
    main()
