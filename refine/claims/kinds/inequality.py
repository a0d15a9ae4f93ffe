"""A linear inequality of outputs, such as `Y[0] - Y[3] >= 0.1`: it holds of every execution."""

from __future__ import annotations

import ast
import re
from fractions import Fraction

import numpy as np

from onnx_import.errors import ModelError, shorten
from onnx_import.graph import Graph
from refine.claims.claim import Words
from refine.claims.kind import Asked, ClaimKind, EpsilonUse
from refine.claims.unsafe import kept_out, reached_again
from refine.common.exact import decimal
from refine.domain.box import elements_before
from refine.domain.formulas import require_bits
from refine.domain.properties import Conjunction, Property, Row
from refine.results.verdict import Result

_RELATION = re.compile(r"[<>]=?")
_LONGEST = 10_000
_WORDS = Words(
    holds="the inequality holds of every allowed execution, and every value is finite",
    broken="at an input of the domain an allowed execution breaks the inequality, decided exactly",
    open="it is not shown that the inequality holds",
)

Linear = tuple[dict[int, Fraction], Fraction]


def _settled(asked: Asked) -> Result:
    row = row_of_text(asked.text, asked.side.graph)
    unsafe = Property((Conjunction({}, (row,)),), asked.text)
    return kept_out(asked, unsafe, asked.text.strip(), words=_WORDS)


def row_of_text(text: str, graph: Graph) -> Row:
    """The row that holds where an inequality does not.

    `Y[i]` is the i-th element of all outputs; `name[i, j]`, or `name` alone, one of an output.
    Raises ModelError for what is no linear inequality of outputs and decimal numbers.
    """
    relations = list(_RELATION.finditer(text))
    if len(relations) != 1 or len(text) > _LONGEST:
        raise ModelError(
            f"claim '{shorten(text)}' is no inequality of outputs, such as \"Y[0] - Y[3] >= 0.1\""
        )
    (relation,) = relations
    sides = (text[: relation.start()], text[relation.end() :])
    if not all(side.strip() for side in sides):
        raise ModelError(f"claim '{shorten(text)}' has nothing on one side of {relation[0]}")
    left = _linear(sides[0], graph)
    right = _linear(sides[1], graph)
    terms, constant = _sum(left, right, -1)
    terms = {i: c for i, c in terms.items() if c}
    require_bits(constant, *terms.values())
    if not terms:
        raise ModelError(f"claim '{shorten(text)}' says nothing of the outputs")
    if relation[0][0] == "<":  # the claim is terms + constant ≤ 0: it fails where −terms < constant
        terms, constant = {i: -c for i, c in terms.items()}, -constant
    return Row(terms, {}, at_most=-constant, strict="=" in relation[0])


def _linear(text: str, graph: Graph) -> Linear:
    line = " ".join(text.split())
    try:
        return _term(ast.parse(line, mode="eval").body, line.encode(), graph)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ModelError(f"'{shorten(text.strip())}' is no term of outputs and numbers") from error


def _term(tree: ast.expr, line: bytes, graph: Graph) -> Linear:
    """A term; numbers are read from the line that it was parsed from, digit by digit."""
    terms, constant = _part(tree, line, graph)
    require_bits(constant, *terms.values())
    return terms, constant


def _part(tree: ast.expr, line: bytes, graph: Graph) -> Linear:
    match tree:
        case ast.Constant():
            return {}, decimal(line[tree.col_offset : tree.end_col_offset].decode())
        case ast.Name(id):
            return {_place(graph, id, ()): Fraction(1)}, Fraction(0)
        case ast.Subscript(ast.Name(id), index):
            return {_place(graph, id, _index(index)): Fraction(1)}, Fraction(0)
        case ast.UnaryOp(ast.USub(), inner):
            return _sum(({}, Fraction(0)), _term(inner, line, graph), -1)
        case ast.UnaryOp(ast.UAdd(), inner):
            return _term(inner, line, graph)
        case ast.BinOp(a, ast.Add() | ast.Sub() as operation, b):
            sign = 1 if isinstance(operation, ast.Add) else -1
            return _sum(_term(a, line, graph), _term(b, line, graph), sign)
        case ast.BinOp(a, ast.Mult(), b):
            one, two = _term(a, line, graph), _term(b, line, graph)
            if one[0] and two[0]:
                raise ModelError("the claim multiplies outputs; only linear inequalities are read")
            (terms, constant), scale = (one, two[1]) if not two[0] else (two, one[1])
            return {i: c * scale for i, c in terms.items()}, constant * scale
        case ast.BinOp(a, ast.Div(), b):
            divisor = _term(b, line, graph)
            if divisor[0] or not divisor[1]:
                raise ModelError("the claim divides by an output or by zero")
            terms, constant = _term(a, line, graph)
            return {i: c / divisor[1] for i, c in terms.items()}, constant / divisor[1]
    raise ModelError("a claim is built from outputs, decimal numbers, +, -, * and /")


def _sum(a: Linear, b: Linear, sign: int) -> Linear:
    terms = dict(a[0])
    for i, c in b[0].items():
        terms[i] = terms.get(i, Fraction(0)) + sign * c
    return terms, a[1] + sign * b[1]


def _index(tree: ast.expr) -> tuple[int, ...]:
    parts = tree.elts if isinstance(tree, ast.Tuple) else [tree]
    if not all(isinstance(p, ast.Constant) and type(p.value) is int for p in parts):
        raise ModelError("an index of a claim is integers, such as [0] or [0, 3]")
    return tuple(p.value for p in parts if isinstance(p, ast.Constant) and type(p.value) is int)


def _place(graph: Graph, name: str, index: tuple[int, ...]) -> int:
    """The position of an output element among all."""
    known = ", ".join(f"{t}{list(graph.types[t].shape)}" for t in graph.outputs)
    if name in graph.outputs:
        start, shape = elements_before(graph, graph.outputs, name), graph.types[name].shape
        if len(index) == 1 and graph.types[name].size == max(shape, default=1):
            shape = (graph.types[name].size,)
    elif name == "Y" and len(index) == 1:
        start, shape = 0, (sum(graph.types[t].size for t in graph.outputs),)
    else:
        raise ModelError(f"there is no output '{shorten(name)}'; the outputs are {known}")
    if shape and not index:
        name, first = shorten(name), "0, " * (len(shape) - 1) + "0"
        raise ModelError(
            f"say which element of {name}, such as {name}[{first}]; the outputs are {known}"
        )
    if len(index) != len(shape) or not all(0 <= i < n for i, n in zip(index, shape, strict=True)):
        raise ModelError(f"{shorten(name)}{list(index)} is no element; the outputs are {known}")
    return start + int(np.ravel_multi_index(index, shape)) if shape else start


CLAIMS = (
    ClaimKind(
        name="EXPR >= C",
        summary='an inequality of outputs, such as "Y[0] - Y[3] >= 0.1", holds of what runs',
        settle=_settled,
        again=reached_again,
        epsilon=EpsilonUse.NONE,
        reads=lambda text: _RELATION.search(text) is not None,
    ),
)
