"""The command line's main job as a function."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from encoders.contract.contract import RuntimeContract
from onnx_import import load
from onnx_import.graph import Graph
from refine.claims.accuracy import check
from refine.claims.difference import diff
from refine.claims.options import Options
from refine.domain.domain import Domain, DomainOptions, read_domain
from refine.lemmas.cache import default_directory
from refine.options.options import contract_of, tolerance_of
from refine.proof.cross_check import SAMPLE
from refine.results.verdict import Result, Side, Tolerance

Epsilon: TypeAlias = str | float | Mapping[str, str | float] | Tolerance


def check_model(
    model: str | Path | Graph,
    domain: str | DomainOptions | Domain,
    eps: Epsilon | None = None,
    contract: str | RuntimeContract = "ieee-any",
    options: Options | None = None,
) -> Result:
    """Settle |f_rt − f_R| ≤ eps over a domain; without eps, prove the best bound.

    `domain` is a range such as "-1..1" for the only input, the command line's options as
    `DomainOptions`, or a `Domain`. `eps` is one number or one per output name, read as
    the decimal it is written with (1e-3 means 1/1000). `contract` is a preset's name or a contract.
    Raises ModelError, in one sentence, for whatever cannot be read or is not supported.
    """
    graph = _graph(model, random=True)
    chosen = _contract(contract)
    effort = options or Options(SAMPLE, default_directory(), budget=10.0, conform=True)
    return check(graph, _domain(domain, graph, chosen), chosen, _tolerance(eps, graph), effort)


def diff_models(
    spec: str | Path | Graph,
    impl: str | Path | Graph,
    domain: str | DomainOptions | Domain,
    eps: Epsilon | None = None,
    contract: str | RuntimeContract = "ieee-any",
    options: Options | None = None,
    spec_contract: str | RuntimeContract = "exact",
    match: Mapping[str, str] | None = None,
) -> Result:
    """Settle |impl − spec| ≤ eps over a domain of the implementation's inputs.

    Each graph runs under its contract; under `exact` it is read over the reals, as the
    specification is by default. `match` says which of the specification's tensors an input or an
    output of the implementation is. Otherwise as `check_model`.
    """
    graph = _graph(impl)
    chosen, others = _contract(contract), _contract(spec_contract)
    effort = options or Options(SAMPLE, default_directory(), budget=10.0, conform=True)
    where = _domain(domain, graph, chosen)
    sides = Side(_graph(spec), others), Side(graph, chosen)
    return diff(*sides, where, _tolerance(eps, graph, zero=True), effort, match=match)


def _graph(model: str | Path | Graph, random: bool = False) -> Graph:
    return model if isinstance(model, Graph) else load(model, random=random)


def _contract(contract: str | RuntimeContract) -> RuntimeContract:
    return contract_of(contract) if isinstance(contract, str) else contract


def _domain(
    domain: str | DomainOptions | Domain, graph: Graph, contract: RuntimeContract
) -> Domain:
    if isinstance(domain, str):
        domain = DomainOptions(inputs=(domain,))
    if isinstance(domain, DomainOptions):
        domain = read_domain(graph, domain, contract.format_of)
    return domain


def _tolerance(eps: Epsilon | None, graph: Graph, zero: bool = False) -> Tolerance:
    if isinstance(eps, Tolerance):
        return eps
    if eps is None:
        return Tolerance()
    texts = [f"{name}={e}" for name, e in eps.items()] if isinstance(eps, Mapping) else [str(eps)]
    return tolerance_of(tuple(texts), graph.outputs, zero)
