"""A quantised copy against its original: no execution of onnxruntime's is beyond the bound, and the
bound is near what executions find."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import numpy_helper
from quantised_networks import KEPT, Beside, Form, Network, beside, cnn, files, mlp, transformer

from encoders.contract.presets import EXACT, IEEE_ANY
from encoders.numbers.enclosure import Interval
from onnx_import import load
from refine.bounds.joint.joining import Joining
from refine.bounds.network import InputBox
from refine.pair.comparison import comparison
from refine.pair.pair import pair_of
from refine.pair.quantised import noise
from refine.pair.quantised.beyond_rounding import beyond_rounding
from refine.pair.quantised.lockstep import Lockstep, lockstep
from refine.pair.quantised.noise import noise_bounds
from refine.results.verdict import Side

Points = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Compared:
    """An original, its copy, and what relates them."""

    sides: Beside
    pair: Lockstep

    def bound(self, lo: npt.NDArray[np.float64], hi: npt.NDArray[np.float64]) -> float:
        box = InputBox({"x": Interval(lo, hi)}, {"x": np.zeros(lo.shape)})
        return noise_bounds(self.pair, box, IEEE_ANY).largest


def compared(folder: Path, net: Network, form: Form) -> Compared:
    kept = {} if form is Form.DYNAMIC else {"nodes_to_exclude": KEPT}
    source, target = files(folder, "net", net, form, **kept)
    sides = beside(source, target)
    pair = lockstep(sides.original, load(target), {"x": "x"}, {"y": "y"})
    assert pair is not None
    return Compared(sides, pair)


def ends(centre: Points, radius: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The ends of a ball, numbers of float32."""
    lo, hi = centre - np.float32(radius), centre + np.float32(radius)
    return lo.astype(np.float64), hi.astype(np.float64)


def found_within(both: Compared, centre: Points, radius: float, tries: int, seed: int) -> float:
    """The largest difference found by sampling and by climbing from the best sample on."""
    rng = np.random.default_rng(seed)
    lo, hi = ends(centre, radius)
    best, most = centre, both.sides.apart(centre)
    for i in range(tries):
        if i % 2:
            at = best + rng.normal(0, radius / 3, centre.shape) * (rng.random(centre.shape) < 0.4)
        else:
            at = centre + radius * rng.choice([-1.0, 1.0], centre.shape)
        x: Points = np.clip(at.astype(np.float32), lo, hi).astype(np.float32)
        here = both.sides.apart(x)
        if here > most:
            best, most = x, here
    return most


NETWORKS: dict[str, Callable[[int], Network]] = {
    "mlp": mlp,
    "tanh": lambda seed: mlp(seed, (5, 10, 3), "Tanh"),
    "cnn": lambda seed: cnn(seed, 4, (3, 3)),
    "residual": lambda seed: cnn(seed, 4, (3, 3), True),
    "transformer": lambda seed: transformer(seed, 3, 4),
}
CASES = [(name, form) for name in NETWORKS for form in Form]


@pytest.mark.parametrize(("name", "form"), CASES, ids=lambda v: getattr(v, "value", v))
def test_no_execution_is_beyond_the_bound(tmp_path: Path, name: str, form: Form) -> None:
    both = compared(tmp_path, NETWORKS[name](7), form)
    rng = np.random.default_rng(12)
    shape = both.sides.original.types["x"].shape
    for radius in (0.0, 0.003, 0.3):
        centre = rng.uniform(-0.9, 0.9, shape).astype(np.float32)
        bound = both.bound(*ends(centre, radius))
        found = found_within(both, centre, radius, 1 if radius == 0 else 30, seed=5)
        assert found <= bound
        if radius == 0:
            assert bound <= 1.5 * found + 1e-6


@pytest.mark.parametrize("form", Form, ids=lambda f: f.value)
@pytest.mark.parametrize("name", ["mlp", "cnn", "transformer"])
def test_in_a_small_ball_the_bound_is_near_what_is_found(
    tmp_path: Path, name: str, form: Form
) -> None:
    both = compared(tmp_path, NETWORKS[name](3), form)
    rng = np.random.default_rng(2)
    shape = both.sides.original.types["x"].shape
    centre = rng.uniform(-0.8, 0.8, shape).astype(np.float32)
    radius = 0.001
    bound = both.bound(*ends(centre, radius))
    assert bound <= 10 * found_within(both, centre, radius, 60, seed=1)


