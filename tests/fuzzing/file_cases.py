"""Command lines with damaged files, at random."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass

import numpy as np
from damaged import damage_bytes, damage_model, damage_text
from whole_files import (
    ENTRY,
    FPCORE,
    TOML,
    TORCHLEAN,
    TORCHLEAN_NAMED,
    VNNLIB,
    VNNLIB_2,
    WEIGHTS,
    npy,
    npz,
    onnx_model,
    plain_model,
    witness_of,
)

QUICK = ("--z3", "none", "--no-conform", "--no-search", "--budget", "0", "-q", "--workers", "1")
_BESIDE = QUICK[2:]  # where Z3 has no option
_KINDS = ("onnx", "onnx", "onnx", "onnx bytes", "onnx bytes", "torchlean", "state dict", "vnnlib",
          "vnnlib 2", "fpcore", "npy", "npz", "toml", "witness", "zoo", "diff")  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A command line, and the files that it finds in its folder; `damaged` names the one that is
    no longer as a writer of files left it."""

    kind: str
    arguments: tuple[str, ...]
    files: dict[str, bytes]
    damaged: str = "m.onnx"


def case_of(rng: random.Random) -> Case:
    """A random case."""
    kind = rng.choice(_KINDS)
    m, net = plain_model(), {"m.onnx": plain_model()}
    plain = ("bound", "m.onnx", *QUICK)
    box = ("--input", "0..1")
    match kind:
        case "onnx":
            files = {"m.onnx": _damaged_model(rng), "here.bin": bytes(32)}
            return Case(kind, (*_asked(rng), *box), files)
        case "onnx bytes":
            data = damage_bytes(onnx_model(rng).SerializeToString(), rng)
            return Case(kind, (*_asked(rng), *box), {"m.onnx": data})
        case "diff":
            data = _damaged_model(rng) if rng.random() < 0.7 else onnx_model(rng)
            data = data if isinstance(data, bytes) else damage_bytes(data.SerializeToString(), rng)
            pair = rng.choice([("s.onnx", "m.onnx"), ("m.onnx", "s.onnx"), ("m.onnx", "m.onnx")])
            files = {"m.onnx": data, "s.onnx": onnx_model(rng).SerializeToString()}
            how = rng.choice([(), ("--spec-as", "runtime"), ("--impl-as", "real")])
            return Case(kind, ("diff", *pair, *_BESIDE, *how, *box), files)
        case "torchlean":
            text = damage_text(TORCHLEAN, rng)
            return Case(kind, ("bound", "m.json", *box, *QUICK), {"m.json": text}, "m.json")
        case "state dict":
            graph, weights = TORCHLEAN_NAMED.encode(), WEIGHTS.encode()
            damaged = rng.choice(["m.json", "m.weights.json"])
            if damaged == "m.json":
                graph = damage_text(TORCHLEAN_NAMED, rng)
            else:
                weights = damage_text(WEIGHTS, rng)
            files = {"m.json": graph, "m.weights.json": weights}
            return Case(kind, ("bound", "m.json", *box, *QUICK), files, damaged)
        case "vnnlib" | "vnnlib 2":
            text = damage_text(VNNLIB if kind == "vnnlib" else VNNLIB_2, rng)
            more: tuple[str, ...] = ("--vnnlib", "p.vnnlib")
            return Case(kind, (*plain, *more), net | {"p.vnnlib": text}, "p.vnnlib")
        case "fpcore":
            text = damage_text(FPCORE, rng)
            return Case(kind, ("bound", "k.fpcore", *QUICK), {"k.fpcore": text}, "k.fpcore")
        case "npy":
            data = damage_bytes(npy(np.zeros((1, 3), rng.choice(["<f4", ">f8", "i8"]))), rng)
            more = ("--center", "c.npy", "--radius", "0.1")
            return Case(kind, (*plain, *more), net | {"c.npy": data}, "c.npy")
        case "npz":
            data = npz(rng, lo=np.zeros((1, 3)), hi=np.ones((1, 3)))
            return Case(kind, (*plain, "--box", "b.npz"), net | {"b.npz": data}, "b.npz")
        case "toml":
            text = damage_text(TOML, rng)
            more = ("--input", "0..1", "--contract", "c.toml")
            return Case(kind, (*plain, *more), net | {"c.toml": text}, "c.toml")
        case "witness":
            return _witness(rng)
        case _:
            files = {"z/e/right.onnx": m, "z/e/wrong.onnx": m,
                     "z/e/entry.toml": damage_text(ENTRY, rng)}  # fmt: skip
            return Case(kind, ("zoo", "z"), files, "z/e/entry.toml")


def _damaged_model(rng: random.Random) -> bytes:
    model = onnx_model(rng)
    for _ in range(rng.choice([1, 1, 2, 3])):
        damage_model(model, rng)
    data: bytes = model.SerializeToString()
    return data


def _asked(rng: random.Random) -> tuple[str, ...]:
    """What is asked of m.onnx."""
    more = rng.choice([(), (), (), ("--contract", "ort-cpu"), ("--format", "bfloat16")])
    if rng.random() < 0.75:
        return ("bound", "m.onnx", *QUICK, *more)
    claim = rng.choice([("1e-3",), ("0", "--claim", "batch-invariant", "--batch", "3")])
    return ("check", "m.onnx", "--eps", *claim, *QUICK, *more)


def _witness(rng: random.Random) -> Case:
    """A counterexample of one network, of two or of a batch."""
    m = plain_model()
    written = witness_of(hashlib.sha256(m).hexdigest(), rng.choice(["one", "pair", "batch"]))
    arrays = npz(rng, x=np.ones((1, 3))) if rng.random() < 0.3 else npz(random.Random(3))
    text = damage_text(json.dumps(written), rng)
    files = {"m.onnx": m, "w.json": text, "c.npz": arrays}
    script = ("--script", "s.py") if rng.random() < 0.3 else ()
    return Case("witness", ("replay", "w.json", *script), files, "w.json")
