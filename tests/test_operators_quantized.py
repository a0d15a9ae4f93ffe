"""Quantised operators: bits against onnxruntime, bounds and abstractions against exact numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from given_radii import off_by
from onnx import TensorProto, helper, numpy_helper
from operator_checks import Example, box_of, check_bounds, check_runtime, graph_of

from encoders.arithmetic.exact_fields import Rationals, fraction, object_array
from encoders.arithmetic.values import Inputs
from encoders.contract.presets import IEEE_ANY, SEQUENTIAL
from encoders.numbers.enclosure import Interval
from encoders.operator import Operator, Site, site_of
from encoders.program import program_of
from encoders.registry import lookup
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_exact
from gpu_check.runtimes.runtimes import OnnxRuntime
from onnx_import import load
from onnx_import.errors import UnsupportedModel
from onnx_import.graph import Array
from refine.bounds.network import network_bounds

FLOAT = TensorProto.FLOAT
rng = np.random.default_rng(19)
Nodes = tuple[tuple[str, str, str, dict[str, Any]], ...]


def u8(*values: int) -> Array:
    return np.array(values if len(values) > 1 else values[0], np.uint8)


def s8(*values: int) -> Array:
    return np.array(values if len(values) > 1 else values[0], np.int8)


def bytes_of(kind: Any, *shape: int) -> Array:
    """Any uint8 numbers, but int8 ones of 7 bits: processors without VNNI saturate the others."""
    low, high = (-64, 64) if kind is np.int8 else (0, 256)
    return rng.integers(low, high, shape).astype(kind)


def case(
    name: str,
    nodes: Nodes,
    shape: Sequence[int],
    outputs: str = "y",
    opset: int = 13,
    **constants: Any,
) -> Example:
    return Example(name, nodes, {"x": tuple(shape)}, constants, opset=opset,
                   outputs=outputs.split())  # fmt: skip


QUANTIZE: Nodes = (("QuantizeLinear", "x s z", "q", {}),)
FROM_INT32: Nodes = (("Cast", "i", "y", {"to": FLOAT}),)
BACK: Nodes = (("DequantizeLinear", "p t w", "y", {}),)
SCALE: dict[str, Any] = {"s": 0.02, "z": u8(100)}
COARSE: dict[str, Any] = {"t": 0.37, "w": u8(7)}
PADS = {"pads": [1, 0, 0, 1]}

CASES = (
    case("per tensor", (*QUANTIZE, ("DequantizeLinear", "q s z", "y", {})), (2, 3), "q y", **SCALE),
    case("saturating", (*QUANTIZE, ("DequantizeLinear", "q s z", "y", {})), (2, 3), "q y",
         s=0.01, z=s8(50)),
    case("no zero point", (("QuantizeLinear", "x s", "q", {}),
                           ("DequantizeLinear", "q s", "y", {})), (2, 3), "q y", s=0.1),
    case("per axis", (("QuantizeLinear", "x s z", "q", {"axis": 1}),
                      ("DequantizeLinear", "q s z", "y", {"axis": 1})), (2, 3, 2), "q y",
         s=[0.02, 0.5, 0.125], z=s8(-3, 0, 7)),
    case("MatMulInteger", (*QUANTIZE, ("MatMulInteger", "q B z b", "i", {}), *FROM_INT32), (2, 5),
         "i y", B=bytes_of(np.int8, 5, 3), b=s8(3, -4, 0), **SCALE),
    case("MatMulInteger of a stored left factor",
         (*QUANTIZE, ("MatMulInteger", "A q a z", "i", {}), *FROM_INT32), (5, 2),
         A=bytes_of(np.uint8, 3, 5), a=u8(200), **SCALE),
    case("MatMulInteger without zero points", (*QUANTIZE, ("MatMulInteger", "q B", "i", {}),
                                               *FROM_INT32), (2, 4, 5),
         B=bytes_of(np.uint8, 5, 3), **SCALE),
    case("ConvInteger", (*QUANTIZE, ("ConvInteger", "q W z w", "i", PADS), *FROM_INT32),
         (1, 2, 4, 3), W=bytes_of(np.uint8, 3, 2, 2, 2), w=u8(131), **SCALE),
    case("ConvInteger in groups",
         (*QUANTIZE, ("ConvInteger", "q W z", "i", {"group": 2, "strides": [2, 1]}), *FROM_INT32),
         (2, 4, 4, 3), W=bytes_of(np.uint8, 2, 2, 2, 2), **SCALE),
    case("QLinearMatMul", (*QUANTIZE, ("QLinearMatMul", "q s z B r b t w", "p", {}), *BACK), (2, 5),
         "p y", B=bytes_of(np.uint8, 5, 3), r=0.031, b=u8(125), **SCALE, **COARSE),
    case("QLinearMatMul by columns",
         (("QuantizeLinear", "x s z", "q", {}), ("QLinearMatMul", "q s z B r b t w", "p", {}),
          *BACK), (2, 5), "p y", s=0.03, z=s8(-7), B=bytes_of(np.int8, 5, 3),
         r=[0.001, 0.03, 0.5], b=s8(0, 0, 0), t=0.11, w=s8(-20)),
    case("QLinearConv", (*QUANTIZE, ("QLinearConv", "q s z W r b t w", "p", PADS), *BACK),
         (1, 2, 4, 3), "p y", W=bytes_of(np.uint8, 3, 2, 2, 2), r=0.02, b=u8(120), **SCALE,
         **COARSE),
    case("QLinearConv by channels with a bias",
         (*QUANTIZE, ("QLinearConv", "q s z W r b t w B", "p", {"dilations": [1, 2], **PADS}),
          *BACK), (1, 2, 4, 4), "p y", W=bytes_of(np.int8, 3, 2, 2, 2), r=[0.02, 0.001, 0.3],
         b=s8(0, 0, 0), B=np.array([-4000, 70, 123456], np.int32), **SCALE, **COARSE),
    case("DynamicQuantizeLinear", (("DynamicQuantizeLinear", "x", "q s z", {}),), (2, 3), "q s z"),
    case("a dynamic product, taken apart",
         (("DynamicQuantizeLinear", "x", "q s z", {}), ("MatMulInteger", "q B z b", "i", {}),
          *FROM_INT32, ("Mul", "y s", "o", {})), (2, 5), "o",
         B=bytes_of(np.int8, 5, 3), b=s8(0)),
    case("DynamicQuantizeMatMul",
         (("DynamicQuantizeLinear", "x", "q s z", {}), ("MatMulInteger", "q B z b", "i", {}),
          *FROM_INT32, ("Mul", "r s", "f", {}), ("Mul", "f y", "o", {})), (2, 5), "o",
         B=bytes_of(np.int8, 5, 3), b=s8(0, 1, -7), r=[0.01, 0.5, 1e-3]),
    case("DynamicQuantizeConv",
         (("DynamicQuantizeLinear", "x", "q s z", {}), ("ConvInteger", "q W z w", "i", PADS),
          *FROM_INT32, ("Mul", "s r", "f", {}), ("Mul", "y f", "o", {})), (1, 2, 3, 3), "o",
         W=bytes_of(np.uint8, 3, 2, 2, 2), w=u8(131), r=0.01),
    case("stored factors dequantised",
         (("DequantizeLinear", "B s z", "W", {"axis": 1}), ("DequantizeLinear", "b r", "c", {}),
          ("MatMul", "x W", "m", {}), ("Add", "m c", "y", {})), (2, 5),
         B=bytes_of(np.int8, 5, 3), s=[0.1, 0.3, 1e-3], z=s8(0, 5, -100),
         b=np.array([-40000, 7, 123456], np.int32), r=1e-5),
    case("stored filters dequantised",
         (("DequantizeLinear", "B s", "W", {"axis": 0}), ("Conv", "x W", "y", {})), (1, 2, 4, 4),
         B=bytes_of(np.int8, 3, 2, 2, 2), s=[0.1, 0.3, 1e-3]),
)  # fmt: skip
DYNAMIC = [
    c for c in CASES if c.name in ("DynamicQuantizeLinear", "a dynamic product, taken apart")
]
STATIC = [c for c in CASES if c not in DYNAMIC]


@pytest.mark.parametrize(
    "example", [c for c in CASES if "stored f" not in c.name], ids=lambda c: c.name
)
def test_emulation_is_onnxruntime_bit_for_bit(example: Example) -> None:
    check_runtime(example)


def test_stored_factors_are_what_onnxruntime_multiplies_by() -> None:
    """But for the schedule of the float32 sums."""
    for example in CASES[-2:]:
        check_runtime(replace(example, exact=False))


@pytest.mark.parametrize("example", STATIC, ids=lambda c: c.name)
def test_bounds_hold(example: Example) -> None:
    check_bounds(example, count=4)


@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16])
def test_bounds_hold_in_narrow_types(kind: Any) -> None:
    narrow = case("narrow", (*QUANTIZE, ("DequantizeLinear", "q s z", "y", {})), (2, 3), "q y",
                  opset=19, **SCALE)  # fmt: skip
    check_bounds(narrow, kind, count=6)


def test_bounds_of_dynamic_scales_hold() -> None:
    """Where the largest number is well above zero; the scale of nothing but zeros is undefined."""
    for example in DYNAMIC:
        pinned = Example(
            example.name,
            (("Add", "x k", "v", {}), *(_reading(n, "x", "v") for n in example.nodes)),
            example.inputs,
            {**example.constants, "k": np.linspace(-9.0, 9.0, example.inputs["x"][-1])},
            outputs=example.outputs,
            lo=-0.5,
            hi=0.5,
        )
        check_bounds(pinned, count=6)


def _reading(node: Any, old: str, new: str) -> Any:
    op, inputs, outputs, attributes = node
    return op, " ".join(new if t == old else t for t in inputs.split()), outputs, attributes


def test_a_dynamic_scale_that_may_be_zero_has_no_bound() -> None:
    graph, _ = graph_of(DYNAMIC[0])
    bounds = network_bounds(graph, box_of(DYNAMIC[0], graph), IEEE_ANY)
    assert np.all(np.isinf(bounds.errors["q"]))


@pytest.mark.parametrize("example", STATIC, ids=lambda c: c.name)
def test_abstractions_enclose_exact_values(example: Example) -> None:
    graph, _ = graph_of(example)
    for node in graph.order:
        site, operator = site_of(graph, node), lookup(node)
        for width, moved in ((0.0, 0.0), (0.0, 1.0), (0.03, 0.004), (1.0, 0.1), (1.0, 1.0)):
            _enclosed(site, operator, width, moved)


def _enclosed(site: Site, operator: Operator, width: float, moved: float) -> None:
    """Image, differences and pulled-back functionals of one node with one computed input."""
    draw = np.random.default_rng(3)
    (position,) = site.variable
    kind = site.type_of(position)
    whole = not kind.dtype.is_float
    unit = 40.0 if whole else 1.0
    settle = np.rint if whole else np.asarray
    middle = settle(draw.uniform(-2.0, 3.0, kind.shape) * (unit if whole else 1.0))
    radius = settle(width * unit * draw.random(kind.shape))
    error = settle(moved * unit * draw.random(kind.shape))
    x = Interval(middle - radius, middle + radius)
    values = operator.values(site, [x])
    differences = operator.differences(site, [x], [off_by(error)])
    shape = site.outputs[0].shape
    c = draw.standard_normal((3, *shape))
    pulled, apart = values.backward(c), differences.backward(c)
    for _ in range(3):
        at = middle + settle(radius * draw.uniform(-1.0, 1.0, kind.shape))
        step = settle(error * draw.choice([-1.0, 1.0, 0.5], kind.shape))
        y, y_hat = _exactly(site, operator, at), _exactly(site, operator, at, step)
        assert np.all((_fractions(values.range.lo) <= y) & (y <= _fractions(values.range.hi)))
        assert np.all(abs(y_hat - y) <= _fractions(differences.radius.bound))
        for contribution, out, given in ((pulled, y, at), (apart, y_hat - y, step)):
            (coefficients,) = contribution.coefficients
            for k in range(len(c)):
                most = Fraction(float(contribution.constant[k]))
                if coefficients is not None:
                    most += np.sum(_fractions(coefficients[k]) * _fractions(given))
                assert np.sum(_fractions(c[k]) * out) <= most, site.node


def _exactly(site: Site, operator: Operator, at: Any, step: Any = None) -> Any:
    field = Rationals()
    (position,) = site.variable
    exact = field.constant(np.asarray(at, np.float64))
    if step is not None:
        exact = exact + field.constant(np.asarray(step, np.float64))
    arguments = Inputs(
        exact if i == position else None if value is None else field.constant(value)
        for i, value in enumerate(site.constants)
    )
    result = operator.real(site, arguments, field)[0][0]
    return object_array(map(fraction, result.ravel().tolist()), result.shape)


def _fractions(values: Any) -> Any:
    array = np.asarray(values)
    return object_array((Fraction(float(v)) for v in array.ravel()), array.shape)


@pytest.mark.parametrize("scale", [0.0, 2.0**-140, 2.0**-118, 2.0**-10, 2.0**90])
def test_dynamic_products_of_every_size(scale: float) -> None:
    """Nothing but zeros included, for which onnxruntime takes a scale of 1."""
    (example,) = (c for c in CASES if c.name == "DynamicQuantizeMatMul")
    graph, raw = graph_of(example)
    assert [node.op for node in graph.order] == ["DynamicQuantizeMatMul"]
    x = (scale * rng.uniform(-1.0, 2.0, (8, *example.inputs["x"]))).astype(np.float32)
    computed = emulate(graph, {"x": x}, SEQUENTIAL)["o"]
    runtime = OnnxRuntime(raw)
    for i, one in enumerate(x):
        np.testing.assert_array_equal(computed[i], runtime.run({"x": one})["o"])
    check_bounds(replace(example, lo=-scale, hi=2.0 * scale), count=2)


def test_a_jump_is_charged_only_where_a_boundary_can_be_crossed() -> None:
    """0.3 and 0.4 with a scale of 1 are both stored as 0, 0.4 and 0.6 are not."""
    for lo, hi, error in ((0.3, 0.4, 0.0), (0.4, 0.6, 1.0)):
        example = Example(
            "step", QUANTIZE, {"x": (1,)}, {"s": 1 / 3, "z": u8(0)}, lo / 3, hi / 3, outputs=("q",)
        )
        graph, _ = graph_of(example)
        found = network_bounds(graph, box_of(example, graph), IEEE_ANY).largest
        assert found == pytest.approx(error, abs=1e-12)


def near_boundaries(scale: np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Floats around every half step up to 100, and how many steps they are over the reals."""
    x = ((np.arange(100) + 0.5) * np.float64(scale)).astype(np.float32)
    near = np.concatenate([np.nextafter(x, np.float32(0)), x, np.nextafter(x, np.float32(99))])
    return near, np.array([round(Fraction(float(v)) / Fraction(float(scale))) for v in near])


