"""Have Coq check the proofs of this folder, and hold what they rest on against a list.

    python proofs/check.py

Exit code 0 if every theorem is proved and rests on the listed axioms alone, 1 if not, 3 if Coq or
Flocq is not installed. Nothing is written into the folder.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILES = ("Rounding.v", "Sums.v", "Contracts.v", "Assumptions.v")
"""In the order in which they are compiled; the last one prints what each theorem rests on."""

ALLOWED = frozenset(
    (
        "ClassicalDedekindReals.sig_forall_dec",  # these three: Coq's real numbers
        "ClassicalDedekindReals.sig_not_dec",
        "FunctionalExtensionality.functional_extensionality_dep",
        "Classical_Prop.classic",  # excluded middle, which Flocq uses
    )
)
_UNPROVED = re.compile(r"\b(Admitted|admit|give_up|Axioms?|Parameters?|Conjecture)\b")
_COMMENT = re.compile(r"\(\*.*?\*\)", re.DOTALL)
MISSING = 3


def main() -> int:
    coqc = shutil.which("coqc")
    if coqc is None or not has_flocq(coqc):
        what = "Coq" if coqc is None else "Flocq, a library of Coq,"
        return told(f"{what} is not installed; on Debian: apt install coq libcoq-flocq", MISSING)
    texts = {name: _COMMENT.sub("", (HERE / name).read_text(encoding="utf-8")) for name in FILES}
    for name, text in texts.items():
        if found := _UNPROVED.search(text):
            return told(f"{name} has '{found[0]}'", 1)
    theorems = [t for text in texts.values() for t in re.findall(r"^Theorem (\w+)", text, re.M)]
    (every,) = re.findall(r"^Definition theorems :=(.*?)\.$", texts[FILES[-1]], re.M | re.S)
    if silent := set(theorems) - set(re.findall(r"\w+", every)):
        return told(f"{FILES[-1]} does not ask about {', '.join(sorted(silent))}", 1)
    with tempfile.TemporaryDirectory() as folder:
        for name in FILES:
            shutil.copy(HERE / name, folder)
            done = compiled(coqc, name, folder)
            if done.returncode:
                return told(f"{name} is not proved:\n{done.stderr or done.stdout}", 1)
    answer = done.stdout.splitlines() or [""]
    if answer[0] not in ("Axioms:", "Closed under the global context"):
        return told(f"Coq does not say what the theorems rest on:\n{done.stdout}", 1)
    used = {line.split()[0] for line in answer[1:] if line[:1].strip()}
    if more := used - ALLOWED:
        return told(f"the theorems rest on {', '.join(sorted(more))}", 1)
    return told(f"{len(theorems)} theorems are proved; they rest on {', '.join(sorted(used))}", 0)


def has_flocq(coqc: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "Asked.v").write_text("From Flocq Require Import Core.\n")
        return compiled(coqc, "Asked.v", folder).returncode == 0


def compiled(coqc: str, name: str, folder: str) -> subprocess.CompletedProcess[str]:
    command = [coqc, "-Q", ".", "Refine", name]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def told(text: str, code: int) -> int:
    print(text, file=sys.stderr if code else sys.stdout)
    return code


if __name__ == "__main__":
    sys.exit(main())
