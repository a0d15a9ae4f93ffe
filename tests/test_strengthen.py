"""Stronger properties: what is proved of them over the reals, by others too, holds of what runs."""

from __future__ import annotations

import importlib.util
import itertools
import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from onnx import helper
from small_models import overflowing, save

import refine
from onnx_import.errors import ModelError
from refine.cli.main import run
from refine.domain.formulas import Tensors
from refine.domain.properties import Conjunction, Property, Row, property_of_text
from refine.domain.vnnlib import Half
from refine.domain.vnnlib_writing import vnnlib_text
from refine.results.verdict import ExitCode

Array = npt.NDArray[np.float32]
RUNS = 10_000
_NUMBER = r"-?[0-9]+\.[0-9]+"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def property_file(path: Path, inputs: int, outputs: int, sides: str, unsafe: str) -> Path:
    names = [f"X_{i}" for i in range(inputs)] + [f"Y_{i}" for i in range(outputs)]
    text = "".join(f"(declare-const {n} Real)\n" for n in names)
    low, high = sides.split("..")
    text += "".join(f"(assert (<= X_{i} {high}))(assert (>= X_{i} {low}))\n" for i in range(inputs))
    path.write_text(f"{text}(assert {unsafe})\n")
    return path


def network(path: Path, seed: int, rows: int = 1) -> Path:
    rng = np.random.default_rng(seed)
    nodes, named, tensor = [], {}, "x"
    widths = (4, 9, 7, 3)
    for k, (n, m) in enumerate(itertools.pairwise(widths)):
        last = k + 2 == len(widths)
        named[f"w{k}"] = rng.normal(0, 0.6, (n, m)).astype(np.float32)
        named[f"b{k}"] = rng.normal(0, 0.3, m).astype(np.float32)
        sums = "y" if last else f"s{k}"
        nodes.append(helper.make_node("MatMul", [tensor, f"w{k}"], [f"p{k}"]))
        nodes.append(helper.make_node("Add", [f"p{k}", f"b{k}"], [sums]))
        if not last:
            nodes.append(helper.make_node("Relu", [sums], [f"r{k}"]))
            tensor = f"r{k}"
    return save(path, nodes, {"x": [rows, widths[0]]}, {"y": [rows, widths[-1]]}, named)


def many_runs(folder: Path, seed: int) -> Array:
    """Outputs of onnxruntime on points of the box −1..1, and on its corners."""
    rng = np.random.default_rng(1000 + seed)
    x = rng.uniform(-1, 1, (RUNS, 4)).astype(np.float32)
    x[:16] = np.array(list(itertools.product((-1, 1), repeat=4)), np.float32)
    session = onnxruntime.InferenceSession(network(folder / "many.onnx", seed, RUNS))
    return np.asarray(session.run(None, {"x": x})[0])


def by_marabou(model: Path, text: str) -> bool:
    """Is the unsafe set of a file without unions out of reach? Read here, without our reader."""
    marabou = pytest.importorskip("maraboupy.Marabou")
    core, utils = (importlib.import_module(f"maraboupy.Marabou{n}") for n in ("Core", "Utils"))
    net = marabou.read_onnx(str(model))
    x, y = net.inputVars[0].reshape(-1), net.outputVars[0].reshape(-1)
    for relation, i, bound in re.findall(rf"\(assert \((<=|>=) X_(\d+) ({_NUMBER})\)\)", text):
        setting = net.setUpperBound if relation == "<=" else net.setLowerBound
        setting(x[int(i)], float(bound))
    pattern = rf"\(assert \(<= \(\+ Y_(\d+) \(\* ({_NUMBER}) Y_(\d+)\)\) ({_NUMBER})\)\)"
    rows = re.findall(pattern, text)
    assert rows
    for i, factor, j, bound in rows:
        equation = utils.Equation(core.Equation.LE)
        equation.addAddend(1.0, y[int(i)])
        equation.addAddend(float(factor), y[int(j)])
        equation.setScalar(float(bound))
        net.addEquation(equation)
    options = marabou.createOptions(verbosity=0, timeoutInSeconds=60)
    answer, *_ = net.solve(options=options, verbose=False)
    assert answer in ("sat", "unsat")
    return bool(answer == "unsat")


