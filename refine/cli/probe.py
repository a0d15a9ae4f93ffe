"""`refine probe`: a runtime's contract for one model, found out by running it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from encoders.contract.contract import RuntimeContract
from gpu_check.common.writing import require_writable
from gpu_check.probe.probed_contract import Probed, agreed_rules, probe_contract
from gpu_check.runtimes.runtimes import OnnxRuntimeOptions, RuntimeUnavailable
from gpu_check.runtimes.tensors import Machine
from onnx_import import load
from onnx_import.errors import ModelError, UnsupportedModel
from onnx_import.graph import Array, Graph
from refine.domain.random_inputs import drawn
from refine.options.contract_file import contract_text, write_contract
from refine.options.options import allowing, changed_contract, contract_of
from refine.options.runtime_choice import RuntimeChoice, machine, runtime_choice
from refine.report.console import Reporter
from refine.results.verdict import ExitCode

PROBE = "probe:"
_IN_FILE = "-1..1"
_SAMPLES_IN_FILE = 4


@click.command("probe")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--runtime",
    metavar="NAME[:SETTINGS]",
    default="onnxruntime",
    show_default=True,
    help="Which runtime; settings: threads=N,flush,optimization=LEVEL; torch: device=cuda,"
    "precision=high.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE.toml",
    help="Where to write the contract; default: standard output.",
)
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Random inputs on which each schedule is replayed, with each set of weights.",
)
@click.option(
    "--exhaustive", is_flag=True, help="Measure float32 functions on all 2^32 inputs (minutes)."
)
@click.option("--seed", type=int, default=0, show_default=True)
@allowing
def probe_command(
    model: Path,
    runtime: str,
    output: Path | None,
    samples: int,
    exhaustive: bool,
    seed: int,
    allowed: tuple[Path, ...],
) -> ExitCode:
    """Find out how a runtime computes this model, and write the contract it obeys."""
    if output is not None:
        require_writable(output)
    reporter = Reporter(silent=output is None)
    with reporter.progress("probing") as progress:
        choice = runtime_choice(runtime)
        graph = load(model, allowed=allowed)
        found = probed(graph, choice, samples, exhaustive, seed, progress.tell)
    if output is None:
        Reporter().text(contract_text(found.contract))
    else:
        write_contract(found.contract, output)
        reporter.lines(account(found))
    return ExitCode.VERIFIED


def probed(
    graph: Graph,
    choice: RuntimeChoice,
    samples: int = 32,
    exhaustive: bool = False,
    seed: int = 0,
    tell: Callable[[str], None] = lambda text: None,
) -> Probed:
    """Probe the runtime on every node. Raises ModelError where that cannot be done."""
    options = choice.options
    if isinstance(options, OnnxRuntimeOptions) and options.optimization != "none":
        raise UnsupportedModel(
            "an optimising runtime rewrites the graph before it computes, so its nodes cannot be "
            "probed one by one; use optimization=none, or probe the model that it saves"
        )
    more = choice.with_threads(options.threads + max(os.cpu_count() or 1, 2))
    try:
        with machine(choice, graph) as one, machine(more, graph) as two:
            threaded = None if choice.name == "numpy" else two.kernels
            whole = _whole(graph, one, seed)
            found = probe_contract(
                graph, one.kernels, threaded, exhaustive, samples, seed, tell, whole
            )
    except RuntimeUnavailable as error:
        raise ModelError(str(error)) from error
    run_as = (("threads", str(options.threads)), ("run_as", choice.written()))
    provenance = (*found.contract.provenance, *run_as)
    return replace(found, contract=replace(found.contract, provenance=provenance))


def _whole(graph: Graph, one: Machine, seed: int) -> Mapping[str, Array]:
    """Every tensor that the runtime shows when it runs the file on a few random inputs; nothing,
    where it does not run them."""
    try:
        batch = drawn(graph, (_IN_FILE,), _SAMPLES_IN_FILE, seed)
        shown = one.tensors(batch)
    except (ModelError, RuntimeUnavailable):
        return {}
    return {**{t: np.stack([s[t] for s in batch]) for t in graph.inputs}, **shown}


def contract_for(
    name: str,
    fmt: str | None,
    subnormals: str | None,
    model: Path,
    allowed: tuple[Path, ...] = (),
    batch: int | None = None,
) -> RuntimeContract:
    """A preset, a contract file, or `probe:RUNTIME`, with the user's changes.

    With `batch` the model is probed with so many rows, too: libraries decide by the shape. Raises
    ModelError for what is none of these.
    """
    if not name.startswith(PROBE):
        return contract_of(name, fmt, subnormals)
    choice = runtime_choice(name.removeprefix(PROBE))
    graph = load(model, allowed=allowed)
    found = probed(graph, choice).contract
    if batch is not None:
        many = probed(load(model, batch, allowed=allowed), choice).contract
        found = replace(found, rules=agreed_rules(found.rules, many.rules))
    return changed_contract(found, fmt, subnormals)


def account(found: Probed) -> Iterator[str]:
    """What was found, line by line."""
    for f in found.findings:
        place = f"{f.node.describe()}, {f.place.terms} terms: "
        changes = (
            ("more threads change its bits", f.changed_by_threads),
            ("its bits change in a batch", f.changed_by_batch),
            ("with the place in a batch", f.changed_by_position),
        )
        more = "".join(f"; {text}" for text, seen in changes if seen)
        if f.pinned:
            yield f"{place}{f.schedule.describe()}; {f.replayed} inputs bit for bit{more}"
        else:
            yield f"{place}left open, {f.note}{more}"
    yield (
        f"subnormal results {found.flushes.results.value}, operands {found.flushes.operands.value}"
    )
    if found.contract.factor_format is not None:
        rounding = found.contract.factor_rounding.value
        yield f"factors of products rounded to {found.contract.factor_format.name} ({rounding})"
    for function, figures in found.functions:
        kind = "all" if figures.exhaustive else "a sample of"
        yield (
            f"{function.value}: at most {figures.ulps:.4g} ulp and {figures.units:.4g} u on {kind} "
            f"{figures.inputs} inputs, worst at {figures.worst!r}"
        )
