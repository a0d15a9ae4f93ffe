"""`python tests/fuzzing SECONDS [FOLDER] [SEED]`: fuzzes for so long and saves what is wrong."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path

from saving import minimised, save
from trial import judge, trial_of


def main(seconds: float, folder: Path, seed: int) -> int:
    """How many findings there were."""
    end, ends, wrong = time.monotonic() + seconds, Counter[str](), 0
    while time.monotonic() < end:
        trial = trial_of(seed)
        start = time.monotonic()
        word, findings = judge(trial)
        ends[word.split(":")[0]] += 1
        if time.monotonic() - start > 20.0:
            print(f"seed {seed}: {time.monotonic() - start:.0f} seconds", flush=True)
            wrong += 1
        for finding in findings:
            wrong += 1
            print(f"seed {seed}: {finding.kind}: {finding.text}", flush=True)
            save(minimised(trial, finding.kind), folder / str(seed), finding)
        seed += 1
    counted = ", ".join(f"{n} {word}" for word, n in ends.most_common())
    print(f"{sum(ends.values())} graphs up to seed {seed - 1}: {counted}; {wrong} wrong")
    return wrong


if __name__ == "__main__":
    options = [*sys.argv[1:], *["60", "fuzz-findings", "0"][len(sys.argv) - 1 :]]
    sys.exit(1 if main(float(options[0]), Path(options[1]), int(options[2])) else 0)
