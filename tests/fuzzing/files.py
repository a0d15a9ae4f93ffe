"""Files from strangers, by the thousand: every format damaged at random, every run watched.

    python tests/fuzzing/files.py --seconds 600 --seed 1 [--count N] [--keep FOLDER]

A run must end with an exit code that it documents, without a traceback, within 20 seconds, and open
nothing outside the folder of its files. Offenders are saved, and those of bytes made smaller.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 20  # seconds
MEMORY = 8 * 2**30  # bytes of address space beyond what is used at the start
CODES = {0, 1, 2, 3, 4, 5}
QUICK = ("--z3", "none", "--no-conform", "--no-search", "--budget", "0", "-q", "--workers", "1")
_DIMS = (0, 1, 2, 3, 7, -1, 2**31 - 1, 2**31, 2**62, 2**63 - 1, -(2**63))
_TEXTS = ("", "x", "y", "\x1b[2J", "a\nb", "é", "../../etc/passwd", "/etc/passwd", "w", "[red]")
_NUMBERS = ("0", "-1", "1e999999999", "1" * 5000, "nan", "inf", "-0", "1e-400", "1/0", "0x1p3")


class TookTooLong(BaseException):
    """A run that did not end."""


@dataclass(frozen=True)
class Case:
    """A command line, and the files that it finds in its folder."""

    kind: str
    arguments: tuple[str, ...]
    files: dict[str, bytes]


@dataclass(frozen=True)
class Fault:
    """What went wrong with a case."""

    case: Case
    why: str


# Making files


def onnx_model(rng: random.Random) -> onnx.ModelProto:
    """A small valid model of a few operators."""
    w = np.array([[0.1, 0.5], [0.2, -1], [0.3, 2]], np.float32)
    ops = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], "gemm", alpha=1.0, transB=0),
        helper.make_node(rng.choice(["Relu", "Tanh", "Identity", "Softmax"]), ["h"], ["k"], "act"),
        rng.choice(
            [
                helper.make_node("Reshape", ["k", "s"], ["y"], "move"),
                helper.make_node("ReduceSum", ["k", "axes"], ["y"], "sum", keepdims=1),
                helper.make_node("Slice", ["k", "axes", "s", "axes"], ["y"], "cut"),
                helper.make_node("Concat", ["k", "k"], ["y"], "join", axis=1),
                helper.make_node("Transpose", ["k"], ["y"], "turn", perm=[1, 0]),
                helper.make_node("Clip", ["k", "", "one"], ["y"], "clip"),
                helper.make_node("Split", ["k"], ["y", "z"], "parts", axis=1, num_outputs=2),
                helper.make_node("Gather", ["k", "axes"], ["y"], "take", axis=1),
                helper.make_node("Pad", ["k", "pads"], ["y"], "pad"),
                helper.make_node("LayerNormalization", ["k", "b"], ["y"], "norm", axis=-1),
                helper.make_node("Cast", ["k"], ["y"], "cast", to=11),
            ]
        ),
    ]
    stored = {"w": w, "b": np.ones(2, np.float32), "s": np.array([2, 1], np.int64),
              "axes": np.array([1], np.int64), "one": np.array(1, np.float32),
              "pads": np.array([0, 1, 0, 1], np.int64)}  # fmt: skip
    graph = helper.make_graph(
        ops,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, n) for n, v in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def damage_model(model: onnx.ModelProto, rng: random.Random) -> None:
    """One structural change that a writer of files could make."""
    graph = model.graph
    node = rng.choice(graph.node) if graph.node else graph.node.add()
    tensor = rng.choice(graph.initializer) if graph.initializer else graph.initializer.add()
    value = rng.choice([*graph.input, *graph.output] or [graph.input.add()])

    def attribute() -> None:
        name = rng.choice(["axis", "axes", "perm", "to", "alpha", "mode", "value", "body", "group"])
        kind: Any = rng.choice([1, 1.5, "text", b"\xff", [1, 2], [-5], [0.5], ["t"], tensor, graph])
        node.attribute.append(helper.make_attribute(name, kind))

    def retype() -> None:
        for a in node.attribute:
            a.type = rng.randrange(0, 15)

    def subgraph() -> None:
        copy = onnx.GraphProto()
        copy.CopyFrom(graph)
        node.op_type = rng.choice(["If", "Loop", "Scan"])
        node.attribute.append(helper.make_attribute("body", copy))

    def function() -> None:
        body = [helper.make_node("F", ["a"], ["b"], domain="loc")]
        model.functions.append(
            helper.make_function("loc", "F", ["a"], ["b"], body, model.opset_import)
        )
        node.op_type, node.domain = "F", "loc"

    def external() -> None:
        tensor.data_location = TensorProto.EXTERNAL
        tensor.ClearField("raw_data")
        place = rng.choice(["../secret", "/etc/passwd", "here.bin", "", "\0", "..", "missing"])
        tensor.external_data.add(key="location", value=place)
        tensor.external_data.add(key=rng.choice(["offset", "length"]),
                                 value=rng.choice(["-1", "x", "9" * 30, "0", "7"]))  # fmt: skip

    changes: Sequence[Callable[[], Any]] = (
        lambda: setattr(node, "op_type", rng.choice(operator_names())),
        lambda: setattr(node, "name", rng.choice(_TEXTS)),
        lambda: setattr(node, "domain", rng.choice(["ai.onnx.ml", "com.microsoft", "\x1b", "x"])),
        lambda: node.input.append(rng.choice(["x", "w", "y", "", "k", "nowhere"])),
        lambda: node.output.append(rng.choice(["y", "h", "x", "", "more"])),
        lambda: node.input and node.input.pop(),
        lambda: node.output and node.output.pop(),
        lambda: node.ClearField("attribute"),
        lambda: node.input.__setitem__(0, rng.choice(["y", "k", "w", ""])) if node.input else None,
        lambda: graph.node.append(node),
        lambda: graph.node.remove(node),
        lambda: tensor.dims.__setitem__(slice(None), rng.choices(_DIMS, k=rng.randrange(5))),
        lambda: setattr(tensor, "data_type", rng.choice([*range(28), 99, -1])),
        lambda: setattr(tensor, "raw_data", rng.randbytes(rng.randrange(40))),
        lambda: tensor.float_data.extend([1.0, float("nan")]),
        lambda: setattr(tensor, "name", rng.choice(_TEXTS)),
        lambda: graph.initializer.append(tensor),
        lambda: value.type.tensor_type.shape.dim.add(dim_value=rng.choice(_DIMS)),
        lambda: value.type.tensor_type.shape.dim.add(dim_param=rng.choice(_TEXTS)),
        lambda: setattr(value.type.tensor_type, "elem_type", rng.randrange(28)),
        lambda: value.type.ClearField("tensor_type"),
        lambda: setattr(value, "name", rng.choice(_TEXTS)),
        lambda: graph.input.append(value),
        lambda: graph.output.append(value),
        lambda: setattr(model.opset_import[0], "version", rng.choice([0, 1, 7, 13, 22, 9999, -1])),
        lambda: model.opset_import.add(domain="", version=3),
        lambda: setattr(model, "ir_version", rng.choice([0, 3, 4, 99, -1])),
        lambda: model.ClearField("opset_import"),
        lambda: graph.sparse_initializer.add().values.CopyFrom(tensor),
        lambda: graph.value_info.append(value),
        attribute, attribute, attribute, retype, subgraph, function, external,
    )  # fmt: skip
    with contextlib.suppress(ValueError, TypeError, IndexError):
        rng.choice(changes)()


@cache
def operator_names() -> tuple[str, ...]:
    return tuple(sorted({s.name for s in onnx.defs.get_all_schemas() if s.domain == ""}))


def damage_bytes(data: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, cut out, repeated or put elsewhere."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        at, other = rng.randrange(len(out) + 1), rng.randrange(len(out) + 1)
        lo, hi = min(at, other), min(max(at, other), min(at, other) + 40)
        match rng.randrange(6):
            case 0 if out:
                out[min(at, len(out) - 1)] = rng.choice(
                    [0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)]
                )
            case 1:
                del out[lo:hi]
            case 2:
                out[at:at] = out[lo:hi]
            case 3:
                out[at:at] = rng.randbytes(rng.randrange(1, 5))
            case 4:
                del out[at:]
            case _ if out:
                out[min(at, len(out) - 1)] ^= 1 << rng.randrange(8)
    return bytes(out)


_TOKEN = re.compile(r"[A-Za-z_][\w-]*|[-+]?[0-9][\w.+-]*|\"[^\"]*\"|\s+|.", re.DOTALL)


def damage_text(text: str, rng: random.Random) -> bytes:
    """Tokens dropped, doubled, exchanged, nested deep, or replaced by odd ones."""
    tokens = _TOKEN.findall(text)
    for _ in range(rng.choice([1, 1, 2, 3])):
        at, other = rng.randrange(len(tokens)), rng.randrange(len(tokens))
        match rng.randrange(8):
            case 0:
                tokens[at] = rng.choice(_NUMBERS)
            case 1:
                tokens[at] = json.dumps(rng.choice(_TEXTS))
            case 2:
                tokens[at], tokens[other] = tokens[other], tokens[at]
            case 3:
                tokens[at] = ""
            case 4:
                tokens[at:at] = tokens[min(at, other) : max(at, other)][:30]
            case 5:
                tokens[at] = rng.choice("([{") * rng.choice([1, 3, 300, 3000])
            case 6:
                tokens[at] = rng.choice(["true", "null", "[]", "{}", "-", ".", "=", ")", "]", "\0"])
            case _:
                tokens[at] = tokens[other]
    return "".join(tokens).encode("utf-8", "surrogatepass")


TOML = """schema = "refine-contract-1"
name = "mine"
base = "ort-cpu"
order = "blocked"
block = 4
fma = "always"
bias = "last"
subnormal_results = "gradual"
factors = "tf32"
factor_rounding = "any"
functions = "onnxruntime"
format = "float32"
[[rules]]
op = "Gemm"
terms = 3
order = "tree"
tree = [[0, 1], [0, 2]]
evidence = "probed"
[provenance]
threads = "1"
"""
ENTRY = """title = "t"
source = "s"
command = "check"
expected = "violated"
eps = "1e-3"
input = ["-1..1"]
"""
FPCORE = """(FPCore (x y) :name "k" :precision binary32 :pre (and (<= 0 x 1) (<= 1 y 2))
 (let* ((a (+ x 1/3)) (b (* a 0x1.8p1))) (if (< x y) (/ (sqrt a) (fabs y)) (- (exp b)))))"""
VNNLIB = """(declare-const X_0 Real) (declare-const X_1 Real) (declare-const X_2 Real)
(declare-const Y_0 Real) ; c
(assert (<= X_0 1)) (assert (>= X_0 -1.5e-1)) (assert (and (>= X_1 0) (<= X_1 (* 2 0.25))))
(assert (or (and (>= X_2 0) (<= X_2 1)) (and (>= X_2 2) (<= X_2 3)))) (assert (>= Y_0 0))"""
TORCHLEAN = json.dumps(
    {
        "format": "torchlean.ir.v1",
        "nodes": [
            {"id": 0, "kind": "input", "parents": [], "shape": [3]},
            {"id": 1, "kind": "linear", "parents": [0], "shape": [2]},
            {"id": 2, "kind": "relu", "parents": [1], "shape": [2]},
        ],
        "input_id": 0,
        "output_id": 2,
        "params": {"1.weight": [[1, 2, 3], [0.5, 0, -1]], "1.bias": [0.25, 1]},
    }
)
WITNESS = json.dumps(
    {
        "schema": "refine-counterexample-1", "model": "m.onnx", "sha256": "@", "inputs": "c.npz",
        "output": "y", "index": [0, 0], "contract": "sequential", "eps": "1/100",
        "execution": {"schema": "refine-contract-1", "name": "sequential", "order": "sequential",
                      "fma": "never", "bias": "last", "subnormal_results": "gradual",
                      "subnormal_operands": "gradual", "normalization": "folded",
                      "factor_rounding": "any", "exact": False, "functions": "conservative"},
        "specification": None,
    }
)  # fmt: skip


def npy(values: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def npz(rng: random.Random, **members: Any) -> bytes:
    stream = io.BytesIO()
    method = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, values in members.items():
            inner = npy(values)
            archive.writestr(
                f"{name}.npy", damage_bytes(inner, rng) if rng.random() < 0.5 else inner
            )
    data = stream.getvalue()
    return damage_bytes(data, rng) if rng.random() < 0.5 else data


@cache
def plain_model() -> bytes:
    """The model that all but damaged models are read with."""
    w = np.array([[0.1, 0.5], [0.2, -1], [0.3, 2]], np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "m")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 2))],
        [numpy_helper.from_array(w, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def case_of(rng: random.Random) -> Case:
    """A random case."""
    import hashlib

    kind = rng.choice(("onnx", "onnx", "onnx bytes", "onnx bytes", "torchlean", "vnnlib", "fpcore",
                       "npy", "npz", "toml", "witness", "zoo"))  # fmt: skip
    m, net = plain_model(), {"m.onnx": plain_model()}
    plain = ("bound", "m.onnx", *QUICK)
    match kind:
        case "onnx":
            model = onnx_model(rng)
            for _ in range(rng.choice([1, 1, 2, 3])):
                damage_model(model, rng)
            files = {"m.onnx": model.SerializeToString(), "here.bin": bytes(32)}
            return Case(kind, (*plain, "--input", "0..1"), files)
        case "onnx bytes":
            data = damage_bytes(onnx_model(rng).SerializeToString(), rng)
            return Case(kind, (*plain, "--input", "0..1"), {"m.onnx": data})
        case "torchlean":
            text = damage_text(TORCHLEAN, rng)
            return Case(kind, ("bound", "m.json", "--input", "0..1", *QUICK), {"m.json": text})
        case "vnnlib":
            return Case(kind, (*plain, "--vnnlib", "p.vnnlib"),
                        net | {"p.vnnlib": damage_text(VNNLIB, rng)})  # fmt: skip
        case "fpcore":
            text = damage_text(FPCORE, rng)
            return Case(kind, ("bound", "k.fpcore", *QUICK), {"k.fpcore": text})
        case "npy":
            data = damage_bytes(npy(np.zeros((1, 3), rng.choice(["<f4", ">f8", "i8"]))), rng)
            return Case(
                kind, (*plain, "--center", "c.npy", "--radius", "0.1"), net | {"c.npy": data}
            )
        case "npz":
            data = npz(rng, lo=np.zeros((1, 3)), hi=np.ones((1, 3)))
            return Case(kind, (*plain, "--box", "b.npz"), net | {"b.npz": data})
        case "toml":
            text = damage_text(TOML, rng)
            more = ("--input", "0..1", "--contract", "c.toml")
            return Case(kind, (*plain, *more), net | {"c.toml": text})
        case "witness":
            text = WITNESS.replace("@", hashlib.sha256(m).hexdigest())
            data = npz(rng, x=np.ones((1, 3))) if rng.random() < 0.3 else npz(random.Random(3))
            files = net | {"w.json": damage_text(text, rng), "c.npz": data}
            return Case(kind, ("replay", "w.json"), files)
        case _:
            files = {"z/e/right.onnx": m, "z/e/wrong.onnx": m,
                     "z/e/entry.toml": damage_text(ENTRY, rng)}  # fmt: skip
            return Case(kind, ("zoo", "z"), files)


# Running them


class Watch:
    """Notes what is opened, while it is on."""

    def __init__(self) -> None:
        self.on = False
        self.outside: list[str] = []
        self.folder = ""
        known = (
            ROOT,
            sys.prefix,
            sys.base_prefix,
            *site.getsitepackages(),
            Path(onnx.__file__).parents[1],
        )
        self.known = tuple(os.path.realpath(p) for p in known)
        self.system = ("/dev/null", "/dev/urandom", "/proc/", "/sys/devices/", "/lib", "/usr/lib",
                       "/etc/ld.so", "/usr/share/zoneinfo", "/etc/localtime")  # fmt: skip
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on or event not in ("open", "os.remove", "os.rename", "os.mkdir", "os.symlink"):
            return
        if isinstance(arguments[0], int) or arguments[0] is None:
            return
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if path.startswith((self.folder, *self.known, *self.system)):
            return
        if "/refine/lemmas" in path or "/refine/kernels" in path or path.startswith("/tmp/tmp"):
            return
        self.outside.append(f"{event} {path}")


def _too_long(number: int, frame: FrameType | None) -> None:
    raise TookTooLong


def fault_of(case: Case, folder: Path, watch: Watch) -> str | None:
    """Run one case in a folder of its own; what went wrong, if anything."""
    from refine.cli import guarded

    shutil.rmtree(folder, ignore_errors=True)
    for name, data in case.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    os.chdir(folder)
    out, err = io.StringIO(), io.StringIO()
    watch.outside.clear()
    watch.folder = os.path.realpath(folder)
    sys.argv = ["refine", *case.arguments]
    signal.signal(signal.SIGALRM, _too_long)
    before = time.monotonic()
    watch.on = True
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = guarded(None).value
    except TookTooLong:
        return f"no end within {LONGEST} s"
    except BaseException as error:
        return f"{type(error).__name__} escapes: {error}"[:300]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        watch.on = False
    said = err.getvalue()
    if "Traceback" in said or code == 70:
        last = [line for line in said.splitlines() if line.strip()]
        places = [line.strip() for line in last if line.lstrip().startswith("File ")]
        return f"exit {code}: {last[-1] if last else ''} at {places[-1] if places else ''}"[:600]
    if code == 130:  # the alarm, heard by who listens to Ctrl-C
        return f"no end within {LONGEST} s"
    if code not in CODES:
        return f"exit code {code}: {said[:200]}"
    if code == 2 and (said.count("\n") != 1 or not said.startswith("refine: ")):
        return f"no single sentence: {said[:300]!r}"
    if any(not (c.isprintable() or c == "\n") for c in said + out.getvalue()):
        return "control characters are shown"
    if watch.outside:
        return f"outside: {watch.outside[:3]}"
    if time.monotonic() - before > LONGEST:
        return "too slow"
    return None


def faults(seed: int, seconds: float, most: int, kinds: Counter[str]) -> Iterator[Fault]:
    """Random cases for so long, or so many; those that go wrong.

    They run in a process of their own. Where that crashes, the command line itself must have an
    answer: its crashes are watched.
    """
    until, number = time.monotonic() + seconds, 0
    with tempfile.TemporaryDirectory(prefix="files-") as scratch:
        folder = Path(scratch) / "in"
        while number < most and time.monotonic() < until:
            for done, why in _run_from(number, most, seed, until, folder):
                number = done
                case = case_of(random.Random(f"{seed}/{number}"))
                kinds[case.kind] += 1
                if why == _CRASHED:
                    why = _on_the_command_line(case, folder)
                if why is not None:
                    yield Fault(case, why)
            number += 1


_CRASHED = "the process crashed"


def _run_from(
    first: int, most: int, seed: int, until: float, folder: Path
) -> Iterator[tuple[int, str | None]]:
    """Cases from `first` on with what went wrong, up to the first crash."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        watch = Watch()
        with os.fdopen(writing, "w") as results:
            for number in range(first, most):
                if time.monotonic() > until:
                    break
                why = fault_of(case_of(random.Random(f"{seed}/{number}")), folder, watch)
                results.write(json.dumps([number, why]) + "\n")
                results.flush()
        os._exit(0)
    os.close(writing)
    done = first - 1
    with os.fdopen(reading) as results:
        for line in results:
            done, why = json.loads(line)
            yield done, why
    _, status = os.waitpid(child, 0)
    if status:
        yield done + 1, _CRASHED


def _on_the_command_line(case: Case, folder: Path) -> str | None:
    """What the command line makes of a crash: exit code 2 and one sentence."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, data in case.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    command = [sys.executable, "-m", "refine", *case.arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False,
                          timeout=120, env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    if done.returncode == 2 and done.stderr.splitlines()[-1].startswith("refine: "):
        return None
    return f"crash, exit code {done.returncode}: {done.stderr[-300:]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=10**9)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-files"))
    given = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
    kinds: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    keep = given.keep.absolute()
    for fault in faults(given.seed, given.seconds, given.count, kinds):
        what = re.sub(r"0x[0-9a-f]+|[0-9]+", "#", fault.why)
        seen[what] += 1
        if seen[what] > 3:
            continue
        print(f"{fault.case.kind}: {fault.why}", flush=True)
        place = keep / f"{len(seen):03d}-{seen[what]}"
        for name, data in fault.case.files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(data)
        (place / "command").write_text(" ".join(fault.case.arguments) + f"\n{fault.why}\n")
    total = sum(kinds.values())
    print(f"{total} files ({dict(kinds)}), {sum(seen.values())} faults of {len(seen)} sorts")
    return 1 if seen else 0


if __name__ == "__main__":
    sys.exit(main())
