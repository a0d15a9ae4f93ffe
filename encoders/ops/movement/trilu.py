"""Trilu: the elements on one side of a diagonal of each matrix, zero elsewhere."""

from __future__ import annotations

import numpy as np

from encoders.families.gathering import Index, gather_operator
from encoders.families.movement import indices
from encoders.families.parameters import integers_at
from encoders.operator import Site


def index_of(site: Site) -> Index:
    """For each output element the flat position of the input element it is; −1 beyond the diagonal,
    which is 0."""
    rows, columns = site.type_of(0).shape[-2:]
    (diagonal,) = integers_at(site, 1, "k") or (0,)
    above = np.arange(columns)[None, :] - np.arange(rows)[:, None]
    kept = above >= diagonal if site.integer("upper", 1) else above <= diagonal
    return np.where(kept, indices(site.type_of(0).shape), -1)


def check(site: Site) -> None:
    if len(site.type_of(0).shape) < 2:
        raise site.unsupported("its input needs two axes or more")
    integers_at(site, 1, "k")


OPERATORS = (gather_operator("Trilu", 14, index_of, check=check).reading("upper"),)
