"""A value of any kind in the middle of a sentence."""

from __future__ import annotations

_LONGEST = 60  # characters


def told(value: object) -> str:
    """What Python shows of a value, on one line and not too long; its type, where that fails."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a class of the user's may raise anything
        return f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
