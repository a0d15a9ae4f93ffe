"""What is said on standard error, in a line. Imports nothing heavy: it may be said early."""

from __future__ import annotations

import sys
from contextlib import suppress
from traceback import format_exception

from refine.common.visible import visible


def complain(message: str) -> None:
    """One line: messages come from everywhere, and some have line breaks."""
    with suppress(OSError, ValueError):
        sys.stderr.write(f"refine: {visible(message.strip())}\n")
        sys.stderr.flush()


def complain_of_bug(error: BaseException) -> None:
    """An error of ours: where it happened, and one sentence."""
    with suppress(OSError, ValueError):
        for line in "".join(format_exception(error)).splitlines():
            sys.stderr.write(f"{visible(line)}\n")
    complain(f"internal error, please report it with the lines above: {error!r}")
