"""What people read: the only place that prints."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from io import StringIO
from textwrap import wrap

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape as _escape
from rich.table import Table
from rich.text import Text

from encoders.operator import Operator
from encoders.program import program_of
from gpu_check.conformance.divergence import Divergence
from onnx_import.graph import DType, Graph
from refine.common.complaints import complain
from refine.common.rounding import float_up
from refine.common.visible import visible
from refine.pair.pair import shown_pairs
from refine.results.numerals import down, plain, show_error, up
from refine.results.obligation import Discharger, Obligation
from refine.results.summary import figures_of
from refine.results.verdict import (
    Conduct,
    Execution,
    NodeReport,
    Refusal,
    Result,
    Verdict,
    Witness,
)
from refine.witness.file import replaying
from refine.witness.replay import OutputErrors
from refine.witness.witness import violates

_COLOUR = {
    Verdict.VERIFIED: "green",
    Verdict.VIOLATED: "red",
    Verdict.UNKNOWN: "yellow",
    Verdict.CONTRADICTION: "white on red",
}
_ELEMENTS_SHOWN = 10
_COLUMNS_SHOWN = 5
_INPUTS_SHOWN = 8
_LAYERS_SHOWN = 32
_FAILURES_SHOWN = 8
_LABEL = 10  # width of the column of labels
_WIDTH = 120  # where the output is not a terminal
_IN_HEADER = ("contract", "model")  # assumptions that the header has said already


class _Console(Console):
    """A console whose reader may leave early (`| head`) without an exit code of the console's."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


