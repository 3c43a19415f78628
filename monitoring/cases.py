"""Failure cases: which records of a window become one, and what is kept of them.

Each window of a version has pools with a budget each: scores, audit, rules, feedback, disagreement
(`monitoring.case_pools`). A pool keeps its best by a fixed order, so the cases of a window depend on the records in it
and not on the order in which they came. A record is one case however many pools want it; a case carries every reason
that held for its record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from export.contracts.cases import CaseState
from monitoring import schema as t
from monitoring.case_pools import AUDIT_BIT, RULE_BITS, Standing, survivors
from monitoring.case_rows import Loaded, opinions, plain_text, tensors_of
from monitoring.contents import content_hashes
from monitoring.keys import printable, record_hash
from monitoring.options import CaseOptions
from monitoring.review.kept import without_touched
from monitoring.thumbnails import only_thumbnails

RULE_RANK = 1.0 + 1e-5  # a failed request needs no score to be a failure
# No person has decided on these, a label from feedback lives on in the index; `monitoring.review.kept` knows of people.
EVICTABLE = (CaseState.OPEN, CaseState.LABELLED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A record that wants to be a case.

    Attributes:
        rank: Place in the queue.
        audit_rank: The record's uniform number from `keys.audit_ranks`.
        load: Fetches the record; None when the log has let it go.
        place: Source and sequence, so that many are fetched in the order of the log.
        known: The case's row as far as the record index knows it, for when `load` comes back empty.
        content: Hash of its inputs. `cell`: region of the embedding. `vector`: as kept with the record.
    """

    id: str
    flags: int
    rank: float
    audit_rank: float
    load: Callable[[], Loaded | None]
    place: tuple[str, int] = ("", 0)
    known: Callable[[], dict[str, Any]] | None = None
    content: int | None = None
    cell: int = -1
    vector: bytes | None = None


def admit(
    connection: sa.Connection,
    model: str,
    version: str,
    start_s: int,
    candidates: Sequence[Candidate],
    options: CaseOptions,
) -> int:
    """Let candidates of one window in as far as its budgets allow; returns how many cases are new.

    Cases that better ones push out leave the table, with their tensors.
    """
    c = t.cases.c
    here = sa.and_(c.model == model, c.version == version, c.window_start_s == start_s)
    columns = sa.select(c.id, c.flags, c.rank, c.audit_rank, c.state, c.content_hash, c.cell).where(here)
    present = {row.id: row for row in connection.execute(columns)}
    wanted = {x.id: x for x in candidates}
    fresh = {x.id: x for x in wanted.values() if x.id not in present}
    reasons = {r.id: r.flags | (wanted[r.id].flags if r.id in wanted else 0) for r in present.values()}
    changed = [r.id for r in present.values() if reasons[r.id] != r.flags]
    if not fresh and not changed:
        return 0
    for identity in changed:
        connection.execute(t.cases.update().where(c.id == identity).values(flags=reasons[identity]))
    standings = [
        Standing(
            id=r.id,
            flags=reasons[r.id],
            rank=r.rank,
            audit_rank=r.audit_rank,
            content=r.content_hash,
            cell=-1 if r.cell is None else r.cell,
        )
        for r in present.values()
    ]
    standings += [
        Standing(id=x.id, flags=x.flags, rank=x.rank, audit_rank=x.audit_rank, content=x.content, cell=x.cell)
        for x in fresh.values()
    ]
    kept = survivors(standings, options)
    evicted = [r.id for r in present.values() if r.id not in kept and r.state in EVICTABLE]
    evicted = without_touched(connection, evicted)
    for chunk in _chunks(evicted, 500):
        connection.execute(t.cases.delete().where(c.id.in_(chunk)))
    rows, tensors = [], []
    for x in sorted((fresh[identity] for identity in kept & fresh.keys()), key=lambda x: (x.place, x.id)):
        row, kept_tensors = build(x, start_s, options)
        rows.append(row)
        tensors += kept_tensors
    if rows:
        connection.execute(t.cases.insert(), rows)
    if tensors:
        connection.execute(t.case_tensors.insert(), tensors)
    _set_inclusion(connection, here, options)
    mark_due(connection, model, version, start_s)
    return len(rows)


