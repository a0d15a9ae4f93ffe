"""Every model under ../shared/models: does it import, run like onnxruntime, and get a bound?

    python benchmarks/corpus.py [PATTERN ...] [--budget SECONDS] [--save FILE]

Each file is bounded on the first VNN-LIB box that is its own (its folder's, if none bears its
name; a ball of radius 0.01 around ½ where there is none), taking real inputs, rounded, where a
decimal fixes an input that is no float32. Under `ort-cpu` it is emulated at random points of the
domain beside onnxruntime (no graph optimisations, one thread): how many outputs agree in every
bit, the largest difference between the two, and the largest error of onnxruntime, which the bound
must exceed.
"""

from __future__ import annotations

import argparse
import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from measuring import MODELS, one_pass, save
from rich.console import Console
from rich.table import Table

from encoders.approximate_field import ApproximateReals
from encoders.contract import ORT_CPU, PRESETS, RuntimeContract
from gpu_check.emulator import emulate
from gpu_check.exact import evaluate_real
from gpu_check.runtimes import OnnxRuntime
from onnx_import import load
from onnx_import.errors import ModelError
from onnx_import.graph import Array, Graph
from refine.check import Options, check
from refine.domain import Domain, DomainError, DomainOptions, read_domain
from refine.lemmas.cache import default_directory
from refine.verdict import Tolerance

CONTRACTS = ("ieee-any", "ort-cpu")
COLUMNS = ("network", "domain", "contract", "bound", "found", "ratio", "s", "ort s", "same bits")


@dataclass(frozen=True)
class Agreement:
    """The emulated `ort-cpu` beside onnxruntime at `points` random points.

    `equal` of `elements` output elements have the same bits; `difference` is the largest between
    the two, `error` onnxruntime's largest distance from the real network (by float64).
    """

    points: int
    elements: int
    equal: int
    difference: float
    error: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("patterns", nargs="*", default=["*"], help="of files, such as 'acasxu/*'")
    parser.add_argument("--budget", type=float, default=0.0)
    parser.add_argument("--timeout", type=float, default=300.0)
    parser.add_argument("--points", type=int, default=100)
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    options = Options(
        None, default_directory(), timeout=given.timeout, budget=given.budget, workers=1
    )
    table = Table(title=f"every model, budget {given.budget:g} s, {given.points} points")
    for title in COLUMNS:
        table.add_column(title)
    rows = []
    for path in chosen(given.models, given.patterns):
        for row in measured(given.models, path, options, given.points):
            rows.append(row)
            table.add_row(*shown(row))
            print(*shown(row), sep="  ", flush=True)
        if given.save is not None:
            save(given.save, rows, budget=given.budget, points=given.points)
    Console(width=160).print(table)


def chosen(models: Path, patterns: list[str]) -> list[Path]:
    every = sorted(models.rglob("*.onnx"))
    return [
        path
        for path in every
        if any(fnmatch.fnmatch(str(path.relative_to(models)), p) for p in patterns)
    ]


def measured(
    models: Path, path: Path, options: Options, points: int
) -> Iterator[dict[str, object]]:
    """One row per contract; a file that is refused gets one that says why."""
    name = str(path.relative_to(models).with_suffix(""))
    try:
        graph = load(path)
    except ModelError as error:
        yield {"network": name, "refused": str(error)}
        return
    runtime = OnnxRuntime(path)
    domain = domain_of(path, graph)
    agreement = agreement_of(graph, runtime, domain, points)
    for contract in CONTRACTS:
        result = check(graph, domain, PRESETS[contract], Tolerance(), options)
        found = result.worst_found or 0.0
        within = max(agreement.difference, agreement.error) <= result.bound
        yield {
            "network": name,
            "domain": domain.source.replace(f"{models}/", ""),
            "round_inputs": domain.round_inputs,
            "contract": contract,
            "bound": float_or_text(result.bound),
            "worst_found": found,
            "ratio": float_or_text(result.bound / found if found else np.inf),
            "seconds": result.seconds,
            "onnxruntime_seconds": one_pass(runtime, graph),
            "onnxruntime_within_bound": within,
            **asdict(agreement),
        }


def domain_of(path: Path, graph: Graph, contract: RuntimeContract = ORT_CPU) -> Domain:
    """The first box that goes with a model, or a small ball."""
    beside = sorted(path.parent.glob("*.vnnlib"))
    own = [p for p in beside if p.stem.startswith(path.stem)]
    if not beside:
        return read_domain(graph, DomainOptions(center="0.5", radius="0.01"), contract.format_of)
    source = str((own or beside)[0])
    try:
        return read_domain(graph, DomainOptions(vnnlib=source), contract.format_of)
    except DomainError:
        whole = DomainOptions(vnnlib=source, round_inputs=True)
        return read_domain(graph, whole, contract.format_of)


def agreement_of(graph: Graph, runtime: OnnxRuntime, domain: Domain, points: int) -> Agreement:
    """onnxruntime beside its emulation and beside the real network, at points it can receive."""
    drawn = domain.boxes[0].sample(np.random.default_rng(0), points)
    inputs = {t: x.astype(graph.types[t].dtype.numpy) for t, x in drawn.items()}
    emulated = emulate(graph, inputs, ORT_CPU)
    real = evaluate_real(graph, drawn, ApproximateReals())
    shapes = runtime.input_shapes()
    elements = equal = 0
    difference = error = 0.0
    for i in range(points):
        given = {t: v[i].reshape(shapes[t]) for t, v in inputs.items()}
        actual = runtime.run(given)
        for tensor in graph.outputs:
            ran = np.asarray(actual[tensor]).reshape(graph.types[tensor].shape)
            ours = emulated[tensor][i]
            equal += int(np.count_nonzero(same_bits(ran, ours)))
            elements += ran.size
            wide = ran.astype(np.float64)
            exact = np.broadcast_to(np.asarray(real[tensor], np.float64), (points, *wide.shape))[i]
            difference = max(difference, float(np.max(np.abs(wide - ours), initial=0.0)))
            error = max(error, float(np.max(np.abs(wide - exact), initial=0.0)))
    return Agreement(points, elements, equal, difference, error)


def same_bits(a: Array, b: Array) -> Array:
    """Equal, with the sign of zero."""
    return (a == b) & (np.signbit(a) == np.signbit(b))


def float_or_text(value: float) -> float | str:
    """JSON has no infinity."""
    return float(value) if np.isfinite(value) else str(value)


def shown(row: Mapping[str, object]) -> tuple[str, ...]:
    if "refused" in row:
        return (str(row["network"]), f"refused: {row['refused']}")
    rounded = " (rounded)" if row["round_inputs"] else ""
    beyond = "" if row["onnxruntime_within_bound"] else " BEYOND THE BOUND"
    numbers = (row[k] for k in ("bound", "worst_found", "ratio", "seconds", "onnxruntime_seconds"))
    return (
        str(row["network"]),
        Path(str(row["domain"]).split(" around")[0]).name + rounded,
        str(row["contract"]),
        *(f"{float(str(v)):.3g}" for v in numbers),
        f"{row['equal']}/{row['elements']}{beyond}",
    )


if __name__ == "__main__":
    main()
