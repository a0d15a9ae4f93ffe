"""A search that goes where a proof halves boxes finds what lies in a corner of nothing."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import helper
from small_models import save

import refine
from encoders.contract.presets import SEQUENTIAL
from onnx_import import load
from refine.bounds.network import InputBox
from refine.bounds.properties.margins import Margins
from refine.domain.domain import DomainOptions, read_domain
from refine.domain.properties import Conjunction, Property, Row
from refine.process.pool import Here
from refine.proof.input_splitting import part_of, split_box
from refine.proof.proof import input_box
from refine.results.verdict import Tolerance
from refine.search import unsafe_inputs
from refine.search.evaluation import Hunt
from refine.search.unsafe_inputs import Following, reaching

PLACE = np.array([0.6180339, 0.3141592, 0.7071067], np.float32)
SHARP = np.float32(2.0**12)


def needle(path: Path) -> Path:
    """max(0, 1 − 2^12·Σ|x − place|): flat nearly everywhere, and 1 at one place."""
    eye = np.eye(3, dtype=np.float32)
    weights = {
        "w": np.concatenate([eye, -eye], axis=1),
        "b": np.concatenate([-PLACE, PLACE]).astype(np.float32),
        "v": np.full((6, 1), -SHARP, np.float32),
        "one": np.ones(1, np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["a"]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Gemm", ["r", "v", "one"], ["s"]),
        helper.make_node("Relu", ["s"], ["y"]),
    ]
    return save(path, nodes, {"x": [1, 3]}, {"y": [1, 1]}, weights)


def height(x: npt.NDArray[Any]) -> float:
    return float(max(0.0, 1.0 - float(SHARP) * np.sum(np.abs(x - PLACE.astype(np.float64)))))


def unsafe() -> Property:
    row = Row({0: Fraction(-1)}, {}, Fraction(-1, 4), strict=False)  # y ≥ 1/4
    return Property((Conjunction({}, (row,)),), "here")


def test_what_halving_leads_to_is_found(tmp_path: Path) -> None:
    graph = load(needle(tmp_path / "m.onnx"))
    domain = read_domain(graph, DomainOptions(inputs=("0..1",)), SEQUENTIAL.format_of)
    (box,) = domain.boxes
    by_chance = reaching(graph, SEQUENTIAL, unsafe(), box, seed=0, effort=0.1)
    assert by_chance[0].slack > 0  # random points and descents see nothing but flat ground
    problem = Margins(graph, SEQUENTIAL, unsafe())
    whole = input_box(box, domain, SEQUENTIAL)
    follower = Following(Hunt(graph, box, SEQUENTIAL, Tolerance()), unsafe(), seed=0)
    found: list[unsafe_inputs.Reaching] = []
    heard = 0

    def look(boxes: Any) -> bool:
        nonlocal heard
        heard += len(boxes)
        found.extend(follower.seen(boxes))
        return bool(found)

    split = split_box(
        problem,
        part_of(whole, problem.bounds(whole)),
        excess=lambda errors: max(float(np.max(e)) for e in errors.values()),
        enough=0.0,
        deadline=float("inf"),
        pool=Here(),
        look=look,
    )
    assert found
    assert heard < 5000
    assert split.bounded < 10000  # it ends there
    assert height(found[0].point["x"].astype(np.float64)) >= 0.25 - 1e-3
    assert found[0].slack <= 0


def test_it_settles_a_claim(tmp_path: Path) -> None:
    path = needle(tmp_path / "m.onnx")
    words: dict[str, Any] = {"z3": "none", "conform": False, "workers": 1, "budget": 60}
    found = refine.check(path, "0..1", claim="Y[0] <= 0.25", contract="sequential", **words)
    assert found.verdict.value == "violated"
    assert found.witness is not None
    assert height(np.asarray(found.witness.inputs["x"], np.float64)) > 0.25


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    graph = load(needle(tmp_path / "m.onnx"))
    domain = read_domain(graph, DomainOptions(inputs=("0..0.5",)), SEQUENTIAL.format_of)
    (box,) = domain.boxes
    follower = Following(Hunt(graph, box, SEQUENTIAL, Tolerance()), unsafe(), seed=0)
    whole = input_box(box, domain, SEQUENTIAL)
    for _ in range(6):
        assert follower.seen([InputBox(whole.values, whole.errors)] * 200) == ()
    assert follower.seen([]) == ()
