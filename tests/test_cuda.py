"""The CUDA kernels' own source on this processor against the emulator, the card's driver played by
one without a card, and the sources through CUDA's compilers."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import small_models
from onnx import helper

from encoders.arithmetic.approximate_field import ApproximateReals
from encoders.arithmetic.numpy_arithmetic import NumpyArithmetic
from encoders.arithmetic.runtime import sum_of_products
from encoders.contract.contract import AlignedSteps
from encoders.contract.presets import PRESETS
from encoders.numbers.enclosure import Interval
from encoders.numbers.formats import BINARY32
from gpu_check.common.compiling import CXX, NoCompiler, compile_library
from gpu_check.cuda.card import Card, Factors
from gpu_check.cuda.kernels import HostKernels, Schedule
from gpu_check.cuda.network import contract_of, run_graph
from gpu_check.cuda.sources import (
    FOLDER,
    SOURCES,
    CudaUnavailable,
    cubin_by_nvcc,
    cubin_of,
    ptx_of,
    source,
)
from gpu_check.cuda.tensor_core import emulated, probe_core, tiles_of
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_real
from onnx_import import load
from onnx_import.graph import Graph
from refine.bounds.network import InputBox, network_bounds

BLOCK = 7
PINNED = [s for s in Schedule if s is not Schedule.WARP_TREE]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> HostKernels:
    try:
        return HostKernels(tmp_path_factory.mktemp("kernels"))
    except CudaUnavailable as missing:
        pytest.skip(str(missing))


def factors(terms: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Magnitudes from subnormal products to large ones, and signs that cancel."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        wide = rng.standard_normal(shape) * np.exp2(rng.integers(-70, 20, shape) * (seed % 2))
        return wide.astype(np.float32)

    return draw(5, terms), draw(terms, 6)


def bits(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float32).view(np.uint32)


@pytest.mark.parametrize("schedule", PINNED)
@pytest.mark.parametrize("terms", [1, 2, 3, 7, 8, 33, 100])
def test_kernels_have_the_emulators_bits(
    kernels: HostKernels, schedule: Schedule, terms: int
) -> None:
    contract = schedule.contract(terms, BLOCK)
    arithmetic = NumpyArithmetic(BINARY32, contract)
    for seed in range(4):
        a, b = factors(terms, seed)
        pairs = [(a[:, k : k + 1], b[k : k + 1, :]) for k in range(terms)]
        expected = sum_of_products(arithmetic, contract, pairs)
        given = kernels.dot(schedule, a, b, BLOCK)
        np.testing.assert_array_equal(bits(given), bits(expected))


@pytest.mark.parametrize("terms", [1, 31, 32, 33, 100])
def test_the_warp_tree_has_its_own_bits(kernels: HostKernels, terms: int) -> None:
    """32 fused lanes, folded by halves: spelled out with the emulator's operations."""
    arithmetic = NumpyArithmetic(BINARY32, PRESETS["sequential-fma"])
    for seed in range(4):
        a, b = factors(terms, seed)
        lanes = []
        for lane in range(32):
            total = np.zeros((5, 6), np.float32)
            for k in range(lane, terms, 32):
                pair = a[:, k : k + 1], b[k : k + 1, :]
                first = k == lane
                total = (
                    arithmetic.multiply(*pair) if first else arithmetic.multiply_add(*pair, total)
                )
            lanes.append(total)
        while len(lanes) > 1:
            half = len(lanes) // 2
            lanes = [arithmetic.add(lanes[i], lanes[i + half]) for i in range(half)]
        given = kernels.dot(Schedule.WARP_TREE, a, b)
        np.testing.assert_array_equal(bits(given), bits(lanes[0]))


def test_schedules_differ(kernels: HostKernels) -> None:
    """Were two kernels the same, the comparisons above could not tell orders apart."""
    a, b = factors(100, 2)
    results = {bits(kernels.dot(s, a, b, BLOCK)).tobytes() for s in Schedule}
    assert len(results) == len(Schedule)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("driver") / "driver.so"
    flags = ("-O2", "-std=c++17", "-ffp-contract=off", f"-I{FOLDER}")
    try:
        compile_library(Path(__file__).parent / "fake_cuda_driver.cpp", CXX, flags, library)
    except NoCompiler as missing:
        pytest.skip(str(missing))
    return library


