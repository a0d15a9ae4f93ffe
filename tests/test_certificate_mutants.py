"""Certificates of networks with every operator of the checker's language: accepted as they are,
rejected with any change that means more than was shown, and above what runtimes do."""

from __future__ import annotations

import hashlib
import io
import json
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from certified_networks import Example, examples
from onnx import numpy_helper

import refine
from checker.arithmetic import Outside, Rejected
from checker.check import check, read_certificate
from checker.model import OPERATORS, Model, read_model

EXAMPLES = {e.name: e for e in examples()}
SETTINGS: Any = {"budget": 0, "no_search": True, "z3": "none", "conform": False}
ROOM = 1.002  # of what is claimed beyond what is proved
Document = dict[str, Any]
Arrays = dict[str, Any]
Mutant = tuple[str, Document, Arrays]


@dataclass(frozen=True)
class Made:
    """A model and a certificate of it, apart."""

    model: bytes
    document: Document
    arrays: Arrays


def packed(document: Document, arrays: Arrays) -> bytes:
    whole, inner = io.BytesIO(), io.BytesIO()
    np.savez(inner, **arrays)
    with zipfile.ZipFile(whole, "w") as zipped:
        zipped.writestr("certificate.json", json.dumps(document))
        zipped.writestr("arrays.npz", inner.getvalue())
    return whole.getvalue()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    folder = tmp_path_factory.mktemp("certified")

    @cache
    def of(name: str) -> Made:
        example = EXAMPLES[name]
        path = example.written(folder)
        words: Any = SETTINGS | {"contract": example.contract}
        bound = refine.bound(path, example.domain, **words).bound
        file = folder / f"{name}.cert"
        result = refine.check(path, example.domain, ROOM * bound, certificate=file, **words)
        assert result.certification is not None
        assert result.certification.file == file, result.certification.outside
        document, arrays = read_certificate(file.read_bytes())
        return Made(path.read_bytes(), document, arrays)

    return of


def test_every_operator_is_in_an_example() -> None:
    used = {node.op_type for e in EXAMPLES.values() for node in e.model.graph.node}
    assert set(OPERATORS) - used == {"Constant", "Shape"}, "these only make numbers that are stored"


@pytest.mark.parametrize("name", EXAMPLES)
def test_certificates_are_accepted(name: str, made: Callable[[str], Made]) -> None:
    it = made(name)
    with np.errstate(all="ignore"):
        said = check(packed(it.document, it.arrays), it.model)
    assert said.startswith("|error of ")


# --- the reader and the budgets, against what runs


def values(model: Model, x: dict[str, Any]) -> dict[str, Any]:
    """What the checker takes the model to mean, in float64."""
    held = {t: v.reshape(-1).astype(np.float64) for t, v in x.items()}
    for node in model.nodes:
        read = [held[t] for t in node.inputs]
        if node.kind == "hinge":
            held[node.output] = np.where(read[0] < 0, node.below * read[0], read[0])
        elif node.kind == "maximum":
            held[node.output] = np.max(read[0][node.index], axis=0)
        else:
            parts = zip(node.maps, read, strict=True)
            held[node.output] = node.bias + sum(m.forward(m.weights, v) for m, v in parts)
    return held


def inputs_of(example: Example, made: Made, rng: np.random.Generator) -> dict[str, Any]:
    shape = tuple(made.document["inputs"][0]["shape"])
    kind = onnx.helper.tensor_dtype_to_np_dtype(
        example.model.graph.input[0].type.tensor_type.elem_type
    )
    lo, hi = example.domain
    x = rng.uniform(lo, hi, shape)
    corners = rng.choice([lo, hi], shape)
    return {
        "x": np.clip(np.where(rng.random() < 0.5, x, corners).astype(kind), lo, hi).astype(kind)
    }


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_execution_is_beyond_a_certified_bound(name: str, made: Callable[[str], Made]) -> None:
    """onnxruntime where it has the operators, ONNX's reference elsewhere: neither shares code with
    the checker or with the prover. Real values are the checker's own, so that a slip of its reader
    shows as well."""
    import onnxruntime

    it, example, rng = made(name), EXAMPLES[name], np.random.default_rng(0)
    shapes = {i["name"]: i["shape"] for i in it.document["inputs"]}
    model = read_model(it.model, shapes)
    (output,) = model.outputs
    epsilon = float(eval_ratio(it.document["claim"]["eps"][output]))
    onnxruntime.set_default_logger_severity(4)
    session = onnxruntime.InferenceSession(it.model, providers=["CPUExecutionProvider"])
    worst = 0.0
    for _ in range(40):
        x = inputs_of(example, it, rng)
        ran = np.asarray(session.run(None, x)[0])
        meant = values(model, x)[output]
        worst = max(worst, float(np.max(np.abs(ran.reshape(-1).astype(np.float64) - meant))))
    assert worst <= epsilon
    assert worst > epsilon / 1e5, "a bound so far away could hide a wrong reading"


