"""VNN-LIB files: the input constraint as a union of boxes with exact rational sides.

Only conditions on inputs X_i make the domain. A condition that mentions an output Y_i counts as
true, so that the domain is never smaller than the input set the file speaks about.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TypeAlias

from refine.common.exact import Bounds, DomainError
from refine.domain.expressions import Expression, text_of
from refine.domain.formulas import (
    MIRRORED,
    Declared,
    Linear,
    Tensors,
    Unions,
    assertions,
    bound_of,
    compare,
    mentions_outputs,
    naming,
    read_text,
)

MOST_BOXES = 1024


@dataclass(frozen=True)
class Half:
    """The sides known of one X: a bound that is absent is None."""

    lo: Fraction | None = None
    hi: Fraction | None = None
    lo_open: bool = False
    hi_open: bool = False

    def holds(self, x: Fraction) -> bool:
        """Does a number lie between the sides?"""
        above = self.lo is None or x > self.lo or (x == self.lo and not self.lo_open)
        below = self.hi is None or x < self.hi or (x == self.hi and not self.hi_open)
        return above and below


PartialBox: TypeAlias = Mapping[int, Half]
ANYWHERE: tuple[PartialBox, ...] = ({},)


def read_vnnlib(path: Path, tensors: Tensors) -> tuple[tuple[Bounds, ...], ...]:
    """The input constraint of a VNN-LIB file, of version 1 or 2, for a model with these tensors.

    Returns one tuple of bounds per box, one per input element, boxes distinct and none empty in the
    reals.
    Raises DomainError, naming the file, if it cannot be read, is no VNN-LIB, is about another
    model, leaves an X_i unbounded, is not a union of boxes, or is contradictory.
    """
    with naming(path):
        return boxes_of_text(read_text(path), tensors)


def boxes_of_text(text: str, tensors: Tensors) -> tuple[tuple[Bounds, ...], ...]:
    """`read_vnnlib` on the text of a file."""
    declared = Declared()
    every = partial(_conjunction, known=declared)
    unions = Unions[PartialBox](partial(_literal, declared), every, _either, ANYWHERE[0])
    parts = assertions(text, declared, partial(unions.of, declared=declared))
    declared.require(tensors, outputs=False)
    boxes = every(parts)
    if not boxes:
        raise DomainError("the domain is empty: the conditions on X contradict each other")
    return tuple(tuple(_complete(box, i) for i in range(tensors.input_size)) for box in boxes)


def _literal(
    declared: Declared, formula: Expression, difference: Linear | None, relation: str
) -> tuple[PartialBox, ...]:
    """`difference relation 0` as boxes: a half-space of one X, or everywhere if no X occurs."""
    if difference is None:
        if mentions_outputs(formula, declared):
            return ANYWHERE
        raise DomainError(f"'{text_of(formula)}' is not linear in X")
    terms = {name: factor for name, factor in difference[0].items() if factor}
    if not terms:
        return ANYWHERE if compare(difference[1], relation) else ()
    if any(name[0] == "Y" for name in terms):
        return ANYWHERE
    if len(terms) > 1:
        names = " and ".join(list(terms)[:2])
        raise DomainError(
            f"'{text_of(formula)}' ties {names} together, and a domain is a union of boxes: each "
            "X_i needs bounds of its own. Left out, the file has a larger domain, which may do"
        )
    (name, factor), *_ = terms.items()
    bound = bound_of(factor, difference[1])
    return half_spaces(int(name[2:]), bound, relation if factor > 0 else MIRRORED[relation])


def half_spaces(index: int, bound: Fraction, relation: str) -> tuple[PartialBox, ...]:
    """`X_index relation bound`: one half-space, or two."""
    match relation:
        case "<=" | "<":
            return ({index: Half(hi=bound, hi_open=relation == "<")},)
        case ">=" | ">":
            return ({index: Half(lo=bound, lo_open=relation == ">")},)
        case "=":
            return ({index: Half(bound, bound)},)
        case _:
            return ({index: Half(hi=bound, hi_open=True)}, {index: Half(bound, lo_open=True)})


def _conjunction(
    parts: Iterable[tuple[PartialBox, ...]], known: Declared
) -> tuple[PartialBox, ...]:
    """Intersection of unions; what is empty in the reals or occurs twice is dropped."""
    shared: dict[int, Half] = {}
    choices: list[tuple[PartialBox, ...]] = []
    for part in parts:
        if len(part) == 1:
            for index, half in part[0].items():
                shared[index] = meet(shared.get(index, Half()), half)
        else:
            choices.append(part)
    boxes: tuple[PartialBox, ...] = () if any(map(is_empty, shared.values())) else (shared,)
    for union in choices:
        copied = len(union) * sum(map(len, boxes)) // 16  # sides that are not looked at
        known.charge(len(boxes) * (sum(map(len, union)) + len(union)) + copied)
        boxes = _distinct(
            met for box in boxes for other in union if (met := _intersect(box, other)) is not None
        )
    return boxes


def _either(parts: Iterable[tuple[PartialBox, ...]]) -> tuple[PartialBox, ...]:
    boxes = _distinct(box for part in parts for box in part)
    return ANYWHERE if any(not box for box in boxes) else boxes


def _distinct(boxes: Iterable[PartialBox]) -> tuple[PartialBox, ...]:
    kept: dict[frozenset[tuple[int, Half]], PartialBox] = {}
    for box in boxes:
        kept.setdefault(frozenset(box.items()), box)
        if len(kept) > MOST_BOXES:
            raise DomainError(f"the input constraint is a union of more than {MOST_BOXES} boxes")
    return tuple(kept.values())


def _intersect(box: PartialBox, other: PartialBox) -> PartialBox | None:
    met = {i: meet(box.get(i, Half()), half) for i, half in other.items()}
    return None if any(map(is_empty, met.values())) else {**box, **met}


def meet(a: Half, b: Half) -> Half:
    """What lies between the sides of both."""
    lo, lo_open = _tighter(a.lo, a.lo_open, b.lo, b.lo_open, 1)
    hi, hi_open = _tighter(a.hi, a.hi_open, b.hi, b.hi_open, -1)
    return Half(lo, hi, lo_open, hi_open)


def _tighter(
    a: Fraction | None, a_open: bool, b: Fraction | None, b_open: bool, sign: int
) -> tuple[Fraction | None, bool]:
    """The larger of two lower bounds (sign 1), or the smaller of two upper ones (sign -1)."""
    if a is None or b is None:
        return (b, b_open) if a is None else (a, a_open)
    if a == b:
        return a, a_open or b_open
    return (a, a_open) if (a - b) * sign > 0 else (b, b_open)


def is_empty(half: Half) -> bool:
    """Does no real lie between the sides?"""
    if half.lo is None or half.hi is None:
        return False
    return Bounds(half.lo, half.hi, half.lo_open, half.hi_open).empty


def _complete(box: PartialBox, index: int) -> Bounds:
    half = box.get(index, Half())
    if half.lo is None or half.hi is None:
        missing = "lower" if half.lo is None else "upper"
        raise DomainError(f"X_{index} has no {missing} bound; each X_i needs both")
    return Bounds(half.lo, half.hi, half.lo_open, half.hi_open)
