"""Text from files, as it may be shown: what would steer a terminal or start a line is escaped."""

from __future__ import annotations

import unicodedata

_STEERING = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))


def visible(text: str) -> str:
    """Control characters, line breaks, marks of direction and lone surrogates as escapes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(c) for c in text)


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _STEERING:
        return character
    return ascii(character)[1:-1]
