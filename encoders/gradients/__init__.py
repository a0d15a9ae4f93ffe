"""Rules of differentiation: terms of ONNX operators, written node by node."""
