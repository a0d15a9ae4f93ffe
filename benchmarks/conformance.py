"""onnxruntime held to the contract that was probed on it, and to the bounds proved from that.

    python benchmarks/conformance.py [PATTERN ...] [--inputs N] [--runs N] [--budget SECONDS]
                                     [--models DIR] [--save FILE]

For each model (no graph optimisations, one thread): the contract is probed; every tensor is
emulated under it on `--inputs` random inputs and compared with onnxruntime's bit for bit; bounds
are proved under it and under `ieee-any`; and `--runs` real runs are held to the bounds, element by
element (their distance from the real network is found by float64). The domains are those of
benchmarks/corpus.py, and property 3 for ACAS Xu. What was measured before and is not measured now
stays in `--save`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
from corpus import chosen, domain_of, float_or_text
from measuring import MODELS, earlier, save
from rich.console import Console
from rich.table import Table

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import IEEE_ANY, ORT_CPU
from encoders.numbers.enclosure import FloatArray
from gpu_check.conformance.conformance import Conformance, How
from gpu_check.emulator.exact import evaluate_real
from gpu_check.runtimes.runtimes import OnnxRuntime
from onnx_import import load
from onnx_import.graph import Array, Graph
from refine.claims.conforming import judged
from refine.claims.kinds.accuracy import check
from refine.claims.options import Options
from refine.domain.domain import Domain, DomainOptions, read_domain
from refine.lemmas.cache import default_directory
from refine.options.probing import probed
from refine.options.runtime_choice import runtime_choice
from refine.results.verdict import Tolerance

PATTERNS = ("acasxu/*", "mnist_fc/*", "oval21/*")
COLUMNS = ("network", "domain", "same bits", "probed", "ieee-any", "gain", "largest", "above")
_BATCH = 500

Batches: TypeAlias = Callable[[Mapping[str, Array]], Mapping[str, Array]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("patterns", nargs="*", default=PATTERNS, help="such as 'acasxu/*'")
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=10**5)
    parser.add_argument("--budget", type=float, default=0.0)
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    options = Options(None, default_directory(), search=False, budget=given.budget, workers=1)
    rows = {} if given.save is None else earlier(given.save, "network")
    for path in chosen(given.models, list(given.patterns)):
        row = measured(given.models, path, options, given.inputs, given.runs)
        rows[(row["network"],)] = row
        print(*shown(row), sep="  ", flush=True)
        if given.save is not None:
            save(given.save, [rows[key] for key in sorted(rows)], budget=given.budget)
    table = Table(title=f"onnxruntime under its probed contract; {given.runs} runs")
    for title in COLUMNS:
        table.add_column(title)
    for key in sorted(rows):
        table.add_row(*shown(rows[key]))
    Console(width=140).print(table)


def measured(
    models: Path, path: Path, options: Options, inputs: int, runs: int
) -> Mapping[str, object]:
    """One row: what agrees, the two bounds, and what real runs do to the tighter one."""
    graph, choice = load(path), runtime_choice("onnxruntime")
    domain = the_domain(path, graph)
    start = time.perf_counter()
    contract = probed(graph, choice).contract
    probing = time.perf_counter() - start
    sampled = typed(graph, domain, np.random.default_rng(1), inputs)
    batch = [{t: v[k] for t, v in sampled.items()} for k in range(inputs)]
    outcome = judged(graph, choice, contract, batch)
    bounds = {c.name: bounded(graph, domain, c, options) for c in (contract, IEEE_ANY)}
    tight = bounds[contract.name]
    largest, share, above = held(one_by_one(OnnxRuntime(path)), graph, domain, tight, runs)
    return {
        "network": str(path.relative_to(models).with_suffix("")),
        "domain": domain.source.replace(f"{models}/", ""),
        "runtime": outcome.runtime,
        "inputs": inputs,
        "numbers": sum(n.numbers for n in outcome.nodes),
        "layers": len(outcome.nodes),
        "layers_bit_for_bit": sum(same_bits(outcome)),
        "bound_probed": float_or_text(widest(tight)),
        "bound_ieee_any": float_or_text(widest(bounds[IEEE_ANY.name])),
        "runs": runs,
        "largest_error": largest,
        "largest_share_of_bound": share,
        "above_bound": above,
        "probing_seconds": probing,
    }


def the_domain(path: Path, graph: Graph) -> Domain:
    third = path.parent / "prop_3.vnnlib"
    if path.parent.name != "acasxu" or not third.exists():
        return domain_of(path, graph)
    return read_domain(graph, DomainOptions(vnnlib=str(third)), ORT_CPU.format_of)


def same_bits(outcome: Conformance) -> list[bool]:
    """Of each layer: does the emulation give the runtime's bits on every input?"""
    return [n.how is How.BITS and n.divergence is None for n in outcome.nodes]


def bounded(
    graph: Graph, domain: Domain, contract: RuntimeContract, options: Options
) -> Mapping[str, FloatArray]:
    return check(graph, domain, contract, Tolerance(), options).bounds


def widest(bounds: Mapping[str, FloatArray]) -> float:
    return max(float(b.max(initial=0.0)) for b in bounds.values())


def typed(graph: Graph, domain: Domain, rng: np.random.Generator, n: int) -> dict[str, Array]:
    points = domain.boxes[0].sample(rng, n)
    return {t: x.astype(graph.types[t].dtype.numpy) for t, x in points.items()}


def one_by_one(runtime: OnnxRuntime) -> Batches:
    """Runs of single inputs."""
    shapes = runtime.input_shapes()

    def run(inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        count = len(next(iter(inputs.values())))
        outputs = [
            runtime.run({t: v[i].reshape(shapes[t]) for t, v in inputs.items()})
            for i in range(count)
        ]
        return {t: np.stack([np.asarray(o[t]) for o in outputs]) for t in outputs[0]}

    return run


def held(
    run: Batches,
    graph: Graph,
    domain: Domain,
    bounds: Mapping[str, FloatArray],
    runs: int,
) -> tuple[float, float, int]:
    """The largest error of real runs, the largest part of its bound that an output's error is, and
    how many runs are above a bound."""
    rng = np.random.default_rng(2)
    largest = share = 0.0
    above = 0
    for start in range(0, runs, _BATCH):
        inputs = typed(graph, domain, rng, min(_BATCH, runs - start))
        wide = {t: v.astype(np.float64) for t, v in inputs.items()}
        real, outputs = evaluate_real(graph, wide, ApproximateReals()), run(inputs)
        count = len(next(iter(inputs.values())))
        beyond = np.zeros(count, bool)
        for t in graph.outputs:
            given = outputs[t].reshape(count, *bounds[t].shape).astype(np.float64)
            error = np.abs(given - np.asarray(real[t], np.float64))
            largest = max(largest, float(error.max(initial=0.0)))
            share = max(share, float((error / bounds[t]).max(initial=0.0)))
            beyond |= ~(error <= bounds[t]).reshape(count, -1).all(axis=1)
        above += int(beyond.sum())
    return largest, share, above


def shown(row: Mapping[str, object]) -> tuple[str, ...]:
    probed_bound, free = (float(str(row[k])) for k in ("bound_probed", "bound_ieee_any"))
    return (
        str(row["network"]),
        Path(str(row["domain"]).split(" around")[0]).name,
        f"{row['layers_bit_for_bit']}/{row['layers']} layers on {row['inputs']}",
        f"{probed_bound:.3g}",
        f"{free:.3g}",
        f"{free / probed_bound:.2f}",
        f"{float(str(row['largest_error'])):.3g}",
        f"{row['above_bound']} of {row['runs']}",
    )


if __name__ == "__main__":
    main()