@pytest.fixture
def card(driver: Path) -> Card:
    return Card(str(driver), lambda name, architecture: source(name).encode() + b"\0")


def test_a_card_runs_the_kernels(kernels: HostKernels, card: Card, driver: Path) -> None:
    """Through a driver that plays its part on the processor: arguments arrive, results return."""
    assert card.describe() == "no card (sm_90, CUDA driver 13.2)"
    for schedule in Schedule:
        a, b = factors(77, 3)
        given = card.dot(schedule, a, b, BLOCK)
        np.testing.assert_array_equal(bits(given), bits(kernels.dot(schedule, a, b, BLOCK)))
    x = np.linspace(-3, 3, 1001, dtype=np.float32)
    for function, exact in (("exp", np.exp), ("tanh", np.tanh)):
        given = card.apply(function, x)
        np.testing.assert_array_equal(bits(given), bits(kernels.apply(function, x)))
        np.testing.assert_allclose(given, exact(x.astype(np.float64)), rtol=1e-6)
    assert ctypes.CDLL(str(driver)).still_allocated() == 0


def test_what_a_driver_refuses_is_told(driver: Path, tmp_path: Path) -> None:
    card = Card(str(driver), lambda name, architecture: b"nothing\0")
    with pytest.raises(CudaUnavailable, match="cuModuleGetFunction: as the test asked"):
        card.apply("exp", np.ones(3, np.float32))
    with pytest.raises(CudaUnavailable, match="no CUDA driver"):
        Card(str(tmp_path / "none.so"))


CORES = [
    (Factors.FLOAT16, AlignedSteps(4, 23)),
    (Factors.FLOAT16, AlignedSteps(8, 24)),
    (Factors.BFLOAT16, AlignedSteps(16, 25)),
    (Factors.TF32, AlignedSteps(8, 25)),
    (Factors.TF32, AlignedSteps(4, 24)),
]
TYPES: dict[Factors, Any] = {
    Factors.FLOAT16: np.float16, Factors.BFLOAT16: ml_dtypes.bfloat16, Factors.TF32: np.float32,
}  # fmt: skip


@pytest.mark.parametrize(("kind", "steps"), CORES, ids=str)
def test_a_tensor_core_is_found_out(
    kind: Factors, steps: AlignedSteps, card: Card, driver: Path
) -> None:
    """V100, A100 and H100 as the literature has them, emulated behind the driver."""

    def computed(name: bytes, *rest: Any) -> None:
        *places, terms = rest
        assert name.decode() == f"tile_{kind.value}"
        dtypes = [np.dtype(TYPES[kind])] * 2 + [np.dtype(np.float32)] * 2
        sizes = [16 * terms, 16 * terms, 256, 256]
        a, b, c, d = (
            np.frombuffer((ctypes.c_char * (n * t.itemsize)).from_address(at), t)
            for at, n, t in zip(places, sizes, dtypes, strict=True)
        )
        wide = (a.reshape(16, terms), b.reshape(16, terms).T, c.reshape(16, 16))
        d[:] = emulated(steps, kind, *(v.astype(np.float64) for v in wide)).reshape(-1)

    tile = ctypes.CFUNCTYPE(None, ctypes.c_char_p, *[ctypes.c_void_p] * 4, ctypes.c_int)(computed)
    ctypes.CDLL(str(driver)).set_tile(tile)
    core = probe_core(tiles_of(card, kind), kind)
    assert core.steps == steps
    assert core.sums > 1000


