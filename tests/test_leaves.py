"""Leaves of another verifier: checked again one by one, and trusted only where that is said."""

from __future__ import annotations

import itertools
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import helper
from small_models import mlp, save

import refine
from onnx_import.errors import ModelError
from refine.cli.main import run
from refine.results.verdict import ExitCode, Verdict


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def property_file(path: Path, unsafe: str, inputs: int = 2, outputs: int = 2) -> Path:
    names = [f"X_{i}" for i in range(inputs)] + [f"Y_{i}" for i in range(outputs)]
    text = "".join(f"(declare-const {n} Real)\n" for n in names)
    text += "".join(f"(assert (<= X_{i} 1.0))(assert (>= X_{i} -1.0))\n" for i in range(inputs))
    path.write_text(f"{text}(assert {unsafe})\n")
    return path


def leaves_file(path: Path, leaves: list[dict[str, Any]], **more: Any) -> str:
    document = {"schema": "refine-leaves-1", "verifier": "a verifier", "leaves": leaves, **more}
    path.write_text(json.dumps(document))
    return str(path)


def grid(cuts: list[float], **more: Any) -> list[dict[str, Any]]:
    """Boxes between cuts, in both inputs."""
    sides = list(itertools.pairwise([-1.0, *cuts, 1.0]))
    return [
        {"lo": [a[0], b[0]], "hi": [a[1], b[1]], **more} for a, b in itertools.product(sides, sides)
    ]


def asked(model: Path, leaves: str, **options: Any) -> refine.Result:
    usual: dict[str, Any] = {"budget": 0.0, "z3": "none", "conform": False, "no_search": True}
    return refine.check(
        model, "p.vnnlib", claim="property", margin_from=leaves, **{**usual, **options}
    )


def reached(model: Path, seed: int = 0) -> float:
    """About the least Y_0 − Y_1, by sampling onnxruntime."""
    session, rng = onnxruntime.InferenceSession(model), np.random.default_rng(seed)
    points = rng.uniform(-1, 1, (3000, 1, 2)).astype(np.float32)
    outputs = np.concatenate([np.asarray(session.run(None, {"x": p})[0]) for p in points])
    return float(np.min(outputs[:, 0].astype(np.float64) - outputs[:, 1]))


def test_leaves_prove_what_the_whole_box_does_not(folder: Path) -> None:
    model = mlp(folder / "m.onnx", (2, 12, 8, 2), seed=3, scale=0.5)
    level = reached(model) - 0.15
    property_file(folder / "p.vnnlib", f"(<= (- Y_0 Y_1) {level:.3f})")
    whole = leaves_file(folder / "one.json", [{}])
    assert asked(model, whole).verdict == "unknown"
    cuts = [round(0.1 * k, 1) for k in range(-9, 10)]  # 0.1 is no float32: nothing is left out
    found = asked(model, leaves_file(folder / "l.json", grid(cuts)))
    assert found.verdict == "verified"
    assert len(found.domain.boxes) == 1
    assert any("starts from 400 leaves of a verifier" in note for note in found.notes)


def test_a_domain_that_is_not_covered_is_refused(folder: Path) -> None:
    model = mlp(folder / "m.onnx", (2, 4, 2), seed=0)
    property_file(folder / "p.vnnlib", "(<= (- Y_0 Y_1) -99.0)")
    every = grid([-0.3, 0.1])
    assert asked(model, leaves_file(folder / "l.json", every)).verdict == "verified"
    for k in range(len(every)):
        with pytest.raises(ModelError, match="leave out a part of the domain"):
            asked(model, leaves_file(folder / "l.json", every[:k] + every[k + 1 :]))
    near = np.nextafter(np.float32(0.25), np.float32(1))
    for gap, covered in ((float(near), True), (float(np.nextafter(near, np.float32(1))), False)):
        halves = [
            {"lo": [-1, -1], "hi": [0.25, 1]},
            {"lo": [str(Decimal(gap)), -1], "hi": [1, 1]},  # the next float32, or the one after
        ]
        file = leaves_file(folder / "l.json", halves)
        if covered:
            assert asked(model, file).verdict == "verified"
        else:
            with pytest.raises(ModelError, match="leave out a part"):
                asked(model, file)


