"""The JSON of a result, what --dump-smt2 writes and the certificate hold the same applications of
lemmas, all of them; each is a closed query in SMT-LIB, and holds in exact arithmetic."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import certified_networks
import numpy as np
import pytest
import small_models
import z3
from onnx import helper

import refine
from checker.arithmetic import Outside
from checker.check import check as check_certificate
from refine.certificate.recorded import MEMBER, SEAL, recorded, unmet
from refine.cli.main import run
from refine.lemmas.agreement import HYPOTHESES, scripts_in
from refine.lemmas.reading import instance
from refine.proof.solvers import Asker, Opinion, Solver
from refine.proof.z3_solver import solve
from refine.results.obligation import Outcome

ROOT = Path(__file__).resolve().parents[1]
node = helper.make_node


def demo(folder: Path) -> Path:
    return ROOT / "examples" / "demo" / "pendulum.onnx"


def convolution(folder: Path) -> Path:
    (example,) = (e for e in certified_networks.examples() if e.name == "image")
    return example.written(folder)


def quantised(folder: Path) -> Path:
    rng = np.random.default_rng(5)
    scale, zero = np.float32(0.02), np.int8(3)
    weights = {
        "scale": scale, "zero": zero, "w": rng.normal(size=(3, 4)).astype(np.float32),
        "axes": np.array([2, 2]),
    }  # fmt: skip
    nodes = [
        node("QuantizeLinear", ["x", "scale", "zero"], ["q"], "quantise"),
        node("DequantizeLinear", ["q", "scale", "zero"], ["r"], "dequantise"),
        node("MatMul", ["r", "w"], ["h"], "dense"),
        node("Reshape", ["h", "axes"], ["square"], "reshape"),
        node("Transpose", ["square"], ["y"], "turn"),
    ]
    path = folder / "quantised.onnx"
    return small_models.save(path, nodes, {"x": [1, 3]}, {"y": [2, 2]}, weights)


def normalised(folder: Path) -> Path:
    rng = np.random.default_rng(6)
    weights = {
        "w": rng.normal(size=(4, 4)).astype(np.float32),
        "scale": np.array([1.0, 0.5, 2.0, 1.5], np.float32),
        "shift": np.array([0.1, 0.0, -0.2, 0.3], np.float32),
    }
    nodes = [
        node("MatMul", ["x", "w"], ["h"], "dense"),
        node("LayerNormalization", ["h", "scale", "shift"], ["n"], "normalise", epsilon=1e-3),
        node("Softmax", ["n"], ["y"], "softmax"),
    ]
    path = folder / "normalised.onnx"
    return small_models.save(path, nodes, {"x": [2, 4]}, {"y": [2, 4]}, weights)


def split(folder: Path) -> Path:
    return small_models.mlp(folder / "split.onnx", (2, 12, 12, 1), seed=3)


@dataclass(frozen=True)
class Case:
    """A network, ε, and words of the check; whether the checker has a meaning for it."""

    model: Callable[[Path], Path]
    epsilon: float
    words: dict[str, Any]
    inside: bool = True


CASES = [
    Case(demo, 4.3e-4, {}),
    Case(convolution, 1.0, {}),
    Case(quantised, 10.0, {}, inside=False),
    Case(normalised, 1.0, {}, inside=False),
    Case(split, 5e-5, {"budget": 60}),
]


@dataclass(frozen=True)
class Written:
    """What a check wrote of a case."""

    case: Case
    model: Path
    certificate: Path
    queries: Path
    document: dict[str, Any]

    @property
    def of_json(self) -> list[dict[str, Any]]:
        return [
            {"name": o["name"], "node": n["name"], **o["application"]}
            for n in self.document["nodes"]
            for o in n["obligations"]
            if "application" in o
        ]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.model.__name__)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    case: Case = request.param
    folder = tmp_path_factory.mktemp("record")
    model, certificate = case.model(folder), folder / "it.cert"
    result = refine.check(
        model, (-1, 1), case.epsilon, certificate=certificate, json=folder / "it.json",
        dump_smt2=folder / "queries", no_search=True, z3="none", conform=False, workers=1,
        **{"budget": 0, **case.words},
    )  # fmt: skip
    assert result.verdict == "verified"
    document = json.loads((folder / "it.json").read_text())
    return Written(case, model, certificate, folder / "queries", document)


def numbers_in(script: str) -> dict[str, str]:
    """The numbers that a query gives to its unknowns, as Z3 reads it."""
    found = {}
    for assertion in z3.parse_smt2_string(script):
        if z3.is_eq(assertion) and z3.is_real(assertion.arg(0)):
            sides = [z3.simplify(side) for side in assertion.children()]
            (value,) = (side for side in sides if z3.is_rational_value(side))
            (name,) = (side for side in sides if not z3.is_rational_value(side))
            found[str(name)] = str(value.as_fraction())
    return found


def rational(number: str) -> str:
    return number if "0x" not in number else str(Fraction(float.fromhex(number)))


def test_all_three_hold_the_same_applications(written: Written) -> None:
    held = written.of_json
    assert len(held) > 5
    assert len({json.dumps(entry) for entry in held}) == len(held)
    assert recorded(written.certificate.read_bytes()) == held
    scripts = {}
    for path in sorted(written.queries.glob("*-instance-*.smt2")):
        if not path.name.endswith(HYPOTHESES):
            script = path.read_text(encoding="utf-8")
            name, _, at = script.splitlines()[0].removeprefix("; instance ").partition(" at ")
            assert (name, at) not in scripts
            scripts[name, at] = script
    assert scripts.keys() == {(entry["name"], entry["node"]) for entry in held}
    for entry in held:
        asked = numbers_in(scripts[entry["name"], entry["node"]])
        given = {name: rational(number) for name, number in entry["numbers"].items()}
        finite = {name: number for name, number in given.items() if "inf" not in number}
        assert {n: v for n, v in asked.items() if n in finite} == finite
        assert asked.keys() == given.keys()


@pytest.mark.parametrize("solver", [Solver.Z3, Solver.CVC5], ids=lambda s: s.value)
def test_solvers_answer_every_application(written: Written, solver: Solver) -> None:
    if find_spec(solver.value) is None:
        pytest.skip(f"{solver.value} is not installed")
    with Asker(solver, 20.0) as asker:
        scripts = [s for s in scripts_in(written.queries) if "-instance-" in s.name]
        opinions = {script.name: asker.opinion(script).opinion for script in scripts}
    assert {n for n, o in opinions.items() if o is not Opinion.PROVED} == set()


def test_every_file_is_read(written: Written) -> None:
    """Those of the library too, of which test_solvers.py asks all solvers."""
    for path in written.queries.iterdir():
        assert z3.parse_smt2_string(path.read_text(encoding="utf-8"))


def test_every_application_holds_exactly(written: Written) -> None:
    assert list(unmet(written.of_json)) == []


def test_one_of_them_is_of_a_domain_in_parts(written: Written) -> None:
    """All of whose parts the theorem rests on."""
    parts = [n for n in written.document["notes"] if n.startswith("the domain was split into")]
    assert bool(parts) is (written.case.model is split)


def test_moves_and_zeros_are_among_them(written: Written) -> None:
    lemmas = {entry["lemma"] for entry in written.of_json}
    assert "within-tolerance" in lemmas
    assert "exact" in lemmas
    assert ("moved-error" in lemmas) >= (written.case.model is quantised)


def test_the_checker_takes_what_it_has_a_meaning_for(written: Written) -> None:
    files = written.certificate.read_bytes(), written.model.read_bytes()
    assert written.document["certificate"]["in_language"] is written.case.inside
    if written.case.inside:
        assert "parts" in check_certificate(*files)
        return
    with pytest.raises(Outside, match=r"no certificate of schema .*: .*does not hold|operator"):
        check_certificate(*files)


def changed(certificate: Path, change: Callable[[list[Any]], None]) -> Path:
    """The certificate with other applications."""
    held: Any = recorded(certificate.read_bytes())
    change(held)
    text = json.dumps(held).encode()
    seal = hashlib.sha256(text).hexdigest().encode()
    return with_members(certificate, {MEMBER: text, SEAL: seal})


def with_members(certificate: Path, members: Mapping[str, bytes | None]) -> Path:
    """The certificate with these members of its zip, or without those that are None."""
    other, whole = certificate.with_name("other.cert"), io.BytesIO()
    with zipfile.ZipFile(certificate) as old, zipfile.ZipFile(whole, "w") as new:
        for name in old.namelist():
            held = members.get(name, old.read(name))
            if held is not None:
                new.writestr(name, held)
    other.write_bytes(whole.getvalue())
    return other


def _smaller(entries: list[Any]) -> None:
    entry = next(e for e in entries if e["lemma"] == "sum-any-order")
    entry["radius"] = (float.fromhex(entry["radius"]) / 2).hex()


def _unmet(entries: list[Any]) -> None:
    entry = next(e for e in entries if e["lemma"] == "sum-any-order")
    entry["numbers"]["E"] = "0x0.0p+0"


def _negative(entries: list[Any]) -> None:
    entry = next(e for e in entries if e["lemma"] == "error-sum")
    entry["numbers"]["e"] = "-0x1.0p+0"


def _of_another(entries: list[Any]) -> None:
    entries[0]["lemma"] = "no such lemma"


def _without_a_number(entries: list[Any]) -> None:
    del entries[0]["numbers"]


def _beyond_reading(entries: list[Any]) -> None:
    entries[0]["radius"] = "1e999999999"


def _of_another_claim(entries: list[Any]) -> None:
    entry = next(e for e in entries if e["lemma"] == "within-tolerance")
    entry["numbers"]["eps"] = "2"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_smaller, "gives more than the radius"),
        (_unmet, "does not hold of its numbers"),
        (_negative, "0 ≤ e does not hold of its numbers"),
        (_of_another, "is of no lemma"),
        (_without_a_number, "it is not read"),
        (_beyond_reading, "it is not read"),
        (list.clear, "no application shows the claim on output 'y'"),
        (_of_another_claim, "no application shows the claim on output 'y'"),
    ],
)
def test_recheck_recomputes_them(
    change: Callable[[list[Any]], None], said: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    model, certificate = small_models.mlp(tmp_path / "net.onnx"), tmp_path / "it.cert"
    quick: dict[str, Any] = {"budget": 0, "no_search": True, "z3": "none", "conform": False}
    assert refine.check(model, (-1, 1), 1.0, certificate=certificate, **quick)
    assert run(["recheck", str(certificate), str(model)]).value == 0
    assert "applications of" in capsys.readouterr().out
    other = changed(certificate, change)
    assert run(["recheck", str(other), str(model)]).value == 1
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({MEMBER: b"[]"}, "rejected: "),
        ({MEMBER: None}, "rejected: "),
        ({SEAL: None}, "rejected: "),
        ({MEMBER: None, SEAL: None}, "rejected: "),
        ({MEMBER: None, SEAL: None, "by": None}, "it has no record"),
    ],
)
def test_a_certificate_has_the_record_that_was_written(
    members: Mapping[str, bytes | None], said: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    model, certificate = small_models.mlp(tmp_path / "net.onnx"), tmp_path / "it.cert"
    quick: dict[str, Any] = {"budget": 0, "no_search": True, "z3": "none", "conform": False}
    assert refine.check(model, (-1, 1), 1.0, certificate=certificate, **quick)
    held = dict(members)
    if "by" in held:  # another says that he wrote it
        del held["by"]
        with zipfile.ZipFile(certificate) as zipped:
            document = json.loads(zipped.read("certificate.json"))
        document["by"] = {"another": "1"}
        held["certificate.json"] = json.dumps(document).encode()
    other = with_members(certificate, held)
    assert run(["recheck", str(other), str(model)]).value == int(said == "rejected: ")
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("entry", ["layernorm-constant-row", "float16-epsilon"])
def test_what_is_not_bounded_is_asked_as_it_is(entry: str) -> None:
    """Ranges and radii are infinite there: what counts as shown is proved, and of what does not
    something is refuted."""
    result = refine.check(
        ROOT / "examples" / "zoo" / entry / "wrong.onnx", (-0.5, 0.5), 1e-3, budget=0,
        no_search=True, z3="none", conform=False,
    )  # fmt: skip
    applied = [o for o in result.every_obligation if o.application is not None]
    numbers = [n for o in applied if o.application for n in o.application.numbers]
    assert np.inf in numbers
    found: dict[bool, list[tuple[str, Outcome]]] = {True: [], False: []}
    for obligation in applied:
        query = instance(obligation)
        assert query is not None
        found[obligation.discharged].append((obligation.name, solve(query).outcome))
    assert [name for name, outcome in found[True] if outcome is not Outcome.DISCHARGED] == []
    assert Outcome.REFUTED in [outcome for _, outcome in found[False]]