def mark_due(connection: sa.Connection, model: str, version: str, start_s: int) -> None:
    """Note that a window's cases changed: `monitoring.case_groups` works out groups and queue anew."""
    key = {"model": model, "version": version, "start_s": start_s}
    d = t.case_windows_due.c
    known = sa.select(d.start_s).where(d.model == model, d.version == version, d.start_s == start_s)
    if connection.scalar(known) is None:
        connection.execute(t.case_windows_due.insert().values(**key))


def rank_of(flags: int, score_rank: float) -> float:
    """Place in the queue: a rule's failure is certain, everything else goes by its scores."""
    return RULE_RANK if flags & RULE_BITS else score_rank


def build(x: Candidate, start_s: int, options: CaseOptions) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The rows of a case and of its tensors."""
    loaded = x.load()
    decided = {
        "id": x.id,
        "window_start_s": start_s,
        "state": CaseState.OPEN.value,
        "flags": x.flags,
        "rank": x.rank,
        "audit_rank": x.audit_rank,
        "label": None,
        "correct": None,
        "comment": None,
        "content_hash": x.content,
        "cell": x.cell,
        "vector": x.vector,
        "group_id": None,
        "likeness": None,
        "queue": None,
    }
    if loaded is None:
        return decided | (x.known() if x.known is not None else {}), []
    batch, record = loaded.batch, loaded.record
    piece, item = batch.origin(record)
    tensors, state = tensors_of(x.id, batch, record, options.tensor_bytes)
    if batch.thumbnails and tensors:
        tensors, state = only_thumbnails(loaded, tensors)
    audited = options.audit_rate * float(batch.probability[record]) if x.flags & AUDIT_BIT else None
    facts = {
        "id_hash": record_hash(batch.model, batch.ids[record]),
        "record_id": printable(batch.ids[record]),
        "model": batch.model,
        "version": batch.version,
        "variant": batch.variant,
        "time_ns": int(batch.time_ns[record]),
        "outcome": batch.outcome.value,
        "error": plain_text(piece.records.error[item]),
        "rows": int(batch.rows[record]),
        "inclusion_probability": audited,
        "timing_us": {
            "queue": int(batch.queue_us[record]),
            "compute": int(batch.compute_us[record]),
            "total": int(batch.total_us[record]),
        },
        "params": plain_text(piece.records.params[item]),
        "trace_id": plain_text(piece.records.trace_ids[item], 64),
        "tags": plain_text(piece.records.tags[item]),
        "source": piece.place.source,
        "input_state": state.value,
        "content_hash": content_hashes(batch, [record])[0] if x.content is None else x.content,
    }
    return decided | facts | opinions(loaded), tensors


def _set_inclusion(connection: sa.Connection, here: sa.ColumnElement[bool], options: CaseOptions) -> None:
    """When a window has more audit records than places, only those below the last one's rank had a chance.

    That rank over the rate is the chance of having been kept (bottom-k sampling: Cohen & Kaplan, PODC 2007).
    """
    c = t.cases.c
    audits = sa.and_(here, c.flags.op("&")(AUDIT_BIT) != 0)
    count, last = connection.execute(sa.select(sa.func.count(), sa.func.max(c.audit_rank)).where(audits)).one()
    if count >= options.audits_per_window and last is not None and last < options.audit_rate:
        r = sa.select(t.records.c.probability).where(t.records.c.id_hash == c.id_hash, t.records.c.time_ns == c.time_ns)
        chance = sa.func.coalesce(r.limit(1).scalar_subquery(), 1.0) * float(last)
        connection.execute(t.cases.update().where(audits).values(inclusion_probability=chance))


def _chunks(items: list[str], size: int) -> list[list[str]]:
    return [items[i : i + size] for i in range(0, len(items), size)]
