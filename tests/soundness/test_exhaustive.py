"""Every execution of small networks in toy formats, against the bounds of every tensor."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from cases import CASES, Case
from checking import (
    Findings,
    Point,
    bounds_of,
    check_emulated,
    check_every_execution,
    every_point,
    exact_values,
    input_box,
)
from ort_schedule import ORT_PLAIN

from encoders.contract.contract import (
    AlignedSteps,
    AnyOrder,
    BiasPlacement,
    Blocked,
    Contraction,
    FactorRounding,
    Normalization,
    RuntimeContract,
    Schedule,
    ScheduleRule,
    Sequential,
    Subnormals,
)
from encoders.contract.orders import Blocks, Dwindling, Lanes, Strided, Tree
from encoders.contract.presets import IEEE_ANY, PAIRWISE, SEQUENTIAL, SEQUENTIAL_FMA
from encoders.families import products
from encoders.numbers import enclosure
from encoders.numbers.formats import FloatFormat, small_format
from encoders.ops.normalization import batch_normalization
from onnx_import.graph import Graph

KEEP, FLUSH, EITHER = Subnormals.KEEP, Subnormals.FLUSH, Subnormals.EITHER
ANY_ORDER = (
    IEEE_ANY,
    replace(IEEE_ANY, name="gradual", results=KEEP, operands=KEEP),
    replace(IEEE_ANY, name="flush-results", results=FLUSH, operands=KEEP),
    replace(IEEE_ANY, name="flush-operands", results=KEEP, operands=FLUSH),
    replace(IEEE_ANY, name="no-fma", contraction=Contraction.NEVER, results=KEEP, operands=KEEP),
)
TREE_OF_3 = ScheduleRule(
    Schedule(Tree(((2, 1), (0, 3))), Contraction.ALWAYS, BiasPlacement.FIRST), terms=3
)
LANES_OF_MATMUL = ScheduleRule(Schedule(Lanes(2), Contraction.ALWAYS), operator="MatMul", rows=1)
PINNED = (
    SEQUENTIAL,
    SEQUENTIAL_FMA,
    PAIRWISE,
    replace(ORT_PLAIN, order=Blocked(2)),
    replace(ORT_PLAIN, name="two-lanes", order=Lanes(2)),
    replace(SEQUENTIAL_FMA, name="blocks", order=Blocks((1, 2))),
    replace(SEQUENTIAL_FMA, name="dwindling", order=Dwindling(2)),
    replace(SEQUENTIAL, name="strided", order=Strided(4)),
    RuntimeContract("trees", Sequential(), Contraction.NEVER, rules=(TREE_OF_3, LANES_OF_MATMUL)),
    replace(SEQUENTIAL, name="bias-first", bias=BiasPlacement.FIRST),
    replace(PAIRWISE, name="pairwise-flush", results=FLUSH, operands=FLUSH),
    replace(SEQUENTIAL_FMA, name="fma-flush-operands", operands=FLUSH),
    replace(SEQUENTIAL, name="direct", normalization=Normalization.DIRECT, results=FLUSH),
)
every_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
_ratios: dict[str, float] = {}


def in_toy_format(contract: RuntimeContract, case: Case) -> RuntimeContract:
    return replace(contract, compute_format=case.format)


@cache
def prepared(case: Case) -> tuple[Graph, list[tuple[Point, Point]]]:
    """The network with every input of its box and the exact values there."""
    graph = case.build()
    points = every_point(graph, input_box(graph, case.lo, case.hi), case.format)
    return graph, [(point, exact_values(graph, point)) for point in points]


def judged(case: Case, contract: RuntimeContract, sample: int = 1) -> Findings:
    """Bounds of an any-order contract against all executions on every `sample`-th input."""
    graph, points = prepared(case)
    box = input_box(graph, case.lo, case.hi)
    bounds = bounds_of(graph, box, contract)
    label = f"{case.name} under {contract.name}"
    return check_every_execution(graph, bounds, contract, points[::sample], label)


@every_case
@pytest.mark.parametrize("contract", ANY_ORDER, ids=lambda c: c.name)
def test_every_schedule_on_every_input(case: Case, contract: RuntimeContract) -> None:
    found = judged(case, in_toy_format(contract, case))
    assert not found.failures, "\n".join(found.failures)
    assert found.executions or found.overflows
    assert bool(found.overflows) == case.overflows
    if not case.overflows:
        assert all(np.isfinite(r) for r in found.ratios.values())
        _ratios.update({f"{case.name}/{contract.name}": r for r in found.ratios.values()})


@every_case
def test_pinned_contracts_and_the_free_one_that_contains_them(case: Case) -> None:
    graph, points = prepared(case)
    box = input_box(graph, case.lo, case.hi)
    free = bounds_of(graph, box, in_toy_format(IEEE_ANY, case))
    forward = bounds_of(graph, box, in_toy_format(IEEE_ANY, case), backward=False)
    failures: list[str] = []
    for contract in PINNED:
        pinned = in_toy_format(contract, case)
        own = bounds_of(graph, box, pinned)
        for name, bounds in (("own", own), ("free", free), ("forward", forward)):
            label = f"{case.name} under {contract.name}, {name} bounds"
            found = check_emulated(graph, bounds, pinned, points, label)
            failures += found.failures
    assert not failures, "\n".join(failures)


@every_case
@pytest.mark.parametrize("contract", ANY_ORDER[:3], ids=lambda c: c.name)
def test_sums_in_a_wider_format(case: Case, contract: RuntimeContract) -> None:
    """Accumulated in 3 more digits, with one rounding at the end."""
    wide = small_format(4, case.format.precision + 3)
    found = judged(case, replace(in_toy_format(contract, case), accumulation=wide), sample=4)
    assert not found.failures, "\n".join(found.failures)
    assert found.executions or found.overflows


def tensor_core(contract: RuntimeContract, case: Case) -> RuntimeContract:
    """Factors with a digit less, sums in any order and in steps that align to few bits."""
    toy, fmt = in_toy_format(contract, case), case.format
    short = FloatFormat("short", fmt.precision - 1, fmt.emin, fmt.emax)
    return replace(toy, order=AnyOrder(fmt.precision), factor_format=short)


@every_case
@pytest.mark.parametrize("contract", ANY_ORDER[:2], ids=lambda c: c.name)
@pytest.mark.parametrize("way", FactorRounding)
def test_aligned_steps_and_short_factors(
    case: Case, contract: RuntimeContract, way: FactorRounding
) -> None:
    found = judged(case, replace(tensor_core(contract, case), factor_rounding=way), sample=7)
    assert not found.failures, "\n".join(found.failures)
    assert found.executions or found.overflows


@every_case
def test_steps_in_a_wider_format(case: Case) -> None:
    wide = small_format(4, case.format.precision + 2)
    contract = replace(in_toy_format(ANY_ORDER[1], case), accumulation=wide)
    contract = replace(contract, order=AnyOrder(wide.precision))
    found = judged(case, contract, sample=7)
    assert not found.failures, "\n".join(found.failures)


@every_case
def test_emulated_steps_and_short_factors(case: Case) -> None:
    graph, points = prepared(case)
    box = input_box(graph, case.lo, case.hi)
    free = tensor_core(ANY_ORDER[0], case)
    loose = bounds_of(graph, box, free)
    failures: list[str] = []
    for count, way in ((1, FactorRounding.NEAREST), (2, FactorRounding.TRUNCATE), (3, None)):
        order = AlignedSteps(count, case.format.precision)
        pinned = replace(free, order=order, contraction=Contraction.NEVER, results=KEEP)
        pinned = replace(pinned, operands=KEEP, bias=BiasPlacement.LAST)
        pinned = replace(pinned, normalization=Normalization.FOLDED)
        if way is None:
            wide = small_format(4, case.format.precision + 2)
            pinned = replace(pinned, factor_format=None, accumulation=wide)
        else:
            pinned = replace(pinned, factor_rounding=way)
        own = bounds_of(graph, box, pinned)
        for bounds in (own, loose) if way is not None else (own,):
            label = f"{case.name} in {order.describe()}"
            failures += check_emulated(graph, bounds, pinned, points, label).failures
    assert not failures, "\n".join(failures)


@every_case
def test_emulated_sums_in_a_wider_format(case: Case) -> None:
    graph, points = prepared(case)
    box = input_box(graph, case.lo, case.hi)
    failures: list[str] = []
    for contract in PINNED[:5]:
        wide = small_format(4, case.format.precision + 2)
        pinned = replace(in_toy_format(contract, case), accumulation=wide)
        label = f"{case.name} under {contract.name} in {wide.name}"
        bounds = bounds_of(graph, box, pinned)
        failures += check_emulated(graph, bounds, pinned, points, label).failures
    assert not failures, "\n".join(failures)


def test_bounds_are_not_vacuous() -> None:
    """Most bounds are within a factor of 10 of the worst execution, and none is absurd."""
    for case in CASES:
        if not case.overflows and f"{case.name}/ieee-any" not in _ratios:
            found = judged(case, in_toy_format(IEEE_ANY, case), sample=3)
            _ratios.update({f"{case.name}/ieee-any": r for r in found.ratios.values()})
    assert max(_ratios.values()) < 1e3
    assert float(np.median(list(_ratios.values()))) < 10


@every_case
@pytest.mark.parametrize("contract", ANY_ORDER[:2], ids=lambda c: c.name)
def test_what_is_done_for_large_tensors(
    case: Case, contract: RuntimeContract, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the tensors of these networks were large, pieces two elements."""
    for module, name, small in (
        (enclosure, "_BLOCK", 2),
        (enclosure, "_MANY", 0),
        (products, "_MANY", 0),
        (batch_normalization, "_MANY", 0),
    ):
        monkeypatch.setattr(module, name, small)
    found = judged(case, in_toy_format(contract, case), sample=3)
    assert not found.failures, "\n".join(found.failures)
    assert bool(found.overflows) <= case.overflows
