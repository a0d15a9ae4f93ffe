"""Functions of decimal numbers of many digits, from series and from Python's own exp, ln and sqrt:
nothing of the program, nor of the library of balls that it stands on, is used."""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from typing import Any

import numpy as np

D = Decimal
DIGITS = 90
_AT_WORK = Context(prec=DIGITS, Emin=-(10**6), Emax=10**6)


def working(digits: int = DIGITS) -> Any:
    """A `with` block in which decimals have so many digits."""
    made = _AT_WORK.copy()
    made.prec = digits
    return localcontext(made)


def _series(first: Decimal, factor: Callable[[int], Decimal]) -> Decimal:
    """first + first·f(1) + first·f(1)·f(2) + …"""
    total = term = first
    k = 0
    while True:
        k += 1
        term *= factor(k)
        if total + term == total:
            return total
        total += term


def _pi() -> Decimal:
    """Machin's formula."""

    def arc(n: int) -> Decimal:
        total, power, k = D(0), D(1) / n, 1
        while True:
            more = power / k if k % 4 == 1 else -power / k
            if total + more == total:
                return total
            total, power, k = total + more, power / (n * n), k + 2

    return 16 * arc(5) - 4 * arc(239)


with working(DIGITS + 10):
    PI = _pi()


def sin(x: Decimal) -> Decimal:
    r = x % (2 * PI)
    square = r * r
    return _series(r, lambda k: -square / ((2 * k) * (2 * k + 1))) if r else r


def cos(x: Decimal) -> Decimal:
    r = x % (2 * PI)
    square = r * r
    return _series(D(1), lambda k: -square / ((2 * k - 1) * (2 * k)))


def atan(x: Decimal) -> Decimal:
    if abs(x) > D("0.1"):
        return 2 * atan(x / (1 + (1 + x * x).sqrt()))
    square, power, total, k = x * x, x, D(0), 1
    while power and total + power / k != total:
        total, power, k = total + power / k, -power * square, k + 2
    return total


def asin(x: Decimal) -> Decimal:
    return PI / 2 * x if abs(x) == 1 else atan(x / ((1 - x) * (1 + x)).sqrt())


def sinh(x: Decimal) -> Decimal:
    square = x * x
    if abs(x) < 1:
        return _series(x, lambda k: square / ((2 * k) * (2 * k + 1))) if x else x
    return (x.exp() - (-x).exp()) / 2


def cosh(x: Decimal) -> Decimal:
    return (x.exp() + (-x).exp()) / 2


def tanh(x: Decimal) -> Decimal:
    return sinh(x) / cosh(x)


def log1p(x: Decimal) -> Decimal:
    return (1 + x).ln() if abs(x) > D("1e-30") else x - x * x / 2


def asinh(x: Decimal) -> Decimal:
    found = log1p(abs(x) + x * x / (1 + (1 + x * x).sqrt()))
    return found.copy_sign(x)


def atanh(x: Decimal) -> Decimal:
    return log1p(2 * x / (1 - x)) / 2


def erf(x: Decimal) -> Decimal:
    """With digits for what its terms lose; 1 where nobody could tell."""
    if abs(x) > 16:
        return D(1).copy_sign(x)
    square = x * x
    with working(DIGITS + 2 * int(square)):
        total, power, k = D(0), x, 0
        while power and total + power / (2 * k + 1) != total:
            total += power / (2 * k + 1)
            k += 1
            power *= -square / k
        return 2 * total / PI.sqrt()


def expm1(x: Decimal) -> Decimal:
    return x.exp() - 1 if abs(x) > D("1e-3") else _series(x, lambda k: x / (k + 1)) if x else x


def sigmoid(x: Decimal) -> Decimal:
    return 1 / (1 + (-x).exp())


def softplus(x: Decimal) -> Decimal:
    return max(x, D(0)) + log1p((-abs(x)).exp())


def nearest(x: Decimal) -> Decimal:
    return x.quantize(D(1), rounding=ROUND_HALF_EVEN) if abs(x) < D(10) ** 60 else x


def decimals(values: Any) -> Any:
    """Floats, each as the number that it is."""
    held = np.asarray(values)
    made = np.empty(held.shape, object)
    made.reshape(-1)[:] = [D(v) for v in held.reshape(-1).tolist()]
    return made


def over(f: Callable[..., Decimal]) -> Callable[..., Any]:
    """A function of decimals, of arrays of them."""
    return np.vectorize(f, otypes=[object])
