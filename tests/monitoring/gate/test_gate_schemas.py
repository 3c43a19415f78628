"""A gate's files, and the pipelines that people copy, against the published schemas themselves.

The schemas are other people's work and do not lie here. Put them into a folder and name it:

    junit-10.xsd            jenkinsci/xunit-plugin, src/main/resources/org/jenkinsci/plugins/xunit/types/model/xsd/
    OpenLineage.json        https://openlineage.io/spec/2-0-2/OpenLineage.json
    facets/*.json           https://openlineage.io/spec/facets/ (TestRunFacet, DatasetVersionDatasetFacet,
                            DataQualityAssertionsDatasetFacet, DataQualityMetricsInputDatasetFacet)
    pip install xmlschema check-jsonschema
    HARDCASE_SCHEMAS=FOLDER pytest -m slow tests/monitoring/gate/test_gate_schemas.py      # seconds
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from referencing import Registry, Resource

from monitoring.gate.junit import junit_xml
from monitoring.gate.lineage import lineage_event
from tests.support.gate_world import failed_gate
from tests.support.loop_pages import passed_gate

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("HARDCASE_SCHEMAS" not in os.environ, reason="set HARDCASE_SCHEMAS to the folder of schemas"),
]
CI = Path(__file__).parents[3] / "docs" / "examples" / "ci"
GATES = {"failed": failed_gate, "passed": lambda: passed_gate("3", "2")}


@pytest.fixture(scope="module")
def schemas() -> Path:
    return Path(os.environ["HARDCASE_SCHEMAS"])


@pytest.mark.parametrize("gate", list(GATES))
def test_junit_is_what_jenkins_schema_asks(schemas: Path, gate: str) -> None:
    xmlschema = pytest.importorskip("xmlschema")
    schema = xmlschema.XMLSchema(str(schemas / "junit-10.xsd"))
    document = junit_xml(GATES[gate]()).decode()
    schema.validate(document)
    with pytest.raises(xmlschema.XMLSchemaValidationError):
        schema.validate(document.replace(' errors="0"', "", 1).replace(' errors="0"', "", 1))


@pytest.mark.parametrize("gate", list(GATES))
def test_openlineage_is_what_its_schemas_ask_facet_by_facet(schemas: Path, gate: str) -> None:
    event = json.loads(json.dumps(lineage_event(GATES[gate](), "2026-11-21T10:00:05Z"), allow_nan=False))
    known = [
        json.loads(path.read_text()) for path in (schemas / "OpenLineage.json", *(schemas / "facets").glob("*.json"))
    ]
    registry: Any = Registry().with_resources([(one["$id"], Resource.from_contents(one)) for one in known])
    checked = 0
    for where, value, url in _parts(event):
        name = url.partition("#")[0].rsplit("/", 1)[-1].removesuffix(".json")
        schema = next(one for one in known if one["$id"].endswith(f"/{name}.json"))
        validator = _validator(schema, url.partition("#")[2], registry)
        errors = [f"{where}: {e.json_path} {e.message[:200]}" for e in validator.iter_errors(value)]
        assert not errors, errors
        checked += 1
    assert checked > 8, "the event, its run's facet, and at least one facet of every input"

    broken = copy.deepcopy(event)
    broken["run"]["facets"]["test"]["tests"][0]["status"] = 7
    facet = next(one for one in known if one["$id"].endswith("/TestRunFacet.json"))
    assert list(_validator(facet, "/$defs/TestRunFacet", registry).iter_errors(broken["run"]["facets"]["test"]))


@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("hardcase-gate.yml", ["--builtin-schema", "vendor.github-workflows"]),
        ("hardcase-gate.gitlab-ci.yml", ["--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci"]),
    ],
)
def test_the_pipelines_are_what_github_and_gitlab_ask(file: str, options: list[str]) -> None:
    program = shutil.which("check-jsonschema", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("pip install check-jsonschema")
    done = subprocess.run([program, *options, str(CI / file)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _parts(event: Any) -> list[tuple[str, Any, str]]:
    """(where, value, schema's address) of the event and of all facets in it."""
    found = [("event", event, event["schemaURL"])]

    def walk(where: str, value: Any) -> None:
        if isinstance(value, dict):
            if "_schemaURL" in value:
                found.append((where, value, value["_schemaURL"]))
            for key, inner in value.items():
                walk(f"{where}.{key}", inner)
        elif isinstance(value, list):
            for i, inner in enumerate(value):
                walk(f"{where}[{i}]", inner)

    walk("event", event)
    return found


def _validator(schema: Any, pointer: str, registry: Any) -> Any:
    asked = {"$schema": schema["$schema"], "$ref": f"{schema['$id']}#{pointer}"}
    return jsonschema.Draft202012Validator(
        asked, registry=registry, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
