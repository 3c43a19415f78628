"""Evidently reports through the real worker process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from export.contracts.errors import InvalidRequest, NotFound, Overloaded
from monitoring.report_frames import Column, Frame, column_tests, finite_frame, sample_rows
from monitoring.report_shelf import ReportRequest, ReportState
from monitoring.reports import FrameSource, ReportOptions, ReportService

START = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
CLASSES = ("zero", "one", "two", "</script><script>three")
COLUMNS = (Column(name="mean"), Column(name="std"), Column(name="predicted", categories=CLASSES))


def request_at(hours: int = 0, model: str = "digits") -> ReportRequest:
    start = START + timedelta(hours=hours)
    return ReportRequest(model=model, version="3", start=start, end=start + timedelta(hours=1))


def frame(rng: np.random.Generator, rows: int, shift: float = 0.0) -> Frame:
    values = np.stack(
        [rng.normal(shift, 1.0, rows), rng.exponential(1.0, rows), rng.integers(0, len(CLASSES), rows)], axis=1
    )
    return finite_frame(COLUMNS, values, total_rows=rows * 3)


def source(shift: float = 0.0, rows: int = 400) -> FrameSource:
    rng = np.random.default_rng(11)
    return lambda request, most: (frame(rng, 900), frame(rng, rows, shift))


@pytest.fixture
def options(tmp_path: Path) -> ReportOptions:
    return ReportOptions(folder=tmp_path / "reports")


@pytest.fixture
def service(options: ReportOptions) -> Iterator[ReportService]:
    made = ReportService(options, source(shift=2.0))
    yield made
    made.close()


def test_a_shifted_column_is_found_and_the_others_are_not_with_method_and_threshold_named(
    service: ReportService,
) -> None:
    started = service.start(request_at())
    assert started.state in (ReportState.QUEUED, ReportState.RUNNING)
    report = service.wait(started.id, 120)
    assert report.state is ReportState.DONE, report.error
    by_name = {c.column: c for c in report.columns}
    assert by_name["mean"].drifted
    assert by_name["mean"].value == pytest.approx(2.0, rel=0.15)  # W1 of a pure shift is the shift
    assert not by_name["std"].drifted
    assert not by_name["predicted"].drifted
    assert {c.method for c in report.columns} == {"wasserstein", "jensenshannon"}
    assert all(c.threshold >= 0.1 for c in report.columns)
    assert (report.reference_rows, report.current_rows, report.total_rows) == (900, 400, 1200)

    html = service.document(report.id, "html")
    assert html.lstrip().startswith(b"<!DOCTYPE html>")
    assert b"<script>three" not in html
    assert b"\\u2039/script\\u203a\\u2039script\\u203athree" in html
    evidently = json.loads(service.document(report.id, "json"))
    methods = {m["config"].get("method") for m in evidently["metrics"] if m["config"]["type"].endswith("ValueDrift")}
    assert methods == {"wasserstein", "jensenshannon"}
    assert all("threshold" in m["config"] for m in evidently["metrics"] if m["config"]["type"].endswith("ValueDrift"))

    again = service.start(request_at())
    assert again == service.get(report.id)
    assert service.newest() == (again,)


def test_too_few_records_is_a_result_of_its_own(options: ReportOptions) -> None:
    service = ReportService(options, source(rows=7))
    report = service.wait(service.start(request_at()).id, 30)
    service.close()
    assert report.state is ReportState.NOT_ENOUGH_DATA
    assert report.error == "not enough data: 7 rows in the window, 30 are needed"
    with pytest.raises(NotFound, match="no html yet"):
        service.document(report.id, "html")


def test_a_worker_over_its_memory_fails_with_a_reason_and_may_be_tried_again(options: ReportOptions) -> None:
    service = ReportService(replace(options, memory_bytes=200 << 20), source())
    report = service.wait(service.start(request_at()).id, 60)
    assert report.state is ReportState.FAILED
    assert report.error
    assert str(options.folder) not in report.error
    assert service.start(request_at()).state is not ReportState.FAILED
    service.close()


def test_a_worker_over_its_time_is_killed(options: ReportOptions) -> None:
    service = ReportService(replace(options, timeout_s=0.2), source())
    report = service.wait(service.start(request_at()).id, 30)
    service.close()
    assert report.state is ReportState.FAILED
    assert report.error == "the report took longer than 0.2 s and was stopped"


def test_a_public_error_of_the_frame_source_reaches_the_reader_and_a_private_one_does_not(
    options: ReportOptions,
) -> None:
    def refuse(request: ReportRequest, most: int) -> tuple[Frame, Frame]:
        if request.model == "digits":
            raise InvalidRequest("version '3' has no reference profile")
        raise RuntimeError("/secret/place")

    service = ReportService(options, refuse)
    public = service.wait(service.start(request_at()).id, 10)
    private = service.wait(service.start(request_at(model="other")).id, 10)
    service.close()
    assert public.error == "version '3' has no reference profile"
    assert private.error == "the report failed: see the monitor's log"


def test_a_report_left_unfinished_is_made_after_a_restart(options: ReportOptions) -> None:
    first = ReportService(options, source())
    started = first.start(request_at())
    first.close()
    assert first.get(started.id).state in (ReportState.QUEUED, ReportState.RUNNING)
    second = ReportService(options, source())
    report = second.wait(started.id, 120)
    second.close()
    assert report.state is ReportState.DONE, report.error


def test_more_reports_than_may_wait_are_refused(options: ReportOptions) -> None:
    service = ReportService(replace(options, waiting=1), source())
    with pytest.raises(Overloaded):
        _ = [service.start(request_at(hour)) for hour in range(4)]
    service.close()


def test_only_the_newest_finished_reports_are_kept(options: ReportOptions) -> None:
    service = ReportService(replace(options, keep=2), source(rows=3))
    ids = [service.wait(service.start(request_at(hour)).id, 10).id for hour in range(5)]
    service.close()
    assert len(service.newest()) == 2
    assert ids[-1] in {r.id for r in service.newest()}


@pytest.mark.parametrize("name", ["../../etc", "0" * 19, "0" * 20, "G" * 20, ""])
def test_an_unknown_or_evil_id_is_not_found(service: ReportService, name: str) -> None:
    with pytest.raises(NotFound):
        service.get(name)


@pytest.mark.parametrize("rows", [40, 300, 2000])
def test_thresholds_are_rarely_exceeded_by_healthy_data_at_any_sample_size(rows: int) -> None:
    """The classic mistake: a fixed threshold, or a p-value, whose false-alarm rate depends on the sample size."""
    rng = np.random.default_rng(rows)
    columns = tuple(Column(name=f"f{i}") for i in range(20))
    reference = finite_frame(columns, rng.normal(size=(1000, 20)), 1000)
    thresholds = np.array([t.threshold for t in column_tests(reference, rows, seed=1)])
    exceeded = 0
    for _ in range(25):
        current = np.sort(rng.normal(size=(rows, 20)), axis=0)
        at = (np.arange(256) + 0.5) / 256
        ours = current[(at * rows).astype(int)]
        theirs = np.sort(reference.values, axis=0)[(at * 1000).astype(int)]
        distance = np.abs(ours - theirs).mean(axis=0) / reference.values.std(axis=0)
        exceeded += int((distance >= thresholds).sum())
    assert exceeded / 500 <= 0.04


def test_rows_that_are_not_finite_are_left_out_and_counted() -> None:
    values = np.array([[0.0, 1.0], [np.nan, 2.0], [3.0, np.inf], [4.0, 5.0]])
    found = finite_frame((Column(name="a"), Column(name="b")), values, 4)
    assert found.dropped_rows == 2
    np.testing.assert_array_equal(found.values, [[0.0, 1.0], [4.0, 5.0]])


def test_sampling_keeps_the_order_and_is_deterministic() -> None:
    values = np.arange(1000.0)[:, None]
    first = sample_rows(values, 100, seed=3)
    assert len(first) == 100
    assert (np.diff(first[:, 0]) > 0).all()
    np.testing.assert_array_equal(first, sample_rows(values, 100, seed=3))
