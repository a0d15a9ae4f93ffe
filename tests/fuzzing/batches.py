"""Batch invariance of random chains of layers: what is proved of a row in a batch and the row alone
is held against executions of both, the interpreter's and onnxruntime's.

`python tests/fuzzing/batches.py SECONDS [FOLDER] [SEED]` tries for so long.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import runtime
from claims import PLAIN, forbidden
from graphs import random_contract
from interpreter import interpret
from machine import Machine, habits, nearest
from model_building import Building
from onnx import TensorProto, helper, numpy_helper
from reading import Unread
from running import from_command_line, fuzzed
from trial import Finding, range_of

from encoders.contract.contract import RuntimeContract
from encoders.contract.presets import IEEE_ANY, ORT_CPU
from encoders.numbers.formats import BINARY32
from onnx_import import load
from onnx_import.errors import ModelError
from refine.claims.kinds.batch_invariance import batch_invariance
from refine.claims.options import Options
from refine.domain.box import Box
from refine.domain.domain import Domain
from refine.lemmas.cache import default_directory
from refine.results.verdict import Result, Tolerance, Verdict

Array = Any
BATCHES = 3


@dataclass
class Chain(Building):
    """Layers on x of shape [N, width]; `mixing` ones let rows see each other."""

    rng: np.random.Generator
    width: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    stored: dict[str, Array] = field(default_factory=dict)

    def numbers(self, *shape: int) -> str:
        return self.keep(self.rng.standard_normal(shape).astype(np.float32))

    def model(self, rows: int | None) -> onnx.ModelProto:
        shape = ["N" if rows is None else rows, self.width]
        graph = helper.make_graph(
            self.nodes,
            "chain",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [onnx.ValueInfoProto(name=self.nodes[-1].output[0])],
            [numpy_helper.from_array(v, n) for n, v in self.stored.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return onnx.shape_inference.infer_shapes(model)


def chain_of(rng: np.random.Generator) -> Chain:
    c = Chain(rng, int(rng.choice([1, 2, 3, 8, 20])))
    x, width = "x", c.width
    for _ in range(int(rng.integers(1, 5))):
        kinds = ("Gemm", "MatMul", "Relu", "Tanh", "Sigmoid", "Add", "Mul", "Softmax", "Sum",
                 "Norm", "Slice", "Concat", "Mean", "Gram", "Maximum", "Flip")  # fmt: skip
        kind = str(rng.choice(kinds))
        m = int(rng.integers(1, 5))
        match kind:
            case "Gemm":
                x = c.add("Gemm", [x, c.numbers(width, m), c.numbers(m)])
                width = m
            case "MatMul":
                x = c.add("MatMul", [x, c.numbers(width, m)])
                width = m
            case "Add" | "Mul":
                x = c.add(kind, [x, c.numbers(1, width)])
            case "Softmax":
                x = c.add("Softmax", [x], axis=int(rng.choice([1, 1, -1, 0])))
            case "Sum":
                x = c.add("ReduceSum", [x, c.keep(np.array([1]))], keepdims=1)
                width = 1
            case "Norm":
                x = c.add("LayerNormalization", [x, c.numbers(width)], axis=1)
            case "Slice":
                ends = [c.keep(np.array([v])) for v in (0, max(width - 1, 1), 1)]
                x, width = c.add("Slice", [x, *ends]), max(width - 1, 1)
            case "Concat":
                x, width = c.add("Concat", [x, x], axis=1), 2 * width
            case "Mean" | "Maximum" if rng.random() < 0.3:
                op = {"Mean": "ReduceMean", "Maximum": "ReduceMax"}[kind]
                x = c.add("Sub", [x, c.add(op, [x], axes=[0], keepdims=1)])
            case "Gram" if rng.random() < 0.3:
                turned = c.add("Transpose", [x], perm=[1, 0])
                x = c.add("MatMul", [x, c.add("MatMul", [turned, x])])
            case "Flip" if rng.random() < 0.3:
                ends = [c.keep(np.array([v])) for v in (-1, -(2**31), 0, -1)]
                x = c.add("Slice", [x, *ends])
            case "Tanh" | "Sigmoid":
                x = c.add(kind, [x])
            case _:
                x = c.add("Relu", [x])
    return c


def judged(seed: int) -> tuple[str, list[Finding]]:
    rng = np.random.default_rng(seed)
    chain, batch = chain_of(rng), int(rng.integers(2, 6))
    contract = (random_contract(rng), IEEE_ANY, ORT_CPU)[seed % 3]
    fmt = contract.compute_format or BINARY32
    low, high = range_of(rng, (1, chain.width), fmt)
    try:
        result = _claimed(chain, batch, contract, low, high, seed)
    except ModelError as error:
        return ("refused: " + str(error))[:200], []
    except Exception as error:  # whatever escapes is a finding
        return "crashed", [Finding("crash", f"{type(error).__name__}: {error}")]
    found = []
    if result.verdict is Verdict.CONTRADICTION:
        found.append(Finding("contradiction", result.reason))
    try:
        with np.errstate(all="ignore"):
            found += _doubted(chain, batch, contract, result, low, high)
            found += _parted(chain, batch, contract, result, low, high, rng)
    except Unread as error:
        return f"unread: {error}", found
    return result.verdict.value, found


def _claimed(
    chain: Chain, batch: int, contract: RuntimeContract, low: Array, high: Array, seed: int
) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(chain.model(None), path)
        alone = load(path, 1)
        box = Box({"x": low}, {"x": high}, {"x": low}, {"x": high},
                  {"x": contract.format_of(alone.types["x"].dtype)})  # fmt: skip
        options = Options(None, default_directory(), seed, search_seconds=0.1)
        domain, eps = Domain((box,), "random"), Fraction(0)
        return batch_invariance(
            alone,
            batch,
            domain=domain,
            contract=contract,
            tolerance=Tolerance(eps),
            options=options,
        )


def _doubted(
    chain: Chain, batch: int, contract: RuntimeContract, result: Result, low: Array, high: Array
) -> list[Finding]:
    """What the interpreter has to say against a batch in which a row is not itself."""
    witness = result.witness
    if result.verdict is not Verdict.VIOLATED or witness is None:
        return []
    fmt, output = contract.compute_format or BINARY32, chain.nodes[-1].output[0]
    x, row = np.asarray(witness.inputs["x"], np.float64), witness.index[0]
    problems = [] if np.all((low <= x) & (x <= high)) else ["a row outside the box"]
    assert witness.spec_execution is not None
    sides = (
        (batch, x, witness.execution, witness.index),
        (1, x[row : row + 1], witness.spec_execution, (0, *witness.index[1:])),
    )
    values = []
    for rows, given, execution, index in sides:
        if not contract.rules:
            problems += [f"not allowed: {why}" for why in forbidden(contract, execution)]
        machine = Machine(fmt, execution, np.random.default_rng(0), PLAIN)
        ran = interpret(chain.model(rows), {"x": given[None]}, machine)[output]
        values.append(float(ran[(0, *index)]))
    mine, theirs = values
    if mine != witness.value and not np.isnan(mine):
        problems.append(f"computes {mine!r}, said {witness.value!r}")
    if np.all(np.isfinite(values)) and mine == theirs:
        problems.append(f"both are {mine!r}")
    return [Finding("wrong violated", "; ".join(problems))] if problems else []


def _parted(
    chain: Chain,
    batch: int,
    contract: RuntimeContract,
    result: Result,
    low: Array,
    high: Array,
    rng: np.random.Generator,
) -> list[Finding]:
    """Rows that differ from themselves alone by more than the bound."""
    if result.verdict is Verdict.VIOLATED:
        return []
    ((_, bound),) = result.bounds.items()
    fmt = contract.compute_format or BINARY32
    output, one, many = chain.nodes[-1].output[0], chain.model(1), chain.model(batch)
    limit = np.asarray(bound)
    for _ in range(BATCHES):
        x = low + rng.random((batch, chain.width)) * (high - low)
        x = np.clip(nearest(x, fmt), low, high)
        runs = [(m, {"x": v}) for m, v in ((many, x[None]), (one, x[:, None]))]
        pairs = {}
        if contract in (IEEE_ANY, ORT_CPU):
            pairs["onnxruntime"] = [runtime.run(m, v)[output] for m, v in runs]
        machines = [Machine(fmt, contract, rng, habits(rng)) for _ in runs]
        pairs["interpreter"] = [
            interpret(m, v, machine)[output] for (m, v), machine in zip(runs, machines, strict=True)
        ]
        for who, (together, alone) in pairs.items():
            gap = np.abs(together[0] - alone[:, 0])
            if gap.shape[1:] != limit.shape[1:]:
                raise Unread("rows that are not the first axis")
            if np.any(gap > limit[0]) or np.any(np.isnan(gap) & np.isfinite(limit[0])):
                text = f"{who}: rows part by {np.nanmax(gap)}, bound {np.max(limit)}"
                return [Finding(f"{who} exceeded", f"{text}, {contract.name}, batch {batch}")]
    return []


def main(seconds: float, folder: Path, seed: int) -> int:
    """How many findings there were."""

    def keep(seed: int, finding: Finding) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        chain = chain_of(np.random.default_rng(seed))
        onnx.save(chain.model(None), folder / f"batch-{seed}.onnx")

    return fuzzed(seconds, seed, judged, keep)


if __name__ == "__main__":
    from_command_line(main)
