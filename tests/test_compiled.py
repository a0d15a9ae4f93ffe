"""Compiled chains against the emulator's own arithmetic, bit for bit."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs
import pytest
from ort_schedule import ORT_BLOCKS
from test_emulator import samples, shared

from encoders.arithmetic.numpy_arithmetic import NumpyArithmetic
from encoders.arithmetic.runtime import sum_of_products
from encoders.arithmetic.slices import factors
from encoders.contract.contract import RuntimeContract, Subnormals
from encoders.contract.members import members
from encoders.contract.orders import Lanes, Pairwise, Tree, merges_of
from encoders.contract.presets import CUDA_TF32, PAIRWISE, SEQUENTIAL, SEQUENTIAL_FMA
from encoders.numbers.formats import BFLOAT16, BINARY16, BINARY32, FloatFormat, round_array
from gpu_check.common.compiling import C, NoCompiler, compile_library, load_library
from gpu_check.emulator import compiled
from gpu_check.emulator.compiled import (
    CompiledArithmetic,
    CompiledChains,
    CompiledSteps,
    agrees,
    compiled_chains,
    compiled_steps,
    steps_agree,
)
from gpu_check.emulator.emulator import emulate
from onnx_import import load

KEEP, FLUSH = Subnormals.KEEP, Subnormals.FLUSH
CONTRACTS = [
    replace(base, name=f"{base.name}-{r.value}-{o.value}", results=r, operands=o)
    for base in (SEQUENTIAL, SEQUENTIAL_FMA)
    for r in (KEEP, FLUSH)
    for o in (KEEP, FLUSH)
]


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


def numbers(rng: np.random.Generator, *shape: int, fmt: FloatFormat = BINARY32) -> npt.NDArray[Any]:
    """Few bits, so that sums fall on midpoints, of all magnitudes down to subnormal ones."""
    few, low = fmt.precision // 2, -fmt.emin * 5 // 7
    wide = rng.integers(-(2**few), 2**few, shape) * np.exp2(rng.integers(-low, 10, shape))
    found: npt.NDArray[Any] = wide.astype(np.float32)
    if fmt == BINARY32:
        return found
    extremes = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 2.0**fmt.emax, -(2.0**fmt.emax)])
    odd = rng.random(shape) < 0.02
    return round_array(np.where(odd, rng.choice(extremes, shape), wide), fmt)


def bits(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    held = values.astype(np.float32)
    return np.where(np.isnan(held), np.float32(np.nan), held).view(np.uint32)


@pytest.mark.parametrize("fmt", [BINARY32, BINARY16, BFLOAT16], ids=lambda f: f.name)
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
    fmt: FloatFormat,
) -> None:
    rng = np.random.default_rng(len(left) * 100 + right[-1])
    quick, stepwise = CompiledArithmetic(fmt, contract), NumpyArithmetic(fmt, contract)
    assert compiled_chains(contract.results, contract.operands, fmt) is not None
    for turned in (False, True):
        pairs = [(numbers(rng, *left, fmt=fmt), numbers(rng, *right, fmt=fmt)) for _ in range(12)]
        if turned:  # columns far apart in memory, as behind a transposition
            pairs = [(np.asfortranarray(a), np.asfortranarray(b)) for a, b in pairs]
        for start in (None, numbers(rng, right[-1], fmt=fmt)):
            total = stepwise.multiply(*pairs[0]) if start is None else start
            for a, b in pairs[start is None :]:
                total = stepwise.multiply_add(a, b, total)
            given = quick.chain(pairs, start)
            assert given is not None
            np.testing.assert_array_equal(bits(given), bits(np.broadcast_to(total, given.shape)))


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: c.name)
@pytest.mark.parametrize(
    ("left", "right"),
    [(0, 0), (-60, -66), (-60, -67), (-60, -73), (-60, -80), (60, 53), (60, 54), (60, 61)],
)
def test_products_near_the_ends_of_a_range(
    chains: CompiledChains, contract: RuntimeContract, left: int, right: int
) -> None:
    """Where the least and the largest products of bfloat16 numbers are just in binary32, and just
    not; sums fall on midpoints, and tiny numbers decide them."""
    rng = np.random.default_rng(abs(left + right))
    quick, stepwise = CompiledArithmetic(BFLOAT16, contract), NumpyArithmetic(BFLOAT16, contract)

    def held(exponent: int, *shape: int) -> npt.NDArray[Any]:
        whole = rng.integers(-255, 256, shape) * (rng.random(shape) < 0.8)
        return round_array(whole * 2.0**exponent, BFLOAT16)

    for _ in range(40):
        pairs = [(held(left, 16, 1), held(right, 1, 32)) for _ in range(5)]
        start = held(left + right + int(rng.integers(-60, 30)), 32)
        total = np.broadcast_to(start, (16, 32))
        for a, b in pairs:
            total = stepwise.multiply_add(a, b, total)
        given = quick.chain(pairs, start)
        assert given is not None
        np.testing.assert_array_equal(bits(given), bits(total))


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: c.name)
def test_slices_are_what_they_stand_for(chains: CompiledChains, contract: RuntimeContract) -> None:
    rng = np.random.default_rng(4)
    quick = CompiledArithmetic(BINARY32, contract)
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


@pytest.mark.parametrize("contract", [ORT_BLOCKS, SEQUENTIAL, PAIRWISE], ids=lambda c: c.name)
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


def random_tree(rng: np.random.Generator, terms: int) -> Tree:
    alive = list(range(terms))
    merges: list[tuple[int, int]] = []
    for k in range(terms - 1):
        left, right = (alive.pop(int(rng.integers(len(alive)))) for _ in range(2))
        merges.append((left, right))
        alive.append(terms + k)
    return Tree(tuple(merges))


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: c.name)
def test_trees(chains: CompiledChains, contract: RuntimeContract) -> None:
    rng = np.random.default_rng(8)
    for left, right in (((9, 1), (1, 150)), ((70, 3), (70, 3)), ((2, 3, 1, 70), (1, 3, 11, 1))):
        for order in (Pairwise(), Lanes(4), random_tree(rng, 13), random_tree(rng, 2)):
            terms = 2 if isinstance(order, Tree) and len(order.merges) == 1 else 13
            merges, ordered = merges_of(order, terms), replace(contract, order=order)
            for fmt in (BINARY32, BINARY16, BFLOAT16):
                pairs = [
                    (numbers(rng, *left, fmt=fmt), numbers(rng, *right, fmt=fmt))
                    for _ in range(terms)
                ]
                given, slow = (
                    sum_of_products(arithmetic(fmt, ordered), ordered, pairs)
                    for arithmetic in (CompiledArithmetic, NumpyArithmetic)
                )
                np.testing.assert_array_equal(bits(given), bits(np.broadcast_to(slow, given.shape)))
                own = compiled_chains(contract.results, contract.operands, fmt)
                assert own is not None
                assert own.tree(pairs, merges, contract.contraction) is not None


@pytest.mark.parametrize("contract", CONTRACTS[:4], ids=lambda c: c.name)
@pytest.mark.parametrize(("alignment", "least"), [(23, -126), (25, -14), (24, None), (40, -126)])
def test_steps(
    chains: CompiledChains, contract: RuntimeContract, alignment: int, least: int | None
) -> None:
    rng = np.random.default_rng(alignment)
    quick = CompiledArithmetic(BINARY32, contract)
    stepwise = NumpyArithmetic(BINARY32, contract)
    for left, right in (((9, 1), (1, 37)), ((6, 16), (6, 16)), ((2, 3, 1, 40), (1, 3, 11, 1))):
        pairs = [(numbers(rng, *left), numbers(rng, *right)) for _ in range(7)]
        pairs[2] = (pairs[2][0] * 0, pairs[2][1])
        for total in (None, numbers(rng, right[-1])):
            given = quick.step(pairs, total, alignment, least)
            slow = stepwise.step(pairs, total, alignment, least)
            np.testing.assert_array_equal(bits(given), bits(np.broadcast_to(slow, given.shape)))
            steps = compiled_steps(contract.results, contract.operands)
            assert steps is not None
            assert steps.step(pairs, total, alignment, -126) is not None


@pytest.mark.parametrize(
    "contract",
    [members(CUDA_TF32)[0], replace(ORT_BLOCKS, results=FLUSH, operands=FLUSH)],
    ids=lambda c: c.name,
)
def test_networks_in_steps_or_flushed_have_the_same_bits(
    chains: CompiledChains, contract: RuntimeContract
) -> None:
    graph = load(shared("layer_zoo/conv.onnx"))
    inputs = samples(graph, 2)
    quick = emulate(graph, inputs, contract)
    slow = emulate(graph, inputs, contract, arithmetic=NumpyArithmetic)
    for t in graph.outputs:
        np.testing.assert_array_equal(bits(quick[t]), bits(slow[t]))


FLUSHING = replace(SEQUENTIAL, results=FLUSH, operands=FLUSH)
TWICE = "#define TWICE(u, v, w) SUM(PRODUCT(u, v), w)"


@pytest.mark.parametrize(
    ("right", "wrong", "contract", "compiled_for"),
    [
        ("fmaf(u, v, w)", "(u * v + w)", SEQUENTIAL, ()),
        (TWICE, "#define TWICE ONCE", SEQUENTIAL, ()),
        ("= SUM(w[j], v[j])", "= w[j]", SEQUENTIAL, ()),
        ("v * 0.0f", "v", FLUSHING, ()),
        ("> 0.0f ? odd : s", "> 0.0f ? s : s", SEQUENTIAL, ("-DHALF",)),
        ("> 65504.0f ?", "> 65536.0f ?", SEQUENTIAL, ("-DHALF",)),
        ("? 113 << 23", "? 0", SEQUENTIAL, ("-DHALF",)),
        ("SMALLEST 0x1p-14f", "SMALLEST 0x1p-15f", FLUSHING, ("-DHALF",)),
        ("> 0.0 ? odd : s", "> 0.0 ? s : s", SEQUENTIAL, ("-DBRAIN",)),
        ("+ ((bits >> 16) & 1)", "", SEQUENTIAL, ("-DBRAIN",)),
        ("? 897LL << 52", "? 0", SEQUENTIAL, ("-DBRAIN",)),
        ("trunc(product[j] * unit[j])", "rint(product[j] * unit[j])", SEQUENTIAL, ("-DSTEPS",)),
        ("0.0 + trunc(", "0.0 - trunc(", SEQUENTIAL, ("-DSTEPS",)),
        ("v * 0.0f", "v", FLUSHING, ("-DSTEPS",)),
    ],
)
def test_wrong_bits_are_not_used(
    right: str,
    wrong: str,
    contract: RuntimeContract,
    compiled_for: tuple[str, ...],
    tmp_path: Path,
) -> None:
    """A compiler that does not fuse, or that flushes or truncates otherwise, is found out."""
    text = compiled.SOURCE.read_text()
    assert right in text
    assert not is_used(text.replace(right, wrong), contract, compiled_for, tmp_path)


@pytest.mark.parametrize("compiled_for", [(), ("-DHALF",), ("-DBRAIN",), ("-DSTEPS",)])
@pytest.mark.parametrize("contract", [SEQUENTIAL, FLUSHING], ids=["kept", "flushed"])
def test_right_bits_are_used(
    contract: RuntimeContract, compiled_for: tuple[str, ...], tmp_path: Path
) -> None:
    """What is found out above is the change, and not how these tests compile."""
    assert is_used(compiled.SOURCE.read_text(), contract, compiled_for, tmp_path)


def is_used(
    text: str, contract: RuntimeContract, compiled_for: tuple[str, ...], folder: Path
) -> bool:
    """Does this source, compiled in less time than usual, have the emulator's bits?"""
    (folder / "chain.c").write_text(text)
    flags = (*compiled._FLAGS, *compiled._subnormal_flags(contract), *compiled_for, "-O1")
    held = {"-DHALF": BINARY16, "-DBRAIN": BFLOAT16}
    fmt = next((held[flag] for flag in compiled_for if flag in held), BINARY32)
    try:
        compile_library(folder / "chain.c", C, flags, folder / "chain.so")
    except NoCompiler as missing:
        pytest.skip(str(missing))
    library = load_library(folder / "chain.so")
    if "-DSTEPS" in compiled_for:
        return steps_agree(CompiledSteps(library), contract)
    return agrees(CompiledChains(library, contract, fmt))


def test_without_a_compiler_numpy_emulates(
    forgotten: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path))
    assert compiled_chains() is None
    assert compiled.quickest_arithmetic() is NumpyArithmetic


def test_a_library_is_kept_and_a_broken_one_replaced(
    forgotten: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda name: str(tmp_path))
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
