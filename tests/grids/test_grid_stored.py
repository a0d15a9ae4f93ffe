"""What a contract does to stored numbers, of every operator that has some, and of what is computed
of them when a file is read."""

from __future__ import annotations

from collections.abc import Mapping

import grid_stored
import numpy as np
import pytest
from grid_cases import Made, made_of, sample
from grid_stored import CONTRACTS, apart, chain, stores_numbers
from grid_table import GRIDS

from encoders.arithmetic import handling
from encoders.ops.elementary import pow as power
from onnx_import.graph import as_written

TRIED, WANTED = 60, 2
X = {"x": [1.0, 1.5]}
ONE = {"x": [1.0]}
Q8 = np.array([127, -100], np.int8)
ZERO8 = np.int8(0)
CHAINS: Mapping[str, Made] = {
    "equal": chain("e = Equal(a, b); c = Cast(e) to=1; y = Mul(x, c)", ONE, a=[1.0], b=[1.00001]),
    "less": chain("e = Less(a, b); c = Cast(e) to=1; y = Mul(x, c)", ONE, a=[1.0], b=[1.00001]),
    "greater tiny": chain(
        "e = Greater(a, b); c = Cast(e) to=1; y = Mul(x, c)", ONE, a=[1e-9], b=[0.0]
    ),
    "greater subnormal": chain(
        "e = Greater(a, b); c = Cast(e) to=1; y = Mul(x, c)", ONE, a=[3e-5], b=[0.0]
    ),
    "less live": chain("e = Less(x, b); y = Cast(e) to=1", ONE, b=[1.00001]),
    "not": chain(
        "e = Less(a, b); n = Not(e); c = Cast(n) to=1; y = Mul(x, c)", ONE, a=[1.0], b=[1.00001]
    ),
    "to truth": chain("e = Cast(a) to=9; c = Cast(e) to=1; y = Mul(x, c)", ONE, a=[1e-9]),
    "to integers": chain("i = Cast(a) to=7; c = Cast(i) to=1; y = Mul(x, c)", X, a=[2049.0, 257.0]),
    "to half": chain("h = Cast(a) to=10; c = Cast(h) to=1; y = Mul(x, c)", X, a=[100.0, 2e-5]),
    "from half": chain("c = Cast(a) to=1; y = Mul(x, c)", X, a=np.array([3e-5, 1.001], np.float16)),
    "from integers": chain("c = Cast(a) to=1; y = Mul(x, c)", X, a=np.array([257, 2049])),
    "maximum": chain("m = Max(a, b); y = Mul(x, m)", X, a=[3e-5, 1.00001], b=[2e-5, 1.00002]),
    "largest": chain("m = ReduceMax(a); y = Mul(x, m)", X, a=[3e-5, 1.00001]),
    "which": chain(
        "t = Concat(x, b) axis=0; i = ArgMax(t) axis=0; y = Cast(i) to=1", ONE, b=[1.0001]
    ),
    "gather": chain(
        "i = Cast(a) to=7; y = Gather(x, i) axis=0", {"x": np.arange(300) / 256}, a=[257.0]
    ),
    "reshape": chain("i = Cast(a) to=7; y = Reshape(x, i)", {"x": np.ones((257, 2))}, a=[514.0]),
    "mask": chain(
        "m = Add(a, b); t = Add(x, m); y = Softmax(t)", X, a=[1.00001, 3e-5], b=[0.0, -np.inf]
    ),
    "large mask": chain("t = Add(x, m); y = Softmax(t)", X, m=[0.0, -1e9]),
    "range": chain("r = Range(a, b, c); y = Mul(x, r)", {"x": np.ones(300)}, a=0.0, b=300.0, c=1.0),
    "integer range": chain(
        "r = Range(a, b, c); f = Cast(r) to=1; y = Mul(x, f)",
        {"x": np.ones(300)},
        a=np.int64(0),
        b=np.int64(300),
        c=np.int64(1),
    ),
    "quantised": chain(
        "q = QuantizeLinear(a, s, z); w = DequantizeLinear(q, s, z); y = Mul(x, w)",
        X, a=[100.6, 97.0], s=0.999, z=ZERO8,
    ),
    "quantised by one": chain(
        "q = QuantizeLinear(a, s, z); w = DequantizeLinear(q, s, z); y = Mul(x, w)",
        X, a=[100.6, 0.5], s=1.0, z=ZERO8,
    ),
    "quantised quotient": chain(
        "q = QuantizeLinear(a, s, z); w = DequantizeLinear(q, s, z); y = Mul(x, w)",
        X, a=[12.5, 97.0], s=0.171875, z=ZERO8,
    ),
    "weights": chain("w = DequantizeLinear(q, s); y = Mul(x, w)", X, q=Q8, s=1 + 2**-11 - 2**-20),
    "tiny weights": chain("w = DequantizeLinear(q, s); y = Mul(x, w)", X, q=Q8, s=3e-8),
    "flushed weights": chain("w = DequantizeLinear(q, s); y = Mul(x, w)", X, q=Q8, s=3e-5),
    "large weights": chain("w = DequantizeLinear(q, s); y = Mul(x, w)", X, q=Q8, s=1000.0),
    "weights apart": chain(
        "w = DequantizeLinear(q, s, z); y = Mul(x, w)", X, q=Q8, s=0.125, z=np.int8(-100)
    ),
    "weights of a product": chain(
        "w = DequantizeLinear(q, s) axis=0; y = MatMul(x, w)",
        {"x": [[1.0, 1.5]]},
        q=np.array([[127, -100], [3, 77]], np.int8),
        s=[0.1003, 1.7001],
    ),
    "weights of a convolution": chain(
        "w = DequantizeLinear(q, s); y = Conv(x, w)",
        {"x": np.ones((1, 1, 3, 3))},
        q=np.array([127, -100, 3, 77], np.int8).reshape(1, 1, 2, 2),
        s=0.1003,
    ),
    "quantised at run time": chain(
        "q = QuantizeLinear(x, s, z); y = DequantizeLinear(q, s, z)", X, s=0.012345, z=np.int8(5)
    ),
    "quantised product": chain(
        "q = QuantizeLinear(x, s, z); o = QLinearMatMul(q, s, z, w, v, z, u, z);"
        "y = DequantizeLinear(o, u, z)",
        {"x": [[1.0, 1.5]]}, s=0.01567, v=0.01234, u=0.0523, z=ZERO8,
        w=np.array([[127, -100], [3, 77]], np.int8),
    ),
    "dynamic product": chain(
        "q, s, z = DynamicQuantizeLinear(x); i = MatMulInteger(q, w, z); c = Cast(i) to=1;"
        "t = Mul(s, v); y = Mul(c, t)",
        {"x": [[1.0, 1.5]]}, v=0.0123456, w=np.array([[127, -100], [3, 77]], np.int8),
    ),
    "power": chain("y = Pow(x, e)", {"x": [60.0, 0.5]}, e=1.9),
    "powers": chain("y = Pow(x, e)", {"x": [60.0, 0.5]}, e=[1.9, 2.7001]),
    "whole power": chain("y = Pow(x, e)", {"x": [1.5, -1.5]}, e=5.0),
    "nearly whole power": chain("y = Pow(x, e)", {"x": [1.5, 6.0]}, e=2.0001),
    "nearly no power": chain("y = Pow(x, e)", {"x": [1.5, 6.0]}, e=1e-9),
    "subnormal power": chain("y = Pow(x, e)", {"x": [1.5, 60.0]}, e=3e-5),
    "negative power": chain("y = Pow(x, e)", {"x": [1.5, 0.5]}, e=-2.2501),
    "scales": chain("y = Resize(x, , s)", {"x": np.ones((1, 5))}, s=np.array([1, 1.3], np.float32)),
    "hot": chain(
        "h = OneHot(i, d, v); y = Mul(x, h)",
        {"x": np.ones(300)},
        i=257.0,
        d=np.int64(300),
        v=[0.0, 1.0001],
    ),
    "hot at run time": chain("y = OneHot(x, d, v)", ONE, d=np.int64(3), v=[1.0004, 100.03]),
    "crossing bounds": chain("y = Clip(x, a, b)", {"x": [1.0, 2.0]}, a=1.0004, b=1.00049),
    "no lower bound": chain("y = Clip(x, , b)", {"x": [1.0, 2.0]}, b=1e9),
    "bounds": chain("y = Clip(x, a, b)", {"x": [1.0, 2.0]}, a=1.0004, b=1.00045),
    "variance": chain(
        "y = BatchNormalization(x, s, b, m, v)", {"x": [[1.0, 1.5]]},
        s=[1.0, 1.1], b=[0.1, 0.2], m=[0.3, 0.7], v=[1e-9, 0.3],
    ),
    "no variance": chain(
        "y = BatchNormalization(x, s, b, m, v) epsilon=0", {"x": [[1.0, 1.5]]},
        s=[1.0, 1.1], b=[0.1, 0.2], m=[0.3, 0.7], v=[1e-9, 3e-5],
    ),
    "quantised by next to nothing": chain(
        "q = QuantizeLinear(x, s, z); y = Cast(q) to=1", {"x": [2e-9, 1e-5]}, s=1e-9, z=ZERO8
    ),
    "divided by next to nothing": chain("y = Div(x, a)", X, a=[1e-9, 3e-5]),
    "filled": chain("c = Expand(a, s); y = Mul(x, c)", X, a=100.03, s=np.array([2])),
}  # fmt: skip


