"""What is proved of a domain: bounds of every box, and how they are improved while time lasts.

A first pass bounds each box whole. Where that does not settle the claim, three things tighten it,
cheapest first: better slopes of relaxations, halving of input boxes, and branching on the phases
of hidden elements. Every step keeps what was proved before; the bound never gets worse.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, partial

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.functions.accuracy import Transcendental
from encoders.lemmas.claims import WITHIN_TOLERANCE
from encoders.lemmas.kernel import Radius, any_of
from encoders.numbers.enclosure import FloatArray, Interval
from encoders.numbers.formats import round_array
from encoders.numbers.radius import is_radius, largest_radius
from encoders.program import program_of
from onnx_import.graph import Graph
from refine.bounds.alpha import Branching
from refine.bounds.network import InputBox, Known, NetworkBounds
from refine.bounds.problem import Problem
from refine.common.clock import Clock, OutOfTime
from refine.common.rounding import float_down
from refine.domain.box import Box
from refine.domain.domain import Domain
from refine.process.pool import Here, Pool
from refine.proof.applications import applied
from refine.proof.compose import first_failure, node_obligations
from refine.proof.cover import covers, united
from refine.proof.input_splitting import Look, Part, bound_parts, part_of, split_box
from refine.results.numerals import up
from refine.results.obligation import Obligation, Outcome
from refine.results.verdict import Tolerance
from refine.scalar.branch_and_bound import Largest, largest_error
from refine.scalar.first_order import applies

_SLOPES = Branching(steps=8, cases=256)
_LEVELS = (
    Branching(steps=8, parts=128, total=2048, cases=1024),
    Branching(steps=8, parts=512, total=8192, cases=4096),
    Branching(steps=8, parts=4096, total=32768, cases=16384),
    Branching(steps=8, parts=16384, total=131072, cases=65536),
)
_EFFORT = 0.8  # the share of the time left for effort; the rest is for the end of the pass
_PASSES = 2.0  # that end may take as long as so many plain passes
_ROUNDS = 12  # batches of boxes that a first look at a network of scalars may halve
_FIRST_LOOK = 10.0  # seconds that this takes at most
_PIECES = 128  # parts that are bounded between two looks at the clock
_POOL_SECONDS = 3.0  # starting workers pays only if there is more time than this


@dataclass(frozen=True)
class Covered:
    """One box of the domain: the bounds of the whole, and of the parts that now cover it.

    `scalar` is a second proof, by first order, of a network of few scalars. `seconds` is what a
    plain pass over the whole took; `plain` says that `whole` is what it gave.
    """

    box: InputBox
    whole: NetworkBounds
    parts: tuple[Part, ...]
    scalar: Largest | None = None
    seconds: float = 0.0
    plain: bool = True

    @cached_property
    def radii(self) -> Mapping[str, Radius]:
        """What is proved of the box, by what is proved of the parts that cover it."""
        found = united(self.box, self.parts)
        if self.scalar is None:
            return found
        limit = self.scalar.radius
        return {t: radius.and_also(limit) for t, radius in found.items()}

    @property
    def errors(self) -> Mapping[str, FloatArray]:
        """The numbers of the radii."""
        return {t: radius.bound for t, radius in self.radii.items()}

    @property
    def failure(self) -> Obligation | None:
        """The first obligation that a part of this box failed; None where all hold."""
        if self.scalar is not None:
            return None
        return next((p.failure for p in self.parts if p.failure is not None), None)


@dataclass(frozen=True)
class Proof:
    """All boxes of the domain; `late` says that the time limit cut the work short."""

    boxes: tuple[Covered, ...]
    late: bool

    @cached_property
    def radii(self) -> Mapping[str, Radius]:
        """What is proved of the domain: an input of it lies in one of the boxes."""
        every = [c.radii for c in self.boxes]
        return {t: any_of([radii[t] for radii in every]) for t in every[0]}

    @property
    def bounds(self) -> Mapping[str, FloatArray]:
        """Bounds by output, arrays of the outputs' shapes, rounded up."""
        return {t: radius.bound for t, radius in self.radii.items()}

    @property
    def wholes(self) -> list[NetworkBounds]:
        """The bounds over each box before it was split."""
        return [c.whole for c in self.boxes]

    @property
    def parts(self) -> int:
        """Into how many parts the boxes were split, all together."""
        return sum(len(c.parts) if c.scalar is None else c.scalar.boxes for c in self.boxes)

    @property
    def lemmas(self) -> frozenset[str]:
        """Those that the bounds of the domain rest on, and the first-order proofs."""
        found = (c.scalar.lemmas for c in self.boxes if c.scalar is not None)
        of_bounds = (radius.record.lemmas for radius in self.radii.values())
        return frozenset((WITHIN_TOLERANCE.name,)).union(*found, *of_bounds)

    @property
    def finite(self) -> bool:
        """Is every output element bounded?"""
        return all(bool(np.all(np.isfinite(b))) for b in self.bounds.values())

    def margins(self) -> Mapping[int, tuple[float, float]]:
        """Of each conjunction of an unsafe set that some part meets, the least margins over all
        parts: of every execution, and over the reals."""
        found: dict[int, tuple[float, float]] = {}
        for margin in (m for c in self.boxes for p in c.parts for m in p.margins):
            run, real = found.get(margin.conjunction, (np.inf, np.inf))
            found[margin.conjunction] = min(run, margin.run), min(real, margin.real)
        return found

    def obligations(self) -> list[dict[str, tuple[Obligation, ...]]]:
        """Per box, what each node owes; what only holds part by part says so."""
        return [_settled(c) for c in self.boxes]


