"""Checks a certificate, as README.md says: python checker/check.py CERTIFICATE MODEL [PROPERTY]."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from checker.arithmetic import Array, Outside, Rejected, add, last_bits
from checker.bounds import Claim, Leaf
from checker.model import Model, read_model
from checker.rounding import read_contract

SCHEMA = "refine-certificate-2"
KEYS = {"schema", "model", "contract", "inputs", "claim", "boxes", "tensors", "nodes", "by"}
ACCEPTED, REJECTED, OUTSIDE = 0, 1, 2
Sides = dict[str, tuple[Array, Array]]
ratio: Any = lambda text: Fraction(*map(int, text.split("/")))  # noqa: E731  # no exponents


class Row(NamedTuple):
    """Σ c·z ≤ d, or < d if strict; terms are (tensor, element, c), of inputs and outputs."""

    terms: Sequence[tuple[str, int, Fraction]]
    at_most: Fraction
    strict: bool

    def __str__(self) -> str:
        left = " + ".join(f"{c}*{t}[{i}]" for t, i, c in self.terms)
        return f"{left} {'<' if self.strict else '<='} {self.at_most}"


@dataclass(frozen=True)
class Goal:
    """An ε of each output, or an unsafe set, conjunctions of rows, that is out of reach."""

    text: str
    epsilons: Mapping[str, Fraction]
    unsafe: Sequence[Sequence[Row]]

    def require(self, leaf: Leaf, picked: Sequence[int]) -> None:
        """Raises Rejected unless errors, and the row picked of each conjunction, are in bounds."""
        for t, epsilon in self.epsilons.items():
            error = float(np.max(leaf.pulled(t, leaf.err[t], -np.inf, 1.0, False), initial=0.0))
            if not np.isfinite(error) or Fraction(error) > epsilon:
                raise Rejected(f"the error of '{t}' is only shown to be at most {error:.9g}")
        if any(k not in range(len(part)) for part, k in zip(self.unsafe, picked, strict=True)):
            raise Rejected("a row that is out of reach is not one of its conjunction")
        rows = [part[k] for part, k in zip(self.unsafe, picked, strict=True)]
        for row, bound in zip(rows, above(leaf, rows), strict=True):
            least = -Fraction(float(bound)) if np.isfinite(bound) else row.at_most - 1
            if least < row.at_most or (least == row.at_most and not row.strict):
                raise Rejected(f"{row}: the left side is only shown to be at least {-bound:.9g}")


def above(leaf: Leaf, rows: Sequence[Row]) -> Array:
    """Upper bounds of −c·z for every row, over the reals and of whatever runs, in this leaf."""
    total, functionals = np.zeros(len(rows)), dict[str, Array]()
    for k, row in enumerate(rows):
        for t, i, factor in row.terms:
            c = functionals.setdefault(t, np.zeros((len(rows), leaf.lo[t].size)))
            c[k, i] = -float(factor)
    for t, c in functionals.items():
        size = add(np.maximum(-leaf.lo[t], leaf.hi[t]), leaf.err[t])
        total = add(total, last_bits(c, size))
    real, run = (leaf.pull(dict(functionals), of_values) for of_values in (True, False))
    return add(total, add(real, np.maximum(run, 0.0)))


def read_goal(claim: Mapping[str, Any], model: Model) -> Goal:
    """Raises Rejected for a claim of what the model has not, Outside for one of another kind."""
    if set(claim) == {"kind", "eps"} and claim["kind"] == "accuracy":
        epsilons = {t: ratio(e) for t, e in claim["eps"].items()}
        if set(epsilons) != set(model.outputs):
            raise Rejected(f"it claims of {sorted(epsilons)}; outputs are {sorted(model.outputs)}")
        bounds = (f"|error of '{t}'| <= {e}" for t, e in epsilons.items())
        return Goal(", ".join(bounds), epsilons, ())
    if set(claim) != {"kind", "unsafe", "of", "sha256"} or claim["kind"] != "unsafe":
        raise Outside(f"such a claim of kind {claim['kind']!r} is not in the checker's language")
    unsafe = [[_row(model, **row) for row in part] for part in claim["unsafe"]]
    ways = "\n  or ".join(" and ".join(map(str, part)) for part in unsafe)
    source = f"said to be {claim['of']!r}, sha256 {claim['sha256']!r},"
    return Goal(f"never, over the reals or as it runs,\n     {ways}\n{source}", {}, unsafe)


def _row(model: Model, *, terms: Any, at_most: str, strict: bool) -> Row:
    places = [(t, i) for t, i, _ in terms]
    ends = {t: range(model.sizes[t]) for t in (*model.inputs, *model.outputs)}
    fits = all(type(i) is int and i in ends.get(t, ()) for t, i in places)  # `False == 0`
    if not fits or len({*places}) < len(places) or type(strict) is not bool:
        raise Rejected(f"a row of {places} is not one of different elements of inputs and outputs")
    return Row([(t, i, ratio(c)) for t, i, c in terms], ratio(at_most), strict)


def owed(model: Model) -> dict[str, list[Any]]:
    """What a certificate lists of a model: how nodes round, and what nonlinear ones read."""
    nodes = [{"node": n.title, "lemma": n.lemma, "terms": n.terms} for n in model.nodes]
    read = {t for node in model.nodes if node.kind != "affine" for t in node.inputs}
    return {"nodes": nodes, "tensors": [n.output for n in model.nodes if n.output in read]}


def once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A table. Raises Outside where a name in it stands for two things."""
    if len(held := dict(pairs)) < len(pairs):
        raise Outside("a name in the certificate stands for two things")
    return held


