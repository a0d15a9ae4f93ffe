"""The checks of this folder find every slip of `mutants`: they are not vacuous."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from cases import CASES
from checking import bounds_of, check_emulated, check_every_execution, input_box
from mutants import MUTANTS, Mutant
from semantics import Stand, differences_enclose, stand, values_enclose
from test_exhaustive import ANY_ORDER, in_toy_format, prepared

from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import SEQUENTIAL, SEQUENTIAL_FMA
from encoders.registry import operators
from examples import EXAMPLES

BY_NAME = {case.name: case for case in CASES}
EITHER, GRADUAL, FLUSH_RESULTS, FLUSH_OPERANDS, _ = ANY_ORDER
EVERY_EXECUTION = (
    ("one product", GRADUAL),
    ("one product", EITHER),
    ("tiny bias alone", FLUSH_OPERANDS),
    ("subnormal weight", GRADUAL),
    ("gemm with alpha and a bias that is rounded", GRADUAL),
    ("gemm beta and a large bias", GRADUAL),
    ("same tensor twice", GRADUAL),
    ("constants on both sides", GRADUAL),
    ("broadcast constant and input", GRADUAL),
    ("residual", GRADUAL),
    ("movement", GRADUAL),
    ("overflow", GRADUAL),
    ("cancellation", GRADUAL),
    ("dense representable", GRADUAL),
    ("dense with underflow everywhere", GRADUAL),
    ("powers of two and zeros", EITHER),
    ("same tensor twice", FLUSH_OPERANDS),
    ("constants on both sides", FLUSH_OPERANDS),
    ("dense with underflow everywhere", FLUSH_OPERANDS),
    ("batch normalization", GRADUAL),
    ("batch normalization of a point", GRADUAL),
)
EMULATED = ("cancellation", "powers of two and zeros", "batch normalization", "conv groups")
SEMANTICS = (
    ("Relu", 0), ("Add", 0), ("Sub", 0), ("Mul", 2), ("MatMul", 5), ("Gemm", 5),
    ("BatchNormalization", 1), ("Conv", 2),
)  # fmt: skip
LIMIT = 25  # inputs per case


def failures() -> Iterator[str]:
    """What a fast part of the folder's checks finds, as it finds it."""
    for name, contract in EVERY_EXECUTION:
        yield from _every_execution(name, contract)
    for name in EMULATED:
        for contract in (SEQUENTIAL, SEQUENTIAL_FMA):
            yield from _emulated(name, contract)
    for name, index in SEMANTICS:
        here = _stand(name, index)
        yield from values_enclose(here)
        yield from differences_enclose(here)


@cache
def _stand(name: str, index: int) -> Stand:
    return stand(operators()[name], EXAMPLES[name][index])


def _every_execution(name: str, contract: RuntimeContract) -> list[str]:
    case = BY_NAME[name]
    graph, points = prepared(case)
    toy = in_toy_format(contract, case)
    bounds = bounds_of(graph, input_box(graph, case.lo, case.hi), toy)
    some = points[:: -(-len(points) // LIMIT)]
    return check_every_execution(graph, bounds, toy, some, name).failures


def _emulated(name: str, contract: RuntimeContract) -> list[str]:
    case = BY_NAME[name]
    graph, points = prepared(case)
    toy = in_toy_format(replace(contract), case)
    bounds = bounds_of(graph, input_box(graph, case.lo, case.hi), toy)
    return check_emulated(graph, bounds, toy, points, f"{name} emulated").failures


def test_nothing_fails_unmutated() -> None:
    assert not list(failures())


@pytest.mark.parametrize("change", MUTANTS.values(), ids=MUTANTS)
def test_mutant_is_found(change: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch)
    with np.errstate(all="ignore"):
        assert next(failures(), None)
