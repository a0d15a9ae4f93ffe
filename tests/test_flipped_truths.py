"""Claims that are true over the reals and false of some executions: a few of the benchmark's."""

from __future__ import annotations

from pathlib import Path

import pytest
from flipped_truths import NETWORKS, Way, answered

SAMPLE = (
    ("order: a label", "sequential"),
    ("order: a product with a stored matrix", "ort-cpu"),
    ("precision: a variance", "pairwise"),
    ("flush: a subnormal difference", "ieee-any"),
    ("flush: a subnormal difference", "sequential"),
    ("fused: a square and its negative", "cuda-tf32"),  # where no factor is cut
    ("TF32: weights that become equal", "cuda-tf32"),
    ("TF32: weights that become equal", "fp16"),
    ("float16: a long sum", "sequential"),
    ("float16: a long sum", "fp16"),
    ("float16: a margin", "exact"),
)


@pytest.mark.parametrize(("name", "contract"), SAMPLE, ids=map(": ".join, SAMPLE))
def test_no_answer_is_wrong_and_flips_at_hand_are_found(
    tmp_path: Path, name: str, contract: str
) -> None:
    (network,) = (n for n in NETWORKS if n.name == name)
    answer = answered(network, contract, network.write(tmp_path / "m.onnx"), budget=1.0)
    assert answer.wrong == ""
    assert answer.verdict == ("violated" if answer.at_hand else "verified")


def test_every_network_keeps_its_claim_over_the_reals() -> None:
    """In float64, whose roundings are far below the margins, and where nothing is cut."""

    class Wide(Way):
        def rounded(self, value: object, kind: object = None) -> float:
            return float(value)  # type: ignore[arg-type]

    for network in NETWORKS:
        if not network.name.startswith("fused"):  # of these, float64 errs at the claim's own end
            assert not any(network.breaks(network.run(Wide(), x)) for x in network.points())
