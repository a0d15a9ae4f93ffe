"""What a network's bound starts from, and what is told of it: rounded inputs, errors by node."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import small_models

from encoders.contract.presets import EXACT, SEQUENTIAL
from encoders.numbers.enclosure import Interval
from encoders.numbers.formats import BINARY32, round_fraction
from gpu_check.emulator.emulator import emulate
from onnx_import import load
from refine.bounds.network import InputBox, network_bounds
from refine.domain.domain import DomainOptions, read_domain
from refine.proof.proof import input_box

ENDS = ((1.0, 2.0), (0.9, 1.0), (-3.0, 0.1), (0.1, 0.1), (1e-40, 3e-40), (1.5, 1.5), (7.0, 1e6))


def nearest(x: Fraction) -> Fraction:
    """Of float32, for numbers far from overflow."""
    rounded = round_fraction(x, BINARY32)
    assert isinstance(rounded, Fraction)
    return rounded


@pytest.mark.parametrize(("low", "high"), ENDS)
def test_inputs_are_rounded_by_no_more_than_is_charged(
    low: float, high: float, tmp_path: Path
) -> None:
    """The largest distance is that of numbers half way between neighbours, near the larger end."""
    graph = load(small_models.mlp(tmp_path / "net.onnx"))
    options = DomainOptions(inputs=(f"{low!r}..{high!r}",), round_inputs=True)
    domain = read_domain(graph, options, fmt_of=SEQUENTIAL.format_of)
    box = input_box(domain.boxes[0], domain, SEQUENTIAL)
    charged = Fraction(float(box.errors["x"].ravel()[0]))
    a, b = (Fraction(float(v.ravel()[0])) for v in (box.values["x"].lo, box.values["x"].hi))
    assert a <= Fraction(repr(low))
    assert b >= Fraction(repr(high))
    furthest = Fraction(0)
    for size in (a, b):
        spacing = Fraction(float(np.spacing(np.float32(abs(size)))))
        for steps in range(-3, 4):
            middle = nearest(size) + steps * spacing / 2
            for x in (middle, middle - spacing / 2**20, middle + spacing / 2**20):
                if a <= x <= b:
                    furthest = max(furthest, abs(nearest(x) - x))
    assert furthest <= charged
    assert charged <= max(4 * furthest, abs(b) / 2**23, abs(a) / 2**23, Fraction(1, 2**149))
    assert not np.any(input_box(domain.boxes[0], domain, EXACT).errors["x"])


def test_the_error_told_of_a_node_holds_every_run(tmp_path: Path) -> None:
    graph = load(small_models.mlp(tmp_path / "net.onnx", (3, 6, 6, 2)))
    rng = np.random.default_rng(0)
    low = rng.uniform(-1, 1, 3)
    box = InputBox({"x": Interval(low[None], low[None] + 0.5)}, {"x": np.full((1, 3), 1e-3)})
    bounds = network_bounds(graph, box, SEQUENTIAL)
    for node in bounds.nodes:
        assert np.array_equal(node.errors, bounds.maps.errors[node.step.output])
    x = (low + 0.5 * rng.random((50, 3))).astype(np.float32)[:, None]
    moved = (x + 0.9e-3 * rng.choice([-1, 1], x.shape)).astype(np.float32)
    near, exact = emulate(graph, {"x": moved}, SEQUENTIAL), emulate(graph, {"x": x}, SEQUENTIAL)
    assert set(near) == set(exact)
    for name, values in near.items():
        apart = np.abs(values.astype(np.float64) - exact[name])
        assert np.all(apart.max(axis=0) <= 2 * bounds.maps.errors[name])
