"""Functionals of a quantised copy's tensors on their way back to the inputs.

Of every tensor there are x, its real value in the original, x̂, what the copy holds, and d = x̂ − x
(`refine.pair.quantised.noise`). A functional lives on x and on d at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from encoders.lemmas.claims import REAL_GAP
from encoders.lemmas.combining import EXACT
from encoders.lemmas.differences import GIVEN_ERROR
from encoders.lemmas.kernel import Radius, apply, carried_back, exactly_zero
from encoders.lemmas.ranges.making import given_ranges
from encoders.numbers.enclosure import (
    SMALLEST,
    UNIT,
    BoolArray,
    FloatArray,
    Interval,
    add_down,
    add_up,
    dot_up,
    inner_up,
    midpoint_radius,
    multiply_up,
)
from encoders.operator import DifferenceMap, ValueMap
from encoders.program import Program, Step
from encoders.quantizing import Grid, nearest_integers
from refine.bounds.backward import Maps
from refine.bounds.network import InputBox


@dataclass(frozen=True)
class Through:
    """How d leaves a node: differences of what it reads through `moved` (of elements where `kept`),
    and element by element `on_d`·d + `on_x`·x of its only input, plus what the real values give
    through `shift`, plus something in `range`, plus noise up to `noise`."""

    moved: DifferenceMap | None = None
    kept: BoolArray | None = None
    on_d: FloatArray | None = None
    on_x: FloatArray | None = None
    shift: ValueMap | None = None
    range: Interval | None = None
    noise: Radius | None = None


@dataclass(frozen=True)
class Meeting(Interval):
    """Ranges of x, of which those of x̂ are known as well: what lies between x and x̂ is in the hull
    of both."""

    run: Interval

    def inflate(self, radius: FloatArray) -> Interval:
        """The points within `radius`, of those that are not beyond x and x̂."""
        wide = Interval(self.lo, self.hi).inflate(radius)
        ends = np.minimum(self.lo, self.run.lo), np.maximum(self.hi, self.run.hi)
        return wide.intersect(known(Interval(*ends)))


@dataclass
class Ranges:
    """What is known of every tensor: the maps of real values, x̂ and d. Of tensors `gridded` every x̂
    is within a radius of a number of a grid."""

    maps: Maps
    held: dict[str, Interval] = field(default_factory=dict)
    apart: dict[str, Interval] = field(default_factory=dict)
    radii: dict[str, Radius] = field(default_factory=dict)
    through: dict[str, Through] = field(default_factory=dict)
    gridded: dict[str, tuple[Grid, Radius]] = field(default_factory=dict)

    def enter(self, tensor: str, held: Interval, apart: Interval, radius: Radius) -> None:
        """The ranges of x̂ and d, each taken from the other where that is tighter."""
        x = self.maps.values[tensor]
        radius = radius.and_also(apply(REAL_GAP, lo=apart.lo, hi=apart.hi))
        around = Interval(-radius.bound, radius.bound)
        apart = both(apart, around)
        held = both(held, plus(x, apart))
        apart = both(apart, minus(held, x))
        radius = radius.and_also(apply(REAL_GAP, lo=apart.lo, hi=apart.hi))
        self.held[tensor], self.apart[tensor], self.radii[tensor] = held, apart, radius

    def left(self, step: Step, through: Through) -> tuple[Interval, Radius]:
        """The range of d behind a node, and a radius of it, from those before it."""
        shape = step.site.outputs[0].shape
        radius = exactly_zero(EXACT, shape)
        signed = Interval(np.zeros(shape), np.zeros(shape))
        if through.moved is not None:
            moved = through.moved.radius
            if through.kept is not None:
                moved = moved.on(shape).times(np.where(through.kept, 1.0, 0.0))
            radius = radius + moved
            signed = signed.inflate(moved.bound)
        if through.on_d is not None and through.on_x is not None:
            (source,) = step.reads
            own = plus(
                times(through.on_d, self.apart[source]),
                times(through.on_x, self.maps.values[source]),
            )
            radius = radius + apply(REAL_GAP, lo=own.lo, hi=own.hi)
            signed = plus(signed, own)
        for range_ in (None if through.shift is None else through.shift.range, through.range):
            if range_ is not None:
                radius = radius + apply(REAL_GAP, lo=range_.lo, hi=range_.hi)
                signed = plus(signed, range_)
        if through.noise is not None:
            radius = radius + through.noise.on(shape)
            signed = signed.inflate(np.broadcast_to(through.noise.bound, shape))
        return known(signed), radius


def started(program: Program, box: InputBox) -> Ranges:
    """What is known of the inputs."""
    ranges = Ranges(Maps(program, given_ranges(box.values)))
    for tensor, error in box.errors.items():
        around = Interval(-error, np.asarray(error))
        x = box.values[tensor]
        ranges.enter(tensor, plus(x, around), around, apply(GIVEN_ERROR, U=error))
    return ranges


@dataclass(frozen=True)
class Spent:
    """What each node adds to a bound, and how much of it hangs on the widths of the inputs."""

    costs: Mapping[str, float]
    influence: Mapping[str, FloatArray]
    total: float = 0.0


@dataclass
class Walk:
    """Functionals of x and of d on their way back. With `unknowns` what each element of a range may
    be is one number in all functionals: coefficients on these, as far as they reach, are kept by
    name, (k, elements)."""

    ranges: Ranges
    tick: Callable[[], None]
    on_x: dict[str, FloatArray] = field(default_factory=dict)
    on_d: dict[str, FloatArray] = field(default_factory=dict)
    total: FloatArray = field(default_factory=lambda: np.zeros(0))
    costs: list[Radius] = field(default_factory=list)
    shares: dict[str, FloatArray] = field(default_factory=dict)
    unknowns: dict[str, FloatArray] | None = None

    def put(self, where: dict[str, FloatArray], tensor: str, c: FloatArray | None) -> None:
        """Adds coefficients on a tensor; each sum is off by at most U of itself."""
        if c is None:
            return
        if tensor not in where:
            where[tensor] = c
            return
        where[tensor] = total = where[tensor] + c
        self._rounded(where, tensor, total)

    def spend(self, upper: FloatArray) -> None:
        """Adds what some part of the functionals is at most."""
        self.total = add_up(self.total, upper)

    def vary(self, name: str, c: FloatArray, x: Interval) -> None:
        """Adds functionals of numbers in ranges, each an unknown of its own."""
        middle, radius = midpoint_radius(x)
        if self.unknowns is None:
            self.spend(add_up(inner_up(c, middle), dot_up(c, radius)))
            return
        reach = (c * radius).reshape(len(c), -1)
        lost = add_up(dot_up(c, radius) * UNIT, reach.shape[1] * SMALLEST)
        self.spend(add_up(inner_up(c, middle), lost))
        self.unknowns[name] = reach

    def carry(self, step: Step) -> None:
        """Puts what has arrived behind a step on what it reads."""
        d, c = self.on_d.pop(step.output, None), self.on_x.pop(step.output, None)
        if d is None and c is None:
            return
        self.tick()
        before, spent = len(self.costs), self.total
        if d is not None:
            self._difference(step, d)
        if c is not None:
            self._values(step, self.ranges.maps.value_maps[step.name], c)
        own = sum((np.asarray(r.bound) for r in self.costs[before:]), np.zeros(()))
        self.shares[step.name] = np.broadcast_to(own + np.abs(self.total - spent), spent.shape)

    def spent(self, row: int, total: float) -> Spent:
        """What nodes add to the bound of one functional."""
        values = self.ranges.maps.values
        ends = {t: c for t, c in self.on_x.items() if t in values}
        influence = {t: np.abs(c[row]) * (values[t].hi - values[t].lo) for t, c in ends.items()}
        costs = {name: float(share[row]) for name, share in self.shares.items()}
        return Spent(costs, influence, total)

    def _values(self, step: Step, mapped: ValueMap, c: FloatArray) -> None:
        """Puts functionals of a map of the real values that a step reads on these."""
        pulled = mapped.backward(c)
        self.spend(pulled.constant)
        for tensor, on in zip(step.reads, pulled.coefficients, strict=True):
            self.put(self.on_x, tensor, on)

    def _difference(self, step: Step, d: FloatArray) -> None:
        through = self.ranges.through[step.name]
        if through.moved is not None:
            given = d if through.kept is None else d * through.kept
            moved = through.moved.backward(given)
            self.costs.append(moved.cost)
            for tensor, on in zip(step.reads, moved.coefficients, strict=True):
                self.put(self.on_d, tensor, on)
        if through.on_d is not None and through.on_x is not None:
            (source,) = step.reads
            for where, by in ((self.on_d, through.on_d), (self.on_x, through.on_x)):
                if np.any(by):
                    self.put(where, source, d * by)
                    if not np.all(np.isin(by, (-1.0, 0.0, 1.0))):
                        self._rounded(where, source, d * by)
        if through.shift is not None:
            self._values(step, through.shift, d)
        if through.range is not None:
            self.vary(f"{step.name}//range", d, through.range)
        if through.noise is not None:
            noise = through.noise.on(d.shape[1:])
            if self.unknowns is None:
                self.costs.append(noise.weighed(d))
            else:
                self.vary(f"{step.name}//noise", d, Interval(-noise.bound, noise.bound))

    def _rounded(self, where: dict[str, FloatArray], tensor: str, c: FloatArray) -> None:
        """Charges one rounding of each coefficient."""
        if where is self.on_d:
            self.costs.append(self.ranges.radii[tensor].weighed(c).times(2 * UNIT))
        else:
            self.spend(dot_up(c, self.ranges.maps.values[tensor].magnitude) * (2 * UNIT))

    def finished(self) -> tuple[FloatArray, Radius]:
        """What all functionals are at most, up to the second."""
        for tensor, c in self.on_x.items():
            middle, radius = midpoint_radius(self.ranges.maps.values[tensor])
            self.spend(add_up(inner_up(c, middle), dot_up(c, radius)))
        for tensor, d in self.on_d.items():
            self.costs.append(self.ranges.radii[tensor].weighed(d))
        none = exactly_zero(EXACT, self.total.shape)
        upper = np.where(np.isnan(self.total), np.inf, self.total)
        return upper, carried_back((none, *self.costs))


def settled_on(grid: Grid, held: Interval) -> BoolArray:
    """Where there is one integer alone that may be stored for numbers in these ranges."""
    q = nearest_integers(grid.steps(held))
    return np.asarray(q.lo == q.hi)


def settled_or_noisy(settled: BoolArray, reached: Interval, noise: Radius) -> Through:
    """A number that is known where `settled`, else the number before with some noise."""
    shape = settled.shape
    noisy = np.where(settled, 0.0, 1.0)
    zero = np.zeros(shape)
    return Through(
        on_d=noisy,
        on_x=np.where(settled, -1.0, 0.0),
        range=Interval(np.where(settled, reached.lo, zero), np.where(settled, reached.hi, zero)),
        noise=noise.on(shape).times(noisy),
    )


def on_grid(
    reached: Interval, slope: FloatArray, rest: Interval, noise: Radius, size: FloatArray
) -> Through:
    """A stored number: one of those `reached` where these are closer together than what is known
    otherwise, else slope·x̂ + `rest` up to noise. `size` bounds |x| + |x̂|."""
    width = add_up(rest.hi - rest.lo, 2.0 * noise.bound)
    settled = (reached.hi - reached.lo) < 0.98 * width
    exact = (slope == 1.0) | (slope == 0.0)
    slack = np.where(exact, 0.0, multiply_up(size, 2.0**-50))  # of slope − 1
    lo = np.where(settled, reached.lo, add_down(rest.lo, -slack))
    hi = np.where(settled, reached.hi, add_up(rest.hi, slack))
    on_d = np.where(settled, 0.0, slope)
    on_x = np.where(settled, -1.0, slope - 1.0)
    kept = noise.times(np.where(settled, 0.0, 1.0))
    return Through(on_d=on_d, on_x=on_x, range=Interval(lo, hi), noise=kept)


def regridded(grids: tuple[Grid, Grid], x: Interval, held: Interval) -> tuple[Through, Interval]:
    """(q − z′)·s′ of the number (q − z)·s."""
    before, after = grids
    ratio = np.broadcast_to(after.scale / before.scale, held.shape)
    shift = np.broadcast_to((before.zero - after.zero) * after.scale, held.shape)
    size = add_up(held.magnitude, x.magnitude)
    off = multiply_up(multiply_up(np.abs(ratio) + 1.0, 2.0**-50), size)
    off = add_up(off, multiply_up(np.abs(shift), 2.0**-50))
    range_ = Interval(add_down(shift, -off), add_up(shift, off))
    through = Through(on_d=np.asarray(ratio), on_x=np.asarray(ratio - 1.0), range=range_)
    return through, after.numbers(before.integers(held))


def both(a: Interval, b: Interval) -> Interval:
    """Where both hold; an end that is no number says nothing."""
    return Interval(np.fmax(a.lo, b.lo), np.fmin(a.hi, b.hi))


def plus(a: Interval, b: Interval) -> Interval:
    """Sums, element by element, rounded outward."""
    return known(Interval(add_down(a.lo, b.lo), add_up(a.hi, b.hi)))


def minus(a: Interval, b: Interval) -> Interval:
    """Differences, element by element, rounded outward."""
    return known(Interval(add_down(a.lo, -b.hi), add_up(a.hi, -b.lo)))


def times(factor: FloatArray, x: Interval) -> Interval:
    """Element by element, by numbers; 0·∞ is 0."""
    a, b = (np.where(factor == 0, 0.0, factor * v) for v in (x.lo, x.hi))
    low, high = np.minimum(a, b), np.maximum(a, b)
    exact = np.isin(factor, (-1.0, 0.0, 1.0))
    slack = np.where(exact, 0.0, multiply_up(np.maximum(np.abs(a), np.abs(b)), 4.0 * UNIT))
    return Interval(add_down(low, -slack), add_up(high, slack))


def known(x: Interval) -> Interval:
    """NaN, from ∞ − ∞, means that nothing is known."""
    return Interval(np.where(np.isnan(x.lo), -np.inf, x.lo), np.where(np.isnan(x.hi), np.inf, x.hi))


def called(step: Step, op: str) -> Step:
    """The step under the name of another operator, for a reader."""
    return replace(step, node=replace(step.node, op=op))
