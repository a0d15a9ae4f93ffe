"""A question as Python asks it: values of many types, each read or refused in one sentence."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any

from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import EXACT
from gpu_check.common.writing import write_text
from gpu_check.probe.probed_contract import Probed
from onnx_import.errors import ModelError
from onnx_import.graph import Graph
from refine.certificate.keeping import with_certificate
from refine.claims.asked import Question, answered
from refine.claims.kind import ClaimKind, Given
from refine.claims.registry import MARGIN, RELATIVE, USUAL
from refine.common.told import told
from refine.domain.shown import shapes_of_value
from refine.domain.values import Around, constraint_of, domain_of
from refine.lemmas.library import dump_smt2
from refine.options.models import Model, is_file, opened, shown
from refine.options.options import match_of, tolerance_from
from refine.options.settings import Settings
from refine.options.sizes import sizes_from
from refine.results.verdict import Result
from refine.witness.file import save_witness
from refine.witness.places import as_json, require_places

_DOMAINS = ("vnnlib", "input", "center", "box")
_PLACES = ("json", "counterexample", "dump_smt2", "certificate", "report")


def settled(
    claim: ClaimKind,
    model: Model,
    domain: object,
    eps: object,
    words: dict[str, Any],
    pair: tuple[Model, str | RuntimeContract, Mapping[str, str] | None] | None = None,
    text: str = "",
    own: Given | None = None,
) -> Result:
    """`text` made the claim, and `own` are its options; `pair` is another model to compare with,
    its contract, and which tensors correspond."""
    value, around = domain_value(domain, words)
    places = {name: _place(name, words.pop(name, None)) for name in _PLACES}
    json = None if places["json"] is None else str(places["json"])
    require_places(
        json,
        places["counterexample"],
        places["dump_smt2"],
        places["certificate"],
        places["report"],
    )
    if places["counterexample"] is not None and not is_file(model):
        raise ModelError("counterexample= needs a model that is a file, to be run again")
    allow = places_of(words.pop("allow", ()))
    contract = contract_value("contract", words.pop("contract", "ieee-any"))
    sizes = sizes_from(words.pop("shapes", None), words.pop("dims", None))
    settings = Settings(contract=contract, allow=allow, sizes=sizes, **words)
    with ExitStack() as stack:
        source = stack.enter_context(opened(model))
        spec, spec_contract, match = (None, EXACT, None) if pair is None else pair
        other = None if spec is None else stack.enter_context(opened(spec, "spec"))
        result = answered(
            Question(
                claim=claim,
                model=source,
                domain=lambda graph, chosen: domain_of(graph, value, around, chosen.format_of),
                tolerance=lambda graph: tolerance_from(eps, graph.outputs, claim.zero),
                settings=settings,
                spec=other,
                spec_contract=spec_contract,
                match=match,
                text=text or claim.name,
                given={} if own is None else own,
                constraint=constraint_of(value),
                certificate=places["certificate"] is not None,
                shapes=shapes_of_value(value),
            )
        )
        for one, where in ((model, source), (spec, other)):
            if isinstance(where, Path) and not is_file(one):
                result = _without_file(result, where)
    return _kept(result, places)


def _without_file(result: Result, file: Path) -> Result:
    """The result of a model that was a file for a moment alone."""

    def without(graph: Graph) -> Graph:
        return replace(graph, source=None) if graph.source == file else graph

    spec = result.spec
    return replace(
        result,
        graph=without(result.graph),
        spec=None if spec is None else replace(spec, graph=without(spec.graph)),
        assumptions=tuple(replace(a, text=shown(a.text, file)) for a in result.assumptions),
        notes=tuple(shown(note, file) for note in result.notes),
    )


def _kept(result: Result, places: Mapping[str, Path | None]) -> Result:
    """The result, written where it was asked for."""
    saved, document, queries = (places[n] for n in ("counterexample", "json", "dump_smt2"))
    result = with_certificate(result, places["certificate"])
    if saved is not None and result.witness is not None:
        result = replace(result, witness_file=as_json(saved))
        save_witness(result, as_json(saved))
    if queries is not None:
        dump_smt2(result.every_obligation, queries)
    if document is not None:
        text = result.to_json()
        write_text(document, text)
    if places["report"] is not None:
        write_text(places["report"], result.to_html())
    return result


def domain_value(domain: object, words: dict[str, Any]) -> tuple[object, Around]:
    """The domain, which one of the keywords may give instead, and what goes with it."""
    named = {n: v for n in _DOMAINS if (v := words.pop(n, None)) is not None}
    if len(named) + (domain is not None) > 1:
        every = [*(["domain"] if domain is not None else []), *(f"{n}=" for n in named)]
        raise ModelError(f"{' and '.join(every)} each give a domain; keep one of them")
    around = Around(
        words.pop("radius", None),
        words.pop("clip", None),
        words.pop("round_inputs", False),
        words.pop("strict_inputs", False),
    )
    for name in ("round_inputs", "strict_inputs"):
        if not isinstance(said := getattr(around, name), bool):
            raise ModelError(f"{name}= is True or False, not {told(said)}")
    for name, value in named.items():
        if name == "input":
            return ranges_of(value), around
        text = isinstance(value, str | os.PathLike)
        if text or name != "center":
            return [f"--{name}", path_text(name, value)], around
        return value, around
    return domain, around


def ranges_of(value: object) -> tuple[str, ...]:
    """`input=` as texts. Raises ModelError for anything else."""
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, Sequence) or not texts or not all(isinstance(t, str) for t in texts):
        raise ModelError(f"input= is a range such as 'x=-1..1', or several, not {told(value)}")
    return tuple(texts)


def contract_value(name: str, value: object) -> str | RuntimeContract:
    """A contract, or its name or file. Raises ModelError for anything else."""
    if isinstance(value, Probed):
        return value.contract
    if isinstance(value, RuntimeContract):
        return value
    if isinstance(value, str | os.PathLike):
        return path_text(name, value)
    raise ModelError(f"{name}= is a contract, or the name or the file of one, not {told(value)}")


def match_value(value: object) -> Mapping[str, str] | None:
    """Which tensors correspond: a mapping, or `NAME=NAME` once or several times."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        if all(isinstance(n, str) for pair in value.items() for n in pair):
            return value
        raise ModelError(f"match= is a mapping of tensors' names, not {told(value)}")
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(t, str) for t in texts):
        raise ModelError(f"match= is a mapping of tensors' names, not {told(value)}")
    return match_of(tuple(texts))


