"""How wrong a step of training may be where sums are added in any order: what no bound undercuts.

    python benchmarks/loud_orders.py [--save FILE]

Of the networks and points of `training_steps`, and of the last layer's weights after a step of SGD:
the floor, Σ sensitivity · half an ulp over all roundings of the forward pass, every sum added in
the louder of two orders; and an execution in float32 that the contract allows, whose error every
sound bound exceeds. Its sums are added so that their errors move one weight one way: the largest
terms first, up to a high power of 2, then alone or in pairs those that are rounded that way there,
for as long as the partial sum stays as large.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from measuring import save
from rich.console import Console
from rich.table import Table
from training_steps import POINTS, RATE, SIZES, forward, initial, points_of, softmax, trained

Numbers: TypeAlias = npt.NDArray[Any]
LAYERS = range(1, len(SIZES))
ALONE = 0.3  # of an ulp: terms are added alone whose rounding goes so far the wanted way
SMALLEST = 1e-6


def half_ulp(values: Numbers) -> Numbers:
    """Half the spacing of float32 at these numbers, 0 at 0."""
    sizes = np.abs(values)
    exponents = np.floor(np.log2(np.where(sizes > 0, sizes, 1.0)))
    return np.asarray(np.where(sizes > 0, 2.0 ** (exponents - 24), 0.0))


def loudest(terms: Numbers) -> float:
    """Roundings of products and of a sum that first rises as far as it can, then falls."""
    most = 0.0
    for sign in (1, -1):
        up, down = np.sort(terms[sign * terms > 0]), np.sort(terms[sign * terms < 0])
        order = np.concatenate([up[::-sign], down[::-sign]])
        most = max(most, float(np.sum(half_ulp(np.cumsum(order)[1:]))))
    return most + float(np.sum(half_ulp(terms)))


class Step:
    """The last weights after a step over the reals, and how the sums of each layer move them."""

    def __init__(self, held: Mapping[str, Numbers], x: Numbers, target: Numbers) -> None:
        self.w = {i: held[f"W{i}"].astype(np.float64) for i in LAYERS}
        self.b = {i: held[f"b{i}"].astype(np.float64) for i in LAYERS}
        wide = {
            **{f"W{i}": v for i, v in self.w.items()},
            **{f"b{i}": v for i, v in self.b.items()},
        }
        *self.read, scores = (v[0] for v in forward(wide, x[None].astype(np.float64)))
        self.shares = softmax(scores[None])[0]
        self.off = self.shares - target
        self.next = self.w[3] - RATE * np.outer(self.read[2], self.off)
        open1, open2 = (np.asarray(v > 0, np.float64) for v in self.read[1:])
        jacobian = np.diag(self.shares) - np.outer(self.shares, self.shares)
        second = open2[:, None] * self.w[3] @ jacobian
        onward = open1[:, None] * self.w[2] * open2
        self.scores_by = {3: jacobian, 2: second, 1: open1[:, None] * self.w[2] @ second}
        self.last_by = {2: np.diag(open2), 1: onward}

    def sums(self, layer: int, read: Numbers) -> Numbers:
        """What each sum of a layer adds, a column each."""
        return np.vstack([read[:, None] * self.w[layer], self.b[layer]])

    def slopes(self, layer: int, column: int) -> Numbers:
        """How each new weight of a column moves with each sum of a layer, up to sign and rate."""
        found = np.outer(self.read[2], self.scores_by[layer][:, column])
        if layer in self.last_by:
            found += self.last_by[layer].T * self.off[column]
        return found

    def floor(self) -> tuple[float, int, int]:
        """The largest one of all new weights, and which it is of."""
        total: Numbers = np.zeros((SIZES[-2], SIZES[-1]))
        for layer in LAYERS:
            terms = self.sums(layer, self.read[layer - 1])
            errors = np.array([loudest(column) for column in terms.T])
            for c in range(SIZES[-1]):
                total[:, c] += RATE * np.abs(self.slopes(layer, c)) @ errors
        row, column = divmod(int(np.argmax(total)), SIZES[-1])
        return float(np.max(total)), row, column

    def error(self, row: int, column: int, target: Numbers) -> float:
        """Of an execution that is loud for this new weight."""
        read = self.read[0].astype(np.float32)
        for layer in LAYERS:
            terms = self.sums(layer, read).astype(np.float32)  # each product rounded
            ways = np.sign(self.slopes(layer, column)[row])
            read = np.array([added(t, way) for t, way in zip(terms.T, ways, strict=True)])
            if layer < len(SIZES) - 1:
                last = read = np.maximum(read, np.float32(0))
        off = softmax(read[None])[0] - target
        made = self.w[3].astype(np.float32) - np.float32(RATE) * np.outer(last, off)
        assert made.dtype == np.float32
        return float(abs(made[row, column] - self.next[row, column]))


def added(terms: Numbers, way: float) -> np.float32:
    """The sum in float32 whose error goes furthest that way, of the orders that are tried."""
    terms = terms[terms != 0]
    best = np.sum(terms, dtype=np.float32)
    for side in (1, -1):
        turned = np.float32(side) * terms
        height = float(np.sum(turned[turned > 0], dtype=np.float64))
        if not way or not height:
            continue
        top = 2.0 ** np.floor(np.log2(height))
        for least in (top, top / 2):
            for parts in (turned, paired(turned, way * side, least * 2.0**-23)):
                found = np.float32(side) * climbed(parts, way * side, least)
                best = found if way * (found - best) > 0 else best
    return np.float32(best)


def paired(terms: Numbers, way: float, ulp: float) -> Numbers:
    """The terms that are rounded the wanted way beside an ulp, and sums of two of the others,
    which are then."""
    found: list[Numbers] = []
    for side in (1, -1):
        some = terms[side * terms > 0]
        rest = (way * some.astype(np.float64) / ulp) % 1.0
        alone = np.where(rest >= 0.5, 1 - rest, -rest) > ALONE
        found += list(some[alone])
        some, rest = some[~alone], rest[~alone]
        while len(some) > 1:
            partner = 1 + int(np.argmin((rest[0] + rest[1:] - 0.5) % 1.0))
            found.append(some[0] + some[partner])
            some, rest = (np.delete(v, [0, partner]) for v in (some, rest))
        found += list(some)
    return np.array(found, np.float32)


def climbed(terms: Numbers, way: float, least: float) -> np.float32:
    """One order: up to `least` by the largest terms, then whichever is rounded best."""
    up = np.sort(terms[terms > 0])[::-1]
    total, first = np.float32(0), 0
    while first < len(up) and total < least:
        total, first = total + up[first], first + 1
    left = np.concatenate([up[first:], terms[terms < 0]])
    while len(left):
        sums = total + left
        while least > SMALLEST and not np.any(sums >= least):
            least /= 2
        gained = way * (sums.astype(np.float64) - (float(total) + left.astype(np.float64)))
        chosen = int(np.argmax(np.where(sums >= least, gained, -1.0)))
        total, left = sums[chosen], np.delete(left, chosen)
    return np.float32(total)


def measured(kind: str) -> dict[str, object]:
    """The point of a kind of weights at which the floor is higher."""
    rng = np.random.default_rng(0)
    weights = initial(kind, rng)
    if kind == "trained":
        weights = trained(weights, rng)
    points = points_of(weights, rng)
    steps = [Step(weights, p["x"][0], p["target"][0]) for p in points]
    floors = [step.floor() for step in steps]
    high = max(range(POINTS), key=lambda i: floors[i][0])
    floor, row, column = floors[high]
    error = steps[high].error(row, column, points[high]["target"][0])
    return {"weights": kind, "floor": floor, "execution": error}


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given.add_argument("--save", type=Path)
    asked = given.parse_args()
    rows = [measured(kind) for kind in ("he", "trained", "uniform")]
    table = Table(title=f"the last layer's weights after a step at a rate of {RATE}, any order")
    for column in ("weights", "floor", "error of an execution"):
        table.add_column(column)
    for row in rows:
        table.add_row(str(row["weights"]), f"{row['floor']:.2e}", f"{row['execution']:.2e}")
    Console(width=100).print(table)
    if asked.save is not None:
        save(asked.save, rows)


if __name__ == "__main__":
    main()
