"""Files in, graph out: readers of model files and the graph they produce."""

from __future__ import annotations

from pathlib import Path

from onnx_import import reader, torchlean
from onnx_import.graph import Graph


def load(path: str | Path) -> Graph:
    """Read a model file, ONNX or TorchLean JSON as its content says; raises ModelError only."""
    source = Path(path)
    return torchlean.load(source) if torchlean.is_json(source) else reader.load(source)


__all__ = ["load"]
