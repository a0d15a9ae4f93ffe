"""Log: the natural logarithm; its argument must be positive in every execution."""

import numpy as np

from encoders.families.smooth import function_operator
from encoders.functions.log import LOG
from encoders.gradients.rule import unary
from encoders.lemmas.domains import DEFINED_ABOVE_ZERO
from encoders.numbers.enclosure import Interval
from encoders.operator import RoundingBound, Site
from encoders.traits import Breaks


def positive(bound: RoundingBound, site: Site, x: Interval) -> RoundingBound:
    """The bound if every computed argument is above 0."""
    low = float(np.min(x.lo, initial=np.inf)) + 0.0
    return bound.given(
        "positive-argument",
        f"{site.node.describe()}: the computed argument of the logarithm, at least {low:.6g}, "
        "is more than 0",
        DEFINED_ABOVE_ZERO,
        lo=x.lo,
    )


_GRADIENT = unary(lambda x, y, up: up / x)
OPERATORS = (function_operator("Log", 6, LOG, positive, Breaks(vanishing=0)).derived(_GRADIENT),)
