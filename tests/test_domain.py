"""The domain: exact inward rounding, unions, and one clear sentence for everything wrong."""

from __future__ import annotations

import gzip
import math
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.contract.presets import IEEE_ANY
from encoders.numbers.formats import (
    BFLOAT16,
    BINARY16,
    BINARY32,
    BINARY64,
    FloatFormat,
    is_representable,
)
from onnx_import.graph import DType, Graph, TensorType, build_graph
from refine.common.exact import Bounds, decimal, inward
from refine.domain.domain import Box, Domain, DomainError, DomainOptions, read_domain
from refine.domain.formulas import Tensors
from refine.domain.vnnlib import MOST_BOXES, boxes_of_text, read_vnnlib

MODELS = Path(__file__).resolve().parents[2] / "shared" / "models"
needs_models = pytest.mark.skipif(not MODELS.is_dir(), reason="needs ../shared/models")


def graph_with(dtype: DType = DType.FLOAT32, **shapes: tuple[int, ...]) -> Graph:
    """A graph that only has inputs, one per keyword."""
    types = {name: TensorType(dtype, shape) for name, shape in shapes.items()}
    return build_graph((), types, {}, inputs=tuple(shapes), outputs=tuple(shapes))


def domain_of(graph: Graph, **options: object) -> Domain:
    return read_domain(graph, DomainOptions(**options), IEEE_ANY.format_of)  # type: ignore[arg-type]


def only_box(domain: Domain) -> Box:
    (box,) = domain.boxes
    return box


finite = st.fractions(max_denominator=10**30).filter(lambda q: abs(q) < 10**300)
wide = st.builds(lambda q, k: q * Fraction(10) ** k, st.fractions(-10, 10), st.integers(-60, 36))


@given(finite | wide)
def test_ends_are_the_outermost_float32_numbers_inside(q: Fraction) -> None:
    above = inward(Bounds(q, Fraction(10) ** 400), BINARY32)
    below = inward(Bounds(-(Fraction(10) ** 400), q), BINARY32)
    largest = np.finfo(np.float32).max
    if above is None:
        assert q > Fraction(float(largest))
    else:
        lo = np.float32(above[0])
        assert float(lo) == above[0]
        assert Fraction(above[0]) >= q
        with np.errstate(over="ignore"):
            before = np.nextafter(lo, np.float32(-np.inf))
        assert before == -np.inf or Fraction(float(before)) < q
    if below is None:
        assert q < -Fraction(float(largest))
    else:
        hi = np.float32(below[1])
        assert float(hi) == below[1]
        assert Fraction(below[1]) <= q
        with np.errstate(over="ignore"):
            after = np.nextafter(hi, np.float32(np.inf))
        assert after == np.inf or Fraction(float(after)) > q


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_float32_number_is_its_own_bound_and_open_ends_exclude_it(x: float) -> None:
    q = Fraction(x)
    assert inward(Bounds(q, q), BINARY32) == (x, x)
    assert inward(Bounds(q, q, lo_open=True), BINARY32) is None
    with np.errstate(over="ignore"):
        step_up = float(np.nextafter(np.float32(x), np.float32(np.inf)))
        step_down = float(np.nextafter(np.float32(x), np.float32(-np.inf)))
    far = Fraction(10) ** 40
    assert inward(Bounds(q, far, lo_open=True), BINARY32) == (
        None if math.isinf(step_up) else (step_up, float(np.finfo(np.float32).max))
    )
    assert inward(Bounds(-far, q, hi_open=True), BINARY32) == (
        None if math.isinf(step_down) else (float(np.finfo(np.float32).min), step_down)
    )


def test_a_decimal_is_not_its_nearest_double() -> None:
    # The double nearest to this decimal is 1 + 2^-23 itself, a float32 number below the decimal.
    text = "1.00000011920928955078125000000000000001"
    box = only_box(domain_of(graph_with(x=(1,)), inputs=(f"{text}..2",)))
    assert float(text) == 1 + 2**-23
    assert box.lo["x"][0] == 1 + 2**-22


def test_decimal_text_is_read_exactly() -> None:
    assert decimal("0.1") == Fraction(1, 10)
    assert decimal(" -2.5E-3 ") == Fraction(-1, 400)
    assert decimal("+.5") == Fraction(1, 2)
    assert decimal("3.") == 3


@pytest.mark.parametrize("text", ["", "inf", "-nan", "0x10", "1_000", "1e", "١", "1/2", "--1"])
def test_other_text_is_not_a_number(text: str) -> None:
    with pytest.raises(DomainError, match="not a finite decimal"):
        decimal(text)