def test_rounding_the_quotient_can_jump_by_one_step() -> None:
    example = Example("step", QUANTIZE, {"x": (1,)}, {"s": 0.1, "z": u8(0)}, outputs=("q",))
    graph, _ = graph_of(example)
    near, exact = near_boundaries(np.float32(0.1))
    computed = emulate(graph, {"x": near[:, None]}, SEQUENTIAL)["q"][:, 0].astype(np.int64)
    assert set(np.abs(computed - exact).tolist()) == {0, 1}
    reals = evaluate_exact(graph, {"x": near[7:8]}, Rationals())
    assert fraction(reals["q"].item()) == exact[7]


def test_sums_beyond_float32_are_converted_as_onnxruntime_does() -> None:
    """3000 products of up to 255² leave 2^24, so converting them to float32 rounds."""
    columns = np.full((3000, 2), 255, np.uint8)
    columns[::7, 0] -= 1
    large = case(
        "large", (*QUANTIZE, ("QLinearMatMul", "q s z B r b t w", "p", {}),
                  ("MatMulInteger", "q B z b", "i", {}), *FROM_INT32),
        (2, 3000), "p y", s=0.01, z=u8(3), B=columns, r=1e-4, b=u8(1), t=0.7, w=u8(3),
    )  # fmt: skip
    check_runtime(replace(large, lo=2.3, hi=2.5))


