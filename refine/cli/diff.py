"""`refine diff`: one model against another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from encoders.contract.presets import EXACT
from refine.claims.registry import DIFFERENCE, claims
from refine.cli.model_options import model_options
from refine.cli.run_claim import run_claim
from refine.options.options import match_of
from refine.results.verdict import ExitCode


@click.command("diff")
@click.argument("spec", type=click.Path(path_type=Path))
@model_options
@click.option("--eps", "eps", multiple=True, metavar="[OUTPUT=]E", help="Largest difference.")
@click.option(
    "--impl-as",
    type=click.Choice(["real", "runtime"]),
    default="runtime",
    show_default=True,
    help="How the implementation is read.",
)
@click.option(
    "--spec-as",
    type=click.Choice(["real", "runtime"]),
    default="real",
    show_default=True,
    help="How the specification is read.",
)
@click.option(
    "--spec-contract",
    metavar="NAME|FILE.toml|probe:RUNTIME",
    help="Which executions of the specification are allowed, if it runs; default: --contract.",
)
@click.option(
    "--match",
    "matches",
    multiple=True,
    metavar="NAME=NAME",
    help="This input or output of MODEL is that one of SPEC; default: by name if all names agree, "
    "by order if none does.",
)
def diff_command(
    *,
    spec: Path,
    model: Path,
    eps: tuple[str, ...],
    impl_as: str,
    spec_as: str,
    spec_contract: str | None,
    matches: tuple[str, ...],
    **given: Any,
) -> ExitCode:
    """Is |MODEL(x) − SPEC(x)| ≤ E for every x of the domain? Without --eps, the best bound.

    \b
    refine diff float32.onnx float16.onnx --input 0..1 --eps 0.01
    refine diff net.onnx folded.onnx --input -1..1 --match x=input
    """
    theirs = spec_contract or given["contract"]
    if spec_as == "real":
        if spec_contract is not None:
            raise click.UsageError("--spec-contract needs --spec-as runtime")
        theirs = EXACT.name
    if impl_as == "real":
        given = {**given, "contract": EXACT.name}
    pair = spec, theirs
    return run_claim(
        claims()[DIFFERENCE], model, eps, given=given, spec=pair, match=match_of(matches)
    )
