"""Dot product of two vectors in [-1, 1], float32, left to right, without FMA.

    python benchmarks/dot_product.py

Compares the proved bound with the closed form that Gappa 1.4.1 proves (n·2⁻²⁵ +
Σ_{k=2..n} 2^(⌈log₂k⌉−25); it takes 25 s for n = 256 and does not finish n = 1024 in 60 s).
"""

from __future__ import annotations

import time
from math import ceil, log2

import numpy as np
from rich.console import Console
from rich.table import Table

from encoders.contract import SEQUENTIAL
from encoders.enclosure import Interval
from onnx_import.graph import DType, Node, TensorType, build_graph
from refine.bounds import InputBox, network_bounds


def main() -> None:
    table = Table(title="dot product, float32, sequential")
    for title in ("n", "bound", "Gappa's closed form", "ratio", "seconds"):
        table.add_column(title, justify="right")
    for terms in (4, 16, 64, 256, 1024, 4096):
        start = time.perf_counter()
        bound = dot_bound(terms)
        seconds = time.perf_counter() - start
        gappa = terms * 2.0**-25 + sum(2.0 ** (ceil(log2(k)) - 25) for k in range(2, terms + 1))
        row = (
            str(terms),
            f"{bound:.6g}",
            f"{gappa:.6g}",
            f"{bound / gappa:.12f}",
            f"{seconds:.3f}",
        )
        table.add_row(*row)
    Console(width=100).print(table)


def dot_bound(terms: int) -> float:
    """The proved bound for vectors of this length."""
    types = {
        "x": TensorType(DType.FLOAT32, (1, terms)),
        "y": TensorType(DType.FLOAT32, (terms, 1)),
        "z": TensorType(DType.FLOAT32, (1, 1)),
    }
    node = Node("dot", "MatMul", ("x", "y"), ("z",), {}, 17)
    graph = build_graph((node,), types, {}, ("x", "y"), ("z",))
    one = np.ones((1, terms))
    box = InputBox(
        {"x": Interval(-one, one), "y": Interval(-one.T, one.T)},
        {"x": np.zeros((1, terms)), "y": np.zeros((terms, 1))},
    )
    return network_bounds(graph, box, SEQUENTIAL).largest


if __name__ == "__main__":
    main()
