"""LayerNormalization and RMSNormalization: over all axes from `axis` on, then scale and bias.

Rows are normalised in the type `stash_type` (float32 unless the file says otherwise), and the
result is scaled in the input's type. The rounding bound also covers a runtime that converts to a
narrower input's type only once, at the end, as onnxruntime does.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.values import E
from encoders.families.parameters import axis_of, require_broadcast
from encoders.families.rows.normalizing import Layout, normalizing_operator, stash_type
from encoders.gradients.rows import normalized_back
from encoders.gradients.rule import Carried, Gradient, Reverse
from encoders.gradients.tape import Term
from encoders.operator import Site
from encoders.relaxations.rows import Rows, rows_along


def _rows(site: Site) -> Rows:
    shape = site.type_of(0).shape
    first = axis_of(site, site.integer("axis", -1), len(shape))
    return rows_along(shape, tuple(range(first, len(shape))))


def _aligned(site: Site, parameter: npt.NDArray[E]) -> npt.NDArray[E]:
    """A parameter broadcasts from the right; the sample axis stays in front."""
    missing = len(site.type_of(0).shape) - (parameter.ndim - 1)
    return parameter.reshape(parameter.shape[0], *(1,) * missing, *parameter.shape[1:])


def check(site: Site) -> None:
    _rows(site)
    for position in (1, 2):
        require_broadcast(site, position, site.type_of(0).shape)


def _gradient(name: str, *, centred: bool) -> Gradient:
    def rule(r: Reverse) -> Carried:
        rank = len(r.x.shape)
        first = axis_of(r.site, r.site.integer("axis", -1), rank)

        def normalized(x: Term) -> Term:
            ones = r.stored(np.ones(x.shape[first:], x.kind.dtype.numpy))
            epsilon = r.site.real("epsilon", 1e-5)
            return r.tape.node(x, ones, op=name, kind=x.kind, axis=first, epsilon=epsilon)

        def aligned(parameter: Term) -> Term:
            missing = rank - len(parameter.shape)
            return parameter.reshaped((*(1,) * missing, *parameter.shape))

        return normalized_back(
            r, axes=range(first, rank), aligned=aligned, normalized=normalized, centred=centred
        )

    return Gradient(rule=rule)


OPERATORS = tuple(
    normalizing_operator(
        name,
        since,
        Layout(_rows, _aligned, _aligned, centred, foldable=False, stash=stash_type, running=True),
        check,
    )
    .reading("axis", "epsilon", "stash_type")
    .derived(_gradient(name, centred=centred))
    for name, since, centred in (("LayerNormalization", 17, True), ("RMSNormalization", 23, False))
)
