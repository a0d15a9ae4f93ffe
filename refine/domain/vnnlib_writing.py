"""VNN-LIB files of unsafe sets, of version 1 and 2: what is written contains what was meant.

Whoever shows that a real network reaches nothing of the set that is written has shown it of the set
that was meant. Right sides are rounded up, and the sides of boxes outwards, to decimals that other
programs may round to float64: the nearest float64 lies on the safe side, too. Coefficients are
exact; a row whose coefficients have no finite decimals is multiplied by an integer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Context, Decimal
from fractions import Fraction

import numpy as np

from encoders.numbers.formats import BINARY64, round_up
from refine.common.exact import DomainError
from refine.common.visible import visible
from refine.domain.formulas import Tensors
from refine.domain.properties import Property, Row
from refine.domain.vnnlib import Half

VERSIONS = (1, 2)
_EXACT = Context(prec=4000)
_FINE = 10**40  # beyond float64's range, right sides are rounded to multiples of 1/_FINE


def vnnlib_text(unsafe: Property, tensors: Tensors, version: int, about: Sequence[str] = ()) -> str:
    """The unsafe set as a file; `about` are lines of comments at its head.

    Strict rows and open sides are written with their ends, which makes the set larger.
    """
    names = _names(tensors, version)
    lines = [f"; {visible(' '.join(line.split()))}" for line in about]
    lines += _declarations(tensors, version)
    parts = unsafe.unsafe
    if not parts:  # no input meets the limits: an unsafe set without elements
        raise DomainError("the unsafe set is empty: no input meets its conditions")
    shared = parts[0].limits
    if all(part.limits == shared for part in parts):
        lines += [f"(assert {text})" for text in _limits(shared, names)]
        texts = [[_row(row, names) for row in part.rows] for part in parts]
        if len(texts) == 1:
            lines += [f"(assert {text})" for text in texts[0]]
        elif all(texts):
            lines += ["(assert (or", *(f"  {_and(text)}" for text in texts), "))"]
    else:
        every = [[*_limits(p.limits, names), *(_row(row, names) for row in p.rows)] for p in parts]
        lines += ["(assert (or", *(f"  {_and(text)}" for text in every), "))"]
    return "\n".join(lines) + "\n"


def _and(texts: Sequence[str]) -> str:
    return f"(and {' '.join(texts)})"


_Names = Mapping[str, Sequence[str]]


def _names(tensors: Tensors, version: int) -> _Names:
    """By letter, the name of each element."""
    if version == 1:
        sizes = (("X", tensors.input_size), ("Y", tensors.output_size))
        return {letter: [f"{letter}_{i}" for i in range(size)] for letter, size in sizes}
    found: dict[str, list[str]] = {}
    for letter, several in (("X", tensors.inputs), ("Y", tensors.outputs)):
        found[letter] = []
        for k, (_, shape) in enumerate(several):
            name = _tensor(letter, k, len(several))
            places = np.ndindex(*shape)
            found[letter] += [f"{name}[{','.join(map(str, p))}]" if p else name for p in places]
    return found


def _tensor(letter: str, number: int, several: int) -> str:
    return letter if several == 1 else f"{letter}{number}"


def _declarations(tensors: Tensors, version: int) -> Iterator[str]:
    if version == 1:
        for letter, size in (("X", tensors.input_size), ("Y", tensors.output_size)):
            yield from (f"(declare-const {letter}_{i} Real)" for i in range(size))
        return
    yield "(vnnlib-version <2.0>)"
    yield "(declare-network N"
    for letter, word, several in (
        ("X", "input", tensors.inputs),
        ("Y", "output", tensors.outputs),
    ):
        for k, (_, shape) in enumerate(several):
            name = _tensor(letter, k, len(several))
            yield f"  (declare-{word} {name} real [{','.join(map(str, shape))}])"
    yield ")"


def _limits(limits: Mapping[int, Half], names: _Names) -> Iterator[str]:
    for i, half in sorted(limits.items()):
        if half.lo is not None:
            yield f"(>= {names['X'][i]} {_above(-half.lo, negated=True)})"
        if half.hi is not None:
            yield f"(<= {names['X'][i]} {_above(half.hi)})"


def _row(row: Row, names: _Names) -> str:
    terms = [(names["Y"][i], c) for i, c in sorted(row.outputs.items())]
    terms += [(names["X"][i], c) for i, c in sorted(row.inputs.items())]
    scale = math.lcm(*(_odd_part(c.denominator) for _, c in terms)) if terms else 1
    right = row.at_most * scale
    terms = [(name, c * scale) for name, c in terms if c]
    if len(terms) == 1 and abs(terms[0][1]) == 1:
        (name, factor), *_ = terms
        return (
            f"(<= {name} {_above(right)})"
            if factor > 0
            else (f"(>= {name} {_above(right, negated=True)})")
        )
    written = [name if c == 1 else f"(* {_decimal(c)} {name})" for name, c in terms]
    left = f"(+ {' '.join(written)})" if len(written) > 1 else "".join(written) or "0.0"
    return f"(<= {left} {_above(right)})"


def _odd_part(denominator: int) -> int:
    """What of a denominator has no finite decimals."""
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    return denominator


def _above(value: Fraction, *, negated: bool = False) -> str:
    """A decimal that is not below a number, and whose nearest float64 is not either; its negative,
    if that is asked for."""
    near = round_up(value, BINARY64)
    if not math.isfinite(near):
        raised = Fraction(math.ceil(value * _FINE), _FINE)
        return _decimal(-raised if negated else raised)
    while Fraction(repr(near)) < value:
        near = math.nextafter(near, math.inf)
    text = f"{Decimal(repr((-near if negated else near) + 0.0)):f}"
    return text if "." in text else f"{text}.0"


def _decimal(value: Fraction) -> str:
    """A number with finite decimals, all of them."""
    text = f"{_EXACT.divide(Decimal(value.numerator), Decimal(value.denominator)):f}"
    if Fraction(text) != value:
        raise DomainError("a number has more decimal places than are written")
    return text if "." in text else f"{text}.0"
