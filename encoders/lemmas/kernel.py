"""The kernel: a bound on an error is a `Radius`, and only the application of a lemma makes one.

A lemma is data (`encoders/lemmas/lemma.py`). `apply` takes its numbers as arrays, and bounds
on errors that were proved before as radii; it checks every numeric hypothesis element by element on
these very numbers, and evaluates the radius, in one outward-rounded reading. The semantic
hypotheses, which speak of what a run computes, are the conclusions of the radii that are given: the
graph of applications is the proof. How a number was found (a guess, a closed form, an iteration) is
nobody's business, for whatever it has to meet is checked here.

A `Radius` is an array of numbers ≥ 0 or +∞, never NaN. Where a hypothesis fails it is +∞, and its
record names the hypothesis. Nothing else makes one: this file holds the only key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Final, Never, Protocol, TypeAlias, TypeVar, final, overload

import numpy as np
import numpy.typing as npt

from encoders.lemmas.application import Application, worst_of_each
from encoders.lemmas.carrying import CARRIED_BACK
from encoders.lemmas.combining import (
    AFFINE_ERROR,
    BOTH_BOUNDS,
    EITHER_ERROR,
    ERROR_SUM,
    MOVED_ERROR,
    SCALED_ERROR,
    SUM_OF_ERRORS,
    WORST,
)
from encoders.lemmas.lemma import Lemma, RangeLemma, RoundingLemma
from encoders.lemmas.ranges.range import _RANGE_KEY, Range, only_read
from encoders.lemmas.reading.evaluation import (
    Plan,
    evaluated,
    evaluated_ends,
    exactly_evaluated,
    plan_of,
    recorded,
    value_of,
)
from encoders.lemmas.reading.outward import Value
from encoders.lemmas.terms import Number, Role
from encoders.numbers.enclosure import (
    BoolArray,
    FloatArray,
    Interval,
    add_up,
    dot_up,
    highest,
    nothing,
    sum_up,
)
from encoders.numbers.moving import sources
from encoders.numbers.radius import is_radius

Given: TypeAlias = "Radius | Range | FloatArray | float"
Places: TypeAlias = npt.NDArray[np.intp]
_Name = TypeVar("_Name")


class Carries(Protocol):
    """A linear map, of which is known what it makes of magnitudes."""

    def magnitude_up(self, values: FloatArray, /) -> FloatArray:
        """An upper bound on Σ|w|·v for v ≥ 0."""
        ...


class _Key:
    """What a radius asks to see of whoever makes it; there is one, in this file."""


_KEY = _Key()


class Radius:
    """A bound |computed − exact| ≤ `bound`, element by element, with the application it is from.

    What is done to radii here applies the lemmas of `encoders/lemmas/combining.py`.
    Raises TypeError when made by anything but this file.
    """

    __slots__ = ("_bound", "_record")

    def __init__(self, key: _Key, bound: FloatArray, record: Application) -> None:
        if key is not _KEY:
            raise TypeError("a radius is made by applying a lemma (encoders/lemmas)")
        assert is_radius(bound)
        self._bound: Final = only_read(bound)
        self._record: Final = record

    def __init_subclass__(cls) -> None:
        if cls.__module__ != __name__ or "Rounding" in globals():
            raise TypeError("a radius is made by applying a lemma (encoders/lemmas)")

    def __setattr__(self, name: str, value: Never) -> None:
        if hasattr(self, name):
            raise AttributeError(f"a radius keeps its numbers: '{name}' is set already")
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> Never:
        raise AttributeError(f"a radius keeps its numbers: '{name}' stays")

    @property
    def bound(self) -> FloatArray:
        """The numbers, read only: each ≥ 0 or +∞."""
        return self._bound

    @property
    def record(self) -> Application:
        return self._record

    @property
    def shape(self) -> tuple[int, ...]:
        return self._bound.shape

    @property
    def largest(self) -> float:
        """The largest of them, 0 of none."""
        return _largest(self._bound)

    def __add__(self, other: Radius) -> Radius:
        """Of what is off by this from something that is off by the other."""
        return apply(ERROR_SUM, e=self, f=other)

    def or_else(self, other: Radius) -> Radius:
        """Of a quantity that is off by the one or by the other, it is not known by which."""
        return apply(EITHER_ERROR, e=self, f=other)

    def and_also(self, other: Radius) -> Radius:
        """Of a quantity that both bound: the least of the two, element by element."""
        return apply(BOTH_BOUNDS, e=self, f=other)

    def times(self, factor: FloatArray | float) -> Radius:
        """Of the product with an exact number of at most this magnitude."""
        return apply(SCALED_ERROR, e=self, C=factor)

    def moved(self, f: Callable[[FloatArray], FloatArray]) -> Radius:
        """After moving elements about, as f does; each element of the result is one of these.

        Raises ValueError for an f that makes other numbers.
        """
        (bound,) = there(f, self._bound, zeros=True)
        return _moved(bound, (self,))

    def taken(self, places: Places) -> Radius:
        """The elements at these places of the flat array."""
        return _moved(np.take(self._bound, places), (self,))

    def on(self, shape: tuple[int, ...]) -> Radius:
        """Broadcast to a shape."""
        held = self._bound
        return _moved(held if held.shape == shape else np.broadcast_to(held, shape), (self,))

    def joined(self, others: Sequence[Radius], axis: int) -> Radius:
        """Concatenated along an axis."""
        every = (self, *others)
        bound = np.concatenate([r.bound for r in every], axis=axis)
        return _moved(bound, every)

    def worst(self, axis: int | None = None, where: BoolArray | None = None) -> Radius:
        """Of any one of the elements, or of those along an axis, `where` is true; 0 of none."""
        if axis is not None:
            among = True if where is None else where
            found = np.max(self._bound, axis=axis, initial=0.0, where=among)
            return self._gathered(np.asarray(found), WORST)
        held = _once(self._bound).reshape(-1)
        place = int(np.argmax(held)) if held.size else 0
        found = held[place] if held.size else np.zeros(())
        return self._gathered(np.asarray(found), WORST)

    def summed(self, axis: int | tuple[int, ...]) -> Radius:
        """Of the sum along axes, the induction of `sum-of-errors`."""
        bound = _clean(sum_up(self._bound, axis=axis))
        return self._gathered(bound, SUM_OF_ERRORS)

    def carried(self, part: Carries, *weights: Radius) -> Radius:
        """Of what a linear map makes of it: Σ|w|·e, the induction of `affine-error`. Weights that
        are not stored are at most what other radii say."""
        with np.errstate(all="ignore"):
            bound = _clean(np.asarray(part.magnitude_up(self._bound)))
        return self._gathered(bound, AFFINE_ERROR, *weights)

    def weighed(self, c: FloatArray, kept: int = 0) -> Radius:
        """Of functionals c of shape (k, *shape): Σ|c|·e, the induction of `affine-error`; over the
        first `kept` axes nothing is summed (`dot_up`)."""
        with np.errstate(all="ignore"):
            bound = _clean(dot_up(c, self._bound, kept))
        return self._gathered(bound, AFFINE_ERROR)

    def _gathered(self, bound: FloatArray, lemma: Lemma, *besides: Radius) -> Radius:
        records = tuple(radius.record for radius in (self, *besides))
        return Radius(_KEY, bound, _after_all(lemma, bound, records))

    def __copy__(self) -> Radius:
        return self

    def __deepcopy__(self, memo: object) -> Radius:
        return self

    def __reduce__(self) -> tuple[Callable[..., Radius], tuple[FloatArray, Application]]:
        """Another process knows the numbers and the worst application of each lemma that they rest
        on, not each step."""
        return _restored, (self._bound, _kept((self._record,)))


@final
class Rounding(Radius):
    """A bound on what rounding any number up to `reach` in magnitude errs by."""

    __slots__ = ("_reach",)

    def __init__(
        self, key: _Key, bound: FloatArray, record: Application, reach: FloatArray
    ) -> None:
        super().__init__(key, bound, record)
        self._reach: Final = reach

    @property
    def reach(self) -> FloatArray:
        return self._reach


@overload
def apply(lemma: RoundingLemma, **given: Given) -> Rounding: ...
@overload
def apply(lemma: Lemma, **given: Given) -> Radius: ...
def apply(lemma: Lemma, **given: Given) -> Radius:
    """The radius that a lemma gives of these numbers, of the shape that they broadcast to.

    Raises TypeError if a parameter is missing, or is a number where a radius is asked for.
    """
    plan = plan_of(lemma)
    numbers, premises = _numbers(lemma, plan, given)
    bound, failed = evaluated(plan, numbers)
    record = recorded(lemma, bound, [numbers[name] for name in plan.read], premises, failed)
    if isinstance(lemma, RoundingLemma):
        return Rounding(_KEY, bound, record, np.asarray(numbers[lemma.reach.name]))
    return Radius(_KEY, bound, record)


def exactly(lemma: Lemma, **given: Radius | Fraction) -> Radius:
    """The radius that a lemma gives of rational numbers, one of each, where no hypothesis is
    decided by rounded ones; of a radius that is given the largest element is meant.

    Its record holds the rational numbers. The radius is rounded up.
    """
    if given.keys() != plan_of(lemma).names:
        raise TypeError(f"lemma {lemma.name} has other parameters than it is given")
    numbers, premises = dict[str, Fraction](), list[Application]()
    for parameter in lemma.given:
        value = given[parameter.name]
        if isinstance(value, Radius) is not (parameter.role is Role.BOUND):
            raise TypeError(f"parameter {parameter.name} of lemma {lemma.name} has another role")
        if isinstance(value, Radius):
            worst = value.worst()
            premises.append(worst.record)
            if not worst.largest < np.inf:
                return nothing_known((), besides=tuple(premises))
            numbers[parameter.name] = Fraction(worst.largest)
        else:
            numbers[parameter.name] = value
    bound, record = exactly_evaluated(lemma, numbers, tuple(premises))
    return Radius(_KEY, bound, record)


def enclosed(lemma: RangeLemma, **given: Given) -> Range:
    """Where a lemma says that real values lie, of the shape that these numbers broadcast to.

    Raises TypeError as `apply`.
    """
    plan = plan_of(lemma)
    numbers, premises = _numbers(lemma, plan, given)
    lo, hi, failed = evaluated_ends(plan, numbers)
    beyond = nothing(lo.shape) if failed.hypothesis is None else np.where(hi < np.inf, 0.0, np.inf)
    record = recorded(lemma, beyond, [numbers[name] for name in plan.read], premises, failed)
    return Range(_RANGE_KEY, lo, hi, record)


def remembered(radii: Mapping[_Name, Radius]) -> dict[_Name, Radius]:
    """The same numbers, which know the worst application of each lemma that any of them rests on in
    place of each step."""
    kept = _kept([radius.record for radius in radii.values()])
    return {name: _restored(radius.bound, kept) for name, radius in radii.items()}


def _numbers(
    lemma: Lemma, plan: Plan, given: Mapping[str, Given]
) -> tuple[dict[str, Value], tuple[Application, ...]]:
    """What the lemma reads, by name, and the applications that its premises are from."""
    if given.keys() != plan.names:
        wrong = ", ".join(sorted(given.keys() ^ plan.names))
        raise TypeError(f"lemma {lemma.name} has other parameters than it is given: {wrong}")
    numbers: dict[str, Value] = {}
    reaches: dict[str, Value] = {}
    premises: list[Application] = []
    for name, role, reach in plan.asked:
        value = given[name]
        if role is Role.NUMBER:
            if isinstance(value, Radius | Interval):
                raise TypeError(f"parameter {name} of lemma {lemma.name} is no error and no range")
            numbers[name] = value_of(value)
            continue
        if role is Role.RANGE:
            if not isinstance(value, Range) or reach is None:
                raise TypeError(f"parameter {name} of lemma {lemma.name} has to be a Range")
            numbers[name], reaches[reach] = value_of(value.lo), value_of(value.hi)
            premises.append(value.record)
            continue
        wanted = Rounding if role is Role.ROUNDING else Radius
        if not isinstance(value, wanted):
            raise TypeError(f"parameter {name} of lemma {lemma.name} has to be a {wanted.__name__}")
        numbers[name] = value_of(value.bound)
        premises.append(value.record)
        if reach is not None and isinstance(value, Rounding):
            reaches[reach] = value_of(value.reach)
    numbers.update(reaches)
    return numbers, tuple(premises)


def carried_back(costs: Sequence[Radius]) -> Radius:
    """Of functionals that were carried back through nodes, or through one: what that costs in
    all, the induction of `carried-back`."""
    bound = costs[0].bound
    with np.errstate(all="ignore"):
        for cost in costs[1:]:
            bound = add_up(bound, cost.bound)
    bound = _clean(bound)
    records = tuple(cost.record for cost in costs)
    return Radius(_KEY, bound, _after_all(CARRIED_BACK, bound, records))


def known_at(shape: tuple[int, ...], parts: Sequence[tuple[Places, Radius]]) -> Radius:
    """Radii of some elements of a tensor, by their places in the flat array; +∞ elsewhere."""
    bound = np.full(shape, np.inf)
    for places, radius in parts:
        bound.reshape(-1)[places] = radius.bound
    records = tuple(radius.record for _, radius in parts)
    if sum(len(places) for places, _ in parts) < bound.size:
        return Radius(_KEY, bound, Application(None, (), np.inf, bound.size, records))
    return _moved(bound, [radius for _, radius in parts])


def any_of(radii: Sequence[Radius]) -> Radius:
    """Of a quantity that is off by one of them, it is not known by which."""
    found = radii[0]
    for radius in radii[1:]:
        found = found.or_else(radius)
    return found


def least_of(radii: Sequence[Radius]) -> Radius:
    """Of a quantity that all of them bound."""
    found = radii[0]
    for radius in radii[1:]:
        found = found.and_also(radius)
    return found


def worst_of(radii: Sequence[Radius]) -> Radius:
    """Of any element of any of them."""
    bound = np.asarray(max(radius.largest for radius in radii))
    return Radius(_KEY, bound, _after_all(WORST, bound, tuple(r.record for r in radii)))


def placed(shape: tuple[int, ...], parts: Sequence[tuple[tuple[slice, ...], Radius]]) -> Radius:
    """Errors at their places in an array, which holds stored numbers elsewhere; places do not
    overlap."""
    bound = np.zeros(shape)
    for place, radius in parts:
        bound[place] = radius.bound
    return _moved(bound, [radius for _, radius in parts])


def stacked(radii: Sequence[Radius]) -> Radius:
    """Along a new last axis."""
    return radii[0].moved(_apart).joined([r.moved(_apart) for r in radii[1:]], axis=-1)


def _apart(held: FloatArray) -> FloatArray:
    return held[..., None]


def exactly_zero(reason: Lemma, shape: tuple[int, ...]) -> Radius:
    """Nothing is lost, for a reason that is a lemma without numbers.

    Raises TypeError for a lemma that says anything else.
    """
    if reason.given or not (isinstance(reason.radius, Number) and reason.radius.value == 0):
        raise TypeError(f"lemma {reason.name} does not say that there is no error")
    zeros = nothing(shape)
    return Radius(_KEY, zeros, Application(reason, (), 0.0, zeros.size, ()))


def nothing_known(shape: tuple[int, ...], besides: tuple[Application, ...] = ()) -> Radius:
    """+∞ everywhere; `besides` is what was applied before something failed."""
    bound = np.broadcast_to(np.inf, shape)
    largest = np.inf if bound.size else 0.0
    record = Application(None, (), largest, bound.size, besides)
    return Radius(_KEY, bound, record)


def _moved(bound: FloatArray, given: Sequence[Radius]) -> Radius:
    """Elements of these radii at other places: the worst is as large as it was."""
    largest = _largest(bound)
    records = tuple(radius.record for radius in given)
    return Radius(_KEY, bound, Application(MOVED_ERROR, (largest,), largest, bound.size, records))


def _after_all(lemma: Lemma, bound: FloatArray, premises: tuple[Application, ...]) -> Application:
    """The record of an induction: its first number is what all terms come to, and none is left."""
    largest = _largest(bound)
    numbers = (largest, *(0.0 for _ in lemma.read[1:]))
    return Application(lemma, numbers, largest, bound.size, premises)


def there(
    f: Callable[[FloatArray], FloatArray], *held: FloatArray, zeros: bool = False
) -> list[FloatArray]:
    """Elements of arrays of one shape where f moves them. With `zeros` it may put zeros between
    errors: what they are of is off by nothing, so by no more than the first.

    Raises ValueError for an f that makes numbers of its own.
    """
    moved = [f(array) for array in held]
    if all(np.may_share_memory(m, array) for m, array in zip(moved, held, strict=True)):
        return moved
    places = sources(f, held[0].shape)
    if places is not None:
        stored = zeros & (places < 0)
        if not held[0].size and np.all(stored):
            return [np.zeros(places.shape) for _ in held]
        found = [np.take(array, np.maximum(places, 0)) for array in held]
        if all(np.all((m == v) | stored) for m, v in zip(moved, found, strict=True)):
            return found
    raise ValueError("this moves no elements about: it makes numbers of its own")


def _largest(bound: FloatArray) -> float:
    return max(highest(_once(bound)), 0.0)


def _clean(bound: FloatArray) -> FloatArray:
    return bound if is_radius(bound) else np.where(bound >= 0.0, bound, np.inf)


def _once(held: FloatArray) -> FloatArray:
    """One number that stands for all is read once."""
    return held if held.size < 2 or any(held.strides) else held[(slice(1),) * held.ndim]


def _kept(records: Sequence[Application]) -> Application:
    """What stands for all that these rest on, where the steps between are not kept."""
    flawed = any(record.flawed for record in records)
    return Application(None, (), 0.0, 0, worst_of_each(records), flawed=flawed)


def _restored(bound: FloatArray, kept: Application) -> Radius:
    clean = _clean(bound)
    record = Application(None, (), _largest(clean), clean.size, (kept,))
    return Radius(_KEY, clean, record)