def test_a_short_text_cannot_ask_for_a_huge_number() -> None:
    with pytest.raises(DomainError, match="decimal places"):
        decimal("1e999999999999")


def test_a_range_is_broadcast_and_rounded_inward() -> None:
    domain = domain_of(graph_with(x=(2, 3)), inputs=("x=0.1..0.3",))
    box = only_box(domain)
    assert box.lo["x"].shape == (2, 3)
    assert Fraction(box.lo["x"][1, 2]) >= Fraction(1, 10)
    assert Fraction(box.hi["x"][1, 2]) <= Fraction(3, 10)
    assert np.float32(box.lo["x"][0, 0]) == box.lo["x"][0, 0]
    assert box.real_lo["x"][0, 0] == box.lo["x"][0, 0]
    (note,) = domain.notes
    assert note.startswith("2 of 2 bounds are not float32 numbers of the domain; each was moved")


def test_representable_bounds_need_no_note() -> None:
    domain = domain_of(graph_with(x=(1,)), inputs=("x=-1.0 .. 0.5",))
    assert domain.notes == ()
    assert only_box(domain).lo["x"] == [-1.0]
    assert only_box(domain).hi["x"] == [0.5]


def test_several_inputs() -> None:
    graph = graph_with(a=(2,), b=(1, 1))
    box = only_box(domain_of(graph, inputs=("b=3..4", "a=0..1")))
    assert box.hi["a"].tolist() == [1.0, 1.0]
    assert box.lo["b"].tolist() == [[3.0]]
    text = declarations(3) + bounds_text([(0, 1), (2, 3), (4, 5)])
    assert boxes_of_text(text, reals(3))[0][2] == Bounds(Fraction(4), Fraction(5))


def test_bounds_beyond_the_largest_finite_number_are_cut_there() -> None:
    domain = domain_of(graph_with(DType.FLOAT16, x=(1,)), inputs=("-1e999..1e6",))
    box = only_box(domain)
    assert box.lo["x"] == [-65504.0]
    assert box.hi["x"] == [65504.0]
    assert "float16" in domain.notes[0]


def test_round_inputs_keeps_the_real_box() -> None:
    box = only_box(domain_of(graph_with(x=(1,)), inputs=("0.1..0.1",), round_inputs=True))
    assert Fraction(box.real_lo["x"][0]) <= Fraction(1, 10) <= Fraction(box.real_hi["x"][0])
    assert box.real_hi["x"][0] - box.real_lo["x"][0] < 1e-16
    assert box.lo["x"] == box.hi["x"] == [float(np.float32(0.1))]
    with pytest.raises(DomainError, match="overflows"):
        domain_of(graph_with(x=(1,)), inputs=("0..3.5e38",), round_inputs=True)


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("0.1..0.1", (0.1, 0.1)),
        ("0.10000000149011613..0.10000000149011613", (0.1, 0.1)),
        ("1.00000001..1.0000001", (1.0, 1.0000001)),  # either of two neighbours may be meant
        ("1e-60..1e-50", (0.0, 0.0)),
        ("0.1..0.2", None),
    ],
)
def test_between_two_floats_the_nearest_is_taken(
    text: str, ends: tuple[float, float] | None
) -> None:
    domain = domain_of(graph_with(x=(1,)), inputs=(text,))
    box = only_box(domain)
    assert domain.nearest == (ends is not None)
    assert any("the nearest was taken" in note for note in domain.notes) == domain.nearest
    for side, end in zip((box.lo, box.hi), ends or (), strict=ends is not None):
        assert side["x"].tolist() == [float(np.float32(end))]
        assert np.array_equal(side["x"], (box.real_lo if side is box.lo else box.real_hi)["x"])


def test_ball_and_clip(tmp_path: Path) -> None:
    center = np.array([[0.0, 0.5, 1.0]], dtype=np.float32)
    np.save(tmp_path / "c.npy", center)
    graph = graph_with(x=(1, 1, 3))
    options = {"center": str(tmp_path / "c.npy"), "radius": "0.25"}
    free = only_box(domain_of(graph, **options))
    assert free.lo["x"].tolist() == [[[-0.25, 0.25, 0.75]]]
    clipped = only_box(domain_of(graph, **options, clip="0..1"))
    assert clipped.lo["x"].tolist() == [[[0.0, 0.25, 0.75]]]
    assert clipped.hi["x"].tolist() == [[[0.25, 0.75, 1.0]]]
    scalar = only_box(domain_of(graph_with(a=(2,), b=(1,)), center="0.5", radius="0"))
    assert scalar.lo["a"].tolist() == [0.5, 0.5]
    assert scalar.hi["b"].tolist() == [0.5]


