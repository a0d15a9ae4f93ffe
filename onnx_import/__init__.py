"""Files in, graph out: readers of model files and the graph they produce."""

from __future__ import annotations

from pathlib import Path

from onnx_import import fpcore, reader, torchlean
from onnx_import.graph import Graph


def load(path: str | Path) -> Graph:
    """Read a model file: FPCore by its name, ONNX or TorchLean JSON as its content says.

    Raises ModelError only.
    """
    source = Path(path)
    if fpcore.is_fpcore(source):
        return fpcore.load(source)
    return torchlean.load(source) if torchlean.is_json(source) else reader.load(source)


__all__ = ["load"]
