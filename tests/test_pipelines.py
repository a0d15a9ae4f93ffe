"""Operators of ai.onnx.ml: what they are decomposed into, against onnxruntime's own kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from encoders.arithmetic.exact_fields import Balls
from encoders.contract.contract import Subnormals
from encoders.contract.presets import IEEE_ANY, SEQUENTIAL
from encoders.numbers.enclosure import Interval
from gpu_check.emulator.emulator import emulate
from gpu_check.emulator.exact import evaluate_exact
from onnx_import import load
from onnx_import.errors import UnsupportedModel
from refine.api import check
from refine.bounds.network import InputBox, network_bounds
from refine.options.optimised import optimised_into
from refine.results.verdict import Verdict

RNG = np.random.default_rng(5)


def floats(*shape: int, scale: float = 1.0) -> list[float]:
    return [float(np.float32(v)) for v in RNG.uniform(-scale, scale, shape).reshape(-1)]


def pipeline(
    op: str,
    outputs: str = "y",
    features: int = 3,
    kind: int = TensorProto.FLOAT,
    stored: Mapping[str, Any] | None = None,
    version: int = 3,
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one node with rows of features."""
    kept = stored or {}
    node = helper.make_node(
        op, ["x", *kept], outputs.split(), name="p", domain="ai.onnx.ml", **attributes
    )
    graph = helper.make_graph(
        [node],
        "pipeline",
        [helper.make_tensor_value_info("x", kind, [2, features])],
        [onnx.ValueInfoProto(name=t) for t in outputs.split() if t],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in kept.items()],
    )
    for value in graph.output:  # which ONNX does not infer for all of them
        value.type.tensor_type.elem_type = TensorProto.FLOAT if value.name != "label" else 7
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", version)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def forest(
    trees: int, depth: int, targets: Sequence[int], kind: str, modes: Sequence[str] = ("LEQ",)
) -> dict[str, Any]:
    """Random trees, whose leaves give numbers to some targets, none at 0."""
    found: dict[str, list[Any]] = {
        k: [] for k in ("treeids", "nodeids", "featureids", "modes", "values", "true", "false")
    }
    leaves = []
    for tree in range(trees):
        count = 2**depth - 1
        for node in range(2 * count + 1):
            inner = node < count and not (node and RNG.random() < 0.15)
            found["treeids"].append(tree)
            found["nodeids"].append(node)
            found["featureids"].append(int(RNG.integers(3)) if inner else 0)
            found["modes"].append(f"BRANCH_{RNG.choice(modes)}" if inner else "LEAF")
            found["values"].append(float(np.float32(RNG.uniform(-1, 1))) if inner else 0.0)
            found["true"].append(2 * node + 1 if inner else 0)
            found["false"].append(2 * node + 2 if inner else 0)
            if not inner:
                leaves += [(tree, node, t, float(np.float32(RNG.uniform(-1, 1)))) for t in targets]
    reached = set()
    waiting = [(t, 0) for t in range(trees)]
    at = {
        (t, n): k for k, (t, n) in enumerate(zip(found["treeids"], found["nodeids"], strict=True))
    }
    while waiting:
        here = waiting.pop()
        reached.add(here)
        k = at[here]
        if found["modes"][k] != "LEAF":
            waiting += [(here[0], found[s][k]) for s in ("true", "false")]
    keep = sorted(at[r] for r in reached)
    kept = {k: [v[i] for i in keep] for k, v in found.items()}
    leaves = [leaf for leaf in leaves if leaf[:2] in reached]
    given = {f"nodes_{k}": kept[k] for k in ("treeids", "nodeids", "featureids", "modes", "values")}
    given |= {f"nodes_{s}nodeids": kept[s] for s in ("true", "false")}
    names = ("treeids", "nodeids", "ids", "weights")
    return given | {f"{kind}_{n}": [leaf[i] for leaf in leaves] for i, n in enumerate(names)}


def positive(given: dict[str, Any]) -> dict[str, Any]:
    return given | {"class_weights": [abs(w) for w in given["class_weights"]]}