class _Page(StringIO):
    """What is about to be written to standard output, at once; it says how that encodes."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return sys.stdout.encoding or "utf-8"

    def taken(self) -> str:
        text = self.getvalue()
        self.seek(0)
        self.truncate()
        return text


def escape(text: str) -> str:
    """Text that may come from a file, for a console that reads markup: shown, never obeyed."""
    return _escape(visible(text))


class Reporter:
    """Writes reports to standard output, progress (on a terminal) and errors to standard error."""

    def __init__(self, quiet: bool = False, silent: bool = False) -> None:
        self._quiet = quiet
        self._silent = silent
        terminal = sys.stdout.isatty()
        self._written = _Page()
        self._out = _Console(
            file=self._written,
            force_terminal=terminal or None,
            highlight=False,
            emoji=False,
            width=None if terminal else _WIDTH,
        )
        self._err = _Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)

    @contextmanager
    def progress(self, title: str) -> Iterator[Progress]:
        """A spinner that says what is being done; nothing where stderr is not a terminal."""
        if self._quiet or self._silent or not self._err.is_terminal:
            yield Progress(None)
            return
        with self._err.status(escape(title)) as status:
            yield Progress(status)

    def error(self, message: str) -> None:
        """One line on standard error."""
        complain(message)

    def text(self, text: str) -> None:
        """Plain text on standard output, untouched. Raises OSError where it cannot be written; a
        reader who left early (`| head`) has read enough."""
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except BrokenPipeError:
            _abandon_output()
        except OSError:
            _abandon_output()
            raise

    @contextmanager
    def _page(self) -> Iterator[None]:
        """What is printed within, written at once. Raises OSError as `text` does."""
        yield
        self.text(self._written.taken())

    def lines(self, lines: Iterable[str]) -> None:
        """Lines of plain text that may name what a file holds."""
        self.text("".join(f"{visible(line)}\n" for line in lines))

    def result(self, result: Result, document: str | None = None) -> None:
        """The whole account, the answer last, where a terminal still shows it; or `document`
        instead. A runtime that was seen to leave the contract comes before everything. An answer
        that standard output does not take goes to standard error."""
        if self._silent and document is None:
            return
        report = self.report_of(result)
        try:
            self.text(report if document is None else document)
        except OSError as error:
            self.error(f"standard output cannot be written ({error.strerror}); the answer is:")
            for label, text in (*_broken(result), *_answer(result, quiet=True)):
                self.error(f"{Text.from_markup(label)} {text}".strip())

    def report_of(self, result: Result) -> str:
        """The account as text, for this console."""
        self._lines(_broken(result))
        if not self._quiet:
            self._lines(_header(result))
            self._out.print(_layers(result.nodes))
            self._lines(_legend(result))
            self._lines(_proof(result))
            for conduct in (result.conduct, result.spec_conduct):
                self._lines(_conduct(conduct, result))
            if result.witness is not None:
                self._witness(result.witness, result.tolerance.of(result.witness.output))
        self._lines(_answer(result, self._quiet))
        return self._written.taken()

    def replay(self, witness: Witness, epsilon: Fraction | None) -> None:
        limit = "a finite value" if epsilon is None else f"eps {plain(epsilon)}"
        confirmed = violates(witness.error, epsilon)
        with self._page():
            self._witness(witness, epsilon)
            self._lines(
                [
                    ("[bold red]violated[/]", f"the error is above {limit}, evaluated exactly")
                    if confirmed
                    else ("[bold yellow]unknown[/]", f"this input does not violate {limit}")
                ]
            )

    def every_output(self, rows: Sequence[OutputErrors], graph: Graph) -> None:
        """The exact errors of runtimes at all outputs: of every element, or the largest of each
        output where there are many."""
        sizes = {t: graph.types[t].size for t in graph.outputs}
        table = _table("exact errors |f_rt − f_R| at every output")
        table.add_column("execution", overflow="fold")
        few = sum(sizes.values()) <= _COLUMNS_SHOWN
        for t, size in sizes.items():
            name = t if len(sizes) > 1 else ""
            places = np.ndindex(*graph.types[t].shape) if few else ()
            titles = [f"{name}{list(p)}" for p in places] or [f"largest of {size} in {t}"]
            for title in titles:
                table.add_column(escape(title), overflow="fold")
        for row in rows:
            cells: list[str] = []
            for t in sizes:
                errors = row.errors.get(t, ())
                if few:
                    cells += map(show_error, errors)
                else:
                    at, worst = max(enumerate(errors), key=lambda e: (not e[1].finite, e[1].lo))
                    place = [int(i) for i in np.unravel_index(at, graph.types[t].shape)]
                    cells.append(f"{show_error(worst)} at {place}")
            table.add_row(escape(row.runtime), *map(escape, cells))
        with self._page():
            self._out.print(table)

    def divergence(self, found: Divergence | Refusal | None) -> None:
        """Where onnxruntime's bits first differ from the emulated execution's."""
        match found:
            case None:
                text = "none: onnxruntime has the emulated bits at every node"
            case Refusal():
                text = f"not looked for: {found.why}"
            case Divergence():
                text = (
                    f"node '{found.node}' ({found.op}), element {list(found.index)}: emulated "
                    f"{found.emulated!r}, onnxruntime {found.given!r}; {found.differing} of "
                    f"{found.elements} elements differ"
                )
        with self._page():
            self._lines([("[bold]diverges[/]", text)])

    def _lines(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Labels, with markup, and plain texts in two columns; long words such as paths stay
        whole."""
        for label, text in pairs:
            room = max(self._out.width - _LABEL, 30)
            shown = visible(text)
            lines = wrap(shown, room, break_long_words=False, break_on_hyphens=False) or [""]
            gap = " " * max(_LABEL - len(Text.from_markup(label)), 2)
            self._out.print(f"{label}{gap}{_escape(lines[0])}", soft_wrap=True)
            for line in lines[1:]:
                self._out.print(f"{'':{_LABEL}}{_escape(line)}", soft_wrap=True)

    def _witness(self, witness: Witness, epsilon: Fraction | None) -> None:
        element = escape(f"{witness.output}{list(witness.index)}")
        table = _table(f"counterexample at output element {element}")
        between = "|f_rt − f_R|" if witness.spec_execution is None else "|impl − spec|"
        for title in ("execution", "value", f"exact error {between}"):
            table.add_column(title, overflow="fold")
        if epsilon is not None:
            table.add_column("above eps")

        def row(name: str, value: str, error: str, above: bool | None) -> None:
            verdict = "" if above is None else "yes" if above else "no"
            cells = (escape(name), value, error, *(() if epsilon is None else (verdict,)))
            table.add_row(*cells)

        meant, done = _executed(witness)
        row(meant, _show_real(witness), "", None)
        for name, value, error in (
            (done, witness.value, witness.error),
            *((r.runtime, r.value, r.error) for r in witness.replays if isinstance(r, Execution)),
        ):
            row(name, repr(value), show_error(error), violates(error, epsilon))
        self._out.print(table)
        self._lines(
            [("", f"{r.runtime}: {r.why}") for r in witness.replays if isinstance(r, Refusal)]
            + _show_inputs(witness)
        )

    def lemmas(self, obligations: Sequence[Obligation], statements: Iterable[str]) -> None:
        """The lemma library as a table."""
        table = _table("lemmas")
        table.add_column("lemma", overflow="fold")
        table.add_column("kind")
        table.add_column("statement", overflow="fold")
        for title in ("discharger", "verdict", "seconds"):
            table.add_column(title, justify="right")
        for o, statement in zip(obligations, statements, strict=True):
            table.add_row(
                escape(o.name),
                o.kind.value,
                escape(statement),
                o.discharger.value,
                o.outcome.value,
                f"{o.seconds:.3f}",
            )
        proved = sum(o.discharged for o in obligations)
        with self._page():
            self._out.print(table)
            self._out.print(f"{proved} of {len(obligations)} discharged")

    def table(
        self, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], answer: str
    ) -> None:
        """Plain cells under plain titles, the answer last."""
        if self._silent:
            return
        table = _table(title)
        for column in columns:
            table.add_column(column, overflow="fold")
        for cells in rows:
            table.add_row(*map(escape, cells))
        with self._page():
            self._out.print(table)
            self._out.print(escape(answer))

    def operators(
        self,
        operators: Iterable[Operator],
        written_out: Iterable[str],
        made: Mapping[str, str],
        alone: Iterable[str],
    ) -> None:
        """Every operator with a meaning here, and those that become others when a file is read.

        `made` says what those that ONNX has not are made of, and `alone` names those that have a
        meaning on constants only. Each in the first table has all of the meanings that its caption
        names.
        """
        table = _table("operators")
        for title in ("operator", "opset from", "types", "attributes", "further meanings"):
            table.add_column(title)
        for o in sorted(operators, key=lambda o: o.name):
            every = set(o.dtypes) == set(DType)
            types = "all" if every else ", ".join(d.value for d in o.dtypes)
            attributes = ", ".join(sorted(o.attributes))
            table.add_row(o.name, str(o.since), types, attributes, ", ".join(_further(o)))
        table.caption = (
            "every one: real, run time, emulation, range, difference, rounding error, "
            "exact evaluation"
        )
        names = ", ".join(sorted(written_out))
        constants = ", ".join(sorted(alone))
        origins = ", ".join(f"{name} (of {origin})" for name, origin in made.items())
        with self._page():
            self._out.print(table)
            self._out.print(f"written out with other operators when a file is read: {names}")
            self._out.print(f"computed when a file is read, of constants: {constants}")
            self._out.print(f"no ONNX operators, but made when a file is read: {origins}")


