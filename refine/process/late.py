"""The answer of a run that was ended at its time limit. Imports nothing heavy."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from gpu_check.common.writing import write_text
from refine.process.supervision import Answer

TIME_OUT = 4
REASON = "the time limit was reached"
_TEXT = f"unknown   bound ∞  (out of time)\n          {REASON}\n"


def nothing_proved() -> Answer:
    """Where the time was over before anything was proved: every key of the documented schema."""
    document: dict[str, object] = {
        "schema": "refine-result-1",
        "verdict": "unknown",
        "timed_out": True,
        "reason": REASON,
        **{"eps": None, "eps_hex": None, "bound": "inf", "bound_hex": "inf"},
        **{
            "bounds": {},
            "bounds_hex": {},
            "worst_found": None,
            "worst_found_hex": None,
            "worst_found_by": None,
        },
        "domain": {"source": None, "boxes": [], "round_inputs": False, "notes": []},
        **{
            "contract": None,
            "grounds": [],
            "assumptions": [],
            "lemmas": [],
            "nodes": [],
            "counterexample": None,
        },
        **{"runtime": None, "model": None, "specification": None, "notes": [], "seed": None},
        **{"versions": {}, "seconds": None},
    }
    return Answer(TIME_OUT, _TEXT, json.dumps(document, indent=2) + "\n")


def answer_late(told: Answer | None, json_path: str | None, report: str | None) -> int:
    """Write what was told, or that nothing was proved; the exit code. There is no time for a
    page."""
    answer = told or nothing_proved()
    if json_path not in (None, "", "-"):
        path = Path(str(json_path))
        try:
            write_text(path, answer.document)
        except OSError as error:
            _write(sys.stderr, f"refine: --json is not written: {error.strerror or error}\n")
    if report is not None:
        _write(
            sys.stderr,
            f"refine: --report is not written: {REASON}; refine report makes it of what --json "
            "wrote\n",
        )
    text = answer.document if json_path == "-" else answer.report
    if not _write(sys.stdout, text):
        _write(sys.stderr, answer.report)
    return answer.code


def _write(stream: object, text: str) -> bool:
    try:
        stream.write(text)  # type: ignore[attr-defined]
        stream.flush()  # type: ignore[attr-defined]
    except (OSError, ValueError):
        return False
    return True
