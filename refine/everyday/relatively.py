"""What a run errs by relatively and absolutely together, as an rtol with an atol has it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.lemmas.kernel import apply
from encoders.lemmas.ways.relative import TO_ERROR
from onnx_import.graph import Graph
from refine.bounds.relative import flowed, output_precisions
from refine.claims.options import Options
from refine.domain.domain import Domain
from refine.everyday.allowance import Pair
from refine.lemmas.library import prove_lemmas
from refine.proof.compose import first_failure, lemmas_used, node_obligations
from refine.proof.proof import input_box


def pairs(
    graph: Graph, domain: Domain, contract: RuntimeContract, options: Options
) -> Mapping[str, Pair] | None:
    """By output, over a domain; None where an obligation of a node or a lemma is open."""
    found: dict[str, Pair] = {}
    for box in domain.boxes:
        flow = flowed(graph, input_box(box, domain, contract), contract, lambda: None)
        every = [o for group in node_obligations(flow.bounds).values() for o in group]
        with np.errstate(all="ignore"):  # infinities and NaN mean that nothing is known
            known = output_precisions(graph, flow.bounds, contract, flow.held)
            errors = {t: apply(TO_ERROR, g=p.precision) for t, p in known.items()}
        used = {n for t, p in known.items() for r in (errors[t], p.lost) for n in r.record.lemmas}
        every += prove_lemmas(lemmas_used([flow.bounds], frozenset(used)), options.cache)
        if first_failure(every) is not None:
            return None
        for t, value in known.items():
            here = Pair(errors[t].bound, value.lost.bound)
            found[t] = found[t].or_else(here) if t in found else here
    return found
