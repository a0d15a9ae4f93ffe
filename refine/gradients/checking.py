"""Whether rules are right: every node of a model against derivatives that know no rule.

At a node with inputs x, along a direction v, with cotangents up: ⟨up, J·v⟩, J·v by jets of the real
semantics or by a central difference at many bits, against ⟨Jᵀ·up, v⟩ by the rule. Where the node is
small and a rational function Z3 proves that both are the same for all x, v and up at which nothing
is divided by 0 and nothing that is compared is equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import flint
import numpy as np

from encoders.arithmetic.exact_fields import Balls, ObjectArray
from encoders.functions.accuracy import Transcendental
from encoders.gradients.tape import Tape
from encoders.program import Step, program_of
from gpu_check.emulator.exact import evaluate_real
from onnx_import.errors import UnsupportedModel
from onnx_import.graph import Array, Graph, build_graph
from refine.gradients.differentiate import OWN, cotangents
from refine.gradients.identities import proved
from refine.gradients.jets import Jets

BITS = 400
JET_LIMIT = Fraction(1, 2**100)
DIFFERENCE_LIMIT = Fraction(1, 10**20)
_STEP = Fraction(1, 2**110)
TIED = "numbers that are compared are equal here"
_MANY = 2**40  # of parts of a direction, so that what is equal moves apart
_SMALL = 48  # numbers of a node, up to which Z3 is asked


@dataclass(frozen=True, kw_only=True)
class Checked:
    """One node. `jet` and `difference` are how far the rule is from either, in parts of 1 + the
    size of the number itself; None where it was not compared, or one of both is no number.
    `identity` is what Z3 made of it, None where it was not asked or did not decide."""

    node: str
    op: str
    jet: Fraction | None = None
    difference: Fraction | None = None
    identity: bool | None = None
    why: str = ""

    @property
    def wrong(self) -> bool:
        """Does something contradict the rule?"""
        far = self.jet is not None and self.jet > JET_LIMIT
        apart = self.difference is not None and self.difference > DIFFERENCE_LIMIT
        return far or apart or self.identity is False

    @property
    def right(self) -> bool:
        """Was it compared with both, and does nothing contradict it?"""
        return None not in (self.jet, self.difference) and not self.wrong

    @property
    def status(self) -> str:
        """In a word or two what is known of the rule here."""
        if self.wrong:
            return "wrong"
        return self.why or ("proved" if self.identity else "tested" if self.right else "open")


def checked(
    graph: Graph,
    inputs: Mapping[str, Array],
    *,
    rules: str = OWN,
    seed: int = 0,
    ask_z3: bool = True,
) -> Iterator[Checked]:
    """Each node whose results depend on floating-point inputs or weights, at the real values that
    its inputs have where the graph's are these.

    Raises UnsupportedModel for an operator without a meaning.
    """
    rng = np.random.default_rng(seed)
    balls = Balls(BITS)
    samples = {name: balls.constant(np.asarray(inputs[name])) for name in graph.inputs}
    values = evaluate_real(graph, samples, balls, every_tensor=True)
    for step in program_of(graph).steps:
        if graph.types[step.output].dtype.is_float:
            yield _node(graph, step, values, rules=rules, rng=rng, ask_z3=ask_z3)


@dataclass(frozen=True)
class Alone:
    """A function as a graph whose floating-point inputs vary: `forward` gives its one output,
    `backward` the cotangents `wrt` of these inputs, which also takes `upstream` and the `roots`
    that it stores rounded."""

    forward: Graph
    backward: Graph
    wrt: Mapping[str, str]
    upstream: str
    roots: Mapping[str, tuple[Fraction, int]]


def alone(graph: Graph, step: Step, *, rules: str = OWN) -> Alone | None:
    """The node and its rule, by all inputs that it can be differentiated by; None where there are
    none.

    Raises UnsupportedModel where there is no rule.
    """
    node = step.node
    if step.operator.gradient is None:
        raise UnsupportedModel(f"{node.describe()}: no rule of differentiation is known")
    moving = {node.inputs[i] for i in step.site.variable if step.site.type_of(i).dtype.is_float}
    found = _alone(graph, step, moving, rules)
    stored = [t for i, t in enumerate(node.inputs) if t and i not in step.site.variable]
    for tensor in dict.fromkeys(t for t in stored if graph.types[t].dtype.is_float):
        try:
            wider = _alone(graph, step, {*moving, tensor}, rules)
        except UnsupportedModel:
            continue
        if wider is not None and tensor in wider.wrt:
            found, moving = wider, {*moving, tensor}
    return found


def _alone(graph: Graph, step: Step, moving: set[str], rules: str) -> Alone | None:
    node = step.node
    given = [t for t in dict.fromkeys(node.inputs) if t in moving]
    others = [t for t in dict.fromkeys(node.inputs) if t and t not in moving]
    varying = [t for t in others if not graph.is_constant(t)]
    constants = {t: graph.constants[t] for t in others if graph.is_constant(t)}
    types = {t: graph.types[t] for t in (*given, *others, *step.writes)}
    forward = build_graph(
        (node,), types, constants, inputs=(*given, *varying), outputs=(step.output,)
    )
    found = _beside(forward, step.output, given, rules, lenient=True)
    return found if found.wrt else None


def _beside(
    forward: Graph, output: str, given: Sequence[str], rules: str, *, lenient: bool
) -> Alone:
    tape = Tape.after(forward)
    up = tape.given("upstream", forward.types[output])
    found = cotangents(tape, {output: up}, given, rules=rules, lenient=lenient)
    wrt = {tensor: tape.named(term, f"grad_{tensor}").name for tensor, term in found.items()}
    backward = tape.finish(tuple(wrt.values()), inputs=(up.name,))
    roots = {t: tape.roots[t] for t in backward.constants if t in tape.roots}
    kept = {t: v for t, v in backward.constants.items() if t not in roots}
    backward = build_graph(
        backward.order,
        backward.types,
        kept,
        inputs=(*backward.inputs, *roots),
        outputs=backward.outputs,
    )
    return Alone(forward, backward, wrt, up.name, roots)


def _node(
    graph: Graph,
    step: Step,
    values: Mapping[str, ObjectArray],
    *,
    rules: str,
    rng: np.random.Generator,
    ask_z3: bool,
) -> Checked:
    name, op = step.name, step.node.op
    try:
        both = alone(graph, step, rules=rules)
    except UnsupportedModel as error:
        return Checked(node=name, op=op, why=str(error))
    if both is None:
        return Checked(
            node=name, op=op, jet=Fraction(0), difference=Fraction(0), why="derivative 0"
        )
    balls = Balls(BITS)
    at = {
        t: values[t] if t in values else balls.constant(np.asarray(graph.constants[t]))
        for t in both.forward.inputs
    }
    jet, difference = apart(both, at, rng)
    if (jet is None or jet > JET_LIMIT) and tied(both, at):
        return Checked(node=name, op=op, why=TIED)
    identity = None
    if ask_z3 and _numbers(both) <= _SMALL:
        identity = _identity(both, name)
    return Checked(node=name, op=op, jet=jet, difference=difference, identity=identity)


def apart(
    both: Alone, at: Mapping[str, ObjectArray], rng: np.random.Generator
) -> tuple[Fraction | None, Fraction | None]:
    """How far ⟨Jᵀ·up, v⟩ is from ⟨up, J·v⟩, for drawn up and v, at inputs (1, *shape) of balls: by
    jets and by a central difference, as `Checked` has it."""
    balls = Balls(BITS)
    (output,) = both.forward.outputs
    with balls.working():
        along = {t: _random(rng, at[t].shape) for t in both.wrt}
        up = _random(rng, (1, *both.forward.types[output].shape))
        back = _backward(both, at, up, balls)
        right = sum((_inner(back[g], along[t]) for t, g in both.wrt.items()), flint.arb(0))
        jets = Jets(balls)
        still = {t: np.asarray(0 * v, object) for t, v in at.items()}
        given = {t: jets.of(v, along.get(t, still[t])) for t, v in at.items()}
        (forward,) = evaluate_real(both.forward, given, jets).values()
        tangent = jets.parts(forward)[1]
        jet = _apart(_inner(up, tangent), right)
        return jet, _apart(_difference(both, at, along, up, balls), right)


def tied(both: Alone, at: Mapping[str, ObjectArray]) -> bool:
    """Has the function no derivative at these inputs, since numbers that it compares, or chooses
    the larger of, are equal here? Not so where it is smooth all the same, as a softmax is that
    takes its largest input away: there both sides of a drawn direction have the same slope."""
    balls = Balls(BITS)
    with balls.working():
        jets = Jets(balls)
        given = {t: jets.of(v, np.asarray(0 * v, object)) for t, v in at.items()}
        evaluate_real(both.forward, given, jets)
        if not any(a is not b and bool((a - b).contains(0)) for a, b in jets.compared):
            return False
        rng = np.random.default_rng(2)
        along = {t: _random(rng, at[t].shape, parts=_MANY) for t in both.wrt}
        up = _random(rng, (1, *both.forward.types[both.forward.outputs[0]].shape), parts=_MANY)
        above, below = (_difference(both, at, along, up, balls, s) for s in ((1, 0), (0, -1)))
        turn = _apart(above, below)
        return turn is None or turn > DIFFERENCE_LIMIT


def whole(graph: Graph, wrt: Sequence[str], *, rules: str = OWN) -> Alone:
    """A graph with one output and its gradient by inputs and weights, of which the weights vary
    too.

    Raises as `differentiated` does.
    """
    weights = [t for t in wrt if graph.is_constant(t)]
    constants = {t: v for t, v in graph.constants.items() if t not in weights}
    given = (*graph.inputs, *weights)
    forward = build_graph(graph.order, graph.types, constants, inputs=given, outputs=graph.outputs)
    (output,) = graph.outputs
    return _beside(forward, output, wrt, rules, lenient=False)


def _backward(
    both: Alone, at: Mapping[str, ObjectArray], up: ObjectArray, balls: Balls
) -> Mapping[str, ObjectArray]:
    roots = {
        t: np.array([(balls.number(square) * balls.pi() ** power).sqrt()], object)
        for t, (square, power) in both.roots.items()
    }
    given = {**at, both.upstream: up, **roots}
    return evaluate_real(both.backward, {t: given[t] for t in both.backward.inputs}, balls)


def _difference(
    both: Alone,
    at: Mapping[str, ObjectArray],
    along: Mapping[str, ObjectArray],
    up: ObjectArray,
    balls: Balls,
    between: tuple[int, int] = (1, -1),
) -> flint.arb:
    """Of the values that many steps along, divided by the way between them."""
    step = balls.number(_STEP)
    ends = []
    for sign in between:
        moved = {
            t: np.asarray(v + along[t] * (step * sign), object) if t in along else v
            for t, v in at.items()
        }
        (value,) = evaluate_real(both.forward, moved, balls).values()
        ends.append(value)
    return _inner(up, np.asarray((ends[0] - ends[1]) / (step * (between[0] - between[1])), object))


def _identity(both: Alone, name: str) -> bool | None:
    try:
        return proved(
            both.forward,
            both.backward,
            both.wrt,
            upstream=both.upstream,
            roots=both.roots,
            name=name,
        )
    except (Transcendental, UnsupportedModel, ValueError, TypeError, ArithmeticError):
        return None


def _numbers(both: Alone) -> int:
    graph = both.forward
    return sum(graph.types[t].size for t in (*graph.inputs, *graph.outputs))


def _random(rng: np.random.Generator, shape: tuple[int, ...], parts: int = 16) -> ObjectArray:
    """Multiples of 1/parts between −1 and 1, none of them 0."""
    sign = np.where(rng.random(shape) < 0.5, -1, 1)
    drawn = np.asarray(sign * rng.integers(1, parts + 1, shape))
    made = np.empty(shape, object)
    made.reshape(-1)[:] = [flint.arb(int(v)) / parts for v in drawn.reshape(-1)]
    return made


def _inner(a: ObjectArray, b: ObjectArray) -> flint.arb:
    total = flint.arb(0)
    for x, y in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True):
        total += x * y
    return total


def _apart(a: flint.arb, b: flint.arb) -> Fraction | None:
    """|a − b|/(1 + |a|), rounded up; None where one is no number."""
    found = abs(a - b) / (1 + abs(a))
    if not found.is_finite():
        return None
    upper = found.abs_upper()
    mantissa, exponent = upper.man_exp()
    return Fraction(int(mantissa)) * Fraction(2) ** int(exponent)
