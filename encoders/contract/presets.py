"""The contracts that have names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from encoders.contract.contract import (
    BiasPlacement,
    Contraction,
    Normalization,
    RoundingMode,
    RuntimeContract,
    Schedule,
    ScheduleRule,
    Span,
    Subnormals,
)
from encoders.contract.functions import (
    CORRECTLY_ROUNDED,
    CUDA_FUNCTIONS,
    ORT_FUNCTIONS,
)
from encoders.contract.orders import AnyOrder, Blocked, Dwindling, Pairwise, Sequential, Strided
from encoders.numbers.formats import BINARY32, TENSOR_FLOAT_32
from onnx_import.graph import DType

LIBRARY_BLOCK = 256  # terms that libraries of matrix products add before they start anew
IEEE_ANY = RuntimeContract(
    "ieee-any",
    AnyOrder(),
    contraction=Contraction.EITHER,
    bias=BiasPlacement.ANY,
    results=Subnormals.EITHER,
    operands=Subnormals.EITHER,
    normalization=Normalization.EITHER,
)


SEQUENTIAL = RuntimeContract(
    "sequential", Sequential(), Contraction.NEVER, functions=CORRECTLY_ROUNDED
)


SEQUENTIAL_FMA = RuntimeContract(
    "sequential-fma", Sequential(), Contraction.ALWAYS, functions=CORRECTLY_ROUNDED
)


# One execution for each sequence of random numbers; its roundings are zero on average by
# definition, so that what `--confidence` says of it is a theorem.
STOCHASTIC = replace(SEQUENTIAL, name="stochastic", rounding=RoundingMode.STOCHASTIC)


PAIRWISE = RuntimeContract("pairwise", Pairwise(), Contraction.NEVER, functions=CORRECTLY_ROUNDED)
EXACT = RuntimeContract("exact", Sequential(), Contraction.NEVER, exact=True)


# onnxruntime 1.31 on an x86-64 CPU with FMA, graph optimisations off, one thread. Measured, not
# promised, bit for bit in float32 (benchmarks/ort_cpu.py): products with a matrix that the file
# stores (scaled ones only up to 256 terms); other products of several rows with several columns,
# and convolutions with several output channels in a group and several pixels, in blocks that grow
# as the columns become few; of one row, or of one output channel, in blocks of 4 without FMA; of
# one column, or of one pixel, in 8 lanes, where rows are multiples of 4 (convolutions only where
# they are of several channels, or of patches narrower than the image); BatchNormalization;
# determinants, row by row. Open: every other sum, among them reductions, pools, other products with
# one column, Gemm of one row or column with computed weights, nodes that no file has.
_ORT_COLUMNS = ((Span(2, 16), 1024), (Span(17, 32), 512), (Span(33, 64), 256), (Span(65), 128))


def _ort_product(
    operator: str, block: int = LIBRARY_BLOCK, bias: BiasPlacement = BiasPlacement.AFTER_FIRST_BLOCK
) -> ScheduleRule:
    schedule = Schedule(Blocked(block), Contraction.ALWAYS, bias)
    return ScheduleRule(schedule, operator=operator, type=DType.FLOAT32, written=True)


def _ort_products() -> Iterator[ScheduleRule]:
    for operator in ("MatMul", "Gemm"):
        yield replace(_ort_product(operator), constant=True, plain=True)
    yield replace(_ort_product("Gemm"), constant=True, terms=Span(0, LIBRARY_BLOCK))
    yield replace(_ort_product("Gemm", 128), terms=Span(0, 128), rows=Span(2), columns=Span(2))
    for columns, block in _ORT_COLUMNS:
        yield replace(_ort_product("MatMul", block), rows=Span(2), columns=columns)
        yield replace(
            _ort_product("Conv", block, BiasPlacement.LAST), rows=Span(2), columns=columns
        )
    in_fours = Schedule(Dwindling(4), Contraction.NEVER)
    in_lanes = Schedule(Strided(8), Contraction.NEVER)
    for operator, most in (("MatMul", None), ("Conv", _ORT_COLUMNS[0][1])):
        row = replace(_ort_product(operator), schedule=in_fours, rows=1)
        # of an image that is the matrix as it is, transposed, neither is so
        row = replace(row, plain=False) if operator == "Conv" else row
        rows, terms = Span(4, of=4), Span(0, most)
        column = replace(row, schedule=in_lanes, rows=rows, columns=1, terms=terms)
        yield from (row, column)
    yield ScheduleRule(
        Schedule(Sequential(), Contraction.NEVER),
        operator="BatchNormalization",
        type=DType.FLOAT32,
        written=True,
    )
    yield ScheduleRule(
        Schedule(Sequential(), Contraction.NEVER, BiasPlacement.FIRST),
        operator="Det",
        type=DType.FLOAT32,
        terms=Span(0, 16),
        written=True,
    )


ORT_CPU = replace(
    IEEE_ANY,
    name="ort-cpu",
    results=Subnormals.KEEP,
    operands=Subnormals.KEEP,
    normalization=Normalization.RECIPROCAL,
    functions=ORT_FUNCTIONS,
    rules=tuple(_ort_products()),
)


# Tensors of 16 bits, nodes that compute in binary32 in whatever order, as libraries for half
# precision do (cuBLAS, cuDNN, PyTorch on CPU and CUDA). Subnormal numbers of binary16 are kept by
# all of them; those of bfloat16 are not (PyTorch's CPU products flush them).
FP16 = replace(
    IEEE_ANY,
    name="fp16",
    results=Subnormals.KEEP,
    operands=Subnormals.KEEP,
    accumulation=BINARY32,
)


BF16 = replace(IEEE_ANY, name="bf16", accumulation=BINARY32)


# CUDA with cuBLAS, cuDNN or kernels of its own, default compilation (no -use_fast_math), no
# Winograd and no Fourier transforms. Tensor cores of V100 to B200 align to 23 bits or more.
CUDA_FP32 = replace(
    IEEE_ANY,
    name="cuda-fp32",
    results=Subnormals.KEEP,
    operands=Subnormals.KEEP,
    functions=CUDA_FUNCTIONS,
)


CUDA_TF32 = replace(CUDA_FP32, name="cuda-tf32", order=AnyOrder(23), factor_format=TENSOR_FLOAT_32)


CUDA_FP16 = replace(CUDA_FP32, name="cuda-fp16", order=AnyOrder(23), accumulation=BINARY32)


PRESETS = {
    c.name: c
    for c in (
        IEEE_ANY,
        SEQUENTIAL,
        SEQUENTIAL_FMA,
        PAIRWISE,
        ORT_CPU,
        FP16,
        BF16,
        CUDA_FP32,
        CUDA_TF32,
        CUDA_FP16,
        EXACT,
    )
}
SCATTERING = {STOCHASTIC.name: STOCHASTIC}
"""Contracts of which no worst case is proved, but how far executions scatter."""