def test_box_file(tmp_path: Path) -> None:
    lo, hi = np.array([0.1, 0.0]), np.array([0.2, 0.0])
    np.savez(tmp_path / "one.npz", lo=lo, hi=hi)
    np.savez(tmp_path / "named.npz", x_lo=lo, x_hi=hi)
    for file in ("one.npz", "named.npz"):
        box = only_box(domain_of(graph_with(x=(2,)), box=str(tmp_path / file)))
        assert Fraction(box.lo["x"][0]) >= Fraction(0.1)
        assert Fraction(box.hi["x"][0]) <= Fraction(0.2)
        assert box.hi["x"][1] == 0.0


def npy(folder: Path, **arrays: object) -> None:
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", np.asarray(array), allow_pickle=True)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "no domain is given"),
        ({"inputs": ("x=0..1",), "vnnlib": "p.vnnlib"}, "--vnnlib and --input each give a domain"),
        ({"radius": "1"}, "--radius needs --center"),
        ({"inputs": ("x=0..1",), "clip": "0..1"}, "--clip needs --center"),
        ({"center": "0"}, "--center needs --radius"),
        ({"center": "0", "radius": "-0.1"}, "radius -0.1 is negative"),
        ({"center": "0", "radius": "nan"}, "'nan' is not a finite decimal"),
        ({"center": "5", "radius": "1", "clip": "0..1"}, "lies outside --clip 0..1"),
        ({"inputs": ("y=0..1",)}, "there is no input 'y'; the model has the input 'x'"),
        ({"inputs": ("x=0..1", "x=0..2")}, "'x' is given two ranges"),
        ({"inputs": ("x=1..0",)}, "the range 1..0 is empty: 1 is above 0"),
        ({"inputs": ("x=0..inf",)}, "'0..inf' is not a range LO..HI"),
        ({"inputs": ("x=1...5",)}, "'1...5' is not a range LO..HI"),
        ({"inputs": ("x=0.5",)}, "'0.5' is not a range LO..HI"),
        (
            {"inputs": ("x=0.1..0.1",), "strict_inputs": True},
            "the domain is empty: input 'x', from 0.1 to 0.1, contains",
        ),
        ({"inputs": ("x=1e40..1e41",)}, "contains no float32 number"),
        ({"center": "missing.npy", "radius": "1"}, "cannot be read (No such file"),
        (
            {"center": "wrong.npy", "radius": "1"},
            "has shape [2, 1], but input 'x' has shape [1, 2]",
        ),
        ({"center": "nan.npy", "radius": "1"}, "is nan at input 'x'[0, 1] (X_1)"),
        ({"center": "object.npy", "radius": "1"}, "object arrays are refused"),
        ({"center": "text.npy", "radius": "1"}, "has type <U1; expected float16"),
        ({"center": "junk.npy", "radius": "1"}, "is not a .npy or .npz file of numbers"),
        ({"center": "above.npz", "radius": "1"}, "holds the arrays"),
        ({"box": "nan.npy"}, "is one array; a box is an .npz file"),
        ({"box": "other.npz"}, "holds the arrays 'low'; expected 'x_lo', 'x_hi'"),
        ({"box": "above.npz"}, "at input 'x'[0, 1] (X_1), lo = 2.0 is above hi = 1.0"),
        ({"box": "."}, "cannot be read (Is a directory)"),
        ({"vnnlib": "missing.vnnlib"}, "missing.vnnlib: cannot be read (No such file"),
        ({"vnnlib": "nan.npy"}, "not a text file"),
        ({"vnnlib": "junk.gz"}, "cannot be read"),
    ],
)
def test_every_mistake_gets_one_sentence(
    options: dict[str, object], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npy(tmp_path, wrong=[[1.0], [2.0]], nan=[[1.0, math.nan]], text=[["a", "b"]])
    npy(tmp_path, object=np.array([[None, 1]], dtype=object))
    (tmp_path / "junk.npy").write_bytes(b"no array at all")
    (tmp_path / "junk.gz").write_bytes(b"not compressed")
    np.savez(tmp_path / "other.npz", low=np.zeros((1, 2)))
    np.savez(tmp_path / "above.npz", lo=np.array([[0.0, 2.0]]), hi=np.array([[1.0, 1.0]]))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DomainError) as caught:
        domain_of(graph_with(x=(1, 2)), **options)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_several_inputs_must_be_named(tmp_path: Path) -> None:
    graph = graph_with(a=(1,), b=(1,))
    with pytest.raises(DomainError, match="names no input, but the model has the inputs 'a', 'b'"):
        domain_of(graph, inputs=("0..1",))
    with pytest.raises(DomainError, match=r"say --input a=0\.\.1 --input b=0\.\.1$"):
        domain_of(graph, inputs=("0..1",))
    with pytest.raises(DomainError, match=r"input 'b' has no range; add --input b=LO\.\.HI"):
        domain_of(graph, inputs=("a=0..1",))
    np.save(tmp_path / "c.npy", np.zeros(1))
    with pytest.raises(
        DomainError,
        match=r"is one array, but the model has the inputs .*\.npz file with an array for each$",
    ):
        domain_of(graph, center=str(tmp_path / "c.npy"), radius="1")


