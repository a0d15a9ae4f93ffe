"""What VNN-LIB files of both versions are written in: declarations and linear terms.

Variables have one name each here, whatever the version calls them: X_i and Y_i, the i-th element of
the model's inputs and outputs, tensors in their order, each in row-major order.
"""

from __future__ import annotations

import gzip
import io
import math
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

from onnx_import.files import MOST_TEXT, read_plain
from refine.common.exact import DomainError, decimal, shorten
from refine.domain.expressions import Expression, expressions, line_of, text_of

_MOST_WORK = 3 * 2**19  # sides of boxes looked at while unions are intersected
_MOST_PLACES = 2**21  # decimal places that the exponents of all numbers ask for
_MOST_BITS = 14_000  # of a rational in a formula: fewer digits than Python writes and reads
_MOST_ELEMENTS = 2**31  # of a declared tensor
_ZERO, _ONE = Fraction(0), Fraction(1)

_VARIABLE = re.compile(r"([XY])_(0|[1-9]\d*)")
_ELEMENT = re.compile(r"([^\[\]]*)\[([\s0-9,]*)\]")
_STARTS_NUMBER = re.compile(r"[+-]?[.0-9]")
_EXPONENT = re.compile(r"[0-9.][eE][+-]?0*([0-9]+)")
_WITHOUT_SEMANTICS = frozenset({"set-logic", "set-info", "set-option", "check-sat", "get-model"})
_TYPES = frozenset({"float16", "bfloat16", "float32", "float64", "real"})

NEGATED = {"<=": ">", ">": "<=", ">=": "<", "<": ">=", "=": "distinct", "distinct": "="}
_ALIASES = {"==": "=", "!=": "distinct"}
MIRRORED = {"<=": ">=", ">=": "<=", "<": ">", ">": "<", "=": "=", "distinct": "distinct"}

T = TypeVar("T")
Linear: TypeAlias = tuple[dict[str, Fraction], Fraction]
"""Factors of variables, and a constant."""


@dataclass(frozen=True)
class Tensors:
    """What a model reads and writes, in order: per tensor its type, as ONNX names it, and shape."""

    inputs: tuple[tuple[str, tuple[int, ...]], ...]
    outputs: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def input_size(self) -> int:
        """How many numbers all inputs have."""
        return sum(math.prod(shape) for _, shape in self.inputs)

    @property
    def output_size(self) -> int:
        """How many numbers all outputs have."""
        return sum(math.prod(shape) for _, shape in self.outputs)


