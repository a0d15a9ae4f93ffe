"""Grids of what is read as the function that ONNX defines: losses, attention, crops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from grid_cases import Grid, const, kept, run
from grid_windows import BRAIN, whole

ATTENDED = {
    "is_causal": (None, 0, 1),
    "scale": (None, 0.5),
    "softcap": (None, None, 0.0, 2.0),
    "qk_matmul_output_mode": (None, None, 0, 1, 2, 3),
    "softmax_precision": (None, None, 1),
    "left_window_size": (None, None, -1, 1),
    "right_window_size": (None, None, -1, 0, 1),
}

WINDOW = (
    Grid(
        [(const(np.array(n, t), t),) for n in (2, 3, 8, 10, 25) for t in ("int32", "int64")],
        {"periodic": (None, 0, 1), "output_datatype": (None, 1)},
        ("float32",),
    ),
)

FUNCTIONS: Mapping[str, Sequence[Grid]] = {
    **dict.fromkeys(("BlackmanWindow", "HammingWindow", "HannWindow"), WINDOW),
    "NegativeLogLikelihoodLoss": (
        Grid(
            [
                (run(3, 4), whole(i, "int64"), *w)
                for i in ([0, 1, 3], [2, 2, 2], [-1, 0, 1])
                for w in ((), (kept(4, kind="positive"),))
            ]
            + [(run(2, 3, 2), whole([[0, 1], [2, 1]], "int64"))],
            {"reduction": (None, "none", "sum", "mean"), "ignore_index": (None, None, 2, -1)},
        ),
    ),
    "SoftmaxCrossEntropyLoss": (
        Grid(
            [
                (run(3, 4), whole(i, "int64"), *w)
                for i in ([0, 1, 3], [2, 2, 2])
                for w in ((), (kept(4, kind="positive"),))
            ]
            + [(run(2, 3, 2), whole([[0, 1], [2, 1]], "int64"))],
            {"reduction": (None, "none", "sum", "mean"), "ignore_index": (None, None, 2, -1)},
            outputs=(1, 1, 2),
        ),
    ),
    "CenterCropPad": (
        Grid(
            [(f(*s),) for s in ((3, 4), (2, 3, 2), (5,)) for f in (run, kept)],
            {
                "shape": ((3, 4), (2, 6), (5, 3), (4,), (2, 2, 2), (7,), (1, 1)),
                "axes": (None, None, (0, 1), (1, 0), (-1,), (0,), (-2, -1)),
            },
            (*BRAIN, "int64"),
        ),
    ),
    "RotaryEmbedding": (
        Grid(
            [
                (run(1, 2, 3, 4), f(3, n), f(3, n), i)
                for f in (kept, run)
                for n in (2, 1)
                for i in (whole([[0, 1, 2]], "int64"), whole([[2, 0, 1]], "int64"))
            ]
            + [
                (run(1, 2, 3, 4), kept(1, 3, 2), kept(1, 3, 2)),
                (run(1, 3, 8), kept(1, 3, 2), kept(1, 3, 2)),
                (run(1, 3, 8), kept(3, 2), kept(3, 2), whole([[0, 1, 2]], "int64")),
            ],
            {
                "interleaved": (None, 0, 1),
                "num_heads": (None, 0, 2),
                "rotary_embedding_dim": (None, 0, 2),
            },
            ("float32", "float32", "float16"),
        ),
    ),
    "Attention": (
        Grid(
            [
                (run(1, 2, 3, 4), run(1, h, 5, 4), run(1, h, 5, 4), *m)
                for h in (2, 1)
                for m in ((), (kept(3, 5),), (kept(3, 5, dtype="bool"),), (run(1, 1, 3, 5),))
            ]
            + [
                (
                    run(1, 2, 3, 4),
                    run(1, 2, 3, 4),
                    run(1, 2, 3, 4),
                    None,
                    f(1, 2, 2, 4),
                    f(1, 2, 2, 4),
                )
                for f in (run, kept)
            ]
            + [
                (
                    run(1, 2, 3, 4),
                    run(1, 2, 5, 4),
                    run(1, 2, 5, 4),
                    None,
                    None,
                    None,
                    whole([n], "int64"),
                )
                for n in (5, 3)
            ],
            ATTENDED,
            ("float32", "float32", "float64"),
            (1, 1, 1, 3, 4),
        ),
        Grid(
            [
                (run(1, 3, 8), run(1, 5, 8), run(1, 5, 8)),
                (run(1, 3, 8), run(1, 5, 4), run(1, 5, 4)),
            ],
            {**ATTENDED, "q_num_heads": (None, 2), "kv_num_heads": (None, 2, 1)},
            ("float32",),
            (1,),
        ),
    ),
    "CausalConvWithState": (
        Grid(
            [
                (run(1, 2, 4), kept(2, 1, 3), *b)
                for b in ((), (kept(2),), (kept(2), run(1, 2, 2)), (None, run(1, 2, 2)))
            ],
            {"activation": (None, "none", "silu", "swish")},
            ("float32", "float64"),
            (1, 2),
        ),
    ),
}
