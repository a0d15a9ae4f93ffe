"""Grids of casts, dropout, and what is computed when a file is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from grid_cases import Grid, const, kept, run
from grid_shared import BRAIN, FLOATS, binary, both, moved
from onnx import numpy_helper

U8, I8 = "uint8", "int8"
I64 = "int64"
CONSTANTS: Mapping[str, Sequence[Grid]] = {
    "Cast": tuple(
        Grid(
            [
                (run(*s, dtype=t, kind=k),)
                for s in ((3,), (2, 3), ())
                for t in (*BRAIN, "int64", "int32", "uint8", "int8", "bool", "int16")
            ]
            + [(kept(2, 3, dtype=t, kind=k),) for t in (*BRAIN, "int64", "uint8", "bool")]
            + [(kept(2, 3, kind="positive"),), (run(2, 0),)],
            {
                "to": to,
                "saturate": (None, 0, 1),
                "round_mode": (None, None, "up", "down", "nearest"),
            },
            ("float32",),
        )
        for to, k in (((1, 10, 11, 16, 9, 7, 6, 3, 5), "any"), ((2, 4, 12, 13), "positive"))
    ),
    "CastLike": (
        Grid(
            [
                (run(2, 3, dtype=t, kind="positive"), kept(1, dtype=u))
                for t in (*BRAIN, "int64", "uint8", "bool")
                for u in (*BRAIN, "int64", "int32", "uint8", "bool")
            ]
            + [(run(2, 3), run(1, dtype="float16"))],
            {"saturate": (None, 0, 1), "round_mode": (None, None, "up")},
            ("float32",),
        ),
    ),
    "Dropout": (
        Grid(
            both((3,), (2, 3), (2, 0)),
            {
                "ratio": (None, 0.0, 0.5),
                "training_mode": (None, np.array(False), np.array(True)),
                "seed": (None, 1),
            },
            FLOATS,
            (1, 1, 2),
        ),
    ),
    "Shape": (
        moved(
            *both((2, 3, 4), (3,), (), (2, 0)),
            start=(None, 0, 1, -1, -2, 5, -9),
            end=(None, 0, 1, 2, -1, 5, -9),
        ),
    ),
    "Size": (moved(*both((2, 3, 4), (3,), (), (2, 0))),),
    "ConstantOfShape": (
        Grid(
            [(const(np.array(s, "int64"), I64),) for s in ([2, 3], [3], [], [0], [2, 0])],
            {
                "value": (
                    None,
                    *(numpy_helper.from_array(np.array([v])) for v in (2, 1.5, np.float16(2.5))),
                )
            },
        ),
    ),
    "Range": (
        Grid(
            [
                tuple(const(np.array(v, t), t) for v in r)
                for r in ((0, 5, 1), (1, 9, 3), (5, 0, -2), (0, 0, 1), (3, 0, 1), (0, 1, 5))
                for t in (I64, "int32", "float32", "float64", "int16")
            ]
            + [tuple(const(np.array(v, "float32"), "float32") for v in (0.0, 2.0, 0.25))],
            {"stash_type": (None, 1)},
            ("float32",),
        ),
    ),
    **{
        op: tuple(Grid(g.inputs, {}, (I64, U8, "int32")) for g in binary(whole=True)[1:])
        for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")
    },
    "BitwiseNot": (Grid([(kept(2, 3),), (kept(),)], {}, (I64, U8, "int32")),),
    "Constant": tuple(
        Grid([()], {name: values}, ("float32",))
        for name, values in (
            ("value", (numpy_helper.from_array(np.array([[1.5, 2.0]], np.float32)),)),
            ("value_float", (1.5,)),
            ("value_floats", ((1.5, -2.0),)),
            ("value_int", (3,)),
            ("value_ints", ((3, -4),)),
        )
    ),
}
