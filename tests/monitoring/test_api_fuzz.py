"""Schemathesis over the live document: no 5xx, answers keep their schema, wrong input is refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from monitoring.api.app import build_console
from monitoring.api.options import ConsoleOptions
from monitoring.report_frames import Frame
from monitoring.report_shelf import ReportRequest
from monitoring.reports import ReportOptions, ReportService
from monitoring.store import Store
from tests.support.console_server import listening
from tests.support.console_store import MemoryCatalogue, StillMonitor, fill, manifest

EXAMPLES = int(os.environ.get("HARDCASE_FUZZ_EXAMPLES", "12"))  # an operation and mode; 200 finds what 12 do not

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


def empty(request: ReportRequest, most: int) -> tuple[Frame, Frame]:
    import numpy as np

    nothing = Frame(columns=(), values=np.zeros((0, 0), dtype=np.float32), total_rows=0)
    return nothing, nothing


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[schemathesis.BaseSchema]:
    root = tmp_path_factory.mktemp("fuzz")
    store = Store(f"sqlite:///{root}/m.db")
    fill(store, windows=12, cases=40)
    # Too little data: a report ends without a worker process, so that the fuzzer can start many.
    reports = ReportService(ReportOptions(folder=root / "reports", waiting=10_000), empty)
    catalogue = MemoryCatalogue(manifests=(manifest(version="1"), manifest(version="2")))
    app = build_console(store, catalogue, StillMonitor(), lambda: ["127.0.0.1:8000"], ConsoleOptions(), reports=reports)
    with listening(app) as address:
        schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
        schema.config.update(base_url=address)
        yield schema
    reports.close()
    store.close()


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_every_operation_keeps_its_document(
    api: schemathesis.BaseSchema, mode: schemathesis.GenerationMode, subtests: pytest.Subtests
) -> None:
    operations = [found.ok() for found in api.get_all_operations()]
    assert len(operations) >= 18
    for operation in operations:
        if mode.is_negative and not (operation.query or operation.path_parameters or operation.body):
            continue  # nothing that could be wrong

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        def keeps(case: schemathesis.Case) -> None:
            case.call_and_validate(checks=CHECKS, headers={"accept": "application/json"})

        with subtests.test(operation=operation.label):
            keeps()


def test_a_fault_is_found(api: schemathesis.BaseSchema, tmp_path: Path) -> None:
    """The positive control: the same checks over an application that breaks its document."""
    store = Store(f"sqlite:///{tmp_path}/m.db")
    reports = ReportService(ReportOptions(folder=tmp_path / "reports"), empty)
    app = build_console(store, MemoryCatalogue(), StillMonitor(), lambda: [7], ConsoleOptions(), reports=reports)  # type: ignore[list-item]  # the fault
    with listening(app) as address:
        broken = schemathesis.openapi.from_url(f"{address}/openapi.json")
        broken.config.update(base_url=address)
        case = broken["/sd/prometheus"]["GET"].Case()
        with pytest.raises(FailureGroup):
            case.call_and_validate(checks=CHECKS)
    reports.close()
    store.close()
