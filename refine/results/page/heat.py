"""A heat map of the bound: a cell for each output element, of many for each block of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from encoders.numbers.enclosure import FloatArray
from refine.results.numerals import up
from refine.results.page.markup import Document, Place, as_float, figure, section, text

_LABELLED = 128  # cells with their number in them
_CELLS = 2048
_SIDE = 14  # pixels
_COLUMNS = 64
_STRONGEST, _FAINTEST = 0.6, 0.06


def heat_of(document: Document) -> str:
    """Each output with its elements."""
    maps = [_output(document, name) for name in document["bounds"]]
    lead = (
        '<span class="scale"></span> none to the largest bound of the output; '
        "each number bounds the error of its element over the whole domain."
    )
    return section("Bound per output element", "".join(maps), lead)


def _output(document: Document, name: str) -> str:
    nested = document["bounds"][name]
    values = np.array(_floats(nested), np.float64)
    if values.size == 0:
        return ""
    flat = values.reshape(-1)
    largest = float(np.max(flat))
    shape = f"{list(values.shape)}" if values.ndim else "a number"
    title = f"<h3>{text(name)} <span class='note'>{text(shape)}</span></h3>"
    if flat.size <= _LABELLED:
        places = [
            tuple(int(i) for i in np.unravel_index(k, values.shape)) for k in range(flat.size)
        ]
        cells = "".join(
            _cell(document, name, p, _strength(flat[k], largest)) for k, p in enumerate(places)
        )
        return f'{title}<div class="cells">{cells}</div>'
    return title + _squares(document, name, values, largest)


def _cell(document: Document, name: str, index: tuple[int, ...], strength: float) -> str:
    place: Place = ("bounds", name, *index)
    where = f'<span class="where">{text(list(index))}</span>' if index else ""
    return f'<div class="cell" style="--v:{strength:.3f}">{where}{figure(document, place)}</div>'


def _squares(document: Document, name: str, values: FloatArray, largest: float) -> str:
    """Squares; where there are very many, of blocks of neighbours, each by its largest."""
    flat = values.reshape(-1)
    block = -(-flat.size // _CELLS)
    columns = values.shape[-1] if block == 1 and 1 < values.shape[-1] <= _COLUMNS else _COLUMNS
    squares = []
    for k, start in enumerate(range(0, flat.size, block)):
        best = start + int(np.argmax(flat[start : start + block]))
        index = tuple(int(i) for i in np.unravel_index(best, values.shape))
        x, y = _SIDE * (k % columns), _SIDE * (k // columns)
        value = float(flat[best])
        drawn = (
            f'<rect class="heat" x="{x}" y="{y}" width="{_SIDE - 1}" height="{_SIDE - 1}" '
            f'fill-opacity="{_strength(value, largest):.3f}">'
            f"<title>{list(index)}: {up(value, 3)}</title></rect>"
        )
        squares.append(drawn)
    rows = -(-len(squares) // columns)
    note = "" if block == 1 else f"each square is the largest of {block} neighbours; "
    at = np.unravel_index(int(np.argmax(flat)), values.shape)
    place: Place = ("bounds", name, *(int(i) for i in at))
    return (
        f'<p class="note">{note}the largest, at {list(map(int, at))}, is '
        f'{figure(document, place)}</p><div class="drawing"><svg width="{_SIDE * columns}" '
        f'height="{_SIDE * rows}" role="img" aria-label="bounds of {text(name)}">'
        f"{''.join(squares)}</svg></div>"
    )


def _floats(nested: Any) -> Any:
    """Numbers of a document, nested; infinities are texts there."""
    return [_floats(x) for x in nested] if isinstance(nested, list) else as_float(nested)


def _strength(value: float, largest: float) -> float:
    if not math.isfinite(value) or largest == 0.0:
        return _STRONGEST if value > 0 else 0.0
    part = value / largest if math.isfinite(largest) else 0.0
    return _FAINTEST + (_STRONGEST - _FAINTEST) * part if value > 0 else 0.0
