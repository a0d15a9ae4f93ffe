"""Findings made smaller and kept: a model, a contract, a box and the words for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from trial import Finding, Trial, judge

from encoders.contract import IEEE_ANY, RuntimeContract
from encoders.contract_table import contract_table


def minimised(trial: Trial, kind: str) -> Trial:
    """A smaller trial with a finding of the same kind: fewer nodes, fewer fields of the contract,
    boxes that are points."""
    changed = True
    while changed:
        changed = False
        for smaller in _smaller(trial):
            if any(f.kind == kind for f in judge(smaller)[1]):
                trial, changed = smaller, True
                break
    return trial


def _smaller(trial: Trial) -> Iterator[Trial]:
    graph = trial.model.graph
    for kept in range(1, len(graph.node)):
        for name in graph.node[kept - 1].output[:1]:
            yield _cut(trial, name)
    for field in RuntimeContract.__dataclass_fields__:
        plain = getattr(IEEE_ANY, field)
        if field != "name" and getattr(trial.contract, field) != plain:
            yield replace(trial, contract=replace(trial.contract, **{field: plain}))
    for name in trial.lo:
        if np.any(trial.lo[name] != trial.hi[name]):
            yield replace(trial, lo={**trial.lo, name: trial.hi[name]})


def _cut(trial: Trial, output: str) -> Trial:
    """Only what one tensor needs."""
    model = onnx.ModelProto()
    model.CopyFrom(trial.model)
    graph, wanted, nodes = model.graph, {output}, []
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
        model=onnx.shape_inference.infer_shapes(model),
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
