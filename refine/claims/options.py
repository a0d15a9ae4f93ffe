"""How hard a claim is tried, and when each part of the work has to end."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from refine.common.clock import Clock
from refine.proof.cross_check import Effort
from refine.results.verdict import Result

_SEARCHING = 0.25  # of the budget is what a search may take
_SHORTEST_SEARCH = 3.0  # seconds, whatever the budget
_SEARCHING_AGAIN = 0.1  # of the budget, in what the proof leaves
_LONGEST_AGAIN = 4.0  # seconds
_KEPT_FOR_THE_REST = 0.4  # of the budget: lemmas, cross-checks, reports
_LONGEST_REST = 8.0  # seconds


@dataclass(frozen=True)
class Options:
    """How hard to try. `timeout` in seconds for everything; None means no limit.

    `cross_check` is what Z3 is asked beside the lemmas; `cache` is the directory of proved
    lemmas, None to prove them anew. `budget` in seconds, counted from the start, is how long
    bounds are improved; `workers` processes share that work, or those of a Dask `cluster`.
    `search_seconds` is how long errors are searched for, all of it; None: as much as the model's
    size suggests, in little time. `conform` has a runtime of this machine compared with the
    contract, briefly. `so_far` hears of results on the way: bounds of which no obligation has been
    looked at, and errors found.
    `certificate` has a verified result come with its certificate.
    """

    cross_check: Effort | None
    cache: Path | None
    seed: int = 0
    timeout: float | None = None
    search: bool = True
    backward: bool = True
    budget: float = 0.0
    workers: int = 1
    cluster: str | None = None
    search_seconds: float | None = None
    conform: bool = False
    so_far: Callable[[Result], None] | None = None
    certificate: bool = False


def searching(options: Options) -> tuple[float, float]:
    """How long the first search may take, in seconds, and its effort (1: what is usual)."""
    if options.search_seconds is not None:
        return options.search_seconds, math.inf
    return max(_SEARCHING * options.budget, _SHORTEST_SEARCH), 1.0


def searching_again(options: Options) -> float:
    """How long a search in what the proof leaves may take, in seconds."""
    return min(_SEARCHING_AGAIN * options.budget, _LONGEST_AGAIN)


def improving_until(options: Options, clock: Clock) -> float:
    """When bounds are no more improved, on the monotonic clock."""
    kept = min(_KEPT_FOR_THE_REST * options.budget, _LONGEST_REST)
    return clock.deadline(options.budget + (options.search_seconds or 0.0) - kept)
