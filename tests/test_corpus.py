"""Every real model file: imported, bounded, and run beside onnxruntime within the bound.

`benchmarks/corpus.py` does the same at more points, for every file, and searches too.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from corpus import agreement_of, domain_of, runtime_of
from measuring import MODELS
from refused_models import REFUSED

from encoders.contract.presets import ORT_CPU
from gpu_check.runtimes.runtimes import OnnxRuntime
from onnx_import import load
from onnx_import.errors import ModelError
from refine.bounds.network import network_bounds
from refine.proof.proof import input_box

QUICK = (
    "acasxu/ACASXU_run2a_1_1*",
    "controllers/*",
    "layer_zoo/*",
    "ml4acopf/14_ieee_ml4acopf",
    "neurocodebench/*",
    "reach_prob_density/*",
    "rl_benchmarks/*",
    "safenlp/*",
    "verivital21/*",
)  # the others take seconds to minutes each
DENSE = ("acasxu", "controllers", "neurocodebench", "reach_prob_density", "safenlp")

pytestmark = pytest.mark.skipif(not MODELS.is_dir(), reason="needs ../shared/models")


def name_of(path: Path) -> str:
    return str(path.relative_to(MODELS).with_suffix(""))


def files(*patterns: str) -> list[Path]:
    found = {p for pattern in patterns for p in MODELS.glob(f"{pattern}.onnx")}
    return sorted(found)


@pytest.mark.parametrize("path", files("*/*"), ids=name_of)
def test_every_file_imports(path: Path) -> None:
    if path.stem in REFUSED:
        with pytest.raises(ModelError, match=REFUSED[path.stem]):
            load(path, random=True)
        return
    graph = load(path, random=True)
    runtime = OnnxRuntime(path)
    assert {t: int(np.prod(s)) for t, s in runtime.input_shapes().items()} == {
        t: graph.types[t].size for t in graph.inputs if t not in graph.random_masks
    }


@pytest.mark.parametrize("path", files(*QUICK), ids=name_of)
def test_onnxruntime_is_within_a_finite_bound(path: Path) -> None:
    graph = load(path, random=True)
    domain = domain_of(path, graph)
    bound = max(
        network_bounds(graph, input_box(box, domain, ORT_CPU), ORT_CPU).largest
        for box in domain.boxes
    )
    assert np.isfinite(bound)
    seen = agreement_of(graph, runtime_of(path, graph), domain, 4)
    assert seen.error <= bound
    assert seen.difference <= 2 * bound
    if path.parent.name in DENSE:
        assert seen.equal == seen.elements
