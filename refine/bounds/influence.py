"""Which inputs a bound hangs on: a guide for splitting the box, no more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from encoders.lemmas.kernel import Radius
from encoders.numbers.enclosure import FloatArray, Interval
from encoders.program import Program, Step
from encoders.traits import Discontinuity
from refine.bounds.backward import Maps, Pulled
from refine.bounds.pruning import MOST_SPLIT_INPUTS, Rows

_OF_PULL, _OF_UNDER = 0.1, 0.5  # weights, found by trying


def add_pushes(
    maps: Maps,
    pushes: dict[str, FloatArray],
    pulled: Pulled,
    lo: FloatArray,
    hi: FloatArray,
) -> None:
    """Σ over unstable elements of |coefficient|·(input width)/(element width)."""
    for name, c in pulled.on_inputs.items():
        if c[0].size > MOST_SPLIT_INPUTS:
            continue
        unstable = np.tile((lo < 0) & (hi > 0) & np.isfinite(hi - lo), 2)
        width = np.tile(np.maximum(hi - lo, 2.0**-1000), 2)
        weights = np.where(unstable, 0.5 / width, 0.0)
        box = maps.values[name]
        push = np.tensordot(weights, np.abs(c), axes=1) * (box.hi - box.lo)
        pushes[name] = pushes.get(name, np.zeros_like(push)) + push


Shares: TypeAlias = Mapping[str, Mapping[str, FloatArray]]
"""Of tensors, per input: (boxes, elements, elements of a box's input), which part of an element's
width comes of that of an input's element; 0 where nothing was asked."""


def add_shares(
    maps: Maps,
    shares: Mapping[str, FloatArray],
    on_inputs: Mapping[str, FloatArray],
    at: Rows,
    there: FloatArray,
) -> None:
    """The shares of the elements `at` (k, boxes), where `there` is 1, of whose functionals and
    their negatives these are the coefficients (2k, boxes, *shape)."""
    k, boxes = at.shape
    pulls = {}
    for name in shares:
        if name in on_inputs:
            c, x = np.abs(on_inputs[name]).reshape(2, k, boxes, -1), maps.values[name]
            pulls[name] = (c[0] + c[1]) * (x.hi - x.lo).reshape(boxes, -1)
    total = sum((p.sum(axis=-1) for p in pulls.values()), np.zeros((k, boxes)))
    weight = np.where((there > 0) & (total > 0), 1.0 / np.where(total > 0, total, 1.0), 0.0)
    for name, pull in pulls.items():
        for row in range(k):
            shares[name][np.arange(boxes), at[row]] += weight[row][:, None] * pull[row]


def blame(
    maps: Maps, shares: Shares, seen: Mapping[str, FloatArray], on_inputs: Mapping[str, FloatArray]
) -> dict[str, FloatArray]:
    """Per input, (k, boxes, *shape of one box's input): what of the bounds of k functionals is
    lost in relaxations that its width makes loose, and a little for its own pull.

    `seen` are the coefficients that arrived at relaxations, `on_inputs` those at the inputs.
    """
    found: dict[str, FloatArray] = {}
    for name, c in on_inputs.items():
        x = maps.values[name]
        if x.lo.size > len(x.lo) * MOST_SPLIT_INPUTS:
            continue
        found[name] = _OF_PULL * np.abs(c) * (x.hi - x.lo)
    for step in maps.program.steps:
        choice = maps.value_maps[step.name].choice
        if choice is None or step.name not in seen or step.reads[0] not in shares:
            continue
        x, bounds = maps.values[step.reads[0]], choice.bounds()
        under = np.maximum(
            (1.0 - bounds.low_slope) * x.hi, (bounds.low_slope - choice.below) * -x.lo
        )
        under = np.where(choice.free, under, 0.0)
        c = seen[step.name]
        lost = np.maximum(c, 0.0) * bounds.high + _OF_UNDER * np.maximum(-c, 0.0) * under
        lost = lost.reshape(*c.shape[:2], -1)
        for name, share in shares[step.reads[0]].items():
            if name in found:
                more = np.einsum("kbn,bni->kbi", lost, share)
                found[name] = found[name] + more.reshape(found[name].shape)
    return found


def influence_of(
    maps: Maps,
    costs: Mapping[str, float],
    pushes: Mapping[str, Mapping[str, FloatArray]],
    spread: frozenset[str],
) -> Mapping[str, FloatArray]:
    """Per graph input element, the part of the bound that its width is to blame for (a guess)."""
    total = {
        name: np.zeros(maps.values[name].shape)
        for name in maps.graph.inputs
        if maps.graph.types[name].size <= MOST_SPLIT_INPUTS
    }
    blamed = [
        (tensor, costs.get(step.name, 0.0))
        for step in maps.program.steps
        if not step.affine
        for tensor in step.node.inputs
    ]
    blamed += [(t, float(np.max(maps.values[t].magnitude, initial=0.0))) for t in spread]
    for tensor, cost in blamed:
        for name, push in pushes.get(tensor, {}).items():
            sum_of = float(np.sum(push))
            if sum_of > 0 and np.isfinite(cost):
                total[name] = total[name] + push * (cost / sum_of)
    if all(np.all(np.isfinite(maps.errors[t])) for t in maps.graph.outputs if t in maps.errors):
        return total
    return on_choices(maps.program, maps.values.__getitem__, total)


def on_choices(
    program: Program, values: Callable[[str], Interval], total: Mapping[str, FloatArray]
) -> Mapping[str, FloatArray]:
    """Where nothing is known and nothing else to blame: the widths of elements of inputs that open
    comparisons hang on, as that of a mask which keeps a divisor from 0. Halved, they are decided on
    all parts but a few. `values` are the ranges of tensors."""
    if any(bool(np.any(found > 0)) for found in total.values()):
        return total
    made = dict(total)
    for step in program.steps:
        ordered = step.operator.likeness.lower is not None
        if step.operator.jump is not Discontinuity.COMPARISON or not ordered:
            continue  # where two are equal is decided on no part of a range
        answer = values(step.output)
        open_ = (answer.lo != answer.hi).astype(np.float64)
        for name in made.keys() & _upstream(program, step) if np.any(open_) else ():
            box = values(name)
            each = open_ if open_.shape == box.shape else np.max(open_)
            made[name] = made[name] + (box.hi - box.lo) * each
    return made


def _upstream(program: Program, step: Step) -> set[str]:
    """The tensors that a step's result is computed of."""
    waiting, found = list(step.reads), set[str]()
    while waiting:
        tensor = waiting.pop()
        if tensor not in found:
            found.add(tensor)
            writer = program.writers.get(tensor)
            waiting += () if writer is None else writer.reads
    return found


def costs_of_worst(
    radii: Mapping[str, Radius], pulled: Mapping[str, Pulled], refined: Mapping[str, Rows]
) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """What each node's differences, and its own roundings alone, cost in the largest error that was
    pulled back."""
    candidates = [t for t in radii if t in pulled and len(pulled[t].upper)]
    if not candidates:
        return {}, {}
    worst = max(candidates, key=lambda t: radii[t].largest)
    row = int(np.argmax(radii[worst].bound.reshape(-1)[refined[worst]]))
    every, own = (
        {name: float(cost[row]) for name, cost in costs.items()}
        for costs in (pulled[worst].costs, pulled[worst].roundings)
    )
    return every, own
