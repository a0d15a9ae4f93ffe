"""The ONNX reader against ONNX's and onnxruntime's own reading of the same files."""

from __future__ import annotations

import gzip
import hashlib
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from refused_models import REFUSED
from small_models import save as save_small

from onnx_import import load
from onnx_import.errors import ModelError, UnsupportedModel, shorten
from onnx_import.graph import Array, DType, Graph, TensorType
from onnx_import.passes.folding.fold import cast_exactly

MODELS = Path(__file__).parents[2] / "shared" / "models"
FILES = sorted(MODELS.rglob("*.onnx"))
FLOAT = TensorProto.FLOAT
Shape = Sequence[int | str | None]


def tensor(name: str, shape: Shape | None, dtype: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Shape | None],
    outputs: Sequence[str],
    weights: Mapping[str, Array | list[Any]] | None = None,
    opset: int = 17,
    **extra: Any,
) -> onnx.ModelProto:
    """A model whose inputs are float32 and whose outputs declare no shape."""
    graph = helper.make_graph(
        nodes,
        "g",
        [tensor(name, shape) for name, shape in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in (weights or {}).items()],
    )
    for value in graph.output:
        value.type.tensor_type.elem_type = FLOAT
    imports = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8, **extra)


def relu(*, name: str = "", source: str = "x", target: str = "y") -> onnx.NodeProto:
    return helper.make_node("Relu", [source], [target], name=name)


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """Write a model (or bytes) to a file and load it."""

    def write_and_load(content: onnx.ModelProto | bytes) -> Graph:
        path = tmp_path / "m.onnx"
        path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
        return load(path)

    return write_and_load


def refusal(error: pytest.ExceptionInfo[ModelError]) -> str:
    """The message, after checking that it is one sentence that names a way out."""
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


# --- files -----------------------------------------------------------------------------------


def test_the_graph_names_its_file_and_hash(tmp_path: Path) -> None:
    path = tmp_path / "relu.onnx"
    data = model([relu()], {"x": [1, 3]}, ["y"]).SerializeToString()
    path.write_bytes(data)
    graph = load(str(path))
    assert graph.source == path
    assert graph.sha256 == hashlib.sha256(data).hexdigest()
    assert (graph.inputs, graph.outputs, graph.notes) == (("x",), ("y",), ())
    assert graph.types == {
        "x": TensorType(DType.FLOAT32, (1, 3)),
        "y": TensorType(DType.FLOAT32, (1, 3)),
    }


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"def f(x): return x\n", "is not an ONNX file, or is cut short"),
        (gzip.compress(b"x" * 100, mtime=0), "gunzip"),
        (b"PK\x03\x04" + b"archive/data.pkl" * 9, "torch.onnx.export"),
        (pickle.dumps({"coef_": [1.0]}, protocol=4), "skl2onnx"),
        (b"\x89HDF\r\n\x1a\n" + bytes(40), "tf2onnx"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (onnx.ModelProto(ir_version=8).SerializeToString(), "holds no ONNX graph"),
    ],
)
def test_a_file_that_is_no_model_is_refused(read: Any, content: bytes, words: str) -> None:
    with pytest.raises(ModelError) as error:
        read(content)
    assert words in refusal(error)
    assert "m.onnx" in refusal(error)


def test_a_path_without_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.onnx' does not exist"):
        load(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="is a directory"):
        load(tmp_path)
    with pytest.raises(ModelError, match="cannot be read"):
        load(tmp_path / ("long" * 200))


def test_truncated_and_damaged_files_raise_nothing_but_model_errors(read: Any) -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["h"]),
        helper.make_node("Reshape", ["h", "s"], ["y"]),
    ]
    weights = {"w": np.ones((3, 2), np.float32), "s": np.array([2, -1])}
    data = model(nodes, {"x": ["N", 3]}, ["y"], weights).SerializeToString()
    assert read(data).types["y"].shape == (2, 1)
    random = np.random.default_rng(0)
    refused: list[str] = []
    for size in range(len(data)):
        with pytest.raises(ModelError):
            read(data[:size])
    for _ in range(300):
        damaged = bytearray(data)
        damaged[random.integers(len(data))] = random.integers(256)
        try:
            read(bytes(damaged))
        except ModelError as error:
            refused.append(str(error))
    assert len(refused) > 50
    assert not any("\n" in message for message in refused)


def test_what_the_checker_rejects_is_refused_in_one_line(read: Any) -> None:
    bad = model([helper.make_node("Nonsense", ["x"], ["y"])], {"x": [1]}, ["y"])
    with pytest.raises(ModelError, match="not a valid ONNX model: No Op registered for Nonsense"):
        read(bad)
    with pytest.raises(ModelError) as error:
        read(model([relu(source="nothing")], {"x": [1]}, ["y"]))
    assert "'nothing'" in refusal(error)


def test_a_foreign_message_is_cut_to_its_first_line() -> None:
    assert shorten("[ShapeInferenceError] Bad  dims.\n==> Context") == "Bad dims"
    assert len(shorten("x" * 500)) == 160
    assert shorten(ValueError()) == "ValueError"


def test_a_model_without_outputs_is_refused(read: Any) -> None:
    with pytest.raises(ModelError, match="has no outputs"):
        read(model([relu()], {"x": [1]}, []))


