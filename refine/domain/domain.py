"""The domain of the claim: the inputs, representable at run time, that a proof speaks about.

Bounds are exact rationals until they are rounded inward to the input's format, so a decimal such
as 0.1 never lets in a float above it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from encoders.numbers.formats import (
    WHOLE,
    FloatFormat,
)
from onnx_import.errors import ModelError
from onnx_import.graph import Array, DType, Graph
from refine.common.arrays import Stored, stored_arrays
from refine.common.exact import (
    DECIMAL,
    Bounds,
    DomainError,
    decimal,
    shorten,
    show,
)
from refine.domain.box import Box, ExactBox, element_of
from refine.domain.formulas import Tensors
from refine.domain.receiving import EmptyError, rounded_box, rounding_notes
from refine.domain.vnnlib import read_vnnlib

__all__ = ["Box", "Domain", "DomainError", "DomainOptions", "read_domain"]


@dataclass(frozen=True)
class Domain:
    """A union of boxes, where it came from, and what was decided in reading it.

    `nearest` says that of some elements no number that the runtime can receive lies between the
    ends that were written, and that the nearest one is taken.
    """

    boxes: tuple[Box, ...]
    source: str
    notes: tuple[str, ...] = ()
    round_inputs: bool = False
    nearest: bool = False


@dataclass(frozen=True)
class DomainOptions:
    """The domain as the user wrote it: one of vnnlib, inputs, center and box, or none of them
    where the model states ranges itself.

    `inputs` holds `NAME=LO..HI` or `LO..HI`; `center` is a number, a .npy
    file, or an .npz file with an array for each input.
    """

    vnnlib: str | None = None
    inputs: tuple[str, ...] = ()
    center: str | None = None
    radius: str | None = None
    clip: str | None = None
    box: str | None = None
    round_inputs: bool = False
    strict_inputs: bool = False


# By graph input: one Bounds per element in row-major order, or a single one for all elements.
_MASK = (Bounds(Fraction(0), Fraction(1)),)  # of all elements of a mask that is sampled


def read_domain(
    graph: Graph, options: DomainOptions, fmt_of: Callable[[DType], FloatFormat]
) -> Domain:
    """The domain that the options describe, for this graph and these run-time formats.

    Raises DomainError, in one sentence, for options that contradict each other, for text or files
    that cannot be read, for bounds that do not fit the graph's inputs, and for an empty domain.
    """
    _formats(graph, fmt_of)
    written, source = _boxes_as_written(given_inputs(graph), options)
    return domain_of_boxes(
        graph,
        written,
        source,
        fmt_of,
        round_inputs=options.round_inputs,
        strict_inputs=options.strict_inputs,
    )


def given_inputs(graph: Graph) -> Graph:
    """The graph with the inputs alone that somebody gives: no mask that is sampled."""
    return replace(graph, inputs=tuple(n for n in graph.inputs if n not in graph.random_masks))


def domain_of_boxes(
    graph: Graph,
    written: Sequence[ExactBox],
    source: str,
    fmt_of: Callable[[DType], FloatFormat],
    *,
    round_inputs: bool,
    strict_inputs: bool = False,
) -> Domain:
    """The union of boxes with exact bounds, rounded inward; `source` says where they are from.

    Where no number of the input's format lies between two bounds the nearest one is taken, unless
    `strict_inputs`. Raises DomainError where no input that is representable lies in any of them.
    """
    formats = _formats(graph, fmt_of)
    masks = dict.fromkeys(graph.random_masks, _MASK)
    boxes = tuple({**exact, **masks} for exact in written)
    kept: list[tuple[ExactBox, Box]] = []
    empty: list[EmptyError] = []
    for exact in boxes:
        try:
            kept.append((exact, rounded_box(graph, exact, formats, round_inputs, strict_inputs)))
        except EmptyError as error:
            empty.append(error)
    if not kept:
        raise empty[0]
    notes, nearest = rounding_notes(kept, formats, round_inputs)
    if empty:
        notes += (f"{len(empty)} of {len(written)} boxes hold no representable input: left out",)
    distinct = {_content(box): box for _, box in kept}
    require_pinned(graph, distinct.values())
    return Domain(tuple(distinct.values()), source, notes, round_inputs, nearest)


def require_pinned(graph: Graph, boxes: Iterable[Box]) -> None:
    """Raises DomainError where an input whose numbers are constants of the graph has others."""
    for name, held in graph.pinned.items():
        for box in boxes:
            if not all(np.array_equal(end[name], held) for end in (box.lo, box.hi)):
                raise DomainError(
                    f"the graph was read with one point of input '{name}', and this domain has "
                    "another one; read the file again"
                )


def _formats(graph: Graph, fmt_of: Callable[[DType], FloatFormat]) -> dict[str, FloatFormat]:
    kinds = {name: graph.types[name].dtype for name in graph.inputs}
    return {name: fmt_of(kind) if kind.is_float else WHOLE for name, kind in kinds.items()}


def _boxes_as_written(graph: Graph, options: DomainOptions) -> tuple[tuple[ExactBox, ...], str]:
    """The boxes with exact bounds, and a description of where they were written."""
    given = {
        "--vnnlib": options.vnnlib,
        "--input": options.inputs or None,
        "--center": options.center,
        "--box": options.box,
    }
    present = [flag for flag, value in given.items() if value is not None]
    if len(present) > 1:
        raise DomainError(f"{' and '.join(present)} each give a domain; keep one of them")
    for flag, value in (("--radius", options.radius), ("--clip", options.clip)):
        if value is not None and options.center is None:
            raise DomainError(f"{flag} needs --center")
    if options.vnnlib is not None:
        return _from_vnnlib(graph, Path(options.vnnlib)), f"VNN-LIB file {options.vnnlib}"
    if options.inputs:
        return (_from_ranges(graph, options.inputs),), " ".join(options.inputs)
    if options.center is not None:
        if options.radius is None:
            raise DomainError("--center needs --radius R; 0 is the point alone")
        ball = _from_ball(graph, options.center, options.radius, options.clip)
        clip = f", clipped to {options.clip}" if options.clip is not None else ""
        return (ball,), f"radius {options.radius} around {options.center}{clip}"
    if options.box is not None:
        return (_from_arrays(graph, Path(options.box)),), f"box file {options.box}"
    if graph.ranges:
        return (_from_model(graph),), "the ranges that the model states"
    first = next(iter(graph.inputs), "NAME")
    raise DomainError(
        f"no domain is given: use --input {first}=LO..HI, --vnnlib FILE, --center with --radius, "
        "or --box FILE.npz"
    )


def _from_vnnlib(graph: Graph, path: Path) -> tuple[ExactBox, ...]:
    sizes = [graph.types[name].size for name in graph.inputs]
    return tuple(
        dict(zip(graph.inputs, _split(bounds, sizes), strict=True))
        for bounds in read_vnnlib(path, tensors_of(graph))
    )


def tensors_of(graph: Graph) -> Tensors:
    """What files about the model may speak of."""
    inputs, outputs = (
        tuple((graph.types[name].dtype.value, graph.types[name].shape) for name in names)
        for names in (graph.inputs, graph.outputs)
    )
    return Tensors(inputs, outputs)


def _split(bounds: Sequence[Bounds], sizes: Sequence[int]) -> Iterator[Sequence[Bounds]]:
    start = 0
    for size in sizes:
        yield bounds[start : start + size]
        start += size


def _from_ranges(graph: Graph, texts: Sequence[str]) -> ExactBox:
    found: dict[str, Sequence[Bounds]] = {}
    for text in texts:
        name, equals, interval = text.rpartition("=")
        if not equals:
            ways = " ".join(f"--input {n}={shorten(text)}" for n in graph.inputs)
            name = only_input(graph, f"'{shorten(text)}' names no input", f"say {ways}")
        if name not in graph.inputs:
            raise DomainError(f"there is no input '{name}'; {inputs_of(graph)}")
        if name in found:
            raise DomainError(f"input '{name}' is given two ranges")
        found[name] = (range_of(interval),)
    for name in graph.inputs:
        if name not in found:
            raise DomainError(f"input '{name}' has no range; add --input {name}=LO..HI")
    return found


def _from_model(graph: Graph) -> ExactBox:
    box: dict[str, Sequence[Bounds]] = {}
    for name, r in graph.ranges.items():
        assert r.lo is not None
        assert r.hi is not None
        box[name] = (Bounds(r.lo, r.hi, r.lo_open, r.hi_open),)
        if box[name][0].empty:
            raise DomainError(f"the range that the model states for input '{name}' is empty")
    return box


def range_of(text: str) -> Bounds:
    """`LO..HI`. Raises DomainError."""
    match = re.fullmatch(rf"\s*({DECIMAL})\s*\.\.\s*({DECIMAL})\s*", text)
    if match is None or "..." in text:  # 1...5 could be 1. .. 5 or 1 .. .5
        raise DomainError(
            f"'{shorten(text)}' is not a range LO..HI of two finite decimal numbers, such as -1..1"
        )
    bounds = Bounds(decimal(match[1]), decimal(match[2]))
    if bounds.empty:
        raise DomainError(f"the range {text.strip()} is empty: {match[1]} is above {match[2]}")
    return bounds


def _from_ball(graph: Graph, center: str, radius: str, clip: str | None) -> ExactBox:
    """Integers and truth values of an array are the points that they are."""
    r = decimal(radius)
    if r < 0:
        raise DomainError(f"the radius {radius} is negative")
    limit = None if clip is None else range_of(clip)
    if re.fullmatch(DECIMAL, center.strip()):
        return dict.fromkeys(graph.inputs, _balls([decimal(center)], r, limit, f"--clip {clip}"))
    arrays = _load(Path(center))
    if isinstance(arrays, Stored):
        way = "give an .npz file with an array for each"
        arrays = {only_input(graph, f"--center {center} is one array", way): arrays}
    elif set(arrays) != set(graph.inputs):
        raise DomainError(
            f"{center} holds the arrays {_listed(sorted(arrays))}; expected one for each input: "
            f"{_listed(list(graph.inputs))}"
        )
    box: dict[str, Sequence[Bounds]] = {}
    for name in graph.inputs:
        middle = rationals(arrays[name], graph, name, center)
        whole = not graph.types[name].dtype.is_float
        if whole and len(graph.inputs) > 1:
            box[name] = [Bounds(c, c) for c in middle]
        else:
            box[name] = _balls(middle, r, limit, f"--clip {clip}")
    return box


def _balls(
    middle: Sequence[Fraction], r: Fraction, limit: Bounds | None, clip: str
) -> Sequence[Bounds]:
    ball = [Bounds(c - r, c + r) for c in middle]
    if limit is not None:
        ball = [Bounds(max(b.lo, limit.lo), min(b.hi, limit.hi)) for b in ball]
        for k, bounds in enumerate(ball):
            if bounds.empty:
                raise DomainError(
                    f"the ball around {show(middle[k])} "
                    f"(element {k} in row-major order) lies outside {clip}"
                )
    return ball


def _from_arrays(graph: Graph, path: Path) -> ExactBox:
    arrays = _load(path)
    if isinstance(arrays, Stored):
        raise DomainError(f"{path} is one array; a box is an .npz file with two arrays per input")
    pairs = {name: (f"{name}_lo", f"{name}_hi") for name in graph.inputs}
    if len(graph.inputs) == 1 and {"lo", "hi"} & set(arrays):
        pairs = {graph.inputs[0]: ("lo", "hi")}
    wanted = [key for pair in pairs.values() for key in pair]
    if set(arrays) == set(graph.inputs):
        return {name: _around(arrays[name], graph, name, f"{path}: {name}") for name in arrays}
    if set(arrays) != set(wanted):
        raise DomainError(
            f"{path} holds the arrays {_listed(sorted(arrays))}; expected {_listed(wanted)}"
        )
    box: dict[str, Sequence[Bounds]] = {}
    for name, (low, high) in pairs.items():
        los = rationals(arrays[low], graph, name, f"{path}: {low}")
        his = rationals(arrays[high], graph, name, f"{path}: {high}")
        box[name] = [Bounds(lo, hi) for lo, hi in zip(los, his, strict=True)]
        for k, bounds in enumerate(box[name]):
            if bounds.empty:
                where = element_of(graph, name, k)
                raise DomainError(
                    f"{path}: at {where}, {low} = {show(bounds.lo)} is above "
                    f"{high} = {show(bounds.hi)}"
                )
    return box


def _around(samples: Stored, graph: Graph, name: str, where: str) -> list[Bounds]:
    """Of each element of an input the least and the largest number of samples, points along the
    first axis, which may stand for the input's own where that is of length 1."""
    shape, axes = graph.types[name].shape, samples.shape
    fits = len(axes) > 0 and unbatched(axes[1:]) == unbatched(shape)
    if not fits or not axes[0]:
        raise DomainError(
            f"{where} has shape {list(axes)}; samples of it have an axis of points, and then "
            f"{list(shape)}"
        )
    rows = _finite(samples, graph, name, where).reshape(axes[0], -1)
    ends = zip(rows.min(axis=0).tolist(), rows.max(axis=0).tolist(), strict=True)
    return [Bounds(Fraction(low), Fraction(high)) for low, high in ends]