def _settled(covered: Covered) -> dict[str, tuple[Obligation, ...]]:
    groups = node_obligations(covered.whole)
    for node in covered.whole.nodes:
        here = node.node.name
        groups[here] = (*groups[here], *applied(node))
    scalar = covered.scalar
    if covered.failure is not None or (len(covered.parts) == 1 and scalar is None):
        return groups
    n = len(covered.parts) if scalar is None else scalar.boxes

    def settle(o: Obligation) -> Obligation:
        if o.discharged:
            return o
        return replace(
            o,
            outcome=Outcome.DISCHARGED,
            goal=f"shown in each of {n} parts of the box: {o.name}",
            detail="",
            application=None,
        )

    settled = {node: tuple(settle(o) for o in group) for node, group in groups.items()}
    if scalar is not None:
        last = covered.whole.nodes[-1].node.name
        settled[last] = (*settled[last], scalar.obligation(last))
    return settled


def first_proof(
    problem: Problem,
    domain: Domain,
    backward: bool,
    clock: Clock,
    pieces: Sequence[Sequence[InputBox]] = (),
) -> Proof:
    """Bounds of every box, by forward composition from where time is short. `pieces` are parts that
    somebody has cut each box into, which are bounded, too."""
    boxes = [input_box(box, domain, problem.contract) for box in domain.boxes]
    bounds: list[NetworkBounds] = []
    seconds = [0.0 for _ in boxes]
    late = False
    for i, box in enumerate(boxes):
        if backward and not late:
            clock.tell(f"backward substitution, box {i + 1} of {len(boxes)}")
            start = time.monotonic()
            try:
                bounds.append(problem.bounds(box, tick=clock.hurry))
                late = bounds[-1].hurried
                seconds[i] = time.monotonic() - start
            except OutOfTime:
                late = True
        if len(bounds) == i:
            clock.tell("composing forward")
            bounds.append(problem.bounds(box, backward=False))
    covered = [
        Covered(box, b, (part_of(box, b),), seconds=s)
        for box, b, s in zip(boxes, bounds, seconds, strict=True)
    ]
    if backward and not problem.contract.exact and _of_scalars(problem):
        until = time.monotonic() + _FIRST_LOOK
        quick = partial(largest_error, deadline=until, rounds=_ROUNDS, tick=clock.tick)
        covered = [_to_first_order(c, problem, Tolerance(), quick, clock) for c in covered]
    try:
        for i, cut in enumerate(pieces):
            covered[i] = _in_pieces(covered[i], problem, cut, clock)
    except OutOfTime:
        late = True
    return Proof(tuple(covered), late)


