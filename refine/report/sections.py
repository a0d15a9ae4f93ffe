"""What a report says of each part of a result: labels with lines, and tables."""

from __future__ import annotations

import itertools
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from rich import box
from rich.markup import escape as _escape
from rich.table import Table

from encoders.operator import Operator
from encoders.program import program_of
from onnx_import.graph import DType
from refine.common.rounding import float_up
from refine.common.visible import visible
from refine.pair.pair import shown_pairs
from refine.results.certification import Certification
from refine.results.numerals import down, up
from refine.results.obligation import Discharger, Obligation
from refine.results.summary import advice_of, figures_of
from refine.results.verdict import (
    Conduct,
    NodeReport,
    Result,
    Side,
    Verdict,
    Witness,
)
from refine.witness.file import replaying

_COLOUR = {
    Verdict.VERIFIED: "green",
    Verdict.VIOLATED: "red",
    Verdict.UNKNOWN: "yellow",
    Verdict.CONDITIONAL: "cyan",
    Verdict.CONTRADICTION: "white on red",
}


_SHORT = (DType.FLOAT16, DType.BFLOAT16)
_WITHOUT_ROUNDINGS = (
    "onnxruntime's CPU computes several nodes of 16 bits in float32 and leaves out the roundings "
    "between them; --as-optimised none reads the graph that it really runs"
)
_ELEMENTS_SHOWN = 10
COLUMNS_SHOWN = 5
_INPUTS_SHOWN = 8
_LAYERS_SHOWN = 10
_ALL_SHOWN = 6  # layers that are shown whatever their shares
_LEAST_SHARE = 0.005  # of the bound, of a layer that is shown
_FAILURES_SHOWN = 8
_IN_HEADER = ("contract", "model")  # assumptions that the header has said already
_OF_EVERY_ANSWER = ("graph", "semantics", "inputs", "analyser", "solver")


def escape(text: str) -> str:
    """Text that may come from a file, for a console that reads markup: shown, never obeyed."""
    return _escape(visible(text))


def further(operator: Operator) -> Iterator[str]:
    """What an operator has beyond the semantics that all have."""
    if operator.movement:
        yield "moves data only"
    elif operator.affine_where is not None:
        yield "affine while one factor varies"
    elif operator.affine:
        yield "affine"
    if operator.branches:
        yield "branching"
    if operator.element is not None:
        yield "FP term per element"
    if operator.functions:
        yield "rests on " + " and ".join(f.name for f in operator.functions)


def plain_table(title: str) -> Table:
    """A table without a frame, its title to the left."""
    return Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)


def header_of(result: Result, every: bool) -> Iterator[tuple[str, str]]:
    """What was asked: model, contract, domain, and what is assumed; of what every answer assumes
    the names alone, unless `every` word is asked for."""
    graph, domain = result.graph, result.domain
    operators = ", ".join(f"{n} {op}" for op, n in Counter(n.spelled for n in graph.order).items())
    if result.spec is not None:
        yield "[bold]spec[/]", str(result.spec.graph.source)
        how = program_of(result.spec.graph).ruled(result.spec.contract)
        yield "", "read over the reals" if how.exact else f"runs under {how.describe()}"
    if result.pairing is not None:
        inputs, outputs = shown_pairs(result.pairing.inputs), shown_pairs(result.pairing.outputs)
        yield "[bold]pairs[/]", f"inputs {inputs}; outputs {outputs} (model = spec)"
    yield "[bold]model[/]", str(graph.source)
    yield "", f"{graph.parameters} parameters: {operators}"
    for note in graph.notes:
        yield "", note
    if result.claimed is not None:
        yield "[bold]claim[/]", result.claimed.statement
    boxes = "1 box" if len(domain.boxes) == 1 else f"union of {len(domain.boxes)} boxes"
    sizes = ", ".join(f"{n} {list(graph.types[n].shape)}" for n in graph.inputs)
    yield "[bold]domain[/]", f"{domain.source}: {boxes}; {sizes}"
    for note in domain.notes:
        yield "", note
    yield "[bold]contract[/]", program_of(result.graph).ruled(result.contract).describe()
    label = "[bold]assumed[/]"
    usual = () if every or domain.round_inputs else _OF_EVERY_ANSWER
    for a in result.assumptions:
        if a.name not in (*_IN_HEADER, *usual):
            yield label, f"{a.name}: {a.text}"
            label = ""
    named = ", ".join(a.name for a in result.assumptions if a.name in usual)
    if named:
        yield label, f"{named}: what every answer assumes, said in full with -v"


