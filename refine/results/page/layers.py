"""The layers with bars: what each adds to the error, and what it costs in the largest bound."""

from __future__ import annotations

import math

from refine.results.page.markup import (
    Document,
    as_float,
    between,
    figure,
    folded,
    percent,
    section,
    table,
    text,
)

_ROWS = 24
_HEADS = ("node", "operator", "real range", "error after it", "its part of the largest bound")


def layers_of(document: Document) -> str:
    """A row for each layer, those that matter least folded away."""
    nodes = document["nodes"]
    if not nodes:
        return ""
    dearest = sorted(range(len(nodes)), key=lambda i: -as_float(nodes[i]["share"]))[:_ROWS]
    first = next((i for i, n in enumerate(nodes) if not math.isfinite(as_float(n["error"]))), None)
    shown = sorted({*dearest, *(() if first is None else (first,))})
    rest = [i for i in range(len(nodes)) if i not in shown]
    body = _keys() + table(_HEADS, [_row(document, i) for i in shown], "layers")
    body += folded(
        f"{len(rest)} layers with smaller parts",
        table(_HEADS, [_row(document, i) for i in rest], "layers") if rest else "",
    )
    lead = (
        "Left bar: of the error after the layer, what its own arithmetic adds (and by how much it "
        "differs from the other model's) and what it has from its inputs. Right bar: what of the "
        "largest bound comes of its rounding, and what "
        "is lost because the proof covers a whole range of inputs (relaxation)."
    )
    return section("Layers", body, lead)


def _keys() -> str:
    every = (("own", "own rounding"), ("from", "inherited"), ("relax", "relaxation"))
    return "".join(f'<span class="key"><i class="{c}"></i>{name}</span>' for c, name in every)


def _row(document: Document, i: int) -> list[str]:
    node, place = document["nodes"][i], ("nodes", i)
    most = max(as_float(n["share"]) for n in document["nodes"]) or 1.0
    rounding, relaxed = (as_float(node[f"{k}_share"]) / most for k in ("rounding", "relaxation"))
    own = as_float(node["local_error"]) + as_float(node["change_error"])
    inherited = as_float(node["inherited_error"])
    differs = ""
    if as_float(node["change_error"]) > 0:
        differs = f", differs by {figure(document, (*place, 'change_error'))}"
    return [
        f'<span class="name">{text(node["name"])}</span>',
        text(node["op"]),
        between(document, (*place, "range")),
        figure(document, (*place, "error"))
        + bar(("own", _part(own, inherited)), ("from", _part(inherited, own)))
        + f'<span class="note">own {figure(document, (*place, "local_error"))}{differs}</span>',
        percent(document, (*place, "share"))
        + bar(("own", rounding), ("relax", relaxed))
        + '<span class="note">'
        + f"rounding {percent(document, (*place, 'rounding_share'))}, "
        + f"relaxation {percent(document, (*place, 'relaxation_share'))}</span>",
    ]


def bar(*parts: tuple[str, float]) -> str:
    """A bar of parts, each a class and a length between 0 and 1."""
    drawn = "".join(
        f'<i class="{kind}" style="width:{100 * min(length, 1.0):.2f}%"></i>'
        for kind, length in parts
        if length > 0
    )
    return f'<span class="bar" aria-hidden="true">{drawn}</span>'


def _part(one: float, other: float) -> float:
    """The part of the first of both; an infinite number is all of it."""
    if not math.isfinite(one) or not math.isfinite(other):
        return float(not math.isfinite(one))
    return one / (one + other) if one > 0 else 0.0
