"""Whole networks on the kernels of schedules.cu: their matrix products there, the rest here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from encoders.contract.contract import RuntimeContract, ScheduleRule
from encoders.contract.presets import SEQUENTIAL
from encoders.operator import Site
from encoders.program import Step, forward, program_of
from encoders.scheduling import reduction_at
from gpu_check.cuda.kernels import DotKernels, FloatArray, Schedule
from gpu_check.emulator.emulator import emulate_step
from gpu_check.emulator.terms import terms_of
from onnx_import.graph import Array, Graph


def contract_of(graph: Graph, schedule: Schedule) -> RuntimeContract:
    """What `run_graph` does, as a contract: a rule for each length of its sums."""
    products = [s for s in program_of(graph).steps if _has_products(s)]
    lengths = {terms for step in products if (terms := reduction_at(step.site).terms)}
    names = dict.fromkeys(step.node.op for step in products)
    rules = (
        ScheduleRule(schedule.contract(terms).schedule, operator=op, terms=terms)
        for terms in sorted(lengths)
        for op in names
    )
    return replace(SEQUENTIAL, name=f"cuda-{schedule.value}", rules=tuple(rules))


def run_graph(
    graph: Graph, inputs: Mapping[str, Array], kernels: DotKernels, schedule: Schedule
) -> Mapping[str, Array]:
    """The outputs for inputs of shape (samples, *tensor shape), in float32.

    Biases are added last; operators without products are emulated. Raises NoTerms for a product
    that is more than sums of products and a bias.
    """

    def run(step: Step, values: Mapping[str, Array]) -> Sequence[Array]:
        if _has_products(step):
            return (_product(step, values, kernels, schedule),)
        return emulate_step(step, values, SEQUENTIAL)

    values = forward(program_of(graph), inputs, run)
    return {t: values[t] for t in graph.outputs}


def _has_products(step: Step) -> bool:
    return step.operator.sums is not None and step.operator.sums.products


def _product(
    step: Step, values: Mapping[str, Array], kernels: DotKernels, schedule: Schedule
) -> Array:
    site, sums = step.site, step.operator.sums
    found, place = terms_of(step), reduction_at(site)
    assert sums is not None
    assert place.rows is not None
    assert place.columns is not None
    left, right = (1, 0) if sums.weights_left else (0, 1)
    shape = (-1, place.rows, place.columns)
    rows, columns = (
        found.reads[i].reshape(len(found.reads[i]), *shape) for i in (left, right)
    )  # of each term: a block of results, its row, its column
    a = _numbers(site, values, left)[:, rows[..., 0].transpose(1, 2, 0)]
    b = _numbers(site, values, right)[:, columns[:, :, 0].swapaxes(0, 1)]
    blocks = [_dots(kernels, schedule, a[:, i], b[:, i]) for i in range(a.shape[1])]
    total = np.stack(blocks, axis=1)
    total = total.reshape(len(total), *site.outputs[0].shape)
    if found.bias is None:
        return total
    bias = _held(site, values, found.bias)
    if sums.weights_left:  # a number for each row
        bias = bias.reshape(len(bias), -1, *(1,) * (total.ndim - 3))
    total += bias
    return total


def _dots(kernels: DotKernels, schedule: Schedule, a: FloatArray, b: FloatArray) -> FloatArray:
    """a (samples, rows, terms) times b (samples, terms, columns); either may have one sample."""
    (_, rows, terms), columns = a.shape, b.shape[2]
    if len(b) == 1:
        return kernels.dot(schedule, a.reshape(-1, terms), b[0]).reshape(-1, rows, columns)
    if len(a) == 1:
        beside = b.swapaxes(0, 1).reshape(terms, -1)
        found = kernels.dot(schedule, a[0], beside).reshape(rows, -1, columns)
        return found.swapaxes(0, 1)
    return np.stack([kernels.dot(schedule, x, z) for x, z in zip(a, b, strict=True)])


def _held(site: Site, values: Mapping[str, Array], position: int) -> FloatArray:
    """An input of the node, of shape (samples or 1, *its own)."""
    constant = site.constants[position]
    held = values[site.node.inputs[position]] if constant is None else np.asarray(constant)[None]
    return held.astype(np.float32)


def _numbers(site: Site, values: Mapping[str, Array], position: int) -> FloatArray:
    """The numbers of a factor, flat, with the zero that padding reads at the end (−1)."""
    held = _held(site, values, position)
    flat = held.reshape(len(held), -1)
    return np.concatenate([flat, np.zeros((len(flat), 1), np.float32)], axis=1)
