"""FPBench's kernels: our bounds beside FPTaylor's, and the largest error found.

    python benchmarks/kernels.py [--budget SECONDS] [--save FILE] [NAME …]

One row per kernel of benchmarks/kernels, once with inputs exact and once with real inputs rounded
first, under the contract `sequential`. FPTaylor's figures are those of its power-of-two model that
this project measured; a dash where none was. `--save` keeps the rows as JSON with the date and the
machine.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
from pathlib import Path

from rich.console import Console
from rich.table import Table

from encoders.contract.presets import SEQUENTIAL
from onnx_import import load
from refine.claims.kinds.accuracy import check
from refine.claims.options import Options
from refine.domain.domain import DomainOptions, read_domain
from refine.lemmas.cache import default_directory
from refine.results.verdict import Tolerance

FOLDER = Path(__file__).parent / "kernels"
FPTAYLOR = {
    (False, "rigidBody1"): 2.131629e-13,
    (False, "rigidBody2"): 2.271606e-11,
    (False, "turbine1"): 1.238730e-14,
    (False, "turbine2"): 1.249012e-14,
    (True, "rigidBody1"): 2.949e-13,
    (True, "rigidBody2"): 3.607e-11,
    (True, "turbine1"): 1.670e-14,
    (True, "doppler1"): 1.218e-13,
    (True, "jetEngine"): 1.028e-11,
    (True, "kepler0"): 7.469e-14,
    (True, "predatorPrey"): 1.586e-16,
    (True, "sine"): 4.430e-16,
    (True, "sqroot"): 5.016e-16,
    (True, "verhulst"): 2.471e-16,
    (True, "carbonGas"): 4.962e-9,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--budget", type=float, default=10.0)
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    names = given.names or sorted(path.stem for path in FOLDER.glob("*.fpcore"))
    rows = [measured(n, rounded, given.budget) for rounded in (False, True) for n in names]
    table = Table(title=f"budget {given.budget:g} s")
    for title in ("kernel", "inputs", "bound", "FPTaylor", "found", "bound/found", "boxes", "s"):
        table.add_column(title)
    for row in rows:
        other = row["fptaylor"]
        table.add_row(
            str(row["kernel"]),
            "rounded" if row["round_inputs"] else "exact",
            f"{row['bound']:.4g}",
            "–" if other is None else f"{other:.4g}",
            f"{row['worst_found']:.3g}",
            f"{row['ratio']:.3g}",
            str(row["boxes"]),
            f"{row['seconds']:.1f}",
        )
    Console(width=120).print(table)
    if given.save is not None:
        document = {
            "date": datetime.date.today().isoformat(),
            "machine": f"{platform.machine()}, {os.cpu_count()} processors",
            "budget": given.budget,
            "rows": rows,
        }
        given.save.write_text(json.dumps(document, indent=2) + "\n")


def measured(name: str, rounded: bool, budget: float) -> dict[str, float | str | None]:
    """One row: the bound within the budget, and the largest error that the search found."""
    graph = load(FOLDER / f"{name}.fpcore")
    domain = read_domain(graph, DomainOptions(round_inputs=rounded), SEQUENTIAL.format_of)
    options = Options(None, default_directory(), budget=budget)
    result = check(graph, domain, SEQUENTIAL, Tolerance(), options)
    found = result.worst_found or 0.0
    split = [n.split()[5] for n in result.notes if n.startswith("the domain was split into")]
    return {
        "kernel": name,
        "round_inputs": rounded,
        "bound": result.bound,
        "fptaylor": FPTAYLOR.get((rounded, name)),
        "worst_found": found,
        "ratio": result.bound / found if found else float("inf"),
        "boxes": int(split[0]) if split else 1,
        "seconds": result.seconds,
    }


if __name__ == "__main__":
    main()
