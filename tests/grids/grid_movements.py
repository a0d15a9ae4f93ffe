"""Grids of movements of data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from grid_cases import Grid, kept, run
from grid_shared import ANY, AXES, BRAIN, both, moved

MOVEMENTS: Mapping[str, Sequence[Grid]] = {
    "Concat": (
        moved(
            (run(2, 3), run(2, 3)),
            (run(2, 3), kept(2, 3)),
            (run(2, 3),),
            (run(2, 3), run(2, 1)),
            (run(2, 3), run(0, 3)),
            (run(2, 3), kept(0, 3)),
            (kept(2, 3), kept(2, 3)),
            (run(3), run(2), kept(1)),
            (run(1, 2, 2), run(1, 2, 2), run(1, 2, 2)),
            (run(0, 3), run(0, 3)),
            (run(3), kept(0)),
            axis=(0, 1, 2, -1, -2, -3),
        ),
    ),
    "Flatten": (moved(*both((2, 3, 2), (3,), (2, 3), (2, 0, 3), ()), axis=AXES),),
    "Reshape": (
        moved(
            *both((2, 3), (2, 3, 2), (6,), (1,), (), (0, 3), (2, 0)),
            shape=(
                (6,),
                (3, 2),
                (-1,),
                (2, -1),
                (0, -1),
                (0, 0),
                (1, 6),
                (-1, 1),
                (4, 3),
                (),
                (1,),
                (0, 3),
                (3, 0),
                (0, 0, 1),
                (2, 3, 0),
                (-1, 3),
            ),
            allowzero=(None, 0, 1),
        ),
    ),
    "Squeeze": (
        moved(
            *both((1, 3, 1), (2, 1), (1, 1), (1,), (2, 3), (1, 0)),
            axes=(None, (0,), (1,), (-1,), (0, 2), (-3, -1), (), (0, 1)),
        ),
    ),
    "Unsqueeze": (
        moved(
            *both((2, 3), (3,), (), (2, 0)),
            axes=((0,), (1,), (-1,), (0, 2), (2, 0), (-1, 0), (0, 1, 2), (-2,), (3,), ()),
        ),
    ),
    "Transpose": (
        moved(
            *both((2, 3), (2, 3, 2), (3,), (), (2, 0)),
            perm=(None, (0, 1), (1, 0), (0,), (2, 0, 1), (0, 2, 1), (1, 2, 0), ()),
        ),
    ),
    "Expand": (
        moved(
            *both((2, 3), (2, 1), (1,), (), (3,), (0, 1)),
            shape=((2, 3), (4, 2, 3), (1,), (2, 1), (), (3, 1, 1), (0, 3), (2, 0)),
        ),
    ),
    "Tile": (
        moved(
            *both((2, 3), (3,), (2, 1, 2), (), (0, 3)),
            repeats=((1, 2), (2, 1), (2,), (1, 1, 2), (3, 2), (0, 1), (), (0,)),
        ),
    ),
    "Trilu": (
        moved(
            *both((3, 3), (2, 4), (4, 2), (2, 2, 3), (0, 3)),
            k=(None, 0, 1, -1, 2, -2, 5, -5),
            upper=(None, 0, 1),
        ),
    ),
    "ReverseSequence": (
        moved(
            *both((3, 2), (2, 3), (2, 2, 3), (2, 2)),
            sequence_lens=((2, 2), (3, 1), (1, 2), (0, 1), (1, 1, 2), (2, 1), (4, 4), (-1, 1)),
            time_axis=(None, 0, 1),
            batch_axis=(None, 1, 0),
        ),
    ),
    "DepthToSpace": (
        moved(
            *both((1, 4, 2, 3), (2, 8, 1, 2), (1, 9, 1, 1), (1, 4, 0, 2)),
            blocksize=(1, 2, 3),
            mode=(None, "DCR", "CRD"),
        ),
    ),
    "SpaceToDepth": (
        moved(
            *both((1, 1, 2, 4), (2, 2, 4, 2), (1, 1, 3, 3), (1, 1, 0, 2)),
            blocksize=(1, 2, 3),
            mode=(None, "DCR", "CRD"),
        ),
    ),
    "Slice": (
        moved(
            *both((4,), (4, 3), (2, 3, 4), (0, 3)),
            starts=((0,), (1,), (-1,), (-2,), (1, 0), (-10,), (3, 2), (5,), (0, 0, 0), (2**62,)),
            ends=((2,), (-1,), (4,), (2**63 - 1,), (2, 3), (-(2**63),), (0,), (10, 1), (2, 2, 2)),
            axes=(None, None, (0,), (1,), (-1,), (0, 1), (1, 0), (-2, -1)),
            steps=(None, None, (1,), (2,), (-1,), (-2,), (1, 2), (-1, 1)),
        ),
    ),
    "Split": (
        Grid(
            both((4,), (4, 3), (2, 4), (5, 2), (2, 0)),
            {
                "axis": (None, 0, 1, -1, -2),
                "split": (None, None, (2, 2), (1, 3), (4,), (0, 4)),
                "num_outputs": (None, None, 1, 2, 3),
            },
            ANY,
            (1, 2, 3),
        ),
    ),
    "Pad": tuple(
        Grid(
            both(*shapes),
            {
                "mode": (None, "constant", "edge", "reflect", "wrap"),
                "pads": pads,
                "constant_value": (None, None, value),
                "axes": axes,
            },
            types,
        )
        for types, value in ((BRAIN, 1.5), (("int64",), 2))
        for shapes, pads, axes in (
            (
                ((3,), (0,)),
                ((1, 1), (-1, 0), (-1, 1), (0, 0), (2, 2), (3, 3), (4, 0), (-3, 2)),
                (None, (0,), (-1,)),
            ),
            (
                ((2, 3), (2, 0), (1, 1)),
                ((1, 0, 0, 2), (0, 1, 1, 0), (0, -1, 1, 0), (1, 1, 1, 1), (0, 0, 0, 0)),
                (None, (0, 1), (1, 0), (-1, 0)),
            ),
            (((2, 3, 2),), ((0, 0, 1, 0, 0, 2), (0, 1, 1, 1, 0, 0)), (None, (0, 1, 2))),
            (((2, 3, 2),), ((1, 0), (0, 2), (-1, 1)), ((0,), (1,), (-1,))),
            (((),), ((),), (None,)),
        )
    ),
}