def test_an_int32_overflow_is_an_obligation_that_names_the_node() -> None:
    many = case("many", (*QUANTIZE, ("MatMulInteger", "q B z", "i", {}), *FROM_INT32), (1, 40000),
                B=np.full((40000, 1), 255, np.uint8), **SCALE)  # fmt: skip
    graph, _ = graph_of(many)
    bounds = network_bounds(graph, box_of(many, graph), IEEE_ANY)
    (product,) = (n for n in bounds.nodes if n.node.op == "MatMulInteger")
    (condition,) = product.rounding.preconditions
    assert not condition.holds
    assert product.node.describe() in condition.statement
    assert np.all(np.isinf(bounds.errors["y"]))


def test_stored_tensors_are_read_as_the_exact_products() -> None:
    (example,) = (c for c in CASES if c.name == "stored factors dequantised")
    graph, _ = graph_of(example)
    assert {node.op for node in graph.order} == {"MatMul", "Add"}
    scale = np.array(example.constants["s"], np.float32)
    stored, zero = example.constants["B"], example.constants["z"]
    for at in np.ndindex(*stored.shape):
        wanted = Fraction(int(stored[at]) - int(zero[at[1]])) * Fraction(float(scale[at[1]]))
        assert Fraction(float(graph.constants["W"][at])) == wanted
    assert graph.held("W").dtype == np.float32


