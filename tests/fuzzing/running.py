"""A long run of a fuzzer: seeds in order, until the time is up, lemmas proved once for all."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from unittest.mock import patch

from trial import Finding

import refine.claims.settle
from refine.lemmas.cache import default_directory
from refine.lemmas.library import prove_lemmas
from refine.results.obligation import Obligation


@contextmanager
def lemmas_once() -> Iterator[None]:
    @cache
    def proved(name: str) -> Obligation:
        return prove_lemmas((name,), default_directory())[0]

    def remembered(names: Iterable[str], directory: Path | None) -> tuple[Obligation, ...]:
        return tuple(map(proved, names))

    with patch.object(refine.claims.settle, "prove_lemmas", remembered):
        yield


def fuzzed(
    seconds: float,
    seed: int,
    judged: Callable[[int], tuple[str, list[Finding]]],
    keep: Callable[[int, Finding], None],
    longest: float = 20.0,
) -> int:
    """How many findings there were, each printed and kept; what takes longer than `longest` seconds
    of a processor is one."""
    end, ends, wrong, first = time.monotonic() + seconds, Counter[str](), 0, seed
    while time.monotonic() < end:
        start = time.process_time()
        word, findings = judged(seed)
        ends[word.split(":")[0]] += 1
        if time.process_time() - start > longest:
            print(f"seed {seed}: {time.process_time() - start:.0f} seconds", flush=True)
            wrong += 1
        for finding in findings:
            wrong += 1
            print(f"seed {seed}: {finding.kind}: {finding.text}", flush=True)
            keep(seed, finding)
        seed += 1
        if (seed - first) % 1000 == 0:
            print(f"{seed - first} tried, {wrong} wrong", flush=True)
    counted = ", ".join(f"{n} {word}" for word, n in ends.most_common())
    print(f"{sum(ends.values())} tried, seeds {first} to {seed - 1}: {counted}; {wrong} wrong")
    return wrong


def from_command_line(run: Callable[[float, Path, int], int]) -> None:
    """SECONDS, FOLDER and SEED, each of which may be left out; exit code 1 if anything is wrong."""
    given = [*sys.argv[1:], *["60", "fuzz-findings", "0"][len(sys.argv) - 1 :]]
    with lemmas_once():
        wrong = run(float(given[0]), Path(given[1]), int(given[2]))
    sys.exit(1 if wrong else 0)
