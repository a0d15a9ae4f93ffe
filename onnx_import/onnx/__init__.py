"""ONNX files: from a path to a typed graph."""