def test_an_integer_input_holds_whole_numbers() -> None:
    box = domain_of(graph_with(DType.INT64, ids=(1,)), inputs=("-0.5..3.25",)).boxes[0]
    assert [*box.lo["ids"], *box.hi["ids"]] == [0.0, 3.0]
    assert set(box.sample(np.random.default_rng(0), 99)["ids"].ravel()) == {0.0, 1.0, 2.0, 3.0}
    truth = domain_of(graph_with(DType.BOOL, ids=(1,)), inputs=("-3..7",)).boxes[0]
    assert [*truth.lo["ids"], *truth.hi["ids"]] == [0.0, 1.0]


# VNN-LIB


def declarations(n: int, outputs: int = 2) -> str:
    names = [f"X_{i}" for i in range(n)] + [f"Y_{i}" for i in range(outputs)]
    return "\n".join(f"(declare-const {name} Real)" for name in names) + "\n"


def bounds_text(bounds: list[tuple[object, object]]) -> str:
    return "".join(
        f"(assert (>= X_{i} {lo}))(assert (<= X_{i} {hi}))\n" for i, (lo, hi) in enumerate(bounds)
    )


def reals(n: int) -> Tensors:
    """n inputs, as one float32 tensor."""
    return Tensors(inputs=(("float32", (n,)),), outputs=(("float32", (2,)),))


def boxes(*assertions: str, n: int = 1) -> tuple[tuple[Bounds, ...], ...]:
    return boxes_of_text(declarations(n) + "".join(f"(assert {a})\n" for a in assertions), reals(n))


def side(lo: object, hi: object, lo_open: bool = False, hi_open: bool = False) -> Bounds:
    return Bounds(Fraction(str(lo)), Fraction(str(hi)), lo_open, hi_open)


