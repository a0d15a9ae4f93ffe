"""Which tensor of the specification an input or output is, and who says so."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from onnx import helper
from small_models import save

from encoders.contract.presets import EXACT
from onnx_import import load
from onnx_import.errors import ModelError
from refine.cli.main import run
from refine.pair.pair import pair_of
from refine.results.verdict import ExitCode, Side


def difference(path: Path, first: str, second: str, inputs: tuple[str, str], output: str) -> Path:
    """output = first − second, with the inputs declared in the order given."""
    nodes = [helper.make_node("Sub", [first, second], [output])]
    return save(path, nodes, dict.fromkeys(inputs, (1, 2)), {output: (1, 2)})


def sides(tmp_path: Path, ours: tuple[str, str], theirs: tuple[str, str]) -> tuple[Side, Side]:
    spec = difference(tmp_path / "spec.onnx", *theirs, theirs, "y")
    impl = difference(tmp_path / "impl.onnx", *ours, ours, "y")
    return Side(load(spec), EXACT), Side(load(impl), EXACT)


NAMES = ("a", "b", "c", "d")
PAIRS = list(itertools.permutations(NAMES, 2))


@pytest.mark.parametrize("ours", PAIRS)
def test_names_decide_if_all_agree_and_order_if_none_does(
    tmp_path: Path, ours: tuple[str, str]
) -> None:
    theirs = ("a", "b")
    common = set(ours) & set(theirs)
    if len(common) == 1:
        with pytest.raises(ModelError, match="only some input names agree") as refused:
            pair_of(*sides(tmp_path, ours, theirs))
        by_order = f"{ours[0]} = {theirs[0]}, {ours[1]} = {theirs[1]}"
        assert f"by order it would be {by_order} " in str(refused.value)
        return
    found = pair_of(*sides(tmp_path, ours, theirs)).inputs
    wanted = {n: n for n in ours} if common else dict(zip(ours, theirs, strict=True))
    assert found == wanted


def test_outputs_are_paired_as_inputs_are(tmp_path: Path) -> None:
    def two(path: Path, outputs: tuple[str, str]) -> Side:
        nodes = [
            helper.make_node(op, ["x"], [o]) for op, o in zip(("Relu", "Neg"), outputs, strict=True)
        ]
        return Side(load(save(path, nodes, {"x": (1, 2)}, dict.fromkeys(outputs, (1, 2)))), EXACT)

    spec = two(tmp_path / "s.onnx", ("p", "q"))
    assert pair_of(spec, two(tmp_path / "a.onnx", ("q", "p"))).outputs == {"q": "q", "p": "p"}
    assert pair_of(spec, two(tmp_path / "b.onnx", ("u", "v"))).outputs == {"u": "p", "v": "q"}
    with pytest.raises(ModelError, match="only some output names agree"):
        pair_of(spec, two(tmp_path / "c.onnx", ("q", "v")))
    said = pair_of(spec, two(tmp_path / "d.onnx", ("q", "v")), {"q": "p"}).outputs
    assert said == {"q": "p", "v": "q"}


def test_numbers_and_shapes_must_agree(tmp_path: Path) -> None:
    nodes = [helper.make_node("Neg", ["a"], ["y"])]
    one = Side(load(save(tmp_path / "o.onnx", nodes, {"a": (1, 2)}, {"y": (1, 2)})), EXACT)
    spec, _ = sides(tmp_path, ("a", "b"), ("a", "b"))
    with pytest.raises(ModelError, match="1 input"):
        pair_of(spec, one)
    wide = [helper.make_node("MatMul", ["a", "b"], ["y"])]
    first = save(tmp_path / "f.onnx", wide, {"a": (1, 2), "b": (2, 3)}, {"y": (1, 3)})
    other = save(tmp_path / "g.onnx", wide, {"b": (2, 3), "a": (1, 2)}, {"y": (1, 3)})
    by_name = pair_of(Side(load(first), EXACT), Side(load(other), EXACT)).inputs
    assert by_name == {"b": "b", "a": "a"}
    with pytest.raises(ModelError, match=r"has shape .* --match NAME=NAME"):
        pair_of(Side(load(first), EXACT), Side(load(other), EXACT), {"b": "a", "a": "b"})


@pytest.mark.parametrize("match", [{"z": "a"}, {"a": "z"}, {"a": "y"}, {"a": "b", "b": "b"}])
def test_a_match_of_what_there_is_not_is_refused(tmp_path: Path, match: dict[str, str]) -> None:
    with pytest.raises(ModelError, match="--match"):
        pair_of(*sides(tmp_path, ("a", "b"), ("a", "b")), match)


def test_an_exchange_of_operands_is_not_taken_for_equality(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """x − z, and z − x0 with its inputs the other way round, have z in common."""
    monkeypatch.chdir(tmp_path)
    difference(tmp_path / "spec.onnx", "x", "z", ("x", "z"), "y")
    difference(tmp_path / "impl.onnx", "z", "x0", ("z", "x0"), "y")
    asked = ["diff", "spec.onnx", "impl.onnx", "--input", "x0=-1..1", "--input", "z=-1..1"]
    asked += ["--eps", "1e-5"]
    assert run(asked) is ExitCode.INPUT_ERROR
    assert "--match" in capsys.readouterr().err
    assert run([*asked, "--match", "z=z"]) is ExitCode.VIOLATED
    assert "inputs z = z, x0 = x; outputs y = y" in capsys.readouterr().out
    assert run(["replay", "impl-counterexample.json"]) is ExitCode.VIOLATED
    assert run([*asked, "--match", "z=x", "--json", "out.json"]) is ExitCode.VERIFIED
    pairing = json.loads((tmp_path / "out.json").read_text())["pairing"]
    assert pairing == {"inputs": {"z": "x", "x0": "z"}, "outputs": {"y": "y"}}
    for wrong in ("z", "=z", "z=", "q=z"):
        assert run([*asked, "--match", wrong]) is ExitCode.INPUT_ERROR
