"""What is stored of numbers in given ranges, attacked with ties, ends, zeros and subnormals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from operator_checks import example, graph_of

from encoders.contract.presets import IEEE_ANY
from encoders.numbers.enclosure import Interval
from encoders.program import program_of
from encoders.quantizing import Grid, Meaning
from encoders.registry import operators
from encoders.site import Site
from onnx_import.graph import DType, Node, TensorType

Array = npt.NDArray[Any]
GRIDS = [(0.1, 0, np.uint8), (0.0078125, 128, np.uint8), (0.5, -3, np.int8), (1e-30, 255, np.uint8)]


def single(x: Array) -> Array:
    return np.asarray(x, np.float32)


def inputs(scale: float, seed: int) -> Iterator[tuple[Interval, list[Array]]]:
    """Ranges of eight numbers, and numbers in them: at ends, at ties and around these."""
    rng = np.random.default_rng(seed)
    for trial in range(80):
        middle = single(rng.normal(0, rng.choice([1.0, 30.0, 300.0]), 8) * scale)
        if trial % 3 == 0:
            middle = single((rng.integers(-300, 300, 8) + 0.5) * scale)
        if trial % 7 == 0:
            middle = single(np.where(rng.random(8) < 0.5, 0.0, np.abs(middle)))
        if trial % 11 == 0:
            middle = single(np.zeros(8) + rng.choice([0.0, -2.5, 1e-45, 3e-39]) * scale)
        width = single(np.abs(middle) * rng.choice([0.0, 1e-7, 1e-3]) + rng.choice([0.0, scale]))
        lo, hi = single(middle - width), single(middle + width)
        x = Interval(lo.astype(np.float64), hi.astype(np.float64))
        points = [lo, hi, single(np.clip(middle, lo, hi))]
        points += [single(np.clip(rng.uniform(lo, hi), lo, hi)) for _ in range(3)]
        yield x, points


def meaning_of(
    op: str, constants: dict[str, Array], shape: tuple[int, ...]
) -> tuple[Site, Meaning]:
    case = example(op, " ".join(["x", *constants]), shape, constants=constants)
    graph = graph_of(case)[0]
    (step,) = (s for s in program_of(graph).steps if s.node.op == op)
    meaning = step.operator.meant(step.site)
    assert meaning is not None
    return step.site, meaning


@pytest.mark.parametrize(("scale", "zero", "dtype"), GRIDS)
def test_what_is_stored_is_reached_and_near(scale: float, zero: int, dtype: Any) -> None:
    constants = {"s": single(np.array(scale)), "z": np.array(zero, dtype)}
    site, meaning = meaning_of("QuantizeLinear", constants, (8,))
    grid, info = meaning.written, np.iinfo(dtype)
    assert grid is not None
    assert meaning.storing is not None
    for x, points in inputs(scale, 3):
        stored = meaning.storing(site, [x], IEEE_ANY)
        reached, noise = stored.reached(grid, x), stored.noise(grid).bound
        slopes = [grid.clamped(x, steep) for steep in (True, False)]
        for point in points:
            with np.errstate(all="ignore"):
                q = np.clip(np.rint(point / constants["s"]) + zero, info.min, info.max)
            assert np.all((q >= reached.lo) & (q <= reached.hi))
            exact = point.astype(np.float64) / float(constants["s"]) + zero
            assert np.all(np.abs(q - np.clip(exact, info.min, info.max)) <= noise + 1e-9)
            low, high = ((v - zero) * float(constants["s"]) for v in (info.min, info.max))
            clamped = np.clip(point.astype(np.float64), low, high)
            for slope, rest in slopes:
                left = clamped - slope * point.astype(np.float64)
                off = 1e-12 * np.abs(point).astype(np.float64)
                assert np.all((left >= rest.lo - off) & (left <= rest.hi + off))


def test_a_grid_of_its_own_reaches_what_is_computed_on_it() -> None:
    shape = TensorType(DType.FLOAT32, (8,))
    weights = np.arange(-8, 8, dtype=np.int8).reshape(8, 2)
    kinds = (shape, TensorType(DType.INT8, (8, 2)), TensorType(DType.FLOAT32, ()))
    node = Node("n", "DynamicQuantizeMatMul", ("x", "w", "s"), ("y",), {}, 17)
    constants = (None, weights, np.array(0.5, np.float32))
    site = Site(node, kinds, (TensorType(DType.FLOAT32, (2,)),), constants)
    meaning = operators()["DynamicQuantizeMatMul"].meant(site)
    assert meaning is not None
    assert meaning.own is not None
    known = 0
    for x, points in inputs(1.0, 5):
        reached = meaning.own.reached(site, x, IEEE_ANY)
        noise = meaning.own.noise(site, x, IEEE_ANY).bound
        known += int(np.all(np.isfinite(reached.lo)))
        for point in points:
            high, low = np.maximum(point.max(), 0), np.minimum(point.min(), 0)
            scale = np.float32(1) if high == low else single((high - low) / np.float32(255))
            if scale == 0:  # the range is subnormal
                continue
            zero = np.clip(np.rint(single(-low / scale)), 0, 255)
            q = np.clip(np.rint(single(point / scale)) + zero, 0, 255)
            number = (q - zero).astype(np.float64) * float(scale)
            assert np.all((number >= reached.lo) & (number <= reached.hi))
            assert np.all(np.abs(number - point.astype(np.float64)) <= noise)
    assert known > 20


def test_grids_of_equal_steps_alone_are_alike() -> None:
    one, zero = np.array(0.5), np.array(3.0)
    grid = Grid(one, zero, 0.0, 255.0)
    assert grid.like(Grid(np.full((2, 1), 0.5), zero, 0.0, 255.0))
    assert not grid.like(Grid(one, zero + 1, 0.0, 255.0))
    assert not grid.like(Grid(np.array([0.5, 0.25]), zero, 0.0, 255.0))
