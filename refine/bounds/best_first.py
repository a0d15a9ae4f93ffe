"""The one branch and bound: leaves that together cover everything, the worst branched on first.

What a leaf is, which are branched on next and how they are bounded is the caller's: phases of
hidden elements (`refine.bounds.relu_splitting`), slopes of secants
(`refine.bounds.cases.secant_branching`), parts of the input box (`refine.proof.input_splitting`),
boxes of scalars (`refine.scalar.branch_and_bound`). A frontier keeps the leaves; an expansion
bounds the halves of those that are taken out, at once, in arrays or in worker processes.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

Owners = npt.NDArray[np.intp]
Case = TypeVar("Case", bound=Any)  # ordered: the largest bound comes first
Taken = TypeVar("Taken")
Made = TypeVar("Made")
Takes = TypeVar("Takes", covariant=True)
Gets = TypeVar("Gets", contravariant=True)


class Frontier(Protocol[Taken, Gets]):
    """Leaves that are not expanded yet."""

    def take(self) -> Taken | None:
        """The leaves to branch on next, taken out; None where none is worth it."""

    def put(self, made: Gets) -> None:
        """What leaves that were taken were branched into, bounded."""

    def restore(self, taken: Taken) -> None:
        """Leaves that were taken and not branched on."""


class Expansion(Protocol[Taken, Takes]):
    """Bounds the halves of leaves. What is started is finished in any order, or abandoned."""

    @property
    def room(self) -> bool:
        """Can more be started now?"""

    @property
    def pending(self) -> bool:
        """Is anything under way?"""

    def start(self, taken: Taken) -> None: ...

    def finished(self) -> Sequence[Takes]:
        """The halves of leaves that are all bounded by now; waits a little where there are none."""

    def abandoned(self) -> Sequence[Taken]:
        """Leaves that were started and not finished, which will not be any more."""


def explored(
    frontier: Frontier[Taken, Made], expansion: Expansion[Taken, Made], late: Callable[[], bool]
) -> None:
    """Branches, in place, until it is too late, the expansion takes no more, or nothing is worth
    branching on. The leaves of the frontier then cover what they covered before."""
    while True:
        while expansion.room and not late() and (taken := frontier.take()) is not None:
            expansion.start(taken)
        if not expansion.pending:
            break
        done = expansion.finished()
        for made in done:
            frontier.put(made)
        if not done and late():
            break
    for taken in expansion.abandoned():
        frontier.restore(taken)


@dataclass
class AtOnce(Generic[Taken, Made]):
    """Expands one batch after the other, until `most` is spent.

    `halved` gives what a batch is branched into, None where it cannot be; `price` is what that
    costs, and `spent` what was spent before.
    """

    halved: Callable[[Taken], Made | None]
    price: Callable[[Made], int]
    most: float = math.inf
    spent: int = 0
    _made: list[Made] = field(default_factory=list)
    _left: list[Taken] = field(default_factory=list)

    @property
    def room(self) -> bool:
        return not self._made and not self._left and self.spent < self.most

    @property
    def pending(self) -> bool:
        return bool(self._made)

    def start(self, taken: Taken) -> None:
        made = self.halved(taken)
        if made is None:
            self._left.append(taken)
            return
        self._made.append(made)
        self.spent += self.price(made)

    def finished(self) -> Sequence[Made]:
        made, self._made = self._made, []
        return made

    def abandoned(self) -> Sequence[Taken]:
        return self._left


@dataclass(frozen=True)
class Heaps(Generic[Case]):
    """The cases of many functionals, a heap for each, whose bound is that of its largest case.

    `taken` takes cases out of the heaps, with the functional that each belongs to.
    """

    heaps: Sequence[list[Case]]
    taken: Callable[[], tuple[Owners, list[Case]]]

    def take(self) -> tuple[Owners, list[Case]] | None:
        owners, cases = self.taken()
        return (owners, cases) if cases else None

    def put(self, made: tuple[Owners, list[Case]]) -> None:
        for owner, case in zip(*made, strict=True):
            heapq.heappush(self.heaps[owner], case)

    restore = put


def explored_heaps(
    heaps: Sequence[list[Case]],
    taken: Callable[[], tuple[Owners, list[Case]]],
    halved: Callable[[Owners, list[Case]], list[Case]],
    *,
    spent: int,
    most: int,
    late: Callable[[], bool],
    cost: int = 1,
) -> None:
    """Branches on cases of many functionals at once until `most` is spent.

    `halved` bounds both halves of each case, all first halves before all second ones, given the
    functional of every half. A half counts as `cost`; `spent` is what was spent before.
    """

    def expanded(batch: tuple[Owners, list[Case]]) -> tuple[Owners, list[Case]]:
        owners, parents = batch
        owner = np.tile(owners, 2)
        return owner, halved(owner, parents)

    expansion: AtOnce[tuple[Owners, list[Case]], tuple[Owners, list[Case]]] = AtOnce(
        expanded, lambda made: len(made[1]) * cost, most, spent
    )
    explored(Heaps(heaps, taken), expansion, late)
