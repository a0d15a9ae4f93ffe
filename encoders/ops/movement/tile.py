"""Tile: a tensor repeated along its axes."""

from __future__ import annotations

import numpy as np

from encoders.families.gathering import Index, gather_operator
from encoders.families.movement import indices
from encoders.families.parameters import integers_at
from encoders.operator import Site


def index_of(site: Site) -> Index:
    """For each output element the flat position of the input element that is repeated there."""
    return np.tile(indices(site.type_of(0).shape), integers_at(site, 1, "repeats") or ())


def check(site: Site) -> None:
    repeats = integers_at(site, 1, "repeats")
    if repeats is None or len(repeats) != len(site.type_of(0).shape) or min(repeats, default=0) < 0:
        raise site.unsupported(f"'repeats' {repeats} needs one number ≥ 0 for each axis")


OPERATORS = (gather_operator("Tile", 6, index_of, check=check),)
