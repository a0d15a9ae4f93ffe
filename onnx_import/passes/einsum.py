"""Einsum as transpositions, matrix products and sums, one operand after the other."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from onnx_import.passes.body import Body

_FREE = "".join(chr(code) for code in range(0x3B1, 0x3CA))  # for the axes of an ellipsis


def einsum(body: Body) -> None:
    """Raises UnsupportedModel for an equation that does not fit or that broadcasts."""
    equation = str(body.number("equation", "")).replace(" ", "")
    written, right = _spelled_out(body, equation)
    sizes: dict[str, int] = {}
    for position, labels in enumerate(written):
        for label, n in zip(labels, body.shape(position), strict=True):
            if sizes.setdefault(label, n) != n:
                raise body.unsupported(f"equation '{equation}' broadcasts '{label}'")
    if len(set(right)) < len(right) or not set(right) <= set(sizes):
        raise body.unsupported(f"equation '{equation}' has an output that no input gives")
    tensors = [_diagonal(body, position, labels) for position, labels in enumerate(written)]
    operands = ["".join(dict.fromkeys(labels)) for labels in written]
    tensor, labels = tensors[0], operands[0]
    for position, other in enumerate(operands[1:], 1):
        later = set("".join(operands[position + 1 :]) + right)
        tensor, labels = _summed(body, tensor, labels, later | set(other))
        second, other = _summed(body, tensors[position], other, later | set(labels))
        tensor, labels = _contracted(body, (tensor, second), (labels, other), later, sizes)
    tensor, labels = _summed(body, tensor, labels, set(right))
    if right:
        body.add("Transpose", tensor, perm=[labels.index(c) for c in right])
    else:
        body.add("Identity", tensor)


def _summed(body: Body, tensor: str, labels: str, kept: Collection[str]) -> tuple[str, str]:
    """Without the labels that nothing else reads."""
    axes = [i for i, c in enumerate(labels) if c not in kept]
    if not axes:
        return tensor, labels
    return body.over("ReduceSum", tensor, axes), "".join(c for c in labels if c in kept)


def _contracted(
    body: Body,
    tensors: tuple[str, str],
    labels: tuple[str, str],
    later: Collection[str],
    sizes: Mapping[str, int],
) -> tuple[str, str]:
    """One matrix product per combination of the labels that both have and that stay."""
    first, second = labels
    batch = [c for c in first if c in second and c in later]
    inner = [c for c in first if c in second and c not in later]
    own = [[c for c in mine if c not in theirs] for mine, theirs in (labels, labels[::-1])]
    orders = ([batch, own[0], inner], [batch, inner, own[1]])
    factors = []
    for tensor, given, order in zip(tensors, labels, orders, strict=True):
        perm = [given.index(c) for group in order for c in group]
        turned = body.add("Transpose", tensor, perm=perm) if perm else tensor
        groups = [math.prod(sizes[c] for c in group) for group in order]
        factors.append(body.reshape(turned, *groups))
    left = [*batch, *own[0], *own[1]]
    product = body.add("MatMul", *factors)
    return body.reshape(product, *(sizes[c] for c in left)), "".join(left)


def _spelled_out(body: Body, equation: str) -> tuple[Sequence[str], str]:
    """A label for every axis of every input, and of the output; an ellipsis stands for the axes
    that have none, the last of them in common."""
    left, arrow, right = equation.partition("->")
    operands = left.split(",")
    if len(operands) != len(body.node.inputs):
        raise body.unsupported(f"equation '{equation}' does not fit its inputs")
    if not arrow:
        once = sorted(c for c in set(left) - set(",.") if left.count(c) == 1)
        right = ("..." if "..." in left else "") + "".join(once)
    found, most = [], 0
    for position, labels in enumerate(operands):
        rest = len(body.shape(position)) - len(labels.replace("...", ""))
        if rest < 0 or rest > len(_FREE) or (rest > 0 and "..." not in labels):
            raise body.unsupported(f"equation '{equation}' does not fit its inputs")
        found.append(labels.replace("...", _FREE[len(_FREE) - rest :]))
        most = max(most, rest)
    return found, right.replace("...", _FREE[len(_FREE) - most :])


def _diagonal(body: Body, position: int, labels: str) -> str:
    """The input, or where a label occurs twice the elements whose positions agree there."""
    tensor, unique = body.node.inputs[position], "".join(dict.fromkeys(labels))
    if unique == labels:
        return tensor
    shape = body.shape(position)
    places = np.arange(math.prod(shape)).reshape(shape)
    axes = [unique.index(c) for c in labels]
    chosen = np.einsum(places, axes, list(range(len(unique))))
    flat = body.reshape(tensor, -1)
    return body.add("Gather", flat, body.store(chosen.astype(np.int64)), axis=0)
