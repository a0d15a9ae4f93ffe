"""Amounts by which numbers are moved, and the words for what cannot be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from encoders.lemmas.backward.paths import PERTURBED_PATH, RELATIVE_OF_LOG
from encoders.lemmas.kernel import Radius, apply
from encoders.lemmas.operations import OPERAND_LOSS
from encoders.lemmas.sums import GROWTH_SQUARED
from encoders.numbers.formats import BINARY32
from encoders.program import Step
from onnx_import.graph import Array
from refine.perturbed.standing import Roundings, Standing, unmoved

_HALVINGS = 10


def relative_of(log: float, unit: float) -> Radius:
    """|w̃/w − 1| of a bound on |ln(w̃/w)|: that of its 2^10th part, squared ten times."""
    part = apply(RELATIVE_OF_LOG, g=of_log(log / 2.0**_HALVINGS, unit))
    for _ in range(_HALVINGS):
        part = apply(GROWTH_SQUARED, e=part)
    return part


def grown(log: float, unit: float) -> float:
    """At most what a factor within a bound on its logarithm makes of 1."""
    return math.nextafter(1.0 + relative_of(log, unit).largest, math.inf)


def of_log(log: float, unit: float) -> Radius:
    """|ln(w̃/w)| as a radius: so many multiples of u."""
    return apply(PERTURBED_PATH, k=log / unit, u=unit)


def flushed_below_size(size: float) -> Radius:
    """What is lost of numbers below this size that are taken for zero."""
    return apply(OPERAND_LOSS, lo=-np.inf, hi=np.inf, tiny=size) if size else unmoved(())


def slope_rounded(rounding: Roundings) -> bool:
    """Does the format hold less than the float32 numbers in which slopes are given?"""
    return not rounding.own.format.holds(BINARY32)


def is_zero(constant: Array | None) -> bool:
    """Is it stored, and 0 throughout?"""
    return constant is not None and not np.any(constant)


def listed(names: Sequence[str]) -> str:
    """Names in a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def why_not(read: Sequence[Standing], step: Step | None = None) -> str:
    """Why none of these can be moved: what was lost before, else the first that says it."""
    for s in sorted(read, key=lambda s: (s.free, not s.shared, -s.apart)):
        if not s.free and s.why:
            if step is None or not math.isfinite(s.apart):
                return s.why
            return f"{step.node.describe()} rounds, and {s.why}"
    return ""


def sentence(step: Step, read: Mapping[int, Standing], rule: str) -> str:
    """Why the errors of a step can be laid on nothing: the rule that these do not keep."""
    stuck = sorted((s for s in read.values() if not s.free), key=lambda s: -s.apart)
    if stuck and not math.isfinite(stuck[0].apart):
        return stuck[0].why
    constant = [s for i, s in read.items() if not s.free and step.site.constant(i) is not None]
    why = next((s.why for s in (*constant, *stuck)), "")
    return f"{step.node.describe()}: {rule}, but {why}"
