"""`--log FILE`: what was done, when, and the report in full."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any

import click

from gpu_check.common.writing import append_text
from refine.cli.setup.configuration import origin, typed_first
from refine.common.complaints import complain
from refine.common.visible import visible

_META = "refine.journal"


@dataclass(frozen=True)
class Journal:
    """A file that grows, each entry with the time and the seconds since the start."""

    path: Path
    start: float

    def note(self, text: str) -> None:
        """Append an entry; lines after the first are indented. What can no more be written is
        lost, for the answer does not hang on it."""
        with suppress(OSError):
            self.write(text)

    def write(self, text: str) -> None:
        """As `note`. Raises OSError where it cannot be written."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        first, *rest = text.rstrip("\n").split("\n")
        lines = [f"{now} {time.monotonic() - self.start:9.3f} s  {visible(first)}"]
        lines += [f"    {visible(line)}".rstrip() for line in rest]
        append_text(self.path, "\n".join(lines) + "\n")


def journal_of(context: click.Context | None) -> Journal | None:
    """The log of the running command, if there is one."""
    return None if context is None else context.meta.get(_META)


def announcing(callback: Callable[..., Any]) -> Callable[..., Any]:
    """What a command does, having said which options a file set, here and in the log."""

    @wraps(callback)
    def done(*given: Any, **named: Any) -> Any:
        context = click.get_current_context()
        named = typed_first(context, named)
        said = origin(context)
        if said is not None:
            complain(said)
            journal = journal_of(context)
            if journal is not None:
                journal.note(said)
        return callback(*given, **named)

    return done


def _opened(context: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    if path is None or context.resilient_parsing:
        return
    from refine import __version__

    journal = Journal(path, time.monotonic())
    journal.write(f"refine {__version__}: {shlex.join(sys.argv[1:])}")
    context.meta[_META] = journal


def log_option() -> click.Option:
    """`--log`, of every command."""
    return click.Option(
        ["--log"],
        type=click.Path(path_type=Path),
        metavar="FILE",
        is_eager=True,
        expose_value=False,
        callback=_opened,
        help="Append what is done, when, and the report in full to this file.",
    )
