"""A verdict as JUnit XML, as Jenkins and GitLab read it: one test case a check.

A failed check is a failure. One that cannot be told is a failure of type "undecided": a pipeline must not take it for
a pass, and nothing is broken, so it is no error.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

from monitoring.gate.contracts import Check, CheckKind, Outcome
from monitoring.gate.job import GateResult

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(result: GateResult) -> bytes:
    """The document; a test suite for each kind of check that there is."""
    root = ElementTree.Element("testsuites", {"name": _text(f"gate {result.model} {result.candidate.version}")})
    counts = [0, 0]
    for kind in CheckKind:
        checks = [c for c in result.checks if c.kind is kind]
        if not checks:
            continue
        stopped = sum(c.outcome is not Outcome.PASSED for c in checks)
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            {
                "name": f"gate.{kind.value}",
                "tests": str(len(checks)),
                "failures": str(stopped),
                "errors": "0",
                "skipped": "0",
                "time": "0",
                "timestamp": result.started_at.removesuffix("Z"),
                "hostname": "localhost",
            },
        )
        for check in checks:
            _case(suite, check)
        counts[0], counts[1] = counts[0] + len(checks), counts[1] + stopped
    root.attrib |= {"tests": str(counts[0]), "failures": str(counts[1]), "errors": "0"}
    ElementTree.indent(root)
    document: bytes = ElementTree.tostring(root, encoding="utf-8")
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + document + b"\n"


def _case(suite: ElementTree.Element, check: Check) -> None:
    about = {"name": _text(check.subject), "classname": f"gate.{check.kind.value}", "time": "0"}
    case = ElementTree.SubElement(suite, "testcase", about)
    if check.outcome is not Outcome.PASSED:
        failure = ElementTree.SubElement(case, "failure", {"message": _text(check.words), "type": check.outcome.value})
        failure.text = _text(f"champion {check.champion:.6g}, candidate {check.candidate:.6g}, {check.n} inputs")
    else:
        ElementTree.SubElement(case, "system-out").text = _text(check.words)


def _text(text: str) -> str:
    """Without the characters that XML 1.0 cannot hold, not even escaped."""
    return _NOT_XML.sub("\ufffd", text)
