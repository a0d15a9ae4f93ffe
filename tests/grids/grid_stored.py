"""A file under a contract that rounds stored numbers, against the file with them already rounded.

With M the file, M′ the same with every stored number rounded, and c the contract, both run alike:
what c computes of M is within bound(M, c) of M's real function and within bound(M′, c) of that of
M′. So |real M′ − real M| is at most the sum of the bounds, and both have the same bits.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from grid_cases import Made
from onnx import helper, numpy_helper

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.arithmetic.handling import handling_of
from encoders.contract.contract import RuntimeContract, Subnormals
from encoders.contract.presets import IEEE_ANY, SEQUENTIAL
from encoders.numbers.enclosure import Interval
from encoders.numbers.formats import BFLOAT16, BINARY16, FloatFormat, small_format
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_real
from onnx_import import load
from onnx_import.errors import ModelError
from onnx_import.graph import Graph
from refine.bounds.network import InputBox, network_bounds
from refine.claims.claim import require_semantics
from refine.results.verdict import Side

Array = Any
FLOATS = (1, 10, 11, 16)  # as ONNX numbers them
E5P2 = small_format(5, 2)
FLUSHED = replace(SEQUENTIAL, name="flushed", results=Subnormals.FLUSH, operands=Subnormals.FLUSH)
CONTRACTS: tuple[RuntimeContract, ...] = (
    replace(SEQUENTIAL, name="weights float16", stored_format=BINARY16),
    replace(SEQUENTIAL, name="bfloat16", compute_format=BFLOAT16),
    replace(IEEE_ANY, name="weights bfloat16", stored_format=BFLOAT16),
    replace(SEQUENTIAL, name="weights e5p2", stored_format=E5P2),
    replace(FLUSHED, name="float16 flushed", compute_format=BINARY16),
    replace(FLUSHED, name="weights float16 flushed", stored_format=BINARY16),
)


def rounded(values: Array, fmt: FloatFormat) -> Array:
    """To nearest, ties to even."""
    wide = np.asarray(values, np.float64)
    _, exponent = np.frexp(wide)
    unit = np.maximum(exponent - 1, fmt.emin) - fmt.precision + 1
    near = np.ldexp(np.rint(np.ldexp(wide, -unit)), unit)
    return np.where(np.abs(near) > fmt.largest_number, np.copysign(np.inf, near), near)


def as_held(contract: RuntimeContract) -> Callable[[Array], Array]:
    """What becomes of stored numbers, in their own type."""

    def held(values: Array) -> Array:
        fmt = contract.stored_format or contract.compute_format
        assert fmt is not None
        near = rounded(values, fmt)
        with np.errstate(over="ignore"):
            own = near.astype(values.dtype)
        kind = contract.compute_format or {"float16": BINARY16}.get(values.dtype.name)
        least = 2.0 ** (kind.emin if kind else -126)
        lost = contract.results is Subnormals.FLUSH or contract.operands is Subnormals.FLUSH
        if lost and values.dtype != np.float64:
            own = np.where(np.abs(own.astype(np.float64)) < least, np.copysign(0.0, own), own)
        return own.astype(values.dtype)

    return held


def with_stored(model: Any, held: Callable[[Array], Array]) -> Any:
    """The model with other stored numbers."""
    made = onnx.ModelProto.FromString(model.SerializeToString())
    for tensor in stored_tensors(made):
        changed = held(numpy_helper.to_array(tensor))
        tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
    for attribute in _single_numbers(made):
        attribute.f = float(held(np.array(attribute.f, np.float32)))
    return made


def stored_tensors(model: Any) -> Iterator[Any]:
    """The floating-point tensors that a file stores."""
    inner = (a.t for n in model.graph.node for a in n.attribute if a.HasField("t"))
    yield from (t for t in (*model.graph.initializer, *inner) if t.data_type in FLOATS)


def _single_numbers(model: Any) -> Iterator[Any]:
    yield from (a for n in model.graph.node for a in n.attribute if a.name == "value_float")


def stores_numbers(model: Any) -> bool:
    return any(True for _ in stored_tensors(model)) or any(True for _ in _single_numbers(model))


@dataclass(frozen=True)
class Found:
    """The real outputs of a model at a point, the bounds of what is computed there, and its bits
    where the contract leaves none open."""

    real: Mapping[str, Array]
    bounds: Mapping[str, Array]
    bits: Mapping[str, Array] | None


def found(model: Any, given: Mapping[str, Array], contract: RuntimeContract) -> Found:
    """Raises ModelError for what is refused."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model.SerializeToString())
        graph = load(path, handling=handling_of(contract))
    require_semantics(Side(graph, contract))
    box = {t: _point(graph, t, given) for t in graph.inputs}
    field = ApproximateReals(wide=True)
    samples = {t: given[t][np.newaxis] for t in graph.inputs}
    zeros = {t: np.zeros(v.lo.shape) for t, v in box.items()}
    with np.errstate(all="ignore"):
        maps = network_bounds(graph, InputBox(box, zeros), contract).maps
        exact = evaluate_real(graph, {t: field.constant(given[t]) for t in graph.inputs}, field)
        bits = emulate(graph, samples, contract) if contract.pinned else None
    errors = {t: maps.errors[t] for t in graph.outputs if t in maps.errors}
    return Found({t: np.asarray(exact[t])[0] for t in errors}, errors, bits)


