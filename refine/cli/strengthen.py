"""`refine strengthen`: a property whose proof over the reals gives the one given for what runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gpu_check.common.writing import require_writable, write_text
from refine.claims.outputs.strengthening import Strengthening, require_other
from refine.cli.model_options import model_options
from refine.cli.run_claim import run_claim
from refine.common.complaints import complain
from refine.domain.vnnlib_writing import VERSIONS
from refine.report.console import Reporter
from refine.results.numerals import up
from refine.results.verdict import ExitCode, Result

_OF_DOMAINS = ("vnnlib", "inputs", "center", "radius", "clip", "box")
_OF_SEARCH = ("search_seconds", "no_search", "counterexample", "junit", "sarif", "report")


def _strengthening(command: click.Command) -> click.Command:
    """The command without the options of `refine check` that mean nothing here."""
    left_out = (*_OF_DOMAINS, *_OF_SEARCH)
    command.params = [p for p in command.params if p.name not in left_out]
    return command


@_strengthening
@click.command("strengthen")
@model_options
@click.argument("prop", metavar="P.vnnlib", type=click.Path(path_type=Path))
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    required=True,
    metavar="P2.vnnlib",
    help="Where the stronger property is written.",
)
@click.option(
    "--write",
    "version",
    type=click.Choice([str(v) for v in VERSIONS]),
    help="The version of VNN-LIB that is written; default: that of P.vnnlib.",
)
def strengthen_command(
    model: Path, prop: Path, output: Path, version: str | None, **given: Any
) -> ExitCode:
    """Write a property whose proof over the reals, by any verifier, gives P for what runs.

    The unsafe set is made larger by as much as allowed executions may differ from the real network,
    errors that the outputs of a row share cancelled. With --round-inputs boxes of inputs grow to
    what their numbers are rounded to.

    \b
    refine strengthen net.onnx p.vnnlib -o p2.vnnlib
    refine strengthen net.onnx p.vnnlib -o p2.vnnlib --contract ort-cpu --write 2

    Exit code 0 if P2.vnnlib is written, 3 (4 for time) if no bound on executions is proved, as
    where a value may overflow, 5 if it is written and the runtime here leaves the contract.
    """
    require_other(output, prop)
    require_writable(output)
    asked = Strengthening()
    made: list[Result] = []
    domain = dict.fromkeys((*_OF_DOMAINS, *_OF_SEARCH))
    whole = {**domain, **given, "vnnlib": str(prop), "inputs": (), "no_search": True}
    code = run_claim(asked.kind, model, (), given=whole, heard=made.append)
    text = asked.text(made[0], None if version is None else int(version))
    if text is None:
        complain(f"{output} is not written: no bound on executions is proved ({made[0].reason})")
        return code
    write_text(output, text)
    if given["json_path"] != "-":
        moved = len(made[0].bounds["margin"])
        rows = "1 row" if moved == 1 else f"{moved} rows"
        source = made[0].graph.source
        of = "" if source in (None, model) else f"; it is to be proved of {source}"
        most = up(made[0].bound, 6)
        Reporter().lines([f"wrote {output}: {rows} moved by at most {most}{of}"])
    return code
