"""Log: the natural logarithm; its argument must be positive in every execution."""

import numpy as np

from encoders.families.smooth import function_operator
from encoders.functions.log import LOG
from encoders.numbers.enclosure import Interval
from encoders.operator import Precondition, Site
from encoders.traits import Breaks


def positive(site: Site, x: Interval) -> tuple[Precondition, ...]:
    """The precondition that every computed argument is above 0."""
    low = float(np.min(x.lo, initial=np.inf)) + 0.0
    return (
        Precondition(
            "positive-argument",
            f"{site.node.describe()}: the computed argument of the logarithm, at least {low:.6g}, "
            "is more than 0",
            low > 0,
        ),
    )


OPERATORS = (function_operator("Log", 6, LOG, positive, Breaks(vanishing=0)),)
