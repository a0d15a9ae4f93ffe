"""VNN-LIB 1 files: the input constraint as a union of boxes with exact rational sides.

Only conditions on inputs X_i make the domain. A condition that mentions an output Y_i counts as
true, so that the domain is never smaller than the input set the file speaks about.

The reader of s-expressions is our own: Z3's SMT-LIB parser refuses numbers such as 1e-06, which
VNN-LIB files use, and walking its terms takes 2 s for 3072 inputs against 0.4 s here.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

from onnx_import.files import MOST_TEXT, read_plain
from refine.common.exact import Bounds, DomainError, decimal, shorten

MOST_BOXES = 1024
_MOST_WORK = 3 * 2**19  # sides of boxes looked at while unions are intersected
_MOST_PLACES = 2**21  # decimal places that the exponents of all numbers ask for
_MOST_BITS = 2**15  # of a rational between the terms of a formula
DEEPEST_NESTING = 100

_LEXEME = re.compile(r""";[^\n]*|[()]|\|[^|]*\||"(?:[^"]|"")*"|[^\s()|";]+|[|"]""")
_VARIABLE = re.compile(r"([XY])_(0|[1-9]\d*)")
_WITHOUT_MEANING = frozenset({"set-logic", "set-info", "set-option", "check-sat", "get-model"})
_VERSION_2 = re.compile(r"vnnlib-version|declare-(network|input|output|hidden)")

_NEGATED = {"<=": ">", ">": "<=", ">=": "<", "<": ">=", "=": "distinct", "distinct": "="}
_MIRRORED = {"<=": ">=", ">=": "<=", "<": ">", ">": "<", "=": "=", "distinct": "distinct"}

_Expression: TypeAlias = "str | list[_Expression]"
_Linear: TypeAlias = tuple[dict[str, Fraction], Fraction]
_EXPONENT = re.compile(r"[0-9.][eE][+-]?0*([0-9]+)")


@dataclass(frozen=True)
class _Half:
    """The sides known of one X so far: a bound that is absent is None."""

    lo: Fraction | None = None
    hi: Fraction | None = None
    lo_open: bool = False
    hi_open: bool = False


_PartialBox: TypeAlias = Mapping[int, _Half]
_ANYWHERE: tuple[_PartialBox, ...] = ({},)


def read_vnnlib(path: Path, size: int) -> tuple[tuple[Bounds, ...], ...]:
    """The input constraint of a VNN-LIB 1 file for a model with `size` input elements.

    Returns one tuple of `size` bounds per box, boxes distinct and none empty in the reals.
    Raises DomainError, naming the file, if it cannot be read, is not VNN-LIB 1, speaks of another
    number of inputs, leaves an X_i unbounded, is not a union of boxes, or is contradictory.
    """
    try:
        return boxes_of_text(_read(path), size)
    except RecursionError as error:
        raise DomainError(f"{path}: its formulas are nested too deeply") from error
    except DomainError as error:
        raise DomainError(f"{path}: {error}") from error


def boxes_of_text(text: str, size: int) -> tuple[tuple[Bounds, ...], ...]:
    """`read_vnnlib` on the text of a file."""
    _require_short(text)
    declared = _Known(set())
    assertions: list[tuple[_PartialBox, ...]] = []
    for position, command in _expressions(text):
        try:
            match command:
                case ["assert", formula]:
                    assertions.append(_union(formula, True, declared))
                case ["declare-const", str(name), sort] | ["declare-fun", str(name), [], sort]:
                    _declare(name, sort, declared)
                case [str(head), *_] if head in _WITHOUT_MEANING:
                    pass
                case [str(head), *_] if _VERSION_2.fullmatch(head):
                    raise DomainError("VNN-LIB 2 syntax; only VNN-LIB 1 (X_i, Y_i) is read")
                case _:
                    raise DomainError(f"'{_text(command)}' is not a VNN-LIB 1 command")
        except DomainError as error:
            raise DomainError(f"line {_line(text, position)}: {error}") from error
    inputs = sum(name.startswith("X") for name in declared.names)
    if inputs != size:
        raise DomainError(
            f"the file declares {inputs} inputs X_i, but the model has {size} input elements"
        )
    partial = _conjunction(assertions, declared)
    if not partial:
        raise DomainError("the domain is empty: the conditions on X contradict each other")
    return tuple(tuple(_complete(box, i) for i in range(size)) for box in partial)