def test_an_output_that_nothing_writes_is_refused(read: Any) -> None:
    with pytest.raises(ModelError, match="'z'"):
        read(model([relu()], {"x": [1]}, ["y", "z"]))


@pytest.mark.parametrize("opset", [6, 999])
def test_an_opset_out_of_range_is_refused(read: Any, opset: int) -> None:
    with pytest.raises(UnsupportedModel, match=f"uses opset {opset}, and 7 to"):
        read(model([relu()], {"x": [1]}, ["y"], opset=opset))


@pytest.mark.parametrize("opset", [7, 13, 20])
def test_every_node_carries_the_opset(read: Any, opset: int) -> None:
    assert read(model([relu()], {"x": [1]}, ["y"], opset=opset)).order[0].opset == opset


def test_a_model_without_the_standard_opset_is_refused(read: Any) -> None:
    bad = model([relu()], {"x": [1]}, ["y"])
    del bad.opset_import[:]
    bad.opset_import.append(helper.make_opsetid("ai.onnx.ml", 2))
    with pytest.raises(ModelError, match="imports no version"):
        read(bad)


# --- stored numbers --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "words"), [(np.nan, "NaN at flat index 2"), (-np.inf, "an infinite value at flat")]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_a_weight_that_is_not_finite_is_refused(
    read: Any, value: float, words: str, dtype: Any
) -> None:
    weight = np.array([[0, 1], [value, 3]]).astype(dtype)
    node = helper.make_node("Identity", ["weight"], ["y"])
    with pytest.raises(ModelError) as error:
        read(model([node], {"x": [1]}, ["y"], {"weight": weight}))
    assert f"initializer 'weight' holds {words}" in refusal(error)
    assert "1 of 4" in refusal(error)


def test_attributes_that_are_not_finite_are_refused(read: Any) -> None:
    leaky = helper.make_node("LeakyRelu", ["x"], ["y"], name="act", alpha=float("nan"))
    with pytest.raises(ModelError, match=r"node 'act' \(LeakyRelu\): attribute 'alpha' is nan"):
        read(model([leaky], {"x": [1]}, ["y"]))
    constant = helper.make_node("Constant", [], ["y"], value_floats=[1.0, float("inf")])
    with pytest.raises(ModelError, match=r"attribute 'value_floats' is inf"):
        read(model([constant], {"x": [1]}, ["y"]))


def test_a_weight_that_nothing_reads_is_not_looked_at(read: Any) -> None:
    weights = {"unused": np.array([np.nan], np.float32)}
    graph = read(model([relu()], {"x": [1]}, ["y"], weights))
    assert graph.constants == {}


def test_data_that_do_not_fill_the_shape_are_refused(read: Any) -> None:
    bad = model(
        [helper.make_node("Add", ["x", "w"], ["y"])], {"x": [3]}, ["y"], {"w": np.ones(3, "f4")}
    )
    bad.graph.initializer[0].raw_data = bad.graph.initializer[0].raw_data[:8]
    with pytest.raises(ModelError, match="name: w"):
        read(bad)


@pytest.mark.parametrize("dtype", [TensorProto.COMPLEX64, TensorProto.STRING, TensorProto.UINT4])
def test_an_element_type_without_meaning_is_refused(read: Any, dtype: int) -> None:
    bad = model([helper.make_node("Identity", ["x"], ["y"])], {"x": [1]}, ["y"])
    bad.graph.input[0].type.tensor_type.elem_type = dtype
    name = TensorProto.DataType.Name(dtype).lower()
    with pytest.raises(UnsupportedModel, match=f"input 'x' has the element type {name}"):
        read(bad)


def test_an_output_of_an_element_type_without_meaning_names_the_node(read: Any) -> None:
    node = helper.make_node("Cast", ["x"], ["y"], name="c", to=TensorProto.STRING)
    with pytest.raises(UnsupportedModel, match=r"output 'y' of node 'c' \(Cast\) has the element"):
        read(model([node], {"x": [1]}, ["y"]))


def test_every_float_format_is_read_bit_for_bit(read: Any) -> None:
    for dtype in (DType.FLOAT16, DType.BFLOAT16, DType.FLOAT32, DType.FLOAT64):
        value = np.array([1.5, -0.0, 2.0**-14 * 1.25, 3.0]).astype(dtype.numpy)
        node = helper.make_node("Identity", ["w"], ["y"])
        graph = read(model([node], {"x": [1]}, ["y"], {"w": value}))
        assert graph.types["y"] == TensorType(dtype, (4,))
        assert graph.constants["y"].tobytes() == value.tobytes()
        assert not graph.constants["y"].flags.writeable


def with_external(folder: Path, name: str = "w.bin") -> tuple[Path, Array]:
    path = folder / "sub" / "m.onnx"
    path.parent.mkdir()
    weight = np.arange(6, dtype=np.float32).reshape(3, 2)
    proto = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": [1, 3]}, ["y"])
    proto.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    onnx.save(proto, path, save_as_external_data=True, location=name, size_threshold=0)
    return path, weight


