"""Unsafe sets as files state them, against Z3's reader and the reference parser of VNN-LIB 2."""

from __future__ import annotations

import operator
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import z3

from refine.common.exact import DomainError
from refine.domain.formulas import Tensors
from refine.domain.properties import Property, property_of_text, read_property
from refine.domain.vnnlib import boxes_of_text

MODELS = Path(__file__).resolve().parents[2] / "shared" / "models"
needs_models = pytest.mark.skipif(not MODELS.is_dir(), reason="needs ../shared/models")
FORMULAS = [
    "(or (and (<= Y_0 1) (>= Y_1 (+ Y_0 0.25))) (and (> Y_1 2) (< X_0 0.5)))",
    "(and (not (or (<= Y_0 1) (= X_1 0.5))) (=> (> X_0 0) (distinct Y_1 1)))",
    "(<= (+ Y_0 (* 2 X_0) (- X_1)) (/ Y_1 4))",
    "(or (= Y_0 1) (and (>= X_0 0.5) (or (<= Y_1 0) (>= Y_1 1.5))) (<= (+ X_0 X_1) (- 0.5)))",
    "(and (or (< Y_0 0) (> Y_0 1)) (or (< Y_1 0) (> Y_1 1)) (or (< X_0 0.25) (> X_1 0)))",
    "(=> (and (<= X_0 1) (<= Y_0 1)) false)",
    "(and (<= 0.5 Y_0) true (not false))",
]
DECLARED = "".join(f"(declare-const {v} Real)\n" for v in ("X_0", "X_1", "Y_0", "Y_1"))
PLANE = Tensors((("float32", (1, 2)),), (("float32", (1, 2)),))
GRID = [Fraction(n, 4) for n in range(-4, 10)]


def unsafe(found: Property, x: list[Fraction], y: list[Fraction]) -> bool:
    return any(part.holds(x, y) for part in found.unsafe)


def points(seed: int, n: int) -> list[tuple[list[Fraction], list[Fraction]]]:
    rng = np.random.default_rng(seed)
    sampled = rng.integers(0, len(GRID), (n, 4))
    return [([GRID[i], GRID[j]], [GRID[k], GRID[m]]) for i, j, k, m in sampled.tolist()]


@pytest.mark.parametrize("formula", FORMULAS)
def test_formulas_mean_what_z3_reads(formula: str) -> None:
    text = f"{DECLARED}(assert {formula})"
    found = property_of_text(text, PLANE)
    (read,) = z3.parse_smt2_string(text)
    names = z3.Reals("X_0 X_1 Y_0 Y_1")
    answers = set()
    for x, y in points(0, 300):
        values = [(name, z3.RealVal(str(v))) for name, v in zip(names, (*x, *y), strict=True)]
        expected = z3.is_true(z3.simplify(z3.substitute(read, *values)))
        assert unsafe(found, x, y) == expected, (x, y)
        answers.add(expected)
    assert answers == {True, False}


def in_version_2(formula: str) -> str:
    formula = re.sub(r"([XY])_(\d)", r"\1[0,\2]", formula).replace("distinct", "!=")
    network = "(declare-input X float32 [1,2]) (declare-output Y float32 [1, 2])"
    return f"(vnnlib-version <2.0>)\n(declare-network f {network})\n(assert {formula})"


@pytest.mark.parametrize("formula", FORMULAS)
def test_both_versions_say_the_same(formula: str) -> None:
    one = property_of_text(f"{DECLARED}(assert {formula})", PLANE)
    two = property_of_text(in_version_2(formula), PLANE)
    assert two.unsafe == one.unsafe