def eval_ratio(text: str) -> float:
    return float(Fraction(text))


@pytest.mark.parametrize("order", ["shuffled", "fused"])
def test_no_order_of_sums_is_beyond_a_certified_bound(
    order: str, made: Callable[[str], Made]
) -> None:
    """The dense network in numpy: terms in random orders, products rounded or (nearly) not."""
    it, rng = made("dense"), np.random.default_rng(1)
    model = read_model(it.model, {"x": (2, 4)})
    epsilon = eval_ratio(it.document["claim"]["eps"][model.outputs[0]])
    for _ in range(20):
        x = inputs_of(EXAMPLES["dense"], it, rng)
        meant = values(model, x)[model.outputs[0]]
        held = {"x": x["x"].reshape(-1)}
        for node in model.nodes:
            held[node.output] = run_in_float32(node, [held[t] for t in node.inputs], order, rng)
        assert np.max(np.abs(held[model.outputs[0]].astype(np.float64) - meant)) <= epsilon


def run_in_float32(node: Any, read: list[Any], order: str, rng: np.random.Generator) -> Any:
    if node.kind == "hinge":
        return np.where(read[0] < 0, np.float32(node.below) * read[0], read[0])
    size = len(node.bias)
    total = np.zeros(size, np.float32)
    for place in range(size):
        unit = np.zeros((1, size))
        unit[0, place] = 1.0
        terms: list[Any] = [np.float32(node.bias[place])] if node.bias[place] else []
        for linear, x in zip(node.maps, read, strict=True):
            weights = linear.backward(linear.weights, unit)[0]
            products = [(np.float32(w), x[i]) for i, w in enumerate(weights) if w]
            terms += products
        rng.shuffle(terms)
        terms.sort(key=lambda t: isinstance(t, tuple) and order == "fused")
        result = np.float32(0.0)
        for term in terms:
            if isinstance(term, tuple) and order == "fused":
                result = np.float32(np.float64(term[0]) * np.float64(term[1]) + np.float64(result))
            else:
                result += term[0] * term[1] if isinstance(term, tuple) else term
        total[place] = result
    return total


# --- mutants


def told(it: Made, what: str, path: list[Any], value: Any) -> Mutant:
    """The certificate with another text in its document; None takes it away."""
    changed = deepcopy(it.document)
    place: Any = changed
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return what, changed, it.arrays


def of_claim(it: Made) -> Iterator[Mutant]:
    """An accuracy that claims more, or nothing."""
    (output,) = it.document["claim"]["eps"]
    shown = float(Fraction(it.document["claim"]["eps"][output])) / ROOM
    for share in (0.5, 0.9, 0.0, -1.0):
        yield told(it, f"eps {share}", ["claim", "eps", output], str(Fraction(share * shown)))
    for text in ("nan", "1/0", "", "all", "1e-3", "1/2/3", "9" * 5000):
        yield told(it, "no eps", ["claim", "eps", output], text)
    yield told(it, "eps of another output", ["claim", "eps"], {"y": "1"})
    yield told(it, "eps of no output", ["claim", "eps"], {})
    yield told(it, "another claim", ["claim", "kind"], "unsafe")
    yield told(it, "more of a claim", ["claim", "rows"], [])


