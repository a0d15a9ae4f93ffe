"""Instance obligations put to Z3: the node's own numbers, its real semantics as a Z3 term.

The budgets come from float64 code; here Z3 checks, in exact rationals and against the separately
written real semantics, that what the code charged for one output element is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import z3

from encoders.arithmetic.exact_fields import object_array
from encoders.arithmetic.real_terms import RealTerms, rational_term
from encoders.functions.accuracy import Transcendental
from encoders.lemmas.reading.exact import Exact
from encoders.lemmas.sums import ANY_ORDER_LINEAR
from encoders.numbers.enclosure import FloatArray, Interval
from encoders.numbers.formats import FloatFormat, power_of_two
from encoders.operator import Contribution, Moved, Operator, RowFacts, Site
from encoders.site import Element
from refine.bounds.backward import unit_functionals
from refine.bounds.network import NetworkBounds, NodeBounds
from refine.proof.z3_solver import Fact, Query
from refine.results.obligation import Kind

IntArray = npt.NDArray[np.intp]


@dataclass(frozen=True)
class _Limits:
    timeout: float
    rlimit: int


Ask = Callable[[], Iterator[Query]]
"""Builds queries when called: terms of large nodes are costly even before Z3 sees them."""


def node_queries(
    bounds: NetworkBounds, node: NodeBounds, rows: int, *, largest: int, timeout: float, rlimit: int
) -> list[Ask]:
    """Queries about `rows` output elements of one node, spread evenly over them.

    Nodes beyond `largest` multiply-adds, unless they are scalar formulas, and sums of more terms
    are not asked about. `timeout` in seconds and `rlimit` (0 for none) go with each query.
    """
    limits = _Limits(timeout, rlimit)
    step = node.step
    site, operator, inputs = step.site, step.operator, step.reads
    finite = all(
        np.all(np.isfinite(bounds.maps.values[t].magnitude))
        and np.all(np.isfinite(bounds.maps.errors[t]))
        for t in inputs
    )
    if operator.movement or not inputs or not finite or not np.all(np.isfinite(node.errors)):
        return []
    size = site.outputs[0].size
    asks: list[Ask] = []
    for row in np.unique(np.linspace(0, size - 1, min(rows, size)).astype(int)):
        if operator.element is not None or operator.work(site) <= largest:
            view = partial(_view, bounds, node, int(row))
            asks += [
                partial(_relaxation, view, limits, 1.0),
                partial(_relaxation, view, limits, -1.0),
                partial(_difference, view, limits),
            ]
        facts = None if node.rounding.row is None else node.rounding.row(int(row))
        if facts is not None and len(facts.weights) <= largest:
            asks.append(partial(_sum_queries, node, int(row), facts, limits))
    return asks


@dataclass(frozen=True)
class _View:
    """One output element of a node: its real semantics on x and on x + d, what is known of the
    variables, and the maps whose charges are to be checked."""

    name: str
    node: NodeBounds
    bounds: NetworkBounds
    row: int
    site: Site
    x: list[Any]
    d: list[Any]
    places: list[IntArray]
    ranges: list[Any]
    errors: list[Any]

    def unit(self) -> FloatArray:
        return unit_functionals(self.node.values.shape, np.asarray([self.row]))


def _view(bounds: NetworkBounds, node: NodeBounds, row: int) -> _View:
    """The whole node, or, where it is a scalar formula, only the element itself."""
    maps = bounds.maps
    inputs, site, operator = node.step.reads, node.step.site, node.step.operator
    whole = [np.arange(maps.values[t].lo.size) for t in inputs]
    small, places = site, whole
    if operator.element is not None:
        element: Element = operator.element(site, row)
        small = element.site
        places = [np.asarray([p]) for p in element.positions]
    shapes = [
        t.shape for t, c in zip(small.inputs, small.constants, strict=True) if t and c is None
    ]
    first = [inputs.index(t) for t in inputs]  # a tensor read twice is one variable
    x = [_variables(f"x{i}", shape) for i, shape in zip(first, shapes, strict=True)]
    d = [_variables(f"d{i}", shape) for i, shape in zip(first, shapes, strict=True)]
    ranges = [
        _in_range(v, Interval(maps.values[t].lo.ravel()[p], maps.values[t].hi.ravel()[p]))
        for v, t, p in zip(x, inputs, places, strict=True)
    ]
    errors = [
        _in_radius(v, maps.errors[t].ravel()[p]) for v, t, p in zip(d, inputs, places, strict=True)
    ]
    name = f"{node.node.name}[{row}]"
    return _View(
        name,
        node,
        bounds=bounds,
        row=row,
        site=small,
        x=x,
        d=d,
        places=places,
        ranges=ranges,
        errors=errors,
    )


def _element(view: _View, variables: list[Any]) -> Any:
    whole = view.site.outputs[0].size == view.node.values.lo.size
    operator = view.node.step.operator
    return _real_element(operator, view.site, variables, view.row if whole else 0)


def _relaxation(make: Callable[[], _View], limits: _Limits, sign: float) -> Iterator[Query]:
    view = make()
    word = "above" if sign > 0 else "below"
    try:
        f_x = _element(view, view.x)
    except Transcendental:  # not asked: Z3 has no such term
        return
    pulled = view.bounds.maps.value_maps[view.node.node.name].backward(sign * view.unit())
    if not _finite(pulled):  # it bounds nothing: there is no number to put to Z3
        return
    yield Query(
        f"relaxation-{word}/{view.name}",
        Kind.INSTANCE,
        hypotheses=(
            Fact("the real inputs lie in their ranges", z3.And(*view.ranges)),
            *_leaning(view),
        ),
        goal=Fact(
            f"f(x)[{view.row}] is bounded from {word} by the pulled-back functional",
            _signed(f_x, sign) <= _linear(pulled, view.x, view.places),
        ),
        node=view.node.node.name,
        timeout=limits.timeout,
        rlimit=limits.rlimit,
    )


def _difference(make: Callable[[], _View], limits: _Limits) -> Iterator[Query]:
    view = make()
    try:
        f_x = _element(view, view.x)
        moved = [np.asarray(a + b, object) for a, b in zip(view.x, view.d, strict=True)]
        f_xd = _element(view, moved)
    except Transcendental:
        return
    pulled = view.bounds.maps.difference_maps[view.node.node.name].backward(view.unit())
    if not _finite(pulled):
        return
    yield Query(
        f"difference/{view.name}",
        Kind.INSTANCE,
        hypotheses=(
            Fact("the real inputs lie in their ranges", z3.And(*view.ranges)),
            Fact("the input differences lie in their budgets", z3.And(*view.errors)),
            *_leaning(view),
            *_kept(view, moved),
            *_together(view, f_xd - f_x),
        ),
        goal=Fact(
            f"(f(x + d) − f(x))[{view.row}] ≤ pulled-back functional of d, plus its charge",
            f_xd - f_x <= _linear(pulled, view.d, view.places),
        ),
        node=view.node.node.name,
        timeout=limits.timeout,
        rlimit=limits.rlimit,
    )


def _kept(view: _View, moved: list[Any]) -> Iterator[Fact]:
    """What else is known of run-time inputs, where it was asked for."""
    held, reads = view.bounds.maps.held, view.node.step.reads
    known = [
        _in_range(v, Interval(held[t].lo.ravel()[p], held[t].hi.ravel()[p]))
        for v, t, p in zip(moved, reads, view.places, strict=True)
        if t in held and np.all(np.isfinite(held[t].lo)) and np.all(np.isfinite(held[t].hi))
    ]
    if known:
        yield Fact("the run-time inputs lie in their ranges", z3.And(*known))


def _leaning(view: _View) -> Iterator[Fact]:
    """How far rows reach in a direction, where that was asked for."""
    found = view.bounds.maps.leans.get(view.node.node.name)
    if found is not None:
        x = view.x[0].ravel()
        sums = (
            sum(_exact(float(w)) * x[j] for w, j in zip(direction, places, strict=True))
            for direction, places in zip(found.direction, found.index, strict=True)
        )
        least = (_exact(float(v)) for v in found.least)
        leans = (total >= low for total, low in zip(sums, least, strict=True))
        yield Fact("the rows lean in a direction", z3.And(*leans))


def _together(view: _View, between: Any) -> Iterator[Fact]:
    """What several nodes together say of this one's differences, by lemmas of their own."""
    radius = view.bounds.maps.together.get(view.node.node.name)
    if radius is not None and np.isfinite(radius.bound.ravel()[view.row]):
        most = np.asarray([radius.bound.ravel()[view.row]])
        difference = np.asarray([between], object)
        yield Fact("a norm moves as its coordinates do", _in_radius(difference, most))


