"""Gradient graphs that `refine grad` writes, run by onnxruntime, beside derivatives by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from small_models import save

from encoders.arithmetic.exact_fields import Balls
from encoders.gradients.tape import ROUNDED
from gpu_check.emulator.exact import evaluate_exact
from gpu_check.runtimes.runtimes import OnnxRuntime
from onnx_import.errors import ModelError, UnsupportedModel
from onnx_import.graph import Array
from onnx_import.onnx.reader import load
from onnx_import.onnx.writer import model_of
from refine.cli.main import cli, run
from refine.gradients.request import Request
from refine.results.verdict import ExitCode


def run_file(path: Path, given: Mapping[str, Array]) -> list[npt.NDArray[np.float32]]:
    """The outputs of a model by onnxruntime, of the inputs that it has."""
    found = OnnxRuntime(path.read_bytes()).run(given)
    return [np.asarray(v, np.float32) for v in found.values()]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def classifier(tmp_path: Path, rng: np.random.Generator) -> Path:
    nodes = [
        helper.make_node("Gemm", ["x", "W1", "b1"], ["z"]),
        helper.make_node("Relu", ["z"], ["h"]),
        helper.make_node("MatMul", ["h", "W2"], ["Y"]),
    ]
    shapes = {"W1": (4, 8), "b1": (8,), "W2": (8, 3)}
    weights = {name: rng.normal(size=s).astype(np.float32) for name, s in shapes.items()}
    return save(tmp_path / "mlp.onnx", nodes, {"x": [2, 4]}, {"Y": [2, 3]}, weights)


def test_a_step_by_onnxruntime_is_that_by_hand(
    classifier: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    """The command's file is an ordinary model: a step of SGD on cross-entropy, in float64 by
    hand."""
    step = tmp_path / "step.onnx"
    arguments = ["grad", str(classifier), "--loss", "cross-entropy", "--wrt", "W2", "-o", str(step)]
    assert run([*arguments, "--step", "sgd", "--lr", "0.5", "-q"]) is ExitCode.VERIFIED
    onnx.checker.check_model(onnx.load(step), full_check=True)
    x = rng.normal(size=(2, 4)).astype(np.float32)
    target = np.eye(3, dtype=np.float32)[[0, 2]]
    gradient, moved = run_file(step, {"x": x, "target": target})
    w1, b1, w2 = (load(classifier).constants[n].astype(float) for n in ("W1", "b1", "W2"))
    hidden = np.maximum(x @ w1 + b1, 0)
    scores = hidden @ w2
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    wanted = hidden.T @ (p - target) / 2
    assert np.allclose(gradient, wanted, rtol=1e-5, atol=1e-6)
    assert np.allclose(moved, w2 - 0.5 * wanted, rtol=1e-5, atol=1e-6)


def test_what_has_no_rule_is_refused_by_name(tmp_path: Path) -> None:
    nodes = [helper.make_node("GridSample", ["x", "g"], ["Y"])]
    stored = {"g": np.zeros((1, 2, 2, 2), np.float32)}
    path = save(tmp_path / "m.onnx", nodes, {"x": [1, 1, 4, 4]}, {"Y": None}, stored, opset=20)
    with pytest.raises(UnsupportedModel, match=r"GridSample.*no rule"):
        Request().gradient_of(load(path))


def test_a_model_of_integers_alone_names_its_weights(tmp_path: Path) -> None:
    nodes = [helper.make_node("Gather", ["table", "ids"], ["y"])]
    table = {"table": np.ones((5, 2), np.float32)}
    path = save(tmp_path / "m.onnx", nodes, {"ids": [3]}, {"y": [3, 2]}, table)
    made = onnx.load(path)
    made.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    onnx.save(made, path)
    with pytest.raises(ModelError, match="name weights with --wrt: there is table"):
        Request().gradient_of(load(path))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--wrt", "q"], "no input or weight 'q'"),
        (["--of", "q"], "no output 'q'"),
        (["--loss", "Y*Y"], "is no number"),
        (["--loss", "Y["], "is no loss"),
        (["--loss", "mean(q)"], "no output or input 'q'"),
        (["--loss", "mean(Y/0)"], "divides by 0"),
        (["--value", "Y*1e39"], "beyond the numbers of float32"),
        (["--step", "sgd"], "--lr"),
        (["--step", "sgd", "--lr", "-1", "--wrt", "W2"], "positive"),
    ],
)
def test_what_cannot_be_asked_is_said(
    classifier: Path,
    tmp_path: Path,
    options: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = ["grad", str(classifier), "-o", str(tmp_path / "v.onnx"), *options]
    assert run(made) is ExitCode.INPUT_ERROR
    assert said in capsys.readouterr().err
    assert not (tmp_path / "v.onnx").exists()
    assert CliRunner().invoke(cli, made).exit_code  # and never a traceback


def test_a_gradient_graph_can_be_differentiated_again(
    classifier: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    """∂/∂upstream of the gradient by x, in a direction v, is the forward derivative: J·v."""
    first = Request(wrt="x").gradient_of(load(classifier))
    again = Request(of="grad_x", wrt="upstream").gradient_of(first)
    onnx.save(model_of(again, "again"), tmp_path / "again.onnx")
    x, v = (rng.normal(size=(2, 4)).astype(np.float32) for _ in range(2))
    given = {"x": x, "upstream": np.zeros((2, 3), np.float32), "upstream_": v}
    (tangent,) = run_file(tmp_path / "again.onnx", given)
    w1, b1, w2 = (load(classifier).constants[n].astype(float) for n in ("W1", "b1", "W2"))
    wanted = ((v @ w1) * (x @ w1 + b1 > 0)) @ w2
    assert np.allclose(tangent, wanted, rtol=1e-4, atol=1e-5)


def test_batch_statistics_are_those_of_the_batch(tmp_path: Path, rng: np.random.Generator) -> None:
    """BatchNormalization in training, whose three outputs ONNX's reference gives, and its gradient
    by x against differences of that."""
    stored = {n: rng.uniform(0.5, 1.5, 3).astype(np.float32) for n in "sbmv"}
    node = helper.make_node(
        "BatchNormalization", ["x", *stored], ["Y", "mean", "variance"],
        training_mode=1, momentum=0.75,
    )  # fmt: skip
    path, written = tmp_path / "statistics.onnx", dict.fromkeys(node.output)
    save(path, [node], {"x": [4, 3, 2, 2]}, written, stored, opset=15)
    x = rng.normal(size=(4, 3, 2, 2)).astype(np.float32)
    read = load(path)
    exact = evaluate_exact(read, {"x": x}, Balls(200))
    reference = ReferenceEvaluator(str(path)).run(None, {"x": x})
    for name, wanted in zip(node.output, reference, strict=True):
        found = np.array([float(v) for v in exact[name].ravel()]).reshape(wanted.shape)
        assert np.allclose(found, wanted, atol=1e-6)
    gradient = Request(of="Y").gradient_of(read)
    onnx.save(model_of(gradient, "gradient"), tmp_path / "gradient.onnx")
    up = rng.normal(size=x.shape).astype(np.float32)
    (found,) = run_file(tmp_path / "gradient.onnx", {"x": x, "upstream": up})

    def weighed(values: npt.NDArray[np.float64]) -> float:
        axes = (0, 2, 3)
        centred = values - values.mean(axes, keepdims=True)
        z = centred / np.sqrt((centred**2).mean(axes, keepdims=True) + np.float32(1e-5))
        return float((z * stored["s"].reshape(1, 3, 1, 1) * up).sum())

    for place in ((0, 0, 0, 0), (3, 2, 1, 1), (1, 1, 0, 1)):
        step = np.zeros(x.shape)
        step[place] = 1e-5
        slope = (weighed(x + step) - weighed(x - step)) / 2e-5
        assert abs(found[place] - slope) < 1e-4


def test_a_mask_that_is_given_is_the_one_that_is_differentiated(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    node = helper.make_node("Dropout", ["x", "ratio", "on"], ["Y"], name="drop")
    stored = {"ratio": np.float32(0.5), "on": np.array(True)}
    path = tmp_path / "dropping.onnx"
    save(path, [node], {"x": [2, 3]}, {"Y": None}, stored, opset=13)
    assert run(["grad", str(path), "-o", str(tmp_path / "v.onnx"), "-q"]) is ExitCode.VERIFIED
    mask = np.array([[1, 0, 1], [0, 0, 1]], np.float32)
    up = rng.normal(size=(2, 3)).astype(np.float32)
    given = {"x": up, "drop.mask": mask, "upstream": up}
    (found,) = run_file(tmp_path / "v.onnx", given)
    assert np.array_equal(found, up * mask * 2)


def test_labels_that_are_ignored_get_no_gradient(tmp_path: Path, rng: np.random.Generator) -> None:
    """SoftmaxCrossEntropyLoss with its labels given: of the mean over those that count."""
    node = helper.make_node(
        "SoftmaxCrossEntropyLoss", ["x", "labels"], ["Y"], ignore_index=-1, reduction="mean"
    )
    graph = helper.make_graph(
        [node],
        "loss",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 4]),
            helper.make_tensor_value_info("labels", TensorProto.INT64, [3]),
        ],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)],
    )
    path = tmp_path / "loss.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), path)
    labels = np.array([2, -1, 0])
    np.savez(tmp_path / "labels.npz", labels=labels)
    arguments = ["grad", str(path), "--wrt", "x", "--given", str(tmp_path / "labels.npz"), "--ones"]
    assert run([*arguments, "-o", str(tmp_path / "v.onnx"), "-q"]) is ExitCode.VERIFIED
    x = rng.normal(size=(3, 4)).astype(np.float32)
    (found,) = run_file(tmp_path / "v.onnx", {"x": x})
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    wanted = (p - np.eye(4)[np.maximum(labels, 0)]) * (labels >= 0)[:, None] / 2
    assert np.allclose(found, wanted, atol=1e-6)


def test_a_residual_of_second_derivatives_is_that_by_hand(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """u_t + u·u_x − ν·u_xx of a layer of tanh, by three commands and onnxruntime."""
    w, v, b, a = (rng.normal(size=5).astype(np.float32) for _ in range(4))
    made = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> net (float[1,1] t, float[1,1] x) => '
        "(float[1,1] u) { p = Concat <axis = 1> (t, x)  z = Gemm(p, W, b)  h = Tanh(z)"
        "  u = MatMul(h, A) }"
    )
    stored = {"W": np.stack([w, v]), "b": b, "A": a[:, None]}
    made.graph.initializer.extend(numpy_helper.from_array(s, n) for n, s in stored.items())
    names = ("u", "first", "second", "residual")
    paths = [str(tmp_path / f"{name}.onnx") for name in names]
    onnx.save(made, paths[0])
    for read, written, options in (
        (0, 1, ["--wrt", "t,x", "--ones", "--keep"]),
        (1, 2, ["--of", "grad_x", "--wrt", "x", "--ones", "--keep"]),
        (2, 3, ["--value", "grad_t + u*grad_x - 0.25*grad_x_of_grad_x"]),
    ):
        assert run(["grad", paths[read], *options, "-o", paths[written], "-q"]) is ExitCode.VERIFIED
    for t, x in rng.uniform(-1, 1, (10, 2)).astype(np.float32):
        given = {"t": np.array([[t]]), "x": np.array([[x]])}
        ((found,),) = run_file(Path(paths[3]), given)
        s = np.tanh(np.float64(t) * w + np.float64(x) * v + b)
        one = 1 - s * s
        u, u_t, u_x = s @ a, one @ (a * w), one @ (a * v)
        wanted = u_t + u * u_x - 0.25 * ((-2 * s * one) @ (a * v * v))
        assert abs(found[0] - wanted) < 1e-5


@pytest.mark.parametrize("opset", [7, 8, 10, 12, 17])
def test_models_of_old_opsets_are_differentiated(opset: int, tmp_path: Path) -> None:
    """Of the largest elements of windows the first gets all, at every opset."""
    nodes = [
        helper.make_node("MaxPool", ["x"], ["m"], kernel_shape=[2], strides=[2]),
        helper.make_node("Mul", ["m", "s"], ["Y"]),
    ]
    scales = {"s": np.array([2, 3, 4], np.float32)}
    path = tmp_path / "old.onnx"
    save(path, nodes, {"x": [1, 1, 6]}, {"Y": None}, scales, opset=opset)
    assert run(["grad", str(path), "--ones", "-o", str(tmp_path / "v.onnx"), "-q"]) is (
        ExitCode.VERIFIED
    )
    x = np.array([[[1, 5, 7, 7, 9, 8]]], np.float32)
    (found,) = run_file(tmp_path / "v.onnx", {"x": x})
    assert found.tolist() == [[[0, 2, 3, 0, 4, 0]]]


def test_places_that_are_scalars_stay_scalars_in_the_file(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """A row that is gathered by one number has an axis less; so do the steps of an LSTM, which the
    reader writes out, and onnxruntime has to read them again."""
    made = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> row (float[3,2] x) => (float[2] y) '
        "<int64 place = {1}> { r = Gather <axis = 0> (x, place)  y = Mul(r, r) }"
    )
    onnx.save(made, tmp_path / "row.onnx")
    shapes = {"w": (1, 12, 2), "r": (1, 12, 3), "b": (1, 24)}
    stored = {n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items()}
    lstm = helper.make_node("LSTM", ["x", *shapes], ["y"], hidden_size=3)
    save(tmp_path / "lstm.onnx", [lstm], {"x": [4, 1, 2]}, {"y": None}, stored)
    for name, shape in (("row", (3, 2)), ("lstm", (4, 1, 2))):
        source, path = tmp_path / f"{name}.onnx", tmp_path / f"v-{name}.onnx"
        assert run(["grad", str(source), "--ones", "-o", str(path), "-q"]) is ExitCode.VERIFIED
        onnx.checker.check_model(onnx.load(path), full_check=True)
        x = rng.normal(size=shape).astype(np.float32)
        (found,) = run_file(path, {"x": x})
        step = np.zeros(shape, np.float32)
        step[1] = 2.0**-8
        ends = [np.sum(run_file(source, {"x": x + sign * step})[0]) for sign in (1, -1)]
        assert abs((ends[0] - ends[1]) * 2.0**7 - np.sum(found[1])) < 1e-2


def test_numbers_that_a_type_does_not_have_are_meant_exactly(tmp_path: Path) -> None:
    """alpha = 0.1 in float16: the rule is checked with the number itself, and a note says what is
    stored; two inputs are drawn each from its own range."""
    made = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> half (float16[2] x, float16[2] y) => '
        "(float16[2] z) { a = LeakyRelu <alpha = 0.1> (x)  z = Mul(a, y) }"
    )
    path = tmp_path / "half.onnx"
    onnx.save(made, path)
    assert run(["grad", str(path), "--check", "-q"]) is ExitCode.VERIFIED
    gradient = Request(wrt="x,x,y").gradient_of(load(path))
    assert gradient.outputs == ("grad_x", "grad_y")
    (said,) = (note for note in gradient.notes if note.startswith(ROUNDED))
    assert said.endswith(": 0.100000001")
