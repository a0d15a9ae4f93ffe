"""The lemma library: every lemma is proved, and no mutant of one is.

A mutant changes one hypothesis or the goal of a lemma, in a way that makes it false.
"""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import z3

from encoders.arithmetic import fp_theory as fp
from encoders.numbers.formats import small_format
from refine.lemmas import cache, format_lemmas, reading
from refine.lemmas.exact_operations import sterbenz
from refine.lemmas.lemma import magnitude, reals, within
from refine.lemmas.library import dump_smt2, library, prove_library
from refine.lemmas.rounded import rounded_product, rounded_sum
from refine.proof.z3_solver import Fact, Query, discharge, smt2_text, solve
from refine.results.obligation import Discharger, Kind, Obligation, Outcome

STEPS = 2_000_000  # ten times what the costliest schema lemma needs: a tenth of a second
E3P3 = small_format(3, 3)

schemas = [lemma.name for lemma in library((Kind.SCHEMA,))]
formats = [lemma.name for lemma in library((Kind.FORMAT,))]


def query_of(name: str) -> Query:
    (lemma,) = (m for m in library() if m.name == name)
    return lemma.query(timeout=300.0, rlimit=STEPS if lemma.kind is Kind.SCHEMA else 0)


def ask(*hypotheses: Any, goal: Any, timeout: float = 10.0) -> Obligation:
    facts = tuple(Fact(str(h), h) for h in hypotheses)
    return discharge(Query("test", Kind.SCHEMA, facts, Fact(str(goal), goal), timeout=timeout))


# --- every lemma is proved ------------------------------------------------------------------------


@pytest.mark.parametrize("name", schemas)
def test_schema_lemma(name: str) -> None:
    obligation = discharge(query_of(name))
    assert obligation.outcome is Outcome.DISCHARGED, obligation.detail
    assert obligation.discharger is Discharger.Z3


@pytest.mark.parametrize("name", formats)
def test_format_lemma(name: str) -> None:
    obligation = discharge(query_of(name))
    assert obligation.outcome is Outcome.DISCHARGED, obligation.detail


def test_library_is_well_formed() -> None:
    names = [lemma.name for lemma in library()]
    assert len(set(names)) == len(names)
    assert all(lemma.statement and lemma.source for lemma in library())
    promised = {
        "sum-any-order", "sum-any-order-relative", "dot-product", "fma-node", "sequential-step",
        "power-step", "jeannerod-rump-step", "underflow-term", "relu-difference",
        "relu-relaxation", "mean-value-step", "affine-difference", "composition",
        "stored-coefficients", "product-difference", "quotient-difference", "flush",
        "domain-split", "violation", "batch-norm-fold", "rounding-model",
    }  # fmt: skip
    assert promised <= set(schemas)


def test_no_lemma_leaves_floating_point_for_the_reals() -> None:
    assert not any("fp.to_real" in smt2_text(lemma.query()) for lemma in library())


# --- no mutant is ---------------------------------------------------------------------------------

a, a_hat, b, b_hat, fl = reals("a a_hat b b_hat fl")
T, E, M, P, A, B, S, R = reals("T E M P A B S R")
i, j, m, n, q, e, h, u, v, r, z = reals("i j m n q e h u v r z")
pa, pb, p, pi, lost, tiny = reals("pa pb p pi lost lambda")
d, d_out, c, s_lo, s_hi, rho, x, lo, hi, s, t, s_hat = reals(
    "d d_out c s_lo s_hi rho x lo hi s t s_hat"
)

