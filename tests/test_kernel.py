"""The kernel: lemmas read as arrays agree with exact arithmetic; nothing else makes a radius."""

from __future__ import annotations

import ast
import copy
import pickle
import re
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from given_radii import off_by
from hypothesis import given, settings
from hypothesis import strategies as st
from test_architecture import ROOT, files, tree_of

from encoders.lemmas import kernel
from encoders.lemmas.application import worst_of_each
from encoders.lemmas.combining import ERROR_SUM, EXACT
from encoders.lemmas.kernel import Radius, Rounding, apply, exactly_zero, nothing_known
from encoders.lemmas.lemma import Lemma
from encoders.lemmas.library import LEMMAS
from encoders.lemmas.ranges.placing import range_moved, stored_range
from encoders.lemmas.reading.arrays import Frame, Reading
from encoders.lemmas.reading.exact import Exact
from encoders.lemmas.rounding import ROUNDED
from encoders.lemmas.sums import ANY_ORDER_LINEAR, SUM_ANY_ORDER
from encoders.lemmas.terms import (
    AtMost,
    Below,
    Formula,
    Parameter,
    PowerOfTwo,
    Term,
    Whole,
    larger,
    magnitude,
    number,
    parameters,
    smaller,
    term,
    text,
)

every_lemma = pytest.mark.parametrize("lemma", LEMMAS, ids=lambda m: m.name)
NUMBERS = st.one_of(
    st.sampled_from([0.0, 1.0, 2.0, 0.5, 2.0**-24, 2.0**-126, 2.0**-1022, 1e-300, 3.0]),
    st.floats(0.0, 1e6),
    st.floats(0.0, 1.0),
    st.integers(0, 2**20).map(float),
)


def met(lemma: Lemma, numbers: dict[str, float]) -> dict[str, float]:
    """The numbers, changed so that hypotheses which ask for a large enough parameter get it, and
    others for smaller ones."""
    for formula in lemma.hypotheses:
        match formula:
            case AtMost(left, Parameter(name=name)):
                wanted = read(numbers).up(left)
                if numbers[name] < wanted < np.inf:
                    numbers = {**numbers, name: wanted}
            case PowerOfTwo(Parameter(name=name)):
                largest = max(v for v in numbers.values() if v < np.inf)
                numbers = {**numbers, name: 2.0 ** np.ceil(np.log2(max(largest, 1e-30)))}
            case AtMost(left, right) | Below(left, right):
                with np.errstate(all="ignore"):
                    holds = bool(read(numbers).surely(formula))
                smaller_ones = {p.name for p in parameters(left)} - {
                    p.name for p in parameters(right)
                }
                if not holds:
                    numbers = {**numbers, **dict.fromkeys(smaller_ones, 0.0)}
    return numbers


def checked_of(lemma: Lemma) -> list[Formula]:
    return [*(formula for _, formula in lemma.signs), *lemma.hypotheses]


class Arrays:
    """Terms and formulas read of these numbers: as one number each, and as elements of arrays."""

    def __init__(self, numbers: dict[str, float]) -> None:
        self.reading = Reading()
        self.one: Frame = {name: float(v) for name, v in numbers.items()}
        self.many: Frame = {name: np.full(2, v) for name, v in numbers.items()}

    def up(self, term: Term) -> float:
        """The least of what is claimed to be at least the term's value; NaN if all know nothing."""
        return float(np.fmin.reduce(self._read(self.reading.up(term))))

    def down(self, term: Term) -> float:
        return float(np.fmax.reduce(self._read(self.reading.down(term))))

    def surely(self, formula: Formula) -> bool:
        return any(self._read(self.reading.surely(formula)))

    def _read(self, end: Callable[[Frame], Any]) -> list[Any]:
        return [end(self.one), *np.broadcast_to(end(self.many), (2,))]


def read(numbers: dict[str, float]) -> Arrays:
    return Arrays(numbers)


