"""Probable errors beside the worst case, and executions drawn at random against them.

    python benchmarks/confidence.py [--confidence P] [--runs N] [--drawn N] [--models DIR]
        [--save FILE]

Each network at the middle of its domain and over the whole of it, under contracts that round to
nearest and under stochastic rounding: the worst case (of the walk that finds the likely error, all
signs at their worst), the likely error, and how many decades lie between. Then executions, none of
which looks at its roundings: of the dense network with ReLU `--runs`, in orders and contractions
chosen at random, rounded to nearest (`random_orders`); of ACAS Xu `--drawn`, rounded
stochastically, against the likely error at 10⁻². Printed are the largest errors and how often a
bound was exceeded.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from measuring import MODELS, save
from random_orders import compiled, dense_of, runs_of
from rich.console import Console
from rich.table import Table

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import PRESETS, STOCHASTIC
from gpu_check.emulator.exact import evaluate_real
from gpu_check.emulator.stochastic import drawn
from onnx_import import load
from onnx_import.graph import Graph
from refine.domain.box import Box
from refine.domain.domain import Domain, DomainOptions, read_domain
from refine.probable.likely import Certain, Probably, probable_errors
from refine.proof.proof import input_box

ROWS = (
    ("acasxu/ACASXU_run2a_1_1_batch_2000", "acasxu/prop_3"),
    ("mnist_fc/mnist-net_256x4", "mnist_fc/prop_1_0.03"),
    ("eran21_sigmoid/ffnnSIGMOID__Point_6x200", "eran21_sigmoid/mnist_spec_idx_1013_eps_0.01500"),
    ("cifar10_resnet/resnet_2b", "cifar10_resnet/prop_0_eps_0.008"),
)
CONTRACTS = ("ieee-any", "sequential-fma", "sequential", "stochastic")
IN_ORDERS, BY_CHANCE = ROWS[1], ROWS[0]
_OFTEN = 1e-2
_AT_ONCE = 2000
COLUMNS = ("network", "domain", "contract", "worst", "likely", "decades")
RUNS = ("network", "executions", "confidence", "likely", "largest error", "exceeded", "of")
Row = dict[str, float | str | int]
FloatArray = npt.NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--confidence", type=float, default=1e-9)
    parser.add_argument("--runs", type=int, default=10**6)
    parser.add_argument("--drawn", type=int, default=10**5)
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    rows: list[Row] = []
    bounds = Table(title=f"probable errors, confidence {given.confidence:g}")
    ran = Table(title="executions")
    for table, titles in ((bounds, COLUMNS), (ran, RUNS)):
        for title in titles:
            table.add_column(title)
    for row in compared(given.models, given.confidence):
        rows.append(row)
        bounds.add_row(*_shown(row, COLUMNS))
        print(*_shown(row, COLUMNS), flush=True)
    executions = (
        in_random_orders(given.models, given.confidence, given.runs),
        by_chance(given.models, given.drawn),
    )
    for row in executions:
        rows.append(row)
        ran.add_row(*_shown(row, RUNS))
    for table in (bounds, ran):
        Console(width=120).print(table)
    if given.save is not None:
        save(given.save, rows, confidence=given.confidence)


def compared(models: Path, failing: float) -> Iterator[Row]:
    """Worst and likely errors of every network, at a point and over its domain."""
    for network, vnnlib in ROWS:
        graph = load(models / f"{network}.onnx")
        for name in CONTRACTS:
            contract = STOCHASTIC if name == STOCHASTIC.name else PRESETS[name]
            domain = _domain(graph, models / f"{vnnlib}.vnnlib", contract)
            for where, box in (("point", _middle(domain)), ("box", domain.boxes[0])):
                worst, likely = (
                    probable_errors(graph, input_box(box, domain, contract), contract, how).largest
                    for how in (Certain(), Probably(failing))
                )
                yield {
                    "network": Path(network).name,
                    "domain": f"{Path(vnnlib).name} ({where})",
                    "contract": name,
                    "worst": worst,
                    "likely": likely,
                    "decades": math.log10(worst / likely) if likely else 0.0,
                }


def in_random_orders(models: Path, failing: float, runs: int) -> Row:
    """Executions of `ieee-any` in random orders at a point, rounded to nearest."""
    contract = PRESETS["ieee-any"]
    graph, domain = _asked(models, IN_ORDERS, contract)
    box = _middle(domain)
    likely = probable_errors(graph, input_box(box, domain, contract), contract, Probably(failing))
    (name,), (output,) = box.lo, graph.outputs
    real = _real(graph, box)
    dense, x = dense_of(graph), box.lo[name].astype(np.float32)
    most, exceeded = 0.0, 0
    with tempfile.TemporaryDirectory() as scratch:
        library = compiled(Path(scratch))
        for seed, count in enumerate(_pieces(runs, 10 * _AT_ONCE)):
            found = runs_of(library, dense, x, count, seed)
            off = np.abs(found.astype(np.float64) - real.reshape(1, -1))
            most = max(most, float(off.max()))
            exceeded += int(np.sum(np.any(off > likely.errors[output].reshape(1, -1), axis=1)))
    kind = "random orders, to nearest"
    return _run(IN_ORDERS[0], kind, failing, likely.largest, most, exceeded, runs)


def by_chance(models: Path, runs: int) -> Row:
    """Executions rounded stochastically at a point."""
    graph, domain = _asked(models, BY_CHANCE, STOCHASTIC)
    box = _middle(domain)
    inputs = input_box(box, domain, STOCHASTIC)
    likely = probable_errors(graph, inputs, STOCHASTIC, Probably(_OFTEN))
    (name,), (output,) = box.lo, graph.outputs
    real = _real(graph, box)
    most, exceeded = 0.0, 0
    for seed, count in enumerate(_pieces(runs, _AT_ONCE)):
        x = np.repeat(box.lo[name].astype(np.float32)[None], count, axis=0)
        found = drawn(graph, {name: x}, STOCHASTIC, seed)[output]
        off = np.abs(found.astype(np.float64) - real).reshape(count, -1)
        most = max(most, float(off.max()))
        exceeded += int(np.sum(np.any(off > likely.errors[output].reshape(1, -1), axis=1)))
    return _run(BY_CHANCE[0], "stochastic", _OFTEN, likely.largest, most, exceeded, runs)


def _run(
    network: str, kind: str, failing: float, likely: float, most: float, exceeded: int, runs: int
) -> Row:
    return {
        "network": Path(network).name,
        "executions": kind,
        "confidence": failing,
        "likely": likely,
        "largest error": most,
        "exceeded": exceeded,
        "of": runs,
    }


def _asked(models: Path, row: tuple[str, str], contract: RuntimeContract) -> tuple[Graph, Domain]:
    graph = load(models / f"{row[0]}.onnx")
    return graph, _domain(graph, models / f"{row[1]}.vnnlib", contract)


def _domain(graph: Graph, path: Path, contract: RuntimeContract) -> Domain:
    return read_domain(graph, DomainOptions(vnnlib=str(path)), contract.format_of)


def _middle(domain: Domain) -> Box:
    """The middle of the first box, as a box."""
    box = domain.boxes[0]
    point = {n: box.nearest(n, (box.lo[n] + box.hi[n]) / 2) for n in box.lo}
    return replace(box, lo=point, hi=point, real_lo=point, real_hi=point, stated={})


def _real(graph: Graph, box: Box) -> FloatArray:
    inputs = {name: value[None] for name, value in box.lo.items()}
    (output,) = graph.outputs
    return np.asarray(evaluate_real(graph, inputs, ApproximateReals())[output], np.float64)


def _pieces(total: int, most: int) -> Iterator[int]:
    while total > 0:
        yield min(total, most)
        total -= most


def _shown(row: Row, titles: tuple[str, ...]) -> list[str]:
    cells = (row[title] for title in titles)
    return [f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in cells]


if __name__ == "__main__":
    main()