def _read(path: Path) -> str:
    try:
        data = read_plain(path, MOST_TEXT)
        if path.suffix == ".gz":
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
                data = file.read(MOST_TEXT + 1)
            if len(data) > MOST_TEXT:
                raise DomainError(f"unpacks to more than {MOST_TEXT // 2**20} MiB")
        return data.decode("utf-8")
    except (OSError, EOFError, zlib.error) as error:
        why = (isinstance(error, OSError) and error.strerror) or error
        raise DomainError(f"cannot be read ({why})") from error
    except UnicodeDecodeError as error:
        raise DomainError("not a text file") from error


def _expressions(text: str) -> Iterator[tuple[int, _Expression]]:
    """The s-expressions of a text, each with the position where it starts."""
    outer: list[_Expression] = []
    open_lists: list[list[_Expression]] = [outer]
    start = 0
    for match in _LEXEME.finditer(text):
        lexeme = match.group()
        if lexeme[0] == ";":
            continue
        if len(open_lists) == 1:
            start = match.start()
        if lexeme == "(":
            open_lists.append([])
        elif lexeme == ")" and len(open_lists) > 1:
            closed = open_lists.pop()
            open_lists[-1].append(closed)
        elif lexeme in (")", "|", '"'):
            raise DomainError(f"line {_line(text, match.start())}: '{lexeme}' matches nothing")
        else:
            open_lists[-1].append(lexeme.strip("|") if lexeme[0] == "|" else lexeme)
        if len(open_lists) > DEEPEST_NESTING:
            raise DomainError(f"line {_line(text, start)}: nested deeper than {DEEPEST_NESTING}")
        if outer:
            yield start, outer.pop()
    if len(open_lists) > 1:
        raise DomainError(f"line {_line(text, start)}: '(' is never closed")


def _require_short(text: str) -> None:
    """Raises DomainError where a short text asks for numbers of millions of digits."""
    places = sum(int(found[1][:6]) for found in _EXPONENT.finditer(text))
    if places > _MOST_PLACES:
        raise DomainError(f"its numbers have more than {_MOST_PLACES} decimal places together")


@dataclass
class _Known:
    """The names declared so far, and how much work intersecting unions has been."""

    names: set[str]
    work: int = 0

    def charge(self, work: int) -> None:
        """Raises DomainError once a file asks for more than reading it should cost."""
        self.work += work
        if self.work > _MOST_WORK:
            raise DomainError(
                "its conditions are unions of so many boxes that intersecting them takes minutes; "
                "write the input set as one union"
            )


def _declare(name: str, sort: _Expression, declared: _Known) -> None:
    if not _VARIABLE.fullmatch(name):
        raise DomainError(f"'{shorten(name)}' is neither an input X_i nor an output Y_i")
    if sort != "Real":
        raise DomainError(f"{name} is declared {_text(sort)}; only Real is read")
    if name in declared.names:
        raise DomainError(f"{name} is declared twice")
    declared.names.add(name)


def _union(formula: _Expression, positive: bool, declared: _Known) -> tuple[_PartialBox, ...]:
    """The X-part of a formula (of its negation, if not positive) as a union of boxes."""
    match formula:
        case ["not", part]:
            return _union(part, not positive, declared)
        case ["=>", premise, conclusion]:
            return _union(["or", ["not", premise], conclusion], positive, declared)
        case ["and" | "or" as connective, *parts]:
            unions = [_union(part, positive, declared) for part in parts]
            return (
                _conjunction(unions, declared)
                if (connective == "and") == positive
                else _either(unions)
            )
        case "true" | "false":
            return _ANYWHERE if (formula == "true") == positive else ()
        case [str(relation), left, right] if relation in _NEGATED:
            difference = _sum([_linear(left, declared), _linear(right, declared)], -1)
            return _literal(formula, difference, relation if positive else _NEGATED[relation])
    raise DomainError(
        f"'{_text(formula)}' is not built from and, or, not and comparisons of two terms"
    )


