"""Best-first branch and bound of many functionals at once: the largest cases are branched first.

Each functional has a heap of cases that together cover everything; its bound is that of its largest
case. What a case is, which are taken next and how they are bounded is the caller's: phases of
hidden elements (`refine.bounds.relu_splitting`), slopes of secants
(`refine.bounds.secant_branching`).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Owners = npt.NDArray[np.intp]
Case = TypeVar("Case", bound=Any)  # ordered: the largest bound comes first


def explored(
    heaps: Sequence[list[Case]],
    taken: Callable[[], tuple[Owners, list[Case]]],
    halved: Callable[[Owners, list[Case]], Sequence[Case]],
    spent: int,
    most: int,
    late: Callable[[], bool],
    cost: int = 1,
) -> None:
    """Branches, in place, until `most` is spent, it is too late or nothing is worth branching on.

    `taken` takes cases out of the heaps, with the functional that each belongs to; `halved` bounds
    both halves of each, all first halves before all second ones, given the functional of every
    half. A half counts as `cost`; `spent` is what was spent before.
    """
    while spent < most and not late():
        owners, parents = taken()
        if not parents:
            break
        owner = np.tile(owners, 2)
        made = halved(owner, parents)
        for i, case in zip(owner, made, strict=True):
            heapq.heappush(heaps[i], case)
        spent += len(made) * cost
