"""Putting a query to Z3: the only place where a solver is asked anything.

A query is hypotheses and a goal. Z3 gets the SMT-LIB 2 text of `hypotheses ∧ ¬goal`, in a fresh
context with fixed seeds, so that what is dumped is what was asked. `unsat` proves the goal only if
the hypotheses by themselves can hold at all, a second question, put to Z3 after the first.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Any, TypeAlias

import z3

from encoders.arithmetic import fp_theory
from refine.common.visible import visible
from refine.proof.smtlib import has_powers, logic_of, standard_script, without_powers
from refine.results.obligation import Discharger, Kind, Obligation, Outcome

Formula: TypeAlias = Any
"""A Boolean term (z3.BoolRef) of Z3's default context."""
Term: TypeAlias = Any
"""A real or FP term of the default context."""
Value: TypeAlias = Fraction | float | bool | str
"""A model's value: numbers where they have an exact Python form, text otherwise."""

SOLVER_VERSION = z3.get_full_version()

_NOTHING: Mapping[str, Value] = MappingProxyType({})


@dataclass(frozen=True)
class Fact:
    """A formula and how a person reads it."""

    text: str
    formula: Formula


@dataclass(frozen=True)
class Query:
    """Do the hypotheses imply the goal? `timeout` is in seconds, for each question to Z3.

    `steps` are to follow from the hypotheses as the goal is, and are put before it in the one
    conjunction that is to be proved: once seen to hold they help a solver to the goal.

    `rlimit` bounds Z3's own count of steps instead of, or along with, the clock: the same answer
    on every machine. 0 means no such limit. `places` says which variables stand for elements of
    tensors, by tensor and flat position.
    """

    name: str
    kind: Kind
    hypotheses: tuple[Fact, ...]
    goal: Fact
    node: str = ""
    timeout: float = 10.0
    rlimit: int = 0
    logic: str = "ALL"
    steps: tuple[Fact, ...] = ()
    places: Mapping[str, tuple[str, int]] = field(default_factory=dict)

    @cached_property
    def scripts(self) -> tuple[str, str]:
        """Whether hypotheses and negated goal can hold together, and whether the hypotheses can."""
        shown = [*(s.formula for s in self.steps), self.goal.formula]
        goal = z3.And(*shown) if self.steps else self.goal.formula
        terms = [*(h.formula for h in self.hypotheses), z3.Not(goal)]
        return _in_fresh_context(_Stated(_written(terms), terms))

    @cached_property
    def script(self) -> str:
        """What `smt2_text` gives."""
        body, _ = self.scripts
        lines = [f"{self.kind.value} {self.name}" + (f" at {self.node}" if self.node else "")]
        lines += [f"assume {h.text}" for h in self.hypotheses]
        lines += [f"by {s.text}" for s in self.steps]
        lines += [f"show {self.goal.text}"]
        return "".join(f"; {visible(' '.join(line.split()))}\n" for line in lines) + body


@dataclass(frozen=True)
class Answer:
    """What Z3 made of a query. `model` is filled for REFUTED only; `smt2` is what Z3 read."""

    outcome: Outcome
    seconds: float
    detail: str
    model: Mapping[str, Value]
    smt2: str


def smt2_text(query: Query) -> str:
    """The query as an SMT-LIB 2 script; it is proved if a solver answers `unsat`.

    One assertion for each hypothesis, in order, and last the negation of the conjunction of all
    steps and the goal. The same query gives
    the same text in every process. Names of variables may not contain `|` or a backslash.
    """
    return query.script


def solve(query: Query) -> Answer:
    """Ask Z3 for a counterexample, then, if there is none, whether the hypotheses can hold.

    If that second question stays open the implication is true but may be empty: UNDECIDED.
    """
    start = time.perf_counter()
    smt2 = smt2_text(query)

    def answer(outcome: Outcome, detail: str = "", model: Mapping[str, Value] = _NOTHING) -> Answer:
        return Answer(outcome, time.perf_counter() - start, detail, model, smt2)

    context = z3.Context()
    verdict, text, model = _check(smt2, query, context)
    if verdict == z3.sat:
        return answer(Outcome.REFUTED, text, model)
    if verdict != z3.unsat:
        return answer(Outcome.UNDECIDED, f"Z3: {text}")
    if not query.hypotheses:
        return answer(Outcome.DISCHARGED)
    verdict, text, _ = _check(hypotheses_text(query), query, context)
    if verdict == z3.sat:
        return answer(Outcome.DISCHARGED)
    if verdict == z3.unsat:
        return answer(Outcome.VACUOUS, "the hypotheses contradict each other")
    why = f"the goal follows, but Z3 could not show that the hypotheses can hold: {text}"
    return answer(Outcome.UNDECIDED, why)


