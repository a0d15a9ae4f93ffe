"""What a box costs in a batch, beside one box alone in the same run: CPU time of each.

    python benchmarks/many_boxes.py [NETWORK PROPERTY] [--sizes 1 16 128] [--width 0.05]

Margins of a property over random boxes inside its domain, `--width` of it wide, starting from what
is known over the whole; without other files those of ACAS Xu 2_1 and property 3.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from measuring import MODELS

from encoders.contract.presets import IEEE_ANY
from encoders.numbers.enclosure import Interval
from onnx_import import load
from refine.bounds.network import InputBox, Known
from refine.bounds.properties.margins import Margins
from refine.domain.domain import DomainOptions, read_domain, tensors_of
from refine.domain.properties import read_property
from refine.proof.proof import input_box

ACAS = MODELS / "acasxu"
REPEATS = 5


def inside(whole: InputBox, width: float, rng: np.random.Generator) -> InputBox:
    values = {}
    for name, x in whole.values.items():
        half = 0.5 * width * (x.hi - x.lo)
        middle = rng.uniform(x.lo + half, x.hi - half)
        values[name] = Interval(np.maximum(middle - half, x.lo), np.minimum(middle + half, x.hi))
    return InputBox(values, whole.errors)


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds, the least of a few."""
    found = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--sizes", nargs="+", type=int, default=[1, 16, 64, 128])
    parser.add_argument("--width", type=float, default=0.05)
    given = parser.parse_args()
    files = given.files or [ACAS / "ACASXU_run2a_2_1_batch_2000.onnx", ACAS / "prop_3.vnnlib"]
    graph = load(files[0])
    domain = read_domain(graph, DomainOptions(vnnlib=files[1]), IEEE_ANY.format_of)
    problem = Margins(graph, IEEE_ANY, read_property(files[1], tensors_of(graph)))
    whole = input_box(domain.boxes[0], domain, IEEE_ANY)
    bounds = problem.bounds(whole)
    known = Known(dict(bounds.maps.values), dict(bounds.maps.radii))
    rng, batches = np.random.default_rng(0), problem.batches
    boxes = [inside(whole, given.width, rng) for _ in range(max(given.sizes))]
    alone = seconds(lambda: problem.bounds(boxes[0], known=known))
    print(f"one box alone: {1e3 * alone:.1f} ms")
    if batches is None:
        print("its boxes are bounded one by one")
        return
    for size in given.sizes:
        given_ranges: list[dict[str, Interval]] = [{} for _ in range(size)]
        each = seconds(partial(batches.bounded, boxes[:size], known, given_ranges)) / size
        print(f"in a batch of {size}: {1e3 * each:.2f} ms a box")


if __name__ == "__main__":
    main()
