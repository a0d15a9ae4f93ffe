"""One operator at a time: its run-time semantics, real semantics and abstractions held together."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import z3
from exact_checks import Reals
from given_radii import off_by
from onnx import helper, numpy_helper

from encoders.arithmetic.exact_fields import (
    Balls,
    ObjectArray,
    Rationals,
    enclosure,
    fraction,
    object_array,
)
from encoders.arithmetic.real_terms import RealTerms, rational_term
from encoders.arithmetic.values import Inputs
from encoders.contract.contract import Contraction, Pairwise, RuntimeContract, Subnormals
from encoders.contract.presets import IEEE_ANY, SEQUENTIAL, SEQUENTIAL_FMA
from encoders.functions.accuracy import Transcendental
from encoders.numbers.enclosure import Interval
from encoders.operator import site_of
from encoders.registry import lookup
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_exact
from onnx_import import load
from onnx_import.graph import Array, Graph
from refine.bounds.network import InputBox, network_bounds

FLUSHING = replace(SEQUENTIAL, name="flush", results=Subnormals.FLUSH, operands=Subnormals.FLUSH)
PAIRS = replace(SEQUENTIAL, name="pairs", order=Pairwise(), contraction=Contraction.ALWAYS)


Described = tuple[str, str, str, Mapping[str, Any]]  # operator, inputs, outputs, attributes


@dataclass(frozen=True)
class Example:
    """A network of one or a few nodes and the box its inputs come from.

    `exact` says that onnxruntime must agree bit for bit with the sequential emulation; `rational`
    that the real semantics can be evaluated in rationals; `dtype` is the type of its numbers.
    """

    name: str
    nodes: Sequence[Described]
    inputs: Mapping[str, tuple[int, ...]]
    constants: Mapping[str, Any] = field(default_factory=dict)
    lo: float = -2.0
    hi: float = 3.0
    opset: int = 13
    exact: bool = True
    rational: bool = True
    outputs: Sequence[str] = ("y",)
    dtype: Any = np.float32


def example(
    op: str,
    inputs: str,
    shape: Sequence[int] | Mapping[str, Sequence[int]],
    name: str = "",
    constants: Mapping[str, Any] | None = None,
    lo: float = -2.0,
    hi: float = 3.0,
    opset: int = 13,
    exact: bool = True,
    rational: bool = True,
    **attributes: Any,
) -> Example:
    """A network of one node with output y."""
    shapes = shape if isinstance(shape, Mapping) else {"x": shape}
    return Example(
        f"{op} {name}".strip(),
        ((op, inputs, "y", attributes),),
        {k: tuple(v) for k, v in shapes.items()},
        constants or {},
        lo,
        hi,
        opset,
        exact,
        rational,
    )


def model_of(case: Example, dtype: Any = None) -> onnx.ModelProto:
    """The network in its own type, or in another."""
    dtype = case.dtype if dtype is None else dtype
    code = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    stored = {k: np.asarray(v) for k, v in case.constants.items()}
    stored = {k: v.astype(dtype) if v.dtype == np.float64 else v for k, v in stored.items()}
    graph = helper.make_graph(
        [
            helper.make_node(op, ["" if t == "-" else t for t in i.split()], o.split(), **a)
            for op, i, o, a in case.nodes
        ],
        "example",
        [helper.make_tensor_value_info(k, code, s) for k, s in case.inputs.items()],
        [onnx.ValueInfoProto(name=t) for t in case.outputs],
        [numpy_helper.from_array(v, k) for k, v in stored.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", case.opset)])
    made.ir_version = 8
    return onnx.shape_inference.infer_shapes(made)


def graph_of(case: Example, dtype: Any = None) -> tuple[Graph, bytes]:
    made = model_of(case, dtype)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(made, path)
        return load(path), path.read_bytes()


def points(case: Example, graph: Graph, count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Inputs in the box, some on its corners, some near zero, zero and subnormal."""
    rng = np.random.default_rng(seed)
    found = {}
    for t in graph.inputs:
        shape, dtype = (count, *graph.types[t].shape), graph.types[t].dtype.numpy
        v = rng.uniform(case.lo, case.hi, shape)
        kind = rng.integers(0, 12, shape)
        v = np.where(kind == 0, case.lo, np.where(kind == 1, case.hi, v))
        for k, special in enumerate((0.0, 1e-40, -1e-40, 1.0, 0.5), start=2):
            if case.lo <= special <= case.hi:
                v = np.where(kind == k, special, v)
        found[t] = v.astype(dtype)
    return found


def box_of(case: Example, graph: Graph) -> InputBox:
    shapes = {t: graph.types[t].shape for t in graph.inputs}
    return InputBox(
        {t: Interval(np.full(s, case.lo), np.full(s, case.hi)) for t, s in shapes.items()},
        {t: np.zeros(s) for t, s in shapes.items()},
    )


