"""Masks of stored −∞: scores to which one is added lose their weight in a softmax.

Neither meaning needs the −∞ itself. Which elements of a tensor are −∞ for every input follows from
the constants; there a finite number takes its place, in a tensor of another name, and a Softmax or
LogSoftmax over such a tensor becomes a MaskedSoftmax or MaskedLogSoftmax with a second input that
says which scores are kept. Of scores that are finite this changes no bit at run time: s + (−∞) = −∞
and exp(−∞) = 0, which adds nothing to a sum and is nowhere the maximum. Of a score that is left out
and is +∞ or NaN the softmax of its row is NaN, as that of +∞ − ∞ is. A row that keeps nothing, and
that nobody reads, counts as kept; a third input says where such rows are. An Exp is taken of 0 in
place of −∞, and a MaskedWhere puts the power 0 there; another one puts back elements that stay −∞
up to an output, by the logarithm of 0 that they are. Of +∞ or NaN that it leaves out it makes NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import ml_dtypes
import numpy as np
import numpy.typing as npt

from onnx_import.errors import UnsupportedModel
from onnx_import.graph import Array, Node, TensorType
from onnx_import.passes.body import Body
from onnx_import.passes.folding.fold import fold
from onnx_import.passes.normalize import free
from onnx_import.tensors import type_of

Mask = npt.NDArray[np.bool_]

_MOVING = frozenset(
    (
        *("Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze"),
        *("Tile", "Transpose", "Trilu", "Unsqueeze"),
    )
)
_ADVICE = (
    "-inf has a meaning only in a mask that is stored and reaches a softmax through Add, Where, "
    "Cast and data movement; use a finite number such as -1e9"
)


def without_infinities(
    nodes: Sequence[Node],
    types: Mapping[str, TensorType],
    constants: Mapping[str, Array],
    outputs: Collection[str],
) -> tuple[tuple[Node, ...], Mapping[str, TensorType], Mapping[str, Array]]:
    """The same network without the −∞ of masks; types and constants of new tensors are added.

    `nodes` are in topological order. A constant that something else reads keeps its −∞.
    Raises UnsupportedModel, naming the node, where a computed −∞ goes anywhere else.
    """
    masks = {t: _infinite(v) for t, v in constants.items() if _is_mask(v)}
    if not masks:
        return tuple(nodes), types, constants
    work = _Work(dict(types), dict(constants), masks, outputs, nodes)
    made = tuple(part for node in nodes for part in work.read(node))
    return made, work.types, work.constants


def without_masked_choice(body: Body) -> None:
    """What a file says in place of a MaskedWhere: of a number x that is left out 0·(x < most? 0: x)
    is added to what stands for it, which is NaN where x is +∞ or NaN, and else 0."""
    mask, instead, left_out = body.node.inputs
    kind = body.types[left_out].dtype.numpy
    most = body.store(np.asarray(ml_dtypes.finfo(kind).max, kind))  # type: ignore[no-untyped-call]
    zero = body.store(np.zeros((), kind))
    odd = body.add("Where", body.add("Less", left_out, most), zero, left_out)
    spoilt = body.add("Add", instead, body.add("Mul", odd, zero))
    body.add("Where", mask, spoilt, left_out)


def without_masked_softmax(body: Body) -> None:
    """What a file says in place of a MaskedSoftmax or MaskedLogSoftmax: −∞ added to what is left
    out; of the latter the −∞ that it gives there is 0 here, but where it is NaN throughout."""
    kept = body.constant(1, "which scores are kept").astype(bool)
    kind = body.types[body.node.inputs[0]]
    mask = np.where(kept, 0.0, -np.inf).astype(kind.dtype.numpy)
    scores = body.add("Add", body.node.inputs[0], body.store(mask))
    op = body.node.op.removeprefix("Masked")
    axes = {"axis": body.number("axis", None)} if "axis" in body.node.attributes else {}
    found = body.add(op, scores, **axes)
    if op == "LogSoftmax":
        read = kept | ~np.any(kept, axis=_normalized(body.node, kept.ndim), keepdims=True)
        zero = body.store(np.zeros((), kind.dtype.numpy))
        body.add("Where", body.store(np.broadcast_to(read, kept.shape)), found, zero)


def _normalized(node: Node, rank: int) -> tuple[int, ...]:
    """The axes along which probabilities add up to 1."""
    axis = node.attributes.get("axis", -1 if node.opset >= 13 else 1)
    assert isinstance(axis, int)
    return (axis % rank,) if node.opset >= 13 else tuple(range(axis % rank, rank))


WRITTEN: Mapping[str, Callable[[Body], None]] = {
    "MaskedWhere": without_masked_choice,
    "MaskedSoftmax": without_masked_softmax,
    "MaskedLogSoftmax": without_masked_softmax,
}
"""What a file says in place of each operator that is made here."""


def _infinite(value: Array) -> Mask:
    with np.errstate(invalid="ignore"):  # a signalling NaN
        return np.asarray(value.astype(np.float64) == -np.inf)


def _is_mask(value: Array) -> bool:
    """Some −∞, and nothing else that is no number?"""
    if not type_of(value).dtype.is_float:
        return False
    odd = ~np.isfinite(value)
    return bool(np.any(odd)) and bool(np.all(_infinite(value)[odd]))


@dataclass
class _Work:
    """`masks` says of tensors which elements are −∞; `finite` names the tensors without them.
    `renamed` are softmaxes of which a row that nobody reads is NaN at run time, and none here;
    `settled` those of `finite` that are 0 where −∞ is, if not NaN."""

    types: dict[str, TensorType]
    constants: dict[str, Array]
    masks: dict[str, Mask]
    outputs: Collection[str]
    nodes: Sequence[Node]
    finite: dict[str, str] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    settled: set[str] = field(default_factory=set)

    def read(self, node: Node) -> list[Node]:
        """What becomes of a node, given what became of those before it."""
        if any(t in self.renamed for t in node.inputs):
            node = replace(node, inputs=tuple(self.renamed.get(t, t) for t in node.inputs))
            node = self._renaming(node) if node.op in ("Cast", "Identity") else node
        if not any(t in self.masks for t in node.inputs):
            return [node]
        if node.op in ("Softmax", "LogSoftmax"):
            return self._softmax(node)
        if node.op == "Exp":
            return self._exp(node)
        mask = self._after(node)
        if mask is not None:
            return [*self._settled(node), *self._writing(self._reading(node), mask)]
        computed = [t for t in node.inputs if t in self.masks and t not in self.constants]
        if computed:
            raise UnsupportedModel(f"{node.describe()} reads -inf from '{computed[0]}'; {_ADVICE}")
        return [node]

    def _after(self, node: Node) -> Mask | None:
        """Where the node's output is −∞; None for a node that is not understood."""
        shape = self.types[node.outputs[0]].shape
        if node.op in _MOVING:
            return self._moved(node)
        given = [self._mask(t) for t in node.inputs if t]
        match node.op:
            case "Cast":
                found = given[0] if self.types[node.outputs[0]].dtype.is_float else None
            case "Add":
                found = given[0] | given[1]
            case "Sub":
                found = None if np.any(given[1]) else given[0]
            case "Where":
                condition = self.constants.get(node.inputs[0])
                found = None if condition is None else np.where(condition, given[1], given[2])
            case _:
                found = None
        return None if found is None else np.broadcast_to(found, shape)

    def _moved(self, node: Node) -> Mask | None:
        """The node on masks in place of numbers, which only works where it is told how to move."""
        kinds = [self.types[t] if t else None for t in node.inputs]
        values = [
            None if not t else self._mask(t) if self.types[t].dtype.is_float else known
            for t, known in ((t, self.constants.get(t)) for t in node.inputs)
        ]
        found = fold(node, kinds, values)
        return None if found is None else found.astype(bool)

    def _softmax(self, node: Node) -> list[Node]:
        """A masked softmax. A row that is −∞ throughout counts as kept where nobody reads it."""
        mask, rank = self._mask(node.inputs[0]), len(self.types[node.inputs[0]].shape)
        axes = _normalized(node, rank)
        dead = np.broadcast_to(np.all(mask, axis=axes, keepdims=True), mask.shape)
        unread = np.all(self._unread(node.outputs[0]), axis=axes, keepdims=True)
        kept = self._store(node, "kept", ~mask | (dead & unread))
        made = replace(node, op=f"Masked{node.op}", inputs=(self._finite(node.inputs[0]), kept))
        if np.any(dead & unread):
            lost = self._store(node, "unread", dead & unread)
            made = self._renaming(replace(made, inputs=(*made.inputs, lost)))
        if node.op == "Softmax":
            return [made]
        return self._writing(made, mask & ~dead)

    def _renaming(self, node: Node) -> Node:
        """The node, whose output holds other numbers here than at run time, where nobody looks."""
        output = node.outputs[0]
        self.renamed[output] = self._fresh(f"{output}@kept", self.types[output])
        return replace(node, outputs=(self.renamed[output],))

    def _exp(self, node: Node) -> list[Node]:
        """The power 0 for what is left out, of which e^0 is taken so that it cannot overflow."""
        mask, kind = self._mask(node.inputs[0]), self.types[node.outputs[0]]
        score, power = (self._fresh(f"{node.outputs[0]}@{w}", kind) for w in ("score", "power"))
        stored = self._store(node, "masked", mask)
        zero = self._store(node, "zero", np.zeros((), kind.dtype.numpy))
        given = self._finite(node.inputs[0])
        return [
            self._made(node, "filled", "MaskedWhere", (stored, zero, given), score),
            replace(node, inputs=(score,), outputs=(power,)),
            self._made(node, "masked", "MaskedWhere", (stored, zero, power), node.outputs[0]),
        ]

    def _made(self, node: Node, what: str, op: str, inputs: tuple[str, ...], output: str) -> Node:
        """A node beside this one."""
        name = self._named(f"{node.name}@{what}")
        return Node(name, op, inputs=inputs, outputs=(output,), attributes={}, opset=node.opset)

    def _writing(self, node: Node, mask: Mask) -> list[Node]:
        """The node, whose output is −∞ in these places; put back where a caller reads it."""
        output = node.outputs[0]
        if not np.any(mask):
            return [node]
        kind = self.types[output]
        self.masks[output] = mask
        self.finite[output] = finite = self._fresh(output, kind)
        written = replace(node, outputs=(finite,))
        if output not in self.outputs:
            return [written]
        scalar = TensorType(kind.dtype, ())
        computed, log = (self._fresh(f"{output}@{what}", scalar) for what in ("zero", "log"))
        zero = self._store(node, "zero", np.zeros((), kind.dtype.numpy))
        stored = self._store(node, "masked", mask)
        return [
            written,
            self._made(node, "Identity", "Identity", (zero,), computed),
            self._made(node, "Log", "Log", (computed,), log),
            self._made(node, "Where", "MaskedWhere", (stored, log, finite), output),
        ]

    def _unread(self, tensor: str) -> Mask:
        """Elements that no node reads, a stored choice having another in their place."""
        shape = self.types[tensor].shape
        unread = np.full(shape, tensor not in self.outputs)
        for node in self.nodes:
            if tensor not in node.inputs:
                continue
            condition = self.constants.get(node.inputs[0])
            if node.op in ("Cast", "Identity"):
                unread &= self._unread(node.outputs[0])
            elif node.op == "Where" and condition is not None:
                for position, chosen in ((1, condition.astype(bool)), (2, ~condition.astype(bool))):
                    if node.inputs[position] == tensor:
                        whole = self.types[node.outputs[0]].shape == shape
                        unread &= ~np.broadcast_to(chosen, shape) if whole else False
            else:
                return np.zeros(shape, bool)
        return unread

    def _mask(self, tensor: str) -> Mask:
        found = self.masks.get(tensor)
        return np.zeros(self.types[tensor].shape, bool) if found is None else found

    def _settled(self, node: Node) -> list[Node]:
        """Nodes that put 0 where arithmetic goes on with a −∞: it stays what it is whatever is
        added to it and in whatever type, where the finite number in its place may overflow."""
        found = []
        computed = [t for t in dict.fromkeys(node.inputs) if t in self.finite.keys() - self.settled]
        for tensor in computed if node.op in ("Add", "Cast", "Sub") else ():
            kind = self.types[tensor]
            if tensor in self.constants:
                continue
            zero = self._store(node, "zero", np.zeros((), kind.dtype.numpy))
            inputs = (self._store(node, "masked", self.masks[tensor]), zero, self.finite[tensor])
            settled = self._fresh(f"{tensor}@settled", kind)
            found.append(self._made(node, f"settled {tensor}", "MaskedWhere", inputs, settled))
            self.finite[tensor] = settled
            self.settled.add(tensor)
        return found

    def _reading(self, node: Node) -> Node:
        return replace(node, inputs=tuple(self._finite(t) for t in node.inputs))

    def _finite(self, tensor: str) -> str:
        """The tensor with 0 for the −∞ that it holds if it is stored."""
        if tensor not in self.masks:
            return tensor
        if tensor not in self.finite and tensor in self.constants:
            stored = self.constants[tensor]
            name = self._fresh(tensor, self.types[tensor])
            self.constants[name] = np.where(self.masks[tensor], stored.dtype.type(0), stored)
            self.finite[tensor] = name
        return self.finite.get(tensor, tensor)

    def _store(self, node: Node, what: str, value: Array) -> str:
        name = self._fresh(f"{node.outputs[0]}@{what}", type_of(value))
        self.constants[name] = value
        return name

    def _named(self, stem: str) -> str:
        """A name for a new node."""
        return free(stem, {node.name for node in self.nodes})

    def _fresh(self, stem: str, kind: TensorType) -> str:
        name = free(stem if "@" in stem else f"{stem}@finite", self.types)
        self.types[name] = kind
        return name