class Progress:
    """Tells a person what is being done; silent without a terminal."""

    def __init__(self, status: object | None) -> None:
        self._status = status

    def tell(self, stage: str) -> None:
        if self._status is not None:
            self._status.update(escape(stage))  # type: ignore[attr-defined]


def _further(operator: Operator) -> Iterator[str]:
    """What an operator has beyond the meanings that all have."""
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
        yield "rests on " + " and ".join(f.value for f in operator.functions)


def _table(title: str) -> Table:
    return Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)


def _abandon_output() -> None:
    """What is still buffered goes nowhere, so that leaving does not fail."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _header(result: Result) -> Iterator[tuple[str, str]]:
    graph, domain = result.graph, result.domain
    operators = ", ".join(f"{n} {op}" for op, n in Counter(n.op for n in graph.order).items())
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
    boxes = "1 box" if len(domain.boxes) == 1 else f"union of {len(domain.boxes)} boxes"
    sizes = ", ".join(f"{n} {list(graph.types[n].shape)}" for n in graph.inputs)
    yield "[bold]domain[/]", f"{domain.source}: {boxes}; {sizes}"
    for note in domain.notes:
        yield "", note
    yield "[bold]contract[/]", program_of(result.graph).ruled(result.contract).describe()
    label = "[bold]assumed[/]"
    for a in result.assumptions:
        if a.name not in _IN_HEADER:
            yield label, f"{a.name}: {a.text}"
            label = ""


def _layers(nodes: Sequence[NodeReport]) -> Table:
    """The layers in order; of very many, those that matter most to the bound."""
    table = _table("per layer")
    table.add_column("node", overflow="fold")
    table.add_column("operator")
    for title in ("real range", "error", "own rounding", "share"):
        table.add_column(title, justify="right")
    largest = sorted(range(len(nodes)), key=lambda i: -nodes[i].share)[:_LAYERS_SHOWN]
    for n in (nodes[i] for i in sorted(largest)):
        table.add_row(
            escape(n.name.replace("  ", " \\x20")),  # no answer of its own on a folded line
            escape(n.op),
            f"{down(n.low, 4)} … {up(n.high, 4)}",
            up(n.error, 3),
            up(n.local, 3),
            f"{100 * n.share:.1f} %",
        )
    return table


def _legend(result: Result) -> Iterator[tuple[str, str]]:
    nodes = result.nodes
    apart = "|f_rt − f_R|" if result.spec is None else "|impl − spec|"
    if len(nodes) > _LAYERS_SHOWN:
        yield "", f"{len(nodes) - _LAYERS_SHOWN} layers with smaller shares are in --json"
    yield (
        "",
        f"error: bound on {apart} after the layer; own rounding: what the layer's own "
        "arithmetic adds; share: how much of the largest bound its rounding and relaxation cost",
    )


def _proof(result: Result) -> Iterator[tuple[str, str]]:
    shown = {*result.graph.notes, *result.domain.notes}
    for note in result.notes:
        if note not in shown:
            yield "", note
    owed = [o for n in result.nodes for o in n.obligations]
    yield (
        "[bold]proved[/]",
        f"{_by_whom(result.obligations, 'lemmas')}; {_by_whom(owed, 'obligations of the layers')}",
    )
    failed = [o for o in (*result.obligations, *owed) if not o.discharged]
    for o in failed[:_FAILURES_SHOWN]:
        detail = f" ({o.detail})" if o.detail else ""
        yield f"[red]{o.outcome.value}[/]", f"{o.name}: {o.goal}{detail}"
    if len(failed) > _FAILURES_SHOWN:
        yield "", f"and {len(failed) - _FAILURES_SHOWN} more, in --json"


def _broken(result: Result) -> Iterator[tuple[str, str]]:
    """The first lines where a runtime of this machine was seen to leave the contract."""
    for conduct in result.broken:
        contract, which = _held_to(conduct, result)
        yield (
            "[bold red]broken[/]",
            f"{conduct.runtime} does NOT honour contract {contract} on {which}, so that what is "
            f"said below does not hold for it: {conduct.text}",
        )


def _held_to(conduct: Conduct, result: Result) -> tuple[str, str]:
    """The name of the contract that a runtime was held to, and which model it ran."""
    if conduct is result.spec_conduct and result.spec is not None:
        return result.spec.contract.name, "the specification"
    return result.contract.name, "this model" if result.spec is None else "the implementation"


def _conduct(conduct: Conduct | None, result: Result) -> Iterator[tuple[str, str]]:
    """What a runtime here did: one line, and what it means where the contract was left."""
    if conduct is None:
        return
    name, which = _held_to(conduct, result)
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


def _by_whom(obligations: Sequence[Obligation], what: str) -> str:
    """`19 of 19 lemmas (12 by z3, 7 by z3 (cached))`."""
    by = Counter(o.discharger for o in obligations if o.discharged)
    shown = ", ".join(f"{by[who]} by {who.value}" for who in Discharger if by[who])
    return f"{sum(by.values())} of {len(obligations)} {what}" + (f" ({shown})" if shown else "")


def _answer(result: Result, quiet: bool) -> Iterator[tuple[str, str]]:
    if not quiet:
        for output, bound in result.bounds.items():
            flat = bound.reshape(-1)
            if flat.size > 1 or len(result.bounds) > 1:
                shown = ", ".join(up(float(v), 4) for v in flat[:_ELEMENTS_SHOWN])
                more = f", … ({flat.size} elements)" if flat.size > _ELEMENTS_SHOWN else ""
                yield "[bold]bounds[/]", f"{output}: {shown}{more}"
    late = ", out of time" if result.timed_out else ""
    yield (
        f"[bold {_COLOUR[result.verdict]}]{result.verdict.value}[/]",
        f"{', '.join(figures_of(result))}  ({result.seconds:.1f} s, seed {result.seed}{late})",
    )
    yield "", result.reason
    if result.witness_file is not None:
        yield "", f"run the counterexample again: refine replay {replaying(result)}"


def _executed(witness: Witness) -> tuple[str, str]:
    """What is meant, and what is compared with it."""
    spec, own = witness.spec_execution, witness.execution
    if spec is None:
        return "real network", f"emulated: {own.name}"
    theirs = "real" if spec.exact else f"emulated: {spec.name}"
    ours = "real" if own.exact else f"emulated: {own.name}"
    return f"specification, {theirs}", f"implementation, {ours}"


def _show_real(witness: Witness) -> str:
    """The nearest float64, and how well the real value is known if not plain."""
    if witness.real is None:
        return "not defined, or beyond every format"
    try:
        value = repr(float(witness.real.lo))
    except OverflowError:
        return "beyond float64"
    width = float_up(witness.real.hi - witness.real.lo)
    return value if width == 0 else f"{value} (known to {width:.1g})"


def _show_inputs(witness: Witness) -> list[tuple[str, str]]:
    """Small inputs in full, in the shortest decimals of their own type."""
    lines = []
    for name, array in witness.inputs.items():
        if np.size(array) <= _INPUTS_SHOWN:
            values = ", ".join(str(v) for v in np.asarray(array).reshape(-1))
            lines.append(("[bold]input[/]", f"{name} = {values}"))
    return lines