GOALS: dict[str, tuple[str, Any]] = {
    "rounding-model: propagated error dropped": ("rounding-model", within(fl - s, r)),
    "sum-any-order: i+j instead of i+j+1": (
        "sum-any-order",
        within(fl - (a + b), pa + pb + (i + j) * q),
    ),
    "sum-any-order: errors of the terms dropped": (
        "sum-any-order",
        within(fl - (a + b), (i + j + 1) * q),
    ),
    "sum-any-order: lost operands dropped": (
        "sum-any-order",
        within(fl - (a + b), pa + pb + (i + j + 1) * r),
    ),
    "sum-any-order-relative: half the unit roundoff": (
        "sum-any-order-relative",
        within(fl - (a + b), pa + pb + (i + j + 1) * q / 2),
    ),
    "fma-node: i instead of i+1": (
        "fma-node",
        within(fl - sum(reals("x c")), sum(reals("pc px")) + i * q),
    ),
    "sequential-step: product's error dropped": (
        "sequential-step",
        within(fl - (s + t), e + h),
    ),
    "sequential-step: own rounding dropped": ("sequential-step", within(fl - (s + t), e + pi)),
    "power-step: exponent does not grow": ("power-step", within(fl - (a + b), (P - 1) * (A + B))),
    "jeannerod-rump-step: one addition too few": (
        "jeannerod-rump-step",
        within(fl - (a + b), (m + n) * u * (S + R)),
    ),
    "jeannerod-rump-bound: one cross term dropped": (
        "jeannerod-rump-bound",
        d <= u * (S + R) + m * u * R,
    ),
    "underflow-term: underflow dropped": (
        "underflow-term",
        within(z * reals("delta")[0] + reals("eta")[0], v * magnitude(z)),
    ),
    "flush: flushed error dropped": ("flush", within(fl - z, r)),
    "flush-operand-sum: one operand only": (
        "flush-operand-sum",
        within(a_hat + b_hat - (a + b), tiny),
    ),
    "mean-value-step: no charge for the spread of slopes": (
        "mean-value-step",
        c * d_out <= c * m * d,
    ),
    "mean-value-step: charge without |c|": (
        "mean-value-step",
        c * d_out <= c * m * d + c * rho * e,
    ),
    "relu-relaxation: chord without offset": (
        "relu-relaxation",
        z3.If(x >= 0, x, z3.RealVal(0)) <= s * x,
    ),
    "product-difference: second-order term dropped": (
        "product-difference",
        (x + d) * (s + t) - x * s == x * t + s * d,
    ),
    "composition: loss of the node dropped": (
        "composition",
        reals("out")[0] + c * reals("eta")[0] <= r + reals("r_in")[0],
    ),
    "batch-norm-fold: scale not applied to the mean": (
        "batch-norm-fold",
        (x - m) / r * s + t == x * (s / r) + (t - m),
    ),
}


@pytest.mark.parametrize("mutant", GOALS)
def test_mutated_goal_is_not_proved(mutant: str) -> None:
    name, formula = GOALS[mutant]
    query = replace(query_of(name), goal=Fact(mutant, formula))
    outcome = solve(query).outcome
    assert outcome in (Outcome.REFUTED, Outcome.UNDECIDED)


DROPPED = [
    (lemma.name, position)
    for lemma in library((Kind.SCHEMA,))
    for position, hypothesis in enumerate(lemma.query().hypotheses)
]
SIGNS = {(lemma.name, 0) for lemma in reading.LEMMAS}  # checked on the numbers, needed or not
IDLE = SIGNS | {
    ("secant-step", 0),  # signs that follow from the rest, written down for people
    ("any-order-linear", 2),  # what the inductive steps ask for
    ("computed-term", 2),  # n·u < 1 follows from n·u·(1 + g) ≤ g
    ("range-around", 2),
    ("range-around", 3),  # over the reals nothing overflows
    ("hinge", 2),
    ("hinge", 3),  # what the secants ask for that it rests on
    ("hinge", 7),  # follows from 3, which cvc5 is slow to see
}


@pytest.mark.parametrize(("name", "position"), [d for d in DROPPED if d not in IDLE])
def test_no_hypothesis_is_idle(name: str, position: int) -> None:
    query = query_of(name)
    rest = query.hypotheses[:position] + query.hypotheses[position + 1 :]
    outcome = solve(replace(query, hypotheses=rest)).outcome
    assert outcome in (Outcome.REFUTED, Outcome.UNDECIDED), query.hypotheses[position].text


def relative_if_result_is_normal() -> Query:
    """The classic mistake: the hypothesis on the rounded result instead of the exact one."""
    product = rounded_product(E3P3)
    smallest = fp.constant(E3P3.smallest_normal, E3P3)
    normal = fp.less_equal(smallest, fp.absolute(product.computed))
    facts = (*product.in_range, Fact("|fl(z)| ≥ 2^emin", normal))
    goal = Fact("|fl(z) − z| ≤ u/(1+u)·|z|", product.relative(product.error))
    return Query("mutant", Kind.FORMAT, facts, goal, timeout=30.0, logic="QF_FP")


