"""Resize and Upsample by linear interpolation: "Interpolate" in a graph that was read."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import helper
from operator_checks import (
    Example,
    box_of,
    check_against_reference,
    check_bounds,
    check_maps,
    check_runtime,
    check_terms,
    example,
    graph_of,
)
from small_models import save

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.arithmetic.exact_fields import Rationals, fraction
from encoders.contract.presets import EXACT, IEEE_ANY, SEQUENTIAL
from encoders.operator import site_of
from encoders.registry import lookup
from gpu_check.emulator.exact import evaluate_exact, evaluate_real
from onnx_import import load
from onnx_import.errors import UnsupportedModel
from refine.bounds.network import network_bounds


def resized(
    name: str, shape: tuple[int, ...], scales: Any = None, sizes: Any = None, **more: Any
) -> Example:
    inputs = "x - s" if sizes is None else "x - - s"
    given = np.array(scales, np.float32) if sizes is None else np.array(sizes)
    made = {"opset": 19, "mode": "linear", **more}
    return example("Resize", inputs, shape, name, {"s": given}, **made)


def mode(name: str) -> dict[str, str]:
    return {"coordinate_transformation_mode": name}


GRID = np.array([[[[-1.3, -0.9], [-0.35, 0.1]], [[0.0, 1.0], [0.77, -0.2]]]])


def at_places(name: str, shape: tuple[int, ...] = (1, 2, 3, 2), **more: Any) -> Example:
    """Pixels at places of a stored grid, which is as long as the shape has axes."""
    grid = np.concatenate([GRID, GRID[..., :1] * 0.6], -1)[:, None] if len(shape) == 5 else GRID
    stored = {"g": np.repeat(grid, shape[0], 0)}
    return example("GridSample", "x g", shape, name, stored, **{"opset": 20, **more})


def regions(name: str, rois: Any, **more: Any) -> Example:
    """Stored regions of pixels, each of the last map of the batch but the first."""
    stored = {"r": np.array(rois), "b": np.array([1] * (len(rois) - 1) + [0])}
    made = {"opset": 16, "output_height": 2, "output_width": 4, "sampling_ratio": 1, **more}
    return example("RoiAlign", "x r b", (2, 2, 3, 4), name, stored, **made)


SCALED = {"spatial_scale": 0.47619047}  # a region of 2.1 pixels is one of about 1
OLDER = {"coordinate_transformation_mode": "output_half_pixel"}
CASES = (
    resized("up", (1, 2, 2, 3), (1, 1, 2, 3)),
    resized("up by no integer", (1, 1, 3, 4), (1, 1, 1.3, 2.6)),
    resized("down", (1, 1, 5, 7), (1, 1, 0.6, 0.4)),
    resized("sizes", (1, 1, 3, 4), sizes=(1, 1, 7, 3)),
    resized("corners", (1, 1, 3, 4), sizes=(1, 1, 7, 6), **mode("align_corners")),
    resized("corners of one", (1, 1, 3, 4), sizes=(1, 1, 1, 6), **mode("align_corners")),
    resized("asymmetric", (1, 1, 3, 4), (1, 1, 2.5, 1.7), **mode("asymmetric")),
    resized("pytorch", (1, 1, 5, 4), sizes=(1, 1, 1, 7), **mode("pytorch_half_pixel")),
    resized("symmetric", (1, 1, 5, 4), (1, 1, 0.7, 1.9), **mode("half_pixel_symmetric")),
    resized("width alone", (1, 1, 3, 4), (1, 1, 1, 1.7)),
    resized("channels last", (1, 3, 4, 2), (1, 1.7, 2, 1), exact=False),
    resized("two axes", (3, 4), (1.7, 2.3)),
    resized("cubic", (1, 1, 3, 4), (1, 1, 1, 2), mode="cubic"),
    resized("cubic, rounded", (1, 1, 3, 4), (1, 1, 1, 1.7), mode="cubic"),
    resized("cubic down", (1, 1, 6, 3), (1, 1, 0.5, 1), mode="cubic"),
    resized("cubic down, rounded", (1, 1, 5, 3), (1, 1, 0.6, 1), mode="cubic"),
    resized("cubic by sizes", (1, 1, 3, 5), sizes=(1, 1, 3, 8), mode="cubic", cubic_coeff_a=-0.5),
    resized(
        "cubic corners", (1, 1, 3, 4), sizes=(1, 1, 3, 7), mode="cubic",
        coordinate_transformation_mode="align_corners",
    ),
    resized(
        "cubic asymmetric", (1, 1, 4, 4), (1, 1, 1, 4), mode="cubic",
        coordinate_transformation_mode="asymmetric",
    ),
    resized(
        "in proportion", (1, 1, 5, 4), sizes=(4, 3), axes=[2, 3],
        keep_aspect_ratio_policy="not_larger",
    ),
    resized("cubic inside, rounded", (1, 1, 3, 4), (1, 1, 1, 1.7), mode="cubic", exclude_outside=1),
    resized("wide, by half", (1, 1, 8, 3), (1, 1, 0.5, 1), antialias=1),
    resized("wide, rounded", (1, 1, 7, 3), (1, 1, 0.6, 1), antialias=1),
    resized("wide, by sizes, rounded", (1, 1, 2, 9), sizes=(1, 1, 2, 4), antialias=1),
    resized("wide, up", (1, 1, 2, 3), (1, 1, 1, 2), antialias=1),
    resized("wide, to one", (1, 1, 4, 2), sizes=(1, 1, 1, 2), antialias=1),
    resized("wide inside", (1, 1, 8, 1), (1, 1, 0.25, 1), antialias=1, exclude_outside=1),
    resized("wide cubic", (1, 1, 8, 2), (1, 1, 0.5, 1), antialias=1, mode="cubic"),
    resized("wide cubic, rounded", (1, 1, 2, 7), (1, 1, 1, 0.6), antialias=1, mode="cubic"),
    resized(
        "wide cubic inside", (1, 1, 8, 1), (1, 1, 0.5, 1), antialias=1, mode="cubic",
        cubic_coeff_a=-0.5, exclude_outside=1,
    ),
    resized(
        "wide corners, rounded", (1, 1, 7, 2), sizes=(1, 1, 3, 2), antialias=1,
        coordinate_transformation_mode="align_corners",
    ),
    resized(
        "wide asymmetric", (1, 1, 8, 2), (1, 1, 0.5, 1), antialias=1,
        coordinate_transformation_mode="asymmetric",
    ),
    resized("three axes", (2, 3, 3), (1.5, 1.7, 2.3)),
    resized("five axes", (1, 1, 2, 3, 2), (1, 1, 1.5, 1.7, 2.3)),
    resized("chosen axes", (1, 1, 3, 4), (2.6, 1.3), axes=[3, 2]),
    regions("regions", [[0.5, 0.25, 3.0, 2.5], [-1.5, -0.25, 1.0, 3.5]]),
    regions("regions, rounded", [[0.3, 0.2, 2.9, 2.4], [1.7, -0.3, 1.1, 4.1]], output_height=3),
    regions("regions, scaled", [[1.0, 0.0, 6.0, 5.0]], spatial_scale=0.5, **OLDER),
    regions("regions of a pixel", [[1.25, 0.25, 1.5, 0.75]], **OLDER),
    regions("regions of opset 10", [[0.5, 0.25, 2.5, 2.25]], opset=10),
    at_places("linear"),
    at_places("aligned", align_corners=1),
    at_places("border", (2, 1, 3, 2), padding_mode="border"),
    at_places("mirrored", padding_mode="reflection"),
    at_places("mirrored, aligned", padding_mode="reflection", align_corners=1),
    at_places("cubic", mode="cubic"),
    at_places("cubic, mirrored", mode="cubic", padding_mode="reflection", align_corners=1),
    at_places("of older name", opset=16, mode="bicubic"),
    at_places("of three axes", (1, 1, 2, 3, 2)),
    at_places("of three axes, aligned", (1, 1, 2, 3, 2), align_corners=1),
    example(
        "Upsample", "x s", (1, 1, 2, 3), opset=9, mode="linear",
        constants={"s": np.array([1, 1, 2, 2.5], np.float32)},
    ),
    example(
        "Resize", "x s", (1, 1, 2, 3), "opset 10", opset=10, mode="linear",
        constants={"s": np.array([1, 1, 1.7, 2.5], np.float32)},
    ),
)  # fmt: skip
every_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)


@every_case
def test_emulation_is_onnxruntime(case: Example) -> None:
    check_runtime(case)


@every_case
def test_bounds_hold(case: Example) -> None:
    assert 0 < check_bounds(case, count=6) <= 1


@every_case
def test_maps_hold(case: Example) -> None:
    check_maps(case)
    check_terms(case)


REFERRED = [
    c for c in CASES if c.opset > 10 and not c.name.startswith("Grid") and "rounded" not in c.name
]
"""Those whose coordinates, in float32 in the reference for cubics and grids, need no rounding."""


@pytest.mark.parametrize("case", REFERRED, ids=lambda c: c.name)
def test_real_meaning_is_the_reference(case: Example) -> None:
    check_against_reference(case)


def test_a_weight_is_the_rational_that_the_sizes_say() -> None:
    """2 to 4 with corners aligned: the inner elements stand a third and two thirds of the way."""
    case = resized("thirds", (1, 1, 1, 2), sizes=(1, 1, 1, 4), **mode("align_corners"))
    graph, _ = graph_of(case)
    exact = evaluate_exact(graph, {"x": np.array([[[[0.0, 1.0]]]], np.float32)}, Rationals())
    found = [fraction(v) for v in exact["y"].ravel()]
    assert found == [Fraction(0), Fraction(1, 3), Fraction(2, 3), Fraction(1)]
    bounds = network_bounds(graph, box_of(case, graph), SEQUENTIAL)
    assert np.all(bounds.errors["y"].ravel()[1:3] > abs(float(np.float32(1 / 3)) - 1 / 3))
    assert not np.any(network_bounds(graph, box_of(case, graph), EXACT).errors["y"])


def test_without_a_schedule_weights_may_be_computed_otherwise() -> None:
    """0.5·x at the middle of two: exact with onnxruntime's weights, not with others."""
    case = resized("halves", (1, 1, 1, 2), (1, 1, 1, 2), lo=0.0, hi=1.0)
    graph, _ = graph_of(case)
    pinned, free = (
        network_bounds(graph, box_of(case, graph), c).errors["y"].max()
        for c in (SEQUENTIAL, IEEE_ANY)
    )
    assert 0 < pinned < free < 2e-5


