"""Numbers of at most eight bits, computed: Cast, QuantizeLinear and DequantizeLinear, against
onnxruntime and ml_dtypes."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from encoders.contract.presets import SEQUENTIAL
from encoders.numbers.formats import NARROW_FORMATS, NARROW_LARGEST, round_fraction
from gpu_check.emulator.emulator import emulate
from onnx_import import load
from onnx_import.errors import ModelError
from onnx_import.graph import DType
from refine import Verdict, bound
from refine.gradients.differentiate import Asked, differentiated

Array = np.ndarray[Any, Any]
CODES = {
    "float8_e4m3fn": TensorProto.FLOAT8E4M3FN,
    "float8_e4m3fnuz": TensorProto.FLOAT8E4M3FNUZ,
    "float8_e5m2": TensorProto.FLOAT8E5M2,
    "float8_e5m2fnuz": TensorProto.FLOAT8E5M2FNUZ,
}
FOUR = {"float4_e2m1fn": TensorProto.FLOAT4E2M1}


def saved(
    path: Path,
    nodes: Sequence[NodeProto],
    given: int = TensorProto.FLOAT,
    made: int = TensorProto.FLOAT,
    size: int | None = None,
    stored: Sequence[TensorProto] = (),
    opset: int = 23,
) -> str:
    kinds = ((("x", given),), (("y", made),))
    inputs, outputs = (
        [helper.make_tensor_value_info(t, kind, [size]) for t, kind in values] for values in kinds
    )
    graph = helper.make_graph(nodes, "g", inputs, outputs, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=11)
    onnx.save(model, path)
    return str(path)


def casts(to: int, back: int = TensorProto.FLOAT, **how: Any) -> list[NodeProto]:
    return [
        helper.make_node("Cast", ["x"], ["h"], to=to, **how),
        helper.make_node("Cast", ["h"], ["y"], to=back),
    ]


def ran(path: str, x: Array) -> Array:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def awkward(most: float) -> Array:
    """Every float16, and numbers around the ties and ends of the type."""
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    near = np.concatenate([every[np.isfinite(every)].astype(np.float32), [most, -most]])
    near = np.concatenate([near, np.nextafter(near, np.inf), np.nextafter(near, -np.inf)])
    special = [np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45, -0.0, 1e-30]
    return np.concatenate([near, np.array(special, np.float32)]).astype(np.float32)


@pytest.mark.parametrize("saturate", [0, 1])
@pytest.mark.parametrize("name", CODES)
def test_casts_have_the_bits_of_onnxruntime(tmp_path: Path, name: str, saturate: int) -> None:
    most = NARROW_LARGEST[DType(name)]
    x = awkward(most)
    if not saturate:  # beyond, runtimes differ, and no bound is given
        x = x[np.abs(x) <= most]
    path = saved(tmp_path / "m.onnx", casts(CODES[name], saturate=saturate))
    fixed = saved(tmp_path / "n.onnx", casts(CODES[name], saturate=saturate), size=x.size)
    graph = load(fixed)
    assert graph.order[0].op == "Narrow"
    with np.errstate(all="ignore"):
        got = emulate(graph, {"x": x[None]}, SEQUENTIAL)["y"][0]
    np.testing.assert_array_equal(got, ran(path, x))


@pytest.mark.parametrize("name", [*CODES, *FOUR])
def test_formats_have_the_numbers_of_ml_dtypes(name: str) -> None:
    kind, fmt = np.dtype(getattr(ml_dtypes, name)), NARROW_FORMATS[DType(name)]
    every = np.arange(256 if name in CODES else 16, dtype=np.uint8).view(kind).astype(np.float64)
    finite = every[np.isfinite(every)]
    assert finite.max() == NARROW_LARGEST[DType(name)]
    for value in finite.tolist():
        assert round_fraction(Fraction(value), fmt) == Fraction(value)
    numbers = np.unique(finite)
    for low, high in pairwise(numbers):
        middle = (Fraction(low) + Fraction(high)) / 2
        for at in (middle, (middle + Fraction(low)) / 2, (middle + Fraction(high)) / 2):
            want = float(np.asarray(float(at), np.float64).astype(kind).astype(np.float64))
            assert float(round_fraction(at, fmt)) == want


@pytest.mark.parametrize("source", ["FLOAT", "FLOAT16"])
@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize(("low", "high"), [(-1.0, 2.0), (200.0, 600.0), (-0.01, 0.01)])
def test_the_bound_covers_onnxruntime_and_is_no_looser_than_a_rounding(
    tmp_path: Path, name: str, low: float, high: float, source: str
) -> None:
    kind = getattr(TensorProto, source)
    nodes = casts(CODES[name], kind)
    path = saved(tmp_path / "m.onnx", nodes, kind, kind, size=600)
    result = bound(path, f"x={low}..{high}", contract="ort-cpu", seed=0, search=0.01)
    rng = np.random.default_rng(1)
    x = rng.uniform(low, high, 600).astype(np.float32 if source == "FLOAT" else np.float16)
    most, fmt = NARROW_LARGEST[DType(name)], NARROW_FORMATS[DType(name)]
    meant = np.clip(x.astype(np.float64), -most, most)
    worst = float(np.max(np.abs(ran(path, x).astype(np.float64) - meant)))
    assert result.verdict is Verdict.VERIFIED
    assert worst <= result.bound
    size = min(max(abs(low), abs(high)), most)
    assert result.bound <= max(size * float(fmt.unit_roundoff), float(fmt.smallest_subnormal)) * 1.1


@pytest.mark.parametrize("name", CODES)
def test_without_saturation_nothing_may_lie_beyond(tmp_path: Path, name: str) -> None:
    most = NARROW_LARGEST[DType(name)]
    path = saved(tmp_path / "m.onnx", casts(CODES[name], saturate=0), size=2)
    assert np.isfinite(bound(path, f"x=0..{most}", search=0.01).bound)
    beyond = bound(path, f"x=0..{most * 1.01}", search=0.01)
    assert beyond.verdict is Verdict.UNKNOWN
    assert f"which ends at {most:g}" in beyond.reason


@pytest.mark.parametrize("per_axis", [False, True])
@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2"])
def test_quantised_to_floats_and_back(tmp_path: Path, name: str, per_axis: bool) -> None:
    scale = np.array([0.3, 0.01, 2.0], np.float32) if per_axis else np.float32(0.07)
    zero = np.zeros(np.shape(scale), getattr(ml_dtypes, name))
    stored = [numpy_helper.from_array(np.asarray(v), t) for t, v in (("s", scale), ("z", zero))]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], axis=0),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], axis=0),
    ]
    path = saved(tmp_path / "m.onnx", nodes, size=3, stored=stored)
    result = bound(path, "x=-9..9", contract="ort-cpu", seed=0, search=0.01)
    rng = np.random.default_rng(2)
    reach = NARROW_LARGEST[DType(name)] * np.asarray(scale, np.float64)
    for _ in range(300):
        x = rng.uniform(-9, 9, 3).astype(np.float32)
        meant = np.clip(x.astype(np.float64), -reach, reach)
        assert np.max(np.abs(ran(path, x) - meant)) <= result.bound
    with np.errstate(all="ignore"):
        got = emulate(load(path), {"x": x[None]}, SEQUENTIAL)["y"][0]
    np.testing.assert_array_equal(got, ran(path, x))


@pytest.mark.parametrize("name", ["int4", "uint4", "int2", "uint2"])
def test_casts_to_few_bits_cover_truncation_and_rounding(tmp_path: Path, name: str) -> None:
    """ONNX cuts off, onnxruntime goes to the nearest: both are within the bound."""
    code = getattr(TensorProto, name.upper())
    low, high = {"int4": (-7, 7), "uint4": (0, 15), "int2": (-1, 1), "uint2": (0, 3)}[name]
    path = tmp_path / "m.onnx"
    kinds = [helper.make_tensor_value_info(t, TensorProto.FLOAT, [50]) for t in "xy"]
    graph = helper.make_graph(casts(code), "g", kinds[:1], kinds[1:])
    opset = [helper.make_opsetid("", 25)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=13), path)
    result = bound(str(path), f"x={low}..{high}", contract="ort-cpu", search=0.01)
    assert result.bound == 1.0
    x = np.random.default_rng(3).uniform(low, high, 50).astype(np.float32)
    assert np.max(np.abs(ran(str(path), x) - np.trunc(x))) <= result.bound
    with np.errstate(all="ignore"):
        got = emulate(load(path), {"x": x[None]}, SEQUENTIAL)["y"][0]
    np.testing.assert_array_equal(got, np.trunc(x))
    outside = bound(str(path), f"x={low}..{high + 1.5}", search=0.01)
    assert outside.bound == np.inf


AT_ENDS = {"int4": (7.5, -8.5), "uint4": (15.5, -0.5), "int2": (1.5, -2.5), "uint2": (3.5, -0.5)}


@pytest.mark.parametrize(("name", "x"), [(name, x) for name, both in AT_ENDS.items() for x in both])
def test_no_bound_where_rounding_leaves_few_bits(tmp_path: Path, name: str, x: float) -> None:
    """ONNX's truncation stays in the type, and onnxruntime's nearest integer is the next one, which
    wraps around."""
    path = saved(tmp_path / "m.onnx", casts(getattr(TensorProto, name.upper())), size=1, opset=25)
    assert abs(ran(path, np.array([x], np.float32))[0] - np.trunc(x)) > 1
    assert bound(path, f"x={x}..{x}", contract="ort-cpu", search=0.01).bound == np.inf
    assert bound(path, f"x={x * 0.95}..{x * 0.95}", search=0.01).bound == 1.0


def test_their_rounding_is_not_differentiated_in_silence(tmp_path: Path) -> None:
    """Beside another way from x to y, too."""
    nodes = [
        *casts(TensorProto.FLOAT8E5M2)[:1],
        helper.make_node("Cast", ["h"], ["z"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "z"], ["y"]),
    ]
    path = saved(tmp_path / "m.onnx", nodes, size=2)
    with pytest.raises(ModelError, match="numbers of at most eight bits is not differentiated"):
        differentiated(load(path), Asked(wrt=("x",)))


def test_nothing_is_computed_with_them(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT8E5M2),
        helper.make_node("Transpose", ["h"], ["t"]),
        helper.make_node("Cast", ["t"], ["y"], to=TensorProto.FLOAT),
    ]
    with pytest.raises(ModelError, match="only taken to and from wider types"):
        bound(saved(tmp_path / "m.onnx", nodes, size=2), "x=0..1")
