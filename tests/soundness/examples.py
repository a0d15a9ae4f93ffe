"""Example nodes of every operator: the one registry that the tests of all operators run on.

`EXAMPLES` are single nodes, on which an operator's semantics are held against each other;
`every_example` has these and the examples of each family of operators, which stand in its own
tests, by operator.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from typing import Any

import numpy as np
import test_masks
import test_operators_algebraic
import test_operators_elementary
import test_operators_interpolation
import test_recurrent
from operator_checks import Described, Example
from operator_checks import example as of_one


def node(op: str, inputs: str, output: str, **attributes: Any) -> Described:
    return op, inputs, output, attributes


def example(described: Described, dtype: Any = np.float32, **tensors: Any) -> Example:
    """Tuples are shapes of inputs, everything else is a constant."""
    inputs = {t: v for t, v in tensors.items() if isinstance(v, tuple)}
    constants = {
        t: v if isinstance(v, np.ndarray) else np.array(v, np.float64)
        for t, v in tensors.items()
        if not isinstance(v, tuple)
    }
    return Example(described[0], (described,), inputs, constants, opset=15, dtype=dtype)


def axes(*values: int) -> Any:
    return np.array(values, np.int64)


_rng = np.random.default_rng(7)
_wide = _rng.standard_normal((7, 3)) * np.array([1e-3, 1.0, 1e3])
_kernel = _rng.standard_normal((4, 2, 2, 3))
_norm: dict[str, Any] = {
    "x": (2, 3, 2), "g": [0.7, -1.25, 3.0], "b": [0.3, 0.5, -100.0], "m": [0.4, -0.75, 7.0],
    "v": [3.75, 0.75, 2.0],
}  # fmt: skip

EXAMPLES: dict[str, tuple[Example, ...]] = {
    "Add": (
        example(node("Add", "x z", "y"), x=(2, 3), z=(3,)),
        example(node("Add", "x x", "y"), x=(3,)),
        example(node("Add", "x k", "y"), x=(1, 3), k=[[0.1, 0.0, -7.5], [1e-40, 3.0, 1e10]]),
    ),
    "Sub": (
        example(node("Sub", "x z", "y"), x=(2, 1), z=(1, 3)),
        example(node("Sub", "k x", "y"), x=(2, 3), k=[0.1, 0.0, -7.5]),
    ),
    "Mul": (
        example(node("Mul", "x k", "y"), x=(2, 3), k=[0.1, -4.0, 1e-20]),
        example(node("Mul", "k x", "y"), x=(3,), k=[[0.0, 1.0, 3.0], [-1.0, 7.0, 1e5]]),
        example(node("Mul", "x k", "y"), np.float64, x=(3,), k=[0.1, -4.0, 1e-200]),
    ),
    "Div": (
        example(node("Div", "x k", "y"), x=(2, 3), k=[3.0, -4.0, 1e-3]),
        example(node("Div", "x k", "y"), np.float64, x=(3,), k=[3.0, 0.1, 1e200]),
        example(node("Div", "x k", "y"), np.float64, x=(2,), k=[8.0, -0.5]),
    ),
    "Relu": (example(node("Relu", "x", "y"), x=(2, 8)),),
    "MatMul": (
        example(node("MatMul", "x W", "y"), x=(2, 7), W=_wide),
        example(node("MatMul", "W x", "y"), x=(3, 2), W=_wide),
        example(node("MatMul", "x W", "y"), x=(7,), W=_wide),
        example(node("MatMul", "x W", "y"), x=(2, 1, 7), W=_wide),
        example(node("MatMul", "x W", "y"), x=(1, 2), W=_rng.standard_normal((3, 2, 2))),
        example(node("MatMul", "x W", "y"), np.float64, x=(1, 7), W=_wide),
    ),
    "Gemm": (
        example(node("Gemm", "x W b", "y"), x=(2, 7), W=_wide, b=[0.1, -2.0, 1e4]),
        example(node("Gemm", "x W", "y", alpha=0.3), x=(1, 7), W=_wide),
        example(
            node("Gemm", "x W b", "y", transA=1, transB=1, alpha=0.3, beta=1.7),
            x=(7, 2), W=_wide.T.copy(), b=[[0.1], [3.0]],
        ),
        example(node("Gemm", "W x c", "y", beta=-0.6), x=(3, 2), W=_wide, c=(7, 1)),
        example(node("Gemm", "W x c", "y", transB=1), x=(2, 3), W=_wide, c=[0.25, 0.3]),
        example(
            node("Gemm", "x W b", "y", alpha=0.1, beta=0.3), np.float64, x=(1, 7), W=_wide,
            b=[0.1, -2.0, 1e4],
        ),
    ),
    "Conv": (
        example(
            node("Conv", "x W b", "y", pads=[1, 0, 1, 2], strides=[2, 1]), x=(1, 2, 3, 4),
            W=_kernel, b=[0.1, 0.0, -3.0, 50.0],
        ),
        example(node("Conv", "x W", "y", group=2, dilations=[1, 2]), x=(2, 4, 2, 5), W=_kernel),
        example(
            node("Conv", "x W b", "y", auto_pad="SAME_UPPER", strides=[2]), x=(1, 1, 5),
            W=[[[0.5, -0.3, 0.7, 0.2]]], b=[-1.5],
        ),
    ),
    "BatchNormalization": (
        example(node("BatchNormalization", "x g b m v", "y", epsilon=0.25), **_norm),
        example(node("BatchNormalization", "x g b m v", "y", epsilon=0.25), np.float64, **_norm),
    ),
    "Concat": (
        example(node("Concat", "x k z", "y", axis=1), x=(2, 1), z=(2, 3), k=[[0.1], [7.0]]),
        example(node("Concat", "x x", "y", axis=-2), x=(1, 2)),
    ),
    "Trilu": (
        example(node("Trilu", "x", "y"), x=(2, 3, 4)),
        example(node("Trilu", "x k", "y", upper=0), x=(3, 3), k=axes(-1)),
    ),
    "Transpose": (
        example(node("Transpose", "x", "y", perm=[1, 2, 0]), x=(2, 3, 4)),
        example(node("Transpose", "x", "y"), x=(2, 3)),
    ),
    "Reshape": (example(node("Reshape", "x s", "y"), x=(2, 6), s=axes(3, -1)),),
    "Flatten": (example(node("Flatten", "x", "y", axis=2), x=(2, 3, 2)),),
    "Identity": (example(node("Identity", "x", "y"), x=(2, 3)),),
    "Squeeze": (example(node("Squeeze", "x a", "y"), x=(2, 1, 3), a=axes(1)),),
    "Unsqueeze": (example(node("Unsqueeze", "x a", "y"), x=(2, 3), a=axes(1)),),
}  # fmt: skip

PAIR = {"a": (2, 3), "b": (3,)}
MORE = (
    *(of_one(op, "a b", PAIR) for op in ("And", "Or", "Xor")),
    of_one("Not", "a", {"a": (2, 3)}),
    of_one("Mul", "x k", (2, 3), constants={"k": np.array([2.0, 3.0, 1.0])}),
    of_one(
        "GroupNormalization", "x s b", (2, 4, 3), opset=21, num_groups=2,
        constants={"s": np.array([0.7, -1.25, 3.0, 0.1]), "b": np.zeros(4)},
    ),
)  # fmt: skip
OF_FAMILIES = (
    *test_operators_algebraic.EVERY,
    *test_operators_elementary.EVERY,
    *test_operators_interpolation.CASES,
    *test_masks.CASES,
    *test_recurrent.CASES,
)


@cache
def every_example() -> dict[str, list[Example]]:
    """Networks with each operator, those of it alone first."""
    found: dict[str, list[Example]] = defaultdict(list)
    for name, (first, *_) in EXAMPLES.items():
        found[name].append(first)
    for case in sorted((*MORE, *OF_FAMILIES), key=lambda c: len(c.nodes)):
        for op, *_ in case.nodes:
            found[op].append(case)
    for name, op in (("Interpolate", "Resize"), ("Slice", "Split")):
        found[name] += [c for c in found[op] if name == "Slice" or "mode" in c.nodes[0][3]]
    for op in ("Narrow", "Truncate"):
        found[op] += [c for c in found["Cast"] if "to" in c.nodes[0][3]]
    found["Cast"].sort(key=lambda c: " to type " in c.name)  # to few bits, last
    found["Lookup"] += [c for c in found["Gather"] if c.nodes[0][0] in ("Cast", "ArgMax")]
    for op in ("Add", "Sub", "Mul"):
        found[f"Whole{op}"] += sorted(found[op], key=lambda c: not c.name.startswith("Whole"))
    for op in ("Softmax", "LogSoftmax"):
        found[f"Masked{op}"] += [c for c in test_masks.CASES if c.nodes[1][0] == op]
    found["RecurrentTanh"] += found["RNN"]
    found["RecurrentSigmoid"] += found["GRU"]
    found["MaskedWhere"] += [c for c in test_masks.CASES if c.nodes[-1][0] == "Exp"]
    return found
