"""The emulator's chains and trees of multiply-adds, and steps of tensor cores, compiled (chain.c),
where there is a C compiler.

The bits are those of `NumpyArithmetic`, tens of times sooner; float16 and bfloat16 have chains and
trees of their own. That the compiler and the processor do what the source says is not assumed: a
library is used only if it agrees with `NumpyArithmetic` on sums full of midpoints, subnormal
numbers, infinities and NaN. Libraries are kept in the user's cache directory.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs

from encoders.arithmetic.numpy_arithmetic import WIDEST_ALIGNMENT, Carrier, NumpyArithmetic
from encoders.arithmetic.runtime import sum_of_products
from encoders.arithmetic.slices import Slices, steps_of
from encoders.contract.contract import Contraction, RuntimeContract, Subnormals
from encoders.contract.orders import Merges, Pairwise, merges_of
from encoders.contract.presets import SEQUENTIAL
from encoders.numbers.formats import BFLOAT16, BINARY16, BINARY32, FloatFormat, round_array
from gpu_check.common.compiling import C, NoCompiler, compile_library, load_library
from gpu_check.common.writing import write_whole

Offsets = npt.NDArray[np.int64]
Pairs = Sequence[tuple[Carrier, Carrier]]

SOURCE = Path(__file__).parent / "chain.c"
_FLAGS = ("-O3", "-std=gnu11", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
_SHORT = 4  # terms
_BLOCK = 64  # as in chain.c
_THREADED = 2**22  # multiply-adds, from which on threads share the rows
_MOST_THREADS = 4
_FORMATS: Mapping[FloatFormat, tuple[str, ...]] = MappingProxyType(
    {BINARY32: (), BINARY16: ("-DHALF",), BFLOAT16: ("-DBRAIN",)}
)
"""What chain.c is compiled for, as a compiler is told."""


class CompiledChains:
    """The chains of a chain.c that was compiled for a format and for what `contract` flushes."""

    def __init__(
        self,
        library: ctypes.CDLL,
        contract: RuntimeContract = SEQUENTIAL,
        fmt: FloatFormat = BINARY32,
    ) -> None:
        self._run = {
            Contraction.ALWAYS: _typed(library.fused),
            Contraction.NEVER: _typed(library.separate),
        }
        at = ctypes.c_void_p
        self._tree = {
            Contraction.ALWAYS: _typed(library.fused_tree, at, at, at, at),
            Contraction.NEVER: _typed(library.separate_tree, at, at, at, at),
        }
        self.contract = contract
        self.format = fmt

    def chain(self, pairs: Pairs, start: Carrier | None, how: Contraction) -> Carrier | None:
        """start + Σ a_k·b_k as `ChainArithmetic.chain`; None for operands that are not evenly
        laid out."""
        every = _operands(self._held(pairs))
        if every is None or (start is None and len(pairs) < 2):
            return None
        if start is not None:
            return self._carried(_summed(self._run[how], every, start))
        first = NumpyArithmetic(self.format, self.contract).multiply(*pairs[0])
        return self._carried(_summed(self._run[how], tuple(v.rest() for v in every), first))

    def tree(self, pairs: Pairs, merges: Merges, how: Contraction) -> Carrier | None:
        """Σ a_k·b_k as `TreeArithmetic.tree`; None as above."""
        every = _operands(self._held(pairs))
        if every is None or not merges:
            return None
        program, room = _program(merges)

        def run(*given: Any) -> None:
            sums = np.empty((room, _BLOCK), np.float32)
            own = [v.ctypes.data for v in program]
            self._tree[how](*given[:-1], *own, sums.ctypes.data, given[-1])

        return self._carried(_summed(run, every, np.zeros(1, np.float32)))

    def _held(self, pairs: Pairs) -> Pairs:
        """The factors as chain.c has them; it holds a number of every format in a float."""
        if self.format == BINARY32:
            return pairs
        with np.errstate(invalid="ignore"):
            if isinstance(pairs, Slices) and isinstance(pairs.left, np.ndarray):
                left, right = (v.astype(np.float32) for v in (pairs.left, pairs.right))
                return Slices(left, pairs.left_axis, right, pairs.right_axis, pairs.which)
            return [(a.astype(np.float32), b.astype(np.float32)) for a, b in pairs]

    def _carried(self, total: Carrier | None) -> Carrier | None:
        """A result as `NumpyArithmetic` has it."""
        return total if total is None or self.format == BINARY32 else total.astype(np.float64)


class CompiledSteps:
    """The steps of a chain.c that was compiled for them, and for what a contract flushes."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._run = _typed(library.steps, ctypes.c_int32, ctypes.c_int32)

    def step(
        self, pairs: Pairs, total: Carrier | None, alignment: int, least: int
    ) -> Carrier | None:
        """As `StepArithmetic.step`; None for operands that are not evenly laid out."""
        every = _operands(pairs)
        if every is None:
            return None
        start = np.zeros(1, np.float32) if total is None else total
        return _summed(self._run, every, start, alignment, least)


