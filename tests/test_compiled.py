"""Compiled chains against the emulator's own arithmetic, bit for bit."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_emulator import samples, shared

from encoders.arithmetic import factors
from encoders.contract import ORT_CPU, SEQUENTIAL, SEQUENTIAL_FMA, RuntimeContract, Subnormals
from encoders.formats import BINARY32
from encoders.numpy_arithmetic import NumpyArithmetic
from gpu_check import compiled
from gpu_check.compiled import CompiledArithmetic, CompiledChains, agrees, compiled_chains
from gpu_check.compiling import NoCompiler, compile_library, load_library
from gpu_check.emulator import emulate
from onnx_import import load

CONTRACTS = (SEQUENTIAL, SEQUENTIAL_FMA)


@pytest.fixture(scope="module")
def chains() -> CompiledChains:
    found = compiled_chains()
    if found is None:
        pytest.skip("chain.c cannot be compiled here")
    return found


@pytest.fixture
def forgotten() -> Iterator[None]:
    """What was compiled before is not remembered, nor what this test finds."""
    compiled_chains.cache_clear()
    yield
    compiled_chains.cache_clear()


def numbers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Few bits, so that sums fall on midpoints, of all magnitudes down to subnormal ones."""
    wide = rng.integers(-(2**12), 2**12, shape) * np.exp2(rng.integers(-90, 10, shape))
    return wide.astype(np.float32)


def bits(values: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(values), np.float32(np.nan), values).view(np.uint32)


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: c.name)
@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((9, 1), (1, 16)),
        ((17, 1), (1, 37)),
        ((3, 1), (1, 5)),
        ((2, 3, 1, 40), (1, 3, 11, 1)),
        ((2, 1, 4, 1), (2, 3, 1, 21)),
        ((6, 8), (6, 8)),
        ((1,), (33,)),
    ],
    ids=str,
)
def test_chains_of_every_layout(
    chains: CompiledChains,
    contract: RuntimeContract,
    left: tuple[int, ...],
    right: tuple[int, ...],
) -> None:
    rng = np.random.default_rng(len(left) * 100 + right[-1])
    quick = CompiledArithmetic(BINARY32, contract, chains)
    stepwise = NumpyArithmetic(BINARY32, contract)
    for turned in (False, True):
        pairs = [(numbers(rng, *left), numbers(rng, *right)) for _ in range(12)]
        if turned:  # columns far apart in memory, as behind a transposition
            pairs = [tuple(np.asfortranarray(v) for v in pair) for pair in pairs]
        for start in (None, numbers(rng, right[-1])):
            total = stepwise.multiply(*pairs[0]) if start is None else start
            for a, b in pairs[start is None :]:
                total = stepwise.multiply_add(a, b, total)
            given = quick.chain(pairs, start)
            assert given is not None
            np.testing.assert_array_equal(bits(given), bits(np.broadcast_to(total, given.shape)))


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: c.name)
def test_slices_are_what_they_stand_for(chains: CompiledChains, contract: RuntimeContract) -> None:
    rng = np.random.default_rng(4)
    quick = CompiledArithmetic(BINARY32, contract, chains)
    a, b, w = numbers(rng, 3, 9, 30), numbers(rng, 1, 21, 30), numbers(rng, 3, 30, 1, 21)
    for pairs in (
        factors(a, -1, np.swapaxes(b, 1, 2), -2, 30),
        factors(w, 1, w[:, :, :, ::-1], 1, 30),
        factors(a[:, :, ::2], -1, np.swapaxes(b, 1, 2)[:, 1::2], -2, 15),
    ):
        for part in (pairs, pairs[3::3], pairs[::-1]):
            given, one_by_one = quick.chain(part, None), quick.chain(list(part), None)
            assert given is not None
            assert one_by_one is not None
            np.testing.assert_array_equal(bits(given), bits(one_by_one))


@pytest.mark.parametrize("contract", [ORT_CPU, SEQUENTIAL], ids=lambda c: c.name)
@pytest.mark.parametrize(
    "model",
    ["mnist_fc/mnist-net_256x2.onnx", "layer_zoo/conv.onnx", "oval21/cifar_base_kw.onnx"],
)
def test_networks_have_the_same_bits(
    chains: CompiledChains, model: str, contract: RuntimeContract
) -> None:
    graph = load(shared(model))
    inputs = samples(graph, 2)
    quick = emulate(graph, inputs, contract)
    slow = emulate(graph, inputs, contract, arithmetic=NumpyArithmetic)
    for t in graph.outputs:
        np.testing.assert_array_equal(bits(quick[t]), bits(slow[t]))


def test_flushing_contracts_are_not_compiled(chains: CompiledChains) -> None:
    flushing = replace(SEQUENTIAL, results=Subnormals.FLUSH)
    tiny = np.full((1, 1), 2.0**-100, np.float32)
    pairs = [(tiny, tiny * np.float32(2.0**70))] * 5
    sums = [
        CompiledArithmetic(BINARY32, c, chains).chain(pairs, None) for c in (flushing, SEQUENTIAL)
    ]
    assert sums[0] is None  # stepped through, flushing
    assert sums[1] is not None


def test_wrong_bits_are_not_used(tmp_path: Path) -> None:
    """A compiler that contracts, or one that does not fuse, is found out."""
    text = compiled.SOURCE.read_text()
    for right, wrong in (("fmaf(u, v, w)", "u * v + w"), ("((u) * (v) + (w))", "fmaf(u, v, w)")):
        changed = tmp_path / "wrong.c"
        changed.write_text(text.replace(right, wrong))
        assert changed.read_text() != text
        library = tmp_path / f"{len(wrong)}.so"
        try:
            compile_library(changed, ("cc", "gcc", "clang"), compiled._FLAGS, library)
        except NoCompiler as missing:
            pytest.skip(str(missing))
        assert not agrees(CompiledChains(load_library(library)))


def test_without_a_compiler_numpy_emulates(
    forgotten: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(compiled.platformdirs, "user_cache_dir", lambda name: str(tmp_path))
    assert compiled_chains() is None
    assert compiled.quickest_arithmetic() is NumpyArithmetic


def test_a_library_is_kept_and_a_broken_one_replaced(
    forgotten: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(compiled.platformdirs, "user_cache_dir", lambda name: str(tmp_path))
    if compiled_chains() is None:
        pytest.skip("chain.c cannot be compiled here")
    (kept,) = (tmp_path / "kernels").iterdir()
    size = kept.stat().st_size
    kept.unlink()
    kept.write_bytes(b"no library")
    compiled_chains.cache_clear()
    assert compiled_chains() is not None
    assert kept.stat().st_size == size
    ctypes.CDLL(str(kept))