@pytest.mark.parametrize("opset", [11, 12, 13, 18])
@pytest.mark.parametrize("sized", [False, True], ids=["scales", "sizes"])
def test_cubics_along_two_axes_are_what_runs(tmp_path: Path, opset: int, sized: bool) -> None:
    """Until opset 12 a region must be named, and scales beside sizes."""
    old = opset < 13
    stored = {"none": np.zeros(0, np.float32), "s": np.array([1, 1, 2, 1.5], np.float32)}
    if sized:
        stored["s"] = np.array([1, 2, 7, 6])
    left_out = "none" if old else ""
    given = ["x", left_out, left_out, "s"] if sized else ["x", left_out, "s"]
    held = {k: v for k, v in stored.items() if k == "s" or old}
    node = helper.make_node("Resize", given, ["y"], mode="cubic")
    path = tmp_path / "cubic.onnx"
    save(path, [node], {"x": [1, 2, 3, 4]}, {"y": None}, held, opset=opset)
    x = np.random.default_rng(opset).normal(size=(1, 2, 3, 4)).astype(np.float32)
    (run,) = onnxruntime.InferenceSession(path).run(None, {"x": x})
    real = evaluate_real(load(path), {"x": x[None].astype(np.float64)}, ApproximateReals())
    assert np.max(np.abs(real["y"][0] - run)) < 1e-5