def exact_values(
    case: Example, graph: Graph, inputs: Mapping[str, Array]
) -> list[Mapping[str, ObjectArray]]:
    """Enclosures (lo, hi) of every tensor's real value, per sample."""
    found = []
    fields = Rationals() if case.rational else Balls()
    for i in range(next(iter(inputs.values())).shape[0]):
        one = {t: v[i] for t, v in inputs.items()}
        values = evaluate_exact(graph, one, fields, every_tensor=True)
        found.append(values)
    return found


def ends(values: Any) -> tuple[Any, Any]:
    pairs = [enclosure(v) for v in np.asarray(values).ravel().tolist()]
    shape = np.shape(values)
    lo, hi = np.empty(shape, dtype=object), np.empty(shape, dtype=object)
    lo.reshape(-1)[:] = [p[0] for p in pairs]
    hi.reshape(-1)[:] = [p[1] for p in pairs]
    return lo, hi


CONTRACTS: tuple[tuple[RuntimeContract, tuple[RuntimeContract, ...]], ...] = (
    (IEEE_ANY, (SEQUENTIAL, SEQUENTIAL_FMA, PAIRS, FLUSHING)),
    (SEQUENTIAL, (SEQUENTIAL,)),
    (FLUSHING, (FLUSHING,)),
    (PAIRS, (PAIRS,)),
)


def check_bounds(case: Example, dtype: Any = np.float32, count: int = 12) -> float:
    """Bounds of every tensor against sampled executions, exactly; the largest ratio found."""
    graph, _ = graph_of(case, dtype)
    inputs = points(case, graph, count)
    real = reals_at(exact_values(case, graph, inputs))
    worst = 0.0
    for contract, members in CONTRACTS:
        bounds = network_bounds(graph, box_of(case, graph), contract)
        for t in graph.outputs:
            assert np.all(np.isfinite(bounds.maps.errors[t])), (case.name, contract.name, t)
        for t, numbers in real.items():
            held = bounds.maps.values[t]
            assert numbers.are_within(held.lo, held.hi), (case.name, t)
        for pinned in members:
            with np.errstate(all="ignore"):
                computed = emulate(graph, inputs, pinned, every_tensor=True)
            for t, numbers in real.items():
                values, limit = floats_of(computed[t], count), np.asarray(bounds.maps.errors[t])
                near = numbers.near(values, limit)
                for i, *at in np.argwhere(~near):
                    raise AssertionError(
                        case.name,
                        contract.name,
                        pinned.name,
                        t,
                        at,
                        float(numbers.error(values, (i, *at))),
                        float(limit[tuple(at)]),
                        {k: w[i] for k, w in inputs.items()},
                    )
                worst = max(worst, numbers.worst_ratio(values, limit))
    return worst


def reals_at(points: Sequence[Mapping[str, ObjectArray]]) -> dict[str, Reals]:
    """What `exact_values` gives, by tensor."""
    return {t: Reals.of([point[t] for point in points]) for t in points[0]}


def floats_of(computed: Any, count: int) -> Any:
    """What a run made of a tensor, sample by sample."""
    return np.stack([np.asarray(computed[i]).astype(np.float64) for i in range(count)])


def check_terms(case: Example) -> None:
    """The real semantics as Z3 terms gives the same rationals, or says that it has no such terms.

    Z3's numbers do not mix with arrays by themselves, whatever an operator does with stored ones.
    """
    graph, _ = graph_of(case)
    (exact,) = exact_values(case, graph, points(case, graph, 1))
    field = RealTerms()
    for node in graph.order:
        shapes = [graph.types[t].shape if t else () for t in node.inputs]
        arguments = Inputs(
            None
            if not t
            else field.constant(graph.constants[t] if graph.is_constant(t) else np.ones(shape))
            if graph.is_constant(t) or not case.rational
            else object_array(map(_term, exact[t].ravel()), (1, *shape))
            for t, shape in zip(node.inputs, shapes, strict=True)
        )
        try:
            results = lookup(node).real(site_of(graph, node), arguments, field)
        except Transcendental:
            assert not case.rational
            continue
        for tensor, y in zip(node.outputs, results, strict=True):
            if case.rational:
                found = [z3.simplify(term).as_fraction() for term in y.ravel()]
                assert found == [fraction(v) for v in exact[tensor].ravel()], case.name


def _term(value: Any) -> Any:
    return rational_term(fraction(value))


