"""Work that stays bounded, or is refused, where models are deep or read many tensors at once."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from onnx import NodeProto, helper
from small_models import save

from encoders.contract.presets import IEEE_ANY
from encoders.families.gathering import gathered_part
from encoders.numbers.enclosure import Interval
from encoders.program import program_of
from onnx_import import load
from onnx_import.errors import ModelError
from refine.bounds import pruning
from refine.bounds.network import InputBox, NetworkBounds, network_bounds


def _chain(path: Path, length: int) -> Path:
    """Bends and matrix products in turn on two numbers."""
    nodes, tensor = [], "x"
    for k in range(length):
        last = k == length - 1
        nodes.append(helper.make_node("MatMul", [tensor, "w"], [f"m{k}"]))
        tensor = "y" if last else f"t{k}"
        nodes.append(helper.make_node(("Tanh", "Relu")[k % 2], [f"m{k}"], [tensor]))
    weights = {"w": np.array([[0.75, -0.5], [0.5, 0.75]], np.float32)}
    return save(path, nodes, {"x": [1, 2]}, {"y": [1, 2]}, weights)


def _bounds(path: Path) -> tuple[NetworkBounds, int]:
    """The bounds on [-1, 1], and how many times a node was passed."""
    graph, visits = load(path), 0

    def tick() -> None:
        nonlocal visits
        visits += 1

    (name,) = graph.inputs
    shape = graph.types[name].shape
    box = InputBox(
        {name: Interval(np.full(shape, -1.0), np.full(shape, 1.0))}, {name: np.zeros(shape)}
    )
    return network_bounds(graph, box, IEEE_ANY, backward=True, tick=tick), visits


def test_the_work_on_a_deep_network_grows_no_faster_than_its_depth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "_MOST_VISITS", 2**10)
    visits = {n: _bounds(_chain(tmp_path / f"{n}.onnx", n))[1] for n in (10, 40, 80)}
    assert visits[10] > 10 * 10  # as deep as it is
    assert max(visits[40], visits[80]) < 3 * 2**10


def test_a_short_walk_gives_bounds_that_hold_and_no_better_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _chain(tmp_path / "m.onnx", 30)
    deep, _ = _bounds(path)
    monkeypatch.setattr(pruning, "_MOST_VISITS", 2**7)
    short, _ = _bounds(path)
    graph, rng = load(path), np.random.default_rng(0)
    w = np.asarray(graph.constants["w"], np.float64)
    x = rng.uniform(-1, 1, (500, 2))
    for node in graph.order:
        tensor = node.outputs[0]
        x = x @ w if node.op == "MatMul" else np.tanh(x) if node.op == "Tanh" else np.maximum(x, 0)
        held = short.maps.values[tensor]
        assert np.all((held.lo - 1e-12 <= x) & (x <= held.hi + 1e-12))
    assert short.largest >= deep.largest * (1.0 - 1e-9)
    assert np.isfinite(short.largest)
    assert set(short.influence) == {"x"}


def test_networks_of_a_few_hundred_layers_are_walked_whole(tmp_path: Path) -> None:
    graph = load(_chain(tmp_path / "m.onnx", 250))
    assert pruning.deepest(program_of(graph)) is None


@pytest.mark.parametrize("terms", [(5000, 3), (4097, 1)])
def test_long_sums_add_what_short_ones_do(terms: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    index = rng.integers(-1, 40, terms)
    part = gathered_part(index, (5, 8))
    matrix = np.zeros((terms[1], 40))
    for row in index:
        for out, read in enumerate(row):
            if read >= 0:
                matrix[out, read] += 1.0
    x, c = rng.normal(size=(3, 5, 8)), rng.normal(size=(4, terms[1]))
    assert np.allclose(part.apply(x), x.reshape(3, -1) @ matrix.T)
    assert np.allclose(part.adjoint(c).reshape(4, -1), c @ matrix)
    assert part.terms == np.max(np.sum(index >= 0, axis=0))
    assert part.adjoint_terms == np.max(np.sum(matrix, axis=0))


def test_a_tensor_joined_to_itself_many_times(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Concat", ["x", "c"] * 400, ["j"], axis=0),
        helper.make_node("ReduceSum", ["j"], ["y"], keepdims=0),
    ]
    stored = {"c": np.array([0.25, -1.0], np.float32)}
    bounds, visits = _bounds(save(tmp_path / "m.onnx", nodes, {"x": [2]}, {"y": []}, stored))
    held = bounds.maps.values["y"]
    assert held.lo <= 400 * -2.75 <= held.lo + 1e-9
    assert held.hi - 1e-9 <= 400 * 1.25 <= held.hi
    assert visits < 20


@pytest.mark.parametrize(
    ("node", "shape", "stored", "said"),
    [
        (
            helper.make_node("Pow", ["x", "e"], ["y"]),
            [100],
            {"e": np.linspace(1, 3, 100, dtype=np.float32)},
            "100 different exponents",
        ),
        (helper.make_node("LRN", ["x"], ["y"], size=5), [1, 600, 1, 1], {}, "600 channels"),
        (
            helper.make_node("LpPool", ["x"], ["y"], kernel_shape=[64, 64]),
            [1, 1, 160, 160],
            {},
            "38539264 numbers",
        ),
    ],
)
def test_what_would_be_decomposed_too_large_is_refused(
    node: NodeProto, shape: list[int], stored: dict[str, np.ndarray], said: str, tmp_path: Path
) -> None:
    path = save(tmp_path / "m.onnx", [node], {"x": shape}, {"y": [None] * len(shape)}, stored)
    with pytest.raises(ModelError, match=said):
        load(path)


def test_a_chain_longer_than_the_stack_is_asked_about(tmp_path: Path) -> None:
    """Of more numbers than are split: whether they vary independently at its end."""
    shape, length = [pruning.MOST_SPLIT_INPUTS + 1], 1100
    names = ["x", *(f"t{k}" for k in range(1, length)), "y"]
    nodes = [helper.make_node("Neg", [a], [b]) for a, b in itertools.pairwise(names)]
    program = program_of(load(save(tmp_path / "m.onnx", nodes, {"x": shape}, {"y": shape})))
    assert not pruning.gains(program, program.steps[-1], ())
