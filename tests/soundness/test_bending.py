"""Functionals of numbers that move together, to the second order, against balls of 300 bits."""

from __future__ import annotations

from functools import reduce

import flint
import numpy as np
import numpy.typing as npt
import pytest

from encoders.families.rows.softmax_bounds import softmax_jacobian, softmax_range
from encoders.numbers.enclosure import Interval, LinearPart, add_down, add_up, point, signed_sums_up
from encoders.numbers.forms import Formed, Forms
from encoders.operator import Contribution
from encoders.relaxations.bending import bent_product
from encoders.relaxations.bilinear import Bilinear
from encoders.relaxations.probabilities.bends import bent_shares
from encoders.relaxations.probabilities.planes import (
    differences,
    differences_of,
    share_planes,
)
from encoders.relaxations.probabilities.shares import (
    apart,
    by_planes,
    share_values,
)
from encoders.relaxations.probabilities.slopes import largest_means, own_slopes
from encoders.relaxations.row_maps import row_charge, row_values
from encoders.relaxations.rows import rows_along

Array = npt.NDArray[np.float64]
REACHES = (0.0, 1e-14, 1e-9, 1e-4, 0.05, 0.4, 1.5, 8.0)


def forms(rng: np.random.Generator, shape: tuple[int, ...], unknowns: int, reach: float) -> Forms:
    moves = reach / unknowns * rng.uniform(-1, 1, (*shape, unknowns))
    moves *= rng.random(moves.shape) < 0.7
    rest = reach * rng.choice([0.0, 1e-3, 0.2], shape) * rng.random(shape)
    return Forms(rng.uniform(-2, 2, shape), moves, rest)


def formed(rng: np.random.Generator, given: Forms) -> Formed:
    """Ranges that hold all that forms do, some wider on one side."""
    wide = given.wide * np.where(rng.random(given.wide.shape) < 0.3, 1.5, 1.0)
    low = add_down(given.middle, -given.wide)
    return Formed(low, add_up(given.middle, wide), forms=given)


def points(
    rng: np.random.Generator, given: list[Forms], towards: list[Array]
) -> list[list[list[flint.arb]]]:
    """Numbers of each of these tensors, flat, at the same t: at corners where one of the directions
    (one of each tensor) leads furthest, and anywhere."""
    unknowns = given[0].moves.shape[-1]
    pulled = sum(
        c.reshape(-1) @ f.moves.reshape(-1, unknowns) for c, f in zip(towards, given, strict=True)
    )
    ts = [np.sign(pulled), -np.sign(pulled), np.zeros(unknowns)]
    ts += list(rng.choice([-1.0, 1.0], (6, unknowns))) + list(rng.uniform(-1, 1, (6, unknowns)))
    found = []
    for at, t in enumerate(ts):
        tensors = []
        for f, c in zip(given, towards, strict=True):
            side = np.sign(c) if at < 2 else rng.choice([-1.0, 0.0, 1.0], c.shape)
            side = -side if at == 1 else side
            tensors.append(
                [
                    flint.arb(float(m))
                    + sum(
                        (
                            flint.arb(float(a)) * flint.arb(float(b))
                            for a, b in zip(row, t, strict=True)
                        ),
                        flint.arb(0),
                    )
                    + flint.arb(float(r)) * flint.arb(float(s))
                    for m, row, r, s in zip(
                        f.middle.reshape(-1),
                        f.moves.reshape(-1, unknowns),
                        f.rest.reshape(-1),
                        side.reshape(-1),
                        strict=True,
                    )
                ]
            )
        found.append(tensors)
    return found


def dot(c: Array, x: list[flint.arb]) -> flint.arb:
    return sum(
        (flint.arb(float(a)) * b for a, b in zip(c.reshape(-1), x, strict=True)), flint.arb(0)
    )


def softmax(s: list[flint.arb], kept: npt.NDArray[np.bool_]) -> list[flint.arb]:
    powers = [v.exp() if k else flint.arb(0) for v, k in zip(s, kept.reshape(-1), strict=True)]
    total = sum(powers, flint.arb(0))
    return [v / total for v in powers]


