#!/bin/sh
# The tools whose steps benchmarks/toolchain.py is about, in an environment of their own.
set -e
python3 -m venv "$1"
"$1/bin/pip" install --quiet \
  numpy==2.4.6 onnx==1.18.0 onnx-ir==1.1.0 onnxconverter-common==1.16.0 \
  onnxoptimizer==0.4.2 onnxruntime==1.32.0 onnxscript==0.7.2 onnxsim==0.8.1 \
  onnxslim==0.1.98 scikit-learn==1.9.1 skl2onnx==1.20.0 torch==2.13.0