@pytest.mark.parametrize(
    ("assertions", "expected"),
    [
        (["(<= 0 X_0)", "(>= 1 X_0)"], [side(0, 1)]),
        (["(and (>= X_0 -0.1) (<= X_0 1e-2))"], [side("-0.1", "0.01")]),
        (["(= X_0 0.5)"], [side("0.5", "0.5")]),
        (["(> X_0 0)", "(< X_0 1)"], [side(0, 1, True, True)]),
        (["(not (or (< X_0 0) (>= X_0 1)))"], [side(0, 1, False, True)]),
        (["(<= (+ (* 2 X_0) 1) 4)", "(>= (- X_0) (- 3))", "(>= X_0 1)"], [side(1, "1.5")]),
        (["(<= (/ X_0 (- 2)) (/ 1 3))", "(<= X_0 (- X_0 X_0))"], [side("-2/3", 0)]),
        (["(>= X_0 0)", "(<= X_0 1)", "(<= Y_0 (* Y_1 Y_1))"], [side(0, 1)]),
        (["(>= X_0 0)", "(<= X_0 1)", "(>= Y_0 X_0)"], [side(0, 1)]),
        (["(>= X_0 0)", "(<= X_0 1)", "(or (and (<= Y_0 2)) (and (<= Y_1 2)))"], [side(0, 1)]),
        (["(>= X_0 0)", "(<= X_0 9)", "(or (and (<= X_0 2) (<= Y_0 1)) (<= Y_1 2))"], [side(0, 9)]),
        (["(>= X_0 0)", "(or (<= X_0 1) (<= X_0 2) (<= X_0 1))"], [side(0, 1), side(0, 2)]),
        (
            ["(>= X_0 0)", "(<= X_0 3)", "(=> (>= X_0 1) (>= X_0 2))"],
            [side(0, 1, False, True), side(2, 3)],
        ),
        (
            ["(or (and (>= X_0 0) (<= X_0 1) (<= Y_0 1)) (and (>= X_0 0) (<= X_0 1) (<= Y_1 1)))"],
            [side(0, 1)],
        ),
        (["(or (and (>= X_0 3) (<= X_0 1)) (and (>= X_0 0) (<= X_0 1)))"], [side(0, 1)]),
    ],
)
def test_input_constraints(assertions: list[str], expected: list[Bounds]) -> None:
    assert set(boxes(*assertions)) == {(one,) for one in expected}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("(assert (<= X_0 1))", "X_0 has no lower bound"),
        ("(assert (>= X_0 1))", "X_0 has no upper bound"),
        ("(assert (and (>= X_0 1) (<= X_0 0)))", "the conditions on X contradict each other"),
        ("(assert (<= X_0 (* X_0 X_0)))", "line 4: '(<= X_0 (* X_0 X_0))' is not linear in X"),
        ("(assert (<= (/ 1 X_0) 1))", "is not linear in X"),
        ("(assert (<= X_7 0))", "'X_7' is not declared"),
        ("(assert (<= X_0 z))", "'z' is not declared"),
        ("(assert (<= X_0 0.1.2))", "'0.1.2' is not a finite decimal"),
        ("(assert (<= X_0 (/ 1 0)))", "divides by zero"),
        ("(assert (<= X_0 (sin 1)))", "is not a term of +, -, * and /"),
        ("(assert (<= 0 X_0 1))", "is not built from and, or, not and comparisons of two terms"),
        ("(assert (ite true true true))", "is not built from"),
        ("(assert (<= X_0 0)", "line 4: '(' is never closed"),
        (")", "line 4: ')' matches nothing"),
        ("(assert " + "(not " * 200, "nested deeper than"),
        ("(push 1)", "'(push 1)' is not a VNN-LIB command"),
        ("(declare-const X_0 Real)", "X_0 is declared twice"),
        ("(declare-const X_1 Int)", "X_1 is declared Int; only Real is read"),
        ("(declare-const W Real)", "'W' is neither an input X_i nor an output Y_i"),
        ("(declare-const X_1 Real)", "declares 2 inputs X_i, but the model has 1 input element"),
        ("(check-sat)(assert (<= X_0 1))", "it asserts something after (check-sat)"),
        ("(vnnlib-version <2.0>)", "the version is said after declarations"),
        ("(declare-network f)", "a network is declared before (vnnlib-version <2.0>)"),
    ],
)
def test_files_that_are_refused(text: str, sentence: str) -> None:
    with pytest.raises(DomainError) as caught:
        boxes_of_text(declarations(1) + text, reals(1))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_inputs_tied_together_are_not_a_box() -> None:
    with pytest.raises(DomainError, match="ties X_0 and X_1 together"):
        boxes("(<= (+ X_0 X_1) 1)", n=2)


def test_a_huge_union_is_refused() -> None:
    choice = [f"(or (<= X_{i} 0) (>= X_{i} 1))" for i in range(20)]
    with pytest.raises(DomainError, match=f"more than {MOST_BOXES} boxes"):
        boxes(*choice, n=20)


def test_an_unrepresentable_box_of_a_union_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "p.vnnlib.gz"
    text = "(assert (or (= X_0 0.1) (and (>= X_0 0.2) (<= X_0 0.5)) (= X_0 0.5)))"
    path.write_bytes(gzip.compress((declarations(1) + text).encode()))
    graph = graph_with(x=(1,))
    nearest = domain_of(graph, vnnlib=str(path))
    assert [box.hi["x"][0] for box in nearest.boxes] == [float(np.float32(0.1)), 0.5, 0.5]
    domain = domain_of(graph, vnnlib=str(path), strict_inputs=True)
    assert [box.hi["x"][0] for box in domain.boxes] == [0.5, 0.5]
    assert domain.notes[-1] == "1 of 3 boxes hold no representable input: left out"


def test_strict_bounds_exclude_the_bound_itself(tmp_path: Path) -> None:
    (tmp_path / "p.vnnlib").write_text(declarations(1) + "(assert (and (> X_0 0) (< X_0 1)))")
    box = only_box(domain_of(graph_with(x=(1,)), vnnlib=str(tmp_path / "p.vnnlib")))
    assert box.lo["x"] == [2.0**-149]
    assert box.hi["x"] == [1 - 2**-24]


