"""`refine axioms`: everything that a result says is reached from its claim, what is not permitted
is named, and a file that holds no result is one sentence."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_models
from onnx import helper

from refine.axioms.foundations import (
    FOUNDATIONS,
    OF_EVERY_FORMAT_LEMMA,
    OF_OVERFLOW,
    OF_RANGES,
    foundations_of,
)
from refine.axioms.permit import ASSUMPTIONS, KEYS
from refine.cli.main import run
from refine.lemmas.library import library
from refine.process.late import nothing_proved
from refine.results.answers import ExitCode
from refine.results.obligation import Kind

CONTRACT = """
name = "measured"
base = "sequential"
functions = "onnxruntime"
[evidence.order]
kind = "sampled"
source = "a look"
[evidence.fma]
kind = "proved"
"""

CLAIMS = Path(__file__).resolve().parents[1] / "refine" / "claims"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents of a proof, of a violation and of a difference."""
    here = tmp_path_factory.mktemp("axioms")
    model = small_models.mlp(here / "m.onnx")
    nodes = [helper.make_node("Gemm", ["x", "w"], ["g"], "gemm"),
             helper.make_node("Sigmoid", ["g"], ["y"], "sigmoid")]  # fmt: skip
    weights = {"w": np.ones((2, 2), np.float32)}
    small_models.save(here / "s.onnx", nodes, {"x": [1, 2]}, {"y": [1, 2]}, weights)
    (here / "measured.toml").write_text(CONTRACT)
    domain = ["--input", "-1..1", "--no-conform", "--quiet"]
    measured = ["--contract", str(here / "measured.toml"), "--no-search"]
    wide = small_models.mlp(here / "wide.onnx", (2, 4, 3))
    small = ["--no-conform", "--quiet", "--center", "0.5", "--radius", "1e-6"]
    asked = {
        "verified": ["check", str(model), "--eps", "1", *domain, "--z3", "sample"],
        "violated": ["check", str(model), "--eps", "1e-9", *domain, "--counterexample",
                     str(here / "c.json")],
        "measured": ["check", str(here / "s.onnx"), "--eps", "1", *domain, *measured],
        "label": ["check", str(wide), "--claim", "argmax", *small, "--no-search"],
        "inequality": ["check", str(model), "--claim", "Y[0] >= 1e6", *domain, "--counterexample",
                       str(here / "i.json")],
        "difference": ["diff", str(model), str(model), "--eps", "1", *domain, "--no-search"],
    }  # fmt: skip
    for name, arguments in asked.items():
        run([*arguments, "--json", str(here / f"{name}.json")])
    return here


def document(folder: Path, name: str = "verified") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return found


def axioms(folder: Path, name: str, *more: str) -> tuple[ExitCode, dict[str, Any]]:
    graph = folder / "graph.json"
    code = run(["axioms", str(folder / f"{name}.json"), "--json", str(graph), *more])
    found: dict[str, Any] = json.loads(graph.read_text())
    return code, found


def written(folder: Path, changed: Mapping[str, Any]) -> str:
    (folder / "changed.json").write_text(json.dumps(changed))
    return "changed"


def reached(graph: Mapping[str, Any]) -> set[str]:
    below = {node["id"]: node["rests_on"] for node in graph["nodes"]}
    seen: set[str] = set()
    rest = [graph["claim"]]
    while rest:
        here = rest.pop()
        if here not in seen:
            seen.add(here)
            rest += below[here]
    return seen


def has_cycle(graph: Mapping[str, Any]) -> bool:
    below = {node["id"]: set(node["rests_on"]) for node in graph["nodes"]}
    while ends := [key for key, rest in below.items() if not rest]:
        for key in ends:
            del below[key]
        for rest in below.values():
            rest.difference_update(ends)
    return bool(below)


def test_claims_on_what_runs_are_stated(folder: Path) -> None:
    """They have margins in place of a bound."""
    for name, verdict, words in (
        ("label", "verified", "the largest of "),
        ("inequality", "violated", "Y[0] >= 1e6: "),
    ):
        _, graph = axioms(folder, name)
        assert graph["claim"] == f"claim/{verdict}"
        assert graph["nodes"][0]["text"].startswith(words)
        assert reached(graph) == {node["id"] for node in graph["nodes"]}
        assert not has_cycle(graph)
    assert axioms(folder, "label")[0] is ExitCode.VERIFIED


@pytest.mark.parametrize("name", ["verified", "violated", "measured", "difference"])
def test_everything_is_reached_from_the_claim(folder: Path, name: str) -> None:
    code, graph = axioms(folder, name)
    assert code is ExitCode.VERIFIED
    assert graph["not_permitted"] == []
    assert {node["id"] for node in graph["nodes"]} == reached(graph)
    assert not has_cycle(graph)
    assert graph["nodes"][0]["id"] == graph["claim"]
    assert graph["versions"]["z3-solver"] == document(folder, name)["versions"]["z3-solver"]