def _program(merges: Merges) -> tuple[tuple[Offsets, ...], int]:
    """A tree for chain.c: the two numbers that each addition adds, where it puts the sum, and how
    many places that takes. A partial sum is used once, and its place is then another's."""
    terms = len(merges) + 1
    place: dict[int, int] = {}
    free: list[int] = []
    rows = []
    for k, (left, right) in enumerate(merges):
        if left < terms <= right:
            left, right = right, left
        read = [place.pop(end) for end in (left, right) if end >= terms]
        where = read[0] if read else free.pop() if free else len(place)
        free += read[1:]
        ends = iter(read)
        rows.append([terms + next(ends) if e >= terms else e for e in (left, right)] + [where])
        place[terms + k] = where
    columns = tuple(np.array(rows, np.int64).T.copy())
    return columns, int(columns[2].max()) + 1


def _typed(function: Any, *more: Any) -> Any:
    """A function of chain.c with the types of its arguments."""
    whole, at = ctypes.c_int64, ctypes.c_void_p
    function.argtypes = (whole, whole, whole, at, at, whole, at, at, whole, *more, at)
    function.restype = None
    return function


def _summed(run: Any, factors: tuple[_Operand, ...], start: Carrier, *more: int) -> Carrier | None:
    """The start and all products, added up by a function of chain.c."""
    a, b = factors
    shape = np.broadcast_shapes(a.first.shape, b.first.shape, start.shape)
    if not shape or 0 in shape:
        return None
    result = np.empty(shape, np.float32)
    with np.errstate(invalid="ignore"):
        result[...] = start
    if b.first.shape[-1] != shape[-1]:  # chain.c is quickest along the columns of b
        a, b = b, a
    if b.first.strides[-1] != b.first.itemsize:
        b = b.packed()
    a_rows, a_column = _layout(a.first, shape)
    b_rows, b_column = _layout(b.first, shape)
    rows, columns, terms = len(a_rows), shape[-1], len(a.addresses)
    y = result.reshape(rows, columns)

    def part(low: int, high: int) -> None:
        from_a, from_b, into = (v[low:high].ctypes.data for v in (a_rows, b_rows, y))
        of_a = (a.addresses.ctypes.data, from_a, a_column)
        of_b = (b.addresses.ctypes.data, from_b, b_column)
        run(high - low, columns, terms, *of_a, *of_b, *more, into)

    busy = rows * columns * terms >= _THREADED
    workers = min(os.cpu_count() or 1, _MOST_THREADS, rows) if busy else 1
    if workers == 1:
        part(0, rows)
    else:
        cuts = [rows * i // workers for i in range(workers + 1)]
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(part, cuts[:-1], cuts[1:]))
    return result


@dataclass(frozen=True)
class _Operand:
    """One factor of every term: arrays of one layout at these addresses. `kept` is the memory,
    the terms along its first axis, or the arrays themselves."""

    kept: Carrier | Sequence[Carrier]
    addresses: Offsets

    @property
    def first(self) -> Carrier:
        return self.kept[0]

    def rest(self) -> _Operand:
        return _Operand(self.kept[1:], self.addresses[1:])

    def packed(self) -> _Operand:
        """A copy whose columns follow each other."""
        return _along(np.ascontiguousarray(self.kept))


def _along(array: Carrier) -> _Operand:
    """The terms along the first axis."""
    steps = np.arange(len(array), dtype=np.int64) * array.strides[0]
    return _Operand(array, array.ctypes.data + steps)


def _operands(pairs: Pairs) -> tuple[_Operand, _Operand] | None:
    """None unless both are binary32 numbers of one layout each, whole elements apart."""
    if isinstance(pairs, Slices) and isinstance(pairs.left, np.ndarray):
        steps = steps_of(pairs.which)
        a, b = (
            _along(np.expand_dims(np.moveaxis(v, axis, 0)[steps], axis + 1))
            for v, axis in ((pairs.left, pairs.left_axis), (pairs.right, pairs.right_axis))
        )
    else:
        left, right = ([pair[i] for pair in pairs] for i in (0, 1))
        if not (_alike(left) and _alike(right)):
            return None
        a, b = (
            _Operand(v, np.array([one.__array_interface__["data"][0] for one in v], np.int64))
            for v in (left, right)
        )
    even = all(not any(s % 4 for s in v.first.strides) for v in (a, b))
    return (a, b) if even and a.first.dtype == b.first.dtype == np.float32 else None