def corpus() -> list[Path]:
    return sorted(MODELS.glob("*/*.vnnlib"))


@needs_models
@pytest.mark.parametrize("path", corpus(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_real_files_agree_with_an_independent_reader(path: Path) -> None:
    text = re.sub(";.*", "", path.read_text())
    size = len(re.findall(r"declare-const X_\d+ ", text))
    found = read_vnnlib(path, reals(size))
    number = r"(-?[0-9.]+(?:e-?[0-9]+)?)"
    lows = re.findall(rf"\(assert \(>= X_(\d+) {number}\)\)", text)
    highs = re.findall(rf"\(assert \(<= X_(\d+) {number}\)\)", text)
    if len(lows) == len(highs) == size:
        (box,) = found
        assert [b.lo for b in box] == [Fraction(lo) for _, lo in sorted(lows, key=index_of)]
        assert [b.hi for b in box] == [Fraction(hi) for _, hi in sorted(highs, key=index_of)]
    else:
        assert path.stem == "prop_6", "only this file is not a plain list of bounds"
        assert len(found) == 2


def index_of(match: tuple[str, str]) -> int:
    return int(match[0])


# Sampling


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([BINARY16, BFLOAT16, BINARY32, BINARY64]),
    wide,
    wide,
    st.integers(0, 2**32),
)
def test_samples_are_points_of_the_box(
    fmt: FloatFormat, a: Fraction, b: Fraction, seed: int
) -> None:
    inside = inward(Bounds(min(a, b), max(a, b)), fmt)
    if inside is None:
        return
    lo, hi = {"x": np.full(2, inside[0])}, {"x": np.full(2, inside[1])}
    box = Box(lo, hi, lo, hi, {"x": fmt})
    points = box.sample(np.random.default_rng(seed), 12)["x"]
    assert points.shape == (12, 2)
    for point in points:
        assert box.contains({"x": point})
        assert all(is_representable(float(x), fmt) for x in point)


def test_contains() -> None:
    box = only_box(domain_of(graph_with(x=(2,)), inputs=("0..1",)))
    assert box.contains({"x": np.array([0.5, 1.0], dtype=np.float32)})
    assert box.contains({"x": [-0.0, 0.25]})
    assert not box.contains({"x": [0.5, 1.5]})
    assert not box.contains({"x": [0.5, math.nan]})
    assert not box.contains({"x": [0.5, 0.1]})
    assert not box.contains({"x": [0.5]})
    assert not box.contains({"y": [0.5, 0.5]})


def test_samples_reach_small_magnitudes_and_corners() -> None:
    box = only_box(domain_of(graph_with(x=(1,)), inputs=("-1..1",)))
    points = box.sample(np.random.default_rng(0), 3000)["x"].ravel()
    assert np.any(points == 1.0)
    assert np.any(points == -1.0)
    assert np.any((points != 0) & (np.abs(points) < 1e-30))
    assert np.any(np.abs(points) > 0.4)


def test_samples_reach_zero_or_what_is_nearest_to_it() -> None:
    """All of an input's elements at once: where 0/0 and the like happen."""
    graph = graph_with(x=(3,), y=(1,))
    box = only_box(domain_of(graph, inputs=("x=-1..1", "y=0.5..2")))
    points = box.sample(np.random.default_rng(0), 300)
    assert np.any(np.all(points["x"] == 0.0, axis=1))
    corners = points["x"][2::3]
    assert np.any(np.all(np.abs(corners) == 1.0, axis=1))
    assert {0.5, 2.0} == set(points["y"][2::3].ravel())


def test_a_box_is_read_off_samples(tmp_path: Path) -> None:
    rows = np.array([[1.0, -3.0], [0.5, 7.0], [2.0, 0.0]], np.float32)
    np.savez(tmp_path / "s.npz", x=rows)
    for shape in ((2,), (1, 2)):
        box = only_box(domain_of(graph_with(x=shape), box=str(tmp_path / "s.npz")))
        assert box.lo["x"].reshape(-1).tolist() == [0.5, -3.0]
        assert box.hi["x"].reshape(-1).tolist() == [2.0, 7.0]
    with pytest.raises(DomainError, match="an axis of points"):
        domain_of(graph_with(x=(3, 2)), box=str(tmp_path / "s.npz"))
    np.savez(tmp_path / "n.npz", x=np.array([[1.0, np.nan]]))
    with pytest.raises(DomainError, match="bounds are finite"):
        domain_of(graph_with(x=(2,)), box=str(tmp_path / "n.npz"))
