"""Reports about drift, data and quality: on demand, on schedule and at alarms; their figures kept; nothing sent."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from export.contracts.errors import Overloaded
from monitoring import schema as t
from monitoring.cycle import Loop, make_loop, run_cycle
from monitoring.metrics import MonitorCollector
from monitoring.options import MonitorOptions, ReportingOptions
from monitoring.report_frames import Column, finite_frame
from monitoring.report_plan import alarm_span, plan_reports
from monitoring.report_quality import class_frames, figure, value_frames
from monitoring.report_rows import labelled_answers, read_figures, write_figures
from monitoring.report_shelf import Report, ReportCause, ReportKind, ReportRequest, ReportState
from monitoring.reports import ReportOptions, ReportService
from monitoring.server import report_service
from monitoring.store import Store
from tests.support import monitor_world as w

MIDDLE, END = (datetime.fromtimestamp(w.START_S + s, UTC) for s in (90, 150))


class Lived:
    """A day in the life of the digits, read in, with the real report service beside it."""

    def __init__(self, folder: Path) -> None:
        self.options: MonitorOptions = w.options(folder)
        w.day(self.options.records_root, rate=20)
        self.store = Store(self.options.database_url)
        catalogue = w.catalogue(folder / "reference")
        self.loop: Loop = make_loop(self.options, self.store, catalogue)
        while run_cycle(self.loop):
            pass
        self.reports = report_service(self.options, self.store, catalogue)

    def made(self, kind: ReportKind, start: datetime = MIDDLE, end: datetime = END) -> Report:
        request = ReportRequest(model="digits", version="1", start=start, end=end, kind=kind)
        return self.reports.wait(self.reports.start(request).id, 150)


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lived]:
    made = Lived(tmp_path_factory.mktemp("reports"))
    yield made
    made.reports.close()
    made.store.close()


def test_a_drift_report_is_kept_column_by_column_and_shown_as_metrics(lived: Lived) -> None:
    report = lived.made(ReportKind.DRIFT)
    assert report.state is ReportState.DONE, report.error
    kept = read_figures(lived.store, "digits", "1")
    assert [(f.name, f.method, f.threshold, f.value) for f in kept] == [
        (c.column, c.method, c.threshold, c.value) for c in report.columns
    ]
    assert {f.name for f in kept if f.drifted} >= {"x:mean", "x:std"}
    assert {f.method for f in kept} == {"wasserstein", "jensenshannon"}
    write_figures(lived.store, report)
    assert read_figures(lived.store, "digits", "1") == kept  # once more is not twice
    samples = {
        (s.name, s.labels["column"], s.labels["method"]): s.value
        for family in MonitorCollector(lived.store, None).collect()
        for s in family.samples
        if s.name.startswith("hardcase_evidently")
    }
    mean = next(f for f in kept if f.name == "x:mean")
    assert samples["hardcase_evidently_column_drift", "x:mean", "wasserstein"] == mean.value
    assert samples["hardcase_evidently_column_drift_threshold", "x:mean", "wasserstein"] == mean.threshold


@pytest.mark.slow
def test_a_summary_tells_what_the_columns_look_like(lived: Lived) -> None:
    report = lived.made(ReportKind.SUMMARY)
    assert report.state is ReportState.DONE, report.error
    by_name = {(c.column, c.method): c.value for c in report.columns}
    assert by_name["x:mean", "missing value share"] == 0.0
    assert by_name["x:mean", "min value"] <= by_name["x:mean", "0.5 quantile"] <= by_name["x:mean", "max value"]
    assert by_name["all", "row count"] == report.current_rows
    assert not any(c.drifted for c in report.columns)


def test_quality_falls_where_the_pictures_are_turned_and_has_its_threshold_from_the_reference(lived: Lived) -> None:
    bad = lived.made(ReportKind.QUALITY)
    assert bad.state is ReportState.DONE, bad.error
    (accuracy,) = (c for c in bad.columns if (c.column, c.method) == ("all", "accuracy"))
    pairs = labelled_pairs(lived, MIDDLE, END)
    assert accuracy.value == pytest.approx(float(np.mean([a == b for a, b in pairs])))
    assert accuracy.drifted
    assert accuracy.threshold is not None
    assert {c.method for c in bad.columns} >= {"accuracy", "F1", "recall", "precision"}
    assert {c.column for c in bad.columns if c.method == "F1"} >= {"seven", "all"}
    assert "labels may be a biased sample" in bad.sampling
    assert bad.reference_rows == 300


def labelled_pairs(lived: Lived, start: datetime, end: datetime) -> list[tuple[str, str]]:
    span = (int(start.timestamp()) * w.SECOND, int(end.timestamp()) * w.SECOND)
    rows, total = labelled_answers(lived.store, "digits", "1", *span, 10_000)
    assert len(rows) == total
    sampled, of = labelled_answers(lived.store, "digits", "1", *span, 10)
    assert sampled == rows[:10]
    assert of == total
    return [(r["label"].strip('"'), w.NAMES[r["predicted"]]) for r in rows if r["predicted"] is not None]


def test_only_accuracy_below_what_chance_explains_counts_as_fallen() -> None:
    names = ["a", "b"]
    profile = w.digits().profile
    reference, current = class_frames(profile, w.NAMES, [(i % 10, i % 10) for i in range(100)], 100)
    assert reference.rows == int(profile.classes.confusion.sum())
    high = figure("all", "accuracy", 1.0, reference, current)
    low = figure("all", "accuracy", 0.5, reference, current)
    assert (high.drifted, low.drifted) == (False, True)
    assert figure("seven", "F1", 0.1, reference, current).threshold is None
    nothing, values = value_frames([(1.0, 2.0)], 1)
    assert (nothing.rows, values.rows) == (0, 1)
    assert class_frames(None, names, [], 0)[0].rows == 0


def recorder(full_after: int = 10**6) -> tuple[list[ReportRequest], Any]:
    asked: list[ReportRequest] = []

    def start(request: ReportRequest) -> Report:
        if len(asked) >= full_after:
            raise Overloaded("too many reports are waiting", retry_after_s=1)
        asked.append(request)
        return Report(id=request.id, model="m", version="1", start="", end="", state=ReportState.QUEUED, created_at="")

    return asked, start


def test_the_schedule_follows_the_time_of_the_log_and_makes_each_whole_span_once(tmp_path: Path) -> None:
    options = w.options(tmp_path, reports=ReportingOptions(every_s=60, kinds=("drift", "quality")))
    store = Store(options.database_url)
    loop = make_loop(options, store, w.catalogue(tmp_path / "reference"))
    replica, asked = w.Replica(options.records_root), []
    images = w.digits().images[:40]

    def second(at: int) -> None:
        times = [(w.START_S + at) * w.SECOND + i for i in range(40)]
        replica.offer(w.batch(images, [f"{at}-{i}" for i in range(40)], times))
        while run_cycle(loop):
            pass
        seen, start = recorder()
        plan_reports(store, options, start)
        asked.append([(r.kind.value, r.cause.value, int(r.start.timestamp()) - w.START_S) for r in seen])

    base = -(w.START_S % 60)
    second(base + 30)  # the monitor is new here: the span before is not its own
    second(base + 50)
    second(base + 61)
    second(base + 90)
    second(base + 320)  # three spans without traffic, then one that only just began
    replica.close()
    assert asked[0] == asked[1] == []
    assert asked[2] == [("drift", "schedule", base), ("quality", "schedule", base)]
    assert asked[3] == asked[4] == []
    store.close()


def test_every_alarm_that_fires_gets_its_own_reports_once_even_when_the_queue_was_full(tmp_path: Path) -> None:
    options = w.options(tmp_path, reports=ReportingOptions(every_s=0))
    store = Store(options.database_url)
    at_ns = (w.START_S + 7000) * w.SECOND
    with store.write() as connection:
        for number, state in enumerate(("firing", "recovering", "resolved"), 1):
            connection.execute(t.alarm_events.insert().values(**filled(
                t.alarm_events, alarm_id="a" * 16, number=number, model="digits", version="1", state=state,
                at_ns=at_ns)))  # fmt: skip
        alarm = filled(t.alarms, id="a" * 16, model="digits", version="1", from_ns=w.START_S * w.SECOND)
        connection.execute(t.alarms.insert().values(**alarm))
    asked, start = recorder(full_after=1)
    with pytest.raises(Overloaded):
        plan_reports(store, options, start)
    again, start = recorder()
    plan_reports(store, options, start)
    assert [(r.kind, r.cause, r.alarm) for r in again] == [
        (ReportKind.DRIFT, ReportCause.ALARM, "a" * 16),
        (ReportKind.QUALITY, ReportCause.ALARM, "a" * 16),
    ]
    assert again[0].id == asked[0].id  # so the one that was started already is found, not made twice
    assert again[0].end.timestamp() - again[0].start.timestamp() == 3600
    once_more, start = recorder()
    plan_reports(store, options, start)
    assert once_more == []
    plain = ReportRequest(model="digits", version="1", start=again[0].start, end=again[0].end)
    assert plain.id != again[0].id
    store.close()


def filled(table: sa.Table, **given: Any) -> dict[str, Any]:
    """A whole row: zeros and empty texts where nothing is said."""
    made: dict[str, Any] = {}
    for column in table.columns:
        if column.name in given:
            made[column.name] = given[column.name]
        elif not column.nullable and not (column.primary_key and column.autoincrement is True):
            made[column.name] = [] if isinstance(column.type, sa.JSON) else column.type.python_type()
    return made


def test_an_alarms_span_is_whole_windows_and_an_hour_at_most() -> None:
    assert alarm_span(0, 10_000 * w.SECOND, 60) == (6420, 10_020)
    assert alarm_span(9_999 * w.SECOND, 10_000 * w.SECOND, 60) == (9_960, 10_020)
    assert alarm_span(20_000 * w.SECOND, 10_000 * w.SECOND, 60) == (9_960, 10_020)


def test_old_reports_go_by_count_and_by_bytes_but_never_the_newest(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(3, 1))
    few = finite_frame((Column(name="a"),), values, 3)
    service = ReportService(ReportOptions(folder=tmp_path, keep=100, keep_bytes=1), lambda request, most: (few, few))
    ids = []
    for hour in range(3):
        start = datetime.fromtimestamp(w.START_S + 3600 * hour, UTC)
        request = ReportRequest(model="digits", version="1", start=start, end=END.replace(year=2030))
        ids.append(service.wait(service.start(request).id, 10).id)
    service.close()
    assert [r.id for r in service.newest()] == [ids[-1]]


NETWORK_PROBE = """
import socket, sys
from monitoring.report_worker import refuse_network
refuse_network()
for attempt in (lambda: socket.create_connection(("127.0.0.1", 9), 1),
                lambda: socket.getaddrinfo("localhost", 80),
                lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9))):
    try:
        attempt()
        print("went out")
    except PermissionError as error:
        print("refused")
    except OSError as error:
        print("tried")
