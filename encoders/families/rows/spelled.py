"""Normalisations of rows and the nodes that spell them out, one from the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from encoders.arithmetic.values import E
from encoders.families.rows.normalizing import Layout, normalizing_operator
from encoders.operator import Operator, Site
from encoders.relaxations.rows import Rows, rows_along
from onnx_import.graph import Array, AttributeValue, DType, Node, TensorType

_MEAN = "ReduceMean"


def spelled_normalization(axes: tuple[int, ...], *, centred: bool, squaring: int) -> Operator:
    """Rows along these axes over their norm, less their mean before where they are `centred`.

    The site's node says ε by the attribute `epsilon`. The rounding bound is that of a mean, a
    difference, squares of `squaring` roundings each, their mean, a sum with ε, a root, and a
    quotient or a reciprocal and a product, each rounded to the type of the result.
    """

    def rows(site: Site) -> Rows:
        return rows_along(site.type_of(0).shape, axes)

    def nothing(site: Site, parameter: npt.NDArray[E]) -> npt.NDArray[E]:
        raise site.unsupported("it has no scale and no bias")

    layout = Layout(rows, nothing, nothing, centred, foldable=False, squaring=squaring)
    return normalizing_operator("Normalization", 1, layout, lambda site: None)


@dataclass(frozen=True)
class AsNodes:
    """A normalisation written out: nodes in order, the last of which writes what the operator does,
    with the types of the tensors between and the constants."""

    nodes: tuple[Node, ...]
    types: Mapping[str, TensorType]
    constants: Mapping[str, Array]


def as_nodes(site: Site, axes: tuple[int, ...], *, centred: bool) -> AsNodes:
    """(x − μ)/√(mean((x − μ)²) + ε), scaled and moved by what the site stores, as nodes that
    compute nothing else. Over the reals alone: their numbers have no format of their own."""
    name, kind = site.node.name, site.type_of(0)
    reduced = tuple(1 if i in axes else n for i, n in enumerate(kind.shape))
    nodes: list[Node] = []
    types: dict[str, TensorType] = {}
    constants: dict[str, Array] = {}

    def stored(label: str, value: Array) -> str:
        tensor = f"{name}//{label}"
        constants[tensor] = np.asarray(value, np.float64)
        types[tensor] = TensorType(DType.FLOAT64, value.shape)
        return tensor

    def node(op: str, label: str, read: tuple[str, ...], shape: tuple[int, ...]) -> str:
        tensor = f"{name}//{label}"
        attributes: dict[str, AttributeValue] = {}
        if op == _MEAN:
            attributes = {"axes": axes, "keepdims": 1}
        nodes.append(Node(tensor, op, read, (tensor,), attributes, opset=13))
        types[tensor] = replace(kind, shape=shape)
        return tensor

    deviation = site.node.inputs[0]
    if centred:
        mean = node(_MEAN, "mean", (deviation,), reduced)
        deviation = node("Sub", "deviation", (deviation, mean), kind.shape)
    square = node("Mul", "square", (deviation, deviation), kind.shape)
    variance = node(_MEAN, "variance", (square,), reduced)
    epsilon = stored("epsilon", np.asarray(site.real("epsilon", 1e-5)))
    shifted = node("Add", "shifted", (variance, epsilon), reduced)
    root = node("Sqrt", "root", (shifted,), reduced)
    last = node("Div", "quotient", (deviation, root), kind.shape)
    for position, op in ((1, "Mul"), (2, "Add")):
        held = site.constant(position)
        if held is not None:
            last = node(op, f"parameter {position}", (last, stored(f"input {position}", held)),
                        kind.shape)  # fmt: skip
    nodes[-1] = replace(nodes[-1], name=name, outputs=site.node.outputs[:1])
    return AsNodes(tuple(nodes), types, constants)
