"""`refine trace-diff`: two runs of a model, tensor by tensor: rounding, or something else?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from encoders.contract.contract import RuntimeContract
from onnx_import.errors import ModelError
from onnx_import.graph import Array, Sizes
from refine.cli.answering import finish, hearing, require_json_place, tell_json
from refine.cli.daily.judge import overstep_numbers
from refine.everyday.numbers import device_numbers, fitting, runners_of
from refine.options.contract_choice import contract_for
from refine.options.options import allowing, limiting
from refine.options.sizes import shown_by, sizes_of, sizing
from refine.process.supervision import Watcher
from refine.report.console import Reporter
from refine.results.document import strict_json, versions
from refine.results.numerals import down, plain_number, up
from refine.results.verdict import ExitCode
from refine.traces.comparing import Beside, Comparison, Status, compare
from refine.traces.recording import Read, reading, runs_of
from refine.traces.trace import Line, Trace, digest_of, read_trace, trace_of_arrays

SCHEMA = "refine-trace-diff-1"
_FILE = click.Path(path_type=Path)
_DEFAULT = "ieee-any"
_COLUMNS = ("run", "node", "operator", "tensor", "shape", "bits", "apart", "bound", "of it")
_MOST_ROWS = 40
_NAMES = ("the first", "the second")


@click.command("trace-diff")
@click.argument("first", type=_FILE)
@click.argument("second", type=_FILE, required=False)
@click.option(
    "--model", type=_FILE, help="What ran. Default: the file that the traces name, if it is there."
)
@click.option(
    "--inputs",
    type=_FILE,
    metavar="FILE.npz",
    help="What was given, for dumps of other tools that do not say (.npz, Polygraphy's .json).",
)
@click.option(
    "--contract",
    "names",
    multiple=True,
    metavar="NAME|FILE.toml|probe:RUNTIME",
    help=f"How it ran; twice where each side has its own. Default: {_DEFAULT}.",
)
@click.option("--json", "json_path", metavar="FILE", help="Write the answer; - for stdout.")
@limiting
@allowing
@sizing
@click.option("--quiet", "-q", is_flag=True, help="Only the first line.")
def trace_diff_command(
    *,
    first: Path,
    second: Path | None,
    model: Path | None,
    inputs: Path | None,
    names: tuple[str, ...],
    json_path: str | None,
    timeout: float | None,
    allowed: tuple[Path, ...],
    shape: tuple[str, ...],
    dim: tuple[str, ...],
    quiet: bool,
) -> ExitCode:
    """Are two runs of a model as far apart as rounding can bring them, or further?

    Every tensor that both show has equal bits, or is within what is proved of two executions that
    begin with these inputs, or is outside: then no two executions of the contract give these
    numbers, and the first such node is named. A run of training is held to where both were when
    its step began. Sides are traces of refine trace, arrays in .npz files, or what Polygraphy saved
    (one file of two runners is both sides).

    \b
    refine trace-diff a.jsonl b.jsonl
    refine trace-diff a.jsonl b.jsonl --contract ort-cpu --contract cuda-fp32
    refine trace-diff a.jsonl trt.npz --model net.onnx
    refine trace-diff runs.json --inputs inputs.json --model net.onnx

    Exit code 0 if all is equal or within, 1 if something is outside, 3 if of some tensor that
    differs nothing is known.
    """
    require_json_place(json_path)
    reporter = Reporter(quiet, silent=json_path == "-")
    watcher: Watcher | None = click.get_current_context().obj
    with (
        reporter.progress("reading the traces", hearing(quiet)) as progress,
        TemporaryDirectory(prefix="refine-") as folder,
    ):
        stored = [read_trace(p) if p.suffix == ".jsonl" else None for p in (first, second) if p]
        file = model or _named(stored)
        sizes, arrays = sizes_of(shape, dim), {}
        if inputs is not None:
            arrays = device_numbers(inputs)
            sizes = shown_by(sizes, arrays)
        elif any(stored):
            shown = next(t for t in stored if t is not None).received(0)
            sizes = shown_by(sizes, shown)
        contracts = contracts_of(names, file, allowed, sizes)
        read = None if file is None else reading(file, Path(folder), contracts, allowed, sizes)
        if watcher is not None:
            watcher.read()
        sides = _sides((first, second), stored, read, arrays)
        found = compare(sides[0], sides[1], read, contracts, tell=progress.tell)
    finish(watcher)
    return answer(found, json_path, reporter, quiet)


def contracts_of(
    names: Sequence[str], model: Path | None, allowed: tuple[Path, ...], sizes: Sizes
) -> tuple[RuntimeContract, RuntimeContract]:
    """One contract for both sides, or one for each. Raises ModelError."""
    chosen = names or (_DEFAULT,)
    if len(chosen) > 2:
        raise ModelError("--contract is given once, or once for each of the two sides")
    if model is None and any(name.startswith("probe:") for name in chosen):
        raise ModelError("a runtime is probed with a model: give --model")
    place = model or Path()
    found = [contract_for(n, None, None, place, allowed, sizes=sizes) for n in chosen]
    return found[0], found[-1]


def _named(stored: Sequence[Trace | None]) -> Path | None:
    """The file that a trace names, if it is still there as it was."""
    for trace in stored:
        if trace is not None and trace.model is not None:
            path = Path(trace.model)
            if path.is_file() and digest_of(path) == trace.digest:
                return path
    return None


def _sides(
    paths: tuple[Path, Path | None],
    stored: Sequence[Trace | None],
    read: Read | None,
    arrays: Mapping[str, Array],
) -> tuple[Trace, Trace]:
    """Both traces; arrays of other tools become one with what the other side was given."""
    kept = [trace for trace in stored if trace is not None]
    if paths[1] is None:
        if paths[0].suffix != ".json":
            raise ModelError("give two files, or one of Polygraphy's that holds two runners")
        runners = list(runners_of(paths[0]).items())
        if len(runners) != 2:
            raise ModelError(f"{paths[0]} holds {len(runners)} runners; give one that holds two")
        one, other = (_dumped(runs, name, read, kept, arrays) for name, runs in runners)
        return one, other
    sides = []
    for path, trace in zip(paths, stored, strict=True):
        if trace is None and path is not None:
            named: Mapping[str, Sequence[Mapping[str, Array]]] = (
                runners_of(path) if path.suffix == ".json" else {str(path): [device_numbers(path)]}
            )
            name, runs = next(iter(named.items()))
            trace = _dumped(runs, name, read, kept, arrays)
        if trace is not None:
            sides.append(trace)
    return sides[0], sides[1]


def _dumped(
    dumped: Sequence[Mapping[str, Array]],
    name: str,
    read: Read | None,
    kept: Sequence[Trace],
    arrays: Mapping[str, Array],
) -> Trace:
    """The trace of one runner: arrays by tensor for each run, or with an axis of runs in front."""
    if read is None:
        raise ModelError(f"{name}: arrays are compared by what a model says of them: give --model")
    if not arrays and not kept:
        raise ModelError(f"{name}: it does not say what was given: add --inputs")
    whole = read({})
    given = (
        list(runs_of(whole, arrays, {}).given)
        if arrays
        else [kept[0].received(k) for k in range(kept[0].runs)]
    )
    if len(dumped) == 1 and len(given) > 1:
        joined = fitting(dumped[0], whole, len(given), name)
        dumped = [{t: v[k] for t, v in joined.items()} for k in range(len(given))]
    if len(dumped) != len(given):
        raise ModelError(f"{name}: {len(dumped)} runs, but inputs for {len(given)}")
    graphs = [read(x) for x in given]
    fitted = [
        {t: v[0] for t, v in fitting(y, g, 1, name).items()}
        for y, g in zip(dumped, graphs, strict=True)
    ]
    return trace_of_arrays(graphs, given, fitted, name)


def answer(found: Comparison, json_path: str | None, reporter: Reporter, quiet: bool) -> ExitCode:
    """Say what was found, and give the exit code."""
    tell_json(strict_json(document_of_comparison(found)), json_path, reporter)
    if json_path != "-":
        lines = list(account(found))
        if quiet:
            reporter.lines(lines[:1])
        else:
            apart = [r for r in found.rows if r.status is not Status.EQUAL]
            reporter.table("", _COLUMNS, [_row(r) for r in apart[:_MOST_ROWS]], lines[0])
            if len(apart) > _MOST_ROWS:
                reporter.lines([f"and {len(apart) - _MOST_ROWS} more, which --json has"])
            reporter.lines(lines[1:])
    if found.outside:
        return ExitCode.VIOLATED
    return ExitCode.UNKNOWN if found.open else ExitCode.VERIFIED


def account(found: Comparison) -> Iterator[str]:
    """The answer first, then what it rests on."""
    equal = sum(r.status is Status.EQUAL for r in found.rows)
    every = f"{len(found.rows)} tensors"
    if found.outside:
        yield f"outside: {_where(found.outside[0], found)}: {_why(found.outside[0])}"
        if len(found.outside) > 1:
            yield f"{len(found.outside)} of {every} are outside"
    elif found.open:
        first = found.open[0]
        yield f"not known: {_where(first, found)} has other bits, {_unknown(first, found)}"
    elif equal == len(found.rows):
        yield f"the same bits in all of {every}"
    else:
        yield f"within what is proved of two executions: {every}, {equal} of them of equal bits"
    parting = found.parting
    if parting is not None:
        yield f"the first other bits: {_where(parting, found)}"
    if found.closest is not None and found.closest.share:
        share = found.closest.share
        yield f"most of its bound, {100 * share:.3g} %, takes {_where(found.closest, found)}"
    if found.refused:
        yield f"no bounds, as the model has no meaning here: {found.refused}"
    for name in found.unlike:
        yield f"input '{name}' was not the same; bounds begin with the difference"
    digests = found.first.digest, found.second.digest
    if None not in digests and digests[0] != digests[1]:
        yield "the traces are of two files of other contents"
    if found.first.runs != found.second.runs:
        yield f"{found.first.runs} runs in one trace, {found.second.runs} in the other"
    yield f"the first is {found.first.runtime}, the second {found.second.runtime}"
    if found.contracts is not None:
        one, other = (c.name for c in found.contracts)
        yield f"held to {one}" if one == other else f"held to {one} and {other}"


def _where(row: Beside, found: Comparison) -> str:
    line = row.line
    run = f" in run {line.run}" if found.first.runs > 1 else ""
    return f"{line.op} node '{line.node}', tensor '{line.tensor}'{run}"


def _why(row: Beside) -> str:
    said = []
    for k, one in (row.alone or {}).items():
        said.append(
            f"{_NAMES[k]} is {down(one.times, 3)} times outside its bound on its own numbers, "
            f"element {list(one.index)} is {one.given!r}, the exact value "
            f"{down(one.low, 9)} … {up(one.high, 9)}, the bound {up(one.allowed, 3)}"
        )
    if said:
        return "; ".join(said)
    if row.first is None or row.second is None:
        return f"their ranges are {down(row.apart or 0.0, 3)} apart, at most {_bound(row)} proved"
    return (
        f"element {list(row.index)} is {row.first!r} and {row.second!r}, at most {_bound(row)} "
        "apart in two executions"
    )


def _bound(row: Beside) -> str:
    return "" if row.allowed is None else up(row.allowed, 3)


def _unknown(row: Beside, found: Comparison) -> str:
    if found.contracts is None:
        return "and what a model allows needs --model"
    if found.refused:
        return "and the model has no meaning here"
    if row.status is Status.UNSEEN:
        return "and the traces keep no numbers: write them with --values"
    return "and no bound is known there"


def _row(row: Beside) -> tuple[str, ...]:
    line: Line = row.line
    share = row.share
    return (
        str(line.run),
        line.node,
        line.op,
        line.tensor,
        "x".join(map(str, line.shape)) or "scalar",
        row.status.value,
        "" if row.apart is None else f"{row.apart:.3g}",
        _bound(row),
        "" if share is None else f"{100 * share:.3g} %",
    )


def document_of_comparison(found: Comparison) -> dict[str, Any]:
    """The answer as JSON values."""
    return {
        "schema": SCHEMA,
        "first": _side(found.first),
        "second": _side(found.second),
        "contracts": None if found.contracts is None else [c.name for c in found.contracts],
        "outside": [_named_row(r) for r in found.outside],
        "first_other_bits": None if found.parting is None else _named_row(found.parting),
        "unlike_inputs": list(found.unlike),
        "refused": found.refused or None,
        "tensors": [_entry(r) for r in found.rows],
        "versions": versions(),
    }


def _side(trace: Trace) -> dict[str, Any]:
    return {
        "runtime": trace.runtime,
        "model": trace.model,
        "sha256": trace.digest,
        "runs": trace.runs,
        "fed": dict(trace.fed),
    }


def _named_row(row: Beside) -> dict[str, Any]:
    line = row.line
    return {"run": line.run, "node": line.node, "op": line.op, "tensor": line.tensor}


def _entry(row: Beside) -> dict[str, Any]:
    return {
        **_named_row(row),
        "shape": list(row.line.shape),
        "status": row.status.name.lower(),
        "apart": plain_number(row.apart),
        "allowed": plain_number(row.allowed),
        "share": plain_number(row.share),
        "element": list(row.index),
        "numbers": [plain_number(row.first), plain_number(row.second)],
        "alone": {k: overstep_numbers(o) for k, o in (row.alone or {}).items()},
    }
