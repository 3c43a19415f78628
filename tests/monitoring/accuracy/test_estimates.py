"""Estimates over a real log: what they say, what they refuse to say, and that the order of arrival leaves no trace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from monitoring import schema as t
from monitoring.accuracy.estimate import AccuracyScope, Measure, Method
from monitoring.accuracy.queries import AccuracyRow, current, estimates, latest, now
from monitoring.cycle import Loop, make_loop
from monitoring.options import CaseOptions
from monitoring.records.record import Feedback
from monitoring.store import Store
from tests.support import monitor_world as w
from tests.support.monitor_child import drain


def loop_in(folder: Path, audit_rate: float = 0.25) -> Loop:
    cases = CaseOptions(audit_rate=audit_rate, audits_per_window=1000)
    options = w.options(folder, cases=cases)
    return make_loop(options, Store(options.database_url), w.catalogue(folder / "reference"))


def send(
    replica: w.Replica, rows: int, *, second: int, turned: bool = False, label: bool = False, **more: str
) -> float:
    """Records within one second; returns how many were answered right."""
    d = w.digits()
    chosen = np.random.default_rng(second).integers(0, len(d.images), rows)
    images = w.turned(d.images[chosen], 35.0) if turned else d.images[chosen]
    ids = [f"{second}-{i}" for i in range(rows)]
    times = [(w.START_S + second) * w.SECOND + i for i in range(rows)]
    replica.offer(w.batch(images, ids, times, **more))  # type: ignore[arg-type]
    if label:
        replica.feedback(
            *(
                Feedback(record_id=i, model="digits", time_ns=at + w.SECOND, label=w.NAMES[d.labels[c]])
                for i, at, c in zip(ids, times, chosen, strict=True)
            )
        )
    return float((d.answer(images)["logits"].argmax(axis=1) == d.labels[chosen]).mean())


def by_method(rows: tuple[AccuracyRow, ...], scope: AccuracyScope, variant: str = "all") -> dict[Method, AccuracyRow]:
    return {r.method: r for r in rows if r.scope is scope and r.variant == variant}


def test_without_labels_the_rehearsal_is_near_where_confidence_is_far_off(tmp_path: Path) -> None:
    loop, replica = loop_in(tmp_path), w.Replica(tmp_path / "records")
    healthy = send(replica, 600, second=0)
    turned = send(replica, 600, second=70, turned=True)
    drain(loop)
    rows = estimates(loop.store, "digits", scope=AccuracyScope.WINDOW)
    first, second = (
        by_method(tuple(r for r in rows if r.start_s == w.START_S + at), AccuracyScope.WINDOW) for at in (0, 60)
    )
    assert turned < healthy - 0.3, "the world must be one in which accuracy collapses"
    assert first[Method.REHEARSAL].value == pytest.approx(healthy, abs=0.04)
    assert second[Method.REHEARSAL].value == pytest.approx(turned, abs=0.08)
    assert second[Method.CONFIDENCE].value is not None
    assert second[Method.CONFIDENCE].value - turned > 0.12, "plain confidence must fail here, or this shows nothing"
    assert not second[Method.CONFIDENCE].trusted
    assert "points" in second[Method.CONFIDENCE].caveat
    assert second[Method.REHEARSAL].best
    assert second[Method.AUDIT].value is None
    assert second[Method.AUDIT].missing == "not enough data: 0 of 30 audited labels"
    replica.close()
    loop.store.close()


def test_late_labels_make_audits_the_best_estimate_with_an_interval_that_holds_the_truth(tmp_path: Path) -> None:
    loop, replica = loop_in(tmp_path), w.Replica(tmp_path / "records")
    right = send(replica, 800, second=0, turned=True)
    drain(loop)
    before = now(latest(loop.store, "digits"))
    assert before is not None
    assert before.method is Method.REHEARSAL
    send(replica, 1, second=1)
    d = w.digits()
    chosen = np.random.default_rng(0).integers(0, len(d.images), 800)
    replica.feedback(
        *(
            Feedback(
                record_id=f"0-{i}", model="digits", time_ns=(w.START_S + 50) * w.SECOND, label=w.NAMES[d.labels[c]]
            )
            for i, c in enumerate(chosen)
        )
    )
    drain(loop)
    rows = latest(loop.store, "digits")
    best = now(rows)
    assert best is not None
    assert best.method is Method.AUDIT
    assert 150 < best.labels < 250, "a quarter is audited: labels of other records must not count"
    assert best.low is not None
    assert best.high is not None
    assert best.low <= right <= best.high
    assert f"from {best.labels} audited answers" in best.sentence
    assert current(rows)["best"] == best
    assert by_method(rows, AccuracyScope.DAY)[Method.AUDIT].labels == best.labels
    replica.close()
    loop.store.close()


def test_too_few_rows_and_too_few_labels_are_said_and_nothing_is_made_up(tmp_path: Path) -> None:
    loop, replica = loop_in(tmp_path, audit_rate=1.0), w.Replica(tmp_path / "records")
    send(replica, 20, second=0, label=True)
    drain(loop)
    rows = latest(loop.store, "digits")
    assert {r.value for r in rows} == {None}
    assert {r.missing for r in rows if r.method is not Method.AUDIT} == {"not enough data: 20 of 50 rows"}
    assert {r.missing for r in rows if r.method is Method.AUDIT} == {"not enough data: 20 of 30 audited labels"}
    assert now(rows) is None
    replica.close()
    loop.store.close()


def test_shadow_answers_are_estimated_apart_and_never_audited(tmp_path: Path) -> None:
    loop, replica = loop_in(tmp_path, audit_rate=1.0), w.Replica(tmp_path / "records")
    send(replica, 200, second=0, label=True)
    send(replica, 200, second=2, turned=True, variant="shadow")
    drain(loop)
    rows = latest(loop.store, "digits")
    assert {r.variant for r in rows} == {"all", "shadow"}
    together, shadow = by_method(rows, AccuracyScope.WINDOW), by_method(rows, AccuracyScope.WINDOW, "shadow")
    assert Method.AUDIT not in shadow
    assert together[Method.AUDIT].labels == 200
    assert together[Method.CONFIDENCE].rows == 200, "what no client received must not enter"
    assert shadow[Method.CONFIDENCE].rows == 200
    replica.close()
    loop.store.close()


def test_canary_and_champion_are_estimated_together_and_apart(tmp_path: Path) -> None:
    loop, replica = loop_in(tmp_path), w.Replica(tmp_path / "records")
    send(replica, 200, second=0)
    send(replica, 100, second=2, variant="canary")
    drain(loop)
    rows = {
        r.variant: r for r in latest(loop.store, "digits") if (r.method, r.scope.value) == (Method.P_WRONG, "window")
    }
    assert {name: r.rows for name, r in rows.items()} == {"all": 300, "champion": 200, "canary": 100}
    replica.close()
    loop.store.close()


def test_estimates_do_not_depend_on_the_order_or_the_batches_in_which_records_came(tmp_path: Path) -> None:
    kept = []
    for name, batch_bytes in (("a", 1 << 24), ("b", 20_000)):
        folder = tmp_path / name
        w.day(folder / "records", seconds=100, rate=30, shift_from=60)
        options = w.options(folder, batch_bytes=batch_bytes, cases=CaseOptions(audit_rate=0.5))
        loop = make_loop(options, Store(options.database_url), w.catalogue(folder / "reference"))
        drain(loop)
        with loop.store.read() as connection:
            columns = [c for c in t.accuracy_estimates.c if c.name != "id"]
            kept.append(sorted(map(str, connection.execute(sa.select(*columns)))))
        assert loop.progress.estimates_due == 0
        loop.store.close()
    assert kept[0] == kept[1]
    assert len(kept[0]) > 20


def test_every_estimate_is_of_a_known_measure(tmp_path: Path) -> None:
    loop, replica = loop_in(tmp_path), w.Replica(tmp_path / "records")
    send(replica, 100, second=0)
    drain(loop)
    rows = latest(loop.store, "digits")
    assert {r.measure for r in rows} == {Measure.ACCURACY}
    assert sum(r.best for r in rows if r.scope is AccuracyScope.WINDOW) == 1
    replica.close()
    loop.store.close()


def test_labels_of_healthy_minutes_are_not_stretched_over_the_failing_ones_that_have_none_yet(tmp_path: Path) -> None:
    loop, replica = loop_in(tmp_path), w.Replica(tmp_path / "records")
    healthy = send(replica, 400, second=0, label=True)
    for minute in (1, 2):
        send(replica, 400, second=60 * minute, turned=True)
    drain(loop)
    rolling = by_method(latest(loop.store, "digits"), AccuracyScope.ROLLING)
    audit = rolling[Method.AUDIT]
    assert audit.rows == 400, "the labelled window, not all three"
    assert audit.low is not None
    assert audit.high is not None
    assert audit.low <= healthy <= audit.high
    assert not audit.trusted
    assert "33 % of the answers only" in audit.caveat
    replica.close()
    loop.store.close()
