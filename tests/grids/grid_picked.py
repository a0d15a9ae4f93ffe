"""Grids of what picks elements out of constants, or reads their bits anew, when a file is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from grid_cases import Grid, const, kept, run

WHOLE = ("int64", "int32", "uint8", "int8")
SPARSE = np.array([[0, 3, 0, -2], [1, 0, 0, 3], [0, 0, 0, 0]])
BOXES = np.array(
    [[0, 0, 1, 1], [0, 0.25, 1, 1.25], [1, 1, 0, 0.125], [0, 10, 1, 11], [0, 10.5, 2.3, 11.7]]
)
SCORES = np.array([[0.5, 0.75, 0.625, 0.9375, -0.3], [0.1, 0.2, 0.9, 0.4, 0.3]])
PICKED: Mapping[str, Sequence[Grid]] = {
    "NonMaxSuppression": (
        Grid(
            [
                (const(boxes[None], "float32"), const(SCORES[None, :n], "float32"))
                for boxes in (BOXES, np.abs(BOXES - 0.25), BOXES[::-1] + 0.1)
                for n in (1, 2)
            ],
            {
                "max_output_boxes_per_class": (None, 1, 2, 5),
                "iou_threshold": (None, 0.0, 0.25, 0.6, 0.3),
                "score_threshold": (None, 0.0, 0.5, -1.0),
                "center_point_box": (None, 0, 1),
            },
            ("float32",),
        ),
    ),
    "BitCast": (
        Grid(
            [(const(np.array([[0, 3], [7, 2]], t), t),) for t in ("int32", "uint32", "int64")]
            + [(const(np.array([1.5, -2.25, 0.0], t), t),) for t in ("float32", "float64")],
            {"to": (6, 12, 7, 13, 1, 11)},
            ("int32",),
        ),
    ),
    "BitShift": tuple(
        Grid(
            [
                (const(np.array(a, t), t), const(np.array(b, t), t))
                for a, b in (([16, 4, 1], [1, 2, 3]), ([[255, 3]], [[1], [0]]), (7, 2))
            ],
            {"direction": ("LEFT", "RIGHT")},
            (t,),
        )
        for t in ("uint8", "uint16", "uint32", "uint64")
    ),
    "Compress": (
        Grid(
            [
                (const(SPARSE.astype(t), t), const(np.array(chosen), "bool"))
                for t in WHOLE[:2]
                for chosen in ([True, False, True], [False, True], [False, False, False])
            ],
            {"axis": (None, 0, 1, -1)},
            ("int64",),
        ),
    ),
    "EyeLike": (
        Grid(
            [(made(2, 3),) for made in (run, kept)] + [(run(3, 3),), (kept(4, 2),)],
            {"dtype": (None, 1, 7, 11), "k": (None, 0, 1, -1, 5)},
            ("float32", "float64", "int64", "int32"),
        ),
    ),
    "NonZero": (
        Grid(
            [
                (const(values.astype(t), t),)
                for t in (*WHOLE, "float32", "bool")
                for values in (SPARSE, SPARSE[0], SPARSE[None, 1:], np.abs(SPARSE[0]))
            ],
            {},
            ("int64",),
        ),
    ),
    "TfIdfVectorizer": (
        Grid(
            [
                (const(np.array(v, t), t),)
                for t in ("int64", "int32")
                for v in ([[1, 1, 3, 3, 3, 7], [8, 6, 7, 5, 6, 8]], [1, 3, 5, 6, 7, 8], [2, 3])
            ],
            {
                "mode": ("TF", "IDF", "TFIDF"),
                "min_gram_length": (1, 2),
                "max_gram_length": (1, 2),
                "max_skip_count": (0, 1, 5),
                "ngram_counts": ((0, 4), (0, 0)),
                "ngram_indexes": ((0, 1, 2, 3, 4, 5, 6), (6, 5, 4, 3, 2, 1, 0)),
                "pool_int64s": ((2, 3, 5, 4, 5, 6, 7, 8, 6, 7),),
                "weights": (None, (0.5, 2.0, 1.0, 0.1, 1.0, 3.0, 0.25)),
            },
            ("int64",),
        ),
    ),
    "Unique": (
        Grid(
            [
                (const(values.astype(t), t),)
                for t in ("int64", "int8", "float32")
                for values in (SPARSE, SPARSE[0], np.array([[1, 2], [1, 2], [0, 2]]))
            ],
            {"axis": (None, 0, 1), "sorted": (None, 1, 0)},
            ("int64",),
        ),
    ),
}
I64 = "int64"
ARRANGED: Mapping[str, Sequence[Grid]] = {
    "AffineGrid": (
        Grid(
            [
                (run(2, 2, 3), const(np.array([2, 1, 3, 2], I64), I64)),
                (run(1, 2, 3), const(np.array([1, 2, 1, 4], I64), I64)),
                (run(1, 3, 4), const(np.array([1, 1, 2, 2, 3], I64), I64)),
            ],
            {"align_corners": (None, 0, 1)},
            ("float32",),
        ),
    ),
    "MaxUnpool": (
        Grid(
            [
                (made(*shape), const(np.array(places, I64).reshape(shape), I64), *more)
                for made in (run, kept)
                for shape, places, more in (
                    ((1, 1, 2, 2), [0, 2, 4, 8], ()),
                    ((1, 2, 1, 2), [1, 0, 5, 7], ()),
                    ((2, 1, 1, 1), [3, 5], ()),
                    ((1, 1, 2, 2), [5, 7, 13, 15], (const(np.array([1, 1, 5, 6], I64), I64),)),
                    ((1, 1, 2, 2), [0, 0, 1, 2], ()),
                    ((1, 1, 2, 2), [0, 99, 1, 2], ()),
                )
            ],
            {
                "kernel_shape": ((2, 2), (1, 3), (2,)),
                "strides": (None, (1, 1), (2, 2)),
                "pads": (None, (0, 0, 0, 0), (0, 1, 0, 0)),
            },
            ("float32", "float64"),
        ),
    ),
    "Col2Im": (
        Grid(
            [
                (
                    made(1, 2 * 4, columns),
                    const(np.array(image, I64), I64),
                    const(np.array(block, I64), I64),
                )
                for made in (run, kept)
                for columns, image, block in (
                    (4, [3, 3], [2, 2]),
                    (1, [2, 2], [2, 2]),
                    (9, [4, 4], [2, 2]),
                    (6, [2, 4], [2, 2]),
                    (2, [5], [4]),
                )
            ],
            {
                "strides": (None, (1, 1), (2, 2)),
                "dilations": (None, (1, 1), (2, 2)),
                "pads": (None, (0, 0, 0, 0), (1, 0, 0, 1)),
            },
            ("float32", "float64"),
        ),
    ),
    "LinearAttention": (
        Grid(
            [
                (run(1, 2, 4), run(1, 2, 4), run(1, 2, 4), None, *more)
                for more in ((), (run(1, 2, 2),), (run(1, 2, 2), run(1, 2, 2, kind="positive")))
            ]
            + [(run(1, 2, 4), run(1, 2, 4), run(1, 2, 4), run(1, 2, 2, 2))],
            {
                "chunk_size": (None, 1, 64),
                "kv_num_heads": (2, 1),
                "q_num_heads": (2,),
                "scale": (None, 0.5),
                "update_rule": ("linear", "gated", "delta", "gated_delta"),
            },
            ("float32", "float64"),
            (1, 2),
        ),
    ),
    "LpNormalization": (
        Grid(
            [(made(*s),) for made in (run, kept) for s in ((3,), (2, 3), (2, 3, 2), (2, 0))],
            {"axis": (None, 0, 1, -1, 3), "p": (None, 1, 2, 3)},
            ("float32", "float64", "float16"),
        ),
    ),
    "TopK": (
        Grid(
            [
                (made(*s), const(np.array([k], I64), I64))
                for made in (run, kept)
                for s in ((5,), (2, 3), (3, 4, 2), (1, 1))
                for k in (1, 2, 3)
            ]
            + [(run(2, 3),)],
            {
                "axis": (None, 0, 1, -1, 5),
                "k": (None, None, 1, 2),
                "largest": (None, 0, 1),
                "sorted": (None, 0, 1),
            },
            ("float32", "float64", "float16"),
            (1, 2),
        ),
    ),
}
