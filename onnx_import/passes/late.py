"""Stored numbers that decide what a graph is, and nodes that wait for the run time because of them.

A runtime that rounds stored numbers before it uses them computes other results of constants than
are in the file, so that such a node is not folded (onnx_import/passes/folding/fold.py). Where what
reads its result must know it in advance, a refusal says which number it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from onnx_import.errors import ModelError
from onnx_import.graph import Array, Fold, Need, Node, TensorType, Use

_COUNTED: Mapping[str, tuple[int, ...]] = {
    "GridSample": (1,),
    "RoiAlign": (1,),
    "Interpolate": (1, 2),
    "OneHot": (0, 1),
    "Resize": (1, 2),
    "Upsample": (1,),
}
"""Floating-point inputs by which places are counted: scales, indices, a depth, a grid."""


def counted(
    node: Node, types: Mapping[str, TensorType], constants: Mapping[str, Array]
) -> Iterator[Fold]:
    """What a node takes of constants by which it counts: that they are read as they are written."""
    positions = _COUNTED.get(node.op, ())
    inputs = [node.inputs[p] for p in positions if p < len(node.inputs)]
    found = tuple(
        Need(Use.READ, types[t].dtype, constants[t])
        for t in inputs
        if t in constants and types[t].dtype.is_float
    )
    if found:
        yield Fold(node.describe(), "", found)


def why_late(node: Node, why: str) -> str:
    """What to say of a node that is computed at run time, though its inputs are constant."""
    return (
        f"{node.describe()} is computed at run time and not when the file is read: {why}; store "
        "numbers that this contract leaves as they are, or choose another contract"
    )


@contextmanager
def explained(late: Mapping[str, str], tensors: Iterable[str]) -> Iterator[None]:
    """Where what is done with these tensors is refused, and one of them is late, says why."""
    try:
        yield
    except ModelError as error:
        why = next((late[t] for t in tensors if t in late), "")
        if not why:
            raise
        raise type(error)(f"{error} ({why})") from error
