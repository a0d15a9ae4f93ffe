"""Mutation testing of the verifier: are there tests that notice when a bound is made wrong?

    python benchmarks/mutation.py [--count N] [--seed S] [--paths PATH ...] [--tests PATH ...]
                                  [--limit SECONDS] [--reached FILE] [--save FILE]
                                  [--again OUTCOME ...] [--only FILE] [--show FILE]

Makes N of the mutants of the lines that soundness rests on (`mutation_kinds` says which changes),
runs against each the tests that reach it, as many as take `--limit` processor seconds, until one
fails; prints a table and the survivors. The
mutants of a seed come in one order, so that a larger N goes on where a smaller one stopped;
`--save` keeps what became of each, with a judgement once somebody wrote one: "harmless: …" where no
bound can be wrong by it, "open: …" where a test is missing. What is saved is not run again unless
`--again` names its outcome, and then only what is not harmless; what the sources no longer hold is
dropped. Noticed are the killed among those that are not harmless.
`--reached` keeps which tests reach which lines. `--only` runs the mutants that a file lists
({key: tests}), and fails where one survives. `--show` prints the table of a file that was saved.

Why not mutmut or cosmic-ray: mutmut 3 forks too, but its changes are those of its own list, and it
leaves out what is decorated and what runs on import; cosmic-ray can be taught operators, and starts
an interpreter and collects all tests for each mutant: eight seconds of processor time here.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import pytest
from hypothesis import settings
from measuring import rows_of, save
from mutation_kinds import Mutant, mutants_of
from mutation_running import (
    KILLED,
    NOT_RUN,
    ROOT,
    SURVIVED,
    TIMED_OUT,
    UNREACHED,
    Laboratory,
    Reached,
    digest_of,
)
from rich.console import Console
from rich.table import Table

PATHS = (
    "encoders/numbers", "encoders/rounding", "encoders/relaxations", "encoders/curves",
    "encoders/families", "encoders/quantized", "encoders/ops", "encoders/lemmas",
    "refine/bounds", "refine/proof", "refine/lemmas", "refine/scalar", "refine/results/verdict.py",
    "refine/results/obligation.py", "refine/claims/decision.py",
)  # fmt: skip
EFFORT = ("refine/bounds/alpha.py", "refine/bounds/influence.py", "refine/bounds/best_first.py")
"""What is only tried first, or how hard: no bound is wrong whatever these say."""
TESTS = (
    "tests/soundness/test_operators.py",
    "tests/soundness/test_chain.py",
    "tests/soundness/test_adversarial.py",
    "tests/soundness/test_exhaustive.py",
    "tests/test_operators_algebraic.py",
    "tests/test_operators_elementary.py",
    "tests/test_operators_rational.py",
    "tests/test_operators_quantized.py",
    "tests/test_operators_interpolation.py",
    "tests/soundness/test_hypothesis.py",
    "tests/soundness/test_operator_types.py",
    "tests/soundness/test_overflow.py",
    "tests/soundness/test_long_sums.py",
    "tests/soundness/test_closed_bounds.py",
    "tests/soundness/test_lemma_worlds.py",
    "tests/soundness/test_operator_worlds.py",
    "tests/soundness/test_row_worlds.py",
    "tests/soundness/test_normalizing_worlds.py",
    "tests/soundness/test_exponential_worlds.py",
    "tests/soundness/test_domain_worlds.py",
    "tests/soundness/test_carrying_worlds.py",
    "tests/soundness/test_relaxing_worlds.py",
    "tests/test_accumulation.py",
    "tests/test_radius.py",
    "tests/test_infinite_bounds.py",
    "tests/test_split.py",
    "tests/test_first_order.py",
    "tests/test_verdicts.py",
    "tests/test_stored_numbers.py",
    "tests/test_masks.py",
    "tests/test_wide_rows.py",
    "tests/test_window_grids.py",
    "tests/test_computed_gemm.py",
    "tests/test_compact.py",
    "tests/test_low_precision.py",
    "tests/test_points.py",
    "tests/test_preconditions.py",
    "tests/test_dynamic_scales.py",
    "tests/test_quantized_models.py",
    "tests/test_algebra.py",
    "tests/test_folding.py",
    "tests/test_rules_in_pairs.py",
    "tests/test_program.py",
    "tests/grids/test_grid_refusals.py",
    "tests/test_kept_attributes.py",
    "tests/fuzzing/test_graphs.py",
    "tests/soundness/test_dominating_terms.py",
    "tests/test_decisions.py",
    "tests/test_ends_of_bounds.py",
    "tests/test_affine_forms.py",
    "tests/test_linear_bounds.py",
    "tests/test_outward_rounding.py",
    "tests/test_kernel.py",
    "tests/test_functions.py",
    "tests/test_lemmas.py",
)
"""Tests of soundness that take a second or so each: the suite has more and slower ones."""
SLOWEST = 20.0
"""No test that takes longer, in processor seconds, meets a mutant."""


def main() -> None:
    given = arguments()
    if given.show is not None:
        show(rows_of(given.show))
        return
    campaign = Campaign(given)
    settings.register_profile("mutation", derandomize=True, database=None)
    settings.load_profile("mutation")
    options = ["-s", "-qq", "--no-summary", "-p", "no:cacheprovider"]
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache  # mutants leave nothing in the cache of proved lemmas
        os.chdir(ROOT)
        code = pytest.main([*options, *campaign.tests], plugins=[campaign])
    sys.exit(campaign.failed or (0 if code in (0, 5) else int(code)))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--paths", nargs="+", default=PATHS)
    parser.add_argument("--tests", nargs="+", default=TESTS)
    parser.add_argument("--limit", type=float, default=20.0)
    parser.add_argument("--reached", type=Path, default=ROOT / ".mutation-reached.json")
    parser.add_argument("--save", type=Path)
    parser.add_argument(
        "--again", nargs="+", default=(), help="run mutants with these outcomes again"
    )
    parser.add_argument("--only", type=Path)
    parser.add_argument("--show", type=Path, help="print what a file holds, and run nothing")
    return parser.parse_args()


class Campaign:
    """Takes the place of pytest's loop: the tests are collected, and then the mutants are run."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.failed = 0
        self.listed: dict[str, list[str]] = {}
        if given.only is not None:
            self.listed = json.loads(given.only.read_text())

    @property
    def tests(self) -> list[str]:
        """What pytest collects."""
        if self.given.only is None:
            return list(self.given.tests)
        return sorted({test.split("::")[0] for tests in self.listed.values() for test in tests})

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if self.given.only is not None:
            self.failed = self._listed(session)
        else:
            self._sample(session)
        return True

    def _listed(self, session: pytest.Session) -> int:
        files = sorted({key.split(" ")[0] for key in self.listed})
        known = {m.key: m for m in mutants_in(files)}
        laboratory = Laboratory(session, files)
        failures = 0
        for key, tests in self.listed.items():
            if key not in known:
                print(f"gone: {key}")
                failures += 1
                continue
            outcome = laboratory.outcome(known[key], tests, dict.fromkeys(tests, 5.0))
            print(f"{outcome.outcome}: {key}", flush=True)
            failures += outcome.outcome != KILLED
        return failures

    def _sample(self, session: pytest.Session) -> None:
        """Those of the sample that are not saved yet, and the saved ones that are to run again."""
        given = self.given
        every = sorted({*files_of(PATHS), *files_of(given.paths)})
        laboratory = Laboratory(session, every)
        reached = Reached.read(given.reached, digest_of(every))
        laboratory.reach(every, reached, given.reached)
        known = {m.key: m for m in mutants_in(every)}
        saved = [] if given.save is None else rows_of(given.save)
        rows = {r["key"]: r for r in saved if r["key"] in known}
        print(f"{len(saved) - len(rows)} of {len(saved)} saved mutants are gone")
        waiting = [r for r in rows.values() if r["outcome"] in given.again and not harmless(r)]
        again = [known[r["key"]] for r in waiting]
        sample = sampled(list(files_of(given.paths)), given.seed, given.count)
        for number, mutant in enumerate([*again, *(m for m in sample if m.key not in rows)]):
            tests = reached.tests_of(mutant, given.limit, SLOWEST)
            outcome = laboratory.outcome(mutant, tests, reached.seconds)
            judged = {"judged": rows.get(mutant.key, {}).get("judged", "")}
            judged = {} if outcome.outcome == KILLED else judged
            rows[mutant.key] = {**row_of(mutant), **asdict(outcome), **judged}
            print(f"{number} {outcome.outcome} ({outcome.tests}): {mutant.key}", flush=True)
            if given.save is not None:
                save(given.save, list(rows.values()), seed=given.seed)
        show(list(rows.values()))


