"""What people read: the only place that prints."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from encoders.operator import Operator
from refine.obligation import Obligation
from refine.rounding import float_down, float_up
from refine.verdict import ErrorEnclosure, Execution, Refusal, Result, Verdict, Witness

_COLOUR = {Verdict.VERIFIED: "green", Verdict.VIOLATED: "red", Verdict.UNKNOWN: "yellow"}
_ELEMENTS_SHOWN = 12


class Reporter:
    """Writes reports to standard output, progress (on a terminal) and errors to standard error."""

    def __init__(self, quiet: bool = False, silent: bool = False) -> None:
        self._quiet = quiet
        self._silent = silent
        width = None if sys.stdout.isatty() else 120
        self._out = Console(highlight=False, soft_wrap=not sys.stdout.isatty(), width=width)
        self._err = Console(stderr=True, highlight=False, soft_wrap=True)

    @contextmanager
    def progress(self, title: str) -> Iterator[Progress]:
        """A spinner that says what is being done; nothing where stderr is not a terminal."""
        if self._quiet or self._silent or not self._err.is_terminal:
            yield Progress(None)
            return
        with self._err.status(escape(title)) as status:
            yield Progress(status)

    def error(self, message: str) -> None:
        self._err.print(f"refine: {escape(message)}")

    def text(self, text: str) -> None:
        """Plain text on standard output, untouched."""
        sys.stdout.write(text)
        sys.stdout.flush()

    def result(self, result: Result) -> None:
        if self._silent:
            return
        if not self._quiet:
            self._header(result)
        self._verdict(result)
        if self._quiet:
            return
        if result.witness is not None:
            self._witness(result, result.witness)
        self._bounds(result)
        self._nodes(result)
        self._footer(result)

    def _header(self, result: Result) -> None:
        graph, domain = result.graph, result.domain
        operators = ", ".join(f"{n} {op}" for op, n in Counter(n.op for n in graph.order).items())
        self._out.print(
            f"[bold]model[/]     {escape(str(graph.source))}\n"
            f"          {graph.parameters} parameters: {operators}"
        )
        boxes = "1 box" if len(domain.boxes) == 1 else f"union of {len(domain.boxes)} boxes"
        sizes = ", ".join(f"{escape(n)} {list(graph.types[n].shape)}" for n in graph.inputs)
        self._out.print(f"[bold]domain[/]    {escape(domain.source)}: {boxes}; {sizes}")
        for note in result.notes:
            self._out.print(f"          {escape(note)}")
        self._out.print(f"[bold]contract[/]  {escape(result.contract.describe())}")

    def _verdict(self, result: Result) -> None:
        colour = _COLOUR[result.verdict]
        answer = "time-out" if result.timed_out and result.verdict is Verdict.UNKNOWN else ""
        word = result.verdict.value + (f" ({answer})" if answer else "")
        parts = [f"bound {result.bound:.6g}"]
        if result.tolerance.common is not None:
            parts.append(f"eps {float_down(result.tolerance.common):.6g}")
        if result.worst_found is not None:
            parts.append(f"worst found {result.worst_found:.6g}")
        self._out.print(
            f"[bold {colour}]{word}[/]  {', '.join(parts)}  ({result.seconds:.1f} s)\n"
            f"          {escape(result.reason)}"
        )

    def _witness(self, result: Result, witness: Witness) -> None:
        element = f"{witness.output}{list(witness.index)}"
        table = Table(title=f"counterexample at output element {escape(element)}")
        for title in ("execution", "value", "exact error |f_rt − f_R|"):
            table.add_column(title, overflow="fold")
        table.add_row("real network", _show_real(witness), "0")
        table.add_row(
            f"emulated: {escape(witness.execution.name)}",
            _show_float(witness.value),
            _show_error(witness.error),
        )
        for replay in witness.replays:
            table.add_row(escape(replay.runtime), *_show_replay(replay))
        self._out.print(table)
        if result.witness_file is not None:
            self._out.print(
                f"          saved as {escape(str(result.witness_file))}; run it again with "
                f"'refine replay {escape(str(result.witness_file))}'"
            )

    def replay(self, witness: Witness, epsilon: Fraction | None) -> None:
        """The table of a counterexample that was run again."""
        result_table = Table(title=f"output element {witness.output}{list(witness.index)}")
        for title in ("execution", "value", "exact error |f_rt − f_R|"):
            result_table.add_column(title, overflow="fold")
        result_table.add_row("real network", _show_real(witness), "0")
        result_table.add_row(
            f"emulated: {escape(witness.execution.name)}",
            _show_float(witness.value),
            _show_error(witness.error),
        )
        for replay in witness.replays:
            result_table.add_row(escape(replay.runtime), *_show_replay(replay))
        self._out.print(result_table)
        if epsilon is not None:
            self._out.print(f"eps {float_down(epsilon):.6g}")

    def _bounds(self, result: Result) -> None:
        for output, bound in result.bounds.items():
            flat = bound.reshape(-1)
            shown = ", ".join(f"{v:.4g}" for v in flat[:_ELEMENTS_SHOWN])
            more = f", … ({flat.size} elements)" if flat.size > _ELEMENTS_SHOWN else ""
            self._out.print(f"[bold]bounds[/]    {escape(output)}: {shown}{more}")

    def _nodes(self, result: Result) -> None:
        table = Table(title="per layer")
        table.add_column("node", overflow="fold")
        table.add_column("operator")
        for title in ("real range", "error after it", "own rounding", "share", "obligations"):
            table.add_column(title, justify="right")
        for n in result.nodes:
            table.add_row(
                escape(n.name),
                n.op,
                f"{n.low:.4g} … {n.high:.4g}",
                f"{n.error:.3g}",
                f"{n.local:.3g}",
                f"{100 * n.share:.1f} %",
                _tally(n.obligations),
            )
        self._out.print(table)

    def _footer(self, result: Result) -> None:
        every = [*result.obligations, *(o for n in result.nodes for o in n.obligations)]
        by = Counter(o.discharger.value for o in every if o.discharged)
        shown = ", ".join(f"{n} by {who}" for who, n in by.items())
        self._out.print(f"[bold]proved[/]    {len(result.obligations)} lemmas; in all {shown}")
        for o in every:
            if not o.discharged:
                self._out.print(f"          [red]{o.outcome.value}[/] {escape(o.name)}: "
                                f"{escape(o.goal)} {escape(o.detail)}")
        self._out.print("[bold]assumed[/]")
        for a in result.assumptions:
            self._out.print(f"          {escape(a.name)}: {escape(a.text)}")
        self._out.print(f"[bold]seed[/]      {result.seed}")

    def lemmas(self, obligations: Sequence[Obligation], statements: Iterable[str]) -> None:
        """The lemma library as a table."""
        table = Table(title="lemmas")
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
        self._out.print(table)
        proved = sum(o.discharged for o in obligations)
        self._out.print(f"{proved} of {len(obligations)} discharged")

    def operators(self, operators: Iterable[Operator]) -> None:
        """Every operator with a meaning here."""
        table = Table(title="operators")
        for title in ("operator", "opset from", "types", "affine", "moves data only"):
            table.add_column(title)
        for o in operators:
            types = ", ".join(d.value for d in o.dtypes)
            table.add_row(o.name, str(o.since), types, _tick(o.affine), _tick(o.movement))
        self._out.print(table)


class Progress:
    """Tells a person what is being done; silent without a terminal."""

    def __init__(self, status: object | None) -> None:
        self._status = status

    def tell(self, stage: str) -> None:
        if self._status is not None:
            self._status.update(escape(stage))  # type: ignore[attr-defined]


def _tick(yes: bool) -> str:
    return "yes" if yes else ""


def _tally(obligations: Sequence[Obligation]) -> str:
    proved = sum(o.discharged for o in obligations)
    return f"{proved}/{len(obligations)}"


def _show_float(value: float) -> str:
    return f"{value!r} ({float(value).hex()})"


def _show_real(witness: Witness) -> str:
    return f"{float(witness.real_lo):.17g} (enclosed to {float(witness.real_hi - witness.real_lo):.1g})"


def _show_error(error: ErrorEnclosure) -> str:
    if not error.finite:
        return "not finite"
    lo, hi = float_down(error.lo), float_up(error.hi)
    return f"{lo:.9g}" if hi - lo <= 1e-9 * hi else f"{lo:.9g} … {hi:.9g}"


def _show_replay(replay: Execution | Refusal) -> tuple[str, str]:
    if isinstance(replay, Refusal):
        return "–", escape(replay.why)
    return _show_float(replay.value), _show_error(replay.error)
