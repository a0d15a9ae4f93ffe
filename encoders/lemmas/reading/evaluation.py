"""A lemma evaluated on numbers: are its hypotheses met, what is its radius, what is kept of it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np

from encoders.lemmas.application import Application
from encoders.lemmas.lemma import Lemma, RangeLemma
from encoders.lemmas.reading.arrays import End, Frame, Reading, Test
from encoders.lemmas.reading.exact import Exact
from encoders.lemmas.reading.outward import Truth, Value, all_of, rounded
from encoders.lemmas.terms import Formula, Parameter, Role
from encoders.numbers.enclosure import FloatArray, all_in_blocks, in_blocks, lowest, nothing
from encoders.numbers.radius import is_radius

_MANY = 2**10


@dataclass
class Failed:
    """The first hypothesis that did not hold of every element, and whether a radius was < 0."""

    hypothesis: Formula | None = None
    flawed: bool = False


@dataclass(frozen=True)
class Plan:
    """What is done to apply a lemma, found once: the numbers that it asks for, whether each has to
    be shown to be at least 0, and its formulas as functions of them."""

    asked: tuple[tuple[str, Role, str | None], ...]
    names: frozenset[str]
    read: tuple[str, ...]
    signs: tuple[tuple[str, Formula], ...]
    hypotheses: tuple[tuple[Test, Formula], ...]
    radius: End
    ends: tuple[End, End] | None = None


@lru_cache(maxsize=1024)
def plan_of(lemma: Lemma) -> Plan:
    """What is done to apply this one."""
    reading = Reading()
    return Plan(
        tuple((p.name, p.role, _reach_of(p)) for p in lemma.given),
        frozenset(p.name for p in lemma.given),
        tuple(p.name for p in lemma.read),
        tuple((p.name, formula) for p, formula in lemma.signs),
        tuple((reading.surely(formula), formula) for formula in lemma.hypotheses),
        reading.up(lemma.radius),
        _ends_of(lemma, reading),
    )


def _reach_of(parameter: Parameter) -> str | None:
    return None if parameter.beside is None else parameter.beside.name


def _ends_of(lemma: Lemma, reading: Reading) -> tuple[End, End] | None:
    """The ends of a lemma that says where something lies, rounded outwards."""
    if not isinstance(lemma, RangeLemma):
        return None
    return reading.down(lemma.low), reading.up(lemma.high)


def value_of(given: FloatArray | float) -> Value:
    """One number as a float, more of them as an array."""
    if isinstance(given, np.ndarray) and given.ndim:
        return given if given.dtype == np.float64 else given.astype(np.float64)
    return float(given)


def evaluated(plan: Plan, numbers: Mapping[str, Value]) -> tuple[FloatArray, Failed]:
    """The radius where all hypotheses hold, else +∞; and which did not."""
    failed = Failed()
    shared, arrays = _apart_from_shared(numbers)

    def of_blocks(*blocks: FloatArray) -> FloatArray:
        frame = shared | dict(zip(arrays, blocks, strict=True))
        found = plan.radius(frame)
        for holds in _unmet(plan, frame, failed):
            found = np.where(holds, found, np.inf)
        radius = np.asarray(found)
        if not is_radius(radius):
            failed.flawed = failed.flawed or bool(np.any(radius < 0.0))
            radius = np.where(radius >= 0.0, radius, np.inf)
        shape = _shape_of(blocks)
        return radius if radius.shape == shape else np.broadcast_to(radius, shape)

    with np.errstate(all="ignore"):
        bound = in_blocks(of_blocks, *arrays.values()) if arrays else of_blocks()
    if bound.size > _MANY and not np.any(bound):
        return nothing(bound.shape), failed
    return _apart(bound, arrays.values()), failed


def evaluated_ends(
    plan: Plan, numbers: Mapping[str, Value]
) -> tuple[FloatArray, FloatArray, Failed]:
    """The ends where all hypotheses hold, else infinite ones; and which did not."""
    assert plan.ends is not None
    low, high = plan.ends
    failed = Failed()
    shared, arrays = _apart_from_shared(numbers)

    def of_blocks(*blocks: FloatArray) -> tuple[FloatArray, ...]:
        frame = shared | dict(zip(arrays, blocks, strict=True))
        found = low(frame), high(frame)
        for holds in _unmet(plan, frame, failed):
            found = np.where(holds, found[0], -np.inf), np.where(holds, found[1], np.inf)
        shape = _shape_of(blocks)
        return tuple(
            end if isinstance(end, np.ndarray) and end.shape == shape else np.full(shape, end)
            for end in found
        )

    with np.errstate(all="ignore"):
        lo, hi = all_in_blocks(of_blocks, *arrays.values())
    return _apart(lo, arrays.values()), _apart(hi, arrays.values()), failed


def _apart_from_shared(numbers: Mapping[str, Value]) -> tuple[Frame, dict[str, FloatArray]]:
    """The numbers that all elements share, and the others."""
    shared: Frame = {}
    arrays: dict[str, FloatArray] = {}
    for name, value in numbers.items():
        if isinstance(value, float):
            shared[name] = value
        else:
            arrays[name] = value
    return shared, arrays


def _apart(found: FloatArray, given: Collection[FloatArray]) -> FloatArray:
    """What was found, in memory of its own: whoever holds a number that was given may change it."""
    if found.base is None and not any(found is a for a in given):
        return found
    return found.copy() if any(np.may_share_memory(found, a) for a in given) else found


def _unmet(plan: Plan, frame: Frame, failed: Failed) -> Iterator[Truth]:
    """Where each hypothesis holds that does not hold of every element."""
    for name, formula in plan.signs:
        value = frame[name]
        if not (value if isinstance(value, float) else lowest(value)) >= 0.0:
            failed.hypothesis = failed.hypothesis or formula
            yield np.greater_equal(value, 0.0)
    for surely, formula in plan.hypotheses:
        holds = surely(frame)
        if not all_of(holds):
            failed.hypothesis = failed.hypothesis or formula
            yield holds


def exactly_evaluated(
    lemma: Lemma, numbers: Mapping[str, Fraction], premises: tuple[Application, ...]
) -> tuple[FloatArray, Application]:
    """The radius of rational numbers, rounded up; +∞ unless all hypotheses hold of them."""
    exact = Exact(numbers)
    hypotheses = (*(formula for _, formula in lemma.signs), *lemma.hypotheses)
    failed = next((formula for formula in hypotheses if not exact.holds(formula)), None)
    bound = math.inf
    if failed is None:
        with suppress(OverflowError):
            bound = rounded(exact.of(lemma.radius), math.inf)
    radius = bound if bound >= 0.0 else math.inf
    read = tuple(numbers[parameter.name] for parameter in lemma.read)
    record = Application(lemma, read, radius, 1, premises, failed, flawed=bound < 0.0)
    return np.asarray(radius), record


def _shape_of(blocks: Sequence[FloatArray]) -> tuple[int, ...]:
    shapes = {block.shape for block in blocks}
    return shapes.pop() if len(shapes) == 1 else np.broadcast_shapes(*shapes)


def recorded(
    lemma: Lemma,
    bound: FloatArray,
    numbers: Iterable[Value],
    premises: tuple[Application, ...],
    failed: Failed,
) -> Application:
    """The record of an application: its numbers at the worst element."""
    place = int(bound.argmax()) if bound.size else None
    read = () if place is None else tuple(_at(a, bound.shape, place) for a in numbers)
    largest = 0.0 if place is None else float(bound.item(place))
    return Application(lemma, read, largest, bound.size, premises, failed.hypothesis, failed.flawed)


def _at(value: Value, shape: tuple[int, ...], place: int) -> float:
    """The number that broadcasting puts at this place, counted along the rows of the shape."""
    if isinstance(value, float):
        return value
    if value.shape == shape:
        return float(value.item(place))
    if value.size == 1:
        return float(value.item())
    return float(np.broadcast_to(value, shape).item(place))
