"""The domain as Python values: bounds by input, arrays with a radius, paths, ranges as text.

A float stands for the number that it is, as an element of an array does; text stands for the
decimal that it spells. What is no domain is refused in one sentence.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from numbers import Integral, Rational, Real
from pathlib import Path
from typing import Any

import numpy as np

from encoders.numbers.formats import FloatFormat
from onnx_import.graph import Array, DType, Graph
from refine.common.arrays import Stored
from refine.common.exact import Bounds, DomainError, decimal, shorten, show
from refine.common.told import told
from refine.domain.box import element_of
from refine.domain.domain import (
    Domain,
    DomainOptions,
    domain_of_boxes,
    given_inputs,
    inputs_of,
    only_input,
    range_of,
    rationals,
    read_domain,
    require_pinned,
)

_FILES = {".vnnlib": "vnnlib", ".gz": "vnnlib", ".npz": "box", ".npy": "center"}
_SWITCHES = {"--round-inputs": "round_inputs", "--strict-inputs": "strict_inputs"}
_FLAGS = {"--vnnlib", "--input", "--center", "--radius", "--clip", "--box"}


@dataclass(frozen=True)
class Around:
    """What goes with a centre: the radius, and a range that the ball is cut to. And whether the
    runtime receives real inputs rounded, and whether bounds without an input are refused."""

    radius: object = None
    clip: object = None
    round_inputs: bool = False
    strict_inputs: bool = False


def domain_of(
    graph: Graph, value: object, around: Around, fmt_of: Callable[[DType], FloatFormat]
) -> Domain:
    """The domain that a Python value describes, for this graph and these run-time formats.

    `value` is None (what the model states itself), a `Domain` or `DomainOptions`, text or a path
    (a range, or a file of VNN-LIB or arrays), option strings, a pair (lo, hi) for the only input, a
    mapping from input names to pairs, ranges or centres, or a centre for the only input. Raises
    DomainError for anything else, and as `read_domain` does.
    """
    if isinstance(value, Domain):
        require_pinned(graph, value.boxes)
        return replace(value, round_inputs=_alone(value.round_inputs, around, "a Domain"))
    if isinstance(value, DomainOptions):
        rounded = _alone(value.round_inputs, around, "DomainOptions")
        strict = value.strict_inputs or around.strict_inputs
        said = replace(value, round_inputs=rounded, strict_inputs=strict)
        return read_domain(graph, said, fmt_of)
    options = options_of(value)
    if options is not None:
        return read_domain(graph, _completed(options, around), fmt_of)
    given = given_inputs(graph)
    by_input = value if isinstance(value, Mapping) else {_sole(given, value): value}
    if not by_input:
        raise DomainError(f"the domain names no input; {inputs_of(given)}")
    for name in by_input:
        if name not in given.inputs:
            raise DomainError(f"there is no input {told(name)}; {inputs_of(given)}")
    missing = [name for name in given.inputs if name not in by_input]
    if missing:
        raise DomainError(f"the domain says nothing of input '{missing[0]}'; {inputs_of(given)}")
    used = [name for name in by_input if _is_centre(by_input[name])]
    for flag, extra in (("radius", around.radius), ("clip", around.clip)):
        if extra is not None and not used:
            raise DomainError(f"{flag}= goes with an array or a number as the centre of a ball")
    box: dict[str, Sequence[Bounds]] = {}
    sources: list[str] = []
    for name in given.inputs:
        box[name], source = _bounds_of(given, name, by_input[name], around)
        sources.append(source)
    return domain_of_boxes(
        graph,
        (box,),
        " ".join(sources),
        fmt_of,
        round_inputs=around.round_inputs,
        strict_inputs=around.strict_inputs,
    )


def constraint_of(value: object) -> Path | None:
    """The VNN-LIB file by which a value states the domain, where it does."""
    try:
        options = value if isinstance(value, DomainOptions) else options_of(value)
    except DomainError:
        return None  # said where the domain is read
    return None if options is None or options.vnnlib is None else Path(options.vnnlib)


def _alone(rounded: bool, around: Around, what: str) -> bool:
    """Are inputs rounded, of a domain that says all itself? Raises DomainError for more."""
    if around.radius is not None or around.clip is not None:
        raise DomainError(f"radius= and clip= do not go with {what}, which says all")
    return rounded or around.round_inputs


def options_of(value: object) -> DomainOptions | None:
    """Text, a path or a list of texts as the command line's options; None for other values."""
    if value is None:
        return DomainOptions()
    if isinstance(value, os.PathLike):
        path = os.fspath(value)
        kind = _FILES.get(Path(str(path)).suffix)
        if kind is None or isinstance(path, bytes):
            raise DomainError(f"{path!s} is no domain: give a .vnnlib, .npz or .npy file")
        return _changed(DomainOptions(), {kind: path})
    if isinstance(value, str):
        if value.lstrip().startswith("--"):
            return _of_texts(value.split())
        if ".." not in Path(value).name and Path(value).suffix in _FILES:
            return options_of(Path(value))
        return _of_texts([value])
    if isinstance(value, list | tuple) and value and all(isinstance(v, str) for v in value):
        return _of_texts([str(v) for v in value])
    return None


