"""SMT-LIB 2.6 as the standard has it, out of what Z3 writes.

Z3 writes sums, products, conjunctions and disjunctions of one argument as such, `^` for powers and
roots, and a logic of its own; other solvers read none of these. Source: Barrett, Fontaine &
Tinelli, The SMT-LIB Standard, version 2.6, and its theories Core, Reals, Reals_Ints, FloatingPoint.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import prod
from typing import Any

import z3

_TOKEN = re.compile(r'\|[^|]*\||"(?:[^"]|"")*"|;[^\n]*|[()]|[^\s()|";]+|\s+')
_SEVERAL = {"+": "0.0", "*": "1.0", "and": "true", "or": "false"}
"""Associative operators, which the standard gives two arguments or more, and what they are of
none, which Z3 writes as the operator alone."""
_NUMERIC = {"+", "-", "*", "/", "to_real"}
_NUMERAL = re.compile(r"\d+(\.\d+)?")
_LOGIC = re.compile(r"\(set-logic (QF_(?:[LN]I?RA|FP))\)")
_INTEGERS = {"Int", "to_int", "is_int"}
_LARGEST_POWER = 64


@dataclass
class _Open:
    """A list whose closing parenthesis has not come yet."""

    place: int
    head: int = -1
    name: str = ""
    arguments: int = 0
    variable: int = 0


@dataclass
class _Reading:
    """What was seen of a script so far."""

    lists: list[_Open] = field(default_factory=list)
    constants: set[str] = field(default_factory=set)
    words: set[str] = field(default_factory=set)
    linear: bool = True

    def heads(self, place: int, token: str) -> bool:
        """Take an atom; does it stand at the head of a list?"""
        self.words.add(token)
        if self.lists and self.lists[-1].head < 0 and not self.lists[-1].arguments:
            self.lists[-1].head, self.lists[-1].name = place, token
            return True
        self._item(token in self.constants or _NUMERAL.fullmatch(token) is not None)
        return False

    def close(self) -> _Open:
        closed = self.lists.pop()
        constant = closed.variable == 0
        if closed.name in _NUMERIC:
            product = closed.name == "*" and closed.variable > 1
            self.linear &= not product and (constant or closed.name != "/")
        elif constant and closed.arguments == 1 and closed.name[:1] in "?$":  # bound by a let
            self.constants.add(closed.name)
        self._item(constant and closed.name in _NUMERIC)
        return closed

    def _item(self, constant: bool) -> None:
        if self.lists:
            self.lists[-1].arguments += 1
            self.lists[-1].variable += not constant

    @property
    def logic(self) -> str:
        if "FloatingPoint" in self.words:
            return "QF_FP"
        numbers = "IRA" if self.words & _INTEGERS else "RA"
        return f"QF_{'L' if self.linear else 'N'}{numbers}"


def standard_script(status: str, text: str) -> str:
    """A script that Z3 wrote of one set of assertions, in the standard's words.

    `status` is what a solver is to answer. The logic is the smallest of QF_LRA, QF_NRA, QF_LIRA,
    QF_NIRA and QF_FP that has all of the terms. Names and order of everything else are kept.
    """
    tokens = [t for t in _TOKEN.findall(text) if not t.startswith(";")]
    reading = _Reading()
    for place, token in enumerate(tokens):
        if token == "(":
            reading.lists.append(_Open(place))
        elif token == ")":
            closed = reading.close()
            if closed.name in _SEVERAL and closed.arguments == 1:
                tokens[closed.place] = tokens[closed.head] = tokens[place] = ""
        elif not token.isspace() and not reading.heads(place, token):
            tokens[place] = _SEVERAL.get(token, token)
    body = re.sub(r"\(set-(?:info|logic) [^()]*\)", "", "".join(tokens))
    lines = [line.rstrip() for line in body.splitlines() if line.strip()]
    head = (
        "(set-info :smt-lib-version 2.6)",
        f"(set-logic {reading.logic})",
        f"(set-info :status {status})",
    )
    return "\n".join((*head, *lines)) + "\n"


def logic_of(script: str) -> str:
    """The logic that a script says it is in, if it is one that is written here, else nothing."""
    found = _LOGIC.search(script)
    return found[1] if found else ""


def has_powers(text: str) -> bool:
    """Does what Z3 wrote hold a power or a root, which the standard has no word for?"""
    return "(^ " in text


def without_powers(terms: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """The terms with integer powers as products and square roots as variables of their own, and
    what is known of these: r ≥ 0 and r² = x, if x ≥ 0, for the root r of x.

    Other powers stay as they are.
    """
    replaced: list[tuple[Any, Any]] = []
    known: list[Any] = []
    for power in _powers(terms):
        base, exponent = power.children()
        base = z3.substitute(base, *replaced)
        if exponent.as_fraction() == Fraction(1, 2):
            root = z3.Real(f"sqrt!{len(known)}", base.ctx)
            known.append(z3.Implies(base >= 0, z3.And(root >= 0, root * root == base)))
            replaced.append((power, root))
        else:
            replaced.append((power, prod([base] * exponent.as_long())))
    return [z3.substitute(term, *replaced) for term in terms], known


def _powers(terms: Sequence[Any]) -> list[Any]:
    """Roots and small positive powers, each once, inner ones before those around them."""
    found: list[Any] = []
    seen: set[int] = set()
    waiting = [(term, False) for term in reversed(terms)]
    while waiting:
        term, done = waiting.pop()
        if done:
            found.append(term)
        elif term.get_id() not in seen:
            seen.add(term.get_id())
            if z3.is_app_of(term, z3.Z3_OP_POWER) and _is_plain(term.arg(1)):
                waiting.append((term, True))
            waiting += [(child, False) for child in reversed(term.children())]
    return found


def _is_plain(exponent: Any) -> bool:
    if not z3.is_rational_value(exponent):
        return False
    value: Fraction = exponent.as_fraction()
    return value == Fraction(1, 2) or (value.denominator == 1 and 1 <= value <= _LARGEST_POWER)
