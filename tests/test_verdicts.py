"""What an answer promises: bounds hold, ε is compared exactly, nothing unproved is `verified`."""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import small_models
from onnx import helper
from small_models import domain_of, settled

from onnx_import import load
from refine.claims import settle as settle_module
from refine.claims.options import Options
from refine.common.clock import Clock
from refine.domain.domain import DomainOptions
from refine.lemmas import cache
from refine.lemmas.library import library, prove_lemmas
from refine.proof import cross_check as cross_check_module
from refine.proof import input_splitting as split_module
from refine.proof import proof as proof_module
from refine.proof.applications import applied
from refine.proof.compose import node_obligations
from refine.proof.cross_check import EVERYTHING, SAMPLE
from refine.proof.z3_solver import Fact
from refine.results.obligation import Discharger, Kind, Obligation, Outcome
from refine.results.verdict import Execution, ExitCode, Result, Verdict


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return small_models.mlp(tmp_path / "net.onnx", (3, 8, 8, 2))


def exact_mlp(path: Path, x: Any) -> list[Fraction]:
    """The network over the rationals, written apart from the product's evaluation."""
    graph = load(path)
    values = [Fraction(float(v)) for v in np.ravel(x)]
    for node in graph.order:
        if node.op == "Relu":
            values = [max(v, Fraction(0)) for v in values]
            continue
        w, b = (graph.constants[t].astype(float).tolist() for t in node.inputs[1:])
        values = [
            sum((v * Fraction(row[j]) for v, row in zip(values, w, strict=True)), Fraction(b[j]))
            for j in range(len(b))
        ]
    return values


def float32_mlp(path: Path, x: Any, order: Any) -> list[float]:
    """The network in float32, terms added in a given random order, products rounded."""
    graph = load(path)
    values: np.ndarray = np.ravel(x).astype(np.float32)
    for node in graph.order:
        if node.op == "Relu":
            values = np.maximum(values, np.float32(0))
            continue
        w, b = (graph.constants[t] for t in node.inputs[1:])
        sums = []
        for j in range(len(b)):
            terms = [*(values * w[:, j]), b[j]]
            total = np.float32(0)
            for k in order.permutation(len(terms)):
                total = np.float32(total + terms[k])
            sums.append(total)
        values = np.array(sums, np.float32)
    return [float(v) for v in values]


# Bounds


