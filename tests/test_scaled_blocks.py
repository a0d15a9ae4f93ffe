"""Long sums that kernels scale block by block: bounds hold for blocks of every length, added up in
either direction, fused or not, a bias first or last, and for onnxruntime. Sums of blocks cancel, so
that what scaling each of them rounds is all there is to see."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from encoders.contract.presets import IEEE_ANY, ORT_CPU
from encoders.numbers.enclosure import Interval
from onnx_import import load
from onnx_import.errors import UnsupportedModel
from refine.bounds.network import InputBox, network_bounds

Array = Any
TERMS = 512
ROWS, COLUMNS = 2, 3
LENGTHS = (64, 100, 128, 256, TERMS)
_F32 = np.float32


def model(
    op: str, alpha: float, computed: bool, biased: bool, w: Array, **more: Any
) -> onnx.ModelProto:
    inputs = {"x": (*more.pop("batch", ()), ROWS, TERMS)}
    kept = {"w": w}
    if computed:
        inputs["w"] = w.shape
        del kept["w"]
    if biased:
        kept["b"] = bias()
    names = ["x", "w", *(["b"] if biased else [])]
    domain = "com.microsoft" if op == "FusedMatMul" else ""
    node = helper.make_node(op, names, ["y"], domain=domain, alpha=alpha, **more)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, n) for n, v in kept.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def bias() -> Array:
    return np.array([1e-9, -0.25, 3.0], _F32)


def weights(rng: Any) -> Array:
    """Of every column two numbers that cancel, far from each other, and in the last one more."""
    w = np.zeros((TERMS, COLUMNS), _F32)
    w[3], w[TERMS - 5] = 1.0, -1.0
    w[rng.integers(10, 500, 6), COLUMNS - 1] = rng.normal(0, 1e-3, 6)
    return w


def numbers(rng: Any, *batch: int) -> Array:
    x = np.zeros((*batch, ROWS, TERMS), _F32)
    x[...] = rng.normal(0, 1e-3, x.shape)
    x[..., 3] = rng.uniform(1, 2, x.shape[:-1])
    x[..., TERMS - 5] = x[..., 3] * _F32(1 + rng.integers(-2, 3) * 2.0**-23)
    return x


def exact(x: Array, w: Array, alpha: float, b: Array) -> list[list[Fraction]]:
    """Of one matrix."""
    used = [np.flatnonzero(column) for column in w.T]
    return [
        [
            Fraction(float(_F32(alpha)))
            * sum((Fraction(float(row[k])) * Fraction(float(w[k, j])) for k in used[j]), Fraction())
            + Fraction(float(b[j]))
            for j in range(COLUMNS)
        ]
        for row in x
    ]


def executions(x: Array, w: Array, alpha: float, b: Array) -> Iterator[Array]:
    """Of one matrix, in float32: float64 holds a product, and what a fused sum
    loses by double rounding is far below what is looked for."""
    a = _F32(alpha)
    terms = (x[:, :, None] * w[None]).astype(_F32)
    for length, fused, backwards, first in itertools.product(LENGTHS, *[(False, True)] * 3):
        starts = range(0, TERMS, length)
        blocks = []
        for start in starts:
            total = np.zeros(terms.shape[::2], _F32)
            for k in range(start, min(start + length, TERMS)):
                total = total + terms[:, k]
            blocks.append(total)
        run = np.broadcast_to(b, blocks[0].shape).astype(_F32) if first else None
        for block in reversed(blocks) if backwards else blocks:
            if run is None:
                run = a * block
            elif fused:
                run = (np.float64(a) * block + run).astype(_F32)
            else:
                run = a * block + run
        assert run is not None
        yield run if first else run + b


def session(made: onnx.ModelProto) -> Any:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return ort.InferenceSession(
        made.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def bounds(path: Path, given: dict[str, Array]) -> list[Array]:
    graph = load(path)
    exactly = {t: np.asarray(given[t], np.float64) for t in graph.inputs}
    box = InputBox(
        {t: Interval(v, v) for t, v in exactly.items()},
        {t: np.zeros(v.shape) for t, v in exactly.items()},
    )
    shape = graph.types["y"].shape
    found = (network_bounds(graph, box, c).maps.errors["y"] for c in (IEEE_ANY, ORT_CPU))
    return [np.broadcast_to(v, shape) for v in found]


def check(runs: Sequence[Array], real: list[list[Fraction]], limits: Sequence[Array]) -> float:
    """How near the bounds anything came."""
    nearest = 0.0
    for run, limit in itertools.product(runs, limits):
        for at in np.ndindex(*run.shape):
            off = float(abs(Fraction(float(run[at])) - real[at[0]][at[1]]))
            assert off <= limit[at] * (1 + 1e-9), (at, run[at], off, limit[at])
            nearest = max(nearest, off / limit[at])
    return nearest


@pytest.mark.parametrize("alpha", [1.3, -3.1, 0.7, 2.0])
@pytest.mark.parametrize("computed", [False, True], ids=["stored", "computed"])
@pytest.mark.parametrize(
    ("op", "biased"), [("Gemm", False), ("Gemm", True), ("FusedMatMul", False)]
)
def test_blocks_may_be_scaled_one_by_one(
    op: str, biased: bool, computed: bool, alpha: float, tmp_path: Path
) -> None:
    rng = np.random.default_rng(int(abs(alpha) * 10))
    w = weights(rng)
    onnx.save(made := model(op, alpha, computed, biased, w), tmp_path / "m.onnx")
    runtime, nearest = session(made), 0.0
    b = bias() if biased else np.zeros(COLUMNS, _F32)
    for _ in range(3):
        given = {"x": numbers(rng), **({"w": w} if computed else {})}
        limits = bounds(tmp_path / "m.onnx", given)
        runs = [*executions(given["x"], w, alpha, b), runtime.run(None, given)[0]]
        nearest = max(nearest, check(runs, exact(given["x"], w, alpha, b), limits))
    assert nearest > 0.001


@pytest.mark.parametrize("sizes", [((4,), ()), ((2, 2), (2,)), ((2, 1), (1, 2))])
def test_batches_of_scaled_products(
    sizes: tuple[tuple[int, ...], tuple[int, ...]], tmp_path: Path
) -> None:
    left, right = sizes
    rng, alpha = np.random.default_rng(5), 1.3
    w = np.stack([weights(rng) for _ in range(int(np.prod(right)))]).reshape(*right, TERMS, COLUMNS)
    made = model("FusedMatMul", alpha, False, False, w, batch=left)
    onnx.save(made, tmp_path / "m.onnx")
    x = numbers(rng, *left)
    (found,) = session(made).run(None, {"x": x})
    limits = bounds(tmp_path / "m.onnx", {"x": x})
    batch = np.broadcast_shapes(left, right)
    xs, ws = (
        np.broadcast_to(x, (*batch, *x.shape[-2:])),
        np.broadcast_to(w, (*batch, *w.shape[-2:])),
    )
    assert found.shape == limits[0].shape == (*batch, ROWS, COLUMNS)
    for at in np.ndindex(*batch):
        none = np.zeros(COLUMNS, _F32)
        runs = [*executions(xs[at], ws[at], alpha, none), found[at]]
        check(runs, exact(xs[at], ws[at], alpha, none), [limit[at] for limit in limits])


def test_too_many_scaled_products_are_refused(tmp_path: Path) -> None:
    w = np.zeros((257, TERMS, COLUMNS), _F32)
    onnx.save(model("FusedMatMul", 1.3, True, False, w, batch=(257,)), tmp_path / "m.onnx")
    with pytest.raises(UnsupportedModel, match="scales 257 products"):
        load(tmp_path / "m.onnx")


def test_short_sums_are_finished_before_they_are_scaled(tmp_path: Path) -> None:
    """No block is shorter, so that nothing is charged for further ones."""
    for terms, least, most in ((64, 0.0, 5.0), (65, 0.0, 12.0)):
        node = helper.make_node("Gemm", ["x", "w"], ["y"], alpha=1.3)
        x = np.zeros((1, terms), _F32)
        x[0, 0] = 1.0
        graph = helper.make_graph(
            [node],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.ones((terms, 1), _F32), "w")],
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(made, tmp_path / "m.onnx")
        for limit in bounds(tmp_path / "m.onnx", {"x": x}):
            assert least * 2.0**-24 < limit[0, 0] < most * 2.0**-24


@pytest.mark.parametrize("kernel", ["POLY", "SIGMOID"])
def test_kernels_of_long_vectors(kernel: str, tmp_path: Path) -> None:
    """onnxruntime scales products with support vectors as a Gemm does."""
    rng = np.random.default_rng(3)
    support = weights(rng).T
    node = helper.make_node(
        "SVMRegressor",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        kernel_type=kernel,
        kernel_params=[1.3, 1e-9, 1.0],
        n_supports=COLUMNS,
        coefficients=[1.0, 0.0, 0.0],
        support_vectors=support.reshape(-1).tolist(),
        rho=[0.0],
    )
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (ROWS, TERMS))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.save(made, tmp_path / "m.onnx")
    runtime, line = session(made), np.array([1e-9] * COLUMNS, _F32)
    for _ in range(20):
        x = numbers(rng)
        real = exact(x, support.T, 1.3, line)
        (found,) = runtime.run(None, {"x": x})
        for limit in bounds(tmp_path / "m.onnx", {"x": x}):
            for i in range(ROWS):
                # near 0 the hyperbolic tangent is its argument but for its cube
                off = float(abs(Fraction(float(found[i, 0])) - real[i][0]))
                assert off <= limit[i, 0] + abs(float(real[i][0])) ** 3
