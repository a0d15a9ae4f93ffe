"""Changes of the lines that soundness rests on are noticed; benchmarks/mutation.py makes more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mutation_kinds import mutants_of, mutated, probed

ROOT = Path(__file__).resolve().parents[1]
LISTED = ROOT / "benchmarks" / "mutation_sample.json"
"""{mutant: [a quick test that notices it]}; where a line is written anew, take another mutant."""
NOTICED: dict[str, list[str]] = json.loads(LISTED.read_text(encoding="utf-8"))
HARMLESS = (
    "encoders/relaxations/piecewise.py piecewise_bounds: "
    "s * middle + most => s * middle - most (sum 1)"
)
"""Which of two linear bounds is taken, both of them true."""
HARMLESS_TEST = "tests/test_infinite_bounds.py::test_a_clip_by_an_infinity_is_read[0.0-inf]"
SOURCE = '''
SLACK = 2.0

def f(a, b=0.5):
    """Text."""
    if a < b:
        return add_up(a, b)
    return max(abs(a), b) * SLACK

class C:
    def g(self):
        return [lambda x: x - 1 for _ in range(2)]
'''


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What became of the listed mutants, and of one that changes no bound into a wrong one."""
    file = tmp_path_factory.mktemp("mutants") / "listed.json"
    file.write_text(json.dumps({**NOTICED, HARMLESS: [HARMLESS_TEST]}), encoding="utf-8")
    command = [sys.executable, str(ROOT / "benchmarks" / "mutation.py"), "--only", str(file)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode, "the harmless one survives"
    lines = (line.partition(": ") for line in done.stdout.splitlines())
    return {mutant: outcome for outcome, _, mutant in lines}


@pytest.mark.parametrize("mutant", NOTICED)
def test_a_mutant_is_noticed(mutant: str, outcomes: dict[str, str]) -> None:
    assert outcomes.get(mutant, "lost") == "killed"


def test_a_mutant_that_makes_no_bound_wrong_is_not(outcomes: dict[str, str]) -> None:
    assert outcomes[HARMLESS] == "survived"


def changes(kind: str) -> set[tuple[str, str]]:
    return {(m.before, m.after) for m in mutants_of(SOURCE, "f.py") if m.kind == kind}


def test_kinds_of_change() -> None:
    assert changes("rounding") == {("add_up(a, b)", "a + b")}
    assert changes("term") == {
        ("add_up(a, b)", "a"), ("add_up(a, b)", "b"), ("x - 1", "x"), ("x - 1", "1"),
        ("max(abs(a), b)", "abs(a)"), ("max(abs(a), b)", "b"),
    }  # fmt: skip
    assert changes("comparison") == {("a < b", "a >= b")}
    assert changes("boundary") == {("a < b", "a <= b")}
    assert ("0.5", "0.25") in changes("constant")
    assert ("abs(a)", "a") in changes("absolute")


def test_a_mutant_is_its_change_and_no_other() -> None:
    values = {"min(abs(a), b)": 2.0, "abs(a)": 6.0, "b": 2.0}
    found = {}
    for mutant in mutants_of(SOURCE, "f.py"):
        space: dict[str, Any] = {"add_up": lambda a, b: a + b + 1}
        exec(compile(mutated(SOURCE, mutant), "f.py", "exec"), space)
        if mutant.before == "max(abs(a), b)":
            found[mutant.after] = space["f"](3.0, 1.0)
            assert space["f"](0.0, 1.0) == 2.0
    assert found == values


def test_probes_say_which_blocks_run() -> None:
    tree, count = probed(SOURCE, "probe")
    hits: list[int] = []
    space: dict[str, Any] = {"probe": hits.append, "add_up": lambda a, b: a + b}
    exec(compile(tree, "f.py", "exec"), space)
    assert (count, hits) == (4, [])
    assert space["f"](1.0) == 2.0
    assert hits == [0]
    assert space["f"](0.0) == 0.5
    assert hits == [0, 0, 1]
    assert space["f"].__doc__ == "Text."
    (one, _) = space["C"]().g()
    assert one(3) == 2
    assert hits == [0, 0, 1, 2, 3]