def mutants(it: Made, claimed: Callable[[Made], Iterator[Mutant]] = of_claim) -> Iterator[Mutant]:
    """Changes of a certificate after which it would mean more, or nothing."""
    d, a = it.document, it.arrays

    def arrays(name: str, change: Callable[[Any], Any]) -> Iterator[Mutant]:
        value = change(a[name].copy())
        if not (value.shape == a[name].shape and np.array_equal(value, a[name])):
            yield f"{name} changed", d, a | {name: value}

    def at(place: Any, number: float) -> Callable[[Any], Any]:
        def change(value: Any) -> Any:
            value[place] = number
            return value

        return change

    for i in range(len(d["tensors"])):
        lo, hi, err = a[f"lo{i}"], a[f"hi{i}"], a[f"err{i}"]
        width = hi - lo
        wide = np.unravel_index(np.argmax(width), width.shape)
        high = np.unravel_index(np.argmax(err), err.shape)
        for share in (0.9, 0.5, 0.0, -1.0, np.nan):
            yield from arrays(f"err{i}", at(high, share * err[high]))
        for share in (0.01, 0.5, 2.0):
            yield from arrays(f"lo{i}", at(wide, lo[wide] + share * width[wide]))
            yield from arrays(f"hi{i}", at(wide, hi[wide] - share * width[wide]))
        for slope in (-0.01, 1.01, np.nan):
            yield from arrays(f"slope{i}", at(wide, slope))
        yield from arrays(f"err{i}", lambda v: 0.5 * v)
        yield from arrays(f"err{i}", lambda v: -v)
        yield from arrays(f"err{i}", lambda v: v.astype(np.longdouble))
        yield from arrays(f"err{i}", lambda v: v.astype(complex))
        yield from arrays(f"err{i}", lambda v: v.astype(v.dtype.newbyteorder()))
        yield f"ends {i} swapped", d, a | {f"lo{i}": hi, f"hi{i}": lo}
        yield from arrays(f"lo{i}", lambda v: np.full_like(v, np.max(v)))
        for name in ("lo", "hi", "err", "slope"):
            yield from arrays(f"{name}{i}", lambda v: v[:, :-1])
            yield from arrays(f"{name}{i}", lambda v: v.astype(np.float32))
            yield f"{name}{i} dropped", d, {k: v for k, v in a.items() if k != f"{name}{i}"}
        yield from arrays(f"hi{i}", lambda v: np.roll(v, 1, axis=1) - 1e-3)
    for name in ("box_lo0", "box_hi0"):
        sign = -1.0 if "lo" in name else 1.0
        yield from arrays(name, lambda v, sign=sign: v + sign * 1e-3)  # type: ignore[misc]
        yield from arrays(name, lambda v: v.reshape(-1)[:-1])
        yield from arrays(name, lambda v: np.concatenate([v, v]))
        yield from arrays(name, lambda v: np.full_like(v, np.inf))
        yield f"{name} dropped", d, {k: v for k, v in a.items() if k != name}
    of_leaves = {n: v for n, v in a.items() if not n.startswith("box")}
    yield "one leaf twice", d, a | {n: np.concatenate([v, v[:1]]) for n, v in of_leaves.items()}
    yield "a leaf less", d, a | {n: v[:-1] for n, v in of_leaves.items()}

    tree = d["boxes"][0]
    middle = float(a["box_hi0"][0, 0]).hex()
    for name, other in {
        "another leaf": [len(a["box_lo0"])],
        "a split outside": [0, 0, (1e6).hex(), tree, tree],
        "a split that keeps one side": [0, 0, middle, tree],
        "a leaf more": [0, 0, middle, tree, tree],
        "a split of no input": [1, 0, middle, tree, tree],
        "a split of no element": [0, 10**6, middle, tree, tree],
        "a split at no number": [0, 0, "nan", tree, tree],
        "no tree": [],
        "a tree of text": ["0"],
    }.items():
        yield told(it, name, ["boxes", 0], other)
    yield told(it, "no boxes", ["boxes"], [])
    yield told(it, "a box more", ["boxes"], [*d["boxes"], None])
    yield from claimed(it)
    yield told(it, "another model", ["model", "sha256"], "0" * 64)
    yield told(it, "another schema", ["schema"], "refine-certificate-1")
    yield told(it, "another shape", ["inputs", 0, "shape"], [3, *d["inputs"][0]["shape"][1:], 1])
    yield told(it, "another input", ["inputs", 0, "name"], "z")
    yield told(it, "another tensor", ["tensors"], [*d["tensors"][:-1], "nothing"])
    yield told(it, "a tensor less", ["tensors"], d["tensors"][:-1])
    yield told(it, "tensors shuffled", ["tensors"], [*d["tensors"][1:], d["tensors"][0], "x"])
    for i, node in enumerate(d["nodes"]):
        for more in (-1, 1):
            yield told(it, "terms", ["nodes", i, "terms"], node["terms"] + more)
        lemma = "hinge" if node["lemma"] == "copy" else "copy"
        yield told(it, "lemma", ["nodes", i, "lemma"], lemma)
        yield told(it, "a node less", ["nodes", i], None)
    for key, value in {
        "order": "sorted", "fma": "perhaps", "bias": "nowhere", "alignment": 23,
        "accumulation": "float32", "weights": "float16", "factors": "tf32", "format": "bfloat8",
        "exact": True, "subnormal_results": "gone", "subnormal_operands": 0, "normalization": "any",
        "rules": [{"order": "steps", "step": 4}], "speed": "fast",
    }.items():  # fmt: skip
        yield told(it, f"contract {key}", ["contract", key], value)
    for key in ("subnormal_results", "subnormal_operands", "order", "fma", "name", "normalization"):
        yield told(it, f"contract without {key}", ["contract", key], None)
    for key in d:
        yield told(it, f"without {key}", [key], None)


