"""Transpose: permutes axes; without `perm`, reverses them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from encoders.arithmetic.values import Movement
from encoders.families.movement import movement_operator
from encoders.gradients.rule import Carried, Gradient, Reverse
from encoders.operator import Site
from encoders.traits import Likeness


def _permutation(site: Site) -> tuple[int, ...]:
    rank = len(site.type_of(0).shape)
    perm = site.integers("perm", range(rank - 1, -1, -1))
    assert perm is not None
    return perm


def check(site: Site) -> None:
    if sorted(_permutation(site)) != list(range(len(site.type_of(0).shape))):
        raise site.unsupported("attribute 'perm' is not a permutation of the axes")


def forward(site: Site) -> Movement:
    """The permutation of axes, behind the leading sample axis."""
    axes = (0, *(p + 1 for p in _permutation(site)))
    return lambda v: np.transpose(v, axes)


def backward(site: Site) -> Movement:
    """The inverse permutation: functionals of the output as functionals of the input."""
    axes = (0, *(int(p) + 1 for p in np.argsort(_permutation(site))))
    return lambda v: np.transpose(v, axes)


def gradient(r: Reverse) -> Carried:
    return {0: r.up.permuted(tuple(int(i) for i in np.argsort(_permutation(r.site))))}


OPERATORS = (
    replace(
        movement_operator("Transpose", 1, forward, backward, check)
        .reading("perm")
        .derived(Gradient(rule=gradient)),
        rowwise=lambda site: _permutation(site)[0] == 0,
        likeness=Likeness(selects=True, turned=_permutation),
    ),
)