def test_a_proof_rests_on_all_that_its_document_lists(folder: Path) -> None:
    said = document(folder)
    _, graph = axioms(folder, "verified")
    names = {node["name"] for node in graph["nodes"]}
    assert {o["name"] for o in said["lemmas"]} <= names
    assert {o["name"] for node in said["nodes"] for o in node["obligations"]} <= names
    assert {ground["field"] for ground in said["grounds"]} <= names
    assert {a["name"] for a in said["assumptions"]} <= names
    below = {node["id"]: node["rests_on"] for node in graph["nodes"]}
    (joint,) = [key for key in below if key.startswith("joint/joint/gemm1/")]
    assert joint in below[graph["claim"]]
    assert "application/rounding/gemm1" in below[joint]
    lemmas = {key for key in below["application/rounding/gemm1"] if key.startswith("lemma/")}
    assert lemmas
    assert any(key.startswith("format lemma/") for lemma in lemmas for key in below[lemma])
    (solver,) = [key for key in below if key.startswith("solver/")]
    assert solver == f"solver/z3 {said['versions']['z3-solver']}"
    assert all(solver in below[lemma] for lemma in lemmas)


def test_a_violation_rests_on_its_counterexample(folder: Path) -> None:
    _, graph = axioms(folder, "violated")
    kinds = {node["kind"] for node in graph["nodes"]}
    assert kinds == {"claim", "counterexample", "evaluation", "contract field", "assumption"}


def test_fields_and_functions_have_their_evidence(folder: Path) -> None:
    _, graph = axioms(folder, "measured")
    words = {n["name"]: n["word"] for n in graph["nodes"] if n["kind"] == "contract field"}
    assert words["order"] == "sampled"
    assert words["fma"] == "proved"
    assert words["bias"] == "assumed"
    assert {name for name in words if name.startswith("function ")}


def test_a_tree_names_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["axioms", str(folder / "measured.json")]) is ExitCode.VERIFIED
    shown = capsys.readouterr().out
    _, graph = axioms(folder, "measured")
    assert all(node["name"] in shown for node in graph["nodes"])
    assert "contract field order: sequential (sampled: a look)" in shown


# What is permitted


