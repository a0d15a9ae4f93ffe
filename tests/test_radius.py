"""Bounds pass one gate: a negative one, or NaN, is +∞, said to be a bug, and verifies nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_models
from given_radii import off_by
from small_models import settled

from encoders import program as program_module
from encoders.numbers.radius import is_negative, is_radius, largest_radius, radius_of
from encoders.operator import NOT_NEGATIVE, DifferenceMap, Moved, RoundingBound
from encoders.registry import lookup
from refine.bounds import network as bounds_module
from refine.bounds.backward import pull_back
from refine.bounds.local import refining
from refine.results.verdict import Result, Verdict
from refine.scalar import branch_and_bound as boxes
from refine.scalar import first_order

NUMBERS = np.array([0.0, 1.0, -1e-300, np.nan, np.inf, -np.inf, -0.0])
SOUND = np.array([0.0, 1.0, np.inf, np.inf, np.inf, np.inf, 0.0])


def test_what_is_no_radius_becomes_infinite() -> None:
    np.testing.assert_array_equal(radius_of(NUMBERS), SOUND)
    assert [is_radius(v[None]) for v in NUMBERS] == [True, True, False, False, True, False, True]
    assert [is_negative(v[None]) for v in NUMBERS] == [
        False,
        False,
        True,
        False,
        False,
        True,
        False,
    ]
    assert not is_radius(np.broadcast_to(-1.0, (3, 4)))
    assert is_radius(np.zeros((0, 3)))
    assert largest_radius(np.array([1.0, -2.0])) == largest_radius(np.array([np.nan])) == np.inf
    assert largest_radius(np.zeros(0)) == 0.0


def test_no_bound_of_a_node_can_be_negative() -> None:
    bound = RoundingBound(off_by(NUMBERS))
    np.testing.assert_array_equal(bound.radius.bound, SOUND)
    assert bound.preconditions == (NOT_NEGATIVE,)
    assert not NOT_NEGATIVE.holds
    sound = RoundingBound(off_by(np.zeros(2)))
    assert NOT_NEGATIVE in replace(sound, radius=off_by(-np.ones(2))).preconditions
    assert not sound.preconditions

    def backward(c: Any) -> Moved:
        return Moved((c,), off_by(np.zeros(len(c))))

    mapped = DifferenceMap(off_by(NUMBERS), backward)
    np.testing.assert_array_equal(mapped.radius.bound, SOUND)
    assert mapped.flawed
    assert not DifferenceMap(off_by(np.array([np.nan, 1.0])), backward).flawed  # nothing is known


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return small_models.mlp(tmp_path / "net.onnx", (2, 4, 1))


def _negative_rounding(patch: pytest.MonkeyPatch) -> None:

    def changed(node: Any) -> Any:
        operator = lookup(node)

        def rounding(*a: Any) -> RoundingBound:
            negative = off_by(np.full(a[0].outputs[0].shape, -1.0))
            return replace(operator.rounding(*a), radius=negative)

        return replace(operator, rounding=rounding)

    patch.setattr(program_module, "lookup", changed)


def _negative_differences(patch: pytest.MonkeyPatch) -> None:

    def changed(node: Any) -> Any:
        operator = lookup(node)

        def differences(*a: Any) -> DifferenceMap:
            mapped = operator.differences(*a)
            return replace(mapped, radius=off_by(np.full(mapped.radius.shape, -1.0)))

        return replace(operator, differences=differences)

    patch.setattr(program_module, "lookup", changed)


def _negative_pull_back(patch: pytest.MonkeyPatch) -> None:

    def changed(*a: Any, **more: Any) -> Any:
        pulled = pull_back(*a, **more)
        if pulled.moved is None:
            return pulled
        return replace(pulled, moved=off_by(-pulled.moved.bound - 1.0))

    patch.setattr(refining, "pull_back", changed)


def _negative_network(patch: pytest.MonkeyPatch) -> None:
    old = bounds_module.NetworkBounds

    def changed(maps: Any, nodes: Any, radii: Any, *more: Any, **named: Any) -> Any:
        negative = {t: off_by(-1.0 - r.bound) for t, r in radii.items()}
        return old(maps, nodes, negative, *more, **named)

    patch.setattr(bounds_module, "NetworkBounds", changed)


@pytest.mark.parametrize(
    "slip",
    [
        _negative_rounding,
        _negative_differences,
        _negative_pull_back,
        _negative_network,
    ],
)
@pytest.mark.parametrize("budget", [0.0, 0.3])
def test_a_negative_bound_verifies_nothing_and_is_said(
    net: Path,
    slip: Callable[[pytest.MonkeyPatch], None],
    budget: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slip(monkeypatch)
    result = settled(net, "-1..1", eps="1000", **_quick(budget))
    assert result.verdict is Verdict.UNKNOWN
    assert "please report it" in result.reason or "to be reported" in result.reason
    assert result.bound >= 0.0


def _quick(budget: float) -> dict[str, Any]:
    return {"search": False, "conform": False, "budget": budget, "workers": 1}


def test_a_result_hides_no_sign(net: Path) -> None:
    good = settled(net, "-1..1", eps="1000", **_quick(0.0))
    assert good.verdict is Verdict.VERIFIED
    for wrong in (-1.0, np.nan):
        bad: Result = dataclasses.replace(good, bounds={"y": np.full((1, 1), wrong)})
        assert bad.bound == np.inf
        assert bad.verdict is Verdict.UNKNOWN
        assert any("please report it" in note for note in bad.notes)


def test_a_first_order_bound_is_no_nan(monkeypatch: pytest.MonkeyPatch, net: Path) -> None:
    """Comparisons with NaN are false: as the largest of several it would be lost."""
    old = first_order.analyse

    def changed(*a: Any) -> Any:
        found = old(*a)
        return replace(found, upper=np.where(np.arange(found.upper.size) == 0, np.nan, found.upper))

    monkeypatch.setattr(boxes, "analyse", changed)
    result = settled(_scalar(net.parent), "1..2", eps="1e-30", **_quick(1.0))
    assert result.verdict is Verdict.UNKNOWN
    plain = settled(_scalar(net.parent), "1..2", **_quick(0.0))
    assert result.bound >= plain.bound * 0.5


def _scalar(folder: Path) -> Path:
    from onnx import helper

    nodes = [
        helper.make_node("Mul", ["x", "x"], ["a"]),
        helper.make_node("Add", ["a", "x"], ["y"]),
    ]
    return small_models.save(folder / "scalar.onnx", nodes, {"x": [1]}, {"y": [1]})
