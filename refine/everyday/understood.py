"""All that of a model is not understood, at once: a refusal names the first of it alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx

from encoders.program import step_of
from encoders.registry import operators
from onnx_import import load
from onnx_import.errors import ModelError
from onnx_import.graph import Graph, Sizes
from onnx_import.onnx.foreign import FOREIGN, is_known
from onnx_import.onnx.inferable import every_node
from onnx_import.onnx.proto import parse, read_bytes
from onnx_import.onnx.reader import DECOMPOSED
from onnx_import.passes.folding.fold import ALONE
from onnx_import.passes.normalize import is_function

_STANDARD = ("", "ai.onnx")


@dataclass(frozen=True)
class Unknown:
    """Nodes of one operator that has no meaning here."""

    domain: str
    op: str
    nodes: tuple[str, ...]

    def describe(self) -> str:
        """`3 nodes of com.example.Frob, which has no meaning here ('a', 'b', 'c')`."""
        shown = ", ".join(f"'{n}'" for n in self.nodes[:3])
        more = ", …" if len(self.nodes) > 3 else ""
        count = "1 node" if len(self.nodes) == 1 else f"{len(self.nodes)} nodes"
        return f"{count} of {self.name}, which has no meaning here ({shown}{more})"

    @property
    def name(self) -> str:
        """Its name, with its domain where that is not ONNX's own."""
        return self.op if self.domain in _STANDARD else f"{self.domain}.{self.op}"

    def is_named_in(self, text: str) -> bool:
        """Is it this operator of which the reader says that it has no meaning?"""
        return f"operator {self.name} (" in text or f"is {self.name}, an operator outside" in text


def not_understood(
    model: Path, *, allowed: tuple[Path, ...] = (), sizes: Sizes | None = None
) -> tuple[str, ...]:
    """In sentences: operators without a meaning, and uses without one of those that have some. Of a
    file that cannot be read for another reason, that reason is the last.

    What is behind an operator without a meaning, or in a file with open dimensions, can be seen
    when these have one alone. Raises ModelError for what is no model.
    """
    unknown = unknown_operators(parse(read_bytes(model), model))
    try:
        graph = load(model, allowed=allowed, sizes=sizes, random=True)
    except ModelError as error:
        last = [] if any(u.is_named_in(str(error)) for u in unknown) else [str(error)]
        return (*(u.describe() for u in unknown), *last)
    left = {(node.domain, node.op) for node in graph.order}  # others the reader knows
    unknown = tuple(u for u in unknown if (u.domain, u.op) in left)
    uses = (text for text in _uses(graph) if not any(u.is_named_in(text) for u in unknown))
    return (*(u.describe() for u in unknown), *dict.fromkeys(uses))


def unknown_operators(model: onnx.ModelProto) -> tuple[Unknown, ...]:
    """Operators without a meaning here, with their nodes, those of subgraphs among them."""
    own = {(f.domain, f.name) for f in model.functions}
    nodes: dict[tuple[str, str], list[str]] = {}
    for node in every_node(model):
        if (node.domain, node.op_type) not in own and not _has_meaning(node):
            named = node.name or next((t for t in node.output if t), "")
            nodes.setdefault((node.domain, node.op_type), []).append(named)
    return tuple(Unknown(d, op, tuple(names)) for (d, op), names in nodes.items())


def _has_meaning(node: onnx.NodeProto) -> bool:
    if node.domain not in _STANDARD:
        return is_known(node.domain, node.op_type) or is_function(node)
    if ("", node.op_type) in FOREIGN:  # made by the import, and no operator of ONNX
        return False
    return node.op_type in (*operators(), *DECOMPOSED, *ALONE)


def _uses(graph: Graph) -> Iterator[str]:
    """Of each node in turn, why it has no meaning as it stands."""
    for node in graph.order:
        try:
            step_of(graph, node).check()
        except ModelError as error:
            yield str(error)
