"""Properties: sets of inputs and outputs that a network must not reach, in exact rationals.

An unsafe set is a union of conjunctions, each of limits on single inputs and of rows, linear
inequalities between outputs and inputs. Files in VNN-LIB state unsafe sets; a network has the
property where no input of the domain leads into one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Context, Decimal
from fractions import Fraction
from functools import cached_property, partial
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from encoders.numbers.enclosure import BoolArray, FloatArray
from encoders.numbers.formats import BINARY64, FloatFormat, round_down, round_up
from onnx_import.graph import Graph
from refine.common.exact import Bounds, DomainError, inward, received_ends
from refine.domain.box import element_formats
from refine.domain.domain import Domain
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
    naming,
    read_text,
)
from refine.domain.vnnlib import Half, half_spaces, is_empty, meet

MOST_CONJUNCTIONS = 4096
_LONG = 10**30
_DIGITS = Context(prec=6)


@dataclass(frozen=True)
class Row:
    """Σ outputs[i]·Y_i + Σ inputs[i]·X_i ≤ `at_most`, or < where `strict`.

    Indices count elements over all tensors of the model, each in row-major order.
    """

    outputs: Mapping[int, Fraction]
    inputs: Mapping[int, Fraction]
    at_most: Fraction
    strict: bool

    def holds(self, x: Sequence[Fraction], y: Sequence[Fraction]) -> bool:
        """Of exact inputs and outputs, flat."""
        value = self.value(x, y)
        return value < self.at_most if self.strict else value <= self.at_most

    def value(self, x: Sequence[Fraction], y: Sequence[Fraction]) -> Fraction:
        """The left side."""
        of_outputs = sum((c * y[i] for i, c in self.outputs.items()), Fraction(0))
        return sum((c * x[i] for i, c in self.inputs.items()), of_outputs)

    def __str__(self) -> str:
        """The inequality, `Y_0 - Y_3 ≤ 0.1`."""
        named = [("Y", self.outputs), ("X", self.inputs)]
        terms = [(c, f"{letter}_{i}") for letter, part in named for i, c in sorted(part.items())]
        text = " ".join(_term(c, name, first=k == 0) for k, (c, name) in enumerate(terms))
        return f"{text or '0'} {'<' if self.strict else '≤'} {_number(self.at_most)}"


@dataclass(frozen=True)
class Sides:
    """The sides of limits, of each: which element it is `at`, whether it is the `least` that is
    asked for or the most that is allowed, a float64 `end` that is no further in than it is, and
    whether that is kept `apart` from: as is a number beside a limit that float64 does not hold."""

    at: npt.NDArray[np.intp]
    least: BoolArray
    end: FloatArray
    apart: BoolArray


@dataclass(frozen=True)
class Conjunction:
    """Inputs within `limits`, by the element's index, for which all rows hold of the outputs."""

    limits: Mapping[int, Half]
    rows: tuple[Row, ...]

    @cached_property
    def emptied(self) -> Half | None:
        """A limit between whose sides nothing lies, if there is one."""
        return next(filter(is_empty, self.limits.values()), None)

    @cached_property
    def sides(self) -> Sides:
        """Those of its limits."""
        found: list[tuple[int, bool, float, bool]] = []
        for i, half in self.limits.items():
            if half.lo is not None:
                down = round_down(half.lo, BINARY64)
                found.append((i, True, down, half.lo_open or down < half.lo))
            if half.hi is not None:
                up = round_up(half.hi, BINARY64)
                found.append((i, False, up, half.hi_open or half.hi < up))
        at, least, end, apart = zip(*found, strict=True) if found else ((), (), (), ())
        return Sides(
            np.array(at, np.intp),
            np.array(least, np.bool_),
            np.array(end, np.float64),
            np.array(apart, np.bool_),
        )

    def __str__(self) -> str:
        """Its rows, joined."""
        return " and ".join(map(str, self.rows)) or "whatever the outputs"

    def holds(self, x: Sequence[Fraction], y: Sequence[Fraction]) -> bool:
        """Of exact inputs and outputs, flat."""
        inside = all(half.holds(x[i]) for i, half in self.limits.items())
        return inside and all(row.holds(x, y) for row in self.rows)


@dataclass(frozen=True)
class Property:
    """That no input leads into one of the unsafe conjunctions; `source` says where they are from.

    `real` is true where the file speaks of networks of real numbers; `both` where the property is
    to hold of the real network and of every execution. `version` is that of the file's VNN-LIB.
    """

    unsafe: tuple[Conjunction, ...]
    source: str
    real: bool = False
    both: bool = False
    version: int = 1


@dataclass(frozen=True)
class _Part:
    """A conjunction that is being read."""

    limits: Mapping[int, Half] = field(default_factory=dict)
    rows: tuple[Row, ...] = ()


def read_property(path: Path, tensors: Tensors) -> Property:
    """The unsafe set that a VNN-LIB file, of version 1 or 2, states for a model.

    Raises DomainError, naming the file, if it cannot be read, is about another model, is not
    linear, or says nothing of outputs.
    """
    with naming(path):
        found = property_of_text(read_text(path), tensors)
    return replace(found, source=str(path))


