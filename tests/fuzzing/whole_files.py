"""Whole files of every format, before they are damaged."""

from __future__ import annotations

import io
import json
import random
import zipfile
from functools import cache
from typing import Any

import numpy as np
import onnx
from damaged import damage_bytes
from onnx import TensorProto, helper, numpy_helper


def onnx_model(rng: random.Random) -> onnx.ModelProto:
    """A small valid model of a few operators."""
    w = np.array([[0.1, 0.5], [0.2, -1], [0.3, 2]], np.float32)
    ops = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], "gemm", alpha=1.0, transB=0),
        helper.make_node(rng.choice(["Relu", "Tanh", "Identity", "Softmax"]), ["h"], ["k"], "act"),
        rng.choice(
            [
                helper.make_node("Reshape", ["k", "s"], ["y"], "move"),
                helper.make_node("ReduceSum", ["k", "axes"], ["y"], "sum", keepdims=1),
                helper.make_node("Slice", ["k", "axes", "s", "axes"], ["y"], "cut"),
                helper.make_node("Concat", ["k", "k"], ["y"], "join", axis=1),
                helper.make_node("Transpose", ["k"], ["y"], "turn", perm=[1, 0]),
                helper.make_node("Clip", ["k", "", "one"], ["y"], "clip"),
                helper.make_node("Split", ["k"], ["y", "z"], "parts", axis=1, num_outputs=2),
                helper.make_node("Gather", ["k", "axes"], ["y"], "take", axis=1),
                helper.make_node("Pad", ["k", "pads"], ["y"], "pad"),
                helper.make_node("LayerNormalization", ["k", "b"], ["y"], "norm", axis=-1),
                helper.make_node("Cast", ["k"], ["y"], "cast", to=11),
            ]
        ),
    ]
    stored: dict[str, np.ndarray] = {
              "w": w, "b": np.ones(2, np.float32), "s": np.array([2, 1], np.int64),
              "axes": np.array([1], np.int64), "one": np.array(1, np.float32),
              "pads": np.array([0, 1, 0, 1], np.int64)}  # fmt: skip
    graph = helper.make_graph(
        ops,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, n) for n, v in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@cache
def plain_model() -> bytes:
    """The model that all but damaged models are read with."""
    w = np.array([[0.1, 0.5], [0.2, -1], [0.3, 2]], np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "m")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 2))],
        [numpy_helper.from_array(w, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


TOML = """schema = "refine-contract-1"
name = "mine"
base = "ort-cpu"
order = "blocked"
block = 4
fma = "always"
bias = "last"
subnormal_results = "gradual"
factors = "tf32"
factor_rounding = "any"
functions = "onnxruntime"
format = "float32"
[[rules]]
op = "Gemm"
terms = 3
order = "tree"
tree = [[0, 1], [0, 2]]
evidence = "probed"
[provenance]
threads = "1"
"""
ENTRY = """title = "t"
source = "s"
command = "check"
expected = "violated"
eps = "1e-3"
input = ["-1..1"]
"""
FPCORE = """(FPCore (x y) :name "k" :precision binary32 :pre (and (<= 0 x 1) (<= 1 y 2))
 (let* ((a (+ x 1/3)) (b (* a 0x1.8p1))) (if (< x y) (/ (sqrt a) (fabs y)) (- (exp b)))))"""
VNNLIB = """(declare-const X_0 Real) (declare-const X_1 Real) (declare-const X_2 Real)
(declare-const Y_0 Real) ; c
(assert (<= X_0 1)) (assert (>= X_0 -1.5e-1)) (assert (and (>= X_1 0) (<= X_1 (* 2 0.25))))
(assert (or (and (>= X_2 0) (<= X_2 1)) (and (>= X_2 2) (<= X_2 3)))) (assert (>= Y_0 0))"""
TORCHLEAN = json.dumps(
    {
        "format": "torchlean.ir.v1",
        "nodes": [
            {"id": 0, "kind": "input", "parents": [], "shape": [3]},
            {"id": 1, "kind": "linear", "parents": [0], "shape": [2]},
            {"id": 2, "kind": "relu", "parents": [1], "shape": [2]},
        ],
        "input_id": 0,
        "output_id": 2,
        "params": {"1.weight": [[1, 2, 3], [0.5, 0, -1]], "1.bias": [0.25, 1]},
    }
)
VNNLIB_2 = """(vnnlib-version <2.0>)
(declare-network n (declare-input X float32 [1,3]) (declare-output Y float32 [1,2]))
(assert (and (<= X[0,0] 1) (>= X[0,0] -1.5e-1) (>= X[0,1] 0) (<= X[0,1] 1.25)))
(assert (or (and (>= X[0,2] 0) (<= X[0,2] 1)) (and (>= X[0,2] 2) (<= X[0,2] 3))))
(assert (<= Y[0,0] Y[0,1]))"""
TORCHLEAN_NAMED = json.dumps(
    {
        "nodes": [
            {"id": 0, "kind": "input", "parents": [], "shape": [3, 2]},
            {
                "id": 1,
                "kind": "layernorm",
                "parents": [0],
                "shape": [3, 2],
                "eps": 0.001,
                "axis": 1,
            },
            {"id": 2, "kind": "linear", "parents": [1], "shape": [3, 1]},
        ],
        "input_id": 0,
        "output_id": 2,
    }
)
WEIGHTS = json.dumps(
    {
        "params": {
            "ln.bias": [0.5, -1.25],
            "ln.weight": [1.5, 2],
            "fc.weight": [[1, -2]],
            "fc.bias": [0.125],
        }
    }
)


def witness_of(digest: str, kind: str) -> dict[str, Any]:
    """A counterexample to the plain model alone, to two copies of it, or to a batch of it."""
    execution = {
        "schema": "refine-contract-1", "name": "sequential", "order": "sequential",
        "fma": "never", "bias": "last", "subnormal_results": "gradual",
        "subnormal_operands": "gradual", "normalization": "folded",
        "factor_rounding": "any", "exact": False, "functions": "conservative",
    }  # fmt: skip
    pair = {"model": "m.onnx", "sha256": digest, "execution": execution, "match": None}
    return {
        "schema": "refine-counterexample-1", "model": "m.onnx", "sha256": digest,
        "inputs": "c.npz", "output": "y", "index": [0, 0], "contract": "sequential",
        "eps": "1/100", "execution": execution,
        "specification": pair if kind == "pair" else None,
        "batch": 2 if kind == "batch" else None, "real_inputs": None,
    }  # fmt: skip


def npy(values: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def npz(rng: random.Random, **members: Any) -> bytes:
    stream = io.BytesIO()
    method = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, values in members.items():
            inner = npy(values)
            archive.writestr(
                f"{name}.npy", damage_bytes(inner, rng) if rng.random() < 0.5 else inner
            )
    data = stream.getvalue()
    return damage_bytes(data, rng) if rng.random() < 0.5 else data