def test_external_data_are_found_beside_the_model(tmp_path: Path) -> None:
    path, weight = with_external(tmp_path)
    graph = load(path)
    np.testing.assert_array_equal(graph.constants["w"], weight)
    digest = hashlib.sha256((path.parent / "w.bin").read_bytes()).hexdigest()
    assert graph.notes == (f"weights are also read from 'w.bin' (sha256 {digest})",)


def test_external_data_are_found_from_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, weight = with_external(tmp_path)
    monkeypatch.chdir(path.parent)
    np.testing.assert_array_equal(load("m.onnx").constants["w"], weight)


def test_missing_or_short_external_data_are_refused(tmp_path: Path) -> None:
    path, _ = with_external(tmp_path)
    data = path.parent / "w.bin"
    data.write_bytes(data.read_bytes()[:8])
    with pytest.raises(ModelError, match="initializer 'w' cannot be read"):
        load(path)
    data.unlink()
    with pytest.raises(ModelError) as error:
        load(path)
    assert "external data file 'w.bin' of initializer 'w' is missing" in refusal(error)


def test_external_data_outside_the_folder_are_refused(tmp_path: Path) -> None:
    path, _ = with_external(tmp_path)
    (tmp_path / "w.bin").write_bytes((path.parent / "w.bin").read_bytes())
    proto = onnx.load(path, load_external_data=False)
    entry = next(e for e in proto.graph.initializer[0].external_data if e.key == "location")
    entry.value = "../w.bin"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="lies outside"):
        load(path)


def test_constant_nodes_become_constants(read: Any) -> None:
    given: dict[str, tuple[dict[str, Any], Array]] = {
        "a": ({"value_float": 0.1}, np.array(0.1, np.float32)),
        "b": ({"value_floats": [0.1, 2.0]}, np.array([0.1, 2.0], np.float32)),
        "c": ({"value_int": 7}, np.array(7)),
        "d": ({"value_ints": [7, -1]}, np.array([7, -1])),
        "e": ({"value": numpy_helper.from_array(np.eye(2))}, np.eye(2)),
    }
    nodes = [helper.make_node("Constant", [], [t], **kind) for t, (kind, _) in given.items()]
    graph = read(model(nodes, {"x": [1]}, list(given)))
    assert graph.order == ()
    for name, (_, value) in given.items():
        assert graph.constants[name].dtype == value.dtype
        np.testing.assert_array_equal(graph.constants[name], value)
        assert graph.types[name].shape == value.shape


def test_constants_that_are_no_dense_numbers_are_refused(read: Any) -> None:
    text = helper.make_node("Constant", [], ["y"], name="t", value_string="hello")
    with pytest.raises(UnsupportedModel, match=r"node 't' \(Constant\) holds text"):
        read(model([text], {"x": [1]}, ["y"]))
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("v", FLOAT, [1], [2.0]), helper.make_tensor("i", 7, [1], [1]), [3]
    )
    node = helper.make_node("Constant", [], ["y"], name="s", sparse_value=sparse)
    with pytest.raises(UnsupportedModel, match="'sparse_value' is of the kind 'sparse tensor'"):
        read(model([node], {"x": [1]}, ["y"]))
    stored = model([helper.make_node("Add", ["x", "v"], ["y"])], {"x": [3]}, ["y"])
    stored.graph.sparse_initializer.append(sparse)
    with pytest.raises(UnsupportedModel, match="initializer 'v' is sparse"):
        read(stored)


def test_no_constant_can_be_written_to_however_it_is_stored(read: Any) -> None:
    stored = helper.make_tensor("stored", FLOAT, [2], [1.0, 2.0])
    assert stored.float_data
    proto = model([helper.make_node("Flatten", ["stored"], ["y"])], {"x": [1]}, ["y", "stored"])
    proto.graph.initializer.append(stored)
    graph = read(proto)
    assert [v.flags.writeable for v in graph.constants.values()] == [False, False]


# --- inputs and outputs ----------------------------------------------------------------------


def test_initializers_among_the_inputs_are_constants(read: Any) -> None:
    old = model(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        {"x": [1, 2], "w": [2]},
        ["y"],
        {"w": np.ones(2, np.float32)},
        opset=8,
    )
    old.ir_version = 3
    graph = read(old)
    assert graph.inputs == ("x",)
    assert graph.is_constant("w")
    assert graph.notes == ("1 initializer(s) also listed as inputs are read as constants",)


@pytest.mark.parametrize("first", ["N", None, -1])
def test_an_unknown_first_dimension_becomes_one(read: Any, first: str | int | None) -> None:
    graph = read(model([relu()], {"x": [first, 4]}, ["y"]))
    assert graph.types["x"].shape == graph.types["y"].shape == (1, 4)
    symbol = " 'N'" if first == "N" else ""
    note = f"the first dimension{symbol} of input 'x' is not fixed and was read as 1"
    assert graph.notes == (note,)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (["N", "N"], r"input 'x' leaves dimensions 0 \('N'\) and 1 \('N'\) open"),
        ([1, None], "input 'x' leaves dimension 1 open"),
        ([2, 0], "dimension 1 of input 'x' is 0"),
        (None, "input 'x' has no shape"),
    ],
)
def test_other_unknown_dimensions_are_refused(read: Any, shape: Shape, words: str) -> None:
    with pytest.raises(UnsupportedModel, match=words):
        read(model([relu()], {"x": shape}, ["y"]))


