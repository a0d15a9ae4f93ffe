"""Time: the user's limit, and who asks about it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

_MOST = 0.7  # of the time, after which what is left of a pass is composed forward


class OutOfTime(Exception):
    """A time limit was reached."""


class ShortOfTime(OutOfTime):
    """The limit is near: what gives an answer without what takes long should."""


@dataclass(frozen=True)
class Clock:
    """Seconds since `start` (monotonic), the limit on them, and who hears what is being done."""

    start: float
    timeout: float | None
    tell: Callable[[str], None]

    def tick(self) -> None:
        """Raises OutOfTime once the limit is reached."""
        if self.late:
            raise OutOfTime

    def hurry(self) -> None:
        """Raises ShortOfTime once most of the time is over."""
        if self.timeout is not None and self.seconds > _MOST * self.timeout:
            raise ShortOfTime

    @property
    def late(self) -> bool:
        """Is the time limit over?"""
        return self.timeout is not None and self.seconds > self.timeout

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    def deadline(self, budget: float) -> float:
        """When `budget` seconds from the start, or the limit, are over (monotonic clock)."""
        limit = budget if self.timeout is None else min(budget, self.timeout)
        return self.start + limit

    def until(self, deadline: float) -> Callable[[], None]:
        """A tick that raises OutOfTime at a deadline of its own."""

        def tick() -> None:
            if time.monotonic() > deadline:
                raise OutOfTime

        return tick
