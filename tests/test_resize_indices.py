"""Nearest Resize against ONNX's reference and onnxruntime, for all sizes up to 40."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from encoders.families.images.resizing import COORDINATES, coordinates, exact_coordinates
from encoders.operator import site_of
from encoders.ops.movement.resize import index_of, nearest, nearest_in_float32, notes
from encoders.program import program_of
from onnx_import import load

ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
LARGEST = 40
NEAR = Fraction(1, 10**12)  # what coordinates in float64 may be off


def model(shape: list[Any], stored: Any = None, opset: int = 13, **attributes: Any) -> Any:
    """One Resize to given sizes, which are a graph input unless they are stored."""
    kinds = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    sizes = helper.make_tensor_value_info("n", TensorProto.INT64, [len(shape)])
    made = helper.make_model(
        helper.make_graph(
            [helper.make_node("Resize", ["x", "", "", "n"], ["y"], name="resize", **attributes)],
            "resize",
            kinds if stored is not None else [*kinds, sizes],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [onnx.numpy_helper.from_array(np.array(stored, np.int64), "n")] if stored else [],
        ),
        opset_imports=[helper.make_opsetid("", opset)],
    )
    made.ir_version = 8
    return made


def session(made: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    return onnxruntime.InferenceSession(made.SerializeToString(), options)


def every_pair() -> Iterator[tuple[int, int]]:
    sizes = range(1, LARGEST + 1)
    return ((n, out) for n in sizes for out in sizes if n != out)


def is_jump(how: str, place: Fraction) -> bool:
    """Does the nearest element change at this coordinate?"""
    step = place if how in ("floor", "ceil") else place + Fraction(1, 2)
    return abs(step - round(step)) <= NEAR


@pytest.mark.parametrize("mode", COORDINATES)
def test_onnxruntime_reads_what_is_said_of_it(mode: str) -> None:
    """Its elements are those of the specification, but for those of the note, which are at jumps
    of the specification; so are those of plain float64."""
    sessions = {
        how: session(
            model(["a"], mode="nearest", coordinate_transformation_mode=mode, nearest_mode=how)
        )
        for how in ROUNDINGS
    }
    parted = 0
    for n, out in every_pair():
        scale = Fraction(out, n)
        exact = exact_coordinates(mode, scale, n, out)
        rounded = coordinates(mode, np.float32(out) / np.float32(n), n, out)
        x = np.arange(n, dtype=np.float32)
        for how, run in sessions.items():
            (read,) = run.run(None, {"x": x, "n": np.array([out])})
            said = np.clip(nearest_in_float32(how, rounded), 0, n - 1)
            assert np.array_equal(read, said), (mode, how, n, out)
            ours = np.clip(nearest(how, exact), 0, n - 1)
            for o in np.flatnonzero(ours != read):
                parted += 1
                assert abs(ours[o] - read[o]) == 1
                assert is_jump(how, exact[o]), (mode, how, n, out, o)
    assert parted > 0 or mode == "align_corners"


@pytest.mark.parametrize("mode", [m for m in COORDINATES if m != "tf_half_pixel_for_nn"])
def test_the_reference_of_onnx_reads_the_same_but_at_jumps(mode: str) -> None:
    """The reference computes coordinates in float64, where a jump is missed now and then; a hair
    above an element it takes the one before, because its window and its ratio round apart."""
    for how in ROUNDINGS:
        reference = ReferenceEvaluator(
            model(["a"], mode="nearest", coordinate_transformation_mode=mode, nearest_mode=how)
        )
        for n, out in every_pair():
            if (n + out) % 3 and max(n, out) > 12:
                continue
            (read,) = reference.run(
                None, {"x": np.arange(n, dtype=np.float32), "n": np.array([out])}
            )
            exact = exact_coordinates(mode, Fraction(out, n), n, out)
            ours = np.clip(nearest(how, exact), 0, n - 1)
            for o in np.flatnonzero(ours != read):
                whole = is_jump("floor", exact[o])
                assert is_jump(how, exact[o]) or whole, (mode, how, n, out, o)


@pytest.mark.parametrize(
    ("n", "out", "at", "element", "attributes"),
    [
        (14, 19, 9, 6, {}),
        (14, 1, 0, 7, {"nearest_mode": "round_prefer_ceil"}),
        (7, 2, 1, 4, {
            "nearest_mode": "round_prefer_ceil", "coordinate_transformation_mode": "asymmetric",
        }),
    ],
)  # fmt: skip
def test_a_tie_is_decided_by_exact_coordinates(
    n: int, out: int, at: int, element: int, attributes: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    made = model([1, 1, 1, n], [1, 1, 1, out], mode="nearest", **attributes)
    onnx.save(made, path)
    graph = load(path)
    (node,) = graph.order
    found = index_of(site_of(graph, node)).reshape(-1)
    x = np.arange(n, dtype=np.float32).reshape(1, 1, 1, n)
    assert found[at] == element
    for reader in (session(made), ReferenceEvaluator(made)):
        (read,) = reader.run(None, {"x": x})
        assert np.array_equal(np.asarray(read).reshape(-1), found)
    assert not program_of(graph).notes


def test_where_onnxruntime_parts_the_result_says_so(tmp_path: Path) -> None:
    """14 elements to 2, rounded down: element 7 is the second, and onnxruntime takes 6."""
    path = tmp_path / "model.onnx"
    made = model(
        [1, 1, 1, 14], [1, 1, 1, 2], mode="nearest", nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )  # fmt: skip
    onnx.save(made, path)
    x = np.arange(14, dtype=np.float32).reshape(1, 1, 1, 14)
    (read,) = session(made).run(None, {"x": x})
    assert read.reshape(-1).tolist() == [0, 6]
    graph = load(path)
    (note,) = notes(site_of(graph, graph.order[0]))
    assert "output 1 of axis 3 is element 7, not 6" in note