def test_an_input_that_is_no_tensor_is_refused(read: Any) -> None:
    bad = model([helper.make_node("SequenceLength", ["x"], ["y"])], {"x": [1]}, ["y"])
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, [1]))
    bad.graph.input[0].type.CopyFrom(kind)
    with pytest.raises(UnsupportedModel, match="input 'x' is not a tensor"):
        read(bad)


def test_a_shape_that_depends_on_the_data_is_refused(read: Any) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["i"], name="nz"),
        helper.make_node("Cast", ["i"], ["y"], to=FLOAT),
    ]
    with pytest.raises(UnsupportedModel) as error:
        read(model(nodes, {"x": [1]}, ["y"]))
    assert refusal(error).startswith("node 'nz' (NonZero): the shape of its output 'i' is not")


def test_shapes_that_do_not_fit_name_the_node_and_the_shapes(read: Any) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="fc")
    with pytest.raises(ModelError) as error:
        read(model([node], {"x": [1, 3]}, ["y"], {"w": np.ones((2, 2), np.float32)}))
    assert "node 'fc' (MatMul) does not fit its inputs float32[1, 3], float32[2, 2]" in refusal(
        error
    )


def test_a_node_that_only_a_later_opset_knows_says_which(read: Any) -> None:
    """What exporters write into a file of an older version: a format, or where axes are."""
    nodes = [helper.make_node("Softplus", ["x"], ["y"], name="sp")]
    made = model(nodes, {"x": [1, 3]}, ["y"], opset=20)
    for side in (*made.graph.input, *made.graph.output):
        side.type.tensor_type.elem_type = onnx.TensorProto.BFLOAT16
    with pytest.raises(ModelError) as error:
        read(made)
    said = "node 'sp' (Softplus) does not fit its inputs bfloat16[1, 3] in opset 20; it does from"
    assert f"{said} opset 22 on: export the model with that" in refusal(error)


def test_outputs_may_be_inputs_or_constants(read: Any) -> None:
    weights = {"w": np.arange(3, dtype=np.float32)}
    graph = read(model([], {"x": [1, 2]}, ["x", "w"], weights))
    assert graph.outputs == ("x", "w")
    assert graph.order == ()
    np.testing.assert_array_equal(graph.constants["w"], [0, 1, 2])
    assert graph.types["x"].shape == (1, 2)


# --- nodes -----------------------------------------------------------------------------------


def test_names_are_unique_and_kept_where_given(read: Any) -> None:
    nodes = [
        relu(name="", target="a"),
        relu(name="r", source="a", target="b"),
        relu(name="r", source="b", target="c"),
        relu(name="Relu_0", source="c", target="d"),
        relu(name="", source="d", target="y"),
    ]
    graph = read(model(nodes, {"x": [1]}, ["y"]))
    assert [n.name for n in graph.order] == ["Relu_0_", "r", "r_2", "Relu_0", "Relu_4"]


def test_attributes_become_plain_values(read: Any) -> None:
    node = helper.make_node(
        "Conv", ["x", "w"], ["y"], group=1, pads=[1, 1, 1, 1], auto_pad="NOTSET"
    )
    graph = read(model([node], {"x": [1, 1, 4, 4]}, ["y"], {"w": np.ones((1, 1, 3, 3), "f4")}))
    assert graph.order[0].attributes == {"group": 1, "pads": (1, 1, 1, 1), "auto_pad": "NOTSET"}
    leaky = helper.make_node("LeakyRelu", ["x"], ["y"], alpha=0.1)
    attributes = read(model([leaky], {"x": [1]}, ["y"])).order[0].attributes
    assert attributes == {"alpha": float(np.float32(0.1))}


def test_omitted_inputs_keep_their_position(read: Any) -> None:
    node = helper.make_node("Clip", ["x", "", "high"], ["y"])
    graph = read(model([node], {"x": [3]}, ["y"], {"high": np.array(6, np.float32)}))
    assert graph.order[0].inputs == ("x", "", "high")


def test_nodes_in_any_order_are_sorted(read: Any) -> None:
    nodes = [
        relu(name="last", source="b"),
        relu(name="first", target="a"),
        relu(name="middle", source="a", target="b"),
    ]
    graph = read(model(nodes, {"x": [2]}, ["y"]))
    assert [n.name for n in graph.order] == ["first", "middle", "last"]
    nodes[1] = relu(name="first", source="y", target="a")
    with pytest.raises(ModelError, match="not a valid ONNX model"):
        read(model(nodes, {"x": [2]}, ["y"]))


def test_nodes_that_reach_no_output_are_left_out_whatever_they_are(read: Any) -> None:
    nodes = [
        relu(),
        helper.make_node("Foreign", ["x", "v"], ["z"], domain="some.where"),
    ]
    proto = model(nodes, {"x": [1]}, ["y"], {"v": np.ones(1, np.float32)})
    proto.opset_import.append(helper.make_opsetid("some.where", 1))
    graph = read(proto)
    assert [n.op for n in graph.order] == ["Relu"]
    assert graph.constants == {}
    assert set(graph.types) == {"x", "y"}
    assert graph.notes == ("1 node(s) that reach no output are left out",)


