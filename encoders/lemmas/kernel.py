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

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, final, overload

import numpy as np
import numpy.typing as npt

from encoders.lemmas.arrays import Arrays
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
from encoders.lemmas.lemma import Lemma, RoundingLemma
from encoders.lemmas.terms import Formula, Number, Role
from encoders.numbers.enclosure import BoolArray, FloatArray, in_blocks, nothing, sum_up
from encoders.numbers.radius import is_radius

Given: TypeAlias = "Radius | FloatArray | float"


class Carries(Protocol):
    """A linear map, of which is known what it makes of magnitudes."""

    def magnitude_up(self, values: FloatArray, /) -> FloatArray:
        """An upper bound on Σ|w|·v for v ≥ 0."""
        ...


class _Key:
    """What a radius asks to see of whoever makes it; there is one, in this file."""


_KEY = _Key()
_MANY = 2**10


@dataclass
class _Failed:
    """The first hypothesis that did not hold of every element, and whether a radius was < 0."""

    hypothesis: Formula | None = None
    flawed: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Application:
    """That a lemma was applied: to how many elements, and to which numbers at the worst of them.

    `numbers` follow `lemma.read`; `bound` is the largest radius, of that element. `failed` is a
    hypothesis that did not hold of some element, whose radius is +∞. `flawed` says that a radius,
    here or on the way, was negative although all hypotheses held: an error of ours. Without a lemma
    it says that nothing is known, or names the lemmas beside which an `unchecked` bound was made.
    """

    lemma: Lemma | None
    numbers: tuple[float, ...]
    bound: float
    elements: int
    premises: tuple[Application, ...]
    failed: Formula | None = None
    flawed: bool = False
    cited: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.flawed and any(premise.flawed for premise in self.premises):
            object.__setattr__(self, "flawed", True)

    @property
    def lemmas(self) -> tuple[str, ...]:
        """Names of the lemmas that this rests on, its own first."""
        found: dict[str, None] = {}
        for here in self.everything():
            cited = (here.lemma.name, *here.lemma.rests_on) if here.lemma else here.cited
            found.update(dict.fromkeys(cited))
        return tuple(found)

    def everything(self) -> Iterator[Application]:
        """This application and all that it rests on, each once."""
        seen, rest = {id(self)}, [self]
        while rest:
            here = rest.pop()
            yield here
            for premise in here.premises:
                if id(premise) not in seen:
                    seen.add(id(premise))
                    rest.append(premise)


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
        held = np.asarray(bound).view()
        held.flags.writeable = False
        self._bound, self._record = held, record

    def __init_subclass__(cls) -> None:
        if cls.__module__ != __name__:
            raise TypeError("a radius is made by applying a lemma (encoders/lemmas)")

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
        return float(np.max(_once(self._bound), initial=0.0))

    def __add__(self, other: Radius) -> Radius:
        """Of what is off by this from something that is off by the other."""
        return apply(ERROR_SUM, e=self, f=other)

    def or_else(self, other: Radius) -> Radius:
        """Of a quantity that is off by the one or by the other, it is not known by which."""
        return apply(EITHER_ERROR, e=self, f=other)

    def and_also(self, other: Radius) -> Radius:
        """Of a quantity that both bound: the least of the two, element by element."""
        return apply(BOTH_BOUNDS, e=self, f=other)

    def unless(self, failed: bool) -> Radius:
        """This, or +∞ everywhere if something that it rests on has failed."""
        return nothing_known(self.shape, besides=(self._record,)) if failed else self

    def times(self, factor: FloatArray | float) -> Radius:
        """Of the product with an exact number of at most this magnitude."""
        return apply(SCALED_ERROR, e=self, C=factor)

    def moved(self, f: Callable[[FloatArray], FloatArray]) -> Radius:
        """After moving elements about, as f does; each element of the result is one of these.

        Raises ValueError for an f that makes other numbers.
        """
        held = self._bound
        there = f(held)
        if not np.may_share_memory(there, held):
            size = max(held.size, 1)
            places = f(np.arange(held.size, dtype=np.float64).reshape(held.shape))
            if np.any((places < 0) | (places >= size) | (places != np.floor(places))):
                raise ValueError("this moves no elements about: it makes numbers of its own")
            there = np.asarray(held.reshape(-1)[places.astype(np.intp)])
        return self._followed(there, MOVED_ERROR)

    def taken(self, places: npt.NDArray[np.intp]) -> Radius:
        """The elements at these places of the flat array."""
        return self._followed(np.take(self._bound, places), MOVED_ERROR)

    def on(self, shape: tuple[int, ...]) -> Radius:
        """Broadcast to a shape."""
        return self._followed(np.broadcast_to(self._bound, shape), MOVED_ERROR)

    def joined(self, others: Sequence[Radius], axis: int) -> Radius:
        """Concatenated along an axis."""
        every = (self, *others)
        bound = np.concatenate([r.bound for r in every], axis=axis)
        return Radius(_KEY, bound, _following(MOVED_ERROR, bound, tuple(r.record for r in every)))

    def worst(self, axis: int | None = None, where: BoolArray | None = None) -> Radius:
        """Of any one of the elements, or of those along an axis, `where` is true; 0 of none."""
        if axis is not None:
            among = True if where is None else where
            found = np.max(self._bound, axis=axis, initial=0.0, where=among)
            return self._followed(np.asarray(found), WORST)
        held = _once(self._bound).reshape(-1)
        place = int(np.argmax(held)) if held.size else 0
        found = held[place] if held.size else np.zeros(())
        return self._followed(np.asarray(found), WORST)

    def summed(self, axis: int | tuple[int, ...]) -> Radius:
        """Of the sum along axes, the induction of `sum-of-errors`."""
        bound = _clean(sum_up(self._bound, axis=axis))
        return self._followed(bound, SUM_OF_ERRORS)

    def carried(self, part: Carries) -> Radius:
        """Of what a linear map makes of it: Σ|w|·e, the induction of `affine-error`."""
        with np.errstate(all="ignore"):
            bound = _clean(np.asarray(part.magnitude_up(self._bound)))
        return self._followed(bound, AFFINE_ERROR)

    def _followed(self, bound: FloatArray, lemma: Lemma) -> Radius:
        return Radius(_KEY, bound, _following(lemma, bound, (self._record,)))

    def __copy__(self) -> Radius:
        return self

    def __deepcopy__(self, memo: object) -> Radius:
        return self

    def __reduce__(self) -> tuple[Callable[..., Radius], tuple[FloatArray, tuple[str, ...], bool]]:
        """Another process knows the numbers and the lemmas that they rest on, not each step."""
        return _restored, (self._bound, self._record.lemmas, self._record.flawed)


