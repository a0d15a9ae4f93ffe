"""Instance obligations put to Z3: the node's own numbers, its real meaning as a Z3 term.

The budgets come from float64 code; here Z3 checks, in exact rationals and against the separately
written real meaning, that what the code charged for one output element is enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import z3

from encoders.enclosure import FloatArray, Interval
from encoders.exact_fields import object_array
from encoders.formats import FloatFormat, power_of_two
from encoders.functions import Transcendental
from encoders.operator import Contribution, RowFacts, Site, site_of
from encoders.real_terms import RealTerms
from encoders.registry import lookup
from refine.bounds import NetworkBounds, NodeBounds
from refine.obligation import Kind
from refine.pullback import unit_functionals, variable_inputs
from refine.solve import Fact, Query


@dataclass(frozen=True)
class Effort:
    """How much is put to Z3: output elements per node, and the largest node in multiply-adds."""

    rows: int
    largest: int
    timeout: float


SAMPLE = Effort(rows=1, largest=3000, timeout=2.0)
EVERYTHING = Effort(rows=10**9, largest=10**9, timeout=10.0)


def node_queries(bounds: NetworkBounds, node: NodeBounds, effort: Effort) -> Iterator[Query]:
    """Queries about a few output elements of one node, spread evenly over them."""
    graph = bounds.maps.graph
    site = site_of(graph, node.node)
    operator = lookup(node.node)
    inputs = variable_inputs(graph, node.node)
    finite = all(
        np.all(np.isfinite(bounds.maps.values[t].magnitude))
        and np.all(np.isfinite(bounds.maps.errors[t]))
        for t in inputs
    )
    if operator.movement or not inputs or not finite or not np.all(np.isfinite(node.errors)):
        return
    size = site.outputs[0].size
    for row in np.unique(np.linspace(0, size - 1, min(effort.rows, size)).astype(int)):
        if operator.work(site) <= effort.largest:
            yield from _map_queries(bounds, node, site, int(row), effort)
        if node.rounding.row is not None:
            facts = node.rounding.row(int(row))
            if len(facts.weights) <= effort.largest:
                yield _sum_query(node, int(row), facts, effort)


def _map_queries(
    bounds: NetworkBounds, node: NodeBounds, site: Site, row: int, effort: Effort
) -> Iterator[Query]:
    maps = bounds.maps
    inputs = variable_inputs(maps.graph, node.node)
    x = [_variables(f"x{i}", maps.values[t].shape) for i, t in enumerate(inputs)]
    d = [_variables(f"d{i}", maps.values[t].shape) for i, t in enumerate(inputs)]
    try:
        f_x = _real_element(site, x, row)
        f_xd = _real_element(site, [a + b for a, b in zip(x, d, strict=True)], row)
    except Transcendental:  # not asked: Z3 has no such term
        return
    c = unit_functionals(site.outputs[0].shape, np.asarray([row]))
    ranges = [_in_range(v, maps.values[t]) for v, t in zip(x, inputs, strict=True)]
    errors = [_in_radius(v, maps.errors[t]) for v, t in zip(d, inputs, strict=True)]
    name = f"{node.node.name}[{row}]"
    for sign, word in ((1.0, "above"), (-1.0, "below")):
        pulled = maps.value_maps[node.node.name].backward(sign * c)
        yield Query(
            f"relaxation-{word}/{name}",
            Kind.INSTANCE,
            (Fact("the real inputs lie in their ranges", z3.And(*ranges)),),
            Fact(
                f"f(x)[{row}] is bounded from {word} by the pulled-back functional",
                _signed(f_x, sign) <= _linear(pulled, x),
            ),
            node.node.name,
            effort.timeout,
        )
    pulled = maps.difference_maps[node.node.name].backward(c)
    yield Query(
        f"difference/{name}",
        Kind.INSTANCE,
        (
            Fact("the real inputs lie in their ranges", z3.And(*ranges)),
            Fact("the input differences lie in their budgets", z3.And(*errors)),
        ),
        Fact(
            f"(f(x + d) − f(x))[{row}] ≤ pulled-back functional of d, plus its charge",
            f_xd - f_x <= _linear(pulled, d),
        ),
        node.node.name,
        effort.timeout,
    )


def _signed(term: Any, sign: float) -> Any:
    return term if sign > 0 else -term


def _variables(name: str, shape: tuple[int, ...]) -> Any:
    size = int(np.prod(shape, dtype=np.int64))
    return object_array((z3.Real(f"{name}_{j}") for j in range(size)), shape)


def _real_element(site: Site, variables: list[Any], row: int) -> Any:
    field, remaining = RealTerms(), iter(variables)
    arguments = [
        None
        if kind is None
        else field.constant(constant)
        if constant is not None
        else next(remaining)[None]
        for kind, constant in zip(site.inputs, site.constants, strict=True)
    ]
    (output,) = lookup(site.node).real(site, arguments, field)
    return np.broadcast_to(output, (1, *site.outputs[0].shape)).reshape(-1)[row]


def _in_range(variables: Any, x: Interval) -> Any:
    pairs = zip(variables.ravel(), x.lo.ravel(), x.hi.ravel(), strict=True)
    return z3.And(*(z3.And(_exact(lo) <= v, v <= _exact(hi)) for v, lo, hi in pairs))


def _in_radius(variables: Any, radius: FloatArray) -> Any:
    return _in_range(variables, Interval(-radius, radius))


def _linear(pulled: Contribution, variables: list[Any]) -> Any:
    terms = [_exact(float(pulled.constant[0]))]
    for c, v in zip(pulled.coefficients, variables, strict=True):
        if c is not None:
            pairs = zip(c[0].ravel(), v.ravel(), strict=True)
            terms += [_exact(float(a)) * b for a, b in pairs if a != 0]
    return z3.Sum(terms)


def _exact(value: float) -> Any:
    q = Fraction(float(value))
    return z3.RatVal(q.numerator, q.denominator)


def _sum_query(node: NodeBounds, row: int, facts: RowFacts, effort: Effort) -> Query:
    """Partial sums stay within the claimed bound, and the claimed error closes the induction."""
    terms, inside = [], []
    ranges = [
        (min(w * lo, w * hi, Fraction(0)), max(w * lo, w * hi, Fraction(0)))
        for w, lo, hi in zip(facts.weights, facts.lows, facts.highs, strict=True)
        if w != 0
    ]
    ranges.append((min(facts.bias_low, Fraction(0)), max(facts.bias_high, Fraction(0))))
    for k, (low, high) in enumerate(ranges):
        t = z3.Real(f"t_{k}")
        terms.append(t)
        inside.append(z3.And(_rational(low) <= t, t <= _rational(high)))
    total = z3.Sum(terms)
    limit = _rational(facts.partial_bound)
    reach = facts.partial_bound + facts.error_bound
    q = rounding_error(facts.format, reach, facts.underflow) + facts.lost_operands
    needed = facts.products + facts.additions * q
    return Query(
        f"row-sum/{node.node.name}[{row}]",
        Kind.INSTANCE,
        (Fact("each term of a partial sum is absent or one product in range", z3.And(*inside)),),
        Fact(
            "every partial sum is within its bound T, and products + m·r(T + E) ≤ E",
            z3.And(
                total <= limit, -limit <= total, _rational(needed) <= _rational(facts.error_bound)
            ),
        ),
        node.node.name,
        effort.timeout,
    )


def _rational(q: Fraction) -> Any:
    return z3.RatVal(q.numerator, q.denominator)


def rounding_error(fmt: FloatFormat, magnitude: Fraction, underflow: Fraction) -> Fraction:
    """The rounding error of a result of at most this magnitude, in exact rationals."""
    if magnitude == 0:
        return Fraction(0)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if power_of_two(exponent) > magnitude:
        exponent -= 1
    u = fmt.unit_roundoff
    half_ulp = u * power_of_two(max(exponent, fmt.emin))
    relative = magnitude * u / (1 + u) + power_of_two(fmt.emin - fmt.precision)
    return max(min(half_ulp, relative, magnitude), min(underflow, magnitude))
