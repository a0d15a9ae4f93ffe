"""Grids of windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from grid_cases import Data, Grid, const, kept, run

U8, I8 = "uint8", "int8"
BRAIN = ("float32", "float32", "float64", "float16", "bfloat16")
PADDED = (None, "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")


def whole(values: object, dtype: str) -> Data:
    return const(np.array(values, dtype), dtype)


def single(values: object) -> Data:
    return const(np.array(values, "float32"), "float32")


def padding(*pads: tuple[int, ...]) -> tuple[dict[str, Sequence[object]], ...]:
    """Stated pads, pads by a rule, and both, which exclude each other."""
    return (
        {"pads": (None, *pads), "auto_pad": (None, "NOTSET")},
        {"auto_pad": ("VALID", "SAME_UPPER", "SAME_LOWER")},
        {"pads": pads, "auto_pad": ("VALID", "SAME_UPPER", "SAME_LOWER")},
    )


def pool(
    *more: tuple[str, Sequence[object]], types: Sequence[str] = BRAIN, outputs: Sequence[int] = (1,)
) -> tuple[Grid, ...]:
    """One and two axes of pixels; the pads may be longer than what is there."""
    line = {
        "kernel_shape": ((1,), (2,), (3,), (5,)),
        "strides": (None, (1,), (2,), (3,)),
        "dilations": (None, None, (1,), (2,)),
        "ceil_mode": (None, 0, 1),
        **dict(more),
    }
    plane = {
        "kernel_shape": ((1, 1), (2, 2), (3, 2), (2, 3)),
        "strides": (None, (1, 2), (2, 2), (3, 1)),
        "dilations": (None, None, (1, 1), (2, 1)),
        "ceil_mode": (None, 0, 1),
        **dict(more),
    }
    lines = [
        (run(1, 1, 5),),
        (run(2, 2, 4),),
        (kept(1, 2, 4),),
        (run(1, 1, 1),),
        (run(0, 2, 4),),
        (run(1, 2, 0),),
    ]
    planes = [(run(1, 2, 4, 5),), (run(2, 1, 3, 3),), (kept(1, 1, 4, 4),)]
    return (
        *(Grid(lines, {**line, **p}, types, outputs) for p in padding((0, 1), (1, 1), (2, 0))),
        *(
            Grid(planes, {**plane, **p}, types, outputs)
            for p in padding((0, 1, 1, 0), (1, 1, 1, 1), (0, 0, 1, 1))
        ),
        Grid([(run(1, 1, 2, 2, 3),)], {"kernel_shape": ((2, 1, 2), (1, 2, 3))}, types, outputs),
    )


def conv(first: str = "", second: str = "", *rest: Data | None) -> tuple[Grid, ...]:
    x, w = {"dtype": first}, {"dtype": second}
    types = ("float32",) if first else BRAIN
    line = {
        "kernel_shape": (None, None, (2,)),
        "strides": (None, (1,), (2,), (3,)),
        "dilations": (None, None, (1,), (2,)),
        "group": (None, 1),
    }
    plane = {
        "kernel_shape": (None, None, (2, 3)),
        "strides": (None, (1, 2), (2, 2)),
        "dilations": (None, None, (1, 1), (2, 1)),
    }

    def rows(
        data: Sequence[Data], weights: Sequence[Data], biases: Sequence[Data | None]
    ) -> list[tuple[Data | None, ...]]:
        if rest:
            return [(a, *rest[:2], b, *rest[2:]) for a in data for b in weights]
        given = (None,) if first else biases
        return [(a, b) if c is None else (a, b, c) for a in data for b in weights for c in given]

    data = (run(1, 4, 4, 5, **x), run(2, 4, 3, 3, **x), kept(1, 4, 3, 4, **x))
    lines = rows(
        (run(1, 2, 5, **x), run(2, 2, 4, **x), run(1, 2, 4, **x)),
        (kept(4, 2, 2, **w), kept(4, 2, 1, **w), kept(4, 2, 3, **w)),
        (None, None, kept(4)),
    )
    grouped = tuple(
        Grid(
            rows(data, (kept(4, 4 // g, 2, 3, **w), kept(4, 4 // g, 1, 1, **w)), (None, kept(4))),
            {**plane, **p, "group": (g,)},
            types,
        )
        for g in (1, 2, 4)
        for p in padding((0, 1, 1, 0), (1, 1, 1, 1), (0, 2, 0, 0))[:2]
    )
    odd = Grid(
        rows(
            (run(1, 2, 4, **x), run(0, 2, 4, **x), run(1, 2, 1, **x)),
            (run(4, 2, 2, **w), kept(4, 2, 2, **w), kept(4, 1, 2, **w), kept(3, 1, 2, **w)),
            (run(4), kept(1), kept(3), None),
        ),
        {"group": (None, 2)},
        types,
    )
    return (
        *(Grid(lines, {**line, **p}, types) for p in padding((0, 1), (1, 1), (2, 0))),
        *grouped,
        odd,
    )


LINE = {
    "strides": (None, (1,), (2,), (3,)),
    "dilations": (None, None, (2,)),
    "output_padding": (None, None, (0,), (1,)),
    "kernel_shape": (None, None, (2,)),
    "group": (None, 1),
}
LINES = [
    (a, b, *c)
    for a in (run(1, 2, 3), run(2, 2, 1), run(1, 2, 4))
    for b in (kept(2, 3, 2), kept(2, 3, 2), kept(2, 3, 1), kept(2, 3, 3))
    for c in ((), (kept(3),))
]
PLANE = {"strides": (None, (1, 2), (2, 2)), "dilations": (None, None, (2, 1))}
TRANSPOSED = (
    *(Grid(LINES, {**LINE, **p}, BRAIN) for p in padding((0, 1), (1, 1), (2, 0))),
    Grid(
        LINES,
        {
            **LINE,
            "output_shape": ((4,), (6,), (7,), (3,)),
            "auto_pad": (*PADDED, "SAME_UPPER"),
            "pads": (None, None, (1, 0)),
        },
        BRAIN,
    ),
    *(
        Grid(
            [
                (run(1, 4, 2, 3), b, *c)
                for b in (kept(4, 2, 2, 3), kept(4, 1, 2, 2), kept(4, 2, 1, 1), kept(4, 2, 3, 2))
                for c in ((), (kept(2 * g),), (kept(g),))
            ],
            {**PLANE, **p, "group": (g,), "output_padding": (None, None, (0, 1), (1, 1))},
            BRAIN,
        )
        for g in (1, 2, 4)
        for p in padding((0, 1, 1, 0), (1, 1, 1, 1))[:2]
    ),
    Grid(
        [
            (run(1, 2, 3), run(2, 3, 2)),
            (run(1, 2, 3), kept(2, 3, 2), run(3)),
            (run(0, 2, 3), kept(2, 3, 2)),
            (run(1, 2, 3), kept(3, 3, 2)),
        ],
        {"group": (None,)},
        BRAIN,
    ),
)

WINDOWS: Mapping[str, Sequence[Grid]] = {
    "AveragePool": pool(("count_include_pad", (None, 0, 1))),
    "MaxPool": pool(("storage_order", (None, None, 0, 1)), outputs=(1, 1, 1, 2)),
    "LpPool": pool(("p", (None, 1, 2, 3, 4))),
    **{
        op: (
            Grid(
                [
                    (run(*s),)
                    for s in (
                        (1, 2, 4),
                        (2, 1, 2, 3),
                        (1, 2, 1, 1),
                        (1, 1, 2, 2, 2),
                        (2, 3),
                        (1, 2, 0),
                        (0, 2, 3),
                    )
                ]
                + [(kept(1, 2, 3),)],
                {"p": (None, 1, 2, 3, 4)} if op == "GlobalLpPool" else {},
                BRAIN,
            ),
        )
        for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
    },
    "Conv": conv(),
    "ConvTranspose": TRANSPOSED,
    "ConvInteger": (
        *conv(U8, I8),
        *conv(U8, U8),
        Grid(
            [
                (run(1, 2, 4, dtype=U8), kept(4, 2, 2, dtype=t), z, *w)
                for t in (I8, U8)
                for z in (whole(3, U8), whole([3], U8))
                for w in ((), (whole(2, t),), (whole([1, 2, 0, 1], t),))
            ],
            {"strides": (None, (2,)), "pads": (None, (1, 1), (0, 1))},
            ("float32",),
        ),
    ),
}
