"""`refine replay`: a saved counterexample, run again."""

from __future__ import annotations

from pathlib import Path

import click

from gpu_check.common.writing import write_text
from refine.claims.replaying import replayed
from refine.cli.answering import finish
from refine.options.options import allowing, limiting
from refine.report.console import Reporter
from refine.results.verdict import ExitCode
from refine.witness.file import Trusted
from refine.witness.replay import diverging_node, every_output


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
@limiting
@allowing
def replay_command(
    *,
    file: Path,
    script: Path | None,
    model: Path | None,
    spec: Path | None,
    timeout: float | None,
    allowed: tuple[Path, ...],
) -> ExitCode:
    """Run a saved counterexample again, on the emulator and on real runtimes.

    \b
    refine replay net-counterexample.json --model net.onnx
    refine replay net-counterexample.json --script show.py

    A model outside the counterexample's folder is opened only if --model, --spec or --allow says
    so.

    Exit code 1 if the violation is confirmed, 3 if it is not, 4 if --timeout runs out.
    """
    replay = replayed(file, Trusted(model, spec, allowed))
    saved, witness = replay.saved, replay.witness
    finish(click.get_current_context().obj)
    if script is not None:
        text = replay.script()
        write_text(script, text)
    reporter = Reporter()
    reporter.counterexample(witness, saved.epsilon)
    if saved.spec is None:
        graph = saved.graph
        if len(graph.outputs) > 1 or graph.types[witness.output].size > 1:
            reporter.every_output(every_output(witness, graph), graph)
        reporter.diverging_node(diverging_node(witness, graph))
    reporter.confirmed(witness, saved.epsilon)
    return ExitCode.VIOLATED if replay.violated else ExitCode.UNKNOWN
