"""Grids of what picks and places elements by index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from grid_cases import Grid, const, kept, run
from grid_shared import ANY, AXES, FLOATS

I64 = "int64"
LISTS: tuple[list[Any], ...] = (
    [0, 1], [1, -1, 0], [[0, 1], [-1, 0]], [[0, 1, 1]], [[[1], [0]]], [[]],
)  # fmt: skip
GATHERS: Mapping[str, Sequence[Grid]] = {
    "Gather": (
        Grid(
            [
                (f(*s), const(np.array(i, "int64"), t))
                for s in ((4,), (3, 4), (2, 3, 2), (0, 3))
                for i in (0, -1, [0, 1], [1, -1, 0], [[0, 1], [-1, 0]], [], [[2]], [3])
                for f in (run, kept)
                for t in (I64, "int32")
            ],
            {"axis": AXES},
            ANY,
        ),
    ),
    "GatherElements": (
        Grid(
            [
                (f(*s), const(np.array(i, "int64"), I64))
                for s in ((4,), (3, 4), (2, 3), (2, 3, 2))
                for i in LISTS
                for f in (run, kept)
            ],
            {"axis": (None, 0, 1, 2, -1, -2)},
            ANY,
        ),
    ),
    "GatherND": (
        Grid(
            [
                (f(*s), const(np.array(i, "int64"), I64))
                for s in ((4,), (3, 4), (2, 3), (2, 3, 2))
                for i in (
                    [0],
                    [[0, 1]],
                    [[0, 0], [1, -1]],
                    [[1], [0]],
                    [[[0], [1]], [[1], [0]]],
                    [[0, 1, 1]],
                    np.zeros((0, 1)),
                    [-1],
                )
                for f in (run, kept)
            ],
            {"batch_dims": (None, 0, 1)},
            ANY,
        ),
    ),
    **{
        op: (
            Grid(
                [
                    (f(*s), const(np.array(i, "int64"), I64), g(*np.shape(i)))
                    for s in ((4,), (3, 4), (2, 3), (2, 3, 2))
                    for i in (
                        [0, 1],
                        [3],
                        [[0, 1], [-1, 0]],
                        [[0, 2, 1]],
                        [[[1], [0]]],
                        np.zeros((0, 2)),
                        [1, 1],
                        [[1, 1]],
                    )
                    for f, g in ((run, run), (run, kept), (kept, run), (kept, kept))
                ],
                {
                    "axis": (None, 0, 1, -1, -2),
                    "reduction": (None, None, "none", "add", "mul", "max", "min"),
                },
                ANY,
            ),
        )
        for op in ("Scatter", "ScatterElements")
    },
    "TensorScatter": (
        Grid(
            [
                (data(2, *s), data(2, *u), w)
                for data in (run, kept)
                for s, u in (((4, 3), (2, 3)), ((2, 4, 2), (2, 2, 2)), ((3, 1), (3, 1)))
                for w in (None, const(np.array([1, 2])), const(np.array([0, 3])))
            ],
            {"mode": (None, "linear", "circular"), "axis": (None, 1, -2, 2)},
            ANY,
        ),
    ),
    "ScatterND": (
        Grid(
            [
                (f(*s), const(np.array(i, "int64"), I64), g(*u))
                for s, i, u in (
                    ((4,), [[0], [2]], (2,)),
                    ((4,), [[-1]], (1,)),
                    ((3, 4), [[0], [2]], (2, 4)),
                    ((3, 4), [[0, 1], [2, 3]], (2,)),
                    ((2, 3, 2), [[1]], (1, 3, 2)),
                    ((2, 3, 2), [[[0, 1]], [[1, -1]]], (2, 1, 2)),
                    ((4,), [0], ()),
                    ((4,), np.zeros((0, 1)), (0,)),
                    ((4,), [[1], [1]], (2,)),
                    ((2, 3), np.zeros((1, 0)), (1, 2, 3)),
                )
                for f, g in ((run, run), (run, kept), (kept, run), (kept, kept))
            ],
            {"reduction": (None, None, "none", "add", "mul", "max", "min")},
            ANY,
        ),
    ),
    "OneHot": (
        Grid(
            [
                (const(np.array(i, "int64"), t), const(np.array(d, "int64"), I64), v)
                for i in ([0, 2], [[1, -1], [3, 0]], 1, [5, -6], [])
                for d in (3, 4, [4])
                for v in (const(np.array([0.0, 1.0])), run(2), const(np.array([-2.0, 0.5])))
                for t in (I64, "int32", "float32")
            ]
            + [
                (x, const(np.array(d, "int64"), I64), const(np.array([0.0, 1.0])))
                for x in (
                    run(3, dtype=I64),
                    run(2, 2, kind="whole", dtype="float32"),
                    run(dtype=I64),
                )
                for d in (3, 4)
            ],
            {"axis": (None, 0, 1, -1, -2, 2)},
            FLOATS,
        ),
    ),
}
