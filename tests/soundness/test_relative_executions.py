"""Relative precisions of every tensor against every execution in toy formats, in rationals."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from cases import CASES, E3P3, E4P3, Case, case
from checking import (
    Judge,
    check_emulated,
    check_every_execution,
    every_point,
    exact_values,
    input_box,
)
from test_exhaustive import ANY_ORDER, PINNED
from text_networks import node

from encoders.contract.contract import RuntimeContract
from encoders.lemmas.kernel import apply
from encoders.lemmas.ways.relative import TO_ERROR
from onnx_import.graph import Graph
from refine.bounds.network import NetworkBounds
from refine.bounds.relative import flowed, proportions


class _Relatively(Judge):
    """Holds executions to |x̂ − x| ≤ r·|x| + h, and to r·|x| alone where h is absorbed."""

    def __init__(
        self, contract: RuntimeContract, graph: Graph, bounds: NetworkBounds, label: str
    ) -> None:
        super().__init__(graph, bounds, label)
        self.pairs: dict[str, tuple[Any, Any, Any]] = {}
        with np.errstate(all="ignore"):
            known = proportions(graph, bounds, contract)
            for tensor, value in known.items():
                whole = apply(TO_ERROR, g=value.absorbed).bound
                part = apply(TO_ERROR, g=value.precision).bound
                self.pairs[tensor] = (whole, part, value.lost.bound)
        self.finite = 0

    def error(self, tensor: str, exact: Any, computed: Any, context: object = "") -> None:
        super().error(tensor, exact, computed, context)
        whole, part, lost = self.pairs[tensor]
        for at in np.ndindex(exact.shape):
            off, size = abs(Fraction(computed[at]) - exact[at]), abs(exact[at])
            here = {}
            if np.isfinite(whole[at]):
                here["relative error"] = Fraction(whole[at]) * size
            if np.isfinite(part[at]) and np.isfinite(lost[at]):
                self.finite += 1
                here["rtol and atol"] = Fraction(part[at]) * size + Fraction(lost[at])
            for what, limit in here.items():
                if off > limit:
                    self.fail(
                        f"{what} of {tensor}{at}: {float(off)!r} > {float(limit)!r} {context}"
                    )


POSITIVE = (
    case(
        "positive products", E4P3, 0.25, 1.25,
        (node("MatMul", "x W", "p"), node("Add", "p b", "y")), {"x": (1, 2)},
        W=[[1.25, 0.75], [0.625, 1.0]], b=[0.375, 0.25],
    ),
    case(
        "squares of both signs", E3P3, -0.75, 0.75,
        (node("Mul", "x x", "q"), node("Add", "q e", "z"), node("Div", "x z", "y")), {"x": (1, 2)},
        e=[0.25],
    ),
    case(
        "zeros and subnormal numbers", E3P3, -0.25, 0.25,
        (node("Mul", "x x", "q"), node("MatMul", "q W", "p"), node("Add", "p e", "y")),
        {"x": (1, 2)}, W=[[0.3, 0.7], [0.6, 1.1]], e=[0.5],
    ),
    case(
        "one difference of exact numbers", E4P3, 0.5, 1.25,
        (node("Sub", "x c", "d"), node("Mul", "d d", "y")), {"x": (1, 3)}, c=[0.75],
    ),
    case(
        "quotients by a mean", E3P3, 0.25, 1.0,
        (node("MatMul", "x W", "s"), node("Div", "s n", "m"), node("Div", "x m", "y")),
        {"x": (1, 3)}, W=[[1.0], [1.0], [1.0]], n=[3.0],
    ),
    case(
        "negative weights", E3P3, 0.25, 1.0,
        (node("Gemm", "x W b", "y", alpha=0.5),), {"x": (1, 3)},
        W=[[-1.25, -0.6], [-0.7, -0.3], [-0.4, -1.0]], b=[-0.4, -0.75],
    ),
)  # fmt: skip


MIXED = ("dense representable", "dense with underflow everywhere", "tiny bias alone")
CHOSEN = (*POSITIVE, *(c for c in CASES if c.name in MIXED))
SAMPLED = 60
CONTRACTS = (
    *(c for c in ANY_ORDER if c.name in ("ieee-any", "gradual", "flush-operands")),
    *(c for c in PINNED if c.name in ("sequential-fma", "pairwise", "trees", "pairwise-flush")),
)


@pytest.mark.parametrize("chosen", CHOSEN, ids=lambda c: c.name)
def test_no_execution_leaves_a_relative_precision(chosen: Case) -> None:
    graph = chosen.build()
    box = input_box(graph, chosen.lo, chosen.hi)
    points = list(every_point(graph, box, chosen.format))
    points = points[:: max(1, len(points) // SAMPLED)]
    exact = [(point, exact_values(graph, point)) for point in points]
    compared = 0
    for named in CONTRACTS:
        contract = replace(named, compute_format=chosen.format)
        bounds = flowed(graph, box, contract, lambda: None).bounds
        judges: list[_Relatively] = []

        def judged(*given: Any, contract: RuntimeContract = contract) -> Judge:
            judges.append(_Relatively(contract, *given))  # noqa: B023
            return judges[-1]  # noqa: B023

        check = check_every_execution if named in ANY_ORDER else check_emulated
        found = check(graph, bounds, contract, exact, named.name, judged=judged)
        assert not found.failures, "\n".join(found.failures)
        compared += judges[0].finite
    assert compared > 0
