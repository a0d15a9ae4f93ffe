"""A question about a model, as the command line and Python ask it, and its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import EXACT
from gpu_check.runtimes.isolated import server_for
from onnx_import import interface
from onnx_import.errors import ModelError
from onnx_import.graph import Array, Graph, Shape
from refine.claims.kind import Asked, ClaimKind, Given
from refine.claims.options import Options
from refine.domain.domain import Domain
from refine.lemmas.cache import default_directory
from refine.options.contract_choice import contract_for
from refine.options.models import read_as
from refine.options.options import changed_contract
from refine.options.settings import Settings
from refine.options.sizes import beside, with_shapes
from refine.proof.cross_check import EVERYTHING, SAMPLE
from refine.results.verdict import Result, Side, Tolerance


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of `model`: a claim, with the text that made it and its own options `given`;
    one that compares it with `spec`, which is read under `spec_contract`.

    `domain` and `tolerance` are read when graph and contract are known. `match` says which tensor
    of the specification an input or an output is. `constraint` is the VNN-LIB file that states the
    domain, where one does. `certificate` asks for one. `shapes` are those of the domain's arrays by
    input: what the file leaves open is as there.
    """

    claim: ClaimKind
    model: Path | Graph
    domain: Callable[[Graph, RuntimeContract], Domain]
    tolerance: Callable[[Graph], Tolerance]
    settings: Settings
    spec: Path | Graph | None = None
    spec_contract: str | RuntimeContract = EXACT
    match: Mapping[str, str] | None = None
    text: str = ""
    given: Given = field(default_factory=dict)
    constraint: Path | None = None
    certificate: bool = False
    shapes: Mapping[str, Shape] = field(default_factory=dict)


def _ready(options: Options) -> Options:
    return options


def answered(
    question: Question,
    tell: Callable[[str], None] = lambda stage: None,
    ready: Callable[[Options], Options] = _ready,
) -> Result:
    """Read everything, then settle the claim. `tell` hears what is being done; `ready` is called
    when all files have been read, and may change how hard is tried.

    Raises ModelError for what cannot be read, does not fit or is not supported.
    """
    settings, model, claim = question.settings, question.model, question.claim
    if settings.conform:
        server_for().start()
    if settings.as_optimised is not None:
        model = _optimised(model, settings)
    sizes = with_shapes(settings.sizes, question.shapes)
    settings = replace(settings, sizes=sizes)
    contract = _contract(settings.contract, model, settings, claim.rows(question.given))
    pinned = _pinned(question, model, contract, settings)
    graph = read_as(
        model, contract, random=claim.draws, allowed=settings.allow, sizes=sizes, pinned=pinned
    )
    if settings.as_optimised is not None:
        graph = _said_of(graph, contract, settings)
    domain = question.domain(graph, contract)
    tolerance = question.tolerance(graph)
    spec = None if question.spec is None else _specification(question, question.spec, graph)
    asked = Asked(
        text=question.text,
        side=Side(graph, contract),
        domain=domain,
        tolerance=tolerance,
        options=ready(replace(options_of(settings), certificate=question.certificate)),
        given=question.given,
        spec=spec,
        match=question.match,
        constraint=question.constraint,
        tell=tell,
    )
    result = claim.settle(asked)
    if result.claimed is None:
        return result
    made = replace(result.claimed, text=question.text, given=question.given)
    return replace(result, claimed=made)


def read_for(
    model: Path | Graph, settings: Settings, points: Mapping[str, Shape] | None = None
) -> tuple[Graph, RuntimeContract]:
    """A model as its contract has it run, and that contract. `points` are the shapes of arrays of
    points for its inputs, which tell what the file leaves open. Raises ModelError."""
    if points is not None:
        sizes = with_shapes(settings.sizes, points, points=True)
        settings = replace(settings, sizes=sizes)
    if settings.as_optimised is not None:
        model = _optimised(model, settings)
    contract = _contract(settings.contract, model, settings)
    graph = read_as(model, contract, allowed=settings.allow, sizes=settings.sizes)
    return _said_of(graph, contract, settings), contract


def _specification(question: Question, spec: Path | Graph, model: Graph) -> Side:
    settings = question.settings
    settings = replace(settings, sizes=beside(settings.sizes, model))
    contract = EXACT
    if question.spec_contract not in (EXACT, EXACT.name):
        contract = _contract(question.spec_contract, spec, settings)
    graph = read_as(
        spec, contract, allowed=settings.allow, sizes=settings.sizes, pinned=model.pinned
    )
    return Side(graph, contract)


def _pinned(
    question: Question, model: Path | Graph, contract: RuntimeContract, settings: Settings
) -> dict[str, Array]:
    """Inputs of integers or truth values of which the domain holds a single point."""
    if isinstance(model, Graph) or question.claim.rows(question.given) is not None:
        return {}
    inputs = interface(model, settings.allow, settings.sizes)
    if inputs is None or question.constraint is not None:
        return {}
    whole = [t for t in inputs.inputs if not inputs.types[t].dtype.is_float]
    if not whole:
        return {}
    boxes = question.domain(inputs, contract).boxes
    first = boxes[0].lo
    return {
        t: first[t].astype(inputs.types[t].dtype.numpy)
        for t in whole
        if all(np.array_equal(end[t], first[t]) for box in boxes for end in (box.lo, box.hi))
    }


def options_of(settings: Settings) -> Options:
    """How hard a claim is tried."""
    efforts = {"none": None, "sample": SAMPLE, "all": EVERYTHING}
    return Options(
        efforts[settings.z3],
        None if settings.no_cache else default_directory(),
        settings.seed,
        settings.timeout,
        not settings.no_search,
        budget=settings.budget,
        workers=settings.workers,
        cluster=settings.cluster,
        search_seconds=settings.search,
        conform=settings.conform,
    )


def _contract(
    contract: str | RuntimeContract,
    model: Path | Graph,
    settings: Settings,
    batch: int | None = None,
) -> RuntimeContract:
    changes = settings.format, settings.subnormals
    if isinstance(contract, RuntimeContract):
        return changed_contract(contract, *changes)
    source = model.source if isinstance(model, Graph) else model
    if source is None:
        if contract.startswith("probe:"):
            raise ModelError("a runtime is probed on a model that is a file")
        source = Path()
    return contract_for(contract, *changes, source, settings.allow, batch, settings.sizes)


def _optimised(model: Path | Graph, settings: Settings) -> Path:
    from refine.options.optimised import as_optimised

    if isinstance(model, Graph):
        raise ModelError("--as-optimised needs a model that is a file, not a graph")
    return as_optimised(model, settings.as_optimised, settings.allow)


def _said_of(graph: Graph, contract: RuntimeContract, settings: Settings) -> Graph:
    from refine.options.optimised import said_of

    return said_of(graph, contract, settings.as_optimised)
