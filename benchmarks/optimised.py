"""Every model beside what onnxruntime makes of it: how far can its optimisations move a result?

    python benchmarks/optimised.py [PATTERN ...] [--contract NAME] [--budget SECONDS] [--save FILE]

The optimised file is the implementation, at the highest level that leaves standard operators; the
original is the specification. Both read over the reals, and the implementation as it runs; the
domains are those of benchmarks/corpus.py, of shipped networks the point of benchmarks/shipped.py.
What FILE holds of other networks stays; each row says when it was measured.
"""

from __future__ import annotations

import argparse
import datetime
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from corpus import chosen, domain_of, float_or_text, name_of
from measuring import MODELS, rows_of, save
from rich.console import Console
from rich.table import Table
from shipped import SHIPPED

from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import EXACT, PRESETS
from onnx_import import load
from onnx_import.errors import ModelError
from onnx_import.graph import Graph, Sizes
from refine.claims.kinds.difference import diff
from refine.claims.options import Options
from refine.domain.domain import Domain, DomainOptions, read_domain
from refine.lemmas.cache import default_directory
from refine.options.optimised import as_optimised
from refine.results.verdict import Side, Tolerance

LEVELS = ("all", "extended", "basic")
COLUMNS = (
    "network",
    "level",
    "nodes",
    "read as",
    "bound",
    "found",
    "verdict",
    "s",
    "how they part",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("patterns", nargs="*", default=["*"], help="of files, such as 'acasxu/*'")
    parser.add_argument("--contract", default="ort-cpu", choices=sorted(PRESETS))
    parser.add_argument("--budget", type=float, default=0.0)
    parser.add_argument("--timeout", type=float, default=120.0)
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    options = Options(None, default_directory(), timeout=given.timeout, budget=given.budget)
    table = Table(title=f"optimised by onnxruntime, {given.contract}, budget {given.budget:g} s")
    for title in COLUMNS:
        table.add_column(title)
    target = given.save and given.save.resolve()
    known = {} if target is None else _by_network(rows_of(target))
    today = datetime.date.today().isoformat()
    with tempfile.TemporaryDirectory() as folder:
        models = given.models.resolve()
        os.chdir(folder)  # where optimised files are written
        for path in chosen(models, given.patterns):
            found = measured(models, path, given.contract, options)
            for row in found:
                table.add_row(*(str(v) for v in row.values()))
                print(*row.values(), sep="  ", flush=True)
            known[name_of(models, path)] = [{**row, "date": today} for row in found]
            if target is not None:
                save(target, [row for rows in known.values() for row in rows], budget=given.budget)
    Console(width=200).print(table)


def _by_network(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(str(row["network"]), []).append(row)
    return found


def measured(models: Path, path: Path, contract: str, options: Options) -> list[dict[str, object]]:
    """A row for each way of reading the optimised file; one that says why, if it is refused."""
    name = str(path.relative_to(models).with_suffix(""))
    refused = ""
    arrays = next((s.inputs() for s in SHIPPED if s.file == path.stem), None)
    shapes = {t: x.shape for t, x in (arrays or {}).items()}
    whole = {t: x for t, x in (arrays or {}).items() if x.dtype.kind in "iub"}
    for level in LEVELS:
        try:
            sides = [
                load(file, sizes=Sizes(arrays=shapes), pinned=whole)
                for file in (path, as_optimised(path, level))
            ]
        except ModelError as error:
            refused = str(error)
            continue
        rows = []
        for how in (EXACT, PRESETS[contract]):
            try:
                domain = _domain(sides[1], path, how, arrays)
            except ModelError as error:
                return [{"network": name, "refused": str(error)}]
            spec, impl = Side(sides[0], EXACT), Side(sides[1], how)
            rows.append(compared(name, level, spec, impl, domain, options))
        return rows
    return [{"network": name, "refused": refused}]


def _domain(
    graph: Graph,
    path: Path,
    contract: RuntimeContract,
    arrays: Mapping[str, np.ndarray] | None,
) -> Domain:
    """Of a shipped network its point, else the box that goes with the file."""
    if arrays is None:
        return domain_of(path, graph, contract)
    np.savez("point.npz", allow_pickle=False, **{t: arrays[t] for t in graph.inputs})
    point = DomainOptions(center="point.npz", radius="0")
    return read_domain(graph, point, contract.format_of)


def compared(
    name: str, level: str, spec: Side, impl: Side, domain: Domain, options: Options
) -> dict[str, object]:
    result = diff(spec, impl, domain, Tolerance(), options)
    return {
        "network": name,
        "level": level,
        "nodes": f"{len(spec.graph.order)} to {len(impl.graph.order)}",
        "read as": "real" if impl.contract.exact else impl.contract.name,
        "bound": float_or_text(result.bound),
        "worst_found": np.float64(result.worst_found or 0.0).item(),
        "verdict": result.verdict.value,
        "seconds": result.seconds,
        "note": result.notes[-1],
    }


if __name__ == "__main__":
    main()
