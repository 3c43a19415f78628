"""Questions to the monitor's database. The ingest writes; who reviews cases writes through `Store.write` too."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import sqlalchemy as sa

from export.contracts.cases import CaseState, FlagReason
from monitoring import schema as t
from monitoring.database import Database
from monitoring.keys import record_hash
from monitoring.listing.index import CaseIndex
from monitoring.rows import (
    AccountingRow,
    CasePage,
    CaseRow,
    DeadLetterRow,
    EventRow,
    FeedbackRow,
    RecordRow,
    SignalRow,
    TensorRow,
    VersionRow,
    WindowRow,
)
from monitoring.store_filters import CaseOrder, between, case_filter, decode_cursor, encode_cursor, given, place_of
from monitoring.store_rows import FIXED_POINT, from_json, pick, to_case, to_record, to_window

__all__ = ["FIXED_POINT", "PAGE_LIMIT", "CaseOrder", "Store"]

PAGE_LIMIT = 500


class Store:
    """The monitor's database, opened and migrated. Safe to use from several threads of the one process.

    Args:
        url: SQLAlchemy URL, as in `monitoring.options.MonitorOptions.database_url`.

    Attributes:
        index: Columns of all cases in memory, for lists and counts.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self.index = CaseIndex(self.read)

    def write(self) -> AbstractContextManager[sa.Connection]:
        """The one writing transaction."""
        return self._database.write()

    def read(self) -> AbstractContextManager[sa.Connection]:
        """A consistent read-only view."""
        return self._database.read()

    def together(self) -> AbstractContextManager[None]:
        """Every `read` of this thread within the block sees the same state: see `Database.together`."""
        return self._database.together()

    def scrub(self) -> None:
        """See that what was deleted is not left in free pages or in the write-ahead log."""
        self._database.scrub()

    def close(self) -> None:
        """Close it. Another process may open it then."""
        self._database.close()

    def versions(self, model: str | None = None) -> tuple[VersionRow, ...]:
        """Versions seen in the log, by model and first appearance."""
        query = sa.select(t.versions).order_by(t.versions.c.model, t.versions.c.first_ns, t.versions.c.id)
        if model is not None:
            query = query.where(t.versions.c.model == model)
        return tuple(VersionRow(**row) for row in self._all(query))

    def windows(
        self,
        model: str,
        *,
        version: str | None = None,
        variant: str | None = None,
        from_s: int | None = None,
        to_s: int | None = None,
        limit: int = 500,
    ) -> tuple[WindowRow, ...]:
        """Windows whose start lies in [from_s, to_s), oldest first; the newest `limit` of them."""
        w, v = t.windows.c, t.versions.c
        query = (
            sa.select(t.windows, v.model, v.version)
            .join(t.versions, w.version_id == v.id)
            .where(*given((v.model, model), (v.version, version), (w.variant, variant)))
            .where(*between(w.start_s, from_s, to_s))
            .order_by(w.start_s.desc(), w.id.desc())
            .limit(limit)
        )
        return tuple(to_window(row) for row in reversed(self._all(query)))

    def window_samples(self, window_ids: Sequence[int]) -> dict[int, bytes]:
        """Encoded samples (`monitoring.windows.WindowSample.decode`) of those windows that have one."""
        s = t.window_samples.c
        rows = self._all(sa.select(t.window_samples).where(s.window_id.in_(list(window_ids))))
        return {row["window_id"]: row["data"] for row in rows}

    def signals(
        self,
        model: str,
        *,
        version: str | None = None,
        scope: str | None = None,
        from_s: int | None = None,
        to_s: int | None = None,
        exceeded: bool | None = None,
        limit: int = 5000,
    ) -> tuple[SignalRow, ...]:
        """Signals of windows that start in [from_s, to_s), oldest first; the newest `limit` of them."""
        s, v = t.signals.c, t.versions.c
        query = (
            sa.select(t.signals, v.model, v.version)
            .join(t.versions, s.version_id == v.id)
            .where(*given((v.model, model), (v.version, version), (s.scope, scope), (s.exceeded, exceeded)))
            .where(*between(s.start_s, from_s, to_s))
            .order_by(s.start_s.desc(), s.method, s.subject)
            .limit(limit)
        )
        return tuple(pick(SignalRow, row) for row in reversed(self._all(query)))

    def latest_signals(self, model: str, version: str, scope: str = "rolling") -> tuple[SignalRow, ...]:
        """All signals of the newest window of that scope, by kind, method and subject."""
        s, v = t.signals.c, t.versions.c
        newest = (
            sa.select(sa.func.max(s.start_s))
            .join(t.versions, s.version_id == v.id)
            .where(v.model == model, v.version == version, s.scope == scope)
            .scalar_subquery()
        )
        query = (
            sa.select(t.signals, v.model, v.version)
            .join(t.versions, s.version_id == v.id)
            .where(v.model == model, v.version == version, s.scope == scope, s.start_s == newest)
            .order_by(s.kind, s.method, s.subject)
        )
        return tuple(pick(SignalRow, row) for row in self._all(query))

    def cases(
        self,
        *,
        model: str | None = None,
        version: str | None = None,
        reason: FlagReason | None = None,
        state: CaseState | None = None,
        correct: bool | None = None,
        min_p_wrong: float | None = None,
        from_ns: int | None = None,
        to_ns: int | None = None,
        assignee: str | None = None,
        tag: str | None = None,
        verdict: str | None = None,
        order: CaseOrder = CaseOrder.RANK,
        cursor: str | None = None,
        limit: int = 50,
        grouped: bool = False,
    ) -> CasePage:
        """A page of cases, with `grouped` without those that another one stands for. Paging is by key.

        Raises:
            InvalidRequest: `cursor` did not come from this listing.
        """
        limit = max(1, min(limit, PAGE_LIMIT))
        c = t.cases.c
        key = place_of(order)
        query = (
            sa.select(t.cases, key.label("place"))
            .where(
                *case_filter(
                    model=model,
                    version=version,
                    reason=reason,
                    state=state,
                    correct=correct,
                    min_p_wrong=min_p_wrong,
                    from_ns=from_ns,
                    to_ns=to_ns,
                    assignee=assignee,
                    tag=tag,
                    verdict=verdict,
                    grouped=grouped,
                )
            )
            .order_by(key.desc(), c.id.desc())
            .limit(limit + 1)
        )
        if cursor is not None:
            last, last_id = decode_cursor(cursor, order)
            query = query.where(sa.or_(key < last, sa.and_(key == last, c.id < last_id)))
        rows = self._all(query)
        more, rows = len(rows) > limit, rows[:limit]
        after = encode_cursor(rows[-1]["place"], rows[-1]["id"], order) if more else None
        return CasePage(cases=tuple(to_case(row) for row in rows), cursor=after)

    def case_counts(self, model: str | None = None) -> tuple[tuple[str, str, str, int, int], ...]:
        """(model, version, state, flags, cases) of every combination that occurs."""
        return self.index.totals(model)

    def case(self, identity: str) -> CaseRow | None:
        """One case, or None."""
        rows = self._all(sa.select(t.cases).where(t.cases.c.id == identity))
        return to_case(rows[0]) if rows else None

    def case_tensors(self, identity: str, direction: str | None = None) -> tuple[TensorRow, ...]:
        """Tensors kept with a case, inputs first, in the signature's order. `direction` is "in" or "out"."""
        c = t.case_tensors.c
        query = sa.select(t.case_tensors).where(*given((c.case_id, identity), (c.direction, direction)))
        rows = self._all(query.order_by(c.direction, c.position))
        return tuple(pick(TensorRow, row | {"shape": tuple(row["shape"])}) for row in rows)

    def records(self, record_id: str, model: str | None = None) -> tuple[RecordRow, ...]:
        """Records with this id, oldest first: more than one when a client used an id again."""
        r, v, c = t.records.c, t.versions.c, t.cases.c
        models = [model] if model is not None else sorted({row.model for row in self.versions()})
        hashes = [record_hash(name, record_id) for name in models]
        query = (
            sa.select(t.records, v.model, v.version, t.cases.c.id.label("known_case"))
            .join(t.versions, r.version_id == v.id)
            .outerjoin(t.cases, sa.and_(c.id_hash == r.id_hash, c.time_ns == r.time_ns, c.variant == r.variant))
            .where(r.id_hash.in_(hashes), r.record_id == record_id)
            .order_by(r.time_ns)
        )
        return tuple(to_record(row) for row in self._all(query))

    def feedback(self, model: str, record_id: str, time_ns: int | None = None) -> tuple[FeedbackRow, ...]:
        """Everything said about records with an id, oldest first; with `time_ns`, about the one of that time."""
        f = t.feedback.c
        query = sa.select(t.feedback).where(f.id_hash == record_hash(model, record_id), f.record_id == record_id)
        query = query.where(f.withdrawn.is_(False))
        if time_ns is not None:
            query = query.where(sa.or_(f.about_ns.is_(None), f.about_ns == time_ns))
        rows = self._all(query.order_by(f.time_ns, f.uid))
        return tuple(pick(FeedbackRow, row | {"label": from_json(row["label"])}) for row in rows)

    def feedback_counts(self) -> tuple[int, int]:
        """(joined, waiting for their record)."""
        query = sa.select(t.feedback.c.joined, sa.func.count().label("n")).group_by(t.feedback.c.joined)
        found = {bool(row["joined"]): int(row["n"]) for row in self._all(query)}
        return found.get(True, 0), found.get(False, 0)

    def accounting(self) -> tuple[AccountingRow, ...]:
        """Conservation, one row per source, model and version."""
        query = sa.select(t.accounting).order_by(*t.accounting.primary_key.columns)
        return tuple(AccountingRow(**row) for row in self._all(query))

    def dead_letters(self, limit: int = 100) -> tuple[DeadLetterRow, ...]:
        """Newest first."""
        query = sa.select(t.dead_letters).order_by(t.dead_letters.c.id.desc()).limit(limit)
        return tuple(pick(DeadLetterRow, row) for row in self._all(query))

    def dead_letter_counts(self) -> dict[str, int]:
        """{reason: items}."""
        reason = t.dead_letters.c.reason
        rows = self._all(sa.select(reason, sa.func.count().label("n")).group_by(reason))
        return {row["reason"]: row["n"] for row in rows}

    def events(self, model: str | None = None, limit: int = 100) -> tuple[EventRow, ...]:
        """Newest first."""
        e = t.events.c
        query = sa.select(t.events).where(*given((e.model, model))).order_by(e.time_ns.desc(), e.id.desc())
        return tuple(pick(EventRow, row) for row in self._all(query.limit(limit)))

    def _all(self, query: sa.Select[Any]) -> list[dict[str, Any]]:
        with self.read() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]