def _of_texts(texts: Sequence[str]) -> DomainOptions:
    """Ranges, or the command line's options word by word. Raises DomainError."""
    if not texts[0].startswith("--"):
        return DomainOptions(inputs=tuple(texts))
    words = [w for text in texts for w in (text.split("=", 1) if text[:2] == "--" else [text])]
    options, place = DomainOptions(), 0
    while place < len(words):
        flag, value = words[place], words[place + 1 : place + 2]
        if flag in _SWITCHES:
            options, place = _changed(options, {_SWITCHES[flag]: True}), place + 1
            continue
        if flag not in _FLAGS or not value:
            known = ", ".join(sorted(_FLAGS))
            raise DomainError(f"'{shorten(flag)}' is no option of a domain: {known} with a value")
        if flag == "--input":
            options = replace(options, inputs=(*options.inputs, value[0]))
        else:
            options = _changed(options, {flag[2:]: value[0]})
        place += 2
    return options


def _completed(options: DomainOptions, around: Around) -> DomainOptions:
    """Options with the radius and the range that go with a file of a centre."""
    texts = {}
    for name in ("radius", "clip"):
        value = getattr(around, name)
        if value is not None:
            texts[name] = range_text(value) if name == "clip" else exact_text(value)
    if around.round_inputs:
        options = replace(options, round_inputs=True)
    if around.strict_inputs:
        options = replace(options, strict_inputs=True)
    return _changed(options, texts)


def _changed(options: DomainOptions, changes: dict[str, Any]) -> DomainOptions:
    return replace(options, **changes)


def range_text(value: object) -> str:
    """`LO..HI`, of a pair of numbers or of that text. Raises DomainError for anything else."""
    if isinstance(value, str):
        return value
    lo, hi = _pair(value, "clip=")
    return f"{exact_text(lo)}..{exact_text(hi)}"


def exact_text(value: object) -> str:
    """A number as a decimal that is exactly it. Raises DomainError where there is none."""
    exact = _number(value, "a bound")
    twos, rest = 0, exact.denominator
    while rest % 2 == 0:
        twos, rest = twos + 1, rest // 2
    fives = 0
    while rest % 5 == 0:
        fives, rest = fives + 1, rest // 5
    if rest != 1:
        raise DomainError(f"{value} is no decimal number; give one that is")
    places = max(twos, fives)
    return f"{exact.numerator * 10**places // exact.denominator}e-{places}"


def _sole(graph: Graph, value: object) -> str:
    if _is_pair(value) or _is_centre(value):
        what = "one pair (lo, hi)" if _is_pair(value) else "one array"
        return only_input(graph, f"the domain is {what}")
    raise DomainError(
        f"a {type(value).__name__} is no domain: give {{name: (lo, hi)}}, (lo, hi), an array with "
        "a radius, a .vnnlib file or a range such as '-1..1'"
    )


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple | list)


def _is_centre(value: object) -> bool:
    plain = isinstance(value, Real | Decimal | np.ndarray) and not isinstance(value, bool)
    return plain or (hasattr(value, "__array__") and not isinstance(value, str | Mapping))


def _pair(value: object, where: str) -> tuple[Any, Any]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise DomainError(f"{where} is {told(value)}, and not a pair (lo, hi)")
    return value[0], value[1]


