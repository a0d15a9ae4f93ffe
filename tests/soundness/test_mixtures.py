"""Attention and normalised rows: functionals over wide and narrow ranges against numpy and
onnxruntime, which share nothing with the relaxations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import helper
from small_models import save

from encoders.contract.presets import IEEE_ANY
from encoders.lemmas.differences import GIVEN_ERROR
from encoders.lemmas.kernel import Radius, apply
from encoders.numbers.enclosure import Interval
from encoders.operator import DifferenceMap
from encoders.program import program_of
from encoders.relaxations.probabilities.mixtures import Mixing
from onnx_import import load
from refine.bounds.backward import pull_back
from refine.bounds.network import InputBox, NetworkBounds, network_bounds

Array = npt.NDArray[np.float64]
TOKENS, WIDTH = 3, 4


def softmax(s: Array) -> Array:
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def attention(x: Array, w: dict[str, Array], mask: Array | None) -> dict[str, Array]:
    q, k, v = (x @ w[n] for n in ("wq", "wk", "wv"))
    s = q @ np.swapaxes(k, -1, -2)
    p = softmax(s if mask is None else np.where(mask, s, -np.inf))
    a = p @ v
    r = x + a
    return {"p": p, "a": a, "r": r, "z": normal(r) * w["g"]}


def normal(x: Array) -> Array:
    c = x - x.mean(axis=-1, keepdims=True)
    return np.asarray(c / np.sqrt((c * c).mean(axis=-1, keepdims=True) + float(np.float32(1e-5))))


def nodes(mask: bool, turned: bool) -> list[onnx.NodeProto]:
    """`turned`: probabilities pass two moves of data before they weigh anything."""
    made = [helper.make_node("MatMul", ["x", n], [n[1]]) for n in ("wq", "wk", "wv")]
    made.append(helper.make_node("Transpose", ["k"], ["t"], perm=[0, 2, 1]))
    made.append(helper.make_node("MatMul", ["q", "t"], ["s"]))
    scores = "s"
    if mask:
        made.append(helper.make_node("Add", ["s", "mask"], ["sm"]))
        scores = "sm"
    made.append(helper.make_node("Softmax", [scores], ["p"], axis=-1))
    weights = "p"
    if turned:
        made.append(helper.make_node("Unsqueeze", ["p", "front"], ["p1"]))
        made.append(helper.make_node("Squeeze", ["p1", "front"], ["p2"]))
        weights = "p2"
    made.append(helper.make_node("MatMul", [weights, "v"], ["a"], name="mix"))
    made.append(helper.make_node("Add", ["x", "a"], ["r"]))
    made.append(helper.make_node("LayerNormalization", ["r", "g"], ["z"], name="n"))
    return made


def sizes(seed: int) -> tuple[float, float]:
    return ((0.0, 1.0), (0.01, 1.0), (0.3, 1.0), (2.0, 1.5), (0.3, 4.0))[seed % 5]


def checked(tmp_path: Path, seed: int) -> tuple[NetworkBounds, dict[str, Array]]:
    rng = np.random.default_rng(seed)
    radius, steep = sizes(seed)
    w = {n: steep * rng.uniform(-1, 1, (WIDTH, WIDTH)) for n in ("wq", "wk", "wv")}
    w["wv"] = w["wv"] + rng.choice([0.0, 3.0])
    w["g"] = rng.uniform(-2, 2, WIDTH)
    stored = {n: v.astype(np.float32) for n, v in w.items()}
    exact = {n: v.astype(np.float64) for n, v in stored.items()}
    masked, mask = seed % 3 == 1, np.tril(np.ones((TOKENS, TOKENS)))
    stored["front"] = np.zeros(1, np.int64)
    if masked:
        stored["mask"] = np.where(mask > 0, 0.0, -np.inf).astype(np.float32)[None]
    shape = [1, TOKENS, WIDTH]
    outputs = {t: [1, TOKENS, TOKENS if t == "p" else WIDTH] for t in ("p", "a", "r", "z")}
    made = nodes(masked, turned=seed % 2 == 1)
    path = save(tmp_path / "m.onnx", made, {"x": shape}, outputs, stored, opset=18)
    graph = load(path)
    middle = rng.uniform(-1, 1, shape).astype(np.float32).astype(np.float64)
    low, high = ((middle + r).astype(np.float32).astype(np.float64) for r in (-radius, radius))
    box = InputBox({"x": Interval(low, high)}, {"x": np.zeros(shape)})
    bounds = network_bounds(graph, box, IEEE_ANY)
    t = np.concatenate(
        [rng.choice([-1.0, 1.0], (400, *shape[1:])), rng.uniform(-1, 1, (400, *shape[1:]))]
    )
    x = np.clip((middle + radius * t).astype(np.float32), low[0], high[0]).astype(np.float64)
    real = attention(x, exact, mask if masked else None)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options)
    names = [o.name for o in session.get_outputs()]
    for one, at in zip(x[:100], range(100), strict=True):
        run = session.run(names, {"x": one[None].astype(np.float32)})
        for name, found in zip(names, run, strict=True):
            off = np.abs(np.asarray(found)[0].astype(np.float64) - real[name][at])
            assert np.all(off <= bounds.errors[name][0] + 1e-13)
    return bounds, {"x": x, **real}


@pytest.mark.parametrize("seed", range(10))
def test_attention_stays_within_ranges_functionals_and_errors(tmp_path: Path, seed: int) -> None:
    bounds, real = checked(tmp_path, seed)
    maps, rng = bounds.maps, np.random.default_rng(seed)
    assert set(maps.mixes) == {"mix"}
    for name in ("p", "a", "r", "z"):
        range_ = maps.values[name]
        assert np.all(range_.lo <= real[name].min(axis=0) + 1e-12)
        assert np.all(range_.hi >= real[name].max(axis=0) - 1e-12)
        c = rng.uniform(-1, 1, (20, *range_.lo.shape)) * rng.choice([0, 1], (20, *range_.lo.shape))
        c[0] = 1.0
        upper = pull_back(maps, {name: c}, {}).upper
        found = np.max(np.einsum("kabc,nbc->kn", c, real[name]), axis=1)
        assert np.all(found <= upper + 1e-11)
    values = maps.values["v"]
    assert np.all(maps.values["a"].hi <= values.hi.max(axis=-2, keepdims=True) + 1e-12)
    assert np.all(maps.values["a"].lo >= values.lo.min(axis=-2, keepdims=True) - 1e-12)


def test_a_mixture_of_far_values_costs_no_more_than_of_near_ones(tmp_path: Path) -> None:
    """Σp = 1: what all rows of v have in common is not multiplied by what p is off by."""
    found = []
    for far in (0.0, 1000.0):
        rng = np.random.default_rng(1)
        stored = {n: rng.uniform(-1, 1, (4, 4)).astype(np.float32) for n in ("wq", "wk", "wv")}
        stored |= {"g": np.ones(4, np.float32), "far": np.full(4, far, np.float32)}
        made = nodes(mask=False, turned=False)[:-3]
        made += [helper.make_node("Add", ["v", "far"], ["vf"])]
        made += [helper.make_node("MatMul", ["p", "vf"], ["a"])]
        path = save(tmp_path / "m.onnx", made, {"x": [1, 3, 4]}, {"a": [1, 3, 4]}, stored, opset=18)
        x = np.full((1, 3, 4), 1.0)
        box = InputBox({"x": Interval(-x, x)}, {"x": 0 * x})
        range_ = network_bounds(load(path), box, IEEE_ANY).maps.values["a"]
        found.append(float(np.max(range_.hi - range_.lo)))
    assert found[1] < 1.01 * found[0]


def test_rows_that_do_not_add_up_to_one_are_no_weights(tmp_path: Path) -> None:
    """Probabilities along another axis than the one that is summed over, or cut."""
    for axis, cut in ((1, False), (2, True)):
        made = [helper.make_node("Softmax", ["x"], ["p"], axis=axis)]
        weights, inner = "p", 3
        if cut:
            made.append(helper.make_node("Slice", ["p", "from", "to", "along"], ["c"]))
            weights, inner = "c", 2
        made.append(helper.make_node("MatMul", [weights, "y"], ["a"], name="mix"))
        stored = {"from": np.array([0]), "to": np.array([2]), "along": np.array([2])}
        path = save(
            tmp_path / "m.onnx",
            made,
            {"x": [1, 3, 3], "y": [1, inner, 2]},
            {"a": [1, 3, 2]},
            stored,
        )
        graph = load(path)
        one = {t: np.ones(graph.types[t].shape) for t in graph.inputs}
        box = InputBox(
            {t: Interval(-v, v) for t, v in one.items()}, {t: 0 * v for t, v in one.items()}
        )
        assert not network_bounds(graph, box, IEEE_ANY).maps.mixes


STORED_BESIDE: dict[str, list[tuple[str, list[str], dict[str, Any]]]] = {
    "concatenated": [("Slice", ["p", "0", "1", "1"], {}), ("Concat", ["m", "2.0"], {"axis": 1})],
    "padded": [("Slice", ["p", "0", "1", "1"], {}), ("Pad", ["m", "pads", "2"], {})],
    "scattered": [("ScatterElements", ["p", "place", "2.0"], {"axis": 1})],
    "placed": [("ScatterND", ["p", "places", "2."], {})],
    "masked": [("Where", ["mask", "p", "2.0"], {})],
    "twice": [
        ("Slice", ["p", "0", "1", "1"], {}),
        ("Concat", ["2.0", "m"], {"axis": 1}),
        ("Transpose", ["m"], {"perm": [0, 1]}),
    ],
}


@pytest.mark.parametrize("how", STORED_BESIDE)
@pytest.mark.parametrize("stored_number", [1.0, 2.0, 0.25, -2.0])
def test_stored_numbers_between_probabilities_are_no_probabilities(
    tmp_path: Path, how: str, stored_number: float
) -> None:
    """A stored 2 is not the second of them, though it stands where that was."""
    number = np.float32(stored_number)
    stored = {
        **{"0": np.array([0]), "1": np.array([1]), "pads": np.array([0, 0, 0, 1])},
        **{"2": number, "2.": number.reshape(1), "2.0": number.reshape(1, 1)},
        **{"place": np.array([[1]]), "places": np.array([[0, 1]])},
        **{"mask": np.array([[True, False]]), "k": np.eye(2, dtype=np.float32)},
    }
    made, last = [helper.make_node("Softmax", ["x"], ["p"], axis=-1)], "p"
    for at, (operator, reads, attributes) in enumerate(STORED_BESIDE[how]):
        reads = [last if t == "m" else t for t in reads]
        last = f"m{at}"
        made.append(helper.make_node(operator, reads, [last], **attributes))
    made.append(helper.make_node("MatMul", ["x", "k"], ["v"]))
    made.append(helper.make_node("Transpose", ["v"], ["t"], perm=[1, 0]))
    made.append(helper.make_node("MatMul", [last, "t"], ["a"], name="mix"))
    path = save(tmp_path / "m.onnx", made, {"x": [1, 2]}, {"a": [1, 1]}, stored)
    one = np.ones((1, 2))
    box = InputBox({"x": Interval(one, 1.5 * one)}, {"x": 0 * one})
    bounds = network_bounds(load(path), box, IEEE_ANY)
    assert not bounds.maps.mixes
    for size in (1.0, 1.25, 1.5):
        real = (0.5 + stored_number) * size
        range_ = bounds.maps.values["a"]
        assert range_.lo <= real <= range_.hi


def within(rng: np.random.Generator, x: Interval) -> Array:
    """A point of a box, as often as not one of its corners."""
    t = rng.uniform(0, 1, x.lo.shape) if rng.random() < 0.5 else rng.choice([0.0, 1.0], x.lo.shape)
    return np.asarray(x.lo + (x.hi - x.lo) * t)


def near(rng: np.random.Generator, x: Array, e: Array) -> Array:
    return np.asarray(x + e * (rng.choice([-1.0, 1.0], e.shape) if rng.random() < 0.5 else 0.9))


def holds(mapped: DifferenceMap, before: list[Array], after: Array, c: Array) -> None:
    """Is the difference `after` within the radius, and do functionals keep to what they cost?"""
    assert np.all(np.abs(after) <= mapped.radius.bound + 1e-13)
    pulled = mapped.backward(c)
    through = np.zeros(len(c))
    for part, d in zip(pulled.coefficients, before, strict=True):
        if part is not None:
            through += np.sum((part * d).reshape(len(c), -1), axis=1)
    whole = np.sum((c * after).reshape(len(c), -1), axis=1)
    assert np.all(np.abs(whole - through) <= pulled.cost.bound + 1e-12)


def given(e: Array) -> Radius:
    return apply(GIVEN_ERROR, U=e)


@pytest.mark.parametrize("seed", range(20))
def test_large_differences_keep_to_what_is_said_of_them(tmp_path: Path, seed: int) -> None:
    """Differences of up to the size of what varies, as no run in float32 has them."""
    rng = np.random.default_rng(seed)
    shape, size = (1, TOKENS, TOKENS), rng.choice([1e-3, 0.1, 1.0])
    stored = {"g": np.ones(TOKENS, np.float32)}
    made = [
        helper.make_node("Softmax", ["s"], ["p"], name="p"),
        helper.make_node("MatMul", ["p", "v"], ["a"], name="mix"),
        helper.make_node("LayerNormalization", ["a", "g"], ["z"], name="n"),
    ]
    sizes = {t: list(shape) for t in ("s", "v", "z")}
    inputs = {t: sizes[t] for t in ("s", "v")}
    path = save(tmp_path / "m.onnx", made, inputs, {"z": sizes["z"]}, stored, opset=18)
    steps = {step.name: step for step in program_of(load(path)).steps}
    middle, wide = rng.uniform(-1, 1, shape), rng.choice([1e-3, 0.2, 1.0])
    s, v = (Interval(m - wide, m + wide) for m in (middle, 3 * rng.uniform(-1, 1, shape)))
    e, f, h = (k * size * rng.uniform(0, 1, shape) for k in (1.0, 1.0, 0.01))
    of_p = steps["p"].operator.differences(steps["p"].site, [s], [given(e)])
    p = steps["p"].operator.values(steps["p"].site, [s]).range
    off = given(h.sum(axis=-1, keepdims=True) * (1 + 1e-12))
    mixing = Mixing(p.lo, p.hi, off, given(e.max(axis=-1, keepdims=True)), p)
    errors = [of_p.radius + given(h), given(f)]
    of_a = steps["mix"].operator.differences(steps["mix"].site, [mixing, v], errors)
    of_z = steps["n"].operator.differences(steps["n"].site, [v], [given(f)])
    for _ in range(100):
        c = rng.uniform(-1, 1, (6, *shape)) * rng.choice([0, 1], (6, *shape))
        at, values = within(rng, s), within(rng, v)
        moved, values_moved = near(rng, at, e), near(rng, values, f)
        holds(of_p, [moved - at], softmax(moved) - softmax(at), c)
        run = near(rng, softmax(moved), h)
        d = [run - softmax(at), values_moved - values]
        holds(of_a, d, run @ values_moved - softmax(at) @ values, c)
        holds(of_z, d[1:], normal(values_moved) - normal(values), c)