def test_no_sampled_error_is_above_its_bound(net: Path) -> None:
    """Against rationals: float32 sums in random orders, and onnxruntime as it likes to run."""
    bounds = settled(net, search=False).bounds["y"][0]
    session = onnxruntime.InferenceSession(str(net), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(1)
    largest = 0.0
    for _ in range(60):
        x = rng.uniform(-1, 1, (1, 3)).astype(np.float32)
        exact = exact_mlp(net, x)
        ran = np.asarray(session.run(None, {"x": x})[0])
        for computed in (ran[0].astype(float), float32_mlp(net, x, rng)):
            for value, real, bound in zip(computed, exact, bounds, strict=True):
                error = abs(Fraction(float(value)) - real)
                assert error <= Fraction(float(bound))
                largest = max(largest, float(error / Fraction(float(bound))))
    assert largest > 0.005  # the bounds are about something


def test_a_tighter_contract_never_has_a_larger_bound(net: Path) -> None:
    free = settled(net, search=False).bound
    for contract in ("sequential", "sequential-fma", "pairwise"):
        assert settled(net, contract=contract, search=False).bound <= free


def test_a_part_of_the_domain_never_has_a_larger_bound(net: Path) -> None:
    whole = settled(net, "-1..1", search=False).bound
    assert settled(net, "0.25..0.5", search=False).bound <= whole


def test_bounds_without_an_eps_are_verified(net: Path) -> None:
    result = settled(net, search=False)
    assert result.verdict is Verdict.VERIFIED
    assert 0 < result.bound < 1e-3


# ε


def test_eps_is_compared_exactly(net: Path) -> None:
    bound = settled(net, search=False).bound
    below = float(np.nextafter(bound, 0))
    equal = settled(net, eps=str(Fraction(bound)), search=False)
    assert equal.verdict is Verdict.VERIFIED
    assert equal.exit_code is ExitCode.VERIFIED
    less = settled(net, eps=str(Fraction(below)), search=False)
    assert less.verdict is Verdict.UNKNOWN
    assert less.exit_code is ExitCode.UNKNOWN
    # Less than an ulp below: no float lies between the two.
    hair = Fraction(bound) - Fraction(1, 10**40)
    assert settled(net, eps=str(hair), search=False).verdict is Verdict.UNKNOWN


def test_a_violation_is_an_exact_error_above_eps(net: Path) -> None:
    result = settled(net, eps="1e-9")
    assert result.verdict is Verdict.VIOLATED
    assert result.exit_code is ExitCode.VIOLATED
    witness = result.witness
    assert witness is not None
    real = exact_mlp(net, witness.inputs["x"])[witness.index[1]]
    error = abs(Fraction(witness.value) - real)
    assert witness.error.lo <= error <= witness.error.hi
    assert error > Fraction("1e-9")
    assert domain_of(net, "-1..1").boxes[0].contains(witness.inputs)
    assert result.worst_found is not None
    assert Fraction(result.worst_found) <= Fraction(result.bound)


def test_eps_equal_to_the_worst_error_is_no_violation(net: Path) -> None:
    found = settled(net, eps="1e-9").witness
    assert found is not None
    # No search does better than this one with the same seed and the same scale.
    again = settled(net, eps=str(found.error.hi))
    assert again.witness is None or again.witness.error.lo > found.error.hi


def test_every_output_counts(tmp_path: Path) -> None:
    """`large` has an error near 6e-5, `small` one near 6e-8."""
    model = small_models.two_outputs(tmp_path / "two.onnx")
    assert settled(model, eps="1e-3").verdict is Verdict.VERIFIED
    assert settled(model, eps="1e-6").verdict is Verdict.VIOLATED
    assert settled(model, eps={"small": "1e-6", "large": "1e-3"}).verdict is Verdict.VERIFIED
    swapped = settled(model, eps={"small": "1e-3", "large": "1e-6"})
    assert swapped.verdict is Verdict.VIOLATED
    assert swapped.witness is not None
    assert swapped.witness.output == "large"
    tight = settled(model, eps={"small": "1e-9", "large": "1e-3"})
    assert tight.verdict is Verdict.VIOLATED
    assert tight.witness is not None
    assert tight.witness.output == "small"


def test_every_element_counts(tmp_path: Path) -> None:
    """Only the last element of the output is computed with an error."""
    weights = {"factor": np.array([1.0, 2.0, 0.1], np.float32)}
    node = helper.make_node("Mul", ["x", "factor"], ["y"], "scale")
    model = small_models.save(tmp_path / "m.onnx", [node], {"x": [1, 3]}, {"y": [1, 3]}, weights)
    bounds = settled(model, "1..2", contract="sequential", search=False).bounds["y"]
    assert bounds[0, 2] > 0
    result = settled(model, "1..2", eps="1e-12")
    assert result.verdict is Verdict.VIOLATED
    assert result.witness is not None
    assert result.witness.index == (0, 2)


# Contracts


def test_nothing_is_rounded_under_the_exact_contract(net: Path) -> None:
    result = settled(net, eps="1e-300", contract="exact")
    assert result.verdict is Verdict.VERIFIED
    assert result.bound == 0
    assert settled(net, contract="exact").bound == 0


@pytest.mark.parametrize("fmt", ["float16", "bfloat16", "e5p5", "e4p4"])
def test_narrow_formats_have_large_errors_that_are_found(net: Path, fmt: str) -> None:
    result = settled(net, eps="1e-5", fmt=fmt)
    assert result.verdict is Verdict.VIOLATED
    assert result.witness is not None
    assert result.worst_found is not None
    assert not result.witness.error.finite or result.worst_found <= result.bound
    assert domain_of(net, "-1..1", fmt=fmt).boxes[0].contains(result.witness.inputs)


def test_rounded_inputs_are_charged(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["x"], ["y"], "same")
    model = small_models.save(tmp_path / "i.onnx", [node], {"x": [1, 1]}, {"y": [1, 1]})
    assert settled(model, "1..2", search=False).bound == 0
    rounded = DomainOptions(inputs=("1..2",), round_inputs=True)
    bound = settled(model, rounded, search=False).bound
    assert 2.0**-24 <= bound <= 2.0**-23 * (1 + 2.0**-40)


# Overflow


def test_an_overflowing_network_is_never_verified(tmp_path: Path) -> None:
    model = small_models.overflowing(tmp_path / "over.onnx")
    for eps in (None, "1e300"):
        found = settled(model, eps=eps)
        assert found.verdict is Verdict.VIOLATED
        assert found.witness is not None
        assert not found.witness.error.finite
        assert any(isinstance(r, Execution) for r in found.witness.replays)
        assert found.bound == np.inf
        blind = settled(model, eps=eps, search=False)
        assert blind.verdict is Verdict.UNKNOWN
        assert "'twice'" in blind.reason


def test_an_overflow_on_the_way_is_never_verified(tmp_path: Path) -> None:
    """relu(−x·1e30·1e30) is 0 on both sides, and still passes through infinity."""
    weights = {"factor": np.full(2, 1e30, np.float32), "minus": np.full(2, -1.0, np.float32)}
    nodes = [
        helper.make_node("Mul", ["x", "factor"], ["t"], "once"),
        helper.make_node("Mul", ["t", "factor"], ["u"], "twice"),
        helper.make_node("Mul", ["u", "minus"], ["v"], "negated"),
        helper.make_node("Relu", ["v"], ["y"], "nothing"),
    ]
    model = small_models.save(tmp_path / "m.onnx", nodes, {"x": [1, 2]}, {"y": [1, 2]}, weights)
    result = settled(model, "1..2", eps="1")
    assert result.verdict is not Verdict.VERIFIED
    assert "'twice'" in result.reason


def test_large_numbers_that_fit_are_verified(tmp_path: Path) -> None:
    model = small_models.overflowing(tmp_path / "near.onnx")
    assert settled(model, "-3e-22..3e-22", eps="1e32").verdict is Verdict.VERIFIED
    assert settled(model, "-4e-22..4e-22", eps="1e32").verdict is Verdict.VIOLATED


# Unions of boxes


def union(path: Path) -> DomainOptions:
    """x in [0, 1] or x in [100, 101]."""
    declared = "(declare-const X_0 Real)\n(declare-const Y_0 Real)\n"
    parts = "".join(f"(and (>= X_0 {a}) (<= X_0 {b}))" for a, b in ((0, 1), (100, 101)))
    path.write_text(f"{declared}(assert (or {parts}))\n(assert (>= Y_0 0))\n")
    return DomainOptions(vnnlib=str(path))


def test_the_worst_box_of_a_union_decides(tmp_path: Path) -> None:
    weights = {"tenth": np.full(1, 0.1, np.float32)}
    node = helper.make_node("Add", ["x", "tenth"], ["y"], "sum")
    model = small_models.save(tmp_path / "m.onnx", [node], {"x": [1, 1]}, {"y": [1, 1]}, weights)
    both = union(tmp_path / "two.vnnlib")
    near, far = (settled(model, d, search=False).bound for d in ("0..1", "100..101"))
    result = settled(model, both, search=False)
    assert len(result.domain.boxes) == 2
    assert result.bound == max(near, far) == far > 10 * near
    assert settled(model, both, eps="1e-6").verdict is Verdict.VIOLATED
    witness = settled(model, both, eps="1e-6").witness
    assert witness is not None
    assert witness.inputs["x"].item() >= 100
    assert settled(model, both, eps="1e-5").verdict is Verdict.VERIFIED


# What is not proved


def test_a_lemma_that_z3_does_not_prove_prevents_verified(
    net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for outcome in (Outcome.UNDECIDED, Outcome.REFUTED, Outcome.VACUOUS):

        def broken(names: Any, *rest: Any, outcome: Outcome = outcome) -> Any:
            good = prove_lemmas(names, *rest)
            return (*good[:-1], dataclasses.replace(good[-1], outcome=outcome))

        with monkeypatch.context() as patch:
            patch.setattr(settle_module, "prove_lemmas", broken)
            for eps in (None, "1"):
                result = settled(net, eps=eps, search=False)
                assert result.verdict is Verdict.UNKNOWN
                assert outcome.value in result.reason


def test_a_false_lemma_prevents_verified(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lemma of the library with its goal turned round, put to Z3 as always."""
    lemma = next(m for m in library((Kind.SCHEMA,)) if m.name == "composition")
    query = type(lemma).query

    def wrong(self: Any, timeout: float) -> Any:
        asked = query(self, timeout)
        if self.name != lemma.name:
            return asked
        import z3

        goal = Fact("not so", z3.Not(asked.goal.formula))
        return dataclasses.replace(asked, goal=goal)

    monkeypatch.setattr(type(lemma), "query", wrong)
    result = settled(net, eps="1", search=False)
    assert result.verdict is Verdict.UNKNOWN
    assert "refuted obligation composition" in result.reason


def refutation(query: Any) -> Obligation:
    return Obligation(
        query.name,
        query.kind,
        goal=query.goal.text,
        outcome=Outcome.REFUTED,
        discharger=Discharger.Z3,
        seconds=0.0,
        node=query.node,
    )


def test_a_refuted_cross_check_prevents_verified(
    net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cross_check_module, "discharge", refutation)
    for timeout in (None, 1.0):
        if timeout == 1.0:
            # The time limit comes after the first refutation: that one still counts.
            def late(query: Any) -> Obligation:
                monkeypatch.setattr(Clock, "late", property(lambda self: True))
                return refutation(query)

            monkeypatch.setattr(cross_check_module, "discharge", late)
        result = settled(net, eps="1", search=False, cross_check=EVERYTHING, timeout=timeout)
        assert result.verdict is Verdict.UNKNOWN
        assert result.reason.startswith("refuted obligation")


def test_a_sample_ends_with_the_questions_that_z3_cannot_decide(
    net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def open_question(query: Any) -> Obligation:
        asked.append(query.name)
        return dataclasses.replace(refutation(query), outcome=Outcome.UNDECIDED)

    monkeypatch.setattr(cross_check_module, "discharge", open_question)
    for effort in (SAMPLE, EVERYTHING):
        asked.clear()
        assert settled(net, eps="1", search=False, cross_check=effort).verdict is Verdict.VERIFIED
        assert len(asked) == SAMPLE.undecided if effort is SAMPLE else len(asked) > SAMPLE.undecided


@pytest.mark.parametrize("outcome", [Outcome.UNDECIDED, Outcome.REFUTED])
def test_any_open_obligation_of_a_node_prevents_verified(
    net: Path, monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    owed = [(n, o.name) for n, group in owed_of(net).items() for o in group]
    names = [(n, name) for n, name in owed if "/claim/" not in name]  # which the theorem owes
    assert len(names) > 10
    for node, name in names[::4]:

        def spoilt(bounds: Any, node: str = node, name: str = name) -> Any:
            groups = dict(node_obligations(bounds))
            groups[node] = tuple(
                dataclasses.replace(o, outcome=outcome) if o.name == name else o
                for o in groups[node]
            )
            return groups

        def unapplied(bounds: Any, node: str = node, name: str = name) -> Any:
            spoilt = bounds.node.name == node
            for o in applied(bounds):
                yield dataclasses.replace(o, outcome=outcome) if spoilt and o.name == name else o

        with monkeypatch.context() as patch:
            patch.setattr(proof_module, "applied", unapplied)
            patch.setattr(proof_module, "node_obligations", spoilt)
            patch.setattr(split_module, "node_obligations", spoilt)
            result = settled(net, eps="1", search=False)
        assert result.verdict is Verdict.UNKNOWN
        assert name in result.reason


def owed_of(model: Path) -> dict[str, tuple[Obligation, ...]]:
    return {n.name: n.obligations for n in settled(model, search=False).nodes}


def test_a_tampered_lemma_cache_is_not_believed(tmp_path: Path, net: Path) -> None:
    directory = tmp_path / "lemmas"
    first = settled(net, search=False, cache=directory)
    assert {o.discharger for o in first.obligations} == {Discharger.Z3}
    again = settled(net, search=False, cache=directory)
    assert {o.discharger for o in again.obligations} == {Discharger.CACHE}
    files = sorted(directory.iterdir())
    assert len(files) == len(first.obligations)
    content = files[0].read_text()
    for bad in ("", "true", content.replace("assert", "assure"), content[:-9]):
        files[0].write_text(bad)
        asked = settled(net, search=False, cache=directory)
        assert sum(o.discharger is Discharger.Z3 for o in asked.obligations) == 1
    files[0].write_text(files[1].read_text())
    asked = settled(net, search=False, cache=directory)
    assert sum(o.discharger is Discharger.Z3 for o in asked.obligations) == 1


def test_a_refuted_lemma_does_not_enter_the_cache(tmp_path: Path) -> None:
    import z3

    from refine.proof.z3_solver import Query

    x = z3.Real("x")
    query = Query("false", Kind.SCHEMA, (), Fact("x > 0", x > 0))
    assert cache.discharge_cached(query, tmp_path).outcome is Outcome.REFUTED
    assert list(tmp_path.iterdir()) == []


# Everything is said


def test_the_result_says_what_it_rests_on(net: Path) -> None:
    result: Result = settled(net, eps="1", search=False)
    assert {a.name for a in result.assumptions} >= {
        "contract", "graph", "semantics", "inputs", "analyser", "solver",
    }  # fmt: skip
    assert [n.name for n in result.nodes] == [n.name for n in load(net).order]
    for node in result.nodes:
        assert node.low <= node.high
        assert node.local <= node.error or node.op == "Relu"
        assert {o.kind for o in node.obligations} >= {Kind.INSTANCE, Kind.COMPOSITION}
    kinds = {o.kind for o in result.obligations}
    assert kinds == {Kind.SCHEMA}


def test_replay_files_hold_everything(tmp_path: Path, net: Path) -> None:
    """The saved error is the exact one again, from the files alone."""
    from refine.witness.file import load_witness, save_witness
    from refine.witness.replay import run_again

    result = settled(net, eps="1e-9")
    save_witness(result, tmp_path / "c.json")
    assert json.loads((tmp_path / "c.json").read_text())["model"] == "net.onnx"
    saved = load_witness(tmp_path / "c.json", load)
    graph, candidate, epsilon = saved.graph, saved.candidate, saved.epsilon
    witness = run_again(graph, candidate)
    assert epsilon == Fraction("1e-9")
    assert result.witness is not None
    assert witness.error == result.witness.error
    assert witness.value == result.witness.value
    assert witness.replays == result.witness.replays
    assert np.array_equal(witness.inputs["x"], result.witness.inputs["x"])


def test_options_have_the_defaults_that_are_documented() -> None:
    options = Options(None, None)
    assert options.search
    assert options.backward
    assert options.timeout is None
