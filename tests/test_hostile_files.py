"""Files from strangers: nothing outside is opened or written, nothing is run, nothing hangs."""

from __future__ import annotations

import ast
import gzip
import io
import json
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import small_models
from onnx import TensorProto, helper, numpy_helper

from onnx_import import load
from onnx_import.errors import ModelError
from onnx_import.torchlean.documents import read_object
from refine.cli.main import run
from refine.common.arrays import Stored, stored_arrays
from refine.common.exact import DomainError
from refine.common.toml_file import read_toml
from refine.common.visible import visible
from refine.domain.formulas import Tensors
from refine.domain.properties import property_of_text
from refine.domain.vnnlib import boxes_of_text
from refine.options.contract_file import read_contract
from refine.results.verdict import ExitCode
from refine.zoo import read_entry

ROOT = Path(__file__).resolve().parents[1]
QUICK = ["--z3", "none", "--no-conform", "--budget", "0"]
EVIL = '\x1b[2J\u202e"""\nverified  bound 0\n"""; import os; os.mkdir("ran") # [red]'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, `here`, with `net.onnx` in it; `secret` lies above."""
    here = tmp_path / "here"
    here.mkdir()
    (tmp_path / "secret").write_bytes(np.arange(3, dtype=np.float32).tobytes())
    monkeypatch.chdir(here)
    small_models.mlp(here / "net.onnx")
    return here


def process(folder: Path, *arguments: str, **how: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **how.pop("env", {})}
    command = [sys.executable, "-m", "refine", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, text=True, check=False,
                          timeout=60, **how)  # fmt: skip


# What a model names


def external(path: Path, location: str, place: str) -> None:
    """A model that reads no more than `w`, and names an external file at some other place."""
    outside = TensorProto(name="outside", data_type=TensorProto.FLOAT, dims=[3, 1])
    outside.data_location = TensorProto.EXTERNAL
    outside.external_data.add(key="location", value=location)
    weights = numpy_helper.from_array(np.ones((3, 1), np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "outside" if place == "used" else "w"], ["y"], "m")]
    if place == "attribute":
        nodes.append(helper.make_node("Constant", [], ["c"], "c", value=outside))
    if place == "mistyped":
        node = helper.make_node("Constant", [], ["c"], "c", value_int=1)
        node.attribute[0].t.CopyFrom(outside)
        nodes.append(node)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 1))],
        [weights, outside] if place in ("used", "unused") else [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("place", ["used", "unused", "attribute", "mistyped"])
@pytest.mark.parametrize("location", ["../secret", "absolute", "link", "folder/secret", "pipe"])
def test_external_data_outside_are_not_opened(folder: Path, place: str, location: str) -> None:
    (folder / "link").symlink_to("../secret")
    (folder / "folder").symlink_to("..")
    os.mkfifo(folder / "pipe")
    name = str(folder.parent / "secret") if location == "absolute" else location
    external(folder / "m.onnx", name, place)
    opened: list[str] = []
    watching = [True]

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if watching[0] and event == "open":
            opened.append(os.path.realpath(str(arguments[0])))

    sys.addaudithook(watch)
    with pytest.raises(ModelError, match=r"--allow|no plain file"):
        load(folder / "m.onnx")
    watching[0] = False
    assert str(folder / "m.onnx") in opened
    assert str(folder.parent / "secret") not in opened
    if location != "pipe" and place in ("used", "unused"):
        graph = load(folder / "m.onnx", allowed=(folder.parent,))
        if place == "used":
            assert np.array_equal(graph.constants["outside"], [[0], [1], [2]])


def counterexample(folder: Path) -> dict[str, Any]:
    command = ["check", "net.onnx", "--input", "-1..1", "--eps", "1e-12", *QUICK, "-q"]
    assert run(command) is ExitCode.VIOLATED
    found: dict[str, Any] = json.loads((folder / "net-counterexample.json").read_text())
    return found


@pytest.mark.parametrize("name", ["../secret", "/proc/kmsg", "link", "..", "", "\0", "net\n.onnx"])
@pytest.mark.parametrize("field", ["model", "inputs", "specification"])
def test_a_counterexample_opens_nothing_outside(
    folder: Path, field: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    document = counterexample(folder)
    (folder / "link").symlink_to("../secret")
    if field == "specification":
        document[field] = {"model": name, "sha256": "", "execution": None}
    else:
        document[field] = name
    (folder / "c.json").write_text(json.dumps(document))
    capsys.readouterr()
    assert run(["replay", "c.json"]) is ExitCode.INPUT_ERROR
    assert capsys.readouterr().err.count("\n") == 1


def test_a_model_elsewhere_is_given_by_its_path(folder: Path, tmp_path: Path) -> None:
    counterexample(folder)
    model = tmp_path / "elsewhere.onnx"
    (folder / "net.onnx").rename(model)
    document = json.loads((folder / "net-counterexample.json").read_text())
    document["model"] = "../elsewhere.onnx"
    (folder / "c.json").write_text(json.dumps(document))
    assert run(["replay", "c.json"]) is ExitCode.INPUT_ERROR
    assert run(["replay", "c.json", "--model", str(model)]) is ExitCode.VIOLATED
    assert run(["replay", "c.json", "--allow", str(tmp_path)]) is ExitCode.VIOLATED


@pytest.mark.parametrize("field", [None, "model", "sha256", "inputs", "output", "index",
                                   "execution", "eps"])  # fmt: skip
@pytest.mark.parametrize("value", [None, 1, 1.5, [], {}, "", [[1]], -1, "x" * 5000])
def test_a_counterexample_with_any_field_wrong(folder: Path, field: str | None, value: Any) -> None:
    document: dict[str, Any] = {
        "schema": "refine-counterexample-1", "model": "net.onnx", "sha256": "0", "eps": "1",
        "inputs": "c.npz", "output": "y", "index": [0], "execution": {},
    }  # fmt: skip
    if field is not None:
        document[field] = value
        (folder / "c.json").write_text(json.dumps(document))
        assert run(["replay", "c.json"]) is ExitCode.INPUT_ERROR
        del document[field]
    (folder / "c.json").write_text(json.dumps(document if field else value))
    assert run(["replay", "c.json"]) is ExitCode.INPUT_ERROR


# What a script holds


def test_texts_in_scripts_are_literals(folder: Path) -> None:
    """The name of a contract, of a file, of an output: none of them becomes code."""
    (folder / "net.onnx").rename(folder / f"{EVIL.replace('/', '')}.onnx")
    (name,) = (p.name for p in folder.glob("*.onnx"))
    weights = [onnx.load(folder / name)]
    proto = weights[0]
    for tensor in proto.graph.initializer:
        wrong = numpy_helper.to_array(tensor) * np.float32(1.5)
        tensor.CopyFrom(numpy_helper.from_array(wrong, tensor.name))
    (folder / "spec.onnx").write_bytes(proto.SerializeToString())
    contract = f"name = {json.dumps(EVIL)}\nbase = 'sequential'\n"
    (folder / "c.toml").write_text(contract, encoding="utf-8")
    command = ["diff", "spec.onnx", name, "--input", "-1..1", "--eps", "1e-2", "--spec-as",
               "runtime", "--spec-contract", "c.toml", "--budget", "0", "-q",
               "--counterexample", "c.json"]  # fmt: skip
    assert run(command) is ExitCode.VIOLATED
    assert run(["replay", "c.json", "--script", "bug.py"]) is ExitCode.VIOLATED
    text = (folder / "bug.py").read_text(encoding="ascii")
    names = {n.id for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name)}
    assert "os" not in names
    done = subprocess.run([sys.executable, "bug.py"], cwd=folder, check=False, timeout=60,
                          capture_output=True)  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert not (folder / "ran").exists()
    assert b"\x1b" not in done.stdout


# What is shown


def test_names_cannot_steer_a_terminal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proto = onnx.load(folder / "net.onnx")
    for node in proto.graph.node:
        node.name = f"{node.name}{EVIL}"
    name = f"{EVIL.replace('/', '')}.onnx"
    (folder / name).write_bytes(proto.SerializeToString())
    (folder / "c.toml").write_text(f"name = {json.dumps(EVIL)}\nbase = 'sequential'\n")
    command = ["check", name, "--input", "-1..1", "--eps", "1e-12", "--contract", "c.toml", *QUICK]
    assert run(command) is ExitCode.VIOLATED
    assert run(["conform", name, "--contract", "c.toml", "--samples", "1"]) in ExitCode
    assert run(["check", name, "--input", "1..0", "--eps", "1"]) is ExitCode.INPUT_ERROR
    assert run(["bound", f"missing{EVIL}", "--input", "1..0"]) is ExitCode.INPUT_ERROR
    shown = "".join(capsys.readouterr())
    assert "[red]" in shown
    assert not {"\x1b", "\u202e"} & set(shown)
    assert not any(line.strip().startswith("verified  bound 0") for line in shown.splitlines())


def test_what_is_visible() -> None:
    assert visible("conv_1/weights é ∞") == "conv_1/weights é ∞"
    assert visible("a\n\x1b[2J\x9b\u202e\u2028\udc9e\u200b") == (
        r"a\n\x1b[2J\x9b\u202e\u2028\udc9e\u200b"
    )


# Where the answer goes


@pytest.mark.parametrize("how", ["closed", "full"])
def test_an_answer_that_cannot_be_written_goes_to_standard_error(folder: Path, how: str) -> None:
    where = "1>&-" if how == "closed" else ">/dev/full"
    line = f'"$0" -m refine bound net.onnx --input -1..1 -q {" ".join(QUICK)} {where}'
    done = subprocess.run(["sh", "-c", line, sys.executable], cwd=folder, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60,
                          capture_output=True)  # fmt: skip
    assert done.returncode == 0
    assert "verified bound" in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_answer_in_any_encoding(folder: Path, encoding: str) -> None:
    name = os.fsdecode(b"n\xe9t.onnx")
    (folder / "net.onnx").rename(folder / name)
    done = process(folder, "bound", name, "--input", "-1..1", *QUICK, capture_output=True,
                   env={"PYTHONIOENCODING": encoding, "LC_ALL": "C"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "verified  bound" in done.stdout


@pytest.mark.parametrize("place", ["/dev/full", "link.json", "pipe.json"])
def test_a_place_that_is_no_file_costs_no_answer(
    folder: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "link.json").symlink_to("../secret")
    os.mkfifo(folder / "pipe.json")
    before = (folder.parent / "secret").read_bytes()
    command = ["check", "net.onnx", "--input", "-1..1", "--eps", "1e-12", *QUICK, "-q"]
    assert run([*command, "--json", place]) is ExitCode.VIOLATED
    assert run([*command, "--counterexample", place]) is ExitCode.VIOLATED
    out, err = capsys.readouterr()
    assert out.count("violated") == 2
    assert err.count("only plain files are written") == 2 or place == "/dev/full"
    assert (folder.parent / "secret").read_bytes() == before


@pytest.mark.parametrize("place", [".", "", "/", "..", "sub"])
@pytest.mark.parametrize("option", ["--counterexample", "--json"])
def test_a_folder_is_no_place_for_a_file(
    folder: Path, option: str, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "sub.json").mkdir()
    (folder / "sub").mkdir()
    command = ["check", "net.onnx", "--input", "-1..1", "--eps", "1e-12", *QUICK, "-q"]
    assert run([*command, option, place]) is ExitCode.INPUT_ERROR
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no such system")
@pytest.mark.parametrize("place", ["/proc/kmsg", "/proc/self/stat"])
@pytest.mark.parametrize("what", ["model", "--vnnlib", "--box", "--center"])
def test_what_the_kernel_makes_up_is_no_file(
    folder: Path, place: str, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = place if what == "model" else "net.onnx"
    radius = ["--radius", "1"] if what == "--center" else []
    given = ["--input", "0..1"] if what == "model" else [what, place, *radius]
    assert run(["bound", model, *given, *QUICK]) is ExitCode.INPUT_ERROR
    assert capsys.readouterr().err.count("\n") == 1


def test_a_lack_of_memory_is_no_verdict(folder: Path) -> None:
    script = (
        "import refine.cli.main as c\n"
        "def lack(*a): raise MemoryError\n"
        "c.run = lack\n"
        "c.complain_of_bug = lack\n"
        "from refine.cli import entry\n"
        "entry.main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                          check=False, cwd=ROOT)  # fmt: skip
    assert done.returncode == 70
    assert done.stderr == "refine: internal error: out of memory\n"


def test_a_broken_installation_is_no_verdict(folder: Path) -> None:
    (folder / "flint.py").write_text("raise ImportError('a\\x1b[2J')")
    done = process(folder, "ops", capture_output=True, env={"PYTHONPATH": f"{folder}:{ROOT}"})
    assert done.returncode == 70
    assert done.stderr == ("refine: internal error, please report it: ImportError: a\\x1b[2J\n")


# Files that are small and ask for much


def npy(values: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def with_header(text: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def zipped(path: Path, **members: bytes) -> bytearray:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return bytearray(path.read_bytes())


def every_value(path: Path) -> list[Any]:
    found = stored_arrays(path)
    return [s.values() for s in ([found] if isinstance(found, Stored) else found.values())]


HEADERS = {
    "token": b"{\n",
    "nested": b"(" * 5000,
    "huge": b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }",
    "negative": b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }",
    "object": b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
    "type": b"{'descr': '<f3', 'fortran_order': False, 'shape': (1,), }",
    "long": b"{'descr': '<f8', 'fortran_order': False, 'shape': (" + b"9" * 5000 + b",), }",
}


@pytest.mark.parametrize("header", HEADERS)
def test_arrays_with_headers_of_strangers(tmp_path: Path, header: str) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(with_header(HEADERS[header]) + bytes(12))
    with pytest.raises(ModelError, match="is not a"):
        every_value(path)


@pytest.mark.parametrize(("at", "central", "value"), [(6, 8, 1), (8, 10, 99), (42, 60, 255)])
def test_archives_that_are_damaged(tmp_path: Path, at: int, central: int, value: int) -> None:
    """Encrypted, of an unknown method, or with other bytes than it says."""
    path = tmp_path / "a.npz"
    data = zipped(path, **{"lo.npy": npy(np.zeros((1, 3)))})
    data[at] ^= value
    data[data.find(b"PK\x01\x02") + central] ^= value
    path.write_bytes(data)
    with pytest.raises(ModelError):
        every_value(path)


def test_only_the_arrays_that_are_wanted_are_unpacked(folder: Path) -> None:
    big = with_header(b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d,), }" % 2**40)
    ends = {"lo.npy": npy(np.zeros((1, 2))), "hi.npy": npy(np.ones((1, 2)))}
    zipped(folder / "box.npz", **ends, **{"zz.npy": big + bytes(2**24)})
    assert run(["bound", "net.onnx", "--box", "box.npz", *QUICK]) is ExitCode.INPUT_ERROR
    zipped(folder / "box.npz", **ends)
    assert run(["bound", "net.onnx", "--box", "box.npz", "-q", *QUICK]) is ExitCode.VERIFIED


DECLARED = "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (>= X_0 0))"
UNION = " ".join(f"(and (>= X_0 0.{i:04d}) (<= X_0 0.{i:04d}))" for i in range(1000))
FORMULAS: dict[str, Callable[[], str]] = {
    "powers": lambda: f"(<= X_0 (* {'1e3999 ' * 6000}))",
    "roots": lambda: f"(<= X_0 (+ {' '.join(f'(/ 1 {n})' for n in range(2, 40000))}))",
    "exponents": lambda: "(<= X_0 (+ " + "1e3999 1e-3999 " * 6000 + "))",
    "product": lambda: "".join(f"(or {UNION})" for _ in range(40)).join(("(and ", ")")),
    "digits": lambda: f"(<= X_0 1{'0' * 4300})",
    "exponent": lambda: f"(<= X_0 1e{'0' * 4400}1)",
    "far": lambda: "(<= X_0 1e999999999)",
    "nested": lambda: "(not " * 5000 + "true" + ")" * 5000,
}


@pytest.mark.parametrize("formula", FORMULAS)
def test_formulas_that_ask_for_much(formula: str) -> None:
    """Each took minutes, or more digits than Python converts."""
    text = f"{DECLARED}(assert {FORMULAS[formula]()})"
    tensors = Tensors((("float32", (1,)),), (("float32", (1,)),))
    with pytest.raises(DomainError):
        boxes_of_text(text, tensors)
    with pytest.raises(DomainError):
        property_of_text(text, tensors)


def test_a_compressed_file_that_never_ends(tmp_path: Path) -> None:
    path = tmp_path / "bomb.vnnlib.gz"
    with gzip.open(path, "wb", 9) as file:
        for _ in range(65):
            file.write(b" " * 2**20)
    small_models.mlp(tmp_path / "net.onnx")
    command = ["bound", str(tmp_path / "net.onnx"), "--vnnlib", str(path)]
    assert run(command) is ExitCode.INPUT_ERROR


@pytest.mark.parametrize(
    "text",
    [".".join(["a"] * 40000) + " = 1", "x=" + "[" * 2000, "x=" + "{a=" * 2000, "x = 1" + "0" * 5000,
     "[" + ".".join(["a"] * 40000) + "]"],
)  # fmt: skip
def test_toml_that_asks_for_much(tmp_path: Path, text: str) -> None:
    path = tmp_path / "entry.toml"
    path.write_text(text)
    for read in (read_toml, read_contract, lambda p: read_entry(p.parent)):
        with pytest.raises(ModelError):
            read(path)


def test_a_repeated_key_is_found_in_linear_time() -> None:
    keys = ",".join(f'"k{i}":0' for i in range(60000))
    with pytest.raises(ModelError, match="'k59999' occurs twice"):
        read_object(f'{{{keys},"k59999":1}}'.encode(), Path("g.json"))


def test_a_library_that_warns_adds_nothing_to_an_answer(folder: Path) -> None:
    script = (
        "import sys, warnings, subprocess, refine.cli.main as c\n"
        "from refine.results.verdict import ExitCode\n"
        "def warns(*a):\n"
        "    warnings.warn('odd', RuntimeWarning)\n"
        "    subprocess.run([sys.executable, '-c', 'import warnings; warnings.warn(\"there\")'])\n"
        "    return ExitCode.VERIFIED\n"
        "c.run = warns\n"
        "from refine.cli import entry\n"
        "entry.main()"
    )
    environment = {n: v for n, v in os.environ.items() if n != "PYTHONWARNINGS"}
    for options, said in (((), False), (("-W", "default"), True)):
        done = subprocess.run([sys.executable, *options, "-c", script], capture_output=True,
                              text=True, check=False, cwd=ROOT, env=environment)  # fmt: skip
        assert done.returncode == 0
        assert ("odd" in done.stderr) is said
        assert "there" not in done.stderr or said


TEXTS: dict[str, Callable[[onnx.ModelProto], None]] = {
    "a node's name": lambda m: setattr(m.graph.node[0], "name", "QQQQ"),
    "an operator": lambda m: setattr(m.graph.node[0], "op_type", "QQQQ"),
    "a domain": lambda m: setattr(m.graph.node[0], "domain", "QQQQ"),
    "a tensor": lambda m: m.graph.node[-1].output.append("QQQQ"),
    "an input": lambda m: setattr(m.graph.input[0], "name", "QQQQ"),
    "a weight": lambda m: setattr(m.graph.initializer[0], "name", "QQQQ"),
    "a dimension": lambda m: setattr(
        m.graph.input[0].type.tensor_type.shape.dim[0], "dim_param", "QQQQ"
    ),
    "an attribute": lambda m: m.graph.node[0].attribute.append(helper.make_attribute("QQQQ", 1)),
    "metadata": lambda m: setattr(m.metadata_props.add(), "key", "QQQQ"),
    "a comment": lambda m: setattr(m, "doc_string", "QQQQ"),
}


@pytest.mark.parametrize("where", TEXTS)
def test_texts_that_are_no_utf_8_are_refused(
    where: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Protobuf hands them out as bytes, which no sentence and no name can be made of."""
    model = onnx.load(folder / "net.onnx")
    TEXTS[where](model)
    damaged = model.SerializeToString().replace(b"QQQQ", b"\xffQQ\xfe")
    (folder / "net.onnx").write_bytes(damaged)
    for command in (["bound", "net.onnx"], ["diff", "net.onnx", "net.onnx"]):
        code = run([*command, "--input", "0..1", *QUICK])
        assert code is ExitCode.INPUT_ERROR
        assert "is not UTF-8" in capsys.readouterr().err


def test_lists_of_texts_are_no_axes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """ONNX's checker lets attributes pass that LayerNormalization does not have."""
    node = helper.make_node("LayerNormalization", ["x", "s"], ["y"], "norm", axes=["t"])
    scale = {"s": np.ones(3, np.float32)}
    small_models.save(folder / "l.onnx", [node], {"x": [2, 3]}, {"y": [2, 3]}, scale)
    code = run(["bound", "l.onnx", "--input", "0..1", *QUICK])
    assert code is ExitCode.INPUT_ERROR
    assert "attribute 'axes'" in capsys.readouterr().err
