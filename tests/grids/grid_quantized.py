"""Grids of quantised operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from grid_cases import Data, Grid, const, kept, run
from grid_windows import conv, single, whole

U8, I8 = "uint8", "int8"
STEPS = {
    "axis": (None, 0, 1, -1, 2),
    "saturate": (None, 0, 1),
    "block_size": (None, None, 0, 1, 2),
    "output_dtype": (None, None, 0, 2, 3, 1, 10),
    "precision": (None, None, 0, 1, 10),
}


def _scale(*shape: int) -> Data:
    values = 2.0 ** -(np.arange(max(int(np.prod(shape)), 1)) % 3 + 1.0)
    return const(values.reshape(shape).astype("float32"), "float32")


def _zero(shape: tuple[int, ...], dtype: str) -> Data:
    values = np.arange(max(int(np.prod(shape)), 1)) % 4 + (120 if dtype == U8 else -1)
    return whole(values.reshape(shape), dtype)


SCALED = (
    ((2, 3), ()),
    ((2, 3), (1,)),
    ((2, 3), (3,)),
    ((2, 3), (2,)),
    ((3,), (3,)),
    ((2, 3, 2), (3,)),
    ((2, 4), (2, 2)),
    ((2, 4), (1, 4)),
    ((), ()),
    ((2, 0), ()),
)


def _tensors(shape: tuple[int, ...], dtype: str, kind: str = "") -> list[Data]:
    return [run(*shape, dtype=dtype, kind=kind), kept(*shape, dtype=dtype, kind=kind)]


QUANTIZED: Mapping[str, Sequence[Grid]] = {
    "MatMulInteger": (
        Grid(
            [
                (f(*a, dtype=t), g(*b, dtype=u), *z)
                for a, b in (
                    ((2, 3), (3, 4)),
                    ((2, 2, 3), (3, 2)),
                    ((3,), (3, 2)),
                    ((2, 3), (3,)),
                    ((2, 0), (0, 2)),
                    ((2, 2, 3), (2, 3, 2)),
                )
                for f, g in ((run, kept), (kept, run), (run, run), (kept, kept))
                for t in (U8, I8)
                for u in (U8, I8)
                for z in ((), (whole(3, t),), (whole(3, t), whole(2, u)), (None, whole(2, u)))
            ]
            + [
                (run(2, 3, dtype=U8), kept(3, 4, dtype=I8), whole(1, U8), whole([0, 1, 2, 3], I8)),
                (
                    run(2, 3, dtype=U8),
                    kept(3, 4, dtype=I8),
                    whole([1, 2], U8),
                    whole([0, 1, 2, 3], I8),
                ),
                (run(2, 3, dtype=U8), kept(3, 4, dtype=I8), whole([[1], [2]], U8), whole(0, I8)),
            ],
            {},
            ("float32",),
        ),
    ),
    "QLinearMatMul": (
        Grid(
            [
                (
                    f(*a, dtype=t),
                    single(0.5),
                    whole(z, t),
                    g(*b, dtype=u),
                    s,
                    whole(1, u),
                    single(0.25),
                    whole(2, t),
                )
                for a, b in (
                    ((2, 3), (3, 4)),
                    ((2, 2, 3), (3, 4)),
                    ((2, 3), (2, 3, 4)),
                    ((0, 3), (3, 4)),
                )
                for f, g in ((run, kept), (run, run), (kept, kept))
                for t in (U8, I8)
                for u in (U8, I8)
                for z in (0, 2)
                for s in (single(0.125), single([0.125, 0.25, 0.5, 1.0]))
            ],
            {},
            ("float32",),
        ),
    ),
    "QLinearConv": (
        *conv(
            U8, I8, single(0.5), whole(3, U8), single(0.25), whole(0, I8), single(1.0), whole(2, U8)
        ),
        Grid(
            [
                (
                    run(1, 2, 4, dtype=U8),
                    single(0.5),
                    whole(3, U8),
                    kept(4, 2, 2, dtype=I8),
                    s,
                    whole(z, I8),
                    single(0.5),
                    whole(2, U8),
                    *b,
                )
                for s, z in (
                    (single(0.25), 0),
                    (single([0.25, 0.5, 1.0, 2.0]), [0, 0, 0, 0]),
                    (single([0.25, 0.5, 1.0, 2.0]), [1, 0, 2, 0]),
                    (single(0.25), 1),
                )
                for b in ((), (kept(4, dtype="int32"),))
            ],
            {"strides": (None, (2,)), "pads": (None, (1, 1), (0, 1))},
            ("float32",),
        ),
    ),
    "QuantizeLinear": (
        Grid(
            [
                (x, _scale(*s), *z)
                for shape, s in SCALED
                for x in (run(*shape), kept(*shape))
                for z in ((), (_zero(s, U8),), (_zero(s, I8),))
            ],
            STEPS,
            ("float32", "float32", "float16"),
        ),
        Grid(
            [
                (run(2, 3), _scale(), whole(5, U8)),
                (run(2, 3), _scale(3), _zero((3,), I8)),
                (run(2, 3), _scale()),
            ],
            {"axis": (None, 1), "saturate": (None, 1)},
            ("float32",),
        ),
    ),
    "DequantizeLinear": (
        Grid(
            [
                (x, _scale(*s), *z)
                for shape, s in SCALED
                for t in (U8, I8)
                for x in _tensors(shape, t)
                for z in ((), (_zero(s, t),))
            ],
            {k: STEPS[k] for k in ("axis", "block_size", "output_dtype")},
            ("float32",),
        ),
        Grid(
            [(x, _scale(*s)) for shape, s in SCALED for x in _tensors(shape, "int32")],
            {"axis": (None, 0, 1, -1)},
            ("float32",),
        ),
    ),
    "DynamicQuantizeLinear": (
        Grid(
            [(run(*s, kind=k),) for s in ((3,), (2, 3), ()) for k in ("any", "positive")],
            {},
            ("float32",),
            (1, 2, 3),
        ),
    ),
    **{
        op: (
            Grid(
                [
                    (
                        f(*a, dtype=t),
                        single(0.5),
                        z,
                        g(*b, dtype=t),
                        single(0.25),
                        z,
                        single(1.0),
                        z,
                    )
                    for a, b in (((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (1, 4)), ((), (2,)))
                    for f, g in ((run, kept), (run, run), (kept, run))
                    for t in (U8, I8)
                    for z in (whole(3, t), None)
                ],
                {},
                ("float32",),
                domain="com.microsoft",
            ),
        )
        for op in ("QLinearAdd", "QLinearMul")
    },
    "QLinearGlobalAveragePool": (
        Grid(
            [
                (run(*s, dtype=t), single(0.5), whole(3, t), single(0.25), whole(2, t))
                for s in ((1, 2, 3), (2, 3, 2, 2), (1, 1, 1, 7))
                for t in (U8, I8)
            ],
            {"channels_last": (None, 0, 1)},
            ("float32",),
            domain="com.microsoft",
        ),
    ),
    "QGemm": (
        Grid(
            [
                (
                    run(2, 3, dtype=U8),
                    single(0.5),
                    whole(3, U8),
                    kept(3, 4, dtype=I8),
                    s,
                    z,
                    c,
                    *((single(0.25), whole(2, U8)) if q else ()),
                )
                for s, z in (
                    (single(0.25), whole(0, I8)),
                    (single([0.25, 0.5, 1.0, 2.0]), whole([0, 0, 0, 0], I8)),
                )
                for c in (None, kept(4, dtype="int32"), kept(1, 4, dtype="int32"))
                for q in (False, True)
            ],
            {"alpha": (None, 1.0, 0.5), "transA": (None, 0), "transB": (None, 0)},
            ("float32",),
            domain="com.microsoft",
        ),
    ),
}
