"""`refine step`: what a tool made of a model, for continuous integration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from refine.cli.answering import finish, hearing, require_json_place, tell_json
from refine.cli.model_options import domain_options
from refine.domain.domain import DomainOptions
from refine.everyday.stepping import stepped
from refine.options.options import allowing, limiting, match_of
from refine.options.settings import Settings
from refine.options.sizes import sizes_of, sizing
from refine.process.supervision import Watcher
from refine.report.console import Reporter
from refine.results.document import json_text
from refine.results.verdict import ExitCode

_BUDGET = 5.0  # seconds, to improve a bound that does not settle it at once


@click.command("step")
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@click.option(
    "--samples",
    type=click.Path(path_type=Path),
    metavar="FILE.npz",
    help="Samples of the inputs: arrays by input, points along the first axis.",
)
@domain_options
@click.option(
    "--contract",
    metavar="NAME|FILE.toml|probe:RUNTIME",
    default="ieee-any",
    show_default=True,
    help="Which executions are allowed.",
)
@click.option(
    "--match",
    "matches",
    multiple=True,
    metavar="NAME=NAME",
    help="This input or output of AFTER is that one of BEFORE.",
)
@click.option("--json", "json_path", metavar="FILE", help="Write the result; - for stdout.")
@limiting
@allowing
@sizing
def step_command(
    *,
    before: Path,
    after: Path,
    samples: Path | None,
    contract: str,
    matches: tuple[str, ...],
    json_path: str | None,
    timeout: float | None,
    allowed: tuple[Path, ...],
    shape: tuple[str, ...],
    dim: tuple[str, ...],
    **given: Any,
) -> ExitCode:
    """Did a tool change more than rounding does? One line, and an exit code.

    The model after the step is compared, as it runs, with the one before over the reals. The domain
    holds the samples, else it is what the model states, else -1..1; both may be apart by twice the
    bound on what rounding alone does to the model before.

    \b
    refine step net.onnx simplified.onnx
    refine step net.onnx optimised.onnx --samples samples.npz

    Exit code 0 if they are within that, 1 if an input shows that they are not, 3 if neither is
    shown, 4 if the time is over.
    """
    require_json_place(json_path)
    if samples is not None and any(given.values()):
        raise click.UsageError("--samples gives the domain; leave the other options of it out")
    reporter = Reporter(silent=json_path == "-")
    watcher: Watcher | None = click.get_current_context().obj
    settings = Settings(
        contract=contract,
        timeout=timeout,
        budget=_BUDGET,
        allow=allowed,
        sizes=sizes_of(shape, dim),
        conform=False,
        z3="none",
    )
    with reporter.progress("reading the models", hearing()) as progress:
        found = stepped(
            before,
            after,
            settings=settings,
            samples=samples,
            written=DomainOptions(**given) if any(given.values()) else None,
            match=match_of(matches),
            tell=progress.tell,
        )
    finish(watcher)
    tell_json(json_text(found.result), json_path, reporter)
    if json_path != "-":
        reporter.lines([found.line])
    return found.result.exit_code
