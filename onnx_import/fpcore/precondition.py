"""What an FPCore precondition says of each argument, where it is a box."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise

from onnx_import.fpcore.text import Expression, number, written
from onnx_import.graph import InputRange

_ASCENDING = {"<": True, "<=": False}
_DESCENDING = {">": True, ">=": False}


def ranges_of(
    precondition: Expression | None, inputs: Sequence[str]
) -> tuple[Mapping[str, InputRange], tuple[str, ...]]:
    """The range of every input, and notes. No ranges at all where the precondition says something
    else too, or leaves a side open: the inputs it allows would not be those of a box."""
    sides: dict[str, InputRange] = {}
    for part in _conjuncts(precondition):
        if not _narrow(sides, part):
            return {}, (f"the precondition {written(part)} is no range of one argument: not used",)
    ranges = {name: sides.get(name, InputRange()) for name in inputs}
    open_ = [name for name, r in ranges.items() if r.lo is None or r.hi is None]
    if open_:
        return {}, (f"the precondition does not bound {', '.join(open_)}: not used",)
    return ranges, ()


def _conjuncts(precondition: Expression | None) -> list[Expression]:
    if precondition is None or precondition == "TRUE":
        return []
    if isinstance(precondition, tuple) and precondition and precondition[0] == "and":
        return [c for part in precondition[1:] for c in _conjuncts(part)]
    return [precondition]


def _narrow(sides: dict[str, InputRange], part: Expression) -> bool:
    """Record a chain of comparisons; False if it is not one of names and numbers."""
    if not isinstance(part, tuple) or len(part) < 3 or not isinstance(part[0], str):
        return False
    relation, terms = part[0], list(part[1:])
    if relation in _DESCENDING:
        terms.reverse()
    elif relation not in _ASCENDING:
        return False
    strict = {**_ASCENDING, **_DESCENDING}[relation]
    for low, high in pairwise(terms):
        a, b = _constant(low), _constant(high)
        if a is not None and b is None and isinstance(high, str):
            sides[high] = sides.get(high, InputRange()).above(a, strict)
        elif b is not None and a is None and isinstance(low, str):
            sides[low] = sides.get(low, InputRange()).below(b, strict)
        else:
            return False
    return True


def _constant(term: Expression) -> Fraction | None:
    if isinstance(term, str):
        return number(term)
    if len(term) == 2 and term[0] == "-":
        value = _constant(term[1])
        return None if value is None else -value
    if len(term) == 3 and term[0] == "/":
        a, b = _constant(term[1]), _constant(term[2])
        return a / b if a is not None and b else None
    return None
