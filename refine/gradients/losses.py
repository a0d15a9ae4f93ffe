"""Losses: one number made of a graph's outputs and of targets, which become inputs."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping

import numpy as np

from encoders.gradients.tape import Tape, Term
from onnx_import.errors import ModelError, shorten
from onnx_import.graph import Graph

LOSS = "loss"
VALUE = "value"
TARGET = "target"
_LONGEST = 10_000


def with_loss(graph: Graph, loss: str, of: str | None = None, *, keep: bool = False) -> Graph:
    """The graph with an output `loss`: `cross-entropy` or `mse` of the output `of` against an
    input `target` of its shape, or an expression of outputs and inputs, whose numbers are stored
    as the next ones of the type.

    Cross-entropy is −Σ target·log softmax along axis 1 (of a vector: its only one), the mean over
    all other places; a row of zeros is a label that is ignored, and counts in that mean. With
    `keep` the graph's own outputs stay.
    Raises ModelError for an output that there is not and for what is no expression.
    """
    tape = Tape.after(graph)
    if loss not in _NAMED:
        total, given = _expression(tape, loss), list[str]()
    else:
        name = _one_output(graph, of)
        target = tape.given(TARGET, graph.types[name])
        total, given = _NAMED[loss](tape.term(name), target), [target.name]
    if math.prod(total.shape) != 1:
        raise ModelError(
            f"the loss has the shape {list(total.shape)} and is no number; write mean(...) or "
            "sum(...) of it"
        )
    named = tape.named(total.reshaped(()), LOSS)
    return tape.finish((*(graph.outputs if keep else ()), named.name), inputs=given)


def with_value(graph: Graph, text: str, *, keep: bool = False) -> Graph:
    """The graph with an output `value`: an expression of outputs and inputs, element by element.
    With `keep` its own outputs stay. Raises ModelError for what is no expression."""
    tape = Tape.after(graph)
    named = tape.named(_expression(tape, text), VALUE)
    return tape.finish((*(graph.outputs if keep else ()), named.name))


def _one_output(graph: Graph, of: str | None) -> str:
    known = [t for t in graph.outputs if graph.types[t].dtype.is_float]
    if of is not None and of in known:
        return of
    if of is None and len(known) == 1:
        return known[0]
    asked = "say of which output with --of" if of is None else f"there is no output '{shorten(of)}'"
    raise ModelError(f"{asked}; there is {', '.join(known) or 'none of floating-point numbers'}")


def _mean_square(y: Term, target: Term) -> Term:
    apart = y - target
    return _mean(apart * apart)


def _cross_entropy(y: Term, target: Term) -> Term:
    axis = min(1, len(y.shape) - 1)
    if axis < 0:
        raise ModelError("cross-entropy is of rows of scores, and the output is one number")
    chosen = target * y.apply(op="LogSoftmax", axis=axis)
    rows = math.prod(y.shape) // y.shape[axis]
    total = -_sum(chosen)
    return total if rows == 1 else total / rows


def _sum(x: Term) -> Term:
    return x.summed(range(len(x.shape)), keep=False)


def _mean(x: Term) -> Term:
    count = math.prod(x.shape)
    return _sum(x) if count == 1 else _sum(x) / count


_NAMED: Mapping[str, Callable[[Term, Term], Term]] = {
    "cross-entropy": _cross_entropy,
    "mse": _mean_square,
}
_FUNCTIONS: Mapping[str, Callable[[Term], Term]] = {
    "mean": _mean,
    "sum": _sum,
    "abs": lambda x: x.apply(op="Abs"),
    "exp": lambda x: x.apply(op="Exp"),
    "log": lambda x: x.apply(op="Log"),
    "sqrt": lambda x: x.apply(op="Sqrt"),
}


def _expression(tape: Tape, text: str) -> Term:
    if len(text) > _LONGEST:
        raise ModelError("the expression of the loss is too long")
    try:
        found = _value(ast.parse(text.strip(), mode="eval").body, tape)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ModelError(
            f"'{shorten(text)}' is no loss: cross-entropy, mse, or an expression such as "
            '"mean(Y*Y)"'
        ) from error
    if not isinstance(found, Term):
        raise ModelError("the loss names none of the model's outputs")
    return found


def _value(tree: ast.expr, tape: Tape) -> Term | float:
    graph = tape.graph
    match tree:
        case ast.Constant(int() | float() as number) if not isinstance(number, bool):
            return number
        case ast.Name(name) if name in (*graph.outputs, *graph.inputs):
            return tape.term(name)
        case ast.Name(name):
            known = ", ".join((*graph.outputs, *graph.inputs))
            raise ModelError(f"there is no output or input '{shorten(name)}'; there is {known}")
        case ast.UnaryOp(ast.USub(), inner):
            value = _value(inner, tape)
            return -value
        case ast.Call(ast.Name(name), [inner], []) if name in _FUNCTIONS:
            value = _value(inner, tape)
            if isinstance(value, Term):
                return _FUNCTIONS[name](value)
        case ast.BinOp(base, ast.Pow(), ast.Constant(int() as power)) if 1 <= power <= 16:
            value = _value(base, tape)
            if not isinstance(value, Term):
                return float(value**power)
            total = value
            for _ in range(power - 1):
                total = total * value
            return total
        case ast.BinOp(left, operation, right):
            return _joined(_value(left, tape), operation, _value(right, tape), tape)
    raise ModelError(
        "a loss is built from outputs, inputs, numbers, +, -, *, /, whole powers up to 16, "
        f"{', '.join(_FUNCTIONS)}"
    )


def _is_zero(divisor: Term, tape: Tape) -> bool:
    known = tape.constants.get(divisor.name)
    return known is not None and not np.all(known)


def _joined(a: Term | float, operation: ast.operator, b: Term | float, tape: Tape) -> Term | float:
    if not isinstance(a, Term):
        if not isinstance(b, Term):
            raise ModelError("write a number of the loss as one number, and no computation")
        a = tape.nearest(a, b.kind.dtype)
    elif not isinstance(b, Term):
        b = tape.nearest(b, a.kind.dtype)
    match operation:
        case ast.Add():
            return a + b
        case ast.Sub():
            return a - b
        case ast.Mult():
            return a * b
        case ast.Div() if not _is_zero(b, tape):
            return a / b
        case ast.Div():
            raise ModelError("the expression divides by 0")
    raise ModelError("a loss is built with +, -, *, / and whole powers")
