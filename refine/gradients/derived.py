"""The gradient of a model as a model of its own, which runtimes are given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from encoders.arithmetic.handling import handling_of
from encoders.contract.contract import RuntimeContract
from gpu_check.common.writing import write_whole
from onnx_import import load
from onnx_import.errors import ModelError
from onnx_import.graph import Graph
from onnx_import.onnx.writer import model_of
from refine.gradients.differentiate import OWN
from refine.gradients.request import Request

LARGEST = 2**31  # bytes, which no ONNX file may have


def serialised(graph: Graph, name: str) -> bytes:
    """The graph as the bytes of an ONNX file. Raises ModelError for one that none holds."""
    data: bytes = model_of(graph, name).SerializeToString()
    if len(data) >= LARGEST:
        raise ModelError("the gradient takes more than 2 GiB, which no ONNX file holds")
    return data


def gradient_of(graph: Graph, given: Mapping[str, object], contract: RuntimeContract) -> Graph:
    """The gradient of a graph as the options of a claim ask for it, read from a file as a runtime
    under the contract reads it. The file lies in a folder of its own as long as `graph` lives.

    Raises what `Request.gradient_of` raises.
    """
    request = Request(
        of=_text(given, "of"),
        wrt=_text(given, "wrt"),
        loss=_text(given, "loss"),
        rules=_text(given, "rules") or OWN,
        ones=True,
    )
    made = request.gradient_of(graph)
    if set(made.inputs) != set(graph.inputs):
        raise ModelError(
            "cross-entropy and mse take a target, which the domain of the model does not have; "
            "write the gradient with refine grad, and ask of that file"
        )
    stem = "model" if graph.source is None else graph.source.stem
    path = Path(graph.once(_folder).name) / f"gradient-{stem}.onnx"
    data = serialised(made, f"gradient of {stem}")
    write_whole(path, lambda file: file.write(data))
    read = load(path, handling=handling_of(contract))
    return replace(
        read,
        notes=tuple(dict.fromkeys((*made.notes, *read.notes))),
        random_masks=graph.random_masks,
        pinned=graph.pinned,
        ranges=graph.ranges,
    )


def _folder(graph: Graph) -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="refine-gradient-")


def _text(given: Mapping[str, object], name: str) -> str | None:
    value = given.get(name)
    return value if isinstance(value, str) else None