def test_a_trusted_margin_makes_an_answer_conditional(folder: Path) -> None:
    """Over the reals nobody here proves it without branching; the number says on whom it rests."""
    model = mlp(folder / "m.onnx", (2, 12, 8, 2), seed=3, scale=0.5)
    level = reached(model) - 0.05
    property_file(folder / "p.vnnlib", f"(<= (- Y_0 Y_1) {level:.3f})")
    error = refine.bound(model, "-1..1", margin=0, budget=0.0, z3="none", conform=False).bound
    for factor, verdict in ((0.5, Verdict.UNKNOWN), (1.5, Verdict.CONDITIONAL)):
        margin = {"conjunction": 0, "row": 0, "margin": factor * error}
        found = asked(model, leaves_file(folder / "l.json", [{"margins": [margin]}]))
        assert found.verdict is verdict
        assert not found
        assert not found.verdict
    assert found.exit_code is ExitCode.CONDITIONAL
    assert "if a verifier is right about margins" in found.reason
    (rests,) = [a for a in found.assumptions if a.name == "trusted-margins"]
    assert "l.json, sha256" in rests.text
    assert json.loads(found.to_json())["verdict"] == "conditional"


def test_an_answer_with_trusted_margins_lists_both_proofs(folder: Path) -> None:
    """Once each, in the JSON as in what is dumped: what the claim rests on is among them."""
    model = mlp(folder / "m.onnx", (2, 12, 8, 2), seed=3, scale=0.5)
    property_file(folder / "p.vnnlib", f"(<= (- Y_0 Y_1) {reached(model) - 0.05:.3f})")
    leaves = leaves_file(
        folder / "l.json", [{"margins": [{"conjunction": 0, "row": 0, "margin": 0.05}]}]
    )
    written: dict[str, Any] = {"json": folder / "r.json", "dump_smt2": folder / "queries"}
    found = asked(model, leaves, **written)
    assert found.verdict == "conditional"
    every = [(o.name, o.node) for o in found.every_obligation]
    assert len(set(every)) == len(every)
    of_nodes = {o.name for n in found.nodes for o in n.obligations}
    assert {f"{n}/claim/property" for n in ("within-tolerance", "trusted-margin")} <= of_nodes
    used = [o.application.lemma for o in found.every_obligation if o.application]
    assert {lemma.name for lemma in used if lemma} <= {o.name for o in found.obligations}
    document = json.loads((folder / "r.json").read_text())
    listed = [(o["name"], n["name"]) for n in document["nodes"] for o in n["obligations"]]
    listed += [(o["name"], "") for o in document["lemmas"]]
    assert sorted(listed) == sorted(every)
    dumped = (folder / "queries").glob("*-instance-*[!s].smt2")
    titles = [p.read_text().splitlines()[0].removeprefix("; instance ") for p in dumped]
    applied = [f"{o.name} at {o.node}" for o in found.every_obligation if o.application]
    assert sorted(titles) == sorted(applied)


def test_a_trusted_margin_that_is_false_does_not_hide_a_violation(folder: Path) -> None:
    model = mlp(folder / "m.onnx", (2, 12, 8, 2), seed=3, scale=0.5)
    property_file(folder / "p.vnnlib", f"(<= (- Y_0 Y_1) {reached(model) + 0.1:.3f})")
    margin = {"conjunction": 0, "margin": 0.2}
    found = asked(model, leaves_file(folder / "l.json", [{"margins": [margin]}]), no_search=False)
    assert found.verdict == "violated"


