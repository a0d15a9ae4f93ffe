"""`python tests/fuzzing SECONDS [FOLDER] [SEED]`: fuzzes for so long and saves what is wrong.

Of every 24 seeds 16 are bounded, 4 are claims within a random ε (two of them of steps), 2 are
differences of two graphs under two contracts, and 2 are run on onnxruntime.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import runtime
from claims import judged_claim, judged_difference
from proving import lemmas_once
from saving import minimised, save
from trial import Finding, Trial, judge, stepping_trial, trial_of

LONGEST = 20.0  # seconds
Judge = Callable[[Trial], tuple[str, list[Finding]]]


def trial_and_judge(seed: int) -> tuple[str, Trial, Judge]:
    match seed % 24:
        case 5 | 17:
            return "claim", trial_of(seed), judged_claim
        case 3 | 19:
            return "claim of steps", stepping_trial(seed), judged_claim
        case 11 | 22:
            return "difference", trial_of(seed), judged_difference
        case 7 | 14:
            return "runtime", runtime.runtime_trial(seed), runtime.judged
        case _:
            return "bound", trial_of(seed), judge


def main(seconds: float, folder: Path, seed: int) -> int:
    """How many findings there were."""
    end, ends, wrong = time.monotonic() + seconds, Counter[str](), 0
    first = seed
    while time.monotonic() < end:
        what, trial, judged = trial_and_judge(seed)
        start = time.process_time()
        word, findings = judged(trial)
        ends[f"{what} {word.split(':')[0]}"] += 1
        if time.process_time() - start > LONGEST:
            print(f"seed {seed}: {time.process_time() - start:.0f} seconds", flush=True)
            wrong += 1
        for finding in findings:
            wrong += 1
            print(f"seed {seed}: {what}: {finding.kind}: {finding.text}", flush=True)
            save(minimised(trial, finding.kind, judged), folder / str(seed), finding)
        seed += 1
        if (seed - first) % 1000 == 0:
            print(f"{seed - first} graphs, {wrong} wrong", flush=True)
    counted = ", ".join(f"{n} {word}" for word, n in ends.most_common())
    print(f"{sum(ends.values())} graphs, seeds {first} to {seed - 1}: {counted}; {wrong} wrong")
    return wrong


if __name__ == "__main__":
    options = [*sys.argv[1:], *["60", "fuzz-findings", "0"][len(sys.argv) - 1 :]]
    with lemmas_once():
        wrong = main(float(options[0]), Path(options[1]), int(options[2]))
    sys.exit(1 if wrong else 0)
