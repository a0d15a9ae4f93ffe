"""The page: verdict and claim first, then what to fix, where the bound comes from, and what it
rests on."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

from refine.results.numerals import down
from refine.results.page.drawing import drawing_of
from refine.results.page.found import counterexample_of
from refine.results.page.heat import heat_of
from refine.results.page.layers import layers_of
from refine.results.page.markup import (
    Document,
    Place,
    as_float,
    exactly,
    figure,
    folded,
    section,
    table,
    text,
)
from refine.results.page.style import PAGE, STYLE

DATA = "refine-result"
"""The id of the element that holds the document."""
_MARGINS = 40
_SAID = ("contract", "model")  # assumptions that the page says elsewhere
_OPEN = 8  # obligations that are listed
_WORDS = {
    "verified": "proved",
    "violated": "refuted by a counterexample",
    "unknown": "neither proved nor refuted",
    "conditional": "proved if the margins of another verifier are right",
    "contradiction": "the search contradicts the proof: please report it",
}


def page_of(document: Document) -> str:
    """One file that needs nothing else: the document itself is in it, as JSON."""
    kept = json.dumps(document, allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    safe = kept.replace("<", "\\u003c").replace("&", "\\u0026")
    model = (document["model"] or {}).get("path") or "model"
    title = f"{document['verdict']}: {model}"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{text(title)}</title><style>{PAGE}</style></head><body>{fragment_of(document)}"
        f'<script type="application/json" id="{DATA}">{safe}</script></body></html>\n'
    )


def fragment_of(document: Document) -> str:
    """The same without a page around it and without the document, for a notebook."""
    if document["contract"] is None:  # the time was over before anything was read
        said = f"<h1>{text(document['verdict'])}</h1><p>{text(document['reason'])}</p>"
        return f'<div class="refine"><style>{STYLE}</style>{said}</div>'
    parts = (
        _head(document),
        _remedies(document),
        counterexample_of(document),
        _margins(document),
        heat_of(document),
        drawing_of(document),
        layers_of(document),
        _rests_on(document),
        _about(document),
    )
    return f'<div class="refine"><style>{STYLE}</style>{"".join(parts)}</div>'


def _head(document: Document) -> str:
    verdict = document["verdict"]
    late = ", out of time" if document["timed_out"] else ""
    tiles = "".join(
        f'<div class="tile"><b>{shown}</b><span class="of">{text(of)}</span></div>'
        for of, shown in _figures(document)
    )
    return (
        f'<header><span class="badge {text(verdict)}">{text(verdict)}</span> '
        f'<span class="note">{_WORDS.get(verdict, "")}{late}</span>'
        f"<h1>{_claim(document)}</h1><p>{text(document['reason'])}</p>"
        f'{_broken(document)}<div class="tiles">{tiles}</div></header>'
    )


def _claim(document: Document) -> str:
    where = f"for every input of {text(document['domain']['source'])}"
    how = f"in every execution that contract {text(document['contract']['name'])} allows"
    if document.get("claim"):
        return f"{text(document['claim'])}, {how}"
    apart = "|f_rt(x) − f_R(x)|" if document["specification"] is None else "|model(x) − spec(x)|"
    eps = document["eps"]
    if isinstance(eps, dict):
        limits = ", ".join(f"{text(t)} ≤ {exactly(document, ('eps', t))}" for t in eps)
        return f"{apart} for {limits}, {where}, {how}"
    if eps is not None:
        return f"{apart} ≤ {exactly(document, ('eps',))}, {where}, {how}"
    if not math.isfinite(as_float(document["bound"])):
        return f"No bound is known on {apart}, {where}, {how}"
    return f"{apart} ≤ {figure(document, ('bound',), 6)}, {where}, {how}"


def _figures(document: Document) -> Iterator[tuple[str, str]]:
    if document["bound"] is not None:
        yield "bound proved", figure(document, ("bound",), 6)
        for i, found in enumerate(document.get("relative", [])):
            here: Place = ("relative", i)
            of = f" of '{found['output']}'" if len(document["relative"]) > 1 else ""
            yield f"relative precision{of}", figure(document, (*here, "precision"), 6)
            yield f"in ulp{of}", figure(document, (*here, "ulps"), 4)
            if float(found["atol"]):
                yield f"or rtol{of}", figure(document, (*here, "rtol"), 4)
                yield f"with atol{of}", figure(document, (*here, "atol"), 4)
    elif document.get("margins"):
        margins = document["margins"]
        least = min(range(len(margins)), key=lambda i: float(margins[i]["margin"]))
        place: Place = ("margins", least)
        yield "margin proved, of executions", figure(document, (*place, "margin"), 6, down)
        yield "over the reals", figure(document, (*place, "margin_over_reals"), 6, down)
    if isinstance(document["eps"], (float, int, str)):
        yield "eps", exactly(document, ("eps",))
    if document["worst_found"] is not None:
        by = f"largest error found, {document['worst_found_by']}"
        yield by, figure(document, ("worst_found",), 6, down)
    yield f"seconds, seed {document['seed']}", figure(document, ("seconds",), 3)


def _broken(document: Document) -> str:
    said = []
    for key, which in (("runtime", "the model"), ("specification_runtime", "the specification")):
        seen = document[key]
        if seen is not None and seen["honours"] is False:
            said.append(
                f'<p class="warning"><b>{text(seen["runtime"])} does not honour the contract on '
                f"{which}</b>, so that what is said here does not hold for it: "
                f"{text(seen['text'])}</p>"
            )
    return "".join(said)


def _remedies(document: Document) -> str:
    remedies = document["remedies"]
    if not remedies:
        return _unbounded(document)
    items = "".join(
        f"<li><b>{figure(document, ('remedies', i, 'bound'))}</b> "
        f'<span class="note">instead of {figure(document, ("bound",))}</span>'
        f"<p><b>{text(r['node'])}</b> ({text(r['op'])}): {text(r['change'])}</p>"
        f'<p class="note">{text(r["kind"])}</p></li>'
        for i, r in enumerate(remedies)
    )
    lead = (
        "The changes to one node each that buy most, and the bound that each would give by the "
        "account of the layers below; ask again to have it proved."
    )
    return section("What to fix", f'<ul class="fixes">{items}</ul>', lead)


def _unbounded(document: Document) -> str:
    """The first node of which nothing is known, and why."""
    for node in document["nodes"]:
        if math.isfinite(as_float(node["error"])):
            continue
        why = [o for o in node["obligations"] if o["verdict"] != "discharged"]
        said = f": {text(why[0].get('detail') or why[0]['goal'])}" if why else ""
        body = f"<p><b>{text(node['name'])}</b> ({text(node['op'])}){said}</p>"
        return section("What to fix", body, "The first node after which no error is bounded.")
    return ""


def _margins(document: Document) -> str:
    margins = document.get("margins", [])
    rows = [
        [
            text(m["unsafe"]),
            figure(document, ("margins", i, "margin"), 4, down),
            figure(document, ("margins", i, "margin_over_reals"), 4, down),
        ]
        for i, m in enumerate(margins[:_MARGINS])
    ]
    body = table(("unsafe", "margin of executions", "over the reals"), rows) if rows else ""
    more = len(margins) - _MARGINS
    if more > 0:
        body += f'<p class="note">and {more} more, in the data of this page</p>'
    lead = "At least how far the domain stays from each part of the unsafe set."
    return section("Margins", body, lead)


def _rests_on(document: Document) -> str:
    contract = document["contract"]
    rows = "".join(
        f"<dt>{text(a['name'])}</dt><dd>{text(a['text'])}</dd>"
        for a in document["assumptions"]
        if a["name"] not in _SAID
    )
    owed = [*document["lemmas"], *(o for n in document["nodes"] for o in n["obligations"])]
    counts = Counter(str(o["verdict"]) for o in owed)
    said = ", ".join(f"{n} {verdict}" for verdict, n in counts.most_common())
    named = f"<dt>contract {text(contract['name'])}</dt><dd>{text(contract['description'])}</dd>"
    body = f"<dl>{named}{rows}"
    body += f"<dt>obligations</dt><dd>{text(said) or 'none'}</dd></dl>"
    body += _unproved(owed)
    grounds = [
        [text(g[k]) for k in ("field", "value", "evidence", "source")] for g in document["grounds"]
    ]
    body += folded(
        "Why each field of the contract is believed",
        table(("field", "value", "evidence", "source"), grounds) if grounds else "",
    )
    notes = [*document["domain"]["notes"], *document["notes"]]
    body += "".join(f'<p class="note">{text(n)}</p>' for n in dict.fromkeys(notes))
    return section("What it rests on", body)


def _unproved(owed: list[Any]) -> str:
    left = [o for o in owed if o["verdict"] != "discharged"]
    rows = [
        [text(o["verdict"]), text(o["name"]), text(o["goal"]), text(o.get("detail", ""))]
        for o in left[:_OPEN]
    ]
    if not rows:
        return ""
    more = len(left) - _OPEN
    note = f'<p class="note">and {more} more, in the data of this page</p>' if more > 0 else ""
    return table(("verdict", "obligation", "goal", "why"), rows) + note


def _about(document: Document) -> str:
    rows = [("model", _model(document["model"]))]
    if document["specification"] is not None:
        spec = document["specification"]
        name = spec["contract"]["name"]
        rows.append(("specification", f"{_model(spec)}; under contract {text(name)}"))
    for key, label in (
        ("runtime", "runtime here"),
        ("specification_runtime", "of the specification"),
    ):
        seen = document[key]
        if seen is not None:
            word = {True: "within the contract", False: "outside the contract"}
            held = word.get(seen["honours"], "not compared")
            rows.append((label, f"{text(seen['runtime'])}: {held}; {text(seen['text'])}"))
    made = document["certificate"]
    if made is not None:
        said = made["outside"] or made["file"] or "in the language of the independent checker"
        rows.append(("certificate", text(said)))
    versions = ", ".join(f"{name} {v}" for name, v in document["versions"].items())
    rows.append(("made by", text(versions)))
    return section(
        "Model and versions",
        f"<dl>{''.join(f'<dt>{text(k)}</dt><dd>{v}</dd>' for k, v in rows)}</dl>",
    )


def _model(model: Document) -> str:
    operators = ", ".join(f"{n} {op}" for op, n in model["operators"].items())
    return (
        f"{text(model['path'])}: {text(model['parameters'])} parameters; {text(operators)}; "
        f"sha256 <code>{text(model['sha256'])}</code>"
    )
