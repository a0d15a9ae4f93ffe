"""Grids of functions of one element, comparisons, extremes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from grid_cases import Grid, const, kept, run
from grid_shared import ANY, AXES, BRAIN, binary, logical, unary, variadic

I64 = "int64"
ELEMENTWISE: Mapping[str, Sequence[Grid]] = {
    **{op: (unary(),) for op in ("Abs", "Neg", "Relu", "Exp", "Sigmoid", "Tanh", "Erf", "Sin")},
    **{op: (unary(),) for op in ("Atan", "Cos", "Softplus", "Softsign", "HardSwish", "Mish")},
    **{op: (unary(),) for op in ("Sign", "Floor", "Ceil", "Round", "Identity")},
    **{op: (unary("positive"),) for op in ("Log", "Sqrt")},
    **{op: (unary(),) for op in ("Sinh", "Cosh", "Asinh", "Acosh", "Asin", "Acos", "Atanh", "Tan")},
    "Reciprocal": (unary("nonzero"),),
    "Elu": (unary(alpha=(None, 0.0, 0.5, 1.0, 2.0, -1.0)),),
    "Celu": (unary(alpha=(None, 0.5, 1.0, 2.0, -1.0)),),
    "Selu": (unary(alpha=(None, 0.5, 2.0), gamma=(None, 1.0, 0.5, 2.0)),),
    "LeakyRelu": (unary(alpha=(None, 0.0, 0.1, 1.0, 2.0, -0.5)),),
    "ThresholdedRelu": (unary(alpha=(None, 0.0, 0.5, 1.0, -1.0)),),
    "Shrink": (unary(lambd=(None, 0.0, 0.5, -1.0), bias=(None, 0.0, 0.25)),),
    "IsNaN": (unary(),),
    "IsInf": (unary(detect_negative=(None, 0, 1), detect_positive=(None, 0, 1)),),
    "Hardmax": (unary(axis=AXES),),
    "HardSigmoid": (unary(alpha=(None, 0.5, 1.0, 0.0, -0.2), beta=(None, 0.0, 0.5, 1.5, -1.0)),),
    "Gelu": (unary(approximate=(None, "none", "tanh")),),
    "Swish": (unary(alpha=(None, 1.0, 0.5, 2.0, 0.0, -1.0)),),
    "SwiGLU": (
        Grid([*binary()[0].inputs[:3], (run(2, 3), run(2, 3))], {"alpha": (None, 1.0, 0.5, 2.0)}),
    ),
    "Not": (unary(types=("bool",)),),
    **{op: logical() for op in ("And", "Or", "Xor")},
    **{op: binary(whole=True) for op in ("Add", "Sub", "Mul", "Less", "Greater", "Equal")},
    **{op: binary(whole=True) for op in ("LessOrEqual", "GreaterOrEqual")},
    "Div": binary(right="nonzero", whole=True),
    "Mod": tuple(
        Grid(g.inputs, {"fmod": (None, 0, 1)}, g.types)
        for g in (
            *binary(right="nonzero", whole=True),
            Grid(
                [
                    (run(*a, kind="whole"), kept(*b, kind="nonzero"))
                    for a, b in (((2, 3), (3,)), ((3,), ()), ((2, 3), (2, 3)), ((2, 1), (3,)))
                ],
                {},
                ("int64", "int32", "uint8", "int8"),
            ),
        )
    ),
    "Pow": (
        *binary("positive"),
        Grid(
            [
                (run(*s), const(np.array(e)))
                for s in ((3,), (2, 3), ())
                for e in (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 8.0)
            ]
            + [
                (run(2, 3), const(np.array([2.0, 3.0, 2.0]))),
                (run(3), const(np.array([[2.0], [1.0]]))),
            ]
            + [(run(2, 3), const(np.array(e, "int64"), I64)) for e in (0, 1, 2, 3)],
        ),
        Grid(
            [
                (run(2, 3, kind="positive"), const(np.array(e)))
                for e in (-1.0, -2.0, 0.5, -0.5, 1.5, 0.3333)
            ]
            + [(const(np.array(2.0)), run(3)), (const(np.array([0.5, 3.0])), run(3, 2))]
        ),
    ),
    "PRelu": (
        Grid(
            [
                (run(*s), f(*t))
                for s, t in (
                    ((2, 3), (3,)),
                    ((2, 3), (2, 3)),
                    ((2, 3), (1,)),
                    ((2, 3), ()),
                    ((3,), (3,)),
                    ((1, 2, 2, 3), (2, 1, 1)),
                    ((1, 2, 2, 3), (1,)),
                    ((2, 0), (1,)),
                    ((), ()),
                    ((2, 3), (2, 1)),
                    ((3,), (2, 3)),
                )
                for f in (kept, run)
            ],
            {},
            BRAIN,
        ),
    ),
    **{op: variadic() for op in ("Sum", "Mean", "Max", "Min")},
    "Where": (
        Grid(
            [
                (c, a, b)
                for c in (run(2, 3, dtype="bool"), kept(2, 3, dtype="bool"), run(3, dtype="bool"))
                for a, b in (
                    (run(2, 3), kept(3)),
                    (kept(2, 1), run(1, 3)),
                    (run(), run(2, 1)),
                    (run(1), kept()),
                )
            ]
            + [(kept(2, 3, dtype="bool"), kept(2, 3), kept(3)), (run(dtype="bool"), run(), kept())]
            + [(run(2, 0, dtype="bool"), run(2, 1), kept(1))],
            {},
            (*ANY,),
        ),
    ),
    "Clip": (
        unary(
            min=(None, -1.0, 0.0, 0.5, np.float64(1.0)),
            max=(None, -2.0, 0.0, 0.5, 2.0),
            types=BRAIN,
        ),
    ),
    **{
        op: (
            Grid(
                [
                    (run(*s, kind=k),)
                    for s in ((3,), (2, 3), (2, 3, 2), (1, 1), (2, 0), ())
                    for k in ("any", "whole", "distinct")
                ]
                + [(kept(2, 3),)],
                {
                    "axis": (None, 0, 1, 2, -1, -2),
                    "keepdims": (None, 0, 1),
                    "select_last_index": (None, 0, 1),
                },
                BRAIN,
            ),
        )
        for op in ("ArgMax", "ArgMin")
    },
}
