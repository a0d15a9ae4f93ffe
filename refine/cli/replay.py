"""`refine replay`: a saved counterexample, run again."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from pathlib import Path

import click

from gpu_check.common.writing import write_whole
from onnx_import import load
from refine.claims.batch_invariance import run_batch_again
from refine.claims.pair_quarry import run_pair_again
from refine.options.options import allowing
from refine.report.console import Reporter
from refine.results.verdict import ExitCode
from refine.witness.file import Trusted, load_witness
from refine.witness.replay import divergence, every_output, run_again
from refine.witness.script import script_of


@click.command("replay")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--script",
    type=click.Path(path_type=Path),
    metavar="FILE.py",
    help="Write a script that shows the violation with numpy and onnxruntime alone.",
)
@click.option(
    "--model", type=click.Path(path_type=Path), metavar="FILE", help="The model that it is of."
)
@click.option(
    "--spec", type=click.Path(path_type=Path), metavar="FILE", help="The specification, of a diff."
)
@allowing
def replay_command(
    file: Path,
    script: Path | None,
    model: Path | None,
    spec: Path | None,
    allowed: tuple[Path, ...],
) -> ExitCode:
    """Run a saved counterexample again, on the emulator and on real runtimes.

    A model outside the counterexample's folder is opened only if --model, --spec or --allow says
    so.

    Exit code 1 if the violation is confirmed, 3 if it is not.
    """
    trusted = Trusted(model, spec, allowed)
    saved = load_witness(file, partial(load, allowed=allowed), trusted)
    graph, epsilon = saved.graph, saved.epsilon
    alone = saved.spec is None
    if saved.batch is not None:
        witness = run_batch_again(saved)
    else:
        witness = run_again(graph, saved.candidate) if alone else run_pair_again(saved)
    if script is not None:
        text = script_of(witness, graph, epsilon, saved.spec)
        write_whole(script, lambda out: out.write(text.encode()))
    reporter = Reporter()
    if alone:
        reporter.divergence(divergence(witness, graph))
        if len(graph.outputs) > 1 or graph.types[witness.output].size > 1:
            reporter.every_output(every_output(witness, graph), graph)
    reporter.replay(witness, epsilon)
    limit = epsilon if epsilon is not None else Fraction(0)
    violated = not witness.error.finite or witness.error.lo > limit
    return ExitCode.VIOLATED if violated else ExitCode.UNKNOWN
