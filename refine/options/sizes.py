"""What a user says of the dimensions that a file leaves open, and what the arrays show that are
given for its inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any

import click

from onnx_import.errors import ModelError
from onnx_import.graph import Array, Graph, Shape, Sizes
from refine.common.exact import shorten
from refine.common.told import told

_MOST_RANK = 64
_LONGEST = 9  # digits of a size


def sizing(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options `--shape` and `--dim`, of every command that reads models."""
    shape = click.option(
        "--shape",
        multiple=True,
        metavar="NAME=N,N…",
        help="The shape of an input whose dimensions the file leaves open; repeat.",
    )
    dim = click.option(
        "--dim",
        multiple=True,
        metavar="NAME=N",
        help="The size of a dimension that the file leaves open and names; repeat.",
    )
    return shape(dim(command))


def sizes_of(shapes: Sequence[str] = (), dims: Sequence[str] = ()) -> Sizes:
    """`NAME=1,128` and `NAME=4`, each several times. Raises ModelError."""
    whole: dict[str, Shape] = {}
    for text in shapes:
        name, numbers = _parted(text, "--shape", "NAME=N,N")
        if name in whole:
            raise ModelError(f"--shape gives '{name}' twice")
        whole[name] = shape_of(numbers)
    named: dict[str, int] = {}
    for text in dims:
        name, number = _parted(text, "--dim", "NAME=N")
        if name in named:
            raise ModelError(f"--dim gives '{name}' twice")
        named[name] = _size(number)
    return Sizes(whole, named)


def sizes_from(shapes: object = None, dims: object = None) -> Sizes:
    """The same as Python values: mappings from names to shapes and to sizes. Raises ModelError."""
    whole: dict[str, Shape] = {}
    for name, shape in _mapping("shapes", shapes).items():
        if isinstance(shape, Integral) and not isinstance(shape, bool):
            shape = (shape,)
        if not isinstance(shape, Sequence) or isinstance(shape, str):
            raise ModelError(f"shapes= has {told(shape)} for '{name}', and not a shape: (1, 128)")
        whole[name] = tuple(_count("shapes", name, size) for size in shape)
        if len(whole[name]) > _MOST_RANK:
            raise ModelError(f"shapes= has more than {_MOST_RANK} sizes for '{name}'")
    named = {n: _count("dims", n, size) for n, size in _mapping("dims", dims).items()}
    return Sizes(whole, named)


def shown_by(sizes: Sizes, arrays: Mapping[str, Array]) -> Sizes:
    """What is still open is as these arrays by input have it, which may hold several points along a
    first axis; integers are constants of all of them."""
    shapes = {name: array.shape for name, array in arrays.items()}
    return replace(with_shapes(sizes, shapes, points=True), constants=True)


def with_shapes(sizes: Sizes, shapes: Mapping[str, Shape], *, points: bool = False) -> Sizes:
    """The same, of the shapes of arrays."""
    return replace(sizes, arrays=dict(shapes), points=points)


def written(sizes: Sizes) -> list[str]:
    """Shapes and sizes as the command line's options."""
    texts: list[str] = []
    for name, shape in sizes.shapes.items():
        texts += ["--shape", f"{name}={','.join(map(str, shape))}"]
    for name, size in sizes.dims.items():
        texts += ["--dim", f"{name}={size}"]
    return texts


def beside(sizes: Sizes, other: Graph) -> Sizes:
    """For a model that is compared with another one: what is open is as there."""
    shapes = {t: other.types[t].shape for t in other.inputs}
    return replace(sizes, arrays=shapes, points=False, lenient=True)


def shape_of(text: str) -> Shape:
    """`1,128` or `1x128` as a shape; an empty text is that of a single number. Raises
    ModelError."""
    if not text.strip():
        return ()
    parts = text.replace("x", ",").split(",")
    if len(parts) > _MOST_RANK:
        raise ModelError(f"'{shorten(text)}' has more than {_MOST_RANK} sizes")
    return tuple(_size(part) for part in parts)


def _size(text: str) -> int:
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _LONGEST):
        raise ModelError(f"'{shorten(text)}' is no size; write --shape NAME=1,128 or --dim NAME=4")
    return int(digits)


def _parted(text: str, flag: str, form: str) -> tuple[str, str]:
    name, equals, rest = text.rpartition("=")
    if not equals or not name:
        raise ModelError(f"{flag} '{shorten(text)}' is not {form}")
    return name, rest


def _mapping(keyword: str, value: object) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ModelError(f"{keyword}= is a mapping by names, not {told(value)}")
    return value


def _count(keyword: str, name: str, value: object) -> int:
    if isinstance(value, Integral) and not isinstance(value, bool):
        size = int(value)
        if 0 <= size < 10**_LONGEST:
            return size
    raise ModelError(f"{keyword}= has {told(value)} for '{name}', and not a size")
