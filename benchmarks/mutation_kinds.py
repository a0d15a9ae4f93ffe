"""Mutants of a source file: changes of one place each that could make a bound unsound.

A kind of change is named by what it does to a bound. Left out are changes that mean nothing for
soundness (text, types, indices, which of two equal ways is taken to save memory), since all they
measure is whether a program still runs: `in_blocks(f, …)` means f(…) by definition, an index off by
one is an exception.

A changed expression stands as `new if True else old`, a dropped statement under `if False`: the
compiler leaves the dead part out, but a function still closes over the same variables, so that its
code can be exchanged while it lives (`mutation_running`).
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

UPWARD = {
    "add_up": "add_down",
    "add_down": "add_up",
    "_add_up": "_add_down",
    "_add_down": "_add_up",
}
PRODUCTS = {"multiply_up", "_multiply_up"}
EXTREMES = {
    "maximum": "minimum", "minimum": "maximum", "max": "min", "min": "max", "fmax": "fmin",
    "fmin": "fmax", "amax": "amin", "amin": "amax", "ceil": "floor", "floor": "ceil",
    "any": "all", "all": "any",
}  # fmt: skip
ENDS = {
    "lo": "hi", "hi": "lo", "low": "high", "high": "low", "below": "above", "above": "below",
    "lower": "upper", "upper": "lower",
}  # fmt: skip
HALVED = {
    "unit", "unit_roundoff", "relative", "underflow", "lost_operands", "smallest_subnormal",
    "smallest_normal", "radius", "error", "errors", "spread", "slack", "remainder", "terms",
    "charge", "magnitude", "rest", "constant", "offset",
}  # fmt: skip
"""Names of quantities that a bound is made of: half of one is too little."""
ABSOLUTE = {"abs", "fabs", "absolute"}
CONJUNCTIONS = {"And", "Fact", "nonnegative", "Implies"}
QUIET = {"axis", "axes", "shape", "dtype", "ndim", "size", "keepdims", "strict", "ord", "seed"}
"""Keywords and names whose numbers are no quantities."""


@dataclass(frozen=True)
class Mutant:
    """One change; `index` counts those of its file, in the order of the source.

    `block` is the innermost block of statements around it, as `blocks_of` numbers them, None where
    it runs when the module is imported; `scope` the function or class that it is in.
    """

    path: str
    index: int
    kind: str
    line: int
    scope: str
    block: int | None
    before: str
    after: str
    place: int = 0

    @property
    def key(self) -> str:
        """Which mutant it is, as long as its own function stays; `place` tells twins apart."""
        return f"{self.path} {self.scope}: {self.before} => {self.after} ({self.kind} {self.place})"


@dataclass(frozen=True)
class _Edit:
    mutant: Mutant
    put: Callable[[], None]


def mutants_of(source: str, path: str) -> list[Mutant]:
    """All of them, in the order of the source."""
    tree = ast.parse(source)
    walk = _Walk(path, _Blocks(tree))
    walk.into(tree, scope="", block=None)
    return [edit.mutant for edit in walk.edits]


def mutated(source: str, mutant: Mutant) -> ast.Module:
    """The file's tree with this change. Raises LookupError where the file has no such mutant."""
    tree = ast.parse(source)
    walk = _Walk(mutant.path, _Blocks(tree), only=mutant.index)
    walk.into(tree, scope="", block=None)
    for edit in walk.edits:
        if replace(edit.mutant, place=mutant.place) == mutant:
            edit.put()
            return ast.fix_missing_locations(tree)
    raise LookupError(f"{mutant.path} has no mutant {mutant.key}; it was made from another text")


def probed(source: str, probe: str) -> tuple[ast.Module, int]:
    """The file's tree with a call `probe(n)` at the start of block n of every function, and how
    many such blocks there are."""
    tree = ast.parse(source)
    blocks = _Blocks(tree)
    for number, node, name in blocks.places:
        call = ast.Call(ast.Name(probe, ast.Load()), [ast.Constant(number)], [])
        if isinstance(node, ast.Lambda):
            node.body = ast.Subscript(
                ast.Tuple([call, node.body], ast.Load()), ast.Constant(1), ast.Load()
            )
        else:
            body: list[ast.stmt] = getattr(node, name)
            documented = isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
            body.insert(1 if documented else 0, ast.Expr(call))
    for made in ast.walk(tree):
        if not hasattr(made, "lineno") and isinstance(made, ast.expr | ast.stmt):
            ast.copy_location(made, tree.body[0])
    return ast.fix_missing_locations(tree), len(blocks.places)


