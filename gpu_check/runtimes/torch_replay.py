"""Replaying an input in PyTorch: a small interpreter of the graph, operator by operator.

It is torch's own kernels that compute; the interpreter only hands tensors on. Operators without
an entry here, or with attributes that the entry does not know, are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np

from gpu_check.runtimes.replay import NotReplayed, Replayed
from onnx_import.graph import Array, Graph, Node

_NAME = "torch"


class _Unknown(Exception):
    """An operator, or a use of it, that the interpreter does not know."""


def replay_on_torch(
    graph: Graph, inputs: Mapping[str, Array], device: str = "cpu"
) -> Replayed | NotReplayed:
    """Run the graph on one input in torch on a device, `cpu` or `cuda`."""
    try:
        torch = import_module("torch")
    except ImportError:
        return NotReplayed(f"{_NAME} ({device})", "torch is not installed")
    if device == "cuda" and not torch.cuda.is_available():
        return NotReplayed(f"{_NAME} (cuda)", "there is no CUDA device")
    card = (
        torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"
    )
    runtime = f"torch {torch.__version__} ({device}, {card})"
    values: dict[str, Any] = {}
    stored = {name: graph.held(name) for name in graph.constants}
    for name, array in {**stored, **inputs}.items():
        if np.asarray(array).dtype.kind in "fiub":
            values[name] = torch.from_numpy(np.array(array)).to(device)
    try:
        with torch.no_grad():
            for node in graph.order:
                values[node.outputs[0]] = _run(torch, node, values)
    except _Unknown as unknown:
        return NotReplayed(runtime, str(unknown))
    except (RuntimeError, TypeError, KeyError, IndexError) as error:
        return NotReplayed(runtime, f"it fails: {error}")
    return Replayed(runtime, {t: values[t].cpu().numpy() for t in graph.outputs})


def _run(torch: Any, node: Node, values: Mapping[str, Any]) -> Any:
    if node.op not in _OPERATORS or len([t for t in node.outputs if t]) != 1:
        raise _Unknown(f"{node.describe()} has no counterpart in the interpreter for torch")
    known, run = _OPERATORS[node.op]
    strange = sorted(set(node.attributes) - known)
    if strange:
        raise _Unknown(f"{node.describe()}: attribute '{strange[0]}' is not interpreted for torch")
    return run(torch, node, [values[t] if t else None for t in node.inputs])


def _gemm(torch: Any, node: Node, x: list[Any]) -> Any:
    if any(node.attributes.get(name, 1.0) != 1.0 for name in ("alpha", "beta")):
        raise _Unknown(f"{node.describe()}: alpha and beta are not interpreted for torch")
    a = x[0].T if node.attributes.get("transA", 0) else x[0]
    b = x[1] if node.attributes.get("transB", 0) else x[1].T
    return torch.nn.functional.linear(a, b, x[2] if len(x) > 2 else None)


def _conv(torch: Any, node: Node, x: list[Any]) -> Any:
    rank = x[0].dim() - 2
    pads = node.attributes.get("pads", (0,) * (2 * rank))
    if tuple(pads[:rank]) != tuple(pads[rank:]) or node.attributes.get(
        "auto_pad", "NOTSET"
    ) not in (
        "NOTSET",
        b"NOTSET",
    ):
        raise _Unknown(f"{node.describe()}: uneven padding is not interpreted for torch")
    convolve = getattr(torch.nn.functional, f"conv{rank}d")
    return convolve(
        x[0],
        x[1],
        x[2] if len(x) > 2 else None,
        node.attributes.get("strides", (1,) * rank),
        tuple(pads[:rank]),
        node.attributes.get("dilations", (1,) * rank),
        node.attributes.get("group", 1),
    )


def _flatten(torch: Any, node: Node, x: list[Any]) -> Any:
    axis = node.attributes.get("axis", 1)
    if axis != 1:
        raise _Unknown(f"{node.describe()}: only axis 1 is interpreted for torch")
    return x[0].reshape(x[0].shape[0], -1)


def _reshape(torch: Any, node: Node, x: list[Any]) -> Any:
    shape = [int(n) or x[0].shape[i] for i, n in enumerate(x[1].tolist())]
    return x[0].reshape(shape)


def _plain(function: str) -> tuple[frozenset[str], Callable[[Any, Node, list[Any]], Any]]:
    return frozenset(), lambda torch, node, x: getattr(torch, function)(*x)


_OPERATORS: Mapping[str, tuple[frozenset[str], Callable[[Any, Node, list[Any]], Any]]] = {
    "Gemm": (frozenset({"alpha", "beta", "transA", "transB"}), _gemm),
    "Conv": (
        frozenset({"auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"}),
        _conv,
    ),
    "Flatten": (frozenset({"axis"}), _flatten),
    "Reshape": (frozenset(), _reshape),
    "Transpose": (
        frozenset({"perm"}),
        lambda torch, node, x: x[0].permute(node.attributes["perm"]),
    ),
    "Identity": (frozenset(), lambda torch, node, x: x[0]),
    "MatMul": _plain("matmul"),
    "Add": _plain("add"),
    "Sub": _plain("sub"),
    "Mul": _plain("mul"),
    "Div": _plain("div"),
    "Neg": _plain("neg"),
    "Abs": _plain("abs"),
    "Relu": _plain("relu"),
    "Exp": _plain("exp"),
    "Log": _plain("log"),
    "Sqrt": _plain("sqrt"),
    "Tanh": _plain("tanh"),
    "Sigmoid": _plain("sigmoid"),
    "Erf": _plain("erf"),
    "Sin": _plain("sin"),
    "Atan": _plain("atan"),
    "Cos": _plain("cos"),
}
