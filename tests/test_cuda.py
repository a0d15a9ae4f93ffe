"""The CUDA kernels' own source, on this processor against the emulator, and through NVRTC."""

from __future__ import annotations

import numpy as np
import pytest

from encoders.arithmetic import sum_of_products
from encoders.contract import PRESETS, Blocked, Contraction, RuntimeContract
from encoders.formats import BINARY32
from encoders.numpy_arithmetic import NumpyArithmetic
from gpu_check.cuda.kernels import CudaUnavailable, HostKernels, Schedule, ptx_of

BLOCK = 7
EMULATED: dict[Schedule, RuntimeContract] = {
    Schedule.SEQUENTIAL: PRESETS["sequential"],
    Schedule.SEQUENTIAL_FMA: PRESETS["sequential-fma"],
    Schedule.PAIRWISE: PRESETS["pairwise"],
    Schedule.SPLIT_K: RuntimeContract("split", Blocked(BLOCK), Contraction.ALWAYS),
}


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


@pytest.mark.parametrize("schedule", EMULATED)
@pytest.mark.parametrize("terms", [1, 2, 3, 7, 8, 33, 100])
def test_kernels_have_the_emulators_bits(
    kernels: HostKernels, schedule: Schedule, terms: int
) -> None:
    contract = EMULATED[schedule]
    arithmetic = NumpyArithmetic(BINARY32, contract)
    for seed in range(4):
        a, b = factors(terms, seed)
        pairs = [(a[:, k : k + 1], b[k : k + 1, :]) for k in range(terms)]
        expected = sum_of_products(arithmetic, contract, pairs)
        given = kernels.dot(schedule, a, b, BLOCK)
        np.testing.assert_array_equal(bits(given), bits(expected))


@pytest.mark.parametrize("terms", [1, 31, 32, 33, 100])
def test_the_warp_tree_has_its_own_bits(kernels: HostKernels, terms: int) -> None:
    """32 fused lanes, folded by halves: written out with the emulator's operations."""
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


@pytest.mark.parametrize("architecture", ["compute_80", "compute_90"])
@pytest.mark.parametrize("name", ["schedules", "elementary"])
def test_nvrtc_compiles_the_kernels(name: str, architecture: str) -> None:
    try:
        ptx = ptx_of(name, architecture)
    except CudaUnavailable as missing:
        if "refuses" in str(missing):
            raise
        pytest.skip(str(missing))
    assert ".entry" in ptx
    if name == "schedules":
        assert "fma.rn.f32" in ptx
        assert ".ftz" not in ptx
