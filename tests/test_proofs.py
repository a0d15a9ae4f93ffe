"""The inductions of `proofs/`: checked by Coq where it is installed, and named as they are."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from refine.lemmas.library import library

FOLDER = Path(__file__).resolve().parents[1] / "proofs"
MISSING = 3  # exit code of check.py
NAMED = re.compile(r"^(?:Theorem|Lemma) (\w+)", re.MULTILINE)


def checked(folder: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, str(folder / "check.py")], capture_output=True, text=True, check=False
    )
    if done.returncode == MISSING:
        pytest.skip(done.stderr.strip())
    return done


def test_coq_checks_the_proofs() -> None:
    done = checked(FOLDER)
    assert done.returncode == 0, done.stderr
    assert "theorems are proved" in done.stdout


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("Rounding.v", "<= / 2 * ulp", "<= / 4 * ulp", "Rounding.v is not proved"),
        ("Rounding.v", "End Rounding.", "Axiom wish : False. End Rounding.", "has 'Axiom'"),
        ("Rounding.v", "End Rounding.", "Theorem t : True. Proof. Admitted. End Rounding.",
         "has 'Admitted'"),
        ("Assumptions.v", "sum_any_order,", "", "does not ask about"),
    ],
)  # fmt: skip
def test_what_is_not_proved_is_said(
    tmp_path: Path, file: str, old: str, new: str, said: str
) -> None:
    for path in (*FOLDER.glob("*.v"), FOLDER / "check.py"):
        shutil.copy(path, tmp_path)
    text = (tmp_path / file).read_text()
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new, 1))
    done = checked(tmp_path)
    assert done.returncode == 1
    assert said in done.stderr


def test_an_axiom_that_comes_from_elsewhere_is_seen(tmp_path: Path) -> None:
    for path in (*FOLDER.glob("*.v"), FOLDER / "check.py"):
        shutil.copy(path, tmp_path)
    lines = "From Coq Require Import Epsilon.\nTheorem chosen : forall P : nat -> Prop, \
(exists n : nat, P n) -> {n : nat | P n}.\nProof. intros P H. exists (epsilon (inhabits 0%nat) P). \
apply epsilon_spec. exact H. Qed.\n"
    (tmp_path / "Rounding.v").write_text((FOLDER / "Rounding.v").read_text() + lines)
    asked = (FOLDER / "Assumptions.v").read_text().replace("(sum_any", "(chosen, sum_any", 1)
    (tmp_path / "Assumptions.v").write_text(asked)
    done = checked(tmp_path)
    assert done.returncode == 1
    assert "rest on Epsilon.epsilon_statement" in done.stderr


def test_the_table_names_lemmas_and_theorems_that_there_are() -> None:
    rows = re.findall(r"^\| (`.*`) \| (`.*`) \| `proofs/(\w+\.v)` \|$",
                      (FOLDER / "README.md").read_text(encoding="utf-8"), re.MULTILINE)  # fmt: skip
    known = {lemma.name for lemma in library()}
    assert len(rows) > 10
    for lemmas, theorems, file in rows:
        assert set(re.findall(r"`([^`]+)`", lemmas)) <= known
        stated = set(NAMED.findall((FOLDER / file).read_text(encoding="utf-8")))
        assert set(re.findall(r"`([^`]+)`", theorems)) <= stated
