"""`refine probe`: a runtime's contract for one model, found out by running it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from gpu_check.common.writing import require_writable
from gpu_check.probe.probed_contract import Probed
from onnx_import import load
from refine.cli.answering import finish, hearing
from refine.options.contract_file import contract_text, write_contract
from refine.options.options import allowing, limiting
from refine.options.probing import probed
from refine.options.runtime_choice import runtime_choice
from refine.options.sizes import sizes_of, sizing
from refine.process.supervision import Watcher
from refine.report.console import Reporter
from refine.results.verdict import ExitCode


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
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Of the random inputs.",
)
@limiting
@allowing
@sizing
def probe_command(
    *,
    model: Path,
    runtime: str,
    output: Path | None,
    samples: int,
    exhaustive: bool,
    seed: int,
    timeout: float | None,
    allowed: tuple[Path, ...],
    shape: tuple[str, ...],
    dim: tuple[str, ...],
) -> ExitCode:
    """Find out how a runtime computes this model, and write the contract it obeys.

    \b
    refine probe net.onnx -o here.toml
    refine probe net.onnx --runtime onnxruntime:threads=1,optimization=all

    Exit code 4, and no contract, if --timeout runs out.
    """
    if output is not None:
        require_writable(output)
    watcher: Watcher | None = click.get_current_context().obj
    reporter = Reporter(silent=output is None)
    with reporter.progress("probing", hearing()) as progress:
        choice = runtime_choice(runtime)
        graph = load(model, allowed=allowed, sizes=sizes_of(shape, dim))
        if watcher is not None:
            watcher.read()
        found = probed(
            graph, choice, samples=samples, exhaustive=exhaustive, seed=seed, tell=progress.tell
        )
    finish(watcher)
    if output is None:
        Reporter().text(contract_text(found.contract))
    else:
        write_contract(found.contract, output)
        reporter.lines(account(found))
    return ExitCode.VERIFIED


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
            f"{function.name}: at most {figures.ulps:.4g} ulp and {figures.units:.4g} u on {kind} "
            f"{figures.inputs} inputs, worst at {figures.worst!r}"
        )
