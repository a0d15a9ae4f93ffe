"""Findings made smaller and kept: a model, a contract, a box and the words for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from machine import nearest
from onnx import numpy_helper
from trial import Finding, Trial, bounded, format_of, judge

from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import IEEE_ANY
from encoders.contract.table import contract_table


def minimised(
    trial: Trial, kind: str, judged: Callable[[Trial], tuple[str, list[Finding]]] = judge
) -> Trial:
    """A smaller trial with a finding of the same kind: fewer nodes, shorter tensors, fewer fields
    of the contract, boxes that are points."""
    changed = True
    while changed:
        changed = False
        for smaller in _smaller(trial):
            if _shows(smaller, kind, judged):
                trial, changed = smaller, True
                break
    return trial


def _shows(trial: Trial, kind: str, judged: Callable[[Trial], tuple[str, list[Finding]]]) -> bool:
    """Is there such a finding? A trial that makes no sense any more, its box holding no numbers of
    its format, or without an input, shows nothing."""
    try:
        return any(f.kind == kind for f in judged(trial)[1])
    except (ValueError, ArithmeticError, LookupError):
        return False


def _smaller(trial: Trial) -> Iterator[Trial]:
    graph = trial.model.graph
    several = len(graph.output) > 1
    for node in graph.node if several else list(graph.node)[:-1]:
        for name in node.output[:1]:
            yield _cut(trial, name)
    for node in list(graph.node)[:-1]:
        yield from _from(trial, node.output[0])
    for n in sorted({d for v in trial.lo.values() for d in v.shape if d > 1}, reverse=True):
        for shorter in dict.fromkeys((1, n // 2, n - 1)):
            yield _shorter(trial, n, shorter)
    for field in RuntimeContract.__dataclass_fields__:
        plain = getattr(IEEE_ANY, field)
        if field != "name" and getattr(trial.contract, field) != plain:
            yield replace(trial, contract=replace(trial.contract, **{field: plain}))
    for name in trial.lo:
        if np.any(trial.lo[name] != trial.hi[name]):
            yield replace(trial, lo={**trial.lo, name: trial.hi[name]})
            yield replace(trial, hi={**trial.hi, name: trial.lo[name]})


def _from(trial: Trial, tensor: str) -> Iterator[Trial]:
    """With a computed tensor as an input, between the numbers that bounds give for it."""
    found = [v for v in trial.model.graph.value_info if v.name == tensor]
    if not found or found[0].type.tensor_type.elem_type not in (1, 10, 11, 16):
        return
    try:
        reports = bounded(trial).nodes
    except Exception:  # what cannot be bounded is not made smaller so
        return
    writer = next(n for n in trial.model.graph.node if tensor in n.output)
    ends = [(r.low, r.high) for r in reports if r.name == writer.name]
    if not ends or not np.all(np.isfinite(ends[0])):
        return
    model = onnx.ModelProto()
    model.CopyFrom(trial.model)
    kept = [n for n in model.graph.node if tensor not in n.output]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    model.graph.input.append(found[0])
    shape = tuple(d.dim_value for d in found[0].type.tensor_type.shape.dim)
    fmt = format_of(trial.contract, found[0])
    low, high = (np.full(shape, nearest(np.float64(e), fmt)) for e in ends[0])
    inside = replace(
        trial, model=model, lo={**trial.lo, tensor: low}, hi={**trial.hi, tensor: high}
    )
    written = {t for n in kept for t in n.output}
    for output in model.graph.output:
        if output.name in written:
            yield _cut(inside, output.name)


def _shorter(trial: Trial, n: int, shorter: int) -> Trial:
    """With every axis of that length cut; where the graph then fits together no more, it is
    refused, and nothing is found."""

    def cut(values: np.ndarray) -> np.ndarray:
        return values[tuple(slice(shorter if d == n else None) for d in values.shape)]

    model = onnx.ModelProto()
    model.CopyFrom(trial.model)
    for tensor in model.graph.initializer:
        if n in tensor.dims:
            tensor.CopyFrom(
                numpy_helper.from_array(cut(numpy_helper.to_array(tensor)), tensor.name)
            )
    for value in model.graph.input:
        for d in value.type.tensor_type.shape.dim:
            d.dim_value = shorter if d.dim_value == n else d.dim_value
    names = [v.name for v in model.graph.output]
    del model.graph.value_info[:], model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=t) for t in names)
    lo, hi = ({t: cut(v) for t, v in ends.items()} for ends in (trial.lo, trial.hi))
    return replace(trial, model=_inferred(model), lo=lo, hi=hi)


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model itself where nothing can be inferred; it is then refused when it is read."""
    try:
        return onnx.shape_inference.infer_shapes(model)
    except onnx.shape_inference.InferenceError:
        return model


def _cut(trial: Trial, output: str) -> Trial:
    """Only what one tensor needs."""
    model = onnx.ModelProto()
    model.CopyFrom(trial.model)
    graph, wanted = model.graph, {output}
    nodes: list[onnx.NodeProto] = []
    for node in reversed(trial.model.graph.node):
        if wanted & set(node.output):
            nodes.insert(0, node)
            wanted |= set(node.input)
    del graph.node[:], graph.output[:]
    graph.node.extend(nodes)
    graph.output.append(onnx.ValueInfoProto(name=output))
    for group in (graph.input, graph.initializer):
        kept = [v for v in group if v.name in wanted]
        del group[:]
        group.extend(kept)
    names = {v.name for v in graph.input}
    del graph.value_info[:]
    return replace(
        trial,
        model=_inferred(model),
        lo={n: v for n, v in trial.lo.items() if n in names},
        hi={n: v for n, v in trial.hi.items() if n in names},
    )


def save(trial: Trial, folder: Path, finding: Finding) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(trial.model, folder / "model.onnx")
    ends = {f"{n}_lo": v for n, v in trial.lo.items()} | {f"{n}_hi": v for n, v in trial.hi.items()}
    np.savez(folder / "box.npz", **ends)
    words = {
        "seed": trial.seed,
        "kind": finding.kind,
        "found": finding.text,
        "contract": contract_table(trial.contract),
        "command": "refine bound model.onnx --box box.npz --contract contract.toml",
    }
    (folder / "finding.json").write_text(json.dumps(words, indent=1))
    import tomli_w

    (folder / "contract.toml").write_text(tomli_w.dumps(contract_table(trial.contract)))
