"""Bounds on real networks: bound, worst error found, their ratio, and what they cost.

    python benchmarks/networks.py [--budget SECONDS] [--workers N] [--models DIR] [--save FILE]

Prints one row per network, domain and contract, each with the budget that its figure "at most" is
meant for, or with `--budget`. Seconds of one onnxruntime pass are measured beside each row.
`--save` keeps the rows as JSON with the date and the machine.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from measuring import MODELS, figures, save
from rich.console import Console
from rich.table import Table

from encoders.contract.presets import PRESETS
from onnx_import import load
from refine.claims.kinds.accuracy import check
from refine.claims.options import Options
from refine.domain.domain import DomainOptions, read_domain
from refine.lemmas.cache import default_directory
from refine.results.verdict import Tolerance

ROWS = (
    ("acasxu/ACASXU_run2a_1_1_batch_2000", "acasxu/prop_3", "sequential-fma", "2e-4", 60.0),
    ("acasxu/ACASXU_run2a_1_1_batch_2000", "acasxu/prop_3", "ieee-any", "1e-3", 60.0),
    ("acasxu/ACASXU_run2a_3_3_batch_2000", "acasxu/prop_4", "sequential-fma", "1e-5", 60.0),
    ("acasxu/ACASXU_run2a_1_1_batch_2000", "acasxu/prop_1", "sequential-fma", "1e-1", 120.0),
    ("mnist_fc/mnist-net_256x2", "mnist_fc/prop_0_0.03", "sequential-fma", "1.3e-4", 60.0),
    ("mnist_fc/mnist-net_256x4", "mnist_fc/prop_0_0.03", "sequential-fma", "4.5e-5", 60.0),
    ("mnist_fc/mnist-net_256x4", "mnist_fc/prop_1_0.03", "sequential-fma", "1e-2", 120.0),
    ("cifar10_resnet/resnet_2b", "cifar10_resnet/prop_0_eps_0.008", "ieee-any", "1e-1", 120.0),
    (
        "eran21_sigmoid/ffnnSIGMOID__Point_6x200",
        "eran21_sigmoid/mnist_spec_idx_1013_eps_0.01500",
        "ieee-any",
        "10",
        120.0,
    ),
    (
        "eran21_sigmoid/ffnnSIGMOID__Point_6x200",
        "eran21_sigmoid/mnist_spec_idx_1013_eps_0.01500",
        "ort-cpu",
        "1",
        120.0,
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=float)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    rows = []
    table = Table(title=f"{given.workers} worker(s)")
    for title in (
        "network",
        "domain",
        "contract",
        "budget",
        "at most",
        "bound",
        "found",
        "ratio",
        "s",
        "ort s",
    ):
        table.add_column(title)
    for model, domain, contract, most, seconds in ROWS:
        budget = seconds if given.budget is None else given.budget
        row = measured(given.models, model, domain, contract, budget, given.workers)
        rows.append(row | {"at_most": float(most)})
        table.add_row(
            Path(model).name,
            Path(domain).name,
            contract,
            f"{budget:g}",
            most,
            f"{row['bound']:.3g}",
            f"{row['worst_found']:.3g}",
            f"{row['ratio']:.3g}",
            f"{row['seconds']:.1f}",
            f"{row['onnxruntime_seconds']:.2g}",
        )
    Console(width=140).print(table)
    if given.save is not None:
        save(given.save, rows, workers=given.workers)


def measured(
    models: Path, model: str, domain: str, contract: str, budget: float, workers: int
) -> dict[str, float | str]:
    """One row: the bound within the budget, and one pass of onnxruntime beside it."""
    path = models / f"{model}.onnx"
    graph = load(path)
    chosen = PRESETS[contract]
    box = read_domain(
        graph, DomainOptions(vnnlib=str(models / f"{domain}.vnnlib")), chosen.format_of
    )
    options = Options(None, default_directory(), budget=budget, workers=workers)
    result = check(graph, box, chosen, Tolerance(), options)
    row: dict[str, float | str] = {
        "network": model, "domain": domain, "contract": contract, "budget": budget,
    }  # fmt: skip
    return row | figures(result, path, graph)


if __name__ == "__main__":
    main()