def permit(folder: Path, text: str) -> str:
    (folder / "permit.toml").write_text(f'schema = "refine-permit-1"\n{text}\n')
    return str(folder / "permit.toml")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('evidence = ["assumed", "proved"]', "contract field/order"),
        ("solvers = []", "solver/z3 "),
        ("evaluations = []", "evaluation/outward-rounded evaluation"),
        ('lemmas = ["composition"]', "lemma/secant-step"),
        ('assumptions = ["graph"]', "assumption/semantics"),
    ],
)
def test_what_is_not_permitted_is_named(
    folder: Path, text: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, graph = axioms(folder, "measured", "--permit", permit(folder, text))
    assert code is ExitCode.VIOLATED
    assert any(key.startswith(named) for key in graph["not_permitted"])
    kind, _, name = named.partition("/")
    assert f"not permitted: {kind} {name}" in capsys.readouterr().out


def test_what_is_listed_is_permitted(folder: Path) -> None:
    _, graph = axioms(folder, "measured")
    words: dict[str, set[str]] = {key: set() for key in KEYS}
    for node in graph["nodes"]:
        for key, kinds in KEYS.items():
            if node["kind"] in {kind.value for kind in kinds}:
                words[key].add(node["word"])
    text = "\n".join(f"{key} = {json.dumps(sorted(some))}" for key, some in words.items())
    code, _ = axioms(folder, "measured", "--permit", permit(folder, text))
    assert code is ExitCode.VERIFIED


@pytest.mark.parametrize(
    "text",
    [
        *("evidence = ['hearsay']", "solvers = 'z3'", "solver = []", "= 1", "lemmas = [1]"),
        *("assumptions = ['grahp']", "solvers = ['yices']", "lemmas = ['relu-relaxtion']"),
        "evaluations = ['exact']",
    ],
)
def test_a_wrong_permit_is_one_sentence(
    folder: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["axioms", str(folder / "verified.json"), "--permit", permit(folder, text)]
    assert run(arguments) is ExitCode.INPUT_ERROR
    said = capsys.readouterr().err
    assert said.startswith("refine: ")
    assert said.count("\n") == 1


def test_every_assumption_has_a_word() -> None:
    """Whatever the source assumes can be named in a permit."""
    every = "".join(p.read_text(encoding="utf-8") for p in sorted(CLAIMS.rglob("*.py")))
    named = set(re.findall(r'Assumption\(\s*"([^"]+)"', every))
    assert "trusted-margins" in named
    assert named <= set(ASSUMPTIONS)


def test_a_word_that_is_nearly_one_is_recognised(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "lemmas = ['relu-relaxtion']"
    arguments = ["axioms", str(folder / "verified.json"), "--permit", permit(folder, text)]
    assert run(arguments) is ExitCode.INPUT_ERROR
    assert "did you mean relu-relaxation?" in capsys.readouterr().err


def undecided(d: dict[str, Any]) -> str:
    owed = next(o for o in d["nodes"][0]["obligations"] if o["name"].startswith("joint/"))
    owed["verdict"] = "undecided"
    return f"joint/{owed['name']}"


def unlisted(d: dict[str, Any]) -> str:
    name = next(o for o in d["nodes"][0]["obligations"] if o.get("lemmas"))["lemmas"][0]
    d["lemmas"] = [o for o in d["lemmas"] if o["name"] != name]
    return f"lemma/{name}"


def invented(d: dict[str, Any]) -> str:
    d["lemmas"].append(d["lemmas"][0] | {"name": "all-is-well"})
    return "lemma/all-is-well"


def nobody(d: dict[str, Any]) -> str:
    d["lemmas"][0]["discharger"] = "a friend"
    return f"lemma/{d['lemmas'][0]['name']}"


def contradicted(d: dict[str, Any]) -> str:
    d["verdict"] = "contradiction"
    return "claim/contradiction"


@pytest.mark.parametrize("change", [undecided, unlisted, invented, nobody, contradicted])
def test_nothing_may_rest_on_a_fault(folder: Path, change: Callable[[dict[str, Any]], str]) -> None:
    changed = document(folder)
    key = change(changed)
    code, graph = axioms(folder, written(folder, changed))
    assert code is ExitCode.VIOLATED
    assert graph["not_permitted"] == [key]


def test_a_run_out_of_time_rests_on_nothing(folder: Path) -> None:
    changed = json.loads(nothing_proved().document)
    code, graph = axioms(folder, written(folder, changed))
    assert code is ExitCode.VERIFIED
    assert [node["kind"] for node in graph["nodes"]] == ["claim"]


# Files of strangers


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from places(inner, (*path, number))


def changed_at(d: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(d)
    here: Any = changed
    for step in path[:-1]:
        here = here[step]
    if value is None and isinstance(here, dict):
        del here[path[-1]]
    else:
        here[path[-1]] = value
    return changed


JUNK: tuple[Any, ...] = (None, 7, True, "x\x1b[31m\n\u202e", [], [[]], {}, {"name": []}, 1e999)


@pytest.mark.parametrize("name", ["verified", "violated", "measured"])
def test_a_changed_document_is_read_or_refused(folder: Path, name: str) -> None:
    said, draw = document(folder, name), random.Random(0)
    every = list(places({k: v for k, v in said.items() if k not in ("bounds", "notes")}))
    for path in draw.sample(every, min(len(every), 150)):
        file = written(folder, changed_at(said, path, draw.choice(JUNK)))
        code = run(["axioms", str(folder / f"{file}.json")])
        assert code in (ExitCode.VERIFIED, ExitCode.VIOLATED, ExitCode.INPUT_ERROR), path


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"[]", b"{}", b"nul", b"[" * 100_000, b'{"schema": "refine-result-1"}',
     b'{"schema": "refine-counterexample-1"}', b'{"schema": ["refine-result-1"]}'],
)  # fmt: skip
def test_what_is_no_result_is_one_sentence(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.json").write_bytes(content)
    assert run(["axioms", str(tmp_path / "r.json")]) is ExitCode.INPUT_ERROR
    said = capsys.readouterr().err
    assert said.startswith("refine: ")
    assert said.count("\n") == 1
    assert run(["axioms", str(tmp_path / "missing.json")]) is ExitCode.INPUT_ERROR


def test_text_of_a_file_does_not_steer_a_terminal(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = document(folder)
    changed["reason"] = "\x1b[2J\nnot permitted: nothing\u202e\ud800"
    assert run(["axioms", str(folder / f"{written(folder, changed)}.json")]) is ExitCode.VERIFIED
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert not any(line.startswith("not permitted") for line in shown.splitlines())


# Foundations


def test_lemmas_on_rounding_have_foundations() -> None:
    """Whatever is said to come from IEEE 754 or from format lemmas; algebra has none."""
    every = library((Kind.SCHEMA,))
    of_standard = [m for m in every if "IEEE 754" in m.source or "format lemma" in m.source]
    assert len(of_standard) > 3
    assert all(foundations_of(m.name, m.source) for m in of_standard)
    assert not any(foundations_of(m.name, m.source) for m in every if m.source == "algebra")
    assert foundations_of("new", "Knuth; format lemmas half-ulp-sum, sterbenz") == ("half-ulp-sum",)


def test_foundations_are_format_lemmas() -> None:
    families = {lemma.name.partition("[")[0] for lemma in library((Kind.FORMAT,))}
    named = {name for names in FOUNDATIONS.values() for name in names}
    everything = named | {*OF_EVERY_FORMAT_LEMMA, *OF_OVERFLOW, *OF_RANGES}
    assert everything <= families
    unused = families - everything
    assert unused == {"sterbenz"}  # nothing here is found to be exact by it