"""


def test_a_process_that_makes_a_report_cannot_reach_a_network() -> None:
    guarded = subprocess.run([sys.executable, "-c", NETWORK_PROBE], capture_output=True, text=True, check=True)
    assert guarded.stdout.split() == ["refused"] * 3
    bare = NETWORK_PROBE.replace("refuse_network()\nfor", "for")  # without the guard the same code gets out
    unguarded = subprocess.run([sys.executable, "-c", bare], capture_output=True, text=True, check=True)
    assert "refused" not in unguarded.stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="there is no strace on the PATH")
def test_the_kernel_saw_no_report_connect_anywhere(tmp_path: Path) -> None:
    """The system calls of a whole report; the positive control shows that a connect would have been seen."""
    import json

    rng = np.random.default_rng(1)
    columns = [{"name": "a", "method": "wasserstein", "threshold": 0.1, "categories": []}]
    facts = {"model": "m", "version": "1", "sampling": "every record"}
    (tmp_path / "job.json").write_text(
        json.dumps({"kind": "drift", "facts": facts, "drift_share": 0.5, "columns": columns})
    )
    np.savez(tmp_path / "frames.npz", reference=rng.normal(size=(200, 1)), current=rng.normal(size=(200, 1)))
    worker = [sys.executable, "-m", "monitoring.report_worker", str(tmp_path), str(4 << 30), "170"]
    report = traced(worker, tmp_path / "report.trace")
    assert (tmp_path / "report.html").stat().st_size > 100_000
    assert not [line for line in report if "AF_INET" in line]
    probe = "import socket; s = socket.socket(); s.settimeout(1); s.connect_ex(('127.0.0.1', 9))"
    assert [line for line in traced([sys.executable, "-c", probe], tmp_path / "probe.trace") if "AF_INET" in line]


def traced(command: list[str], trace: Path) -> list[str]:
    tracer = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg", "-o", str(trace)]
    subprocess.run([*tracer, *command], check=True, timeout=170, capture_output=True)
    return trace.read_text().splitlines()
