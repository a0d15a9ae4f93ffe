"""An independent checker of certificates. It imports onnx, numpy and nothing else."""
