"""Steps of tool chains: is each certified, and is each broken one found?

    sh benchmarks/toolchain_environment.sh /tmp/venv-tools
    /tmp/venv-tools/bin/python benchmarks/toolchain_pairs.py FOLDER
    python benchmarks/toolchain.py FOLDER [PATTERN ...] [--some N] [--kind KIND] [--save FILE]
    python benchmarks/toolchain.py FOLDER --kind broken --some 60

Seconds are those of one processor.

A rewrite is certified usefully where it is within what `refine step` allows: twice the bound on
what rounding does to the model before. A copy in 16 or 8 bits is where its bound is at most ten
times the largest difference found. An answer is wrong where onnxruntime's outputs are further
apart than it says; a broken rewrite is missed where it is verified although they are further apart
than is allowed.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import math
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from measuring import save, shown
from rich.console import Console
from rich.table import Table

from gpu_check.runtimes.replay import NotReplayed, replay_on_onnxruntime
from onnx_import import load
from onnx_import.errors import ModelError
from refine.api import diff
from refine.domain.domain import DomainOptions
from refine.everyday.stepping import stepped
from refine.options.settings import Settings
from refine.results.verdict import Result

COLUMNS = ("pair", "kind", "relation", "bound", "found", "allowed", "seconds", "verdict", "right")
TIMES = 10  # a bound on a copy in fewer bits may be as many times what was found
POINTS = 12
LIMIT = 60.0


def answered(folder: Path, limit: float, pair: Mapping[str, Any]) -> dict[str, Any]:
    """One pair: the answer, and whether onnxruntime contradicts it."""
    spec, impl = folder / pair["spec"], folder / pair["impl"]
    row: dict[str, Any] = {"pair": pair["name"], "kind": pair["kind"]}
    start = time.process_time()
    try:
        result, allowed = _result(folder, pair, spec, impl, limit)
    except ModelError as error:
        return row | {"verdict": "refused", "reason": str(error), "right": True}
    except Exception as error:  # a bug of ours, which is counted
        why = f"{type(error).__name__}: {error}"
        return row | {"verdict": "crash", "reason": why, "right": None}
    compared = result.compared
    differences = () if compared is None else compared.differences
    named = [n for d in differences[:1] for n in d.impl]
    found = max(result.worst_found or 0.0, _apart(folder, pair, spec, impl))
    row |= {
        "relation": None if compared is None else compared.relation.value,
        "bound": result.bound,
        "found": found,
        "allowed": allowed,
        "seconds": round(time.process_time() - start, 1),
        "verdict": result.verdict.value,
        "timed_out": result.timed_out,
        "named": named,
        "right": found <= result.bound + (allowed / 2 if math.isfinite(allowed) else 0.0),
    }
    if pair["kind"] == "broken":
        graph = load(impl)
        row["culprit"] = pair["culprit"]
        writers = {t: n.name for n in graph.order for t in n.outputs}
        row["culprit_named"] = writers.get(pair["culprit"], "") in named
        row["missed"] = result.verdict.value == "verified" and found > allowed
    elif pair["kind"] == "rewrite":
        row["useful"] = result.verdict.value == "verified"
    else:
        row["useful"] = result.bound <= TIMES * found
    return row


def _result(
    folder: Path, pair: Mapping[str, Any], spec: Path, impl: Path, limit: float
) -> tuple[Result, float]:
    if pair["kind"] in ("rewrite", "broken"):
        centre, radius = str(folder / pair["centre"]), str(pair["radius"])
        settings = Settings(budget=2.0, timeout=limit, conform=False, z3="none", workers=1)
        written = DomainOptions(center=centre, radius=radius)
        step = stepped(spec, impl, settings=settings, written=written)
        return step.result, step.allowed
    contract = "fp16" if pair["kind"] == "half" else "ieee-any"
    centre = np.load(folder / pair["centre"])
    result = diff(
        str(spec),
        str(impl),
        centre,
        radius=pair["radius"],
        contract=contract,
        budget=5.0,
        timeout=limit,
        conform=False,
        z3="none",
        workers=1,
    )
    return result, math.inf


def _apart(folder: Path, pair: Mapping[str, Any], spec: Path, impl: Path) -> float:
    """The largest difference of what onnxruntime gives for both, at some points."""
    rng = np.random.default_rng(1)
    centre = np.load(folder / pair["centre"])
    inputs = {path: load(path).inputs[0] for path in (spec, impl)}
    largest = 0.0
    for _ in range(POINTS):
        x = centre + rng.uniform(-0.99, 0.99, centre.shape) * pair["radius"]
        outputs = []
        for path, name in inputs.items():
            outcome = replay_on_onnxruntime(path, {name: x.astype(np.float32)})
            if isinstance(outcome, NotReplayed):
                return 0.0
            outputs.append(np.ravel(next(iter(outcome.outputs.values()))).astype(np.float64))
        largest = max(largest, float(np.max(np.abs(outputs[0] - outputs[1]))))
    return largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("patterns", nargs="*", default=["*"])
    parser.add_argument("--kind", action="append")
    parser.add_argument("--some", type=int, help="so many pairs, spread evenly over all")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds by the clock of a pair")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    pairs = json.loads((given.folder / "pairs.json").read_text(encoding="utf-8"))
    pairs = [
        p
        for p in pairs
        if any(fnmatch.fnmatch(p["name"], x) for x in given.patterns)
        and (not given.kind or p["kind"] in given.kind)
    ]
    if given.some and given.some < len(pairs):
        pairs = [pairs[i * len(pairs) // given.some] for i in range(given.some)]
    table = Table(title="steps of tool chains")
    for title in COLUMNS:
        table.add_column(title)
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(given.workers) as pool:
        for row in pool.map(partial(answered, given.folder, given.limit), pairs):
            rows.append(row)
            print(json.dumps({k: v for k, v in row.items() if k != "culprit"}), flush=True)
            table.add_row(*(shown(row.get(c)) for c in COLUMNS))
            if given.save:
                save(given.save, rows, points=POINTS, limit=given.limit)
    Console(width=170).print(table)
    good = [r for r in rows if r["kind"] != "broken"]
    broken = [r for r in rows if r["kind"] == "broken"]
    print(f"{sum(bool(r.get('useful')) for r in good)} of {len(good)} certified usefully")
    print(f"{sum(bool(r.get('missed')) for r in broken)} of {len(broken)} broken ones verified")
    print(f"{sum(bool(r.get('culprit_named')) for r in broken)} of {len(broken)} culprits named")
    print(f"{sum(r['right'] is False for r in rows)} answers wrong")


if __name__ == "__main__":
    main()
