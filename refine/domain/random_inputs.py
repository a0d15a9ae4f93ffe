"""Random inputs of a box, for looking at what a runtime does."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from encoders.numbers.formats import FORMAT_OF_DTYPE
from onnx_import.graph import Array, Graph
from refine.domain.domain import DomainOptions, read_domain


def sampled_inputs(
    graph: Graph, inputs: tuple[str, ...], samples: int, seed: int
) -> list[Mapping[str, Array]]:
    """Random inputs of a box, in the model's own types; one range without a name is that of every
    input. Raises ModelError for a bad box."""
    if len(inputs) == 1 and "=" not in inputs[0]:
        inputs = tuple(f"{name}={inputs[0]}" for name in graph.inputs)
    box = read_domain(graph, DomainOptions(inputs=inputs), FORMAT_OF_DTYPE.__getitem__).boxes[0]
    points = box.sample(np.random.default_rng(seed), samples)
    typed = {t: v.astype(graph.types[t].dtype.numpy) for t, v in points.items()}
    return [{t: v[k] for t, v in typed.items()} for k in range(samples)]