def test_operators_of_other_domains_are_refused(read: Any) -> None:
    scaler = helper.make_node(
        "CategoryMapper", ["x"], ["y"], name="s", domain="ai.onnx.ml", default_int64=0
    )
    proto = model([scaler], {"x": [1]}, ["y"])
    proto.opset_import.append(helper.make_opsetid("ai.onnx.ml", 2))
    with pytest.raises(UnsupportedModel, match=r"node 's' is ai\.onnx\.ml\.CategoryMapper"):
        read(proto)


def test_functions_of_the_model_are_refused(read: Any) -> None:
    function = helper.make_function(
        "mine", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    node = helper.make_node("Twice", ["x"], ["y"], name="t", domain="mine")
    proto = model([node], {"x": [1]}, ["y"], functions=[function])
    proto.opset_import.append(helper.make_opsetid("mine", 1))
    with pytest.raises(UnsupportedModel, match=r"node 't' \(Twice\) calls a function"):
        read(proto)


# --- dropout ---------------------------------------------------------------------------------


def dropout(
    outputs: list[str], training: bool | None, opset: int, ratio: float = 0.5
) -> onnx.ModelProto:
    inputs = ["x"] if training is None else ["x", "ratio", "training"]
    weights = {"ratio": np.array(ratio, np.float32), "training": np.array(bool(training))}
    extra: dict[str, Any] = {"ratio": 0.25} if opset < 12 else {}
    node = helper.make_node("Dropout", inputs, outputs, name="d", **extra)
    return model([node], {"x": [1, 2]}, [t for t in outputs if t != "unused"], weights, opset=opset)


@pytest.mark.parametrize(("training", "opset"), [(None, 7), (None, 10), (None, 13), (False, 13)])
@pytest.mark.parametrize("outputs", [["y"], ["y", "unused"]])
def test_dropout_is_identity_at_inference(
    read: Any, training: bool | None, opset: int, outputs: list[str]
) -> None:
    graph = read(dropout(outputs, training, opset))
    (node,) = graph.order
    assert (node.op, node.inputs, node.outputs, node.attributes) == ("Identity", ("x",), ("y",), {})
    assert graph.constants == {}
    assert set(graph.types) == {"x", "y"}
    assert graph.notes == ("1 Dropout node(s) are read as Identity, as at inference",)


def test_dropout_of_nothing_is_identity_in_training_too(read: Any) -> None:
    (node,) = read(dropout(["y"], True, 13, ratio=0.0)).order
    assert (node.op, node.inputs) == ("Identity", ("x",))


def test_dropout_in_training_is_refused(read: Any) -> None:
    with pytest.raises(UnsupportedModel, match=r"node 'd' \(Dropout\): its training mode is on"):
        read(dropout(["y"], True, 13))
    unknown = model(
        [helper.make_node("Dropout", ["x", "", "t"], ["y"])], {"x": [1], "t": []}, ["y"]
    )
    unknown.graph.input[1].type.tensor_type.elem_type = TensorProto.BOOL
    with pytest.raises(UnsupportedModel, match="its training mode is not constant"):
        read(unknown)


@pytest.mark.parametrize("opset", [10, 13])
def test_a_dropout_mask_that_is_used_is_refused(read: Any, opset: int) -> None:
    with pytest.raises(UnsupportedModel, match="its mask 'mask' is used"):
        read(dropout(["y", "mask"], None, opset))


# --- folding ---------------------------------------------------------------------------------

DATA = np.arange(24, dtype=np.float32).reshape(1, 4, 6) / 7
Case = tuple[str, list[Any], dict[str, Any], int]
MOVEMENT: list[Case] = [
    ("Identity", [DATA], {}, 17),
    ("Reshape", [DATA, [0, -1]], {}, 17),
    ("Reshape", [DATA, [2, -1, 3]], {}, 7),
    ("Reshape", [np.zeros((0, 3), np.float32), [3, 0]], {"allowzero": 1}, 17),
    ("Flatten", [DATA], {}, 8),
    ("Flatten", [DATA], {"axis": 0}, 17),
    ("Flatten", [DATA], {"axis": 3}, 17),
    ("Flatten", [DATA], {"axis": -1}, 17),
    ("Transpose", [DATA], {}, 17),
    ("Transpose", [DATA], {"perm": [1, 2, 0]}, 17),
    ("Squeeze", [DATA], {}, 17),
    ("Squeeze", [DATA], {"axes": [0]}, 11),
    ("Squeeze", [DATA[:, :1], [-2]], {}, 13),
    ("Unsqueeze", [DATA], {"axes": [0, 4]}, 11),
    ("Unsqueeze", [DATA, [-1, 0]], {}, 13),
    ("Concat", [DATA, DATA], {"axis": 1}, 17),
    ("Concat", [DATA, -DATA], {"axis": -1}, 17),
    ("Shape", [DATA], {}, 13),
    ("Shape", [DATA], {"start": 1, "end": -1}, 15),
    ("Shape", [DATA], {"start": -2}, 15),
    ("Gather", [DATA, [-1, 0]], {"axis": 2}, 17),
    ("Gather", [np.array([5, 6, 7]), np.array(1)], {}, 17),
    ("Gather", [DATA, np.array([[0, 1]], np.int32)], {"axis": 1}, 17),
    ("Slice", [DATA], {"starts": [1, 0], "ends": [100, -1], "axes": [1, 2]}, 9),
    ("Slice", [DATA], {"starts": [0, -3], "ends": [1, 3]}, 9),
    ("Slice", [DATA, [1], [2**62], [1], [2]], {}, 13),
    ("Slice", [DATA, [-1], [-(2**62)], [-1], [-2]], {}, 13),
    ("Slice", [DATA, [4], [-5], [2], [-1]], {}, 13),
    ("Slice", [DATA, [0, 1], [1, 3]], {}, 13),
    ("Expand", [DATA[:, :, :1], [3, 1, 4, 2]], {}, 17),
    ("ConstantOfShape", [[2, 3]], {}, 17),
    ("ConstantOfShape", [[2]], {"value": numpy_helper.from_array(np.array([-1]))}, 17),
    ("Where", [np.array([True, False]), np.array([1, 2]), np.array(9)], {}, 17),
    ("Add", [[1, 2], [3, 4]], {}, 17),
    ("Sub", [[1, 2], [3, 5]], {}, 17),
    ("Mul", [[[1], [2]], [3, -4]], {}, 17),
    ("Equal", [[1, 2], [1, 3]], {}, 17),
    ("Equal", [DATA, DATA[:1]], {}, 17),
    ("Less", [[1, 2], [1, 3]], {}, 17),
    ("GreaterOrEqual", [[1, 2], [1, 3]], {}, 17),
    ("Greater", [np.array([-np.inf, 2.0], np.float32), np.array([1.0], np.float32)], {}, 17),
    ("And", [np.array([True, False]), np.array([True])], {}, 17),
    ("Xor", [np.array([True, False]), np.array([True])], {}, 17),
    ("Not", [np.array([True, False])], {}, 17),
    ("Max", [[1, -2], [0, 0], [3, -9]], {}, 17),
    ("Min", [[1, -2], [0, 0], [3, -9]], {}, 17),
    ("Div", [[7, -7, 7, -7], [2, 2, -2, -2]], {}, 17),
    ("Mod", [[7, -7, 7, -7], [3, 3, -3, -3]], {}, 17),
    ("Mod", [[7, -7, 7, -7], [3, 3, -3, -3]], {"fmod": 1}, 17),
    ("Mod", [np.array(v, np.float32) for v in ((7.3, -7.3), (3.1, -0.7))], {"fmod": 1}, 17),
    ("Neg", [[7, -7]], {}, 17),
    ("Abs", [[7, -7]], {}, 17),
    ("Sign", [[7, -7, 0]], {}, 17),
    ("Size", [DATA], {}, 17),
    ("Range", [np.array(10), np.array(3), np.array(-3)], {}, 17),
    ("Range", [np.array(3), np.array(3), np.array(1)], {}, 17),
    ("Range", [np.array(v, np.float32) for v in (0.5, 3.1, 0.75)], {}, 17),
    ("ReduceProd", [[[1, 2], [3, 4]]], {"axes": [1]}, 17),
    ("ReduceProd", [[[1, 2], [3, 4]]], {"keepdims": 0}, 17),
    ("ReduceSum", [[[1, 2], [3, 4]], [-2]], {"keepdims": 0}, 17),
    ("ReduceSum", [[[1, 2], [3, 4]]], {"noop_with_empty_axes": 1}, 17),
    ("ReduceMax", [np.array([[1, 2], [3, -np.inf]], np.float32)], {"axes": [1]}, 17),
    ("ReduceMin", [[[1, 2], [3, 4]]], {}, 17),
    ("Cast", [[1, -2, 2**24]], {"to": FLOAT}, 17),
    ("Cast", [DATA], {"to": TensorProto.DOUBLE}, 17),
    ("Cast", [np.array([0.5, -2.0])], {"to": TensorProto.FLOAT16}, 17),
    ("Cast", [np.array([0.0, -3.0], np.float32)], {"to": TensorProto.INT32}, 17),
    ("Cast", [[0, 1]], {"to": TensorProto.BOOL}, 17),
    ("Cast", [np.array([True, False])], {"to": FLOAT}, 17),
]


@pytest.mark.parametrize("case", MOVEMENT, ids=lambda c: f"{c[0]}-{c[3]}")
def test_data_movement_on_constants_is_folded_to_what_onnxruntime_gives(
    tmp_path: Path, case: Case
) -> None:
    op, values, attributes, opset = case
    weights = {f"w{i}": np.asarray(value) for i, value in enumerate(values)}
    node = helper.make_node(op, list(weights), ["y"], **attributes)
    proto = model([node], {"x": [1]}, ["y"], weights, opset=opset)
    proto.graph.output[0].type.Clear()
    inferred = onnx.shape_inference.infer_shapes(proto).graph.output[0].type
    proto.graph.output[0].type.CopyFrom(inferred)
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)
    graph = load(path)
    assert graph.order == ()
    assert set(graph.constants) == {"y"}
    expected = session(proto).run(["y"], {"x": np.zeros(1, np.float32)})[0]
    assert graph.constants["y"].dtype == expected.dtype
    assert graph.constants["y"].shape == expected.shape == graph.types["y"].shape
    assert graph.constants["y"].tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("op", "values", "attributes"),
    [
        ("Add", [DATA, DATA], {}),
        ("Mul", [DATA, DATA], {}),
        ("Sub", [DATA, DATA], {}),
        ("Relu", [DATA], {}),
        ("Max", [np.array([0.0], np.float32), np.array([-0.0], np.float32)], {}),
        ("Equal", [np.array([0.0], np.float32), np.array([1e-40], np.float32)], {}),
        ("Div", [[1], [0]], {}),
        ("Mod", [[1], [0]], {}),
        ("Range", [np.array(v, np.float32) for v in (0.0, 0.5, 0.1)], {}),
        ("Cast", [np.array([0.1])], {"to": FLOAT}),
        ("Cast", [[2**24 + 1]], {"to": FLOAT}),
        ("Cast", [DATA], {"to": TensorProto.INT64}),
        ("Cast", [[300]], {"to": TensorProto.INT8}),
    ],
)
def test_arithmetic_and_rounding_on_constants_stay_in_the_graph(
    read: Any, op: str, values: list[Any], attributes: dict[str, Any]
) -> None:
    weights = {f"w{i}": np.asarray(value) for i, value in enumerate(values)}
    node = helper.make_node(op, list(weights), ["y"], **attributes)
    graph = read(model([node], {"x": [1]}, ["y"], weights))
    assert [n.op for n in graph.order if n.op != "Identity"] in ([op], ["Truncate"])
    assert set(graph.constants) == set(weights)


