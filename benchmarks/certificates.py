"""Certificates of published networks: sizes, parts, CPU seconds of the checker, mutants rejected.

    python benchmarks/certificates.py [NAME …] [--models DIR] [--no-mutants] [--save FILE]

Each line is one property of one network. An accuracy is bounded and checked at a slightly larger ε,
of ACAS Xu at smaller ones until the domain is split into a hundred parts; of some networks the
property itself is checked. The certificate is checked in a process of its own, and again with
changes that would mean more; `refine recheck` checks it too, and recomputes the applications of
lemmas in it. NAME picks lines, `--save` keeps them as JSON after each, beside those of other names.
"""

from __future__ import annotations

import argparse
import io
import json
import re
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
from measuring import MODELS, earlier, save

import checker
import refine
from checker.arithmetic import Outside, Rejected
from checker.check import ACCEPTED, check, read_certificate

CHECKER = Path(checker.__file__).with_name("check.py")
DEMO = Path(__file__).parents[1] / "examples" / "demo" / "pendulum.onnx"
HEAD = (
    "family/model", "property", "claim", "parts", "kB", "writing-s", "checker-s", "accepted",
    "recheck-s", "applications", "mutants", "rejected",
)  # fmt: skip
SHARES = (0.004, 0.002, 0.001, 0.0005)


@dataclass(frozen=True)
class Case:
    """A property of a network. Of an accuracy, ε is the first of `shares` of the first bound with
    which the certificate has as many `parts`, or the last that is proved in `budget` seconds;
    without shares the property itself is claimed."""

    model: Path
    property: Path | None  # else inputs from -1 to 1
    shares: tuple[float, ...] = (1.001,)
    budget: int = 0
    parts: int = 1


def cases(folder: Path) -> Iterator[Case]:
    yield Case(DEMO, None)
    for name in ("256x2", "256x4"):
        for path in sorted(folder.glob("mnist_fc/*.vnnlib")):
            yield Case(folder / f"mnist_fc/mnist-net_{name}.onnx", path)
    for path in sorted(folder.glob("acasxu/*.onnx"))[:10]:
        yield Case(path, folder / "acasxu/prop_1.vnnlib", shares=SHARES, budget=1500, parts=100)
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
    for name, prop in (("2", "0_0.03"), ("2", "3_0.03"), ("4", "0_0.03"), ("4", "3_0.03")):
        model = folder / f"mnist_fc/mnist-net_256x{name}.onnx"
        yield Case(model, folder / f"mnist_fc/prop_{prop}.vnnlib", shares=())
    for name, prop in (("3_3", "4"), ("3_6", "4"), ("1_1", "1"), ("2_1", "3")):
        model = folder / f"acasxu/ACASXU_run2a_{name}_batch_2000.onnx"
        yield Case(model, folder / f"acasxu/prop_{prop}.vnnlib", shares=())
    stated = sorted(folder.glob("cifar10_resnet/*.vnnlib"))[0]
    yield Case(folder / "cifar10_resnet/resnet_2b.onnx", stated, shares=())
    stated = sorted(folder.glob("oval21/*.vnnlib"))[0]
    yield Case(folder / "oval21/cifar_base_kw.onnx", stated, shares=())


def certified(case: Case, file: Path) -> Any:
    words: Any = {
        "vnnlib": case.property, "no_search": True, "z3": "none", "conform": False, "workers": 1,
    }  # fmt: skip
    if case.property is None:
        words |= {"input": "-1..1"}
    if not case.shares:
        return refine.check(
            case.model, claim="property", certificate=file, budget=240, **words
        ).certification
    made, bound = None, refine.bound(case.model, budget=0, **words).bound
    words |= {"budget": case.budget, "certificate": file}
    for share in case.shares:
        smaller = refine.check(case.model, eps=share * bound, **words).certification
        if smaller is None:
            break
        made = smaller
        if made.outside is not None or made.leaves >= case.parts:
            break
    return made


def checked(file: Path, model: Path, *program: str | Path) -> tuple[int, float, str]:
    """The exit code of a program that checks, its CPU seconds, and what it says."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, *program, file, model]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return done.returncode, round(spent, 1), done.stdout


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
    other = "unsafe" if document["claim"]["kind"] == "accuracy" else "accuracy"
    changes: list[tuple[list[Any], Any]] = [
        (["model", "sha256"], "0" * 64),
        (["contract", "format"], "float16"),
        (["contract", "accumulation"], "float32"),
        (["nodes", len(document["nodes"]) - 1, "terms"], 1000003),
        (["tensors"], [*document["tensors"][::-1], "x"]),
        (["boxes", 0], [0, 0, float(arrays["box_hi0"][0, 0]).hex(), None]),
        (["claim", "kind"], other),
    ]
    for path, other in changes:
        changed = deepcopy(document)
        there: Any = changed
        for key in path[:-1]:
            there = there[key]
        there[path[-1]] = other
        yield packed(changed, arrays)
    smaller = deepcopy(document)
    for t, e in smaller["claim"].get("eps", {}).items():
        smaller["claim"]["eps"][t] = str(Fraction(e) / 4)
    for part in smaller["claim"].get("unsafe", []):
        for line in part:
            line["at_most"] = str(Fraction(line["at_most"]) + 1000)
    yield packed(smaller, arrays)


def row(case: Case, folder: Path, changed: bool) -> dict[str, Any]:
    file = folder / "it.cert"
    file.unlink(missing_ok=True)
    start = time.process_time()
    made = certified(case, file)
    claim = "accuracy" if case.shares else "property"
    stated = "-1..1" if case.property is None else case.property.stem
    name = [f"{case.model.parent.name}/{case.model.stem}", stated[:30], claim]
    spent = round(time.process_time() - start, 1)
    if made is None or made.outside is not None:
        why = "not verified" if made is None else made.outside
        return dict(zip(HEAD, [*name, 0, 0, spent, None, why, None, 0, 0, 0], strict=True))
    code, checking, _ = checked(file, case.model, CHECKER)
    again, rechecking, said = checked(file, case.model, "-m", "refine", "recheck")
    recomputed = re.search(r"^(\d+) applications of", said, re.MULTILINE)
    data, tried, rejected = file.read_bytes(), 0, 0
    model = case.model.read_bytes()
    content = bytearray(model)
    content[len(content) // 2] ^= 1  # a bit of a weight
    others = (*((m, model) for m in mutants(data)), (data, bytes(content))) if changed else ()
    for mutant, it in others:
        tried += 1
        rejected += is_rejected(mutant, it)
    accepted = "yes" if (code, again) == (ACCEPTED, ACCEPTED) else f"no ({code}, {again})"
    found = [*name, made.leaves, round(len(data) / 1024), spent, checking, accepted, rechecking]
    found += [int(recomputed[1]) if recomputed else 0, tried, rejected]
    return dict(zip(HEAD, found, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--no-mutants", action="store_true")
    parser.add_argument("--save", type=Path)
    given = parser.parse_args()
    print("| " + " | ".join(HEAD) + " |", flush=True)
    kept = {} if given.save is None else earlier(given.save, *HEAD[:3])
    with tempfile.TemporaryDirectory() as place:
        for case in cases(given.models):
            claim = "accuracy" if case.shares else "property"
            text = f"{case.model} {case.property} {claim}"
            if given.names and not any(name in text for name in given.names):
                continue
            made = row(case, Path(place), changed=not given.no_mutants)
            print("| " + " | ".join(map(str, made.values())) + " |", flush=True)
            kept[tuple(made[key] for key in HEAD[:3])] = made
            if given.save is not None:
                save(given.save, list(kept.values()))


if __name__ == "__main__":
    main()