def _literal(
    formula: _Expression, difference: _Linear | None, relation: str
) -> tuple[_PartialBox, ...]:
    """`difference relation 0` as boxes: a half-space of one X, or everywhere if no X occurs."""
    if difference is None:
        if "X_" not in _flat(formula):
            return _ANYWHERE
        raise DomainError(f"'{_text(formula)}' is not linear in X")
    terms = {name: factor for name, factor in difference[0].items() if factor}
    if not terms:
        return _ANYWHERE if _compare(difference[1], relation) else ()
    if any(name[0] == "Y" for name in terms):
        return _ANYWHERE
    if len(terms) > 1:
        names = " and ".join(list(terms)[:2])
        raise DomainError(
            f"'{_text(formula)}' ties {names} together; each X_i needs bounds of its own"
        )
    (name, factor), *_ = terms.items()
    bound = -difference[1] / factor
    return _half_spaces(int(name[2:]), bound, relation if factor > 0 else _MIRRORED[relation])


def _half_spaces(index: int, bound: Fraction, relation: str) -> tuple[_PartialBox, ...]:
    match relation:
        case "<=" | "<":
            return ({index: _Half(hi=bound, hi_open=relation == "<")},)
        case ">=" | ">":
            return ({index: _Half(lo=bound, lo_open=relation == ">")},)
        case "=":
            return ({index: _Half(bound, bound)},)
        case _:
            return ({index: _Half(hi=bound, hi_open=True)}, {index: _Half(bound, lo_open=True)})


def _compare(difference: Fraction, relation: str) -> bool:
    match relation:
        case "<=":
            return difference <= 0
        case "<":
            return difference < 0
        case ">=":
            return difference >= 0
        case ">":
            return difference > 0
        case "=":
            return difference == 0
        case _:
            return difference != 0


def _linear(term: _Expression, declared: _Known) -> _Linear | None:
    """A term as factors of its variables and a constant; None if it is not linear."""
    if isinstance(term, str):
        if term in declared.names:
            return {term: Fraction(1)}, Fraction(0)
        if term[:1].isalpha():
            raise DomainError(f"'{shorten(term)}' is not declared")
        return {}, decimal(term)
    if len(term) < 2 or not isinstance(term[0], str):
        raise DomainError(f"'{_text(term)}' is not a term")
    operator, parts = term[0], [_linear(part, declared) for part in term[1:]]
    match operator, len(parts):
        case "to_real", 1:
            return parts[0]
        case "-", 1:
            return _sum([({}, Fraction(0)), parts[0]], -1)
        case (("+" | "-"), _):
            return _sum(parts, 1 if operator == "+" else -1)
        case "*", _:
            return _product(parts)
        case "/", 2:
            divisor = parts[1]
            if divisor is None or divisor[0]:
                return None
            if not divisor[1]:
                raise DomainError(f"'{_text(term)}' divides by zero")
            return _product([parts[0], ({}, 1 / divisor[1])])
    raise DomainError(f"'{_text(term)}' is not a term of +, -, * and /")


def _sum(parts: list[_Linear | None], sign: int) -> _Linear | None:
    """The first part plus `sign` times each other one."""
    terms: dict[str, Fraction] = {}
    total = Fraction(0)
    for position, part in enumerate(parts):
        if part is None:
            return None
        factor_of_part = sign if position else 1
        total += factor_of_part * part[1]
        for name, factor in part[0].items():
            terms[name] = terms.get(name, Fraction(0)) + factor_of_part * factor
    _require_bits(total, *terms.values())
    return terms, total