@pytest.mark.skipif(
    importlib.util.find_spec("maraboupy") is None, reason="maraboupy is not installed"
)
@pytest.mark.parametrize("seed", range(10))
def test_what_marabou_proves_holds_of_what_runs(folder: Path, seed: int) -> None:
    """10 instances of 10⁴ runs each; the level is near what is reached."""
    model = network(folder / "m.onnx", seed)
    outputs = many_runs(folder, seed)
    least = float(np.min(outputs[:, 0].astype(np.float64) - outputs[:, 1]))
    found = []
    for slack in (-0.1, 0.3):
        unsafe = f"(<= (- Y_0 Y_1) {least - slack:.4f})"
        given = property_file(folder / "p.vnnlib", 4, 3, "-1.0..1.0", unsafe)
        made = refine.strengthen(model, given, "p2.vnnlib", budget=0.5, z3="none", conform=False)
        assert made
        found.append(by_marabou(model, (folder / "p2.vnnlib").read_text()))
        if found[-1]:
            level = Fraction(f"{least - slack:.4f}")
            rows = outputs.astype(np.float64)
            assert np.all(rows[:, 0] - rows[:, 1] > float(level))
            ours = refine.check(model, given, claim="property", budget=2.0, z3="none")
            assert ours.verdict in ("verified", "unknown")
    assert found == [False, True]  # runs are in the first set


def cancelling(path: Path) -> Path:
    """(x + 2²³) − 2²³ − x: zero over the reals, up to one half in float32."""
    nodes = [
        helper.make_node("Add", ["x", "big"], ["a"]),
        helper.make_node("Sub", ["a", "big"], ["b"]),
        helper.make_node("Sub", ["b", "x"], ["y"]),
    ]
    return save(path, nodes, {"x": [1]}, {"y": [1]}, {"big": np.array([2.0**23], np.float32)})


def over_the_reals(model: Path, property_file: str) -> str:
    """What an exact verifier says."""
    found = refine.check(model, property_file, claim="property", contract="exact", budget=1.0)
    return found.verdict.value


def test_a_margin_below_what_executions_take_is_not_called_proved(folder: Path) -> None:
    """Over the reals y = 0; executions are up to one half below."""
    model = cancelling(folder / "m.onnx")
    for level, after in (("-0.25", "violated"), ("-0.75", "verified")):
        property_file(folder / "p.vnnlib", 1, 1, "0.0..1.0", f"(<= Y_0 {level})")
        assert over_the_reals(model, "p.vnnlib") == "verified"
        made = refine.strengthen(model, "p.vnnlib", "p2.vnnlib", budget=1.0, conform=False)
        assert 0.5 <= made.bound < 0.51
        assert over_the_reals(model, "p2.vnnlib") == after


def test_boxes_grow_to_what_inputs_are_rounded_to(folder: Path) -> None:
    """Float32 has no 0.1: what the runtime receives is above it."""
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    model = save(folder / "m.onnx", nodes, {"x": [1]}, {"y": [1]})
    given = property_file(folder / "p.vnnlib", 1, 1, "0.0..0.1", "(>= Y_0 0.1000000001)")
    assert refine.strengthen(model, given, "p2.vnnlib", budget=1.0, conform=False)
    assert over_the_reals(model, "p2.vnnlib") == "verified"
    assert refine.strengthen(model, given, "p2.vnnlib", conform=False, round_inputs=True)
    high = re.findall(rf"\(<= X_0 ({_NUMBER})\)", Path("p2.vnnlib").read_text())
    assert Fraction(high[0]) >= Fraction(float(np.float32(0.1)))
    assert over_the_reals(model, "p2.vnnlib") == "violated"


def test_values_that_may_not_be_finite_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overflowing(folder / "m.onnx")
    property_file(folder / "p.vnnlib", 2, 2, "0.0..1e30", "(<= Y_0 -1.0)")
    arguments = ["strengthen", "m.onnx", "p.vnnlib", "-o", "p2.vnnlib", "-q"]
    assert run([*arguments, "--budget", "1"]) is ExitCode.UNKNOWN
    assert "p2.vnnlib is not written: no bound on executions is proved" in capsys.readouterr().err
    assert not Path("p2.vnnlib").exists()


def test_on_the_command_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network(folder / "m.onnx", 1)
    property_file(folder / "p.vnnlib", 4, 3, "-1.0..1.0", "(<= (- Y_0 Y_1) -9.0)")
    usual = ["--budget", "0.5", "--no-conform", "-q", "--z3", "none"]
    arguments = ["strengthen", "m.onnx", "p.vnnlib"]
    assert run([*arguments, "-o", "p2.vnnlib", *usual]) is ExitCode.VERIFIED
    assert "wrote p2.vnnlib: 1 row moved by at most" in capsys.readouterr().out
    assert run([*arguments, "-o", "q.vnnlib", "--write", "2", *usual]) is ExitCode.VERIFIED
    tensors = Tensors((("float32", (1, 4)),), (("float32", (1, 3)),))
    first = property_of_text(Path("p2.vnnlib").read_text(), tensors)
    second = property_of_text(Path("q.vnnlib").read_text(), tensors)
    assert (first.version, second.version) == (1, 2)
    assert second.real
    assert first.unsafe[0].rows[0].at_most > -9
    assert abs(first.unsafe[0].rows[0].at_most - second.unsafe[0].rows[0].at_most) < Fraction(1, 10)
    assert first.unsafe[0].limits == second.unsafe[0].limits
    assert run([*arguments, "-o", "p.vnnlib", *usual]) is ExitCode.INPUT_ERROR
    assert run(["strengthen", "m.onnx", "q.vnnlib", "-o", "r.vnnlib"]) is ExitCode.INPUT_ERROR
    assert "speaks of a network of real numbers" in capsys.readouterr().err
    with pytest.raises(ModelError, match="version="):
        refine.strengthen("m.onnx", "p.vnnlib", "p2.vnnlib", version=3)


