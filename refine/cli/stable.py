"""`refine stable`: which decisions of a data set can no allowed execution change?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from refine.claims.asked import read_for
from refine.claims.many.answers import counted
from refine.claims.many.points import points_of, shapes_in
from refine.claims.many.stability import (
    BUDGET,
    Decision,
    Stability,
    document_of_decisions,
    every_decision,
    exit_code_of,
    settled_for,
    specified,
)
from refine.cli.answering import finish, hearing, require_json_place, tell_json
from refine.cli.model_options import settings_of
from refine.cli.passed import passing
from refine.common.arrays import stored_arrays
from refine.options.options import limiting
from refine.process.supervision import Answer, Watcher
from refine.report.console import Reporter
from refine.results.numerals import down
from refine.results.verdict import ExitCode, Verdict

_COLUMNS = ("point", "answer", "margin", "over the reals", "")


@passing
@click.command("stable")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE.npz",
    help="Arrays of points by input, along the first axis; .npy where there is one input.",
)
@click.option("--radius", default="0", show_default=True, metavar="R", help="Balls around points.")
@click.option("--clip", metavar="LO..HI", help="Intersect the balls with this range.")
@click.option(
    "--spec",
    type=click.Path(path_type=Path),
    metavar="OTHER",
    help="The network whose labels count, read over the reals, in place of MODEL.",
)
@click.option("--output", metavar="NAME", help="The row of scores, or the label, if several are.")
@click.option("--first", type=click.IntRange(min=1), metavar="N", help="Only the first N points.")
@limiting
@click.option(
    "--budget",
    type=click.FloatRange(min=0),
    default=BUDGET,
    show_default=True,
    metavar="SECONDS",
    help="How long to improve the bounds of a point that is not settled at once.",
)
@click.option("--json", "json_path", metavar="FILE", help="Write the result; - for stdout.")
@click.option(
    "--counterexamples",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where flips are saved; default: MODEL-flips here.",
)
@click.option("--quiet", "-q", is_flag=True, help="Only how many are stable.")
def stable_command(
    model: Path,
    data: Path,
    radius: str,
    clip: str | None,
    spec: Path | None,
    output: str | None,
    first: int | None,
    timeout: float | None,
    budget: float,
    json_path: str | None,
    counterexamples: Path | None,
    quiet: bool,
    **passed: Any,
) -> ExitCode:
    """How many decisions of a data set can no allowed execution change?

    The decision is the largest of a row of scores (the first of equals), or the label that the
    model gives; each point has its own, that of the real network. Flips are kept and replayed. With
    --spec, OTHER says what is right: a decision is stable where every execution of MODEL decides in
    the whole ball as the real OTHER does.

    \b
    refine stable net.onnx --data test.npz
    refine stable net_fp16.onnx --data test.npz --spec net.onnx --as-optimised none

    Exit code 0 if every decision is stable, 1 if a flip is found, 3 if some are undecided.
    """
    reporter = Reporter(quiet, silent=json_path == "-")
    if passed["search_seconds"] is not None and passed["no_search"]:
        raise click.UsageError("--search does not go with --no-search")
    require_json_place(json_path)
    watcher: Watcher | None = click.get_current_context().obj
    start = time.monotonic()
    settings = settings_of(passed, None, budget)
    folder = counterexamples or Path(f"{model.stem}-flips")
    with reporter.progress("reading the model", hearing(quiet)) as progress:
        arrays = stored_arrays(data)
        graph, contract = read_for(model, settings, shapes_in(arrays))
        points = points_of(arrays, str(data), graph, contract.format_of)
        if watcher is not None:
            watcher.read()
        limit = None if watcher is None else watcher.limit
        if limit is None and timeout is not None:
            limit = start + timeout
        asked = Stability(
            graph,
            settled_for(settings, contract),
            output or "",
            points,
            radius,
            clip,
            folder,
            limit,
            None if spec is None else specified(spec, graph, settings),
        )
        total = len(points) if first is None else min(first, len(points))

        def tell(found: Sequence[Decision]) -> None:
            progress.tell(f"point {len(found) + 1} of {total}; {counted(found, total)}")
            if watcher is not None and watcher.limit is not None:
                document = document_of_decisions(asked, found) if json_path else ""
                code = exit_code_of(found)
                quiet_ones = (ExitCode.VERIFIED, ExitCode.UNKNOWN)
                late = ExitCode.TIME_OUT if code in quiet_ones else code
                watcher.tell(
                    Answer(late.value, f"{counted(found, total)}; out of time\n", document)
                )

        found = every_decision(asked, range(total), tell)
    finish(watcher)
    document = document_of_decisions(asked, found)
    tell_json(document, json_path, reporter)
    if json_path == "-":
        return exit_code_of(found)
    if quiet:
        reporter.lines([counted(found, total)])
    else:
        open_ones = [
            _cells(d)
            for d in found
            if d.code is not ExitCode.VERIFIED and not (d.code is ExitCode.TIME_OUT and not d.claim)
        ]
        rounded = f"; {points.rounded} points were rounded" if points.rounded else ""
        late = "; out of time" if any(d.code is ExitCode.TIME_OUT for d in found) else ""
        again = f"; run a flip again: refine replay FILE.json --model {model}"
        kept = again if any(d.file for d in found) else ""
        answer = f"{counted(found, total)}{_least(found)}{rounded}{late}{kept}"
        reporter.table(f"{model.name}, {data.name}", _COLUMNS, open_ones, answer)
    return exit_code_of(found)


def _least(found: Sequence[Decision]) -> str:
    """The stable decision that is nearest to another."""
    margins = [d.margin for d in found if d.code is ExitCode.VERIFIED and d.margin is not None]
    return f"; least margin of those that cannot {down(min(margins), 4)}" if margins else ""


def _cells(decision: Decision) -> tuple[str, ...]:
    margins = [
        "" if m is None else down(m, 4) for m in (decision.margin, decision.margin_over_reals)
    ]
    return str(decision.point), decision.verdict.value, *margins, _remark(decision)


def _remark(decision: Decision) -> str:
    if decision.verdict is not Verdict.VIOLATED:
        broken = decision.code is ExitCode.CONTRACT_BROKEN
        return "the runtime here leaves the contract" if broken else decision.reason
    of = {True: "the real network too", False: "rounding alone", None: ""}[decision.real]
    ran = f"confirmed by {len(decision.confirmed)} runtimes" if decision.confirmed else ""
    return "; ".join(part for part in (of, ran, decision.file or decision.reason) if part)