def test_a_place_between_pixels_has_the_weights_that_its_grid_says() -> None:
    """2/3 of the way from the middle of the first pixel to that of the last: (x + 1)·2 − 1)/2."""
    stored = {"g": np.array([[[[1 / 3, 0.0]]]], np.float32)}
    case = example("GridSample", "x g", (1, 1, 1, 2), "", stored, opset=20)
    graph, _ = graph_of(case)
    exact = evaluate_exact(graph, {"x": np.array([[[[0.0, 1.0]]]], np.float32)}, Rationals())
    place = Fraction(float(np.float32(1 / 3))) + Fraction(1, 2)
    assert fraction(exact["y"].ravel()[0]) == place
    pinned, free = (
        network_bounds(graph, box_of(case, graph), c).errors["y"].max()
        for c in (SEQUENTIAL, IEEE_ANY)
    )
    assert 0 < pinned <= free < 1e-5
    assert not np.any(network_bounds(graph, box_of(case, graph), EXACT).errors["y"])


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (
            resized("filter", (1, 1, 4, 4), (1, 1, 0.5, 0.5), mode="nearest", antialias=1),
            "'antialias' is 1",
        ),
        (
            example(
                "GridSample",
                "x x",
                (1, 2, 2, 2),
                "by itself",
                opset=20,
            ),
            "its grid .* is computed",
        ),
        (at_places("cubic border", mode="cubic", padding_mode="border"), "beyond the border"),
        (
            resized("fraction", (1, 1, 1, 4), (1, 1, 1, 0.6), **mode("align_corners")),
            "runtimes read differently",
        ),
        (
            resized("crop", (1, 1, 4, 4), (1, 1, 2, 2), **mode("tf_crop_and_resize")),
            "'coordinate_transformation_mode' is 'tf_crop_and_resize'",
        ),
        (
            resized(
                "aspect", (1, 1, 5, 10), sizes=(1, 1, 9, 7), keep_aspect_ratio_policy="not_larger"
            ),
            "a length of 3.5, which runtimes round",
        ),
    ],
    ids=lambda v: getattr(v, "name", ""),
)
def test_other_uses_are_refused(case: Example, why: str) -> None:
    graph, _ = graph_of(case)
    (node,) = graph.order
    with pytest.raises(UnsupportedModel, match=why):
        lookup(node).check(site_of(graph, node))


