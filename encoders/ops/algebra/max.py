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
from encoders.gradients.rule import Carried, Gradient, Reverse
from encoders.gradients.tape import Term
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


def _gradient(*, largest: bool) -> Gradient:
    def first(r: Reverse) -> Carried:
        """The best so far is beaten by what is strictly better; what beats it is differentiated."""
        best, taken = r.x, list[Term]()
        for position in range(1, len(r.inputs)):
            term = r.read(position)
            taken.append(term > best if largest else term < best)
            best = r.tape.elementwise(best, term, op=r.site.node.op)
        up, found = r.up, {}
        for position in range(len(r.inputs) - 1, 0, -1):
            won = taken[position - 1]
            if r.wants(position):
                found[position] = won.chosen(up, 0).unbroadcast(r.read(position).shape)
            up = won.chosen(0, up)
        if r.wants(0):
            found[0] = up.unbroadcast(r.x.shape)
        return found

    def shared(r: Reverse) -> Carried:
        """Of two that are equal, each gets half."""
        if len(r.inputs) != 2:
            return first(r)
        found = {}
        for position in r.wanted:
            here, other = r.read(position), r.read(1 - position)
            wins = here > other if largest else here < other
            part = here.equals(other).chosen(r.up / 2, wins.chosen(r.up, 0))
            found[position] = part.unbroadcast(here.shape)
        return found

    return Gradient(
        rule=first,
        convention="of several equal elements the first gets all",
        frameworks={"torch": shared},
    )


OPERATORS = tuple(
    replace(
        extreme_operator(name, 6, operands, sign, check_equal_shapes),
        element=broadcast_element,
        per_element=True,
        gradient=_gradient(largest=sign > 0),
    )
    for name, sign in (("Max", 1.0), ("Min", -1.0))
)