def test_a_cast_is_exact_only_inside_the_range_of_the_target() -> None:
    # 2^63 - 1 becomes 2^63 in float64, and saturates back to 2^63 - 1 on some machines.
    assert cast_exactly(np.array([2**63 - 1]), DType.FLOAT64) is None
    assert cast_exactly(np.array([2.0**63]), DType.INT64) is None
    assert cast_exactly(np.array([70000.0]), DType.FLOAT16) is None
    assert cast_exactly(np.array([257]), DType.BFLOAT16) is None
    whole = cast_exactly(np.array([-(2.0**63)]), DType.INT64)
    assert whole is not None
    assert whole.tolist() == [-(2**63)]


def test_cast_like_is_a_cast_to_the_type_of_its_second_input(read: Any) -> None:
    node = helper.make_node("CastLike", ["x", "like"], ["y"])
    graph = read(model([node], {"x": [1]}, ["y"], {"like": np.zeros(2, np.float16)}))
    assert [(n.op, n.inputs) for n in graph.order] == [("Cast", ("x",))]
    assert graph.types["y"] == TensorType(DType.FLOAT16, (1,))
    assert graph.order[0].attributes["to"] == TensorProto.FLOAT16


def test_an_infinity_that_a_choice_has_used_up_does_no_harm(read: Any) -> None:
    nodes = [
        helper.make_node("Less", ["mask", "limit"], ["is_low"]),
        helper.make_node("Where", ["is_low", "zero", "x"], ["y"]),
    ]
    weights = {
        "mask": np.array([-np.inf, 0], np.float32),
        "limit": np.array([-1e30], np.float32),
        "zero": np.zeros(1, np.float32),
    }
    graph = read(model(nodes, {"x": [2]}, ["y"], weights))
    assert graph.constants["is_low"].tolist() == [True, False]
    stored = [
        helper.make_node("Identity", ["mask"], ["m"]),
        helper.make_node("Mul", ["x", "m"], "y"),
    ]
    with pytest.raises(ModelError, match="initializer 'mask' holds an infinite value"):
        read(model(stored, {"x": [2]}, ["y"], weights))


