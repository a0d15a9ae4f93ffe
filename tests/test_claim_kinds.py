"""Claims are found by walking their folder, and offered as what they say of themselves."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest

import refine
from encoders.collecting import collected
from encoders.operator import Operator
from refine.claims import registry
from refine.claims.kind import ClaimKind, ClaimOption, EpsilonUse
from refine.cli.check import check_command
from refine.cli.daily.backward import CLAIM
from refine.cli.main import cli, run
from refine.results.verdict import ExitCode

FILE = """
from refine.claims.kind import ClaimKind, ClaimOption

def settle(asked):
    raise AssertionError

CLAIMS = (
    ClaimKind(
        name="{name}",
        summary="nothing",
        settle=settle,
        options=(ClaimOption(name="depth", default={default}, metavar="N", help="How deep."),),
    ),
)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of claims beside ours, which stands in for it."""
    name = f"kinds_of_{tmp_path.name}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    package = __import__(name)
    assert isinstance(package, ModuleType)
    monkeypatch.setattr(registry, "kinds", package)
    registry.claims.cache_clear()
    return tmp_path / name


@pytest.fixture(autouse=True)
def ours_again() -> object:
    yield
    registry.claims.cache_clear()


def test_every_claim_says_what_is_offered() -> None:
    names = [claim.name for claim in registry.checked_claims()]
    assert names[0] == registry.USUAL
    assert registry.claims()[registry.DIFFERENCE].compares
    assert registry.DIFFERENCE not in names
    (offered,) = (p for p in check_command.params if p.name == "claim")
    assert isinstance(offered, click.Option)
    assert isinstance(offered.type, click.Choice)
    assert list(offered.type.choices) == [*names, CLAIM]
    for claim in registry.checked_claims():
        assert offered.help is not None
        assert claim.summary in offered.help
        for option in claim.options:
            assert option.name in [p.name for p in check_command.params]
            shown = inspect.signature(refine.check).parameters[option.name]
            assert shown.default == option.default
    command = cli.get_command(click.Context(cli), "check")
    assert command is not None
    assert all(parameter in command.params for parameter in check_command.params)


def test_a_file_is_all_that_a_claim_takes(folder: Path) -> None:
    (folder / "deep.py").write_text(FILE.format(name="deep", default="'3'"))
    (found,) = registry.checked_claims()
    assert found.name == "deep"
    assert registry.own_defaults() == {"depth": "3"}
    assert registry.claim_for("deep") is found
    with pytest.raises(refine.ModelError, match="claim= is one of deep, not 'shallow'"):
        registry.claim_for("shallow")


def test_two_claims_of_one_name_or_with_two_meanings_of_an_option(folder: Path) -> None:
    (folder / "deep.py").write_text(FILE.format(name="deep", default="'3'"))
    (folder / "deeper.py").write_text(FILE.format(name="deeper", default="'4'"))
    with pytest.raises(RuntimeError, match="an option 'depth' of their own"):
        registry.claims()
    (folder / "deeper.py").write_text(FILE.format(name="deep", default="'3'"))
    for name in [m for m in sys.modules if m.startswith(folder.name + ".")]:
        del sys.modules[name]
    with pytest.raises(RuntimeError, match="define deep"):
        list(collected(sys.modules[folder.name], "CLAIMS", ClaimKind))
    with pytest.raises(TypeError, match="names what is no Operator"):
        list(collected(sys.modules[folder.name], "CLAIMS", Operator))


def test_a_text_can_make_a_claim_and_an_eps_be_out_of_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def settle(asked: object) -> refine.Result:
        raise refine.ModelError(f"{asked.text} {sorted(asked.given)}")  # type: ignore[attr-defined]

    kind = ClaimKind(
        name="inequality",
        summary="an inequality of outputs",
        settle=settle,
        epsilon=EpsilonUse.NONE,
        reads=lambda text: ">=" in text,
        options=(ClaimOption(name="batch", default=8, metavar="N", help="", least=2),),
    )
    monkeypatch.setattr(registry, "claims", lambda: {"inequality": kind})
    demo = "examples/demo/pendulum.onnx"
    with pytest.raises(refine.ModelError, match=r"^Y >= 1 \['batch'\]$"):
        refine.check(demo, "-1..1", claim="Y >= 1")
    with pytest.raises(refine.ModelError, match="claim inequality speaks of no eps="):
        refine.check(demo, "-1..1", eps=1, claim="Y >= 1")
    with pytest.raises(refine.ModelError, match="batch= is an integer from 2, not 1"):
        refine.check(demo, "-1..1", claim="inequality", batch=1)


def test_an_option_of_another_claim_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    demo = "examples/demo/pendulum.onnx"
    said = "batch is an option of the claim batch-invariant, and this is accuracy"
    with pytest.raises(refine.ModelError, match=said):
        refine.check(demo, "-1..1", eps=1, batch=4)
    arguments = ["check", demo, "--input", "-1..1", "--eps", "1", "--batch", "4"]
    assert run(arguments) == ExitCode.INPUT_ERROR
    assert said in capsys.readouterr().err
