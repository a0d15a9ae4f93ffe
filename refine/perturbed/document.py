"""The backward error as a table and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from encoders.contract.contract import RuntimeContract
from encoders.lemmas.application import lemmas_of
from encoders.lemmas.kernel import Radius
from onnx_import.graph import Graph
from refine.perturbed.bound import BackwardBound, Moved
from refine.perturbed.standing import Laid
from refine.perturbed.witness import Witness
from refine.results.document import strict_json
from refine.results.numerals import plain_number, up
from refine.results.verdict import Verdict

SCHEMA = "refine-backward-1"
WITNESS_COLUMNS = ("node", "weights", "observed |w̃ − w|/|w|", "bound", "rows that underflow")
COLUMNS = ("takes", "shape", "in", "|ln(w̃/w)|", "|w̃ − w|/|w|", "and absolutely")


def rows_of(found: BackwardBound) -> list[tuple[str, ...]]:
    """The table: one row for each parameter or input, and one for each output without a bias."""
    rows: list[tuple[str, ...]] = [
        (
            m.tensor,
            "×".join(map(str, m.shape)) or "scalar",
            m.node,
            f"{up(m.multiples, 6)} u",
            up(m.relative.largest, 4),
            "" if m.besides is None else up(m.besides.largest, 3),
        )
        for m in found.moved
    ]
    mixed: list[tuple[str, ...]] = [
        (t, "", "mixed", "", "", up(r.largest, 3)) for t, r in found.mixed.items()
    ]
    return rows + mixed


def document_of(
    found: BackwardBound,
    *,
    epsilon: Fraction | None = None,
    verdict: Verdict | None = None,
    witness: dict[str, Any] | None = None,
) -> str:
    """What `--json` writes."""
    radii = [m.log for m in found.moved] + [m.relative for m in found.moved]
    radii += [m.besides for m in found.moved if m.besides is not None]
    records = [radius.record for radius in (*radii, *found.mixed.values())]
    made = {
        "schema": SCHEMA,
        "model": {"path": str(found.graph.source), "sha256": found.graph.sha256},
        "contract": found.contract.name,
        "backward": found.laid.value,
        "verdict": None if verdict is None else verdict.value,
        "eps": None if epsilon is None else str(epsilon),
        "multiples": plain_number(found.multiples),
        "relative": plain_number(found.largest),
        "moved": [_plain(m) for m in found.moved],
        "mixed": {t: plain_number(r.largest) for t, r in found.mixed.items()},
        "assumptions": list(found.assumed),
        "lemmas": sorted({name for record in records for name in _names(record)}),
        "witness": witness,
    }
    return strict_json(made)


def refused_document(graph: Graph, contract: RuntimeContract, laid: Laid, reason: str) -> str:
    """What `--json` writes where errors can be laid on nothing."""
    return strict_json(
        {
            "schema": SCHEMA,
            "model": {"path": str(graph.source), "sha256": graph.sha256},
            "contract": contract.name,
            "backward": laid.value,
            "verdict": Verdict.UNKNOWN.value,
            "reason": reason,
        }
    )


def witness_document(
    witness: Witness, *, runtime: str, output: str | None, exact: str | None
) -> dict[str, Any]:
    """What is said of a witness: layer by layer the largest relative change in units of u."""
    return {
        "inputs": witness.samples,
        "runtime": runtime,
        "output": output,
        "exact": exact,
        "layers": [
            {
                "node": layer.node,
                "weights": layer.weights,
                "observed": layer.multiples,
                "bound": float(layer.bound / Fraction(layer.unit)),
                "underflows": layer.underflows,
            }
            for layer in witness.layers
        ],
    }


def witness_rows(witness: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The same as a table."""
    return [
        (
            layer["node"],
            layer["weights"],
            f"{up(layer['observed'], 3)} u",
            f"{up(layer['bound'], 6)} u",
            str(layer["underflows"] or ""),
        )
        for layer in witness["layers"]
    ]


def told_witness(witness: Mapping[str, Any]) -> str:
    """What a witness shows, in a sentence."""
    count = witness["inputs"]
    of = "the input" if count == 1 else f"each of {count} inputs"
    text = (
        f"on {of} the bits of {witness['runtime']} are the exact output for weights moved by "
        "what is below: checked in rational numbers"
    )
    if witness["output"] is not None:
        text += f"; wrote {witness['output']} (binary64) and {witness['exact']} (exact)"
    return text


def _names(record: Any) -> tuple[str, ...]:
    return lemmas_of(record.everything())


def _plain(moved: Moved) -> dict[str, Any]:
    besides: Radius | None = moved.besides
    return {
        "tensor": moved.tensor,
        "shape": list(moved.shape),
        "node": moved.node,
        "u": moved.unit,
        "multiples": plain_number(moved.multiples),
        "log": plain_number(moved.log.largest),
        "relative": plain_number(moved.relative.largest),
        "besides": None if besides is None else plain_number(besides.largest),
    }