def random_half(rng: np.random.Generator) -> Half:
    lo, hi = sorted(Fraction(int(rng.integers(-999, 999)), int(rng.integers(1, 97))) for _ in "ab")
    return Half(lo, hi + 1, bool(rng.integers(2)), bool(rng.integers(2)))


def random_row(rng: np.random.Generator) -> Row:
    def numbers(size: int) -> dict[int, Fraction]:
        picked = rng.choice(size, rng.integers(1, size + 1), replace=False)
        values = (int(v) or 1 for v in rng.integers(-5, 6, len(picked)))
        return {
            int(i): Fraction(v, int(rng.choice([1, 1, 3, 8])))
            for i, v in zip(picked, values, strict=True)
        }

    at_most = Fraction(int(rng.integers(-(10**9), 10**9)), int(rng.integers(1, 10**7)))
    return Row(numbers(3), numbers(2) if rng.integers(2) else {}, at_most, bool(rng.integers(2)))


@pytest.mark.parametrize("version", [1, 2])
def test_what_is_written_contains_what_is_meant(version: int) -> None:
    """Read back exactly, and as a program that rounds decimals to float64 does."""
    tensors = Tensors((("float32", (2, 1)), ("float32", ())), (("float32", (1, 4)),))
    rng = np.random.default_rng(3)
    for k in range(60):
        limits = {i: random_half(rng) for i in range(3)}
        parts = tuple(
            Conjunction(
                limits if k % 2 else {i: random_half(rng) for i in range(3)},
                tuple(random_row(rng) for _ in range(rng.integers(1, 4))),
            )
            for _ in range(rng.integers(1, 4))
        )
        text = vnnlib_text(Property(parts, ""), tensors, version, ["a\nb"])
        assert text.startswith("; a b\n")
        rounded = re.sub(_NUMBER, lambda n: _exactly(float(n[0])), text)
        for found in (text, rounded):
            back = property_of_text(found, tensors)
            assert len(back.unsafe) == len(parts)
            for meant, got in zip(parts, back.unsafe, strict=True):
                _contains(got, meant)


def _exactly(value: float) -> str:
    """All decimals of a float64."""
    text = f"{Decimal(value):f}"
    return text if "." in text else f"{text}.0"


def _contains(got: Conjunction, meant: Conjunction) -> None:
    for i, half in meant.limits.items():
        wide, little = got.limits[i], Fraction(1, 10**9)
        assert None not in (half.lo, half.hi, wide.lo, wide.hi)
        lo, hi, low, high = (Fraction(s or 0) for s in (half.lo, half.hi, wide.lo, wide.hi))
        assert lo - little < low <= lo
        assert hi <= high < hi + little
        assert not wide.lo_open
        assert not wide.hi_open
    assert len(got.rows) == len(meant.rows)
    for found, row in zip(got.rows, meant.rows, strict=True):
        place = next(iter(row.outputs))
        scale = found.outputs[place] / row.outputs[place]
        assert scale > 0
        assert {i: c * scale for i, c in row.outputs.items()} == found.outputs
        assert {i: c * scale for i, c in row.inputs.items()} == found.inputs
        assert not found.strict
        beyond = found.at_most - row.at_most * scale
        assert 0 <= beyond <= abs(row.at_most * scale) * Fraction(1, 2**50) + Fraction(1, 10**9)


def test_the_parser_of_version_two_reads_what_is_written() -> None:
    """The standard's own, where it is installed."""
    vnnlib = pytest.importorskip("vnnlib")
    tensors = Tensors((("float32", (2, 1)), ("float32", ())), (("float32", (1, 4)),))
    rng = np.random.default_rng(4)
    for _ in range(20):
        parts = tuple(
            Conjunction({i: random_half(rng) for i in range(3)}, (random_row(rng),))
            for _ in range(2)
        )
        vnnlib.parse_query_string(vnnlib_text(Property(parts, ""), tensors, 2))
