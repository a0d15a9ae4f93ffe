"""What a result says of its certificate: whether there can be one, and the certificate itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from checker.arithmetic import Outside, Rejected
from encoders.contract.contract import RuntimeContract
from onnx_import.graph import Graph
from refine.bounds.problem import Network
from refine.bounds.properties.margins import Margins
from refine.certificate.language import NotCertified, Subject, subject_of
from refine.certificate.unsafe_sets import unsafe_claim
from refine.common.clock import OutOfTime
from refine.domain.domain import Domain
from refine.proof.proof import Proof
from refine.results.certification import Certification
from refine.results.verdict import Tolerance

_LARGE = 2**23  # bytes of a model's file that is not read again unasked


def of_accuracy(
    graph: Graph,
    contract: RuntimeContract,
    domain: Domain,
    tolerance: Tolerance,
    proof: Proof,
    wanted: bool,
    tick: Callable[[], None] = lambda: None,
) -> Certification | None:
    """Of a result that is verified: whether the checker has a meaning for it and, if `wanted`, the
    certificate; None where that is not, and the model so large that reading it again takes long.
    `tick` may raise OutOfTime."""

    def claim(subject: Subject) -> Mapping[str, Any]:
        epsilons = {t: tolerance.of(t) for t in subject.model.outputs}
        if None in epsilons.values():
            raise NotCertified("no eps is given that a certificate could show")
        return {"kind": "accuracy", "eps": {t: str(e) for t, e in epsilons.items()}}

    return _certification(Network(graph, contract), domain, claim, proof, wanted, tick)


def of_margins(
    problem: Margins,
    source: Path | None,
    domain: Domain,
    tolerance: Tolerance,
    proof: Proof,
    wanted: bool,
    tick: Callable[[], None] = lambda: None,
) -> Certification | None:
    """The same, of an unsafe set that is out of reach; `source` is the file that states it."""

    def claim(subject: Subject) -> Mapping[str, Any]:
        return unsafe_claim(problem.unsafe, problem.graph, [c.box for c in proof.boxes], source)

    return _certification(problem, domain, claim, proof, wanted, tick)


def _certification(
    problem: Network | Margins,
    domain: Domain,
    claim: Callable[[Subject], Mapping[str, Any]],
    proof: Proof,
    wanted: bool,
    tick: Callable[[], None],
) -> Certification | None:
    source = problem.graph.source
    if not wanted and source is not None and source.is_file() and source.stat().st_size > _LARGE:
        return None
    try:
        subject = subject_of(problem.graph, problem.contract, domain)
        if not wanted:
            return Certification(None)
        from refine.certificate.writing import Writer  # most answers write none

        writer = Writer(subject, problem, claim(subject), tick)
        content = writer.written(proof.boxes)
        return Certification(None, content, len(writer.leaves))
    except (Outside, Rejected, NotCertified) as error:
        return Certification(str(error))
    except OutOfTime:
        return Certification("the time limit was reached before the certificate was written")
