"""Dimensions that a file leaves open: said, shown by arrays, or asked for in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from small_models import save

import refine
from onnx_import import load
from onnx_import.errors import ModelError
from onnx_import.graph import Sizes
from refine.options.sizes import sizes_from, sizes_of


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    """y = ReduceSum of x over its last axis; x [batch, seq, 4]."""
    nodes = [helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)]
    axes = {"axes": np.array([-1], np.int64)}
    return save(
        tmp_path / "sums.onnx", nodes, {"x": ["batch", "seq", 4]}, {"y": ["batch", "seq"]}, axes
    )


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """y = a + b; both [n, width]."""
    nodes = [helper.make_node("Add", ["a", "b"], ["y"])]
    return save(
        tmp_path / "two.onnx", nodes, {"a": ["n", "width"], "b": ["n", "width"]}, {"y": None}
    )


def shape_in(path: Path, sizes: Sizes, name: str = "x") -> tuple[int, ...]:
    return load(path, sizes=sizes).types[name].shape


def test_what_is_open_is_listed_with_the_options(sums: Path) -> None:
    with pytest.raises(ModelError) as error:
        load(sums)
    assert "dimensions 0 ('batch') and 1 ('seq')" in str(error.value)
    assert "--shape x=1,N,4" in str(error.value)
    assert "--dim batch=N --dim seq=N" in str(error.value)


def test_a_shape_or_the_sizes_of_dimensions_are_said(sums: Path, two: Path) -> None:
    assert shape_in(sums, sizes_of(["x=2,3,4"])) == (2, 3, 4)
    assert shape_in(sums, sizes_of([], ["seq=5"])) == (1, 5, 4)
    assert shape_in(sums, sizes_from({"x": [1, 7, 4]})) == (1, 7, 4)
    assert shape_in(two, sizes_of(["a=2,6"]), "b") == (2, 6)  # of the same names
    assert shape_in(two, sizes_from(dims={"n": 3, "width": 2}), "b") == (3, 2)


@pytest.mark.parametrize(
    ("shapes", "dims", "words"),
    [
        (["x=2,3,5"], [], "contradicts"),
        (["x=2,3"], [], "contradicts"),
        (["z=2,3,4"], [], "inputs are x"),
        ([], ["time=4"], "batch, seq"),
        (["x=2,3,4"], ["seq=4"], "dimension 'seq' is 3"),
        (["x=2,-3,4"], [], "no size"),
        (["2,3,4"], [], "NAME=N,N"),
        (["x=1,2,4", "x=1,2,4"], [], "twice"),
        ([], ["seq=a"], "no size"),
    ],
)
def test_what_fits_nothing_is_refused(
    sums: Path, shapes: list[str], dims: list[str], words: str
) -> None:
    with pytest.raises(ModelError, match=words.replace("[", r"\[")):
        load(sums, sizes=sizes_of(shapes, dims))


@pytest.mark.parametrize("value", [{"x": "1,2"}, {"x": [1.5]}, {"x": [True]}, [1], {1: [2]}])
def test_shapes_in_python_are_mappings_of_whole_numbers(value: object) -> None:
    with pytest.raises(ModelError, match="shapes="):
        sizes_from(value)


def test_names_that_say_nothing_are_not_one_dimension(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, {"x": ["?", 3, "?", "?"]}, {"y": None})
    assert shape_in(path, sizes_of(["x=1,3,8,6"])) == (1, 3, 8, 6)
    with pytest.raises(ModelError) as error:
        load(path)
    assert "--dim" not in str(error.value)


def test_an_input_without_a_shape_takes_a_whole_one(tmp_path: Path) -> None:
    path = save(
        tmp_path / "m.onnx", [helper.make_node("Relu", ["x"], ["y"])], {"x": [2]}, {"y": None}
    )
    proto = onnx.load(path)
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    onnx.save(proto, path)
    assert shape_in(path, sizes_of(["x=3,2"])) == (3, 2)
    with pytest.raises(ModelError, match="'x' has no shape: say --shape x="):
        load(path)


def test_the_arrays_of_a_domain_show_what_is_open(sums: Path, tmp_path: Path) -> None:
    centre = np.full((3, 4), 0.5, np.float32)
    np.save(tmp_path / "c.npy", centre)
    np.savez(tmp_path / "box.npz", lo=np.zeros((2, 3, 4)), hi=np.ones((2, 3, 4)))
    quick: dict[str, Any] = {"z3": "none", "no_search": True, "conform": False, "budget": 0.0}
    asked = [
        refine.bound(sums, center=tmp_path / "c.npy", radius=0.1, **quick),
        refine.bound(sums, center=centre, radius=0.1, **quick),
        refine.bound(sums, {"x": (centre, centre)}, **quick),
    ]
    for result in asked:
        assert result.graph.types["x"].shape == (1, 3, 4)
        assert result.bounds["y"].shape == (1, 3)
    whole = refine.bound(sums, box=tmp_path / "box.npz", **quick)
    assert whole.bounds["y"].shape == (2, 3)


def test_points_are_no_batch(sums: Path) -> None:
    points = np.linspace(0, 1, 5 * 3 * 4, dtype=np.float32).reshape(5, 3, 4)
    found = refine.stable(sums, points, output="y", no_search=True, z3="none", conform=False)
    assert len(found) == 5


def test_a_counterexample_knows_its_shapes(sums: Path, tmp_path: Path) -> None:
    place = tmp_path / "c.json"
    result = refine.check(
        sums, "0..1", 1e-12, dims={"seq": 2}, conform=False, z3="none", counterexample=place
    )
    assert result.verdict is refine.Verdict.VIOLATED
    again = refine.replay(place, model=sums)
    assert again.violated
    assert again.saved.graph.types["x"].shape == (1, 2, 4)


def test_two_models_that_differ_by_an_axis_of_1(tmp_path: Path) -> None:
    """The same affine map with a batch and without, one of them left open; a third is another."""
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(3, 2)), rng.normal(size=2)
    stored = {"w": weight.astype(np.float32), "b": bias.astype(np.float32)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["y"]),
    ]
    flat = save(tmp_path / "flat.onnx", nodes, {"x": [3]}, {"y": None}, stored)
    batch = save(tmp_path / "batch.onnx", nodes, {"x": [1, 3]}, {"y": None}, stored)
    open_ = save(tmp_path / "open.onnx", nodes, {"x": ["n", "k", 3]}, {"y": None}, stored)
    other = {**stored, "b": stored["b"] + 1}
    apart = save(tmp_path / "apart.onnx", nodes, {"x": [1, 3]}, {"y": None}, other)
    quick: dict[str, Any] = {"conform": False, "z3": "none", "budget": 0.0}
    for spec in (flat, batch, open_):
        for impl in (flat, batch):
            result = refine.diff(spec, impl, "-1..1", 1e-5, **quick)
            assert result.verdict is refine.Verdict.VERIFIED
    for one, another in ((flat, apart), (apart, flat)):
        result = refine.diff(one, another, "-1..1", 1e-5, **quick)
        assert result.verdict is refine.Verdict.VIOLATED
        assert result.largest_found == pytest.approx(1.0, rel=1e-3)


def test_a_first_dimension_that_is_1_is_so_in_other_inputs(tmp_path: Path) -> None:
    """A state of [2, batch, 3] beside an input of [batch, 3]."""
    nodes = [helper.make_node("Add", ["x", "state"], ["y"])]
    path = save(
        tmp_path / "m.onnx", nodes, {"x": ["batch", 3], "state": [2, "batch", 3]}, {"y": None}
    )
    assert shape_in(path, Sizes(), "state") == (2, 1, 3)
    assert shape_in(path, sizes_of([], ["batch=4"]), "state") == (2, 4, 3)
