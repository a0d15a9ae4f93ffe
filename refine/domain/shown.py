"""The shapes of the arrays in which a domain is written: they tell what a file leaves open.

What is no domain shows no shapes; it is refused where the domain is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from onnx_import.errors import ModelError
from onnx_import.graph import Shape
from refine.common.arrays import Stored, stored_arrays
from refine.common.exact import DECIMAL, DomainError
from refine.domain.domain import Domain, DomainOptions
from refine.domain.values import options_of

_ONLY = ""  # stands for the only input
_ENDS = ("lo", "hi")


def shapes_of_options(options: DomainOptions) -> Mapping[str, Shape]:
    """By input, or by the empty text for the only one, shapes of the arrays in files."""
    try:
        if options.center is not None and not re.fullmatch(DECIMAL, options.center.strip()):
            stored = stored_arrays(Path(options.center))
            if isinstance(stored, Stored):
                return {_ONLY: stored.shape}
            return {name: array.shape for name, array in stored.items()}
        if options.box is None:
            return {}
        arrays = stored_arrays(Path(options.box))
    except ModelError:
        return {}
    if isinstance(arrays, Stored):
        return {}
    if set(arrays) == set(_ENDS):
        return {_ONLY: arrays["lo"].shape}
    return {
        name.removesuffix("_lo"): array.shape
        for name, array in arrays.items()
        if name.endswith("_lo")
    }


def shapes_of_value(value: object) -> Mapping[str, Shape]:
    """The same of a domain as a Python value."""
    if isinstance(value, Domain):
        return {name: array.shape for name, array in value.boxes[0].lo.items()}
    if isinstance(value, DomainOptions):
        return shapes_of_options(value)
    try:
        options = options_of(value)
    except DomainError:
        return {}
    if options is not None:
        return shapes_of_options(options)
    by_input = value if isinstance(value, Mapping) else {_ONLY: value}
    found: dict[str, Shape] = {}
    for name, given in by_input.items():
        ends = given if isinstance(given, tuple | list) else (given,)
        shapes = [shape for end in ends if (shape := _shape_of(end)) is not None]
        if shapes and isinstance(name, str):
            found[name] = shapes[0]
    return found


def _shape_of(value: object) -> Shape | None:
    """The shape of an array of elements; None for a number, for text and for other values."""
    if isinstance(value, str) or not hasattr(value, "__array__"):
        return None
    shape = getattr(value, "shape", None)
    if shape is None:
        return None
    return tuple(int(n) for n in shape) or None
