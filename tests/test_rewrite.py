"""Operators decomposed into others: against onnxruntime, the reference, and executions."""

from __future__ import annotations

import numpy as np
import pytest
from operator_checks import (
    Example,
    check_against_reference,
    check_bounds,
    check_runtime,
    example,
    graph_of,
)

from encoders.contract.presets import SEQUENTIAL
from gpu_check.emulator.emulator import emulate
from onnx_import.errors import UnsupportedModel


def einsum(equation: str, *shapes: tuple[int, ...]) -> Example:
    names = "abc"[: len(shapes)]
    return example(
        "Einsum",
        " ".join(names),
        dict(zip(names, shapes, strict=True)),
        equation,
        equation=equation,
        exact=False,
    )


CASES = (
    einsum("ij->ji", (2, 3)),
    einsum("ijk->j", (2, 3, 2)),
    einsum("ij,jk", (2, 3), (3, 2)),
    einsum("bhqd,bhkd->bhqk", (1, 2, 2, 3), (1, 2, 2, 3)),
    einsum("i,i->", (3,), (3,)),
    einsum("i,j->ji", (3,), (2,)),
    einsum("bij,jk,bk->bi", (2, 2, 3), (3, 2), (2, 2)),
    einsum("ija,kja->ik", (2, 3, 2), (2, 3, 2)),
    einsum("...ij,...jk->...ik", (2, 2, 3), (2, 3, 2)),
    einsum("i...,ij->...j", (2, 3, 2), (2, 2)),
    einsum("...i,i", (2, 2, 3), (3,)),
    einsum("ii->i", (3, 3)),
    einsum("bii,bi->i", (2, 3, 3), (2, 3)),
    example(
        "ScatterND",
        "x i u",
        {"x": (3, 2, 2), "u": (2, 2)},
        constants={"i": np.array([[2, 0], [0, -1]])},
    ),
    *(
        example(
            "ScatterND",
            "x i u",
            {"x": (3, 2), "u": (2, 2)},
            reduction,
            constants={"i": np.array([[2], [0]])},
            opset=18,
            reduction=reduction,
        )
        for reduction in ("add", "mul", "max", "min")
    ),
    *(
        example(
            "TensorScatter",
            "x u w",
            {"x": (2, 4, 3), "u": (2, 2, 3)},
            mode,
            constants={"w": np.array(places)},
            opset=24,
            mode=mode,
        )
        for mode, places in (("linear", [1, 0]), ("circular", [3, 2]))
    ),
    example("GatherND", "x i", (2, 3), constants={"i": np.array([[0, 2], [1, -1]])}),
    example(
        "GatherND",
        "x i",
        (2, 3, 2),
        "batches",
        constants={"i": np.array([[[0], [2]], [[-1], [1]]])},
        batch_dims=1,
    ),
    Example(
        "Xor",
        (
            ("Less", "x z", "c", {}),
            ("Greater", "x k", "d", {}),
            ("Xor", "c d", "e", {}),
            ("Where", "e x z", "y", {}),
        ),
        {"x": (3, 4), "z": (4,)},
        {"k": np.array(0.5)},
    ),
    *(
        Example(
            f"OneHot of a computed position, axis {axis}",
            (
                ("ArgMax", "x", "i", {"axis": 1, "keepdims": 0}),
                ("OneHot", "i d v", "y", {"axis": axis}),
            ),
            {"x": (2, 3)},
            {"d": np.array(4), "v": np.array([-1.0, 0.5])},
        )
        for axis in (-1, 0)
    ),
    Example(
        "OneHot of computed integers",
        (("Cast", "x", "i", {"to": 7}), ("OneHot", "i d v", "y", {"axis": 1})),
        {"x": (2, 3)},
        {"d": np.array(3), "v": np.array([0.0, 1.0])},
        lo=-4.0,
        hi=4.0,
    ),
    example(
        "ScatterElements",
        "x i u",
        {"x": (3, 2), "u": (2, 2)},
        constants={"i": np.array([[2, 0], [0, -2]])},
        axis=0,
    ),
    example(
        "OneHot",
        "i d x",
        {"x": (2,)},
        constants={"i": np.array([[0, 5], [-1, 2]]), "d": np.array(3)},
        axis=1,
    ),
    example(
        "Pow",
        "x e",
        (2, 1),
        "several exponents",
        constants={"e": np.array([[2.0, 0.5, 1.0], [3.0, 2.0, -1.0]])},
        lo=0.5,
        exact=False,
        rational=False,
    ),
    example(
        "LpPool",
        "x",
        (1, 2, 3, 4),
        "pads, strides",
        kernel_shape=[2, 3],
        pads=[1, 0, 0, 2],
        strides=[2, 1],
        exact=False,
        rational=False,
        lo=0.5,
    ),
    example(
        "LpPool", "x", (1, 2, 5), "sums", kernel_shape=[2], auto_pad="SAME_LOWER", p=1, exact=False
    ),
    example(
        *("LpPool", "x", (1, 2, 5), "cubes"),
        kernel_shape=[3],
        strides=[2],
        pads=[1, 1],
        p=3,
        exact=False,
        rational=False,
    ),
    example("GlobalLpPool", "x", (1, 2, 3, 2), p=1, exact=False),
    example("ReduceProd", "x", (3, 2, 2), axes=[1], exact=False),
    example("ReduceProd", "x", (1, 2), "all", keepdims=0, exact=False),
    example("ReduceProd", "x", (3, 1, 2), axes=[1]),
    example("ReduceProd", "x", (1, 1), "all", keepdims=0),
    *(
        example(
            "CumProd",
            "x a",
            (3, 2),
            f"along {axis} {given}",
            opset=26,
            exact=False,
            constants={"a": np.array(axis)},
            **given,  # type: ignore[arg-type]
        )
        for axis, given in ((0, {}), (-1, {"exclusive": 1}), (0, {"reverse": 1, "exclusive": 1}))
    ),
    *(
        example(
            "RoiAlign",
            "x r b",
            (1, 2, 4, 5),
            name,
            opset=16,
            exact=False,
            output_height=2,
            constants={"r": np.array(rois), "b": np.zeros(len(rois), np.int64)},
            **given,
        )
        for name, rois, given in (
            ("sampled", [[0.5, 0.25, 4.0, 2.5]], {"sampling_ratio": 2}),
            ("largest", [[0.5, 0.3, 4.0, 2.4]], {"sampling_ratio": 2, "mode": "max"}),
            ("each as often", [[0.25, 0.3, 4.1, 3.4], [1.25, 1.0, 2.0, 1.5]], {"output_width": 2}),
        )
    ),
    example("LRN", "x", (1, 5, 2, 2), size=3, alpha=0.25, bias=2.0, exact=False, rational=False),
    example(
        "Gemm", "a b c", {"a": (3, 2), "b": (2, 3), "c": (2,)}, transA=1, transB=1, exact=False
    ),
    example("Gemm", "a b", {"a": (2, 3), "b": (3, 2)}, "no bias", exact=False),
    example("Gemm", "a b", {"a": (2, 3), "b": (3, 2)}, "scaled", alpha=0.5, exact=False),
    *(
        example(
            op,
            "x i u",
            {"x": (3, 2), "u": (4, 2)},
            f"repeated, {reduction}",
            constants={"i": np.array(index)},
            opset=18,
            exact=False,
            reduction=reduction,
        )
        for op, index in (
            ("ScatterElements", [[2, 0], [0, -1], [2, 0], [-1, 1]]),
            ("ScatterND", [[2], [0], [-1], [2]]),
        )
        for reduction in ("add", "max", "min")
    ),
    example(
        "MaxUnpool",
        "x i",
        (1, 2, 2, 1),
        constants={"i": np.array([[[[1], [7]], [[8], [14]]]])},
        kernel_shape=[2, 2],
        strides=[2, 2],
    ),
    example(
        "MaxUnpool",
        "x i s",
        (1, 1, 2, 2),
        "stated",
        constants={"i": np.array([[[[5, 7], [9, 2]]]]), "s": np.array([1, 1, 3, 4])},
        kernel_shape=[2, 2],
        strides=[2, 2],
        pads=[0, 0, 1, 0],
    ),
    example("Hardmax", "x", (2, 3)),
    example("Hardmax", "x", (3, 2, 2), "first axis", axis=0),
    example("Shrink", "x", (2, 3), lambd=0.5, bias=0.25),
    example("Shrink", "x", (4,), "to zero"),
    example("IsNaN", "x", (2, 3)),
    example("IsInf", "x", (3,), opset=20),
    example("IsInf", "x", (3,), "below", opset=20, detect_positive=0),
)