def test_rows_and_formulas_are_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a copy that is quantised as it runs: without, a ball of a hundredth is no small one."""
    both = compared(tmp_path, transformer(4), Form.DYNAMIC)
    centre = np.random.default_rng(9).uniform(-0.9, 0.9, (1, 4, 8)).astype(np.float32)
    box = ends(centre, 0.01)
    whole = both.bound(*box)
    assert found_within(both, centre, 0.01, 60, seed=1) <= whole
    monkeypatch.setattr(Joining, "of", lambda *given, **more: Joining({}, {}, _nothing))
    alone = both.bound(*box)
    monkeypatch.setattr(
        noise, "parting", lambda ranges, step, *_: ranges.maps.values[step.reads[0]]
    )
    assert 1.1 * whole <= alone <= 0.5 * both.bound(*box)


def _nothing(steps: object) -> None:
    """Nothing is known of what runs."""


@pytest.mark.parametrize("name", ["residual", "transformer"])
@pytest.mark.parametrize("most", [0, 2**12, 2**17])
def test_with_little_work_the_bound_is_wider_and_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, most: int
) -> None:
    both = compared(tmp_path, NETWORKS[name](7), Form.QDQ)
    shape = both.sides.original.types["x"].shape
    centre = np.random.default_rng(11).uniform(-0.9, 0.9, shape).astype(np.float32)
    whole = both.bound(*ends(centre, 0.003))
    monkeypatch.setattr(noise, "_MOST", most)
    monkeypatch.setattr(noise, "_MUCH", most)
    cut = both.bound(*ends(centre, 0.003))
    assert found_within(both, centre, 0.003, 30, seed=5) <= cut
    assert np.isfinite(cut)
    assert whole <= cut * (1 + 1e-9)


def test_a_problem_is_handed_to_other_processes(tmp_path: Path) -> None:
    source, target = files(tmp_path, "net", mlp(3), Form.QDQ)
    pair = pair_of(Side(load(source), EXACT), Side(load(target), IEEE_ANY))
    problem = comparison(pair)
    assert problem.lockstep is not None
    other = pickle.loads(pickle.dumps(problem))
    centre = np.full((1, 8), 0.25)
    box = InputBox({"x": Interval(centre, centre)}, {"x": np.zeros((1, 8))})
    assert other.bounds(box).largest == problem.bounds(box).largest


def scaled(path: Path, node: str, place: int, factor: float) -> Path:
    """The file with one scale of one node, and of no other, wrong by a factor."""
    model = onnx.load(path)
    (found,) = (n for n in model.graph.node if n.name == node)
    held = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    wrong = np.asarray(held[found.input[place]] * np.float32(factor), np.float32)
    model.graph.initializer.append(numpy_helper.from_array(wrong, "wrong"))
    found.input[place] = "wrong"
    other = path.with_name("wrong.onnx")
    onnx.save(model, other)
    return other


@pytest.mark.parametrize("form", [Form.QDQ, Form.OPERATORS], ids=lambda f: f.value)
@pytest.mark.parametrize("name", ["mlp", "cnn", "transformer"])
def test_a_scale_that_is_wrong_by_two_percent_is_told_from_rounding(
    tmp_path: Path, name: str, form: Form
) -> None:
    source, target = files(tmp_path, "net", NETWORKS[name](5), form, nodes_to_exclude=KEPT)
    spec, copy = load(source), onnx.load(target)
    plain = lockstep(spec, load(target), {"x": "x"}, {"y": "y"})
    assert plain is not None
    assert beyond_rounding(plain) == ()
    weights = {"QLinearConv": 4, "QGemm": 4, "QLinearMatMul": 4, "DequantizeLinear": 1}
    held = {t.name: numpy_helper.to_array(t) for t in copy.graph.initializer}
    tried = 0
    for node in copy.graph.node:
        if node.op_type not in weights or tried == 3:
            continue
        place = weights[node.op_type]
        stored = held.get(node.input[place - 1])
        if stored is not None and (stored.size < 48 or stored.dtype == np.int32):
            continue
        if node.op_type == "DequantizeLinear" and node.output[0] in {
            o.name for o in copy.graph.output
        }:
            continue
        wrong = load(scaled(target, node.name, place, 1.02))
        pair = lockstep(spec, wrong, {"x": "x"}, {"y": "y"})
        assert pair is not None
        (said, *_) = beyond_rounding(pair)
        (factor,) = re.findall(r"([\d.]+) times", said)
        assert min(abs(float(factor) - 1.02), abs(float(factor) - 1 / 1.02)) < 4e-3
        tried += 1
    assert tried
