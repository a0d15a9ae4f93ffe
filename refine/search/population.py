"""Points that a search improves, with their scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from refine.search.evaluation import Points, Scores


@dataclass(frozen=True)
class Climbs:
    """Points being improved, each on its own, and their scores."""

    points: Points
    scores: Scores

    def __len__(self) -> int:
        return len(self.scores.excess)

    def best(self, n: int) -> Climbs:
        """The n climbs with the largest excess, largest first."""
        return self.at(np.argsort(-self.scores.excess, kind="stable")[:n])

    def at(self, rows: npt.ArrayLike) -> Climbs:
        """The climbs at these places, in this order."""
        rows = np.atleast_1d(rows)
        scores = Scores(self.scores.excess[rows], self.scores.place[rows])
        return Climbs({name: v[rows] for name, v in self.points.items()}, scores)

    def joined(self, other: Climbs) -> Climbs:
        """These climbs and then others."""
        points = {n: np.concatenate([v, other.points[n]]) for n, v in self.points.items()}
        excess = np.concatenate([self.scores.excess, other.scores.excess])
        place = np.concatenate([self.scores.place, other.scores.place])
        return Climbs(points, Scores(excess, place))

    @property
    def broken(self) -> bool:
        """Is there a value that is no number? There is nothing worse to find."""
        return bool(np.any(np.isinf(self.scores.excess)))
