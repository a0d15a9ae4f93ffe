"""Which inputs a bound hangs on: a guide for splitting the box, no more."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from encoders.numbers.enclosure import FloatArray
from refine.bounds.backward import Maps, Pulled
from refine.bounds.pruning import (
    MOST_SPLIT_INPUTS,
)


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
    return total