def _point(graph: Graph, tensor: str, given: Mapping[str, Array]) -> Interval:
    value = np.asarray(given[tensor], np.float64)
    return Interval(value, value)


def apart(made: Made, contract: RuntimeContract) -> str | None:
    """What is wrong with a model whose stored numbers the contract rounds; None if it is refused,
    as it is or rounded."""
    held = as_held(contract)
    given = {
        n: v if contract.compute_format is None or v.dtype.kind in "iub" else held(v)
        for n, v in made.given.items()
    }
    other = with_stored(made.model, held)
    try:
        ours, theirs = (found(m, given, contract) for m in (made.model, other))
    except ModelError:
        return None
    for t, bound in ours.bounds.items():
        if t not in theirs.bounds:  # folded as a whole
            continue
        if ours.real[t].shape != theirs.real[t].shape:
            return f"{t}: another shape"
        a, b = (np.asarray(f.real[t], np.longdouble) for f in (ours, theirs))
        both = np.asarray(bound + theirs.bounds[t], np.float64)
        with np.errstate(invalid="ignore"):
            off = np.abs(a - b) > both * (1 + 1e-12) + 1e-14 * (1 + np.abs(a))
        if np.any(off & np.isfinite(both)):
            at = tuple(int(i) for i in np.argwhere(off)[0])
            return (
                f"{t}{at}: {float(a[at])!r} and, rounded, {float(b[at])!r}, with bounds "
                f"{float(np.asarray(bound)[at])!r} and {float(np.asarray(theirs.bounds[t])[at])!r}"
            )
        for one in (ours, theirs):
            beyond = _beyond(one, t)
            if beyond:
                return f"{t}: {beyond}"
        if ours.bits is not None and theirs.bits is not None:
            x, y = (np.asarray(f.bits[t], np.float64) for f in (ours, theirs) if f.bits)
            if not np.array_equal(x, y, equal_nan=True):
                return f"{t}: {x.ravel()[:4]} is emulated and, rounded before, {y.ravel()[:4]}"
    return ""


def _beyond(one: Found, output: str) -> str:
    """What is computed and is farther from its real value than the bound, or is no number."""
    if one.bits is None:
        return ""
    run, real = (np.asarray(v[output], np.longdouble) for v in (one.bits, one.real))
    limit = np.broadcast_to(np.asarray(one.bounds[output], np.float64), real.shape)
    with np.errstate(invalid="ignore"):
        within = np.abs(run.reshape(real.shape) - real) <= limit + 1e-14 * (1 + np.abs(real))
    if np.all(within | ~np.isfinite(limit)):
        return ""
    at = tuple(int(i) for i in np.argwhere(~within & np.isfinite(limit))[0])
    return (
        f"{float(run.reshape(real.shape)[at])!r} at {at} for {float(real[at])!r}, with the bound "
        f"{float(limit[at])!r}"
    )


def chain(
    nodes: str, given: Mapping[str, Any], opset: int = 21, dtype: str = "float32", **stored: Any
) -> Made:
    """A model of several nodes: `y = Op(x, c) attribute=1; …`, the last one's output its own.

    Stored floats are of the type, integers of their own.
    """
    made, infos = [], []
    for text in nodes.split(";"):
        head, _, attributes = text.strip().partition(") ")
        output, call = (part.strip() for part in head.split("="))
        op, _, inputs = call.rstrip(")").partition("(")
        named: dict[str, Any] = {}
        for name, v in (a.split("=") for a in attributes.split()):
            named[name] = float(v) if name == "epsilon" else int(v)
        made.append(
            helper.make_node(
                op,
                [i.strip() for i in inputs.split(",") if i.strip() or "," in inputs],
                [o.strip() for o in output.split(",")],
                **named,
            )
        )
    values = {n: np.asarray(v, dtype) for n, v in given.items()}
    for name, value in values.items():
        code = helper.np_dtype_to_tensor_dtype(value.dtype)
        infos.append(helper.make_tensor_value_info(name, code, value.shape))
    kept = []
    for name, value in stored.items():
        array = np.asarray(value)
        array = array.astype(dtype) if array.dtype == np.float64 else array
        kept.append(numpy_helper.from_array(array, name))
    output = onnx.ValueInfoProto(name=made[-1].output[0])
    graph = helper.make_graph(made, "stored", infos, [output], kept)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 10
    model = onnx.shape_inference.infer_shapes(model)
    if not model.graph.output[0].type.WhichOneof("value"):
        model.graph.output[0].type.tensor_type.elem_type = 1
    return Made(model, values)