def discharge(query: Query) -> Obligation:
    """Put the query to Z3 and record what came of it."""
    answer = solve(query)
    known = {n: v for n, v in answer.model.items() if n in query.places}
    return Obligation(
        query.name,
        query.kind,
        goal=query.goal.text,
        outcome=answer.outcome,
        discharger=Discharger.NONE if answer.outcome is Outcome.UNDECIDED else Discharger.Z3,
        seconds=answer.seconds,
        node=query.node,
        hypotheses=tuple(h.text for h in query.hypotheses),
        detail=answer.detail,
        smt2=answer.smt2,
        smt2_hypotheses=hypotheses_text(query),
        point={query.places[n]: v for n, v in known.items() if isinstance(v, float)},
    )


def answer_to(script: str, seconds: float) -> tuple[str, str]:
    """Z3's answer to a script that stands alone: sat, unsat or unknown, and why it is unknown.

    Raises z3.Z3Exception for a script that Z3 does not read.
    """
    context, logic = z3.Context(), logic_of(script)
    solver = z3.SolverFor(logic, context) if logic else z3.Solver(ctx=context)
    solver.set("timeout", max(1, round(seconds * 1000)))
    solver.from_string(script)
    verdict = solver.check()
    return str(verdict), solver.reason_unknown() if verdict == z3.unknown else ""


def hypotheses_text(query: Query) -> str:
    """The question whether the hypotheses can hold, as a script; empty if there are none."""
    _, text = query.scripts
    return text


@dataclass(frozen=True)
class _Stated:
    """Formulas, and a script of them in their own context: equal scripts mean equal formulas."""

    script: str
    formulas: list[Formula] = field(compare=False)


@lru_cache(maxsize=1024)
def _in_fresh_context(stated: _Stated) -> tuple[str, str]:
    # Z3 names shared subterms by their age in the context; a fresh one gives the same text always.
    context = z3.Context()
    terms = [formula.translate(context) for formula in stated.formulas]
    refuting = _standard("unsat", terms)
    return refuting, "" if len(terms) == 1 else _standard("sat", terms[:-1])


def _standard(status: str, terms: list[Formula]) -> str:
    text = _written(terms)
    if has_powers(text):
        stated, known = without_powers(terms)
        text = _written([*known, *stated])
    return standard_script(status, text)


def _written(terms: list[Formula]) -> str:
    assumptions = (z3.Ast * (len(terms) - 1))(*(t.as_ast() for t in terms[:-1]))
    text: str = z3.Z3_benchmark_to_smtlib_string(
        terms[-1].ctx.ref(),
        "",
        "",
        "",
        "",
        len(assumptions),
        assumptions,
        terms[-1].as_ast(),
    )
    return text


def _check(script: str, query: Query, context: z3.Context) -> tuple[Any, str, Mapping[str, Value]]:
    solver = z3.Solver(ctx=context) if query.logic == "ALL" else z3.SolverFor(query.logic, context)
    solver.set("timeout", max(1, round(query.timeout * 1000)))
    solver.set("rlimit", query.rlimit)
    solver.set("random_seed", 0)
    solver.from_string(script)
    try:
        verdict = solver.check()
    except z3.Z3Exception as error:
        return z3.unknown, str(error), {}
    if verdict == z3.unknown:
        reason = solver.reason_unknown()
        if "interrupted" in reason:  # Z3 takes Ctrl-C for itself
            raise KeyboardInterrupt
        return verdict, reason, {}
    if verdict == z3.unsat:
        return verdict, "", {}
    model = solver.model()
    constants = sorted((d for d in model.decls() if d.arity() == 0), key=lambda d: str(d.name()))
    values = {str(d.name()): _value(model[d]) for d in constants}
    return verdict, ", ".join(f"{n} = {_show(v)}" for n, v in values.items()), values


def _value(term: Any) -> Value:
    if z3.is_fp_value(term):
        return fp_theory.model_value(term)
    if z3.is_rational_value(term):
        return Fraction(term.numerator_as_long(), term.denominator_as_long())
    if z3.is_true(term) or z3.is_false(term):
        return bool(z3.is_true(term))
    return str(term)


def _show(value: Value) -> str:
    return value.hex() if isinstance(value, float) else str(value)
