"""Grids of reductions, products and normalisations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from grid_cases import Grid, const, kept, run
from grid_shared import AXES, BRAIN, SOFT, normalized, reduction, trailing

PRODUCTS: Mapping[str, Sequence[Grid]] = {
    **{op: (Grid(SOFT, {"axis": AXES}, BRAIN),) for op in ("Softmax", "LogSoftmax")},
    **{op: reduction() for op in ("ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceSumSquare")},
    **{op: reduction() for op in ("ReduceMean",)},
    **{op: reduction(whole=True) for op in ("ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd")},
    "ReduceLogSum": reduction("positive"),
    "CumSum": (
        Grid(
            [(run(2, 3, 4), const(np.int64(axis), "int64")) for axis in (0, 1, 2, -1, -3)],
            {"exclusive": (None, 0, 1), "reverse": (None, 0, 1)},
            BRAIN,
        ),
    ),
    "CumProd": (
        Grid(
            [(run(2, 3, 4), const(np.int64(axis), "int64")) for axis in (0, 1, 2, -1, -3)],
            {"exclusive": (None, 0, 1), "reverse": (None, 0, 1)},
            BRAIN,
        ),
    ),
    "Det": (
        Grid(
            [(run(*shape),) for shape in ((1, 1), (2, 2), (3, 3), (2, 3, 3), (2, 1, 4, 4), (5, 5))]
            + [(run(2, 3),), (run(3),), (run(12, 12),), (run(0, 2, 2),), (kept(2, 2),)],
            {},
        ),
    ),
    "MatMul": (
        Grid(
            [
                (f(*a), g(*b))
                for a, b in (
                    ((2, 3), (3, 4)),
                    ((3,), (3,)),
                    ((3,), (3, 2)),
                    ((2, 3), (3,)),
                    ((2, 2, 3), (3, 2)),
                    ((2, 2, 3), (2, 3, 2)),
                    ((2, 3), (2, 3, 2)),
                    ((2, 1, 2, 3), (3, 3, 2)),
                    ((2, 2, 3), (3,)),
                    ((3,), (2, 3, 2)),
                    ((1, 1), (1, 1)),
                    ((0, 3), (3, 2)),
                    ((2, 0), (0, 3)),
                    ((2, 3), (3, 0)),
                    ((1, 1, 3), (1, 3, 1)),
                    ((2, 2, 3), (1, 3, 2)),
                    ((1, 2, 3), (2, 3, 2)),
                )
                for f, g in ((run, kept), (kept, run), (run, run), (kept, kept))
            ],
            {},
            BRAIN,
        ),
    ),
    "Gemm": (
        *tuple(
            Grid(
                [
                    (f(*a), g(*b), c)
                    for c in (
                        None,
                        kept(4),
                        kept(2, 4),
                        kept(2, 1),
                        kept(),
                        kept(1, 4),
                        kept(1),
                        run(4),
                        run(2, 4),
                        run(1, 4),
                    )
                    for f, g in ((run, kept), (kept, run), (run, run), (kept, kept))
                ],
                {
                    "alpha": (None, 1.0, 0.5, -2.0),
                    "beta": (None, 1.0, 0.5, 0.0),
                    "transA": (t,) if t else (None, 0),
                    "transB": (u,) if u else (None, 0),
                },
                BRAIN,
            )
            for t, u, a, b in (
                (0, 0, (2, 3), (3, 4)),
                (1, 0, (3, 2), (3, 4)),
                (0, 1, (2, 3), (4, 3)),
                (1, 1, (3, 2), (4, 3)),
            )
        ),
        Grid([(run(2, 0), kept(0, 4), kept(4)), (run(2, 0), kept(0, 4)), (run(0, 2), kept(2, 4))]),
    ),
    "Einsum": (
        Grid(
            [(run(2, 3), kept(3, 4)), (kept(2, 3), run(3, 4)), (run(2, 3), run(3, 4))],
            {"equation": ("ij,jk->ik", "ij,jk->ki", "ij,jk", "ij,jk->", "ij, jk -> i")},
        ),
        Grid(
            [(run(3, 3),), (kept(3, 3),)],
            {"equation": ("ii->i", "ii", "ij->ji", "ij->j", "ij->", "ij", "ji", "...->...")},
        ),
        Grid(
            [(run(2, 3, 2), run(2, 2, 4)), (run(2, 3, 2), kept(2, 2, 4))],
            {
                "equation": (
                    "bij,bjk->bik",
                    "...ij,...jk->...ik",
                    "bij,bjk->ik",
                    "bij,bjk->bki",
                    "bij,cjk->bcik",
                    "bij,bjk",
                    "bij,bjk->b",
                )
            },
        ),
        Grid(
            [(run(3), run(3)), (run(3), kept(3))],
            {"equation": ("i,i->", "i,j->ij", "i,i->i", "i,i")},
        ),
        Grid(
            [(run(2), run(2, 3), kept(3)), (run(2), kept(2, 3), run(3))],
            {"equation": ("i,ij,j->", "i,ij,j->ij", "i,ij,j")},
        ),
        Grid([(run(), run(3)), (run(), run())], {"equation": (",i->i", ",->", ",...->...")}),
        Grid([(run(1, 3), run(2, 3))], {"equation": ("ij,ij->ij", "...j,...j->...")}),
    ),
    "BatchNormalization": (
        Grid(
            normalized(4),
            {
                "epsilon": (None, 0.1, 0.001),
                "momentum": (None, 0.5),
                "spatial": (None, 1, 0),
                "training_mode": (None, 0, 1),
                "is_test": (None, 0, 1),
            },
            BRAIN,
            (1, 1, 1, 3),
        ),
    ),
    "InstanceNormalization": (Grid(normalized(2), {"epsilon": (None, 0.1, 0.001)}, BRAIN),),
    "GroupNormalization": tuple(
        Grid(
            [
                (run(*s), f(n), f(n))
                for s in ((2, 4, 3), (1, 4, 2, 2), (2, 4))
                for f in (kept, kept, run)
                for n in (4, groups)
            ],
            {
                "num_groups": (groups, groups, 3),
                "epsilon": (None, 0.1),
                "stash_type": (None, 1, 10),
            },
            BRAIN,
        )
        for groups in (1, 2, 4)
    ),
    "LayerNormalization": (
        Grid(
            trailing(True),
            {"axis": (None, 0, 1, 2, -1, -2), "epsilon": (None, 0.1), "stash_type": (None, 1, 11)},
            BRAIN,
            (1, 1, 1, 2, 3),
        ),
    ),
    "RMSNormalization": (
        Grid(
            trailing(False),
            {"axis": (None, 0, 1, 2, -1, -2), "epsilon": (None, 0.1), "stash_type": (None, 1, 11)},
            BRAIN,
        ),
    ),
    "MeanVarianceNormalization": (
        Grid(
            [(run(2, 3, 2, 2),), (run(1, 2, 3),), (run(2, 3),), (kept(2, 3, 2, 2),)],
            {"axes": (None, (0, 2, 3), (0,), (1,), (0, 1), (-1,), (2, 3))},
            BRAIN,
        ),
    ),
    "LRN": (
        Grid(
            [(run(*s),) for s in ((1, 3, 2, 2), (3, 3, 2, 1), (2, 5, 2), (1, 2, 1, 2, 2), (2, 3))],
            {
                "size": (1, 2, 3, 4, 5, 7),
                "alpha": (None, 0.25, 0.01, 1.0),
                "beta": (None, 0.5, 1.0),
                "bias": (None, 2.0, 1.0),
            },
        ),
    ),
}
