"""A verdict as an OpenLineage event: the run's `test` facet (TestRunFacet 1-0-1) and, of each set, the assertions.

https://openlineage.io/spec/2-0-2/OpenLineage.json; the outputs of the event are none: a gate makes no data.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

from monitoring.gate.contracts import Check, CheckKind, Outcome
from monitoring.gate.job import GateResult, SetResult

PRODUCER = "https://github.com/hardcase/hardcase"
SPEC = "https://openlineage.io/spec"
STATUS = {Outcome.PASSED: "pass", Outcome.FAILED: "fail", Outcome.UNDECIDED: "skip"}
_NAMES = uuid.UUID("6f0a8a53-8d0c-5d55-9d6c-0a8f0f3f6f7e")  # of runs made from gates' ids


def lineage_event(result: GateResult, ended_at: str) -> dict[str, Any]:
    """The event that says that the gate was held: COMPLETE, whatever its verdict.

    Args:
        result: The verdict.
        ended_at: RFC 3339.
    """
    tests = [_test(check, i) for i, check in enumerate(result.checks)]
    outcome = {
        "name": "gate",
        "status": STATUS[result.outcome],
        "severity": "error",
        "type": "gate",
        "description": result.words,
    }
    return {
        "eventType": "COMPLETE",
        "eventTime": ended_at,
        "producer": PRODUCER,
        "schemaURL": f"{SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent",
        "run": {
            "runId": str(uuid.uuid5(_NAMES, result.id)),
            "facets": {"test": _facet("facets/1-0-1/TestRunFacet.json", "TestRunFacet", tests=[outcome, *tests])},
        },
        "job": {"namespace": "hardcase", "name": f"gate.{result.model}", "facets": {}},
        "inputs": [*(_set(result, one) for one in result.sets), *_versions(result)],
        "outputs": [],
    }


def lineage_json(result: GateResult, ended_at: str) -> bytes:
    """`lineage_event` as a file."""
    return (json.dumps(lineage_event(result, ended_at), indent=2, ensure_ascii=False) + "\n").encode()


def _test(check: Check, position: int) -> dict[str, Any]:
    # A name is unique in a run: the same slice name may occur under two sets, never the same set twice.
    params: dict[str, Any] = {"inputs": check.n, "gains": check.gains, "losses": check.losses, "position": position}
    for name in ("low", "high", "p_value", "alpha", "power", "needed"):
        value = getattr(check, name)
        if value is not None:
            params[name] = value
    return {
        "name": f"{check.kind.value}: {check.subject}",
        "status": STATUS[check.outcome],
        "severity": "error",
        "type": check.kind.value,
        "description": check.words,
        "expected": f"{check.champion:.6g}",
        "actual": f"{check.candidate:.6g}",
        "params": params,
    }


def _set(result: GateResult, one: SetResult) -> dict[str, Any]:
    kinds = (CheckKind.BETTER, CheckKind.NOT_WORSE)
    about = [c for c in result.checks if c.kind in kinds and c.subject == one.name]
    about += [c for c in result.checks if c.kind is CheckKind.SLICE and c.subject.startswith(f"{one.name}: ")]
    assertions = [{"assertion": f"{c.kind.value}: {c.subject}", "success": c.outcome is Outcome.PASSED} for c in about]
    facets = {
        "dataQualityMetrics": _facet(
            "facets/1-0-2/DataQualityMetricsInputDatasetFacet.json",
            "DataQualityMetricsInputDatasetFacet",
            rowCount=one.inputs,
            columnMetrics={},
        )
    }
    if assertions:
        facets["dataQualityAssertions"] = _facet(
            "facets/1-0-1/DataQualityAssertionsDatasetFacet.json",
            "DataQualityAssertionsDatasetFacet",
            assertions=assertions,
        )
    version = _facet(
        "facets/1-0-1/DatasetVersionDatasetFacet.json", "DatasetVersionDatasetFacet", datasetVersion=one.digest
    )
    return {
        "namespace": "hardcase",
        "name": f"sets/{result.model}/{one.name}",
        "facets": {"version": version},
        "inputFacets": facets,
    }


def _versions(result: GateResult) -> list[dict[str, Any]]:
    made = []
    for version in (result.champion, result.candidate):
        facets = {}
        if version.digest:
            facets["version"] = _facet(
                "facets/1-0-1/DatasetVersionDatasetFacet.json",
                "DatasetVersionDatasetFacet",
                datasetVersion=version.digest,
            )
        made.append({"namespace": "hardcase", "name": f"models/{result.model}/{version.version}", "facets": facets})
    return made


def _facet(path: str, name: str, **fields: Any) -> dict[str, Any]:
    return {"_producer": PRODUCER, "_schemaURL": f"{SPEC}/{path}#/$defs/{name}"} | fields
