"""Properties of a whole list of instances, each settled by a `refine check` of its own.

A process for each: it has a time limit that is enforced, and whatever becomes of it is one row.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from onnx_import.errors import ModelError, shorten
from onnx_import.files import read_text
from onnx_import.onnx.proto import sha256_of
from refine.claims.many.instances import Instance, unpacked
from refine.process.cluster import pool_of
from refine.process.pool import Pool, WorkLost
from refine.process.supervision import GRACE
from refine.results.answers import ExitCode, Verdict
from refine.results.document import strict_json, versions
from refine.results.numerals import plain_number

SCHEMA = "refine-bench-1"
_COMMAND = "import sys; sys.path[:] = {path!r}; from refine.cli.entry import main; main()"
_PATIENCE = 10.0  # seconds beyond its limit and grace, after which a process is ended from here
_ELSEWHERE = "weights are also read from"


class Standing(Enum):
    """What an instance came to. `BROKEN`: the runtime here left the contract, so that a proof says
    nothing of it; `UNREAD`: a file could not be read; `FAILED`: an internal error."""

    VERIFIED = "verified"
    VIOLATED = "violated"
    UNKNOWN = "unknown"
    BROKEN = "contract broken"
    UNREAD = "not read"
    FAILED = "failed"


_CODES: Mapping[Standing, ExitCode] = {
    Standing.FAILED: ExitCode.INTERNAL_ERROR,
    Standing.VIOLATED: ExitCode.VIOLATED,
    Standing.UNREAD: ExitCode.INPUT_ERROR,
    Standing.BROKEN: ExitCode.CONTRACT_BROKEN,
    Standing.UNKNOWN: ExitCode.UNKNOWN,
    Standing.VERIFIED: ExitCode.VERIFIED,
}
"""The exit code of a list is that of the first of these that some instance came to."""
_ENDS: Mapping[int, tuple[Standing, Verdict]] = {
    ExitCode.VERIFIED.value: (Standing.VERIFIED, Verdict.VERIFIED),
    ExitCode.VIOLATED.value: (Standing.VIOLATED, Verdict.VIOLATED),
    ExitCode.UNKNOWN.value: (Standing.UNKNOWN, Verdict.UNKNOWN),
    ExitCode.TIME_OUT.value: (Standing.UNKNOWN, Verdict.UNKNOWN),
}
_KEPT = (Standing.VERIFIED, Standing.VIOLATED, Standing.UNKNOWN, Standing.BROKEN)


@dataclass(frozen=True)
class Row:
    """What is known of an instance. The margins are the least of all conjunctions of the unsafe
    set, lower bounds: of every execution, and of the real network; None where none was proved.
    `real` says whether the counterexample reaches the unsafe set over the reals too, and
    `confirmed` which runtimes do. `key` is all that the answer depends on, as far as files and
    options go; None where that cannot be told."""

    model: str
    vnnlib: str
    limit: float
    standing: Standing
    reason: str
    margin: float | None = None
    margin_over_reals: float | None = None
    timed_out: bool = False
    real: bool | None = None
    confirmed: tuple[str, ...] = ()
    counterexample: str | None = None
    seconds: float = 0.0
    key: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Bench:
    """How the instances of a list are run: `options` go to each `refine check`, whose
    counterexamples go to `folder`; `budget` in seconds, None: all the time that there is. Paths in
    the options are seen from `here`. Where there is a `cluster`, its workers run them."""

    options: tuple[str, ...]
    folder: Path
    budget: float | None = None
    contract_file: Path | None = None
    here: Path | None = None
    cluster: str | None = None

    @property
    def pool(self) -> Pool:
        """Who runs the instances."""
        return pool_of(1, self.cluster)

    def anywhere(self) -> Bench:
        """The same where the current folder is another one."""
        return replace(self, folder=self.folder.absolute(), here=Path.cwd())

    def key(self, instance: Instance) -> Mapping[str, Any] | None:
        """All that an answer depends on. None where a file is not there."""
        try:
            files = [sha256_of(p) for p in (instance.model_file, instance.vnnlib_file)]
            contract = None if self.contract_file is None else sha256_of(self.contract_file)
        except (OSError, ValueError):
            return None
        return {
            "model": files[0],
            "property": files[1],
            "contract": contract,
            "seconds": instance.seconds,
            "budget": self.budget,
            "options": list(self.options),
            "versions": versions(),
        }

    def run(self, instance: Instance, number: int) -> Row:
        """Settle one instance; whatever goes wrong is its row."""
        start = time.monotonic()
        key = self.key(instance)
        blank = Row(instance.model, instance.vnnlib, instance.seconds, Standing.UNREAD, "", key=key)
        if instance.wrong:
            return replace(blank, reason=instance.wrong)
        try:
            with TemporaryDirectory(prefix="refine-") as folder:
                row = self._checked(instance, number, blank, Path(folder))
        except (ModelError, OSError) as error:
            row = replace(blank, reason=str(error))
        return replace(row, seconds=time.monotonic() - start)

    def _checked(self, instance: Instance, number: int, blank: Row, folder: Path) -> Row:
        model, out = unpacked(instance.model_file, folder), folder / "result.json"
        saved = self.folder / f"{number}-{instance.name.replace(' ', '-')}.json"
        budget = instance.seconds if self.budget is None else self.budget
        limits = ("--timeout", repr(instance.seconds), "--budget", repr(budget))
        places = ("--json", str(out), "--counterexample", str(saved), "--quiet")
        asked = ("--vnnlib", str(instance.vnnlib_file), "--claim", "property")
        command = ("check", *asked, *limits, *places, *self.options, "--", str(model))
        code, said = _ended(command, instance.seconds + GRACE + _PATIENCE, self.here)
        if code == ExitCode.INTERRUPTED.value:
            raise KeyboardInterrupt
        document = _document(out)
        row = _row(blank, code, said, document)
        if row.counterexample is None or model == instance.model_file:
            return row
        reason = f"{row.reason}; replay it with --model, where the model is unpacked"
        return replace(row, reason=reason)


def _ended(arguments: Sequence[str], most: float, here: Path | None) -> tuple[int | None, str]:
    """The exit code of a command of refine in a folder, None where it had to be ended, and what it
    said on standard error."""
    code = _COMMAND.format(path=sys.path)
    with subprocess.Popen(
        (sys.executable, "-c", code, *arguments),
        cwd=here,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "REFINE_CONFIG": ""},  # what a file sets is among the arguments
    ) as process:
        try:
            said = process.communicate(timeout=most)[1]
        except subprocess.TimeoutExpired:
            process.kill()
            return None, "the time limit was reached"
        except BaseException:
            process.kill()
            raise
    return process.returncode, said.decode("utf-8", "replace")


def _document(path: Path) -> Mapping[str, Any]:
    """The document of a result; empty where there is none."""
    with suppress(OSError, ValueError, ModelError):
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    return {}


def _row(blank: Row, code: int | None, said: str, document: Mapping[str, Any]) -> Row:
    """An answer is one where exit code and document say the same."""
    lines = [line.removeprefix("refine: ") for line in said.splitlines() if line.strip()]
    sentence = lines[-1] if lines else ""
    found = replace(
        blank,
        reason=str(document.get("reason", sentence)),
        margin=_least(document, "margin"),
        margin_over_reals=_least(document, "margin_over_reals"),
        timed_out=code in (None, ExitCode.TIME_OUT.value),
    )
    if any(str(n).startswith(_ELSEWHERE) for n in document.get("notes", ())):
        found = replace(found, key=None)
    if code is None:
        return replace(found, standing=Standing.UNKNOWN, reason=sentence or said)
    if code == ExitCode.INPUT_ERROR.value:
        return replace(found, reason=sentence or "it cannot be read")
    if code == ExitCode.UNKNOWN.value and not document:  # memory ran out
        return replace(found, standing=Standing.UNKNOWN, reason=sentence)
    if code == ExitCode.CONTRACT_BROKEN.value and document.get("contract_broken") is True:
        return replace(found, standing=Standing.BROKEN, reason=_broken(document))
    standing, verdict = _ENDS.get(code, (Standing.FAILED, Verdict.CONTRADICTION))
    if document.get("verdict") != verdict.value or standing is Standing.FAILED:
        why = sentence or f"the check ended with exit code {code}"
        return replace(found, standing=Standing.FAILED, reason=why)
    found = replace(found, standing=standing)
    return _with_witness(found, document.get("counterexample")) if code == 1 else found


def _broken(document: Mapping[str, Any]) -> str:
    runtime = document.get("runtime") or {}
    return f"{document.get('verdict')}, but {runtime.get('runtime')}: {runtime.get('text')}"


def _least(document: Mapping[str, Any], name: str) -> float | None:
    """The least margin of a kind."""
    margins = document.get("margins") or ()
    return min((float(m[name]) for m in margins), default=None)


def _with_witness(row: Row, witness: Mapping[str, Any] | None) -> Row:
    """What the row says of a counterexample."""
    given = witness or {}
    ran = tuple(str(r["runtime"]) for r in given.get("replays", ()) if r.get("reaches"))
    real = (given.get("reached") or {}).get("over_reals")
    return replace(row, real=real, confirmed=ran, counterexample=given.get("file"))


def exit_code_of(rows: Sequence[Row]) -> ExitCode:
    """Of a whole list."""
    found = {row.standing for row in rows}
    return next(code for standing, code in _CODES.items() if standing in found)


def counts_of(rows: Sequence[Row]) -> Mapping[str, int]:
    """How many instances came to what."""
    counted = Counter(row.standing for row in rows)
    return {standing.value: counted[standing] for standing in Standing}


def document_of_rows(rows: Sequence[Row], instances: int) -> str:
    """What is kept of a list, as JSON; `instances` is how many it has."""
    made = {
        "schema": SCHEMA,
        "instances": instances,
        "answers": counts_of(rows),
        "rows": [_plain(row) for row in rows],
    }
    return strict_json(made)


def _plain(row: Row) -> dict[str, Any]:
    margins = {n: plain_number(getattr(row, n)) for n in ("margin", "margin_over_reals")}
    return asdict(row) | {"standing": row.standing.value} | margins


def kept_rows(path: Path) -> tuple[Row, ...]:
    """The rows of a run before; none where the file is not there. Raises ModelError for a file that
    holds something else."""
    if not path.exists():
        return ()
    text = read_text(path)
    try:
        made = json.loads(text)
        if made["schema"] != SCHEMA:
            raise ModelError(f"{path}: its schema is {shorten(made['schema'])}, not {SCHEMA}")
        return tuple(_row_of(values) for values in made["rows"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{path}: no list of answers that refine bench wrote") from error


def _row_of(values: Mapping[str, Any]) -> Row:
    margins = {n: values[n] for n in ("margin", "margin_over_reals")}
    read = {n: None if m is None else float(m) for n, m in margins.items()}
    given = dict(values) | read | {"standing": Standing(values["standing"])}
    return Row(**given | {"confirmed": tuple(values["confirmed"])})


def run_list(
    bench: Bench,
    instances: Sequence[Instance],
    earlier: Sequence[Row],
    tell: Callable[[int, Instance], None],
    keep: Callable[[Sequence[Row]], None],
) -> tuple[Row, ...]:
    """Settle every instance; `tell` hears which is next, `keep` what is known after each.

    The workers of a cluster see the files under the same paths. Raises ModelError where there are
    none.

    An answer among the `earlier` is taken where its key is the same: the same files, options and
    versions.
    """
    rows: dict[int, Row] = {}
    running: dict[Future[Row], int] = {}

    def have(number: int, row: Row) -> None:
        instance = instances[number - 1]
        rows[number] = replace(row, model=instance.model, vnnlib=instance.vnnlib)
        keep([rows[n] for n in sorted(rows)])

    def collect() -> None:
        for future in [f for f in running if f.done()]:
            number = running.pop(future)
            try:
                row = future.result()
            except WorkLost as error:
                instance = instances[number - 1]
                row = Row(
                    instance.model, instance.vnnlib, instance.seconds, Standing.FAILED, str(error)
                )
            have(number, row)

    kept = [row for row in earlier if row.standing in _KEPT]
    shared = bench if bench.cluster is None else bench.anywhere()
    with bench.pool.sharing(shared) as submit:
        for number, instance in enumerate(instances, 1):
            key = bench.key(instance) if kept and not instance.wrong else None
            row = next((r for r in kept if key is not None and r.key == key), None)
            if row is not None:
                have(number, row)
                continue
            tell(number, instance)
            asked = replace(instance, folder=instance.folder.absolute())
            running[submit(_run, (asked, number))] = number
            collect()
        while running:
            wait(running, return_when=FIRST_COMPLETED)
            collect()
    return tuple(rows[n] for n in sorted(rows))


def _run(bench: Bench, asked: tuple[Instance, int]) -> Row:
    return bench.run(*asked)