def largest_near(lemma: Lemma, exact: Exact) -> Fraction | None:
    """The radius of these numbers or of ones a little larger, all or one, which differ where it
    hangs on what cancels, as 1/(1 − m·u) near m·u = 1; None where those do not meet the
    hypotheses."""
    whole = [f for f in lemma.hypotheses if isinstance(f, PowerOfTwo | Whole)]
    exactly = {p.name for p in parameters(*whole)}
    more = 1 + Fraction(1, 2**44)
    free = exact.given.keys() - exactly
    radii = [exact.of(lemma.radius)]
    for grown in (free, *({name} for name in free)):
        near = Exact({n: v * more if n in grown else v for n, v in exact.given.items()})
        if all(near.holds(f) for f in checked_of(lemma)):
            radii.append(near.of(lemma.radius))
        elif grown is free:
            return None
    return max(radii)


@every_lemma
def test_arrays_agree_with_exact_arithmetic(lemma: Lemma) -> None:
    """What arrays find to hold, holds; and the radius is enclosed."""
    seen = {"held": 0, "failed": 0}

    @settings(max_examples=60, deadline=None)
    @given(st.lists(NUMBERS, min_size=len(lemma.read), max_size=len(lemma.read)), st.booleans())
    def agree(drawn: list[float], mend: bool) -> None:
        numbers = dict(zip((p.name for p in lemma.read), drawn, strict=True))
        numbers = met(lemma, numbers) if mend else numbers
        arrays, exact = read(numbers), Exact({n: Fraction(v) for n, v in numbers.items()})
        with np.errstate(all="ignore"):
            holds = [bool(arrays.surely(f)) for f in checked_of(lemma)]
            low, high = float(arrays.down(lemma.radius)), float(arrays.up(lemma.radius))
        truly = [exact.holds(f) for f in checked_of(lemma)]
        assert all(t or not h for t, h in zip(truly, holds, strict=True))
        seen["held" if all(holds) else "failed"] += 1
        if all(holds):
            radius = exact.of(lemma.radius)
            assert np.isnan(low) or low == -np.inf or Fraction(low) <= radius
            assert high == np.inf or Fraction(high) >= radius >= 0
            if not lemma.step and high < np.inf and radius > Fraction(2) ** -900:
                most = largest_near(lemma, exact)
                assert most is None or Fraction(high) <= most * (1 + Fraction(1, 2**40))

    for _ in range(25):  # of some lemmas chance alone may meet no hypotheses in sixty draws
        agree()
        if seen["held"]:
            break
    assert seen["held"]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(allow_nan=False), min_size=3, max_size=3),
    st.sampled_from(["+", "-", "*", "/", "|", "min", "max"]),
)
def test_signed_terms_are_enclosed(drawn: list[float], operation: str) -> None:
    a, b, c = (number(name, signed=True) for name in "abc")
    made = {
        "+": (a + b) * c,
        "-": a - b * c,
        "*": (a - b) * (b - c),
        "/": (a - c) / number("b"),
        "|": magnitude(a * b - c),
        "min": smaller(a * b, c),
        "max": larger(a - c, b),
    }[operation]
    numbers = dict(zip("abc", drawn, strict=True))
    with np.errstate(all="ignore"):
        low, high = float(read(numbers).down(made)), float(read(numbers).up(made))
    if not np.all(np.isfinite(drawn)) or (operation == "/" and numbers["b"] <= 0):
        return
    value = Exact({n: Fraction(v) for n, v in numbers.items()}).of(made)
    assert np.isnan(low) or low == -np.inf or (low < np.inf and Fraction(low) <= value)
    assert np.isnan(high) or high == np.inf or (high > -np.inf and Fraction(high) >= value)


def test_a_product_that_rounds_up_to_the_normal_range_is_enclosed() -> None:
    made = number("a") * number("b")
    arrays = read({"a": 2.0**-1022, "b": 1.0 - 2.0**-53})
    assert arrays.down(made) < 2.0**-1022 <= arrays.up(made)


