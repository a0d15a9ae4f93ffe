"""Linear bounds on functionals of normalised rows hold for rows that move together."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from small_models import save

from encoders.contract.presets import IEEE_ANY
from encoders.families.rows.normalization import normalized
from encoders.numbers.enclosure import Interval, gamma
from encoders.numbers.row_forms import RowForms
from encoders.relaxations.tangent_rows import tangent, tangents
from onnx_import import load
from refine.bounds.local import leaning
from refine.bounds.local.forms import row_forms
from refine.bounds.network import InputBox, network_bounds

Array = np.ndarray


def draw(rng: np.random.Generator, *, centred: bool) -> tuple[RowForms, Interval, Array]:
    """Forms of rows' deviations, ranges of the rows, and (samples, rows, n) of such rows."""
    rows, n, m = 3, int(rng.integers(2, 9)), int(rng.integers(1, 6))
    size = float(rng.choice([1e-3, 0.1, 0.5, 2.0]))
    middle = rng.normal(size=(rows, n)) * rng.choice([1e-3, 1.0, 1e3])
    scale = size * np.linalg.norm(middle) / n
    moves = scale * rng.normal(size=(rows, n, m)) / m
    rest = scale * rng.uniform(0.0, 0.2) * rng.uniform(size=(rows, n))
    shift = np.zeros((rows, 1))
    if centred:
        middle, moves = (v - v.mean(axis=1, keepdims=True) for v in (middle, moves))
        rest = rest + 1e-14 * np.max(np.abs(middle))
        shift = rng.choice([0.0, 1.0, 100.0]) * rng.normal(size=(rows, 1))
    t = np.where(
        rng.random((400, 1)) < 0.7,
        rng.choice([-1.0, 1.0], (400, m)),
        rng.uniform(-1.0, 1.0, (400, m)),
    )
    off = rng.choice([-1.0, 1.0], (400, rows, n)) * rest
    if centred:  # what is taken for deviations must have no mean
        off = 0.5 * (off - off.mean(axis=2, keepdims=True))
    a = middle + np.einsum("rnm,sm->srn", moves, t) + off
    wide = np.sum(np.abs(moves), axis=2) + rest
    slack = 1e-14 * (np.abs(middle) + wide + np.abs(shift))
    x = Interval(middle + shift - wide - slack, middle + shift + wide + slack)
    return RowForms(middle, moves, rest), x, a


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("seed", range(60))
def test_no_row_exceeds_its_tangent(seed: int, centred: bool) -> None:
    rng = np.random.default_rng(seed)
    forms, x, a = draw(rng, centred=centred)
    epsilon = float(rng.choice([1e-12, 1e-5, 1.0]))
    known = forms if rng.random() < 0.7 else None
    found = normalized(x, epsilon, centred=centred, forms=known)
    real = np.mean(a * a, axis=2, keepdims=True)
    assert np.all(real <= found.variance.hi * (1.0 + gamma(64)))
    assert np.all(real >= found.variance.lo * (1.0 - gamma(64)))
    at = tangents(
        x, found.deviation, sigma=found.sigma, epsilon=epsilon, centred=centred, forms=known
    )
    assert at is not None
    v = rng.normal(size=(12, *x.shape)) * rng.choice([0.0, 1.0], (12, *x.shape))
    if centred:
        v = v - v.mean(axis=2, keepdims=True)
    near = tangent(at, v)
    z = a / np.sqrt(real + epsilon)
    # a row and the same one moved by a number: both are in the ranges, or the middle is
    shift = 0.5 * (x.lo + x.hi) - forms.middle if centred else np.zeros_like(x.lo)
    numbers = a + shift.mean(axis=1, keepdims=True)
    down = near.down[:, :, None] * at.along
    upper = np.einsum("krn,srn->skr", near.across[:, :, None] * v + down, numbers) + near.constant
    size = np.einsum("krn,srn->skr", np.abs(v), np.abs(z))
    assert np.all(np.einsum("krn,srn->skr", v, z) <= upper + 1e-10 * size + 1e-300)


