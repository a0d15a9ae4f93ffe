"""A result as one JSON document with stable keys."""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from fractions import Fraction
from typing import Any

import numpy as np

from encoders.contract.contract import RuntimeContract
from encoders.contract.table import contract_document, evidence_word
from encoders.program import program_of
from onnx_import.graph import Graph
from refine import __version__
from refine.common.rounding import float_down, float_up
from refine.results.certification import Certification
from refine.results.grounds import grounds_of
from refine.results.obligation import Obligation
from refine.results.record import application_document
from refine.results.relative import RelativeFigures
from refine.results.verdict import (
    Conduct,
    ErrorEnclosure,
    Execution,
    LayerValue,
    ProvedMargin,
    Reached,
    Result,
    Tolerance,
    Witness,
)

SCHEMA = "refine-result-1"
_LEMMA = "lemma "
_PACKAGES = ("z3-solver", "numpy", "onnx", "onnxruntime", "python-flint", "networkx")


def document_of(result: Result) -> dict[str, Any]:
    """Every key of the documented schema, in its order.

    Numbers are plain JSON numbers, rounded up (errors found: down), with a sibling `…_hex`;
    infinity and NaN are the strings "inf" and "nan".
    """
    return {
        "schema": SCHEMA,
        "verdict": result.verdict.value,
        "timed_out": result.timed_out,
        "reason": result.reason,
        **({} if result.claimed is None else {"claim": result.claimed.statement}),
        **_tolerance(result.tolerance),
        **_margins(result.margins),
        **_relative(result.relative),
        **_bound(result),
        "bounds": {t: _nested(b) for t, b in result.bounds.items()},
        "bounds_hex": {t: _nested_hex(b) for t, b in result.bounds.items()},
        **_found(result.largest_found),
        "worst_found_by": result.found_by,
        "domain": {
            "source": result.domain.source,
            "boxes": [
                {
                    name: {"lo": _nested(box.lo[name]), "hi": _nested(box.hi[name])}
                    for name in box.lo
                }
                for box in result.domain.boxes
            ],
            "round_inputs": result.domain.round_inputs,
            "notes": list(result.domain.notes),
        },
        "contract": contract_document(result.contract)
        | {"description": program_of(result.graph).ruled(result.contract).describe()},
        "grounds": _grounds(result.graph, result.contract),
        "assumptions": [{"name": a.name, "text": a.text} for a in result.assumptions],
        "lemmas": [_obligation(o) for o in result.obligations],
        "nodes": [
            {
                "name": n.name,
                "op": n.op,
                "range": [_json(n.low), _json(n.high)],
                **_number("error", n.error),
                **_number("local_error", n.local),
                **_number("inherited_error", n.inherited),
                **_number("change_error", n.change),
                "share": n.share,
                "rounding_share": n.rounding_share,
                "relaxation_share": n.relaxation_share,
                "reads": list(n.reads),
                "writes": list(n.writes),
                "obligations": [_obligation(o) for o in n.obligations],
            }
            for n in result.nodes
        ],
        "remedies": [
            {
                "node": r.node,
                "op": r.op,
                "kind": r.kind.value,
                "change": r.change,
                **_number("bound", r.bound),
            }
            for r in result.remedies
        ],
        "counterexample": None if result.witness is None else _witness(result, result.witness),
        "contract_broken": bool(result.broken),
        "runtime": _conduct(result.conduct),
        "specification_runtime": _conduct(result.spec_conduct),
        "model": _model(result.graph),
        "specification": None
        if result.spec is None
        else _model(result.spec.graph)
        | {
            "contract": contract_document(result.spec.contract),
            "grounds": _grounds(result.spec.graph, result.spec.contract),
        },
        "pairing": None
        if result.pairing is None
        else {"inputs": dict(result.pairing.inputs), "outputs": dict(result.pairing.outputs)},
        **_compared(result),
        "certificate": _certificate(result.certification),
        "notes": list(result.notes),
        "suggestion": result.suggestion,
        "seed": result.seed,
        "versions": versions(),
        "seconds": result.seconds,
    }


