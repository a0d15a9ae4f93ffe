"""How accurately a runtime computes elementary functions, measured against the real value.

The reference is float64, trusted to 2^-44 relatively as in encoders/rounded_functions.py, and every
figure is raised by that much; the inputs with the largest errors are evaluated again in balls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import flint
import numpy as np
import numpy.typing as npt

from encoders.approximate_field import approximate_function
from encoders.exact_fields import BALL_FUNCTIONS, enclosure
from encoders.formats import FORMAT_OF_DTYPE, FloatFormat
from encoders.functions import Evidence, Function, FunctionAccuracy
from gpu_check.kernels import Kernels
from onnx_import.graph import Array, DType, Node, TensorType, build_graph

FloatArray = npt.NDArray[np.float64]

OPERATOR_OF: Mapping[Function, str] = {
    Function.EXP: "Exp",
    Function.LOG: "Log",
    Function.TANH: "Tanh",
    Function.SIGMOID: "Sigmoid",
    Function.ERF: "Erf",
    Function.SIN: "Sin",
    Function.COS: "Cos",
    Function.SOFTPLUS: "Softplus",
}
_LARGEST: Mapping[Function, float] = {
    Function.TANH: 1.0,
    Function.SIGMOID: 1.0,
    Function.ERF: 1.0,
    Function.SIN: 1.0,
    Function.COS: 1.0,
}
_OPSET = 13
_CHUNK = 2**18
_TAIL = 19
_TRUST = 2.0**-44
_MARGIN = 2.0  # for what a sample may have missed
_USELESS = 2.0**16  # ulps or units above which a bound says nothing


@dataclass(frozen=True)
class Measured:
    """The largest errors over `inputs` inputs: in ulps of the real value, in units u = 2^-p, and
    beyond the function's range in u. `worst` is the input with the largest error in ulps."""

    ulps: float
    units: float
    excess: float
    flushes: bool
    inputs: int
    worst: float
    exhaustive: bool

    def accuracy(self, source: str) -> FunctionAccuracy | None:
        """What a contract may say, None if no bound was found; a sample's figures are doubled, and
        it says nothing of the range."""
        margin = 1.0 if self.exhaustive else _MARGIN
        ulps, units = _raised(self.ulps * margin), _raised(self.units * margin)
        if ulps is None and units is None:
            return None
        return FunctionAccuracy(
            ulps,
            units,
            Evidence.EXHAUSTIVE if self.exhaustive else Evidence.SAMPLED,
            f"{source}, {self.inputs} inputs",
            self.flushes,
            self.excess if self.exhaustive else units or 0.0,
        )


def measured(
    kernels: Kernels,
    function: Function,
    dtype: DType,
    exhaustive: bool = False,
    seed: int = 0,
    tick: Callable[[], None] = lambda: None,
) -> Measured:
    """All inputs in float16 or where `exhaustive`, else every binade of float32 by samples.

    Raises RuntimeUnavailable where the runtime has no such operator for this type, ValueError for
    a function or type that is not measured.
    """
    if function not in OPERATOR_OF or dtype not in (DType.FLOAT16, DType.FLOAT32):
        raise ValueError(f"{function.value} in {dtype.value} is not measured")
    every = exhaustive or dtype is DType.FLOAT16
    chunks = _every_input(dtype) if every else _sampled(seed)
    found = Measured(0.0, 0.0, 0.0, False, 0, 0.0, every)
    run = _runner(kernels, function, dtype, _CHUNK)
    tail = _runner(kernels, function, dtype, _TAIL)
    for x in chunks:
        tick()
        found = _worse(found, function, dtype, x, run(x))
        end = x[-_TAIL:]
        found = _worse(found, function, dtype, end, tail(end))
    return found


def _runner(
    kernels: Kernels, function: Function, dtype: DType, length: int
) -> Callable[[Array], Array]:
    op = OPERATOR_OF[function]
    node = Node(op, op, ("x",), ("y",), {}, _OPSET)
    kind = TensorType(dtype, (length,))
    graph = build_graph((node,), {"x": kind, "y": kind}, {}, ("x",), ("y",))
    run = kernels.on(graph).kernel(node, {})

    def padded(x: Array) -> Array:
        full = np.zeros(length, x.dtype)
        full[: len(x)] = x
        return run({"x": full})[: len(x)]

    return padded


