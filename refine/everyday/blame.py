"""Whose roundings a bound is made of, relaxations among them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from encoders.numbers.radius import largest_radius
from refine.bounds.network import NetworkBounds

_NOISE = 1e-9


def blame_of(bounds: NetworkBounds) -> Mapping[str, float]:
    """What of the largest bound comes of each node's own rounding, to guide a choice: what is lost
    in a relaxation is that of the nodes whose errors arrive there, in proportion to these."""
    maps = bounds.maps
    found: dict[str, float] = {}
    arrived: dict[str, float] = {}
    for node in reversed(bounds.nodes):
        name, reads = node.step.name, node.step.reads
        cost, rounding = bounds.costs.get(name, 0.0), bounds.roundings.get(name, 0.0)
        relaxed = max(cost - rounding, 0.0)
        if relaxed <= _NOISE * cost:
            relaxed = 0.0
        amount = arrived.pop(node.step.output, 0.0)
        own, whole = maps.local[name].largest, largest_radius(node.errors)
        part = min(own / whole, 1.0) if whole > 0 and np.isfinite(whole) else 1.0
        found[name] = found.get(name, 0.0) + rounding + part * amount
        rest = (1.0 - part) * amount + relaxed
        errors = {t: largest_radius(maps.errors[t]) for t in reads}
        total = sum(errors.values())
        if not 0 < total < np.inf:
            found[name] += rest
            continue
        for tensor, error in errors.items():
            arrived[tensor] = arrived.get(tensor, 0.0) + rest * error / total
    return found
