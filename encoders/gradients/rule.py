"""What is known of an operator's derivative: a rule that carries cotangents back, and kinks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from encoders.gradients.tape import Tape, Term
from encoders.site import Site
from onnx_import.graph import Array


@dataclass(frozen=True)
class Reverse:
    """What a rule is given at a node.

    `inputs` follow the node's input positions (None: omitted), `output` is the first thing that it
    writes and `up` the cotangent of that: the derivative of what is asked for by it. `wanted` are
    the positions of the inputs whose cotangents are asked for.
    """

    site: Site
    tape: Tape
    inputs: tuple[Term | None, ...]
    output: Term
    up: Term
    wanted: frozenset[int]

    def read(self, position: int) -> Term:
        """An input that is there. Raises UnsupportedModel, naming the node, where it is not."""
        term = self.inputs[position] if position < len(self.inputs) else None
        if term is None:
            raise self.site.unsupported(f"input {position} is missing")
        return term

    @property
    def x(self) -> Term:
        """The first input."""
        return self.read(0)

    def wants(self, position: int) -> bool:
        """Is the cotangent of this input asked for?"""
        return position in self.wanted

    def stored(self, value: Array) -> Term:
        """A constant."""
        return self.tape.stored(value)


Carried: TypeAlias = Mapping[int, Term]
"""Cotangents by input position; an input without one has the derivative 0."""
Rule: TypeAlias = Callable[[Reverse], Carried]


@dataclass(frozen=True, kw_only=True)
class Gradient:
    """How an operator is differentiated.

    `rule` writes the cotangents of the inputs that are wanted. `convention` says what it takes the
    derivative for where there is none, `frameworks` has the rules of frameworks, by their names,
    that write another expression or have another convention.
    """

    rule: Rule
    convention: str = ""
    frameworks: Mapping[str, Rule] = field(default_factory=dict)

    def by(self, rules: str) -> Rule:
        """The rule of this name; the operator's own where it has no other."""
        return self.frameworks.get(rules, self.rule)


Slope: TypeAlias = Callable[[Term, Term, Term], Term]
"""Of the argument x, the result y and its cotangent `up` of a function of one tensor: the
cotangent of x."""


def unary(
    slope: Slope, *, convention: str = "", frameworks: Mapping[str, Slope] | None = None
) -> Gradient:
    """The gradient of a function of one tensor."""
    others = {name: _rule(other) for name, other in (frameworks or {}).items()}
    return Gradient(rule=_rule(slope), convention=convention, frameworks=others)


def _rule(slope: Slope) -> Rule:
    return lambda r: {0: slope(r.x, r.output, r.up)}


def each(terms: Sequence[tuple[int, Callable[[], Term]]], r: Reverse) -> Carried:
    """The cotangents that are wanted; the others are not written."""
    return {position: make() for position, make in terms if r.wants(position)}


FLAT = Gradient(rule=lambda r: {}, convention="its derivative is 0 everywhere, at its steps too")
"""Of operators whose results are constant between their steps."""
