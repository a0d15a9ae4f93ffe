"""One element of an output alone has the value that it has among the others."""

from __future__ import annotations

import flint
import numpy as np
import pytest
from graphs import RECIPES
from trial import box_of, graph_of, trial_of

from encoders.arithmetic.exact_fields import Balls
from encoders.registry import operators
from gpu_check.emulator import exact
from gpu_check.emulator.exact import evaluate_element, evaluate_exact
from onnx_import.errors import ModelError
from onnx_import.graph import Graph

BITS = 300
ELEMENTWISE = sorted(
    op for op, o in operators().items() if (o.element or o.per_element) and op in RECIPES
)


@pytest.mark.parametrize("op", ELEMENTWISE)
def test_an_element_alone_is_the_element_of_the_whole(
    op: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole: list[Graph] = []

    def counted(graph: Graph, *rest: object) -> object:
        whole.append(graph)
        return evaluate_exact(graph, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(exact, "evaluate_exact", counted)
    alone = 0
    for seed in range(12):
        trial = trial_of(7_000 + seed, op)
        try:
            graph = graph_of(trial.model)
        except ModelError:
            continue
        box = box_of(trial, graph)
        point = {n: v[0] for n, v in box.sample(np.random.default_rng(seed), 1).items()}
        values = evaluate_exact(graph, point, Balls(BITS))
        for output in graph.outputs:
            for place in {0, graph.types[output].size // 2, graph.types[output].size - 1} - {-1}:
                index = tuple(map(int, np.unravel_index(place, graph.types[output].shape)))
                before = len(whole)
                found = evaluate_element(graph, point, Balls(BITS), output, index)
                alone += len(whole) == before
                a, b = flint.arb(found), flint.arb(values[output][index])
                assert a.overlaps(b) or not (a.is_finite() and b.is_finite()), (seed, output, index)
                assert a.is_finite() == b.is_finite(), (seed, output, index)
    assert alone