@final
class Rounding(Radius):
    """A bound on what rounding any number up to `reach` in magnitude errs by."""

    __slots__ = ("_reach",)

    def __init__(
        self, key: _Key, bound: FloatArray, record: Application, reach: FloatArray
    ) -> None:
        super().__init__(key, bound, record)
        self._reach = reach

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
    numbers, premises = _numbers(lemma, given)
    bound, failed = _evaluated(lemma, numbers)
    record = _recorded(lemma, bound, numbers, premises, failed)
    if isinstance(lemma, RoundingLemma):
        return Rounding(_KEY, bound, record, numbers[lemma.reach.name])
    return Radius(_KEY, bound, record)


def _numbers(
    lemma: Lemma, given: Mapping[str, Given]
) -> tuple[dict[str, FloatArray], tuple[Application, ...]]:
    """What the lemma reads, by name, and the applications that its premises are from."""
    names = {p.name for p in lemma.given}
    if set(given) != names:
        wrong = ", ".join(sorted(set(given) ^ names))
        raise TypeError(f"lemma {lemma.name} has other parameters than it is given: {wrong}")
    numbers: dict[str, FloatArray] = {}
    premises: list[Application] = []
    for parameter in lemma.given:
        value = given[parameter.name]
        if parameter.role is Role.NUMBER:
            if isinstance(value, Radius):
                raise TypeError(f"parameter {parameter.name} of lemma {lemma.name} is no error")
            numbers[parameter.name] = np.asarray(value, np.float64)
            continue
        wanted = Rounding if parameter.role is Role.ROUNDING else Radius
        if not isinstance(value, wanted):
            raise TypeError(
                f"parameter {parameter.name} of lemma {lemma.name} has to be a {wanted.__name__}"
            )
        numbers[parameter.name] = value.bound
        premises.append(value.record)
        if parameter.role is Role.ROUNDING and isinstance(value, Rounding):
            numbers[parameter.reach.name] = value.reach
    return {p.name: numbers[p.name] for p in lemma.read}, tuple(premises)


