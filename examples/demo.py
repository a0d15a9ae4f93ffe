"""`make demo`: the three answers of `refine check` on one small network.

Prints each command as it would be typed, then its output. Fails if an exit code is not the one
that the README promises for that answer.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODEL = "examples/demo/pendulum.onnx"

RUNS = (
    ("verified", 0, ["--eps", "1e-3"]),
    ("violated", 1, ["--eps", "1e-8"]),
    ("unknown", 3, ["--eps", "3e-6"]),
)


def main() -> int:
    """Run all three; 1 if any exit code was not the expected one."""
    wrong = 0
    for answer, expected, options in RUNS:
        command = ["refine", "check", MODEL, "--input", "state=-1..1", *options]
        print(f"\n$ {shlex.join(command)}", flush=True)
        # The `refine` beside this Python, whatever is on PATH.
        program = Path(sys.executable).with_name("refine")
        code = subprocess.run([program, *command[1:]], cwd=ROOT, check=False).returncode
        verdict = "as expected" if code == expected else f"expected {expected}"
        print(f"[exit code {code}: {verdict} for '{answer}']", flush=True)
        wrong += code != expected
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
