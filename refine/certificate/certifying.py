"""What a result says of its certificate: whether there can be one, and the certificate itself."""

from __future__ import annotations

from collections.abc import Callable

from checker.exact import Outside
from encoders.contract.contract import RuntimeContract
from onnx_import.graph import Graph
from refine.bounds.problem import Network
from refine.certificate.language import subject_of
from refine.certificate.writing import NotCertified, Writer
from refine.common.clock import OutOfTime
from refine.domain.domain import Domain
from refine.proof.proof import Proof
from refine.results.certification import Certification
from refine.results.verdict import Tolerance

_LARGE = 2**23  # bytes of a model's file that is not read again unasked


def certification(
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
    source = graph.source
    if not wanted and source is not None and source.is_file() and source.stat().st_size > _LARGE:
        return None
    try:
        subject = subject_of(graph, contract, domain)
        if not wanted:
            return Certification(None)
        epsilons = {t: tolerance.of(t) for t in subject.model.outputs}
        given = {t: e for t, e in epsilons.items() if e is not None}
        if given != epsilons:
            raise NotCertified("no eps is given that a certificate could show")
        writer = Writer(subject, Network(graph, contract), given, tick)
        content = writer.written(proof.boxes)
        return Certification(None, content, len(writer.leaves))
    except (Outside, NotCertified) as error:
        return Certification(str(error))
    except OutOfTime:
        return Certification("the time limit was reached before the certificate was written")