class _Blocks:
    """The blocks of statements inside functions, numbered in the order of the source."""

    def __init__(self, tree: ast.Module) -> None:
        self.places: list[tuple[int, ast.AST, str]] = []
        self.number: dict[tuple[int, str], int] = {}
        self._visit(tree, inside=False)

    def _visit(self, node: ast.AST, inside: bool) -> None:
        function = isinstance(node, ast.FunctionDef | ast.Lambda)
        for name, value in ast.iter_fields(node):
            within = inside or (function and name == "body")
            statements = isinstance(value, list) and value and isinstance(value[0], ast.stmt)
            if within and (statements or (isinstance(node, ast.Lambda) and name == "body")):
                number = len(self.places)
                self.places.append((number, node, name))
                self.number[id(node), name] = number
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    self._visit(child, within)


class _Walk:
    """Collects the changes of a file, or `only` the one of this index."""

    def __init__(self, path: str, blocks: _Blocks, only: int | None = None) -> None:
        self.path = path
        self.blocks = blocks
        self.only = only
        self.count = 0
        self.edits: list[_Edit] = []
        self.seen: Counter[str] = Counter()

    def into(self, node: ast.AST, scope: str, block: int | None) -> None:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            scope = f"{scope}.{node.name}" if scope else node.name
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "type_comment") or _quiet(node, name):
                continue
            here = self.blocks.number.get((id(node), name), block)
            children = value if isinstance(value, list) else [value]
            for place, child in enumerate(children):
                if not isinstance(child, ast.AST):
                    continue
                at = place if isinstance(value, list) else None
                for kind, new in _alternatives(child, node, name):
                    self._note(node, name, at, child, kind, new, scope, here)
                self.into(child, scope, here)

    def _note(
        self,
        parent: ast.AST,
        name: str,
        at: int | None,
        old: ast.AST,
        kind: str,
        new: ast.AST,
        scope: str,
        block: int | None,
    ) -> None:
        index, self.count = self.count, self.count + 1
        if self.only is not None and index != self.only:
            return
        stands: ast.AST
        if isinstance(old, ast.stmt):
            stands = ast.If(ast.Constant(False), [old], [])
            if isinstance(new, ast.stmt):
                stands = ast.If(ast.Constant(True), [new], [old])
        elif isinstance(old, ast.expr) and isinstance(new, ast.expr):
            stands = ast.IfExp(ast.Constant(True), new, old)
        else:
            stands = new
        if isinstance(old, ast.expr | ast.stmt):
            _located(stands, old)

        def put() -> None:
            if at is None:
                setattr(parent, name, stands)
            else:
                getattr(parent, name)[at] = stands

        before, after = ast.unparse(old), ast.unparse(new)
        line = getattr(old, "lineno", getattr(parent, "lineno", 0))
        if before == after:
            return
        mutant = Mutant(self.path, index, kind, line, scope, block, _short(before), _short(after))
        self.seen[mutant.key] += 1
        self.edits.append(_Edit(replace(mutant, place=self.seen[mutant.key]), put))


def _located(new: ast.AST, old: ast.AST) -> None:
    """Give the nodes that are new the place of the old one."""
    for node in ast.walk(new):
        if isinstance(node, ast.expr | ast.stmt | ast.keyword) and not hasattr(node, "lineno"):
            ast.copy_location(node, old)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 300 else f"{line[:297]}…"


def _quiet(node: ast.AST, name: str) -> bool:
    """Is this field of a node no place for a change?"""
    if isinstance(node, ast.Subscript):
        return name == "slice"
    if isinstance(node, ast.keyword):
        return node.arg in QUIET
    return isinstance(node, ast.JoinedStr | ast.Raise | ast.Assert)


Alternatives = Iterator[tuple[str, ast.AST]]


