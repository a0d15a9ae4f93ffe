"""What came of many claims, as Python gets it: the decisions of a data set, the rows of a list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from refine.claims.many.benching import Row, counts_of, document_of_rows
from refine.claims.many.benching import exit_code_of as code_of_rows
from refine.claims.many.stability import Decision, Stability, document_of_decisions, exit_code_of
from refine.results.verdict import ExitCode, Verdict


@dataclass(frozen=True, repr=False)
class Decisions:
    """The decisions of a data set in order; true where all of them are stable."""

    asked: Stability
    every: tuple[Decision, ...]

    def __bool__(self) -> bool:
        return self.exit_code is ExitCode.VERIFIED

    def __len__(self) -> int:
        return len(self.every)

    def __iter__(self) -> Iterator[Decision]:
        return iter(self.every)

    def __repr__(self) -> str:
        return counted(self.every, len(self.every))

    @property
    def stable(self) -> int:
        """How many no execution changes."""
        return sum(d.code is ExitCode.VERIFIED for d in self.every)

    @property
    def flips(self) -> tuple[Decision, ...]:
        """Those that an execution changes."""
        return tuple(d for d in self.every if d.verdict is Verdict.VIOLATED)

    @property
    def exit_code(self) -> ExitCode:
        """That of the command."""
        return exit_code_of(self.every)

    def to_json(self) -> str:
        """What `--json` writes."""
        return document_of_decisions(self.asked, self.every)


@dataclass(frozen=True, repr=False)
class Rows:
    """The answers of a list in order; true where all of them are verified."""

    every: tuple[Row, ...]

    def __bool__(self) -> bool:
        return self.exit_code is ExitCode.VERIFIED

    def __len__(self) -> int:
        return len(self.every)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.every)

    def __repr__(self) -> str:
        return ", ".join(f"{n} {answer}" for answer, n in counts_of(self.every).items() if n)

    @property
    def exit_code(self) -> ExitCode:
        """That of the command."""
        return code_of_rows(self.every)

    def to_json(self) -> str:
        """What `--json` writes."""
        return document_of_rows(self.every, len(self.every))


def counted(found: Sequence[Decision], total: int) -> str:
    """How many decisions are what, in a sentence."""
    stable = sum(d.code is ExitCode.VERIFIED for d in found)
    flips = sum(d.verdict is Verdict.VIOLATED for d in found)
    left = total - stable - flips
    undecided = "1 is undecided" if left == 1 else f"{left} are undecided"
    flipped = "1 flips" if flips == 1 else f"{flips} flip"
    broken = sum(d.code is ExitCode.CONTRACT_BROKEN for d in found)
    left_it = f"; at {broken} the runtime here leaves the contract" if broken else ""
    return f"{stable} of {total} decisions cannot change, {flipped}, {undecided}{left_it}"
