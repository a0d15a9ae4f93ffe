"""How low can a worst-case bound be? The floor, beside the bound and the worst error found.

    python benchmarks/floor.py [PATTERN ...] [--budget SECONDS] [--models DIR] [--save FILE]
    python benchmarks/floor.py --model MODEL --vnnlib FILE --contract NAME

W(x) is the sum over all roundings of |sensitivity of an output| times half an ulp at x, from one
execution in float64 (`sensitivities`). The floor is the largest W that projected gradient ascent
finds in the domain, over every output element that is loud at the starting points. To first order
there are roundings that make the error W(x), so no method that lets each rounding have its worst
sign can be lower. It shares nothing with the bounds. Where a contract leaves the order open, sums
are added in the louder of two orders, products rounded; nothing is said of sums without products
(they are added from first to last), and subnormal numbers are kept.

The bound is that of `check` within the budget, `found` its worst error found; where climbing has
missed the louder place that was found, the error itself stands for the floor.
"""

from __future__ import annotations

import argparse
import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from measuring import MODELS, earlier, save
from recorded import FloatArray
from rich.console import Console
from rich.table import Table
from sensitivities import executed

from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import PRESETS
from encoders.program import program_of
from onnx_import import load
from onnx_import.graph import Graph
from refine.claims.kinds.accuracy import check
from refine.claims.options import Options
from refine.domain.box import Box
from refine.domain.domain import Domain, DomainOptions, read_domain
from refine.lemmas.cache import default_directory
from refine.results.verdict import Tolerance

ROWS = (
    ("acasxu/ACASXU_run2a_1_1_batch_2000", "acasxu/prop_3"),
    ("acasxu/ACASXU_run2a_1_1_batch_2000", "acasxu/prop_1"),
    ("mnist_fc/mnist-net_256x2", "mnist_fc/prop_0_0.03"),
    ("mnist_fc/mnist-net_256x4", "mnist_fc/prop_0_0.03"),
    ("mnist_fc/mnist-net_256x4", "mnist_fc/prop_1_0.03"),
    ("eran21_sigmoid/ffnnSIGMOID__Point_6x200", "eran21_sigmoid/mnist_spec_idx_1013_eps_0.01500"),
    ("cifar10_resnet/resnet_2b", "cifar10_resnet/prop_0_eps_0.008"),
    ("vit/ibp_3_3_8", "vit/ibp_3_3_8_1140"),
    ("ml4acopf/14_ieee_ml4acopf", "ml4acopf/14_ieee_prop1"),
    ("ml4acopf/14_ieee_ml4acopf-linear-nonresidual", "ml4acopf/14_ieee_prop1"),
    ("ml4acopf/14_ieee_ml4acopf-linear-residual", "ml4acopf/14_ieee_prop1"),
    ("cgan/*", "cgan/*"),
    ("verivital21/Convnet_avgpool", "verivital21/prop_5_0.02"),
    ("verivital21/Convnet_maxpool", "verivital21/prop_5_0.02"),
    ("lsnc/quadrotor2d_state", "lsnc/quadrotor2d_state_0"),
    ("tllverifybench/tllBench_n=2_N=M=16_m=1_instance_1_0", "tllverifybench/property_N=16_0"),
    ("oval21/cifar_base_kw", "oval21/cifar_base_kw-img1598-eps0.0026143790849673205"),
    ("collins_rul_cnn/NN_rul_small_window_20", "collins_rul_cnn/if_then_5levels_w20"),
)
CONTRACTS = ("ieee-any", "sequential-fma", "ort-cpu")
RESTART = 20  # steps after which the search begins anew from the best
BENDS = (0.1, 0.5, 2.0)
COLUMNS = ("network", "domain", "contract", "bound", "floor", "found", "bound/floor", "floor/found")