def check_points(case: Example, count: int = 4) -> None:
    """Every point a box of its own, one execution: the bound there is little more than what
    rounding does, so that a meaning that is off by a few roundings shows."""
    graph, _ = graph_of(case)
    inputs = points(case, graph, count, seed=3)
    exact = exact_values(case, graph, inputs)
    with np.errstate(all="ignore"):
        computed = emulate(graph, inputs, SEQUENTIAL, every_tensor=True)
    for i, tensors in enumerate(exact):
        at = {t: Interval(*2 * (v[i].astype(np.float64),)) for t, v in inputs.items()}
        box = InputBox(at, {t: np.zeros(x.shape) for t, x in at.items()})
        bounds = network_bounds(graph, box, SEQUENTIAL)
        for t in (t for t in tensors if t in bounds.maps.errors and t not in inputs):
            numbers = Reals.of([tensors[t]])
            held, limit = bounds.maps.values[t], np.asarray(bounds.maps.errors[t])
            assert numbers.are_within(held.lo, held.hi), (case.name, t, i)
            known = np.isfinite(limit)
            value = floats_of(computed[t][i : i + 1], 1)
            near = numbers.near(np.where(known, value, 0.0), np.where(known, limit, 0.0))
            for _, *place in np.argwhere(~near & known):
                error = float(numbers.error(value, (0, *place)))
                raise AssertionError(case.name, t, place, error, limit[tuple(place)])


POINTS = 8
"""In each box, each with a move of its own."""


def check_maps(
    case: Example, seed: int = 0, dtype: Any = np.float64, grid: float = 0.0, boxes: int = 6
) -> None:
    """Pull-backs of random functionals through every node, against float64 evaluation.

    Real inputs come from `boxes` random boxes, run-time inputs from balls of four sizes around
    them. `dtype` is that of the graph, whose stored numbers it rounds; with `grid`, ranges and
    inputs are its multiples.
    """
    rng = np.random.default_rng(seed)
    graph, _ = graph_of(case, dtype)
    for node in graph.order:
        site, operator = site_of(graph, node), lookup(node)
        shapes = [site.type_of(i).shape for i in site.variable]
        for radius in (0.0, 1e-6, 1e-2, 0.3):
            for _ in range(boxes):
                _check_node(case, rng, site, operator, shapes, radius, grid)


def _check_node(
    case: Example, rng: Any, site: Any, operator: Any, shapes: Any, radius: float, grid: float
) -> None:
    from encoders.arithmetic.approximate_field import ApproximateReals

    fields = ApproximateReals()
    width = rng.choice([0.0, 0.01, 1.0])
    names = [site.node.inputs[i] for i in site.variable]
    lo = {n: rng.uniform(case.lo, case.hi, s) for n, s in zip(names, shapes, strict=True)}
    hi = {
        n: lo[n] + width * rng.uniform(0, 1, s) * (case.hi - lo[n])
        for n, s in zip(names, shapes, strict=True)
    }
    error = {
        n: np.full(s, radius) * rng.uniform(0, 1, s) for n, s in zip(names, shapes, strict=True)
    }
    if grid:
        lo, hi = ({n: grid * np.round(v[n] / grid) for n in names} for v in (lo, hi))
        error = {n: grid * np.round(v / grid) for n, v in error.items()}
    for i, n in zip(site.variable, names, strict=True):
        if not site.type_of(i).dtype.is_float:  # truth values
            lo[n] = rng.integers(0, 2, lo[n].shape).astype(float)
            hi[n] = np.maximum(lo[n], rng.integers(0, 2, lo[n].shape))
            error[n] = np.ceil(error[n]) * rng.integers(0, 2, lo[n].shape)
    ranges = [Interval(lo[n], hi[n]) for n in names]
    errors = [error[n] for n in names]
    values = operator.values(site, ranges)
    differences = operator.differences(site, ranges, [off_by(e) for e in errors])

    def run(given: Mapping[str, Any]) -> Any:
        """All points at once: arrays with an axis of points before those of the tensor."""
        arguments: list[Any] = []
        for i, t in enumerate(site.node.inputs):
            constant = site.constants[i]
            if site.inputs[i] is None:
                arguments.append(None)
            elif constant is not None:
                arguments.append(fields.constant(constant))
            else:
                arguments.append(given[t])
        with fields.working():
            found = np.asarray(operator.real(site, Inputs(arguments), fields)[0], np.float64)
        assert found.shape[1:] == out, case.name
        return np.broadcast_to(found, (POINTS, *out))

    out = site.outputs[0].shape
    c = rng.standard_normal((3, *out)) * (rng.random((3, *out)) < 0.7)
    at: dict[str, list[Any]] = {n: [] for n in names}
    off: dict[str, list[Any]] = {n: [] for n in names}
    for _ in range(POINTS):
        pick = rng.choice([0.0, 1.0, 2.0])
        t = {n: rng.uniform(0, 1, s) for n, s in zip(names, shapes, strict=True)}
        if pick != 2.0:
            t = {n: np.round(v) for n, v in t.items()}
        x = {n: np.clip(lo[n] + t[n] * (hi[n] - lo[n]), lo[n], hi[n]) for n in names}
        if grid:
            x = {n: np.clip(grid * np.round(v / grid), lo[n], hi[n]) for n, v in x.items()}
        d = {
            n: error[n] * rng.choice([-1.0, 1.0, rng.uniform(-1, 1)], error[n].shape) for n in names
        }
        for i, n in zip(site.variable, names, strict=True):
            if not site.type_of(i).dtype.is_float:
                x[n] = np.round(x[n])
                d[n] = np.where(error[n] > 0, rng.integers(0, 2) * (1 - 2 * x[n]), 0.0)
        for n in at:
            at[n].append(x[n])
            off[n].append(d[n])
    xs, ds = ({n: np.stack(v) for n, v in held.items()} for held in (at, off))
    ys, moved = run(xs), run({n: xs[n] + ds[n] for n in names})
    inside = np.isfinite(ys.reshape(POINTS, -1)).all(1) & np.isfinite(
        moved.reshape(POINTS, -1)
    ).all(1)
    if not inside.any():
        return  # outside the domain
    y, change = ys[inside], (moved - ys)[inside]
    tolerance = 1e-11 * (1 + np.max(np.abs(y.reshape(len(y), -1)), axis=1, initial=0.0))
    each = tolerance.reshape(-1, *(1 for _ in out))
    assert np.all(values.range.lo <= y + each), case.name
    assert np.all(y <= values.range.hi + each), case.name
    assert np.all(np.abs(change) <= differences.radius.bound + each), (
        case.name,
        np.abs(change) - differences.radius.bound,
    )
    points_in, moves_in = ([held[n][inside] for n in names] for held in (xs, ds))
    for sign in (1.0, -1.0):
        pulled = values.backward(sign * c)
        _holds(case, "values", sign * c, y, pulled, points_in, tolerance)
        pulled = differences.backward(sign * c)
        _holds(case, "differences", sign * c, change, pulled, moves_in, tolerance)