def stored_cases(op: str) -> list[Made]:
    """Models of the operator with stored numbers."""
    made = (made_of(case) for case in sample(op, GRIDS[op], TRIED, 0))
    return [m for m in made if stores_numbers(m.model)]


@pytest.mark.parametrize("op", sorted(GRIDS))
def test_bounds_cover_what_becomes_of_stored_numbers(op: str) -> None:
    for k, made in enumerate(stored_cases(op)[:WANTED]):
        for contract in CONTRACTS[k::WANTED]:
            assert not apart(made, contract), contract.name


@pytest.mark.parametrize("name", CHAINS)
def test_bounds_cover_what_is_computed_of_stored_numbers(name: str) -> None:
    for contract in CONTRACTS:
        assert not apart(CHAINS[name], contract), contract.name


def _wrong(*names: str) -> bool:
    return all(any(apart(CHAINS[n], c) for c in CONTRACTS) for n in names)


def test_a_fold_of_numbers_as_they_are_written_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid_stored, "handling_of", lambda contract: as_written)
    monkeypatch.setattr(handling, "objection", lambda contract, need: "")
    assert _wrong("equal", "not", "gather", "quantised", "weights", "scales")


def test_an_exponent_that_is_not_rounded_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "_as_read", lambda site, contract: (power._exponent(site),))
    assert _wrong("power", "whole power", "subnormal power")
