"""The counterexample: each execution's value, and layer by layer what was computed beside what is
exact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from refine.results.numerals import down, up
from refine.results.page.markup import (
    Document,
    Place,
    exactly,
    figure,
    section,
    table,
    text,
)

_LISTED = 32  # elements of an input that are listed


def counterexample_of(document: Document) -> str:
    """Nothing where there is none."""
    witness = document["counterexample"]
    if witness is None:
        return ""
    place: Place = ("counterexample",)
    element = f"{witness['output']}{witness['index']}"
    rows = [
        [
            text(f"emulated: {witness['execution']['name']}"),
            exactly(document, (*place, "value")),
            _error(document, (*place, "error")),
            _reaching(witness.get("reached", {}).get("within")),
        ]
    ]
    for i, replay in enumerate(witness["replays"]):
        at: Place = (*place, "replays", i)
        if "refused" in replay:
            rows.append(
                [
                    text(replay["runtime"]),
                    f'<span class="note">{text(replay["refused"])}</span>',
                    "",
                    "",
                ]
            )
            continue
        value, error = exactly(document, (*at, "value")), _error(document, (*at, "error"))
        rows.append([text(replay["runtime"]), value, error, _reaching(replay.get("reaches"))])
    of_property = "reached" in witness
    error = "exact relative error" if witness.get("relative") else "exact error"
    heads = ["execution", "value", error] + (["in the unsafe set"] if of_property else [])
    body = table(heads, [row[: len(heads)] for row in rows])
    if of_property:
        body += f"<p>unsafe set: {text(witness['reached']['unsafe'])}</p>"
    body += "".join(_inputs(witness)) + _layers(document, witness)
    return section("Counterexample", body, f"at output element {text(element)}")


def _reaching(within: bool | None) -> str:
    return "–" if within is None else "yes" if within else "no"


def _error(document: Document, place: Place) -> str:
    return figure(document, (*place, "low"), 6, down)


def _inputs(witness: Mapping[str, Any]) -> Iterator[str]:
    for name, nested in witness["inputs"].items():
        flat = list(_flat(nested))
        if len(flat) <= _LISTED:
            shown = ", ".join(repr(float.fromhex(x)) for x in flat)
            yield f"<p>input {text(name)} = <code>{text(shown)}</code></p>"
        else:
            where = f", in {text(witness['npz'])}" if witness["npz"] else ""
            yield f"<p>input {text(name)}: {len(flat)} numbers{where}</p>"


def _flat(nested: Any) -> Iterator[str]:
    if isinstance(nested, list):
        for part in nested:
            yield from _flat(part)
    else:
        yield nested


def _layers(document: Document, witness: Mapping[str, Any]) -> str:
    layers = witness["layers"]
    if not layers:
        return ""
    rows = []
    for i, layer in enumerate(layers):
        place: Place = ("counterexample", "layers", i)
        rows.append(
            [
                f'<span class="name">{text(layer["name"])}</span>',
                text(layer["op"]),
                text(f"{layer['tensor']}{layer['index']}"),
                exactly(document, (*place, "value")),
                "no value" if layer["real"] is None else exactly(document, (*place, "real", "low")),
                figure(document, (*place, "error", "high"), 3, up),
            ]
        )
    spec = document["specification"]
    of_spec = spec is not None and spec["contract"]["exact"]
    meant = "exact, of the specification" if of_spec else "exact"
    heads = ("node", "operator", "furthest element", "computed", meant, "error")
    return "<h3>Layer by layer</h3>" + table(heads, rows)
