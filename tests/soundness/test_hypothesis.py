"""Random networks in float32, float16 and float64: emulated and exact runs against the bounds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from checking import Judge, Point, bounds_of
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from ort_schedule import ORT_PLAIN
from text_networks import NodeText, network, node

from encoders.arithmetic.exact_fields import Balls, Rationals, enclosure
from encoders.contract.contract import BiasPlacement, Normalization, RuntimeContract, Subnormals
from encoders.contract.members import members
from encoders.contract.presets import EXACT, IEEE_ANY, PAIRWISE, SEQUENTIAL, SEQUENTIAL_FMA
from encoders.numbers.enclosure import Interval
from encoders.operator import site_of
from encoders.registry import lookup
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_exact
from onnx_import.errors import UnsupportedModel
from onnx_import.graph import Graph
from refine.bounds.network import InputBox

FLUSH = Subnormals.FLUSH
FREE = (
    *members(IEEE_ANY),
    replace(SEQUENTIAL_FMA, name="flush-all", results=FLUSH, operands=FLUSH),
    replace(SEQUENTIAL, name="flush-operands", operands=FLUSH, bias=BiasPlacement.FIRST),
    replace(PAIRWISE, name="flush-results", results=FLUSH, bias=BiasPlacement.FIRST),
    replace(ORT_PLAIN, name="direct", normalization=Normalization.DIRECT),
)
PINNED = (SEQUENTIAL, SEQUENTIAL_FMA, PAIRWISE, ORT_PLAIN)
deterministic = settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@dataclass(frozen=True)
class Sample:
    """A network, a box whose ends its dtype can hold, and inputs in the box, corners included."""

    graph: Graph
    box: InputBox
    inputs: dict[str, Any]


def weights(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any, kind: str) -> Any:
    """Numbers of one flavour, with some zeros, powers of two and signed zeros among them."""
    info = np.finfo(dtype)
    plain = rng.standard_normal(shape)
    scale: Any = {
        "plain": 1.0,
        "mixed": 10.0 ** rng.uniform(-3, 2, shape),
        "tiny": float(info.tiny) * 2.0 ** rng.uniform(-8, 4, shape),
        "large": float(info.max) ** 0.4,
        "powers": 2.0 ** rng.integers(-3, 4, shape) / np.abs(plain),
    }[kind]
    values = (plain * scale).astype(dtype)
    special = rng.choice([0.0, -0.0, 1.0, -1.0, 0.5, -2.0], shape).astype(dtype)
    return np.where(rng.random(shape) < 0.2, special, values)


KINDS = ("plain", "mixed", "tiny", "large", "powers")


@st.composite
def samples(draw: st.DrawFn, dtype: Any) -> Sample:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    width = draw(st.integers(1, 6))
    layers = draw(st.integers(1, 3))
    nodes: list[NodeText] = []
    constants: dict[str, Any] = {}
    shape, tensor = (1, width), "x"
    for layer in range(layers):
        out = draw(st.integers(1, 6))
        kind = draw(st.sampled_from(KINDS))
        w, b, z = f"W{layer}", f"b{layer}", f"z{layer}"
        constants[w] = weights(rng, (shape[1], out), dtype, kind)
        constants[b] = weights(rng, (out,), dtype, draw(st.sampled_from(KINDS)))
        form = draw(st.sampled_from(("dense", "gemm", "scaled", "beta", "norm")))
        nodes += _layer(form, tensor, w, b, z)
        if form == "norm":
            for name in "gbmv":
                constants[name + z] = weights(rng, (out,), dtype, "plain")
            constants["v" + z] = np.abs(constants["v" + z])
        shape, tensor = (1, out), z
        if layer < layers - 1:
            nodes.append(node("Relu", tensor, f"a{layer}"))
            tensor = f"a{layer}"
            if draw(st.booleans()):
                nodes.append(node("Sub", f"{tensor} {z}", f"r{layer}"))
                tensor = f"r{layer}"
    graph = network([*nodes, node("Identity", tensor, "y")], {"x": (1, width)}, constants,
                    dtype=dtype)  # fmt: skip
    return _boxed(rng, graph, dtype, draw(st.sampled_from((0.0, 1e-6, 1e-2, 1.0, "tiny"))))


def _layer(form: str, x: str, w: str, b: str, z: str) -> list[NodeText]:
    match form:
        case "dense":
            return [node("MatMul", f"{x} {w}", "p" + z), node("Add", f"p{z} {b}", z)]
        case "gemm":
            return [node("Gemm", f"{x} {w} {b}", z)]
        case "scaled":
            return [node("Gemm", f"{x} {w} {b}", z, alpha=0.3, beta=0.7)]
        case "beta":
            return [node("Gemm", f"{x} {w} {b}", z, beta=1.7)]
        case _:
            norm = f"m{z} g{z} b{z} m{z} v{z}"
            return [
                node("MatMul", f"{x} {w}", "m" + z + "_"),
                node("BatchNormalization", norm.replace(f"m{z}", f"m{z}_", 1), z, epsilon=1e-3),
            ]


def _boxed(rng: np.random.Generator, graph: Graph, dtype: Any, radius: Any) -> Sample:
    size = graph.types["x"].shape
    if radius == "tiny":
        centre, spread = np.zeros(size), 40 * float(np.finfo(dtype).smallest_subnormal)
    else:
        centre, spread = rng.standard_normal(size), float(radius)
    low, high = (np.asarray(centre + s * spread).astype(dtype) for s in (-1, 1))
    share = rng.random((6, *size))
    inside = (low * (1 - share) + high * share).astype(dtype)
    corners = np.where(rng.random((6, *size)) < 0.5, low, high)
    inputs = np.clip(np.concatenate([inside, corners]), low, high).astype(dtype)
    box = InputBox(
        {"x": Interval(low.astype(np.float64), high.astype(np.float64))}, {"x": np.zeros(size)}
    )
    return Sample(graph, box, {"x": inputs})


def exact_runs(sample: Sample) -> list[Point]:
    """For every input, rational lower and upper ends of every tensor's real value."""
    rational = all(n.op != "BatchNormalization" for n in sample.graph.order)
    field = Rationals() if rational else Balls(4400)  # the smallest products are near 2^-2148
    runs = []
    for i in range(len(sample.inputs["x"])):
        point = {"x": sample.inputs["x"][i]}
        runs.append(evaluate_exact(sample.graph, point, field, every_tensor=True))
    return [{t: _ends(v) for t, v in run.items()} for run in runs]


