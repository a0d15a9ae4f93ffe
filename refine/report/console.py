"""What people read: the only place that prints."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from io import StringIO
from textwrap import wrap

import numpy as np
from rich.console import Console
from rich.markup import escape as _escape
from rich.text import Text

from encoders.operator import Operator
from gpu_check.conformance.divergence import DivergingNode
from onnx_import.graph import COMPUTED, Graph
from refine.common.complaints import complain
from refine.common.exact import show
from refine.common.visible import visible
from refine.process.supervision import spoken_times
from refine.report.sections import (
    COLUMNS_SHOWN,
    answer_of,
    broken_of,
    escape,
    executed,
    further,
    header_of,
    layers_of,
    legend_of,
    looked_at,
    plain_table,
    proof_of,
    shown_inputs,
    shown_reach,
    shown_real,
)
from refine.results.numerals import plain, show_error
from refine.results.obligation import Obligation
from refine.results.verdict import (
    Execution,
    Reached,
    Refusal,
    Result,
    Witness,
)
from refine.witness.replay import OutputErrors
from refine.witness.witness import violates

_LABEL = 10  # width of the column of labels
_WIDTH = 120  # where the output is not a terminal


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


class Reporter:
    """Writes reports to standard output, progress (on a terminal) and errors to standard error."""

    def __init__(self, quiet: bool = False, silent: bool = False, verbose: bool = False) -> None:
        self._quiet = quiet
        self._verbose = verbose
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
    def progress(
        self, title: str, hear: Callable[[str], None] | None = None, until: float | None = None
    ) -> Iterator[Progress]:
        """What is being done, with the seconds so far: a spinner where stderr is a terminal; else
        `hear` is told, and says what it likes. `until` is when the work ends (monotonic)."""
        shown = not (self._quiet or self._silent) and self._err.is_terminal
        stage = _Stage(title, time.monotonic(), until)
        if not shown:
            yield Progress(stage, hear)
            return
        with self._err.status(stage):
            yield Progress(stage, hear)

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
        """The account, the answer first; or `document` instead. A runtime that was seen to leave
        the contract comes before everything. An answer that standard output does not take goes to
        standard error."""
        if self._silent and document is None:
            return
        report = self.report_of(result)
        try:
            self.text(report if document is None else document)
        except OSError as error:
            self.error(f"standard output cannot be written ({error.strerror}); the answer is:")
            for label, text in (*broken_of(result), *answer_of(result, quiet=True)):
                self.error(f"{Text.from_markup(label)} {text}".strip())

    def report_of(self, result: Result) -> str:
        """The account as text, for this console: the answer, what was found and what the runtime
        here did; then where the bound comes from; then what was asked and assumed."""
        every = self._verbose
        self._lines(broken_of(result))
        self._lines(answer_of(result, self._quiet))
        if not self._quiet:
            if result.witness is not None:
                epsilon = result.tolerance.of(result.witness.output)
                self._witness(result.witness, epsilon, refusals=every)
            for conduct in (result.conduct, result.spec_conduct):
                self._lines(looked_at(conduct, result))
            if result.nodes:
                self._out.print(layers_of(result.nodes, every))
                self._lines(legend_of(result, every))
            self._lines(proof_of(result, every))
            self._lines(header_of(result, every))
        return self._written.taken()

    def counterexample(self, witness: Witness, epsilon: Fraction | None) -> None:
        """A counterexample: its executions, their values and exact errors, and its inputs."""
        with self._page():
            self._witness(witness, epsilon, refusals=True)

    def confirmed(self, witness: Witness, epsilon: Fraction | None) -> None:
        """Whether the exact error of a counterexample violates ε."""
        limit = "a finite value" if epsilon is None else f"eps {plain(epsilon)}"
        confirmed = violates(witness.error, epsilon)
        with self._page():
            if witness.reached is not None:
                self._lines([_again(witness.reached)])
                return
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
        table = plain_table("exact errors |f_rt − f_R| at every output")
        table.add_column("execution", overflow="fold")
        few = sum(sizes.values()) <= COLUMNS_SHOWN
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

    def diverging_node(self, found: DivergingNode | Refusal | None) -> None:
        """Where onnxruntime's bits first differ from the emulated execution's."""
        match found:
            case None:
                text = "none: onnxruntime has the emulated bits at every node"
            case Refusal():
                text = f"not looked for: {found.why}"
            case DivergingNode():
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

    def _witness(self, witness: Witness, epsilon: Fraction | None, refusals: bool) -> None:
        element = escape(f"{witness.output}{list(witness.index)}")
        where = " at" if witness.reached is None else ", with values of"
        table = plain_table(f"counterexample{where} output element {element}")
        between = "|f_rt − f_R|" if witness.spec_execution is None else "|impl − spec|"
        between += "/|f_R|" if witness.relative else ""
        third = f"exact error {between}" if witness.reached is None else "slack"
        for title in ("execution", "value", third):
            table.add_column(title, overflow="fold")
        if epsilon is not None:
            table.add_column("above eps")
        if witness.reached is not None:
            table.add_column("reaches")

        def row(name: str, value: str, error: str, above: bool | None, reaches: str | None) -> None:
            verdict = "" if above is None else "yes" if above else "no"
            cells = (escape(name), value, error, *(() if epsilon is None else (verdict,)))
            table.add_row(*cells, *(() if reaches is None else (reaches,)))

        meant, done = executed(witness)
        reached = witness.reached
        row(
            meant,
            shown_real(witness),
            "" if reached is None else _signed(reached.real_slack),
            None,
            _reaches(reached, None if reached is None else reached.real),
        )
        ran = [r for r in witness.replays if isinstance(r, Execution)]
        refused = [r for r in witness.replays if isinstance(r, Refusal)]
        ours = None if reached is None else (reached.within, reached.slack)
        for name, value, error, within, slack in (
            (done, witness.value, witness.error, *(ours or (None, None))),
            *((r.runtime, r.value, r.error, r.within, r.slack) for r in ran),
        ):
            shown = _reaches(reached, within)
            third = show_error(error) if reached is None else _signed(slack)
            row(name, repr(value), third, violates(error, epsilon), shown)
        self._out.print(table)
        self._lines(
            [("", f"{r.runtime}: {r.why}") for r in refused if refusals or not ran]
            + shown_reach(witness)
            + shown_inputs(witness)
        )

    def lemmas(self, obligations: Sequence[Obligation], statements: Iterable[str]) -> None:
        """The lemma library as a table."""
        table = plain_table("lemmas")
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
        """The answer, if there is one, then plain cells under plain titles, if there are any."""
        if self._silent:
            return
        table = plain_table(title)
        for column in columns:
            table.add_column(column, overflow="fold")
        for cells in rows:
            table.add_row(*map(escape, cells))
        with self._page():
            if answer:
                self._out.print(escape(answer))
            if table.row_count:
                self._out.print(table)

    def operators(
        self,
        operators: Iterable[Operator],
        decomposed: Iterable[str],
        made: Mapping[str, str],
        alone: Iterable[str],
    ) -> None:
        """Every operator with a meaning here, and those that become others when a file is read.

        `made` says what those that ONNX has not are made of, and `alone` names those that have a
        meaning on constants only. Each in the first table has all of the semantics that its caption
        names.
        """
        table = plain_table("operators")
        for title in ("operator", "opset from", "types", "attributes", "further semantics"):
            table.add_column(title)
        for o in sorted(operators, key=lambda o: o.name):
            every = set(o.dtypes) == set(COMPUTED)
            types = "all" if every else ", ".join(d.value for d in o.dtypes)
            attributes = ", ".join(sorted(o.attributes))
            table.add_row(o.name, str(o.since), types, attributes, ", ".join(further(o)))
        table.caption = (
            "every one: real, run time, emulation, range, difference, rounding error, "
            "exact evaluation"
        )
        names = ", ".join(sorted(decomposed))
        constants = ", ".join(sorted(alone))
        origins = ", ".join(f"{name} (of {origin})" for name, origin in made.items())
        with self._page():
            self._out.print(table)
            self._out.print(f"decomposed into other operators when a file is read: {names}")
            self._out.print(f"computed when a file is read, of constants: {constants}")
            self._out.print(f"no ONNX operators, but made when a file is read: {origins}")


@dataclass
class _Stage:
    """What is being done now, as a spinner shows it."""

    text: str
    start: float
    until: float | None

    def __rich__(self) -> str:
        now = time.monotonic()
        return escape(f"{self.text} ({spoken_times(now - self.start, now, self.until)})")


@dataclass(frozen=True)
class Progress:
    """Tells whoever wants to know what is being done."""

    stage: _Stage
    hear: Callable[[str], None] | None = None

    def tell(self, stage: str) -> None:
        """From now on it is this."""
        self.stage.text = stage
        if self.hear is not None:
            self.hear(stage)


def _abandon_output() -> None:
    """What is still buffered goes nowhere, so that leaving does not fail."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _signed(slack: Fraction | None) -> str:
    """A slack in few digits: at most 0 in the unsafe set."""
    return "" if slack is None else show(slack, 6)


def _reaches(reached: Reached | None, within: bool | None) -> str | None:
    """Whether outputs lie in the unsafe set, in a word; None where no property is claimed."""
    if reached is None:
        return None
    return "not known" if within is None else "yes" if within else "no"


def _again(reached: Reached) -> tuple[str, str]:
    """What a counterexample of a property shows when it is run again."""
    if reached.within:
        return "[bold red]violated[/]", "the outputs lie in the unsafe set, decided exactly"
    return "[bold yellow]unknown[/]", "the outputs of this input do not lie in the unsafe set"
