"""What a node's bound was made by: the record is the list of obligations, each of which a solver
can check again on its numbers."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_models
import z3
from given_radii import off_by
from small_models import settled

from encoders.lemmas.kernel import apply
from encoders.lemmas.rounding import ROUNDED
from encoders.lemmas.sums import SUM_ANY_ORDER
from refine.lemmas.library import dump_smt2
from refine.lemmas.reading import instance
from refine.proof.z3_solver import solve
from refine.results.obligation import Discharger, Kind, Obligation, Outcome


@pytest.fixture(scope="module")
def obligations(tmp_path_factory: pytest.TempPathFactory) -> tuple[Obligation, ...]:
    net = small_models.mlp(tmp_path_factory.mktemp("applied") / "net.onnx", (2, 4, 1))
    quick: dict[str, Any] = {"search": False, "conform": False, "budget": 0.0, "workers": 1}
    result = settled(net, "-1..1", eps="1000", **quick)
    return tuple(o for n in result.nodes for o in n.obligations if o.application is not None)


def test_every_lemma_that_was_applied_is_an_obligation(
    obligations: tuple[Obligation, ...],
) -> None:
    of_sums = [o for o in obligations if o.name.startswith("sum-any-order/gemm")]
    assert len(of_sums) == 2
    assert all(o.discharged and o.kind is Kind.INSTANCE for o in obligations)
    assert all("π + m·(r + λ') ≤ E" in o.hypotheses for o in of_sums)
    assert all(o.application and o.application.lemma for o in obligations)


def test_so_are_the_lemmas_of_the_claim(obligations: tuple[Obligation, ...]) -> None:
    """From the parts to the domain, and the comparison with ε, on the rational number it is."""
    of_claim = {o.name.split("/")[0]: o for o in obligations if "/claim/" in o.name}
    assert {"within-part", "of-part", "within-tolerance"} <= set(of_claim)
    compared = of_claim["within-tolerance"].application
    assert compared is not None
    assert compared.numbers[1] == Fraction(1000)
    assert compared.numbers[0] <= compared.numbers[1]


def test_each_is_written_and_a_solver_agrees(
    obligations: tuple[Obligation, ...], tmp_path: Path
) -> None:
    paths = dump_smt2(obligations, tmp_path)
    queries = [p for p in paths if not p.name.endswith(".hypotheses.smt2")]
    assert len(queries) == len(obligations) > 5
    for path in paths:
        solver = z3.SolverFor("QF_NRA")
        solver.add(z3.parse_smt2_string(path.read_text(encoding="utf-8")))
        assert str(solver.check()) == ("unsat" if path in queries else "sat"), path


@pytest.mark.parametrize("changed", ["E", "r_reach", "bound"])
def test_other_numbers_are_not_believed(changed: str) -> None:
    node = apply(ROUNDED, M=1.25, P=1.0, u=2.0**-24, least=2.0**-126, tiny=0.0)
    radius = apply(SUM_ANY_ORDER, T=1.0, E=0.2, m=100.0, r=node, lost=0.0, p=off_by(np.zeros(())))
    record = replace(radius.record, premises=())
    names = [p.name for p in SUM_ANY_ORDER.read]
    numbers = tuple(1e-9 if n == changed else v for n, v in zip(names, record.numbers, strict=True))
    bound = record.bound / 2 if changed == "bound" else record.bound
    for here, outcome in (
        (record, Outcome.DISCHARGED),
        (replace(record, numbers=numbers, bound=bound), Outcome.REFUTED),
    ):
        obligation = Obligation(
            "test", Kind.INSTANCE, "", Outcome.DISCHARGED, Discharger.ENCLOSURE, 0.0,
            application=here,
        )  # fmt: skip
        query = instance(obligation)
        assert query is not None
        assert solve(query).outcome is outcome
