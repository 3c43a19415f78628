"""Probes: doubtful records are drawn for the alarms with known chances, and for nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from export.contracts.cases import FlagReason
from monitoring import schema as t
from monitoring.alarms.draw import chances_of, draw_chances
from monitoring.case_pools import AUDIT_BIT, PROBE_BIT
from monitoring.cycle import Loop, make_loop
from monitoring.keys import audit_ranks
from monitoring.options import CaseOptions
from monitoring.records.record import Feedback
from monitoring.store import Store
from tests.support import monitor_world as w
from tests.support.monitor_child import drain

RATES = (0.1, 0.8)
CASES = CaseOptions(audit_rate=RATES[0], probe_rate=RATES[1], audits_per_window=1000, probes_per_window=1000)
RECORDS = 600


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    """A window of digits, a third of them turned, every one with its label."""
    folder = tmp_path_factory.mktemp("probes")
    d, replica = w.digits(), w.Replica(folder / "records")
    for part in range(RECORDS // 100):
        here = np.arange(part * 100, part * 100 + 100)
        images = w.turned(d.images[here]) if part % 3 == 2 else d.images[here]
        ids, times = [f"r{i}" for i in here], [w.START_S * w.SECOND + int(i) for i in here]
        replica.offer(w.batch(images, ids, times))
        said = [(ids[i], times[i] + w.SECOND, w.NAMES[d.labels[here[i]]]) for i in range(100)]
        replica.feedback(*(Feedback(record_id=i, model="digits", time_ns=at, label=label) for i, at, label in said))
    replica.close()
    options = w.options(folder, cases=CASES)
    loop = make_loop(options, Store(options.database_url), w.catalogue(folder / "reference"))
    drain(loop)
    yield loop
    loop.store.close()


def rows(loop: Loop, table: sa.Table) -> list[dict[str, Any]]:
    with loop.store.read() as connection:
        return [dict(row) for row in connection.execute(sa.select(table)).mappings()]


def test_each_record_is_drawn_by_its_lot_and_the_chance_of_its_bin(day: Loop) -> None:
    found = rows(day, t.records)
    assert len(found) == RECORDS
    lots = audit_ranks(
        np.array([r["id_hash"] for r in found], np.int64), np.array([r["time_ns"] for r in found], np.int64)
    )
    chances = chances_of([r["p_wrong"] for r in found], *RATES)
    drawn = np.where(lots < RATES[0], AUDIT_BIT, np.where(lots < chances, PROBE_BIT, 0))
    assert [r["flags"] & (AUDIT_BIT | PROBE_BIT) for r in found] == drawn.tolist()
    doubtful = chances > 0.4
    assert 0.5 < (drawn[doubtful] > 0).mean() < 1.0
    assert (drawn[~doubtful] > 0).mean() < 0.35
    assert {r["flags"] for r in rows(day, t.cases) if r["flags"] & PROBE_BIT}, "a probe is a case"


def test_labels_of_both_draws_count_with_the_chance_that_they_had(day: Loop) -> None:
    drawn = {r["record_id"]: r for r in rows(day, t.records) if r["flags"] & (AUDIT_BIT | PROBE_BIT)}
    labels = rows(day, t.audit_labels)
    assert {row["record_id"] for row in labels} == set(drawn)
    for row in labels:
        assert row["inclusion_probability"] == float(chances_of(drawn[row["record_id"]]["p_wrong"], *RATES))
    assert {row["use"] for row in labels} == {"counted"}
    assert {row["probe_ratio"] for row in rows(day, t.audit_windows)} == {RATES[1] / RATES[0]}


def test_estimates_of_accuracy_go_by_the_uniform_draw_alone(day: Loop) -> None:
    audited = [r for r in rows(day, t.records) if r["flags"] & AUDIT_BIT]
    windows = rows(day, t.windows)
    assert sum(window["audit_labelled"] for window in windows) == len(audited)
    for case in rows(day, t.cases):
        assert (case["inclusion_probability"] is not None) == bool(case["flags"] & AUDIT_BIT)


def test_an_alarms_estimate_weighs_each_label_by_its_chance(day: Loop) -> None:
    labels = {row["id"]: row for row in rows(day, t.audit_labels)}
    (alarm, *_) = [a for a in rows(day, t.alarms) if a["promise"] == "lifetime"]
    behind = [
        x
        for x in labels.values()
        if x["position"] is not None and alarm["first_position"] <= x["position"] <= alarm["fired_position"]
    ]
    weights = np.array([1.0 / x["inclusion_probability"] for x in behind])
    wrong = np.array([x["wrong"] for x in behind])
    assert alarm["estimate"] == pytest.approx(float(weights @ wrong / weights.sum()))
    assert alarm["estimate"] < wrong.mean(), "the plain share overstates what probes prefer"


def test_without_probes_nothing_is_drawn_but_the_audit(tmp_path: Path) -> None:
    d, replica = w.digits(), w.Replica(tmp_path / "records")
    replica.offer(w.batch(d.images[:50], [f"r{i}" for i in range(50)], [w.START_S * w.SECOND + i for i in range(50)]))
    replica.close()
    options = w.options(tmp_path, cases=dataclasses.replace(CASES, probe_rate=0.0))
    loop = make_loop(options, Store(options.database_url), w.catalogue(tmp_path / "reference"))
    drain(loop)
    assert not [r for r in rows(loop, t.records) if r["flags"] & PROBE_BIT]
    assert {row["probe_ratio"] for row in rows(loop, t.audit_windows)} == {0.0}
    assert FlagReason.PROBE.value not in str(loop.store.cases().cases)
    loop.store.close()
    assert set(draw_chances(0.0, 0.5)) == {0.0}, "no probes without an audit"