@dataclass(frozen=True)
class Effort:
    """How long to climb: from the loudest `starts` (None: as many as the network's size lets) of so
    many `batches` of them, so many steps, for so many outputs of each box, and in so many boxes of
    the domain."""

    starts: int | None = None
    batches: int = 32
    steps: int = 60
    outputs: int = 3
    boxes: int = 4

    def points(self, graph: Graph) -> int:
        """How many points to start from."""
        affordable = min(max(2**20 // max(program_of(graph).work, 1), 4), 64)
        return affordable if self.starts is None else self.starts


@dataclass(frozen=True)
class Floor:
    """The largest W found: of which output element, and where (real inputs)."""

    value: float
    output: str
    element: int
    point: Mapping[str, FloatArray]


def floor_of(
    graph: Graph,
    domain: Domain,
    contract: RuntimeContract,
    effort: Effort | None = None,
    seed: int = 0,
) -> Floor:
    """The floor of a graph's error on a domain.

    Raises UnsupportedModel for what has no derivative here: integers computed at run time.
    """
    effort = Effort() if effort is None else effort
    rng = np.random.default_rng(seed)
    found = [_in_box(graph, box, contract, effort, rng, domain) for box in _chosen(domain, effort)]
    return max(found, key=lambda floor: floor.value)


def _chosen(domain: Domain, effort: Effort) -> list[Box]:
    boxes = domain.boxes
    places = np.linspace(0, len(boxes) - 1, min(len(boxes), effort.boxes))
    return [boxes[int(place)] for place in places]


@dataclass(frozen=True)
class _Hill:
    """W of one output element on the points of a box."""

    graph: Graph
    box: Box
    contract: RuntimeContract
    rounded: bool

    def ends(self, name: str) -> tuple[FloatArray, FloatArray]:
        box = self.box
        return (
            (box.real_lo[name], box.real_hi[name]) if self.rounded else (box.lo[name], box.hi[name])
        )

    def drawn(self, count: int, rng: np.random.Generator) -> dict[str, FloatArray]:
        """The middle, and points as the search for errors draws them: uniform over reals and over
        floats, and corners, some of whose elements are next to zero."""
        points = self.box.sample(rng, count)
        for name, value in points.items():
            lo, hi = self.ends(name)
            value[0] = lo + 0.5 * (hi - lo)
        return self.settled(points)

    def settled(self, points: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """The same within the box, as numbers that the runtime receives where it has no others."""
        if self.rounded:
            return {n: np.clip(v, *self.ends(n)) for n, v in points.items()}
        return {n: self.box.nearest(n, v) for n, v in points.items()}


def _in_box(
    graph: Graph,
    box: Box,
    contract: RuntimeContract,
    effort: Effort,
    rng: np.random.Generator,
    domain: Domain,
) -> Floor:
    hill = _Hill(graph, box, contract, domain.round_inputs)
    count = effort.points(graph)
    batches = [hill.drawn(count, rng) for _ in range(effort.batches)]
    heights: dict[tuple[str, int], list[FloatArray]] = {}
    for points in batches:
        made = executed(graph, points, contract, hill.rounded)
        with np.errstate(all="ignore"):
            for output in made.outputs:
                for element in _some(made.outputs[output].value[0].size):
                    found = _finite(made.loudness(output, element))
                    heights.setdefault((output, element), []).append(found)
    drawn = {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}
    seen = {place: np.concatenate(found) for place, found in heights.items()}
    if not seen:
        return Floor(0.0, graph.outputs[0], 0, {n: v[0] for n, v in drawn.items()})
    loud = sorted(seen, key=lambda place: -float(np.max(seen[place])))
    climbed = []
    for output, element in loud[: effort.outputs]:
        top = np.argsort(-seen[output, element])[:count]
        starts = {name: v[top] for name, v in drawn.items()}
        climbed.append(_climbed(hill, starts, output, element, effort.steps, rng))
    return max(climbed, key=lambda floor: floor.value)


def _some(size: int) -> Iterator[int]:
    """Every element, or 64 of them evenly."""
    yield from sorted({int(i) for i in np.linspace(0, size - 1, min(size, 64))})


def _climbed(
    hill: _Hill,
    points: Mapping[str, FloatArray],
    output: str,
    element: int,
    steps: int,
    rng: np.random.Generator,
) -> Floor:
    """Every point goes its own way along the signs of its derivatives, as far as its last success
    lets it hope, every second time for a random part of the inputs only; it stays where it does not
    get higher."""
    names = tuple(points)
    count = len(points[names[0]])
    sizes = np.geomspace(0.5, 0.02, count)
    held, heights = dict(points), np.full(count, -np.inf)
    slopes = {name: np.zeros_like(v) for name, v in points.items()}
    for k in range(steps + 1):
        bend = BENDS[k % len(BENDS)]
        made = executed(hill.graph, points, hill.contract, hill.rounded, bend)
        with np.errstate(all="ignore"):
            found, rising = made.ascent(output, element)
        higher = _finite(found) > heights
        heights = np.where(higher, _finite(found), heights)
        sizes = np.clip(np.where(higher, 1.5, 0.6) * sizes, 1e-3, 1.0)
        for name in names:
            kept = higher.reshape(-1, *(1,) * (held[name].ndim - 1))
            held[name] = np.where(kept, made.inputs[name].value, held[name])
            slopes[name] = np.where(kept, np.nan_to_num(rising[name]), slopes[name])
        if k % RESTART == RESTART - 1:  # the lower half goes on from the highest point
            sizes = np.geomspace(0.5, 0.02, count)
            low = np.argsort(heights)[: count // 2]
            top = int(np.argmax(heights))
            heights[low] = heights[top]
            for name in names:
                held[name][low] = held[name][top]
                slopes[name][low] = slopes[name][top]
        points = {}
        for name in names:
            lo, hi = hill.ends(name)
            share = rng.random(held[name].shape) < (1.0 if k % 2 == 0 else rng.random())
            long = sizes.reshape(-1, *(1,) * lo.ndim) * (hi - lo)
            far = long * np.sign(slopes[name])
            points[name] = held[name] + np.where(share, far, 0.0)
        points = hill.settled(points)
    top = int(np.argmax(heights))
    return Floor(float(heights[top]), output, element, {n: v[top] for n, v in held.items()})


def _finite(heights: FloatArray) -> FloatArray:
    """W, and −1 where the network has no finite value."""
    return np.where(np.isfinite(heights), heights, -1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("patterns", nargs="*", default=["*"], help="of networks, as 'acasxu/*'")
    parser.add_argument("--contract", action="append", choices=sorted(PRESETS), dest="contracts")
    parser.add_argument("--budget", type=float, default=0.0, help="seconds for each bound")
    parser.add_argument("--starts", type=int)
    parser.add_argument("--steps", type=int, default=Effort.steps)
    parser.add_argument("--model", type=Path, help="one model instead of the table's")
    parser.add_argument("--vnnlib", help="its domain")
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    effort = Effort(starts=given.starts, steps=given.steps)
    rows = [] if given.save is None else list(earlier(given.save, *COLUMNS[:3]).values())
    table = Table(title=f"bounds after {given.budget:g} s, and their floor")
    for title in COLUMNS:
        table.add_column(title)
    for network, model, vnnlib in _asked(given):
        for name in given.contracts or CONTRACTS:
            row = measured(model, vnnlib, PRESETS[name], effort, given.budget)
            row = {"network": network, "domain": vnnlib.stem, "contract": name, **row}
            rows = [r for r in rows if any(r[key] != row[key] for key in COLUMNS[:3])] + [row]
            print(*_shown(row), sep="  ", flush=True)
            table.add_row(*_shown(row))
            if given.save is not None:
                save(given.save, rows, budget=given.budget)
    Console(width=140).print(table)


def _asked(given: argparse.Namespace) -> Iterator[tuple[str, Path, Path]]:
    if given.model is not None:
        yield given.model.stem, given.model, Path(given.vnnlib)
        return
    for network, domain in ROWS:
        if not any(fnmatch.fnmatch(network, pattern) for pattern in given.patterns):
            continue
        models = sorted(given.models.glob(f"{network}.onnx"))[:1]
        domains = sorted(given.models.glob(f"{domain}.vnnlib"))[:1]
        for model, vnnlib in zip(models, domains, strict=False):
            yield str(model.relative_to(given.models).with_suffix("")), model, vnnlib


def measured(
    model: Path, vnnlib: Path, contract: RuntimeContract, effort: Effort, budget: float
) -> dict[str, float | str | bool]:
    """One row: the floor, the bound within the budget and the worst error found."""
    graph = load(model)
    domain = read_domain(graph, DomainOptions(vnnlib=str(vnnlib)), contract.format_of)
    floor = floor_of(graph, domain, contract, effort)
    options = Options(None, default_directory(), budget=budget, workers=1)
    result = check(graph, domain, contract, Tolerance(), options)
    found = result.worst_found or 0.0
    least = max(floor.value, found)
    return {
        "bound": result.bound,
        "floor": least,
        "climbed": floor.value,
        "found": found,
        "bound/floor": result.bound / least if least else float("inf"),
        "floor/found": least / found if found else float("inf"),
        "output": floor.output,
        "element": floor.element,
        "budget": budget,
        "seconds": result.seconds,
    }


def _shown(row: Mapping[str, object]) -> list[str]:
    cells = (row[title] for title in COLUMNS)
    return [f"{cell:.3g}" if isinstance(cell, float) else Path(str(cell)).name for cell in cells]


if __name__ == "__main__":
    main()
