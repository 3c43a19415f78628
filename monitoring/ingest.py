"""One transaction: what was read from the log, everything derived from it, and how far the log was read.

Either all of it is in the database or none, so a monitor killed anywhere goes on where it stood, and no record counts
twice or is left out. `prepare` is pure and slow (decode, score); `commit` holds the write transaction and is quick.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import sqlalchemy as sa

from monitoring.alarms.draw import chances_of
from monitoring.alarms.rows import Populations, add_population, p_of_records, write_populations
from monitoring.baseline import Baseline
from monitoring.baselines import Baselines
from monitoring.batches import Batch, Place, Poison, Records
from monitoring.business_keys import add_keys
from monitoring.case_pools import AUDIT_BIT, PROBE_BIT, RULE_BITS, SCORE_BITS, preselect
from monitoring.case_rows import Loaded
from monitoring.cases import Candidate, admit, rank_of
from monitoring.disagreement import contradictions
from monitoring.flag_counts import FlagCounts
from monitoring.frame_protocols import LogFrame
from monitoring.ingest_rows import (
    START,
    Cursor,
    count_ingested,
    ensure_versions,
    watermark,
    write_cursors,
    write_events,
    write_poisons,
)
from monitoring.keys import audit_ranks, case_id, printable, record_hashes
from monitoring.options import MonitorOptions
from monitoring.origins import ASIDE, NOT_TRAFFIC
from monitoring.particulars import Particulars, note
from monitoring.privacy import Allowed, sample_values
from monitoring.record_rows import insert_records, newest_record
from monitoring.records.record import Event, Feedback, Outcome
from monitoring.samples import WindowSample
from monitoring.score_fits.book import FitBook
from monitoring.scores import Scored, blank, score_batch
from monitoring.slice_rows import SliceTally
from monitoring.store import FIXED_POINT
from monitoring.sureness import sureness_of
from monitoring.truth import Settler, add_feedback, waiting_for
from monitoring.window_rows import NANOSECONDS, WindowDelta, WindowKey, add_to_window
from monitoring.windows import WindowStats, count_latency, count_values, sum_features

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Unit:
    """A batch with its scores."""

    batch: Batch
    scored: Scored
    baseline: Baseline


@dataclass(kw_only=True, eq=False)
class Prepared:
    """Everything that one transaction will write."""

    units: list[Unit] = field(default_factory=list)
    feedback: list[Feedback] = field(default_factory=list)
    events: list[tuple[Place, Event]] = field(default_factory=list)
    poisons: list[Poison] = field(default_factory=list)
    ends: dict[str, Cursor] = field(default_factory=dict)

    @property
    def records(self) -> int:
        """Records in it."""
        return sum(len(unit.batch) for unit in self.units)


class Ingest:
    """Turns frames into rows.

    Args:
        fetch: Reads the records of the frame behind a place again; None when the log has let it go.
        book: Refits of P(wrong); whoever refits keeps it up to date.
    """

    def __init__(
        self,
        baselines: Baselines,
        options: MonitorOptions,
        fetch: Callable[[Place], Records | None],
        book: FitBook | None = None,
    ) -> None:
        self._baselines = baselines
        self._book = FitBook() if book is None else book
        self._options = options
        self._fetch = fetch
        self._allowed = Allowed(options.privacy)
        self.flagged = FlagCounts()  # of what was committed

    def prepare(self, frames: Sequence[LogFrame], cursors: Mapping[str, Cursor]) -> Prepared:
        """Decode and score frames. Frames that a source's cursor has passed are left out: they were consumed before."""
        out = Prepared(ends=dict(cursors))
        found: list[tuple[Place, Records]] = []
        for frame in frames:
            at = out.ends.get(frame.source, START)
            if frame.position.sequence <= at.sequence:
                continue
            place = Place(source=frame.source, segment=at.segment, offset=at.offset, sequence=at.sequence)
            event_ns = at.event_ns
            try:
                if frame.kind == "records":
                    records = frame.records()
                    event_ns = max(event_ns, int(records.time_ns.max(initial=0)))
                    found.append((place, self._allowed.records(records)))
                elif frame.kind == "feedback":
                    out.feedback += frame.feedback()
                else:
                    out.events.append((place, frame.event()))
            except Exception as error:  # a frame that passed its checksum and still cannot be read must not stop us
                logger.exception("a frame of kind %s cannot be decoded", frame.kind)
                out.poisons.append(_poison(place, -1, f"{frame.kind}_undecodable", error))
            p = frame.position
            out.ends[frame.source] = Cursor(p.segment, p.offset, p.sequence, event_ns)
        for batch in self._allowed.batches(found, out.poisons):
            out.units += self._score(batch, out.poisons)
        return out

    def commit(self, connection: sa.Connection, prepared: Prepared) -> None:
        """Write it all. The caller commits, or rolls back."""
        options = self._options
        versions = ensure_versions(connection, [unit.batch for unit in prepared.units])
        watermark_ns = watermark(connection)
        deltas: dict[WindowKey, WindowDelta] = {}
        candidates: dict[tuple[str, str, int], list[Candidate]] = {}
        hashes: list[int] = []
        keyed: set[int] = set()  # records about which feedback came by a business key
        populations: Populations = {}
        slices = SliceTally(options)
        for unit in prepared.units:
            batch = unit.batch
            version_id = versions[batch.model, batch.version]
            id_hashes = np.array(record_hashes(batch.model, batch.ids), dtype=np.int64)
            lots = audit_ranks(id_hashes, batch.time_ns)
            flags = unit.scored.flags | _audits(unit, lots, options)
            noted = note(batch, unit.scored, unit.baseline, flags)
            before = newest_record(connection) if options.keys else 0
            insert_records(connection, batch, unit.scored, version_id, id_hashes, flags, noted)
            hashes += id_hashes.tolist()
            keyed |= add_keys(connection, batch, id_hashes.tolist(), options.keys, before) if options.keys else set()
            if batch.variant == ASIDE:
                continue
            slices.add(version_id, batch, unit.scored, unit.baseline)
            starts = batch.time_ns // (options.window_s * NANOSECONDS) * options.window_s
            for start_s in np.unique(starts).tolist():
                here = starts == start_s
                key = WindowKey(version_id, batch.variant, start_s)
                if key not in deltas:
                    deltas[key] = WindowDelta(stats=WindowStats.empty(unit.baseline))
                deltas[key] = _count(unit, here, flags, lots, deltas[key], options)
                add_population(populations, key, batch, unit.scored, here)
                if (start_s + options.window_s + options.lateness_s) * NANOSECONDS <= watermark_ns:
                    deltas[key].late += int(here.sum())
                wanted = _candidates(unit, here, flags, lots, noted, options)
                candidates.setdefault((batch.model, batch.version, start_s), []).extend(wanted)
        for key in sorted(deltas, key=lambda k: (k.version_id, k.variant, k.start_s)):
            add_to_window(connection, key, options.window_s, deltas[key])
        write_populations(connection, populations, options.cases)
        slices.write(connection)
        for (model, version, start_s), wanted in sorted(candidates.items()):
            admit(connection, model, version, start_s, wanted, options.cases)
        touched = keyed | waiting_for(connection, hashes) | add_feedback(connection, prepared.feedback)
        settler = Settler(connection, self._baselines, options, self._reload)
        settler.settle(touched)
        settler.dispute(contradictions(connection, self._baselines, [unit.batch for unit in prepared.units], options))
        write_events(connection, prepared.events)
        write_poisons(connection, prepared.poisons)
        count_ingested(connection, [unit.batch for unit in prepared.units])
        write_cursors(connection, prepared.ends)

    def settle(self, connection: sa.Connection, id_hashes: set[int]) -> None:
        """Bring records, windows and cases in line with what was said about these ids."""
        Settler(connection, self._baselines, self._options, self._reload).settle(id_hashes)

    def _score(self, batch: Batch, poisons: list[Poison]) -> list[Unit]:
        baseline = self._baselines.get(batch.model, batch.version)
        cases, fits = self._options.cases, self._book.of(batch.model, batch.version)
        try:
            return [Unit(batch=batch, scored=score_batch(baseline, batch, cases, fits), baseline=baseline)]
        except Exception as error:
            if len(batch) == 1 or isinstance(error, ValueError):
                # A ValueError is about shapes, which all records of a batch share: each would fail alike.
                logger.warning("records of %s version %s are not scored: %s", batch.model, batch.version, error)
                first = batch.pieces[0]
                item = int(first.items[0]) if len(batch) == 1 else -1
                poisons.append(_poison(first.place, item, "not_scored", error))
                return [Unit(batch=batch, scored=blank(baseline, batch), baseline=baseline)]
            logger.exception("scoring failed; trying the records one by one")
        return [unit for record in range(len(batch)) for unit in self._score(batch.pick(record), poisons)]

    def _reload(self, record: Mapping[str, Any]) -> Loaded | None:
        """The record of a row of `records`, from the log."""
        place = Place(**{name: record[name] for name in ("source", "segment", "offset", "sequence")})
        records = self._fetch(place)
        if records is None:
            return None
        for batch in self._allowed.batches([(place, self._allowed.records(records))], []):
            for i, identity in enumerate(batch.ids):
                if int(batch.time_ns[i]) == record["time_ns"] and printable(identity) == record["record_id"]:
                    for unit in self._score(batch.pick(i), []):
                        return Loaded(batch=unit.batch, scored=unit.scored, baseline=unit.baseline, record=0)
        return None