def _bounds_of(
    graph: Graph, name: str, value: object, around: Around
) -> tuple[Sequence[Bounds], str]:
    """Bounds of one input, row-major or a single one for all elements, and words for them."""
    where = f"the domain of input '{name}'"
    if isinstance(value, str):
        return (range_of(value),), f"{name}={value.strip()}"
    if _is_pair(value):
        lo, hi = _pair(value, where)
        lows, low = _numbers(graph, name, lo, f"lo of input '{name}'")
        highs, high = _numbers(graph, name, hi, f"hi of input '{name}'")
        return _between(graph, name, lows, highs), f"{name}={low}..{high}"
    if not _is_centre(value):
        raise DomainError(
            f"{where} is a {type(value).__name__}; give (lo, hi), 'LO..HI' or an array and radius="
        )
    if around.radius is None:
        raise DomainError(f"{where} is one array or number; give (lo, hi), or radius= around it")
    middle, shown = _numbers(graph, name, value, where)
    radii, radius = _numbers(graph, name, around.radius, "radius=")
    if any(r < 0 for r in radii):
        raise DomainError(f"radius= is negative: {show(min(radii))}")
    middles, reach = _spread(middle, radii)
    ball = _between(
        graph,
        name,
        [c - r for c, r in zip(middles, reach, strict=True)],
        [c + r for c, r in zip(middles, reach, strict=True)],
    )
    source = f"radius {radius} around {name}={shown}"
    if around.clip is None:
        return ball, source
    limit = range_of(range_text(around.clip))
    cut = [Bounds(max(b.lo, limit.lo), min(b.hi, limit.hi)) for b in ball]
    for k, bounds in enumerate(cut):
        if bounds.empty:
            raise DomainError(
                f"the ball at {element_of(graph, name, k)} lies outside clip={told(around.clip)}"
            )
    return cut, f"{source}, clipped to {show(limit.lo)}..{show(limit.hi)}"


def _between(
    graph: Graph, name: str, lows: Sequence[Fraction], highs: Sequence[Fraction]
) -> Sequence[Bounds]:
    found = [Bounds(lo, hi) for lo, hi in zip(*_spread(lows, highs), strict=True)]
    for k, bounds in enumerate(found):
        if bounds.empty:
            place = element_of(graph, name, k) if len(found) > 1 else f"input '{name}'"
            raise DomainError(f"at {place}, lo = {show(bounds.lo)} is above hi = {show(bounds.hi)}")
    return found


def _spread(
    one: Sequence[Fraction], other: Sequence[Fraction]
) -> tuple[Sequence[Fraction], Sequence[Fraction]]:
    """Both with as many numbers: a single one stands for all."""
    size = max(len(one), len(other))
    return (
        [*one] * size if len(one) == 1 else one,
        [*other] * size if len(other) == 1 else other,
    )


def _numbers(graph: Graph, name: str, value: object, where: str) -> tuple[list[Fraction], str]:
    """A number for all elements, or one for each, row-major, and words for it."""
    if not hasattr(value, "shape") or getattr(value, "shape", None) == ():
        scalar = value.item() if hasattr(value, "item") else value  # a numpy or torch scalar
        return [_number(scalar, where)], str(scalar)
    array = _array(value, where)
    stored = Stored(array.dtype, array.shape, lambda: array)
    shape = "×".join(map(str, array.shape))
    return rationals(stored, graph, name, where), f"array[{shape}]"


def _array(value: object, where: str) -> Array:
    if np.ma.isMaskedArray(value):
        raise DomainError(f"{where} is a masked array: say which numbers stand under the mask")
    try:
        array: Array = np.asarray(value)
    except Exception as error:  # what an __array__ of a foreign class raises
        raise DomainError(f"{where} cannot be read as an array: {shorten(str(error))}") from error
    if array.dtype.kind == "V" and array.dtype.itemsize <= 2:  # bfloat16 and its like
        array = array.astype(np.float32)
    return array


def _number(value: object, where: str) -> Fraction:
    """The number that a value is, exactly. Raises DomainError where it is none, or not finite."""
    if isinstance(value, str):
        return decimal(value)
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real | Decimal):
        raise DomainError(f"{where} is {told(value)}, and not a number or an array")
    if isinstance(value, Integral | Rational):
        return Fraction(int(value.numerator), int(value.denominator))
    if not math.isfinite(value):
        raise DomainError(f"{where} is {value}; bounds are finite")
    return (
        Fraction(*value.as_integer_ratio())
        if hasattr(value, "as_integer_ratio")
        else Fraction(float(value))
    )