def stored_quantized(weights: Any, scale: float) -> Example:
    return case("weights", (("QuantizeLinear", "W s z", "q", {}),
                                ("DequantizeLinear", "q s z", "V", {}),
                            ("MatMul", "x V", "y", {})), (1, len(weights)),
                W=np.asarray(weights, np.float32), s=scale, z=s8(0))  # fmt: skip


def test_stored_tensors_are_quantised_where_runtimes_agree() -> None:
    graph, _ = graph_of(stored_quantized([[0.26], [-0.1], [7.0]], 0.25))
    assert [node.op for node in graph.order] == ["MatMul"]
    np.testing.assert_array_equal(graph.constants["V"], [[0.25], [0.0], [7.0]])
    check_runtime(stored_quantized([[0.375], [-0.125], [99.0]], 0.25))  # ties, and a saturated one


def test_a_stored_tensor_that_rounding_may_quantise_otherwise_stays() -> None:
    near, exact = near_boundaries(np.float32(0.1))
    wrong = np.rint(near / np.float32(0.1)) != exact
    for kept, weights in ((True, near[wrong][:1]), (False, near[~wrong][:3])):
        graph, _ = graph_of(stored_quantized(weights[:, None], 0.1))
        assert ("QuantizeLinear" in {node.op for node in graph.order}) == kept


