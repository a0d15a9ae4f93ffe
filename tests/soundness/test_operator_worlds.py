"""Lemmas on sums of products, functions and grids in the worlds of `test_lemma_worlds.py`."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction as Q
from math import floor

import pytest
from test_lemma_worlds import (
    LEAST,
    SPACING,
    Draw,
    U,
    World,
    assert_met,
    half_ulp,
    nearest,
    power_below,
    truncated,
)

# --- products and sums ----------------------------------------------------------------------------


def product_errors(d: Draw) -> World:
    """Products of stored coefficients that were rounded, in three bits, one after the other."""
    v, eta, n = U, U * LEAST, d.randint(1, 4)
    exact = computed = sizes = moved = Q(0)
    world: dict[str, Q] = {}
    for i in range(n):
        w, x = d.real(), d.float()
        p, z, a, b = nearest(nearest(w) * x), w * x, abs(nearest(w) * x), abs(nearest(w) - w)
        b *= abs(x)
        world = {"P": exact, "P_hat": computed, "p": p, "z": z, "a": a, "b": b, "i": Q(i)}
        world |= {"A": sizes, "B": moved, "v": v, "eta": eta}
        exact, computed, sizes, moved = exact + z, computed + p, sizes + a, moved + b
    total = {"S": d.beyond(sizes), "C": d.beyond(moved), "n": Q(n + d.choice([0, 1]))}
    return {**world, **total}, computed - exact


def flushed_sum(d: Draw) -> World:
    z, tiny = d.choice([d.float(), Q(1, 16), Q(-1, 8)]), d.tiny()
    fl = d.flush(z, tiny)
    return {"z": z, "fl": fl, "T": d.beyond(z), "tiny": tiny}, fl - z


def added(d: Draw) -> World:
    """Two stored numbers, of which one may be read as 0 or be 0."""
    tiny = d.tiny()
    exact = (d.float(), d.choice([d.float(), Q(0)]))
    x, y = (d.flush(v, tiny) for v in exact)
    e = d.beyond(x - exact[0]) + d.beyond(y - exact[1])
    size = d.beyond(exact[0] + exact[1])
    reach = size + e
    z = x + y
    fl = d.flush(nearest(z), tiny) if abs(z) < tiny else nearest(z)
    numbers = {"x": x, "y": y, "s": exact[0] + exact[1], "fl": fl, "e": e, "M": size, "tiny": tiny}
    numbers |= {"r": max(half_ulp(reach), tiny), "r_reach": reach, "c": tiny, "c_reach": reach}
    return {**numbers, "a": d.beyond(x), "b": d.choice([abs(y), d.beyond(y)])}, fl - (
        exact[0] + exact[1]
    )


def weights_changed(d: Draw) -> World:
    """A product of three terms with weights in three bits, where nothing is known of their signs
    or it is."""
    w, x = [d.real() for _ in range(3)], [d.float() for _ in range(3)]
    cut = [truncated(v) for v in w]
    s, s_hat = (sum((a * b for a, b in zip(v, x, strict=True)), Q(0)) for v in (w, cut))
    lo, hi = d.around(s_hat - s)
    return {"f_w": s, "f_w_hat": s_hat, "f_dw": s_hat - s, "lo": lo, "hi": hi}, s_hat - s


def relative(share: Q) -> tuple[Q, Q]:
    """What an addition and an aligned step multiply errors by, less 1."""
    return U / (1 + U), 2 * share + 2 * U * (1 + 2 * share)


def growth(d: Draw) -> World:
    """A root that is as large as the exponential lets it be, or not."""
    m, k, share = Q(d.randint(0, 4)), Q(d.randint(0, 4)), Q(1, d.choice([4, 64]))
    v, w = relative(share)
    y = (m * v + k * w) / 2**20
    t = y * d.choice([Q(0), Q(1, 2), Q(1)])
    root = 1 + t * d.choice([Q(0), Q(1, 2), 1 / (1 - t)])
    numbers = {"root": root, "t": t, "delta": v, "m": m, "k": k, "u": U, "share": share}
    return numbers, root - 1


def growth_squared(d: Draw) -> World:
    a = 1 + d.real(1)
    return {"a": a, "e": d.beyond(a - 1)}, a * a - 1


def any_order_growth(d: Draw) -> World:
    """A running sum of a few terms that are off, some of its nodes coarser."""
    share = Q(1, 64)
    v, w = relative(share)
    exact = [d.real(1) for _ in range(d.randint(2, 4))]
    terms = [nearest(x) for x in exact]
    total, m, k, g = terms[0], 0, 0, Q(1)
    for x in terms[1:]:
        coarse = d.random() < 0.3
        total = truncated(total + x) if coarse else nearest(total + x)
        m, k, g = m + (not coarse), k + coarse, g * (1 + (w if coarse else v))
    p = sum((abs(x - y) for x, y in zip(terms, exact, strict=True)), Q(0))
    sizes, s = sum(map(abs, exact), Q(0)), sum(exact, Q(0))
    off = p + k * SPACING
    numbers = {"s": s, "s_hat": total, "G": g, "g": d.beyond(g - 1), "A": sizes, "B": off, "p": p}
    numbers |= {
        "delta": v,
        "S": d.beyond(sizes),
        "m": Q(m),
        "k": Q(k),
        "u": U,
        "share": share,
        "h": Q(0),
    }
    return {**numbers, "lost": Q(0), "least": SPACING, "clamped": Q(0)}, total - s


# --- functions ------------------------------------------------------------------------------------


def square(x: Q) -> Q:
    return x * x


def bounded_slope(d: Draw) -> World:
    """The square between the argument and where it has moved to."""
    x, e = d.real(), d.choice([Q(0), abs(d.real())])
    there = x + e * d.choice([-1, 0, 1])
    slope = x + there
    low, high = d.around(slope)
    ends = sorted([square(x), square(there)])
    lo, hi = ends[0] - d.choice([Q(0), Q(1)]), ends[1] + d.choice([Q(0), Q(1), Q(8)])
    f, f_hat = square(x), square(there)
    numbers = {"d": there - x, "e": e, "s": slope, "S": low, "S_hi": high, "F": lo, "F_hi": hi}
    return {**numbers, "f_x": f, "f_hat": f_hat}, f_hat - f


def accuracy(d: Draw, rnd: Q, y: Q) -> World:
    tiny = d.tiny()
    fl = d.flush(rnd, tiny)
    lo, hi = d.around(y)
    size = max(abs(lo), abs(hi))
    return {"y": y, "rnd": rnd, "fl": fl, "M": size, "lo": lo, "hi": hi, "tiny": tiny}, fl - y


def in_ulps(d: Draw) -> World:
    """A result next to the nearest number, that is, within one and a half ulps."""
    y = d.choice([d.real(), d.real() / 16])
    rnd = nearest(y) + d.choice([-1, 0, 1]) * 2 * U * power_below(abs(y))
    numbers, error = accuracy(d, rnd, y)
    power = power_below(numbers["M"]) * d.choice([1, 1, 1, 2])
    return {**numbers, "P": power, "u": U, "least": LEAST, "ulps": Q(3, 2)}, error


def in_units(d: Draw) -> World:
    y = d.real(1)
    rnd = y + d.choice([-2, -1, 0, 2]) * U
    numbers, error = accuracy(d, rnd, y)
    return {**numbers, "u": U, "units": Q(2), "limit": Q(1)}, error


def formula_apart(d: Draw) -> World:
    y = d.real()
    return {"y": y, "z": nearest(y), "U": d.beyond(nearest(y) - y)}, nearest(y) - y


def branches(d: Draw) -> World:
    """1 + 2·|x|, one formula below 0 and one from there on, each as far off as it may be; a
    subnormal number may be read as 0, or its sign be."""
    x, tiny, slope = d.choice([d.float(), d.real(), d.real() / 16]), d.tiny(), Q(2)
    lo, hi = d.around(x)
    f, (below, above) = 1 + slope * abs(x), (d.choice([Q(0), Q(1, 8), Q(1)]) for _ in range(2))
    fl = f + d.choice([-1, 0, 1]) * (below if x < 0 else above)
    if -tiny < x < 0 and d.random() < 0.7:
        fl = 1 + d.choice([-1, 0, 1]) * (above + (slope + 2) * tiny)
    numbers = {"x": x, "f_x": f, "f_0": Q(1), "fl": fl, "lo": lo, "hi": hi, "S": slope}
    return {**numbers, "below": below, "above": above, "tiny": tiny}, fl - f


def powers_apart(d: Draw) -> World:
    """The second and the third power: |x|·x² ≤ D between them, (x³ − x²)/1 = x²·(x − 1)."""
    x, (n, m) = d.real(2), d.choice([(2, 3), (3, 2)])
    apart = abs(x**m - x**n)
    numbers = {"n": Q(n), "m": Q(m), "x_n": x**n, "x_m": x**m, "D": d.beyond(apart)}
    return {**numbers, "N": d.beyond(x**n), "K": d.beyond(x**m)}, x**m - x**n


# --- grids ----------------------------------------------------------------------------------------


def whole_steps(d: Draw) -> World:
    """Integers of [−4, 4] nearest to arguments; one that overflows is anything there."""
    u, e = d.real(6), d.choice([Q(0), abs(d.real()), Q(1, 8)])
    there = u + e * d.choice([-1, 0, 1])
    overflows = d.random() < 0.2
    q, q_hat = (Q(min(max(round(v), -4), 4)) for v in (u, there))
    q_hat = Q(d.randint(-4, 4)) if overflows else q_hat
    lo, hi = (Q(-4), Q(4)) if d.random() < 0.5 or overflows else (min(q, q_hat), max(q, q_hat))
    k = Q(floor(e) + 1) if d.random() < 0.8 else hi - lo
    numbers = {"q": q, "q_hat": q_hat, "e": e, "lo": lo, "hi": hi, "k": k}
    return {**numbers, "M": Q(2 if overflows else 1), "limit": Q(1)}, q_hat - q


def cut_or_rounded(d: Draw) -> World:
    """The integer meant, the one that x is cut off to where it may have moved, and this or the
    nearest one, as runtimes have it."""
    x = d.choice([d.real(6), Q(d.randint(-4, 4))])
    cut = Q(int(x))
    fl = d.choice([cut, Q(round(x))])
    q = cut + d.choice([Q(0), Q(1), Q(-1)])
    numbers = {"q": q, "cut": cut, "fl": fl, "e": d.beyond(cut - q)}
    return {**numbers, "whole": Q(x == cut)}, fl - q


def own_grid(d: Draw) -> World:
    """Three numbers, 0 among them at least in the range, on the grid of 256 levels of theirs."""
    numbers = [d.real() for _ in range(3)]
    low, high = min(*numbers, Q(0)), max(*numbers, Q(0))
    s, x = (high - low) / 255, numbers[0]
    zero = round(-low / s) if s else 0
    f = (min(max(round(x / s) + zero, 0), 255) - zero) * s if s else Q(0)
    if d.random() < 0.5 and s:  # where a step is large beside the number
        x = s * d.choice([Q(1, 4), Q(-1, 3), Q(1, 2), Q(3, 4)])
        x = min(max(x, low), high)
        f = (min(max(round(x / s) + zero, 0), 255) - zero) * s
    world = {"x": x, "f": f, "s": s, "X": d.beyond(x)}
    return {**world, "lo": low - d.choice([Q(0), Q(1)]), "hi": high}, f - x


def computed_grid(d: Draw) -> World:
    """Numbers stored at a step that is off by 3·u, at either side of a boundary."""
    u, s, tiny = Q(1, 2**20), d.choice([Q(1), Q(1, 3)]), d.tiny() / 2**40
    x = s * (d.choice([Q(0), Q(1, 4), Q(1, 2), Q(-3, 2), Q(7, 2)]) + d.choice([Q(0), u, -u]))
    s_hat = s * (1 + d.choice([-3, 0, 3]) * u)
    f, z = round(x / s) * s, round(x / s_hat) * s_hat
    if d.random() < 0.3 and abs(2 * x) >= s:
        z = (round(x / s) + d.choice([Q(0), 1 if f <= x else -1])) * s_hat
        z = z if abs(z - x) <= (Q(1, 2) + 2**11 * u) * s_hat else f
    world = {"x": x, "f": f, "z": z, "s": s, "s_hat": s_hat, "u": u, "tiny": tiny}
    return {**world, "lo": Q(-1), "hi": 255 * s - 1, "X": d.beyond(x)}, z - f


def scaled_integers(d: Draw) -> World:
    u, tiny = Q(1, 2**20), d.tiny() / 2**60
    f, z = d.real(), d.real()
    w = z + d.choice([Q(0), Q(1, 64)])
    a, b, c, e = (d.choice([u, -u, Q(0)]) for _ in range(4))
    part = (1 + a) * (1 + b)
    g = part * (1 + c) * (1 + e)
    rho = tiny * 2**34 * d.choice([-1, 0, 1])
    world = {"f": f, "z": z, "w": w, "a": a, "b": b, "c": c, "d": e, "part": part, "g": g}
    world |= {"rho": rho, "y": w * g + rho, "u": u, "tiny": tiny, "least": d.choice([tiny, Q(1)])}
    return {**world, "A": d.beyond(z - f), "C": w - z, "B": d.beyond(w)}, w * g + rho - f


def off_grid(d: Draw) -> World:
    """A number of steps that a runtime has off by up to an eighth, stored in [−4, 4]."""
    t, zero, off = d.real(8), Q(d.randint(-3, 3)), d.choice([Q(0), Q(1, 8)])
    n = Q(round(t + d.choice([-1, 0, 1]) * off))
    if 2 * (t - round(t)) in (1, -1):  # a tie, broken either way
        n = d.choice([Q(floor(t)), Q(floor(t) + 1)])
    q, clamped = (min(max(v + zero, Q(-4)), Q(4)) for v in (n, t))
    numbers = {"t": t, "n": n, "zp": zero, "q": q, "off": off, "lo": Q(-4), "hi": Q(4)}
    return {**numbers, "M": Q(1), "limit": Q(1)}, q - clamped


def on_grid(d: Draw) -> World:
    """A number of steps near an integer that can be stored, computed with an error."""
    zero, a, off = Q(d.randint(-3, 3)), d.choice([Q(0), Q(1, 8)]), d.choice([Q(0), Q(1, 4)])
    there = Q(d.randint(-4, 4)) - zero
    t = there + d.choice([-1, 0, 1]) * a
    n = Q(round(t + d.choice([-1, 0, 1]) * off))
    q = min(max(n + zero, Q(-4)), Q(4))
    numbers = {"t": t, "n": n, "n0": there, "zp": zero, "q": q, "off": off, "a": a}
    return {**numbers, "lo": Q(-4), "hi": Q(4), "M": Q(1), "limit": Q(1)}, q - zero - t


def off_own_grid(d: Draw) -> World:
    """Numbers stored at a step that is off by 3·u, or near the end of the normal range."""
    u, s, tiny = Q(1, 2**20), d.choice([Q(1), Q(1, 3)]), d.tiny() / 2**12
    s_hat = s * (1 + d.choice([-3, 0, 3]) * u)
    z = d.randint(-100, 100) * s_hat
    x = z + d.choice([-1, 0, 1]) * (Q(1, 2) + 2**11 * u) * s_hat
    if d.random() < 0.2:
        x = z + d.choice([-1, 1]) * tiny * 2**12
    world = {"x": x, "z": z, "s": s, "s_hat": s_hat, "u": u, "tiny": tiny}
    return {**world, "lo": Q(-1), "hi": 255 * s - 1 + d.choice([Q(0), Q(1)])}, z - x


def both_sides(d: Draw) -> World:
    """A difference between what two functionals say of it."""
    u, v, e, f = d.real(), d.real(), abs(d.real()), abs(d.real())
    if -v - f > u + e:
        u = -v - f - e + abs(d.real())
    x = d.choice([u + e, -v - f, (u + e - v - f) / 2])
    rise, fall = u + d.choice([Q(0), Q(1)]), v + d.choice([Q(0), Q(1)])
    return {"u": u, "v": v, "e": e, "f": f, "d": x, "U": rise, "V": fall}, x


WORLDS: dict[str, Callable[[Draw], World]] = {
    "product-errors": product_errors,
    "flushed-sum": flushed_sum,
    "added": added,
    "weights-changed": weights_changed,
    "growth": growth,
    "growth-squared": growth_squared,
    "any-order-growth": any_order_growth,
    "bounded-slope": bounded_slope,
    "accuracy-in-ulps": in_ulps,
    "accuracy-in-units": in_units,
    "formula-apart": formula_apart,
    "branches": branches,
    "powers-apart": powers_apart,
    "whole-steps": whole_steps,
    "cut-or-rounded": cut_or_rounded,
    "own-grid": own_grid,
    "computed-own-grid": computed_grid,
    "scaled-integers": scaled_integers,
    "off-grid": off_grid,
    "on-grid": on_grid,
    "off-own-grid": off_own_grid,
    "both-sides": both_sides,
}


@pytest.mark.parametrize("name", WORLDS)
def test_what_a_lemma_assumes_is_true_and_what_it_bounds_is_meant(name: str) -> None:
    assert_met(name, WORLDS[name])
