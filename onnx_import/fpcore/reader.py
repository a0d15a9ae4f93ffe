"""The FPCore reader: a kernel of FPBench's language (fpbench.org) as a graph of scalars.

A repeated expression becomes one node: operations are deterministic, so computing it twice gives
the same bits. A number that the kernel's precision cannot hold becomes a `Rational`: exact over the
reals, rounded at run time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np

from onnx_import.errors import ModelError, UnsupportedModel
from onnx_import.fpcore.precondition import ranges_of
from onnx_import.fpcore.text import Expression, expressions, number, written
from onnx_import.graph import Array, DType, Graph, Node, TensorType, build_graph
from onnx_import.onnx.proto import read_bytes
from onnx_import.passes.normalize import without_dead

OPSET = 17
_PRECISIONS = {"binary64": DType.FLOAT64, "binary32": DType.FLOAT32}
_BINARY = {"+": "Add", "-": "Sub", "*": "Mul", "/": "Div", "fmin": "Min", "fmax": "Max"}
_UNARY = {
    "-": "Neg",
    "sqrt": "Sqrt",
    "fabs": "Abs",
    "exp": "Exp",
    "log": "Log",
    "sin": "Sin",
    "tan": "Tan",
    "asin": "Asin",
    "acos": "Acos",
    "atan": "Atan",
    "sinh": "Sinh",
    "cosh": "Cosh",
    "asinh": "Asinh",
    "acosh": "Acosh",
    "atanh": "Atanh",
    "cos": "Cos",
    "tanh": "Tanh",
    "erf": "Erf",
}
_COMPARISONS = {
    "<": "Less",
    "<=": "LessOrEqual",
    ">": "Greater",
    ">=": "GreaterOrEqual",
    "==": "Equal",
}
_WITHOUT_SEMANTICS = {
    "while": "loops have to be unrolled first",
    "while*": "loops have to be unrolled first",
    "!": "precision cannot change within a kernel",
    "cast": "precision cannot change within a kernel",
    "fma": "the contract decides about FMA, not the kernel",
}


@dataclass(frozen=True)
class Kernel:
    """An FPCore as written: arguments, properties (each an expression), and the body."""

    arguments: tuple[str, ...]
    properties: Mapping[str, Expression]
    body: Expression
    source: Path

    def refuse(self, why: str) -> UnsupportedModel:
        """The error that says, with the file, why this kernel is not read."""
        return UnsupportedModel(f"'{self.source}': {why}")


def load(path: str | Path) -> Graph:
    """Read a file with one FPCore. Its precondition, where it is a box, becomes the domain that
    the graph states.

    Raises ModelError for a file that is not FPCore or holds several kernels, UnsupportedModel for
    an expression without a meaning here; both quote the place.
    """
    source = Path(path)
    data = read_bytes(source)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelError(f"'{source}' is not FPCore: it is not UTF-8 text") from error
    kernel = _kernel(expressions(text, source), source)
    dtype = _dtype(kernel)
    build = _Build(kernel, dtype)
    output = build.output(build.tensor(kernel.body, {a: a for a in kernel.arguments}))
    nodes = without_dead(build.nodes, (output,))
    read = {t for node in nodes for t in (*node.inputs, *node.outputs)}
    inputs = tuple(a for a in kernel.arguments if a in read)
    if not inputs:
        raise kernel.refuse("the body reads none of the arguments: it is a constant")
    ranges, notes = ranges_of(kernel.properties.get(":pre"), inputs)
    unused = [a for a in kernel.arguments if a not in read]
    if unused:
        notes += (f"the body does not read {', '.join(unused)}: no inputs of the graph",)
    return build_graph(
        nodes,
        {t: kind for t, kind in build.types.items() if t in read},
        constants={t: value for t, value in build.constants.items() if t in read},
        inputs=inputs,
        outputs=(output,),
        source=source,
        sha256=hashlib.sha256(data).hexdigest(),
        notes=(
            f"read as an FPCore kernel in {dtype.value}; repeated expressions are one node",
            *notes,
        ),
        ranges=ranges,
    )


def _kernel(found: tuple[Expression, ...], source: Path) -> Kernel:
    if len(found) != 1:
        raise ModelError(
            f"'{source}' holds {len(found)} expressions; keep the one FPCore that is meant"
        )
    (core,) = found
    if not isinstance(core, tuple) or not core or core[0] != "FPCore":
        raise ModelError(f"'{source}' is not FPCore: it starts with {written(core)}")
    rest = list(core[1:])
    if rest and isinstance(rest[0], str):
        rest.pop(0)  # the kernel's identifier
    if len(rest) < 2 or not isinstance(rest[0], tuple):
        raise ModelError(f"'{source}' is not FPCore: it needs arguments and a body")
    arguments = rest.pop(0)
    body = rest.pop()
    names = [a for a in arguments if isinstance(a, str)]
    if len(names) != len(arguments) or len(set(names)) != len(names):
        raise UnsupportedModel(
            f"'{source}': arguments must be different plain names, not {written(arguments)}"
        )
    keys = [k for k in rest[::2] if isinstance(k, str) and k.startswith(":")]
    if len(rest) % 2 or len(keys) != len(rest) // 2:
        raise ModelError(f"'{source}' is not FPCore: properties are :name value pairs")
    twice = next((k for k in keys if keys.count(k) > 1), None)
    if twice is not None:
        raise ModelError(f"'{source}' gives the property {twice} twice; keep the one that is meant")
    return Kernel(tuple(names), dict(zip(keys, rest[1::2], strict=True)), body, source)


def _dtype(kernel: Kernel) -> DType:
    given = kernel.properties.get(":precision", kernel.properties.get(":type", "binary64"))
    if not isinstance(given, str) or given not in _PRECISIONS:
        raise kernel.refuse(f"precision {written(given)} has no meaning here; use binary64 or 32")
    rounding = kernel.properties.get(":round", "nearestEven")
    if rounding != "nearestEven":
        raise kernel.refuse(f"rounding {written(rounding)} has no meaning here, only nearestEven")
    return _PRECISIONS[given]


@dataclass
class _Build:
    """Nodes made so far; equal expressions are found again by what they are made of."""

    kernel: Kernel
    dtype: DType
    nodes: list[Node] = field(default_factory=list)
    types: dict[str, TensorType] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    known: dict[tuple[str, ...], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.types.update(dict.fromkeys(self.kernel.arguments, TensorType(self.dtype, ())))

    def tensor(self, expression: Expression, scope: Mapping[str, str]) -> str:
        """The tensor that holds an expression's value; `scope` maps names to tensors."""
        if isinstance(expression, str):
            value = number(expression)
            if value is not None:
                return self._number(value)
            if expression not in scope:
                raise self.kernel.refuse(f"the name {written(expression)} has no value here")
            return scope[expression]
        if not expression or not isinstance(expression[0], str):
            raise self._refused(expression, "it starts with no operator")
        operator, operands = expression[0], expression[1:]
        if operator in ("let", "let*"):
            return self._let(expression, scope, sequential=operator == "let*")
        if operator == "if" and len(operands) == 3:
            return self._if(expression, scope)
        if operator in _WITHOUT_SEMANTICS:
            raise self._refused(expression, _WITHOUT_SEMANTICS[operator])
        if operator == "-" and len(operands) == 1 and isinstance(operands[0], str):
            value = number(operands[0])
            if value is not None:
                return self._number(-value)
        if operator == "pow" and len(operands) == 2:
            return self._power(expression, scope)
        if operator in _UNARY and len(operands) == 1:
            return self._node(_UNARY[operator], self._computed(self.tensor(operands[0], scope)))
        if operator in _BINARY and len(operands) == 2:
            a, b = (self.tensor(e, scope) for e in operands)
            if a in self.constants and b in self.constants:
                a = self._computed(a)
            return self._node(_BINARY[operator], a, b)
        raise self._refused(expression, f"{written(operator)} of {len(operands)} has no meaning")

    def output(self, tensor: str) -> str:
        """The kernel's result as something that a node writes."""
        if any(tensor in node.outputs for node in self.nodes):
            return tensor
        return self._node("Identity", self._computed(tensor))

    def _let(self, expression: Expression, scope: Mapping[str, str], sequential: bool) -> str:
        if len(expression) != 3 or not isinstance(expression[1], tuple):
            raise self._refused(expression, "it needs bindings and a body")
        inner = dict(scope)
        for binding in expression[1]:
            if not (isinstance(binding, tuple) and len(binding) == 2):
                raise self._refused(expression, "a binding is a name and an expression")
            name, value = binding
            if not isinstance(name, str) or number(name) is not None:
                raise self._refused(expression, "a binding is a name and an expression")
            inner[name] = self.tensor(value, inner if sequential else scope)
        return self.tensor(expression[2], inner)

    def _if(self, expression: Expression, scope: Mapping[str, str]) -> str:
        """Min, Max and Abs where that is what it says, for those have no jump; else Where."""
        condition, branches = expression[1], expression[2:]
        if (
            not isinstance(condition, tuple)
            or len(condition) != 3
            or not isinstance(condition[0], str)
            or condition[0] not in _COMPARISONS
        ):
            raise self._refused(expression, "its condition must be one comparison of two numbers")
        yes, no = (self.tensor(e, scope) for e in branches)
        a, b = (self.tensor(e, scope) for e in condition[1:])
        less = condition[0] in ("<", "<=")
        if condition[0] != "==" and {yes, no} == {a, b} and a != b:
            return self._node("Min" if less == (yes == a) else "Max", a, b)
        if condition[0] != "==" and self._is_zero(b) and a not in self.constants:
            branches_of_abs = (self._node("Neg", a), a)
            if (yes, no) == (branches_of_abs if less else branches_of_abs[::-1]):
                return self._node("Abs", a)
        if a in self.constants and b in self.constants:
            a = self._computed(a)
        test = self._node(_COMPARISONS[condition[0]], a, b, dtype=DType.BOOL)
        return self._node("Where", test, yes, no)

    def _is_zero(self, tensor: str) -> bool:
        return tensor in self.constants and not np.any(self.constants[tensor])

    def _power(self, expression: Expression, scope: Mapping[str, str]) -> str:
        exponent = expression[2]
        value = number(exponent) if isinstance(exponent, str) else None
        if value is None:
            raise self._refused(expression, "the exponent must be a number")
        base = self._computed(self.tensor(expression[1], scope))
        return self._node("Pow", base, self._number(value))

    def _number(self, value: Fraction) -> str:
        """A stored constant where the format holds it, else a Rational."""
        try:
            with np.errstate(over="ignore", under="ignore"):
                stored = self.dtype.numpy.type(float(value))
            exact = bool(np.isfinite(stored)) and Fraction(float(stored)) == value
        except OverflowError:
            exact = False
        if not exact:
            return self._rational(value)
        key = ("constant", str(value))
        if key not in self.known:
            name = self._fresh("constant")
            self.known[key] = name
            self.types[name] = TensorType(self.dtype, ())
            self.constants[name] = np.asarray(stored)
        return self.known[key]

    def _rational(self, value: Fraction) -> str:
        return self._node("Rational", value=str(value))

    def _computed(self, tensor: str) -> str:
        """The same value from a node or an input, for operators that want no stored number."""
        if tensor not in self.constants:
            return tensor
        return self._rational(Fraction(float(self.constants[tensor])))

    def _node(self, op: str, *inputs: str, dtype: DType | None = None, **attributes: str) -> str:
        key = (op, *inputs, *attributes.values())
        if key not in self.known:
            name = self._fresh(op.lower())
            self.known[key] = name
            self.types[name] = TensorType(dtype or self.dtype, ())
            self.nodes.append(
                Node(name, op, inputs=inputs, outputs=(name,), attributes=attributes, opset=OPSET)
            )
        return self.known[key]

    def _fresh(self, stem: str) -> str:
        count = 1 + sum(name.startswith(stem) for name in self.types)
        name = f"{stem}{count}"
        while name in self.types:
            name += "_"
        return name

    def _refused(self, expression: Expression, why: str) -> UnsupportedModel:
        return self.kernel.refuse(f"{written(expression)}: {why}")
