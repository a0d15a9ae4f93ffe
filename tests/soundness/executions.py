"""Every execution that a contract allows, by brute force: a second reading of the contract.

Nothing here comes from `encoders` but rounding to nearest (`round_fraction`) and the names of the
contract's choices. Numbers of a toy format are kept as Python floats, in which their products and
sums are exact; quotients and roots are exact `Fraction`s or decided against squares of fractions.

An algebra is either `Exact` (one outcome per operation, exact rationals) or `Machine` (all the
outcomes that the contract leaves open). `outcomes` reads one node in an algebra.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from functools import lru_cache, partial
from itertools import product
from typing import Any

import numpy as np
from rows import Row, rows_of

from encoders.contract.contract import (
    Contraction,
    FactorRounding,
    Normalization,
    RuntimeContract,
    Subnormals,
)
from encoders.contract.orders import alignment_of
from encoders.numbers.formats import FloatFormat, round_fraction
from onnx_import.graph import Graph, Node

Number = Any
Outcomes = tuple[Number, ...]


class Overflow(Exception):
    """An operation gave an infinity."""


class Exact:
    """Rationals: every operation has one outcome, and nothing is rounded."""

    normalizations = (Normalization.DIRECT,)

    def results_of(self, found: Any) -> Any:
        return found

    def stored(self, value: float) -> Fraction:
        return Fraction(float(value))

    def add(self, a: Number, b: Number) -> Outcomes:
        return (a + b,)

    def multiply(self, a: Number, b: Number) -> Outcomes:
        return (a * b,)

    def divide(self, a: Number, b: Number) -> Outcomes:
        return (Fraction(a) / Fraction(b),)

    def sqrt(self, a: Fraction) -> Outcomes:
        root = Fraction(math.isqrt(a.numerator), math.isqrt(a.denominator))
        if root * root != a:
            raise ValueError(f"{a} is not a perfect square")
        return (root,)

    def multiply_add(self, a: Number, b: Number, c: Number) -> Outcomes:
        return (a * b + c,)

    def maximum(self, a: Number, b: Number) -> Outcomes:
        return (max(a, b),)

    def sums(self, terms: Sequence[tuple[Number, Number]], bias: Number | None) -> Outcomes:
        return (sum((a * b for a, b in terms), Fraction(0)) + (0 if bias is None else bias),)


class Machine:
    """The outcomes in `contract.compute_format` under a contract whose sums go in any order.

    With an accumulation format nodes compute in that, and their results are then rounded.
    """

    def __init__(self, contract: RuntimeContract) -> None:
        narrow = contract.compute_format
        assert narrow is not None
        fmt = contract.accumulation or narrow
        # products and sums of toy numbers are exact in binary64
        assert 2 * (fmt.emax + 1) + 4 - 2 * (fmt.emin - fmt.precision + 1) <= 53
        self.format, self.narrow = fmt, narrow
        self.tiny = float(fmt.smallest_normal)
        self.results, self.operands = contract.results, contract.operands
        self.fused = contract.contraction is not Contraction.NEVER
        self.separate = contract.contraction is not Contraction.ALWAYS
        both = contract.normalization is Normalization.EITHER
        self.normalizations = (
            (Normalization.FOLDED, Normalization.DIRECT) if both else (contract.normalization,)
        )
        self.alignment = alignment_of(contract.order)
        held = contract.factor_format
        self.least = narrow.emin if held is None else held.emin
        self.shorter: list[Callable[[float], float]] = [lambda v: v]
        if held is not None:
            either = contract.factor_rounding is FactorRounding.ANY
            ways = tuple(FactorRounding)[:2] if either else (contract.factor_rounding,)
            shorter: list[Callable[[float], float]] = [
                partial(_short, fmt=held, way=way) for way in ways
            ]
            self.shorter = [*shorter, *self.shorter] if either else shorter
        self.outcomes = lru_cache(maxsize=None)(self._outcomes)
        self.stored = lru_cache(maxsize=None)(self._stored)
        self._sums = lru_cache(maxsize=None)(self._all_sums)
        self.add = lru_cache(maxsize=None)(self._add)
        self.multiply = lru_cache(maxsize=None)(self._multiply)

    def _stored(self, value: float) -> float:
        return _finite(round_fraction(Fraction(float(value)), self.narrow))

    def _outcomes(self, exact: float | Fraction) -> Outcomes:
        """What an operation with this exact result may return."""
        return self._rounded(exact, self.format)

    def results_of(self, found: Any) -> Any:
        """What a node's results, tuples of outcomes, may be as numbers of their own format."""
        if self.narrow == self.format:
            return found
        kept = [
            _distinct(r for o in outcomes for r in self._rounded(o, self.narrow))
            for outcomes in found.ravel()
        ]
        return _tuples(kept, found.shape)

    def _rounded(self, exact: float | Fraction, fmt: FloatFormat) -> Outcomes:
        tiny = float(fmt.smallest_normal)
        rounded = _finite(round_fraction(Fraction(exact), fmt))
        if self.results is Subnormals.FLUSH:
            return (0.0,) if abs(rounded) < tiny else (rounded,)
        if self.results is Subnormals.EITHER and exact != 0 and -tiny < exact < tiny:
            return (rounded, 0.0)  # tininess may be detected before rounding or after
        return (rounded,)

    def read(self, value: float) -> Outcomes:
        """How an operation may see an operand."""
        if value == 0 or abs(value) >= self.tiny or self.operands is Subnormals.KEEP:
            return (value,)
        return (0.0,) if self.operands is Subnormals.FLUSH else (value, 0.0)

    def _each(self, f: Callable[..., Number], *operands: float) -> Outcomes:
        reads = product(*(self.read(v) for v in operands))
        return _distinct(o for r in reads for o in self.outcomes(f(*r)))

    def _add(self, a: float, b: float) -> Outcomes:
        return self._each(lambda x, y: x + y, a, b)

    def _multiply(self, a: float, b: float) -> Outcomes:
        return self._each(lambda x, y: x * y, a, b)

    def divide(self, a: float, b: float) -> Outcomes:
        return self._each(lambda x, y: Fraction(x) / Fraction(y), a, b)

    def sqrt(self, a: float) -> Outcomes:
        """Rounded through 60 further bits, with a sticky bit: never a midpoint unless exact."""
        scale = 2**60
        exact = Fraction(a) * scale * scale
        root = math.isqrt(exact.numerator // exact.denominator)
        sticky = 0 if root * root == exact else Fraction(1, 2)
        return self.outcomes((root + sticky) / Fraction(scale))

    def multiply_add(self, a: float, b: float, c: float) -> Outcomes:
        found: set[Number] = set()
        if self.fused:
            found.update(self._each(lambda x, y, z: x * y + z, a, b, c))
        if self.separate:
            found.update(o for p in self.multiply(a, b) for o in self.add(p, c))
        return _distinct(found)

    def maximum(self, a: float, b: float) -> Outcomes:
        return self._each(max, a, b)

    def sums(self, terms: Sequence[tuple[float, float]], bias: float | None) -> Outcomes:
        return _distinct(
            o for f in self.shorter for o in self._sums(tuple((f(a), f(b)) for a, b in terms), bias)
        )

    def _all_sums(self, terms: tuple[tuple[float, float], ...], bias: float | None) -> Outcomes:
        """All values of all binary trees over the products and the bias, a product joining either
        rounded or fused: by dynamic programming over the sets of leaves."""
        n = len(terms)
        leaves = n + (bias is not None)
        if not leaves:
            return (0.0,)
        found: dict[int, set[float]] = {}
        raw: dict[int, set[float]] = {}
        for i, (a, b) in enumerate(terms):
            raw[1 << i] = {x * y for x in self.read(a) for y in self.read(b)}
            found[1 << i] = {o for z in raw[1 << i] for o in self.outcomes(z)}
        if bias is not None:
            found[1 << n] = {bias}
        for leaf_set in range(1, 1 << leaves):
            if leaf_set not in found:
                found[leaf_set] = set(self._joins(leaf_set, found, raw))
            if self.alignment is not None:
                found[leaf_set] |= set(self._steps(leaf_set, found, terms))
        return _distinct(found[(1 << leaves) - 1])

    def _joins(
        self, whole: int, found: dict[int, set[float]], raw: dict[int, set[float]]
    ) -> Iterator[float]:
        part = (whole - 1) & whole
        while part:
            rest = whole ^ part
            if part > rest:
                for a, b in product(found[part], found[rest]):
                    yield from self.add(a, b)
            if self.fused and part in raw:
                for z, c in product(raw[part], found[rest]):
                    for seen in self.read(c):
                        yield from self.outcomes(z + seen)
            part = (part - 1) & whole

    def _steps(
        self, whole: int, found: dict[int, set[float]], terms: tuple[tuple[float, float], ...]
    ) -> Iterator[float]:
        """Some products, and what is found for all other leaves if any, in one aligned step."""
        part = whole
        while part:
            if part < 1 << len(terms):
                factors = [terms[i] for i in range(len(terms)) if part >> i & 1]
                pairs = [list(product(self.read(a), self.read(b))) for a, b in factors]
                rest = whole ^ part
                sums = {s for c in found[rest] for s in self.read(c)} if rest else {0.0}
                for chosen, total in product(product(*pairs), sums):
                    yield from self._step(chosen, total)
            part = (part - 1) & whole

    def _step(self, pairs: Sequence[tuple[float, float]], total: float) -> Outcomes:
        exponents = [_exponent(a, self.least) + _exponent(b, self.least) for a, b in pairs if a * b]
        exponents += [_exponent(total, self.format.emin)] if total else []
        if not exponents:
            return (0.0,)
        assert self.alignment is not None
        unit = 2.0 ** (max(exponents) - self.alignment)
        whole = sum(_towards_zero(v, unit) for v in (*(a * b for a, b in pairs), total))
        spacing = 2.0 ** (_exponent(whole, self.format.emin) - self.format.precision + 1)
        kept = _towards_zero(whole, spacing)
        if abs(kept) > self.format.largest_finite:
            raise Overflow
        if 0 < abs(whole) < self.tiny and self.results is not Subnormals.KEEP:
            return (0.0,) if self.results is Subnormals.FLUSH else (kept, 0.0)
        return (kept,)


def _exponent(value: float, least: int) -> int:
    return max(math.frexp(value)[1] - 1, least)


def _towards_zero(value: float, unit: float) -> float:
    return math.trunc(value / unit) * unit


def _short(value: float, fmt: FloatFormat, way: FactorRounding) -> float:
    """A factor in a shorter format."""
    if way is FactorRounding.NEAREST:
        return _finite(round_fraction(Fraction(value), fmt))
    return _towards_zero(value, 2.0 ** (_exponent(value, fmt.emin) - fmt.precision + 1))


def _finite(value: Fraction | float) -> float:
    if isinstance(value, float) and math.isinf(value):
        raise Overflow
    return float(value)


def _distinct(values: Iterable[Number]) -> Outcomes:
    return tuple(sorted(set(values)))


def spread(f: Callable[..., Outcomes], *choices: Outcomes) -> Outcomes:
    """All outcomes of f over all choices of its arguments."""
    return _distinct(o for chosen in product(*choices) for o in f(*chosen))


ELEMENTWISE: dict[str, Callable[[Any, Number, Number], Outcomes]] = {
    "Add": lambda algebra, a, b: algebra.add(a, b),
    "Sub": lambda algebra, a, b: algebra.add(a, -b),
    "Mul": lambda algebra, a, b: algebra.multiply(a, b),
    "Div": lambda algebra, a, b: algebra.divide(a, b),
}


def outcomes(algebra: Any, graph: Graph, node: Node, tensors: dict[str, Any]) -> Any:
    """For every output element the outcomes it may have, as an object array of tuples."""
    arguments: list[Any] = [
        None if not t else tensors[t] if t in tensors else _stored(algebra, graph, t)
        for t in node.inputs
    ]
    shape = graph.types[node.outputs[0]].shape
    match node.op:
        case "Concat":
            return _moved(np.concatenate(arguments, axis=_attribute(node, "axis")))
        case "Transpose":
            return _moved(np.transpose(arguments[0], _attribute(node, "perm")))
        case "Reshape" | "Flatten" | "Identity" | "Squeeze" | "Unsqueeze":
            return _moved(arguments[0].reshape(shape))
        case "Add" | "Sub" | "Mul" | "Div":
            pairs = np.broadcast(*arguments)
            found = _tuples((ELEMENTWISE[node.op](algebra, a, b) for a, b in pairs), shape)
        case "Relu":
            zero = algebra.stored(0.0)
            found = _tuples((algebra.maximum(v, zero) for v in arguments[0].ravel()), shape)
        case "MatMul" | "Gemm" | "Conv":
            rows = rows_of(graph, node)
            found = _tuples((_row(algebra, graph, node, row, tensors) for row in rows), shape)
        case "BatchNormalization":
            found = _batch_normalization(algebra, node, arguments, shape)
        case _:
            raise NotImplementedError(node.op)
    return algebra.results_of(found)


def _attribute(node: Node, name: str, default: Any = None) -> Any:
    return node.attributes.get(name, default)


def _moved(values: Any) -> Any:
    return _tuples(((v,) for v in values.ravel()), values.shape)


def _row(algebra: Any, graph: Graph, node: Node, row: Row, tensors: dict[str, Any]) -> Outcomes:
    (variable,) = (t for t in node.inputs[:2] if t in tensors)
    flat = tensors[variable].ravel()
    terms = tuple((algebra.stored(w), flat[i]) for w, i in row.terms)
    alpha, beta = (algebra.stored(np.float32(v)) for v in (row.alpha, row.beta))
    shift: Outcomes | None = None
    if row.bias is not None:
        tensor, at = row.bias
        source = tensors[tensor] if tensor in tensors else _stored(algebra, graph, tensor)
        shift = (
            (source.ravel()[at],) if row.beta == 1 else algebra.multiply(beta, source.ravel()[at])
        )
    if row.alpha == 1:
        choices = (None,) if shift is None else shift
        return _distinct(o for b in choices for o in algebra.sums(terms, b))
    total = algebra.sums(terms, None)
    if shift is None:
        return spread(algebra.multiply, (alpha,), total)
    return spread(algebra.multiply_add, (alpha,), total, shift)


def _batch_normalization(
    algebra: Any, node: Node, arguments: Sequence[Any], shape: tuple[int, ...]
) -> Any:
    x, *parameters = arguments
    epsilon = algebra.stored(np.float32(_attribute(node, "epsilon", 1e-5)))

    def one(at: tuple[int, ...]) -> Iterator[Number]:
        gamma, beta, mean, variance = (p[at[1]] for p in parameters)
        deviation = spread(algebra.sqrt, algebra.add(variance, epsilon))
        if Normalization.DIRECT in algebra.normalizations:
            centred = spread(algebra.divide, algebra.add(x[at], -mean), deviation)
            yield from spread(algebra.multiply_add, centred, (gamma,), (beta,))
        if Normalization.FOLDED in algebra.normalizations:
            for scale in spread(algebra.divide, (gamma,), deviation):
                for offset in algebra.multiply(mean, scale):
                    for shift in algebra.add(beta, -offset):
                        yield from algebra.multiply_add(x[at], scale, shift)

    return _tuples((_distinct(one(at)) for at in np.ndindex(*shape)), shape)


def _stored(algebra: Any, graph: Graph, tensor: str) -> Any:
    values = graph.constants[tensor]
    if values.dtype.kind in "iu":
        return values
    held = np.empty(values.shape, dtype=object)
    held.reshape(-1)[:] = [algebra.stored(float(v)) for v in values.ravel()]
    return held


def _tuples(items: Iterable[Outcomes], shape: tuple[int, ...]) -> Any:
    array = np.empty(shape, dtype=object)
    flat = array.reshape(-1)
    for i, item in enumerate(items):
        flat[i] = item
    return array
