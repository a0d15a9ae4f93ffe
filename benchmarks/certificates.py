"""Certificates of published networks: sizes, parts, CPU seconds of the checker, mutants rejected.

    python benchmarks/certificates.py ../shared/models [NAME …]

Each line is one property of one network: it is bounded, checked at a slightly larger ε (ACAS Xu: of
a bound that took half a minute, so that the domain is split), and its certificate is checked in a
process of its own, and again with changes that would mean more. NAME picks families.
"""

from __future__ import annotations

import io
import json
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

import checker
import refine
from checker.arithmetic import Outside, Rejected
from checker.check import ACCEPTED, check, read_certificate

CHECKER = Path(checker.__file__).with_name("check.py")
HEAD = (
    "family/model | property | parts | kB | writing-s | checker-s | accepted | mutants | rejected"
)


@dataclass(frozen=True)
class Case:
    """A property; its certificate is asked for at `share` of the bound of `effort` seconds."""

    model: Path
    property: Path
    share: float = 1.001
    effort: float = 0.0


def cases(folder: Path) -> Iterator[Case]:
    for name in ("256x2", "256x4"):
        for path in sorted(folder.glob("mnist_fc/*.vnnlib")):
            yield Case(folder / f"mnist_fc/mnist-net_{name}.onnx", path)
    for path in sorted(folder.glob("acasxu/*.onnx"))[:10]:
        yield Case(path, folder / "acasxu/prop_3.vnnlib", share=1.05, effort=30.0)
    for path in sorted(folder.glob("oval21/*.vnnlib")):
        yield Case(folder / "oval21/cifar_base_kw.onnx", path)
    yield Case(folder / "oval21/cifar_deep_kw.onnx", sorted(folder.glob("oval21/*.vnnlib"))[0])
    for path in sorted(folder.glob("collins_rul_cnn/*.vnnlib")):
        yield Case(folder / "collins_rul_cnn/NN_rul_small_window_20.onnx", path)
    for path in sorted(folder.glob("cifar10_resnet/*.vnnlib")):
        yield Case(folder / "cifar10_resnet/resnet_2b.onnx", path)
    for name in ("maxpool", "avgpool"):
        model = folder / f"verivital21/Convnet_{name}.onnx"
        yield Case(model, folder / "verivital21/prop_5_0.02.vnnlib")


def certified(case: Case, file: Path) -> Any:
    words: Any = {
        "vnnlib": case.property, "no_search": True, "z3": "none", "conform": False, "workers": 1,
    }  # fmt: skip
    bound = refine.bound(case.model, budget=case.effort, **words).bound
    epsilon = case.share * bound
    return refine.check(
        case.model, eps=epsilon, certificate=file, budget=8 * case.effort, **words
    ).certification


def checked(file: Path, model: Path) -> tuple[int, float]:
    """The checker's exit code, and its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, CHECKER, file, model], capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return done.returncode, spent


def is_rejected(data: bytes, model: bytes) -> bool:
    try:
        with np.errstate(all="ignore"):
            check(data, model)
    except (Rejected, Outside):
        return True
    return False


def packed(document: Any, arrays: Any) -> bytes:
    whole, inner = io.BytesIO(), io.BytesIO()
    np.savez(inner, **arrays)
    with zipfile.ZipFile(whole, "w") as zipped:
        zipped.writestr("certificate.json", json.dumps(document))
        zipped.writestr("arrays.npz", inner.getvalue())
    return whole.getvalue()


def mutants(data: bytes) -> Iterator[bytes]:
    """The certificate with one change each that would mean more."""
    document, arrays = read_certificate(data)
    last = len(document["tensors"]) - 1
    for i in sorted({0, last}):
        for name, change in (("err", -0.999), ("lo", 0.999), ("hi", -0.999), ("slope", 2.0)):
            value = arrays[f"{name}{i}"].copy()
            size = arrays[f"err{i}"] if name == "err" else arrays[f"hi{i}"] - arrays[f"lo{i}"]
            place = np.unravel_index(np.argmax(size), size.shape)
            value[place] += change * size[place] if name != "slope" else change
            yield packed(document, arrays | {f"{name}{i}": value})
        yield packed(document, arrays | {f"lo{i}": np.roll(arrays[f"lo{i}"], 1, axis=1) + 1e-3})
    yield packed(document, arrays | {"box_lo0": arrays["box_lo0"] - 1e-2})
    fewer = {n: v if n.startswith("box") else v[:-1] for n, v in arrays.items()}
    yield packed(document, fewer)
    twice = {n: v if n.startswith("box") else np.concatenate([v, v[:1]]) for n, v in arrays.items()}
    yield packed(document, twice)
    changes: list[tuple[list[Any], Any]] = [
        (["model", "sha256"], "0" * 64),
        (["contract", "format"], "float16"),
        (["contract", "accumulation"], "float32"),
        (["nodes", len(document["nodes"]) - 1, "terms"], 1000003),
        (["tensors"], [*document["tensors"][::-1], "x"]),
        (["boxes", 0], [0, 0, float(arrays["box_hi0"][0, 0]).hex(), None]),
        (["claim", "kind"], "unsafe"),
    ]
    for path, other in changes:
        changed = deepcopy(document)
        there: Any = changed
        for key in path[:-1]:
            there = there[key]
        there[path[-1]] = other
        yield packed(changed, arrays)
    smaller = deepcopy(document)
    for t, e in smaller["claim"]["eps"].items():
        smaller["claim"]["eps"][t] = str(Fraction(e) / 4)
    yield packed(smaller, arrays)


def row(case: Case, folder: Path) -> list[str]:
    file = folder / "it.cert"
    file.unlink(missing_ok=True)
    start = time.process_time()
    made = certified(case, file)
    writing = time.process_time() - start
    name = [f"{case.model.parent.name}/{case.model.stem}", case.property.stem[:30]]
    if made is None or made.file is None:
        return [*name, "-", "-", f"{writing:.1f}", "-", str(made and made.outside), "-", "-"]
    code, spent = checked(file, case.model)
    data, tried, rejected = file.read_bytes(), 0, 0
    model = case.model.read_bytes()
    content = bytearray(model)
    content[len(content) // 2] ^= 1  # a bit of a weight
    for mutant, it in (*((m, model) for m in mutants(data)), (data, bytes(content))):
        tried += 1
        rejected += is_rejected(mutant, it)
    accepted = "yes" if code == ACCEPTED else f"no ({code})"
    size = f"{len(data) / 1024:.0f}"
    return [
        *name, str(made.leaves), size, f"{writing:.1f}", f"{spent:.1f}", accepted, str(tried),
        str(rejected),
    ]  # fmt: skip


def main(folder: Path, names: list[str]) -> None:
    print(f"| {HEAD} |", flush=True)
    with tempfile.TemporaryDirectory() as place:
        for case in cases(folder):
            if not names or any(n in f"{case.model} {case.property}" for n in names):
                print("| " + " | ".join(row(case, Path(place))) + " |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