def test_what_adds_otherwise_is_no_tensor_core() -> None:
    def exact(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        return np.asarray(a @ b + c, np.float32)

    def one_by_one(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        for k in range(a.shape[1]):
            c = (c + a[:, k : k + 1] * b[k : k + 1]).astype(np.float32)
        return c

    def to_nearest(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
        """Steps of 8 that are aligned, but rounded to nearest in the end."""
        for k in range(0, a.shape[1], 8):
            block = emulated(
                AlignedSteps(8, 24), Factors.FLOAT16, a[:, k : k + 8], b[k : k + 8], 0 * c
            )
            c = (block + c).astype(np.float32)
        return c

    for tile in (exact, one_by_one, to_nearest):
        assert probe_core(tile, Factors.FLOAT16).steps is None


@pytest.fixture
def network(tmp_path: Path) -> Graph:
    """A convolution with padding, a dense layer of many terms, and a product of what varies."""
    rng = np.random.default_rng(3)
    weights: dict[str, Any] = {
        "k": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "c": rng.standard_normal(4).astype(np.float32),
        "w": rng.standard_normal((5, 400)).astype(np.float32),
        "b": rng.standard_normal(5).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "k", "c"], ["h"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("Flatten", ["r"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "w", "b"], ["g"], "gemm", transB=1),
        helper.make_node("Transpose", ["g"], ["t"], "turn", perm=[1, 0]),
        helper.make_node("MatMul", ["t", "g"], ["y"], "square"),
    ]
    shapes = {"x": [1, 3, 10, 10]}, {"y": [5, 5]}
    return load(small_models.save(tmp_path / "net.onnx", nodes, *shapes, weights))


@pytest.mark.parametrize("schedule", Schedule)
def test_networks_have_the_emulators_bits(
    schedule: Schedule, network: Graph, kernels: HostKernels
) -> None:
    """Warp trees of few terms are no order that a contract can name: those stay in its bounds."""
    contract = contract_of(network, schedule)
    x = np.random.default_rng(1).standard_normal((6, 1, 3, 10, 10)).astype(np.float32)
    given = run_graph(network, {"x": x}, kernels, schedule)["y"]
    if schedule is not Schedule.WARP_TREE:
        assert contract.pinned
        np.testing.assert_array_equal(given, emulate(network, {"x": x}, contract)["y"])
    box = InputBox(
        {"x": Interval(x[0].astype(float), x[0].astype(float))}, {"x": np.zeros(x[0].shape)}
    )
    limit = network_bounds(network, box, contract).errors["y"]
    real = evaluate_real(network, {"x": x[:1].astype(float)}, ApproximateReals())["y"][0]
    own = 1e-12 * np.abs(real)  # of these float64 numbers; the bound may be the error itself
    assert np.all(np.abs(given[0] - real) <= limit + own)
    assert np.any(given[0] != real)


def test_long_warp_trees_have_the_emulators_bits(kernels: HostKernels, tmp_path: Path) -> None:
    graph = load(small_models.mlp(tmp_path / "net.onnx", (100, 70, 64, 3)))
    contract = contract_of(graph, Schedule.WARP_TREE)
    assert contract.rules
    assert all(rule.schedule.pinned for rule in contract.rules)
    x = np.random.default_rng(1).standard_normal((9, 1, 100)).astype(np.float32)
    given = run_graph(graph, {"x": x}, kernels, Schedule.WARP_TREE)["y"]
    np.testing.assert_array_equal(given, emulate(graph, {"x": x}, contract)["y"])


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize(
    ("compiler", "architecture"),
    [(cubin_of, "sm_80"), (cubin_of, "sm_100"), (cubin_by_nvcc, "sm_90")],
    ids=lambda v: getattr(v, "__name__", v),
)
def test_compilers_take_the_sources(
    compiler: Callable[[str, str], bytes], architecture: str, name: str
) -> None:
    try:
        code = compiler(name, architecture)
    except CudaUnavailable as missing:
        pytest.skip(str(missing))
    assert code.startswith(b"\x7fELF")
    for kernel in re.findall(r"(?:APPLY|TILE)\((\w+),", source(name)):
        assert kernel == "NAME" or kernel.encode() in code


def test_every_rounding_of_the_schedules_is_explicit() -> None:
    try:
        ptx = ptx_of("schedules", "compute_90")
    except CudaUnavailable as missing:
        pytest.skip(str(missing))
    steps = set(re.findall(r"\b(?:fma|mul|add)\.\S*f32", ptx))
    assert steps == {"fma.rn.f32", "mul.rn.f32", "add.rn.f32"}
