"""An operator's meanings held against each other: each check gives sentences about failures.

All comparisons but those with a runtime's floats are in exact rationals: float64 numbers that an
abstraction returns are read as the rationals they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Any

import flint
import numpy as np
import onnxruntime
import z3
from given_radii import off_by
from onnx.reference import ReferenceEvaluator
from operator_checks import Example, graph_of, model_of
from ort_schedule import ORT_PLAIN

from encoders.arithmetic.exact_fields import RationalArithmetic, Rationals, fraction, object_array
from encoders.arithmetic.numpy_arithmetic import NumpyArithmetic
from encoders.arithmetic.real_terms import RealTerms, rational_term
from encoders.arithmetic.values import Inputs
from encoders.contract.contract import (
    BiasPlacement,
    Blocked,
    Normalization,
    RuntimeContract,
    Subnormals,
)
from encoders.contract.members import members
from encoders.contract.presets import FP16, IEEE_ANY, PAIRWISE, SEQUENTIAL, SEQUENTIAL_FMA
from encoders.functions.accuracy import Transcendental
from encoders.numbers.enclosure import Interval
from encoders.numbers.formats import BINARY64
from encoders.operator import Contribution, Moved, Operator, Site, site_of

SAMPLES = 3
SCHEDULES = (
    SEQUENTIAL,
    replace(PAIRWISE, bias=BiasPlacement.FIRST),
    replace(ORT_PLAIN, order=Blocked(2), normalization=Normalization.DIRECT),
)
WIDE = replace(FP16, name="accumulated-in-binary64", accumulation=BINARY64)
ROUNDINGS: tuple[tuple[RuntimeContract, tuple[RuntimeContract, ...]], ...] = (
    *((c, (c,)) for c in (*SCHEDULES, SEQUENTIAL_FMA)),
    (IEEE_ANY, (*SCHEDULES, *members(IEEE_ANY))),
    *(
        (c, (c,))
        for c in (replace(SEQUENTIAL, results=Subnormals.FLUSH, operands=Subnormals.FLUSH),)
    ),
    (WIDE, members(WIDE)),
)


@dataclass(frozen=True)
class Stand:
    """An operator on an example: its site, ranges of its variable inputs, and a random stream."""

    operator: Operator
    site: Site
    example: Example
    seed: int = 0

    @property
    def rng(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)

    @property
    def dtype(self) -> Any:
        return self.example.dtype

    def shapes(self) -> list[tuple[int, ...]]:
        return [self.site.type_of(i).shape for i in self.site.variable]


def stand(operator: Operator, example: Example) -> Stand:
    graph, _ = graph_of(example)
    (only,) = graph.order
    return Stand(operator, site_of(graph, only), example)


def _arguments(s: Stand, variable: Sequence[Any], constant: Callable[[Any], Any]) -> Inputs[Any]:
    """Inputs for every input position, from those of the variable ones.

    The same tensor read twice gets the same values.
    """
    values = iter(variable)
    found: list[Any] = []
    seen: dict[str, Any] = {}
    for name, kind, stored in zip(s.site.node.inputs, s.site.inputs, s.site.constants, strict=True):
        if kind is None:
            found.append(None)
        elif stored is None:
            value = next(values)
            found.append(seen.setdefault(name, value))
        else:
            found.append(constant(stored))
    return Inputs(found)


def _real(s: Stand, variable: Sequence[Any]) -> Any:
    """f(x) as rationals, x given as arrays of floats or rationals with a sample axis."""
    field = Rationals()
    exact = [v if v.dtype == object else field.constant(v)[0] for v in variable]
    return s.operator.real(s.site, _arguments(s, exact, field.constant), field)[0]


def semantics_agree(s: Stand) -> Iterator[str]:
    """Where nothing rounds, the run-time semantics is the real one, whatever the schedule."""
    rng = s.rng
    variable = [
        object_array(
            (flint.fmpq(int(p), int(q)) for p, q in zip(*_ratios(rng, shape), strict=True)),
            (1, *shape),
        )
        for shape in s.shapes()
    ]
    expected = _real(s, variable)
    arithmetic = RationalArithmetic()
    for contract in SCHEDULES:
        inputs = _arguments(s, variable, arithmetic.constant)
        (got,) = s.operator.runtime(s.site, inputs, arithmetic, contract)
        if got.shape != expected.shape or not np.all(got == expected):
            yield f"runtime and real semantics differ under {contract.name}"


def terms_agree(s: Stand) -> Iterator[str]:
    """As Z3 terms the real semantics gives the same rationals, where it has such terms."""
    ratios = [(_ratios(s.rng, shape), shape) for shape in s.shapes()]
    pairs = [[Fraction(int(p), int(q)) for p, q in zip(*r, strict=True)] for r, _ in ratios]
    shapes = [(1, *shape) for _, shape in ratios]
    terms = [
        object_array(map(rational_term, numbers), shape)
        for numbers, shape in zip(pairs, shapes, strict=True)
    ]
    field = RealTerms()
    try:
        (got,) = s.operator.real(s.site, _arguments(s, terms, field.constant), field)
    except Transcendental:
        return
    exact = [
        object_array(map(_rational, numbers), shape)
        for numbers, shape in zip(pairs, shapes, strict=True)
    ]
    for term, value in zip(got.ravel(), _plain(_real(s, exact)).ravel(), strict=True):
        if z3.simplify(term).as_fraction() != value:
            yield f"as a Z3 term it is {z3.simplify(term)}, not {value}"


def _ratios(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[Any, Any]:
    size = int(np.prod(shape))
    return rng.integers(-50, 50, size), rng.integers(1, 30, size)


def runtimes_agree(s: Stand) -> Iterator[str]:
    """onnx.reference in float64 agrees with the real semantics, onnxruntime with the run-time
    one."""
    rng = s.rng
    inputs = [rng.standard_normal((1, *shape)).astype(s.dtype) for shape in s.shapes()]
    named = {t: v[0] for t, v in zip(s.example.inputs, inputs, strict=False)}
    exact = np.array([float(fraction(v)) for v in _real(s, _once(s, inputs)).ravel()])
    wide = {t: v.astype(np.float64) for t, v in named.items()}
    (found,) = ReferenceEvaluator(model_of(s.example, np.float64)).run(None, wide)
    expected = np.asarray(found)
    if not np.allclose(exact, expected.ravel(), rtol=1e-4, atol=1e-5):
        yield "the real semantics is far from onnx.reference"
    if s.dtype is np.float64 and not np.allclose(exact, expected.ravel(), rtol=1e-11, atol=1e-12):
        yield "the real semantics is not what onnx.reference computes in float64"
    session = onnxruntime.InferenceSession(model_of(s.example).SerializeToString())
    actual = np.asarray(session.run(None, named)[0])
    got = emulated(s, _once(s, inputs), SEQUENTIAL)[0]
    tolerance = 1e-4 if s.dtype is np.float32 else 1e-12
    if got.shape != actual.shape or not np.allclose(got, actual, rtol=tolerance, atol=tolerance):
        yield "the run-time semantics is far from onnxruntime"


def _once(s: Stand, inputs: Sequence[Any]) -> list[Any]:
    """One array per variable position from one per named input."""
    named = dict(zip(s.example.inputs, inputs, strict=False))
    return [named[s.site.node.inputs[i]] for i in s.site.variable]


def real_values(s: Stand, variable: Sequence[Any]) -> Any:
    """f(x) as fractions, x given as arrays of floats or rationals with a sample axis."""
    return _plain(_real(s, variable))


def emulated(s: Stand, variable: Sequence[Any], contract: RuntimeContract) -> Any:
    fmt = contract.format_of(s.site.outputs[0].dtype)
    arithmetic = NumpyArithmetic(fmt, contract)
    held = [arithmetic.rounded(v) for v in variable]
    inputs = _arguments(s, held, arithmetic.constant)
    return s.operator.runtime(s.site, inputs, arithmetic, contract)[0]


def _ranges(s: Stand) -> Iterator[tuple[list[Interval], list[Any]]]:
    """Ranges of the variable inputs with inputs in them: wide, narrow, point-like and tiny, and
    reaching much further to one side, of sizes that differ from input to input."""
    rng = s.rng
    for scale, width in ((1.0, 1.0), (1.0, 1e-5), (1e3, 0.0), (1e-38, 3.0), (1e-3, 1.0)):
        yield _inside(s, rng, partial(_around, rng, scale, width))
    for _ in range(2):
        yield _inside(s, rng, partial(_lopsided, rng))


def _around(
    rng: np.random.Generator, scale: float, width: float, shape: tuple[int, ...]
) -> tuple[Any, Any]:
    centre = scale * rng.standard_normal(shape)
    return centre - scale * width, centre + scale * width


def _lopsided(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[Any, Any]:
    short, long = 10.0 ** rng.uniform(-3, 0, shape), 10.0 ** rng.integers(-2, 4)
    low, high = (short, long) if rng.random() < 0.5 else (long, short)
    return -low * rng.random(shape), high * rng.random(shape)


def _inside(
    s: Stand, rng: np.random.Generator, ends: Callable[[tuple[int, ...]], tuple[Any, Any]]
) -> tuple[list[Interval], list[Any]]:
    """Ranges with such ends, the same for each reading of a tensor, and inputs in them, many at
    the ends themselves."""
    ranges, points = {}, {}
    for name, shape in zip(_names(s), s.shapes(), strict=True):
        if name in ranges:
            continue
        low, high = (v.astype(s.dtype).astype(np.float64) for v in map(np.asarray, ends(shape)))
        share = rng.random((SAMPLES, *shape))
        share = np.where(rng.random(share.shape) < 0.4, np.round(share), share)
        inside = (low * (1 - share) + high * share).astype(s.dtype).astype(np.float64)
        ranges[name], points[name] = Interval(low, high), np.clip(inside, low, high)
    return [ranges[n] for n in _names(s)], [points[n] for n in _names(s)]


def _names(s: Stand) -> list[str]:
    return [s.site.node.inputs[i] for i in s.site.variable]


def values_enclose(s: Stand) -> Iterator[str]:
    """`values`: the range holds f(x), and functionals pulled back are upper bounds of c·f(x)."""
    for ranges, points in _ranges(s):
        mapped = s.operator.values(s.site, ranges)
        results = [_real(s, [p[i : i + 1] for p in points])[0] for i in range(SAMPLES)]
        low, high = exact_array(mapped.range.lo), exact_array(mapped.range.hi)
        for y in results:
            if not np.all((low <= _plain(y)) & (_plain(y) <= high)):
                yield "a real value is outside the range"
        c = _functionals(s)
        pulled = mapped.backward(c)
        for i, y in enumerate(results):
            inputs = [exact_array(p[i]) for p in points]
            yield from _broken(c, _plain(y), pulled, inputs, "c·f(x) is above its bound")


def differences_enclose(s: Stand) -> Iterator[str]:
    """`differences`: radius and pulled-back functionals bound f(x̂) − f(x)."""
    rng = s.rng
    for ranges, points in _ranges(s):
        for size in (0.3, 1e-6):
            scale = [size * (r.magnitude + 1e-30) for r in ranges]
            scale = _same(s, [v * rng.random(v.shape) * rng.choice([0.0, 1.0, 1.0], v.shape)
                              for v in scale])  # fmt: skip
            shifts = _same(s, [v * rng.choice([-1.0, 1.0, 0.4], p.shape) for v, p in
                               zip(scale, points, strict=True)])  # fmt: skip
            mapped = s.operator.differences(s.site, ranges, [off_by(v) for v in scale])
            radius, c = exact_array(mapped.radius.bound), _functionals(s)
            pulled = mapped.backward(c)
            for i in range(SAMPLES):
                x = [exact_array(p[i]) for p in points]
                d = [exact_array(v[i]) for v in shifts]
                moved = [object_array(map(_rational, (a + b).ravel()), a.shape)[None]
                         for a, b in zip(x, d, strict=True)]  # fmt: skip
                start = [object_array(map(_rational, a.ravel()), a.shape)[None] for a in x]
                change = _plain((_real(s, moved) - _real(s, start))[0])
                if not np.all(abs(change) <= radius):
                    yield "a difference is above the radius"
                yield from _broken(c, change, pulled, d, "c·(f(x̂) − f(x)) is above its bound")
                yield from _broken(
                    c, -change, pulled, [-v for v in d], "a bound on differences is not odd"
                )


def _same(s: Stand, arrays: list[Any]) -> list[Any]:
    """The same array for each reading of one tensor."""
    first: dict[str, Any] = {}
    return [first.setdefault(n, a) for n, a in zip(_names(s), arrays, strict=True)]


def rounding_encloses(s: Stand) -> Iterator[str]:
    """`rounding` bounds |emulated − exact f(x̂)|, for every contract and some of its members."""
    for ranges, points in _ranges(s):
        held = [p.astype(s.dtype) for p in points]
        range_ = s.operator.values(s.site, ranges).range
        exact = [_plain(_real(s, [p[i : i + 1] for p in points])[0]) for i in range(SAMPLES)]
        for contract, executions in ROUNDINGS:
            radius = exact_array(s.operator.rounding(s.site, ranges, range_, contract).radius.bound)
            for pinned in executions:
                got = emulated(s, held, pinned)
                for i in range(SAMPLES):
                    computed = exact_array(np.broadcast_to(got, (SAMPLES, *got.shape[1:]))[i])
                    if not np.all(abs(computed - exact[i]) <= radius):
                        yield f"a rounding error of {pinned.name} is above {contract.name}'s bound"


CHECKS: tuple[Callable[[Stand], Iterator[str]], ...] = (
    semantics_agree,
    terms_agree,
    runtimes_agree,
    values_enclose,
    differences_enclose,
    rounding_encloses,
)


def _functionals(s: Stand) -> Any:
    """Unit, negated and random functionals of the output."""
    shape = s.site.outputs[0].shape
    size = int(np.prod(shape))
    rng = s.rng
    random = rng.standard_normal((3, size)) * 10.0 ** rng.integers(-4, 4, (3, size))
    units = np.eye(size)[[0, size - 1]]
    return np.concatenate([units, -units, random]).reshape(-1, *shape)


def _broken(
    c: Any, result: Any, pulled: Contribution | Moved, inputs: Sequence[Any], what: str
) -> Iterator[str]:
    for k in range(len(c)):
        total = Fraction(float(pulled.constant[k]))
        for coefficients, x in zip(pulled.coefficients, inputs, strict=True):
            if coefficients is not None:
                total += np.sum(exact_array(coefficients[k]) * x)
        if np.sum(exact_array(c[k]) * result) > total:
            yield what


def exact_array(values: Any) -> Any:
    flat = np.asarray(values, np.float64)
    return object_array(
        (Fraction(v) if np.isfinite(v) else v for v in flat.ravel().tolist()), flat.shape
    )


def _plain(values: Any) -> Any:
    return object_array((fraction(v) for v in values.ravel()), values.shape)


def _rational(value: Fraction) -> Any:
    return flint.fmpq(value.numerator, value.denominator)
