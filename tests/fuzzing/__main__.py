"""`python tests/fuzzing SECONDS [FOLDER] [SEED]`: fuzzes for so long and saves what is wrong.

Of every 24 seeds 16 are bounded, 4 are claims within a random ε (two of them of steps), 2 are
differences of two graphs under two contracts, and 2 are run on onnxruntime.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import runtime
from claims import judged_claim, judged_difference
from running import from_command_line, fuzzed
from saving import minimised, save
from trial import Finding, Trial, judge, stepping_trial, trial_of

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

    def tried(seed: int) -> tuple[str, list[Finding]]:
        what, trial, judged = trial_and_judge(seed)
        word, findings = judged(trial)
        return f"{what} {word}", findings

    def keep(seed: int, finding: Finding) -> None:
        _, trial, judged = trial_and_judge(seed)
        save(minimised(trial, finding.kind, judged), folder / str(seed), finding)

    return fuzzed(seconds, seed, tried, keep)


if __name__ == "__main__":
    from_command_line(main)