def at_most(pulled: Contribution, k: int, x: list[list[flint.arb]]) -> flint.arb:
    total = flint.arb(float(pulled.constant[k]))
    for c, numbers in zip(pulled.coefficients, x, strict=True):
        if c is not None:
            total += dot(c[k], numbers)
    return total


def product(rows: int, terms: int, columns: int) -> Bilinear:
    def absolute(v: Array) -> Array:
        return np.asarray(np.maximum(np.abs(v), 2.0**-500 * (v != 0)))

    def on_x(y: Array) -> LinearPart:
        low = absolute(y)
        return LinearPart(lambda v: v @ y, lambda v: v @ low, lambda c: c @ y.T, terms, columns)

    def on_y(x: Array) -> LinearPart:
        low = absolute(x)
        return LinearPart(lambda v: x @ v, lambda v: low @ v, lambda c: x.T @ c, terms, rows)

    def outer(x: Array, y: Array) -> Array:
        return np.asarray(np.einsum("ijm,jdn->idmn", x, y))

    return Bilinear(on_x, on_y, lambda a, b: a @ b, (rows, columns), terms, outer=outer)


@pytest.mark.parametrize("reach", REACHES)
@pytest.mark.parametrize("seed", range(6))
def test_no_product_exceeds_its_plane_and_bends(seed: int, reach: float) -> None:
    rng = np.random.default_rng(seed)
    sizes = tuple(int(n) for n in rng.integers(1, 4, 3))
    b = product(*sizes)
    unknowns = int(rng.integers(1, 6))
    x, y = forms(rng, sizes[:2], unknowns, reach), forms(rng, sizes[1:], unknowns, reach)
    backward = bent_product(b, [formed(rng, x), formed(rng, y)])
    assert backward is not None
    c = rng.uniform(-1, 1, (4, *b.shape))
    pulled = backward(c)
    flint.ctx.prec = 300
    for k in range(len(c)):
        lead = [c[k] @ y.middle.T, x.middle.T @ c[k]]
        for one, two in points(rng, [x, y], lead):
            z = [
                sum(
                    (one[i * sizes[1] + j] * two[j * sizes[2] + d] for j in range(sizes[1])),
                    flint.arb(0),
                )
                for i in range(sizes[0])
                for d in range(sizes[2])
            ]
            assert not dot(c[k], z) > at_most(pulled, k, [one, two])


@pytest.mark.parametrize("reach", REACHES)
@pytest.mark.parametrize("seed", range(8))
def test_no_mean_exceeds_what_is_said_of_it(seed: int, reach: float) -> None:
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 3)), int(rng.integers(1, 6)))
    rows = rows_along(shape, (1,))
    kept = np.ones(shape, np.bool_)
    if seed % 3 == 2:
        kept &= rng.random(shape) < 0.6
        kept[:, 0] = True
    given = forms(rng, shape, int(rng.integers(1, 6)), reach)
    x = formed(rng, given)
    range_ = softmax_range(Interval(x.lo, x.hi), kept)
    middle = np.where(x.lo == x.hi, x.lo, 0.5 * x.lo + 0.5 * x.hi)
    slopes = softmax_jacobian(range_)
    centre = softmax_range(point(middle), kept)
    plain = row_values(
        rows, rows, x=Interval(x.lo, x.hi), range_=range_, at_middle=centre, jacobian=slopes
    )
    shares = share_values(
        rows, kept, Interval(x.lo, x.hi), range_=range_, at_middle=centre, jacobian=plain,
        charge=row_charge(slopes, 0.5 * (x.hi - x.lo)), forms=given if seed % 2 else None,
    )  # fmt: skip
    bent = bent_shares(
        rows, kept, x, given, range_=range_, at_middle=softmax_range(point(given.middle), kept)
    )
    planes = share_planes(x, kept, range_, centre, differences_of(rows, given))
    assert planes is not None
    c = np.concatenate([rng.uniform(-1, 1, (3, *shape)), np.eye(kept.size).reshape(-1, *shape)])
    c = np.concatenate([c, -c, 3.0 + 1e-9 * c[:2]])
    _, sloped, beside = by_planes(planes, apart(c, kept), kept, np.zeros(c.shape[:2]))
    ways = [shares.backward(c), bent(c), Contribution((sloped,), signed_sums_up(beside))]
    flint.ctx.prec = 300
    for k in range(len(c)):
        for (s,) in points(rng, [given], [c[k]]):
            parts = [
                softmax(s[at : at + shape[1]], kept[i])
                for i, at in enumerate(range(0, kept.size, shape[1]))
            ]
            p = reduce(lambda a, b: a + b, parts)
            for way, pulled in enumerate(ways):
                assert not dot(c[k], p) > at_most(pulled, k, [s]), way


