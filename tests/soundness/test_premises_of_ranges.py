"""Ranges whose lemma takes two numbers on trust, against values that other arithmetic makes.

`monotone-range`, `ball-range`, `stated-range` and `between-knots` say that a function lies between
a and b; of a and b they check that a ≤ b, and that they enclose is the word of the code that found
them. So every operator that has such a range is evaluated in decimals of 90 digits, by formulas of
this file alone, at inputs all over boxes of many kinds; `slope-range` so at pairs of inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, Decimal
from itertools import combinations
from typing import Any

import decimals as d
import numpy as np
import pytest
from decimals import D, over
from given_radii import off_by
from operator_checks import Example, example, graph_of
from test_functions import CURVES

from encoders.contract.presets import SEQUENTIAL
from encoders.curves.curves import slope_range
from encoders.lemmas.ranges.range import Range
from encoders.numbers.enclosure import Interval
from encoders.ops.activations.elu import SELU_ALPHA, SELU_GAMMA
from encoders.relaxations.piecewise import PiecewiseLinear, clamp, piecewise_secant
from examples import every_example
from refine.bounds.network import InputBox, network_bounds

ON_TRUST = {"monotone-range", "ball-range", "stated-range", "between-knots", "slope-range"}
POINTS = 12
WITHOUT = ("And", "Or", "Xor", "Not", "GroupNormalization")
"""Of inputs that are no floats, or in a type that examples of one node do not have."""
ROOM = D("1e-40")
"""Of a value, and of 1e-300 besides: what 90 digits may be off by after a few operations."""
Values = Any


# --- what operators mean --------------------------------------------------------------------------


def _of_one(f: Callable[..., Decimal], **defaults: float) -> Callable[..., Values]:
    """Of each element; attributes are float32."""

    def made(inputs: list[Values], given: Mapping[str, Any]) -> Values:
        stated = {k: D(float(np.float32(given.get(k, v)))) for k, v in defaults.items()}
        return over(lambda x: f(x, **stated))(inputs[0])

    return made


def _gelu(inputs: list[Values], given: Mapping[str, Any]) -> Values:
    def plain(x: Decimal) -> Decimal:
        return x / 2 * (1 + d.erf(x / D(2).sqrt()))

    def curved(x: Decimal) -> Decimal:
        inner = (2 / d.PI).sqrt() * (x + D("0.044715") * x**3)
        return x * d.sigmoid(2 * inner)

    return over(curved if given.get("approximate", "none") == "tanh" else plain)(inputs[0])


def _clip(inputs: list[Values], given: Mapping[str, Any]) -> Values:
    x, *ends = inputs
    low, high = [*ends, None, None][:2]
    low = D(given.get("min", "-Infinity")) if low is None else low
    high = D(given.get("max", "Infinity")) if high is None else high
    return over(lambda v, a, b: min(max(v, a), b))(x, low, high)


def _power(inputs: list[Values], given: Mapping[str, Any]) -> Values:
    def power(x: Decimal, n: Decimal) -> Decimal:
        if n == int(n):
            return x ** int(n)
        return (n * x.ln()).exp() if x else D(0)

    return over(power)(*inputs)


def _mod(inputs: list[Values], given: Mapping[str, Any]) -> Values:
    def left(x: Decimal, m: Decimal) -> Decimal:
        way = ROUND_DOWN if given.get("fmod", 0) else ROUND_FLOOR
        return x - m * (x / m).quantize(D(1), rounding=way)

    return over(left)(*inputs)


def _axes(x: Values, given: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(given.get("axes", range(x.ndim)))


def _norm(f: Callable[[Values], Values], g: Callable[[Decimal], Decimal]) -> Callable[..., Values]:
    def made(inputs: list[Values], given: Mapping[str, Any]) -> Values:
        x = inputs[0]
        total = np.sum(f(x), axis=_axes(x, given), keepdims=bool(given.get("keepdims", 1)))
        return over(g)(total)

    return made


def _softmax(log: bool) -> Callable[..., Values]:
    def made(inputs: list[Values], given: Mapping[str, Any]) -> Values:
        x = inputs[0]
        last = given.get("axis", -1 if given["opset"] >= 13 else 1)
        axes = (last,) if given["opset"] >= 13 else tuple(range(last, x.ndim))
        e = over(Decimal.exp)(x)
        total = np.sum(e, axis=axes, keepdims=True)
        return x - over(Decimal.ln)(total) if log else e / total

    return made


def _normalized(centred: bool) -> Callable[..., Values]:
    def made(inputs: list[Values], given: Mapping[str, Any]) -> Values:
        x, scale, shift = [*inputs, D(0)][:3]
        axes = tuple(range(given.get("axis", -1) % x.ndim, x.ndim))
        return _over_sigma(x, axes, given, centred) * scale + shift

    return made


def _over_sigma(
    x: Values, axes: tuple[int, ...], given: Mapping[str, Any], centred: bool
) -> Values:
    n = int(np.prod([x.shape[a] for a in axes]))
    c = x - np.sum(x, axis=axes, keepdims=True) / n if centred else x
    epsilon = D(float(np.float32(given.get("epsilon", 1e-5))))
    return c / over(Decimal.sqrt)(np.sum(c * c, axis=axes, keepdims=True) / n + epsilon)


def _instance(inputs: list[Values], given: Mapping[str, Any]) -> Values:
    x, scale, shift = inputs
    tall = (-1, *(1,) * (x.ndim - 2))
    axes = tuple(range(2, x.ndim))
    return _over_sigma(x, axes, given, True) * scale.reshape(tall) + shift.reshape(tall)


def _batch(inputs: list[Values], given: Mapping[str, Any]) -> Values:
    x, *others = inputs
    scale, shift, mean, variance = (v.reshape(-1, *(1,) * (x.ndim - 2)) for v in others)
    epsilon = D(float(np.float32(given.get("epsilon", 1e-5))))
    return (x - mean) / over(Decimal.sqrt)(variance + epsilon) * scale + shift


def _pooled(inputs: list[Values], given: Mapping[str, Any]) -> Values:
    x, p = inputs[0], given.get("p", 2)
    total = np.sum(over(lambda v: abs(v) ** p)(x), axis=tuple(range(2, x.ndim)), keepdims=True)
    return over(lambda v: (v.ln() / p).exp() if v else v)(total)


def _determinant(inputs: list[Values], given: Mapping[str, Any]) -> Values:
    """Along the first row."""
    x = inputs[0]
    if x.shape[-1] == 1:
        return x[..., 0, 0]
    total = 0
    for j in range(x.shape[-1]):
        rest = np.delete(x[..., 1:, :], j, axis=-1)
        total = total + (-1) ** j * x[..., 0, j] * _determinant([rest], given)
    return total


def _to_whole(inputs: list[Values], given: Mapping[str, Any]) -> Values:
    return over(lambda x: x.quantize(D(1), rounding=ROUND_DOWN))(inputs[0])


def _quantised(inputs: list[Values], given: Mapping[str, Any]) -> Values:
    x, scale, zero = inputs
    return over(lambda v: min(max(d.nearest(v / scale) + zero, D(0)), D(255)))(x)


def _hard_sigmoid(x: Decimal, alpha: Decimal, beta: Decimal) -> Decimal:
    return min(max(alpha * x + beta, D(0)), D(1))


def _elu(x: Decimal, alpha: Decimal) -> Decimal:
    return x if x >= 0 else alpha * d.expm1(x)


MEANINGS: Mapping[str, Callable[..., Values]] = {
    "Abs": _of_one(abs),
    "Acos": _of_one(lambda x: d.PI / 2 - d.asin(x)),
    "Acosh": _of_one(lambda x: (x + (x * x - 1).sqrt()).ln()),
    "Asin": _of_one(d.asin),
    "Asinh": _of_one(d.asinh),
    "Atan": _of_one(d.atan),
    "Atanh": _of_one(d.atanh),
    "BatchNormalization": _batch,
    "Cast": _to_whole,
    "Ceil": _of_one(lambda x: x.quantize(D(1), rounding=ROUND_CEILING)),
    "Celu": _of_one(lambda x, alpha: x if x >= 0 else alpha * d.expm1(x / alpha), alpha=1.0),
    "Clip": _clip,
    "Cos": _of_one(d.cos),
    "Cosh": _of_one(d.cosh),
    "Det": _determinant,
    "Elu": _of_one(_elu, alpha=1.0),
    "Erf": _of_one(d.erf),
    "Exp": _of_one(lambda x: x.exp()),
    "Floor": _of_one(lambda x: x.quantize(D(1), rounding=ROUND_FLOOR)),
    "Gelu": _gelu,
    "GlobalLpPool": _pooled,
    "HardSigmoid": _of_one(_hard_sigmoid, alpha=0.2, beta=0.5),
    "HardSwish": _of_one(lambda x: x * min(max(x + 3, D(0)), D(6)) / 6),
    "InstanceNormalization": _instance,
    "LayerNormalization": _normalized(True),
    "LeakyRelu": _of_one(lambda x, alpha: x if x >= 0 else alpha * x, alpha=0.01),
    "Log": _of_one(lambda x: x.ln()),
    "LogSoftmax": _softmax(True),
    "Mish": _of_one(lambda x: x * d.tanh(d.softplus(x))),
    "Mod": _mod,
    "PRelu": lambda inputs, given: over(lambda x, s: x if x >= 0 else s * x)(*inputs),
    "Pow": _power,
    "QuantizeLinear": _quantised,
    "RMSNormalization": _normalized(False),
    "ReduceL1": _norm(abs, lambda v: v),
    "ReduceL2": _norm(lambda x: x * x, lambda v: v.sqrt()),
    "ReduceLogSumExp": _norm(over(Decimal.exp), Decimal.ln),
    "ReduceSumSquare": _norm(lambda x: x * x, lambda v: v),
    "Round": _of_one(d.nearest),
    "Selu": _of_one(
        lambda x, alpha, gamma: gamma * _elu(x, alpha),
        alpha=1.67326319217681884765625, gamma=1.05070102214813232421875,
    ),
    "Sigmoid": _of_one(d.sigmoid),
    "Sign": _of_one(lambda x: D((x > 0) - (x < 0))),
    "Sin": _of_one(d.sin),
    "Sinh": _of_one(d.sinh),
    "Softmax": _softmax(False),
    "Softplus": _of_one(d.softplus),
    "Softsign": _of_one(lambda x: x / (1 + abs(x))),
    "Sqrt": _of_one(lambda x: x.sqrt()),
    "Swish": _of_one(lambda x, alpha: x * d.sigmoid(alpha * x), alpha=1.0),
    "Tan": _of_one(lambda x: d.sin(x) / d.cos(x)),
    "Tanh": _of_one(d.tanh),
}  # fmt: skip
OTHERS = (
    example("QuantizeLinear", "x s z", (2, 4), lo=-3.0, hi=4.0,
            constants={"s": np.float32(0.02), "z": np.uint8(100)}),
    example("Sqrt", "x", (3, 2), "from zero", lo=0.0, hi=2.0),
    example("Exp", "x", (3, 2), "far", lo=-700.0, hi=700.0),
    example("Tanh", "x", (3, 2), "far", lo=-60.0, hi=60.0),
    example("Sigmoid", "x", (3, 2), "far", lo=-90.0, hi=90.0),
    example("Gelu", "x", (3, 2), "far", lo=-9.0, hi=12.0, opset=20),
    example("Mish", "x", (3, 2), "far", lo=-30.0, hi=30.0, opset=18),
    example("Swish", "x", (3, 2), "far", lo=-40.0, hi=30.0, opset=24),
    example("Erf", "x", (3, 2), "far", lo=-7.0, hi=7.0),
    example("Sin", "x", (3, 2), "far", lo=-50.0, hi=70.0),
    example("Cos", "x", (3, 2), "far", lo=-50.0, hi=70.0),
)  # fmt: skip


# --- where operators are said to lie --------------------------------------------------------------


def _known(case: Example) -> bool:
    if len(case.nodes) != 1 or case.nodes[0][0] not in MEANINGS:
        return False
    return case.nodes[0][0] != "Cast" or case.nodes[0][3]["to"] in (3, 6, 7)


CASES = [c for c in {id(c): c for v in every_example().values() for c in v}.values() if _known(c)]
CASES += OTHERS


def _boxes(case: Example, rng: np.random.Generator) -> Iterator[tuple[float, float]]:
    """The whole, narrow ones, points, tiny ones about 0 and ones on either side of it."""
    lo, hi = case.lo, case.hi
    yield lo, hi
    for width in (0.5, 1e-3, 1e-9, 0.0):
        start = rng.uniform(lo, hi)
        yield start, min(start + width * (hi - lo), hi)
    if lo < 0 < hi:
        yield -1e-38, 2e-38
        yield lo, 0.0
        yield 0.0, hi
    if lo <= 1 <= hi:
        yield max(lo, 1 - 1e-6), min(hi, 1 + 1e-6)


def _drawn(box: Interval, dtype: Any, rng: np.random.Generator) -> Iterator[Any]:
    """Numbers of the type in a box, many of them at its ends."""
    for _ in range(POINTS):
        share = rng.random(box.shape)
        share = np.where(rng.random(box.shape) < 0.4, np.round(share), share)
        inside = (box.lo * (1 - share) + box.hi * share).astype(dtype).astype(np.float64)
        yield np.clip(inside, box.lo, box.hi)


def _meant(case: Example, inputs: Mapping[str, Any]) -> Values:
    op, names, _, given = case.nodes[0]
    held = {k: d.decimals(v) for k, v in inputs.items()}
    for k, v in case.constants.items():
        stored = np.asarray(v)
        stored = stored.astype(case.dtype) if stored.dtype == np.float64 else stored
        held[k] = d.decimals(stored)
    read = [held.get(t) for t in names.split()]
    return MEANINGS[op](read, {**given, "opset": case.opset})


def _outside(values: Values, lo: Any, hi: Any) -> list[str]:
    found = []
    for y, low, high in zip(values.reshape(-1), lo.reshape(-1), hi.reshape(-1), strict=True):
        room = ROOM * (abs(y) + D("1e-300"))
        if D(float(low)) > y + room or y - room > D(float(high)):
            found.append(f"{y:.25} is not in [{low!r}, {high!r}]")
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_values_lie_where_trusted_numbers_say(case: Example) -> None:
    graph, _ = graph_of(case)
    rng = np.random.default_rng(3)
    (output,) = graph.outputs
    for lo, hi in _boxes(case, rng):
        ends = {}
        for t in graph.inputs:
            low, high = (np.full(graph.types[t].shape, v) for v in (lo, hi))
            low, high = (v.astype(case.dtype).astype(np.float64) for v in (low, high))
            ends[t] = Interval(np.maximum(low, case.lo), np.minimum(high, case.hi))
            if not np.all(ends[t].lo <= ends[t].hi):
                ends[t] = Interval(ends[t].hi, ends[t].hi)
        box = InputBox(ends, {t: np.zeros(v.shape) for t, v in ends.items()})
        found = network_bounds(graph, box, SEQUENTIAL).maps.values[output]
        drawn = {t: list(_drawn(v, case.dtype, rng)) for t, v in ends.items()}
        with d.working():
            for k in range(POINTS):
                values = np.asarray(_meant(case, {t: v[k] for t, v in drawn.items()}))
                assert _outside(values, found.lo, found.hi) == []


def _is_trusted(case: Example) -> bool:
    graph, _ = graph_of(case)
    ends = {t: np.full(graph.types[t].shape, case.lo) for t in graph.inputs}
    box = {t: Interval(v, v + (case.hi - case.lo)) for t, v in ends.items()}
    none = {t: np.zeros(v.shape) for t, v in ends.items()}
    maps = network_bounds(graph, InputBox(box, none), SEQUENTIAL).maps
    ranges = [v for t in graph.outputs if isinstance(v := maps.values[t], Range)]
    names = {a.lemma.name for v in ranges for a in v.record.everything() if a.lemma is not None}
    return bool(names & ON_TRUST)


def test_every_operator_with_such_a_range_is_evaluated() -> None:
    """In networks of one node; the others are made of these."""
    alone: set[str] = set()
    for case in {id(c): c for v in every_example().values() for c in v}.values():
        (op, *_), *others = case.nodes
        if not others and op not in alone and op not in WITHOUT and _is_trusted(case):
            alone.add(op)
    assert alone <= set(MEANINGS)
    assert len(alone) >= 45


# --- slopes ---------------------------------------------------------------------------------------


def _exponential(alpha: float, inside: float, gamma: float) -> Callable[[Decimal], Decimal]:
    a, c, g = D(alpha), D(inside), D(gamma)
    return lambda x: g * x if x >= 0 else a * d.expm1(x / c)


OF_CURVES: Mapping[str, Callable[[Decimal], Decimal]] = {
    "celu": _exponential(0.3, 0.3, 1.0),
    "elu": _exponential(0.7, 1.0, 1.0),
    "elu-negative": _exponential(-1.5, 1.0, 1.0),
    "selu": _exponential(SELU_GAMMA * SELU_ALPHA, 1.0, SELU_GAMMA),
    "swish-1.7": lambda x: x * d.sigmoid(D(1.7) * x),
}
WRITTEN = {"gelu-tanh": "Gelu", "hard-sigmoid": "HardSigmoid", "hard-swish": "HardSwish"}


def _curve(name: str) -> Callable[[Decimal], Decimal]:
    if name in OF_CURVES:
        return OF_CURVES[name]
    given = {"approximate": "tanh"} if name == "gelu-tanh" else {}
    meaning = MEANINGS[WRITTEN.get(name, name.capitalize())]
    return lambda x: meaning([np.array([x], object)], given)[0]


def _outside_slopes(f: Callable[[Decimal], Decimal], x: Any, lo: float, hi: float) -> list[str]:
    """Of the difference quotients between these numbers."""
    values = [(v, f(v)) for v in sorted({*map(D, x.tolist())})]
    found = []
    for (p, at), (q, there) in combinations(values, 2):
        size = max(abs(at), abs(there))
        slope, room = (there - at) / (q - p), (size * ROOM + D("1e-100")) / (q - p)
        if D(lo) > slope + room or slope - room > D(hi):
            found.append(f"{slope:.25} from {p:.25} to {q:.25} is not in [{lo!r}, {hi!r}]")
    return found


@pytest.mark.parametrize("name", CURVES)
def test_difference_quotients_lie_where_slopes_do(name: str) -> None:
    curve, rng = CURVES[name], np.random.default_rng(4)
    first, last = max(curve.start, -40.0), min(curve.end, 50.0)
    starts = rng.uniform(first, last, 12)
    widths = 10.0 ** rng.uniform(-6.0, 1.5, 12)
    near = np.clip(rng.normal(0.0, 1.0, 12), first, last)
    lo = np.concatenate([starts, near, [max(first, -2.0), max(first, 0.0), first]])
    hi = np.concatenate([starts + widths, near + widths[::-1], [3.0, 1.0, last]])
    lo, hi = np.minimum(lo, last), np.maximum(np.minimum(hi, last), np.minimum(lo, last))
    found = slope_range(curve, Interval(lo, hi))
    with d.working():
        for k in range(len(lo)):
            inside = lo[k] + (hi[k] - lo[k]) * np.array([0.0, 1e-3, 0.3, 0.5, 0.9, 1.0])
            x = np.clip(inside, lo[k], hi[k])
            assert _outside_slopes(_curve(name), x, found.lo[k], found.hi[k]) == []


@pytest.mark.parametrize("ends", [(-1.0, 2.0), (0.0, np.inf), (-np.inf, 0.5)])
def test_differences_of_hinges_are_as_their_slopes_are(ends: tuple[float, float]) -> None:
    """And values less a line between what it says at the knots, as the record has them."""
    low, high = ends
    rng = np.random.default_rng(5)
    middle = rng.normal(0.5, 1.5, 60)
    x = Interval(middle - rng.random(60), middle + rng.random(60))
    error = 10.0 ** rng.uniform(-4, 0, 60)
    f: PiecewiseLinear = clamp(low, high)
    secant, moved = piecewise_secant(f, x, off_by(error))
    for k in range(60):
        for _ in range(20):
            at = D(x.lo[k]) + (D(x.hi[k]) - D(x.lo[k])) * D(rng.random())
            there = at + (2 * D(rng.random()) - 1) * D(error[k])
            change = _clamped(there, low, high) - _clamped(at, low, high)
            room = ROOM * (1 + abs(change))
            assert abs(change) <= D(moved.bound[k]) + room
            rest = change - D(secant.slope[k]) * (there - at)
            assert abs(rest) <= D(secant.remainder.bound[k]) + room


def _clamped(x: Decimal, low: float, high: float) -> Decimal:
    return min(max(x, D(low)), D(high))
