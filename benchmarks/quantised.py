"""Copies that onnxruntime's quantiser makes, in all its forms, beside their originals.

    python benchmarks/quantised.py [PATTERN ...] [--save FILE]

Random networks (dense with Relu and with Tanh, a CNN, one with a sum of branches, a block of a
transformer) are quantised as QDQ, with integer operators and dynamically. At a point and in balls
around it stand the bound on |copy as it runs − original over the reals|, under `ieee-any` and
before the domain is split, and the largest difference that sampling, climbing and moves to where
integers change (`refine.search.grid_steps`) find on onnxruntime. Softmax stays in float32 where the
copy has integer operators.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from measuring import save
from quantised_networks import (
    KEPT,
    Beside,
    Form,
    Network,
    beside,
    cnn,
    files,
    mlp,
    transformer,
)
from rich.console import Console
from rich.table import Table

from encoders.contract.presets import EXACT, IEEE_ANY
from encoders.numbers.enclosure import Interval
from encoders.numbers.formats import BINARY32
from onnx_import import load
from refine.bounds.network import InputBox
from refine.claims.pair_quarry import pair_quarry
from refine.domain.box import Box
from refine.pair.comparison import Comparison, comparison
from refine.pair.pair import Pair as Both
from refine.pair.pair import pair_of
from refine.results.verdict import Side, Tolerance
from refine.search.evaluation import Hunt
from refine.search.grid_steps import climbed

RADII = (0.0, 1e-5, 1e-4, 1e-3, 1e-2)
TRIES, STARTS, CLIMBS = 1000, 4, 6000
NETWORKS: Mapping[str, Callable[[], Network]] = {
    "dense, Relu": partial(mlp, 0),
    "dense, Tanh": partial(mlp, 1, (6, 24, 24, 3), "Tanh"),
    "CNN": partial(cnn, 2),
    "CNN, a sum of branches": partial(cnn, 3, residual=True),
    "transformer block": partial(transformer, 4),
}
Points = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Pair:
    """An original and its copy, and what bounds their difference."""

    sides: Beside
    problem: Comparison
    both: Both

    def found(self, centre: Points, radius: float) -> float:
        """By sampling, and by climbing on one output from each of the best samples."""
        most = self.sides.apart(centre)
        if not radius:
            return most
        rng = np.random.default_rng(17)
        ball = centre - np.float32(radius), centre + np.float32(radius)
        samples = [_moved(rng, centre, ball, share=1.0) for _ in range(TRIES)]
        samples.sort(key=lambda x: -float(np.max(np.abs(self.sides.about(x)))))
        for start in samples[:STARTS]:
            best, there = start, self.sides.about(start)
            place = int(np.argmax(np.abs(there)))
            for _ in range(CLIMBS):
                x = _moved(rng, best, ball, share=rng.choice([0.0, 0.03, 0.1, 0.3]))
                here = self.sides.about(x)
                if here[place] * np.sign(there[place]) >= abs(there[place]):
                    best, there = x, here
            most = max(most, self.sides.apart(best))
        for candidate in climbed(self._hunt(ball), 17, lambda: False):
            most = max(most, self.sides.apart(candidate.inputs["x"].astype(np.float32)))
        return most

    def _hunt(self, ball: tuple[Points, Points]) -> Hunt:
        lo, hi = ({"x": end.astype(np.float64)} for end in ball)
        box = Box(lo, hi, lo, hi, {"x": BINARY32})
        quarry = pair_quarry(self.both)
        assert quarry is not None
        return Hunt(self.both.impl.graph, box, IEEE_ANY, Tolerance(), quarry.references[0])


def _moved(
    rng: np.random.Generator, x: Points, ball: tuple[Points, Points], *, share: float
) -> Points:
    """A point of the ball that differs from x in about a share of its elements, half of which
    are at an end."""
    at = np.where(rng.random(x.shape) < 0.5, rng.random(x.shape), rng.integers(0, 2, x.shape))
    there = ball[0] + at * (ball[1] - ball[0])
    some = rng.random(x.shape) < share
    some.reshape(-1)[rng.integers(some.size)] = True
    moved: Points = np.clip(np.where(some, there, x).astype(np.float32), *ball)
    return moved


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("patterns", nargs="*", default=["*"], help="of names of networks")
    parser.add_argument("--save", type=Path, help="keep the table as JSON")
    given = parser.parse_args()
    rows = []
    table = Table("network", "form", "radius", "bound", "found", "ratio", "seconds")
    for name, make in NETWORKS.items():
        if not any(fnmatch(name, p) for p in given.patterns):
            continue
        for form in Form:
            for row in measured(make(), form):
                rows.append({"network": name, "form": form.value, **row})
                shown = (f"{row[k]:.4g}" for k in ("radius", "bound", "found", "ratio", "seconds"))
                table.add_row(name, form.value, *shown)
    Console().print(table)
    if given.save:
        save(given.save, rows, tries=TRIES, climbs=CLIMBS, contract=IEEE_ANY.name)


def measured(net: Network, form: Form) -> Iterator[dict[str, float]]:
    """A row for each radius."""
    with tempfile.TemporaryDirectory() as folder:
        kept = {"nodes_to_exclude": KEPT} if form is Form.OPERATORS else {}
        source, target = files(Path(folder), "net", net, form, **kept)
        pair = _pair(source, target)
        centre = np.random.default_rng(9).uniform(-0.9, 0.9, net.shape).astype(np.float32)
        for radius in RADII:
            start = time.process_time()
            lo, hi = centre - np.float32(radius), centre + np.float32(radius)
            x = Interval(lo.astype(np.float64), hi.astype(np.float64))
            bound = pair.problem.bounds(InputBox({"x": x}, {"x": np.zeros(net.shape)})).largest
            seconds = time.process_time() - start
            found = pair.found(centre, radius)
            assert found <= bound, f"{found} was found beyond the bound {bound}"
            yield {
                "radius": radius,
                "bound": bound,
                "found": found,
                "ratio": bound / found,
                "seconds": seconds,
            }


def _pair(source: Path, target: Path) -> Pair:
    sides = beside(source, target)
    both = pair_of(Side(sides.original, EXACT), Side(load(target), IEEE_ANY))
    return Pair(sides, comparison(both), both)


if __name__ == "__main__":
    main()