def _every_input(dtype: DType) -> Iterator[Array]:
    bits = np.uint16 if dtype is DType.FLOAT16 else np.uint32
    count = 2**16 if dtype is DType.FLOAT16 else 2**32
    for start in range(0, count, _CHUNK):
        x = np.arange(start, min(start + _CHUNK, count), dtype=np.uint64).astype(bits)
        yield x.view(dtype.numpy)


def _sampled(seed: int) -> Iterator[Array]:
    """Every binade of float32 with random significands and both its ends; more where functions
    bend."""
    rng = np.random.default_rng(seed)
    exponents = np.arange(255, dtype=np.uint32)
    exponents = np.concatenate((exponents, np.repeat(np.arange(112, 137, dtype=np.uint32), 16)))
    significands = rng.integers(0, 2**23, (len(exponents), 512), dtype=np.uint32)
    significands[:, :4] = (0, 1, 2**22, 2**23 - 1)
    for sign in (0, 1):
        bits = (np.uint32(sign) << np.uint32(31)) | (exponents[:, None] << np.uint32(23))
        x = rng.permutation((bits | significands).reshape(-1)).view(np.float32)
        for start in range(0, len(x), _CHUNK):
            yield x[start : start + _CHUNK]


def _worse(found: Measured, function: Function, dtype: DType, x: Array, y: Array) -> Measured:
    fmt = FORMAT_OF_DTYPE[dtype]
    with np.errstate(all="ignore"):
        given, got = x.astype(np.float64), y.astype(np.float64)
        real = np.asarray(approximate_function(function, given), np.float64)
        inside = np.isfinite(given) & np.isfinite(real)
        inside &= np.abs(real) <= float(fmt.largest_finite)
        x64, real, got = given[inside], real[inside], got[inside]
        tiny = (got == 0) & (np.abs(real) < float(fmt.smallest_normal)) & (real != 0)
        lost = tiny & (np.abs(real) > float(fmt.smallest_subnormal))
        distance = np.where(np.isfinite(got), np.abs(got - real), np.inf)
        distance = distance + np.abs(real) * _TRUST
        ulps = np.where(lost, 0.0, distance / _ulp(real, fmt))
    if not len(x64):
        return found
    worst = int(np.argmax(ulps))
    largest, where = float(ulps[worst]), float(x64[worst])
    if np.isfinite(largest):
        largest = max(largest, _in_balls(function, where, float(got[worst]), fmt))
    units = float(np.max(distance)) / float(fmt.unit_roundoff)
    excess = 0.0
    if function in _LARGEST:
        beyond = float(np.max(np.abs(got))) - _LARGEST[function]
        excess = max(beyond, 0.0) / float(fmt.unit_roundoff)
    return replace(
        found,
        ulps=max(found.ulps, largest),
        units=max(found.units, units),
        excess=max(found.excess, excess),
        flushes=found.flushes or bool(np.any(lost)),
        inputs=found.inputs + len(x64),
        worst=where if largest > found.ulps else found.worst,
    )


def _ulp(real: FloatArray, fmt: FloatFormat) -> FloatArray:
    _, exponent = np.frexp(real)
    spacing: FloatArray = np.ldexp(1.0, np.maximum(exponent - 1, fmt.emin) - fmt.precision + 1)
    return spacing


def _in_balls(function: Function, x: float, y: float, fmt: FloatFormat) -> float:
    """An upper bound on the error in ulps at one input."""
    with flint.ctx.workprec(200):
        lo, hi = enclosure(BALL_FUNCTIONS[function](flint.arb(x)))
    error = max(abs(Fraction(y) - lo), abs(Fraction(y) - hi))
    spacing = float(_ulp(np.asarray([float(lo)]), fmt)[0])
    return float(np.nextafter(float(error / Fraction(spacing)), np.inf))


def _raised(value: float) -> float | None:
    """Rounded up to three decimals; None for a bound that says nothing."""
    return float(np.ceil(value * 1000.0) / 1000.0) if value <= _USELESS else None
