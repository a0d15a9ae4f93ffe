"""What a grid of an operator's attributes is, and the models of one node that it stands for."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

FIRST_OPSET = 7  # the first that is read


@dataclass(frozen=True)
class Data:
    """A tensor that a node reads: given at run time, or stored in the model.

    A dimension of 0 at run time comes from a Slice of one of 1: a model's own inputs hold numbers.
    `dtype` is that of the case unless it is given; `values` are stored as they are.
    """

    shape: tuple[int, ...]
    kind: str = "any"
    stored: bool = False
    dtype: str = ""
    values: Any = None


def run(*shape: int, kind: str = "any", dtype: str = "") -> Data:
    return Data(shape, kind, False, dtype)


def kept(*shape: int, kind: str = "any", dtype: str = "") -> Data:
    return Data(shape, kind, True, dtype)


def const(values: Any, dtype: str = "") -> Data:
    made = np.asarray(values)
    return Data(made.shape, "", True, dtype, made)


Inputs = tuple[Data | None, ...]


@dataclass(frozen=True)
class Grid:
    """Every combination of inputs, parameters, element types and opsets of one operator.

    A parameter is an attribute where the opset has one of its name, and a stored input where it has
    one of that name; None leaves it out. `outputs` are how many outputs the node may have.
    """

    inputs: Sequence[Inputs]
    parameters: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    types: Sequence[str] = ("float32", "float32", "float64", "float16")
    outputs: Sequence[int] = (1,)
    domain: str = ""


@dataclass(frozen=True)
class Case:
    op: str
    opset: int
    inputs: Inputs
    parameters: Mapping[str, Any]
    dtype: str
    outputs: int = 1
    domain: str = ""

    def __str__(self) -> str:
        def told(data: Data | None) -> str:
            if data is None:
                return "-"
            if data.values is not None:
                return f"{data.values.tolist()}{data.dtype and ':' + data.dtype}"
            letter = "kept" if data.stored else "run"
            return f"{letter}{list(data.shape)}{data.kind}{data.dtype and ':' + data.dtype}"

        given = {k: _short(v) for k, v in self.parameters.items() if v is not None}
        return (
            f"{self.op}-{self.opset} {self.dtype} {' '.join(map(told, self.inputs))} {given} "
            f"->{self.outputs}"
        )


def _short(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


@cache
def _schemas() -> Mapping[str, Mapping[int, Any]]:
    every: dict[str, dict[int, Any]] = defaultdict(dict)
    for schema in onnx.defs.get_all_schemas_with_history():
        if not schema.domain:
            every[schema.name][schema.since_version] = schema
    return dict(every)


def schemas(op: str) -> Mapping[int, Any]:
    """Every version of the operator by the opset in which it came."""
    return _schemas().get(op, {})


def schema_of(op: str, opset: int) -> Any:
    return schemas(op)[max(v for v in schemas(op) if v <= opset)]


def opsets(op: str, domain: str) -> tuple[int, ...]:
    if domain:
        return (13,)
    since = [v for v in schemas(op) if v >= FIRST_OPSET]
    older = [v for v in schemas(op) if v < FIRST_OPSET]
    return tuple(sorted({*since, *([max(FIRST_OPSET, *older)] if older else []), 21}))


def places(case: Case) -> tuple[dict[str, Any], dict[int, Any]] | None:
    """The parameters as attributes and as inputs by position; None if this opset has no such."""
    if case.domain:
        return {k: v for k, v in case.parameters.items() if v is not None}, {}
    schema = schema_of(case.op, case.opset)
    positions = {value.name: i for i, value in enumerate(schema.inputs)}
    attributes, inputs = {}, {}
    for name, value in case.parameters.items():
        if value is None:
            continue
        if name in schema.attributes:
            attributes[name] = value
        elif name in positions:
            inputs[positions[name]] = value
        elif ALIASES.get(name) in schema.attributes:
            attributes[ALIASES[name]] = value
        else:
            return None
    return attributes, inputs


ALIASES = {"constant_value": "value", "input_mean": "mean", "input_var": "var"}
SINGLE = ("scales", "roi")  # of float32 at any type of the data


def is_valid(case: Case) -> bool:
    if case.domain:
        return True
    if not [v for v in schemas(case.op) if v <= case.opset] or places(case) is None:
        return False
    schema = schema_of(case.op, case.opset)
    if schema.deprecated:
        return False
    attributes, inputs = places(case) or ({}, {})
    if any(a.required and n not in attributes for n, a in schema.attributes.items()):
        return False
    given = {i for i, data in enumerate(case.inputs) if data is not None} | set(inputs)
    if len(given) > schema.max_input or case.outputs > schema.max_output:
        return False
    types = {t.type_param_str: t.allowed_type_strs for t in schema.type_constraints}
    for i, data in enumerate(case.inputs):
        formal = schema.inputs[min(i, len(schema.inputs) - 1)]
        if data is None:
            if formal.option == onnx.defs.OpSchema.FormalParameterOption.Single:
                return False
            continue
        name = NAMES.get(data.dtype or case.dtype, data.dtype or case.dtype)
        allowed = types.get(formal.type_str, [formal.type_str])
        if f"tensor({name})" not in allowed:
            return False
    parts = case.parameters.get("num_outputs")
    if parts not in (None, case.outputs):
        return False  # ONNX's own inference ends the process
    needed = [
        i
        for i, v in enumerate(schema.inputs)
        if v.option == onnx.defs.OpSchema.FormalParameterOption.Single
    ]
    return set(needed) <= given


NAMES = {"float32": "float", "float64": "double"}


def sampled(rng: np.random.Generator, data: Data, dtype: str) -> Any:
    """Numbers of a kind: multiples of a quarter among others, so that ties and zeros occur."""
    kind, shape = data.kind, data.shape
    name = data.dtype or dtype
    target = helper.tensor_dtype_to_np_dtype(helper.np_dtype_to_tensor_dtype(numpy_of(name)))
    if data.values is not None:
        return (
            data.values.astype(target)
            if data.dtype or data.values.dtype.kind == "f"
            else (data.values)
        )
    if name == "bool" or kind == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if np.dtype(target).kind in "iu":
        low = 1 if kind in ("positive", "nonzero") else -5 if np.dtype(target).kind == "i" else 0
        return rng.integers(low, 10, shape).astype(target)
    fine = rng.random() < 0.5
    v = rng.uniform(-3, 3, shape)
    if not fine:
        v = np.round(4 * v) / 4
    if kind == "positive":
        v = np.abs(v) + 0.25
    elif kind == "nonzero":
        v = np.where(np.abs(v) < 0.25, 0.5, v)
    elif kind == "small":
        v = v / 4
    elif kind == "whole":
        v = np.round(v)
    elif kind == "distinct":
        v = rng.permutation(math.prod(shape)).reshape(shape) / 4.0 - 2.0
    return np.asarray(v).astype(target)


def numpy_of(name: str) -> Any:
    import ml_dtypes

    return np.dtype(getattr(ml_dtypes, name)) if name == "bfloat16" else np.dtype(name)


@dataclass(frozen=True)
class Made:
    """A model of one node and values of its inputs."""

    model: Any
    given: Mapping[str, Any]


def made_of(case: Case, seed: int = 0) -> Made:
    rng = np.random.default_rng(seed)
    attributes, extra = places(case) or ({}, {})
    values: dict[int, Any] = {}
    given, stored, nodes, infos, names = {}, [], [], [], {}
    for i, data in enumerate(case.inputs):
        if data is None:
            continue
        values[i] = sampled(rng, data, case.dtype)
        names[i] = "abcdefghij"[i]
        if data.stored:
            stored.append(numpy_helper.from_array(values[i], names[i]))
            continue
        code = helper.np_dtype_to_tensor_dtype(values[i].dtype)
        whole = tuple(max(n, 1) for n in data.shape)
        fed = names[i]
        if whole != data.shape:
            fed = f"{names[i]}_whole"
            empty = [k for k, n in enumerate(data.shape) if not n]
            if case.opset < 10:
                zeros = [0] * len(empty)
                nodes.append(
                    helper.make_node(
                        "Slice", [fed], [names[i]], axes=empty, starts=zeros, ends=zeros
                    )
                )
            else:
                stored.append(numpy_helper.from_array(np.zeros(len(empty), np.int64), f"{fed}_0"))
                stored.append(numpy_helper.from_array(np.array(empty), f"{fed}_a"))
                nodes.append(
                    helper.make_node("Slice", [fed, f"{fed}_0", f"{fed}_0", f"{fed}_a"], [names[i]])
                )
            values[i] = sampled(rng, Data(whole, data.kind, False, data.dtype), case.dtype)
        given[fed] = values[i]
        infos.append(helper.make_tensor_value_info(fed, code, whole))
    for i, value in extra.items():
        array = np.asarray(value) if np.size(value) else np.zeros(0, np.int64)
        if array.dtype.kind == "f":
            single = schema_of(case.op, case.opset).inputs[i].name in SINGLE
            array = array.astype(np.float32 if single else numpy_of(case.dtype))
        names[i] = f"p{i}"
        stored.append(numpy_helper.from_array(array, names[i]))
    count = max(names, default=-1) + 1
    outputs = ["y", "y1", "y2", "y3"][: case.outputs]
    last = helper.make_node(
        case.op, [names.get(i, "") for i in range(count)], outputs, name="here", domain=case.domain
    )
    for name, value in attributes.items():
        kind = int(onnx.AttributeProto.INTS) if isinstance(value, tuple) and not value else None
        last.attribute.append(helper.make_attribute(name, value, attr_type=kind))
    nodes.append(last)
    graph = helper.make_graph(
        nodes, "grid", infos, [onnx.ValueInfoProto(name=t) for t in outputs], stored
    )
    opset = [helper.make_opsetid("", case.opset)]
    if case.domain:
        opset.append(helper.make_opsetid(case.domain, 1))
    model = helper.make_model(graph, opset_imports=opset)
    model.ir_version = 8 if case.opset < 21 else 10
    return Made(typed(model, case), given)


def typed(model: Any, case: Case) -> Any:
    """The model with the types of its outputs, where ONNX infers none that of the data."""
    with contextlib.suppress(onnx.shape_inference.InferenceError):
        model = onnx.shape_inference.infer_shapes(model)
    for value in model.graph.output:
        if not value.type.WhichOneof("value"):
            kind = numpy_of("uint8" if case.domain and len(case.inputs) > 7 else case.dtype)
            value.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(kind)
    return model


def every(op: str, grid: Grid) -> Iterator[Case]:
    """All cases, in the order of the grid."""
    names = list(grid.parameters)
    for inputs, dtype, opset, outputs in itertools.product(
        grid.inputs, dict.fromkeys(grid.types), opsets(op, grid.domain), grid.outputs
    ):
        for values in itertools.product(*(grid.parameters[n] for n in names)):
            parameters = dict(zip(names, values, strict=True))
            yield Case(op, opset, inputs, parameters, dtype, outputs, grid.domain)


def sample(op: str, grids: Sequence[Grid], count: int, seed: int) -> list[Case]:
    """At most `count` different cases, evenly from all grids."""
    rng = np.random.default_rng([seed, *op.encode()])
    found: dict[str, Case] = {}
    share = max(count // len(grids), 1)
    for grid in grids:
        here: dict[str, Case] = {}
        names = list(grid.parameters)
        for _ in range(20 * share):
            if len(here) >= share:
                break
            parameters = {n: _one(rng, grid.parameters[n]) for n in names}
            case = Case(
                op,
                _one(rng, opsets(op, grid.domain)),
                _one(rng, grid.inputs),
                parameters,
                _one(rng, grid.types),
                _one(rng, grid.outputs),
                grid.domain,
            )
            if is_valid(case):
                here[str(case)] = case
        found |= here
    return list(found.values())


def _one(rng: np.random.Generator, of: Sequence[Any]) -> Any:
    return of[int(rng.integers(len(of)))]
