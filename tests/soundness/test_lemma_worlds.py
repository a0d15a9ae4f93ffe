"""What lemmas assume is true of computations, and what they bound is what a computation errs by.

A proof shows that a lemma follows from what it assumes; it is silent where that is too strong, so
that no computation is like it, and where the error that it names is not the one that is meant. So
each lemma meets computations in a format of three bits, in exact arithmetic: the numbers that the
kernel would be given and those that were computed. Whatever the hypotheses hold of has to be as the
lemma assumes, and off by what the computation is off by.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from fractions import Fraction as Q
from math import floor, isqrt

import pytest

from encoders.lemmas.library import LEMMAS
from encoders.lemmas.reading.exact import Exact

EMIN = -2
U, LEAST = Q(1, 8), Q(1, 4)  # three bits
SPACING = 2 * U * LEAST
World = tuple[dict[str, Q], Q]
"""Numbers by name, and what the computation errs by."""


def power_below(x: Q) -> Q:
    """The largest power of two that is at most x, or the smallest normal number."""
    power = LEAST
    while power * 2 <= x:
        power *= 2
    return power


def nearest(z: Q) -> Q:
    ulp = 2 * U * power_below(abs(z))
    return round(z / ulp) * ulp


def truncated(z: Q) -> Q:
    ulp = 2 * U * power_below(abs(z))
    return (1 if z > 0 else -1) * floor(abs(z) / ulp) * ulp


def half_ulp(size: Q) -> Q:
    """No number up to `size` is rounded by more."""
    return U * power_below(size)


class Draw(random.Random):
    """Numbers that are interesting for a format of three bits."""

    def real(self, most: int = 4) -> Q:
        return Q(self.randint(-64 * most, 64 * most), 64) if self.random() < 0.9 else Q(0)

    def float(self, most: int = 4) -> Q:
        small = self.randint(-4, 4) * SPACING
        return small if self.random() < 0.3 else nearest(self.real(most))

    def power(self) -> Q:
        return self.choice([-1, 1]) * Q(2) ** self.randint(-4, 3)

    def beyond(self, x: Q) -> Q:
        """At least |x|, often exactly."""
        return abs(x) + self.choice([Q(0), Q(0), Q(1, 64), Q(1, 3), Q(1)])

    def around(self, x: Q) -> tuple[Q, Q]:
        """The ends of a range that holds x, often at an end."""
        gaps = [Q(0), Q(0), Q(1, 8), Q(1)]
        return x - self.choice(gaps), x + self.choice(gaps)

    def flush(self, x: Q, tiny: Q) -> Q:
        """x or, if it is below `tiny`, perhaps 0."""
        return Q(0) if abs(x) < tiny and self.random() < 0.7 else x

    def tiny(self) -> Q:
        return self.choice([Q(0), LEAST])


# --- rounding -------------------------------------------------------------------------------------


def after_rounding(d: Draw, z: Q, rnd: Q) -> World:
    size, tiny = d.beyond(z), d.tiny()
    fl = d.flush(rnd, tiny) if abs(z) < tiny else rnd
    power = power_below(size) * d.choice([1, 1, 2])
    numbers = {"z": z, "rnd": rnd, "fl": fl, "M": size, "P": power, "u": U, "least": LEAST}
    return {**numbers, "tiny": tiny}, fl - z


def rounded_result(d: Draw) -> World:
    z = d.choice([d.float() * d.float(), d.real(), d.real() / 16])
    return after_rounding(d, z, nearest(z))


def rounded_sum(d: Draw) -> World:
    z = d.float() + d.float()
    return after_rounding(d, z, nearest(z))


def rounded_copy(d: Draw) -> World:
    z = d.float()
    return after_rounding(d, z, z)


def rounded_scaling(d: Draw) -> World:
    z = d.float() * d.power()
    return after_rounding(d, z, nearest(z))


def aligned_rounding(d: Draw) -> World:
    k, share = d.randint(1, 3), Q(1, d.choice([4, 8, 64]))
    terms = [d.float() * d.float() for _ in range(k)] + [d.float()]
    largest = max(map(abs, terms))
    unit = share * power_below(largest)
    w = sum(((1 if t > 0 else -1) * floor(abs(t) / unit) * unit for t in terms), Q(0))
    z = sum(terms, Q(0))
    rnd, tiny = truncated(w), d.tiny()
    fl = d.flush(rnd, tiny) if abs(w) < tiny else rnd
    size = max(d.beyond(z), largest, LEAST)
    numbers = {"z": z, "w": w, "rnd": rnd, "fl": fl, "M": size, "k": Q(k), "share": share}
    return {**numbers, "u": U, "least": LEAST, "tiny": tiny}, fl - z


def truncated_factor(d: Draw) -> World:
    z = d.real()
    fl = truncated(z)
    return {"z": z, "fl": fl, "M": d.beyond(z), "e": half_ulp(abs(z))}, fl - z


def unrounded(d: Draw) -> World:
    z = d.real()
    return {"z": z, "fl": z, "M": d.beyond(z)}, Q(0)


def under_line(d: Draw) -> World:
    """A magnitude that a line is over, the rounding of no more than that, and what that is above
    the line; the line may be steep where h′ holds, and flat where it does not count."""
    z = d.choice([d.float() * d.float(), d.real(), d.real() / 16])
    t = d.beyond(z)
    a, p = t * Q(d.randint(0, 8), 8), d.choice([t, power_below(t) * d.choice([1, 2]), d.beyond(t)])
    size, fl = d.beyond(t), nearest(z)
    v = U / (1 + U)
    slope = d.choice([Q(0), v / 2, v, v + U, v + 4 * U])
    above = max(abs(fl - z) - slope * (t - a), Q(0))
    numbers = {"z": z, "fl": fl, "t": t, "a": a, "s": slope, "v": v, "eta": U * LEAST}
    reached = {"h": half_ulp(size), "h_reach": size, "near": half_ulp(p), "near_reach": p}
    return {**numbers, **reached}, above


# --- one operation --------------------------------------------------------------------------------


def rounding_model(d: Draw) -> World:
    s, z = d.real(), d.real()
    size, e = d.beyond(s), d.beyond(z - s)
    reach = d.beyond(size + e)
    numbers = {"s": s, "z": z, "fl": nearest(z), "M": size, "e": e}
    return {**numbers, "r": half_ulp(reach), "r_reach": reach}, nearest(z) - s


def no_overflow(d: Draw) -> World:
    """A result beyond the limit is as far off as you like."""
    z = d.real()
    size = d.beyond(z)
    limit = size + d.choice([-1, 0, 1])
    fl = nearest(z) if limit >= size else Q(1000)
    return {"z": z, "fl": fl, "M": size, "limit": limit, "e": half_ulp(abs(z))}, fl - z


def operand_loss(d: Draw) -> World:
    x, tiny = d.float(), d.tiny()
    lo, hi = d.around(x)
    read = d.flush(x, tiny)
    return {"x": x, "x_hat": read, "lo": lo, "hi": hi, "tiny": tiny}, read - x


def untouched(d: Draw) -> World:
    x = d.float()
    return {"x": x, "x_hat": x}, Q(0)


def stored_number(d: Draw) -> World:
    w = d.real()
    zeroed = Q(d.choice([0, 1]))
    x = d.choice([nearest(w), Q(0)]) if zeroed else nearest(w)
    return {"w": w, "w_hat": nearest(w), "x": x, "zeroed": zeroed}, x - w


def operands(d: Draw) -> dict[str, Q]:
    x, y, dx, dy = d.real(), d.real(), d.real() / 8, d.real() / 8
    bounds = {"X": d.beyond(x), "Y": d.beyond(y), "ex": d.beyond(dx), "ey": d.beyond(dy)}
    return {"x": x, "y": y, "dx": dx, "dy": dy, **bounds}


def computed_product(d: Draw) -> World:
    n = operands(d)
    return n, (n["x"] + n["dx"]) * (n["y"] + n["dy"]) - n["x"] * n["y"]


def computed_quotient(d: Draw) -> World:
    n = operands(d)
    if n["y"] == 0 or n["y"] + n["dy"] == 0:
        return computed_quotient(d)
    q = n["x"] / n["y"]
    moved = (n["x"] + n["dx"]) / (n["y"] + n["dy"])
    lo, hi = d.around(n["y"])
    below, above = d.around(n["y"] + n["dy"])
    away = d.choice([max(lo, -hi) - n["ey"], max(below, -above)])
    return {
        **n,
        "q": q,
        "Q": d.beyond(q),
        "d": moved - q,
        "lo": lo,
        "hi": hi,
        "low": away - d.choice([Q(0), Q(1, 64)]),
        "below": below,
        "above": above,
    }, moved - q


def computed_root(d: Draw) -> World:
    root, there = abs(d.real()), abs(d.real())
    e = d.beyond(there**2 - root**2)
    near = Q(isqrt(int(e * 2**20)) + 1, 2**10)
    low = max(root - d.choice([Q(0), Q(1, 8), Q(8)]), Q(0))
    floor_ = max(there**2 - d.choice([Q(0), Q(1)]), Q(0))
    numbers = {"root": root, "root_hat": there, "e": e, "near": near, "low": low}
    return {**numbers, "floor": floor_}, there - root


def by_known(d: Draw, known: Q | None, z: Q, others: dict[str, tuple[Q, Q]], fl: Q) -> World:
    """A result z of which one operand may be known: in [known, known], off by 0."""
    size = d.beyond(z)
    numbers = {"z": z, "fl": fl, "size": size}
    for name, (error, reach) in others.items():
        numbers |= {name: error, f"{name}_reach": max(reach, size)}
    if known is None:
        known, e = d.float(), d.choice([Q(0), Q(1, 8)])
        numbers |= {"lo": known, "hi": known + (0 if e else Q(1, 8)), "e": e}
    else:
        numbers |= {"lo": known, "hi": known, "e": Q(0)}
    return numbers, fl - z


def zero_operand(d: Draw) -> World:
    """A sum, beside 0 or not; r is an error that only rounding needs, c what only a copy loses."""
    tiny = d.tiny()
    c = (tiny, Q(8))
    if d.random() < 0.5:
        z = d.float()
        return by_known(d, Q(0), z, {"r": (half_ulp(Q(8)), Q(8)), "c": c}, d.flush(z, tiny))
    z = d.float() + d.float()
    known = d.choice([None, d.power()])
    return by_known(d, known, z, {"r": (half_ulp(Q(9)), Q(9)), "c": c}, nearest(z))


def known_factor(d: Draw) -> World:
    others = {"r": (half_ulp(Q(32)), Q(32)), "s": (U * LEAST, Q(32)), "c": (Q(0), Q(32))}
    x, w = d.float(), d.choice([Q(0), Q(1), Q(-1), d.power(), d.float()])
    fl = nearest(x * w)
    return by_known(d, d.choice([w, w, None]), x * w, others, fl)


def held_already(d: Draw) -> World:
    """A float64 product, in three bits at once."""
    z, wide = d.choice([d.float(), d.real()]), Q(0)
    narrow = abs(nearest(z) - z)
    fl = nearest(z)
    return {"z": z, "fl": fl, "wide": wide, "narrow": narrow, "e": narrow, "f": Q(0)}, fl - z


def integer_held(d: Draw) -> World:
    z = Q(d.randint(-20, 20))
    size, reach = d.beyond(z), Q(32)
    numbers = {"z": z, "fl": nearest(z), "size": size, "u": U}
    return {**numbers, "r": half_ulp(reach), "r_reach": reach}, nearest(z) - z


def jump(d: Draw) -> World:
    x = d.real()
    e = d.choice([Q(0), abs(d.real())])
    there = x + e * d.choice([-1, 0, 1])
    ends = [Q(floor(x - e)), Q(floor(x + e))]
    f, f_hat = Q(floor(x)), Q(floor(there))
    return {"f_x": f, "f_hat": f_hat, "lo": ends[0], "hi": ends[1], "e": e}, f_hat - f


def selected(d: Draw) -> World:
    a, b, e = d.real(), d.real(), d.choice([Q(0), Q(1)])
    c = Q(d.choice([0, 0, 1, -1]))
    lo, hi = (c, c) if d.random() < 0.5 else d.around(c)
    there = c if e == 0 else Q(d.choice([0, 1]))
    (a_lo, a_hi), (b_lo, b_hi), ea, eb = d.around(a), d.around(b), abs(d.real()), Q(1, 4)
    exact = a if c else b
    computed = a + d.choice([-ea, ea]) if there else b + d.choice([-eb, Q(0)])
    numbers = {"c": c, "lo": lo, "hi": hi, "e": e, "a": a, "b": b, "y": exact, "y_hat": computed}
    ends = {"a_lo": a_lo, "a_hi": a_hi, "b_lo": b_lo, "b_hi": b_hi, "ea": ea, "eb": eb}
    return {**numbers, **ends}, computed - exact


# --- sums -----------------------------------------------------------------------------------------


def chain_step(d: Draw) -> World:
    s, t, before, moved = d.real(), d.real(), d.real() / 8, d.real() / 8
    s_hat, p = s + before, t + moved
    pi, size = d.beyond(moved), d.beyond(s + t)
    error, reached = d.beyond(before) + pi, d.beyond(s_hat + p)
    reach = min(size + error, reached)
    fl = nearest(s_hat + p)
    numbers = {"s": s, "t": t, "s_hat": s_hat, "p": p, "fl": fl, "pi": pi, "M": size, "E": error}
    numbers |= {"R": reached, "h": half_ulp(reach), "h_reach": reach}
    return numbers, (fl - (s + t)) - (s_hat - s)


def operands_of_sum(d: Draw) -> World:
    a, b, tiny = d.float(), d.float(), d.tiny()
    a_hat, b_hat = d.flush(a, tiny), d.flush(b, tiny)
    numbers = {"a": a, "b": b, "a_hat": a_hat, "b_hat": b_hat, "tiny": tiny}
    return numbers, (a_hat + b_hat) - (a + b)


def chain(d: Draw) -> World:
    """Two steps of a running sum from a start that is off."""
    start, before = d.float(), abs(d.real()) / 8
    total, exact, steps = start, start + d.choice([before, -before]), Q(0)
    for _ in range(2):
        x = d.float()
        steps += abs(nearest(total + x) - (total + x))
        total, exact = nearest(total + x), exact + x
    error = d.beyond(before + steps)
    numbers = {"s": exact, "fl": total, "before": before, "steps": steps, "E": error}
    return numbers, total - exact


def tree(d: Draw, lost: Q, leaves: int, step: Q | None, cost: tuple[Q, Q]) -> dict[str, Q]:
    """A sum in some order: its exact value, what is computed, and what leaves and nodes cost."""
    if leaves == 1:
        x, off = d.float(2), d.choice([Q(0), SPACING])
        return {"s": x - off, "s_hat": x, "T": abs(x - off), "p": off, "m": Q(0), "cost": Q(0)}
    split = d.randint(1, leaves - 1)
    a, b = (tree(d, lost, n, step, cost) for n in (split, leaves - split))
    z = a["s_hat"] + b["s_hat"]
    if lost:
        z = d.flush(a["s_hat"], LEAST) + d.flush(b["s_hat"], LEAST)
    fl, spent = nearest(z), cost[0]
    if step is not None and d.random() < 0.5:
        fl, spent = z + d.choice([-step, step]), cost[1]
    s = a["s"] + b["s"]
    made = {"s": s, "s_hat": fl, "T": max(a["T"], b["T"], abs(s)), "p": a["p"] + b["p"]}
    made |= {"m": a["m"] + b["m"] + 1, "cost": a["cost"] + b["cost"] + spent}
    own = {"a": a["s"], "b": b["s"], "a_hat": a["s_hat"], "b_hat": b["s_hat"], "z": z, "fl": fl}
    own |= {"pa": a["p"], "pb": b["p"], "i": a["m"], "j": b["m"]}
    return {**made, **own, "ga": a["cost"], "gb": b["cost"], "g": spent}


def any_order(d: Draw) -> World:
    lost, reach = 2 * d.tiny(), Q(d.choice([2, 4, 8, 16]))
    r = half_ulp(reach)
    n = tree(d, lost, d.randint(2, 4), None, (r + lost, Q(0)))
    error = d.beyond(n["p"] + n["m"] * (r + lost))
    numbers = {**n, "E": error, "r": r, "r_reach": reach, "lost": lost}
    return numbers, n["fl"] - (n["a"] + n["b"])


def any_order_aligned(d: Draw) -> World:
    lost, reach, step = 2 * d.tiny(), Q(d.choice([4, 8, 16, 32])), Q(1)
    r = half_ulp(reach)
    n = tree(d, lost, d.randint(2, 4), step, (r + lost, step + lost))
    k = n["m"]
    error = d.beyond(n["p"] + n["m"] * (r + lost) + k * (step + lost))
    numbers = {**n, "E": error, "r": r, "r_reach": reach, "s": step, "s_reach": reach}
    return {**numbers, "lost": lost, "k": k}, n["fl"] - (n["a"] + n["b"])


def any_order_linear(d: Draw) -> World:
    """A running sum of a few terms that are off."""
    exact = [d.real(1) for _ in range(d.randint(2, 5))]
    terms = [nearest(x) for x in exact]
    total = terms[0]
    for x in terms[1:]:
        total = nearest(total + x)
    p = sum((abs(x - y) for x, y in zip(terms, exact, strict=True)), Q(0))
    numbers = {"s": sum(exact, Q(0)), "moved": sum(terms, Q(0)), "s_hat": total, "p": p, "u": U}
    numbers |= {"S": sum(map(abs, exact), Q(0)), "T": sum(map(abs, terms), Q(0))}
    return {**numbers, "m": Q(len(terms) - 1), "h": Q(0), "lost": Q(0)}, total - sum(exact, Q(0))


# --- normalisation --------------------------------------------------------------------------------


def normalized(d: Draw) -> World:
    """A quotient that is off, times a reciprocal that is off, rounded and perhaps flushed."""
    z, moved, factor = d.real(), d.real() / 8, 1 + d.real() / 16
    exact = (z + moved) * factor
    h, lost = half_ulp(abs(exact)), d.tiny()
    fl = d.flush(nearest(exact), lost) + d.choice([-h, Q(0), h])
    numbers = {"z": z, "d": moved, "k": factor, "fl": fl, "Z": d.beyond(z), "e": d.beyond(moved)}
    return {**numbers, "F": d.beyond(factor - 1), "h": h, "lost": lost}, fl - z


# --- errors joined --------------------------------------------------------------------------------


def error_sum(d: Draw) -> World:
    x, y, z = d.real(), d.real(), d.real()
    return {"x": x, "y": y, "z": z, "e": d.beyond(x - y), "f": d.beyond(y - z)}, x - z


def either_error(d: Draw) -> World:
    x, y = d.real(), d.real()
    two = [d.beyond(x - y), abs(d.real())]
    d.shuffle(two)
    return {"x": x, "y": y, "e": two[0], "f": two[1], "pi": two[1]}, x - y


def both_bounds(d: Draw) -> World:
    x, y = d.real(), d.real()
    return {"x": x, "y": y, "e": d.beyond(x - y), "f": d.beyond(x - y)}, x - y


def scaled_error(d: Draw) -> World:
    x, y, c = d.real(), d.real(), d.real()
    return {"x": x, "y": y, "c": c, "C": d.beyond(c), "e": d.beyond(x - y)}, c * x - c * y


def moved_error(d: Draw) -> World:
    x, y = d.real(), d.real()
    return {"x": x, "y": y, "z": x, "p": y, "e": d.beyond(x - y)}, x - y


def sum_of_errors(d: Draw) -> World:
    x, y, p, z = (d.real() for _ in range(4))
    numbers = {"x": x, "y": y, "P": p, "Z": z, "Pi": d.beyond(p - z), "pi": d.beyond(x - y)}
    return numbers, (p + x) - (z + y)


def affine_error(d: Draw) -> World:
    total, total_hat, a, a_hat, w = (d.real() for _ in range(5))
    numbers = {"A": total, "A_hat": total_hat, "a": a, "a_hat": a_hat, "w": w, "W": d.beyond(w)}
    numbers |= {"Pi": d.beyond(total_hat - total), "e": d.beyond(a_hat - a)}
    return numbers, (total_hat + w * a_hat) - (total + w * a)


def exact(d: Draw) -> World:
    x = d.real()
    return {"x": x, "y": x}, Q(0)


# --- differences ----------------------------------------------------------------------------------


def hinge(d: Draw) -> World:
    x, delta, b = d.real(), d.real(), d.choice([Q(0), Q(1), d.real(1), Q(1, 4)])
    m = d.choice([Q(1), b, (1 + b) / 2, d.real(1)])
    e, (lo, hi) = d.beyond(delta), d.around(x)
    bend = abs(1 - b)
    needed = {Q(1): bend * min(e, max(Q(0), e - lo)), b: bend * min(e, max(Q(0), hi + e))}
    half = bend * e / 2 + abs(m - (1 + b) / 2) * e
    r = d.choice([needed.get(m, half), half, d.beyond(half)])
    own = [v if v >= 0 else b * v for v in (x + delta, x)]
    numbers = {"x": x, "d": delta, "b": b, "m": m, "e": e, "X": lo, "X_hi": hi, "R": r}
    return {**numbers, "moved": own[0] - own[1]}, (own[0] - own[1]) - m * delta


def bounded(d: Draw) -> World:
    x = d.real()
    return {"d": x, "U": d.beyond(x)}, x


def truth_values(d: Draw) -> World:
    x, y = Q(d.choice([0, 1])), Q(d.choice([0, 1]))
    return {"x": x, "x_hat": y}, y - x


def between_ends(d: Draw) -> World:
    x, y = d.real(), d.real()
    (lo, hi), (low, high) = d.around(x), d.around(y)
    return {"lo": lo, "hi": hi, "low": low, "high": high, "x": x, "x_hat": y}, y - x


WORLDS: dict[str, Callable[[Draw], World]] = {
    "rounded-result": rounded_result,
    "rounded-sum": rounded_sum,
    "rounded-copy": rounded_copy,
    "rounded-scaling": rounded_scaling,
    "aligned-rounding": aligned_rounding,
    "truncated-factor": truncated_factor,
    "unrounded": unrounded,
    "rounding-under-line": under_line,
    "rounding-model": rounding_model,
    "no-overflow": no_overflow,
    "operand-loss": operand_loss,
    "untouched": untouched,
    "stored-number": stored_number,
    "computed-product": computed_product,
    "computed-quotient": computed_quotient,
    "computed-root": computed_root,
    "zero-operand": zero_operand,
    "known-factor": known_factor,
    "held-already": held_already,
    "integer-held": integer_held,
    "jump": jump,
    "selected": selected,
    "chain-step": chain_step,
    "operands-of-sum": operands_of_sum,
    "chain": chain,
    "sum-any-order": any_order,
    "sum-any-order-aligned": any_order_aligned,
    "any-order-linear": any_order_linear,
    "normalized": normalized,
    "error-sum": error_sum,
    "either-error": either_error,
    "both-bounds": both_bounds,
    "scaled-error": scaled_error,
    "moved-error": moved_error,
    "sum-of-errors": sum_of_errors,
    "affine-error": affine_error,
    "worst-error": either_error,
    "exact": exact,
    "hinge": hinge,
    "pulled-back": bounded,
    "given-error": bounded,
    "truth-values": truth_values,
    "between-ends": between_ends,
}


def worlds(name: str, made: Callable[[Draw], World], count: int) -> Iterator[World]:
    draw = Draw(name)
    for _ in range(count):
        yield made(draw)


@pytest.mark.parametrize("name", WORLDS)
def test_what_a_lemma_assumes_is_true_and_what_it_bounds_is_meant(name: str) -> None:
    assert_met(name, WORLDS[name])


def assert_met(name: str, made: Callable[[Draw], World]) -> None:
    """What the lemma assumes is true of computations, and they err by no more than it says."""
    (lemma,) = (m for m in LEMMAS if m.name == name)
    met, tight = 0, Q(0)
    for numbers, error in worlds(name, made, 200):
        exact = Exact(numbers)
        given = [*(formula for _, formula in lemma.signs), *lemma.hypotheses]
        if not all(exact.holds(formula) for formula in given):
            continue
        met += 1
        for formula in (*lemma.assumed, *lemma.by_way_of):
            assert exact.holds(formula), (formula, numbers)
        radius = exact.of(lemma.radius)
        assert abs(error) <= radius, numbers
        assert exact.of(lemma.error) == error, numbers
        assert all(exact.holds(formula) for formula in lemma.conclusions)
        tight = max(tight, abs(error) / radius if radius else Q(1))
    assert met >= 40
    assert tight >= Q(1, 4)
