"""Networks as people export them: is each read, and is its bound on a small ball finite?

    sh benchmarks/toolchain_environment.sh /tmp/venv-tools
    /tmp/venv-tools/bin/python benchmarks/toolchain_exports.py FOLDER
    python benchmarks/exports.py FOLDER [PATTERN ...] [--save FILE]

Each row is `refine.bound` of a small ball; the bound is of outputs of a float type, and "share" is
it beside the largest of them at the middle. "label" says, of a model that writes labels, whether
the runtime may give another one than the real model somewhere in the ball.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from measuring import largest_output, save, shown
from rich.console import Console
from rich.table import Table

from onnx_import import load
from onnx_import.errors import ModelError
from onnx_import.graph import Sizes
from refine.api import bound

COLUMNS = ("model", "verdict", "bound", "found", "ratio", "share", "label", "seconds", "why")
LIMIT = 120.0


def answered(folder: Path, model: Mapping[str, Any]) -> dict[str, Any]:
    """One row: what is proved of the ball, and what was found."""
    path = folder / f"{model['name']}.onnx"
    with np.load(folder / f"{model['name']}.npz") as stored:
        inputs = dict(stored)
    ends = {
        name: (x - model["radius"], x + model["radius"]) if name in model["moved"] else (x, x)
        for name, x in inputs.items()
    }
    row: dict[str, Any] = {"model": model["name"]}
    start = time.monotonic()
    try:
        result = bound(
            path,
            ends,
            budget=5.0,
            timeout=LIMIT,
            conform=False,
            z3="none",
            workers=1,
        )
    except ModelError as error:
        return row | {"verdict": "refused", "why": str(error)}
    except Exception as error:  # a bug of ours, which is counted
        return row | {"verdict": "crash", "why": f"{type(error).__name__}: {error}"}
    whole = {name: x for name, x in inputs.items() if x.dtype.kind != "f"}
    graph = load(path, given=whole, sizes=Sizes({name: x.shape for name, x in inputs.items()}))
    floats = [e for t, e in result.bounds.items() if graph.types[t].dtype.is_float]
    labels = [e for t, e in result.bounds.items() if not graph.types[t].dtype.is_float]
    most = max(float(np.max(e)) for e in floats)
    found = result.worst_found or 0.0
    label = ""
    if labels:
        label = "fixed" if not any(np.any(e) for e in labels) else "open"
        label = "flips" if found >= 1.0 and label else label
    return row | {
        "verdict": result.verdict.value,
        "bound": most,
        "found": found,
        "ratio": most / found if found and not label else None,
        "share": most / largest_output(path, inputs),
        "label": label,
        "seconds": round(time.monotonic() - start, 1),
        "why": "" if np.isfinite(result.bound) else result.reason,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("patterns", nargs="*", default=["*"])
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    models = json.loads((given.folder / "exports.json").read_text(encoding="utf-8"))
    table = Table(title="networks as people export them")
    for title in COLUMNS:
        table.add_column(title)
    rows: list[dict[str, Any]] = []
    for model in models:
        if any(fnmatch.fnmatch(model["name"], pattern) for pattern in given.patterns):
            row = answered(given.folder, model)
            rows.append(row)
            print(json.dumps(row), flush=True)
            table.add_row(*(shown(row.get(c)) for c in COLUMNS))
            if given.save is not None:
                save(given.save, rows, limit=LIMIT)
    Console(width=170).print(table)
    finite = sum(np.isfinite(row.get("bound", np.inf)) for row in rows)
    print(f"{finite} of {len(rows)} with a finite bound")


if __name__ == "__main__":
    main()
