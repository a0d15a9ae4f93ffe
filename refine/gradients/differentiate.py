"""The gradient of a graph as a graph: one rule per operator, in reverse topological order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from encoders.gradients.rule import Reverse
from encoders.gradients.tape import Tape, Term
from encoders.program import Program, Step, program_of
from onnx_import.errors import ModelError, UnsupportedModel, shorten
from onnx_import.graph import Graph
from refine.gradients import steps

OWN = "own"
"""The name of the rules that stand in the operators' own files."""
FRAMEWORKS = ("torch",)
"""The frameworks of which operators' files have other rules."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Which gradient.

    `of` names the outputs that are differentiated (empty: all), `wrt` inputs and stored weights
    (empty: all inputs of floating-point types). With `ones` the cotangents of the outputs are 1,
    else they are inputs `upstream`, or `upstream_NAME` of each of several outputs. `rules` names
    the table of rules, and `keep` has the graph give its own outputs too. With a `step` the graph
    also gives what that makes of the weights.
    """

    of: tuple[str, ...] = ()
    wrt: tuple[str, ...] = ()
    ones: bool = False
    rules: str = OWN
    keep: bool = False
    step: steps.Step | None = None


def differentiated(graph: Graph, asked: Asked) -> Graph:
    """The graph whose outputs `grad_NAME` (`grad_NAME_of_OUTPUT` where a gradient graph is
    differentiated in turn and has that name) are the derivatives by the tensors of `wrt`, each
    summed over the outputs with their cotangents; weights stay constants.

    Raises UnsupportedModel, naming the node, for an operator without a rule, ModelError for a name
    that is none or a tensor on which the outputs do not depend.
    """
    if asked.rules not in (OWN, *FRAMEWORKS):
        known = ", ".join((OWN, *FRAMEWORKS))
        raise ModelError(f"there are no rules '{shorten(asked.rules)}'; there are {known}")
    of = asked.of or tuple(t for t in graph.outputs if graph.types[t].dtype.is_float)
    _require_outputs(graph, of)
    wrt = tuple(dict.fromkeys(asked.wrt or _float_inputs(graph)))
    _require_sources(graph, wrt)
    tape = Tape.after(graph)
    given: list[str] = []
    ups: dict[str, Term] = {}
    for output in dict.fromkeys(of):
        kind = graph.types[output]
        if asked.ones:
            ups[output] = tape.stored(np.ones(kind.shape, kind.dtype.numpy))
        else:
            name = "upstream" if len(set(of)) == 1 else f"upstream_{output}"
            ups[output] = tape.given(name, kind)
            given.append(ups[output].name)
    found = cotangents(tape, ups, wrt, rules=asked.rules)
    taken = {*graph.types, *graph.inputs}
    several = "_and_".join(of)
    named = [
        tape.named(
            found[name], f"grad_{name}_of_{several}" if f"grad_{name}" in taken else f"grad_{name}"
        ).name
        for name in wrt
    ]
    kept = graph.outputs if asked.keep else ()
    if asked.step is not None:
        made, moments = steps.stepped(tape, asked.step, found)
        named, given = named + made, given + moments
    return tape.finish((*kept, *named), inputs=given)


def require_meaning(graph: Graph) -> None:
    """Raises UnsupportedModel, naming the node, for one that has no meaning here."""
    for step in program_of(graph).steps:
        step.check()


def cotangents(
    tape: Tape,
    ups: Mapping[str, Term],
    wrt: Sequence[str],
    *,
    rules: str = OWN,
    lenient: bool = False,
) -> dict[str, Term]:
    """The cotangents of these tensors, written on the tape, from those of others; where `lenient`
    those that are 0 are left out.

    Raises as `differentiated` does.
    """
    program = program_of(tape.graph)
    moving = depending(program, wrt)
    reached: dict[str, list[Term]] = {name: [up] for name, up in ups.items()}
    for step in reversed(program.steps):
        arrived = reached.pop(step.output, None) if step.output not in wrt else None
        if arrived is None or not moving.intersection(step.writes):
            continue
        for tensor, term in _carried(tape, step, _sum(arrived), moving, rules):
            reached.setdefault(tensor, []).append(term)
    missing = [name for name in wrt if name not in reached]
    if missing and not lenient:
        raise ModelError(
            f"what is differentiated does not depend on '{shorten(missing[0])}', or only through "
            "steps whose derivative is 0"
        )
    return {name: _sum(reached[name]) for name in wrt if name in reached}


def _carried(
    tape: Tape, step: Step, up: Term, moving: set[str], rules: str
) -> Iterable[tuple[str, Term]]:
    node, gradient = step.node, step.operator.gradient
    kinds = [tape.graph.types[t].dtype for t in node.inputs if t in moving]
    if any(kind.is_narrow and not kind.is_integer for kind in kinds):
        raise UnsupportedModel(
            f"{node.describe()}: what goes through numbers of at most eight bits is not "
            "differentiated; leave these casts out"
        )
    wanted = frozenset(
        i
        for i, tensor in enumerate(node.inputs)
        if tensor in moving and tape.graph.types[tensor].dtype.is_float
    )
    if not wanted:
        return
    if gradient is None:
        raise UnsupportedModel(
            f"{node.describe()}: no rule of differentiation is known; leave it out of what is "
            "differentiated, or write it with other operators"
        )
    if any(t in moving for t in step.writes[1:]):
        raise UnsupportedModel(f"{node.describe()}: only its first output can be differentiated")
    terms = tuple(tape.term(t) if t else None for t in node.inputs)
    reverse = Reverse(step.site, tape, terms, tape.term(step.output), up, wanted)
    try:
        carried = gradient.by(rules)(reverse)
    except UnsupportedModel as error:
        if node.describe() in str(error):
            raise
        raise UnsupportedModel(f"{node.describe()}: {error}") from error
    for position, term in carried.items():
        if position in wanted:
            yield node.inputs[position], term


def _sum(terms: Sequence[Term]) -> Term:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def depending(program: Program, wrt: Iterable[str]) -> set[str]:
    """The tensors that are computed of these, and they themselves."""
    found = set(wrt)
    for step in program.steps:
        if found.intersection(step.node.inputs):
            found.update(step.writes)
    return found


def _float_inputs(graph: Graph) -> tuple[str, ...]:
    given = [t for t in graph.inputs if graph.types[t].dtype.is_float]
    return tuple(t for t in given if t not in graph.random_masks)


def _require_outputs(graph: Graph, of: Sequence[str]) -> None:
    known = [t for t in graph.outputs if graph.types[t].dtype.is_float]
    for name in of:
        if name not in known:
            raise ModelError(
                f"there is no output '{shorten(name)}' of floating-point numbers; there is "
                f"{_listed(known)}"
            )
    if not of:
        raise ModelError("the model has no output of floating-point numbers to differentiate")


def _require_sources(graph: Graph, wrt: Sequence[str]) -> None:
    weights = [t for t in graph.constants if graph.types[t].dtype.is_float]
    known = [*_float_inputs(graph), *weights]
    for name in wrt:
        if name not in known:
            raise ModelError(
                f"there is no input or weight '{shorten(name)}' of floating-point numbers to "
                f"differentiate by; there is {_listed(known)}"
            )
    if not wrt:
        raise ModelError(
            "the model has no input of floating-point numbers to differentiate by; name weights "
            f"with --wrt: there is {_listed(weights)}"
        )


def _listed(names: Sequence[str]) -> str:
    most = 12
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(shorten(n) for n in names[:most]) + more if names else "none"
