"""Backward errors of residual layers, leaky ones and normalisations, run in every way."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, localcontext

import numpy as np
import pytest
from small_models import graph_of_nodes

from encoders.contract.contract import Normalization
from encoders.contract.presets import IEEE_ANY, PAIRWISE, SEQUENTIAL, SEQUENTIAL_FMA
from gpu_check.emulator.emulator import emulate
from onnx_import.graph import DType, Node
from refine.perturbed.bound import backward_bound
from refine.perturbed.files import checked_constants
from refine.perturbed.standing import Laid, uses_of
from refine.perturbed.witness import witness_of


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.FLOAT16], ids=lambda d: d.value)
@pytest.mark.parametrize("skipped", ["r", "x"])
def test_what_a_layer_cannot_take_the_next_one_does(dtype: DType, skipped: str) -> None:
    """A sum of two computed tensors is rounded, and has no parameters: the next layer has."""
    rng = np.random.default_rng(1)
    n = 5
    sizes = {"v": (n, n), "a": (n,), "w": (n, n), "b": (n,), "u": (n, 3), "c": (3,)}
    stored = {t: rng.normal(size=shape).astype(dtype.numpy) for t, shape in sizes.items()}
    nodes = [
        Node("one", "Gemm", ("x", "v", "a"), ("h",), {}, 17),
        Node("leak", "LeakyRelu", ("h",), ("r",), {"alpha": 0.1}, 17),
        Node("two", "Gemm", ("r", "w", "b"), ("g",), {}, 17),
        Node("add", "Add", ("g", skipped), ("s",), {}, 17),
        Node("leak2", "LeakyRelu", ("s",), ("q",), {"alpha": 0.3}, 17),
        Node("three", "Gemm", ("q", "u", "c"), ("y",), {}, 17),
    ]
    made = {**dict.fromkeys(("x", "h", "r", "g", "s", "q"), (1, n)), "y": (1, 3)}
    graph = graph_of_nodes(nodes, stored, made, dtype)
    x = rng.normal(size=(4, 1, n)).astype(dtype.numpy)
    for contract in (SEQUENTIAL, SEQUENTIAL_FMA, PAIRWISE):
        ran = {**emulate(graph, {"x": x}, contract, every_tensor=True), "x": x}
        for claimed in (contract, IEEE_ANY):
            found = backward_bound(graph, claimed, Laid.WEIGHTS)
            witness = witness_of(found, ran)
            assert witness.layers[2].ratios is not None
            for sample in range(4):
                checked_constants(found, witness, ran, sample)
    take = {m.tensor: m.multiples for m in backward_bound(graph, SEQUENTIAL, Laid.WEIGHTS).moved}
    slope = 1 if dtype is DType.FLOAT32 else 2  # its slope is rounded to float16, too
    assert take["w"] == n + 1
    assert take["u"] == n + 1 + 1 + slope


@pytest.mark.parametrize("fill", [0.5, 2.0, -3.0e38, 2.0**53 + 2.0])
def test_what_is_padded_with_is_nothing_that_is_read(fill: float) -> None:
    """Whatever number surrounds the result of a layer, which is read once."""
    rng = np.random.default_rng(2)
    sizes = {"w": (2, 2), "b": (2,), "v": (6, 3), "c": (3,)}
    stored = {t: rng.normal(size=shape).astype(np.float32) for t, shape in sizes.items()}
    nodes = [
        Node("one", "Gemm", ("x", "w", "b"), ("h",), {}, 10),
        Node("pad", "Pad", ("h",), ("p",), {"pads": (0, 2, 0, 2), "value": fill}, 10),
        Node("two", "Gemm", ("p", "v", "c"), ("y",), {}, 10),
    ]
    graph = graph_of_nodes(
        nodes, stored, {"x": (1, 2), "h": (1, 2), "p": (1, 6), "y": (1, 3)}, DType.FLOAT32
    )
    assert uses_of(graph)["h"] == (1, (nodes[1].describe(),))
    assert {m.tensor for m in backward_bound(graph, SEQUENTIAL, Laid.WEIGHTS).moved} == set(sizes)


@pytest.mark.parametrize("formula", [n for n in Normalization if n is not Normalization.EITHER])
def test_normalisations_move_scale_shift_and_mean(formula: Normalization) -> None:
    """The error is at most what γ, mean and β give: in numbers of 60 digits."""
    rng = np.random.default_rng(2)
    channels, closest = 4, 0.0
    for dtype in (DType.FLOAT32, DType.FLOAT16, DType.FLOAT64):
        spread = 10.0 ** rng.uniform(-1, 1, (4, channels))
        held = (rng.normal(size=(4, channels)) * spread).astype(dtype.numpy)
        stored = dict(zip("gbm", held, strict=False)) | {"v": np.abs(held[3])}
        epsilon = np.float32(1e-3)
        node = Node(
            "bn", "BatchNormalization", ("x", "g", "b", "m", "v"), ("y",),
            {"epsilon": float(epsilon)}, 17,
        )  # fmt: skip
        graph = graph_of_nodes([node], stored, {"x": (1, channels), "y": (1, channels)}, dtype)
        x = (rng.normal(size=(60, 1, channels)) * spread[0]).astype(dtype.numpy)
        x[:20] = stored["m"] * (1 + rng.normal(size=(20, 1, channels)) * 1e-3).astype(dtype.numpy)
        for base in (SEQUENTIAL, SEQUENTIAL_FMA):
            contract = replace(base, normalization=formula)
            take = {m.tensor: m for m in backward_bound(graph, contract, Laid.WEIGHTS).moved}
            ran = np.asarray(emulate(graph, {"x": x}, contract)["y"], np.float64)
            share = {t: Decimal(m.relative.largest) for t, m in take.items()}
            beside = take["b"].besides
            more = Decimal(0 if beside is None else beside.largest)
            with localcontext() as context:
                context.prec = 60
                for (k, _, j), value in np.ndenumerate(ran):
                    g, b, m, v = (Decimal(float(stored[t][j])) for t in "gbmv")
                    scale = g / (v + Decimal(float(epsilon))).sqrt()
                    centre, mean = Decimal(float(x[k, 0, j])) * scale, m * scale
                    off = abs(Decimal(value) - (centre - mean + b))
                    room = abs(centre - mean) * share["g"] + abs(b) * share["b"] + more
                    room += abs(mean) * share["m"] * (1 + share["g"])
                    assert off <= room
                    closest = max(closest, float(off / room))
    assert closest > 0.2
