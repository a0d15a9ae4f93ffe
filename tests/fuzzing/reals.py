"""Real values for the fuzzer: numpy object arrays of balls that enclose them.

Written against python-flint alone. A comparison that the balls leave open raises `Open`: the sample
is then of no use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flint
import numpy as np

BITS = 640
Array = Any


class Open(Exception):
    """The enclosures do not say which way a comparison goes, or a value has no real meaning."""


def _lifted(f: Callable[..., Any], count: int) -> Callable[..., Array]:
    lifted = np.frompyfunc(f, count, 1)
    return lambda *arrays: np.asarray(lifted(*arrays), dtype=object)


def _ball(value: float) -> Any:
    return flint.arb(float(value))


def _sqrt(a: Any) -> Any:
    if a == 0:
        return flint.arb(0)
    if not a >= 0:
        raise Open("root of a negative number")
    return a.sqrt()


def _log(a: Any) -> Any:
    if not a > 0:
        raise Open("logarithm of what is not positive")
    return a.log()


def _divide(a: Any, b: Any) -> Any:
    if not (b > 0 or b < 0):
        raise Open("division by what may be zero")
    return a / b


def _exp(a: Any) -> Any:
    if a.abs_lower() > 1e6:
        raise Open("an exponential beyond everything")
    return a.exp()


def _defined(name: str) -> Callable[[Any], Any]:
    """A function that has no value, or a pole, somewhere: no ball there is finite."""

    def function(a: Any) -> Any:
        found = getattr(a, name)()
        if not found.is_finite():
            raise Open(f"{name} where it may have no value")
        return found

    return function


def _sigmoid(a: Any) -> Any:
    return 1 / (1 + _exp(-a))


def _softplus(a: Any) -> Any:
    return _exp(a).log1p()


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "exp": _exp,
    "log": _log,
    "tanh": lambda a: a.tanh(),
    "sigmoid": _sigmoid,
    "erf": lambda a: a.erf(),
    "sin": lambda a: a.sin(),
    "cos": lambda a: a.cos(),
    "atan": lambda a: a.atan(),
    **{name: _defined(name) for name in ("asin", "acos", "acosh", "atanh", "tan")},
    "sinh": lambda a: a.sinh(),
    "cosh": lambda a: a.cosh(),
    "asinh": lambda a: a.asinh(),
    "softplus": _softplus,
}
_LIFTED = {name: _lifted(f, 1) for name, f in FUNCTIONS.items()}


def _less(a: Any, b: Any) -> bool:
    if a < b:
        return True
    if a >= b:
        return False
    raise Open("two values cannot be told apart")


def _floor(a: Any) -> Any:
    found = a.floor()
    if found.rad() != 0:
        raise Open("a value lies at a step")
    return found


def _nearest(a: Any) -> Any:
    """Ties go to the even integer."""
    twice = 2 * a
    half = (twice + 1) / 2
    if twice.is_integer() and not a.is_integer():
        low = a.floor()
        return low if (low / 2).is_integer() else low + 1
    return _floor(half)


class Reals:
    """Exact arithmetic; every operation encloses."""

    exact = True
    ball = staticmethod(_lifted(_ball, 1))
    add = staticmethod(np.add)
    subtract = staticmethod(np.subtract)
    multiply = staticmethod(np.multiply)
    divide = staticmethod(_lifted(_divide, 2))
    sqrt = staticmethod(_lifted(_sqrt, 1))
    negate = staticmethod(np.negative)
    absolute = staticmethod(_lifted(abs, 1))
    floor = staticmethod(_lifted(_floor, 1))
    nearest = staticmethod(_lifted(_nearest, 1))

    def of(self, kind: int) -> Reals:
        return self

    def stored(self, values: Array) -> Array:
        return self.constant(values)

    def integers(self, values: Array) -> Array:
        return self.constant(values)

    def truth(self, values: Array) -> Array:
        return self.constant(values)[0]

    def read(self, a: Array) -> Array:
        return a

    def converted(self, a: Array) -> Array:
        return a

    def steps(self, a: Array) -> Array:
        return self.nearest(a)

    def truncate(self, a: Array) -> Array:
        zero = self.constant(np.zeros(()))
        return self.floor(self.maximum(a, zero)) - self.floor(self.maximum(-a, zero))

    def remainder(self, a: Array, b: Array) -> Array:
        return a - b * self.truncate(self.divide(a, b))

    def root(self, a: Array, p: int) -> Array:
        return np.asarray(np.frompyfunc(lambda v: v.root(p) if v > 0 else _sqrt(v), 1, 1)(a))

    def constant(self, values: Array) -> Array:
        values = np.asarray(values)
        if values.dtype.kind in "iub":
            return _lifted(lambda v: flint.arb(int(v)), 1)(values)[None]
        return self.ball(values.astype(np.float64))[None]

    def rational(self, numerators: Array, denominator: int) -> Array:
        return self.constant(numerators) / flint.arb(denominator)

    def maximum(self, a: Array, b: Array) -> Array:
        return _lifted(lambda x, y: x.max(y), 2)(a, b)

    def minimum(self, a: Array, b: Array) -> Array:
        return _lifted(lambda x, y: x.min(y), 2)(a, b)

    def function(self, name: str, a: Array) -> Array:
        return _LIFTED[name](a)

    def less(self, a: Array, b: Array) -> Array:
        return _lifted(_less, 2)(a, b).astype(bool)

    def multiply_add(self, a: Array, b: Array, c: Array) -> Array:
        return a * b + c

    def products(self, a: Array, b: Array, bias: Array | None, place: Any, wide: bool) -> Array:
        """Σ a·b over the last axis, and a bias."""
        total = self.total(a * b, place)
        return total if bias is None else total + bias

    def total(self, terms: Array, place: Any) -> Array:
        return np.add.reduce(terms, axis=-1)

    def extreme(self, terms: Array, sign: int) -> Array:
        best = terms[..., 0]
        for k in range(1, terms.shape[-1]):
            best = (self.maximum if sign > 0 else self.minimum)(best, terms[..., k])
        return best

    def pi(self) -> Any:
        return flint.arb.pi()
