"""How accurately a runtime computes elementary functions, measured against the real value.

Over all float32 numbers the reference has a proved error (gpu_check/probe/reference.py; of sin and
cos it has none), else it is float64, trusted to 2^-44 relatively as in
encoders/arithmetic/rounded_functions.py. Every figure is raised by that error; the inputs with the
largest ones are evaluated again in balls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

import flint
import numpy as np
import numpy.typing as npt

from encoders.arithmetic.approximate_field import approximate_function
from encoders.arithmetic.exact_fields import enclosure
from encoders.functions.accuracy import Evidence, FunctionAccuracy
from encoders.functions.function import Function
from encoders.functions.registry import every_function
from encoders.numbers.formats import BINARY32, FORMAT_OF_DTYPE, FloatFormat
from gpu_check.probe.reference import CURVES, Curve, enclosed
from gpu_check.runtimes.kernels import Kernels
from onnx_import.graph import Array, DType, Node, TensorType, build_graph

FloatArray = npt.NDArray[np.float64]

MEASURABLE = frozenset(f for f in every_function().values() if f.ball is not None)
_OPSET = 13
_CHUNK = 2**18
_TAIL = 19
_PIECE = 2**15  # compared at a time, which a cache holds
_TRUST = 2.0**-44
_MARGIN = 2.0  # for what a sample may have missed
_USELESS = 2.0**16  # ulps or units above which a bound says nothing


@dataclass(frozen=True)
class Measured:
    """The largest errors over `inputs` inputs: in ulps of the real value, in units u = 2^-p, and
    beyond the function's range in u. `worst` is the input with the largest error in ulps, `digits`
    those of the format."""

    ulps: float
    units: float
    excess: float
    flushes: bool
    inputs: int
    worst: float
    exhaustive: bool
    digits: int = BINARY32.precision

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
            evidence=Evidence.EXHAUSTIVE if self.exhaustive else Evidence.SAMPLED,
            source=f"{source}, {self.inputs} inputs",
            flushes=self.flushes,
            excess=self.excess if self.exhaustive else units or 0.0,
            digits=self.digits,
            alone=True,
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
    if function not in MEASURABLE or dtype not in (DType.FLOAT16, DType.FLOAT32):
        raise ValueError(f"{function.name} in {dtype.value} is not measured")
    every = exhaustive or dtype is DType.FLOAT16
    curve = CURVES.get(function) if exhaustive and dtype is DType.FLOAT32 else None
    calls = tuple(_runner(kernels, function, dtype, length) for length in (_CHUNK, _TAIL))
    found = _largest_errors(
        _every_input(dtype) if every else _sampled(seed),
        lambda x: calls[len(x) <= _TAIL](x),
        reference=partial(_trusted, function) if curve is None else partial(enclosed, curve),
        subject=_Subject(function.on_balls, FORMAT_OF_DTYPE[dtype], function.largest),
        every=every,
        tick=tick,
    )
    return replace(found, digits=FORMAT_OF_DTYPE[dtype].precision)


def measured_call(
    call: Callable[[Array], Array], curve: Curve, tick: Callable[[], None] = lambda: None
) -> Measured:
    """All float32 inputs of a call that takes any number of them."""
    subject = _Subject(curve.ball, BINARY32, None)
    chunks = _every_input(DType.FLOAT32)
    return _largest_errors(
        chunks,
        call,
        reference=partial(enclosed, curve),
        subject=subject,
        every=True,
        tick=tick,
    )


@dataclass(frozen=True)
class _Subject:
    """A function in balls, the format of its results, and the largest size that it has."""

    ball: Callable[[flint.arb], flint.arb]
    format: FloatFormat
    largest: float | None


def _largest_errors(
    chunks: Iterable[Array],
    call: Callable[[Array], Array],
    reference: Callable[[Array], tuple[FloatArray, FloatArray]],
    *,
    subject: _Subject,
    every: bool,
    tick: Callable[[], None],
) -> Measured:
    """`reference` gives the real values, and how far they may be off."""
    found = Measured(0.0, 0.0, excess=0.0, flushes=False, inputs=0, worst=0.0, exhaustive=every)
    for x in chunks:
        tick()
        real, slack = reference(x)
        y = call(x)
        for start in range(0, len(x), _PIECE):
            part = slice(start, start + _PIECE)
            found = _worse(found, subject, x=x[part], y=y[part], real=real[part], slack=slack[part])
        end = slice(-_TAIL, None)
        found = _worse(found, subject, x=x[end], y=call(x[end]), real=real[end], slack=slack[end])
    return found


def _trusted(function: Function, x: Array) -> tuple[FloatArray, FloatArray]:
    with np.errstate(all="ignore"):
        real = np.asarray(approximate_function(function, x.astype(np.float64)), np.float64)
    return real, np.abs(real) * _TRUST


def _runner(
    kernels: Kernels, function: Function, dtype: DType, length: int
) -> Callable[[Array], Array]:
    op = function.operator
    node = Node(op, op, inputs=("x",), outputs=("y",), attributes={}, opset=_OPSET)
    kind = TensorType(dtype, (length,))
    graph = build_graph((node,), {"x": kind, "y": kind}, {}, inputs=("x",), outputs=("y",))
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


def _worse(
    found: Measured, subject: _Subject, x: Array, *, y: Array, real: FloatArray, slack: FloatArray
) -> Measured:
    fmt = subject.format
    with np.errstate(all="ignore"):
        got, size = y.astype(np.float64), np.abs(real)
        inside = np.isfinite(x) & (size <= float(fmt.largest_finite))
        lost = (got == 0) & (size < float(fmt.smallest_normal))
        lost &= inside & (size > float(fmt.smallest_subnormal))
        distance = np.abs(got - real) + slack
        distance *= 1.0 + 2.0**-50  # for the rounding of these two operations
        distance[np.isnan(distance)] = np.inf
        distance[~inside] = 0.0
        ulps = distance / _ulp(np.maximum(size - slack, 0.0), fmt)
        ulps[lost] = 0.0
        got[~inside] = 0.0
    count = int(np.count_nonzero(inside))
    if not count:
        return found
    worst = int(np.argmax(ulps))
    largest, where = float(ulps[worst]), float(x[worst])
    if np.isfinite(largest):
        largest = max(largest, _in_balls(subject, where, float(got[worst])))
    units = float(np.max(distance)) / float(fmt.unit_roundoff)
    excess = 0.0
    if subject.largest is not None:
        beyond = float(np.max(np.abs(got))) - subject.largest
        excess = max(beyond, 0.0) / float(fmt.unit_roundoff)
    return replace(
        found,
        ulps=max(found.ulps, largest),
        units=max(found.units, units),
        excess=max(found.excess, excess),
        flushes=found.flushes or bool(np.any(lost)),
        inputs=found.inputs + count,
        worst=where if largest > found.ulps else found.worst,
    )


def _ulp(size: FloatArray, fmt: FloatFormat) -> FloatArray:
    """The spacing of the format at magnitudes in float64, none of them subnormal there."""
    exponent = np.maximum((size.view(np.int64) >> 52) - 1023, fmt.emin)
    spacing: FloatArray = ((exponent - fmt.precision + 1 + 1023) << 52).view(np.float64)
    return spacing


def _in_balls(subject: _Subject, x: float, y: float) -> float:
    """An upper bound on the error in ulps at one input."""
    with flint.ctx.workprec(200):
        lo, hi = enclosure(subject.ball(flint.arb(x)))
    error = max(abs(Fraction(y) - lo), abs(Fraction(y) - hi))
    spacing = float(_ulp(np.asarray([abs(float(lo))]), subject.format)[0])
    return float(np.nextafter(float(error / Fraction(spacing)), np.inf))


def _raised(value: float) -> float | None:
    """Rounded up to three decimals; None for a bound that says nothing."""
    return float(np.ceil(value * 1000.0) / 1000.0) if value <= _USELESS else None