def unpacked(data: bytes) -> dict[str, bytes]:
    """What is in an archive, none of it read beyond the size that it says."""
    zipped = zipfile.ZipFile(io.BytesIO(data))
    if sum(once([(i.filename, i.file_size) for i in zipped.infolist()]).values()) > 2**31:
        raise Outside("the certificate is larger than 2 GiB")
    if {i.compress_type for i in zipped.infolist()} - {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise Outside("the certificate is compressed in another way than by deflate")
    return {i.filename: zipped.open(i).read(i.file_size) for i in zipped.infolist()}


def read_certificate(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The document and the arrays of a certificate."""
    files = unpacked(data)
    document = json.loads(files["certificate.json"], object_pairs_hook=once)
    arrays = [(n.removesuffix(".npy"), v) for n, v in unpacked(files["arrays.npz"]).items()]
    held = {n: io.BytesIO(v) for n, v in once(arrays).items()}
    return document, {n: np.load(v, allow_pickle=False) for n, v in held.items()}


def pieces(sides: Sides, tree: Any, inputs: Sequence[str]) -> Iterator[Sides]:
    """The leaves of a box in their order; together they are the box, because every split leaves
    both halves. A tree is None, for a leaf, or [input, element, at, below, above]."""
    if tree is None:
        yield sides
        return
    place, element, text, *halves = tree
    t, at = inputs[place], float.fromhex(text)
    lo, hi = sides[t]
    fits = type(place) is type(element) is int and min(place, element) >= 0
    if not fits or not lo[element] <= at <= hi[element] or len(halves) != 2:
        raise Rejected("a box is split outside its sides")
    below, above = hi.copy(), lo.copy()
    below[element] = above[element] = at
    for half, ends in zip(halves, ((lo, below), (above, hi)), strict=True):
        yield from pieces({**sides, t: ends}, half, inputs)


def check(*files: bytes) -> str:
    """The claim that holds, in words. Raises Rejected where it is not shown, Outside for none."""
    try:
        return _checked(*files)
    except (Rejected, Outside):
        raise
    except Exception as error:  # whatever else its numbers and texts do to this program
        raise Outside(f"this is no certificate of schema {SCHEMA} ({error})") from error


def _checked(data: bytes, model_data: bytes, property_data: bytes | None = None) -> str:
    document, arrays = read_certificate(data)
    if set(document) != KEYS or document["schema"] != SCHEMA or not document["boxes"]:
        raise Outside(f"no certificate of schema {SCHEMA}: {document.get('outside', '')!r}")
    claim, said, tensors = document["claim"], document["contract"], document["tensors"]
    if sha256(model_data).hexdigest() != document["model"]["sha256"]:
        raise Rejected("the certificate is of a model with another hash")
    if property_data is not None and sha256(property_data).hexdigest() != claim.get("sha256"):
        raise Rejected("the certificate is of a property with another hash")
    shapes = {i["name"]: tuple(int(n) for n in i["shape"]) for i in document["inputs"]}
    model = read_model(model_data, shapes)
    goal, contract = read_goal(claim, model), read_contract(said, model.format)
    listed = {**owed(model), "inputs": [{"name": t, "shape": [*shapes[t]]} for t in model.inputs]}
    if any(document[key] != value for key, value in listed.items()):
        raise Rejected("the inputs, lemmas or tensors listed are not those of this model")

    def rows(name: str, count: int, size: int, kind: Any = np.float64) -> Any:
        value = arrays.get(name, np.zeros(0))
        if (value.dtype, value.shape) != (kind, (count, size)) or not np.all(np.isfinite(value)):
            raise Rejected(f"'{name}' does not hold {count} x {size} finite numbers")
        return value

    def table(names: Sequence[str], tensors: Sequence[str], count: int) -> list[dict[str, Any]]:
        """Of each of so many boxes, these arrays of each tensor."""
        sizes = [(t, i, model.sizes[t]) for i, t in enumerate(tensors)]
        held = {t: [rows(f"{name}{i}", count, size) for name in names] for t, i, size in sizes}
        return [{t: tuple(v[k] for v in every) for t, every in held.items()} for k in range(count)]

    boxes: list[Sides] = table(("box_lo", "box_hi"), model.inputs, len(document["boxes"]))
    if any(np.any(lo > hi) for box in boxes for lo, hi in box.values()):
        raise Rejected("a box of the domain is empty")
    trees = zip(boxes, document["boxes"], strict=True)
    leaves = [leaf for box, tree in trees for leaf in pieces(box, tree, model.inputs)]
    claims = table(Claim._fields, tensors, len(leaves))
    picked = rows("row", len(leaves), len(goal.unsafe), np.int64)
    for sides, claimed, row in zip(leaves, claims, picked, strict=True):
        leaf = Leaf(model, contract, {t: Claim(*c) for t, c in claimed.items()})
        leaf.settle(sides)
        goal.require(leaf, row)
    return f"{goal.text} under contract {said['name']!r}, {len(boxes)} boxes in {len(leaves)} parts"


def main(arguments: Sequence[str]) -> int:
    """The exit code, after what is said on standard output."""
    if len(arguments) not in (2, 3):
        print("usage: python checker/check.py CERTIFICATE MODEL [PROPERTY]", file=sys.stderr)
        return OUTSIDE
    try:
        with np.errstate(all="ignore"):
            print(f"accepted: {check(*(Path(a).read_bytes() for a in arguments))}")
        return ACCEPTED
    except Rejected as error:
        print(f"rejected: {error}")
        return REJECTED
    except (Outside, OSError, MemoryError) as error:
        missing = isinstance(error, OSError) and f"{error.filename}: {error.strerror}"
        print(f"not checked: {missing or error}")
    return OUTSIDE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