def test_rows_that_move_together_reach_less_far_than_their_numbers_one_by_one() -> None:
    rng = np.random.default_rng(0)
    moves = rng.choice([-1.0, 1.0], (1, 6, 200))
    forms = RowForms(np.zeros((1, 6)), moves, np.zeros((1, 6)))
    signs = rng.choice([-1.0, 1.0], (2000, 200))
    for _ in range(3):  # each unknown to where the norm is larger
        for j in range(200):
            other = signs.copy()
            other[:, j] *= -1.0
            better = np.linalg.norm(other @ moves[0].T, axis=1) > np.linalg.norm(
                signs @ moves[0].T, axis=1
            )
            signs[better] = other[better]
    largest = np.max(np.linalg.norm(signs @ moves[0].T, axis=1))
    assert largest <= forms.reach[0] < 0.8 * np.linalg.norm(forms.wide[0])


def test_what_is_lost_falls_with_the_square_of_how_far_rows_vary() -> None:
    middle = np.array([[3.0, -1.0, -2.0, 0.5, -0.5]])
    v = np.eye(5)[:, None, :] - 0.2
    value = v[:, 0] @ middle[0] / np.sqrt(np.mean(middle**2))
    lost = []
    for size in (0.2, 0.1, 0.05):
        forms = RowForms(middle, size * (np.eye(5) - 0.2)[None], np.zeros((1, 5)))
        x = Interval(middle - size, middle + size)
        found = normalized(x, 1e-5, centred=True, forms=forms)
        at = tangents(
            x, found.deviation, sigma=found.sigma, epsilon=1e-5, centred=True, forms=forms
        )
        assert at is not None
        near = tangent(at, v)
        there = v[:, 0] * near.across + near.down * at.along
        lost.append(np.max(there @ middle[0] + near.constant[:, 0] - value))
    assert lost[0] > 3.0 * lost[1] > 9.0 * lost[2]


def test_norms_whose_squares_are_subnormal_say_no_more_than_they_are() -> None:
    """A square below 2^-1022 may be rounded up by a quarter."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        a = 10.0 ** rng.uniform(-163, -150) * rng.uniform(0.2, 1.0, (1, 3))
        square = sum(Fraction(float(v)) ** 2 for v in a[0])
        least = float(np.linalg.norm(a * 2.0**500) * 2.0**-500 * (1.0 - 2.0**-50))
        assert Fraction(least) ** 2 <= square
        x = Interval(-2.0 * a, 2.0 * a)
        found = normalized(x, 0.0, centred=False, least=np.array([[least]]))
        assert Fraction(float(found.sigma.lo[0, 0])) ** 2 <= square / 3


def test_what_lies_between_a_row_and_another_is_held_too() -> None:
    """Slopes are asked between rows and the middles of ranges, which need not be among them."""
    rng = np.random.default_rng(1)
    forms, _, a = draw(rng, centred=False)
    middles = forms.middle + 3.0 * forms.wide * rng.choice([-1.0, 1.0], forms.middle.shape)
    held = forms.holding(middles, 0.0)
    for share in (0.0, 0.5, 1.0):
        between = np.abs(share * a + (1.0 - share) * middles - held.middle)
        assert np.all(between <= held.wide * (1.0 + 1e-12))
        assert np.all(np.linalg.norm(between, axis=2) <= held.reach * (1.0 + 1e-12))
    assert np.any(np.abs(middles - forms.middle) > forms.wide)


def test_rows_that_are_normalised_hold_the_middles_of_their_ranges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where what numbers were enclosed by knows nothing of these."""

    def aside(*arguments: Any, **named: Any) -> RowForms | None:
        found = row_forms(*arguments, **named)
        if found is None:
            return None
        return RowForms(found.middle + 100.0, found.moves, found.rest)

    monkeypatch.setattr(leaning, "row_forms", aside)
    node = helper.make_node("LayerNormalization", ["x", "g"], ["y"], name="n")
    stored = {"g": np.ones(4, np.float32)}
    graph = load(save(tmp_path / "m.onnx", [node], {"x": [2, 4]}, {"y": [2, 4]}, stored, opset=18))
    middle = np.array([[1.0, -2.0, 3.0, 0.5], [0.0, 1.0, 2.0, 4.0]])
    box = InputBox({"x": Interval(middle - 0.4, middle + 0.4)}, {"x": np.zeros((2, 4))})
    (held,) = network_bounds(graph, box, IEEE_ANY).maps.leans.values()
    assert held.forms is not None
    off = np.abs(middle - middle.mean(axis=1, keepdims=True) - held.forms.middle)
    assert np.all(off <= held.forms.wide)
    assert np.all(np.linalg.norm(off, axis=1) <= held.forms.reach)
