"""The classifiers shipped with onnx, given random weights: imported and emulated as onnxruntime.

Their own weights are all alike, and every class comes out the same. The larger ones run only where
REFINE_ALL_LIGHT_MODELS is set; they take about a minute of processor time together.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from encoders.contract import SEQUENTIAL
from gpu_check.emulator import emulate
from onnx_import import load
from onnx_import.graph import Array

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
QUICK = ("shufflenet", "squeezenet", "bvlc_alexnet")
SLOW = ("zfnet512", "inception_v1", "inception_v2", "densenet121", "resnet50", "vgg19")
ALL = bool(os.environ.get("REFINE_ALL_LIGHT_MODELS"))


def with_random_weights(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    """A random initializer for every ConstantOfShape: matrices and filters scaled by their fan-in,
    vectors between ½ and 1, as variances and scales must be."""
    shapes = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in [n for n in model.graph.node if n.op_type == "ConstantOfShape"]:
        shape = tuple(int(n) for n in shapes[node.input[0]])
        weights: Array = rng.uniform(0.5, 1.0, shape)
        if len(shape) > 1:
            weights = rng.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[1:]))
        value = numpy_helper.from_array(weights.astype(np.float32), node.output[0])
        model.graph.initializer.append(value)
        model.graph.node.remove(node)
    model.ir_version = max(model.ir_version, 4)


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
    model = onnx.load(FOLDER / f"light_{name}.onnx")
    with_random_weights(model, rng)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    graph = load(path)
    (tensor,) = graph.inputs
    x = rng.standard_normal(graph.types[tensor].shape).astype(np.float32)
    computed = emulate(graph, {tensor: x[np.newaxis]}, SEQUENTIAL)[graph.outputs[0]][0]
    session = onnxruntime.InferenceSession(path)
    (actual,) = session.run(None, {tensor: x})
    assert np.ptp(actual) > 0.1 * np.max(actual)
    np.testing.assert_allclose(computed, actual, rtol=0, atol=1e-4 * float(np.max(actual)))