def _compared(result: Result) -> dict[str, Any]:
    """How two graphs are related, how their ends were matched, and where they differ."""
    compared, pairing = result.compared, result.pairing
    if compared is None or pairing is None:
        return {}
    ends = {"inputs": pairing.inputs, "outputs": pairing.outputs}
    return {
        "relation": compared.relation.value,
        "matching": {
            name: {"by": pairing.by(pairs), "pairs": dict(pairs)} for name, pairs in ends.items()
        },
        "differences": [
            {
                "spec": list(d.spec),
                "impl": list(d.impl),
                "kind": d.kind.value,
                **_number("effect", d.effect),
                **_number("largest", d.largest),
                "text": d.text,
            }
            for d in compared.differences
        ],
    }


def json_text(result: Result) -> str:
    """The document as strict JSON, one trailing newline."""
    return strict_json(document_of(result))


def contradiction_text(result: Result, arguments: Sequence[str]) -> str:
    """What a report of an internal contradiction needs beside the model: the document of the
    result, and the command line that gave it."""
    whole = {"command": list(arguments), **document_of(result)}
    return strict_json(whole)


def strict_json(document: Mapping[str, Any]) -> str:
    """A document as text that every reader of JSON takes, one trailing newline."""
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def versions() -> dict[str, str]:
    """Versions of everything a result depends on."""
    found = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "refine": __version__,
    }
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _certificate(made: Certification | None) -> dict[str, Any] | None:
    """None where nothing is verified, or where certificates have no such claims."""
    if made is None:
        return None
    return {
        "in_language": made.outside is None,
        "outside": made.outside,
        "leaves": made.leaves,
        "file": None if made.file is None else str(made.file),
    }


def _tolerance(tolerance: Tolerance) -> dict[str, Any]:
    """As the nearest float64, so that 0.001 reads as 0.001."""
    if not tolerance.given:
        return {"eps": None, "eps_hex": None}
    if not tolerance.by_output:
        assert tolerance.common is not None
        return _number("eps", float(tolerance.common))
    every = {"*": tolerance.common} if tolerance.common is not None else {}
    named: Mapping[str, Fraction] = every | dict(tolerance.by_output)
    return {
        "eps": {name: float(e) for name, e in named.items()},
        "eps_hex": {name: float(e).hex() for name, e in named.items()},
    }


def _number(key: str, value: float) -> dict[str, Any]:
    return {key: _json(value), f"{key}_hex": _hex(value)}


def _bound(result: Result) -> dict[str, Any]:
    """None where margins are claimed in place of a bound."""
    if result.margins is not None:
        return {"bound": None, "bound_hex": None}
    return _number("bound", result.bound)


def _found(worst: float | None) -> dict[str, Any]:
    """None: nobody looked, because the claim was proved."""
    if worst is None:
        return {"worst_found": None, "worst_found_hex": None}
    return _number("worst_found", worst)


def _json(value: float) -> float | str:
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return float(value)


def _hex(value: float) -> str:
    return float(value).hex() if math.isfinite(value) else str(_json(value))


def _nested(values: Any) -> Any:
    return np.vectorize(_json, otypes=[object])(values).tolist() if np.size(values) else []


def _nested_hex(values: Any) -> Any:
    return np.vectorize(_hex, otypes=[object])(values).tolist() if np.size(values) else []


def _obligation(o: Obligation) -> dict[str, Any]:
    return {
        "name": o.name,
        "kind": o.kind.value,
        "goal": o.goal,
        "discharger": o.discharger.value,
        "verdict": o.outcome.value,
        "seconds": o.seconds,
        **({"detail": o.detail} if o.detail else {}),
        **({"lemmas": applied} if (applied := _applied(o)) else {}),
        **({"application": application_document(o.application)} if o.application else {}),
    }


def _applied(o: Obligation) -> list[str]:
    """The names of the lemmas that an obligation was decided by."""
    if o.application is not None and o.application.lemma is not None:
        return [o.application.lemma.name]
    return [h.removeprefix(_LEMMA) for h in o.hypotheses if h.startswith(_LEMMA)]