def _require_bits(*values: Fraction) -> None:
    for value in values:
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MOST_BITS:
            raise DomainError(f"a term has a value of more than {_MOST_BITS} bits")


def _product(parts: list[_Linear | None]) -> _Linear | None:
    result: _Linear = {}, Fraction(1)
    for part in parts:
        if part is None or (part[0] and result[0]):
            return None
        (terms, constant), scale = (part, result[1]) if part[0] else (result, part[1])
        result = {name: factor * scale for name, factor in terms.items()}, constant * scale
        _require_bits(result[1], *result[0].values())
    return result


def _conjunction(
    parts: Iterable[tuple[_PartialBox, ...]], known: _Known
) -> tuple[_PartialBox, ...]:
    """Intersection of unions; what is empty in the reals or occurs twice is dropped."""
    shared: dict[int, _Half] = {}
    choices: list[tuple[_PartialBox, ...]] = []
    for part in parts:
        if len(part) == 1:
            for index, half in part[0].items():
                shared[index] = _meet(shared.get(index, _Half()), half)
        else:
            choices.append(part)
    boxes: tuple[_PartialBox, ...] = () if any(map(_is_empty, shared.values())) else (shared,)
    for union in choices:
        copied = len(union) * sum(map(len, boxes)) // 16  # sides that are not looked at
        known.charge(len(boxes) * (sum(map(len, union)) + len(union)) + copied)
        boxes = _distinct(
            met for box in boxes for other in union if (met := _intersect(box, other)) is not None
        )
    return boxes


def _either(parts: Iterable[tuple[_PartialBox, ...]]) -> tuple[_PartialBox, ...]:
    boxes = _distinct(box for part in parts for box in part)
    return _ANYWHERE if any(not box for box in boxes) else boxes


def _distinct(boxes: Iterable[_PartialBox]) -> tuple[_PartialBox, ...]:
    kept: dict[frozenset[tuple[int, _Half]], _PartialBox] = {}
    for box in boxes:
        kept.setdefault(frozenset(box.items()), box)
        if len(kept) > MOST_BOXES:
            raise DomainError(f"the input constraint is a union of more than {MOST_BOXES} boxes")
    return tuple(kept.values())


def _intersect(box: _PartialBox, other: _PartialBox) -> _PartialBox | None:
    met = {i: _meet(box.get(i, _Half()), half) for i, half in other.items()}
    return None if any(map(_is_empty, met.values())) else {**box, **met}


def _meet(a: _Half, b: _Half) -> _Half:
    lo, lo_open = _tighter(a.lo, a.lo_open, b.lo, b.lo_open, 1)
    hi, hi_open = _tighter(a.hi, a.hi_open, b.hi, b.hi_open, -1)
    return _Half(lo, hi, lo_open, hi_open)


def _tighter(
    a: Fraction | None, a_open: bool, b: Fraction | None, b_open: bool, sign: int
) -> tuple[Fraction | None, bool]:
    """The larger of two lower bounds (sign 1), or the smaller of two upper ones (sign -1)."""
    if a is None or b is None:
        return (b, b_open) if a is None else (a, a_open)
    if a == b:
        return a, a_open or b_open
    return (a, a_open) if (a - b) * sign > 0 else (b, b_open)


def _is_empty(half: _Half) -> bool:
    if half.lo is None or half.hi is None:
        return False
    return Bounds(half.lo, half.hi, half.lo_open, half.hi_open).empty


def _complete(box: _PartialBox, index: int) -> Bounds:
    half = box.get(index, _Half())
    if half.lo is None or half.hi is None:
        missing = "lower" if half.lo is None else "upper"
        raise DomainError(f"X_{index} has no {missing} bound; each X_i needs both")
    return Bounds(half.lo, half.hi, half.lo_open, half.hi_open)


def _flat(expression: _Expression) -> str:
    if isinstance(expression, str):
        return expression
    return f"({' '.join(map(_flat, expression))})"


def _text(expression: _Expression) -> str:
    return shorten(_flat(expression))


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
