"""NumFuzz's and Bean's programs, rebuilt, in two tables beside their figures: one command.

    python benchmarks/artifacts.py [--executions N] [--witnesses N]

The tables are those of benchmarks/relative.py and benchmarks/backward.py, which say what is in
them. The exit code is 1 if a row of either does not reach what it has to.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--executions", type=int, default=1_000)
    parser.add_argument("--witnesses", type=int, default=0)
    given = parser.parse_args()
    tables = (
        ("relative.py", ["--executions", str(given.executions)]),
        ("backward.py", ["--witnesses", str(given.witnesses)]),
    )
    codes = [
        subprocess.run([sys.executable, str(HERE / script), *options], check=False).returncode
        for script, options in tables
    ]
    sys.exit(max(codes))


if __name__ == "__main__":
    main()
