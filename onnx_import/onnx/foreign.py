"""Operators outside ONNX's own domain that have a meaning here, and how ONNX would type them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from onnx_import.errors import UnsupportedModel
from onnx_import.passes.fused import DOMAIN as OPTIMISED
from onnx_import.passes.fused import FUSED
from onnx_import.passes.pipelines import DOMAIN, PIPELINES

BLOCKED = "com.microsoft.nchwc"


@dataclass(frozen=True)
class Typed:
    """Typed like the ONNX operator `like` of these inputs, taken to be float32; the element type of
    the result is that of the input `result`, where there is one. Attributes in `own` are not those
    of the ONNX operator."""

    like: str
    inputs: tuple[int, ...]
    result: int | None = None
    own: frozenset[str] = frozenset()


# "" are operators that the import itself makes (onnx_import/passes/dynamic.py and recurrent.py)
FOREIGN: Mapping[tuple[str, str], Typed] = {
    ("", "DynamicQuantizeMatMul"): Typed("MatMul", (0, 1)),
    ("", "DynamicQuantizeConv"): Typed("Conv", (0, 1)),
    ("", "RecurrentSigmoid"): Typed("Sigmoid", (0,), 0),
    ("", "RecurrentTanh"): Typed("Tanh", (0,), 0),
    ("com.microsoft", "QGemm"): Typed("Gemm", (0, 3), 8),
    ("com.microsoft", "QLinearAdd"): Typed("Add", (0, 3), 0),
    ("com.microsoft", "QLinearMul"): Typed("Mul", (0, 3), 0),
    ("com.microsoft", "QLinearGlobalAveragePool"): Typed(
        "GlobalAveragePool", (0,), 0, frozenset({"channels_last"})
    ),
}

_TRANSFORM = (
    "no contract says how it is computed (onnxruntime runs a fast transform of powers of two, with "
    "angles in float32); write it as a MatMul by stored cosines and sines"
)
WITHOUT_MEANING: Mapping[str, str] = {
    "DFT": _TRANSFORM,
    "STFT": f"{_TRANSFORM}, or as a Conv by them",
    "DeformConv": "where it reads its input is computed, and moves between pixels with rounding",
}
"""Of operators of ONNX without a meaning here, why that is, and what to write instead."""


def is_known(domain: str, op: str) -> bool:
    """Is it an operator of ONNX, or one of these, or of a pipeline?"""
    pipelined = (domain == DOMAIN and op in PIPELINES) or (domain == OPTIMISED and op in FUSED)
    return domain in ("", "ai.onnx") or pipelined or (domain, op) in FOREIGN


def require_known(name: str, proto: onnx.NodeProto) -> None:
    """Raises UnsupportedModel for an operator of a domain that has no meaning here."""
    if not is_known(proto.domain, proto.op_type):
        if proto.domain == BLOCKED:
            raise UnsupportedModel(
                f"node '{name}' is {proto.domain}.{proto.op_type}, with channels in blocks, which "
                "onnxruntime writes for the machine that it ran on; save the optimised model at "
                "level ORT_ENABLE_EXTENDED instead of ORT_ENABLE_ALL"
            )
        raise UnsupportedModel(
            f"node '{name}' is {proto.domain}.{proto.op_type}, an operator outside the standard "
            "ONNX set, which is not supported; export the model with standard operators"
        )