@pytest.mark.parametrize("far", [0.0, 40.0, 300.0, 360.0, 372.0, 380.0, 395.0, 500.0, 740.0, 1e30])
def test_planes_hold_of_probabilities_whose_squares_are_below_float64(far: float) -> None:
    """A score of 380 less than another one has a probability of 1e-165."""
    at = np.array([[0.0, far, far - 1.0]])
    x = Interval(at - 0.2, at + np.array([0.01, 0.3, 0.2]))
    kept = np.ones((1, 3), np.bool_)
    middle = 0.5 * x.lo + 0.5 * x.hi
    planes = share_planes(
        x, kept, softmax_range(x, kept), softmax_range(point(middle), kept), differences(x)
    )
    if planes is None:
        assert far > 2.0**100
        return
    flint.ctx.prec = 300
    for s in (middle, x.lo, x.hi, np.where([1, 0, 0], x.lo, x.hi), np.where([1, 0, 0], x.hi, x.lo)):
        scores = [flint.arb(float(v)) for v in s[0]]
        for j, p in enumerate(softmax(scores, kept)):
            below, above = (
                flint.arb(float(side.beside[0, j])) + dot(side.slopes[0, j], scores)
                for side in (planes.below, planes.above)
            )
            assert not below > p
            assert not above < p


@pytest.mark.parametrize("seed", range(20))
def test_no_mean_of_weights_is_larger_than_the_largest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 7))
    q = rng.dirichlet(np.full(n, rng.choice([0.1, 1.0, 10.0])), 50)
    p = Interval(q.min(axis=0)[None], q.max(axis=0)[None])
    v = rng.choice([0.0, 1.0, 5.0], (1, n)) * rng.random((1, n))
    most = largest_means(p, v)[0, 0]
    assert np.all(q @ v[0] <= most + 1e-15)
    assert most <= v.max()
    if n > 1:  # one of these weighs as much as it may
        order = np.argsort(-v[0])
        whole = np.zeros(n)
        for at in order:
            behind = p.lo[0].sum() - p.lo[0][order[: list(order).index(at) + 1]].sum()
            whole[at] = min(p.hi[0][at], 1.0 - whole.sum() - behind)
        assert abs(float(whole @ v[0]) - most) < 1e-12


@pytest.mark.parametrize("seed", range(30))
def test_slopes_of_means_are_as_near_as_is_said(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 7))
    reach = float(rng.choice([0.0, 1e-13, 1e-3, 0.5, 3.0]))
    s = rng.uniform(-3, 3, n) + reach * rng.uniform(-1, 1, (40, n))
    range_ = softmax_range(Interval(s.min(axis=0)[None], s.max(axis=0)[None]))
    w = rng.uniform(-1, 1, (3, 1, n)) * rng.choice([1e-9, 1.0, 1e9])
    slopes, rest = own_slopes(range_, w, np.max(np.abs(w), axis=2, keepdims=True))
    flint.ctx.prec = 300
    for k in range(3):
        for point_ in s:
            p = softmax([flint.arb(float(v)) for v in point_], np.ones(n, np.bool_))
            mean = dot(w[k], p)
            for j, share in enumerate(p):
                g = share * (flint.arb(float(w[k, 0, j])) - mean)
                off = abs(g - flint.arb(float(slopes[k, 0, j])))
                assert not off > flint.arb(float(rest[k, 0, j]))
