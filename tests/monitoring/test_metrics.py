"""Metrics: every family has values from a real log, names are fixed, and request data cannot add a series."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as modern
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from export.contracts.cases import FlagReason
from monitoring.cycle import make_loop
from monitoring.drift import Method
from monitoring.metrics import FAMILIES, MonitorCollector
from monitoring.metrics_notify import NOTIFY_FAMILIES
from monitoring.metrics_reports import REPORT_FAMILIES
from monitoring.metrics_slices import RATE, SIZE
from monitoring.metrics_tasks import TASK_FAMILIES
from monitoring.metrics_tools import TOOL_FAMILIES
from monitoring.monitor import Monitor
from monitoring.review.counts import Counts
from monitoring.store import Store
from tests.support import monitor_world as w
from tests.support.console_store import fill
from tests.support.monitor_child import drain


def series(store: Store, loop: object) -> dict[str, int]:
    registry = CollectorRegistry()
    registry.register(MonitorCollector(store, loop, Counts()))  # type: ignore[arg-type]
    text = generate_latest(registry).decode()
    return {f.name: len(f.samples) for f in text_string_to_metric_families(text)}


def test_every_family_is_served_and_ten_thousand_ids_add_no_series(tmp_path: Path) -> None:
    d = w.digits()
    options = w.options(tmp_path)
    loop = make_loop(options, Store(options.database_url), w.catalogue(tmp_path / "reference"))
    replica = w.Replica(tmp_path / "records")
    images = w.turned(d.images[:500])
    counts = []
    for turn in range(2):
        for part in range(1 if turn == 0 else 20):
            ids = [f"id-{turn}-{part}-{i}" for i in range(500)]
            replica.offer(w.batch(images, ids, [w.START_S * w.SECOND + i for i in range(500)]))
        drain(loop)
        counts.append(series(loop.store, loop))
    assert counts[0] == counts[1]
    assert set(counts[0]) == {family.name for family in FAMILIES}
    empty = {name for name, n in counts[0].items() if n == 0}
    # Nothing is unreadable, labelled, reviewed, trained or reported here, and a classifier answers one thing a row.
    unlabelled = {"hardcase_monitor_dead_letters", "hardcase_accuracy_labelled", "hardcase_alarm_evidence"}
    reviewed = ("decisions", "agreement_ratio", "agreement_kappa")
    unlabelled |= {f"hardcase_review_{name}" for name in reviewed}
    others = (*TASK_FAMILIES, *REPORT_FAMILIES, *TOOL_FAMILIES, *NOTIFY_FAMILIES[:3], RATE, SIZE)
    untrained = {"hardcase_training_progress_ratio"}
    assert empty == unlabelled | untrained | {family.name for family in others}
    assert all(family.text.endswith(".") for family in FAMILIES)
    replica.close()
    loop.store.close()


@pytest.mark.timeout(120)
def test_the_monitor_follows_a_live_log_and_says_how_it_is_doing(tmp_path: Path) -> None:
    d = w.digits()
    options = w.options(tmp_path)
    store = Store(options.database_url)
    turns: list[int] = []
    monitor = Monitor(options, store, w.catalogue(tmp_path / "reference"), on_cycle=lambda: turns.append(1))
    assert monitor.health().heartbeat_age_s is None
    replica = w.Replica(tmp_path / "records")
    monitor.start()
    monitor.start()
    for i in range(5):
        replica.offer(
            w.batch(d.images[:20], [f"{i}-{j}" for j in range(20)], [w.START_S * w.SECOND + j for j in range(20)])
        )
    until = time.monotonic() + 60
    while monitor.health().records < 100 and time.monotonic() < until:
        time.sleep(0.05)
    health = monitor.health()
    assert (health.records, health.error) == (100, None)
    assert health.heartbeat_age_s is not None
    assert turns
    replica.close()
    assert monitor.stop()
    store.close()


@pytest.mark.timeout(120)
def test_a_database_that_fails_is_tried_again_and_nothing_is_lost(tmp_path: Path) -> None:
    options = w.options(tmp_path)
    store = Store(options.database_url)
    monitor = Monitor(options, store, w.catalogue(tmp_path / "reference"))
    replica = w.Replica(tmp_path / "records")
    replica.offer(w.batch(w.digits().images[:9], [str(i) for i in range(9)], [w.START_S * w.SECOND] * 9))
    commit, failures = monitor.loop.ingest.commit, []

    class Flaky:
        flagged = monitor.loop.ingest.flagged
        prepare = staticmethod(monitor.loop.ingest.prepare)

        @staticmethod
        def commit(connection: object, prepared: object) -> None:
            commit(connection, prepared)  # type: ignore[arg-type]
            if len(failures) < 3:
                failures.append(1)
                raise OSError("database is locked")

    monitor.loop.ingest = Flaky()  # type: ignore[assignment]
    monitor.start()
    until = time.monotonic() + 60
    while not store.windows("digits") and time.monotonic() < until:
        time.sleep(0.05)
    assert monitor.stop()
    assert len(failures) == monitor.loop.progress.errors == 3
    assert store.windows("digits")[0].rows == 9
    replica.close()
    store.close()


@pytest.mark.timeout(170)
def test_after_ten_minutes_of_outage_it_catches_up_many_times_faster_than_live(tmp_path: Path) -> None:
    d, rate = w.digits(), 50
    replica = w.Replica(tmp_path / "records")
    for second in range(0, 600, 10):
        at = (w.START_S + second) * w.SECOND
        n = rate * 10
        images = d.images[second % 297 :][:n]
        ids = [f"{second}-{i}" for i in range(len(images))]
        replica.offer(w.batch(images, ids, [at + i * w.SECOND // rate for i in range(len(images))]))
    total = sum(a.captured for a in replica.writer.accounting().values())
    options = w.options(tmp_path, batch_bytes=1 << 20)
    loop = make_loop(options, Store(options.database_url), w.catalogue(tmp_path / "reference"))
    started = time.monotonic()
    drain(loop)
    assert time.monotonic() - started < 600 / 5
    assert loop.progress.records == total == 30_000
    assert loop.progress.lag_bytes < 4096
    (account,) = loop.store.accounting()
    assert account.ingested == account.captured == total
    assert account.unexplained == 0
    replica.close()
    loop.store.close()


def test_every_case_reason_and_method_is_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text()
    missing = [name for name in [*FlagReason, *Method] if f"`{name}`" not in page]
    assert not missing


def test_the_count_of_flagged_records_names_one_of_them(tmp_path: Path) -> None:
    d = w.digits()
    options = w.options(tmp_path)
    loop = make_loop(options, Store(options.database_url), w.catalogue(tmp_path / "reference"))
    replica = w.Replica(tmp_path / "records")
    long = "x" * 120  # longer than OpenMetrics lets an exemplar be
    for part, prefix in enumerate(("short", long)):
        ids = [f"{prefix}-{i}" for i in range(200)]
        replica.offer(w.batch(w.turned(d.images[:200]), ids, [w.START_S * w.SECOND + part] * 200))
        drain(loop)
        registry = CollectorRegistry()
        registry.register(MonitorCollector(loop.store, loop))
        families = {f.name: f for f in openmetrics(modern.generate_latest(registry).decode())}
        samples = families["hardcase_monitor_flagged_records"].samples
        counts = {s.labels["reason"]: s.value for s in samples}
        assert counts["low_confidence"] > 5 * (part + 1)
        for sample in samples:
            assert (sample.exemplar is None) == (part == 1)
            if sample.exemplar is not None:
                assert sample.exemplar.labels["record_id"].startswith("short-")
                assert float(sample.exemplar.timestamp) == pytest.approx(w.START_S)
    replica.close()
    loop.store.close()


def test_a_table_that_cannot_be_read_costs_its_own_metrics_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(f"sqlite:///{tmp_path}/m.db")
    fill(store, windows=2, cases=3)
    collector = MonitorCollector(store, None, Counts())
    whole = {family.name for family in collector.collect() if family.samples}
    with store.write() as connection:
        connection.execute(sa.text("ALTER TABLE signals RENAME TO signals_away"))
    for _ in range(2):
        left = {family.name for family in collector.collect() if family.samples}
        assert {name.removeprefix("hardcase_").split("_")[0] for name in whole - left} == {"drift"}
    assert [r.getMessage() for r in caplog.records] == ["the metrics of signals cannot be read"]
    with store.write() as connection:
        connection.execute(sa.text("ALTER TABLE signals_away RENAME TO signals"))
    assert {family.name for family in collector.collect() if family.samples} == whole
    store.close()