def test_version_2_as_its_own_parser_reads_it() -> None:
    vnnlib = pytest.importorskip("vnnlib", reason="the reference parser is not installed")
    formula = (
        "(or (and (<= Y[0,0] 1.0) (>= Y[0,1] (+ Y[0,0] 0.25))) (and (> Y[0,1] 2.0)"
        " (< X[0,0] 0.5) (== X[0,1] (- 0.5))) (!= (* 2.0 Y[0,0]) X[0,0]))"
    )
    text = in_version_2(formula)
    (assertion,) = vnnlib.parse_query_string(text).assertions
    relations = {
        "LessEqual": operator.le, "LessThan": operator.lt, "GreaterEqual": operator.ge,
        "GreaterThan": operator.gt, "Equal": operator.eq, "NotEqual": operator.ne,
    }  # fmt: skip
    found = property_of_text(text, PLANE)

    def value(side: object, of: dict[str, Fraction]) -> Fraction:
        linear = side.to_linear_expr()  # type: ignore[attr-defined]
        terms = (Fraction(t.coeff) * of[str(t.var_name)] for t in linear.terms)
        return sum(terms, Fraction(linear.constant))

    for x, y in points(1, 300):
        of = {f"{letter}[0,{i}]": part[i] for letter, part in (("X", x), ("Y", y)) for i in (0, 1)}
        expected = any(
            all(relations[type(c).__name__](value(c.lhs, of), value(c.rhs, of)) for c in case)
            for case in assertion.expr.to_dnf()
        )
        assert unsafe(found, x, y) == expected


def test_several_tensors_of_version_2_are_one_row_of_elements() -> None:
    text = (
        "(vnnlib-version <2.0>) (declare-network net (declare-input a float32 [])"
        " (declare-input b float32 [2,2]) (declare-output c float32 [1]) (declare-output d"
        " float32 [3]))"
        "(assert (and (>= a 0) (<= a 1) (>= b[0,0] 0) (<= b[0,0] 1) (>= b[0,1] 0) (<= b[0,1] 2)"
        " (>= b[1,0] 0) (<= b[1,0] 3) (>= b[1,1] 0) (<= b[1,1] 1e-06) (<= d[2] c[0])))"
    )
    kind = "float32"
    tensors = Tensors(((kind, ()), (kind, (2, 2))), ((kind, (1,)), (kind, (3,))))
    (box,) = boxes_of_text(text, tensors)
    assert [b.hi for b in box] == [1, 1, 2, 3, Fraction(1, 10**6)]
    (part,) = property_of_text(text, tensors).unsafe
    assert [dict(row.outputs) for row in part.rows] == [{3: 1, 0: -1}]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("(declare-network f (declare-input X float64 [1,2]) (declare-output Y float32 [1,2]))",
         "the file declares float64, but the model computes in float32"),
        ("(declare-network f (declare-input X float32 [1,3]) (declare-output Y float32 [1,2]))",
         "declares 3 inputs X_i, but the model has 2 input elements"),
        ("(declare-network f (declare-input X float32 [1,2]) (declare-output Y float32 [1,3]))",
         "declares 3 outputs Y_i, but the model has 2 output elements"),
        ("(declare-network f (declare-input X int8 [1,2]))", "the type int8 is not read"),
        ("(declare-network f (declare-input X float32 [1,2)))", "is no shape such as [1,5]"),
        ("(declare-network f (declare-input X float32 [1,2]) (declare-hidden H float32 [1]))",
         "hidden tensors are not read"),
        ("(declare-network f (equal-to g) (declare-input X float32 [1,2]))",
         "it speaks of several networks"),
        ("(declare-network f (declare-input X float32 [2]) (declare-output Y float32 [2]))"
         "(declare-network g (declare-input Z float32 [2]))", "a second network is declared"),
        ("(declare-network f (declare-input X float32 [1,2]) (declare-output Y float32 [1,2]))"
         "(assert (<= Y[0,2] 1.0))", "'Y[0,2]': Y has the shape [1, 2]"),
        ("(declare-network f (declare-input X float32 [1,2]) (declare-output Y float32 [1,2]))"
         "(assert (<= Z[0,1] 1.0))", "'Z[0,1]' is not declared"),
        *(
            (
                "(declare-network f (declare-input X float32 [1,2]) (declare-output Y float32"
                f" [1,2])) (assert (<= Y[{index}] 1.0))",
                "is no element such as X[0,3]",
            )
            for index in ("0,", ",", " , 1", "0 1", "9" * 5000)
        ),
        ("(declare-const X_0 Real)", "VNN-LIB 2 declares tensors"),
    ],
)  # fmt: skip
def test_files_of_version_2_that_are_refused(text: str, sentence: str) -> None:
    with pytest.raises(DomainError) as caught:
        property_of_text(f"(vnnlib-version <2.0>)\n{text}(assert (<= 0.0 1.0))", PLANE)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("formula", "sentence"),
    [
        ("(<= (* Y_0 Y_1) 1)", "is not linear"),
        ("(<= X_0 1)", "it says nothing of the outputs"),
        ("(and " + " ".join(f"(distinct Y_0 {i})" for i in range(20)) + ")", "a union of"),
    ],
)
def test_properties_that_are_refused(formula: str, sentence: str) -> None:
    with pytest.raises(DomainError, match=sentence):
        property_of_text(f"{DECLARED}(assert {formula})", PLANE)


