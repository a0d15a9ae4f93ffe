"""Lists of properties: every row has its answer, and answers are kept for what they are about."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from small_models import save

import refine
from onnx_import.errors import ModelError
from refine.claims.many.benching import Bench, Row, Standing, exit_code_of, kept_rows
from refine.claims.many.instances import read_instances
from refine.cli.main import run
from refine.results.verdict import ExitCode

QUICK = ("--no-conform", "--z3", "none", "--workers", "1")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def model(path: Path) -> Path:
    """y = x·(2, −1) for x in two dimensions: what it reaches over a box is known."""
    weight = np.array([[2.0], [-1.0]], np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return save(path, [node], {"x": [1, 2]}, {"y": [1, 1]}, {"w": weight})


def unsafe_above(path: Path, level: float) -> Path:
    """Over −1..1, where y is at most 3, the outputs from a level on are unsafe."""
    names = "".join(f"(declare-const {n} Real)" for n in ("X_0", "X_1", "Y_0"))
    sides = "".join(f"(assert (<= X_{i} 1.0))(assert (>= X_{i} -1.0))" for i in range(2))
    path.write_text(f"{names}{sides}(assert (>= Y_0 {level}))\n")
    return path


def document(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_list_has_an_answer_for_every_row(folder: Path) -> None:
    lists = folder / "lists"
    lists.mkdir()
    plain = model(lists / "m.onnx")
    packed = lists / "packed.onnx.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    out = unsafe_above(lists / "out.vnnlib", 3.5)
    (lists / "zipped.vnnlib.gz").write_bytes(gzip.compress(out.read_bytes()))
    unsafe_above(lists / "in.vnnlib", 2.5)
    unsafe_above(lists / "near.vnnlib", 3.0000001)  # within rounding of what is reached: open
    rows = (
        "packed.onnx,zipped.vnnlib,60",
        "./m.onnx, in.vnnlib, 60",
        "nowhere.onnx,out.vnnlib,60",
        "m.onnx,out.vnnlib,soon",
        "m.onnx,near.vnnlib,0.05",
    )
    (lists / "five.csv").write_text("\n".join(rows) + "\n\n")
    answers = folder / "answers.json"
    command = ["bench", "lists/five.csv", "--json", str(answers), *QUICK]
    assert run(command) is ExitCode.VIOLATED
    first = document(answers)["rows"]
    assert [r["standing"] for r in first] == [
        *("verified", "violated", "not read", "not read", "unknown")
    ]
    # The least of |3.5 − y| over the box is 1/2, less what float32 can lose.
    assert 0.49 < first[0]["margin"] <= first[0]["margin_over_reals"] <= 0.5
    assert first[1]["real"] is True
    inputs = np.load(Path(first[1]["counterexample"]).with_suffix(".npz"))["x"]
    assert (inputs @ np.array([2.0, -1.0])).item() >= 2.5
    assert "nowhere.onnx" in first[2]["reason"]
    assert "line 4" in first[3]["reason"]
    assert first[4]["timed_out"] is True

    unsafe_above(lists / "in.vnnlib", 3.25)  # now out of reach: the old answer is another file's
    assert run([*command, "--resume"]) is ExitCode.INPUT_ERROR
    again = document(answers)["rows"]
    assert [r["standing"] for r in again] == [
        *("verified", "verified", "not read", "not read", "unknown")
    ]
    assert again[0] == first[0]
    assert again[4] == first[4]
    assert again[1]["key"] != first[1]["key"]


def test_answers_are_not_kept_for_another_question(folder: Path) -> None:
    """Whatever is changed, of files, options or limits, the key is another one."""
    model(folder / "m.onnx")
    unsafe_above(folder / "p.vnnlib", 3.5)
    (folder / "c.toml").write_text("one contract")
    (folder / "one.csv").write_text("m.onnx,p.vnnlib,60\n")
    (instance,) = read_instances(folder / "one.csv")
    (shorter,) = read_instances(folder / "one.csv", 30.0)
    one = Bench(("--seed", "0"), folder, None, folder / "c.toml")
    others = (
        replace(one, options=("--seed", "1")),
        replace(one, budget=1.0),
        replace(one, contract_file=None),
    )
    keys = [one.key(instance), one.key(shorter), *(other.key(instance) for other in others)]
    assert one.key(instance) == keys[0]
    for name, text in (("c.toml", "another"), ("p.vnnlib", "another"), ("m.onnx", "another")):
        (folder / name).write_text(text)
        keys.append(one.key(instance))
    assert None not in keys
    assert all(keys[i] != keys[j] for i in range(len(keys)) for j in range(i))
    assert one.key(replace(instance, model="nowhere.onnx")) is None


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ({Standing.VERIFIED}, ExitCode.VERIFIED),
        ({Standing.VERIFIED, Standing.UNKNOWN}, ExitCode.UNKNOWN),
        ({Standing.VERIFIED, Standing.BROKEN}, ExitCode.CONTRACT_BROKEN),
        ({Standing.UNKNOWN, Standing.UNREAD}, ExitCode.INPUT_ERROR),
        ({Standing.UNREAD, Standing.VIOLATED}, ExitCode.VIOLATED),
        (set(Standing), ExitCode.INTERNAL_ERROR),
    ],
)
def test_the_exit_code_is_the_worst(found: set[Standing], code: ExitCode) -> None:
    assert exit_code_of([Row("m", "p", 1.0, standing, "") for standing in found]) is code


def test_what_is_no_list_is_refused_in_a_sentence(folder: Path) -> None:
    (folder / "empty.csv").write_text("\n \n")
    (folder / "other.json").write_text('{"schema": "refine-result-1", "rows": []}')
    for read, name in ((read_instances, "empty.csv"), (kept_rows, "other.json")):
        with pytest.raises(ModelError, match=name):
            read(folder / name)
    assert run(["bench", "empty.csv"]) is ExitCode.INPUT_ERROR
    assert run(["bench", "none.csv", "--resume"]) is ExitCode.INPUT_ERROR


def test_words_over_the_columns_are_no_instance(folder: Path) -> None:
    model(folder / "m.onnx")
    unsafe_above(folder / "p.vnnlib", 3.5)
    (folder / "l.csv").write_text("onnx,vnnlib,timeout\nm.onnx,p.vnnlib,60\n")
    (instance,) = read_instances(folder / "l.csv")
    assert instance.name == "m p"
    (folder / "l.csv").write_text("onnx,vnnlib\nm.onnx,p.vnnlib\n")
    assert [i.name for i in read_instances(folder / "l.csv", 60.0)] == ["m p"]
    (folder / "network").write_bytes(b"")  # a file of that name is an instance
    (folder / "l.csv").write_text("network,property,soon\nm.onnx,p.vnnlib,60\n")
    assert len(read_instances(folder / "l.csv")) == 2


def test_in_python(folder: Path) -> None:
    model(folder / "m.onnx")
    for name, level in (("out", 3.5), ("in", 2.5)):
        unsafe_above(folder / f"{name}.vnnlib", level)
    (folder / "l.csv").write_text("m.onnx,out.vnnlib,60\nm.onnx,in.vnnlib,60\n")
    usual: dict[str, Any] = {"conform": False, "z3": "none", "workers": 1}
    rows = refine.bench("l.csv", json="a.json", counterexamples="kept", **usual)
    assert not rows
    assert [row.standing for row in rows] == [Standing.VERIFIED, Standing.VIOLATED]
    assert repr(rows) == "1 verified, 1 violated"
    assert Path("a.json").read_text() == rows.to_json()
    assert Path("kept").is_dir()
    again = refine.bench("l.csv", json="a.json", resume=True, counterexamples="kept", **usual)
    assert again.to_json() == rows.to_json()
    for wrong in ({"resume": True}, {"z3": "most"}, {"nothing": 1}):
        with pytest.raises(ModelError):
            refine.bench("l.csv", **wrong)
