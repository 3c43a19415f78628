"""What a gate leaves for other programs and for people: JUnit, OpenLineage, the HTML report."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import uuid
from dataclasses import replace
from datetime import datetime
from typing import Any
from xml.etree import ElementTree

import pytest

from monitoring.gate.contracts import CheckKind, GatePolicy, Outcome
from monitoring.gate.decide import decide
from monitoring.gate.evaluated import InputLine
from monitoring.gate.fit import contract
from monitoring.gate.junit import junit_xml
from monitoring.gate.lineage import lineage_event
from monitoring.gate.report.page import ShownInput, report_html
from tests.support.gate_world import failed_gate

NASTY = '</script><script>alert(1)</script>\x00 & "quotes"'


def test_junit_has_what_the_schema_of_jenkins_asks_and_nothing_else() -> None:
    """Field by field after Jenkins' junit-10.xsd: elements in order, attributes known, numbers that add up."""
    made = failed_gate(NASTY)
    root = ElementTree.fromstring(junit_xml(made))
    assert root.tag == "testsuites"
    assert set(root.attrib) <= {"name", "time", "tests", "failures", "disabled", "errors", "skipped"}
    cases = []
    for suite in root:
        assert suite.tag == "testsuite"
        needed, known = {"name", "tests"}, {"failures", "errors", "time", "skipped", "timestamp", "hostname", "id"}
        assert needed <= set(suite.attrib) <= needed | known
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.attrib["timestamp"])
        assert int(suite.attrib["tests"]) == len(suite)
        assert int(suite.attrib["failures"]) == len(suite.findall("testcase/failure"))
        cases += list(suite)
    for case in cases:
        assert case.tag == "testcase"
        assert {"name", "classname", "time"} == set(case.attrib)
        assert [child.tag for child in case] in (["failure"], ["system-out"])
        for failure in case.findall("failure"):
            assert set(failure.attrib) == {"message", "type"}
    assert len(cases) == len(made.checks) == int(root.attrib["tests"])
    types = {
        case.attrib["name"]: case.find("failure").attrib["type"] for case in cases if case.find("failure") is not None
    }  # type: ignore[union-attr]
    assert types["golden"] == "undecided"
    assert "failed" in types.values()


def test_openlineage_has_what_its_schema_asks() -> None:
    """Field by field after OpenLineage 2-0-2 (RunEvent) and TestRunFacet 1-0-1."""
    made = failed_gate()
    event = json.loads(json.dumps(lineage_event(made, "2026-11-21T10:00:05Z"), allow_nan=False))
    assert set(event) == {"eventType", "eventTime", "producer", "schemaURL", "run", "job", "inputs", "outputs"}
    assert event["eventType"] == "COMPLETE"
    assert datetime.fromisoformat(event["eventTime"]).tzinfo is not None
    uuid.UUID(event["run"]["runId"])
    assert event["job"] == {"namespace": "hardcase", "name": "gate.digits", "facets": {}}
    facets = [event["run"]["facets"]["test"]]
    for one in event["inputs"]:
        assert {"namespace", "name", "facets"} <= set(one) <= {"namespace", "name", "facets", "inputFacets"}
        facets += [*one["facets"].values(), *one.get("inputFacets", {}).values()]
    assert all(f["_producer"].startswith("https://") and "#/$defs/" in f["_schemaURL"] for f in facets)
    tests = event["run"]["facets"]["test"]["tests"]
    assert len(tests) == 1 + len(made.checks)
    texts = {"name", "status", "severity", "type", "description", "expected", "actual"}
    for test in tests:
        assert {"name", "status"} <= set(test) <= texts | {"params"}
        assert all(isinstance(test[name], str) for name in texts & set(test))
        assert test["status"] in ("pass", "fail", "skip")
    golden = next(one for one in event["inputs"] if one["name"] == "sets/digits/golden")
    (assertion,) = golden["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert assertion == {"assertion": "not_worse: golden", "success": False}


def line(**given: Any) -> InputLine:
    values = {"set": "audited", "row": 0, "id": "i1", "record": "r1", "truth": NASTY, "champion": "3", "candidate": "8",
              "champion_sure": 0.9, "candidate_sure": None, "champion_good": 1.0, "candidate_good": 0.0,
              "slices": ("askew",)} | given  # fmt: skip
    return InputLine(**values)  # type: ignore[arg-type]


def test_the_report_runs_only_its_own_script_whatever_labels_say() -> None:
    page = report_html(failed_gate(NASTY), [ShownInput(line=line())], every=5)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert "default-src 'none'" in policy[1].replace("&#39;", "'")
    scripts = re.findall(r"<script(?: [^>]*)?>(.*?)</script>", page, re.S)
    assert len(scripts) == 2  # the data and the page's own
    assert json.loads(scripts[0])[0][2] == NASTY
    for text, kind in ((scripts[1], "script"), (re.findall(r"<style>(.*?)</style>", page, re.S)[0], "style")):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy[1].replace("&#39;", "'").replace("&#43;", "+")
    assert not re.search(r"<[^>]+ (style|on[a-z]+)=", page)
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "1 of 5 are listed here" in page


@pytest.mark.parametrize("kind", list(CheckKind))
def test_every_kind_of_check_is_in_the_report(kind: CheckKind) -> None:
    made = failed_gate()
    assert kind in {c.kind for c in made.checks}
    page = report_html(made, [], every=0)
    for check in made.checks:
        if check.kind is kind is not CheckKind.SLICE:
            assert check.words.replace("'", "&#39;") in page


def test_a_report_without_any_set_says_why() -> None:
    broken = contract("package", Outcome.FAILED, "the candidate's package is broken: no readable manifest.json")
    verdict = decide([], [], GatePolicy(), [broken])
    made = replace(
        failed_gate(), checks=verdict.checks, sets=(), costs={}, negative_flips=(), positive_flips=(),
        outcome=verdict.outcome, words=verdict.words,
    )  # fmt: skip
    assert made.outcome is Outcome.FAILED
    assert "no readable manifest.json" in report_html(made, [], every=0)