def _audits(unit: Unit, lots: np.ndarray[Any, np.dtype[np.float64]], options: MonitorOptions) -> Any:
    """The audit's and the probes' bits of each record: drawn among answers that clients received."""
    batch = unit.batch
    if batch.outcome is not Outcome.OK or not batch.outputs or batch.variant in NOT_TRAFFIC:
        return np.zeros(len(batch), dtype=np.int64)
    cases = options.cases
    chances = chances_of(p_of_records(unit.scored, len(batch)), cases.audit_rate, cases.probe_rate)
    return np.where(lots < cases.audit_rate, AUDIT_BIT, np.where(lots < chances, PROBE_BIT, 0))


def _count(unit: Unit, here: Any, flags: Any, lots: Any, delta: WindowDelta, options: MonitorOptions) -> WindowDelta:
    """Add the records marked by `here`, (N,), to a window's delta."""
    batch, scored, baseline = unit.batch, unit.scored, unit.baseline
    everything = bool(here.all())
    rows = slice(None) if everything else here[batch.row_record]
    made: dict[str, Any] = {}
    predicted = scored.predicted[rows]
    if batch.outcome is Outcome.OK and scored.known and len(predicted):
        made = dict(count_values(baseline, scored.values[rows]))
        if baseline.classes:
            made["predicted"] = scored.answered.count_classes(rows, baseline.classes)
        if scored.features is not None and baseline.embedding_size:
            total, count = sum_features(scored.features[rows])
            made |= {"features": total, "feature_rows": np.array([count], dtype=np.int64)}
        made |= sureness_of(baseline, scored.answered, rows)
        names = tuple(q.name for q in baseline.quantities[: baseline.input_columns])
        lot = lots[batch.row_record[rows]]
        watched = sample_values(batch, names, scored.values[rows][:, : baseline.input_columns])
        sample = WindowSample.draw(options.sample_rows, names, lot, predicted, watched)
        delta.sample = sample if delta.sample is None else delta.sample.merge(sample)
        delta.rows += len(predicted)
        p_wrong = scored.p_wrong[rows].astype(np.float64)
        delta.p_wrong_sum += int(np.rint(np.where(np.isfinite(p_wrong), p_wrong, 0.0) * FIXED_POINT).sum())
    if batch.outcome is Outcome.OK:
        made["latency"] = count_latency((batch.queue_us[here], batch.compute_us[here], batch.total_us[here]))
    delta.stats = delta.stats.merge(replace(WindowStats.empty(baseline), **made))
    delta.requests += int(here.sum())
    delta.outcomes += Counter({batch.outcome.value: int(here.sum())})
    delta.flagged += int(((flags[here] & (SCORE_BITS | RULE_BITS)) != 0).sum())
    return delta


