"""What can be answered, in a word and as an exit code. Imports nothing heavy."""

from __future__ import annotations

from enum import Enum


class Verdict(Enum):
    """The answers. Only `VERIFIED` and `VIOLATED` are claims; `CONDITIONAL` is one if another
    verifier's numbers are right; `CONTRADICTION` says that the search found an error above the
    bound proved, so that nothing here can be trusted.

    `bool()` is true of `VERIFIED` alone: `assert result.verdict` is what people write, and must
    fail wherever nothing was proved. A verdict equals its word, `"verified"`. Comparing it with a
    bool or with a word that is no verdict raises TypeError: `verdict != "violatd"` or
    `verdict != False` would otherwise hold of every answer.

    >>> bool(Verdict.UNKNOWN), Verdict.VERIFIED == "verified"
    (False, True)
    """

    VERIFIED = "verified"
    VIOLATED = "violated"
    UNKNOWN = "unknown"
    CONDITIONAL = "conditional"
    CONTRADICTION = "contradiction"

    def __bool__(self) -> bool:
        return self is Verdict.VERIFIED

    def __eq__(self, other: object) -> bool:
        words = [verdict.value for verdict in Verdict]
        if isinstance(other, str) and other in words:
            return bool(self.value == other)
        if isinstance(other, str) or type(other).__name__ in ("bool", "bool_"):
            raise TypeError(
                f"a verdict is compared with {other!r}, which is none; they are {', '.join(words)}"
            )
        return self is other if isinstance(other, Verdict) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.value)


class ExitCode(Enum):
    """What the process returns."""

    VERIFIED = 0
    VIOLATED = 1
    INPUT_ERROR = 2
    UNKNOWN = 3
    TIME_OUT = 4
    CONTRACT_BROKEN = 5
    CONDITIONAL = 6
    INTERNAL_ERROR = 70
    INTERRUPTED = 130