REFUSED = (
    (case("x", (("QuantizeLinear", "x s z", "y", {}),), (2,), s=0.1, z=np.int16(0), opset=21),
     "int16 is not supported"),
    (case("x", (("Cast", "x", "q", {"to": TensorProto.INT16}),
                ("DequantizeLinear", "q s", "y", {})), (2,), s=0.1, opset=21), "input 0 is int16"),
    (case("x", (("QuantizeLinear", "x s", "y", {"block_size": 2}),), (2, 4), s=np.ones((2, 2)),
          opset=21), "blocks"),
    (case("x", (("QuantizeLinear", "x s", "y", {}),), (2,), s=0.0), "not positive"),
    (case("x", (("QuantizeLinear", "x x", "y", {"axis": 0}),), (2,)), "single number"),
    (case("x", (*QUANTIZE, ("DequantizeLinear", "q r", "y", {"axis": 0})), (2, 4), r=[1.0, 1, 1],
          **SCALE), "neither one number"),
    (case("x", (*QUANTIZE, ("MatMulInteger", "q q", "i", {}), *FROM_INT32), (2, 2), **SCALE),
     "exactly one of its two factors"),
    (case("x", (*QUANTIZE, ("QLinearMatMul", "q s z B r b t w", "p", {}), *BACK), (2, 5),
          B=bytes_of(np.uint8, 5, 3), r=-0.1, b=u8(1), **SCALE, **COARSE), "not positive"),
)  # fmt: skip


def checked(example: Example) -> None:
    graph, _ = graph_of(example)
    assert program_of(graph).checked


@pytest.mark.parametrize(("example", "why"), REFUSED, ids=lambda v: v if isinstance(v, str) else "")
def test_what_has_no_meaning_is_refused_by_name(example: Example, why: str) -> None:
    with pytest.raises(UnsupportedModel, match=why):
        checked(example)


def qgemm(path: Any, inputs: Sequence[str], **attributes: Any) -> Any:
    """onnxruntime's own operator on a uint8 input."""
    stored = {
        "s": np.float32(0.1),
        "z": u8(3),
        "B": bytes_of(np.uint8, 4, 2),
        "c": np.array([5, 6], np.int32),
    }
    graph = helper.make_graph(
        [helper.make_node("QGemm", inputs, ["y"], domain="com.microsoft", **attributes)],
        "g",
        [helper.make_tensor_value_info("q", TensorProto.UINT8, (1, 4))],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, (1, 2))],
        [numpy_helper.from_array(np.asarray(v), t) for t, v in stored.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return program_of(load(path)).checked.graph


def test_qgemm_is_refused_where_it_is_not_quantised_again(tmp_path: Any) -> None:
    inputs = ["q", "s", "z", "B", "s", "z", "c", "s", "z"]
    path = tmp_path / "qgemm.onnx"
    assert [node.op for node in qgemm(path, inputs).order] == ["QGemm"]
    with pytest.raises(UnsupportedModel, match="'alpha' other than 1"):
        qgemm(path, inputs, alpha=0.5)
    with pytest.raises(UnsupportedModel, match="has no meaning"):
        qgemm(path, inputs[:7])
