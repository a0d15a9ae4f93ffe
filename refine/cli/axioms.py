"""`refine axioms`: what the verdict in a result document rests on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from refine.axioms.closure import Closure, Kind, Support, lines_of
from refine.axioms.permit import EVERYTHING, read_permit
from refine.axioms.reading import read_closure
from refine.cli.answering import require_json_place, tell_json
from refine.report.console import Reporter
from refine.results.document import strict_json
from refine.results.verdict import ExitCode

SCHEMA = "refine-axioms-1"


@click.command("axioms")
@click.argument("file", metavar="RESULT.json", type=click.Path(path_type=Path))
@click.option(
    "--permit",
    type=click.Path(path_type=Path),
    metavar="FILE.toml",
    help="What the verdict may rest on; default: everything that is known.",
)
@click.option("--json", "json_path", metavar="FILE", help="Write the graph; - for stdout.")
def axioms_command(file: Path, permit: Path | None, json_path: str | None) -> ExitCode:
    """Print what a verdict rests on: joints, applications, lemmas, contract fields, solvers.

    \b
    refine axioms result.json
    refine axioms result.json --permit permit.toml

    RESULT.json is what --json of a check wrote. Exit code 1 if the verdict rests on something that
    is not permitted, which is named.
    """
    require_json_place(json_path)
    permitted = EVERYTHING if permit is None else read_permit(permit)
    closure = read_closure(file)
    offences = permitted.offences(closure)
    reporter = Reporter()
    tell_json(strict_json(_document(closure, offences)), json_path, reporter)
    if json_path != "-":
        reporter.lines(lines_of(closure))
        reporter.lines(_summary(closure))
        reporter.lines(f"not permitted: {_named(s)}" for s in offences)
    return ExitCode.VIOLATED if offences else ExitCode.VERIFIED


def _summary(closure: Closure) -> Sequence[str]:
    counts = Counter(s.kind for s in closure.supports.values())
    evidence = Counter(s.word for s in closure.of(Kind.FIELD))
    trusted = [s.name for s in (*closure.of(Kind.SOLVER), *closure.of(Kind.EVALUATION))]
    told = [f"{counts[k]} × {k.value}" for k in Kind if counts[k] and k is not Kind.CLAIM]
    return (
        f"it rests on {', '.join(told)}",
        f"solvers and evaluations: {', '.join(trusted) or 'none'}",
        f"contract: {', '.join(f'{n} {word}' for word, n in evidence.items()) or 'nothing'}",
    )


def _named(support: Support) -> str:
    why = support.fault or support.text or support.word
    return f"{support.kind.value} {support.name} ({why})"


def _document(closure: Closure, offences: Sequence[Support]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "claim": closure.claim.key,
        "nodes": [
            {
                "id": s.key,
                "kind": s.kind.value,
                "name": s.name,
                "text": s.text,
                "word": s.word,
                "fault": s.fault or None,
                "rests_on": list(closure.below.get(s.key, ())),
            }
            for s in closure.supports.values()
        ],
        "not_permitted": [s.key for s in offences],
        "versions": dict(closure.versions),
    }
