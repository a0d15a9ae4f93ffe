"""Each operation of the running error analysis against executions, in formats of a few bits.

Operands are ranges of what would be without rounding, and errors; an execution takes any number of
a range and any number of the format that is within the error of it. Everything but quotients and
roots is exact in float64 with so few bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest
from given_radii import off_by

from encoders.arithmetic.numpy_arithmetic import NumpyArithmetic
from encoders.arithmetic.runtime import Relation
from encoders.contract.contract import Contraction, RuntimeContract, Subnormals
from encoders.contract.presets import SEQUENTIAL
from encoders.functions.accuracy import Evidence, FunctionAccuracy
from encoders.numbers.enclosure import Interval
from encoders.numbers.formats import round_array, small_format
from encoders.rounding.error_arithmetic import ErrorArithmetic
from encoders.rounding.rounding_bounds import Rounder
from encoders.rounding.tracked import Tracked, tracked
from encoders.rounding.tracked_functions import function_error

FORMAT = small_format(4, 3)
LEAST = 2.0**FORMAT.emin
CASES, SAMPLES = 500, 16
EXACT = np.array([0.0, 1.0, -1.0, 2.0, 0.5, -0.25, 3.0, LEAST, LEAST / 4, -LEAST / 2])

FREE = tuple(product(Subnormals, Subnormals, Contraction))
OPEN = tuple(
    replace(SEQUENTIAL, results=results, operands=operands, contraction=contraction)
    for results, operands, contraction in FREE
)


def pinned(contract: RuntimeContract) -> Iterator[RuntimeContract]:
    """Every way to pin down what a contract leaves open."""

    def either(mode: Subnormals) -> tuple[Subnormals, ...]:
        both = (Subnormals.KEEP, Subnormals.FLUSH)
        return both if mode is Subnormals.EITHER else (mode,)

    open_ = contract.contraction is Contraction.EITHER
    ways = [Contraction.NEVER, Contraction.ALWAYS] if open_ else [contract.contraction]
    for results, operands, way in product(
        either(contract.results), either(contract.operands), ways
    ):
        yield replace(contract, results=results, operands=operands, contraction=way)


@dataclass(frozen=True)
class Operand:
    """Ranges and errors (1, cases); what is meant and what is held, (samples, cases)."""

    known: Tracked
    meant: np.ndarray
    held: np.ndarray


def operand(rng: np.random.Generator, *, positive: bool = False, exact: bool = False) -> Operand:
    """A third are single exact numbers, of which many are special; others vary, and are off."""
    kind = rng.integers(0, 3, CASES)
    scale = 2.0 ** rng.integers(-9, 2, CASES)
    middle = round_array(rng.normal(0, 1, CASES) * scale, FORMAT)
    middle = np.where(kind == 0, rng.choice(EXACT, CASES), middle)
    width = np.where(kind == 0, 0.0, round_array(rng.exponential(0.3, CASES) * scale, FORMAT))
    lo, hi = middle - width, middle + width * rng.integers(0, 2, CASES)
    if positive:
        lo, hi = np.abs(lo) + LEAST * 4, np.maximum(np.abs(lo), np.abs(hi)) + LEAST * 4
    meant = lo + (hi - lo) * np.round(rng.random((SAMPLES, CASES)) * 16) / 16
    meant[0], meant[1] = lo, hi
    off = (kind == 2) & (not exact)
    held = round_array(meant + np.where(off, rng.normal(0, 0.3, meant.shape) * scale, 0), FORMAT)
    held[:] = np.where(kind == 0, lo, held)
    meant = meant if not exact else held
    held = np.maximum(held, LEAST) if positive else held
    lo, hi = np.minimum(lo, meant.min(axis=0)), np.maximum(hi, meant.max(axis=0))
    error = np.max(np.abs(held - meant), axis=0)
    return Operand(tracked(Interval(lo, hi), off_by(error)), meant, held)


def truth(rng: np.random.Generator) -> Operand:
    """Conditions: known or not, decided as they should be or not."""
    meant = rng.integers(0, 2, (SAMPLES, CASES)).astype(np.float64)
    fixed = rng.random(CASES) < 0.5
    meant[:] = np.where(fixed, meant[0], meant)
    wrong = rng.random(CASES) < 0.5
    held = np.where(wrong & (rng.random(meant.shape) < 0.5), 1.0 - meant, meant)
    lo, hi = meant.min(axis=0), meant.max(axis=0)
    error = np.max(np.abs(held - meant), axis=0)
    return Operand(tracked(Interval(lo, hi), off_by(error)), meant, held)


Made = tuple[str, Callable[..., Any], Callable[..., Any]]
"""Kinds of operands; the operation in an arithmetic; what is meant by it."""


def _compared(relation: Relation, m: Any, a: Any, b: Any) -> Any:
    return m.compare(relation, a, b)


RELATIONS = {
    Relation.LESS: np.less, Relation.AT_MOST: np.less_equal, Relation.EQUAL: np.equal
}  # fmt: skip
OPERATIONS: dict[str, Made] = {
    "add": ("xx", lambda m, a, b: m.add(a, b), np.add),
    "subtract": ("xx", lambda m, a, b: m.subtract(a, b), np.subtract),
    "multiply": ("xx", lambda m, a, b: m.multiply(a, b), np.multiply),
    "divide": ("xp", lambda m, a, b: m.divide(a, b), np.divide),
    "sqrt": ("p", lambda m, a: m.sqrt(a), np.sqrt),
    "maximum": ("xx", lambda m, a, b: m.maximum(a, b), np.maximum),
    "minimum": ("xx", lambda m, a, b: m.minimum(a, b), np.minimum),
    "negate": ("x", lambda m, a: m.negate(a), np.negative),
    "absolute": ("x", lambda m, a: m.absolute(a), np.abs),
    "floor": ("x", lambda m, a: m.floor(a), np.floor),
    "nearest": ("x", lambda m, a: m.nearest(a), np.rint),
    "select": ("txx", lambda m, c, a, b: m.select(c, a, b), lambda c, a, b: np.where(c, a, b)),
    "step": (
        "xxxxx",
        lambda m, a, b, c, d, e: m.step([(a, b), (c, d)], e, 4, None),
        lambda a, b, c, d, e: a * b + c * d + e,
    ),
    "step without a sum": (
        "xxxx",
        lambda m, a, b, c, d: m.step([(a, b), (c, d)], None, 6, None),
        lambda a, b, c, d: a * b + c * d,
    ),
    **{
        relation.name: ("xx", partial(_compared, relation), meant)
        for relation, meant in RELATIONS.items()
    },
}


def drawn(kinds: str, rng: np.random.Generator) -> list[Operand]:
    made = {
        "x": operand,
        "p": lambda r: operand(r, positive=True),
        "e": lambda r: operand(r, exact=True),
        "t": truth,
    }
    return [made[kind](rng) for kind in kinds]


def chained(m: Any, start: Any, *factors: Any) -> Any:
    """start + Σ a·b from first to last, all at once where the arithmetic can."""
    pairs = list(zip(factors[::2], factors[1::2], strict=True))
    found = m.chain(pairs, start)
    if found is None:
        total = start
        for a, b in pairs:
            total = m.multiply(a, b) if total is None else m.multiply_add(a, b, total)
        return total
    return found


def summed(start: Any, *factors: Any) -> Any:
    pairs = zip(factors[::2], factors[1::2], strict=True)
    return sum((a * b for a, b in pairs), 0.0 if start is None else start)


FUSED: dict[str, Made] = {
    "multiply-add": ("xxx", lambda m, a, b, c: m.multiply_add(a, b, c), lambda a, b, c: a * b + c),
    "chain": ("e" * 8, lambda m, *f: chained(m, None, *f), lambda *f: summed(None, *f)),
    "chain from a start": ("x" + "e" * 8, chained, summed),
}


EVERY: dict[str, Made] = {**OPERATIONS, **FUSED}


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("results", Subnormals)
def test_no_execution_leaves_the_bound(name: str, results: Subnormals) -> None:
    kinds, run, meant = EVERY[name]
    seen = 0.0
    for contract in (c for c in OPEN if c.results is results):
        if name not in FUSED and contract.contraction is not Contraction.NEVER:
            continue
        rng = np.random.default_rng(len(name))
        operands = drawn(kinds, rng)
        found = run(error_arithmetic(contract), *(o.known for o in operands))
        exact = meant(*(o.meant for o in operands)).astype(np.float64)
        slack = 1e-15 * np.abs(exact) if name in ("divide", "sqrt") else 0.0
        assert np.all(found.ideal.lo <= exact + slack)
        assert np.all(exact - slack <= found.ideal.hi)
        for way in pinned(contract):
            computed = run(NumpyArithmetic(FORMAT, way), *(o.held for o in operands))
            error = np.abs(computed - exact)
            assert np.all(error <= found.error.bound + slack)
            assert np.all(np.abs(computed) <= found.largest)
            bound = np.broadcast_to(found.error.bound, error.shape)
            some = np.isfinite(bound) & (bound > 0)
            seen = max(seen, float(np.max(error[some] / bound[some], initial=0.0)))
    assert seen > 0.4


@pytest.mark.parametrize("name", ["floor", "nearest", "absolute", "maximum", "select"])
def test_the_largest_number_of_each_case_is_known(name: str) -> None:
    """Alone, so that no other case has a larger one; what these give is not rounded."""
    kinds, run, _ = OPERATIONS[name]
    operands = drawn(kinds, np.random.default_rng(5))
    for case in range(0, CASES, 5):
        at = slice(case, case + 1)
        alone = [_alone(o, at) for o in operands]
        found = run(error_arithmetic(SEQUENTIAL), *alone)
        computed = run(NumpyArithmetic(FORMAT, SEQUENTIAL), *(o.held[:, at] for o in operands))
        assert np.all(np.abs(computed) <= found.largest)


def _alone(o: Operand, at: slice) -> Tracked:
    return replace(o.known.moved(lambda v: v[:, at]), largest=float(np.abs(o.held[:, at]).max()))


def error_arithmetic(contract: RuntimeContract) -> ErrorArithmetic:
    rounder = Rounder(
        FORMAT,
        exact=False,
        flush_results=contract.results is not Subnormals.KEEP,
        flush_operands=contract.operands is not Subnormals.KEEP,
    )
    return ErrorArithmetic(rounder, contract)


@pytest.mark.parametrize("flushes", [False, True])
@pytest.mark.parametrize(
    "accuracy",
    [
        FunctionAccuracy(1.5, None, Evidence.VENDOR, "a test"),
        FunctionAccuracy(None, 2.0, Evidence.VENDOR, "a test"),
        FunctionAccuracy(2.0, 1.0, Evidence.VENDOR, "a test"),
    ],
    ids=str,
)
def test_a_function_is_off_by_what_its_accuracy_allows(
    accuracy: FunctionAccuracy, flushes: bool
) -> None:
    """Results as far off as they may be, then flushed: those that end up below the normal range."""
    rng = np.random.default_rng(2)
    middle = round_array(rng.normal(0, 1, CASES) * 2.0 ** rng.integers(-9, 2, CASES), FORMAT)
    y = Interval(middle - rng.choice([0.0, LEAST, 0.25], CASES), middle)
    plain = Rounder(FORMAT, exact=False, flush_results=False, flush_operands=False)
    bound = function_error(replace(plain, flush_results=flushes), accuracy, y).bound
    for exact in (y.lo, y.hi):
        allowed = np.full(CASES, np.inf)
        if accuracy.ulps is not None:
            _, exponent = np.frexp(exact)
            last = np.maximum(exponent - 1, FORMAT.emin) - FORMAT.precision + 1
            allowed = np.where(exact == 0, np.ldexp(1.0, FORMAT.emin - 2), np.ldexp(1.0, last))
            allowed = allowed * accuracy.ulps
        if accuracy.units is not None:
            allowed = np.minimum(allowed, accuracy.units * float(FORMAT.unit_roundoff))
        for computed in (exact - allowed, exact + allowed):
            computed = np.where(flushes & (np.abs(computed) < LEAST), 0.0, computed)
            assert np.all(np.abs(computed - exact) <= bound)