def _evaluated(lemma: Lemma, numbers: Mapping[str, FloatArray]) -> tuple[FloatArray, _Failed]:
    """The radius where all hypotheses hold, else +∞; and which did not."""
    failed = _Failed()

    def evaluated(*blocks: FloatArray) -> FloatArray:
        read = Arrays(dict(zip(numbers, blocks, strict=True)))
        found = read.up(lemma.radius)
        for parameter, formula in lemma.signs:
            block = read.given[parameter.name]
            if block.size and not block.min() >= 0.0:
                failed.hypothesis = failed.hypothesis or formula
                found = np.where(block >= 0.0, found, np.inf)
        for formula in lemma.hypotheses:
            holds = read.surely(formula)
            if not holds.all():
                failed.hypothesis = failed.hypothesis or formula
                found = np.where(holds, found, np.inf)
        if not is_radius(found):
            failed.flawed = failed.flawed or bool(np.any(found < 0.0))
            found = np.where(found >= 0.0, found, np.inf)
        return np.broadcast_to(found, np.broadcast_shapes(*(b.shape for b in blocks)))

    with np.errstate(all="ignore"):
        bound = in_blocks(evaluated, *numbers.values()) if numbers else evaluated()
    if bound.size > _MANY and not np.any(bound):
        bound = nothing(bound.shape)
    elif any(np.may_share_memory(bound, a) for a in numbers.values()):
        bound = bound.copy()  # whoever holds the number may change it
    return bound, failed


def _recorded(
    lemma: Lemma,
    bound: FloatArray,
    numbers: Mapping[str, FloatArray],
    premises: tuple[Application, ...],
    failed: _Failed,
) -> Application:
    place = _worst(bound)
    read = () if place is None else tuple(_at(a, bound.shape, place) for a in numbers.values())
    largest = 0.0 if place is None else float(bound[place])
    return Application(lemma, read, largest, bound.size, premises, failed.hypothesis, failed.flawed)


def any_of(radii: Sequence[Radius]) -> Radius:
    """Of a quantity that is off by one of them, it is not known by which."""
    found = radii[0]
    for radius in radii[1:]:
        found = found.or_else(radius)
    return found


def placed(shape: tuple[int, ...], parts: Sequence[tuple[tuple[slice, ...], Radius]]) -> Radius:
    """Errors at their places in an array, which holds stored numbers elsewhere; places do not
    overlap."""
    bound = np.zeros(shape)
    for place, radius in parts:
        bound[place] = radius.bound
    return Radius(_KEY, bound, _following(MOVED_ERROR, bound, tuple(r.record for _, r in parts)))


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
    return Radius(_KEY, zeros, _following(reason, zeros, ()))


def nothing_known(shape: tuple[int, ...], besides: tuple[Application, ...] = ()) -> Radius:
    """+∞ everywhere; `besides` is what was applied before something failed."""
    bound = np.broadcast_to(np.inf, shape)
    largest = np.inf if bound.size else 0.0
    record = Application(None, (), largest, bound.size, besides)
    return Radius(_KEY, bound, record)


def unchecked(bound: FloatArray, *cited: str, of: Sequence[Radius] = ()) -> Radius:
    """A bound that was computed beside the lemmas that it cites, of other radii: not through the
    kernel yet.

    Which files may do so is listed in `tests/test_kernel.py`; the list only gets shorter.
    """
    flawed = not is_radius(bound) and bool(np.any(bound < 0.0))
    clean = _clean(bound)
    if clean is bound and any(bound.strides):
        clean = bound.copy()
    largest = float(np.max(_once(clean), initial=0.0))
    premises = tuple(radius.record for radius in of)
    record = Application(None, (), largest, clean.size, premises, None, flawed, cited)
    return Radius(_KEY, clean, record)


def _following(lemma: Lemma, bound: FloatArray, premises: tuple[Application, ...]) -> Application:
    largest = float(np.max(_once(bound), initial=0.0))
    return Application(lemma, (), largest, bound.size, premises)


def _clean(bound: FloatArray) -> FloatArray:
    return bound if is_radius(bound) else np.where(bound >= 0.0, bound, np.inf)


def _once(held: FloatArray) -> FloatArray:
    """One number that stands for all is read once."""
    return held if any(held.strides) else held[(slice(1),) * held.ndim]


def _worst(bound: FloatArray) -> tuple[int, ...] | None:
    """Where the largest number is; None if there is none."""
    if not bound.size:
        return None
    if not any(bound.strides):
        return (0,) * bound.ndim
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(bound)), bound.shape))


def _at(a: FloatArray, shape: tuple[int, ...], place: tuple[int, ...]) -> float:
    """The number that broadcasting puts at this place."""
    skipped = len(shape) - a.ndim
    own = (0 if n == 1 else i for i, n in zip(place[skipped:], a.shape, strict=True))
    return float(a[tuple(own)])


def _restored(bound: FloatArray, cited: tuple[str, ...], flawed: bool) -> Radius:
    clean = _clean(bound)
    largest = float(np.max(_once(clean), initial=0.0))
    return Radius(_KEY, clean, Application(None, (), largest, clean.size, (), None, flawed, cited))