def layers_of(nodes: Sequence[NodeReport], every: bool) -> Table:
    """The layers that matter to the bound, in order, or `every` layer."""
    table = plain_table("per layer")
    table.add_column("node", overflow="fold")
    table.add_column("operator")
    for title in ("real range", "error", "own rounding", "share"):
        table.add_column(title, justify="right")
    for n in (nodes[i] for i in sorted(range(len(nodes)) if every else _mattering(nodes))):
        table.add_row(
            escape(n.name.replace("  ", " \\x20")),  # no answer of its own on a folded line
            escape(n.op),
            f"{down(n.low, 4)} … {up(n.high, 4)}",
            up(n.error, 3),
            up(n.local, 3),
            f"{100 * n.share:.1f} %",
        )
    return table


def _mattering(nodes: Sequence[NodeReport]) -> set[int]:
    """Places of the layers with the largest shares, and of the first whose error is infinite."""
    if len(nodes) <= _ALL_SHOWN:
        return set(range(len(nodes)))
    largest = sorted(range(len(nodes)), key=lambda i: -nodes[i].share)[:_LAYERS_SHOWN]
    infinite = (i for i, n in enumerate(nodes) if not np.isfinite(n.error))
    return {i for i in largest if nodes[i].share >= _LEAST_SHARE} | set(
        itertools.islice(infinite, 1)
    )


def legend_of(result: Result, every: bool) -> Iterator[tuple[str, str]]:
    """What the columns of the table of layers are."""
    nodes = result.nodes
    apart = "|f_rt − f_R|" if result.spec is None else "|impl − spec|"
    left = 0 if every else len(nodes) - len(_mattering(nodes))
    if left:
        yield (
            "",
            f"{left} more {'layer' if left == 1 else 'layers'} with smaller shares: -v, --json",
        )
    if every:
        yield (
            "",
            f"error: bound on {apart} after the layer; own rounding: what the layer's own "
            "arithmetic adds; share: how much of the largest bound its rounding and relaxation "
            "cost",
        )


def proof_of(result: Result, every: bool) -> Iterator[tuple[str, str]]:
    """What was proved, and which obligations failed; with `every`, by whom."""
    shown = {*result.graph.notes, *result.domain.notes}
    for note in result.notes:
        if note not in shown:
            yield "", note
    owed = [o for n in result.nodes for o in n.obligations]
    lemmas = by_whom(result.obligations, "lemmas", every)
    layers = f"; {by_whom(owed, 'obligations of the layers', every)}" if result.nodes else ""
    yield "[bold]proved[/]", lemmas + layers
    yield from certificate_of(result.certification)
    failed = [o for o in (*result.obligations, *owed) if not o.discharged]
    for o in failed[:_FAILURES_SHOWN]:
        detail = f" ({o.detail})" if o.detail else ""
        yield f"[red]{o.outcome.value}[/]", f"{o.name}: {o.goal}{detail}"
    if len(failed) > _FAILURES_SHOWN:
        yield "", f"and {len(failed) - _FAILURES_SHOWN} more, in --json"


def certificate_of(made: Certification | None) -> Iterator[tuple[str, str]]:
    """Whether somebody else can check a verified answer, and with what."""
    if made is None:
        return
    if made.outside is not None:
        yield "", f"outside the language of the independent checker: {made.outside}"
    elif made.file is None:
        yield "", "in the language of the independent checker (--certificate, refine recheck)"
    else:
        file = shlex.quote(str(made.file))
        yield "", f"certificate of {made.leaves} parts: refine recheck {file} MODEL checks it"


def broken_of(result: Result) -> Iterator[tuple[str, str]]:
    """The first lines where a runtime of this machine was seen to leave the contract."""
    for conduct in result.broken:
        side, which = held_to(conduct, result)
        yield (
            "[bold red]broken[/]",
            f"{conduct.runtime} does NOT honour contract {side.contract.name} on {which}, so that "
            f"what is said below does not hold for it: {conduct.text}",
        )
        short = any(kind.dtype in _SHORT for kind in side.graph.types.values())
        if short and conduct.runtime.startswith("onnxruntime"):
            yield "", _WITHOUT_ROUNDINGS


def held_to(conduct: Conduct, result: Result) -> tuple[Side, str]:
    """What a runtime ran and the contract it was held to, and which of the models that is."""
    if conduct is result.spec_conduct and result.spec is not None:
        return result.spec, "the specification"
    which = "this model" if result.spec is None else "the implementation"
    return Side(result.graph, result.contract), which