def _alternatives(node: ast.AST, parent: ast.AST, field: str) -> Alternatives:
    """Kinds of change of a node with what takes its place."""
    if isinstance(node, ast.BinOp):
        yield from _of_binary(node)
    elif isinstance(node, ast.Call):
        yield from _of_call(node)
    elif isinstance(node, ast.Compare):
        yield from _of_comparison(node)
    elif isinstance(node, ast.BoolOp):
        for left_out in range(len(node.values)):
            kept = [v for i, v in enumerate(node.values) if i != left_out]
            whole = kept[0] if len(kept) == 1 else ast.BoolOp(node.op, kept)
            yield "hypothesis", whole
    elif isinstance(node, ast.UnaryOp):
        if not isinstance(node.operand, ast.Constant):
            yield ("sign" if isinstance(node.op, ast.USub) else "negation"), node.operand
    elif isinstance(node, ast.Constant):
        yield from _of_constant(node, parent)
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
        yield from _of_name(node, node.attr, replace_attribute(node))
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        if not (isinstance(parent, ast.Call) and field == "func") and node.id in HALVED:
            yield "half", _half(node)
    elif isinstance(node, ast.stmt):
        yield from _of_statement(node, parent)
    if isinstance(parent, ast.If | ast.IfExp) and field == "test" and isinstance(node, ast.expr):
        yield "negation", ast.UnaryOp(ast.Not(), node)
        yield "always", ast.Constant(True)
        yield "never", ast.Constant(False)


def replace_attribute(node: ast.Attribute) -> Callable[[str], ast.expr]:
    return lambda name: ast.Attribute(node.value, name, ast.Load())


def _of_name(node: ast.expr, name: str, named: Callable[[str], ast.expr]) -> Alternatives:
    if name in ENDS:
        yield "ends", named(ENDS[name])
    elif name in HALVED:
        yield "half", _half(node)
    elif name in ("inf", "infty") and isinstance(node, ast.Attribute):
        yield "infinite", ast.Constant(0.0)


def _half(node: ast.expr) -> ast.expr:
    return ast.BinOp(node, ast.Div(), ast.Constant(2))


def _of_binary(node: ast.BinOp) -> Alternatives:
    left, right = node.left, node.right
    if isinstance(node.op, ast.Add | ast.Sub):
        if any(isinstance(v, ast.List | ast.Tuple | ast.JoinedStr) for v in (left, right)):
            return
        other: ast.operator = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
        yield "sum", ast.BinOp(left, other, right)
        yield "term", left
        yield "term", right
    elif isinstance(node.op, ast.Mult):
        if not isinstance(left, ast.Constant | ast.Tuple | ast.List):
            yield "factor", left
        if not isinstance(right, ast.Constant | ast.Tuple | ast.List):
            yield "factor", right
    elif isinstance(node.op, ast.Div):
        yield "factor", left
    elif isinstance(node.op, ast.BitAnd):
        yield "hypothesis", left
        yield "hypothesis", right
        yield "extreme", ast.BinOp(left, ast.BitOr(), right)
    elif isinstance(node.op, ast.BitOr):
        yield "extreme", ast.BinOp(left, ast.BitAnd(), right)
        yield "hypothesis", left
        yield "hypothesis", right


def _of_call(node: ast.Call) -> Alternatives:
    name = _called(node.func)
    plain = not node.keywords and not any(isinstance(a, ast.Starred) for a in node.args)
    two = len(node.args) == 2 and plain
    if name in UPWARD and two:
        yield "direction", _call(node, UPWARD[name])
        yield "rounding", ast.BinOp(node.args[0], ast.Add(), node.args[1])
        yield "term", node.args[0]
        yield "term", node.args[1]
    elif name in PRODUCTS and two:
        yield "rounding", ast.BinOp(node.args[0], ast.Mult(), node.args[1])
        yield "factor", node.args[0]
        yield "factor", node.args[1]
    elif name == "sum_up":
        yield "half", _half(node)
        yield "rounding", ast.Call(_numpy("sum"), node.args, node.keywords)
    elif name in ("dot_up", "inner_up"):
        yield "half", _half(node)
    elif name == "nextafter" and two:
        yield "rounding", node.args[0]
        yield (
            "direction",
            ast.Call(node.func, [node.args[0], ast.UnaryOp(ast.USub(), node.args[1])], []),
        )
    elif name in EXTREMES:
        yield "extreme", _call(node, EXTREMES[name])
        if two and name not in ("any", "all"):
            yield "term", node.args[0]
            yield "term", node.args[1]
    elif name in ABSOLUTE and len(node.args) == 1:
        yield "absolute", node.args[0]
    elif name == "where" and len(node.args) == 3:
        condition, one, other = node.args
        yield "always", one
        yield "never", other
        yield "negation", ast.Call(node.func, [condition, other, one], node.keywords)
    elif name == "Interval" and two:
        yield "ends", ast.Call(node.func, [node.args[1], node.args[0]], [])
        yield "ends", ast.Call(node.func, [node.args[0], node.args[0]], [])
        yield "ends", ast.Call(node.func, [node.args[1], node.args[1]], [])
    elif name == "And" and len(node.args) > 1:
        for left_out in range(len(node.args)):
            kept = [a for i, a in enumerate(node.args) if i != left_out]
            yield "hypothesis", ast.Call(node.func, kept, node.keywords)
    elif name == "inflate" and len(node.args) == 1 and isinstance(node.func, ast.Attribute):
        yield "term", node.func.value
    elif name in HALVED and name not in ("terms",):
        yield "half", _half(node)


