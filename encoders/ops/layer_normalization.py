"""LayerNormalization and RMSNormalization: over all axes from `axis` on, then scale and bias.

`stash_type` asks for wider intermediate results: the rounding bound covers that too.
"""

from __future__ import annotations

from typing import Any

from encoders.normalizing import Layout, normalizing_operator
from encoders.operator import Site
from encoders.parameters import axis_of
from encoders.rows import Rows, rows_along


def _rows(site: Site) -> Rows:
    shape = site.type_of(0).shape
    first = axis_of(site, site.integer("axis", -1), len(shape))
    return rows_along(shape, tuple(range(first, len(shape))))


def _aligned(site: Site, parameter: Any) -> Any:
    """A parameter broadcasts from the right; the sample axis stays in front."""
    missing = len(site.type_of(0).shape) - (parameter.ndim - 1)
    return parameter.reshape(parameter.shape[0], *(1,) * missing, *parameter.shape[1:])


def check(site: Site) -> None:
    _rows(site)


OPERATORS = tuple(
    normalizing_operator(
        name,
        since,
        Layout(_rows, _aligned, _aligned, centred, foldable=False),
        check,
    ).reading("axis", "epsilon", "stash_type")
    for name, since, centred in (("LayerNormalization", 17, True), ("RMSNormalization", 23, False))
)
