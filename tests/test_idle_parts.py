"""Parts of a domain that halving does not help are bounded again, with effort."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_models
from given_radii import off_by

from encoders.arithmetic.exact_fields import Rationals
from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import SEQUENTIAL
from encoders.lemmas.kernel import Radius
from encoders.numbers.enclosure import Interval
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_real
from onnx_import import load
from onnx_import.graph import Graph
from refine.bounds.alpha import Branching
from refine.bounds.network import InputBox, Known, NetworkBounds, network_bounds
from refine.bounds.problem import Network
from refine.process.pool import Here
from refine.proof import input_splitting
from refine.proof.cover import covers
from refine.proof.input_splitting import Split, part_of, split_box


@dataclass(frozen=True)
class Told:
    """A network of whose bounds something else is told than what they are."""

    graph: Graph
    contract: RuntimeContract
    single: bool = True

    def bounds(
        self,
        box: InputBox,
        backward: bool = True,
        tick: Callable[[], None] = lambda: None,
        known: Known | None = None,
        branching: Branching | None = None,
    ) -> NetworkBounds:
        found = network_bounds(self.graph, box, self.contract)
        return self.told(found, box, hard=branching is not None)

    def told(self, found: NetworkBounds, box: InputBox, *, hard: bool) -> NetworkBounds:
        """What is told in place of what was found over a box, `hard`: with effort."""
        raise NotImplementedError


class Stubborn(Told):
    """A network whose bound no halving lowers, but effort does."""

    def told(self, found: NetworkBounds, box: InputBox, *, hard: bool) -> NetworkBounds:
        return replace(found, radii=all_off_by(found, 0.25 if hard else 0.5))


def all_off_by(found: NetworkBounds, size: float) -> dict[str, Radius]:
    return {t: off_by(np.full((1, 2), size)) for t in found.radii}


def whole_box(graph: Graph) -> InputBox:
    (name,) = graph.inputs
    shape = graph.types[name].shape
    x = Interval(np.full(shape, -1.0), np.full(shape, 0.75))
    return InputBox({name: x}, {name: np.zeros(shape)})


def split(problem: Any, seconds: float, enough: float) -> Split:
    whole = part_of(whole_box(problem.graph), problem.bounds(whole_box(problem.graph)))
    return split_box(
        problem,
        whole,
        excess=lambda errors: max(float(np.max(e)) for e in errors.values()),
        enough=enough,
        deadline=time.monotonic() + seconds,
        pool=Here(),
    )


@pytest.fixture
def deep(tmp_path: Path) -> Graph:
    return load(small_models.mlp(tmp_path / "deep.onnx", (3, 12, 12, 12, 2), scale=1.5))


def test_halving_in_vain_ends_in_effort(deep: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_splitting, "_HALVINGS", 2)
    found = split(Stubborn(deep, SEQUENTIAL), 60.0, 0.3)
    assert len(found.parts) == 4
    assert covers(whole_box(deep), found.parts)
    assert all(part.radii["y"].largest == 0.25 for part in found.parts)


def test_parts_bounded_with_effort_hold(deep: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_splitting, "_HALVINGS", 0)
    plain = network_bounds(deep, whole_box(deep), SEQUENTIAL)
    enough = 0.9 * plain.largest
    found = split(Network(deep, SEQUENTIAL), 60.0, enough)
    assert covers(whole_box(deep), found.parts)
    assert max(float(np.max(part.errors["y"])) for part in found.parts) <= enough
    rng = np.random.default_rng(0)
    (name,) = deep.inputs
    for part in found.parts[:6]:
        x = part.box.values[name]
        at = rng.uniform(x.lo, x.hi, (12, *x.lo.shape)).astype(np.float32)
        at = np.clip(at, x.lo, x.hi).astype(np.float32)
        inside = np.all((at >= x.lo) & (at <= x.hi), axis=tuple(range(1, at.ndim)))
        ran = emulate(deep, {name: at}, SEQUENTIAL)["y"].astype(np.float64)
        exact = {name: Rationals().constant(at)[0]}
        real = np.asarray(evaluate_real(deep, exact, Rationals())["y"], dtype=np.float64)
        assert np.all(np.abs(ran - real)[inside] <= part.errors["y"] * (1 + 1e-9))


class Misled(Told):
    """A network whose bound is the width of one element of its input, while another is blamed."""

    def told(self, found: NetworkBounds, box: InputBox, *, hard: bool) -> NetworkBounds:
        ((name, x),) = box.values.items()
        size = float((x.hi - x.lo).reshape(-1)[1])
        blamed = np.array([1.0, 1e-9, 0.0]).reshape(x.shape)
        return replace(found, radii=all_off_by(found, size), influence={name: blamed})


def test_an_element_that_is_blamed_too_little_has_its_turn(deep: Graph) -> None:
    found = split(Misled(deep, SEQUENTIAL, single=False), 60.0, 0.9)
    assert all(float(np.max(e)) <= 0.9 for part in found.parts for e in part.errors.values())
    assert len(found.parts) <= 32
    assert covers(whole_box(deep), found.parts)