def format_mutants() -> dict[str, Query]:
    total, product = rounded_sum(E3P3), rounded_product(E3P3)
    half_roundoff = fp.constant(Fraction(2) ** (E3P3.precision + 1), total.frame.wide)
    quarter_ulp = E3P3.smallest_subnormal / 4
    goals = {
        "sum: half the unit roundoff": (
            total,
            fp.less_equal(fp.multiply(total.error, half_roundoff), total.size),
        ),
        "sum: always exact": (total, fp.is_zero(total.error)),
        "product: η dropped": (product, product.relative(product.error)),
        "product: half of η": (
            product,
            z3.If(
                product.is_normal(),
                product.relative(product.error),
                product.at_most(product.error, quarter_ulp),
            ),
        ),
        "product: error below both operands": (
            product,
            fp.less_equal(product.error, fp.absolute(product.frame.widen(product.operands[0]))),
        ),
        "flush: η as without flushing": (
            product,
            z3.If(
                product.is_normal(),
                product.relative(product.error_of(fp.flush(product.computed))),
                product.at_most(
                    product.error_of(fp.flush(product.computed)), E3P3.smallest_subnormal / 2
                ),
            ),
        ),
    }
    mutants = {
        text: Query(
            "mutant", Kind.FORMAT, r.in_range, Fact(text, goal), timeout=30.0, logic="QF_FP"
        )
        for text, (r, goal) in goals.items()
    }
    no_limit = format_lemmas.rounding_sum(total)
    mutants["sum: overflow allowed"] = Query(
        "mutant", Kind.FORMAT, no_limit.hypotheses[:1], no_limit.goal, timeout=30.0, logic="QF_FP"
    )
    far = sterbenz(E3P3)
    mutants["sterbenz: any operands"] = Query(
        "mutant", Kind.FORMAT, far.hypotheses[:1], far.goal, timeout=30.0, logic="QF_FP"
    )
    mutants["product: relative bound if the *rounded* result is normal"] = (
        relative_if_result_is_normal()
    )
    return mutants


FORMAT_MUTANTS = format_mutants()


@pytest.mark.parametrize("mutant", FORMAT_MUTANTS)
def test_mutated_format_lemma_is_refuted(mutant: str) -> None:
    answer = solve(FORMAT_MUTANTS[mutant])
    assert answer.outcome is Outcome.REFUTED
    assert answer.model


def test_counterexample_just_below_the_normal_range() -> None:
    """Where the mistake shows: z just under 2^emin rounds up to 2^emin."""
    model = solve(relative_if_result_is_normal()).model
    product = abs(Fraction(model["x"]) * Fraction(model["y"]))
    assert product < E3P3.smallest_normal
    assert product >= E3P3.smallest_normal - E3P3.smallest_subnormal / 2


# --- the solver's answers -------------------------------------------------------------------------


def test_refutation_carries_an_exact_model() -> None:
    obligation = ask(3 * x == 1, goal=x > 1)
    assert obligation.outcome is Outcome.REFUTED
    assert obligation.detail == "x = 1/3"
    f = fp.variable("f", small_format(5, 11))
    zero = fp.constant(-0.0, small_format(5, 11))
    assert ask(fp.same(f, zero), goal=fp.is_nan(f)).detail == "f = -0x0.0p+0"


def test_contradictory_hypotheses_are_vacuous() -> None:
    obligation = ask(x > 1, x < 0, goal=x == 7)
    assert obligation.outcome is Outcome.VACUOUS
    assert not obligation.discharged


def test_vacuity_that_stays_open_is_not_a_proof() -> None:
    """Whether 114 is a sum of three cubes is not known, to Z3 or to anyone."""
    cubes = sum(o * o * o for o in z3.Ints("x1 x2 x3")) == 114
    obligation = ask(cubes, d > 0, goal=d >= 0, timeout=2.0)
    assert obligation.outcome is Outcome.UNDECIDED
    assert "the goal follows" in obligation.detail
    assert obligation.discharger is Discharger.NONE


def test_limits_leave_a_query_undecided() -> None:
    query = query_of("rounding-product[e3p4]")
    assert discharge(replace(query, rlimit=1000)).outcome is Outcome.UNDECIDED
    assert discharge(replace(query, timeout=0.01)).outcome is Outcome.UNDECIDED


def test_goal_without_hypotheses() -> None:
    assert ask(goal=x * x >= 0).discharged
    assert ask(goal=x * x > 0).outcome is Outcome.REFUTED


# --- SMT-LIB --------------------------------------------------------------------------------------