def _signed(term: Any, sign: float) -> Any:
    return term if sign > 0 else -term


def _variables(name: str, shape: tuple[int, ...]) -> Any:
    size = int(np.prod(shape, dtype=np.int64))
    return object_array((z3.Real(f"{name}_{j}") for j in range(size)), shape)


def _real_element(operator: Operator, site: Site, variables: list[Any], row: int) -> Any:
    field = RealTerms()
    given = site.arguments((v[None] for v in variables), lambda held, _: field.constant(held))
    (output,) = operator.real(site, given, field)
    return np.broadcast_to(output, (1, *site.outputs[0].shape)).reshape(-1)[row]


def _in_range(variables: Any, x: Interval) -> Any:
    pairs = zip(variables.ravel(), x.lo.ravel(), x.hi.ravel(), strict=True)
    return z3.And(*(z3.And(_exact(lo) <= v, v <= _exact(hi)) for v, lo, hi in pairs))


def _in_radius(variables: Any, radius: FloatArray) -> Any:
    return _in_range(variables, Interval(-radius, radius))


def _linear(pulled: Contribution | Moved, variables: list[Any], places: list[IntArray]) -> Any:
    terms = [_exact(float(pulled.constant[0]))]
    for c, v, place in zip(pulled.coefficients, variables, places, strict=True):
        if c is not None:
            pairs = zip(c[0].ravel()[place], v.ravel(), strict=True)
            terms += [_exact(float(a)) * b for a, b in pairs if a != 0]
    return z3.Sum(terms)