def received(unsafe: Property, graph: Graph, domain: Domain) -> Property:
    """The same set of what a runtime receives of a domain that was read from the same file: limits
    between which no number lies become the nearest ones, where they became that in the domain."""
    if not domain.nearest:
        return unsafe
    formats = element_formats(graph, domain.boxes[0])
    return replace(
        unsafe,
        unsafe=tuple(
            replace(p, limits={i: _received(half, formats[i]) for i, half in p.limits.items()})
            for p in unsafe.unsafe
        ),
    )


def _received(half: Half, fmt: FloatFormat) -> Half:
    if half.lo is None or half.hi is None:
        return half
    bounds = Bounds(half.lo, half.hi, half.lo_open, half.hi_open)
    ends = None if inward(bounds, fmt) else received_ends(bounds, fmt)
    return half if ends is None else Half(Fraction(ends[0]), Fraction(ends[1]))


def property_of_text(text: str, tensors: Tensors) -> Property:
    """`read_property` on the text of a file."""
    declared = Declared()
    every = partial(_every, declared=declared)
    unions = Unions[_Part](_literal, every, _either, _Part())
    parts = assertions(text, declared, partial(unions.of, declared=declared))
    declared.require(tensors, outputs=True)
    unsafe = every(parts)
    if all(not any(row.outputs for row in part.rows) for part in unsafe):
        raise DomainError("it says nothing of the outputs: there is no property in it")
    made = tuple(Conjunction(part.limits, part.rows) for part in unsafe)
    return Property(made, "", real="real" in declared.types, version=declared.version)


def _literal(formula: Expression, difference: Linear | None, relation: str) -> tuple[_Part, ...]:
    """`difference relation 0`: a limit on one input, or rows."""
    if difference is None:
        raise DomainError(f"'{text_of(formula)}' is not linear")
    terms = {name: factor for name, factor in difference[0].items() if factor}
    constant = difference[1]
    if not terms:
        return (_Part(),) if compare(constant, relation) else ()
    if len(terms) == 1 and (name := next(iter(terms)))[0] == "X":
        upright = relation if terms[name] > 0 else MIRRORED[relation]
        return tuple(
            map(_Part, half_spaces(int(name[2:]), bound_of(terms[name], constant), upright))
        )
    match relation:
        case "<=" | "<":
            return (_Part(rows=(_row(terms, -constant, relation == "<"),)),)
        case ">=" | ">":
            return (_Part(rows=(_row(_negated(terms), constant, relation == ">"),)),)
        case "=":
            below, above = _row(terms, -constant, False), _row(_negated(terms), constant, False)
            return (_Part(rows=(below, above)),)
        case _:
            below, above = _row(terms, -constant, True), _row(_negated(terms), constant, True)
            return (_Part(rows=(below,)), _Part(rows=(above,)))


def _negated(terms: Mapping[str, Fraction]) -> dict[str, Fraction]:
    return {name: -factor for name, factor in terms.items()}


def _row(terms: Mapping[str, Fraction], at_most: Fraction, strict: bool) -> Row:
    of = {
        letter: {int(n[2:]): factor for n, factor in terms.items() if n[0] == letter}
        for letter in "XY"
    }
    return Row(of["Y"], of["X"], at_most, strict)


def _every(unions: Iterable[Sequence[_Part]], declared: Declared) -> tuple[_Part, ...]:
    """Intersection of unions; what no real inputs meet is dropped."""
    limits: dict[int, Half] = {}
    rows: list[Row] = []
    choices: list[Sequence[_Part]] = []
    for union in unions:
        if len(union) == 1:
            for i, half in union[0].limits.items():
                limits[i] = meet(limits.get(i, Half()), half)
            rows += union[0].rows
        else:
            choices.append(union)
    nowhere = any(map(is_empty, limits.values()))
    parts: tuple[_Part, ...] = () if nowhere else (_Part(limits, tuple(rows)),)
    for union in choices:
        copied = len(union) * sum(len(p.limits) + len(p.rows) for p in parts) // 16
        declared.charge(len(parts) * sum(len(p.limits) + 1 for p in union) + copied)
        parts = _few(
            met for part in parts for other in union if (met := _both(part, other)) is not None
        )
    return parts


def _both(part: _Part, other: _Part) -> _Part | None:
    met = {i: meet(part.limits.get(i, Half()), half) for i, half in other.limits.items()}
    if any(map(is_empty, met.values())):
        return None
    return _Part({**part.limits, **met}, (*part.rows, *other.rows))


def _either(unions: Iterable[Sequence[_Part]]) -> tuple[_Part, ...]:
    return _few(chain.from_iterable(unions))


def _few(parts: Iterable[_Part]) -> tuple[_Part, ...]:
    kept: list[_Part] = []
    for part in parts:
        kept.append(part)
        if len(kept) > MOST_CONJUNCTIONS:
            raise DomainError(
                f"the unsafe set is a union of more than {MOST_CONJUNCTIONS} conjunctions"
            )
    return tuple(kept)


def _term(factor: Fraction, name: str, *, first: bool) -> str:
    sign = ("" if factor > 0 else "-") if first else ("+ " if factor > 0 else "- ")
    size = abs(factor)
    return f"{sign}{name}" if size == 1 else f"{sign}{_number(size)}·{name}"


def _number(value: Fraction) -> str:
    """Short: what float64 does not hold in six digits."""
    if value.denominator == 1 and abs(value) < _LONG:
        return str(value.numerator)
    if value and not 1 / _LONG < abs(value) < _LONG:
        return f"{_DIGITS.divide(Decimal(value.numerator), Decimal(value.denominator)):e}"
    return repr(float(value))
