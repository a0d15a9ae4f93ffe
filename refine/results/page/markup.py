"""Pieces of HTML: escaped text, and numbers that say where in the document they stand."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any, TypeAlias

from refine.common.visible import visible
from refine.results.numerals import down, up

Document: TypeAlias = Mapping[str, Any]
"""A result document as `json.loads` gives it."""
Place: TypeAlias = tuple[str | int, ...]
"""Keys and positions that lead to a value of a document."""

Rounded: TypeAlias = Callable[[float, int], str]
"""`up` or `down` of refine/results/numerals.py."""


def text(words: object) -> str:
    """Text that may come from a file: shown, never obeyed."""
    return escape(visible(str(words)))


def at(document: Document, place: Place) -> Any:
    """The value that stands there."""
    found: Any = document
    for key in place:
        found = found[key]
    return found


def pointer(place: Place) -> str:
    """The place as a JSON pointer (RFC 6901)."""
    keys = (str(key).replace("~", "~0").replace("/", "~1") for key in place)
    return "".join(f"/{key}" for key in keys)


def as_float(value: Any) -> float:
    """A number of a document, where infinities and NaN are texts."""
    return float(value)


def figure(
    document: Document, place: Place, digits: int = 3, rounded: Rounded = up, tag: str = "span"
) -> str:
    """A number of the document, rounded the safe way; whole in its attribute and its tooltip."""
    value = at(document, place)
    if value is None:
        return "–"
    number = as_float(value)
    shown = rounded(number, digits) if math.isfinite(number) else _infinite(number)
    return tagged(tag, place, value, shown)


def percent(document: Document, place: Place, tag: str = "span", more: str = "") -> str:
    """A share as a percentage, to the nearest tenth."""
    value = at(document, place)
    return tagged(tag, place, value, f"{100 * as_float(value):.1f} %", more)


def tagged(tag: str, place: Place, value: Any, shown: str, more: str = "") -> str:
    """What is shown of the value that stands at the place."""
    whole = escape(repr(value) if isinstance(value, float) else str(value))
    title = "" if tag == "text" else f' title="{whole}"'
    return (
        f'<{tag} class="n" data-at="{escape(pointer(place))}" data-value="{whole}"{title}{more}>'
        f"{escape(shown)}</{tag}>"
    )


def exactly(document: Document, place: Place) -> str:
    """A number in the shortest decimals that mean it."""
    value = at(document, place)
    shown = repr(value) if isinstance(value, float) else str(value)
    return tagged("span", place, value, shown)


def between(document: Document, place: Place, digits: int = 4) -> str:
    """Two ends, the lower rounded down and the higher up."""
    low = figure(document, (*place, 0), digits, down)
    return f"{low} … {figure(document, (*place, 1), digits, up)}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """Cells that are HTML already under titles that are text."""
    head = "".join(f'<th scope="col">{text(h)}</th>' for h in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="wide"><table class="{kind}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def section(title: str, body: str, lead: str = "") -> str:
    """A part of the page; nothing where it is empty."""
    if not body:
        return ""
    said = f'<p class="lead">{lead}</p>' if lead else ""
    return f"<section><h2>{text(title)}</h2>{said}{body}</section>"


def folded(title: str, body: str) -> str:
    """What is shown to those who ask."""
    return f"<details><summary>{text(title)}</summary>{body}</details>" if body else ""


def _infinite(number: float) -> str:
    return "nan" if math.isnan(number) else "∞" if number > 0 else "−∞"
