"""Outputs at which two graphs are the same real function: by structure, else by algebra.

Algebra holds wherever both graphs have real values at all; that they have is shown apart. What is
different at points that are drawn is not looked at any further.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from encoders.arithmetic.algebraic_field import AlgebraicField, TooLarge
from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.arithmetic.term_field import TermField
from encoders.functions.accuracy import Transcendental
from encoders.numbers.enclosure import FloatArray
from encoders.program import program_of
from gpu_check.emulator.exact import evaluate_real
from onnx_import.graph import DType, Graph
from refine.common.clock import OutOfTime
from refine.pair.congruence import Congruence
from refine.pair.pair import Pair
from refine.pair.terms import terms_of

_ELEMENTS = 4000  # of all tensors not constant, beyond which no formulas are written
_WORK = 100_000  # multiply-adds, likewise
_PRODUCTS = 40_000  # of terms of formulas
_TERMS = 6_000_000  # parts of terms that are made, of both graphs together
_POINTS = 3  # that are drawn
_FAR = 1e-9  # relative difference that float64 does not make of equal formulas


def equal_outputs(pair: Pair, tick: Callable[[], None] = lambda: None) -> frozenset[str]:
    """Outputs of the implementation at which both graphs agree over the reals for every input.

    An output that is not named may be equal all the same. `tick` is called often; where it raises
    OutOfTime, what was shown until then is all.
    """
    found = Congruence.of(pair)
    equal = found.equal()
    if len(equal) == len(pair.outputs):
        return equal
    if _one_is_quantized(pair):
        return equal
    drawn = _at_points(pair)
    possible = frozenset(pair.outputs) - equal
    if drawn is not None:
        possible -= _unequal(pair, *drawn)
        if possible:
            found.extend(*drawn, tick)
            equal |= found.equal()
            possible -= equal
    if not possible:
        return equal
    equal |= possible & _by_terms(pair, tick)
    if not possible - equal or not (_small(pair.spec.graph) and _small(pair.impl.graph)):
        return equal
    return equal | _by_algebra(pair, tick)


def unequal_at_a_point(pair: Pair) -> frozenset[str]:
    """Outputs of the implementation that the real graphs give other numbers at some points that are
    drawn, as far as float64 can tell: it is not worth while to prove that they are equal."""
    drawn = _at_points(pair)
    return frozenset() if drawn is None else _unequal(pair, *drawn)


def _at_points(pair: Pair) -> tuple[Mapping[str, FloatArray], Mapping[str, FloatArray]] | None:
    """All tensors of the implementation and of the specification at some points, in float64; None
    where some have no values."""
    rng = np.random.default_rng(0)
    impl = pair.impl.graph
    drawn = {n: _drawn(impl.types[n].dtype, impl.types[n].shape, rng) for n in impl.inputs}
    reals = ApproximateReals()
    try:
        mine = evaluate_real(impl, drawn, reals, every_tensor=True)
        other = evaluate_real(pair.spec.graph, pair.specified(drawn), reals, every_tensor=True)
    except (ArithmeticError, TypeError, ValueError, Transcendental):
        return None
    return mine, other


def _unequal(
    pair: Pair, mine: Mapping[str, FloatArray], other: Mapping[str, FloatArray]
) -> frozenset[str]:
    return frozenset(a for a, b in pair.outputs.items() if _apart(mine[a], other[b]))


def _drawn(dtype: DType, shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
    """Numbers from -1 to 1, or 0 and 1 where they are no floats."""
    if not dtype.is_float:
        return rng.integers(0, 2, (_POINTS, *shape)).astype(np.float64)
    return rng.uniform(-1.0, 1.0, (_POINTS, *shape))


def _apart(a: FloatArray, b: FloatArray) -> bool:
    """By more than float64 loses, where both are numbers."""
    mine, other = a.astype(np.float64).reshape(-1), b.astype(np.float64).reshape(-1)
    if mine.size != other.size:
        return False
    size = np.max(np.abs(other), initial=0.0, where=np.isfinite(other))
    with np.errstate(all="ignore"):
        return bool(np.any(np.abs(mine - other) > _FAR * (size + np.abs(other))))


def _small(graph: Graph) -> bool:
    elements = sum(t.size for name, t in graph.types.items() if not graph.is_constant(name))
    return elements <= _ELEMENTS and program_of(graph).work <= _WORK


def _one_is_quantized(pair: Pair) -> bool:
    """Is one put on grids and the other one not: what is rounded is no formula of what is not."""
    graphs = (pair.spec.graph, pair.impl.graph)
    meant = [[s.operator.meant(s.site) for s in program_of(graph).steps] for graph in graphs]
    first, second = (any(m is not None and m.rounds for m in each) for each in meant)
    return first != second


def _by_terms(pair: Pair, tick: Callable[[], None]) -> frozenset[str]:
    mine, theirs = terms_of(pair, TermField(_TERMS, tick))
    found: set[str] = set()
    try:
        for a, b in pair.outputs.items():
            if mine.key(a) == theirs.key(b):
                found.add(a)
    except OutOfTime:
        pass
    return frozenset(found)


def _by_algebra(pair: Pair, tick: Callable[[], None]) -> frozenset[str]:
    field = AlgebraicField(tick=tick, work=_PRODUCTS)
    impl, spec = pair.impl.graph, pair.spec.graph
    inputs = {n: field.variables(impl.types[n].shape) for n in impl.inputs}
    try:
        mine = evaluate_real(impl, inputs, field)
        theirs = evaluate_real(spec, {pair.inputs[n]: v for n, v in inputs.items()}, field)
        return frozenset(
            t
            for t, other in pair.outputs.items()
            if all(a.same(b) for a, b in zip(mine[t].flat, theirs[other].flat, strict=True))
        )
    except (TooLarge, OutOfTime, Transcendental, ArithmeticError, TypeError, ValueError):
        return frozenset()  # some operator asks more of numbers than formulas can give
