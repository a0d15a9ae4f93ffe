"""If, Loop and Scan as the nodes of their bodies: a branch that is taken, steps that are counted.

A loop is unrolled step by step, so that its condition is known, where constants decide it, before
the next step is read. Of an If whose condition is computed both branches are, and a Where chooses:
what its bounds make of a condition that is decided by ranges, or is not, holds here, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from onnx_import.errors import UnsupportedModel, shorten
from onnx_import.graph import Array, TensorType
from onnx_import.onnx.foreign import require_known
from onnx_import.passes.bodies import rename
from onnx_import.passes.normalize import free
from onnx_import.tensors import array_of

_MOST_STEPS = 1024


@dataclass
class Unfolded:
    """What takes the place of a node: other nodes, in order, and the constants they read."""

    protos: list[tuple[str, onnx.NodeProto]] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)


@dataclass
class Control:
    """Unfolds nodes with bodies. `steps` says how far each loop is, and the outputs of its steps;
    `taken` are the names of all nodes and tensors; `choices` says of a Where that an If became
    what the If was; `held` are the tensors in each sequence, none where it is an optional that
    holds nothing; `written` are copies of those among a model's outputs."""

    opset: int
    folder: Path
    taken: set[str]
    steps: dict[str, tuple[int, list[list[str]]]] = field(default_factory=dict)
    choices: dict[str, str] = field(default_factory=dict)
    held: dict[str, tuple[str, ...] | None] = field(default_factory=dict)
    written: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def spread(self, outputs: Sequence[str]) -> list[tuple[str, onnx.NodeProto]]:
        """Copies of the tensors of those of a model's outputs that are sequences, under names of
        their own, the first time that they are asked for; none afterwards."""
        copies = []
        for output in outputs:
            if output not in self.held or output in self.written:
                continue
            names = []
            for place, tensor in enumerate(self.held[output] or ()):
                name = free(f"{output}[{place}]", self.taken)
                self.taken.add(name)
                copies.append(
                    (name, onnx.helper.make_node("Identity", [tensor], [name], name=name))
                )
                names.append(name)
            self.written[output] = tuple(names)
        return copies

    def spelled(self, outputs: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """A model's outputs, with the tensors of sequences in their place, and notes on them.
        Raises UnsupportedModel where no tensor is left."""
        found: list[str] = []
        notes: list[str] = []
        for output in outputs:
            tensors = self.written.get(output, (output,))
            found += tensors
            if output in self.written:
                notes.append(f"output '{output}' is read as the {len(tensors)} tensor(s) in it")
        if not found:
            raise UnsupportedModel(
                "the model has no outputs but sequences and optionals that hold nothing; export "
                "it with tensors"
            )
        return tuple(found), tuple(notes)

    def require_tensors(self, name: str, proto: onnx.NodeProto, *, first: int = 0) -> None:
        """Raises UnsupportedModel, naming the node, for one that reads a sequence, or nothing, in
        place of a tensor, at the input `first` or behind it."""
        odd = next((t for t in proto.input[first:] if t in self.held), None)
        if odd is None:
            return
        what = "an optional that holds nothing" if self.held[odd] is None else "a sequence"
        if name in self.choices:
            raise UnsupportedModel(
                f"node '{self.choices[name]}' (If): a branch gives {what}, and its condition is "
                "computed; export the model with tensors, or with a constant condition"
            )
        raise UnsupportedModel(
            f"node '{name}' ({proto.op_type}): its input '{odd}' is {what}, and no tensor; export "
            "the model with tensors"
        )

    def require_alike(self, name: str, shapes: Sequence[tuple[int, ...]]) -> None:
        """Raises UnsupportedModel where an If became this node, a Where, and its branches give
        tensors of other shapes: a Where would stretch them."""
        if name in self.choices and len(set(shapes[1:])) > 1:
            raise UnsupportedModel(
                f"node '{self.choices[name]}' (If): its branches give the shapes "
                f"{list(shapes[1])} and {list(shapes[2])}, and its condition is computed; export "
                "the model with branches of one shape"
            )

    def unfolded(
        self,
        name: str,
        proto: onnx.NodeProto,
        types: Mapping[str, TensorType],
        constants: Mapping[str, Array],
        way: Callable[[Unfolding], None],
    ) -> Unfolded:
        """What `way` makes of a node. Raises UnsupportedModel, naming the node, for one that is not
        known to end, and for branches of other shapes between which a computed condition
        chooses."""
        work = Unfolding(self, name, proto, types, constants)
        try:
            way(work)
        except (ValueError, LookupError, ArithmeticError, TypeError, AttributeError) as error:
            what = "its body does" if proto.op_type in CONTROL else "its inputs do"
            raise work.unsupported(
                f"{what} not fit it ({shorten(error)}); export the model again"
            ) from error
        return work.made


@dataclass
class Unfolding:
    """One node, and what takes its place."""

    control: Control
    name: str
    proto: onnx.NodeProto
    types: Mapping[str, TensorType]
    constants: Mapping[str, Array]
    made: Unfolded = field(default_factory=Unfolded)

    def unsupported(self, why: str) -> UnsupportedModel:
        return UnsupportedModel(f"node '{self.name}' ({self.proto.op_type}): {why}")

    def attribute(self, name: str, default: Any = None) -> Any:
        found = [a for a in self.proto.attribute if a.name == name]
        if not found and default is None:
            raise self.unsupported(f"attribute '{name}' is missing; export the model again")
        return onnx.helper.get_attribute_value(found[0]) if found else default

    def input(self, position: int) -> str:
        inputs = self.proto.input
        return inputs[position] if position < len(inputs) else ""

    def fresh(self, stem: str) -> str:
        taken, name = self.control.taken, stem
        while name in taken:
            name = f"{stem}.{len(taken)}" if name == stem else f"{name}_"
        taken.add(name)
        return name

    def add(self, op: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        name = self.fresh(f"{self.name}.{op}")
        written = output or self.fresh(f"{name}:output")
        node = onnx.helper.make_node(op, inputs, [written], name=name, **attributes)
        self.made.protos.append((name, node))
        return written

    def store(self, value: Array) -> str:
        name = self.fresh(f"{self.name}.constant")
        self.made.constants[name] = value
        return name

    def unsqueezed(self, tensor: str, axis: int) -> str:
        if self.control.opset < 13:
            return self.add("Unsqueeze", [tensor], axes=[axis])
        return self.add("Unsqueeze", [tensor, self.store(np.array([axis], np.int64))])

    def body(self, graph: onnx.GraphProto, place: str, given: Sequence[str]) -> list[str]:
        """The nodes of a body under names of their own; the names of its outputs."""
        if len(given) != len(graph.input):
            raise self.unsupported(
                f"its body has {len(graph.input)} inputs, and is given {len(given)}"
            )
        if graph.sparse_initializer:
            raise self.unsupported("a tensor stored in its body is sparse; store it dense")
        names = dict(zip((v.name for v in graph.input), given, strict=True))
        stem = f"{self.name}.{place}"
        for tensor in graph.initializer:
            if tensor.name not in names:
                names[tensor.name] = self.fresh(f"{stem}.{tensor.name}")
                where = f"initializer '{tensor.name}' of node '{self.name}'"
                self.made.constants[names[tensor.name]] = array_of(
                    tensor, self.control.folder, where
                )
        for node in graph.node:
            names.update((t, self.fresh(f"{stem}.{t}")) for t in node.output if t)
        for node in graph.node:
            require_known(f"{stem}.{node.name or node.op_type}", node)
            copy = onnx.NodeProto.FromString(node.SerializeToString())
            copy.name = self.fresh(f"{stem}.{node.name or node.op_type}")
            rename(copy, names)
            self.made.protos.append((copy.name, copy))
        return [names.get(v.name, v.name) for v in graph.output]

    def write(self, outputs: Sequence[str]) -> None:
        """These are the node's outputs."""
        for source, output in zip(outputs, self.proto.output, strict=False):
            if output:
                self.add("Identity", [source], output=output)

    def truth(self, tensor: str) -> bool | None:
        """A condition that is constant; None where it is computed."""
        if tensor not in self.constants:
            return None
        value = self.constants[tensor]
        if value.size != 1:
            raise self.unsupported(f"its condition has {value.size} elements, and needs one")
        return bool(value.reshape(())[()])


def _if(work: Unfolding) -> None:
    """One branch where a constant says which, else both and a choice."""
    condition = work.input(0)
    known = work.truth(condition)
    if known is not None:
        branch = "then_branch" if known else "else_branch"
        work.write(work.body(work.attribute(branch), branch.partition("_")[0], []))
        return
    if work.types[condition].size != 1:
        raise work.unsupported("its condition must have one element")
    flat = work.add("Reshape", [condition, work.store(np.array([], np.int64))])
    sides = [
        work.body(work.attribute(branch), branch.partition("_")[0], [])
        for branch in ("then_branch", "else_branch")
    ]
    for yes, no, output in zip(*sides, work.proto.output, strict=True):
        work.add("Where", [flat, yes, no], output=output)
        work.control.choices[work.made.protos[-1][0]] = work.name


def _loop(work: Unfolding) -> None:
    """One more step, and the same Loop behind it; or what its outputs are at the end."""
    name, body = work.name, work.attribute("body")
    count, condition, carried = work.input(0), work.input(1), list(work.proto.input[2:])
    step, outputs = work.control.steps.get(name, (0, [[] for _ in body.output[1 + len(carried) :]]))
    if count and count not in work.constants:
        raise work.unsupported(
            f"how often it runs ('{count}') is computed from the inputs; export the model with a "
            "constant count"
        )
    going = work.truth(condition) if condition else True
    if going is None:
        raise work.unsupported(
            f"whether it goes on after step {step} is computed from the inputs; export the model "
            "with a constant count"
        )
    most = int(work.constants[count].reshape(())[()]) if count else None
    if not going or (most is not None and step >= most):
        stacked = [_stacked(work, parts, 0) for parts in outputs]
        work.write([*carried, *stacked])
        return
    if step >= _MOST_STEPS:
        raise work.unsupported(f"it runs more than {_MOST_STEPS} times")
    number = work.store(np.array(step, np.int64))
    before = condition or work.store(np.array(True))
    after = work.body(body, str(step), [number, before, *carried])
    goes_on, state, parts = after[0], after[1 : 1 + len(carried)], after[1 + len(carried) :]
    for every, part in zip(outputs, parts, strict=True):
        every.append(part)
    work.control.steps[name] = (step + 1, outputs)
    rest = onnx.NodeProto.FromString(work.proto.SerializeToString())
    del rest.input[:]
    rest.input.extend([count, goes_on, *state])
    work.made.protos.append((name, rest))


def _stacked(work: Unfolding, parts: Sequence[str], axis: int) -> str:
    """The tensors of all steps along a new axis."""
    if not parts:
        raise work.unsupported("it never runs, and what its steps give is read")
    tall = [work.unsqueezed(part, axis) for part in parts]
    return work.add("Concat", tall, axis=axis) if len(tall) > 1 else tall[0]


def _scan(work: Unfolding) -> None:
    if work.control.opset < 9:
        raise work.unsupported("before opset 9 it has lengths of sequences, which are not read")
    scanned = int(work.attribute("num_scan_inputs"))
    body, inputs = work.attribute("body"), list(work.proto.input)
    if not 0 < scanned <= len(inputs):
        raise work.unsupported(f"attribute 'num_scan_inputs' is {scanned}")
    state, parts = inputs[:-scanned], inputs[-scanned:]
    made = len(body.output) - len(state)
    backwards = work.attribute("scan_input_directions", [0] * scanned)
    reverse = work.attribute("scan_output_directions", [0] * made)
    to = work.attribute("scan_output_axes", [0] * made)
    axes = work.attribute("scan_input_axes", [0] * scanned)
    shapes = [work.types[t].shape for t in parts]
    if any(not -len(s) <= a < len(s) for s, a in zip(shapes, axes, strict=True)):
        raise work.unsupported(f"attribute 'scan_input_axes' is {list(axes)}, out of range")
    lengths = {s[a] for s, a in zip(shapes, axes, strict=True)}
    (steps,) = lengths if len(lengths) == 1 else (-1,)
    if not 0 < steps <= _MOST_STEPS:
        raise work.unsupported(
            f"it runs over {sorted(lengths)} steps; supported is one number from 1 to {_MOST_STEPS}"
        )
    outputs: list[list[str]] = [[] for _ in range(made)]
    for step in range(steps):
        slices = []
        for tensor, axis, back in zip(parts, axes, backwards, strict=True):
            place = work.store(np.array(steps - 1 - step if back else step, np.int64))
            slices.append(work.add("Gather", [tensor, place], axis=axis))
        after = work.body(body, str(step), [*state, *slices])
        state = after[: len(state)]
        for every, part in zip(outputs, after[len(state) :], strict=True):
            every.append(part)
    stacked = [
        _stacked(work, every[::-1] if back else every, axis)
        for every, back, axis in zip(outputs, reverse, to, strict=True)
    ]
    work.write([*state, *stacked])


CONTROL: Mapping[str, Callable[[Unfolding], None]] = {"If": _if, "Loop": _loop, "Scan": _scan}