every_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)


@every_case
def test_emulation_is_onnxruntime(case: Example) -> None:
    check_runtime(case)


@every_case
def test_real_meaning_is_the_reference(case: Example) -> None:
    if case.name in ("LRN", "GlobalLpPool") or case.nodes[0][0] == "Shrink":
        pytest.skip(
            "the reference has none, or sums the squares of the first channels only, or of "
            "doubles it is refused"
        )
    check_against_reference(case)


@pytest.mark.parametrize(("size", "beta"), [(1, 0.5), (2, 0.75), (3, 1.0), (9, 0.75)])
def test_lrn_is_its_formula(size: int, beta: float) -> None:
    """Σ over the channels from c − ⌊(size − 1)/2⌋ to c + ⌈(size − 1)/2⌉, as ONNX has it."""
    case = example("LRN", "x", (2, 5, 3), size=size, alpha=0.5, beta=beta, bias=1.5)
    graph, _ = graph_of(case, np.float64)
    x = np.random.default_rng(3).standard_normal((1, 2, 5, 3))
    (y,) = (np.asarray(v) for v in emulate(graph, {"x": x}, SEQUENTIAL).values())
    for c in range(5):
        window = x[:, :, max(0, c - (size - 1) // 2) : c + size // 2 + 1]
        scale = 1.5 + 0.5 / size * np.sum(window**2, axis=2)
        np.testing.assert_allclose(y[:, :, c], x[:, :, c] * scale**-beta, rtol=1e-12)


@every_case
def test_bounds_hold(case: Example) -> None:
    check_bounds(case)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (einsum("ij,jk->ik", (2, 1), (3, 2)), "broadcasts 'j'"),
        (example("LpPool", "x", (1, 1, 4), kernel_shape=[2], p=0), "attribute 'p' is 0"),
        (
            example(
                "MaxUnpool",
                "x i",
                (1, 1, 2),
                constants={"i": np.array([[[1, 1]]])},
                kernel_shape=[2],
            ),
            "occurs twice",
        ),
        (
            example(
                "MaxUnpool",
                "x i s",
                (1, 1, 2),
                constants={"i": np.array([[[1, 2]]]), "s": np.array([1, 1, 5])},
                kernel_shape=[2],
            ),
            "differs between runtimes",
        ),
        (
            example(
                "ScatterND",
                "x i u",
                {"x": (3,), "u": (2,)},
                constants={"i": np.array([[1], [-2]])},
            ),
            "occurs twice",
        ),
        (
            example(
                "ScatterND",
                "x i u",
                {"x": (3,), "u": (1,)},
                constants={"i": np.array([[1]])},
                opset=16,
                reduction="mean",
            ),
            "reduction",
        ),
    ],
    ids=lambda v: getattr(v, "name", ""),
)
def test_what_cannot_be_decomposed_is_refused(case: Example, words: str) -> None:
    with pytest.raises(UnsupportedModel, match=rf"node '.*' \({case.nodes[0][0]}\): .*{words}"):
        graph_of(case)
