"""Dimensions that a file leaves open: what a user says of them, and what arrays show.

A file may name a dimension ("batch"), in several inputs, or leave it without a name. Exporters that
know no name write '?' or nothing, which says nothing of two that are written so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import onnx

from onnx_import.errors import ModelError, UnsupportedModel
from onnx_import.graph import Shape, Sizes

_NAMELESS = ("", "?")


def known_size(dim: onnx.TensorShapeProto.Dimension) -> int | None:
    """A dimension's size; None if symbolic, unset or negative (some exporters write −1)."""
    return dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None


def with_sizes(
    model: onnx.ModelProto, sizes: Sizes, batch: int | None = None
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The model with the sizes that are said of its inputs, and notes on them; first dimensions
    that are open will be `batch`, or 1. The model itself is changed.

    Raises ModelError, naming the input or the dimension, for a size that contradicts the file or
    another one, and for a name that the file does not have.
    """
    given = _given_inputs(model.graph)
    if sizes == Sizes():
        return model, _alike(given, batch or 1)
    if not sizes.lenient:
        _require_known(given, sizes)
    notes = []
    named: dict[str, int] = dict(sizes.dims)
    for value in given:
        if value.name in sizes.shapes:
            _set_whole(value, sizes.shapes[value.name], named)
            notes.append(f"input '{value.name}' is of shape {list(sizes.shapes[value.name])}")
    _spread(given, named)
    whole = [v for v in given if sizes.constants and not _is_float(v)]
    for some, points in ((whole, False), (given, sizes.points)):
        for value, shape in _shown(some, given, sizes):
            taken = _taken(value, shape, points)
            if taken is not None:
                notes.append(
                    f"the open dimensions of input '{value.name}' are those of what is given for it"
                )
                for dim, size in zip(value.type.tensor_type.shape.dim, taken, strict=True):
                    if known_size(dim) is None:
                        _name(named, dim, size, value.name)
                        dim.dim_value = size
        _spread(given, named)
    notes += [f"dimension '{name}' is {size}" for name, size in sizes.dims.items()]
    return model, (*notes, *_alike(given, batch or 1))


def _alike(given: Sequence[onnx.ValueInfoProto], size: int) -> tuple[str, ...]:
    """Dimensions that are open and called what the open first dimension of another input is called
    are of the size that this one is read with; and a note on them."""
    firsts = {
        dim.dim_param: value.name
        for value in given
        for k, dim in _open(value)
        if k == 0 and dim.dim_param not in _NAMELESS
    }
    found = []
    for value in given:
        for k, dim in _open(value):
            if k > 0 and firsts.get(dim.dim_param, value.name) != value.name:
                dim.dim_value = size
                found.append(
                    f"dimension {k} ('{dim.dim_param}') of input '{value.name}' is {size}, too"
                )
    return tuple(found)


def require_sizes(graph: onnx.GraphProto) -> None:
    """Raises UnsupportedModel, with all of them and what to say, if a dimension of an input is
    open that is not the first."""
    given = [v for v in _given_inputs(graph) if v.type.HasField("tensor_type")]
    shaped = [v for v in given if v.type.tensor_type.HasField("shape")]
    bare = [v for v in given if v not in shaped]
    wanting = [v for v in shaped if any(k > 0 for k, _ in _open(v))]
    if not wanting and not bare:
        return
    told = [f"'{v.name}' has no shape" for v in bare]
    told += [f"'{v.name}' leaves {_listed(v)} open" for v in wanting]
    options = [f"--shape {v.name}=N,N" for v in bare] + [_option(v) for v in wanting]
    names = dict.fromkeys(d.dim_param for v in wanting for _, d in _open(v))
    dims = [f"--dim {n}=N" for n in names if n not in _NAMELESS]
    every = all(d.dim_param not in _NAMELESS for v in wanting for _, d in _open(v))
    other = f", or {' '.join(dims)}" if dims and every and not bare else ""
    raise UnsupportedModel(f"input {'; input '.join(told)}: say {' '.join(options)}{other}")


def _listed(value: onnx.ValueInfoProto) -> str:
    """`dimensions 0 ('batch') and 2`."""
    texts = [f"{k}" + (f" ('{d.dim_param}')" if d.dim_param else "") for k, d in _open(value)]
    if len(texts) == 1:
        return f"dimension {texts[0]}"
    return f"dimensions {', '.join(texts[:-1])} and {texts[-1]}"


def _option(value: onnx.ValueInfoProto) -> str:
    """`--shape x=1,3,H,W`, with a letter for each size that is asked for."""
    texts = []
    for k, dim in enumerate(value.type.tensor_type.shape.dim):
        size = known_size(dim)
        texts.append(str(size) if size is not None else "1" if k == 0 else "N")
    return f"--shape {value.name}={','.join(texts)}"


def _open(
    value: onnx.ValueInfoProto,
) -> list[tuple[int, onnx.TensorShapeProto.Dimension]]:
    dims = value.type.tensor_type.shape.dim
    return [(k, dim) for k, dim in enumerate(dims) if known_size(dim) is None]


def _given_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """The inputs that a caller gives, in order."""
    stored = {tensor.name for tensor in graph.initializer}
    stored |= {tensor.values.name for tensor in graph.sparse_initializer}
    return [value for value in graph.input if value.name not in stored]


def _require_known(given: Sequence[onnx.ValueInfoProto], sizes: Sizes) -> None:
    names = [value.name for value in given]
    for name in sizes.shapes:
        if name not in names:
            raise ModelError(
                f"a shape is given for '{name}', and the model's inputs are {', '.join(names)}"
            )
    params = dict.fromkeys(
        dim.dim_param for value in given for _, dim in _open(value) if dim.dim_param
    )
    for name in sizes.dims:
        if name not in params:
            known = f"those that it leaves open are {', '.join(params)}" if params else "none is"
            raise ModelError(f"no dimension of the model's inputs is called '{name}'; {known}")


def _set_whole(value: onnx.ValueInfoProto, shape: Shape, named: dict[str, int]) -> None:
    """Raises ModelError for a shape that the file does not allow."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        for size in shape:
            tensor.shape.dim.add().dim_value = size
        if not shape:
            tensor.shape.SetInParent()
        return
    if not _fits(value, shape):
        said = [d.dim_param or "?" if known_size(d) is None else d.dim_value
                for d in tensor.shape.dim]  # fmt: skip
        raise ModelError(
            f"input '{value.name}' has shape [{', '.join(map(str, said))}] in the file, which "
            f"{list(shape)} contradicts"
        )
    for dim, size in zip(tensor.shape.dim, shape, strict=True):
        if known_size(dim) is None:
            _name(named, dim, size, value.name)
            dim.dim_value = size


def _fits(value: onnx.ValueInfoProto, shape: Shape) -> bool:
    dims = value.type.tensor_type.shape.dim
    return len(dims) == len(shape) and all(
        known_size(dim) in (None, size) for dim, size in zip(dims, shape, strict=True)
    )


def _name(
    named: dict[str, int], dim: onnx.TensorShapeProto.Dimension, size: int, place: str
) -> None:
    """What a named dimension is. Raises ModelError where it is something else already."""
    name = dim.dim_param
    if name not in _NAMELESS and named.setdefault(name, size) != size:
        raise ModelError(f"dimension '{name}' is {size} in input '{place}', and {named[name]} too")


def _spread(given: Sequence[onnx.ValueInfoProto], named: Mapping[str, int]) -> None:
    for value in given:
        for _, dim in _open(value):
            if dim.dim_param in named:
                dim.dim_value = named[dim.dim_param]


def _is_float(value: onnx.ValueInfoProto) -> bool:
    """Does an input hold floating-point numbers?"""
    held = onnx.TensorProto
    kinds = (held.FLOAT, held.DOUBLE, held.FLOAT16, held.BFLOAT16)
    return value.type.tensor_type.elem_type in kinds


def _shown(
    some: Sequence[onnx.ValueInfoProto], given: Sequence[onnx.ValueInfoProto], sizes: Sizes
) -> Iterator[tuple[onnx.ValueInfoProto, Shape]]:
    """Those of some inputs for which there are arrays, with the shapes of these."""
    names = [value.name for value in given]
    arrays = sizes.arrays
    if len(arrays) == len(names) and not set(arrays) & set(names):
        arrays = dict(zip(names, arrays.values(), strict=True))
    for value in some:
        if value.name in arrays and _open(value):
            yield value, arrays[value.name]


def _taken(value: onnx.ValueInfoProto, shape: Shape, points: bool) -> Shape | None:
    """The shape of an input of which an array is of that shape, but for leading axes of 1; None
    where it does not fit."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    rank = len(tensor.shape.dim)
    if points and len(shape) == rank > 1 and known_size(tensor.shape.dim[0]) is None:
        shape = (1, *shape[1:])
    elif points and len(shape) == rank + 1:
        shape = shape[1:]
    while len(shape) > rank and shape[0] == 1:
        shape = shape[1:]
    if len(shape) < rank:
        shape = (1,) * (rank - len(shape)) + shape
    return shape if _fits(value, shape) else None
