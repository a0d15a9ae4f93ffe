"""Check a certificate against a model: python checker/check.py CERTIFICATE MODEL [PROPERTY].

Exit code 0: accepted, the claim printed holds. 1: rejected. 2: outside the language, or unreadable.
README.md beside this file says what is assumed and what is then guaranteed.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
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
MOST_BYTES = 2**31
ACCEPTED, REJECTED, OUTSIDE = 0, 1, 2
Sides = dict[str, tuple[Array, Array]]


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
    """What is claimed: an ε of each output, or that the conjunctions of an unsafe set, each some
    rows, are out of reach."""

    text: str
    epsilons: Mapping[str, Fraction]
    unsafe: Sequence[Sequence[Row]]

    def require(self, leaf: Leaf, picked: Sequence[int]) -> None:
        """Raises Rejected unless errors are at most ε, and −c·z is below −d, in this leaf, of the
        row that is picked of each conjunction."""
        for t, epsilon in self.epsilons.items():
            error = float(np.max(leaf.pulled(t, leaf.err[t], -np.inf, 1.0, False), initial=0.0))
            if not np.isfinite(error) or Fraction(error) > epsilon:
                shown = f"{error:.9g}, not {float(epsilon):.9g}"
                raise Rejected(f"the error of '{t}' is shown to be at most {shown}")
        if any(k not in range(len(part)) for part, k in zip(self.unsafe, picked, strict=True)):
            raise Rejected("a row that is out of reach is not one of its conjunction")
        rows = [part[k] for part, k in zip(self.unsafe, picked, strict=True)]
        for row, bound in zip(rows, above(leaf, rows), strict=True):
            least = -Fraction(float(bound)) if np.isfinite(bound) else row.at_most - 1
            if least < row.at_most or (least == row.at_most and not row.strict):
                raise Rejected(f"{row}: the left side is shown to be at least {-bound:.9g}")


def above(leaf: Leaf, rows: Sequence[Row]) -> Array:
    """Upper bounds of −c·z for every row, over the reals and for whatever runs in this leaf: all
    tensors of a row are pulled back together, so that errors which they share cancel."""
    total, functionals = np.zeros(len(rows)), dict[str, Array]()
    for t in sorted({t for row in rows for t, _, _ in row.terms}):
        functionals[t] = c = np.zeros((len(rows), leaf.lo[t].size))
        for k, row in enumerate(rows):
            for i, factor in ((i, f) for tensor, i, f in row.terms if tensor == t):
                c[k, i] = -float(factor)
        size = add(np.maximum(-leaf.lo[t], leaf.hi[t]), leaf.err[t])
        total = add(total, last_bits(c, size))
    real, run = (leaf.pull(dict(functionals), of_values) for of_values in (True, False))
    return add(total, add(real, np.maximum(run, 0.0)))


def read_goal(claim: Mapping[str, Any], model: Model) -> Goal:
    """Raises Rejected for a claim of what the model has not, Outside for one of another kind."""
    kind, others = claim["kind"], set(claim) - {"kind"}
    if kind == "accuracy" and others == {"eps"}:
        epsilons = {t: Fraction(e) for t, e in claim["eps"].items()}
        if set(epsilons) != set(model.outputs):
            raise Rejected(f"it claims of {sorted(epsilons)}; outputs are {sorted(model.outputs)}")
        return Goal(
            ", ".join(f"|error of '{t}'| <= {e}" for t, e in epsilons.items()), epsilons, ()
        )
    if kind != "unsafe" or others != {"unsafe", "of", "sha256"} or not claim["unsafe"]:
        raise Outside(f"such a claim of kind {kind!r} is not in the checker's language")
    unsafe = [[_row(model, **row) for row in part] for part in claim["unsafe"]]
    ways = "\n  or ".join(" and ".join(map(str, part)) for part in unsafe)
    source = f"said to be {claim['of']}, sha256 {claim['sha256']},"
    return Goal(f"never, over the reals or as it runs,\n     {ways}\n{source}", {}, unsafe)


def _row(model: Model, *, terms: Any, at_most: str, strict: bool) -> Row:
    read = [(t, i, Fraction(c)) for t, i, c in terms]
    for t, i, _ in read:
        if t not in (*model.inputs, *model.outputs) or i not in range(model.sizes[t]):
            raise Rejected(f"it claims of '{t}'[{i}], which is no element of an input or output")
    if len({(t, i) for t, i, _ in read}) < len(read) or type(strict) is not bool:
        raise Outside("a row has an element twice, or does not say whether it is strict")
    return Row(read, Fraction(at_most), strict)


def described(model: Model) -> list[dict[str, Any]]:
    """How each node rounds: the lemma, and the number of terms it is applied to."""
    return [{"name": n.name, "op": n.op, "lemma": n.lemma, "terms": n.terms} for n in model.nodes]


def claimed_tensors(model: Model) -> list[str]:
    """The tensors of which a certificate claims something: those that nonlinear nodes read."""
    read = {t for node in model.nodes if node.kind != "affine" for t in node.inputs}
    return [node.output for node in model.nodes if node.output in read]


def read_certificate(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The document and the arrays of a certificate."""
    with zipfile.ZipFile(io.BytesIO(data)) as zipped:
        if sum(i.file_size for i in zipped.infolist()) > MOST_BYTES:
            raise Outside("the certificate is larger than 2 GiB")
        document = json.loads(zipped.read("certificate.json"))
        with np.load(io.BytesIO(zipped.read("arrays.npz")), allow_pickle=False) as arrays:
            return document, {name: arrays[name] for name in arrays.files}