def _alike(arrays: Sequence[Carrier]) -> bool:
    shape, strides, dtype = arrays[0].shape, arrays[0].strides, arrays[0].dtype
    return all(v.strides == strides and v.shape == shape and v.dtype == dtype for v in arrays)


def _layout(array: Carrier, shape: tuple[int, ...]) -> tuple[Offsets, int]:
    """Where each row of the broadcast array begins, and how far apart its columns are."""
    strides = np.broadcast_to(array, shape).strides
    rows = np.zeros((1,) * (len(shape) - 1), np.int64)
    for axis, (length, stride) in enumerate(zip(shape[:-1], strides[:-1], strict=True)):
        along = np.arange(length, dtype=np.int64) * (stride // array.itemsize)
        rows = rows + along.reshape(-1, *(1,) * (len(shape) - 2 - axis))
    return np.ascontiguousarray(rows.reshape(-1)), strides[-1] // array.itemsize


class CompiledArithmetic(NumpyArithmetic):
    """`NumpyArithmetic` whose chains, trees and steps in binary32 are compiled."""

    def chain(self, pairs: Pairs, start: Carrier | None) -> Carrier | None:
        how = self.contract.contraction
        settled = how is not Contraction.EITHER
        if settled and self.format in _FORMATS and len(pairs) >= _SHORT:
            compiled = compiled_chains(self.contract.results, self.contract.operands, self.format)
            whole = None if compiled is None else compiled.chain(pairs, start, how)
            if whole is not None:
                return whole
        return super().chain(pairs, start)

    def tree(self, pairs: Pairs, merges: Merges) -> Carrier | None:
        how = self.contract.contraction
        if how is Contraction.EITHER or self.format not in _FORMATS:
            return None
        compiled = compiled_chains(self.contract.results, self.contract.operands, self.format)
        return None if compiled is None else compiled.tree(pairs, merges, how)

    def step(
        self, pairs: Pairs, total: Carrier | None, alignment: int, least: int | None
    ) -> Carrier:
        lowest = BINARY32.emin if least is None else least
        if self.format == BINARY32 and alignment <= WIDEST_ALIGNMENT and lowest >= BINARY32.emin:
            compiled = compiled_steps(self.contract.results, self.contract.operands)
            if compiled is not None:
                whole = compiled.step(pairs, total, alignment, lowest)
                if whole is not None:
                    return whole
        return super().step(pairs, total, alignment, least)


def quickest_arithmetic() -> Callable[[FloatFormat, RuntimeContract], NumpyArithmetic]:
    """Bit-exact arithmetic: compiled where that works on this machine, else numpy's."""
    return NumpyArithmetic if compiled_chains() is None else CompiledArithmetic


@cache
def compiled_chains(
    results: Subnormals = Subnormals.KEEP,
    operands: Subnormals = Subnormals.KEEP,
    fmt: FloatFormat = BINARY32,
) -> CompiledChains | None:
    """chain.c for this machine; None where it cannot be compiled or has other bits."""
    contract = replace(SEQUENTIAL, results=results, operands=operands)
    with suppress(OSError, NoCompiler):
        library = _library((*_subnormal_flags(contract), *_FORMATS[fmt]))
        chains = CompiledChains(library, contract, fmt)
        return chains if agrees(chains) else None
    return None


@cache
def compiled_steps(results: Subnormals, operands: Subnormals) -> CompiledSteps | None:
    """The same for its steps."""
    contract = replace(SEQUENTIAL, results=results, operands=operands)
    with suppress(OSError, NoCompiler):
        steps = CompiledSteps(_library((*_subnormal_flags(contract), "-DSTEPS")))
        return steps if steps_agree(steps, contract) else None
    return None


def _subnormal_flags(contract: RuntimeContract) -> tuple[str, ...]:
    """What becomes of subnormal numbers, for the compiler."""
    words = {Subnormals.KEEP: "kept", Subnormals.FLUSH: "flushed"}
    return f"-DRESULT={words[contract.results]}", f"-DOPERAND={words[contract.operands]}"


def _library(given: Sequence[str]) -> ctypes.CDLL:
    """From the cache, else compiled into it, or for this process alone. Raises NoCompiler."""
    flags = (*_FLAGS, *given)
    about = f"{flags} {platform.machine()} {platform.system()}\n"
    key = hashlib.sha256(about.encode() + SOURCE.read_bytes()).hexdigest()
    kept = Path(platformdirs.user_cache_dir("refine")) / "kernels" / f"{key}.so"
    if kept.is_file():
        with suppress(NoCompiler):
            return load_library(kept)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "chain.so"
        compile_library(SOURCE, C, flags, made)
        library = load_library(made)
        with suppress(OSError):
            _keep(made, kept)
        return library


def _keep(made: Path, kept: Path) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_whole(kept, lambda file: file.write(made.read_bytes()))


def agrees(chains: CompiledChains) -> bool:
    """Has it the bits of `NumpyArithmetic` where they are hard to get?"""
    for how in (Contraction.ALWAYS, Contraction.NEVER):
        stepwise = NumpyArithmetic(chains.format, replace(chains.contract, contraction=how))
        for pairs in _trials(chains.format):
            total = stepwise.multiply(*pairs[0])
            for pair in pairs[1:]:
                total = stepwise.multiply_add(*pair, total)
            if not _same(chains.chain(pairs, None, how), total):
                return False
            contract = replace(stepwise.contract, order=Pairwise())
            halved = sum_of_products(stepwise, contract, pairs)
            merges = merges_of(Pairwise(), len(pairs))
            if not _same(chains.tree(pairs, merges, how), halved):
                return False
    return True


def steps_agree(steps: CompiledSteps, contract: RuntimeContract) -> bool:
    """The same for steps, under what a contract flushes."""
    stepwise = NumpyArithmetic(BINARY32, contract)
    for pairs in _trials(BINARY32):
        total = stepwise.multiply(*pairs[0])
        for alignment, least in ((23, -126), (25, -14)):
            total = stepwise.step(pairs[::-1], total, alignment, least)
            for some in filter(None, (pairs[:4], pairs[4:20])):
                given = steps.step(some, total, alignment, least)
                if not _same(given, stepwise.step(some, total, alignment, least)):
                    return False
    return True


def _trials(fmt: FloatFormat) -> Iterator[Pairs]:
    """Sums of products that are hard to get right."""
    rng = np.random.default_rng(0)
    carrier = np.float32 if fmt == BINARY32 else np.float64
    for given in (_midpoints(rng, fmt), _extremes(rng, fmt), _tiny(rng, fmt), _edges(fmt)):
        a, b = (round_array(v, fmt).astype(carrier) for v in given)
        yield [(a[:, k : k + 1], b[k : k + 1]) for k in range(len(b))]


def _same(quick: Carrier | None, slow: Carrier) -> bool:
    """The same numbers, zeros with the same signs."""
    if quick is None or not np.array_equal(quick, slow, equal_nan=True):
        return False
    numbers = ~np.isnan(slow)
    return np.array_equal(np.signbit(quick)[numbers], np.signbit(slow)[numbers])


def _midpoints(rng: np.random.Generator, fmt: FloatFormat) -> tuple[Carrier, Carrier]:
    """Sums that in a wider format lie on midpoints of this one, a little beside them in truth."""
    shape, half, low = (8, 40), fmt.precision // 2, max(-60, fmt.emin)
    a = 1.0 + rng.integers(0, 2**half, shape) * 2.0**-half
    b = np.exp2(rng.integers(low, 4, (40, 83))) * rng.choice([-1.0, 1.0], (40, 83))
    apart = rng.integers(fmt.precision - 2, fmt.precision + 3, b[0::2].shape)
    b[1::2] = b[0::2] * 2.0**-apart
    return a, b


def _extremes(rng: np.random.Generator, fmt: FloatFormat) -> tuple[Carrier, Carrier]:
    """Magnitudes of the whole format, with overflow, underflow, infinities and NaN."""
    a, b = (
        rng.standard_normal(shape)
        * np.exp2(rng.integers(fmt.emin * 5 // 8, fmt.emax // 2 + 3, shape))
        for shape in ((40, 12), (12, 83))
    )
    b[:, 70:] *= 2.0 ** (fmt.emin // 2)
    a[0, 5], a[1, 5], b[3, 2] = np.inf, np.nan, -np.inf
    return a, b


def _tiny(rng: np.random.Generator, fmt: FloatFormat) -> tuple[Carrier, Carrier]:
    """Products of many bits about the smallest normal number."""
    a, b = (
        rng.standard_normal(shape) * 2.0 ** (fmt.emin / 2 - 2) for shape in ((16, 12), (12, 83))
    )
    return a, b


def _edges(fmt: FloatFormat) -> tuple[Carrier, Carrier]:
    """The largest number and, added to it, around half of its last place."""
    half = 2.0 ** (fmt.emax - fmt.precision)
    added = half * np.array([0.5, 1.0 - 2.0 ** (1 - fmt.precision), 1.0, 1.5])
    b = np.stack([np.full(4, fmt.largest_number), added])
    return np.array([[1.0, 1.0], [-1.0, -1.0]]), np.tile(b, 8)
