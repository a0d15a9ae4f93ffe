"""Contracts that say what has no meaning for a network are refused, by the key and the node."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from small_models import mlp, save

from encoders.contract.contract import (
    AnyOrder,
    Contraction,
    Pairwise,
    RuntimeContract,
    Schedule,
    ScheduleRule,
    Sequential,
)
from encoders.contract.presets import CUDA_TF32, FP16, IEEE_ANY
from encoders.numbers.formats import BFLOAT16, BINARY16, BINARY32, BINARY64
from onnx_import.errors import ModelError
from refine.api import check_model, diff_models
from refine.claims.options import Options
from refine.cli.main import run
from refine.lemmas.cache import default_directory
from refine.options.contract_file import read_contract
from refine.options.options import format_of
from refine.results.verdict import ExitCode

PLAIN = replace(IEEE_ANY, name="c")
OTHER = Schedule(Pairwise(), Contraction.NEVER)


def ruled(**place: str) -> RuntimeContract:
    return replace(PLAIN, rules=(ScheduleRule(OTHER, **place),))  # type: ignore[arg-type]


REFUSED = {
    "narrower accumulation": (replace(PLAIN, accumulation=BINARY16), "'accumulation' float16.*'p'"),
    "of another range": (
        replace(PLAIN, compute_format=BFLOAT16, accumulation=BINARY16),
        "'accumulation' float16.*bfloat16.*'p'",
    ),
    "factors of another range": (replace(PLAIN, factor_format=BINARY16), "'factors' float16.*'p'"),
    "a preset in float64": (
        replace(CUDA_TF32, compute_format=BINARY64),
        "'cuda-tf32': 'factors' tf32 has another range than float64",
    ),
    "an unknown operator": (ruled(operator="Gem"), r"'rules\[0\].operator' is Gem"),
    "a decomposed operator": (ruled(operator="Einsum"), r"'rules\[0\].operator' is Einsum"),
    "a node that is decomposed": (ruled(node="e"), r"'rules\[0\].node' is 'e'.*e\.\d"),
}
MEANT = {
    "as wide": replace(PLAIN, accumulation=BINARY32),
    "wider": replace(PLAIN, accumulation=BINARY64),
    "shorter factors": CUDA_TF32,
    "factors that hold everything": replace(PLAIN, factor_format=BINARY64),
    "half precision": replace(FP16, compute_format=BINARY16),
    "a rule of another network": ruled(node="elsewhere"),
}


def network(path: Path) -> Path:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "p"),
        helper.make_node("Einsum", ["h", "w"], ["y"], "e", equation="ij,jk->ik"),
    ]
    return save(path, nodes, {"x": [1, 2]}, {"y": [1, 2]}, {"w": np.eye(2, dtype=np.float32)})


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused(case: str, tmp_path: Path) -> None:
    contract, words = REFUSED[case]
    path, options = network(tmp_path / "m.onnx"), Options(None, default_directory())
    with pytest.raises(ModelError, match=words):
        check_model(path, "-1..1", "1", contract, options)
    with pytest.raises(ModelError, match=words):
        diff_models(path, path, domain="-1..1", eps="1", contract=contract, options=options)
    plain = replace(PLAIN, compute_format=contract.compute_format)
    with pytest.raises(ModelError, match=words):  # the specification's
        diff_models(
            path,
            path,
            domain="-1..1",
            eps="1",
            contract=plain,
            options=options,
            spec_contract=contract,
        )


def test_a_runtime_is_not_held_to_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, file = network(tmp_path / "m.onnx"), tmp_path / "c.toml"
    file.write_text('name = "c"\naccumulation = "float16"\n')
    assert run(["conform", str(path), "--contract", str(file)]) is ExitCode.INPUT_ERROR
    assert "'accumulation' float16" in capsys.readouterr().err


@pytest.mark.parametrize("case", MEANT)
def test_it_is_meant(case: str, tmp_path: Path) -> None:
    path, options = network(tmp_path / "m.onnx"), Options(None, default_directory(), search=False)
    assert check_model(path, "-1..1", "1", MEANT[case], options).bounds["y"].max() < 0.1


@pytest.mark.parametrize("text", ["e8p25", "e9p24", "e11p10", "e11p53", "e1p3", "e3p1", "e3p100"])
def test_formats_without_bits_are_refused(text: str) -> None:
    with pytest.raises(ModelError, match=f"--format '{text}'.*2 to 8 exponent bits"):
        format_of(text)


def test_a_rule_hides_those_that_ask_for_more() -> None:
    wide = ScheduleRule(Schedule(Sequential(), Contraction.NEVER), operator="Gemm")
    narrow = replace(wide, terms=3, schedule=Schedule(AnyOrder(), Contraction.NEVER))
    assert wide.hides(narrow)
    assert not narrow.hides(wide)
    assert not replace(wide, constant=True).hides(narrow)


def test_a_rule_on_a_node_that_is_not_there_is_said(tmp_path: Path) -> None:
    """It may be meant for another file, or mistyped."""
    net = mlp(tmp_path / "net.onnx")
    text = "name = 'ours'\nbase = 'sequential'\n[[rules]]\nnode = 'gemm1'\norder = 'pairwise'\n"
    (tmp_path / "right.toml").write_text(text, encoding="utf-8")
    (tmp_path / "wrong.toml").write_text(text.replace("gemm1", "gem1"), encoding="utf-8")
    notes = {}
    for name in ("right", "wrong"):
        contract = read_contract(tmp_path / f"{name}.toml")
        notes[name] = check_model(net, "-1..1", "1e-3", contract).notes
    assert not any("no node of the model" in note for note in notes["right"])
    assert any("'gem1', which no node of the model is called" in note for note in notes["wrong"])
