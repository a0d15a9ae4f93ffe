"""Check a certificate against a model: python checker/check.py CERTIFICATE MODEL.

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
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from checker.bounds import Claim, Leaf
from checker.exact import Array, Outside, Rejected
from checker.model import Model, read_model
from checker.rounding import read_contract

SCHEMA = "refine-certificate-1"
KEYS = {"schema", "model", "contract", "inputs", "claim", "boxes", "tensors", "nodes", "by"}
MOST_BYTES = 2**31
ACCEPTED, REJECTED, OUTSIDE = 0, 1, 2

Sides = dict[str, tuple[Array, Array]]


def described(model: Model) -> list[dict[str, Any]]:
    """How each node rounds: the lemma, and the number of terms it is applied to."""
    return [{"name": n.name, "op": n.op, "lemma": n.lemma, "terms": n.terms} for n in model.nodes]


def claimed_tensors(model: Model) -> list[str]:
    """The tensors of which a certificate claims something: those that nonlinear nodes read."""
    read = {t for node in model.nodes if node.kind != "affine" for t in node.inputs}
    return [node.output for node in model.nodes if node.output in read]


def read_certificate(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The document and the arrays of a certificate. Raises Outside where this is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as zipped:
            if sum(i.file_size for i in zipped.infolist()) > MOST_BYTES:
                raise ValueError("it is larger than 2 GiB")
            document = json.loads(zipped.read("certificate.json"))
            with np.load(io.BytesIO(zipped.read("arrays.npz")), allow_pickle=False) as arrays:
                held = {name: arrays[name] for name in arrays.files}
    except Exception as error:
        raise Outside(f"this is no certificate ({error})") from error
    if not isinstance(document, dict) or set(document) != KEYS or document["schema"] != SCHEMA:
        raise Outside(f"this is no certificate of schema {SCHEMA}")
    return document, held


def pieces(sides: Sides, tree: Any, inputs: Sequence[str]) -> Iterator[tuple[int, Sides]]:
    """The leaves of a box by number, with their sides; together they are the box, because every
    split leaves both halves. A tree is [number], or [input, element, at, below, above]."""
    if len(tree) == 1 and type(tree[0]) is int:
        yield tree[0], sides
        return
    t, element, at, halves = inputs[tree[0]], tree[1], float.fromhex(tree[2]), tree[3:]
    lo, hi = sides[t]
    if min(tree[:2]) < 0 or not lo[element] <= at <= hi[element] or len(halves) != 2:
        raise Rejected("a box is split outside its sides")
    below, above = hi.copy(), lo.copy()
    below[element] = above[element] = at
    for half, ends in zip(halves, ((lo, below), (above, hi)), strict=True):
        yield from pieces({**sides, t: ends}, half, inputs)


def check(data: bytes, model_data: bytes) -> tuple[str, Mapping[str, Fraction]]:
    """The claim that holds, in a sentence, and the bound shown of each output.

    Raises Rejected where something is not shown, Outside where it cannot be read or has no meaning
    here; each says where.
    """
    document, arrays = read_certificate(data)
    try:
        return _checked(document, arrays, model_data)
    except (Rejected, Outside):
        raise
    except Exception as error:  # whatever else its numbers and texts do to this program
        raise Outside(f"the certificate does not have the form of its schema ({error})") from error


def _checked(document: Any, arrays: Any, data: bytes) -> tuple[str, Mapping[str, Fraction]]:
    if hashlib.sha256(data).hexdigest() != document["model"]["sha256"]:
        raise Rejected("the certificate is of a model with another hash")
    shapes = {i["name"]: tuple(int(n) for n in i["shape"]) for i in document["inputs"]}
    model, claim, table = read_model(data, shapes), document["claim"], document["contract"]
    if set(claim) != {"kind", "eps"} or claim["kind"] != "accuracy":
        raise Outside(f"a claim of kind {claim['kind']!r} is not in the checker's language")
    epsilons = {t: Fraction(e) for t, e in claim["eps"].items()}
    if set(epsilons) != set(model.outputs):
        raise Rejected(f"it claims of {sorted(epsilons)}; the outputs are {sorted(model.outputs)}")
    contract = read_contract(table, model.format)
    if document["nodes"] != described(model) or document["tensors"] != claimed_tensors(model):
        raise Rejected("the lemmas or the tensors claimed are not those that this model needs")

    def array(name: str, size: int, row: int | None = None) -> Array:
        if name not in arrays or (row is not None and not 0 <= row < len(arrays[name])):
            raise Rejected(f"'{name}' of leaf {row} is missing")
        value = arrays[name] if row is None else arrays[name][row]
        if value.dtype != np.float64 or value.shape != (size,) or not np.all(np.isfinite(value)):
            raise Rejected(f"'{name}' does not hold {size} finite float64 numbers")
        return np.asarray(value)

    def sides(lo: str, hi: str, row: int | None = None) -> Sides:
        sizes = enumerate(model.sizes[t] for t in model.inputs)
        ends = [(array(f"{lo}{i}", n, row), array(f"{hi}{i}", n, row)) for i, n in sizes]
        if any(np.any(a > b) for a, b in ends):
            raise Rejected("a box of the domain is empty")
        return dict(zip(model.inputs, ends, strict=True))

    def claimed(i: int, t: str, row: int) -> Claim:
        names = [f"{name}{i}" for name in ("lo", "hi", "err", "slope")]
        c = Claim(*(array(name, model.sizes[t], row) for name in names))
        if np.any((c.lo > c.hi) | (c.err < 0) | (np.abs(c.slope - 0.5) > 0.5)):
            raise Rejected(f"an empty range or a slope beyond [0, 1] of '{t}' in leaf {row}")
        return c

    seen, largest = [], dict.fromkeys(model.outputs, Fraction(0))
    for b, box in enumerate(document["boxes"]):
        for leaf, piece in pieces(sides(f"box{b}_lo", f"box{b}_hi"), box["tree"], model.inputs):
            seen.append(leaf)
            stated = sides("leaf_lo", "leaf_hi", leaf)
            if any(not np.array_equal(piece[t], stated[t]) for t in piece):
                raise Rejected(f"leaf {leaf} is not the part of the domain that it stands for")
            claims = {t: claimed(i, t, leaf) for i, t in enumerate(document["tensors"])}
            settled = Leaf(model, contract, claims)
            settled.settle(piece)
            for t in model.outputs:
                errors = settled.pulled(t, settled.err[t], -np.inf, 1.0, False)
                most = float(np.max(errors, initial=0.0))
                if not np.isfinite(most) or Fraction(most) > epsilons[t]:
                    shown = f"{most:.9g}, not {float(epsilons[t]):.9g}"
                    raise Rejected(f"the error of '{t}' in leaf {leaf} is shown to be <= {shown}")
                largest[t] = max(largest[t], Fraction(most))
    if not seen or sorted(seen) != list(range(len(arrays["leaf_lo0"]))):
        raise Rejected("not every leaf stands for one part of the domain")
    bounds = ", ".join(f"|error of '{t}'| <= {e}" for t, e in epsilons.items())
    return f"{bounds} under contract '{table['name']}', in {len(seen)} parts", largest


def main(arguments: Sequence[str]) -> int:
    """The exit code, after one line on standard output."""
    if len(arguments) != 2:
        print("usage: python checker/check.py CERTIFICATE MODEL", file=sys.stderr)
        return OUTSIDE
    try:
        data, model_data = (Path(a).read_bytes() for a in arguments)
        with np.errstate(all="ignore"):
            said, _ = check(data, model_data)
    except Rejected as error:
        print(f"rejected: {error}")
        return REJECTED
    except OSError as error:
        print(f"not checked: {error.filename} cannot be read ({error.strerror})")
        return OUTSIDE
    except (Outside, MemoryError, RecursionError) as error:
        print(f"not checked: {error}")
        return OUTSIDE
    print(f"accepted: {said}")
    return ACCEPTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