@dataclass
class Declared:
    """What has been declared so far, and how much work combining conditions has been.

    `places` gives, for each tensor of VNN-LIB 2, the letter and number of its first element and its
    shape; `types` the types it declares.
    """

    names: set[str] = field(default_factory=set)
    places: dict[str, tuple[str, int, tuple[int, ...]]] = field(default_factory=dict)
    types: set[str] = field(default_factory=set)
    version: int = 1
    work: int = 0

    def charge(self, work: int) -> None:
        """Raises DomainError once a file asks for more than reading it should cost."""
        self.work += work
        if self.work > _MOST_WORK:
            raise DomainError(
                "its conditions are unions of so many boxes that intersecting them takes minutes; "
                "write the input set as one union"
            )

    def count(self, letter: str) -> int:
        """How many elements X_i, or Y_i, there are."""
        if self.version == 1:
            return sum(name.startswith(letter) for name in self.names)
        return sum(math.prod(s) for found, _, s in self.places.values() if found == letter)

    def variable(self, token: str) -> str | None:
        """The variable that a token names; None for what is no variable.

        Raises DomainError for an element that a tensor does not have.
        """
        if token in self.names:
            return token
        if self.version == 1:
            return None
        element = _ELEMENT.fullmatch(token)
        name, indices = (token, "") if element is None else element.groups()
        if name not in self.places:
            return None
        letter, first, shape = self.places[name]
        index = _index(token, indices)
        inside = len(index) == len(shape) and all(i < n for i, n in zip(index, shape, strict=True))
        if not inside:
            raise DomainError(f"'{shorten(token)}': {name} has the shape {list(shape)}")
        flat_index = 0
        for i, n in zip(index, shape, strict=True):
            flat_index = flat_index * n + i
        return f"{letter}_{first + flat_index}"

    def declare(self, name: str, sort: Expression) -> None:
        """A variable of VNN-LIB 1. Raises DomainError."""
        if self.version != 1:
            raise DomainError("VNN-LIB 2 declares tensors, in declare-network")
        if not _VARIABLE.fullmatch(name):
            raise DomainError(f"'{shorten(name)}' is neither an input X_i nor an output Y_i")
        if sort != "Real":
            raise DomainError(f"{name} is declared {text_of(sort)}; only Real is read")
        if name in self.names:
            raise DomainError(f"{name} is declared twice")
        self.names.add(name)

    def declare_version(self, text: str) -> None:
        """`<2.0>`. Raises DomainError."""
        if not re.fullmatch(r"<[12]\.[0-9]+>", text):
            raise DomainError(f"VNN-LIB {shorten(text)}; versions 1 and 2 are read")
        if self.names or self.places:
            raise DomainError("the version is said after declarations; it comes first")
        self.version = int(text[1])

    def declare_network(self, name: str, parts: list[Expression]) -> None:
        """The one network of a VNN-LIB 2 file. Raises DomainError."""
        if self.places:
            raise DomainError("a second network is declared; only files about one network are read")
        if self.version == 1:
            raise DomainError("a network is declared before (vnnlib-version <2.0>)")
        sizes = {"X": 0, "Y": 0}
        for part in parts:
            match part:
                case ["declare-input" | "declare-output" as head, str(tensor), str(kind), *rest]:
                    letter = "X" if head == "declare-input" else "Y"
                    shape = _shape("".join(r if isinstance(r, str) else text_of(r) for r in rest))
                    if tensor in self.places:
                        raise DomainError(f"{shorten(tensor)} is declared twice")
                    self.types.add(_type_of(kind))
                    self.places[tensor] = letter, sizes[letter], shape
                    sizes[letter] += math.prod(shape)
                case ["declare-hidden", *_]:
                    raise DomainError("hidden tensors are not read: only inputs and outputs")
                case [str("equal-to" | "isometric-to"), *_]:
                    raise DomainError("it speaks of several networks; only one is read")
                case _:
                    raise DomainError(f"'{text_of(part)}' is no input or output of {shorten(name)}")

    def require(self, tensors: Tensors, *, outputs: bool) -> None:
        """Raises DomainError where a file is about another model than this; whether it has another
        number of outputs is asked with `outputs` only."""
        sizes = [("X", "input", tensors.input_size), ("Y", "output", tensors.output_size)]
        for letter, word, size in sizes[: 2 if outputs else 1]:
            if self.count(letter) != size:
                raise DomainError(
                    f"the file declares {self.count(letter)} {word}s {letter}_i, but the model has "
                    f"{size} {word} elements"
                )
        for letter, of_model in (("X", tensors.inputs), ("Y", tensors.outputs))[: 1 + outputs]:
            shapes = [shape for found, _, shape in self.places.values() if found == letter]
            for said, (_, shape) in zip(shapes, of_model, strict=False):
                if not _same_order(said, shape):
                    raise DomainError(
                        f"the file declares the shape {list(said)}, but the model has {list(shape)}"
                    )
        had = {kind for kind, _ in (*tensors.inputs, *tensors.outputs)}
        others = self.types - had - {"real"}
        if others:
            raise DomainError(
                f"the file declares {' and '.join(sorted(others))}, but the model computes in "
                f"{' and '.join(sorted(had))}"
            )


