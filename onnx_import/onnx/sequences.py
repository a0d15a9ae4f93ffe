"""Sequences and optionals, of which the length and what they hold is known: only tensors are left.

A sequence is the names of its tensors, in order; an optional is what it holds, or nothing. What is
computed of tensors alone is written with nodes, what is known of sequences with constants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx

from onnx_import.graph import Array
from onnx_import.onnx.control import CONTROL, Unfolding

_MOST_PARTS = 1024


def way_of(proto: onnx.NodeProto, held: Mapping[str, object]) -> _Way | None:
    """How a node with bodies, or of sequences or optionals, is unfolded; None for any other."""
    if proto.domain not in ("", "ai.onnx"):
        return None
    if proto.op_type == "Identity" and proto.input and proto.input[0] in held:
        return _same
    return UNFOLDED.get(proto.op_type)


def _sequence(work: Unfolding) -> tuple[str, ...]:
    """The tensors of the first input."""
    given = work.input(0)
    held = work.control.held.get(given)
    if held is None:
        raise work.unsupported(f"its input '{given}' is no sequence of known length")
    return held


def _set(work: Unfolding, tensors: tuple[str, ...] | None) -> None:
    work.control.held[work.proto.output[0]] = tensors


def _integer(work: Unfolding, position: int, what: str) -> Array:
    tensor = work.input(position)
    if tensor not in work.constants:
        raise work.unsupported(
            f"{what} (input {position}) is computed from the inputs; export the model with a "
            "constant one"
        )
    return work.constants[tensor].astype(np.int64)


def _place(work: Unfolding, position: int, default: int, most: int) -> int:
    """A place from 0 to `most`, counted from the end where it is negative."""
    if not work.input(position):
        return default
    length = len(_sequence(work))
    place = int(_integer(work, position, "its position").reshape(()))
    if not -length <= place <= most:
        raise work.unsupported(
            f"its position {place} is out of range for a sequence of {length} tensors"
        )
    return place + length if place < 0 else place


def _construct(work: Unfolding) -> None:
    work.control.require_tensors(work.name, work.proto)
    _set(work, tuple(work.proto.input))


def _empty(work: Unfolding) -> None:
    _set(work, ())


def _insert(work: Unfolding) -> None:
    work.control.require_tensors(work.name, work.proto, first=1)
    tensors = _sequence(work)
    at = _place(work, 2, len(tensors), len(tensors))
    _set(work, (*tensors[:at], work.input(1), *tensors[at:]))


def _erase(work: Unfolding) -> None:
    tensors = _sequence(work)
    at = _place(work, 1, len(tensors) - 1, len(tensors) - 1)
    if not tensors:
        raise work.unsupported("its sequence is empty")
    _set(work, (*tensors[:at], *tensors[at + 1 :]))


def _at(work: Unfolding) -> None:
    tensors = _sequence(work)
    work.write([tensors[_place(work, 1, 0, len(tensors) - 1)]])


def _length(work: Unfolding) -> None:
    work.made.constants[work.proto.output[0]] = np.array(len(_sequence(work)), np.int64)


def _split(work: Unfolding) -> None:
    """Parts of one size, the last of what is left, or of the sizes that are listed."""
    work.control.require_tensors(work.name, work.proto)
    data, axis = work.input(0), int(work.attribute("axis", 0))
    shape = work.types[data].shape
    if not -len(shape) <= axis < len(shape):
        raise work.unsupported(f"attribute 'axis' is {axis}, out of range for {len(shape)} axes")
    total = shape[axis % len(shape)]
    alone = not work.input(1)
    sizes = np.array(1) if alone else _integer(work, 1, "its split")
    if not sizes.ndim:
        size = int(sizes)
        if size < 1:
            raise work.unsupported(f"its split is {size}")
        listed = [min(size, total - start) for start in range(0, total, size)]
    else:
        listed = [int(n) for n in sizes.reshape(-1)]
    if sum(listed) != total or min(listed, default=0) < 0:
        raise work.unsupported(f"its parts {listed} do not add up to the {total} of axis {axis}")
    if len(listed) > _MOST_PARTS:
        raise work.unsupported(f"it has {len(listed)} parts; supported are {_MOST_PARTS}")
    dropped = alone and not work.attribute("keepdims", 1)
    parts, start = [], 0
    for size in listed:
        if dropped:
            place = work.store(np.array(start, np.int64))
            parts.append(work.add("Gather", [data, place], axis=axis))
        else:
            bounds = (start, start + size, axis)
            given = [work.store(np.array([v], np.int64)) for v in bounds]
            parts.append(work.add("Slice", [data, *given]))
        start += size
    _set(work, tuple(parts))


def _concatenated(work: Unfolding) -> None:
    tensors, axis = _sequence(work), int(work.attribute("axis"))
    if not tensors:
        raise work.unsupported("its sequence is empty")
    if work.attribute("new_axis", 0):
        tensors = tuple(work.unsqueezed(t, axis) for t in tensors)
    work.add("Concat", tensors, work.proto.output[0], axis=axis)


def _same(work: Unfolding) -> None:
    """What the input is, be it a tensor."""
    given = work.input(0)
    if given in work.control.held:
        _set(work, work.control.held[given])
    else:
        work.write([given])


def _optional(work: Unfolding) -> None:
    if work.input(0):
        _same(work)
    else:
        _set(work, None)


def _has_element(work: Unfolding) -> None:
    given = work.input(0)
    has = bool(given) and work.control.held.get(given, ()) is not None
    work.made.constants[work.proto.output[0]] = np.array(has)


def _element(work: Unfolding) -> None:
    if work.control.held.get(work.input(0), ()) is None:
        raise work.unsupported("its optional holds nothing")
    _same(work)


_Way = Callable[[Unfolding], None]
SEQUENCES: Mapping[str, _Way] = {
    "ConcatFromSequence": _concatenated,
    "Optional": _optional,
    "OptionalGetElement": _element,
    "OptionalHasElement": _has_element,
    "SequenceAt": _at,
    "SequenceConstruct": _construct,
    "SequenceEmpty": _empty,
    "SequenceErase": _erase,
    "SequenceInsert": _insert,
    "SequenceLength": _length,
    "SplitToSequence": _split,
}
UNFOLDED: Mapping[str, _Way] = {**CONTROL, **SEQUENCES}