def _finite(pulled: Contribution | Moved) -> bool:
    """Is every number of a functional one, at a pole or an end of the domain too?"""
    coefficients = (c for c in pulled.coefficients if c is not None)
    return bool(
        np.all(np.isfinite(pulled.constant)) and all(np.all(np.isfinite(c)) for c in coefficients)
    )


def _exact(value: float) -> Any:
    return rational_term(Fraction(float(value)))


def _sum_queries(node: NodeBounds, row: int, facts: RowFacts, limits: _Limits) -> Iterator[Query]:
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
    sizes = sum((max(-low, high) for low, high in ranges), Fraction(0))
    limit = _rational(facts.partial_bound)
    reach = facts.partial_bound + facts.error_bound
    q = rounding_error(facts.format, reach, facts.underflow) + facts.lost_operands
    needed = min(facts.products + facts.additions * q, _linear_bound(facts))
    yield Query(
        f"row-sum/{node.node.name}[{row}]",
        Kind.INSTANCE,
        hypotheses=(
            Fact("each term of a partial sum is absent or one product in range", z3.And(*inside)),
        ),
        goal=Fact(
            "every partial sum is within its bound T, Σ|term| within its own, and products + "
            "m·r(T + E) ≤ E or E is at least the bound of any-order-linear",
            z3.And(
                total <= limit,
                -limit <= total,
                _rational(sizes) <= _rational(facts.total_bound),
                _rational(needed) <= _rational(facts.error_bound),
            ),
        ),
        node=node.node.name,
        timeout=limits.timeout,
        rlimit=limits.rlimit,
    )


def _linear_bound(facts: RowFacts) -> Fraction:
    """What `any-order-linear` says of the row's numbers, in exact rationals."""
    half = power_of_two(facts.format.emin - facts.format.precision)
    numbers = {
        "S": facts.total_bound,
        "m": Fraction(facts.additions),
        "u": facts.format.unit_roundoff,
        "h": max(facts.underflow, half),
        "lost": facts.lost_operands,
        "p": facts.products,
    }
    return Exact(numbers).of(ANY_ORDER_LINEAR.radius)


def _rational(q: Fraction) -> Any:
    return rational_term(q)


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
