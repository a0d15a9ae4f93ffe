"""Operators without transcendental functions: against onnxruntime, the reference, and sampling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from given_radii import off_by
from operator_checks import (
    Described,
    Example,
    box_of,
    check_against_reference,
    check_bounds,
    check_maps,
    check_runtime,
    check_terms,
    example,
    graph_of,
)

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.arithmetic.values import Inputs
from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import IEEE_ANY, SEQUENTIAL
from encoders.numbers.enclosure import Interval
from encoders.operator import Operator, Site, site_of
from encoders.registry import lookup
from onnx_import.errors import UnsupportedModel
from refine.bounds.network import NetworkBounds, network_bounds


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


rng = np.random.default_rng(5)
SMALL = (1, 2, 4, 5)

MOVEMENT = (
    example("Slice", "x s e", (3, 4), constants={"s": ints(0, 1), "e": ints(2, 9)}),
    example(
        "Slice",
        "x s e a p",
        (3, 4),
        "backwards",
        constants={"s": ints(-1), "e": ints(-1000), "a": ints(1), "p": ints(-2)},
    ),
    example("Slice", "x", (3, 4), "attributes", opset=9, starts=[1], ends=[3], axes=[1]),
    example("Gather", "x i", (3, 4), constants={"i": np.array([[0, -1], [1, 1]])}, axis=1),
    example("GatherElements", "x i", (2, 3), constants={"i": np.array([[2, 0], [1, -1]])}, axis=1),
    example("Pad", "x p", (2, 3), "zero", constants={"p": ints(1, 0, 0, 2)}),
    example(
        "Pad", "x p v", (2, 3), "constant", constants={"p": ints(1, -1, 0, 2), "v": np.array(0.3)}
    ),
    example("Pad", "x p", (2, 3), "reflect", constants={"p": ints(1, 2, 0, 1)}, mode="reflect"),
    example("Pad", "x p", (2, 3), "edge", constants={"p": ints(1, 2, 0, 1)}, mode="edge"),
    example("Pad", "x", (2, 3), "attributes", opset=9, pads=[0, 1, 1, 0], value=0.7),
    example("Tile", "x r", (2, 3), constants={"r": ints(2, 2)}),
    example("Expand", "x s", (3, 1), constants={"s": ints(2, 1, 4)}),
    example("ReverseSequence", "x n", (3, 2, 2), constants={"n": ints(3, 1)}),
    example(
        "ReverseSequence",
        "x n",
        (2, 4),
        "rows",
        constants={"n": ints(0, 4)},
        batch_axis=0,
        time_axis=1,
    ),
    example("DepthToSpace", "x", (1, 8, 2, 3), blocksize=2),
    example("DepthToSpace", "x", (1, 8, 2, 3), "CRD", blocksize=2, mode="CRD"),
    example("SpaceToDepth", "x", (1, 2, 4, 6), blocksize=2),
    example(
        "Upsample",
        "x s",
        (1, 1, 2, 3),
        opset=9,
        constants={"s": np.array([1, 1, 2, 3.0], np.float32)},
    ),
    example(
        "Resize",
        "x s",
        (1, 1, 2, 3),
        "opset 10",
        opset=10,
        constants={"s": np.array([1, 1, 2, 2.0], np.float32)},
    ),
    example(
        "Resize",
        "x - s",
        (1, 1, 4, 3),
        "nearest",
        constants={"s": np.array([1, 1, 0.6, 2.5], np.float32)},
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    ),
    example("Resize", "x - - z", (1, 1, 4, 3), "sizes", constants={"z": ints(1, 1, 7, 5)}),
)
POOLING = (
    example("MaxPool", "x", SMALL, kernel_shape=[2, 2]),
    example(
        "MaxPool", "x", SMALL, "padded", kernel_shape=[3, 2], pads=[1, 0, 1, 1], strides=[2, 2]
    ),
    example("MaxPool", "x", SMALL, "ceil", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    example("MaxPool", "x", (1, 1, 7), "dilated", kernel_shape=[3], dilations=[2]),
    example("MaxPool", "x", SMALL, "same", kernel_shape=[2, 2], auto_pad="SAME_UPPER"),
    example("MaxPool", "x", SMALL, "positive", kernel_shape=[2, 2], lo=0.0, hi=1.0),
    example("GlobalMaxPool", "x", SMALL),
    example("AveragePool", "x", SMALL, kernel_shape=[2, 3], exact=False),
    example(
        "AveragePool",
        "x",
        SMALL,
        "padded",
        kernel_shape=[3, 2],
        pads=[1, 0, 1, 1],
        strides=[2, 2],
        exact=False,
    ),
    example(
        "AveragePool",
        "x",
        SMALL,
        "include",
        kernel_shape=[3, 2],
        pads=[1, 0, 1, 1],
        strides=[2, 2],
        count_include_pad=1,
        exact=False,
    ),
    example(
        "AveragePool",
        "x",
        SMALL,
        "ceil",
        kernel_shape=[3, 3],
        strides=[2, 2],
        ceil_mode=1,
        exact=False,
    ),
    example(
        "AveragePool",
        "x",
        (1, 1, 7),
        "dilated",
        opset=19,
        kernel_shape=[3],
        dilations=[2],
        exact=False,
    ),
    example("GlobalAveragePool", "x", SMALL, exact=False),
)
ELEMENTWISE = (
    example("LeakyRelu", "x", (3, 4), alpha=0.3),
    example("LeakyRelu", "x", (3, 4), "steep", alpha=2.5),
    example("LeakyRelu", "x", (3, 4), "negative", alpha=-0.5),
    example("PRelu", "x s", (2, 3), constants={"s": np.array([0.1, -0.7, 1.5])}),
    example("Neg", "x", (3, 4)),
    example("Abs", "x", (3, 4)),
    example("Clip", "x a b", (3, 4), constants={"a": np.array(-0.7), "b": np.array(1.3)}),
    example("Clip", "x", (3, 4), "none"),
    example("Clip", "x - b", (3, 4), "upper", constants={"b": np.array(0.1)}),
    example("Clip", "x", (3, 4), "attributes", opset=9, min=0.0, max=6.0),
    example("Max", "x z", {"x": (3, 4), "z": (4,)}),
    example("Max", "x z c", {"x": (3, 4), "z": (1, 4)}, "constant", constants={"c": np.array(0.3)}),
    example("Min", "x z", {"x": (3, 4), "z": (3, 1)}),
    example("Max", "x", (3, 4), "one"),
    example("Sum", "x z c", {"x": (3, 4), "z": (1, 4)}, constants={"c": np.array(0.3)}),
    example("Mean", "x z x", {"x": (3, 4), "z": (1, 4)}, exact=False),
)
REDUCTIONS = (
    example("ReduceSum", "x a", (2, 3, 4), constants={"a": ints(1)}, exact=False),
    example("ReduceSum", "x", (2, 3), "all", keepdims=0, exact=False),
    example("ReduceSum", "x", (2, 3), "nothing", noop_with_empty_axes=1),
    example("CumSum", "x a", (2, 5), constants={"a": np.array(1)}, exact=False),
    example(
        "CumSum",
        "x a",
        (4, 3),
        "back",
        constants={"a": np.array(0)},
        exclusive=1,
        reverse=1,
        exact=False,
    ),
    example("ReduceMean", "x", (2, 3, 4), axes=[0, -1], keepdims=0, exact=False),
    example(
        "ReduceMean", "x a", (2, 3), "opset 18", opset=18, constants={"a": ints(1)}, exact=False
    ),
    example("ReduceL1", "x", (2, 3, 4), axes=[1], exact=False),
    example("ReduceSumSquare", "x", (2, 3, 4), axes=[0, 2], exact=False),
    example("ReduceSumSquare", "x", (2, 3), "positive", axes=[1], lo=1.0, exact=False),
    example("ReduceMax", "x", (2, 3, 4), axes=[1]),
    example("ReduceMin", "x", (2, 3, 4), axes=[0, 2], keepdims=0),
    example("Det", "x", (1, 1), "of one number"),
    example("Det", "x", (2, 2, 2), exact=False),
    example("Det", "x", (3, 3), "of three rows", exact=False),
    example("Det", "x", (2, 4, 4), "of four rows", lo=1.0, exact=False),
)
SEVERAL = (
    Example(
        "Cast down and up",
        (("Cast", "x", "h", {"to": 10}), ("Cast", "h", "y", {"to": 1})),
        {"x": (3, 4)},
    ),
    Example(
        "Split 2",
        (("Split", "x", "a b y", {"axis": 1}),),
        {"x": (2, 6)},
        opset=11,
        outputs=("a", "b", "y"),
    ),
    Example(
        "Split input",
        (("Split", "x s", "a y", {"axis": -1}),),
        {"x": (2, 5)},
        {"s": ints(2, 3)},
        outputs=("y", "a"),
    ),
    Example(
        "Split num_outputs",
        (("Split", "x", "a b y", {"axis": 1, "num_outputs": 3}),),
        {"x": (2, 5)},
        opset=18,
        outputs=("a", "b", "y"),
    ),
)
W = rng.uniform(-1, 1, (2, 3, 2, 3))
TRANSPOSED = (
    example(
        "ConvTranspose",
        "x w b",
        (1, 2, 3, 2),
        constants={"w": W, "b": np.array([0.3, -1, 0])},
        exact=False,
    ),
    example(
        "ConvTranspose",
        "x w",
        (1, 2, 3, 2),
        "strided",
        constants={"w": W},
        strides=[2, 3],
        pads=[1, 0, 0, 1],
        output_padding=[1, 0],
        exact=False,
    ),
    example(
        "ConvTranspose",
        "x w",
        (1, 4, 5),
        "groups",
        constants={"w": rng.uniform(-1, 1, (4, 1, 3))},
        group=2,
        dilations=[2],
        exact=False,
    ),
    example(
        "ConvTranspose",
        "x w",
        (1, 2, 3, 2),
        "same",
        constants={"w": W},
        strides=[2, 2],
        auto_pad="SAME_UPPER",
        exact=False,
    ),
    example(
        "ConvTranspose",
        "x w",
        (1, 2, 3, 2),
        "output_shape",
        constants={"w": W},
        strides=[2, 2],
        output_shape=[6, 5],
        exact=False,
    ),
)
COMPUTED = tuple(
    example(op, inputs, shapes, name, constants=held, exact=False, **attributes)
    for op, name, inputs, shapes, held, attributes in (
        (
            *("Conv", "computed weights", "x w b", {"x": (2, 2, 4, 3), "w": (3, 2, 2, 2)}),
            *({"b": np.array([0.3, -1, 0])}, {"strides": [2, 1], "pads": [1, 0, 0, 1]}),
        ),
        (
            *("Conv", "computed groups", "x w b", {"x": (1, 4, 5), "w": (2, 2, 2), "b": (2,)}),
            *({}, {"group": 2, "dilations": [2]}),
        ),
        (
            *("Conv", "computed bias", "x w b", {"x": (1, 2, 4), "b": (3,)}),
            *({"w": rng.uniform(-1, 1, (3, 2, 2))}, {}),
        ),
        (
            *("ConvTranspose", "computed weights", "x w", {"x": (2, 2, 3, 2), "w": (2, 3, 2, 2)}),
            *({}, {"strides": [2, 1], "pads": [1, 0, 0, 0]}),
        ),
        (
            *("ConvTranspose", "computed groups", "x w b", {"x": (1, 4, 3), "w": (4, 1, 2)}),
            *({"b": np.array([0.3, -1])}, {"group": 2, "strides": [2]}),
        ),
        (
            *("ConvTranspose", "computed bias", "x w b", {"x": (1, 2, 4), "b": (3,)}),
            *({"w": rng.uniform(-1, 1, (2, 3, 2))}, {}),
        ),
    )
)
PRODUCTS = (
    example("Mul", "x z", {"x": (3, 4), "z": (4,)}),
    example("Mul", "x x", (3, 4), "square"),
    example("Mul", "x c", (3, 4), "constant", constants={"c": np.array([0.3, 1, -2, 0])}),
    example("MatMul", "x z", {"x": (3, 4), "z": (4, 2)}, exact=False),
    example("MatMul", "x z", {"x": (2, 3, 4), "z": (2, 4, 2)}, "batched", exact=False),
    example("MatMul", "x z", {"x": (2, 3, 4), "z": (4,)}, "vector", exact=False),
    example(
        "MatMul",
        "x c",
        (3, 4),
        "broadcast constant",
        constants={"c": rng.uniform(-1, 1, (2, 4, 3))},
        exact=False,
    ),
    Example(
        "attention scores",
        (("Transpose", "x", "t", {"perm": [1, 0]}), ("MatMul", "x t", "y", {})),
        {"x": (3, 4)},
        exact=False,
    ),
    example("Div", "x z", {"x": (3, 4), "z": (4,)}, lo=0.5, hi=2.0),
    example("Div", "x z", {"x": (3, 4), "z": (3, 1)}, "negative", lo=-3.0, hi=-0.25),
    example("Div", "c x", (3, 4), "constant", constants={"c": np.array([0.3, 1, -2, 0])}, lo=0.25),
    example("Div", "x c", (3, 4), "by constant", constants={"c": np.array([0.3, 1, -2, 7])}),
    example("Div", "x x", (3, 4), "itself", lo=0.5, hi=2.0),
    example("Reciprocal", "x", (3, 4), lo=0.25, hi=7.0),
    example("Sqrt", "x", (3, 4), lo=0.015625, hi=7.0, rational=False),
    example("Pow", "x c", (3, 4), "2", constants={"c": np.array(2.0)}),
    example("Pow", "x c", (3, 4), "3", constants={"c": np.array(3.0)}),
    example("Pow", "x c", (3, 4), "5", constants={"c": np.array([5.0])}, exact=False),
    example(
        "Pow",
        "x c",
        (3, 4),
        "one half",
        constants={"c": np.array(0.5)},
        lo=0.125,
        exact=False,
        rational=False,
    ),
)
POWERS = tuple(
    example(
        "Pow",
        "x c",
        (3, 4),
        f"{n}",
        constants={"c": np.array(n)},
        lo=0.25,
        hi=7.0,
        exact=False,
        rational=n == -3,
    )
    for n in (0.75, 1.5, -0.75, -3.0, 0.3, 2.2, -1.3)
)
CHOICES = (
    example("Floor", "x", (3, 4)),
    example("Ceil", "x", (3, 4), lo=-30.0, hi=30.0),
    example("Round", "x", (3, 4)),
    example("Sign", "x", (3, 4)),
    example("Mod", "x k", (3, 4), constants={"k": np.array([0.75, -0.3, 2.0, 5.0])}, fmod=1),
    example("Mod", "x k", (3, 4), "whole", constants={"k": np.array([1.0, 2, 5, 7])}, fmod=1),
    example("Cast", "x", (3, 4), "to int8", lo=-30.0, hi=30.0, to=3),
    *(
        Example(
            f"Narrow to type {code} and back",
            (("Cast", "x", "h", {"to": code}), ("Cast", "h", "y", {"to": 1})),
            {"x": (3, 4)},
            lo=-most,
            hi=most,
            opset=23,
            exact=False,
        )
        for code, most in ((17, 600.0), (18, 20.0), (19, 7e4), (20, 0.25))
    ),
    Example(
        "Cast to integers and back",
        (
            ("Mul", "x k", "z", {}),
            ("Cast", "z", "i", {"to": 6}),
            ("Cast", "i", "j", {"to": 7}),
            ("Cast", "j", "y", {"to": 1}),
        ),
        {"x": (3, 4)},
        {"k": np.array(-3.7)},
    ),
    Example(
        "Lookup",
        (("Cast", "x", "i", {"to": 6}), ("Gather", "d i", "y", {"axis": 1})),
        {"x": (2, 3)},
        {"d": np.array([[0.3, -1.2, 4.0], [2.5, 0.1, -0.7]])},
        lo=-2.75,
        hi=1.75,
    ),
    *(
        Example(
            whole,
            (
                ("Cast", "x", "i", {"to": 7}),
                (whole.removeprefix("Whole"), of, "j", {}),
                ("Cast", "j", "y", {"to": 1}),
            ),
            {"x": (2, 3)},
            {"k": np.array([[2], [-3]])},
            lo=-30.0,
            hi=30.0,
        )
        for whole, of in (
            ("WholeAdd", "i k"),
            ("WholeAdd", "i i"),
            ("WholeSub", "k i"),
            ("WholeMul", "i k"),
            ("Mod", "i k"),
        )
    ),
    Example(
        "Gather by a position",
        (("ArgMax", "x", "i", {"axis": 1}), ("Gather", "d i", "y", {})),
        {"x": (2, 3)},
        {"d": np.array([0.3, -1.2, 4.0])},
        lo=0.5,
    ),
    Example(
        "Cast to truth values",
        (("Relu", "x", "r", {}), ("Cast", "r", "c", {"to": 9}), ("Where", "c k x", "y", {})),
        {"x": (3, 4)},
        {"k": np.array(0.5)},
    ),
    Example(
        "a position as a number",
        (("ArgMax", "x", "i", {"axis": 1}), ("Cast", "i", "y", {"to": 1})),
        {"x": (3, 4)},
    ),
    Example(
        "Where less",
        (("Less", "x z", "c", {}), ("Where", "c x z", "y", {})),
        {"x": (3, 4), "z": (4,)},
    ),
    Example(
        "Where greater or equal",
        (("GreaterOrEqual", "x k", "c", {}), ("Where", "c k x", "y", {})),
        {"x": (3, 4)},
        {"k": np.array(0.5)},
    ),
    example("LessOrEqual", "x z", {"x": (3, 4), "z": (4,)}),
    Example(
        "logic",
        (
            ("Less", "x z", "c", {}),
            ("Greater", "x k", "d", {}),
            ("And", "c d", "e", {}),
            ("Not", "e", "f", {}),
            ("Or", "f d", "g", {}),
            ("Where", "g x k", "y", {}),
        ),
        {"x": (3, 4), "z": (4,)},
        {"k": np.array(0.5)},
    ),
    example(
        "Where",
        "c x z",
        {"x": (3, 4), "z": (4,)},
        "constant condition",
        constants={"c": np.array([True, False, False, True])},
    ),
    example(
        "Where",
        "c x k",
        (3, 4),
        "constant choice",
        constants={"c": np.array([True, False, False, True]), "k": np.array(0.3)},
    ),
    example("ArgMax", "x", (3, 4), axis=1),
    example("ArgMin", "x", (3, 4), "last", axis=0, keepdims=0, select_last_index=1),
    Example(
        "Equal", (("Equal", "x z", "c", {}), ("Where", "c x z", "y", {})), {"x": (3, 4), "z": (4,)}
    ),
)
EVERY = (
    CHOICES
    + POWERS
    + PRODUCTS
    + TRANSPOSED
    + SEVERAL
    + MOVEMENT
    + POOLING
    + ELEMENTWISE
    + REDUCTIONS
    + COMPUTED
)

UNLIKE = (
    "Pad constant",
    "ConvTranspose groups",
    "ConvTranspose computed groups",
    "Cast down and up",
    *(f"Narrow to type {code} and back" for code in (17, 18, 19, 20)),
)  # what the reference cannot do

every_example = pytest.mark.parametrize("case", EVERY, ids=lambda c: c.name)


@every_example
def test_emulation_is_onnxruntime(case: Example) -> None:
    check_runtime(case)


@every_example
def test_real_meaning_is_the_reference(case: Example) -> None:
    if case.name.startswith(("Resize", "Upsample")) or case.name in UNLIKE:
        pytest.skip("the reference rounds coordinates in float64, or has no negative pads")
    check_against_reference(case)


@every_example
def test_bounds_hold(case: Example) -> None:
    check_bounds(case)


@every_example
def test_maps_hold(case: Example) -> None:
    check_maps(case)
    check_terms(case)


def bounds_of(case: Example, contract: RuntimeContract = IEEE_ANY) -> NetworkBounds:
    graph, _ = graph_of(case)
    return network_bounds(graph, box_of(case, graph), contract)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (example("Div", "x z", {"x": (2,), "z": (2,)}), "no divisor"),
        (example("Reciprocal", "x", (2,)), "no divisor"),
        (example("Sqrt", "x", (2,)), "square root"),
    ],
    ids=lambda v: getattr(v, "name", ""),
)
def test_outside_the_domain_nothing_is_claimed(case: Example, words: str) -> None:
    bounds = bounds_of(case)
    assert np.all(np.isinf(bounds.errors["y"]))
    failed = [c for n in bounds.nodes for c in n.rounding.preconditions if not c.holds]
    assert any(words in c.statement and "node '" in c.statement for c in failed)


def test_a_jump_is_charged_only_where_it_can_be_crossed() -> None:
    def floor(lo: float, hi: float) -> float:
        nodes: tuple[Described, ...] = (("Mul", "x k", "z", {}), ("Floor", "z", "y", {}))
        case = Example("floor", nodes, {"x": (1,)}, {"k": np.array(0.3)}, lo=lo, hi=hi)
        return float(bounds_of(case).errors["y"][0])

    assert floor(0.5, 3.0) == 0.0  # 0.15 … 0.9
    assert floor(3.0, 4.0) == pytest.approx(1.0)  # 0.9 … 1.2


@pytest.mark.parametrize(
    "case", [c for c in CHOICES if len(c.nodes) == 1][:7], ids=lambda c: c.name
)
def test_steps_follow_differences_of_several_steps(case: Example) -> None:
    graph, _ = graph_of(case)
    (node,) = graph.order
    site, operator = site_of(graph, node), lookup(node)
    x = Interval(np.full((3, 4), -2.5), np.full((3, 4), 2.25))
    stored = [np.asarray(c, np.float64)[np.newaxis] for c in site.constants[1:] if c is not None]
    for error in (0.25, 1.5, 3.0):
        mapped = operator.differences(site, [x], [off_by(np.full((3, 4), error))])
        first = np.eye(12)[0].reshape(3, 4)
        pulled = mapped.backward(np.stack([first, -first]))
        (c,) = pulled.coefficients
        for _ in range(200):
            start = rng.uniform(-2.5, 2.25, (1, 3, 4))
            d = rng.uniform(-error, error, start.shape)
            places: tuple[Any, Any] = start, start + d
            old, new = (_real_of(site, operator, [v, *stored]) for v in places)
            moved = (new - old)[0]
            assert np.all(np.abs(moved) <= mapped.radius.bound)
            for k, sign in enumerate((1.0, -1.0)):
                slope = 0.0 if c is None else float(np.sum(c[k] * d[0]))
                assert sign * moved[0, 0] <= pulled.constant[k] + slope + 1e-9


def _real_of(site: Site, operator: Operator, given: list[Any]) -> Any:
    return operator.real(site, Inputs(given), ApproximateReals())[0]


@pytest.mark.parametrize(("hi", "fits"), [(127.75, True), (128.0, False)])
def test_a_number_that_is_cast_must_fit_its_type(hi: float, fits: bool) -> None:
    bounds = bounds_of(example("Cast", "x", (2,), lo=-128.0, hi=hi, to=3))
    (node,) = bounds.nodes
    assert node.node.op == "Truncate"
    assert [c.name for c in node.rounding.preconditions if not c.holds] == (
        [] if fits else ["integer-fits"]
    )
    assert np.all(bounds.errors["y"] == (0.0 if fits else np.inf))


def test_a_subnormal_read_as_zero_may_jump() -> None:
    case = example("Floor", "x", (1,), lo=-0.25, hi=0.25)
    assert bounds_of(case).errors["y"][0] == pytest.approx(1.0)
    assert bounds_of(case, SEQUENTIAL).errors["y"][0] == 0.0


def test_a_dominant_argument_keeps_its_difference() -> None:
    """max(x + 10, 0.3·x) is x + 10, whose error is the only one that counts."""
    nodes: tuple[Described, ...] = (
        ("Add", "x k", "a", {}),
        ("Mul", "x m", "b", {}),
        ("Max", "a b", "y", {}),
    )
    case = Example("max", nodes, {"x": (1,)}, {"k": np.array(10.0), "m": np.array(0.3)})
    bounds = bounds_of(case, SEQUENTIAL)
    assert bounds.errors["y"][0] == pytest.approx(bounds.maps.errors["a"][0], rel=1e-12)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (example("PRelu", "x z", {"x": (2,), "z": (2,)}, opset=8), "must be a constant"),
        (example("Pow", "x c", (2,), constants={"c": np.array(16.5)}), "exponent"),
        (
            example(
                "Resize",
                "x - s",
                (1, 1, 2, 2),
                mode="cubic",
                coordinate_transformation_mode="tf_crop_and_resize",
                constants={"s": np.array([1, 1, 2, 2], np.float32)},
            ),
            "tf_crop_and_resize",
        ),
        (example("Gather", "x i", (2,), constants={"i": ints(5)}), "out of range"),
        (example("MaxPool", "x", SMALL, kernel_shape=[2, 2], storage_order=1), "storage_order"),
    ],
    ids=lambda v: getattr(v, "name", ""),
)
def test_what_has_no_meaning_is_refused_by_name(case: Example, words: str) -> None:
    with pytest.raises(UnsupportedModel, match=words) as refusal:
        bounds_of(case)
    assert case.nodes[0][0] in str(refusal.value)
