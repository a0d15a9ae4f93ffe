"""Normalisations of rows that a file spells out in nodes, and operators bounded as such nodes."""

from __future__ import annotations

from pathlib import Path

import flint
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from small_models import save

from encoders.contract.presets import IEEE_ANY
from encoders.numbers.enclosure import FloatArray, Interval
from encoders.program import program_of
from onnx_import import load
from onnx_import.graph import Graph
from refine.bounds.joint.joining import as_it_is
from refine.bounds.joint.rows import rows_of
from refine.bounds.network import InputBox, NetworkBounds, network_bounds

EPSILON = np.float32(1e-5)


def _centred(x: str, tag: str, *, power: bool = True, divided: bool = True) -> list[onnx.NodeProto]:
    """(x − μ)/√(mean((x − μ)²) + ε) as PyTorch writes it, or by a product and a reciprocal."""
    nodes = [_mean(x, f"m{tag}"), _node("Sub", f"c{tag}", x, f"m{tag}")]
    return nodes + _over_norm(f"c{tag}", tag, power=power, divided=divided)


def _over_norm(
    c: str, tag: str, *, power: bool = True, divided: bool = True
) -> list[onnx.NodeProto]:
    square = _node("Pow", f"q{tag}", c, "two") if power else _node("Mul", f"q{tag}", c, c)
    nodes = [
        square,
        _mean(f"q{tag}", f"v{tag}"),
        _node("Add", f"e{tag}", f"v{tag}", "epsilon"),
        _node("Sqrt", f"s{tag}", f"e{tag}"),
    ]
    if divided:
        return [*nodes, _node("Div", f"z{tag}", c, f"s{tag}")]
    return [
        *nodes,
        _node("Reciprocal", f"r{tag}", f"s{tag}"),
        _node("Mul", f"z{tag}", c, f"r{tag}"),
    ]


def _node(op: str, made: str, *read: str) -> onnx.NodeProto:
    return helper.make_node(op, list(read), [made], name=made)


def _mean(x: str, made: str) -> onnx.NodeProto:
    return helper.make_node("ReduceMean", [x, "axes"], [made], name=made, keepdims=1)


_STORED = {
    "two": np.float32(2.0),
    "epsilon": EPSILON,
    "axes": np.array([-1], np.int64),
}
ROWS = {
    "layer": lambda x, tag: _centred(x, tag),
    "layer by products": lambda x, tag: _centred(x, tag, power=False, divided=False),
    "rms": lambda x, tag: _over_norm(x, tag),
    "rms by products": lambda x, tag: _over_norm(x, tag, power=False, divided=False),
}
ALONE = {"layer": "LayerNormalization", "rms": "RMSNormalization"}
every_form = pytest.mark.parametrize("form", ROWS)


def _network(path: Path, form: str, *, alone: bool = False) -> Graph:
    """Two blocks x + W·relu(V·norm(x)) of rows of 12 numbers, and a last product."""
    rng = np.random.default_rng(4)
    weights: dict[str, FloatArray] = {} if alone else dict(_STORED)  # type: ignore[arg-type]
    weights["ones"] = np.ones(12, np.float32)
    nodes: list[onnx.NodeProto] = []
    x = "x"
    for i in range(2):
        weights[f"V{i}"] = (rng.standard_normal((12, 20)) / 3).astype(np.float32)
        weights[f"W{i}"] = (rng.standard_normal((20, 12)) / 5).astype(np.float32)
        if alone:
            norm = helper.make_node(
                ALONE[form], [x, "ones"], [f"z{i}"], name=f"z{i}", epsilon=float(EPSILON)
            )
            nodes.append(norm)
        else:
            nodes += ROWS[form](x, str(i))
        nodes += [
            _node("MatMul", f"a{i}", f"z{i}", f"V{i}"),
            _node("Relu", f"b{i}", f"a{i}"),
            _node("MatMul", f"d{i}", f"b{i}", f"W{i}"),
            _node("Add", f"x{i}", x, f"d{i}"),
        ]
        x = f"x{i}"
    weights["U"] = (rng.standard_normal((12, 3)) / 3).astype(np.float32)
    nodes.append(_node("MatMul", "y", x, "U"))
    used = {t for n in nodes for t in n.input}
    held = {t: w for t, w in weights.items() if t in used}
    save(path, nodes, {"x": [3, 12]}, {"y": [3, 3]}, held, opset=23)
    return load(path)


def _middle() -> FloatArray:
    return np.random.default_rng(5).standard_normal((3, 12)).astype(np.float32).astype(np.float64)


def _bounds(graph: Graph, width: float, *, together: bool = True) -> NetworkBounds:
    x = Interval(_middle() - width, _middle() + width)
    box = InputBox({"x": x}, {"x": np.zeros((3, 12))})
    runner = as_it_is(graph, IEEE_ANY) if together else None
    return network_bounds(graph, box, IEEE_ANY, together=runner)


@every_form
def test_nodes_are_seen_to_normalise(tmp_path: Path, form: str) -> None:
    found = rows_of(program_of(_network(tmp_path / "m.onnx", form)))
    assert list(found) == ["z0", "z1"]
    ((first,), _) = found.values()
    assert first.axes == (1,)
    assert first.centred is form.startswith("layer")
    assert first.epsilon == float(EPSILON)


