"""IsNaN, IsInf, Hardmax and Shrink: operators that compare, decomposed into comparisons.

Over the reals nothing is NaN or infinite, and a proof shows that nothing is so at run time.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np

from onnx_import.graph import DType
from onnx_import.passes.body import Body
from onnx_import.tensors import code_of


def is_nan(body: Body) -> None:
    """What does not equal itself, made so large that reading it flushes nothing."""
    (x,) = body.node.inputs
    large = body.add("Max", x, body.store(np.ones((), body.types[x].dtype.numpy)))
    body.add("Not", body.add("Equal", large, large))


def is_inf(body: Body) -> None:
    """Beyond the largest finite number, on the sides that are asked for."""
    (x,) = body.node.inputs
    kind = body.types[x].dtype
    if not kind.is_float:
        raise body.unsupported(f"it reads {kind.value} numbers, of which none is infinite")
    most = float(ml_dtypes.finfo(kind.numpy).max)  # type: ignore[no-untyped-call]
    high, low = (body.store(np.asarray(v, kind.numpy)) for v in (most, -most))
    above, below = (bool(body.number(f"detect_{side}", 1)) for side in ("positive", "negative"))
    if above and below:
        body.add("Greater", body.add("Abs", x), high)
        return
    found = [body.add("Greater", x, high)] if above or not below else []
    found += [body.add("Less", x, low)] if below or not above else []
    if len(found) == 2:  # neither side: never
        body.add("And", *found)


def hardmax(body: Body) -> None:
    """1 at the first of the largest elements along an axis, else 0."""
    (x,), shape = body.node.inputs, body.shape(0)
    if body.node.opset < 13:
        raise body.unsupported(
            f"opset {body.node.opset} reads its input as a matrix; convert the model with "
            "onnx.version_converter to opset 13"
        )
    axis = body.number("axis", -1)
    place = body.add("ArgMax", x, axis=axis, keepdims=1)
    along = [1] * len(shape)
    along[axis] = shape[axis]
    same = body.add("Equal", place, body.store(np.arange(shape[axis]).reshape(along)))
    body.add("Cast", same, to=code_of(body.types[x].dtype))


def shrink(body: Body) -> None:
    """x + bias below −lambd, x − bias above lambd, 0 between."""
    (x,), kind = body.node.inputs, body.types[body.node.inputs[0]].dtype
    if kind is not DType.FLOAT32:  # onnxruntime computes in float32, whatever the type
        raise body.unsupported(f"its attributes are float32 numbers, and its input {kind.value}")
    edge, bias = (np.float32(body.number(name, given)) for name, given in _SHRINK)
    if edge < 0:
        raise body.unsupported(f"attribute 'lambd' is {edge}, which has no meaning")
    low, high, shift, zero = (
        body.store(np.asarray(v, kind.numpy)) for v in (-edge, edge, bias, np.float32(0))
    )
    above = body.add("Where", body.add("Greater", x, high), body.add("Sub", x, shift), zero)
    body.add("Where", body.add("Less", x, low), body.add("Add", x, shift), above)


def of_integers(body: Body) -> None:
    """A comparison of integers or truth values as one of the float64 numbers that they are."""
    if not body.types[body.node.inputs[0]].dtype.is_float:
        wide = [body.add("Cast", t, to=code_of(DType.FLOAT64)) for t in body.node.inputs]
        body.add(body.node.op, *wide)


_SHRINK = (("lambd", 0.5), ("bias", 0.0))
