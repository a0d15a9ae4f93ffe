"""Random small graphs, rewrites of them that keep the real function, and edits that do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper
from small_models import save

from onnx_import import load
from onnx_import.graph import Graph

ROWS, WIDTH = 3, 4
Values = npt.NDArray[np.generic]


@dataclass(frozen=True)
class Op:
    """One node with one output; inputs are names of tensors or constants."""

    kind: str
    reads: tuple[str, ...]
    out: str
    attributes: tuple[tuple[str, Any], ...] = ()


@dataclass
class Draft:
    """A graph from x to y, all of whose tensors between are ROWS × WIDTH."""

    ops: list[Op]
    constants: dict[str, Values]
    count: int = 0

    def name(self) -> str:
        self.count += 1
        return f"t{self.count}"

    def stored(self, values: npt.ArrayLike, dtype: type[np.generic] = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(values).astype(dtype)
        return name

    def copy(self) -> Draft:
        return Draft(list(self.ops), {k: v.copy() for k, v in self.constants.items()}, self.count)

    def graph(self, folder: Path) -> Graph:
        nodes = [helper.make_node(o.kind, o.reads, [o.out], **dict(o.attributes)) for o in self.ops]
        shape = (ROWS, WIDTH)
        return load(save(folder / "drawn.onnx", nodes, {"x": shape}, {"y": shape}, self.constants))


def drawn(rng: np.random.Generator, size: int) -> Draft:
    """A random graph of so many nodes."""
    draft = Draft([], {})
    tensors = ["x"]
    for _ in range(size):
        a, b = (tensors[max(0, len(tensors) - 1 - int(k))] for k in rng.integers(0, 3, 2))
        draft.ops.append(_random(draft, rng, a, b))
        tensors.append(draft.ops[-1].out)
    draft.ops.append(Op("Identity", (tensors[-1],), "y"))
    return draft


def _random(draft: Draft, rng: np.random.Generator, a: str, b: str) -> Op:
    out = draft.name()

    def some(*shape: int) -> str:
        return draft.stored(rng.normal(size=shape) / 2)

    makers: tuple[Callable[[], Op], ...] = (
        lambda: Op("MatMul", (a, some(WIDTH, WIDTH)), out),
        lambda: Op("Gemm", (a, some(WIDTH, WIDTH), some(WIDTH)), out),
        lambda: Op("Add", (a, some(WIDTH)), out),
        lambda: Op("Mul", (a, some(1)), out),
        lambda: Op("Add", (a, b), out),
        lambda: Op("Sub", (a, b), out),
        lambda: Op("Mul", (a, b), out),
        lambda: Op("Relu", (a,), out),
        lambda: Op("Clip", (a, draft.stored(-0.5), draft.stored(0.75)), out),
        lambda: Op("Sigmoid", (a,), out),
        lambda: Op("Tanh", (a,), out),
        lambda: Op("Softmax", (a,), out, (("axis", int(rng.integers(0, 2)) - 2),)),
        lambda: Op("LayerNormalization", (a, some(WIDTH), some(WIDTH)), out),
        lambda: Op("Max", (a, b), out),
    )
    return makers[int(rng.integers(0, len(makers)))]()


Rule = Callable[[Draft, np.random.Generator, Op], list[Op] | None]


def _swapped(draft: Draft, rng: np.random.Generator, op: Op) -> list[Op] | None:
    if op.kind not in ("Add", "Mul", "Max"):
        return None
    return [replace(op, reads=op.reads[::-1])]


def _wrapped(draft: Draft, rng: np.random.Generator, op: Op) -> list[Op] | None:
    """What it writes, moved away and back."""
    a, b, c = draft.name(), draft.name(), draft.name()
    first = replace(op, out=a)
    flat, back = draft.stored([-1], np.int64), draft.stored([ROWS, WIDTH], np.int64)
    axis = draft.stored([1], np.int64)
    ways: tuple[list[Op], ...] = (
        [Op("Identity", (a,), op.out)],
        [Op("Transpose", (a,), b), Op("Transpose", (b,), op.out)],
        [Op("Reshape", (a, flat), b), Op("Reshape", (b, back), op.out)],
        [Op("Unsqueeze", (a, axis), b), Op("Squeeze", (b, axis), op.out)],
        [
            Op("Slice", (a, draft.stored([0], np.int64), draft.stored([1], np.int64)), b),
            Op("Slice", (a, draft.stored([1], np.int64), draft.stored([ROWS], np.int64)), c),
            Op("Concat", (b, c), op.out, (("axis", 0),)),
        ],
        [Op("Cast", (a,), op.out, (("to", TensorProto.FLOAT),))],
    )
    return [first, *ways[int(rng.integers(0, len(ways)))]]


def _written_out(draft: Draft, rng: np.random.Generator, op: Op) -> list[Op] | None:
    """The operator as others."""
    (x, *more), y, new = op.reads, op.out, draft.name
    a, b, c, d, e, f = (new() for _ in range(6))

    def one(values: npt.ArrayLike) -> str:
        return draft.stored(values)

    if op.kind == "Gemm" and not op.attributes:
        return [Op("MatMul", (x, more[0]), a), Op("Add", (more[1], a), y)]
    if op.kind == "MatMul" and more[0] in draft.constants:
        turned = draft.stored(draft.constants[more[0]].T)
        if rng.random() < 0.5:
            return [Op("Gemm", (x, turned), y, (("transB", 1),))]
        return [Op("Transpose", (x,), a), Op("MatMul", (turned, a), b), Op("Transpose", (b,), y)]
    if op.kind == "Relu":
        if rng.random() < 0.5:
            return [Op("Max", (one(0), x), y)]
        zero = one(0)
        return [Op("Greater", (x, zero), a), Op("Where", (a, x, zero), y)]
    if op.kind == "Clip":
        if rng.random() < 0.5:
            return [Op("Min", (more[1], x), a), Op("Max", (a, more[0]), y)]
        return [
            *(Op("Less", (x, more[0]), a), Op("Where", (a, more[0], x), b)),
            *(Op("LessOrEqual", (b, more[1]), c), Op("Where", (c, b, more[1]), y)),
        ]
    if op.kind == "Sigmoid":
        unit = one(1)
        return [
            *(Op("Neg", (x,), a), Op("Exp", (a,), b)),
            *(Op("Add", (b, unit), c), Op("Div", (unit, c), y)),
        ]
    if op.kind == "Sub":
        return [Op("Neg", (more[0],), a), Op("Add", (a, x), y)]
    if op.kind == "Softmax":
        axis = int(str(dict(op.attributes)["axis"]))
        return [
            *(Op("ReduceMax", (x,), a, (("axes", [axis]),)), Op("Sub", (x, a), b)),
            *(Op("Exp", (b,), c), Op("ReduceSum", (c, draft.stored([axis], np.int64)), d)),
            Op("Div", (c, d), y),
        ]
    if op.kind == "LayerNormalization":
        return [
            *(Op("ReduceMean", (x,), a, (("axes", [-1]),)), Op("Sub", (x, a), b)),
            *(Op("Mul", (b, b), c), Op("ReduceMean", (c,), d, (("axes", [-1]),))),
            *(Op("Add", (d, one(1e-5)), e), Op("Sqrt", (e,), f)),
            *_last_of_norm(draft, b, f, more, y),
        ]
    if op.kind == "Mul" and more[0] in draft.constants:
        half = draft.stored(draft.constants[more[0]].astype(np.float64) / 2)
        return [Op("Mul", (x, half), a), Op("Add", (a, a), y)]
    return None


def _last_of_norm(draft: Draft, b: str, f: str, more: list[str], y: str) -> list[Op]:
    g, h = draft.name(), draft.name()
    return [Op("Div", (b, f), g), Op("Mul", (more[0], g), h), Op("Add", (h, more[1]), y)]


def _pushed(draft: Draft, rng: np.random.Generator, op: Op) -> list[Op] | None:
    """A transpose before it instead of behind it."""
    if op.kind not in ("Relu", "Sigmoid", "Tanh", "Clip"):
        return None
    a, b = draft.name(), draft.name()
    return [
        Op("Transpose", op.reads[:1], a),
        replace(op, reads=(a, *op.reads[1:]), out=b),
        Op("Transpose", (b,), op.out),
    ]


def _twice(draft: Draft, rng: np.random.Generator, op: Op) -> list[Op] | None:
    """Computed twice, and the larger of both taken."""
    a, b = draft.name(), draft.name()
    return [replace(op, out=a), replace(op, out=b), Op("Max", (a, b), op.out)]


RULES: tuple[Rule, ...] = (_swapped, _wrapped, _written_out, _written_out, _pushed, _twice)


def rewritten(draft: Draft, rng: np.random.Generator, times: int) -> Draft:
    """The same real function after so many rules, each at a node that is drawn."""
    made = draft.copy()
    for _ in range(times):
        at = int(rng.integers(0, len(made.ops)))
        rule = RULES[int(rng.integers(0, len(RULES)))]
        if made.ops[at].kind in ("Greater", "Less", "LessOrEqual"):
            continue
        if not _is_plain(made, made.ops[at]):
            continue
        found = rule(made, rng, made.ops[at])
        if found is not None:
            made.ops[at : at + 1] = found
    return made


def _is_plain(draft: Draft, op: Op) -> bool:
    """Does it write a ROWS × WIDTH tensor of floats, by the operators that are drawn?"""
    drawn_kinds = {
        *("MatMul", "Gemm", "Add", "Mul", "Sub", "Relu", "Clip", "Sigmoid", "Tanh", "Softmax"),
        *("LayerNormalization", "Max"),
    }
    return op.kind in drawn_kinds and op.out in _whole(draft)


def _whole(draft: Draft) -> set[str]:
    """Tensors that are surely ROWS × WIDTH: written by what reads only such tensors."""
    found = {"x"}
    kept = {
        *("Add", "Mul", "Sub", "Relu", "Clip", "Sigmoid", "Tanh", "Softmax", "Max"),
        *("LayerNormalization", "Gemm", "Identity"),
    }
    for op in draft.ops:
        square = op.kind == "MatMul" and op.reads[0] in found
        computed = [t for t in op.reads if t not in draft.constants]
        if square or (op.kind in kept and computed and all(t in found for t in computed)):
            found.add(op.out)
    return found


@dataclass(frozen=True)
class Edited:
    """A graph with one edit, and what was edited."""

    draft: Draft
    what: str


def edited(draft: Draft, rng: np.random.Generator) -> Edited | None:
    """One constant or one operator changed; None where nothing can be."""
    made = draft.copy()
    for at in rng.permutation(len(made.ops)):
        op = made.ops[at]
        others = {"Relu": "Sigmoid", "Tanh": "Sigmoid", "Sub": "Add", "Max": "Min", "Exp": "Tanh"}
        if op.kind in others and rng.random() < 0.5:
            made.ops[at] = replace(op, kind=others[op.kind])
            return Edited(made, f"{op.kind} became {others[op.kind]}")
        for name in op.reads:
            values = made.constants.get(name)
            if values is not None and values.dtype == np.float32 and values.size:
                changed = values.copy().reshape(-1)
                place = int(rng.integers(0, changed.size))
                changed[place] += np.float32(2.0 ** -float(rng.integers(1, 14)))
                new = made.stored(changed.reshape(values.shape))
                reads = tuple(new if t == name else t for t in op.reads)
                made.ops[at] = replace(op, reads=reads)
                return Edited(made, f"{op.kind}: {values.reshape(-1)[place]} changed")
    return None