def _grounds(graph: Graph, contract: RuntimeContract) -> list[dict[str, Any]]:
    return [
        {
            "field": g.field,
            "value": g.value,
            "evidence": evidence_word(g.evidence),
            "source": g.source,
        }
        for g in grounds_of(graph, contract)
    ]


def _witness(result: Result, witness: Witness) -> dict[str, Any]:
    files = result.witness_file
    return {
        "inputs": {
            name: _nested_hex(np.asarray(v, np.float64)) for name, v in witness.inputs.items()
        },
        "npz": None if files is None else str(files.with_suffix(".npz")),
        "file": None if files is None else str(files),
        "execution": contract_document(witness.execution),
        "output": witness.output,
        "index": list(witness.index),
        **_number("value", witness.value),
        "error": _error(witness.error),
        **({"relative": True} if witness.relative else {}),
        **_reached(witness.reached),
        "replays": [
            {
                "runtime": r.runtime,
                **(
                    {
                        **_number("value", r.value),
                        "error": _error(r.error),
                        **({} if r.within is None else {"reaches": r.within}),
                    }
                    if isinstance(r, Execution)
                    else {"refused": r.why}
                ),
            }
            for r in witness.replays
        ],
        "layers": [_layer(layer) for layer in witness.layers],
    }


def _layer(layer: LayerValue) -> dict[str, Any]:
    """What was computed after a node, its real value (both ends), and the error."""
    real = layer.real
    return {
        "name": layer.name,
        "op": layer.op,
        "tensor": layer.tensor,
        "index": list(layer.index),
        **_number("value", layer.value),
        "real": None
        if real is None
        else {
            **_number("low", -float_up(-real.lo) if real.lo < 0 else float_down(real.lo)),
            **_number("high", -float_down(-real.hi) if real.hi < 0 else float_up(real.hi)),
        },
        "error": _error(layer.error),
    }


def _margins(margins: tuple[ProvedMargin, ...] | None) -> dict[str, Any]:
    """Of a claim that has margins in place of bounds."""
    if margins is None:
        return {}
    return {
        "margins": [
            {
                "unsafe": m.unsafe,
                **_number("margin", m.run),
                **_number("margin_over_reals", m.real),
            }
            for m in margins
        ]
    }


def _relative(figures: tuple[RelativeFigures, ...]) -> dict[str, Any]:
    """Of a claim of relative errors."""
    if not figures:
        return {}
    return {
        "relative": [
            {
                "output": f.output,
                **_number("precision", f.precision),
                **_number("relative_error", f.error),
                **_number("ulps", f.ulps),
                **_number("rtol", f.rtol),
                **_number("atol", f.atol),
                **({} if f.while_normal is None else _number("while_normal", f.while_normal)),
            }
            for f in figures
        ]
    }


def _reached(reached: Reached | None) -> dict[str, Any]:
    """Of a property: what the input reaches, as it runs and over the reals."""
    if reached is None:
        return {}
    outputs = {t: np.asarray(v, np.float64) for t, v in reached.outputs.items()}
    return {
        "reached": {
            "unsafe": str(reached.unsafe),
            **_number("slack", float_up(reached.slack)),
            "within": reached.within,
            "over_reals": reached.real,
            "outputs_hex": {t: _nested_hex(v) for t, v in outputs.items()},
        }
    }


def _error(error: ErrorEnclosure) -> dict[str, Any]:
    if not error.finite:
        return {"low": "inf", "high": "inf"}
    return {
        **_number("low", float_down(error.lo)),
        **_number("high", float_up(error.hi)),
    }


def _conduct(conduct: Conduct | None) -> dict[str, Any] | None:
    return None if conduct is None else asdict(conduct)


def _model(graph: Graph) -> dict[str, Any]:
    return {
        "path": None if graph.source is None else str(graph.source),
        "sha256": graph.sha256,
        "operators": dict(sorted(Counter(n.op for n in graph.order).items())),
        "parameters": graph.parameters,
    }
