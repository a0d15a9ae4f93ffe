"""An independent checker of certificates. It imports onnx, numpy, python-flint and nothing else."""