def _ends(values: Any) -> tuple[Any, Any]:
    pairs = [enclosure(v) for v in values.ravel().tolist()]
    low, high = np.empty(values.shape, object), np.empty(values.shape, object)
    low.reshape(-1)[:] = [p[0] for p in pairs]
    if all(p[0] == p[1] for p in pairs):
        return low, low
    high.reshape(-1)[:] = [p[1] for p in pairs]
    return low, high


def held_to(
    sample: Sample,
    contract: RuntimeContract,
    executions: tuple[RuntimeContract, ...],
    runs: list[Point],
) -> list[str]:
    """Failures of the bounds of `contract` on these pinned executions of the sampled inputs.

    Where only a ball is known of the real value, its two ends are both held to the bounds: they
    are a relative 2^-400 apart, and float64 bounds on irrational numbers leave more room.
    """
    computed = [emulate(sample.graph, sample.inputs, p, every_tensor=True) for p in executions]
    failures: list[str] = []
    for backward in (True, False):
        bounds = bounds_of(sample.graph, sample.box, contract, backward)
        judge = Judge(sample.graph, bounds, f"{contract.name}, backward {backward}")
        for i, run in enumerate(runs):
            for end in (0, 1):
                judge.reals({t: ends[end] for t, ends in run.items()})
            _errors(judge, run, [{t: v[i] for t, v in c.items()} for c in computed])
        failures += judge.finish().failures
    return failures


def _errors(judge: Judge, run: Point, executions: list[Any]) -> None:
    for n in judge.graph.order:
        tensor = n.outputs[0]
        values = np.stack([e[tensor] for e in executions]).astype(np.float64)
        if not np.all(np.isfinite(values)):
            judge.overflow(tensor)
            return
        for extreme in (np.min(values, axis=0), np.max(values, axis=0)):
            for end in (0, 1) if run[tensor][0] is not run[tensor][1] else (0,):
                judge.error(tensor, run[tensor][end], extreme)


def _supported(graph: Graph) -> bool:
    """False where float64 coefficients are so small that an operator refuses them."""
    try:
        for n in graph.order:
            lookup(n).check(site_of(graph, n))
    except UnsupportedModel:
        return False
    return True


def assert_sound(sample: Sample) -> None:
    runs = exact_runs(sample)
    failures = held_to(sample, IEEE_ANY, FREE, runs)
    for pinned in PINNED:
        failures += held_to(sample, pinned, (pinned,), runs)
    assert not failures, "\n".join(failures)


@settings(deterministic, max_examples=30)
@given(samples(np.float32))
def test_float32(sample: Sample) -> None:
    assert_sound(sample)


@settings(deterministic, max_examples=25)
@given(samples(np.float16))
def test_float16(sample: Sample) -> None:
    assert_sound(sample)


@settings(deterministic, max_examples=25)
@given(samples(np.float64))
def test_float64_where_the_analysis_rounds_as_much_as_the_runtime(sample: Sample) -> None:
    assume(_supported(sample.graph))
    runs = exact_runs(sample)
    failures = held_to(sample, IEEE_ANY, FREE[:4], runs)
    failures += held_to(sample, SEQUENTIAL, (SEQUENTIAL,), runs)
    assert not failures, "\n".join(failures)


@settings(deterministic, max_examples=15)
@given(samples(np.float32))
def test_exact_contract_has_no_error_at_all(sample: Sample) -> None:
    for backward in (True, False):
        bounds = bounds_of(sample.graph, sample.box, EXACT, backward)
        assert all(np.all(error == 0) for error in bounds.maps.errors.values())


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_bounds_of_plain_networks_are_finite(dtype: Any) -> None:
    """The random tests would pass with infinite bounds; ordinary networks have none."""
    rng = np.random.default_rng(0)
    constants = {
        name: weights(rng, shape, dtype, "plain")
        for name, shape in (("W", (5, 6)), ("b", (6,)), ("V", (6, 3)))
    }
    nodes = (node("Gemm", "x W b", "z"), node("Relu", "z", "a"), node("MatMul", "a V", "y"))
    graph = network(nodes, {"x": (1, 5)}, constants, dtype=dtype)
    sample = _boxed(rng, graph, dtype, 0.01)
    bounds = bounds_of(graph, sample.box, IEEE_ANY)
    scale = float(np.max(bounds.maps.values["y"].magnitude))
    assert 0 < bounds.largest < 100 * scale * float(np.finfo(dtype).eps)
