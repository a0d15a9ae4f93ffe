"""Operators of ai.onnx.ml, classical pipelines, as the operators of ONNX that they are made of.

They compute in float32 whatever they are given. Where ONNX is silent on how scores become labels,
onnxruntime is followed; where the two are known to part, the use is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import onnx

from onnx_import.graph import Array, DType, Node, TensorType
from onnx_import.passes.body import Body
from onnx_import.passes.trees import (
    aggregated,
    grown,
    integers,
    listed,
    new_forest,
    old_forest,
    regressed,
    softened,
    word,
    words,
)

DOMAIN = "ai.onnx.ml"
_MOST_KEYS = 256
_DOUBLE = onnx.TensorProto.DOUBLE


def pipeline(
    node: Node,
    types: Mapping[str, TensorType],
    constants: Mapping[str, Array],
    taken: Collection[str],
) -> Body:
    """The node with operators of ONNX. Raises UnsupportedModel, naming the node."""
    body = Body(node, types, constants, taken)
    body.written_by(PIPELINES[node.op])
    return body


def _output(body: Body, position: int) -> str:
    outputs = body.node.outputs
    return outputs[position] if position < len(outputs) else ""


def _write(body: Body, tensor: str, position: int = 0) -> None:
    if _output(body, position):
        body.add("Identity", tensor, output=_output(body, position))


def _single(body: Body, rank: int | None = 2) -> str:
    """The first input as float32 numbers, of so many axes."""
    x = body.node.inputs[0]
    kind = body.types[x]
    if rank is not None and len(kind.shape) != rank:
        raise body.unsupported(f"its input has {len(kind.shape)} axes; supported are {rank}")
    if kind.dtype is DType.FLOAT32:
        return x
    return body.add("Cast", x, to=onnx.TensorProto.FLOAT)


def _numbers(body: Body, name: str, default: float) -> Array:
    return np.array(body.number(name, None) or (default,), np.float32)


def _scaler(body: Body) -> None:
    """(x - offset)·scale."""
    offset, scale = (body.store(_numbers(body, n, d)) for n, d in (("offset", 0), ("scale", 1)))
    _write(body, body.add("Mul", body.add("Sub", _single(body, None), offset), scale))


def _normalizer(body: Body) -> None:
    """Rows divided by their largest number, their sum of magnitudes, or their Euclidean norm."""
    x, norm = _single(body), word(body, "norm", "MAX")
    if norm not in ("MAX", "L1", "L2"):
        raise body.unsupported(f"attribute 'norm' is '{norm}', which has no meaning here")
    size = body.over("ReduceMax" if norm == "MAX" else f"Reduce{norm}", x, [1], keepdims=1)
    if norm == "L2":
        zeros = _uncertain_zeros(body, x)
        shares = body.add("Div", body.add("Add", x, zeros), size)
        _write(body, body.add("Add", shares, zeros))
    else:
        _write(body, body.add("Div", x, size))


def _uncertain_zeros(body: Body, x: str) -> str:
    """Zeros whose bound is 2^-63 or more. onnxruntime takes the root of x²/Σx², so that a square or
    a quotient below the least normal number, 2^-126, costs up to the root of that number: these
    zeros, added to x and to what is divided, stand for that. They are the difference of two
    exponentials of 0, scaled, each with an error of its own."""
    nothing = body.add("Mul", x, body.store(np.zeros((), np.float32)))
    scale = body.store(np.asarray(2.0**-40, np.float32))
    parts = [body.add("Mul", body.add("Exp", nothing), scale) for _ in range(2)]
    return body.add("Sub", *parts)


def _imputer(body: Body) -> None:
    """Other numbers where one is found."""
    x = body.node.inputs[0]
    dtype = body.types[x].dtype
    if not dtype.is_float:
        raise body.unsupported(f"its input holds {dtype.value} numbers")
    found = np.float32(body.number("replaced_value_float", 0.0))  # never NaN: those are gone
    values = np.array(body.number("imputed_value_floats", ()), np.float32)
    if len(values) not in (1, body.types[x].shape[-1]):
        raise body.unsupported(f"it has {len(values)} imputed values")
    here, instead = (body.store(v.astype(dtype.numpy)) for v in (np.asarray(found), values))
    _write(body, body.add("Where", body.add("Equal", x, here), instead, x))


def _binarizer(body: Body) -> None:
    """1 above a threshold, else 0."""
    x = body.node.inputs[0]
    kind = body.types[x].dtype
    if not kind.is_float:
        raise body.unsupported(f"its input holds {kind.value} numbers")
    limit = np.float32(body.number("threshold", 0.0))
    one, zero = (body.store(np.asarray(v, kind.numpy)) for v in (1, 0))
    above = body.add("Greater", x, body.store(limit.astype(kind.numpy).reshape(())))
    _write(body, body.add("Where", above, one, zero))


def _exact(body: Body, x: str) -> str:
    """Integers of up to 2^53 as numbers that can be compared; other numbers as they are."""
    if body.types[x].dtype.is_float:
        return x
    return body.add("Cast", x, to=_DOUBLE)


def _one_hot_encoder(body: Body) -> None:
    """1 at the place of a category, else 0."""
    x = body.node.inputs[0]
    categories = integers(body, "cats_int64s")
    if not len(categories):
        raise body.unsupported("its categories are texts, which are not supported")
    if len(set(categories.tolist())) < len(categories):
        raise body.unsupported("a category is there twice; runtimes differ in which counts")
    if not body.number("zeros", 1):
        raise body.unsupported(
            "attribute 'zeros' is 0: what is no category is an error at run time"
        )
    if body.types[x].dtype.is_float:
        x = body.add("Cast", x, to=onnx.TensorProto.INT64)
        body.types = {**body.types, x: TensorType(DType.INT64, body.shape(0))}
    tall = body.reshape(_exact(body, x), *body.shape(0), 1)
    here = body.add("Equal", tall, body.store(categories.astype(np.float64)))
    one, zero = (body.store(np.array(v, np.float32)) for v in (1, 0))
    _write(body, body.add("Where", here, one, zero))


def _array_feature_extractor(body: Body) -> None:
    """Places of the last axis; of stored numbers in one row, places that are computed, too."""
    x, y = body.node.inputs
    shape, count = body.shape(0), body.types[y].size
    held, at = body.known.get(x), body.known.get(y)
    if at is not None and not set(at.reshape(-1).tolist()) <= set(range(shape[-1])):
        raise body.unsupported(f"a place is none of the {shape[-1]} of its last axis")
    if y not in body.known and held is not None and held.size == shape[-1] <= _MOST_KEYS:
        places = body.add("Cast", body.reshape(y, *shape[:-1], count), to=_DOUBLE)
        keys = np.arange(held.size, dtype=np.float64)
        if np.array_equal(keys, held.reshape(-1)):
            code = onnx.helper.np_dtype_to_tensor_dtype(held.dtype)
            found = body.add("Cast", body.reshape(y, *shape[:-1], count), to=code)
        else:
            table = dict(zip(keys, held.reshape(-1), strict=True))
            found = _looked_up(body, places, table, held)
    elif at is None:
        raise body.unsupported(
            "its places are computed: a negative one fails when it runs, and would be read as "
            "counted from the end"
        )
    else:
        found = body.add("Gather", x, body.reshape(y, -1), axis=len(shape) - 1)
    _write(body, body.reshape(found, 1, -1) if len(shape) == 1 else found)


def _looked_up(body: Body, x: str, table: Mapping[Any, Any], like: Array, default: str = "") -> str:
    """What a table holds for each number of x, else the default, or its last value; `like` is an
    array of the type of its values."""
    whole = like.dtype.kind != "f"
    kind = np.dtype(np.float64) if whole else like.dtype
    pairs = list(table.items())
    if not default:
        default = body.store(np.asarray(pairs.pop()[1], kind))
    for key, value in pairs:
        here = body.add("Equal", x, body.store(np.asarray(key)))
        default = body.add("Where", here, body.store(np.asarray(value, kind)), default)
    if whole:
        code = onnx.helper.np_dtype_to_tensor_dtype(like.dtype)
        return body.add("Cast", default, to=code)
    return default


def _label_encoder(body: Body) -> None:
    """A table from numbers to numbers."""
    keys = _table(body, "keys")
    values = _table(body, "values")
    if keys is None or values is None:
        raise body.unsupported("its keys or values are texts, which are not supported")
    if len(keys) != len(values) or not 0 < len(keys) <= _MOST_KEYS:
        raise body.unsupported(
            f"it has {len(keys)} keys and {len(values)} values; supported are 1 to {_MOST_KEYS}"
        )
    if values.dtype.kind == "f":
        default: Array = np.asarray(body.number("default_float", -0.0))
    else:
        default = np.asarray(body.number("default_int64", -1))
    given = body.number("default_tensor", None)
    default = default if given is None else np.asarray(given).reshape(-1)[0]
    x = body.node.inputs[0]
    kind = body.types[x].dtype.numpy if body.types[x].dtype.is_float else np.dtype(np.float64)
    if np.any(keys.astype(kind) != keys):
        raise body.unsupported(f"a key is no {kind.name} number")
    if len(set(keys.tolist())) < len(keys):
        raise body.unsupported("a key is there twice; runtimes differ in which counts")
    made = np.dtype(np.float64) if values.dtype.kind == "i" else values.dtype
    start = body.store(np.asarray(default).astype(made).reshape(()))
    pairs = dict(zip(keys.astype(kind), values, strict=True))
    _write(body, _looked_up(body, _exact(body, x), pairs, values, start))


def _table(body: Body, name: str) -> Array | None:
    held = body.number(f"{name}_tensor", None)
    if isinstance(held, np.ndarray) and held.dtype.kind in "if":
        return held.reshape(-1)
    for suffix, kind in (("floats", np.float32), ("int64s", np.int64)):
        if body.number(f"{name}_{suffix}", ()):
            return np.array(body.number(f"{name}_{suffix}", ()), kind)
    return None


def _scores(body: Body, targets: int) -> str:
    """x·coefficientsᵀ + intercepts, shape (rows, targets). Coefficients of more targets than there
    are stay unread, as onnxruntime does it."""
    x = _single(body)
    features = body.shape(0)[1]
    given = np.array(body.number("coefficients", ()), np.float32)
    if len(given) < targets * features:
        raise body.unsupported(
            f"it has {len(given)} coefficients for {targets} targets and {features} features"
        )
    weights = given[: targets * features].reshape(targets, features)
    added = body.number("intercepts", ())
    if added and len(added) != targets:
        raise body.unsupported(f"it has {len(added)} intercepts for {targets} targets")
    bias = [body.store(np.array(added, np.float32))] if added else []
    return body.add("Gemm", x, body.store(weights), *bias, transB=1)


def _linear_regressor(body: Body) -> None:
    targets = int(body.number("targets", 1))
    _write(body, regressed(body, _scores(body, targets), targets))


def _linear_classifier(body: Body) -> None:
    labels, classes = _labels(body)
    single = len(body.number("coefficients", ())) == body.shape(0)[1] and classes == 2
    if classes < 2 or (single and word(body, "post_transform", "NONE") != "LOGISTIC"):
        raise body.unsupported(
            "supported are coefficients for each of at least two classes, or for the second of "
            "two with 'post_transform' LOGISTIC; runtimes differ in what others mean"
        )
    scores = _scores(body, 1 if single else classes)
    if single:
        scores = body.add("Concat", body.add("Neg", scores), scores, axis=1)
    _label(body, scores, labels)
    if _output(body, 1):
        _write(body, softened(body, scores), 1)


def _labels(body: Body) -> tuple[Array | None, int]:
    """The labels of classes where they are integers, and how many there are."""
    for name in ("classlabels_ints", "classlabels_int64s"):
        if body.number(name, ()):
            return integers(body, name), len(integers(body, name))
    return None, len(words(body, "classlabels_strings"))


def _label(body: Body, scores: str, labels: Array | None) -> None:
    """The label of the first of the largest scores, where it is a number."""
    if _output(body, 0) and labels is not None:
        best = body.add("ArgMax", scores, axis=1, keepdims=0)
        keys = np.arange(len(labels), dtype=np.float64)
        if not np.array_equal(keys, labels):
            table = dict(zip(keys, labels, strict=True))
            best = _looked_up(body, body.add("Cast", best, to=_DOUBLE), table, labels)
        _write(body, best)


def _kernel(body: Body, x: str, rows: Array) -> str:
    """The kernel of every row of x with each of these, shape (rows of x, rows)."""
    kind = word(body, "kernel_type", "LINEAR")
    gamma, shift, degree = (float(v) for v in (*body.number("kernel_params", ()), 0, 0, 0)[:3])
    if kind == "RBF":
        scale = body.store(np.array(gamma, np.float32))
        n, m, f = body.shape(0)[0], *rows.shape
        apart = body.add("Sub", body.reshape(x, n, 1, f), body.store(rows.reshape(1, m, f)))
        squares = body.over("ReduceSum", body.add("Mul", apart, apart), [2])
        return body.add("Exp", body.add("Neg", body.add("Mul", squares, scale)))
    if kind == "LINEAR":
        return body.add("Gemm", x, body.store(rows), transB=1)
    added = [body.store(np.array([shift], np.float32))] if shift else []
    line = body.add("Gemm", x, body.store(rows), *added, transB=1, alpha=gamma)
    if kind == "SIGMOID":
        return body.add("Tanh", line)
    if kind == "POLY" and degree == int(degree) and degree > 0:
        return body.add("Pow", line, body.store(np.array(degree, np.float32)))
    raise body.unsupported(f"attribute 'kernel_type' is '{kind}' here, which is not supported")


def _svm_regressor(body: Body) -> None:
    x, count = _single(body), int(body.number("n_supports", 0))
    weights = np.array(body.number("coefficients", ()), np.float32)
    rho = np.array(body.number("rho", ()), np.float32)
    if (
        body.number("one_class", 0)
        or len(rho) != 1
        or word(body, "post_transform", "NONE") != "NONE"
    ):
        raise body.unsupported("supported is one target, without a transformation of its scores")
    if count:
        held = np.array(body.number("support_vectors", ()), np.float32).reshape(count, -1)
        x = _kernel(body, x, held)
    _write(body, body.add("Gemm", x, body.store(weights.reshape(1, -1)), body.store(rho), transB=1))


def _svm_classifier(body: Body) -> None:
    """Pairs of classes are compared, and the class that wins most of them is the label.

    The score of classes i and j is Σ coefficient·kernel over their support vectors, and rho; where
    it is above 0, i wins. Of two classes the scores are (-score, score).
    """
    labels, classes = _labels(body)
    counts = integers(body, "vectors_per_class").tolist()
    if len(counts) != classes or classes < 2 or body.number("prob_a", ()):
        raise body.unsupported(
            "supported are support vectors of at least two classes, without probabilities, which "
            "are the result of an iteration"
        )
    pairs = [(i, j) for i in range(classes) for j in range(i + 1, classes)]
    given = np.array(body.number("coefficients", ()), np.float32).reshape(classes - 1, -1)
    held = np.array(body.number("support_vectors", ()), np.float32).reshape(sum(counts), -1)
    rho = np.array(body.number("rho", ()), np.float32)
    starts = np.cumsum([0, *counts])
    weights = np.zeros((len(pairs), sum(counts)), np.float32)
    votes = np.zeros((len(pairs), classes), np.float32)
    for row, (i, j) in enumerate(pairs):
        for mine, other in ((i, j - 1), (j, i)):
            part = slice(starts[mine], starts[mine + 1])
            weights[row, part] = given[other, part]
        votes[row, i], votes[row, j] = 1, -1
    if len(rho) != len(pairs):
        raise body.unsupported(f"it has {len(rho)} numbers rho for {len(pairs)} pairs of classes")
    kernels = _kernel(body, _single(body), held)
    scores = body.add("Gemm", kernels, body.store(weights), body.store(rho), transB=1)
    one, zero = (body.store(np.array(v, np.float32)) for v in (1, 0))
    if _output(body, 0) and labels is not None:
        won = body.add("Greater", scores, body.store(np.zeros((), np.float32)))
        taken = body.add("Where", won, one, zero)
        lost = body.store(np.sum(votes < 0, axis=0).astype(np.float32))
        _label(body, body.add("Gemm", taken, body.store(votes), lost), labels)
    if _output(body, 1):
        if classes == 2:
            scores = body.add("Concat", body.add("Neg", scores), scores, axis=1)
        _write(body, softened(body, scores, ("NONE", "LOGISTIC")), 1)


def _features(body: Body) -> str:
    """The features that trees compare: float32 or float64 numbers."""
    x = body.node.inputs[0]
    kind = body.types[x]
    if len(kind.shape) != 2 or kind.dtype not in (DType.FLOAT32, DType.FLOAT64):
        raise body.unsupported(
            f"its input has the type {kind.dtype.value} and {len(kind.shape)} axes; supported are "
            "float32 and float64, and 2"
        )
    return x


def _in_single(body: Body, scores: str, leaves: Array) -> str:
    return scores if leaves.dtype == np.float32 else body.add("Cast", scores, to=1)


def _tree_regressor(body: Body) -> None:
    forest = old_forest(body, "target", int(body.number("n_targets", 1)))
    trees = grown(body, _features(body), forest)
    how, base = word(body, "aggregate_function", "SUM"), listed(body, "base_values")
    everywhere = len(integers(body, "target_ids")) == forest.leaves.size
    if base is not None and np.any(base) and len(base) > 1 and not everywhere:
        raise body.unsupported(
            "a leaf gives nothing to one of several targets that have base values; runtimes "
            "differ in whether they are added there"
        )
    scores = aggregated(body, trees, how, base, forest.leaves)
    targets = forest.leaves.shape[1]
    _write(body, regressed(body, _in_single(body, scores, forest.leaves), targets))


def _tree_ensemble(body: Body) -> None:
    how = ("AVERAGE", "SUM", "MIN", "MAX")[int(body.number("aggregate_function", 1))]
    if int(body.number("post_transform", 0)) != 0:
        raise body.unsupported("attribute 'post_transform' is not supported here")
    forest = new_forest(body, int(body.number("n_targets", 1)))
    trees = grown(body, _features(body), forest)
    scores = aggregated(body, trees, how, None, forest.leaves)
    made = body.types[body.node.inputs[0]].dtype.numpy
    if forest.leaves.dtype != made:
        scores = body.add("Cast", scores, to=onnx.helper.np_dtype_to_tensor_dtype(made))
    _write(body, scores)


def _tree_classifier(body: Body) -> None:
    """Of two classes with weights for the first alone, these are of the second."""
    labels, classes = _labels(body)
    ids, base = set(integers(body, "class_ids").tolist()), listed(body, "base_values")
    forest = old_forest(body, "class", classes)
    trees = grown(body, _features(body), forest)
    if classes == 2 and ids != {0} and (ids != {0, 1} or base is not None or _output(body, 0)):
        raise body.unsupported(
            "of two classes, supported are weights for the first alone, or for both where nothing "
            "reads the label; runtimes differ in what others mean"
        )
    if classes > 2 or ids != {0}:
        if base is not None and len(base) != classes:
            raise body.unsupported(f"it has {len(base)} base values for {classes} classes")
        scores = aggregated(body, trees, "SUM", base, forest.leaves)
        scores = _in_single(body, scores, forest.leaves)
        _label(body, scores, labels)
        if _output(body, 1):
            _write(body, softened(body, scores), 1)
        return
    if classes != 2 or (base is not None and len(base) != 1):
        raise body.unsupported("supported are at least two classes, and one base value for two")
    positive = bool(np.all(forest.leaves.astype(np.float64) >= 0))
    one = body.store(np.array([0], np.int64))
    first = body.add("Gather", trees, one, axis=2)
    score = aggregated(body, first, "SUM", base, forest.leaves[:, :1])
    score = _in_single(body, score, forest.leaves)
    half = body.store(np.array(0.5 if positive else 0.0, np.float32))
    if labels is not None and _output(body, 0):
        above = body.add("Greater", body.reshape(score, -1), half)
        numbers = [body.store(np.asarray(float(v))) for v in labels[::-1]]
        body.add("Cast", body.add("Where", above, *numbers), to=7, output=_output(body, 0))
    how = word(body, "post_transform", "NONE")
    if how == "NONE" and positive:
        other = body.add("Sub", body.store(np.ones((), np.float32)), score)
    else:
        other = body.add("Neg", score)
    if _output(body, 1):
        both = body.add("Concat", other, score, axis=1)
        _write(body, softened(body, both, ("NONE", "LOGISTIC")), 1)


PIPELINES: Mapping[str, Callable[[Body], None]] = {
    "ArrayFeatureExtractor": _array_feature_extractor,
    "Binarizer": _binarizer,
    "Imputer": _imputer,
    "LabelEncoder": _label_encoder,
    "LinearClassifier": _linear_classifier,
    "LinearRegressor": _linear_regressor,
    "Normalizer": _normalizer,
    "OneHotEncoder": _one_hot_encoder,
    "SVMClassifier": _svm_classifier,
    "SVMRegressor": _svm_regressor,
    "Scaler": _scaler,
    "TreeEnsemble": _tree_ensemble,
    "TreeEnsembleClassifier": _tree_classifier,
    "TreeEnsembleRegressor": _tree_regressor,
}