def test_a_sum_below_the_range_of_float64_is_enclosed() -> None:
    a, b = number("a", signed=True), number("b", signed=True)
    arrays = read({"a": -1.7e308, "b": -1.7e308})
    with np.errstate(all="ignore"):
        assert -np.inf < arrays.up(a + b) <= -1.7e308
        assert arrays.down(a + b) == -np.inf
        assert arrays.up(a - (term(0) - b)) > -np.inf


# --- application ----------------------------------------------------------------------------------


def rounded(size: Any, power: Any) -> Rounding:
    return apply(ROUNDED, M=np.asarray(size), P=power, u=2.0**-24, least=2.0**-126, tiny=0.0)


def in_any_order(terms: Any, error: Any, node: Rounding, **other: Any) -> Radius:
    numbers: dict[str, Any] = {
        "T": 1.0, "E": error, "m": terms, "r": node, "lost": 0.0, "p": off_by(np.zeros(()))
    }  # fmt: skip
    return apply(SUM_ANY_ORDER, **{**numbers, **other})


def test_a_hypothesis_that_fails_is_infinite_and_named() -> None:
    node = rounded(1.25, 1.0)
    good = in_any_order(100.0, 0.2, node)
    assert float(good.bound) == 100.0 * 2.0**-24 or float(good.bound) < 100.0 * 2.0**-23
    assert good.record.failed is None
    assert ROUNDED in [a.lemma for a in good.record.everything()]
    for change, name in (
        ({"E": 1e-9}, "π + m·(r + λ') ≤ E"),
        ({"E": 0.5}, "T + E ≤ reach(r)"),
        ({"m": -1.0}, "0 ≤ m"),
        ({"T": np.nan}, "0 ≤ T"),
    ):
        bad = in_any_order(100.0, 0.2, node, **change)
        assert float(bad.bound) == np.inf
        assert bad.record.failed is not None
        assert text(bad.record.failed) == name
    several = in_any_order(np.array([10.0, 1e9]), 0.2, node)
    assert np.isfinite(several.bound[0])
    assert several.bound[1] == np.inf


def test_a_sum_of_unit_roundoff_one_has_no_negative_bound() -> None:
    """2060 terms in float16, whose closed form divides by a negative number."""
    guess = -1.0
    assert float(in_any_order(2059.0, guess, rounded(1.25, 1.0)).bound) == np.inf
    linear = apply(
        ANY_ORDER_LINEAR, S=1.0, m=2059.0, u=2.0**-11, h=0.0, lost=0.0, p=exactly_zero(EXACT, ())
    )
    assert 1.0 < float(linear.bound) < 1.01


@pytest.mark.parametrize(("power", "size"), [(0.75, 0.8), (0.5, 1.5), (2.0**-130, 0.0)])
def test_half_an_ulp_needs_its_power_of_two(power: float, size: float) -> None:
    assert float(rounded(size, power).bound) == np.inf


def test_numbers_are_no_errors() -> None:
    node: Any = rounded(1.25, 1.0)
    with pytest.raises(TypeError, match="has to be a Rounding"):
        in_any_order(1.0, 0.2, off_by(np.zeros(())))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="has to be a Radius"):
        in_any_order(1.0, 0.2, node, p=np.zeros(()))
    with pytest.raises(TypeError, match="is no error"):
        in_any_order(node, 0.2, node)
    with pytest.raises(TypeError, match="other parameters"):
        apply(ERROR_SUM, e=node)
    with pytest.raises(TypeError, match="does not say that there is no error"):
        exactly_zero(ERROR_SUM, (2,))


