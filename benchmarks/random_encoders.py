"""Random transformer encoders in small balls: how far normalisations and attention carry a bound.

    python benchmarks/random_encoders.py [--save FILE]

Layers of attention and a Relu network, normalised before ("pre") or after ("post") each, on 6
tokens of 16 numbers, weights drawn evenly within ±1/√n; ± radius around one random input. One pass
without a budget, ten seconds of search, in one process: processor time, which a loaded machine
does not change much.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from measuring import save, shown
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from rich.table import Table

import refine

TOKENS, READ, WIDTH, HIDDEN, WRITTEN = 6, 8, 16, 32, 3
COLUMNS = ("layers", "norm", "radius", "bound", "found", "ratio", "cpu s")
ROWS = tuple(
    (layers, norm, radius)
    for layers in (1, 2, 4)
    for norm in ("pre", "post")
    for radius in (0.001, 0.003, 0.01, 0.03)
)


@dataclass
class Building:
    """A graph under way: each call adds a node, or a stored tensor, and gives its name."""

    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    stored: list[onnx.TensorProto] = field(default_factory=list)

    def node(self, operator: str, *reads: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(reads), [name], name, **attributes))
        return name

    def constant(self, value: np.ndarray) -> str:
        name = f"c{len(self.stored)}"
        self.stored.append(numpy_helper.from_array(value.astype(np.float32), name))
        return name

    def dense(self, x: str, inner: int, outer: int) -> str:
        weights = self.rng.uniform(-1, 1, (inner, outer)) / np.sqrt(inner)
        return self.node("MatMul", x, self.constant(weights))

    def normalized(self, x: str) -> str:
        scale, bias = self.constant(np.ones(WIDTH)), self.constant(np.zeros(WIDTH))
        return self.node("LayerNormalization", x, scale, bias)

    def attended(self, x: str) -> str:
        q, k, v = (self.dense(x, WIDTH, WIDTH) for _ in range(3))
        q = self.node("Mul", q, self.constant(np.asarray(WIDTH**-0.5)))
        scores = self.node("MatMul", q, self.node("Transpose", k, perm=[0, 2, 1]))
        mixed = self.node("MatMul", self.node("Softmax", scores, axis=-1), v)
        return self.dense(mixed, WIDTH, WIDTH)

    def widened(self, x: str) -> str:
        hidden = self.node("Relu", self.dense(x, WIDTH, HIDDEN))
        return self.dense(hidden, HIDDEN, WIDTH)


def encoder(layers: int, norm: str) -> onnx.ModelProto:
    """An encoder of this many layers, normalised "pre" or "post"."""
    graph = Building(np.random.default_rng(7))
    x = graph.dense("x", READ, WIDTH)
    for part in (graph.attended, graph.widened) * layers:
        moved = part(graph.normalized(x) if norm == "pre" else x)
        x = graph.node("Add", x, moved)
        x = x if norm == "pre" else graph.normalized(x)
    y = graph.dense(x, WIDTH, WRITTEN)
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, TOKENS, width])
        for name, width in (("x", READ), (y, WRITTEN))
    ]
    made = helper.make_graph(graph.nodes, "encoder", ends[:1], ends[1:], graph.stored)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def row(layers: int, norm: str, radius: float, folder: Path) -> Mapping[str, Any]:
    path = folder / "encoder.onnx"
    onnx.save(encoder(layers, norm), path)
    middle = np.random.default_rng(3).uniform(-1, 1, (1, TOKENS, READ))
    start = time.process_time()
    found = refine.bound(
        path, middle, radius=radius, budget=0, search=10, z3="none", conform=False, workers=1
    )
    worst = found.worst_found or 0.0
    return {
        "layers": layers,
        "norm": norm,
        "radius": radius,
        "bound": found.bound,
        "found": worst,
        "ratio": found.bound / worst if worst else None,
        "cpu s": round(time.process_time() - start, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [row(*r, Path(folder)) for r in ROWS]
    table = Table(title="random encoders")
    for title in COLUMNS:
        table.add_column(title)
    for found in rows:
        table.add_row(*(shown(found[c]) for c in COLUMNS))
    Console(width=100).print(table)
    if given.save is not None:
        save(given.save, rows, tokens=TOKENS)


if __name__ == "__main__":
    main()
