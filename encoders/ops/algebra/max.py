"""Max and Min of any number of tensors, with broadcasting; exact."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from encoders.families.maxima import (
    Operand,
    extreme_operator,
)
from encoders.families.movement import indices
from encoders.families.signed_sum import check_equal_shapes
from encoders.operator import (
    Site,
    remembered,
)
from encoders.relaxations.elements import broadcast_element


@remembered
def operands(site: Site) -> list[Operand]:
    """All inputs, each broadcast to the output's shape."""
    shape = site.outputs[0].shape
    return [
        Operand(i, np.broadcast_to(indices(t.shape), shape))
        for i, t in enumerate(site.inputs)
        if t is not None
    ]


OPERATORS = tuple(
    replace(
        extreme_operator(name, 6, operands, sign, check_equal_shapes),
        element=broadcast_element,
        per_element=True,
    )
    for name, sign in (("Max", 1.0), ("Min", -1.0))
)
