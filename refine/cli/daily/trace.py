"""`refine trace`: what a runtime gives, tensor by tensor, on one input, several or step after
step."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from gpu_check.common.writing import require_writable
from onnx_import.errors import ModelError
from refine.cli.answering import finish, hearing, require_json_place
from refine.cli.daily.trace_diff import answer, contracts_of
from refine.everyday.numbers import device_numbers
from refine.options.options import allowing, limiting
from refine.options.runtime_choice import RUNTIMES, machine, runtime_choice
from refine.options.sizes import shown_by, sizes_of, sizing
from refine.process.supervision import Watcher
from refine.report.console import Reporter
from refine.results.verdict import ExitCode
from refine.traces.comparing import compare
from refine.traces.recording import fed_by_name, reading, record, runs_of
from refine.traces.trace import Trace, write_trace

_FILE = click.Path(path_type=Path)
_RUNTIME = f"one of {', '.join(RUNTIMES)}, with settings as in refine conform"


@click.command("trace")
@click.argument("model", type=_FILE)
@click.option(
    "--inputs",
    type=_FILE,
    required=True,
    metavar="FILE.npz",
    help="Arrays by input, perhaps with an axis of runs in front, or Polygraphy's (.json).",
)
@click.option(
    "--runtime",
    default="onnxruntime",
    show_default=True,
    metavar="NAME[:SETTINGS]",
    help=f"What runs it: {_RUNTIME}.",
)
@click.option(
    "--against",
    metavar="NAME[:SETTINGS]",
    help="Run it there, too, and compare both as refine trace-diff does.",
)
@click.option("-o", "--output", type=_FILE, metavar="FILE.jsonl", help="Where the trace goes.")
@click.option("--values", is_flag=True, help="Keep the numbers of every tensor, not their hash.")
@click.option(
    "--steps", type=click.IntRange(min=1), metavar="N", help="How many runs, one after the other."
)
@click.option(
    "--feed",
    multiple=True,
    metavar="INPUT=OUTPUT",
    help="What is given to INPUT, or a stored weight, after the first step: an output of the step "
    "before; repeat. Default with --steps: each output next_NAME to NAME.",
)
@click.option(
    "--contract",
    "names",
    multiple=True,
    metavar="NAME|FILE.toml|probe:RUNTIME",
    help="With --against: how it runs; twice where each has its own. Default: ieee-any.",
)
@click.option("--json", "json_path", metavar="FILE", help="With --against: write the answer.")
@limiting
@allowing
@sizing
@click.option("--quiet", "-q", is_flag=True, help="Only the first line.")
def trace_command(
    *,
    model: Path,
    inputs: Path,
    runtime: str,
    against: str | None,
    output: Path | None,
    values: bool,
    steps: int | None,
    feed: tuple[str, ...],
    names: tuple[str, ...],
    json_path: str | None,
    timeout: float | None,
    allowed: tuple[Path, ...],
    shape: tuple[str, ...],
    dim: tuple[str, ...],
    quiet: bool,
) -> ExitCode:
    """Run a model and write down every tensor: its bits' hash, range, NaNs and infinities.

    One line of JSON for each tensor of each run. With --feed the outputs of one step are inputs or
    weights of the next, as in training. refine trace-diff compares two such files, and
    --against runs a second runtime and compares at once.

    \b
    refine trace net.onnx --inputs x.npz -o a.jsonl
    refine trace net.onnx --inputs x.npz --runtime torch --values -o b.jsonl
    refine trace step.onnx --inputs batch.npz --steps 3 --against numpy

    Exit code 0; with --against as in refine trace-diff.
    """
    if output is None and against is None:
        raise click.UsageError("give -o FILE.jsonl, or --against a runtime to compare with")
    if against is None and (names or json_path):
        raise click.UsageError("--contract and --json belong to --against")
    if output is not None:
        require_writable(output)
    require_json_place(json_path)
    choices = [runtime_choice(name) for name in (runtime, against) if name is not None]
    reporter = Reporter(quiet, silent=json_path == "-")
    watcher: Watcher | None = click.get_current_context().obj
    with (
        reporter.progress("reading the model", hearing(quiet)) as progress,
        TemporaryDirectory(prefix="refine-") as folder,
    ):
        arrays = device_numbers(inputs)
        sizes = shown_by(sizes_of(shape, dim), arrays)
        contracts = contracts_of(names, model, allowed, sizes)
        held = contracts if against is not None else ()
        read = reading(model, Path(folder), held, allowed, sizes)
        whole = read({})
        fed = _pairs(feed) or (fed_by_name(whole) if steps is not None else {})
        runs = runs_of(whole, arrays, fed, steps)
        if watcher is not None:
            watcher.read()
        keep = values or against is not None
        traces = [
            record(model, read, partial(machine, c), runs, keep=keep, tell=progress.tell)
            for c in choices
        ]
        found = None
        if against is not None:
            found = compare(traces[0], traces[1], read, contracts, tell=progress.tell)
    finish(watcher)
    if output is not None:
        write_trace(traces[0] if values else traces[0].without_values, output)
    if found is not None:
        return answer(found, json_path, reporter, quiet)
    reporter.lines(_account(traces[0], output))
    return ExitCode.VERIFIED


def _account(trace: Trace, output: Path | None) -> Iterator[str]:
    computed = [e for e in trace.lines if not e.is_input]
    runs = f", {trace.runs} runs" if trace.runs > 1 else ""
    yield f"{trace.runtime}: {len(computed)} tensors{runs}, in {output}"
    wrong = [e for e in computed if e.nans or e.infinities]
    if wrong:
        first = wrong[0]
        where = f" of run {first.run}" if trace.runs > 1 else ""
        yield (
            f"numbers that are not finite, first in '{first.tensor}' ({first.op} '{first.node}')"
            f"{where}: {first.nans} NaN, {first.infinities} infinite"
        )


def _pairs(feed: tuple[str, ...]) -> dict[str, str]:
    """`INPUT=OUTPUT`, several times. Raises ModelError."""
    pairs: dict[str, str] = {}
    for text in feed:
        name, between, output = text.partition("=")
        if not (name and between and output):
            raise ModelError(f"--feed has '{text}'; expected INPUT=OUTPUT")
        if name in pairs:
            raise ModelError(f"--feed gives '{name}' twice")
        pairs[name] = output
    return pairs
