"""The graph, drawn in layers from the inputs down, each node coloured by its share of the bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from refine.common.visible import visible
from refine.results.page.markup import Document, as_float, percent, section, text

_MOST = 400  # nodes that are drawn
_WIDTH, _HEIGHT, _GAP, _BETWEEN, _LANE, _EDGE = 188, 40, 26, 16, 14, 8  # pixels
_LONGEST = 24  # characters of a name
_SWEEPS = 4
_STRONGEST = 0.6


@dataclass(frozen=True)
class _Spot:
    """A node (or, None, a place where a long edge passes) in a layer."""

    node: int | None
    width: int


def drawing_of(document: Document) -> str:
    """The graph as SVG; of very large ones nothing, for the table says the same."""
    nodes = document["nodes"]
    if not 1 < len(nodes) <= _MOST or not any(n.get("writes") for n in nodes):
        return ""
    lead = "Each node coloured by its part of the largest bound; data flows downwards."
    return section("Graph", f'<div class="drawing">{_svg(document, nodes)}</div>', lead)


def _svg(document: Document, nodes: Sequence[Mapping[str, Any]]) -> str:
    writers = {t: i for i, n in enumerate(nodes) for t in n["writes"]}
    before = [sorted({writers[t] for t in n["reads"] if t in writers}) for n in nodes]
    spots, layers, edges = _layered(before)
    xs = _columns(spots, layers, edges)
    width = max(xs[s] + spots[s].width for layer in layers for s in layer) + 2 * _EDGE
    shift = _EDGE - min(xs[s] for layer in layers for s in layer)
    width += max(shift - _EDGE, 0)
    step = _HEIGHT + _GAP
    row = {s: k for k, layer in enumerate(layers) for s in layer}
    lines = [
        _edge(
            xs[a] + shift + spots[a].width / 2,
            row[a] * step + _EDGE + _HEIGHT,
            xs[b] + shift + spots[b].width / 2,
            row[b] * step + _EDGE,
        )
        for a, b in edges
    ]
    passing = [
        f'<path class="edge" d="M{_n(xs[s] + shift + spot.width / 2)} {row[s] * step + _EDGE}v'
        f'{_HEIGHT}"/>'
        for s, spot in enumerate(spots)
        if spot.node is None
    ]
    most = max(as_float(n["share"]) for n in nodes) or 1.0
    boxes = [
        _box(document, spot.node, xs[s] + shift, row[s] * step + _EDGE, most)
        for s, spot in enumerate(spots)
        if spot.node is not None
    ]
    height = len(layers) * step - _GAP + 2 * _EDGE
    return (
        f'<svg width="{_n(width)}" height="{height}" role="img" aria-label="the graph">'
        f"{''.join(lines)}{''.join(passing)}{''.join(boxes)}</svg>"
    )


def _layered(
    before: Sequence[Sequence[int]],
) -> tuple[list[_Spot], list[list[int]], list[tuple[int, int]]]:
    """Spots, the spots of each layer, and edges between neighbouring layers."""
    depth: list[int] = []
    for i, reads in enumerate(before):
        depth.append(1 + max((depth[j] for j in reads if j < i), default=-1))
    spots = [_Spot(i, _WIDTH) for i in range(len(before))]
    layers: list[list[int]] = [[] for _ in range(max(depth) + 1)]
    for i, d in enumerate(depth):
        layers[d].append(i)
    edges = []
    for i, reads in enumerate(before):
        for j in reads:
            last = j
            for d in range(depth[j] + 1, depth[i]):
                spots.append(_Spot(None, _LANE))
                layers[d].append(len(spots) - 1)
                edges.append((last, len(spots) - 1))
                last = len(spots) - 1
            edges.append((last, i))
    return spots, layers, edges


def _columns(
    spots: Sequence[_Spot], layers: list[list[int]], edges: Sequence[tuple[int, int]]
) -> dict[int, float]:
    """Left sides, near the middle of what a spot is joined to, without overlaps."""
    above: dict[int, list[int]] = {}
    below: dict[int, list[int]] = {}
    for a, b in edges:
        above.setdefault(b, []).append(a)
        below.setdefault(a, []).append(b)
    middles: dict[int, float] = {}
    for layer in layers:
        _placed(spots, layer, middles, above)
    for sweep in range(_SWEEPS):
        joined, order = (below, layers[::-1]) if sweep % 2 == 0 else (above, layers)
        for layer in order:
            _placed(spots, layer, middles, joined)
    return {s: middles[s] - spots[s].width / 2 for s in middles}


def _placed(
    spots: Sequence[_Spot],
    layer: list[int],
    middles: dict[int, float],
    joined: Mapping[int, Sequence[int]],
) -> None:
    """Order a layer by the middles of what its spots are joined to, and push them apart evenly."""
    wanted = {}
    for place, s in enumerate(layer):
        known = [middles[t] for t in joined.get(s, ()) if t in middles]
        own = middles.get(s, place * float(_WIDTH))
        wanted[s] = sum(known) / len(known) if known else own
    layer.sort(key=lambda s: wanted[s])
    groups: list[tuple[list[int], float, float]] = []  # spots, left side, width
    for s in layer:
        group, left, width = [s], wanted[s] - spots[s].width / 2, float(spots[s].width)
        while groups and groups[-1][1] + groups[-1][2] + _BETWEEN > left:
            spots_before, left_before, width_before = groups.pop()
            total = width_before + _BETWEEN + width
            middle = (
                (left_before + width_before / 2) * len(spots_before)
                + (left + width / 2) * len(group)
            ) / (len(spots_before) + len(group))
            group, left, width = spots_before + group, middle - total / 2, total
        groups.append((group, left, width))
    for group, left, _ in groups:
        x = left
        for s in group:
            middles[s] = x + spots[s].width / 2
            x += spots[s].width + _BETWEEN


def _edge(x: float, y: float, to_x: float, to_y: float) -> str:
    bend = (to_y - y) / 2
    return (
        f'<path class="edge" d="M{_n(x)} {_n(y)}C{_n(x)} {_n(y + bend)} {_n(to_x)} '
        f'{_n(to_y - bend)} {_n(to_x)} {_n(to_y)}"/>'
    )


def _box(document: Document, i: int, x: float, y: float, most: float) -> str:
    node = document["nodes"][i]
    name = visible(node["name"])
    short = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 10]}…{name[-9:]}"
    heat = _STRONGEST * as_float(node["share"]) / most
    title = f"{name} ({node['op']})"
    share = percent(
        document,
        ("nodes", i, "share"),
        tag="text",
        more=f' x="{_n(x + _WIDTH - 8)}" y="{_n(y + 16)}" text-anchor="end"',
    )
    shape = f'x="{_n(x)}" y="{_n(y)}" width="{_WIDTH}" height="{_HEIGHT}" rx="6"'
    return (
        f"<g><title>{escape(title)}</title>"
        f'<rect class="box" {shape}/><rect class="heat" {shape} fill-opacity="{heat:.3f}"/>'
        f'<text x="{_n(x + 8)}" y="{_n(y + 16)}">{text(node["op"][:20])}</text>{share}'
        f'<text class="sub" x="{_n(x + 8)}" y="{_n(y + 32)}">{escape(short)}</text></g>'
    )


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