def test_an_operator_that_is_a_function_is_decomposed_with_its_default_attributes(
    read: Any,
) -> None:
    node = helper.make_node("MeanVarianceNormalization", ["x"], ["y"])
    graph = read(model([node], {"x": [2, 3, 4, 5]}, ["y"]))
    means = [n for n in graph.order if n.op == "ReduceMean"]
    assert [graph.types[n.outputs[0]].shape for n in means] == [(1, 3, 1, 1)] * len(means)
    assert means
    assert any("MeanVarianceNormalization" in note for note in graph.notes)


def test_identity_on_a_variable_stays_a_node(read: Any) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    assert [n.op for n in read(model([node], {"x": [1]}, ["y"])).order] == ["Identity"]


def test_a_shape_computation_folds_away_and_fixes_the_reshape(read: Any) -> None:
    nodes = [
        relu(target="only_measured"),
        helper.make_node("Shape", ["only_measured"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["batch"]),
        helper.make_node("Unsqueeze", ["batch", "zeros"], ["batches"]),
        helper.make_node("Concat", ["batches", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["y"]),
    ]
    weights = {"zero": np.array(0), "zeros": np.array([0]), "rest": np.array([2, -1])}
    graph = read(model(nodes, {"x": ["N", 6]}, ["y"], weights))
    assert [n.op for n in graph.order] == ["Reshape"]
    assert graph.constants["target"].tolist() == [1, 2, -1]
    assert set(graph.constants) == {"target"}
    assert graph.types["y"].shape == (1, 2, 3)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "opset", "shape"),
    [
        ("Squeeze", [], {"axes": [0]}, 11, (1, 6)),
        ("Squeeze", [[1]], {}, 13, (1, 6)),
        ("Unsqueeze", [], {"axes": [3]}, 11, (1, 1, 6, 1)),
        ("Unsqueeze", [[-1]], {}, 13, (1, 1, 6, 1)),
        ("Reshape", [[0, -1]], {}, 13, (1, 6)),
        ("Reshape", [[3, 0, -1]], {}, 13, (3, 1, 2)),
        ("Flatten", [], {"axis": 2}, 13, (1, 6)),
    ],
)
def test_shapes_follow_the_opset(
    read: Any,
    op: str,
    inputs: list[Any],
    attributes: dict[str, Any],
    opset: int,
    shape: tuple[int, ...],
) -> None:
    weights = {f"w{i}": np.asarray(value) for i, value in enumerate(inputs)}
    node = helper.make_node(op, ["x", *weights], ["y"], **attributes)
    graph = read(model([node], {"x": [1, 1, 6]}, ["y"], weights, opset=opset))
    assert graph.types["y"].shape == shape


