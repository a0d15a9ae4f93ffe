"""S-expressions, of which VNN-LIB files are made.

Their reader is our own: Z3's SMT-LIB parser refuses numbers such as 1e-06, which VNN-LIB files use,
and walking its terms takes 2 s for 3072 inputs against 0.1 s here; the C++ parser of VNN-LIB 2 ends
the process on files that are nested deeply.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeAlias

from refine.common.exact import DomainError, shorten

_LEXEME = re.compile(
    r""";[^\n]*|[()]|\|[^|]*\||"(?:[^"]|"")*"|[^\s()|";\[\]]*\[[\s0-9,]*\]|[^\s()|";]+|[|"]"""
)
_ATOM = r"""([^\s()|";\[\]]+)"""
_SIMPLE = re.compile(
    rf"\s*(\()\s*{_ATOM}\s+(?:\(\s*{_ATOM}\s+{_ATOM}\s+{_ATOM}\s*\)|{_ATOM}\s+{_ATOM})\s*\)"
)
"""A command of three atoms, or of one and a list of three, as nearly all lines are."""
DEEPEST_NESTING = 100

Expression: TypeAlias = "str | list[Expression]"


def expressions(text: str) -> Iterator[tuple[int, Expression]]:
    """The s-expressions of a text, each with the position where it starts."""
    outer: list[Expression] = []
    open_lists: list[list[Expression]] = [outer]
    start = place = 0
    while True:
        if len(open_lists) == 1 and (simple := _SIMPLE.match(text, place)) is not None:
            _, head, relation, left, right, name, sort = simple.groups()
            start, place = simple.start(1), simple.end()
            yield start, [head, [relation, left, right]] if name is None else [head, name, sort]
            continue
        match = _LEXEME.search(text, place)
        if match is None:
            break
        lexeme, place = match.group(), match.end()
        if lexeme[0] == ";":
            continue
        if len(open_lists) == 1:
            start = match.start()
        if lexeme == "(":
            open_lists.append([])
        elif lexeme == ")" and len(open_lists) > 1:
            closed = open_lists.pop()
            open_lists[-1].append(closed)
        elif lexeme in (")", "|", '"'):
            raise DomainError(f"line {line_of(text, match.start())}: '{lexeme}' matches nothing")
        else:
            open_lists[-1].append(lexeme.strip("|") if lexeme[0] == "|" else lexeme)
        if len(open_lists) > DEEPEST_NESTING:
            raise DomainError(f"line {line_of(text, start)}: nested deeper than {DEEPEST_NESTING}")
        if outer:
            yield start, outer.pop()
    if len(open_lists) > 1:
        raise DomainError(f"line {line_of(text, start)}: '(' is never closed")


def flat(expression: Expression) -> str:
    """The expression as text, in full."""
    if isinstance(expression, str):
        return expression
    return f"({' '.join(map(flat, expression))})"


def text_of(expression: Expression) -> str:
    """The expression as text, cut where it is long."""
    return shorten(flat(expression))


def line_of(text: str, position: int) -> int:
    """The line, from 1, of a position in a text."""
    return text.count("\n", 0, position) + 1
