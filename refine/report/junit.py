"""Findings in the XML that GitLab, Jenkins and others read as test results."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from refine.common.visible import visible
from refine.report.findings import Finding, Outcome, counts_of


def junit_text(suite: str, findings: Sequence[Finding]) -> str:
    """One suite of test cases: false claims are failures, what is not known or was not asked are
    errors."""
    counts = counts_of(findings)
    numbers = {
        "tests": str(len(findings)),
        "failures": str(counts[Outcome.FAILED]),
        "errors": str(counts[Outcome.UNDECIDED] + counts[Outcome.ERROR]),
        "skipped": "0",
        "time": f"{sum(f.seconds for f in findings):.3f}",
    }
    root = ElementTree.Element("testsuites", {"name": "refine", **numbers})
    inner = ElementTree.SubElement(root, "testsuite", {"name": visible(suite), **numbers})
    for f in findings:
        about = {
            "classname": visible(f.model),
            "name": visible(f.name),
            "file": visible(f.model),
            "time": f"{f.seconds:.3f}",
        }
        case = ElementTree.SubElement(inner, "testcase", about)
        text = "\n".join(visible(line) for line in f.more)
        if f.outcome is Outcome.PASSED:
            ElementTree.SubElement(case, "system-out").text = text or visible(f.message)
            continue
        tag = "failure" if f.outcome is Outcome.FAILED else "error"
        said = {"message": visible(f.message), "type": f.rule}
        ElementTree.SubElement(case, tag, said).text = text or visible(f.message)
    ElementTree.indent(root)
    body = ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'
