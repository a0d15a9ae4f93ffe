"""Outputs at which two graphs are the same real function: by structure, else by algebra.

Algebra holds wherever both graphs have real values at all; that they have is shown apart.
"""

from __future__ import annotations

from encoders.algebraic_field import AlgebraicField, TooLarge
from encoders.functions import Transcendental
from encoders.operator import site_of
from encoders.registry import lookup
from gpu_check.exact import evaluate_real
from onnx_import.graph import Graph
from refine.pair import Pair
from refine.product import product

_ELEMENTS = 4000  # of all tensors, beyond which no formulas are written
_WORK = 100_000  # multiply-adds, likewise


def equal_outputs(pair: Pair) -> frozenset[str]:
    """Outputs of the implementation at which both graphs agree over the reals for every input.

    An output that is not named may be equal all the same.
    """
    both = product(pair.spec.graph, pair.impl.graph, pair.inputs, pair.outputs)
    merged = frozenset(t for t, gap in both.gaps.items() if gap is None)
    if both.identical or not (_small(pair.spec.graph) and _small(pair.impl.graph)):
        return merged
    return merged | _by_algebra(pair)


def _small(graph: Graph) -> bool:
    elements = sum(t.size for t in graph.types.values())
    work = sum(lookup(node).work(site_of(graph, node)) for node in graph.order)
    return elements <= _ELEMENTS and work <= _WORK


def _by_algebra(pair: Pair) -> frozenset[str]:
    field = AlgebraicField()
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
    except (TooLarge, Transcendental, ArithmeticError, TypeError, ValueError):
        return frozenset()  # some operator asks more of numbers than formulas can give