def _load(path: Path) -> Stored | Mapping[str, Stored]:
    try:
        return stored_arrays(path)
    except ModelError as error:
        raise DomainError(str(error)) from error


def rationals(
    stored: Stored | Mapping[str, Stored], graph: Graph, name: str, where: str
) -> list[Fraction]:
    """Numbers of a file as exact rationals, one per element of input `name`, row-major.

    Leading axes of length 1 need not agree. Raises DomainError.
    """
    if not isinstance(stored, Stored):
        raise DomainError(f"{where} holds several arrays; expected one .npy array")
    shape = graph.types[name].shape
    if stored.dtype.kind in "fiub" and unbatched(stored.shape) != unbatched(shape):
        raise DomainError(
            f"{where} has shape {list(stored.shape)}, but input '{name}' has shape {list(shape)}"
        )
    values = _finite(stored, graph, name, where)
    return [Fraction(value) for value in values.reshape(-1).tolist()]


def _finite(stored: Stored, graph: Graph, name: str, where: str) -> Array:
    """The numbers of an array. Raises DomainError for texts and the like, and for what is not
    finite."""
    if stored.dtype.kind not in "fiub" or stored.dtype.itemsize > 8:
        raise DomainError(f"{where} has type {stored.dtype}; expected float16, float32 or float64")
    values = stored.values()
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        at = element_of(graph, name, int(bad[0]) % max(graph.types[name].size, 1))
        raise DomainError(f"{where} is {values.reshape(-1)[bad[0]]} at {at}; bounds are finite")
    return values


def unbatched(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without its leading axes of 1."""
    leading = next((i for i, extent in enumerate(shape) if extent != 1), len(shape))
    return shape[leading:]


def _content(box: Box) -> tuple[bytes, ...]:
    sides = (box.lo, box.hi, box.real_lo, box.real_hi)
    return tuple(array.tobytes() for side in sides for array in side.values())


def only_input(graph: Graph, what: str, way: str = "") -> str:
    """The name of the model's only input. Raises DomainError, beginning with `what`, where it has
    another number of them; where these are several it ends with the `way` to name them."""
    if len(graph.inputs) != 1:
        ending = f"; {way}" if way and graph.inputs else ""
        raise DomainError(f"{what}, but {inputs_of(graph)}{ending}")
    return graph.inputs[0]


def inputs_of(graph: Graph) -> str:
    """The model's inputs, in words."""
    if not graph.inputs:
        return "the model has no inputs: it computes a constant"
    plural = "s" if len(graph.inputs) > 1 else ""
    return f"the model has the input{plural} {_listed(graph.inputs)}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"
