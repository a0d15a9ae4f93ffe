"""`refine conform`: does a runtime honour a contract on this model?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from encoders.arithmetic.handling import handling_of
from gpu_check.conformance.conformance import THOROUGH, Conformance, How, NodeCheck
from onnx_import import load
from onnx_import.graph import Graph
from refine.claims.conforming import judged
from refine.cli.answering import finish, hearing
from refine.domain.random_inputs import sampled_inputs
from refine.options.applicable import require_applicable
from refine.options.contract_choice import contract_for
from refine.options.optimised import as_optimised as optimised
from refine.options.options import allowing, limiting, optimising
from refine.options.runtime_choice import runtime_choice
from refine.options.sizes import sizes_of, sizing
from refine.process.supervision import Answer, Watcher
from refine.report.console import Reporter
from refine.results.verdict import ExitCode


@click.command("conform")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--contract",
    metavar="NAME|FILE.toml|probe:RUNTIME",
    required=True,
    help="The contract that the runtime is held to.",
)
@click.option(
    "--runtime",
    metavar="NAME[:SETTINGS]",
    default="onnxruntime",
    show_default=True,
    help="Which runtime; settings: threads=N,flush,optimization=LEVEL; torch: device=cuda,"
    "precision=high.",
)
@optimising
@click.option(
    "--input",
    "inputs",
    metavar="[NAME=]LO..HI",
    multiple=True,
    default=("-1..1",),
    show_default=True,
    help="Where random inputs are sampled from; repeat for other inputs.",
)
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    metavar="N",
    help="How many random inputs are run.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Of the random inputs.",
)
@limiting
@allowing
@sizing
def conform_command(
    *,
    model: Path,
    contract: str,
    runtime: str,
    as_optimised: str | None,
    inputs: tuple[str, ...],
    samples: int,
    seed: int,
    timeout: float | None,
    allowed: tuple[Path, ...],
    shape: tuple[str, ...],
    dim: tuple[str, ...],
) -> ExitCode:
    """Run a runtime against a contract: bit for bit where that is pinned, else in bounds.

    \b
    refine conform net.onnx --contract ort-cpu
    refine conform net.onnx --contract cuda-fp32 --runtime torch:device=cuda

    Exit code 0 if the runtime honours the contract on all that was compared, 1 if it does not, 3 if
    nothing could be compared, 4 if --timeout runs out before a difference is seen. The last line
    says how many nodes were.
    """
    reporter = Reporter()
    watcher: Watcher | None = click.get_current_context().obj
    with reporter.progress("reading the model", hearing()) as progress:
        sizes = sizes_of(shape, dim)
        model = optimised(model, as_optimised, allowed)
        chosen = contract_for(contract, None, None, model, allowed, sizes=sizes)
        graph = load(model, allowed=allowed, handling=handling_of(chosen), sizes=sizes)
        if watcher is not None:
            watcher.read()
        require_applicable(chosen, graph)
        choice = runtime_choice(runtime)
        batch = sampled_inputs(graph, inputs, samples, seed)
        outcome = judged(
            graph,
            choice,
            contract=chosen,
            batch=batch,
            tell=progress.tell,
            seen=_Telling(watcher, graph).seen,
        )
    finish(watcher)
    reporter.lines(account(outcome))
    if not outcome.conforms:
        return ExitCode.VIOLATED
    return ExitCode.VERIFIED if outcome.compared else ExitCode.UNKNOWN


def account(outcome: Conformance) -> Iterator[str]:
    """The outcome, line by line."""
    yield f"{outcome.runtime} against {outcome.contract.name}, {outcome.samples} inputs"
    for n in outcome.nodes:
        yield from _account_of(n)
    for mode in outcome.modes:
        yield f"  wrong field: {mode.field} is {mode.stated}, the runtime has {mode.found}"
    if outcome.divergences:
        yield f"first diverging node: {outcome.divergences[0].node.describe()}"
    yield _conclusion(outcome)


def _account_of(n: NodeCheck) -> Iterator[str]:
    d = n.divergence
    if d is None:
        counted = f", {n.numbers} numbers" if n.numbers else ""
        if n.numbers and n.how is How.ENCLOSURE:
            counted += f", those of {THOROUGH.enclosed} inputs at most"
        why = f", {n.note}" if n.note else ""
        yield f"  {n.node.describe()}: {n.how.value}{counted}{why}"
        return
    yield (
        f"  {n.node.describe()}: NOT {n.how.value}: sample {d.sample}, element "
        f"{list(d.index)} is {d.given!r} ({d.given.hex()}), the contract gives "
        f"{d.expected!r} ({d.expected.hex()})"
    )
    if d.fields:
        yield f"    wrong field: {', '.join(d.fields)}"
    yield f"    found: {d.guess}"


@dataclass
class _Telling:
    """Tells a watcher, if there is one and a limit, what has been seen so far: a difference is the
    answer even where the time runs out."""

    watcher: Watcher | None
    graph: Graph
    judged: int = 0
    broken: NodeCheck | None = None

    def seen(self, check: NodeCheck) -> None:
        self.judged += 1
        if self.broken is None and check.divergence is not None:
            self.broken = check
        if self.watcher is None or self.watcher.limit is None:
            return
        first = () if self.broken is None else tuple(_account_of(self.broken))
        code = ExitCode.TIME_OUT if self.broken is None else ExitCode.VIOLATED
        answer = "no difference was seen" if self.broken is None else "the contract is broken"
        late = f"out of time, {self.judged} of {len(self.graph.order)} nodes looked at: {answer}"
        self.watcher.tell(Answer(code.value, "\n".join((*first, late, "")), ""))


def _conclusion(outcome: Conformance) -> str:
    """The answer, with how many nodes it speaks of and why it leaves out the others."""
    every, compared = len(outcome.nodes), len(outcome.compared)
    if not outcome.conforms:
        return "the contract is broken"
    if not compared:
        return f"nothing was compared, so nothing is known: {_why_not(outcome) or 'no nodes'}"
    if compared == every:
        return f"the contract is honoured; nodes compared: all {every}"
    return (
        f"the contract is honoured where it was compared; nodes compared: {compared} of {every}; "
        f"not compared: {_why_not(outcome)}"
    )


def _why_not(outcome: Conformance) -> str:
    reasons = Counter(n.note for n in outcome.nodes if n.how is How.UNSEEN)
    return "; ".join(f"{count} ({why})" for why, count in reasons.most_common())
