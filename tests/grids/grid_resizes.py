"""Grids of Resize and Upsample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from grid_cases import Grid, const, kept, run
from grid_shared import BRAIN, FLOATS

PLACED = {
    "mode": (None, "nearest", "linear", "linear", "cubic"),
    "coordinate_transformation_mode": (
        None,
        "half_pixel",
        "pytorch_half_pixel",
        "align_corners",
        "asymmetric",
        "tf_half_pixel_for_nn",
        "half_pixel_symmetric",
    ),
    "nearest_mode": (None, "round_prefer_floor", "round_prefer_ceil", "floor", "ceil"),
}
LATER = {
    "exclude_outside": (None, 0, 1),
    "cubic_coeff_a": (None, -0.5),
    "extrapolation_value": (None, 1.5),
    "antialias": (None, 0, 1),
}
FOUR = (run(1, 1, 3, 4),), (kept(1, 1, 3, 4),), (run(1, 2, 1, 2),)
FACTORS = (
    (1.0, 1.0, 2.0, 2.0),
    (1.0, 1.0, 0.5, 0.75),
    (1.0, 1.0, 1.7, 1.0),
    (1.0, 1.0, 0.6, 1.3),
    (2.0, 1.0, 1.0, 1.0),
    (1.0, 1.0, 1.0, 1.0),
)
RESIZED = (
    Grid(FOUR, {"mode": (None, "nearest", "linear"), "scales": FACTORS}, BRAIN),
    Grid(FOUR, {**PLACED, "scales": FACTORS, "roi": (None, ())}, BRAIN),
    Grid(
        FOUR,
        {
            **PLACED,
            "roi": (None, ()),
            "sizes": (
                (1, 1, 6, 8),
                (1, 1, 2, 3),
                (1, 1, 5, 4),
                (2, 1, 3, 4),
                (1, 1, 1, 1),
                (1, 1, 0, 4),
            ),
        },
        BRAIN,
    ),
    Grid(FOUR, {**PLACED, **LATER, "scales": FACTORS}, BRAIN),
    Grid(
        [(run(3, 4),), (kept(3, 4),)], {**PLACED, "sizes": ((6, 3), (2, 9), (3, 4)), **LATER}, BRAIN
    ),
    Grid(
        [(run(1, 1, 5, 7),), (kept(1, 2, 4, 6),), (run(1, 1, 9, 2),)],
        {
            "mode": ("linear", "cubic"),
            "coordinate_transformation_mode": PLACED["coordinate_transformation_mode"],
            "exclude_outside": (None, 0, 1),
            "cubic_coeff_a": (None, -0.5),
            "antialias": (1,),
            "scales": (*FACTORS, (1.0, 1.0, 0.3, 0.45)),
        },
        BRAIN,
    ),
    Grid(
        [(run(1, 1, 5, 7),), (kept(1, 2, 4, 6),), (run(1, 3, 5, 1),)],
        {
            "mode": ("linear", "cubic"),
            "exclude_outside": (None, 1),
            "antialias": (1,),
            "axes": ((2, 3), (-1, -2)),
            "sizes": ((2, 3), (3, 1), (8, 5), (1, 1)),
        },
        BRAIN,
    ),
    Grid([(run(4),)], {**PLACED, "sizes": ((7,), (2,), (1,))}, BRAIN),
    Grid(
        [(run(1, 1, 2, 2, 3),)],
        {**PLACED, "scales": ((1.0, 1.0, 2.0, 1.5, 0.7), (1.0, 1.0, 1.0, 2.0, 1.0))},
        BRAIN,
    ),
    Grid(
        FOUR,
        {
            **PLACED,
            "axes": ((2, 3), (3, 2), (-1, -2), (0, 3)),
            "sizes": ((6, 3), (2, 9), (5, 4)),
            "keep_aspect_ratio_policy": (None, "stretch", "not_larger", "not_smaller"),
        },
        BRAIN,
    ),
    Grid(
        FOUR,
        {**PLACED, "axes": ((2, 3), (3, 2), (-1, -2)), "scales": ((2.0, 0.5), (1.5, 1.7))},
        BRAIN,
    ),
    Grid(FOUR, {**PLACED, "axes": ((2,), (-1,)), "scales": ((2.0,), (0.6,))}, BRAIN),
    Grid(
        FOUR,
        {
            "mode": ("linear", "nearest", "cubic"),
            "scales": FACTORS,
            "coordinate_transformation_mode": ("tf_crop_and_resize",),
            "roi": ((0.0, 0.0, 0.25, 0.0, 1.0, 1.0, 0.75, 1.0),),
            "extrapolation_value": (None, 1.5),
        },
        BRAIN,
    ),
)

PLACES = (
    [[[[-1.0, -1.0], [-0.5, 0.25], [1.25, 0.0]]]],
    [[[[0.31, -0.77], [0.9, 1.3]], [[-1.6, 0.4], [0.0, 0.0]]]],
)
DEEP = ([[[[[-1.0, 0.3, 0.25], [0.5, -0.77, 1.2]]]]],)
SAMPLED = {
    "mode": (None, "nearest", "linear", "cubic", "bilinear", "bicubic"),
    "padding_mode": (None, "zeros", "border", "reflection"),
    "align_corners": (None, 0, 1),
}

REGIONS = (
    [[0.5, 0.25, 3.0, 2.5]],
    [[0.3, 0.2, 2.9, 2.4], [1.7, -0.3, 1.1, 4.1]],
    [[0.0, 0.0, 4.0, 3.0], [-1.6, -0.2, 2.3, 7.9]],
)

RESIZES: Mapping[str, Sequence[Grid]] = {
    "GridSample": (
        Grid(
            [(run(1, 2, *s), const(g)) for s in ((3, 2), (1, 5)) for g in PLACES]
            + [(kept(1, 1, 3, 3), const(PLACES[0])), (run(1, 1, 3, 3), run(1, 2, 2, 2))],
            SAMPLED,
            ("float32", "float32", "float64"),
        ),
        Grid([(run(1, 2, 2, 3, 4), const(g)) for g in DEEP], SAMPLED, ("float32", "float64")),
    ),
    "Resize": RESIZED,
    "RoiAlign": tuple(
        Grid(
            [(run(2, 2, 3, 4), const(r), const([1] * len(r), "int64")) for r in REGIONS]
            + [(kept(2, 1, 5, 3), const(REGIONS[0]), const([0], "int64"))],
            {
                "mode": (None, "avg", "max"),
                "output_height": (None, 2, 3),
                "output_width": (None, 1, 4),
                "sampling_ratio": ratios,
                "spatial_scale": (None, 0.5, 0.37),
                "coordinate_transformation_mode": (None, "half_pixel", "output_half_pixel"),
            },
            ("float32", "float32", "float64"),
        )
        for ratios in ((1,), (None, 0, 2, 3))
    ),
    "Upsample": tuple(
        Grid(
            [(f(*s),) for s in shapes for f in (run, run, kept)],
            {"mode": (None, "nearest", "linear"), "scales": scales},
            FLOATS,
        )
        for shapes, scales in (
            (
                ((1, 1, 2, 3), (1, 2, 1, 2)),
                (
                    (1.0, 1.0, 2.0, 2.0),
                    (1.0, 1.0, 1.5, 2.3),
                    (1.0, 1.0, 1.0, 3.0),
                    (1.0, 2.0, 1.0, 1.0),
                ),
            ),
            (((2, 3),), ((2.0, 1.0), (1.5, 2.0))),
            (((3,),), ((2.0,), (1.3,))),
        )
    ),
}