def survivors(it: Made, changed: Iterator[Mutant]) -> tuple[int, list[str]]:
    tried, alive = 0, []
    for name, document, arrays in changed:
        tried += 1
        try:
            with np.errstate(all="ignore"):
                check(packed(document, arrays), it.model)
            alive.append(name)
        except (Rejected, Outside):
            continue
    return tried, alive


@pytest.mark.parametrize("name", EXAMPLES)
def test_mutants_of_certificates_are_rejected(name: str, made: Callable[[str], Made]) -> None:
    tried, alive = survivors(made(name), mutants(made(name)))
    assert alive == []
    assert tried > 100


@pytest.mark.parametrize("twice", ["a member", "a key", "a key within", "an array"])
def test_nothing_is_said_twice(twice: str, made: Callable[[str], Made], tmp_path: Path) -> None:
    """Other readers may take the first of two claims, and this one the last."""
    it = made("dense")
    text, more = json.dumps(it.document), deepcopy(it.document)
    more["claim"]["eps"] = dict.fromkeys(more["claim"]["eps"], "0")
    stronger = json.dumps(more["claim"])
    inner = io.BytesIO()
    np.savez(inner, **it.arrays)
    members: list[tuple[str, str | bytes]] = [
        ("certificate.json", text),
        ("arrays.npz", inner.getvalue()),
    ]
    if twice == "a member":
        members.insert(0, ("certificate.json", json.dumps(more)))
    if twice == "a key":
        members[0] = ("certificate.json", f'{{"claim": {stronger}, {text[1:]}')
    if twice == "a key within":
        (output,) = it.document["claim"]["eps"]
        changed = text.replace('"eps": {', f'"eps": {{{json.dumps(output)}: "0", ')
        members[0] = ("certificate.json", changed)
    if twice == "an array":
        more_arrays = io.BytesIO(inner.getvalue())
        with zipfile.ZipFile(more_arrays, "a") as zipped, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            zipped.writestr("err0.npy", zipped.read("err0.npy"))
        members[1] = ("arrays.npz", more_arrays.getvalue())
    file = tmp_path / "twice.cert"
    with zipfile.ZipFile(file, "w") as zipped, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for member in members:
            zipped.writestr(*member)
    with pytest.raises(Outside, match="stands for two things"):
        check(file.read_bytes(), it.model)