def test_only_the_kernel_makes_a_radius() -> None:
    known: Any = Radius
    for attempt in (
        lambda: known(np.zeros(2)),
        lambda: known(object(), np.zeros(2), None),
        lambda: known(None, -np.ones(2), rounded(1.0, 1.0).record),
        lambda: Rounding(None, np.zeros(2), None, np.zeros(2)),  # type: ignore[arg-type]
        lambda: type("Mine", (Radius,), {}),
    ):
        with pytest.raises(TypeError):
            attempt()
    radius = rounded(np.array([1.0, 2.0]), np.array([1.0, 2.0]))
    with pytest.raises(ValueError, match="read-only"):
        radius.bound[0] = 0.0
    before = radius.bound.copy()
    with pytest.raises(ValueError, match="WRITEABLE"):
        radius.bound.flags.writeable = True
    for name in ("bound", "_bound", "_record"):
        with pytest.raises(AttributeError):
            setattr(radius, name, -np.ones(2))
        with pytest.raises(AttributeError):
            delattr(radius, name)
    np.testing.assert_array_equal(radius.bound, before)


def test_no_class_says_that_it_is_of_the_kernel() -> None:
    for parent in (Radius, Rounding):
        with pytest.raises(TypeError):
            type("Mine", (parent,), {"__module__": kernel.__name__})


def test_what_another_process_sends_is_a_radius() -> None:
    restore, (_, record) = rounded(1.0, 1.0).__reduce__()
    sent = restore(np.array([-1.0, np.nan, 1.0]), record)
    np.testing.assert_array_equal(sent.bound, [np.inf, np.inf, 1.0])


def test_what_is_given_may_change_later() -> None:
    held = np.array([1.0, 2.0])
    radius = off_by(held)
    least = radius.and_also(nothing_known((2,)))
    held[:] = -1.0
    np.testing.assert_array_equal(radius.bound, [1.0, 2.0])
    np.testing.assert_array_equal(least.bound, [1.0, 2.0])


@pytest.mark.parametrize("value", [-1.0, np.nan, -np.inf])
def test_no_radius_is_negative(value: float) -> None:
    made = off_by(np.array([1.0, value]))
    np.testing.assert_array_equal(made.bound, [1.0, np.inf])
    assert made.record.flawed == (value < 0)


