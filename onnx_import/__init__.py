"""Files in, graph out: readers of model files and the graph they produce."""

from onnx_import.reader import load

__all__ = ["load"]
