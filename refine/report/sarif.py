"""Findings in SARIF 2.1.0, which code scanning reads: what is wrong, at a model's node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from refine.common.visible import visible
from refine.report.findings import Finding, Outcome
from refine.results.document import strict_json, versions

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS: Mapping[Outcome, str] = {
    Outcome.FAILED: "error",
    Outcome.ERROR: "error",
    Outcome.UNDECIDED: "warning",
}
_RULES: Mapping[str, str] = {
    "violated": "An input and an allowed execution break the claim, evaluated exactly.",
    "unknown": "Neither a proof nor a counterexample was found.",
    "time-out": "The time limit was reached before the claim was settled.",
    "contract-broken": "A runtime here was seen to leave the contract that the proof is about.",
    "conditional": "The claim holds where another verifier is right.",
    "input-error": "A file could not be read.",
    "internal-error": "An internal error, or a contradiction: please report it.",
}


def sarif_text(findings: Sequence[Finding]) -> str:
    """A log of one run; what passed is in no result of it."""
    results = [_result(f) for f in findings if f.outcome is not Outcome.PASSED]
    used = [rule for rule in _RULES if any(r["ruleId"] == rule for r in results)]
    for result in results:
        result["ruleIndex"] = used.index(result["ruleId"])
    driver = {
        "name": "refine",
        "version": str(versions()["refine"]),
        "rules": [{"id": r, "shortDescription": {"text": _RULES[r]}} for r in used],
    }
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return strict_json({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]})


def _result(f: Finding) -> dict[str, Any]:
    location: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": {"uri": _uri(f.model)},
            "region": {"startLine": 1},  # a model has no lines, and viewers want one
        }
    }
    if f.node is not None:
        location["logicalLocations"] = [{"name": visible(f.node), "kind": "object"}]
    where = "" if f.node is None else f", at node '{f.node}'"
    return {
        "ruleId": f.rule,
        "level": _LEVELS[f.outcome],
        "message": {"text": visible(f"{f.name}: {f.message}{where}")},
        "locations": [location],
    }


def _uri(model: str) -> str:
    """Relative to the working directory, where the model lies below it."""
    path = Path(model)
    if path.is_absolute():
        here = Path.cwd()
        if not path.is_relative_to(here):
            return path.as_uri()
        path = path.relative_to(here)
    return quote(path.as_posix())
