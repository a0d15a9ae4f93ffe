"""torch.autograd and jax.grad beside the steps that `refine grad` writes, where they are installed:
nine networks on the same weights and batch, two steps (benchmarks/training.py)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from training import CASES, RATE, Jax, Torch, compared, measured

LIBRARIES = {"torch": Torch, "jax": Jax}


@pytest.mark.parametrize("name", LIBRARIES)
def test_two_steps_are_within_the_bound(name: str) -> None:
    pytest.importorskip(name)
    library = LIBRARIES[name]()
    for case, network in CASES.items():
        for row in measured(case, network, [library]):
            assert row["share"] <= 1, row
            assert row["gradient_bound"] < 1e-4, row


class Numpy:
    """Descent on a dense layer's mean square, its gradient by hand in float32; `wrong` is a factor
    on the gradient of the bias."""

    title = "numpy"

    def __init__(self, wrong: float = 1.0) -> None:
        self.wrong = np.float32(wrong)

    def steps(self, forward: Any, x: Any, target: Any, weights: Any) -> Any:
        held = dict(weights)
        for _ in range(2):
            y = forward(self, x, held)
            up = 2 * (y - target) / np.float32(y.size)
            slopes = {"W": x.T @ up, "b": up.sum(0) * self.wrong}
            held = {n: v - np.float32(RATE) * slopes[n] for n, v in held.items()}
            yield {
                "loss": np.mean((y - target) ** 2),
                **{f"grad_{n}": g for n, g in slopes.items()},
                **{f"next_{n}": v for n, v in held.items()},
            }


def test_a_gradient_by_hand_is_within_and_a_wrong_one_is_not() -> None:
    for row in measured("dense", CASES["dense"], [Numpy()]):
        assert row["share"] <= 1, row
    first, _ = measured("dense", CASES["dense"], [Numpy(wrong=1.001)])
    assert first["share"] > 1
    assert first["tensor"] in ("grad_b", "next_b")


def test_what_takes_the_most_of_its_bound_is_named() -> None:
    ours: dict[str, Any] = {"loss": np.ones(()), "grad_W": np.ones(2), "next_W": np.ones(2)}
    theirs = {**ours, "grad_W": np.array([1.0, 1.5])}
    joint = {"loss": np.zeros(()), "grad_W": np.ones(2), "next_W": np.zeros(2)}
    row = compared(ours, theirs, joint)
    assert (row["tensor"], row["share"]) == ("grad_W", 0.5)
    assert (row["gradient_apart"], row["gradient_bound"], row["weight_apart"]) == (0.5, 1.0, 0.0)
