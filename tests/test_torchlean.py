"""The TorchLean reader against numpy: both dialects, all weight encodings, every refusal."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoders.arithmetic.approximate_field import ApproximateReals
from gpu_check.emulator.exact import evaluate_real
from onnx_import import load
from onnx_import.errors import ModelError, UnsupportedModel
from onnx_import.graph import DType, Graph
from refine.cli.main import run
from refine.results.verdict import ExitCode

RNG = np.random.default_rng(7)
Item = dict[str, Any]


def numbers(*shape: int) -> np.ndarray:
    """Float32 numbers, so that decimals give them back exactly."""
    return RNG.normal(size=shape).astype(np.float32).astype(np.float64)


def node(kind: str, parents: Sequence[int], shape: Sequence[int], **fields: Any) -> Item:
    plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in fields.items()}
    return {"kind": kind, "parents": list(parents), "shape": list(shape), **plain}


def newer(shape: Sequence[int], *items: Item, **fields: Any) -> Item:
    nodes = [node("input", [], shape, value_kind="tensor"), *items]
    nodes = [{"id": i, **item} for i, item in enumerate(nodes)]
    top = {"format": "torchlean.ir.v1", "input_id": 0, "output_ids": [len(nodes) - 1]}
    return {**top, "nodes": nodes, **fields}


def older(shape: Sequence[int], *items: Item, **fields: Any) -> Item:
    graph = newer(shape, *items, **fields)
    del graph["format"]
    graph["output_id"] = graph.pop("output_ids")[0]
    return graph


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Graph]:
    def read_graph(graph: Any, weights: Any = None) -> Graph:
        path = tmp_path / "graph.json"
        path.write_text(graph if isinstance(graph, str) else json.dumps(graph))
        if weights is not None:
            (tmp_path / "graph.weights.json").write_text(json.dumps(weights))
        return load(path)

    return read_graph


def value(graph: Graph, x: np.ndarray) -> np.ndarray:
    (output,) = graph.outputs
    result = evaluate_real(graph, {graph.inputs[0]: x[np.newaxis]}, ApproximateReals())
    assert graph.types[output].shape == result[output].shape[1:]
    return np.asarray(result[output][0], np.float64)


def windows(x: np.ndarray, kernel: Sequence[int], stride: Sequence[int]) -> np.ndarray:
    """Windows over the last two axes, (..., rows, columns, *kernel)."""
    seen = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(-2, -1))
    return seen[..., :: stride[0], :: stride[1], :, :]


def padded(
    x: np.ndarray, rows: tuple[int, int], columns: tuple[int, int], fill: float = 0.0
) -> np.ndarray:
    around = [(0, 0)] * (x.ndim - 2) + [rows, columns]
    return np.pad(x, around, constant_values=fill)


UNARY: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "abs": np.abs,
    "sqrt": np.sqrt,
    "inv": lambda x: 1 / x,
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "exp": np.exp,
    "log": np.log,
    "sin": np.sin,
    "cos": np.cos,
    "detach": lambda x: x,
}


@pytest.mark.parametrize("kind", UNARY)
def test_unary(read: Any, kind: str) -> None:
    x = np.abs(numbers(2, 3)) + 0.5
    graph = read(newer([2, 3], node(kind, [0], [2, 3])))
    np.testing.assert_allclose(value(graph, x), UNARY[kind](x), rtol=1e-12)


@pytest.mark.parametrize(
    ("kind", "function"),
    [
        ("add", np.add),
        ("sub", np.subtract),
        ("mul_elem", np.multiply),
        ("max_elem", np.maximum),
        ("min_elem", np.minimum),
        ("matmul", np.matmul),
    ],
)
def test_two_parents(read: Any, kind: str, function: Any) -> None:
    x, c = numbers(3, 3), numbers(3, 3)
    const = node("const", [], [3, 3], value_shape=[3, 3], values=c.reshape(-1))
    for parents, expected in (([0, 1], function(x, c)), ([1, 0], function(c, x))):
        graph = read(newer([3, 3], const, node(kind, parents, [3, 3])))
        np.testing.assert_allclose(value(graph, x), expected, rtol=1e-12)


X = numbers(2, 3, 4)
MOVED: Sequence[tuple[Item, np.ndarray]] = (
    (node("permute", [0], [4, 2, 3], perm=[2, 0, 1]), X.transpose(2, 0, 1)),
    (node("transpose", [0], [4, 3, 2], axis1=0, axis2=2), X.swapaxes(0, 2)),
    (
        node("broadcast_to", [0], [5, 2, 3, 4], from_shape=[2, 3, 4], to_shape=[5, 2, 3, 4]),
        np.broadcast_to(X, (5, 2, 3, 4)),
    ),
    (node("reduce_sum", [0], [3], axes=[0, 2], keepdim=False), X.sum((0, 2))),
    (node("reduce_sum", [0], [2, 3, 4], axes=[], keepdim=False), X),
    (node("reduce_mean", [0], [2, 1, 1], axes=[1, 2], keepdim=True), X.mean((1, 2), keepdims=True)),
    (node("sum", [0], []), X.sum()),
    (node("reshape", [0], [4, 6], in_shape=[2, 3, 4], out_shape=[4, 6]), X.reshape(4, 6)),
    (node("flatten", [0], [24], value_shape=[2, 3, 4]), X.reshape(24)),
    (node("concat", [0, 0, 0], [2, 9, 4], axis=1), np.concatenate([X, X, X], 1)),
    (
        node("softmax", [0], [2, 3, 4], axis=1),
        np.exp(X) / np.exp(X).sum(1, keepdims=True),
    ),
)


@pytest.mark.parametrize(("item", "expected"), MOVED, ids=lambda v: getattr(v, "get", str)("kind"))
def test_shapes(read: Any, item: Item, expected: np.ndarray) -> None:
    np.testing.assert_allclose(value(read(newer([2, 3, 4], item)), X), expected, rtol=1e-12)


def test_safe_log_is_log_of_softplus_plus_epsilon(read: Any) -> None:
    eps = node("const", [], [], values=[0.125])
    graph = read(newer([4], eps, node("safe_log", [0, 1], [4])))
    x = numbers(4)
    np.testing.assert_allclose(value(graph, x), np.log(np.log1p(np.exp(x)) + 0.125), rtol=1e-12)


def linear(parent: int, w: np.ndarray, b: np.ndarray, lead: Sequence[int] = ()) -> Item:
    out, inner = w.shape
    fields = {"out_dim": out, "in_dim": inner, "weight": w, "bias": b, "debug_target": "fc"}
    return node("linear", [parent], [*lead, out], **fields)


@pytest.mark.parametrize("lead", [(), (5,), (2, 5)])
def test_linear_has_an_out_by_in_weight(read: Any, lead: tuple[int, ...]) -> None:
    w, b, x = numbers(3, 4), numbers(3), numbers(*lead, 4)
    graph = read(newer([*lead, 4], linear(0, w, b, lead)))
    np.testing.assert_allclose(value(graph, x), x @ w.T + b, rtol=1e-12)
    assert "newer dialect" in graph.notes[0]
    assert "float32; every weight is exactly as stored" in graph.notes[1]


def convolution(w: np.ndarray, b: np.ndarray, shape: Sequence[int], **changes: Any) -> Item:
    fields: Item = {
        "spatial_rank": 2,
        "kernel": list(w.shape[2:]),
        "stride": [1, 1],
        "padding": [0, 0],
        "padding_after": [0, 0],
        "dilation": [1, 1],
        "groups": 1,
        "channel_axis": 0,
        "in_channels": 2,
        "out_channels": w.shape[0],
        "input_spatial": [5, 6],
    }
    return node("conv", [0], shape, **fields | {"weight": w, "bias": b} | changes)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_convolution_keeps_stride_and_padding_of_each_axis(read: Any, batch: Any) -> None:
    w, b, x = numbers(4, 2, 3, 2), numbers(4), numbers(*batch, 2, 5, 6)
    geometry = {"stride": [2, 1], "padding": [1, 0], "padding_after": [2, 1]}
    item = convolution(w, b, [*batch, 4, 3, 6], **geometry, channel_axis=len(batch))
    seen = windows(padded(x, (1, 2), (0, 1)), (3, 2), (2, 1))
    expected = np.einsum("...chwij,ocij->...ohw", seen, w) + b[:, None, None]
    graph = read(newer([*batch, 2, 5, 6], item))
    np.testing.assert_allclose(value(graph, x), expected, rtol=1e-10)


def test_convolution_keeps_dilation(read: Any) -> None:
    w, b, x = numbers(1, 2, 2, 2), numbers(1), numbers(2, 5, 6)
    seen = windows(x, (4, 3), (1, 1))[..., ::3, ::2]
    expected = np.einsum("chwij,ocij->ohw", seen, w) + b[:, None, None]
    graph = read(newer([2, 5, 6], convolution(w, b, [1, 2, 4], dilation=[3, 2])))
    np.testing.assert_allclose(value(graph, x), expected, rtol=1e-10)


@pytest.mark.parametrize("dense", [False, True])
def test_convolution_keeps_groups(read: Any, dense: bool) -> None:
    """TorchLean stores the weight out×in, zero between groups; PyTorch out×in/groups."""
    part, b, x = numbers(4, 1, 2, 2), numbers(4), numbers(2, 5, 6)
    full = np.zeros((4, 2, 2, 2))
    full[:2, :1], full[2:, 1:] = part[:2], part[2:]
    expected = np.einsum("chwij,ocij->ohw", windows(x, (2, 2), (1, 1)), full) + b[:, None, None]
    item = convolution(full if dense else part, b, [4, 4, 5], groups=2)
    np.testing.assert_allclose(value(read(newer([2, 5, 6], item)), x), expected, rtol=1e-10)
    if dense:
        full[0, 1, 0, 0] = 1.0
        with pytest.raises(ModelError, match=r"node 1 \(conv\).*between different groups"):
            read(newer([2, 5, 6], convolution(full, b, [4, 4, 5], groups=2)))


def pool(kind: str, shape: Sequence[int], **fields: Any) -> Item:
    window = {"spatial_rank": 2, "kernel": [3, 2], "stride": [2, 1], "padding": [1, 1]}
    return node(kind, [0], shape, **window, **fields)


def test_padding_of_a_maximum_is_minus_infinity(read: Any) -> None:
    x = -np.abs(numbers(2, 5, 6)) - 1
    around = padded(x, (1, 1), (1, 1), -np.inf)
    expected = windows(around, (3, 2), (2, 1)).max((-2, -1))
    result = value(read(newer([2, 5, 6], pool("max_pool", [2, 3, 7]))), x)
    np.testing.assert_allclose(result, expected)
    assert np.all(result < 0)


def test_padding_of_a_mean_counts_as_zero(read: Any) -> None:
    x = numbers(2, 5, 6)
    expected = windows(padded(x, (1, 1), (1, 1)), (3, 2), (2, 1)).mean((-2, -1))
    graph = read(newer([2, 5, 6], pool("avg_pool", [2, 3, 7])))
    np.testing.assert_allclose(value(graph, x), expected, rtol=1e-12)


def test_layernorm_keeps_its_eps_and_affine_part(read: Any) -> None:
    gamma, beta, x = numbers(3, 4), numbers(3, 4), numbers(2, 3, 4)
    for eps in (1e-6, 1e-5, 0.5):
        item = node("layernorm", [0], [2, 3, 4], axis=1, eps=eps, gamma=gamma, beta=beta)
        centred = x - x.mean((1, 2), keepdims=True)
        scale = np.sqrt((centred**2).mean((1, 2), keepdims=True) + eps)
        result = value(read(newer([2, 3, 4], item)), x)
        np.testing.assert_allclose(result, centred / scale * gamma + beta, rtol=1e-7)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_batch_norm_keeps_its_eps_on_any_axis(read: Any, axis: int) -> None:
    shape = (2, 3, 4)
    gamma, beta, mean, var = (np.abs(numbers(shape[axis])) for _ in range(4))
    fields = {"channel_axis": axis, "channels": shape[axis], "eps": 0.25}
    statistics = {"gamma": gamma, "beta": beta, "mean": mean, "var": var}
    graph = read(newer(shape, node("batch_norm_eval", [0], shape, **fields, **statistics)))
    g, b, m, v = (
        p.reshape([-1 if i == axis else 1 for i in range(3)]) for p in statistics.values()
    )
    np.testing.assert_allclose(value(graph, X), (X - m) / np.sqrt(v + 0.25) * g + b, rtol=1e-10)


def test_a_lifted_weight_is_not_the_input(read: Any) -> None:
    graph = newer([2], node("const", [], [2], values=[1.0, 2.0]), node("add", [0, 1], [2]))
    assert read(graph).inputs == ("input_0",)
    with pytest.raises(ModelError, match="'input_id' is 1, which is not a node of the kind"):
        read({**graph, "input_id": 1})
    lifted = newer([2], node("input", [], [2]), node("add", [0, 1], [2]))
    with pytest.raises(UnsupportedModel, match=r"node 1 \(input\) is a second input"):
        read(lifted)


@pytest.mark.parametrize("kind", ["log1p", "log_softmax", "expand", "exp2", "relu6", "Relu", "mul"])
def test_kinds_match_by_their_whole_name(read: Any, kind: str) -> None:
    with pytest.raises(UnsupportedModel, match=rf"node 1 \({kind}\) is of an unknown kind"):
        read(newer([2], node(kind, [0], [2])))


# ---- the older dialect and the weights beside it ----

W, B, V, C = numbers(3, 4), numbers(3), numbers(2, 3), numbers(2)
PARAMETERS = {"0.weight": W, "0.bias": B, "2.weight": V, "2.bias": C}
TWO_LAYERS = older(
    [4],
    node("linear", [0], [3], debug_target="0"),
    node("relu", [1], [3]),
    node("linear", [2], [2], debug_target="2"),
)


def two_layers(x: np.ndarray) -> np.ndarray:
    hidden: np.ndarray = np.maximum(x @ W.T + B, 0)
    return np.asarray(hidden @ V.T + C)


def bits64(tensors: Sequence[np.ndarray]) -> Item:
    params = [
        {"shape": list(t.shape), "values": t.reshape(-1).view(np.uint64).tolist()} for t in tensors
    ]
    return {"format": "torchlean_paramlist_bits_v1", "params": params}


def bits32(t: np.ndarray) -> list[str]:
    return [str(n) for n in t.astype(np.float32).reshape(-1).view(np.uint32)]


STATE_DICT = {"params": {k: v.tolist() for k, v in PARAMETERS.items()}, "meta": {}}
ENCODINGS = {
    "state dict": STATE_DICT,
    "state dict in another order": {"params": dict(reversed(STATE_DICT["params"].items()))},
    "float64 bits": bits64(list(PARAMETERS.values())),
    "float32 bits": {
        "format": "uint32-bits-as-decimal-strings",
        "dtype": "float32",
        "width": 3,
        "w1": bits32(W),
        "b1": bits32(B),
        "w2": bits32(V),
        "b2": bits32(C),
    },
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_weights_beside_the_graph(read: Any, encoding: str) -> None:
    graph = read(TWO_LAYERS, ENCODINGS[encoding])
    x = numbers(4)
    np.testing.assert_allclose(value(graph, x), two_layers(x), rtol=1e-12)
    assert "older dialect" in graph.notes[0]
    assert any("graph.weights.json" in note for note in graph.notes)
    assert graph.types["linear_3"].dtype is DType.FLOAT32


def test_weights_in_the_graph_itself(read: Any) -> None:
    x = numbers(4)
    graph = read({**TWO_LAYERS, "params": STATE_DICT["params"]})
    np.testing.assert_allclose(value(graph, x), two_layers(x), rtol=1e-12)


def test_exact_float64_bits_make_the_graph_float64(read: Any) -> None:
    tenth = W.copy()
    tenth[0, 0] = 0.1
    graph = read(TWO_LAYERS, bits64([tenth, B, V, C]))
    assert {graph.types[t].dtype for t in graph.constants} == {DType.FLOAT64}
    assert any(0.1 in constant for constant in graph.constants.values())
    assert graph.types["input_0"].dtype is DType.FLOAT64


def test_decimals_are_rounded_to_float32_and_counted(read: Any) -> None:
    graph = read(newer([1], linear(0, np.array([[0.1]]), np.array([0.5]))))
    assert np.float32(0.1) in [v.reshape(-1)[0] for v in graph.constants.values()]
    assert "1 weight(s) written in decimals changed when rounded to float32" in graph.notes[1]


def test_older_kinds(read: Any) -> None:
    w, b, x = numbers(3, 2, 3, 3), numbers(3), numbers(2, 6, 6)
    window = {"kH": 2, "kW": 3, "stride": 2}
    graph = older(
        [2, 6, 6],
        node("conv2d", [0], [3, 6, 6], inC=2, outC=3, kH=3, kW=3, stride=1, padding=1),
        node("max_pool2d_pad", [1], [3, 4, 3], **window, padding=1),
        node("avg_pool2d", [2], [3, 2, 1], **window),
        node("swap_first_two", [3], [2, 3, 1]),
        node("transpose3d_last_two", [4], [2, 1, 3]),
        node("reduce_sum", [5], [2, 3], axis=1),
        node("reduce_mean", [6], [2], axis=1),
    )
    seen = windows(padded(x, (1, 1), (1, 1)), (3, 3), (1, 1))
    y = np.einsum("chwij,ocij->ohw", seen, w) + b[:, None, None]
    y = windows(padded(y, (1, 1), (1, 1), -np.inf), (2, 3), (2, 2)).max((-2, -1))
    y = windows(y, (2, 3), (2, 2)).mean((-2, -1)).swapaxes(0, 1).swapaxes(1, 2)
    result = value(read(graph, {"params": {"weight": w.tolist(), "bias": b.tolist()}}), x)
    np.testing.assert_allclose(result, y.sum(1).mean(1), rtol=1e-10)


def test_older_batch_norm(read: Any) -> None:
    names = ("weight", "bias", "running_mean", "running_var")
    params = {f"bn.{n}": np.abs(numbers(2)).tolist() for n in names}
    params["bn.num_batches_tracked"] = 3
    item = node(
        "batch_norm2d_nchw_eval", [0], [1, 2, 2, 2], channels=2, debug_target="bn", eps=1e-3
    )
    x = numbers(1, 2, 2, 2)
    g, b, m, v = (np.array(params[f"bn.{n}"]).reshape(1, 2, 1, 1) for n in names)
    result = value(read(older([1, 2, 2, 2], item), {"params": params}), x)
    np.testing.assert_allclose(result, (x - m) / np.sqrt(v + 1e-3) * g + b, rtol=1e-7)


# ---- refusals ----

LINEAR = linear(0, W, B)


def without(item: Item, name: str) -> Item:
    return {k: v for k, v in item.items() if k != name}


REFUSED: Mapping[str, tuple[Any, str]] = {
    "not JSON": ('{"nodes": [', "is not valid JSON"),
    "a key twice": ('{"nodes": [], "nodes": []}', "'nodes' occurs twice"),
    "a list": ("[1]", "holds no JSON object"),
    "other JSON": ({"a": 1}, "is JSON but no TorchLean graph"),
    "format": (newer([4], LINEAR, format="v9"), "has the format 'v9'"),
    "two dialects": (newer([4], LINEAR, output_id=1), "either 'output_ids' or 'output_id'"),
    "no output": (newer([4], LINEAR, output_ids=[7]), "names no node as its output"),
    "input as output": (newer([4], LINEAR, output_ids=[0]), "node 0 (input) is an output"),
    "id": (newer([4], {**LINEAR, "id": 5}), "node 1 (linear) has the id 5"),
    "parent": (newer([4], {**LINEAR, "parents": [1]}), "node 1 (linear) reads node 1"),
    "arity": (newer([4], node("add", [0], [4])), "node 1 (add) has 1 parents, not 2"),
    "random": (newer([4], node("rand_uniform", [], [4], seed=1)), "node 1 (rand_uniform)"),
    "mask": (newer([4], node("bernoulli_mask", [0], [4], seed=1)), "node 1 (bernoulli_mask)"),
    "custom": (newer([4], node("custom", [0], [4])), "node 1 (custom) has no meaning here"),
    "loss": (newer([4], node("mse_loss", [0, 0], [])), "node 1 (mse_loss) has no meaning here"),
    "tuple": (
        newer([4], node("py_tuple", [0], [], value_kind="tuple"), node("relu", [1], [4])),
        "node 1 (py_tuple) has no meaning here: it gives a tuple",
    ),
    "getitem": (newer([4], node("tuple_getitem", [0], [4], index=0)), "node 1 (tuple_getitem)"),
    "older kind": (newer([4], node("swap_first_two", [0], [4])), "is of a kind of the other"),
    "eps": (
        newer([4], node("layernorm", [0], [4], axis=0, gamma=[1] * 4, beta=[0] * 4)),
        "node 1 (layernorm) has no attribute 'eps'",
    ),
    "affine part": (
        newer([4], node("layernorm", [0], [4], axis=0, eps=1e-5, gamma=[1] * 4)),
        "node 1 (layernorm) has no weight 'beta'",
    ),
    "groups": (
        newer([2, 5, 6], without(convolution(numbers(1, 2, 2, 2), C[:1], [1, 4, 5]), "groups")),
        "node 1 (conv) has no attribute 'groups'",
    ),
    "ceil mode": (
        newer([2, 5, 6], pool("max_pool", [2, 3, 7], ceil_mode=True)),
        "node 1 (max_pool) has the attribute 'ceil_mode'",
    ),
    "ceil shape": (newer([2, 5, 6], pool("max_pool", [2, 4, 7])), "declares the shape [2, 4, 7]"),
    "swapped shape": (newer([2, 5, 6], pool("avg_pool", [2, 7, 3])), "the shape [2, 3, 7]"),
    "stride": (newer([2, 5, 6], pool("avg_pool", [2, 7, 3]) | {"stride": [0, 1]}), "stride"),
    "window": (newer([2, 5, 6], pool("avg_pool", [2, 7, 3]) | {"kernel": [9, 9]}), "larger"),
    "negative": (newer([2, 5, 6], pool("avg_pool", [2, 7, 3]) | {"kernel": [-1, 9]}), "'kernel'"),
    "declared shape": (newer([4], node("relu", [0], [3])), "node 1 (relu) declares the shape [3]"),
    "broadcasting": (
        newer([4], node("const", [], [1], values=[1]), node("add", [0, 1], [4])),
        "node 2 (add): the shape of the second parent is [1], not [4]",
    ),
    "no weights": (older([4], node("linear", [0], [3])), "node 1 (linear) has no weight 'weight'"),
    "weight shape": (newer([4], {**LINEAR, "weight": [[1.0]]}), "has the shape [1, 1], not [3, 4]"),
    "ragged": (newer([4], {**LINEAR, "weight": [[1], [1, 2]]}), "is not an array of numbers"),
    "text": (newer([4], {**LINEAR, "bias": ["1", 2, 3]}), "something other than numbers"),
    "NaN": (newer([4], {**LINEAR, "bias": [np.nan, 0, 0]}), "holds NaN"),
    "too large": (newer([4], {**LINEAR, "bias": [1e39, 0, 0]}), "holds an infinite value"),
    "empty": (newer([0], node("relu", [0], [0])), "has a dimension 0"),
    "axis": (newer([4], node("softmax", [0], [4], axis=3)), "attribute 'axis' is 3"),
    "matrix product": (newer([4], node("matmul", [0, 0], [4])), "matmul_1"),
}
REFUSED_MATMUL = newer([2, 3], node("matmul", [0, 0], [2, 3]))


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_are_one_sentence(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph, message = REFUSED[name]
    graph = REFUSED_MATMUL if name == "matrix product" else graph
    path = tmp_path / "graph.json"
    path.write_text(graph if isinstance(graph, str) else json.dumps(graph))
    with pytest.raises(ModelError) as caught:
        load(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert run(["bound", str(path), "--input", "-1..1", "--no-search"]) is ExitCode.INPUT_ERROR
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"format": "v7", "params": {}}, "has the weight format 'v7'"),
        ({"params": [1]}, "no object 'params'"),
        ({"params": {"0.weight": W.tolist()}}, "no weight 'bias'"),
        (bits64([W, B]), "hold 2 tensors and the graph needs 4"),
        (bits64([W.T.copy(), B, V, C]), "has the shape [4, 3], not [3, 4]"),
        (
            {"format": "torchlean_paramlist_bits_v1", "params": [{"shape": [1], "values": [-1]}]},
            "is not a flat list of the bits of float64 numbers",
        ),
        (
            {"format": "uint32-bits-as-decimal-strings", "w": [str(2**32)]},
            "is not a flat list of the bits of float32 numbers",
        ),
        (bits64([np.full((3, 4), np.inf), B, V, C]), "holds an infinite value"),
    ],
)
def test_refused_weights(read: Any, weights: Item, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        read(TWO_LAYERS, weights)
    assert message in str(caught.value)


def test_dead_nodes_are_left_out(read: Any) -> None:
    graph = newer([4], node("relu", [0], [4]), node("custom", [0], [4]), output_ids=[1])
    assert any("1 node(s) that reach no output" in note for note in read(graph).notes)


@pytest.mark.parametrize("dialect", ["newer", "older"])
def test_the_command_line_takes_both_dialects(dialect: str, tmp_path: Path) -> None:
    path = tmp_path / "graph.json"
    small = newer([4], LINEAR, node("relu", [1], [3]))
    path.write_text(json.dumps(small if dialect == "newer" else TWO_LAYERS))
    (tmp_path / "graph.weights.json").write_text(json.dumps(STATE_DICT))
    arguments = ["--input", "-1..1", "--no-search", "--budget", "0", "-q"]
    assert run(["bound", str(path), *arguments]) is ExitCode.VERIFIED
