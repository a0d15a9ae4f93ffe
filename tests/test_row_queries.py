"""The query about a row of a sum is about all numbers that its partial sums may be."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import small_models
import z3

from encoders.contract.presets import IEEE_ANY
from encoders.numbers.enclosure import Interval
from onnx_import import load
from refine.bounds.network import InputBox, network_bounds
from refine.proof.real_queries import node_queries


@pytest.mark.parametrize(("lo", "hi"), [(0.5, 1.0), (-1.0, -0.5), (-1.0, 1.0)])
def test_every_product_is_among_the_numbers_of_a_row(lo: float, hi: float, tmp_path: Path) -> None:
    """Absent, or with its number at either end."""
    graph = load(small_models.mlp(tmp_path / "m.onnx", (3, 1)))
    ranges = Interval(np.full((1, 3), lo), np.full((1, 3), hi))
    bounds = network_bounds(graph, InputBox({"x": ranges}, {"x": np.zeros((1, 3))}), IEEE_ANY)
    asks = node_queries(bounds, bounds.nodes[0], 1, largest=100, timeout=10.0, rlimit=0)
    (query,) = [q for ask in asks for q in ask() if q.name.startswith("row-sum/")]
    weights = [float(w) for w in np.asarray(graph.constants["w1"]).ravel()]
    for k, weight in enumerate(weights):
        for end in (0.0, lo, hi):
            term = z3.Real(f"t_{k}") == z3.RealVal(str(Fraction(weight) * Fraction(end)))
            solver = z3.Solver()
            solver.add(*(h.formula for h in query.hypotheses), term)
            assert solver.check() == z3.sat
