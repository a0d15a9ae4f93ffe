"""What operators say of themselves beside their semantics, held against these in exact rationals.

A false word here would make two different functions equal, and a difference of them proved.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import flint
import numpy as np
import pytest
from operator_checks import example, graph_of

from encoders.arithmetic.exact_fields import ObjectArray, Rationals, object_array
from encoders.arithmetic.values import Inputs
from encoders.functions.accuracy import Transcendental
from encoders.operator import Operator, Site
from encoders.program import Step, program_of
from encoders.registry import operators
from encoders.traits import NOWHERE, UNLIKE, Commuting
from examples import every_example
from gpu_check.emulator.terms import NoTerms, terms_of
from onnx_import.errors import UnsupportedModel
from onnx_import.graph import DType

FIELD = Rationals()
ZERO = object_array([flint.fmpq(0)], (1,))  # what padding reads
KNOWN = [
    name
    for name, o in operators().items()
    if replace(o.likeness, by_version=False) != UNLIKE or o.sums is not None
]


NOTHING_PADDED = example("Pad", "x p", (2, 3), constants={"p": np.zeros(4, np.int64)})


def steps(name: str) -> Iterator[Step]:
    more = [NOTHING_PADDED] if name == "Pad" else []
    for case in (*more, *every_example()[name][:8]):
        with suppress(UnsupportedModel, ValueError):
            yield from (s for s in program_of(graph_of(case)[0]).steps if s.operator.name == name)


def random_numbers(shape: tuple[int, ...], seed: int) -> ObjectArray:
    rng = np.random.default_rng(seed)
    size = int(np.prod(shape, dtype=np.int64))
    return object_array([flint.fmpq(int(n), 7) for n in rng.integers(-20, 21, size)], (1, *shape))


def given(site: Site, seed: int = 0) -> list[ObjectArray | None]:
    """Random numbers where inputs vary, the stored ones elsewhere."""
    made = (random_numbers(site.type_of(i).shape, seed + i) for i in site.variable)
    return list(site.arguments(made, lambda stored, _: FIELD.constant(stored)).given)


def real(operator: Operator, site: Site, inputs: list[ObjectArray | None]) -> ObjectArray:
    with FIELD.working():
        (out,) = operator.real(site, Inputs(inputs), FIELD)
    return np.asarray(out, dtype=object)


def same(a: Any, b: Any) -> bool:
    a, b = np.broadcast_arrays(np.asarray(a, object), np.asarray(b, object))
    return bool(np.all(a == b))


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_said_is_so(name: str) -> None:
    held = 0
    for step in steps(name):
        site, operator = step.site, step.operator
        kinds = [t.dtype for t in (*filter(None, site.inputs[:1]), *site.outputs)]
        whole = operator.likeness.lower is not None or operator.likeness.chooses
        if not all(kind.is_float or (whole and kind is DType.BOOL) for kind in kinds):
            continue
        inputs = given(site)
        try:
            out = real(operator, site, inputs)
        except Transcendental:
            continue
        held += _likeness(operator, site, inputs, out) + _sums(step, inputs, out)
    roots = operators()[name].likeness.channels is not None  # an irrational scale: below
    assert held or roots, "no example of it says anything"


def _likeness(
    operator: Operator, site: Site, inputs: list[ObjectArray | None], out: ObjectArray
) -> int:
    like, held = operator.likeness, 0
    x = inputs[0]
    assert x is not None
    if like.reshapes or like.copies(site):
        assert same(out.reshape(-1), x.reshape(-1))
        assert like.reshapes or out.shape == x.shape
        held += 1
    if like.commuting is not None:
        a, b = (v[0] for v in inputs if v is not None)
        assert same(out[0], a + b if like.commuting is Commuting.SUM else a * b)
        held += 1
    if (product := like.product(site)) is not None:
        total = np.matmul(x, FIELD.constant(product.matrix)[0])
        bias = None if product.bias is None else inputs[product.bias]
        assert same(out, total if bias is None else total + bias)
        held += 1
    constants = [i for i, c in enumerate(site.constants) if c is not None]
    if like.linear_in_constants and constants and len(site.variable) == 1:
        others = [
            [random_numbers(site.type_of(i).shape, s) if i in constants else v
             for i, v in enumerate(inputs)]
            for s in (5, 9)
        ]  # fmt: skip
        both = [
            a + b if i in constants and a is not None and b is not None else a
            for i, (a, b) in enumerate(zip(*others, strict=True))
        ]
        first, second = (real(operator, site, v) for v in others)
        assert same(real(operator, site, both), first + second)
        held += 1
    if like.per_weight is not None and 1 in constants and site.variable == (0,):
        channels = out.shape[2]
        scale = np.arange(1.0, channels + 1)
        spread = FIELD.constant(like.per_weight(site, scale))[0]
        weighted = list(inputs)
        weighted[2:] = [None] * len(weighted[2:])
        plain = real(operator, site, weighted)
        weighted[1] = inputs[1] * spread
        shape = (1, 1, channels, *(1,) * (out.ndim - 3))
        assert same(real(operator, site, weighted), plain * FIELD.constant(scale).reshape(shape))
        held += 1
    if (limits := like.limits(site)) is not None:
        low, high = (None if np.isinf(v) else flint.fmpq(*v.as_integer_ratio()) for v in limits)
        kept = [v if low is None or v > low else low for v in x.reshape(-1)]
        kept = [v if high is None or v < high else high for v in kept]
        assert same(out.reshape(-1), np.array(kept, dtype=object))
        held += 1
    if like.selects:
        assert {str(v) for v in out.reshape(-1)} <= {str(v) for v in x.reshape(-1)}
        moved = [v * 3 + 7 for v in x.reshape(-1)]
        other = np.array(moved, dtype=object).reshape(x.shape)
        assert same(real(operator, site, [other, *inputs[1:]]), out * 3 + 7)
        held += 1
    if like.lower is not None:
        assert same(real(operator, site, _moved(inputs, like.lower, -100)), 1)
        assert same(real(operator, site, _moved(inputs, like.lower, 100)), 0)
        held += 1
    held += _reduces(operator, site, inputs, out)
    if (order := like.turned(site)) is not None:
        assert same(out, np.transpose(x, (0, *(a + 1 for a in order))))
        held += 1
    if like.chooses:
        for chosen in (0, 1):
            condition = np.full(x.shape, flint.fmpq(chosen), dtype=object)
            found = real(operator, site, [condition, *inputs[1:]])
            wanted = inputs[2 - chosen]
            assert wanted is not None
            assert same(found, np.broadcast_to(wanted, found.shape))
        held += 1
    return held


def _reduces(
    operator: Operator, site: Site, inputs: list[ObjectArray | None], out: ObjectArray
) -> int:
    """One result for each place along the axes that are left, whatever the order along others."""
    axes, x = operator.likeness.reduced(site), inputs[0]
    if axes is None or x is None:
        return 0
    assert len(set(axes)) == len(axes)
    turned = np.flip(x, tuple(a + 1 for a in axes))
    assert same(real(operator, site, [turned, *inputs[1:]]), out)
    whole = [1 if i in axes else n for i, n in enumerate(x.shape[1:])]
    assert out.size == np.prod(whole, dtype=int)
    for a in set(range(x.ndim - 1)) - set(axes):
        other = real(operator, site, [np.flip(x, a + 1), *inputs[1:]])
        before, after = (v.reshape(x.shape[0], *whole) for v in (out, other))
        assert same(after, np.flip(before, a + 1))
    return 1


def _moved(inputs: list[ObjectArray | None], position: int, by: int) -> list[ObjectArray | None]:
    return [v + by if i == position and v is not None else v for i, v in enumerate(inputs)]


def _sums(step: Step, inputs: list[ObjectArray | None], out: ObjectArray) -> int:
    sums, site = step.operator.sums, step.site
    if sums is None:
        return 0
    extent = sums.extent(site)
    assert out.size % max(extent.rows * extent.columns, 1) == 0
    x = inputs[0]
    assert x is not None
    if sums.summands is not None:
        index = sums.summands(site)
        assert len(index) == extent.terms
        total = x.reshape(-1)[index].sum(axis=0)
        assert same(out[0], total / flint.fmpq(extent.terms) if sums.mean else total)
    elif sums.products:
        try:
            terms = terms_of(step)
        except NoTerms:  # scaled
            return 1
        flat = []
        for factor in (0, 1):
            v = inputs[factor]
            assert v is not None
            flat.append(np.concatenate([v.reshape(-1), ZERO]))
        a, b = (v[r] for v, r in zip(flat, terms.reads, strict=True))
        assert len(a) == extent.terms
        total = (a * b).sum(axis=0).reshape(site.outputs[0].shape)
        bias = None if terms.bias is None else inputs[terms.bias]
        if bias is not None:
            axes = (1,) * (total.ndim - 2) if sums.weights_left else ()
            total = total + bias[0].reshape(*bias.shape[1:], *axes)
        assert same(out[0], total)
    return 1


def test_what_a_normalization_does_to_channels() -> None:
    (name,) = (n for n, o in operators().items() if o.likeness.channels is not None)
    for step in steps(name):
        channels, site = step.operator.likeness.channels, step.site
        assert channels is not None
        found = channels(site)
        gamma, beta, mean, variance = (np.asarray(c, np.float64) for c in site.constants[1:5])
        scale = gamma / np.sqrt(variance + site.real("epsilon", 1e-5))
        assert np.allclose(found.scale, scale, rtol=1e-14)
        assert np.all(np.abs(found.shift - (beta - mean * scale)) <= found.shift_error + 1e-300)


def test_an_operator_that_says_nothing_is_like_no_other() -> None:
    site = next(steps("Add")).site
    assert not any((UNLIKE.reshapes, UNLIKE.copies(site), UNLIKE.linear_in_constants))
    said = (UNLIKE.commuting, UNLIKE.product(site), UNLIKE.per_weight, UNLIKE.channels)
    assert all(word is None for word in said)
    assert not UNLIKE.implied
    assert all(place is None for place in (NOWHERE.vanishing, NOWHERE.growing, NOWHERE.turning))


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose", "Gemm"])
def test_a_bias_that_is_left_out_by_an_empty_name(op: str) -> None:
    """The node has three inputs, the last of them omitted."""
    shape, weights = ((2, 3), (3, 2)) if op == "Gemm" else ((1, 1, 4, 4), (1, 1, 2, 2))
    case = example(op, "x w -", shape, constants={"w": np.ones(weights)})
    (step,) = program_of(graph_of(case)[0]).steps
    inputs = given(step.site)
    out = real(step.operator, step.site, inputs)
    assert same(out, real(step.operator, step.site, inputs[:2]))


AFFINE = [n for n, o in operators().items() if o.affine and n != "Not"]


@pytest.mark.parametrize("name", AFFINE)
def test_what_is_said_to_be_affine_moves_by_as_much_everywhere(name: str) -> None:
    """f(x + d) − f(x) is the same of any x. Not takes truth values."""
    for step in steps(name):
        if not step.affine or not step.site.variable:
            continue
        starts = [given(step.site, seed) for seed in (0, 50)]
        moved = [
            [
                a
                if i not in step.site.variable
                else a + 2 * random_numbers(step.site.type_of(i).shape, 9)
                for i, a in enumerate(start)
            ]
            for start in starts
        ]
        with suppress(Transcendental):
            changes = [
                real(step.operator, step.site, there) - real(step.operator, step.site, here)
                for here, there in zip(starts, moved, strict=True)
            ]
            assert np.array_equal(*changes), step.site.node.describe()
