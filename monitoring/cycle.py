"""The monitor's loop: read → decode → score → windows, cases, offsets in one transaction → the duties that are due.

`run_cycle` is the whole of it, top to bottom; `duties` lists what else is done. `monitoring.monitor` runs it in a
thread until told to stop.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.accounts import update_accounts
from monitoring.accuracy.rows import update_accuracy
from monitoring.alarms.rows_moved import note_moved
from monitoring.alarms.rows_turn import FOREVER_NS, take_labels
from monitoring.alarms.watch import Watcher
from monitoring.baselines import Baselines
from monitoring.case_groups import mark_orphans, update_groups
from monitoring.catalogue import Catalogue
from monitoring.disagreement import value_tolerance
from monitoring.duties import Duty, Roster
from monitoring.ingest import Ingest
from monitoring.ingest_rows import START, Cursor, read_cursors
from monitoring.integrations.duty import tool_duties
from monitoring.integrations.mlflow.duty import mlflow_duty
from monitoring.log_frames import read_frames
from monitoring.loop.contracts import Workshop
from monitoring.loop.duty import duties_of_loop
from monitoring.notify.duty import notify_duty
from monitoring.options import MonitorOptions
from monitoring.progress import Progress
from monitoring.records.folders import as_of_ns
from monitoring.records.reader import Position, RecordLogReader
from monitoring.refetch import Refetch, position_of
from monitoring.report_plan import Starter, plan_reports
from monitoring.retention import RetentionClock, apply_retention
from monitoring.retention_limits import apply_time_limits, expired_files, remove_files
from monitoring.review.settle import settle_due
from monitoring.rollout.duty import rollout_duty
from monitoring.score_fits.book import FitBook
from monitoring.score_fits.clock import FitClock
from monitoring.score_fits.duty import look_at_labels, start_clock
from monitoring.shelf import release_sources
from monitoring.signal_rows import update_signals
from monitoring.slices.duty import search_slices
from monitoring.store import Store
from monitoring.upkeep import upkeep

logger = logging.getLogger(__name__)

ACCOUNTS_EVERY_S = 1.0
REPORTS_EVERY_S = 5.0
QUEUE_EVERY_S = 2.0
SETTLE_EVERY_S = 0.2
SLICES_EVERY_S = 5.0  # looked whether one is due; spans are in event time


@dataclass(kw_only=True)
class Loop:
    """Everything that a cycle works with.

    Attributes:
        ends: How far each source is consumed and committed.
        finished: Sources whose writer is dead and of which everything was read.
        behind: Sources that held more than the last cycle read.
        read_ns: Wall clock when the last cycle began to read.
        start_report: How reports are started; None where there is no report service.
    """

    options: MonitorOptions
    store: Store
    reader: RecordLogReader
    baselines: Baselines
    ingest: Ingest
    retention_clock: RetentionClock
    roster: Roster[Loop]
    watcher: Watcher
    fit_clock: FitClock
    fit_book: FitBook
    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    progress: Progress = field(default_factory=Progress)
    ends: dict[str, Cursor] = field(default_factory=dict)
    finished: frozenset[str] = frozenset()
    behind: frozenset[str] = frozenset()
    read_ns: int = 0
    start_report: Starter | None = None

    @property
    def frontier_ns(self) -> int:
        """Everything that happened earlier has been read, as far as the clocks of the replicas are right."""
        alive = any(source not in self.finished for source in self.reader.sources())
        seen = [self.ends.get(source, START).event_ns for source in self.behind]
        return min([*seen, self.read_ns if alive else FOREVER_NS])


def make_loop(options: MonitorOptions, store: Store, catalogue: Catalogue, workshop: Workshop | None = None) -> Loop:
    """Put a loop together. Without a workshop nothing is trained again."""
    baselines, book = Baselines(catalogue), FitBook()
    retraining: tuple[Duty[Loop], ...] = ()
    if workshop is not None:
        rolling = rollout_duty(workshop, lambda model, version: value_tolerance(baselines.get(model, version), options))
        retraining = (rolling, *duties_of_loop(options, store, catalogue, workshop))
    tracking = mlflow_duty(options, catalogue, workshop)
    return Loop(
        options=options,
        store=store,
        reader=RecordLogReader(options.records_root),
        baselines=baselines,
        ingest=Ingest(baselines, options, Refetch(options, store), book),
        retention_clock=RetentionClock(),
        roster=Roster((*duties(options), *retraining, *tracking)),
        watcher=Watcher(options.alarms),
        fit_clock=start_clock(store, options, book),
        fit_book=book,
    )


def run_cycle(loop: Loop) -> bool:
    """Consume one batch of the log; returns whether there may be more to consume at once."""
    options, store, reader, progress = loop.options, loop.store, loop.reader, loop.progress
    started, read_ns = loop.monotonic(), as_of_ns(options.records_root, int(loop.wall() * 1e9))

    with store.read() as connection:
        cursors = read_cursors(connection)
    dead = frozenset(s for s in reader.sources() if not reader.is_alive(s))  # before reading: what they left is final
    frames, behind = loop.fit_clock.hold(
        *read_frames(reader, cursors, options.batch_bytes, last=loop.fit_clock.waiting)
    )

    prepared = loop.ingest.prepare(frames, cursors)
    if frames:
        with store.write() as connection:
            loop.ingest.commit(connection, prepared)
        loop.ingest.flagged.add(prepared.units)
        for source, end in prepared.ends.items():
            if end != cursors.get(source):
                reader.acknowledge(source, Position(end.segment, end.offset, end.sequence))

    loop.ends, loop.finished, loop.behind, loop.read_ns = prepared.ends, dead - behind, behind, read_ns
    more = loop.roster.run_due(loop, behind=bool(behind))

    waiting = [end.event_ns for source, end in prepared.ends.items() if source in behind and end.event_ns]
    newest_ns = min(waiting, default=0)  # of the source that is furthest behind
    progress.lag_s = max(0.0, loop.wall() - newest_ns / 1e9) if behind and newest_ns else 0.0
    progress.records += prepared.records
    progress.frames += len(frames)
    progress.dead_letters += len(prepared.poisons)
    progress.cycles += 1
    progress.cycle_s = loop.monotonic() - started
    progress.heartbeat = loop.monotonic()
    return bool(behind) or more


def _keep_accounts(loop: Loop) -> None:
    reader, progress = loop.reader, loop.progress
    with loop.store.write() as connection:
        update_accounts(connection, reader, loop.finished)
    progress.lag_bytes = sum(reader.lag_bytes(s, position_of(loop.ends.get(s))) for s in reader.sources())
    progress.damages = sum(len(reader.damages(s)) for s in reader.sources())


def _compute_signals(loop: Loop) -> bool:
    with loop.store.write() as connection:
        loop.progress.signals_due = update_signals(connection, loop.baselines, loop.options)
    return loop.progress.signals_due > 0


def _estimate_accuracy(loop: Loop) -> bool:
    with loop.store.write() as connection:
        loop.progress.estimates_due = update_accuracy(connection, loop.baselines, loop.options)
    return loop.progress.estimates_due > 0


def _watch(loop: Loop) -> bool:
    with loop.store.write() as connection:
        more = take_labels(connection, loop.watcher, loop.baselines, loop.options, loop.frontier_ns)
        note_moved(connection)
    return more


def _settle(loop: Loop) -> bool:
    with loop.store.read() as connection:  # mostly there is nothing: then nobody waits for a writing transaction
        if connection.scalar(sa.select(t.settle_due.c.id_hash).limit(1)) is None:
            return False
    with loop.store.write() as connection:
        return settle_due(connection, loop.ingest)


def _order_cases(loop: Loop) -> bool:
    with loop.store.write() as connection:
        return update_groups(connection, loop.baselines, loop.options.cases) > 0


def _refit(loop: Loop) -> bool:
    span = loop.fit_clock.due(loop.ends)
    if span is None:
        return False
    return look_at_labels(loop.store, loop.baselines, loop.options, loop.fit_clock, loop.fit_book, span)


def _search_slices(loop: Loop) -> bool:
    return search_slices(loop.store, loop.baselines, loop.options)


def _retain(loop: Loop) -> None:
    with loop.store.write() as connection:
        options, now_s = loop.options, loop.retention_clock.advance(connection)
        apply_retention(connection, now_s, options.retention)
        apply_time_limits(connection, now_s, options.privacy)
        old_files = expired_files(connection, now_s, options.archive, options.privacy)
        mark_orphans(connection)
    remove_files(loop.options.archive_root, old_files)
    release_sources(loop.store, loop.reader, loop.options.retention.log_bytes)


def _plan_reports(loop: Loop) -> bool:
    return loop.start_report is not None and plan_reports(loop.store, loop.options, loop.start_report)


def duties(options: MonitorOptions) -> tuple[Duty[Loop], ...]:
    """Everything that the monitor does besides reading the log, in the order in which it is done."""
    return (
        Duty(name="accounts", interval_s=ACCOUNTS_EVERY_S, run=_keep_accounts, while_behind=True),
        Duty(name="settle", interval_s=SETTLE_EVERY_S, run=_settle, while_behind=True),
        Duty(name="refit", interval_s=0.0, run=_refit, while_behind=True),  # nothing but a comparison until one is due
        Duty(name="signals", interval_s=options.drift.interval_s, run=_compute_signals),
        Duty(name="accuracy", interval_s=options.drift.interval_s, run=_estimate_accuracy),
        Duty(name="alarms", interval_s=options.alarms.interval_s, run=_watch, while_behind=True),
        Duty(name="queue", interval_s=QUEUE_EVERY_S, run=_order_cases),
        Duty(name="reports", interval_s=REPORTS_EVERY_S, run=_plan_reports),
        *upkeep(options),
        *tool_duties(options),
        notify_duty(options),
        Duty(name="slices", interval_s=SLICES_EVERY_S, run=_search_slices, aside=True),
        Duty(name="retention", interval_s=options.retention.interval_s, run=_retain, while_behind=True),
    )