@dataclass(frozen=True)
class Stump:
    """The one tree of a TreeEnsemble."""

    def given(self, aggregate: int) -> dict[str, Any]:
        tensor: dict[str, Any] = {
            "nodes_splits": np.array([0.25, -0.5], np.float32),
            "nodes_modes": np.array([0, 3], np.uint8),
            "leaf_weights": np.array([1.5, -2.0, 0.75], np.float32),
        }
        return {
            "tree_roots": [0], "nodes_featureids": [0, 1], "nodes_truenodeids": [1, 0],
            "nodes_trueleafs": [0, 1], "nodes_falsenodeids": [2, 1], "nodes_falseleafs": [1, 1],
            "leaf_targetids": [0, 1, 0], "n_targets": 2, "aggregate_function": aggregate,
            **{k: numpy_helper.from_array(v, k) for k, v in tensor.items()},
        }  # fmt: skip


LEAVES = "label scores"
STUMP: dict[str, Any] = {
    "nodes_treeids": [0] * 3, "nodes_nodeids": [0, 1, 2], "nodes_featureids": [0] * 3,
    "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"], "nodes_values": [0.5, 0.0, 0.0],
    "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0],
    "target_treeids": [0, 0], "target_nodeids": [1, 2], "target_ids": [0, 0],
    "target_weights": [1.0, 4.0],
}  # fmt: skip
EVERY = ("LEQ", "LT", "GTE", "GT", "EQ", "NEQ")
SVM: dict[str, Any] = {
    "coefficients": floats(4),
    "support_vectors": floats(4, 3),
    "n_supports": 4,
    "rho": [0.3],
}
CASES = {
    "Scaler": pipeline("Scaler", offset=floats(3), scale=floats(3, scale=5)),
    "Scaler of doubles": pipeline("Scaler", kind=TensorProto.DOUBLE, offset=[0.5], scale=[2.0]),
    "Normalizer L1": pipeline("Normalizer", norm="L1"),
    "Normalizer L2": pipeline("Normalizer", norm="L2"),
    "Imputer": pipeline("Imputer", imputed_value_floats=[7.0], replaced_value_float=0.5),
    "Imputer of NaN": pipeline("Imputer", imputed_value_floats=[7.0], replaced_value_float=np.nan),
    "Binarizer": pipeline("Binarizer", threshold=0.25),
    "OneHotEncoder": pipeline("OneHotEncoder", cats_int64s=[-1, 0, 1], zeros=1),
    "ArrayFeatureExtractor": pipeline("ArrayFeatureExtractor", stored={"i": np.array([2, 0, 2])}),
    "LabelEncoder": pipeline(
        "LabelEncoder", keys_floats=[0.5, -0.25], values_floats=[3.0, 4.0], default_float=9.0
    ),
    "LinearRegressor": pipeline(
        "LinearRegressor", coefficients=floats(6), intercepts=floats(2), targets=2
    ),
    **{
        f"LinearClassifier {post}": pipeline(
            "LinearClassifier", LEAVES, coefficients=floats(9), intercepts=floats(3),
            classlabels_ints=[4, 2, 9], post_transform=post,
        )
        for post in ("NONE", "LOGISTIC", "SOFTMAX")
    },
    "LinearClassifier of two": pipeline(
        "LinearClassifier", LEAVES, coefficients=floats(3), intercepts=floats(1),
        classlabels_ints=[4, 2], post_transform="LOGISTIC",
    ),
    **{
        f"SVMRegressor {kernel}": pipeline(
            "SVMRegressor", kernel_type=kernel, kernel_params=[0.4, 0.2, 3.0], **SVM
        )
        for kernel in ("LINEAR", "POLY", "RBF", "SIGMOID")
    },
    **{
        f"SVMClassifier of {classes} {kernel} {post}": pipeline(
            "SVMClassifier", LEAVES, kernel_type=kernel, kernel_params=[0.4, 0.2, 3.0],
            coefficients=floats(classes - 1, 2 * classes), support_vectors=floats(2 * classes, 3),
            rho=floats(classes * (classes - 1) // 2, scale=0.2), vectors_per_class=[2] * classes,
            classlabels_ints=[7, 3, 5, 4][:classes], post_transform=post,
        )
        for classes, kernel, post in (
            (2, "RBF", "NONE"), (2, "POLY", "LOGISTIC"), (3, "RBF", "NONE"), (4, "LINEAR", "NONE")
        )
    },
    "SVMRegressor without supports": pipeline(
        "SVMRegressor", coefficients=floats(3), rho=[0.25], n_supports=0, kernel_type="LINEAR",
        kernel_params=[0.0, 0.0, 0.0],
    ),
    "TreeEnsembleRegressor": pipeline(
        "TreeEnsembleRegressor", n_targets=2, **forest(5, 3, (0, 1), "target", EVERY)
    ),
    "TreeEnsembleRegressor with a base": pipeline(
        "TreeEnsembleRegressor", n_targets=1, base_values=[0.3], **forest(7, 4, (0,), "target")
    ),
    **{
        f"TreeEnsembleRegressor {how}": pipeline(
            "TreeEnsembleRegressor", n_targets=1, aggregate_function=how,
            **forest(4, 2, (0,), "target"),
        )
        for how in ("AVERAGE", "MIN", "MAX")
    },
    **{
        f"TreeEnsembleClassifier {post}": pipeline(
            "TreeEnsembleClassifier", LEAVES, classlabels_int64s=[3, 1, 2], post_transform=post,
            **forest(6, 3, (0, 1, 2), "class"),
        )
        for post in ("NONE", "LOGISTIC", "SOFTMAX")
    },
    **{
        f"TreeEnsembleClassifier of two {post} {positive_ones}": pipeline(
            "TreeEnsembleClassifier", LEAVES, classlabels_int64s=[3, 5], post_transform=post,
            **(positive if positive_ones else dict)(forest(3, 2, (0,), "class")),
        )
        for post in ("NONE", "LOGISTIC")
        for positive_ones in (True, False)
    },
    "TreeEnsembleClassifier of two with a base": pipeline(
        "TreeEnsembleClassifier", LEAVES, classlabels_int64s=[3, 5], post_transform="LOGISTIC",
        base_values=[0.25], **forest(3, 2, (0,), "class"),
    ),
    "TreeEnsemble": pipeline("TreeEnsemble", version=5, **Stump().given(1)),
    "TreeEnsemble of averages": pipeline("TreeEnsemble", version=5, **Stump().given(0)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_pipeline_is_what_onnxruntime_computes(name: str, tmp_path: Path) -> None:
    """On every kind of input: thresholds of trees among them, and near them; errors are within the
    bounds of a small box around each."""
    made = CASES[name]
    onnx.save(made, tmp_path / "m.onnx")
    graph = load(tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(
        made.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    rng, kind = np.random.default_rng(1), graph.types["x"].dtype.numpy
    x: Any = rng.uniform(-1, 1, (40, *graph.types["x"].shape)).astype(kind)
    steps = next((list(a.floats) for a in made.graph.node[0].attribute if a.name == "nodes_values"),
                 [0.5, 0.25, -0.25, 1.0, 0.0])  # fmt: skip
    x = np.where(rng.random(x.shape) < 0.3, rng.choice(np.array(steps, kind), x.shape), x)
    if "Normalizer" in name:
        x = np.abs(x) + kind.type(0.1)
    emulated = emulate(graph, {"x": x}, SEQUENTIAL)
    for k in range(len(x)):
        ran = session.run(list(graph.outputs), {"x": x[k]})
        for tensor, want in zip(graph.outputs, map(np.asarray, ran), strict=True):
            got: Any = emulated[tensor][k]
            assert got.shape == np.shape(want)
            np.testing.assert_allclose(got, np.asarray(want), rtol=1e-5, atol=1e-6)
    for k in range(3):
        ran = session.run(list(graph.outputs), {"x": x[k]})
        centre = x[k].astype(np.float64)
        box = InputBox({"x": Interval(centre, centre)}, {"x": np.zeros(centre.shape)})
        bounds = network_bounds(graph, box, IEEE_ANY).maps
        real = evaluate_exact(graph, {"x": x[k]}, Balls(), every_tensor=True)
        for tensor, value in zip(graph.outputs, ran, strict=True):
            exact = np.array([float(v) for v in np.ravel(real[tensor])])
            wrong = np.abs(np.ravel(np.asarray(value, np.float64)) - exact)
            assert np.all(wrong <= np.ravel(bounds.errors[tensor]) + 1e-14)


def scaled_stump(scale: float) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """One feature, which a tree compares with 0.5: as it is, and through a Scaler."""
    plain = pipeline("TreeEnsembleRegressor", features=1, n_targets=1, **STUMP)
    scaled = onnx.ModelProto.FromString(plain.SerializeToString())
    scaled.graph.node[0].input[0] = "s"
    scaler = helper.make_node("Scaler", ["x"], ["s"], domain="ai.onnx.ml", offset=[0.1],
                              scale=[scale])  # fmt: skip
    scaled.graph.node.insert(0, scaler)
    return plain, scaled


def test_thresholds_that_an_error_may_cross_are_charged(tmp_path: Path) -> None:
    """Exact features cross none; those of a Scaler do where a threshold lies in the box."""
    plain, scaled = scaled_stump(3.0)
    found = []
    for name, made, box in (("a", plain, (0, 1)), ("b", scaled, (0, 1)), ("b", scaled, (0.3, 1))):
        onnx.save(made, tmp_path / f"{name}.onnx")
        graph = load(tmp_path / f"{name}.onnx")
        ends = Interval(np.full((2, 1), float(box[0])), np.full((2, 1), float(box[1])))
        bounds = network_bounds(graph, InputBox({"x": ends}, {"x": np.zeros((2, 1))}), IEEE_ANY)
        found.append(float(np.max(bounds.maps.errors["y"])))
    assert found[0] < 1e-6
    assert found[1] == pytest.approx(3, rel=1e-6)
    assert found[2] < 1e-6


def test_the_one_number_at_which_a_tree_flips_is_found(tmp_path: Path) -> None:
    """Of all float32 numbers from 0 to 1 the comparison behind the Scaler is wrong at one."""
    onnx.save(scaled_stump(2.9)[1], tmp_path / "m.onnx")
    result = check(tmp_path / "m.onnx", "0..1", eps=1, conform=False, z3="none")
    assert result.verdict is Verdict.VIOLATED
    assert result.worst_found == pytest.approx(3, rel=1e-6)


def test_maps_are_read_as_tensors_and_texts_left_out(tmp_path: Path) -> None:
    made = CASES["LinearClassifier SOFTMAX"]
    mapped = onnx.ModelProto.FromString(made.SerializeToString())
    attribute = mapped.graph.node[0].attribute
    labels = next(a for a in attribute if a.name == "classlabels_ints")
    attribute.remove(labels)
    attribute.append(helper.make_attribute("classlabels_strings", ["a", "b", "c"]))
    mapped.graph.node.append(
        helper.make_node("ZipMap", ["scores"], ["map"], domain="ai.onnx.ml",
                         classlabels_strings=["a", "b", "c"])
    )  # fmt: skip
    del mapped.graph.output[:]
    mapped.graph.output.extend([
        helper.make_tensor_value_info("label", TensorProto.STRING, [2]),
        helper.make_value_info("map", helper.make_sequence_type_proto(
            helper.make_map_type_proto(
                TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, [])
            ))),
    ])  # fmt: skip
    onnx.save(mapped, tmp_path / "m.onnx")
    optimised = optimised_into(tmp_path / "m.onnx", "all", tmp_path / "all.onnx")
    assert load(optimised).outputs == ("scores",)
    graph = load(tmp_path / "m.onnx")
    assert graph.outputs == ("scores",)
    assert "output 'label' holds texts and is left out" in graph.notes


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (pipeline("TreeEnsembleClassifier", LEAVES, classlabels_int64s=[0, 1],
                  **forest(2, 2, (0, 1), "class")), "runtimes differ"),
        (pipeline("LinearRegressor", coefficients=[1.0], targets=1), "1 coefficients for 1"),
        (pipeline("LinearRegressor", coefficients=floats(3), post_transform="PROBIT"), "'PROBIT'"),
        (pipeline("LinearRegressor", coefficients=floats(3), post_transform="LOGISTIC"), "leaves"),
        (pipeline("TreeEnsembleRegressor", post_transform="SOFTMAX", **STUMP, n_targets=1),
         "leaves"),
        (pipeline("TreeEnsembleRegressor", n_targets=1, **(STUMP | {
            "nodes_modes": ["BRANCH_LEQ", "BRANCH_LEQ", "LEAF"], "nodes_truenodeids": [1, 1, 0],
            "nodes_falsenodeids": [2, 2, 0], "target_treeids": [0], "target_nodeids": [2],
            "target_ids": [0], "target_weights": [1.0]})), "own descendant"),
        (pipeline("LabelEncoder", keys_floats=[1.0, 1.0], values_floats=[5.0, 6.0]), "a key is"),
        (pipeline("OneHotEncoder", cats_int64s=[0, 1, 1]), "category is there twice"),
        (pipeline("ArrayFeatureExtractor", stored={"i": np.array([-1])}), "is none of the 3"),
        (pipeline("OneHotEncoder", cats_strings=["a"]), "texts"),
        (pipeline("TreeEnsembleRegressor", **(STUMP | {"n_targets": 2**40})), "numbers together"),
    ],
)  # fmt: skip
def test_what_runtimes_differ_in_is_refused(
    made: onnx.ModelProto, words: str, tmp_path: Path
) -> None:
    onnx.save(made, tmp_path / "m.onnx")
    with pytest.raises(UnsupportedModel, match=words):
        load(tmp_path / "m.onnx")


def test_places_that_are_computed_are_refused(tmp_path: Path) -> None:
    """A negative one fails in onnxruntime; read from the end it would have a value."""
    made = pipeline("ArrayFeatureExtractor", stored={"i": np.array([0])})
    made.graph.initializer.pop()
    made.graph.node.insert(0, helper.make_node("Cast", ["k"], ["i"], to=TensorProto.INT64))
    made.graph.input.append(helper.make_tensor_value_info("k", TensorProto.FLOAT, [1]))
    onnx.save(made, tmp_path / "m.onnx")
    with pytest.raises(UnsupportedModel, match="places are computed"):
        load(tmp_path / "m.onnx")


def _moved(order: list[int]) -> onnx.ModelProto:
    """A tree whose nodes stand in this order; 3 is a tree of its own, of one leaf."""
    nodes: dict[str, list[Any]] = {
        "treeids": [0, 0, 0, 1], "nodeids": [0, 1, 2, 0], "featureids": [0] * 4,
        "modes": ["BRANCH_LEQ", "LEAF", "LEAF", "LEAF"], "values": [0.5, 0.0, 0.0, 0.0],
        "truenodeids": [1, 0, 0, 0], "falsenodeids": [2, 0, 0, 0],
    }  # fmt: skip
    given: dict[str, Any] = {f"nodes_{k}": [v[i] for i in order] for k, v in nodes.items()}
    targets: dict[str, list[Any]] = {
        "treeids": [0, 0, 1],
        "nodeids": [1, 2, 0],
        "ids": [0] * 3,
        "weights": [1.0, 4.0, 9],
    }
    given |= {f"target_{k}": v for k, v in targets.items()}
    return pipeline("TreeEnsembleRegressor", n_targets=1, features=1, **given)


@pytest.mark.parametrize("order", [[0, 2, 1, 3], [3, 0, 1, 2], [1, 0, 2, 3], [0, 3, 1, 2]])
def test_nodes_in_an_order_that_onnxruntime_reads_otherwise_are_refused(
    order: list[int], tmp_path: Path
) -> None:
    """What is read is what onnxruntime computes; it takes the first node of a tree as its root."""
    made = _moved(order)
    onnx.save(made, tmp_path / "m.onnx")
    if order[0] == 1 or order[1] == 3:
        with pytest.raises(UnsupportedModel, match="its root first"):
            load(tmp_path / "m.onnx")
        return
    graph = load(tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(
        made.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for low in (-1.0, 0.5, 2.0):
        x = np.array([[low], [0.75]], np.float32)
        real = evaluate_exact(graph, {"x": x}, Balls())["y"]
        assert np.asarray(session.run(None, {"x": x})[0]).tolist() == [
            [float(v) for v in r] for r in real
        ]


def test_a_base_where_a_leaf_gives_nothing_is_refused(tmp_path: Path) -> None:
    """onnxruntime adds it there only where some tree gives something to the target."""
    given = STUMP | {"target_ids": [0, 1], "n_targets": 2, "base_values": [0.25, 0.5]}
    onnx.save(pipeline("TreeEnsembleRegressor", features=1, **given), tmp_path / "m.onnx")
    with pytest.raises(UnsupportedModel, match="base values"):
        load(tmp_path / "m.onnx")


@pytest.mark.parametrize("subnormals", ["gradual", "either"])
def test_a_share_whose_square_is_tiny_is_within_its_bound(subnormals: str, tmp_path: Path) -> None:
    """onnxruntime divides squares, and takes the root: 10^-22 beside 1 is 1 % off, 10^-25 is 0."""
    onnx.save(pipeline("Normalizer", norm="L2"), tmp_path / "m.onnx")
    graph = load(tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    contract = replace(
        IEEE_ANY,
        results=Subnormals(subnormals),
        operands=Subnormals(subnormals),
    )
    for rows in ([1e-22, 1e-25, 1.0], [3e-20, 1.0, 1e15], [1e-42, 1e-12, 1e-9]):
        x = np.array([rows, rows[::-1]], np.float32)
        real = evaluate_exact(graph, {"x": x}, Balls())["y"]
        exact = np.array([[float(v) for v in row] for row in real])
        np.testing.assert_allclose(exact, x / np.linalg.norm(x.astype(np.float64), axis=1)[:, None],
                                   rtol=1e-6)  # fmt: skip
        wide = Interval(x.astype(np.float64), x.astype(np.float64) * 1.5)
        bounds = network_bounds(graph, InputBox({"x": wide}, {"x": np.zeros(x.shape)}), contract)
        wrong = np.abs(np.asarray(session.run(None, {"x": x})[0], np.float64) - exact)
        assert np.any(wrong > np.abs(exact) * 2.0**-20)  # more than roundings
        assert np.all(wrong <= bounds.maps.errors["y"])


@pytest.mark.parametrize("opset", [8, 9, 10])
def test_pipelines_of_old_files_are_made_of_newer_operators(opset: int, tmp_path: Path) -> None:
    """Equal of floats, Where and a Gemm without a summand are younger than these files."""
    plain = pipeline("LinearRegressor", coefficients=[1.0, 2.0, 3.0])
    names = ("LabelEncoder", "OneHotEncoder", "Imputer", "LinearClassifier NONE", "Binarizer")
    for k, made in enumerate([plain, *(CASES[name] for name in names)]):
        old = onnx.ModelProto.FromString(made.SerializeToString())
        old.opset_import[0].version = opset
        onnx.save(old, tmp_path / f"{k}.onnx")
        graph = load(tmp_path / f"{k}.onnx")
        session = onnxruntime.InferenceSession(
            tmp_path / f"{k}.onnx", providers=["CPUExecutionProvider"]
        )
        x = np.array([[0.5, -0.25, 1.0], [0.25, 0.75, -1.0]], np.float32)
        real = evaluate_exact(graph, {"x": x}, Balls())
        ran = session.run(list(graph.outputs), {"x": x})
        for tensor, want in zip(graph.outputs, ran, strict=True):
            got = np.array([float(v) for v in np.ravel(real[tensor])])
            np.testing.assert_allclose(got, np.ravel(np.asarray(want)), rtol=1e-6, atol=1e-6)
