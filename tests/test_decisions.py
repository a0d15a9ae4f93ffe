"""What a proof and a search decide together, case by case, and the bound of a domain in parts."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from given_radii import off_by

from encoders.numbers.enclosure import Interval
from refine.bounds.network import InputBox, Known
from refine.claims.decision import decide, proved_bounds, settled
from refine.claims.hunting import NOTHING, Catch
from refine.proof.input_splitting import Part
from refine.proof.proof import Covered, Proof, within
from refine.results.obligation import Discharger, Kind, Obligation, Outcome
from refine.results.theorem import Theorem, theorem
from refine.results.verdict import (
    ErrorEnclosure,
    Execution,
    RealValue,
    Refusal,
    Tolerance,
    Verdict,
    Witness,
)
from refine.scalar.branch_and_bound import Largest

OPEN = Obligation(
    "no-overflow", Kind.INSTANCE, "it stays finite", Outcome.REFUTED, Discharger.ENCLOSURE, 0.0
)
EPSILON = 0.25


def box(lo: float, hi: float) -> InputBox:
    return InputBox({"x": Interval(np.array([lo]), np.array([hi]))}, {"x": np.zeros(1)})


def part(failure: Obligation | None = None, **errors: Any) -> Part:
    radii = {k: off_by(np.asarray(v)) for k, v in errors.items()}
    return Part(box(0, 1), radii, {}, Known({}, {}), failure)


def covered(*parts: Part, scalar: Largest | None = None) -> Covered:
    """A box in as many slices as there are parts."""
    whole: Any = SimpleNamespace()
    slices = tuple(replace(p, box=box(i, i + 1)) for i, p in enumerate(parts))
    return Covered(box(0, len(parts)), whole, slices, scalar)


def proof_of(*numbers: float) -> Proof:
    """A proof of one box whose output y has these bounds; z is fine."""
    return Proof((covered(part(y=np.array(numbers), z=np.array([0.0]))),), late=False)


def witness(error: Fraction, finite: bool = True) -> Witness:
    enclosure = ErrorEnclosure(error, error, finite)
    some: Any = None
    zero = RealValue(Fraction(0), Fraction(0))
    return Witness({}, {}, some, "y", (0,), float(error), zero, enclosure)


def verdict(proof: Proof, epsilon: float | None, **others: Any) -> Verdict:
    tolerance = Tolerance(None if epsilon is None else Fraction(epsilon))
    facts = {"unproved": None, "catch": NOTHING, "timed_out": False, **others}
    return decide(proof, tolerance, **facts).verdict


ABOVE = float(np.nextafter(EPSILON, 1.0))


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("failing", [False, True])
@pytest.mark.parametrize(
    "bounds", [(0.1, 0.25), (0.25, ABOVE), (0.0, np.inf), (np.nan, 0.0), (0.0,)]
)
def test_verified_says_that_every_bound_is_at_most_epsilon(
    bounds: tuple[float, ...], failing: bool, late: bool
) -> None:
    proof, facts = proof_of(*bounds), {"unproved": OPEN if failing else None, "timed_out": late}
    held = all(b <= EPSILON for b in bounds) and not failing
    assert verdict(proof, EPSILON, **facts) is (Verdict.VERIFIED if held else Verdict.UNKNOWN)
    finite = all(np.isfinite(bounds)) and not failing and not late
    assert verdict(proof, None, **facts) is (Verdict.VERIFIED if finite else Verdict.UNKNOWN)
    reached = held or (all(b == 0 for b in bounds) and not failing)
    if not failing:
        assert settled(proof, Tolerance(Fraction(EPSILON))) is reached


def test_a_failing_part_is_never_settled() -> None:
    parts = (part(y=np.zeros(1)), part(OPEN, y=np.zeros(1)))
    for order in (parts, parts[::-1]):
        proof = Proof((covered(part(y=np.zeros(1))), covered(*order)), late=False)
        assert not settled(proof, Tolerance(Fraction(1)))


def test_what_was_found_is_no_less_than_the_counterexample_shown() -> None:
    """One that was simplified may have a larger error than what it was made of."""
    searched = (witness(Fraction(1, 4)), witness(Fraction(1, 8)))
    for shown, largest in ((Fraction(1, 2), 0.5), (Fraction(1, 8), 0.25)):
        assert Catch(witness(shown), searched, late=False).largest == largest


def test_a_violation_is_one_whatever_the_bound_is_not() -> None:
    caught = Catch(witness(Fraction(1, 2)), (), late=False)
    for unproved, late in itertools.product((None, OPEN), (False, True)):
        facts = {"catch": caught, "unproved": unproved, "timed_out": late}
        assert verdict(proof_of(0.6), EPSILON, **facts) is Verdict.VIOLATED


def test_an_error_above_a_proved_bound_is_a_contradiction() -> None:
    error = Fraction(0.1) + Fraction(1, 2**80)
    for catch in (Catch(None, (witness(error),), False), Catch(witness(error), (), False)):
        assert verdict(proof_of(0.1), 1.0, catch=catch) is Verdict.CONTRADICTION
        assert verdict(proof_of(0.1), 1.0, catch=catch, unproved=OPEN) is not Verdict.CONTRADICTION
    same = Catch(None, (witness(Fraction(0.1)),), False)
    assert verdict(proof_of(0.1), 1.0, catch=same) is Verdict.VERIFIED
    infinite = Catch(None, (witness(Fraction(0), finite=False),), False)
    assert verdict(proof_of(0.1), 1.0, catch=infinite) is Verdict.CONTRADICTION


def test_bounds_are_compared_with_epsilon_exactly() -> None:
    third = Tolerance(Fraction(1, 3))
    below = float(np.nextafter(float(Fraction(1, 3)), 0.0))
    up = below if Fraction(below) > Fraction(1, 3) else float(np.nextafter(below, 1.0))
    assert within({"y": np.array([below, 0.0])}, third) is (Fraction(below) <= Fraction(1, 3))
    over = float(np.nextafter(up, 1.0))
    assert not within({"y": np.array([0.0, over])}, third)
    assert not within({"y": np.array([0.0]), "z": np.array([over])}, third)
    assert not within({"y": np.array([-1.0])}, third)
    assert not within({"y": np.array([0.0])}, Tolerance(by_output={"z": Fraction(1)}))
    assert within({"y": np.array([0.3])}, Tolerance(Fraction(0), {"y": Fraction(1, 2)}))
    assert not within({"y": np.array([0.3])}, Tolerance(Fraction(1), {"y": Fraction(1, 4)}))
    assert within({"y": np.zeros((0, 3))}, third)


def test_the_bound_of_a_domain_is_the_largest_of_its_parts() -> None:
    one = covered(part(y=np.array([1.0, 5.0])), part(y=np.array([3.0, 2.0])))
    other = covered(part(y=np.array([0.5, 7.0])))
    assert Proof((one, other), late=False).bounds["y"].tolist() == [3.0, 7.0]
    assert Proof((other, one), late=False).parts == 3
    both = covered(part(y=np.array([1.0, 5.0])), scalar=Largest(2.0, 4, frozenset({"a"})))
    assert both.errors["y"].tolist() == [1.0, 2.0]
    assert Proof((one, both), late=False).parts == 6
    for wrong in (-1.0, np.nan):
        bad = Largest(wrong, 1, frozenset())
        assert covered(part(y=np.array([1.0])), scalar=bad).errors["y"].tolist() == [1.0]


def test_nothing_is_verified_without_a_theorem() -> None:
    proof = proof_of(0.1, 0.2)
    shown = theorem(proof.radii, {"y": Fraction(1, 4), "z": Fraction(0)})
    assert shown is not None
    assert shown.shows(proof.bounds, {"y": Fraction(1, 4), "z": Fraction(0)})
    assert not shown.shows(proof.bounds, {"y": Fraction(1, 5), "z": Fraction(0)})
    assert not shown.shows({"y": np.array([0.1, 0.1])})
    assert not shown.shows({"w": np.zeros(1)})
    assert theorem(proof.radii, {"y": Fraction(1, 5), "z": Fraction(0)}) is None  # 0.2 is above
    assert theorem(proof.radii, {"y": Fraction(1)}) is None
    assert theorem(proof_of(np.inf).radii, None) is None
    with pytest.raises(ValueError, match="nothing is proved"):
        Theorem(proof_of(np.inf).radii, {})
    with pytest.raises(ValueError, match="nothing is proved"):
        Theorem({}, {})
    with pytest.raises(ValueError, match="no bound of output"):
        Theorem(proof_of(0.2).radii, shown.within)
    with pytest.raises(ValueError, match="not shown"):
        Theorem(proof.radii, proof.radii)


def test_parts_that_leave_a_gap_prove_nothing() -> None:
    one = covered(part(y=np.zeros(1)), part(y=np.zeros(1)))
    apart = (one.parts[0], replace(one.parts[1], box=box(1 + 2.0**-52, 2)))
    assert one.errors["y"].tolist() == [0.0]
    assert replace(one, parts=apart).errors["y"].tolist() == [np.inf]


def test_nothing_is_proved_while_an_obligation_is_open() -> None:
    proof = proof_of(0.1, 0.2)
    assert proved_bounds(proof, None)["y"].tolist() == [0.1, 0.2]
    assert np.all(np.isinf(proved_bounds(proof, OPEN)["y"]))
    assert np.all(np.isinf(proved_bounds(proof, OPEN)["z"]))


def test_a_proof_is_finite_where_every_bound_is() -> None:
    assert proof_of(1.0, 2.0).finite
    assert not proof_of(1.0, np.inf).finite
    assert not Proof((covered(part(y=np.zeros(1), z=np.array([np.inf]))),), late=False).finite


def test_a_runtime_confirms_what_is_above_epsilon_or_not_finite() -> None:
    half = Fraction(1, 2)
    above = ErrorEnclosure(half + Fraction(1, 2**90), Fraction(1))
    for error, confirmed in (
        (above, True),
        (ErrorEnclosure(half, Fraction(1)), False),
        (ErrorEnclosure(Fraction(0), Fraction(0), finite=False), True),
    ):
        assert Execution("some runtime", 0.0, error).confirms(half) is confirmed
    assert not Refusal("some runtime", "it is not installed").confirms(half)
