"""How large partial sums of a layer's products can be: pulled back to the network's inputs.

In any order: the terms above 0 of Σ w·x add up to Σ w⁺·x where no x is negative, as behind a Relu,
and likewise where none is positive: a functional of x like any other. Of an x of either sign the
range of its term is taken. What is larger of the two sums, above and below 0, decides how large
partial sums can be, so that it is pulled back first, and the other only where it could be larger
than what was found of that. From first to last: sums of the first terms are functionals, some of
which are pulled back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from encoders.contract.contract import AnyOrder, BiasPlacement, RuntimeContract
from encoders.contract.orders import is_one_chain
from encoders.families.part_sums import PartSums
from encoders.numbers.enclosure import FloatArray, Interval, add_down, add_up, dot_up
from encoders.operator import Carry, is_affine
from encoders.program import Step
from encoders.rounding.prefixes import Prefixes
from encoders.scheduling import contract_at
from encoders.traits import Sums
from refine.bounds.backward import Maps, Pulled, pull_back, unit_functionals
from refine.bounds.optimising import chunks
from refine.bounds.pruning import largest_of

_MOST_PLACES = 16  # in a chain, where sums of its first terms are pulled back
_FEWEST_TERMS = 8  # in a chain, for that


def part_sums(
    maps: Maps,
    step: Step,
    contract: RuntimeContract,
    *,
    tick: Callable[[], None],
    most: int | None,
    affordable: int,
) -> PartSums | None:
    """Of the sums that a step makes with stored weights, with about `affordable` functionals; None
    where it makes none, or of the network's inputs, whose ranges say all."""
    sums = step.operator.sums
    if maps.kept or len(step.reads) != 1 or sums is None or not sums.products:
        return None
    tensor = step.reads[0]
    x, carry = maps.values[tensor], maps.value_maps[step.name].carry
    bounded = bool(np.all(np.isfinite(x.hi - x.lo)))
    inside = tensor in maps.program.writers and is_affine(step.operator, step.site)
    if not (inside and bounded) or carry is None or affordable < 1:
        return None
    pull = partial(pull_back, maps, on_differences={}, tick=tick, most=most)
    here = contract_at(step.running, contract)
    if isinstance(here.order, AnyOrder) or here.bias is BiasPlacement.ANY:
        above, below = _sides(maps, step, carry(), pull, affordable)
        return PartSums(step.site, above, below)
    if not is_one_chain(here.order, sums.extent(step.site).terms):
        return None
    prefixes = _prefixes(maps, step, sums, carry(), pull, affordable)
    unknown = np.full(step.site.outputs[0].shape, np.inf)
    return None if prefixes is None else PartSums(step.site, unknown, unknown, prefixes)


def _sides(
    maps: Maps, step: Step, carry: Carry, pull: Callable[..., Pulled], affordable: int
) -> tuple[FloatArray, FloatArray]:
    """What terms above 0, and below, add up to: at most."""
    tensor = step.reads[0]
    x, coefficients, shape = maps.values[tensor], carry.coefficients, step.site.outputs[0].shape
    above, below = np.full(shape, np.inf), np.full(shape, np.inf)
    for chunk in chunks(maps.graph, np.arange(above.size), copies=4):
        (w,) = coefficients(unit_functionals(shape, chunk))
        for sign, side in ((1.0, above), (-1.0, below)):
            side.reshape(-1)[chunk] = _Sides(x, sign * w).at_most
    rows = np.arange(above.size)
    if affordable < len(rows):
        rows = largest_of(np.maximum(above, below).reshape(-1), affordable)
    for chunk in chunks(maps.graph, rows, copies=4):
        (w,) = coefficients(unit_functionals(shape, chunk))
        at = np.unravel_index(chunk, shape)
        swapped = below[at] > above[at]
        flipped = np.where(swapped, -1.0, 1.0).reshape(-1, *(1,) * (w.ndim - 1))
        large = _Sides(x, flipped * w).pulled(tensor, pull)
        large = np.minimum(large, np.maximum(above[at], below[at]))
        small = np.minimum(above[at], below[at])
        larger = small > large
        if np.any(larger):
            found = _Sides(x, -(flipped * w)[larger]).pulled(tensor, pull)
            small[larger] = np.minimum(small[larger], found)
        above[at] = np.where(swapped, small, large)
        below[at] = np.where(swapped, large, small)
    return above, below


def _prefixes(
    maps: Maps,
    step: Step,
    sums: Sums,
    carry: Carry,
    pull: Callable[..., Pulled],
    affordable: int,
) -> Prefixes | None:
    """Sums of the first terms, at a few places in the chain, and of all, which are known."""
    tensor, site, first = step.reads[0], step.site, sums.first
    terms, shape = sums.extent(site).terms, site.outputs[0].shape
    if first is None or terms < _FEWEST_TERMS:
        return None
    result = maps.values[step.output]
    bias = np.zeros(shape) if carry.exact is None else carry.exact
    lo, hi = add_down(result.lo, -bias).reshape(-1), add_up(result.hi, -bias).reshape(-1)
    places = min(affordable // len(lo), _MOST_PLACES, terms // 4)
    at = [(i + 1) * terms // (places + 1) for i in range(places)]
    lows, highs = list[FloatArray](), list[FloatArray]()
    for many in at:
        part = step.operator.values(first(site, many), [maps.values[tensor]]).carry
        if part is None:
            return None
        low, high = np.empty(len(lo)), np.empty(len(lo))
        for chunk in chunks(maps.graph, np.arange(len(lo)), copies=4):
            (w,) = part().coefficients(unit_functionals(shape, chunk))
            upper = pull({tensor: np.concatenate([w, -w])}).upper
            low[chunk], high[chunk] = -upper[len(chunk) :], upper[: len(chunk)]
        lows.append(low)
        highs.append(high)
    ends = (np.stack([*found, last], axis=1) for found, last in ((lows, lo), (highs, hi)))
    return Prefixes(terms, (*at, terms), *ends)


@dataclass(frozen=True)
class _Sides:
    """The terms above 0 of functionals w of x."""

    x: Interval
    w: FloatArray

    @property
    def at_most(self) -> FloatArray:
        """The most that ranges say they add up to."""
        plus, minus = np.maximum(self.w, 0.0), np.maximum(-self.w, 0.0)
        up, down = np.maximum(self.x.hi, 0.0), np.maximum(-self.x.lo, 0.0)
        return add_up(dot_up(plus, up), dot_up(minus, down))

    def linear(self) -> tuple[FloatArray, FloatArray]:
        """A functional of x, and what to add to it for at least their sum."""
        lo, hi = self.x.lo, self.x.hi
        positive, negative = lo >= 0.0, (hi <= 0.0) & (lo < 0.0)
        either = ~(positive | negative)
        c = np.where(positive, np.maximum(self.w, 0.0), 0.0)
        c = np.where(negative, np.minimum(self.w, 0.0), c)
        if not np.any(either):
            return c, np.zeros(len(c))
        return c, _Sides(self.x, np.where(either, self.w, 0.0)).at_most

    def pulled(self, tensor: str, pull: Callable[..., Pulled]) -> FloatArray:
        """The most that they add up to over the network's inputs."""
        c, beside = self.linear()
        return add_up(pull({tensor: c}).upper, beside)
