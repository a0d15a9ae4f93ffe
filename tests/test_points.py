"""Expressions at the ends of their domain and at poles: whatever the answer, there is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from refine.cli.main import run
from refine.results.verdict import ExitCode

ANSWERS = (ExitCode.VERIFIED, ExitCode.VIOLATED, ExitCode.UNKNOWN)
QUICK = ["--budget", "0.1", "-q", "--no-conform"]
TINY = "1e-45"
FPCORES = {
    "sqrt": "(sqrt x)",
    "log": "(log x)",
    "quotient": "(/ 1 x)",
    "root of a sum": "(sqrt (+ x (sqrt x)))",
    "quotient of roots": "(/ (sqrt x) (sqrt (+ x 1)))",
    "difference of roots": "(- (sqrt (+ x 1)) (sqrt x))",
    "power": "(pow x 0.5)",
    "exponential": "(/ (- (exp x) 1) x)",
}


@pytest.mark.parametrize("name", FPCORES)
def test_an_expression_has_an_answer_at_every_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    core = tmp_path / "c.fpcore"
    core.write_text(f"(FPCore (x) :precision binary32 {FPCORES[name]})")
    for domain in ("0..0", "-0..0", "1..1", f"0..{TINY}", "0..1"):
        code = run(["bound", str(core), f"--input={domain}", *QUICK])
        assert code in ANSWERS, domain
        unsought = ["--contract", "ort-cpu", "--no-search"]
        assert run(["bound", str(core), f"--input={domain}", *unsought, *QUICK]) in ANSWERS, domain