def _candidates(
    unit: Unit, here: Any, flags: Any, lots: Any, noted: Particulars, options: MonitorOptions
) -> list[Candidate]:
    members = np.flatnonzero(here & (flags != 0))
    if not len(members):
        return []
    ranks = unit.scored.ranks
    made = []
    contents = [noted.contents[i] for i in members.tolist()]
    for i in preselect(flags[members], ranks[members], lots[members], contents, noted.cells[members], options.cases):
        record = int(members[i])
        loaded = Loaded(batch=unit.batch, scored=unit.scored, baseline=unit.baseline, record=record)
        made.append(
            Candidate(
                id=case_id(
                    unit.batch.model,
                    printable(unit.batch.ids[record]),
                    int(unit.batch.time_ns[record]),
                    unit.batch.variant,
                ),
                flags=int(flags[record]),
                rank=rank_of(int(flags[record]), float(ranks[record])),
                audit_rank=float(lots[record]),
                load=lambda loaded=loaded: loaded,  # type: ignore[misc]  # the default binds this turn's value
                content=noted.contents[record],
                cell=int(noted.cells[record]),
                vector=noted.vector_of(record),
            )
        )
    return made


def _poison(place: Place, item: int, reason: str, error: Exception) -> Poison:
    return Poison(place=place, item=item, reason=reason, detail=f"{type(error).__name__}: {error}"[:500])