def test_each_conjunction_needs_its_margin(folder: Path) -> None:
    """Of a conjunction with two rows, a margin that names none speaks of the worse of both."""
    nodes = [
        helper.make_node("Add", ["x", "big"], ["a"]),
        helper.make_node("Sub", ["a", "big"], ["b"]),
        helper.make_node("Sub", ["b", "x"], ["d"]),
        helper.make_node("Mul", ["d", "scale"], ["y"]),
    ]
    weights = {
        "big": np.array([2.0**23], np.float32),
        "scale": np.array([1.0, 4.0], np.float32),
    }  # over the reals y = 0; executions are within 1/2 and 2
    model = save(folder / "m.onnx", nodes, {"x": [2]}, {"y": [2]}, weights)
    property_file(folder / "p.vnnlib", "(or (and (<= Y_0 -0.1) (<= Y_1 -0.1)) (<= Y_0 -0.2))")
    of_row = {"conjunction": 0, "row": 0, "margin": 0.6}
    of_any = {"conjunction": 0, "margin": 0.6}
    more = {"conjunction": 0, "margin": 2.1}
    other = {"conjunction": 1, "row": 0, "margin": 0.6}
    for margins, verdict in (
        ([of_row], "unknown"),
        ([other], "unknown"),
        ([of_any, other], "unknown"),
        ([of_row, other], "conditional"),
        ([more, other], "conditional"),
    ):
        found = asked(model, leaves_file(folder / "l.json", [{"margins": margins}]))
        assert found.verdict == verdict, margins


WRONG: list[tuple[Any, str]] = [
    ([], "there is no leaf"),
    ([{"lo": [0, 0]}], "'hi' is no list"),
    ([{"lo": [0, 0], "hi": [1]}], "'hi' has 1 numbers, but the inputs 2"),
    ([{"lo": [0, 1], "hi": [1, 0]}], "'lo' is above its 'hi' at X_1"),
    ([{"lo": [0, "a"], "hi": [1, 1]}], "'a' is not a finite decimal number"),
    ([{"lo": [0, None], "hi": [1, 1]}], "no number"),
    ([{"margins": [{"conjunction": 1, "margin": 1}]}], "there are 0 to 0"),
    ([{"margins": [{"conjunction": 0, "row": 2, "margin": 1}]}], "there are 0 to 0"),
    ([{"margins": [{"conjunction": 0}]}], "needs 'conjunction' and 'margin'"),
    ([{"margin": 1}], "no key 'margin'"),
    ([3], "a leaf is no object"),
    ({}, "'leaves' is no list"),
    ([{"lo": [0, float("nan")], "hi": [1, 1]}], "not a JSON file of numbers"),
]


@pytest.mark.parametrize(("leaves", "why"), WRONG, ids=[why for _, why in WRONG])
def test_files_that_hold_no_leaves(folder: Path, leaves: Any, why: str) -> None:
    model = mlp(folder / "m.onnx", (2, 4, 2), seed=0)
    property_file(folder / "p.vnnlib", "(<= (- Y_0 Y_1) -99.0)")
    with pytest.raises(ModelError, match=why):
        asked(model, leaves_file(folder / "l.json", leaves))


def test_on_the_command_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mlp(folder / "m.onnx", (2, 12, 8, 2), seed=3, scale=0.5)
    property_file(folder / "p.vnnlib", f"(<= (- Y_0 Y_1) {reached(folder / 'm.onnx') - 0.05:.3f})")
    margin = {"conjunction": 0, "row": 0, "margin": 0.05}
    leaves_file(folder / "l.json", [{"margins": [margin]}])
    arguments = ["check", "m.onnx", "--vnnlib", "p.vnnlib", "--no-conform", "--budget", "0"]
    claimed = [*arguments, "--claim", "property", "--margin-from", "l.json", "--json", "r.json"]
    assert run(claimed) is ExitCode.CONDITIONAL
    assert "conditional" in capsys.readouterr().out
    assert run(["axioms", "r.json"]) is ExitCode.VERIFIED
    assert "trusted-margins" in capsys.readouterr().out
    assert run([*arguments, "--claim", "argmax", "--margin-from", "l.json"]) is ExitCode.INPUT_ERROR