def _in_pieces(
    covered: Covered, problem: Problem, pieces: Sequence[InputBox], clock: Clock
) -> Covered:
    """The box in these parts, bounded many at a time; as it was where they do not cover it."""
    around, parts = covered.parts[0].known, list[Part]()
    for start in range(0, len(pieces), _PIECES):
        clock.tell(f"part {start + 1} of {len(pieces)}")
        clock.tick()
        some = pieces[start : start + _PIECES]
        parts += bound_parts((problem, around), [(box, Known({}, {})) for box in some])
    if not covers(covered.box, parts):
        return covered
    return replace(covered, parts=tuple(parts))


def improved(
    proof: Proof,
    problem: Problem,
    tolerance: Tolerance,
    *,
    deadline: float,
    pool: Pool,
    clock: Clock,
    look: Callable[[int, Sequence[InputBox]], bool] = lambda i, boxes: False,
) -> Proof:
    """Tighter bounds, worst box first, until they are within ε, `deadline` (monotonic) has
    passed, or nothing more can be done. `look` hears of parts of the i-th box that are left open,
    and ends it where it has seen enough."""
    excess = excess_over(tolerance)
    boxes = list(proof.boxes)
    branches = not all(step.affine for step in program_of(problem.graph).steps)
    for i in sorted(range(len(boxes)), key=lambda i: -excess(boxes[i].errors)):
        rest = deadline - time.monotonic()
        share = time.monotonic() + rest / (len(boxes) - i if len(boxes) > 1 else 1)
        if rest <= 0 or excess(boxes[i].errors) <= _enough(tolerance) or not branches:
            continue
        boxes[i] = _improved_box(
            boxes[i],
            problem,
            tolerance=tolerance,
            deadline=share,
            pool=pool,
            clock=clock,
            look=partial(look, i),
        )
    return replace(proof, boxes=tuple(boxes))


def _improved_box(
    covered: Covered,
    problem: Problem,
    tolerance: Tolerance,
    *,
    deadline: float,
    pool: Pool,
    clock: Clock,
    look: Look,
) -> Covered:
    excess, enough = excess_over(tolerance), _enough(tolerance)
    if _of_scalars(problem):
        longer = partial(largest_error, deadline=deadline, tick=clock.tick)
        covered = _to_first_order(covered, problem, tolerance, longer, clock)
        if covered.scalar is not None:
            return covered
    if len(covered.parts) == 1:
        clock.tell(f"optimising relaxations{_so_far(covered, problem)}")
        covered = _branched(covered, problem, _SLOPES, deadline, clock)
    if excess(covered.errors) <= enough:
        return covered
    if any(part.splittable for part in covered.parts):
        clock.tell(f"splitting the domain{_so_far(covered, problem)}")
        rest = deadline - time.monotonic()
        several = pool if rest > _POOL_SECONDS else Here()
        split = split_box(
            problem,
            part_of(covered.box, covered.whole),
            parts=covered.parts if len(covered.parts) > 1 else (),
            excess=excess,
            enough=enough,
            deadline=deadline,
            pool=several,
            look=look,
        )
        if not covers(covered.box, split.parts):  # cannot happen; a proof must not rest on that
            return covered
        parts = replace(covered, parts=split.parts)  # parts may be bounded by less than the whole
        better = tolerance.given or excess(parts.errors) <= excess(covered.errors)
        return parts if better else covered
    for level in _LEVELS:
        clock.tell(f"branching on hidden phases{_so_far(covered, problem)}")
        covered = _branched(covered, problem, level, deadline, clock)
        if excess(covered.errors) <= enough or time.monotonic() > deadline:
            break
    return covered


def _so_far(covered: Covered, problem: Problem) -> str:
    """`, bound so far 0.00123`; nothing where it is no error that is bounded."""
    if not problem.single:
        return ""
    largest = max((largest_radius(e) for e in covered.errors.values()), default=0.0)
    return f", bound so far {up(largest, 3)}"


