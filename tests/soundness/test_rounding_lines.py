"""Lines over rounding errors: exact executions of sums at random inputs, none beyond its line."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction as Q

import numpy as np
import pytest
from text_networks import network, node

from encoders.contract.contract import BiasPlacement, Contraction, RuntimeContract
from encoders.contract.presets import IEEE_ANY, SEQUENTIAL_FMA
from encoders.numbers.enclosure import FloatArray, Interval
from encoders.rounding.lines import RoundingLines
from onnx_import.graph import Graph
from refine.bounds.alpha import Branching
from refine.bounds.local.loud import lines_of
from refine.bounds.network import InputBox, network_bounds

BITS, LEAST = 24, Q(1, 2**126)


def nearest(z: Q) -> Q:
    """To binary32, ties to even; nothing here overflows."""
    power = LEAST
    size = abs(z)
    if size >= LEAST:
        k = size.numerator.bit_length() - size.denominator.bit_length()
        power = Q(2) ** k
        power = power / 2 if power > size else power
    ulp: Q = power / 2 ** (BITS - 1)
    return Q(round(z / ulp)) * ulp


def chain(terms: list[tuple[Q, Q]], bias: Q, contract: RuntimeContract) -> Q:
    """The sum from first to last, as the contract has it."""
    first = contract.bias is BiasPlacement.FIRST
    total = bias if first else Q(0)
    for i, (w, x) in enumerate(terms):
        fused = contract.contraction is Contraction.ALWAYS
        term = w * x if fused else nearest(w * x)
        total = nearest(term) if i == 0 and not first else nearest(total + term)
    return total if first else nearest(total + bias)


def tree(terms: list[tuple[Q, Q]], bias: Q, draw: random.Random) -> Q:
    """The sum in some order, every product rounded or added as it is."""
    left = [(nearest(w * x), w * x) for w, x in terms]
    left.append((bias, bias))
    while len(left) > 1:
        a = left.pop(draw.randrange(len(left)))
        b = left.pop(draw.randrange(len(left)))
        part = b[1] if draw.random() < 0.5 else b[0]
        total = nearest(a[0] + part)
        left.append((total, total))
    return left[0][0]


def summing(weights: FloatArray, bias: FloatArray, relu: bool) -> Graph:
    nodes = [node("Relu", "x", "h")] if relu else []
    nodes.append(node("Gemm", "h w b" if relu else "x w b", "y"))
    return network(nodes, {"x": (1, len(weights))}, {"w": weights, "b": bias})


USED = range(6)  # where lines are better than what is known somewhere
CHAINS = tuple(
    replace(SEQUENTIAL_FMA, contraction=c, bias=b)
    for c in (Contraction.ALWAYS, Contraction.NEVER)
    for b in (BiasPlacement.FIRST, BiasPlacement.LAST)
)


@pytest.mark.parametrize("contract", [*CHAINS, IEEE_ANY], ids=lambda c: f"{c.order} {c.bias}")
@pytest.mark.parametrize("seed", range(6))
def test_no_sum_errs_by_more_than_its_line_at_its_input(
    contract: RuntimeContract, seed: int
) -> None:
    rng, draw = np.random.default_rng(seed), random.Random(seed)
    n, m = int(rng.integers(4, 24)), 4
    weights = (rng.normal(size=(n, m)) * rng.choice([1.0, 8.0, 0.0], size=(n, m))).astype(
        np.float32
    )
    bias = (rng.normal(size=m) * rng.choice([0.0, 1.0, 16.0])).astype(np.float32)
    net = summing(weights, bias, relu=seed % 2 == 1)
    centre = rng.normal(size=(1, n)) + rng.choice([0.0, 1.0])
    wide = rng.choice([0.05, 0.5, 2.0]) * rng.random((1, n))
    box = InputBox({"x": Interval(centre - wide, centre + wide)}, {"x": np.zeros((1, n))})
    found = network_bounds(net, box, contract)
    maps, step = found.maps, found.maps.program.steps[-1]
    used = 0
    for at in (0.5, 0.0, 1.0):
        x = box.values["x"]
        lines = lines_of(maps, step, contract, {"x": (x.lo + at * (x.hi - x.lo))[None]})
        if lines is None:
            continue
        used += 1
        for _ in range(12):
            share = rng.random((1, n)) if draw.random() < 0.5 else rng.integers(0, 2, size=(1, n))
            point = (x.lo + share * (x.hi - x.lo)).astype(np.float32)
            point = np.where((point >= x.lo) & (point <= x.hi), point, np.float32(centre))[0]
            inside = (point >= x.lo[0]) & (point <= x.hi[0])
            if not np.all(inside):
                continue
            read = np.maximum(point, 0) if seed % 2 == 1 else point
            _compare(lines, weights, bias, read, contract, draw)
    assert used or seed not in USED


def _compare(
    lines: RoundingLines,
    weights: FloatArray,
    bias: FloatArray,
    read: FloatArray,
    contract: RuntimeContract,
    draw: random.Random,
) -> None:
    for i in range(weights.shape[1]):
        terms = [(Q(float(w)), Q(float(v))) for w, v in zip(weights[:, i], read, strict=True)]
        b = Q(float(bias[i]))
        exact = sum((w * v for w, v in terms), b)
        computed = tree(terms, b, draw) if contract is IEEE_ANY else chain(terms, b, contract)
        line = Q(float(lines.above.bound.reshape(-1)[i])) + Q(float(lines.beside[i]))
        line += sum(
            (Q(float(a)) * v for a, (_, v) in zip(lines.slopes[i], terms, strict=True)), Q(0)
        )
        assert abs(computed - exact) <= line


def test_lines_touch_what_roundings_cost_at_their_point() -> None:
    """The bound of an output is lower with them, where half an ulp at the largest partial sums is
    paid by inputs that do not have these."""
    w = np.random.default_rng(3).random((64, 1)).astype(np.float32) + np.float32(0.5)
    shifted = np.array([0.0, 2.5 * w.sum()], np.float32)
    nodes = [node("Gemm", "x w b", "h"), node("Relu", "h", "r"), node("MatMul", "r v", "y")]
    stored = {"w": np.concatenate([w, -w], axis=1), "b": shifted, "v": np.ones((2, 1))}
    net = network(nodes, {"x": (1, 64)}, stored)
    x = Interval(np.full((1, 64), 0.5), np.full((1, 64), 2.0))
    box = InputBox({"x": x}, {"x": np.zeros((1, 64))})
    plain = network_bounds(net, box, SEQUENTIAL_FMA)
    lined = network_bounds(net, box, SEQUENTIAL_FMA, branching=Branching(steps=4))
    assert lined.largest < 0.995 * plain.largest


def half_ulp(x: FloatArray) -> FloatArray:
    size = np.maximum(np.abs(x), 2.0**-126)
    return np.where(x == 0, 0.0, 2.0 ** (np.floor(np.log2(size)) - BITS))


@pytest.mark.parametrize("contract", [SEQUENTIAL_FMA, IEEE_ANY], ids=lambda c: c.name)
def test_lines_are_what_half_an_ulp_of_partial_sums_comes_to(contract: RuntimeContract) -> None:
    """At every input they are no less than that, and somewhere no more."""
    rng, least = np.random.default_rng(1), np.inf
    for _ in range(40):
        n = int(rng.integers(2, 12))
        weights = (rng.normal(size=(n, 3)) * rng.choice([1, 4], size=(n, 3))).astype(np.float32)
        bias = (rng.normal(size=3) * rng.choice([0.25, 4.0])).astype(np.float32)
        centre, wide = rng.normal(size=(1, n)), rng.random((1, n)) * rng.choice([0.05, 0.3, 1.0])
        lo, hi = centre - wide, centre + wide
        box = InputBox({"x": Interval(lo, hi)}, {"x": np.zeros((1, n))})
        maps = network_bounds(summing(weights, bias, relu=False), box, contract).maps
        at = {"x": (lo + rng.random((1, n)) * (hi - lo))[None]}
        lines = lines_of(maps, maps.program.steps[-1], contract, at)
        if lines is None:
            continue
        share = np.concatenate([rng.random((100, n)), rng.integers(0, 2, size=(100, n))])
        points = lo + share * (hi - lo)
        line = lines.above.bound.reshape(-1) + lines.beside + points @ lines.slopes.T
        terms = points[:, :, None] * weights.astype(np.float64)
        if contract is IEEE_ANY:
            above = np.maximum(terms, 0.0).sum(axis=1) + np.maximum(bias, 0.0)
            below = np.maximum(-terms, 0.0).sum(axis=1) + np.maximum(-bias, 0.0)
            cost = n * half_ulp(np.maximum(above, below)) + half_ulp(terms).sum(axis=1)
        else:
            sums = np.cumsum(terms, axis=1)
            cost = half_ulp(sums).sum(axis=1) + half_ulp(sums[:, -1] + bias)
        assert np.all(line >= cost * (1.0 - 1e-12))
        least = min(least, float(np.min(line / cost)))
    assert least < 1.01
