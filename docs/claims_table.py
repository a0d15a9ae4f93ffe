"""The table of claims in the site, taken from the records of the claims (a hook of MkDocs)."""

from __future__ import annotations

from typing import Any

from refine.claims.registry import checked_claims

MARK = "<!-- every claim -->"


def on_page_markdown(markdown: str, **given: Any) -> str:
    """The page with a row for each claim of `refine check` where it has the mark."""
    rows = [
        f"| `{claim.name}` | {claim.summary} | {', '.join(map(str, _options(claim))) or '—'} |"
        for claim in checked_claims()
    ]
    table = ["| `--claim` | is that | its options |", "|---|---|---|", *rows]
    return markdown.replace(MARK, "\n".join(table))


def _options(claim: Any) -> list[str]:
    return [f"`--{o.name.replace('_', '-')} {o.metavar}`: {o.help}" for o in claim.options]
