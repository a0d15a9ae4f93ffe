"""FPCore as text: S-expressions, and numbers as the rationals they denote."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

from onnx_import.errors import ModelError

Expression: TypeAlias = "str | tuple[Expression, ...]"

_TOKEN = re.compile(r'\s+|;[^\n]*|("(?:[^"\\]|\\.)*"|[\[\]()]|[^\s()\[\]";]+)')
_CLOSES = {"(": ")", "[": "]"}
_DEEPEST = 200
_NUMBER = re.compile(r"[+-]?(?:[0-9]+/[0-9]+|(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)")
_HEX = re.compile(r"([+-]?)0[xX]([0-9a-fA-F]*)(?:\.([0-9a-fA-F]*))?(?:[pP]([+-]?[0-9]+))?")
_LONGEST = 2000  # digits and decimal exponent of a number


def expressions(text: str, source: Path) -> tuple[Expression, ...]:
    """All top-level expressions; strings keep their quotes. Raises ModelError."""
    stack: list[tuple[str, list[Expression]]] = [("", [])]
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ModelError(f"'{source}' is not FPCore: {_line(text, at)} cannot be read")
        at, token = match.end(), match[1]
        if token is None:
            continue
        if token in _CLOSES:
            if len(stack) > _DEEPEST:
                raise ModelError(f"'{source}': more than {_DEEPEST} nested parentheses")
            stack.append((_CLOSES[token], []))
        elif token in ")]":
            closes, items = stack.pop()
            if token != closes or not stack:
                raise ModelError(f"'{source}' is not FPCore: {_line(text, at)} has a stray {token}")
            stack[-1][1].append(tuple(items))
        else:
            stack[-1][1].append(token)
    if len(stack) != 1:
        raise ModelError(f"'{source}' is not FPCore: a parenthesis is never closed")
    return tuple(stack[0][1])


def _line(text: str, at: int) -> str:
    return f"line {text.count(chr(10), 0, at) + 1}"


def number(token: str) -> Fraction | None:
    """The rational that a decimal, a fraction or a hexadecimal float denotes; None for a name."""
    if _NUMBER.fullmatch(token):
        exponent = re.split("[eE]", token)[1:] or ["0"]
        if len(token) > _LONGEST or abs(int(exponent[0])) > _LONGEST:
            return None
        try:
            return Fraction(token)
        except ZeroDivisionError:
            return None
    match = _HEX.fullmatch(token)
    if match is None or not (match[2] or match[3]) or len(token) > _LONGEST:
        return None
    after = match[3] or ""
    exponent2 = int(match[4] or 0) - 4 * len(after)
    if abs(exponent2) > _LONGEST:
        return None
    value = Fraction(int((match[2] or "") + after, 16)) * Fraction(2) ** exponent2
    return -value if match[1] == "-" else value


def written(expression: Expression, limit: int = 60) -> str:
    """An expression for messages, cut at `limit` characters."""
    text = expression if isinstance(expression, str) else _joined(expression)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _joined(items: tuple[Expression, ...]) -> str:
    return "(" + " ".join(written(item, 10**6) for item in items) + ")"
