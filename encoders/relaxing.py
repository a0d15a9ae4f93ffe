"""What a node makes of linear functionals: how they are carried from its output to its inputs.

Of real values x over ranges, and of differences d = x̂ − x; every array here has a leading sample
axis, and every coefficient array a leading axis of functionals.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from encoders.lemmas.kernel import Radius, carried_back
from encoders.lemmas.ranges.range import Range
from encoders.numbers.enclosure import (
    FloatArray,
    add_up,
    dot_up,
    inner_up,
    lowest,
    some,
)


@dataclass(frozen=True)
class Contribution:
    """What a linear functional of a node's output becomes on the node's inputs.

    For k functionals c: sup c·out ≤ Σ_i coefficients[i]·in_i + constant, where `coefficients` has
    one entry per variable input, of shape (k, *input shape) or None for zero, and `constant` (k,)
    is rounded up.
    """

    coefficients: tuple[FloatArray | None, ...]
    constant: FloatArray


@dataclass(frozen=True)
class Moved:
    """What a linear functional of a node's difference becomes on those of its inputs.

    For k functionals c: c·d is Σ_i coefficients[i]·d_i up to `cost`, a radius of each, with
    coefficients as in `Contribution`.
    """

    coefficients: tuple[FloatArray | None, ...]
    cost: Radius

    @property
    def constant(self) -> FloatArray:
        """The numbers of the radius."""
        return self.cost.bound


@dataclass(frozen=True)
class Carry:
    """How functionals c of a node's output are carried to its inputs, and what that costs.

    `coefficients(c)` are those on the variable inputs; c·out is at most what these give, plus
    c·exact + max(c, 0)·above + min(c, 0)·below + |c|·around + least, arrays of the output's shape.
    """

    coefficients: Callable[[FloatArray], tuple[FloatArray, ...]]
    around: FloatArray
    exact: FloatArray | None = None
    above: FloatArray | None = None
    below: FloatArray | None = None
    least: float | None = None

    def __call__(self, c: FloatArray, kept: int = 0) -> Contribution:
        """Functionals (k, *output shape) carried; over the first `kept` axes of the output costs
        are not summed (`dot_up`): positions there belong to different functionals."""
        if kept:
            return Contribution(self.coefficients(c), self._cost_apart(c, kept))
        cost = dot_up(c, self.around)
        if self.exact is not None:
            cost = add_up(inner_up(c, self.exact), cost)
        if self.above is not None and self.below is not None:
            high = inner_up(np.maximum(c, 0.0), self.above)
            cost = add_up(add_up(high, inner_up(np.minimum(c, 0.0), self.below)), cost)
        if self.least is not None:
            cost = add_up(cost, self.least)
        return Contribution(self.coefficients(c), cost)

    def _cost_apart(self, c: FloatArray, kept: int) -> FloatArray:
        """The same cost of many boxes, whose arrays are long: what is zero is left out."""
        cost = dot_up(c, self.around, kept)
        if self.exact is not None and some(self.exact):
            cost = add_up(inner_up(c, self.exact, kept), cost)
        if self.above is not None and some(self.above):
            up = dot_up if lowest(self.above) >= 0.0 else inner_up
            cost = add_up(up(np.maximum(c, 0.0), self.above, kept), cost)
        if self.below is not None and some(self.below):
            cost = add_up(inner_up(np.minimum(c, 0.0), self.below, kept), cost)
        return cost if self.least is None else add_up(cost, self.least)


@dataclass(frozen=True)
class DifferenceCarry:
    """How functionals c of a node's difference are carried to those of its inputs.

    `coefficients(c)` are those on the variable inputs; c·d is what these give up to |c|·around, a
    radius of the output's shape, and `least`, one number.
    """

    coefficients: Callable[[FloatArray], tuple[FloatArray | None, ...]]
    around: Radius
    least: Radius | None = None

    def __call__(self, c: FloatArray, kept: int = 0) -> Moved:
        """As `Carry`."""
        cost = self.around.weighed(c, kept)
        if self.least is not None:
            cost = carried_back((cost, self.least.on(cost.shape)))
        return Moved(self.coefficients(c), cost)


@dataclass(frozen=True)
class SlopeChoice:
    """What a pull-back does at one node, per functional; arrays (k, *shape).

    `low_slope` is the lower slope of unstable elements. `phase` restricts the claim to inputs where
    the element is ≥ −slack (1), ≤ slack (-1) or anything (0); `multiplier` ≥ 0 weighs that
    restriction (β-CROWN, Wang et al. 2021): any value is sound. `slack` ≥ 0 has the shape of the
    tensor, or is zero.
    """

    low_slope: FloatArray
    phase: npt.NDArray[np.int8]
    multiplier: FloatArray
    slack: FloatArray | float = 0.0


@dataclass(frozen=True)
class LinearBounds:
    """Element by element `low_slope`·x + `low` ≤ f(x) ≤ `high_slope`·x + `high` over a range.

    The inequalities hold for these float64 numbers read as exact reals.
    """

    low_slope: FloatArray
    low: FloatArray
    high_slope: FloatArray
    high: FloatArray


@dataclass(frozen=True)
class FreeSlopes:
    """An elementwise relaxation whose lower slope may be any number in [`below`, 1] where `free`.

    `bounds()` are what `ValueMap.backward` uses; `below` is the slope of the function where its
    argument is negative, 1 that elsewhere.
    `backward(c, choice)` bounds functionals over the inputs that the choice's phases allow.
    """

    free: npt.NDArray[np.bool_]
    bounds: Callable[[], LinearBounds]
    below: FloatArray
    backward: Callable[[FloatArray, SlopeChoice], Contribution]


@dataclass(frozen=True)
class FreeLines:
    """An elementwise relaxation with several linear `bounds`, ordered as they lean along the range.

    `backward(c, at)` bounds functionals by means of two neighbouring lines, of those above where c
    is positive and of those below elsewhere: an array (k, *shape) of numbers from 0 to
    len(bounds) − 1 says which. `met(c, at, v)` is what these means are at numbers v, about, and how
    far there the next line is above the one before it.
    """

    bounds: tuple[LinearBounds, ...]
    backward: Callable[[FloatArray, FloatArray], Contribution]
    met: Callable[[FloatArray, FloatArray, FloatArray], tuple[FloatArray, FloatArray]]


@dataclass(frozen=True)
class ValueMap:
    """Real values through a node: their range, and functionals pulled back.

    `backward(c)` takes (k, *output shape) and bounds c·f(x) from above over the input ranges.
    `choice` is filled where the relaxation leaves slopes to choose, `lines` where it leaves lines;
    `carry` where what `backward` does is no more than a `Carry`.
    """

    range: Range
    backward: Callable[[FloatArray], Contribution]
    choice: FreeSlopes | None = None
    carry: Callable[[], Carry] | None = None
    lines: Callable[[], FreeLines] | None = None


@dataclass(frozen=True)
class Scaled:
    """What a node of one input leaves of a functional c of its difference: Σ c·ρ, up to |c|·rest.

    ρ is the same whatever the functional, with |ρ| ≤ `remainder` and |ρ| ≤ `share`·|d|, element by
    element, for whatever difference d is read; both are 0 where that is not known, and `rest`
    then holds what is left.
    """

    share: FloatArray
    remainder: Radius
    rest: Radius


@dataclass(frozen=True)
class DifferenceMap:
    """Differences through a node, its own rounding error left out.

    `radius` bounds |f(x̂) − f(x)| element by element; `backward(c)` bounds how far c·(f(x̂) − f(x))
    is from a functional of what is read.

    Where f(x̂) − f(x) = s·d for some s between b and 1 and nothing more is known (`unstable`), the
    bound of a functional that is affine in s is the larger of those for s = b and s = 1: `fixed(c,
    share, at)` is `backward` with the secant slope b + share·(1 − b) where `at`. `radius` must then
    be |slope|·error + remainder (refine/bounds/cases/secant_branching.py says why). `scaled` says
    more of what a pull-back leaves, where that is known.
    """

    radius: Radius
    backward: Callable[[FloatArray], Moved]
    unstable: npt.NDArray[np.bool_] | None = None
    fixed: Callable[[FloatArray, FloatArray, npt.NDArray[np.bool_]], Moved] | None = None
    carry: Callable[[], DifferenceCarry] | None = None
    scaled: Callable[[], Scaled] | None = None

    @property
    def flawed(self) -> bool:
        """Was a radius negative before the kernel made it infinite: a bug of ours?"""
        return self.radius.record.flawed