def test_moving_makes_no_numbers() -> None:
    radius = off_by(np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(radius.moved(lambda v: v.T).bound, radius.bound.T)
    np.testing.assert_array_equal(radius.moved(lambda v: v[:, [2, 0]]).bound, [[2, 0], [5, 3]])
    for made in (
        lambda v: v * 0.5,
        lambda v: -v,
        lambda v: v + 100.0,
        lambda v: np.ones(2),
        lambda v: np.full(2, np.nan),
        lambda v: v[:, 1] + v[:, 2],
        lambda v: 2.0 * v[:1],
        lambda v: np.max(v, axis=0),
        np.abs,
        np.sort,
        np.floor,
        np.sign,
        lambda v: np.clip(v, -1e9, 1e9),
        lambda v: v.astype(np.float32).astype(np.float64),
        lambda v: np.where(v > 0, 1.0, -1.0),
    ):
        with pytest.raises(ValueError, match="numbers of its own"):
            radius.moved(made)


def test_zeros_between_errors_are_of_what_is_stored() -> None:
    """They are off by nothing, and whatever is said of them is no less. Of a range they would be
    other numbers than its own."""
    radius = off_by(np.array([3.0, 1.0]))
    moved = radius.moved(lambda v: np.concatenate([v[1:], np.zeros(1), v[:1]]))
    assert moved.bound[1] >= 0.0
    assert (moved.bound[0], moved.bound[2]) == (1.0, 3.0)
    x = stored_range(np.array([3.0, 1.0]))
    for inserted in (0.0, 1.0, 2.0, np.nan):
        with pytest.raises(ValueError, match="numbers of its own"):
            range_moved(x, partial(np.append, values=inserted))


def test_an_empty_array_may_be_padded_with_zeros() -> None:
    radius = off_by(np.zeros((2, 0)))
    assert radius.moved(lambda v: v.T).bound.shape == (0, 2)
    padded = radius.moved(lambda v: np.pad(v, ((0, 0), (0, 3))))
    np.testing.assert_array_equal(padded.bound, np.zeros((2, 3)))
    with pytest.raises(ValueError, match="numbers of its own"):
        radius.moved(lambda v: np.pad(v, ((0, 0), (0, 3)), constant_values=1.0))


def test_radii_survive_copies_and_processes() -> None:
    radius = in_any_order(100.0, 0.2, rounded(1.25, 1.0))
    assert copy.deepcopy(radius) is radius
    there = pickle.loads(pickle.dumps(radius))
    np.testing.assert_array_equal(there.bound, radius.bound)
    assert {*there.record.lemmas} == {*radius.record.lemmas}
    here, other = (
        {repr(a.lemma): (a.numbers, a.bound, a.elements) for a in worst_of_each((r.record,))}
        for r in (radius, there)
    )
    assert here == other


def test_the_record_has_the_worst_numbers() -> None:
    radius = off_by(np.array([[1.0, 5.0], [2.0, 0.0]])) + off_by(np.array([1.0, 2.0]))
    record = radius.record
    assert (record.numbers, record.elements) == ((5.0, 2.0), 4)
    assert 7.0 <= record.bound < 7.0 + 1e-14
    exact = Exact(
        {p.name: Fraction(v) for p, v in zip(ERROR_SUM.read, record.numbers, strict=True)}
    )
    assert exact.of(ERROR_SUM.radius) == 7


def test_large_arrays_are_read_in_blocks() -> None:
    many = np.linspace(0.5, 3.0, 50_000)
    power = 2.0 ** np.floor(np.log2(many))
    whole = rounded(many, power).bound
    some = slice(40_000, 40_010)
    np.testing.assert_array_equal(whole[some], rounded(many[some], power[some]).bound)


# --- who makes one -------------------------------------------------------------------------------


def test_who_makes_a_radius() -> None:
    """A lemma applied, what follows from radii by an induction or by moving, and nothing known."""
    tree = tree_of("encoders/lemmas/kernel.py")
    makers = {
        f.name
        for f in ast.walk(tree)
        if isinstance(f, ast.FunctionDef)
        and any(isinstance(n, ast.Name) and n.id == "_KEY" for n in ast.walk(f))
    }
    own = {"__init__"}  # where the key is asked for
    following = {"_gathered", "_moved", "carried_back", "known_at", "worst_of"}
    made = {"apply", "exactly", "exactly_zero", "nothing_known", "_restored"}
    assert makers - own == {*made, *following}


def test_nobody_else_has_the_key() -> None:
    for file in files():
        if file != "encoders/lemmas/kernel.py":
            source = (ROOT / file).read_text()
            assert not re.search(r"\b_KEY\b|kernel import _", source), file
    assert [n for n in vars(kernel) if n.startswith("_") and "KEY" in n] == ["_RANGE_KEY", "_KEY"]


def test_the_type_checker_refuses_too(tmp_path: Path) -> None:
    api = pytest.importorskip("mypy.api")
    source = tmp_path / "outside.py"
    source.write_text(
        "import numpy as np\n"
        "from encoders.lemmas.kernel import Radius\n"
        "from encoders.lemmas.ranges.range import Range\n"
        "made = Radius(np.zeros(2))\n"
        "made.bound = np.zeros(2)\n"
        "made._bound = np.zeros(2)\n"
        "def emptied(x: Range) -> None:\n"
        "    x.lo = x.hi + 1.0\n"
        "Range(np.zeros(2), np.ones(2))\n"
    )
    said, _, code = api.run(
        ["--strict", "--follow-imports=silent", "--cache-dir", str(tmp_path), str(source)]
    )
    assert code == 1
    assert all(f"outside.py:{line}: error" in said for line in (4, 5, 6, 8, 9)), said


def formulas(lemma: Lemma) -> list[Formula]:
    return [*lemma.hypotheses, *lemma.assumed, *lemma.conclusions]


@every_lemma
def test_every_lemma_can_be_read_aloud(lemma: Lemma) -> None:
    assert all(text(f) for f in formulas(lemma))
    assert len({p.name for p in lemma.read}) == len(lemma.read)
