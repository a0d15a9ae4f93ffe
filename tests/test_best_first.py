"""The one branch and bound: whatever stops it, its leaves cover what they covered before."""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import pytest

from refine.bounds.best_first import AtOnce, Owners, explored, explored_heaps

Piece = tuple[Fraction, Fraction]  # of a line; its bound is its length
WHOLE = (Fraction(0), Fraction(1))


@dataclass
class Pieces:
    """Pieces longer than `enough`, the longest first."""

    enough: Fraction
    heap: list[tuple[Fraction, Piece]] = field(default_factory=list)

    def take(self) -> Piece | None:
        if not self.heap or -self.heap[0][0] <= self.enough:
            return None
        return heapq.heappop(self.heap)[1]

    def put(self, made: Sequence[Piece]) -> None:
        for piece in made:
            self.restore(piece)

    def restore(self, taken: Piece) -> None:
        heapq.heappush(self.heap, (taken[0] - taken[1], taken))

    @property
    def covered(self) -> Fraction:
        return sum((b - a for _, (a, b) in self.heap), Fraction(0))


def halves(piece: Piece) -> list[Piece]:
    middle = (piece[0] + piece[1]) / 2
    return [(piece[0], middle), (middle, piece[1])]


@dataclass
class Workers:
    """Finishes what was started in any order, some of it never."""

    rng: random.Random
    stuck: int
    running: list[Piece] = field(default_factory=list)

    @property
    def room(self) -> bool:
        return len(self.running) < 5

    @property
    def pending(self) -> bool:
        return bool(self.running)

    def start(self, taken: Piece) -> None:
        self.running.append(taken)

    def finished(self) -> Sequence[Sequence[Piece]]:
        self.rng.shuffle(self.running)
        done, self.running = self.running[self.stuck :], self.running[: self.stuck]
        return [halves(piece) for piece in done]

    def abandoned(self) -> Sequence[Piece]:
        return self.running


@pytest.mark.parametrize("stuck", [0, 2])
@pytest.mark.parametrize("looks", [0, 1, 7, 500])
def test_leaves_cover_everything_whenever_it_is_too_late(stuck: int, looks: int) -> None:
    frontier = Pieces(Fraction(1, 20))
    frontier.restore(WHOLE)
    left = iter(range(looks))
    workers = Workers(random.Random(stuck), stuck)
    explored(frontier, workers, lambda: next(left, None) is None)
    assert frontier.covered == 1
    if looks > 100 and not stuck:
        assert len(frontier.heap) == 32  # the first power of two with pieces that are short enough


def test_one_batch_after_the_other_until_all_is_spent() -> None:
    frontier = Pieces(Fraction(0))
    frontier.restore(WHOLE)
    expansion: AtOnce[Piece, list[Piece]] = AtOnce(halves, price=len, most=9, spent=1)
    explored(frontier, expansion, lambda: False)
    assert (expansion.spent, len(frontier.heap)) == (9, 5)
    assert frontier.covered == 1


def test_leaves_that_cannot_be_halved_stay() -> None:
    frontier = Pieces(Fraction(0))
    frontier.restore(WHOLE)
    narrow = Fraction(1, 4)
    expansion: AtOnce[Piece, list[Piece]] = AtOnce(
        lambda piece: halves(piece) if piece[1] - piece[0] > narrow else None, price=len
    )
    explored(frontier, expansion, lambda: False)
    assert len(frontier.heap) == 4
    assert frontier.covered == 1


def test_cases_of_many_functionals_stay_with_their_own() -> None:
    heaps: list[list[tuple[float, Piece]]] = [[(-1.0, WHOLE)] for _ in range(3)]

    def taken() -> tuple[Owners, list[tuple[float, Piece]]]:
        owners = np.array([0, 2], dtype=np.intp)
        return owners, [heapq.heappop(heaps[i]) for i in owners]

    def halved(owners: Owners, parents: list[tuple[float, Piece]]) -> list[tuple[float, Piece]]:
        assert owners.tolist() == [0, 2, 0, 2]
        every = [halves(piece) for _, piece in parents]
        return [(float(p[0] - p[1]), p) for k in (0, 1) for p in (pair[k] for pair in every)]

    explored_heaps(heaps, taken, halved, spent=3, most=15, late=lambda: False)
    assert [len(heap) for heap in heaps] == [4, 1, 4]
    assert all(sum(b - a for _, (a, b) in heap) == 1 for heap in heaps)
