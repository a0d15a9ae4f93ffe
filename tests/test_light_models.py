"""The classifiers shipped with onnx, given random weights: imported and emulated as onnxruntime.

Their own weights are all alike, and every class comes out the same. The larger ones run only where
REFINE_ALL_LIGHT_MODELS is set; they take about two minutes of processor time together.
`benchmarks/light_models.py` does the same for all.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from light_model import LIGHT
from light_models import with_random_weights

from encoders.contract.presets import SEQUENTIAL
from gpu_check.emulator.emulator import emulate
from onnx_import import load

QUICK = ("shufflenet", "squeezenet", "bvlc_alexnet")
SLOW = ("zfnet512", "inception_v1", "inception_v2", "densenet121", "resnet50", "vgg19")
ALL = bool(os.environ.get("REFINE_ALL_LIGHT_MODELS"))


@pytest.mark.parametrize(
    "name",
    [
        *QUICK,
        *(
            pytest.param(name, marks=pytest.mark.skipif(not ALL, reason="takes long by design"))
            for name in SLOW
        ),
    ],
)
def test_light_model_is_emulated_as_onnxruntime_runs_it(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    model = onnx.load(LIGHT / f"light_{name}.onnx")
    with_random_weights(model, rng)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    graph = load(path)
    (tensor,) = graph.inputs
    x = rng.standard_normal(graph.types[tensor].shape).astype(np.float32)
    computed = emulate(graph, {tensor: x[np.newaxis]}, SEQUENTIAL)[graph.outputs[0]][0]
    session = onnxruntime.InferenceSession(path)
    actual = np.asarray(session.run(None, {tensor: x})[0])
    assert np.ptp(actual) > 0.1 * np.max(actual)
    np.testing.assert_allclose(computed, actual, rtol=0, atol=1e-4 * float(np.max(actual)))