def changed_models(it: Made) -> Iterator[tuple[str, bytes]]:
    """The model with a larger weight before the last hinge, or with another bias or without it."""
    proto = onnx.load_model_from_string(it.model)
    last = max(i for i, node in enumerate(proto.graph.node) if node.op_type == "Relu")
    products = [n for n in proto.graph.node[:last] if n.op_type in ("Conv", "Gemm", "MatMul")]
    for k, tensor in enumerate(proto.graph.initializer):
        value = numpy_helper.to_array(tensor)
        role = [i for n in products for i, name in enumerate(n.input) if name == tensor.name]
        if not role:
            continue
        place = np.unravel_index(np.argmax(np.abs(value)), value.shape)
        smaller = (value.dtype.type(0), -value[place]) if role == [2] else ()
        for number in (value[place] * 4, *smaller):
            other = value.copy()
            other[place] = number
            copy = onnx.ModelProto.FromString(it.model)
            copy.graph.initializer[k].CopyFrom(numpy_helper.from_array(other, tensor.name))
            yield f"{tensor.name} {number}", copy.SerializeToString()


@pytest.mark.parametrize("name", ["dense", "image", "pools"])
def test_other_models_are_rejected(name: str, made: Callable[[str], Made]) -> None:
    """By their hash; and with their own hash in the certificate, by what is shown of them."""
    it, tried, alive = made(name), 0, []
    for changed, model in changed_models(it):
        tried += 1
        with pytest.raises(Rejected, match="another hash"):
            check(packed(it.document, it.arrays), model)
        sealed = deepcopy(it.document)
        sealed["model"]["sha256"] = hashlib.sha256(model).hexdigest()
        try:
            with np.errstate(all="ignore"):
                check(packed(sealed, it.arrays), model)
            alive.append(changed)
        except (Rejected, Outside):
            continue
    assert alive == []
    assert tried >= 4


@pytest.mark.parametrize("number", ["1e999999999", "1e-999999999", "1E+99999999999999999999"])
def test_no_exponent_fills_the_memory(number: str, made: Callable[[str], Made]) -> None:
    """As an ε, and in a row of an unsafe set."""
    it = made("dense")
    (output,) = it.document["claim"]["eps"]
    claims: list[Any] = [{"kind": "accuracy", "eps": {output: number}}]
    for c, most in (("1", number), (number, "1")):
        row = {"terms": [[output, 0, c]], "at_most": most, "strict": False}
        claims.append({"kind": "unsafe", "unsafe": [[row]], "of": "y", "sha256": ""})
    for claim in claims:
        with pytest.raises(Outside, match="this is no certificate"):
            check(packed(it.document | {"claim": claim}, it.arrays), it.model)


def test_an_archive_within_says_how_large_it_is(made: Callable[[str], Made]) -> None:
    """A small file may hold terabytes, packed twice."""
    it, inner, whole = made("dense"), io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(inner, "w") as zipped:
        zipped.writestr("err0.npy", b"")
        zipped.filelist[0].file_size = 2**31 + 1
    with zipfile.ZipFile(whole, "w") as zipped:
        zipped.writestr("certificate.json", json.dumps(it.document))
        zipped.writestr("arrays.npz", inner.getvalue())
    with pytest.raises(Outside, match="larger than 2 GiB"):
        check(whole.getvalue(), it.model)


@pytest.mark.parametrize("way", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_nothing_is_unpacked_beyond_its_stated_size(way: int) -> None:
    """A kilobyte of bzip2 holds gigabytes, whatever size the archive says."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", way) as zipped:
        zipped.writestr("arrays.npz", bytes(2**26))
        zipped.filelist[0].file_size = 1000
    tracemalloc.start()
    with pytest.raises(Outside):
        check(whole.getvalue(), b"")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22


def test_a_file_cut_short_is_no_certificate(made: Callable[[str], Made], tmp_path: Path) -> None:
    it = made("moved")
    whole = packed(it.document, it.arrays)
    for end in (0, 10, len(whole) // 2, len(whole) - 5):
        with pytest.raises(Outside):
            check(whole[:end], it.model)
    with pytest.raises(Outside):
        check(packed(it.document, it.arrays | {"lo0": np.array([object()])}), it.model)