def _called(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _call(node: ast.Call, name: str) -> ast.expr:
    function: ast.expr = ast.Name(name, ast.Load())
    if isinstance(node.func, ast.Attribute):
        function = ast.Attribute(node.func.value, name, ast.Load())
    elif name in UPWARD:
        module = ast.Constant("encoders.numbers.enclosure")
        imported = ast.Call(ast.Name("__import__", ast.Load()), [module], [])
        imported.keywords = [ast.keyword("fromlist", ast.List([ast.Constant("*")], ast.Load()))]
        function = ast.Attribute(imported, name, ast.Load())
    return ast.Call(function, node.args, node.keywords)


def _numpy(name: str) -> ast.expr:
    return ast.Attribute(ast.Name("np", ast.Load()), name, ast.Load())


COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
}
OPPOSITES: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}


def _of_comparison(node: ast.Compare) -> Alternatives:
    for place, op in enumerate(node.ops):

        def changed(
            new: type[ast.cmpop], place: int = place, node: ast.Compare = node
        ) -> ast.Compare:
            ops = [*node.ops[:place], new(), *node.ops[place + 1 :]]
            return ast.Compare(node.left, ops, node.comparators)

        if type(op) in COMPARISONS:
            boundary, opposite = COMPARISONS[type(op)]
            yield "boundary", changed(boundary)
            yield "comparison", changed(opposite)
        elif type(op) in OPPOSITES:
            yield "comparison", changed(OPPOSITES[type(op)])


def _of_constant(node: ast.Constant, parent: ast.AST) -> Alternatives:
    value = node.value
    if isinstance(value, bool):
        if isinstance(parent, ast.Return | ast.keyword | ast.Assign | ast.IfExp):
            yield "constant", ast.Constant(not value)
    elif isinstance(value, float):
        if (
            isinstance(parent, ast.BinOp)
            and isinstance(parent.op, ast.Div)
            and parent.right is node
        ):
            yield "constant", ast.Constant(value * 2)
        else:
            yield "constant", ast.Constant(value / 2 if value else 1.0)
    elif isinstance(value, int) and isinstance(parent, ast.BinOp | ast.Compare | ast.Return):
        yield "constant", ast.Constant(value - 1 if value else 1)


def _of_statement(node: ast.stmt, parent: ast.AST) -> Alternatives:
    called = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    if called or isinstance(node, ast.AugAssign | ast.Raise | ast.Continue | ast.Break):
        yield "statement", ast.Pass()
    elif isinstance(node, ast.Assign) and not isinstance(parent, ast.Module | ast.ClassDef):
        if isinstance(node.targets[0], ast.Subscript):
            yield "statement", ast.Pass()
    elif isinstance(node, ast.Return) and node.value is not None:
        yield from _of_returned(node.value)


def _of_returned(value: ast.expr) -> Alternatives:
    """A returned number becomes 0, a returned truth both constants."""
    truth = isinstance(value, ast.Compare | ast.BoolOp) or (
        isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.Not)
    )
    if truth or (isinstance(value, ast.Call) and _called(value.func) in ("bool", "any", "all")):
        for constant in (True, False):
            yield "returned", ast.Return(ast.Constant(constant))
    elif isinstance(value, ast.BinOp) or (
        isinstance(value, ast.Call)
        and _called(value.func) in {*UPWARD, *PRODUCTS, "sum_up", "dot_up", "where", "maximum"}
    ):
        yield "returned", ast.Return(ast.BinOp(copy.deepcopy(value), ast.Mult(), ast.Constant(0.0)))