def _same_order(said: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Is an element of one shape plainly that of the other: axes of one aside, or in one row?"""
    left, right = ([n for n in s if n != 1] for s in (said, shape))
    return left == right or (len(left) < 2 and math.prod(said) == math.prod(shape))


def _index(token: str, text: str) -> tuple[int, ...]:
    """The integers between the brackets of an element. Raises DomainError."""
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    if not all(re.fullmatch(r"[0-9]{1,10}", part) for part in parts):
        raise DomainError(f"'{shorten(token)}' is no element such as X[0,3]")
    return tuple(map(int, parts))


def _shape(text: str) -> tuple[int, ...]:
    """`[2,3]`, and `[]` of a scalar."""
    inner = re.fullmatch(r"\[((?:\s*[0-9]{1,10}\s*(?:,|(?=\])))*\s*)\]", text)
    if inner is None:
        raise DomainError(f"'{shorten(text)}' is no shape such as [1,5]")
    shape = tuple(int(n) for n in inner[1].split(",") if n.strip())
    if math.prod(shape) > _MOST_ELEMENTS:
        raise DomainError(f"a tensor of the shape {list(shape)} is larger than any that is read")
    return shape


def _type_of(text: str) -> str:
    """The type in ONNX's words."""
    kind = re.sub(r"^f(?=[0-9])", "float", text.lower()).replace("bf16", "bfloat16")
    if kind not in _TYPES:
        raise DomainError(f"the type {shorten(text)} is not read: {', '.join(sorted(_TYPES))} are")
    return kind


def assertions(text: str, declared: Declared, read: Callable[[Expression], T]) -> list[T]:
    """What `read` makes of each formula that a file asserts; declarations are entered as they come.

    Raises DomainError, naming the line.
    """
    require_short(text)
    found, asked = [], False
    for position, command in expressions(text):
        try:
            match command:
                case ["assert", _] if asked:
                    raise DomainError("it asserts something after (check-sat), which is not asked")
                case ["assert", formula]:
                    found.append(read(formula))
                case ["check-sat"]:
                    asked = True
                case ["declare-const", str(name), sort] | ["declare-fun", str(name), [], sort]:
                    declared.declare(name, sort)
                case ["vnnlib-version", str(version)]:
                    declared.declare_version(version)
                case ["declare-network", str(name), *parts]:
                    declared.declare_network(name, parts)
                case [str(head), *_] if head in _WITHOUT_SEMANTICS:
                    pass
                case _:
                    raise DomainError(f"'{text_of(command)}' is not a VNN-LIB command")
        except DomainError as error:
            raise DomainError(f"line {line_of(text, position)}: {error}") from error
    return found


def comparison(formula: Expression, positive: bool) -> tuple[str, Expression, Expression] | None:
    """A relation, as it stands or denied, and its two sides; None for another formula."""
    match formula:
        case [str(word), left, right]:
            relation = _ALIASES.get(word, word)
            if relation in NEGATED:
                return relation if positive else NEGATED[relation], left, right
    return None


def read_text(path: Path) -> str:
    """A file's text, unpacked where it ends in .gz. Raises DomainError where that fails or is too
    long."""
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


def require_short(text: str) -> None:
    """Raises DomainError where a short text asks for numbers of millions of digits."""
    places = sum(int(found[1][:6]) for found in _EXPONENT.finditer(text))
    if places > _MOST_PLACES:
        raise DomainError(f"its numbers have more than {_MOST_PLACES} decimal places together")


def compare(difference: Fraction, relation: str) -> bool:
    """Does the difference of two sides stand in this relation to 0?"""
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


@dataclass(frozen=True)
class Unions(Generic[T]):
    """What becomes of the parts of a formula: each a union, of boxes say, of conjunctions.

    `literal(formula, difference, relation)` makes one of `difference relation 0` (None where it is
    not linear), `every` their intersection, `either` their union; `anywhere` is what is always
    true.
    """

    literal: Callable[[Expression, Linear | None, str], tuple[T, ...]]
    every: Callable[[list[tuple[T, ...]]], tuple[T, ...]]
    either: Callable[[list[tuple[T, ...]]], tuple[T, ...]]
    anywhere: T

    def of(
        self, formula: Expression, declared: Declared, *, positive: bool = True
    ) -> tuple[T, ...]:
        """A formula, or its negation, as a union. Raises DomainError for what is no formula."""
        compared = comparison(formula, positive)
        if compared is not None:
            relation, left, right = compared
            return self.literal(formula, minus(left, right, declared), relation)
        match formula:
            case ["not", part]:
                return self.of(part, declared, positive=not positive)
            case ["=>", premise, conclusion]:
                either: Expression = ["or", ["not", premise], conclusion]
                return self.of(either, declared, positive=positive)
            case ["and" | "or" as connective, *parts]:
                unions = [self.of(part, declared, positive=positive) for part in parts]
                joined = self.every if (connective == "and") == positive else self.either
                return joined(unions)
            case "true" | "false":
                return (self.anywhere,) if (formula == "true") == positive else ()
        raise DomainError(
            f"'{text_of(formula)}' is not built from and, or, not and comparisons of two terms"
        )


def minus(left: Expression, right: Expression, declared: Declared) -> Linear | None:
    """left − right; None if it is not linear."""
    if isinstance(left, str) and isinstance(right, str):
        variable = declared.variable(left)
        if variable is not None and _STARTS_NUMBER.match(right):
            constant = -decimal(right)
            require_bits(constant)
            return {variable: _ONE}, constant
    return _sum([linear(left, declared), linear(right, declared)], -1)


def mentions_outputs(formula: Expression, declared: Declared) -> bool:
    """Does an output occur in the formula?"""
    if isinstance(formula, str):
        variable = declared.variable(formula)
        return variable is not None and variable[0] == "Y"
    return any(mentions_outputs(part, declared) for part in formula)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Puts the file's name before what is wrong with it."""
    try:
        yield
    except RecursionError as error:
        raise DomainError(f"{path}: its formulas are nested too deeply") from error
    except DomainError as error:
        raise DomainError(f"{path}: {error}") from error


def linear(term: Expression, declared: Declared) -> Linear | None:
    """A term as factors of its variables and a constant; None if it is not linear."""
    if isinstance(term, str):
        variable = declared.variable(term)
        if variable is not None:
            return {variable: _ONE}, _ZERO
        if term[:1].isalpha():
            raise DomainError(f"'{shorten(term)}' is not declared")
        return {}, decimal(term)
    if len(term) < 2 or not isinstance(term[0], str):
        raise DomainError(f"'{text_of(term)}' is not a term")
    operator, parts = term[0], [linear(part, declared) for part in term[1:]]
    match operator, len(parts):
        case "to_real", 1:
            return parts[0]
        case "-", 1:
            return _sum([({}, _ZERO), parts[0]], -1)
        case (("+" | "-"), _):
            return _sum(parts, 1 if operator == "+" else -1)
        case "*", _:
            return _product(parts)
        case "/", 2:
            divisor = parts[1]
            if divisor is None or divisor[0]:
                return None
            if not divisor[1]:
                raise DomainError(f"'{text_of(term)}' divides by zero")
            return _product([parts[0], ({}, 1 / divisor[1])])
    raise DomainError(f"'{text_of(term)}' is not a term of +, -, * and /")


def _sum(parts: list[Linear | None], sign: int) -> Linear | None:
    """The first part plus `sign` times each other one."""
    terms: dict[str, Fraction] = {}
    total = _ZERO
    for position, part in enumerate(parts):
        if part is None:
            return None
        negative = sign < 0 < position
        if part[1]:
            total = total - part[1] if negative else total + part[1]
        for name, factor in part[0].items():
            signed = -factor if negative else factor
            terms[name] = terms[name] + signed if name in terms else signed
    require_bits(total, *terms.values())
    return terms, total


def require_bits(*values: Fraction) -> None:
    """Raises DomainError for numbers that are too long to be written."""
    for value in values:
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MOST_BITS:
            raise DomainError(f"a term has a value of more than {_MOST_BITS} bits")


def bound_of(factor: Fraction, constant: Fraction) -> Fraction:
    """Where factor·X + constant is zero. Raises DomainError where that is too long a number."""
    bound = -constant if factor == 1 else -constant / factor
    require_bits(bound)
    return bound


def _product(parts: list[Linear | None]) -> Linear | None:
    result: Linear = {}, _ONE
    for part in parts:
        if part is None or (part[0] and result[0]):
            return None
        (terms, constant), scale = (part, result[1]) if part[0] else (result, part[1])
        result = {name: factor * scale for name, factor in terms.items()}, constant * scale
        require_bits(result[1], *result[0].values())
    return result