def _to_first_order(
    covered: Covered,
    problem: Problem,
    tolerance: Tolerance,
    maximised: Callable[[Graph, RuntimeContract, InputBox, float], Largest],
    clock: Clock,
) -> Covered:
    """The box with a first-order proof, if that is better than what there is."""
    clock.tell("maximising the first-order error")
    (output,) = problem.graph.outputs
    epsilon = tolerance.of(output)
    enough = 0.0 if epsilon is None else float_down(epsilon)
    try:
        found = maximised(problem.graph, problem.contract, covered.box, enough)
    except (OutOfTime, Transcendental):
        return covered
    known = np.inf if covered.scalar is None else covered.scalar.bound
    return replace(covered, scalar=found) if found.bound < known else covered


def _branched(
    covered: Covered,
    problem: Problem,
    branching: Branching,
    deadline: float,
    clock: Clock,
) -> Covered:
    """The box bounded again with more effort; as it was if time does not allow."""
    whole = covered.whole
    own = whole.radii if problem.single else {}  # else they are not errors of the tensors
    known = Known(whole.maps.values, {**whole.maps.radii, **own})
    now = time.monotonic()
    ending = max((1.0 - _EFFORT) * (deadline - now), _PASSES * covered.seconds)
    if now + ending > deadline:
        return covered
    timed = replace(branching, until=deadline - ending)
    try:
        bounds = problem.bounds(covered.box, True, clock.until(deadline), known, timed)
    except OutOfTime:
        return covered
    return replace(covered, whole=bounds, parts=(part_of(covered.box, bounds),), plain=False)


def _of_scalars(problem: Problem) -> bool:
    return problem.single and applies(problem.graph)


def excess_over(tolerance: Tolerance) -> Callable[[Mapping[str, FloatArray]], float]:
    """How far errors are above ε: the largest of bound/ε, or of the bounds where there is no ε."""

    def excess(errors: Mapping[str, FloatArray]) -> float:
        return max((tolerance.excess(t, error) for t, error in errors.items()), default=0.0)

    return excess


def _enough(tolerance: Tolerance) -> float:
    return 1.0 - 2.0**-40 if tolerance.given else 0.0


def within(bounds: Mapping[str, FloatArray], tolerance: Tolerance) -> bool:
    """Exactly: is every bound at most its ε?"""
    for output, bound in bounds.items():
        epsilon = tolerance.of(output)
        if epsilon is None or not is_radius(bound) or not np.all(np.isfinite(bound)):
            return False
        if bound.size and Fraction(float(np.max(bound))) > epsilon:
            return False
    return True


def input_box(box: Box, domain: Domain, contract: RuntimeContract) -> InputBox:
    """The real inputs of a box, and how far what the runtime receives may be from them."""
    values = {n: Interval(box.real_lo[n], box.real_hi[n]) for n in box.lo}
    errors = {n: np.zeros(v.shape) for n, v in values.items()}
    if domain.round_inputs and not contract.exact:
        for name, x in values.items():
            errors[name] = _input_rounding(box, name, x)
    return InputBox(values, errors)


def _input_rounding(box: Box, name: str, x: Interval) -> FloatArray:
    """|rnd(x) − x|: half the spacing at the largest magnitude; nothing at a representable point."""
    fmt = box.formats[name]
    _, exponent = np.frexp(x.magnitude)
    spacing = np.ldexp(float(fmt.unit_roundoff), np.maximum(exponent - 1, fmt.emin))
    bound = np.where(x.magnitude == 0, 0.0, np.maximum(spacing, 2.0**-1074))
    exact = (x.lo == x.hi) & (round_array(x.lo, fmt) == x.lo)
    return np.where(exact, 0.0, bound)


def failure_of(proof: Proof, others: Sequence[Obligation]) -> Obligation | None:
    """What keeps the theorem from holding: a part, or one of the other obligations."""
    part = next((c.failure for c in proof.boxes if c.failure is not None), None)
    return part if part is not None else first_failure(others)
