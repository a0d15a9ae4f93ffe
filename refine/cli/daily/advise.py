"""`refine advise`: one page about a model, for somebody who asks for the first time."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click

from encoders.numbers.radius import largest_radius
from refine.cli.answering import finish, hearing, require_json_place, tell_json
from refine.everyday.advising import Advice, advised
from refine.everyday.tolerances import open_node
from refine.options.options import allowing, limiting
from refine.options.sizes import sizes_of, sizing
from refine.process.supervision import Answer, Watcher
from refine.report.console import Reporter
from refine.results.document import strict_json, versions
from refine.results.numerals import down, plain_number, up
from refine.results.summary import decided, undecided
from refine.results.verdict import ExitCode

SCHEMA = "refine-advice-1"
_LIMIT = 60.0  # seconds, where nobody says
_LABEL = 11  # width of the column of labels


@click.command("advise")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--inputs",
    "samples",
    type=click.Path(path_type=Path),
    metavar="FILE.npz",
    help="Samples of the inputs: arrays by input, points along the first axis.",
)
@click.option("--json", "json_path", metavar="FILE", help="Write the answer; - for stdout.")
@partial(limiting, default=_LIMIT, help="Limit for everything.")
@allowing
@sizing
def advise_command(
    *,
    model: Path,
    samples: Path | None,
    json_path: str | None,
    timeout: float | None,
    allowed: tuple[Path, ...],
    shape: tuple[str, ...],
    dim: tuple[str, ...],
) -> ExitCode:
    """A first look at a model: contract, domain, bound, tolerance, labels, the dearest nodes.

    The contract is the one that allows least of those that fit the model's types and that the
    runtime of this machine was not seen to leave; the domain is read off the samples. Each answer
    comes with the command that gives it.

    \b
    refine advise net.onnx
    refine advise net.onnx --inputs samples.npz

    Exit code 0 if the bound is proved, 3 if none is, 4 if --timeout (60 s, where it is not given)
    runs out before; then the page says what is known without it.
    """
    require_json_place(json_path)
    reporter = Reporter(silent=json_path == "-")
    watcher: Watcher | None = click.get_current_context().obj
    with reporter.progress("reading the model", hearing()) as progress:
        found = advised(
            model,
            samples,
            allowed=allowed,
            sizes=sizes_of(shape, dim),
            timeout=timeout,
            tell=progress.tell,
            so_far=partial(_tell, watcher, wants_json=json_path is not None),
        )
    finish(watcher)
    rows = list(answers(found))
    tell_json(strict_json(document_of_advice(found, rows)), json_path, reporter)
    if json_path != "-":
        reporter.lines(_page(rows))
    return ExitCode.VERIFIED if math.isfinite(found.bound) else ExitCode.UNKNOWN


def _tell(watcher: Watcher | None, found: Advice, *, wants_json: bool) -> None:
    """Give the process that watches this one what to print if time runs out from here on."""
    if watcher is None or watcher.limit is None:
        return
    rows = list(answers(found))
    document = strict_json(document_of_advice(found, rows)) if wants_json else ""
    page = "".join(f"{line}\n" for line in _page(rows))
    watcher.tell(Answer(ExitCode.TIME_OUT.value, page, document))


Row = tuple[str, str, str]
"""What is answered, the answer, and the command that gives it."""


_FAR = 1000  # times what was found: then the domain is more than the analysis can hold together


def answers(found: Advice) -> Iterator[Row]:
    """The answers, in the order in which they are asked."""
    result, setting = found.result, found.setting
    domain = found.over
    most = None if result is None else result.worst_found
    seen = "" if most is None else f"; the largest error that was found is {down(most, 3)}"
    if math.isfinite(found.bound):
        bound = up(found.bound, 3)
        said = f"every output is within {bound} of its real value over the domain{seen}"
        if result is not None and len(result.bounds) > 1:
            each = ", ".join(f"{t} {up(largest_radius(b), 3)}" for t, b in result.bounds.items())
            said += f"; each output: {each}"
    else:
        said = f"no bound is known over the domain: {_first_open(found)}"
    yield "bound", said, found.command("bound", *domain)
    yield from (("", text, "") for text in (() if result is None else decided(result)))
    yield from _tolerance(found)
    yield from _labels(found)
    yield "contract", _contract(found), found.conforming
    if not setting.options:
        said = "what the runtime here does, found out by running it, may allow less"
        asked = ["refine", "probe", str(found.model), *found.sized, "-o", "here.toml"]
        yield "", said, shlex.join(asked)
    yield "domain", _domain(found), ""
    operators = Counter(n.spelled for n in setting.graph.order)
    listed = ", ".join(f"{n} {op}" for op, n in operators.most_common(6))
    yield "model", f"{setting.graph.parameters} parameters: {listed}", ""
    if not math.isfinite(found.bound):
        sample = "SAMPLE.npy" if len(setting.graph.inputs) == 1 else "SAMPLE.npz"
        said = f"at one input, or near it, more may be known: --center {sample} --radius R"
        yield "smaller", said, ""
        return
    if most is not None and 0 < most * _FAR < found.bound:
        said = (
            f"the bound is {found.bound / most:.0e} times what was found: around the inputs that "
            "matter (--center, --inputs), and with more time, it is nearer"
        )
        yield "smaller", said, found.command("bound", *domain, "--preset", "thorough")
    if result is not None and found.bound <= max(
        (largest_radius(result.bounds[t]) for t in undecided(result)), default=0.0
    ):
        return  # the largest bound is a step: no rounding of a node makes it smaller
    for node in found.dearest:
        without = up(found.bound * (1.0 - node.share), 3)
        yield (
            "dearest",
            f"{100 * node.share:.0f} % of the bound hangs on '{node.name}' ({node.op}), without "
            f"which it would be about {without}",
            "",
        )
    if found.dearest:
        yield "", "each layer with its own rounding and its share", found.command("bound", *domain)


def _tolerance(found: Advice) -> Iterator[Row]:
    if found.at_samples is None and not math.isfinite(found.bound):
        said = "none over this domain; at a test's own input there may be one: --inputs test.npz"
        yield "tolerance", said, ""
        return
    if found.at_samples is None:
        over = found.over
        said = (
            "the atol of a unit test, over the whole domain; at the test's own input "
            "(--inputs test.npz in place of --input) it is smaller"
        )
        yield "tolerance", said, found.command("tolerance", *over)
        return
    atol = ", ".join(f"{t} atol={v!r}" for t, v in found.at_samples.largest.items())
    count = len(found.at_samples.parts)
    said = f"for a unit test beside the real values, at {count} of the samples: {atol}"
    graph = found.graph
    if count > 1 and any(not graph.types[t].dtype.is_float for t in graph.inputs):
        # integers of a test are constants of one run, of which a file of several has too many
        over = found.over
        said += "; over the whole domain, or with --inputs at one of the samples"
        yield "tolerance", said, found.command("tolerance", *over)
        return
    yield "tolerance", said, found.command("tolerance", "--inputs", str(found.samples))


def _labels(found: Advice) -> Iterator[Row]:
    for label in found.labels:
        said = (
            f"of '{label.output}': at {label.stable} of {label.points} samples no execution "
            "changes which score is the largest"
        )
        more = ("--output", label.output) if len(found.graph.outputs) > 1 else ()
        yield "labels", said, found.command("stable", "--data", str(found.samples), *more)


def _contract(found: Advice) -> str:
    setting = found.setting
    text = " ".join(setting.options) or f"--contract {setting.contract.name}, the default"
    if setting.level is None:
        text += " (of the graph as written; --as-optimised all reads what a session makes of it)"
    seen = setting.conduct
    if seen is None:
        return f"{text}; no runtime here was looked at"
    if seen.honours is None:
        return f"{text}; {seen.runtime} was not compared: {seen.text}"
    held = "keeps to it" if seen.honours else "does NOT keep to it"
    return f"{text}; {seen.runtime} {held} on {seen.inputs} inputs: {seen.text}"


def _domain(found: Advice) -> str:
    if found.boxed:
        return f"each feature between the least and the largest of {found.samples}"
    text = ", ".join(found.domain) or "the ranges that the model states"
    if found.assumed:
        return f"{text}, a guess: --inputs with samples reads it off these"
    return f"{text}, read off the samples" if found.samples is not None else text


def _first_open(found: Advice) -> str:
    if found.result is None:
        return "the time limit was reached (--timeout gives it more)"
    first = open_node(found.result)
    if first is None:
        return found.result.reason
    node, why = first
    return f"from node '{node.name}' ({node.op}) on: {why}"


def _page(rows: list[Row]) -> Iterator[str]:
    last = ""
    for label, said, command in rows:
        yield f"{label if label != last else '':{_LABEL}}{said}"
        if command:
            yield f"{'':{_LABEL}}  $ {command}"
        last = label


def document_of_advice(found: Advice, rows: list[Row]) -> dict[str, Any]:
    """The answer as JSON values."""
    setting = found.setting
    return {
        "schema": SCHEMA,
        "model": str(found.model),
        "options": list(setting.options),
        "contract": setting.contract.name,
        "honoured": None if setting.conduct is None else setting.conduct.honours,
        "domain": list(found.over if found.boxed else found.domain),
        "assumed": found.assumed,
        "bound": plain_number(found.bound),
        "bound_hex": float(found.bound).hex(),
        "atol": None
        if found.at_samples is None
        else {t: plain_number(v) for t, v in found.at_samples.largest.items()},
        "labels": [
            {"output": x.output, "stable": x.stable, "points": x.points} for x in found.labels
        ],
        "dearest": [{"name": n.name, "op": n.op, "share": n.share} for n in found.dearest],
        "answers": [{"of": of, "answer": said, "command": command} for of, said, command in rows],
        "versions": versions(),
    }