def _holds(
    case: Example, what: str, c: Any, out: Any, pulled: Any, at: Sequence[Any], tolerance: Any
) -> None:
    """At each of the points, which are along the first axis of `out`, `at` and `tolerance`."""
    left = _sums(c, out)
    right = np.array(pulled.constant)
    for part, x in zip(pulled.coefficients, at, strict=True):
        if part is not None:
            right = right + _sums(part, x)
    slack = tolerance[:, None] * (1 + np.sum(np.abs(c)))
    assert np.all(left <= right + slack), (case.name, what, left - right)


def _sums(c: Any, at: Any) -> Any:
    """Functionals of points, (points, functionals)."""
    products = c[None] * at[:, None]
    return np.sum(products.reshape(*products.shape[:2], -1), axis=2)


def check_runtime(case: Example, count: int = 12) -> None:
    """The sequential emulation against onnxruntime: bit for bit, or to a few ulps of the sum."""
    from gpu_check.runtimes.runtimes import OnnxRuntime

    graph, raw = graph_of(case)
    runtime = OnnxRuntime(raw)
    inputs = points(case, graph, count, seed=1)
    emulated = emulate(graph, inputs, SEQUENTIAL)
    for i in range(count):
        actual = runtime.run({t: v[i] for t, v in inputs.items()})
        for t in graph.outputs:
            got: np.ndarray = emulated[t][i]
            want: np.ndarray = np.asarray(actual[t])
            assert got.dtype == want.dtype, case.name
            assert got.shape == want.shape, case.name
            if case.exact:
                np.testing.assert_array_equal(got, want, err_msg=case.name)
            else:
                np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5, err_msg=case.name)


def check_against_reference(case: Example, count: int = 6) -> None:
    """The real semantics against ONNX's reference implementation in float64."""
    from onnx.reference import ReferenceEvaluator

    graph, _ = graph_of(case, np.float64)
    evaluator = ReferenceEvaluator(model_of(case, np.float64))
    inputs = points(case, graph, count, seed=2)
    exact = exact_values(case, graph, inputs)
    for i in range(count):
        expected = evaluator.run(None, {t: v[i] for t, v in inputs.items()})
        for t, want in zip(graph.outputs, expected, strict=True):
            low, _ = ends(exact[i][t])
            np.testing.assert_allclose(
                low.astype(np.float64),
                np.asarray(want, np.float64),
                rtol=1e-9,
                atol=1e-12,
                err_msg=case.name,
            )