def files_of(paths: Sequence[str]) -> Iterator[str]:
    """The Python files of some folders, relative to the repository; folders may be missing."""
    for path in paths:
        found = sorted((ROOT / path).rglob("*.py")) if not path.endswith(".py") else [ROOT / path]
        for file in found:
            name = file.relative_to(ROOT).as_posix()
            if file.name != "__init__.py" and name not in EFFORT:
                yield name


def mutants_in(files: Iterable[str]) -> list[Mutant]:
    return [m for file in files for m in mutants_of((ROOT / file).read_text(), file)]


def sampled(files: Sequence[str], seed: int, count: int) -> list[Mutant]:
    """The first `count` of all mutants of these files in the order that the seed gives."""
    every = mutants_in(files)
    random.Random(seed).shuffle(every)
    return every[:count]


def row_of(mutant: Mutant) -> dict[str, Any]:
    return {name: getattr(mutant, name) for name in ("key", "line", "kind")}


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    console = Console(width=120)
    outcomes = (KILLED, TIMED_OUT, SURVIVED, UNREACHED, NOT_RUN)
    for title, name_of in (("room", _room), ("kind", lambda row: str(row["kind"]))):
        counts = Counter((name_of(row), row["outcome"]) for row in rows)
        table = Table(title=f"mutants by {title}")
        for heading in (title, *outcomes, "of them harmless", "noticed"):
            table.add_column(heading, justify="left" if heading == title else "right")
        for name in (*sorted({name for name, _ in counts}), "all"):
            these = [row for row in rows if name in ("all", name_of(row))]
            each = Counter(row["outcome"] for row in these)
            spared = sum(map(harmless, these))
            noticed, counted = each[KILLED] + each[TIMED_OUT], len(these) - spared
            share = f"{100 * noticed / counted:.1f} %" if counted else ""
            table.add_row(name, *(str(each[o]) for o in outcomes), str(spared), share)
        console.print(table)
    for row in rows:
        if row["outcome"] in (SURVIVED, UNREACHED):
            print(f"{row['outcome']}, line {row['line']}: {row['key']}")
            if row.get("judged"):
                print(f"  {row['judged']}")


def harmless(row: Mapping[str, Any]) -> bool:
    """Is it judged that no bound can be wrong by this change?"""
    return row["outcome"] != KILLED and str(row.get("judged", "")).startswith("harmless")


def _room(row: Mapping[str, Any]) -> str:
    return "/".join(str(row["key"]).split(" ")[0].split("/")[:2])


if __name__ == "__main__":
    main()
