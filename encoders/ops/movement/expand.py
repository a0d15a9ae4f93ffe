"""Expand: broadcasting to a given shape."""

from __future__ import annotations

import numpy as np

from encoders.families.gathering import Index, gather_operator
from encoders.families.movement import indices, require_constants
from encoders.gradients.rule import Carried, Gradient, Reverse
from encoders.operator import Site


def index_of(site: Site) -> Index:
    """For each output element the flat position of the input element that is repeated there."""
    return np.broadcast_to(indices(site.type_of(0).shape), site.outputs[0].shape)


def check(site: Site) -> None:
    require_constants(site, (1,))


def gradient(r: Reverse) -> Carried:
    return {0: r.up.unbroadcast(r.x.shape)}


OPERATORS = (gather_operator("Expand", 8, index_of, check=check).derived(Gradient(rule=gradient)),)
