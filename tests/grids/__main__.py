"""`python tests/grids [COUNT] [SEED] [OPERATOR …]`: COUNT cases of every operator's grids."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

from grid_cases import sample
from grid_judging import Onnxruntime, checked, judge
from grid_table import GRIDS

CHECKED = 10  # of so many cases one is checked as a whole
OFTEN = 3  # how many reasons of an operator are shown


def main(count: int, seed: int, ops: list[str]) -> int:
    """How many cases are wrong. What is wrong is printed, and the commonest refusals."""
    wrong, runtime = 0, Onnxruntime()
    with tempfile.TemporaryDirectory() as folder:
        for op in ops or sorted(GRIDS):
            ends, reasons = Counter[str](), Counter[str]()
            for case in sample(op, GRIDS[op], count, seed):
                found = judge(case, Path(folder), runtime, seed)
                if not found.text and not found.refusal and sum(ends.values()) % CHECKED == 0:
                    found = checked(Path(folder) / "model.onnx") or found
                ends[found.word] += 1
                reasons[f"{found.word}: {found.refusal}"] += bool(found.refusal)
                wrong += bool(found.text)
                if found.text:
                    print(f"  {found.word}: {case}: {found.text}", flush=True)
            print(f"{op}: {', '.join(f'{n} {word}' for word, n in ends.most_common())}", flush=True)
            for reason, n in reasons.most_common(OFTEN):
                print(f"    {n} {reason[:300]}" if n else "", flush=True)
    print(f"{wrong} wrong")
    return wrong


if __name__ == "__main__":
    given = [int(v) for v in sys.argv[1:3]]
    count, seed = [*given, *[200, 0][len(given) :]]
    if missing := sorted(set(sys.argv[3:]) - set(GRIDS)):
        sys.exit(f"there is no grid of {', '.join(missing)}; add one to tests/grids/grid_table.py")
    sys.exit(1 if main(count, seed, sys.argv[3:]) else 0)
