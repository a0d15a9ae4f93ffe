"""One step in place of the nodes that spell out a formula: its curve, and what running all of them
is off by on one number.

With x the real and x̂ the run-time value of the one tensor that it hangs on,

    ŷ − f(x) = (f(x̂) − f(x)) + (ŷ − f(x̂)).

The first part is the curve's, the second what the nodes round when they are run on x̂
(refine/bounds/joint/running.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TypeAlias

import numpy as np

from encoders.arithmetic.exact_fields import ObjectArray
from encoders.arithmetic.runtime import Arithmetic
from encoders.arithmetic.values import V
from encoders.contract.contract import RuntimeContract
from encoders.curves.certified import certified_curve
from encoders.families.smooth import smooth_operator
from encoders.functions.curve import Curve, Number, Reals
from encoders.numbers.enclosure import Interval
from encoders.operator import Field, Operator, RoundingBound, Site
from encoders.program import Program, Step
from refine.bounds.backward import Maps
from refine.bounds.joint.finding import Body, Formula, formulas_of
from refine.bounds.joint.running import rounding_of

_WIDEST = 2.0**20
_NAME = "Formula"


@dataclass(frozen=True)
class Ran:
    """What runs of a formula: the same one, perhaps in other formats, under a contract."""

    body: Body
    contract: RuntimeContract


Runner: TypeAlias = Callable[[Formula], Ran | None]
"""What runs of a formula; None where something else does, and where it is not one contract's."""


def as_it_is(contract: RuntimeContract) -> Runner:
    """Of a network that runs under this contract, all of it."""
    return lambda formula: Ran(formula.body, contract)


@dataclass
class Joining:
    """Formulas that are taken together as a program is walked, by the node at which each begins.

    `joined` are the steps that stand for them, and `inside` the nodes before these which then lead
    nowhere: they are bounded, and no functional reaches them.
    """

    formulas: Mapping[str, Sequence[Formula]]
    runner: Runner
    joined: dict[str, Step] = field(default_factory=dict)
    inside: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, program: Program, runner: Runner | None) -> Joining:
        """Of a program's formulas; of none, where it is not said what runs of them."""
        return cls({}, _nothing) if runner is None else cls(formulas_of(program), runner)

    def at(self, step: Step, maps: Maps) -> tuple[Maps, Step]:
        """The maps of the program in which formulas that begin here are one step each, where their
        curves are found; and what stands in place of the step."""
        for formula in self.formulas.get(step.name, ()):
            ran, curve = self.runner(formula), _curve_over(formula, maps)
            if ran is not None and curve is not None:
                maps = self._with(joined(formula, curve, ran), formula, maps)
        return maps, self.joined.get(step.name, step)

    def _with(self, made: Step, formula: Formula, maps: Maps) -> Maps:
        self.joined[made.name] = made
        self.inside |= formula.inside
        program = maps.program
        steps = tuple(made if step.name == made.name else step for step in program.steps)
        return replace(maps, program=replace(program, steps=steps))


def _nothing(formula: Formula) -> None:
    """No formula is asked for."""


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


def joined(formula: Formula, curve: Curve, ran: Ran) -> Step:
    """The step that bounds the formula's result by the one tensor that it hangs on."""
    step, body = formula.step, formula.body
    node = replace(step.node, inputs=(formula.source,))
    kind = replace(step.site.outputs[0], dtype=body.graph.types[body.source].dtype)
    site = Site(node, (kind,), step.site.outputs, (None,))
    operator = _operator(body, curve, ran)
    return Step(node, operator, site, (formula.source,), step.writes)


def _operator(body: Body, curve: Curve, ran: Ran) -> Operator:
    def real(site: Site, x: ObjectArray, field: Field) -> ObjectArray:
        return np.asarray(body.real(field, x))

    def runtime(site: Site, x: V, arithmetic: Arithmetic[V]) -> V:
        raise site.unsupported("nodes are run one by one, not as the formula that they spell out")

    def rounding(
        site: Site, inputs: Sequence[Interval], result: Interval, here: RuntimeContract
    ) -> RoundingBound:
        return rounding_of(ran.body, inputs[0], ran.contract)

    smooth = smooth_operator(_NAME, 1, lambda site: curve, real=real, runtime=runtime)
    return replace(smooth, rounding=rounding, followed=())