@pytest.mark.parametrize("source", ["x", "w"])
def test_a_squeeze_of_no_axes_is_refused_as_ambiguous(read: Any, source: str) -> None:
    node = helper.make_node("Squeeze", [source, "none"], ["y"], name="s")
    weights: dict[str, np.ndarray] = {
        "none": np.zeros(0, np.int64),
        "w": np.ones((1, 2), np.float32),
    }
    with pytest.raises(UnsupportedModel, match="its list of axes is empty"):
        read(model([node], {"x": [1, 2]}, ["y"], weights))


@pytest.mark.parametrize(
    ("op", "constant", "words"),
    [("Gather", [7], "does not fit"), ("Reshape", [5, -1], "does not fit")],
)
def test_constants_that_do_not_fit_are_refused(
    read: Any, op: str, constant: list[int], words: str
) -> None:
    node = helper.make_node(op, ["w", "c"], ["y"], name="n")
    weights: dict[str, Any] = {"w": np.ones((2, 3), np.float32), "c": constant}
    with pytest.raises(ModelError, match=rf"node 'n' \({op}\) {words}"):
        read(model([node], {"x": [1]}, ["y"], weights))


# --- models of the field ---------------------------------------------------------------------


def session(proto: onnx.ModelProto) -> Any:
    """onnxruntime without optimisations, which would fold constants itself."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


@pytest.mark.skipif(not FILES, reason=f"no models in {MODELS}")
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_types_and_constants_of_real_models_equal_onnxruntime(path: Path) -> None:
    refused = {**REFUSED, "dropout_training_mode_true": "its training mode is on"}
    if path.stem in refused:
        with pytest.raises(ModelError, match=refused[path.stem]):
            load(path)
        return
    graph = load(path)
    proto = onnx.load(path)
    declared = {value.name for value in proto.graph.output}
    written = [t for node in proto.graph.node for t in node.output if t in graph.types]
    shown = (t for t in written if t not in declared)
    names = list(dict.fromkeys((*graph.outputs, *shown)))
    proto.graph.output.extend(onnx.ValueInfoProto(name=t) for t in names if t not in declared)
    zeros = {t: np.zeros(graph.types[t].shape, graph.types[t].dtype.numpy) for t in graph.inputs}
    results = dict(zip(names, session(proto).run(names, zeros), strict=True))
    for name, result in results.items():
        assert graph.types[name] == TensorType(DType(result.dtype.name), result.shape), name
        if graph.is_constant(name):
            assert graph.constants[name].tobytes() == result.tobytes(), name
    stored = {t.name: t for t in proto.graph.initializer}
    for name in stored.keys() & graph.constants.keys():
        np.testing.assert_array_equal(graph.constants[name], numpy_helper.to_array(stored[name]))
    reached = {*graph.inputs, *graph.constants, *(t for n in graph.order for t in n.outputs if t)}
    assert reached == set(graph.types)


@pytest.mark.skipif(not FILES, reason=f"no models in {MODELS}")
def test_no_folder_of_models_is_forgotten() -> None:
    assert len(FILES) >= 100


def test_names_that_readers_make_give_way_to_those_of_the_file(tmp_path: Path) -> None:
    """A node of constants alone is given an operand that is computed, and masks are named: under
    names with an @ that a file may have, too."""
    for live, name in (("w@n", "a"), ("t", "n@w"), ("w@n", "n@w"), ("t@finite", "sm@Where")):
        nodes = [
            helper.make_node("Add", ["x", "v"], [live], name),
            helper.make_node("Exp", ["w"], ["e"], "n"),
            helper.make_node("Add", [live, "e"], ["out"], "last"),
        ]
        stored = {n: np.array([1.0, 2.0], np.float32) for n in ("w", "v")}
        path = save_small(tmp_path / "m.onnx", nodes, {"x": [1, 2]}, {"out": [1, 2]}, stored)
        graph = load(path)
        assert len(graph.order) == 4
        assert any(node.name == name and node.outputs == (live,) for node in graph.order)