def test_rows_read_as_they_are_written() -> None:
    found = property_of_text(f"{DECLARED}(assert (< (+ (* 2 Y_0) X_1) (+ Y_1 0.5)))", PLANE)
    assert str(found.unsafe[0].rows[0]) == "2·Y_0 - Y_1 + X_1 < 0.5"


@needs_models
@pytest.mark.parametrize(
    "path", sorted(MODELS.glob("*/*.vnnlib")), ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_real_files(path: Path) -> None:
    """Of every family: outputs drawn near the constants of the file are judged as Z3 judges."""
    text = re.sub(";.*", "", path.read_text())
    sizes = [len(re.findall(rf"declare-const {letter}_\d+ ", text)) for letter in "XY"]
    tensors = Tensors((("float32", (sizes[0],)),), (("float32", (sizes[1],)),))
    found = read_property(path, tensors)
    assert found.unsafe
    formulas = [text[m.start() :] for m in re.finditer(r"\(assert", text)]
    about = [f for f in map(_balanced, formulas) if "Y_" in f]
    named = "".join(f"(declare-const {v} Real)" for v in sorted(set(re.findall(r"[XY]_\d+", " ".
                    join(about)))))  # fmt: skip
    read = z3.parse_smt2_string(named + _without_exponents("".join(about)))
    constants = [Fraction(n) for n in re.findall(r"(?<![_\d.])-?\d+\.?\d*(?:e-?\d+)?", " ".
                 join(about))]  # fmt: skip
    rng = np.random.default_rng(0)
    limits = found.unsafe[0].limits
    x = [(limits[i].lo if i in limits else None) or Fraction(0) for i in range(sizes[0])]
    for _ in range(4):
        offsets = [Fraction(int(n), 8) for n in rng.integers(-8, 9, sizes[1])]
        picks = rng.integers(0, max(len(constants), 1), sizes[1])
        y = [(constants[i] if constants else Fraction(0)) + o for i, o in
             zip(picks, offsets, strict=True)]  # fmt: skip
        values = [(z3.Real(f"{letter}_{i}"), z3.RealVal(f"{v.numerator}/{v.denominator}"))
                  for letter, part in (("X", x), ("Y", y))
                  for i, v in enumerate(part) if f"{letter}_{i} " in named]  # fmt: skip
        expected = all(z3.is_true(z3.simplify(z3.substitute(f, *values))) for f in read)
        assert unsafe(found, x, y) == expected


def _balanced(text: str) -> str:
    depth = 0
    for i, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return text[: i + 1]
    raise AssertionError("never closed")


def _without_exponents(text: str) -> str:
    """Z3 reads no exponents and no signs in numbers."""

    def rational(found: re.Match[str]) -> str:
        value = Fraction(found[0])
        quotient = f"(/ {abs(value.numerator)}.0 {value.denominator}.0)"
        return f"(- {quotient})" if value < 0 else quotient

    return re.sub(r"(?<![_\d.\w])-?\d+(?:\.\d*)?(?:e-?\d+)?", rational, text)


@pytest.mark.parametrize(
    ("said", "fits"),
    [("[2,3]", True), ("[1,2,3]", True), ("[6]", True), ("[3,2]", False), ("[2,3,1]", True)],
)
def test_shapes_of_version_2_are_those_of_the_model(said: str, fits: bool) -> None:
    text = (
        f"(vnnlib-version <2.0>)(declare-network f (declare-input X float32 {said})"
        "(declare-output Y float32 [1]))(assert (<= Y[0] 1.0))"
    )
    tensors = Tensors((("float32", (2, 3)),), (("float32", (1,)),))
    if fits:
        property_of_text(text, tensors)
    else:
        with pytest.raises(DomainError, match="declares the shape"):
            property_of_text(text, tensors)