def test_dump_is_read_back_and_unsatisfiable(tmp_path: Path) -> None:
    obligations = prove_library((Kind.SCHEMA,), cache=cache.default_directory())
    (node,) = [replace(o, node="a/b c") for o in obligations[:1]]
    paths = dump_smt2([*obligations, node, replace(node, smt2="")], tmp_path)
    queries = [p for p in paths if not p.name.endswith(".hypotheses.smt2")]
    assert len(set(queries)) == len(obligations) + 1
    assert len(set(paths)) > len(queries) + len(obligations) // 2
    for path in paths:
        text = path.read_text(encoding="utf-8")
        expected = "unsat" if path in queries else "sat"
        assert f"(set-info :status {expected})" in text
        assert "(set-logic " in text
        solver = z3.SolverFor("QF_NRA")
        solver.add(z3.parse_smt2_string(text))
        assert str(solver.check()) == expected, path


def test_dump_of_a_format_lemma_is_unsatisfiable() -> None:
    text = smt2_text(query_of("sterbenz[e3p3]"))
    solver = z3.Solver()
    solver.add(z3.parse_smt2_string(text))
    assert solver.check() == z3.unsat


def test_text_depends_on_the_query_alone() -> None:
    before = smt2_text(query_of("power-step"))
    for number in range(100):
        z3.Real(f"clutter{number}")
    assert smt2_text(query_of("power-step")) == before


def test_text_tells_hypotheses_from_goal() -> None:
    """The split decides what is vacuous, so the cache must see it."""
    one = Query("q", Kind.SCHEMA, (Fact("h", x > 0),), Fact("g", z3.Not(x < 1)))
    other = Query(
        "q", Kind.SCHEMA, (Fact("h", x > 0), Fact("k", x < 1)), Fact("g", z3.BoolVal(False))
    )
    assert smt2_text(one) != smt2_text(other)


# --- the cache ------------------------------------------------------------------------------------


def test_second_proof_comes_from_the_cache(tmp_path: Path) -> None:
    query = query_of("composition")
    first = cache.discharge_cached(query, tmp_path / "new" / "folder")
    second = cache.discharge_cached(query, tmp_path / "new" / "folder")
    assert (first.discharger, second.discharger) == (Discharger.Z3, Discharger.CACHE)
    assert second.discharged
    assert second == replace(first, discharger=Discharger.CACHE, seconds=second.seconds)
    assert not list((tmp_path / "new" / "folder").glob("*.tmp"))


def test_only_proofs_are_remembered(tmp_path: Path) -> None:
    false = replace(query_of("composition"), goal=Fact("false", z3.BoolVal(False)))
    assert cache.discharge_cached(false, tmp_path).outcome is Outcome.REFUTED
    assert not list(tmp_path.iterdir())


def test_tampered_file_is_not_believed_for_another_text(tmp_path: Path) -> None:
    true = query_of("composition")
    false = replace(true, goal=Fact("false", z3.BoolVal(False)))
    cache.discharge_cached(true, tmp_path)
    proof = cache.path_of(tmp_path, smt2_text(true)).read_text()
    cache.path_of(tmp_path, smt2_text(false)).write_text(proof)
    assert cache.discharge_cached(false, tmp_path).outcome is Outcome.REFUTED


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_corrupted_file_means_asking_again(tmp_path: Path, content: bytes) -> None:
    query = query_of("composition")
    path = cache.path_of(tmp_path, smt2_text(query))
    path.write_bytes(content)
    assert cache.discharge_cached(query, tmp_path).discharger is Discharger.Z3
    assert cache.discharge_cached(query, tmp_path).discharger is Discharger.CACHE


def test_other_solver_version_is_not_believed(tmp_path: Path) -> None:
    query = query_of("composition")
    cache.discharge_cached(query, tmp_path)
    path = cache.path_of(tmp_path, smt2_text(query))
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"solver": "Z3 1.0"}))
    assert cache.discharge_cached(query, tmp_path).discharger is Discharger.Z3


def test_unusable_directory_is_no_obstacle(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    for _ in range(2):
        obligation = cache.discharge_cached(query_of("composition"), blocked / "cache")
        assert obligation.discharger is Discharger.Z3


def test_library_in_parallel_and_cached(tmp_path: Path) -> None:
    first = prove_library((Kind.SCHEMA,), cache=tmp_path, processes=2)
    assert [o.name for o in first] == schemas
    assert all(o.discharged for o in first)
    second = prove_library((Kind.SCHEMA,), cache=tmp_path)
    assert {o.discharger for o in second} == {Discharger.CACHE}