def bounded_text(value: object, relative: object = False) -> str:
    """The claim that `bound` makes: of relative errors, by `margin=` of every two scores or of one
    label's, or else of errors. Raises ModelError for both together."""
    if value is None or value is False:
        return RELATIVE if relative else USUAL
    if relative:
        raise ModelError("margin= does not go with relative=")
    if value is True:
        return MARGIN
    if isinstance(value, str | Integral):
        return f"{MARGIN}:{value}"
    raise ModelError(f"margin= is True, a label or text such as 'NAME[3]', not {told(value)}")


def text_of(name: str, value: object) -> str:
    """An option that is text. Raises ModelError, naming it, for anything else."""
    if not isinstance(value, str):
        raise ModelError(f"{name}= is text, not {told(value)}")
    return value


def path_text(name: str, value: object) -> str:
    """The path of a file as text. Raises ModelError, naming the option, for what is none."""
    if not isinstance(value, str | os.PathLike):
        raise ModelError(f"{name}= is the path of a file, not {told(value)}")
    try:
        path = os.fsdecode(value)
        possible = b"\0" not in os.fsencode(path)
    except UnicodeError:
        possible = False
    if not possible:
        raise ModelError(f"{name}= is a path that no file can have: {told(value)}")
    return path


def _place(name: str, value: object) -> Path | None:
    return None if value is None else Path(path_text(name, value))


def places_of(allow: object) -> tuple[Path, ...]:
    """`allow=` as paths. Raises ModelError for anything else."""
    if isinstance(allow, str | os.PathLike):
        return (Path(path_text("allow", allow)),)
    if not isinstance(allow, Sequence):
        raise ModelError(f"allow= is a path or several, not {told(allow)}")
    return tuple(Path(path_text("allow", path)) for path in allow)


def path_of(source: Path | Graph) -> Path:
    """Where a model came from; the empty path for one that came from no file."""
    path = source.source if isinstance(source, Graph) else source
    return Path() if path is None else path
