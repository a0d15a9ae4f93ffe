"""The controllers of the Aster benchmark on their whole boxes, beside Daisy and per-layer bounds.

    python benchmarks/controllers.py [--budget SECONDS] [--workers N] [--models DIR] [--save FILE]

Contract `sequential`, float32, real inputs rounded first. Daisy's figures round decimal weights
too (Lohar, Jeangoudoux, Sobel, Darulova & Christakis 2023, "Sound Mixed Fixed-Point Quantization of
Neural Networks"); plain per-layer composition and the largest errors seen by sampling were measured
for this project. `--budget` is that of each controller; the one with the most ReLUs open for its
few inputs gets three times that.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from measuring import MODELS, figures, save
from rich.console import Console
from rich.table import Table

from encoders.contract.presets import SEQUENTIAL
from onnx_import import load
from refine.claims.kinds.accuracy import check
from refine.claims.options import Options
from refine.domain.domain import DomainOptions, read_domain
from refine.lemmas.cache import default_directory
from refine.results.verdict import Tolerance

RIVALS: dict[str, tuple[float | None, float, float]] = {
    "SinglePendulumNN": (5.7e-6, 2.4e-6, 2.1e-7),
    "DoublePendulumRobustNN": (1.6e-4, 1.5e-5, 1.4e-6),
    "AcrobotNN": (1.6e-6, 4.2e-7, 1.1e-7),
    "VertCasNN": (6.5e-2, 3.3e-3, 1.2e-4),
    "AC6": (1.5e-3, 3.2e-5, 2.0e-6),
    "UnicycleNN": (1.2e-3, 1.1e-3, 2.7e-5),
    "ACC3NN": (2.8e-3, 2.6e-3, 2.6e-6),
    "ACC5NN": (3.2e-1, 2.7e-1, 2.6e-6),
    "MountainCarNN": (2.5e-5, 2.2e-5, 8.0e-7),
    "InvPendulumNN": (5.3e-5, 4.9e-5, 6.5e-6),
    "ControllerToraNN": (None, 2.1e-3, 1.5e-6),
    "AirplaneNN": (None, 2.7e-2, 5.0e-6),
}
LONGER = {"UnicycleNN": 3.0}
COLUMNS = ("controller", "bound", "Daisy", "per layer", "share", "found", "ratio", "s", "ort s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=float, default=3.5)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    rows = [
        measured(given.models, name, given.budget * LONGER.get(name, 1.0), given.workers)
        for name in RIVALS
    ]
    seconds = sum(float(row["seconds"]) for row in rows)
    table = Table(title=f"sequential, inputs rounded; {seconds:.0f} s together")
    for title in COLUMNS:
        table.add_column(title, justify="left" if title == "controller" else "right")
    for row in rows:
        daisy = row["daisy"]
        table.add_row(
            str(row["controller"]),
            f"{row['bound']:.3g}",
            "-" if daisy is None else f"{daisy:.2g}",
            f"{row['per_layer']:.2g}",
            f"{row['share']:.2g}",
            f"{row['worst_found']:.3g}",
            f"{row['ratio']:.3g}",
            f"{row['seconds']:.1f}",
            f"{row['onnxruntime_seconds']:.1g}",
        )
    Console(width=120).print(table)
    if given.save is not None:
        save(given.save, rows, workers=given.workers, seconds=seconds)


def measured(models: Path, name: str, budget: float, workers: int) -> dict[str, Any]:
    """One row; `share` is the bound in terms of the better rival's."""
    path = models / "controllers" / f"{name}.onnx"
    graph = load(path)
    domain = read_domain(
        graph,
        DomainOptions(vnnlib=str(path.with_suffix(".vnnlib")), round_inputs=True),
        SEQUENTIAL.format_of,
    )
    options = Options(None, default_directory(), budget=budget, workers=workers)
    result = check(graph, domain, SEQUENTIAL, Tolerance(), options)
    daisy, per_layer, seen = RIVALS[name]
    return {
        "controller": name,
        "budget": budget,
        "daisy": daisy,
        "per_layer": per_layer,
        "share": result.bound / min(per_layer, daisy or per_layer),
        "seen_by_sampling": seen,
        **figures(result, path, graph),
    }


if __name__ == "__main__":
    main()
