"""Copies that onnxruntime's quantiser makes, in all its forms, beside their originals.

    python benchmarks/quantised.py [PATTERN ...] [--save FILE]

Random networks (dense with Relu and with Tanh, a CNN, one with a sum of branches, a block of a
transformer) are quantised as QDQ, with integer operators and dynamically. At a point and in balls
around it stand the bound on |copy as it runs − original over the reals|, under `ieee-any` and
before the domain is split, and the largest difference that sampling and climbing find on
onnxruntime. Softmax stays in float32 where the copy has integer operators.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
from measuring import save
from quantised_networks import Form, Network, cnn, files, mlp, transformer
from rich.console import Console
from rich.table import Table

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.contract.presets import EXACT, IEEE_ANY
from encoders.numbers.enclosure import Interval
from gpu_check.emulator.exact import evaluate_real
from onnx_import import load
from onnx_import.graph import Graph
from refine.bounds.network import InputBox
from refine.pair.comparison import Comparison, comparison
from refine.pair.pair import pair_of
from refine.results.verdict import Side

RADII = (0.0, 1e-5, 1e-4, 1e-3, 1e-2)
TRIES = 400
NETWORKS: Mapping[str, Callable[[], Network]] = {
    "dense, Relu": partial(mlp, 0),
    "dense, Tanh": partial(mlp, 1, (6, 24, 24, 3), "Tanh"),
    "CNN": partial(cnn, 2),
    "CNN, a sum of branches": partial(cnn, 3, residual=True),
    "transformer block": partial(transformer, 4),
}
KEPT = ["at_probabilities"]  # Softmax, whose form in integers is not read
Points = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Pair:
    """An original, what bounds its copy, and the copy as it runs."""

    original: Graph
    problem: Comparison
    session: onnxruntime.InferenceSession

    def apart(self, x: Points) -> float:
        """The largest difference of an output from the original over the reals."""
        run = np.asarray(self.session.run(None, {"x": x})[0], np.float64)
        field = ApproximateReals()
        (real,) = evaluate_real(self.original, {"x": field.constant(x)}, field).values()
        return float(np.max(np.abs(run - np.asarray(real[0], np.float64))))

    def found(self, centre: Points, radius: float) -> float:
        """By sampling, and by climbing from the best so far."""
        most, best = self.apart(centre), centre
        if not radius:
            return most
        rng = np.random.default_rng(17)
        lo, hi = centre - np.float32(radius), centre + np.float32(radius)
        for i in range(TRIES):
            if i % 4 == 0:
                at = centre + radius * rng.uniform(-1, 1, centre.shape)
            else:
                moved = rng.random(centre.shape) < rng.choice([0.05, 0.2, 0.5])
                at = np.where(moved, centre + radius * rng.choice([-1, 0, 1], centre.shape), best)
            x: Points = np.clip(at, lo, hi).astype(np.float32)
            here = self.apart(x)
            if here > most:
                most, best = here, x
        return most


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
        save(given.save, rows, tries=TRIES, contract=IEEE_ANY.name)


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
    original = load(source)
    problem = comparison(pair_of(Side(original, EXACT), Side(load(target), IEEE_ANY)))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return Pair(original, problem, onnxruntime.InferenceSession(os.fspath(target), options))


if __name__ == "__main__":
    main()
