"""One step in place of the nodes that spell out a formula: its curve, and what running all of them
is off by on one number.

With x the real and x̂ the run-time value of the one tensor that it hangs on,

    ŷ − f(x) = (f(x̂) − f(x)) + (ŷ − f(x̂)).

The first part is the curve's, the second what the nodes round when they are run on x̂, for which
the range of x̂ is cut into parts: of one of them all nodes' ranges are narrow, and how they hang
together is not lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic
from encoders.arithmetic.values import V
from encoders.contract.contract import RuntimeContract
from encoders.curves.certified import certified_curve
from encoders.families.smooth import smooth_operator
from encoders.functions.curve import Curve, Number, Reals
from encoders.lemmas.combining import EXACT
from encoders.lemmas.kernel import Radius, any_of, exactly_zero, known_at
from encoders.lemmas.ranges.making import given_ranges
from encoders.numbers.enclosure import Interval
from encoders.operator import Field, Operator, RoundingBound, Site
from encoders.program import Step, program_of
from onnx_import.errors import UnsupportedModel
from refine.bounds.backward import Maps, pull_back
from refine.bounds.joint.finding import Body, Formula
from refine.bounds.local.errors import bound_errors
from refine.bounds.local.values import bound_values

_PARTS = 16  # of a range, in which nodes are run
_MOST_NUMBERS = 2**19  # for which they are run at once
_WIDEST = 2.0**20
_NAME = "Formula"


@dataclass
class Joining:
    """Formulas that are taken together as a program is walked, by the node at which each begins.

    `joined` are the steps that stand for them, and `inside` the nodes before these which then lead
    nowhere: they are bounded, and no functional reaches them.
    """

    formulas: Mapping[str, Sequence[Formula]]
    joined: dict[str, Step] = field(default_factory=dict)
    inside: set[str] = field(default_factory=set)

    def at(self, step: Step, maps: Maps, contract: RuntimeContract) -> tuple[Maps, Step]:
        """The maps of the program in which formulas that begin here are one step each, where their
        curves are found; and what stands in place of the step."""
        for formula in self.formulas.get(step.name, ()):
            curve = _curve_over(formula, maps)
            if curve is not None:
                maps = self._with(joined(formula, curve, contract), formula, maps)
        return maps, self.joined.get(step.name, step)

    def _with(self, made: Step, formula: Formula, maps: Maps) -> Maps:
        self.joined[made.name] = made
        self.inside |= formula.inside
        program = maps.program
        steps = tuple(made if step.name == made.name else step for step in program.steps)
        return replace(maps, program=replace(program, steps=steps))


def _curve_over(formula: Formula, maps: Maps) -> Curve | None:
    """The curve over all numbers that the formula may be run on, and somewhat around; None where
    none is found, and at a point, where runs are followed node by node."""
    real = maps.values[formula.source]
    if np.array_equal(real.lo, real.hi):
        return None
    x = real.inflate(maps.errors[formula.source])
    low, high = float(np.min(x.lo, initial=np.inf)), float(np.max(x.hi, initial=-np.inf))
    if not (low <= high and max(-low, high) <= _WIDEST):
        return None
    return _curve(formula.body, -_beyond(-low), _beyond(high))


def _beyond(x: float) -> float:
    """A number of two digits that is not below x, so that near ranges share a curve."""
    if x == 0.0:
        return 0.0
    part, exponent = np.frexp(x)
    return float(np.ldexp(np.ceil(part * 4.0), int(exponent) - 2))


@lru_cache(maxsize=64)
def _curve(body: Body, low: float, high: float) -> Curve | None:
    def value(field: Reals, x: Number) -> Number:
        return body.real(field, x)

    return certified_curve(value, low, high)


def joined(formula: Formula, curve: Curve, contract: RuntimeContract) -> Step:
    """The step that bounds the formula's result by the one tensor that it hangs on."""
    step, body = formula.step, formula.body
    node = replace(step.node, inputs=(formula.source,))
    kind = replace(step.site.outputs[0], dtype=body.graph.types[body.source].dtype)
    site = Site(node, (kind,), step.site.outputs, (None,))
    operator = _operator(body, curve, contract)
    return Step(node, operator, site, (formula.source,), step.writes)


def _operator(body: Body, curve: Curve, contract: RuntimeContract) -> Operator:
    def real(site: Site, x: ObjectArray, field: Field) -> ObjectArray:
        return np.asarray(body.real(field, x))

    def runtime(site: Site, x: V, arithmetic: Arithmetic[V]) -> V:
        raise site.unsupported("nodes are run one by one, not as the formula that they spell out")

    def rounding(
        site: Site, inputs: Sequence[Interval], result: Interval, here: RuntimeContract
    ) -> RoundingBound:
        return _run(body, inputs[0], contract)

    smooth = smooth_operator(_NAME, 1, lambda site: curve, real=real, runtime=runtime)
    return replace(smooth, rounding=rounding, followed=())


def _run(body: Body, x: Interval, contract: RuntimeContract) -> RoundingBound:
    """What running the nodes on one number of each of these ranges is off by from the formula."""
    size = x.lo.size
    parts = max(1, min(_PARTS, _MOST_NUMBERS // max(size, 1)))
    with np.errstate(all="ignore"):
        cut = _cut(x, parts)
        graph = body.of_shape(cut.shape)
        maps = Maps(program_of(graph).checked, given_ranges({body.source: cut}), kept=1)
        maps.err_by(body.source, exactly_zero(EXACT, cut.shape))
        rounding: list[RoundingBound] = []
        for step in maps.program.steps:
            bound_values(maps, step)
            rounding.append(bound_errors(maps, step, contract, None)[0])
        found = _pulled_back(maps, graph.outputs[0])
    each = np.arange(parts * size).reshape(parts, size)
    radius = any_of([found.taken(places) for places in each])
    return RoundingBound(
        known_at(x.lo.shape, [(np.arange(size), radius)]),
        tuple(condition for bound in rounding for condition in bound.preconditions),
        tuple(dict.fromkeys(name for bound in rounding for name in bound.lemmas)),
    )


def _pulled_back(maps: Maps, end: str) -> Radius:
    """What the end of a formula is off by, number by number: what two nodes share may cancel."""
    known = maps.radii[end]
    try:
        pulled = pull_back(maps, {}, {end: np.ones((1, *known.bound.shape))}).moved
    except UnsupportedModel:  # a node whose functionals are not carried number by number
        return known
    assert pulled is not None
    return known.and_also(pulled.taken(np.arange(known.bound.size)))


def _cut(x: Interval, parts: int) -> Interval:
    """Parts (parts * size,) of each range, which cover it."""
    lo, hi = x.lo.reshape(-1), x.hi.reshape(-1)
    shares = np.linspace(0.0, 1.0, parts + 1)[:, None]
    edges = np.clip(lo + (hi - lo) * shares, lo, hi)
    edges[0], edges[-1] = lo, hi
    return Interval(edges[:-1].reshape(-1), edges[1:].reshape(-1))
