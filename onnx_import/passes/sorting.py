"""TopK: the largest or smallest numbers along an axis, by a network of comparators.

Each comparator is a Max and a Min, so that what comes out is in order whatever the numbers are; an
order statistic moves by no more than the number that moves most. Batcher's odd-even merge sort
takes ½·log₂n·(log₂n + 1) layers (Knuth, The Art of Computer Programming, vol. 3, 5.3.4).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

import numpy as np
import onnx

from onnx_import.graph import Array, Node
from onnx_import.passes.body import Body

_LONGEST = 1024  # numbers along an axis
_LONGEST_RANKED = 256  # each of which is compared with each
_OF_INPUT = 10  # the opset from which on k is an input


def with_what_is_read(node: Node, read: Collection[str]) -> Node:
    """A TopK without indices that nobody reads; any other node unchanged."""
    if node.op != "TopK" or len(node.outputs) < 2 or node.outputs[1] in read:
        return node
    return replace(node, outputs=node.outputs[:1])


def top_k(body: Body) -> None:
    """The k-th is the same whichever of equal numbers stands first; the index of the first of them
    is that of ArgMax."""
    shape = body.shape(0)
    axis = body.axis(-1, len(shape))
    n = shape[axis]
    k = body.number("k", 0)
    if body.node.opset >= _OF_INPUT:
        k = int(body.constant(1, "k").reshape(()))
    if not 0 < k <= n:
        raise body.unsupported(f"k is {k}, of {n} numbers along axis {axis}")
    if n > _LONGEST:
        raise body.unsupported(f"it sorts {n} numbers; supported are {_LONGEST}")
    if not body.number("sorted", 1) and k > 1:
        raise body.unsupported("attribute 'sorted' is 0, which leaves their order open")
    _indices(body, axis, k)
    descending = bool(body.number("largest", 1))
    x = body.node.inputs[0]
    for partner, first in _layers(n):
        x = _compared(body, x, partner, first == descending, axis)
    places = body.store(np.arange(k))
    body.add("Gather", x, places, axis=axis, output=body.node.outputs[0])


def _indices(body: Body, axis: int, k: int) -> None:
    """Of one, ArgMax; else the place of a number is how many stand before it: those that are
    larger, and of equal ones those that come first."""
    written = body.node.outputs[1] if len(body.node.outputs) > 1 else ""
    if not written:
        return
    x, shape, largest = body.node.inputs[0], body.shape(0), body.number("largest", 1)
    if k == 1:
        op = "ArgMax" if largest else "ArgMin"
        body.add(op, x, output=written, axis=axis, keepdims=1)
        return
    n = shape[axis]
    if n > _LONGEST_RANKED:
        raise body.unsupported(f"it ranks {n} numbers; supported are {_LONGEST_RANKED}")
    last = [i for i in range(len(shape)) if i != axis]
    turned = body.add("Transpose", x, perm=[*last, axis])
    outer = [shape[i] for i in last]
    here, other = (body.reshape(turned, *outer, *sides) for sides in ((n, 1), (1, n)))
    before = body.add("Less" if largest else "Greater", here, other)
    earlier = body.store(np.tril(np.ones((n, n), bool), -1))
    tied = body.add("And", body.add("Equal", here, other), earlier)
    counted = body.add("Cast", body.add("Or", before, tied), to=onnx.TensorProto.FLOAT)
    rank = body.over("ReduceSum", counted, [len(shape)], keepdims=1)
    places = body.store(np.arange(k, dtype=np.float32))
    chosen = body.add("Cast", body.add("Equal", rank, places), to=onnx.TensorProto.FLOAT)
    whole = body.add("ArgMax", chosen, axis=len(shape) - 1, keepdims=0)
    back = [*range(axis), len(shape) - 1, *range(axis, len(shape) - 1)]
    body.add("Transpose", whole, output=written, perm=back)


def _compared(body: Body, x: str, partner: Array, larger: Array, axis: int) -> str:
    """One layer of comparators: of each pair the larger goes where `larger`, the smaller to its
    partner."""
    n = len(partner)
    other = body.add("Gather", x, body.store(partner), axis=axis)
    ends = (body.add(op, x, other) for op in ("Max", "Min"))
    both = body.add("Concat", *ends, axis=axis)
    source = np.where(larger | (partner == np.arange(n)), np.arange(n), n + np.arange(n))
    return body.add("Gather", both, body.store(source), axis=axis)


def _layers(n: int) -> Iterator[tuple[Array, Array]]:
    """Layers of Batcher's network: with whom each place is compared, itself where it is not, and
    whether it is the first of the two."""
    p = 1
    while p < n:
        k = p
        while k >= 1:
            partner, first = np.arange(n), np.ones(n, bool)
            for j in range(k % p, n - k, 2 * k):
                for i in range(min(k, n - j - k)):
                    low, high = i + j, i + j + k
                    if low // (2 * p) == high // (2 * p):
                        partner[low], partner[high], first[high] = high, low, False
            yield partner, first
            k //= 2
        p *= 2
