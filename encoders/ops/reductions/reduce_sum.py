"""ReduceSum and ReduceMean over some axes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from encoders.families.pooling import (
    reduced_axes,
    reduced_extent,
    reduced_terms,
    with_reduced,
)
from encoders.families.signed_sum import check_one_variable
from encoders.families.sums import sum_operator
from encoders.gradients.rule import Carried, Gradient, Reverse
from encoders.numbers.enclosure import FloatArray
from encoders.operator import Site
from encoders.traits import Absorbing, Absorption, Likeness, Sums


def check(site: Site) -> None:
    check_one_variable(site)
    if not len(reduced_terms(site)):
        raise site.unsupported("it reduces an axis of length 0")


def _counts(site: Site) -> FloatArray:
    return np.full((1,) * len(site.outputs[0].shape), float(len(reduced_terms(site))))


def gradient(r: Reverse) -> Carried:
    return {0: with_reduced(r, r.up).expanded(r.x.shape)}


def _mean_gradient(r: Reverse) -> Carried:
    return {0: with_reduced(r, r.up / len(reduced_terms(r.site))).expanded(r.x.shape)}


OPERATORS = (
    replace(
        sum_operator("ReduceSum", 1, reduced_terms, lambda site: None, check),
        sums=Sums(reduced_extent, summands=reduced_terms),
        gradient=Gradient(rule=gradient),
        likeness=Likeness(reduced=reduced_axes),
        absorbs=Absorbing(Absorption.TERMS, terms_of=lambda site: len(reduced_terms(site))),
    ).reading("axes", "keepdims", "noop_with_empty_axes"),
    replace(
        sum_operator("ReduceMean", 1, reduced_terms, _counts, check),
        sums=Sums(reduced_extent, summands=reduced_terms, mean=True),
        gradient=Gradient(rule=_mean_gradient),
        likeness=Likeness(reduced=reduced_axes),
    ).reading("axes", "keepdims", "noop_with_empty_axes"),
)
