"""What can be answered, in a word and as an exit code. Imports nothing heavy."""

from __future__ import annotations

from enum import Enum


class Verdict(Enum):
    """The answers. Only `VERIFIED` and `VIOLATED` are claims; `CONTRADICTION` says that the search
    found an error above the bound proved, so that nothing here can be trusted."""

    VERIFIED = "verified"
    VIOLATED = "violated"
    UNKNOWN = "unknown"
    CONTRADICTION = "contradiction"


class ExitCode(Enum):
    """What the process returns."""

    VERIFIED = 0
    VIOLATED = 1
    INPUT_ERROR = 2
    UNKNOWN = 3
    TIME_OUT = 4
    CONTRACT_BROKEN = 5
    INTERNAL_ERROR = 70
    INTERRUPTED = 130