def looked_at(conduct: Conduct | None, result: Result) -> Iterator[tuple[str, str]]:
    """What a runtime here did: one line, and what it means where the contract was left."""
    if conduct is None:
        return
    side, which = held_to(conduct, result)
    name = side.contract.name
    if conduct.honours is None:
        yield (
            "[bold]runtime[/]",
            f"not compared with the contract on {which}: {conduct.runtime}: {conduct.text}",
        )
        return
    what = f"{conduct.runtime}, {conduct.inputs} inputs"
    if conduct.honours:
        yield "[bold]runtime[/]", f"{what}: within contract {name} on {which}; {conduct.text}"
        return
    yield (
        "[bold yellow]runtime[/]",
        f"{what}: does NOT honour contract {name} on {which}: {conduct.text}",
    )
    yield "", "what is proved holds for runtimes that do; refine conform says more about this one"


def by_whom(obligations: Sequence[Obligation], what: str, named: bool) -> str:
    """`19 of 19 lemmas (12 by z3, 7 by z3 (cached))`; who proved them where they are `named`."""
    by = Counter(o.discharger for o in obligations if o.discharged)
    shown = ", ".join(f"{by[who]} by {who.value}" for who in Discharger if by[who])
    return f"{sum(by.values())} of {len(obligations)} {what}" + (
        f" ({shown})" if shown and named else ""
    )


def answer_of(result: Result, quiet: bool) -> Iterator[tuple[str, str]]:
    """The verdict with its figures, why, and the bounds by output."""
    late = ", out of time" if result.timed_out and result.verdict is Verdict.UNKNOWN else ""
    yield (
        f"[bold {_COLOUR[result.verdict]}]{result.word}[/]",
        f"{', '.join(figures_of(result))}  ({result.seconds:.1f} s, seed {result.seed}{late})",
    )
    yield "", result.reason
    yield from (("", text) for text in advice_of(result))
    if result.suggestion is not None:
        yield "[bold]better[/]", result.suggestion
    if result.witness_file is not None:
        yield "", f"run the counterexample again: refine replay {replaying(result)}"
    for output, bound in () if quiet else result.bounds.items():
        flat = bound.reshape(-1)
        if flat.size > 1 or len(result.bounds) > 1:
            shown = ", ".join(up(float(v), 4) for v in flat[:_ELEMENTS_SHOWN])
            more = f", … ({flat.size} elements)" if flat.size > _ELEMENTS_SHOWN else ""
            yield "[bold]bounds[/]", f"{output}: {shown}{more}"


def executed(witness: Witness) -> tuple[str, str]:
    """What is meant, and what is compared with it."""
    spec, own = witness.spec_execution, witness.execution
    if spec is None:
        return "real network", f"emulated: {own.name}"
    theirs = "real" if spec.exact else f"emulated: {spec.name}"
    ours = "real" if own.exact else f"emulated: {own.name}"
    return f"specification, {theirs}", f"implementation, {ours}"


def shown_real(witness: Witness) -> str:
    """The nearest float64, and how well the real value is known if not plain."""
    if witness.real is None:
        return "not defined, or beyond every format"
    try:
        value = repr(float(witness.real.lo))
    except OverflowError:
        return "beyond float64"
    width = float_up(witness.real.hi - witness.real.lo)
    return value if width == 0 else f"{value} (known to {width:.1g})"


def shown_reach(witness: Witness) -> list[tuple[str, str]]:
    """Of a property: the conjunction that is reached, by what is meant or by rounding alone."""
    reached = witness.reached
    if reached is None:
        return []
    lines = [
        ("[bold]unsafe[/]", str(reached.unsafe)),
        (
            "",
            "slack: left side minus right side, of several rows the largest: at most 0 in it",
        ),
    ]
    if reached.within and reached.real is False:
        lines.append(("", "the real network does not reach it here: rounding alone leads there"))
    elif reached.within and reached.real:
        lines.append(("", "the real network reaches it here, too: the property is false of it"))
    return lines


def shown_inputs(witness: Witness) -> list[tuple[str, str]]:
    """Small inputs in full, in the shortest decimals of their own type."""
    lines = []
    for name, array in witness.inputs.items():
        if np.size(array) <= _INPUTS_SHOWN:
            values = ", ".join(str(v) for v in np.asarray(array).reshape(-1))
            lines.append(("[bold]input[/]", f"{name} = {values}"))
    return lines