@pytest.mark.parametrize("slip", ["turned", "squares of x", "other mean", "sum", "other axis"])
def test_what_is_nearly_a_normalisation_is_none(tmp_path: Path, slip: str) -> None:
    nodes = _centred("x", "")
    stored = dict(_STORED)
    if slip == "turned":  # −(x − μ)
        nodes[1].input[:] = ["m", "x"]
    elif slip == "squares of x":
        nodes[2].input[:] = ["x", "two"]
    elif slip == "other mean":
        nodes[1].input[:] = ["x", "v"]
        nodes[2].input[:] = ["x", "two"]
        nodes = [nodes[2], nodes[3], nodes[1], *nodes[4:]]
    elif slip == "sum":
        nodes[3].op_type = "ReduceSum"
    else:
        nodes[3] = helper.make_node("ReduceMean", ["q", "first"], ["v"], name="v", keepdims=1)
        stored["first"] = np.array([0], np.int64)
    used = {t for n in nodes for t in n.input}
    held = {t: w for t, w in stored.items() if t in used}
    path = save(tmp_path / "m.onnx", nodes, {"x": [8, 8]}, {"z": [8, 8]}, held, opset=23)
    found = rows_of(program_of(load(path))).values()
    assert all(rows.source != "x" for each in found for rows in each)


def _exact(graph: Graph, x: FloatArray, form: str) -> list[list[flint.arb]]:
    """The network over balls, written anew."""
    w = {t: np.asarray(v, np.float64) for t, v in graph.constants.items()}
    made = []
    for row in x.tolist():
        h = [flint.arb(v) for v in row]
        for i in range(2):
            mean = sum(h, flint.arb(0)) / 12 if form.startswith("layer") else flint.arb(0)
            c = [v - mean for v in h]
            root = (sum((v * v for v in c), flint.arb(0)) / 12 + float(EPSILON)).sqrt()
            a = _times([v / root for v in c], w[f"V{i}"])
            d = _times([v.max(flint.arb(0)) for v in a], w[f"W{i}"])
            h = [u + v for u, v in zip(h, d, strict=True)]
        made.append(_times(h, w["U"]))
    return made


def _times(x: list[flint.arb], w: FloatArray) -> list[flint.arb]:
    return [
        sum((v * flint.arb(float(w[i, j])) for i, v in enumerate(x)), flint.arb(0))
        for j in range(w.shape[1])
    ]


@pytest.mark.parametrize("alone", [False, True])
@every_form
def test_runs_stay_within_the_bound(tmp_path: Path, form: str, alone: bool) -> None:
    """Of onnxruntime, in balls of three widths, in the middle and at corners."""
    if alone and form not in ALONE:
        pytest.skip("the operator is tried once")
    path = tmp_path / "m.onnx"
    graph = _network(path, form, alone=alone)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(6)
    for width in (0.01, 0.1, 0.4):
        bounds = _bounds(graph, width)
        limit, range_ = bounds.radii["y"].bound, bounds.maps.values["y"]
        for _ in range(4):
            move = np.sign(rng.standard_normal((3, 12))) * rng.choice([0.5, 0.999])
            x = (_middle() + width * move).astype(np.float32)
            made = np.asarray(session.run(None, {"x": x})[0], np.float64)
            with flint.ctx.workprec(160):
                exact = _exact(graph, x.astype(np.float64), form)
                for i, row in enumerate(exact):
                    for j, y in enumerate(row):
                        assert float(abs(flint.arb(made[i, j]) - y).lower()) <= limit[i, j]
                        assert not y < flint.arb(range_.lo[i, j])
                        assert not y > flint.arb(range_.hi[i, j])


@pytest.mark.parametrize("form", ALONE)
def test_nodes_and_operator_are_bounded_alike(tmp_path: Path, form: str) -> None:
    """In wide balls nodes take what the operator knows, in narrow ones it what they know."""
    nodes = _network(tmp_path / "nodes.onnx", form)
    alone = _network(tmp_path / "alone.onnx", form, alone=True)
    for width in (0.01, 0.1, 0.4):
        spelled, one = _bounds(nodes, width).largest, _bounds(alone, width).largest
        assert max(spelled, one) <= 4.0 * min(spelled, one)
        apart = min(_bounds(g, width, together=False).largest for g in (nodes, alone))
        assert min(spelled, one) <= 1.2 * apart
    assert spelled <= 0.5 * _bounds(nodes, 0.4, together=False).largest


def test_costs_are_those_of_nodes_of_the_file(tmp_path: Path) -> None:
    graph = _network(tmp_path / "m.onnx", "layer", alone=True)
    bounds = _bounds(graph, 0.01)
    names = {step.name for step in program_of(graph).steps}
    assert set(bounds.costs) <= {*names, *graph.inputs}
    assert [b.step.name for b in bounds.nodes] == [s.name for s in program_of(graph).steps]


@pytest.mark.parametrize("shape", [(1, 4, 4, 4), (1, 4, 2, 4), (1, 3, 1, 1), (2, 3, 1, 3)])
def test_channels_that_are_as_many_as_columns_are_no_columns(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    """A scale for each channel, which would broadcast along columns, is none for each of these."""
    ones = np.ones(shape[1], np.float32)
    node = helper.make_node("InstanceNormalization", ["x", "s", "b"], ["y"], name="y")
    kinds = {"x": list(shape)}, {"y": list(shape)}
    graph = load(save(tmp_path / "m.onnx", [node], *kinds, {"s": ones, "b": ones}, opset=22))
    middle = np.random.default_rng(0).standard_normal(shape)
    box = InputBox({"x": Interval(middle - 0.1, middle + 0.1)}, {"x": np.zeros(shape)})
    together = network_bounds(graph, box, IEEE_ANY, together=as_it_is(graph, IEEE_ANY))
    assert together.largest <= network_bounds(graph, box, IEEE_ANY).largest
