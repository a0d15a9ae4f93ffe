"""A few moments at which a run is stopped; `interrupts.py` tries as many as one likes."""

from __future__ import annotations

import interrupts
import pytest


@pytest.mark.parametrize("seed", [1])
def test_stopped_runs_leave_nothing(seed: int) -> None:
    assert interrupts.faults(3, seed, longest=1.5) == []
