"""The public names, and no others: what the command line does, as functions.

Each function takes a model as a path, as the bytes of a file or as an onnx.ModelProto; each option
of the command line is a keyword with the command line's default. Whatever cannot be read, does not
fit or is not supported raises ModelError, in one sentence. Calls from several threads wait for each
other; use processes to work on several models at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias, Unpack

from encoders.arithmetic.handling import handling_of
from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import EXACT
from gpu_check.common.writing import write_text
from gpu_check.conformance.conformance import Conformance
from gpu_check.probe.probed_contract import Probed
from onnx_import import load as load_file
from onnx_import.errors import ModelError
from onnx_import.graph import Graph
from refine.claims.conforming import judged
from refine.claims.kind import EpsilonUse
from refine.claims.kinds.accuracy import check as check_accuracy
from refine.claims.kinds.difference import diff as check_difference
from refine.claims.many.answers import Decisions, Rows
from refine.claims.many.asking import listed, stability
from refine.claims.many.stability import BUDGET as STABLE_BUDGET
from refine.claims.options import Options
from refine.claims.outputs.differentiating import grad
from refine.claims.outputs.strengthening import Strengthening, require_other
from refine.claims.python_values import (
    bounded_text,
    contract_value,
    domain_value,
    match_value,
    path_of,
    path_text,
    places_of,
    ranges_of,
    settled,
    text_of,
)
from refine.claims.registry import (
    DIFFERENCE,
    USUAL,
    claim_for,
    claims,
    own_defaults,
    own_options,
    taken_of,
)
from refine.claims.replaying import Replay, replayed
from refine.domain.domain import Domain, DomainOptions, read_domain
from refine.domain.random_inputs import sampled_inputs
from refine.domain.values import domain_of
from refine.domain.vnnlib_writing import VERSIONS
from refine.everyday.planning import Plan, format_named, usual_contract
from refine.everyday.planning import plan as planned
from refine.lemmas.cache import default_directory
from refine.options.applicable import require_applicable
from refine.options.contract_choice import contract_for
from refine.options.contract_file import write_contract
from refine.options.keywords import (
    BenchKeywords,
    BoundKeywords,
    CheckKeywords,
    DiffKeywords,
    PathText,
    StableKeywords,
    StrengthenKeywords,
    given,
    sentences,
    with_keywords,
)
from refine.options.models import Model, is_file, opened, read_as
from refine.options.options import contract_of, tolerance_from
from refine.options.probing import probed
from refine.options.runtime_choice import runtime_choice
from refine.options.settings import (
    BUDGET,
    READINGS,
    require_choice,
    require_count,
)
from refine.options.sizes import sizes_from
from refine.proof.cross_check import SAMPLE
from refine.results.document import document_of
from refine.results.verdict import Result, Side, Tolerance, Verdict
from refine.witness.file import Trusted

__all__ = [
    "Conformance",
    "Domain",
    "DomainOptions",
    "Graph",
    "ModelError",
    "Options",
    "Plan",
    "Probed",
    "Replay",
    "Result",
    "RuntimeContract",
    "Verdict",
    "bench",
    "bound",
    "check",
    "check_model",
    "conform",
    "diff",
    "diff_models",
    "document_of",
    "grad",
    "load",
    "plan",
    "probe",
    "replay",
    "stable",
    "strengthen",
]

Epsilon: TypeAlias = str | float | Mapping[str, str | float] | Tolerance


@with_keywords(CheckKeywords, own_defaults())
def check(
    model: Model, domain: object = None, eps: object = None, **options: Unpack[CheckKeywords]
) -> Result:
    """Is |f_rt(x) − f_R(x)| ≤ eps for every x of the domain and every allowed execution?

    `domain` is a mapping from input names to (lo, hi), of numbers or of arrays of the input's
    shape; (lo, hi) alone where there is one input; an array, with `radius` around it and `clip`; a
    VNN-LIB file (.vnnlib), arrays in a file (.npz); text as the command line takes it ("x=-1..1");
    or None, where the model states ranges itself. Numbers are taken exactly as they are, text as
    the decimal that it spells. `eps` is a number, or one for each output by name; 1e-3 means
    1/1000.

    >>> demo = "examples/demo/pendulum.onnx"
    >>> result = check(demo, {"state": (-1, 1)}, eps=1e-3)
    >>> result.verdict
    <Verdict.VERIFIED: 'verified'>
    >>> assert result and result.bound < 5e-4

    The result is true (`assert result`) where it is verified and the runtime here was not seen to
    leave the contract. `result.to_json()` is what `--json` writes.

    `timeout` (seconds) is looked at between steps: no other process ends the work, so that a single
    long step can overrun it; the command line's limit is a hard one. A counterexample is saved only
    where `counterexample` says so.
    """
    every = own_options()
    words = given("check", CheckKeywords, options, every)
    text = words.pop("claim", USUAL)
    claim = claim_for(text)
    own = {name: words.pop(name, option.default) for name, option in every.items()}
    for name, option in every.items():
        option.require(own[name])
    if eps is None and claim.epsilon is EpsilonUse.NEEDED:
        raise ModelError("check needs eps=, the largest error allowed; bound finds the best one")
    if eps is not None and claim.epsilon is EpsilonUse.NONE:
        raise ModelError(f"claim {claim.name} speaks of no eps=")
    return settled(claim, model, domain, eps, words, text=text, own=taken_of(claim, own))


@with_keywords(BoundKeywords)
def bound(model: Model, domain: object = None, **options: Unpack[BoundKeywords]) -> Result:
    """The best bound on |f_rt(x) − f_R(x)| over the domain that can be proved. As `check`.

    With `margin`, of the difference of two scores instead: True for every two, a label for that
    one's and the others', or text as the command line takes it. With `relative`, of the relative
    error, whose figures are in the result's `relative`.

    >>> import numpy as np
    >>> result = bound("examples/demo/pendulum.onnx", np.array([[0.0, 0.5]]), radius=0.1)
    >>> 0 < result.bound < 1e-4
    True
    """
    words = given("bound", BoundKeywords, options)
    text = bounded_text(words.pop("margin", None), words.pop("relative", False))
    return settled(claim_for(text), model, domain, None, words, text=text)


@with_keywords(DiffKeywords)
def diff(
    spec: Model,
    model: Model,
    domain: object = None,
    eps: object = None,
    **options: Unpack[DiffKeywords],
) -> Result:
    """Is |model(x) − spec(x)| ≤ eps for every x of the domain? Without eps, the best bound.

    The specification is read over the reals, and the model as it runs, unless `spec_as` and
    `impl_as` ("real", "runtime") say otherwise. `match` says which tensor of the specification an
    input or an output of the model is. Otherwise as `check`.

    >>> demo = "examples/demo/pendulum.onnx"
    >>> diff(demo, demo, "-1..1", impl_as="real").bound
    0.0
    """
    words = given("diff", DiffKeywords, options)
    ours, theirs = words.pop("impl_as", "runtime"), words.pop("spec_as", "real")
    require_choice("impl_as", ours, READINGS)
    require_choice("spec_as", theirs, READINGS)
    named, match = words.pop("spec_contract", None), match_value(words.pop("match", None))
    if theirs == "real" and named is not None:
        raise ModelError("spec_contract= needs spec_as='runtime'")
    if theirs == "real":
        named = EXACT
    elif named is None:
        named = words.get("contract", "ieee-any")
    if ours == "real":
        words["contract"] = EXACT
    pair = spec, contract_value("spec_contract", named), match
    return settled(claims()[DIFFERENCE], model, domain, eps, words, pair)


@with_keywords(StrengthenKeywords)
def strengthen(
    model: Model, vnnlib: PathText, output: PathText, **options: Unpack[StrengthenKeywords]
) -> Result:
    """Write a property whose proof over the reals, by any verifier, gives `vnnlib` for what runs.

    The result is verified where `output` is written; its `bounds` say by how much each row of the
    unsafe set was moved. `version` of VNN-LIB is that of the given file unless it is said.
    """
    words = given("strengthen", StrengthenKeywords, options)
    version = words.pop("version", None)
    if version is not None:
        require_choice("version", str(version), [str(v) for v in VERSIONS])
    source, place = Path(path_text("vnnlib", vnnlib)), Path(path_text("output", output))
    require_other(place, source)
    asked = Strengthening()
    result = settled(asked.kind, model, source, None, {**words, "no_search": True})
    text = asked.text(result, None if version is None else int(version))
    if text is not None:
        write_text(place, text)
    return result


@with_keywords(StableKeywords, {"radius": "0", "budget": STABLE_BUDGET})
def stable(model: Model, data: object, **options: Unpack[StableKeywords]) -> Decisions:
    """Which decisions of a data set no allowed execution changes.

    `data` is a file of points (.npz, .npy), a mapping from input names to arrays, or an array where
    there is one input, points along the first axis. The result is true where all are stable; it has
    `stable` (how many), `flips`, and each decision in order. `spec` is another model, whose labels
    count; flips are saved where `counterexamples` says so.

    >>> import numpy as np
    >>> stable("examples/zoo/claim-float16-margin/right.onnx", np.array([[4.5], [7.0]]))
    2 of 2 decisions cannot change, 0 flip, 0 are undecided
    """
    return stability(model, data, given("stable", StableKeywords, options))


@with_keywords(BenchKeywords, {"resume": False, "budget": None})
def bench(instances: PathText, **options: Unpack[BenchKeywords]) -> Rows:
    """Settle the properties of a list of instances for what runs, as `refine bench` does.

    The result is true where all are verified; it has each row in order. `json` is written after
    each instance, and `resume` keeps the answers that it has.
    """
    return listed(instances, given("bench", BenchKeywords, options))


@sentences
def plan(
    model: PathText,
    domain: object,
    eps: object,
    output: PathText,
    *,
    format: str = "float16",
    contract: object = None,
    budget: float = BUDGET,
    timeout: float | None = None,
    radius: object = None,
    clip: object = None,
    allow: PathText | Sequence[PathText] = (),
) -> Plan:
    """Which nodes of an ONNX file may run in 16 bits, proved; the mixed model is written.

    The result is true where the file `output`, run under the contract (by default `fp16` or `bf16`:
    sums accumulated in float32), is within eps of the original over the reals. It has `nodes` (what
    decides the format of each), `share` (of the multiply-adds), `block_list`, `model` and `result`.
    `domain` and `eps` as in `check`.
    """
    to = format_named(text_of("format", format))
    runs = usual_contract(to) if contract is None else contract_value("contract", contract)
    source, place = Path(path_text("model", model)), Path(path_text("output", output))
    if not isinstance(runs, RuntimeContract):
        runs = contract_for(runs, None, None, source, places_of(allow))
    value, around = domain_value(domain, {"radius": radius, "clip": clip})
    usual = replace(_usual(), search=False, cross_check=None, budget=budget, timeout=timeout)
    return planned(
        source,
        lambda graph: domain_of(graph, value, around, runs.format_of),
        lambda graph: tolerance_from(eps, graph.outputs, True),
        runs,
        place,
        to=to,
        options=replace(usual, conform=False),
        allowed=places_of(allow),
    )


@sentences
def probe(
    model: Model,
    runtime: str = "onnxruntime",
    *,
    output: PathText | None = None,
    samples: int = 32,
    exhaustive: bool = False,
    seed: int = 0,
    allow: PathText | Sequence[PathText] = (),
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
) -> Probed:
    """Find out how a runtime computes this model: its contract is the result's `contract`.

    `runtime` is a name with settings, such as "onnxruntime:threads=2"; `output` a file that the
    contract is written to. The result can be given as `contract=`.
    """
    require_count("samples", samples, least=1)
    require_count("seed", seed, least=0)
    choice = runtime_choice(text_of("runtime", runtime))
    with opened(model) as source:
        graph = read_as(source, allowed=places_of(allow), sizes=sizes_from(shapes, dims))
        found = probed(graph, choice, samples, bool(exhaustive), seed)
    if output is not None:
        write_contract(found.contract, Path(path_text("output", output)))
    return found


@sentences
def conform(
    model: Model,
    contract: object,
    runtime: str = "onnxruntime",
    *,
    input: str | Sequence[str] = "-1..1",
    samples: int = 100,
    seed: int = 0,
    allow: PathText | Sequence[PathText] = (),
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
) -> Conformance:
    """Run a runtime against a contract: bit for bit where that is pinned, else within bounds.

    `input` says where random inputs are sampled from. The result is true where the contract is
    honoured and something was compared.

    >>> bool(conform("examples/demo/pendulum.onnx", "ieee-any", samples=4))
    True
    """
    require_count("samples", samples, least=1)
    require_count("seed", seed, least=0)
    choice = runtime_choice(text_of("runtime", runtime))
    chosen = contract_value("contract", contract)
    places, sizes = places_of(allow), sizes_from(shapes, dims)
    with opened(model) as source:
        if not isinstance(chosen, RuntimeContract):
            chosen = contract_for(chosen, None, None, path_of(source), places, sizes=sizes)
        graph = read_as(source, chosen, allowed=places, sizes=sizes)
        require_applicable(chosen, graph)
        batch = sampled_inputs(graph, ranges_of(input), samples, seed)
        return judged(graph, choice, chosen, batch)


@sentences
def replay(
    file: PathText,
    *,
    model: PathText | None = None,
    spec: PathText | None = None,
    script: PathText | None = None,
    allow: PathText | Sequence[PathText] = (),
) -> Replay:
    """Run a saved counterexample again, on the emulator and on real runtimes.

    `model` and `spec` say where its models are now; `script` is a file for a script that shows the
    violation by itself. The result is true where the violation is confirmed.
    """
    trusted = Trusted(
        None if model is None else Path(path_text("model", model)),
        None if spec is None else Path(path_text("spec", spec)),
        places_of(allow),
    )
    found = replayed(Path(path_text("file", file)), trusted)
    if script is not None:
        text = found.script()
        write_text(Path(path_text("script", script)), text)
    return found


@sentences
def load(
    model: Model,
    *,
    batch: int | None = None,
    allow: PathText | Sequence[PathText] = (),
    contract: object = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
) -> Graph:
    """The graph of a model, which the other functions take instead of the model.

    What is computed of stored numbers alone is so when the file is read, unless `contract` does
    something to these numbers: under such a contract the graph has to be loaded with it.

    >>> load("examples/demo/pendulum.onnx").inputs
    ('state',)
    """
    if batch is not None:
        require_count("batch", batch, least=1)
    places, sizes = places_of(allow), sizes_from(shapes, dims)
    with opened(model) as source:
        if isinstance(source, Graph):
            return source
        chosen = None if contract is None else contract_value("contract", contract)
        if isinstance(chosen, str):
            chosen = contract_for(chosen, None, None, path_of(source), places, sizes=sizes)
        handling = None if chosen is None else handling_of(chosen)
        graph = load_file(source, batch, allowed=places, handling=handling, sizes=sizes)
        return graph if is_file(model) else replace(graph, source=None)


@sentences
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
    chosen = _contract(contract)
    graph = read_as(model, chosen, random=True)
    effort = options or _usual()
    return check_accuracy(
        graph, _domain(domain, graph, chosen), chosen, tolerance_from(eps, graph.outputs), effort
    )


@sentences
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
    chosen, others = _contract(contract), _contract(spec_contract)
    graph = read_as(impl, chosen)
    effort = options or _usual()
    where = _domain(domain, graph, chosen)
    sides = Side(read_as(spec, others), others), Side(graph, chosen)
    return check_difference(
        *sides, where, tolerance_from(eps, graph.outputs, zero=True), effort, match=match
    )


def _usual() -> Options:
    """How hard `check_model` and `diff_models` try unless they are told."""
    return Options(SAMPLE, default_directory(), budget=BUDGET, conform=True)


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