def test_regions_that_are_computed_are_refused() -> None:
    stored = {"b": np.zeros(4, np.int64)}
    with pytest.raises(UnsupportedModel, match="computed from the inputs"):
        graph_of(example("RoiAlign", "x r b", {"x": (1, 1, 4, 4), "r": (4, 4)}, "", stored))


def test_regions_that_are_sampled_as_rounding_decides_are_refused() -> None:
    """2.1 pixels at a scale of a bit less than 1/2.1."""
    rois, scale = [[0.0, 0.1, 2.1, 2.2]], 0.47619047
    with pytest.raises(UnsupportedModel, match="state 'sampling_ratio'"):
        graph_of(regions("", rois, sampling_ratio=0, spatial_scale=scale, output_height=1))


def test_a_place_that_rounding_may_move_beyond_the_edge_is_refused() -> None:
    rois = [[-1.1, 0.0, -0.5, 2.0]]
    graph, _ = graph_of(regions("at the edge", rois, output_width=3, **OLDER, spatial_scale=1.0))
    (node,) = graph.order
    lookup(node).check(site_of(graph, node))
    graph, _ = graph_of(regions("at the edge", [[-1.3, 0.0, -0.3, 2.0]], output_width=5, **OLDER))
    (node,) = graph.order
    with pytest.raises(UnsupportedModel, match="so near to an edge"):
        lookup(node).check(site_of(graph, node))
