"""AveragePool and GlobalAveragePool: the mean over each window."""

from __future__ import annotations

import numpy as np

from encoders.families.pooling import OUTSIDE, global_terms, pool_terms, require_undilated_pads
from encoders.families.signed_sum import check_one_variable
from encoders.families.sums import sum_operator
from encoders.numbers.enclosure import FloatArray
from encoders.operator import Site, remembered


@remembered
def counts_of(site: Site) -> FloatArray:
    """By how much each window is divided: pads count if the attribute says so."""
    terms = pool_terms(site)
    counted = terms > OUTSIDE if site.integer("count_include_pad", 0) else terms >= 0
    return np.asarray(np.sum(counted, axis=0), np.float64)


def check(site: Site) -> None:
    check_one_variable(site)
    require_undilated_pads(site)
    if np.any(counts_of(site) == 0):
        raise site.unsupported("a window lies wholly in the padding")


def _check_global(site: Site) -> None:
    check_one_variable(site)
    if len(site.type_of(0).shape) < 3:
        raise site.unsupported("there are no pixels to pool")


def _pixels(site: Site) -> FloatArray:
    return np.full((1,) * len(site.outputs[0].shape), float(len(global_terms(site))))


OPERATORS = (
    sum_operator("AveragePool", 1, pool_terms, counts_of, check).reading(
        "auto_pad", "ceil_mode", "count_include_pad", "dilations", "kernel_shape", "pads", "strides"
    ),
    sum_operator("GlobalAveragePool", 1, global_terms, _pixels, _check_global),
)