def pieces(sides: Sides, tree: Any, inputs: Sequence[str]) -> Iterator[Sides]:
    """The leaves of a box in their order; together they are the box, because every split leaves
    both halves. A tree is None, for a leaf, or [input, element, at, below, above]."""
    if tree is None:
        yield sides
        return
    place, element, text, *halves = tree
    t, at = inputs[place], float.fromhex(text)
    lo, hi = sides[t]
    if min(place, element) < 0 or not lo[element] <= at <= hi[element] or len(halves) != 2:
        raise Rejected("a box is split outside its sides")
    below, above = hi.copy(), lo.copy()
    below[element] = above[element] = at
    for half, ends in zip(halves, ((lo, below), (above, hi)), strict=True):
        yield from pieces({**sides, t: ends}, half, inputs)


def check(data: bytes, model_data: bytes, property_data: bytes | None = None) -> str:
    """The claim that holds, in words. Raises Rejected where something is not shown, Outside where
    it cannot be read or has no meaning here; each says where."""
    try:
        document, arrays = read_certificate(data)
        if set(document) != KEYS or document["schema"] != SCHEMA:
            raise Outside(f"this is no certificate of schema {SCHEMA}")
        if hashlib.sha256(model_data).hexdigest() != document["model"]["sha256"]:
            raise Rejected("the certificate is of a model with another hash")
        other = property_data is not None and hashlib.sha256(property_data).hexdigest()
        if other not in (False, document["claim"].get("sha256")):
            raise Rejected("the certificate is of a property with another hash")
        return _checked(document, arrays, model_data)
    except (Rejected, Outside):
        raise
    except Exception as error:  # whatever else its numbers and texts do to this program
        raise Outside(f"this is no certificate of schema {SCHEMA} ({error})") from error


def _checked(document: Any, arrays: Any, data: bytes) -> str:
    shapes = {i["name"]: tuple(int(n) for n in i["shape"]) for i in document["inputs"]}
    model, table, tensors = read_model(data, shapes), document["contract"], document["tensors"]
    goal, contract = read_goal(document["claim"], model), read_contract(table, model.format)
    if document["nodes"] != described(model) or tensors != claimed_tensors(model):
        raise Rejected("the lemmas or the tensors claimed are not those that this model needs")

    def rows(name: str, count: int, size: int, kind: Any = np.float64) -> Any:
        value = arrays.get(name)
        fits = value is not None and value.dtype == kind and value.shape == (count, size)
        if not fits or not np.all(np.isfinite(value)):
            raise Rejected(f"'{name}' does not hold {count} x {size} finite numbers")
        return value

    boxes = len(document["boxes"])
    ends = {
        t: [rows(f"box_{side}{i}", boxes, model.sizes[t]) for side in ("lo", "hi")]
        for i, t in enumerate(model.inputs)
    }
    if not boxes or any(np.any(lo > hi) for lo, hi in ends.values()):
        raise Rejected("a box of the domain is empty, or there is none")
    leaves = [
        leaf
        for b, tree in enumerate(document["boxes"])
        for leaf in pieces({t: (lo[b], hi[b]) for t, (lo, hi) in ends.items()}, tree, model.inputs)
    ]
    claimed = {
        t: [rows(f"{name}{i}", len(leaves), model.sizes[t]) for name in Claim._fields]
        for i, t in enumerate(tensors)
    }
    picked = rows("row", len(leaves), len(goal.unsafe), np.int64)
    for k, sides in enumerate(leaves):
        leaf = Leaf(model, contract, {t: Claim(*(v[k] for v in c)) for t, c in claimed.items()})
        leaf.settle(sides)
        goal.require(leaf, picked[k])
    return f"{goal.text} under contract '{table['name']}', {boxes} boxes in {len(leaves)} parts"


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
    except OSError as error:
        print(f"not checked: {error.filename} cannot be read ({error.strerror})")
    except (Outside, MemoryError, RecursionError) as error:
        print(f"not checked: {error}")
    return OUTSIDE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
