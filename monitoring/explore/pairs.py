"""Inputs that two versions have both answered, and what each of them said.

There are three ways in which two versions come to have answered the same input: the same request, when one of them is
a shadow; the same content in two requests, of which the record index knows for flagged records; and stored cases that
were sent to a version again (`monitoring.explore.replays`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from export.contracts.traffic import Variant
from monitoring import schema as t
from monitoring.baseline import Baseline
from monitoring.explore.pair import Pair, Side, Source
from monitoring.explore.pair import judged as judged_with_truth
from monitoring.explore.within import Within, row_of
from monitoring.origins import ASIDE
from monitoring.records.record import Outcome
from monitoring.store import Store

MAX_RECORDS = 20_000  # newest records of the version that has fewer
MAX_CASES = 20_000
_CHUNK = 400


@dataclass(frozen=True, kw_only=True)
class Found:
    """Pairs, and what could not be compared."""

    pairs: tuple[Pair, ...]
    counts: Mapping[str, int] = field(default_factory=dict)


def find_pairs(
    store: Store,
    left: Baseline,
    right: Baseline,
    names: tuple[str, str, str],
    sources: Iterable[Source],
    factor: float,
    within: Within | None = None,
) -> Found:
    """What both versions answered, each input once.

    Args:
        store: The monitor's database.
        left: Baseline of the left version, which judges its answers.
        right: Baseline of the right one.
        names: Model, left version, right version.
        sources: Which ways count.
        factor: `monitoring.options.CaseOptions.value_error_factor`.
        within: Only these cases; None: whatever there is.
    """
    model, first, second = names
    wanted = set(sources)
    with store.read() as connection:
        v = t.versions.c
        rows = connection.execute(sa.select(v.version, v.id).where(v.model == model, v.version.in_((first, second))))
        ids: dict[str, int] = {row.version: row.id for row in rows}
        pairs: list[Pair] = []
        counts = {
            f"{side}_requests": _requests(connection, ids.get(n)) for side, n in (("left", first), ("right", second))
        }
        if first in ids and second in ids:
            if Source.REQUEST in wanted:
                pairs += _same_request(connection, ids[first], ids[second])
            if Source.CONTENT in wanted:
                pairs += _same_content(connection, ids[first], ids[second], {p.place for p in pairs})
        if Source.CASE in wanted:
            taken = {p.case_id for p in pairs if p.case_id} | {p.place for p in pairs}
            made, asked = _cases(connection, (model, first, second), taken, within)
            pairs += made
            counts["cases_without_both"] = asked
    if within is not None:
        pairs = within.keep(pairs)
        counts["in_set"] = len(within.cases)
    judged = tuple(judged_with_truth(pair, left, right, factor) for pair in pairs)
    for source in Source:
        counts[source.value] = sum(p.source is source for p in judged)
    counts["without_truth"] = sum(p.left.correct is None or p.right.correct is None for p in judged)
    counts["several_rows"] = sum(bool(p.left.rows) for p in judged)
    return Found(pairs=judged, counts=counts)


def _requests(connection: sa.Connection, version_id: int | None) -> int:
    if version_id is None:
        return 0
    w = t.windows.c
    return int(
        connection.scalar(sa.select(sa.func.coalesce(sa.func.sum(w.requests), 0)).where(w.version_id == version_id))
        or 0
    )


_NAMES = ("seq", "id_hash", "time_ns", "record_id", "rows", "predicted", "predicted_rows", "confidence", "p_wrong",
          "value", "answer", "label", "correct_rows", "content_hash", "variant")  # fmt: skip


def _records(connection: sa.Connection, *where: sa.ColumnElement[bool], newest: int | None = None) -> list[Any]:
    r, c = t.records.c, t.cases.c
    query = sa.select(*(r[n] for n in _NAMES), c.id.label("case_id"), c.input_state).where(
        *where, r.outcome == Outcome.OK.value, r.variant != ASIDE
    )
    query = query.outerjoin(t.cases, sa.and_(c.id_hash == r.id_hash, c.time_ns == r.time_ns, c.variant == r.variant))
    if newest is not None:
        query = query.order_by(r.seq.desc()).limit(newest)
    return list(connection.execute(query).all())


def _same_request(connection: sa.Connection, left: int, right: int) -> list[Pair]:
    """The newest records of the right version that the left one has answered too, whichever of them was the shadow."""
    r = t.records.c
    theirs = _records(connection, r.version_id == right, newest=MAX_RECORDS)
    by_hash: dict[int, list[Any]] = {}
    for row in theirs:
        by_hash.setdefault(row.id_hash, []).append(row)
    pairs = []
    for chunk in _chunks(sorted(by_hash)):
        for ours in _records(connection, r.version_id == left, r.id_hash.in_(chunk)):
            # Ids are used again at times: the answer that is nearest in time is to the same request.
            other = min(by_hash[ours.id_hash], key=lambda row: abs(row.time_ns - ours.time_ns))
            if ours.record_id == other.record_id and ours.rows == other.rows:
                pairs.append(_pair(Source.REQUEST, ours, other))
    return pairs


def _same_content(connection: sa.Connection, left: int, right: int, without: set[tuple[int, int]]) -> list[Pair]:
    r = t.records.c
    theirs = _records(connection, r.version_id == right, r.content_hash.is_not(None), newest=MAX_RECORDS)
    by_content = {row.content_hash: row for row in theirs}
    pairs: dict[int, Pair] = {}
    for chunk in _chunks(sorted(by_content)):
        for ours in _records(connection, r.version_id == left, r.content_hash.in_(chunk)):
            other = by_content[ours.content_hash]
            if (ours.id_hash, ours.time_ns) not in without and ours.id_hash != other.id_hash:
                pairs[ours.content_hash] = _pair(Source.CONTENT, ours, other)
    return list(pairs.values())


def _cases(
    connection: sa.Connection, sides_of: tuple[str, str, str], without: set[Any], within: Within | None
) -> tuple[list[Pair], int]:
    """Cases of which both answers are known, and how many lack one of them: of a set, or of the model's newest."""
    model, left, right = sides_of
    c, a = t.cases.c, t.case_answers.c
    names = (
        "id",
        "id_hash",
        "time_ns",
        "record_id",
        "version",
        "predicted",
        "confidence",
        "p_wrong",
        "answer",
        "label",
        "input_state",
        "row",
    )
    query = sa.select(*(c[n] for n in names)).where(c.model == model, c.outcome == Outcome.OK.value)
    if within is None:
        rows = list(connection.execute(query.order_by(c.time_ns.desc(), c.id).limit(MAX_CASES)).all())
    else:
        rows = [row for chunk in _chunks(within.cases) for row in connection.execute(query.where(c.id.in_(chunk)))]
    given: dict[tuple[str, str], Any] = {}
    for chunk in _chunks([row.id for row in rows]):
        found = sa.select(t.case_answers).where(a.case_id.in_(chunk), a.version.in_((left, right)), a.error.is_(None))
        given |= {(row.case_id, row.version): row for row in connection.execute(found)}
    pairs, missing = [], 0
    for row in rows:
        if row.id in without or (row.id_hash, row.time_ns) in without:
            continue
        sides = [row if row.version == version else given.get((row.id, version)) for version in (left, right)]
        if sides[0] is None or sides[1] is None:
            missing += 1
            continue
        label = None if row.label is None else row_of(json.loads(row.label), row.row)
        pairs.append(
            Pair(
                source=Source.CASE,
                record_id=row.record_id,
                time_ns=row.time_ns,
                place=(row.id_hash, row.time_ns),
                case_id=row.id,
                shown=row.id if row.input_state == "kept" else None,
                seq=0,
                label=label,
                left=_case_side(sides[0]),
                right=_case_side(sides[1]),
            )
        )
    return pairs, missing


def _case_side(row: Any) -> Side:
    value = getattr(row, "value", None)
    return Side(predicted=row.predicted, confidence=row.confidence, p_wrong=row.p_wrong, value=value, answer=row.answer)


def _pair(source: Source, ours: Any, other: Any) -> Pair:
    label = ours.label if ours.label is not None else other.label
    return Pair(
        source=source,
        record_id=ours.record_id,
        time_ns=ours.time_ns,
        place=(ours.id_hash, ours.time_ns),
        case_id=ours.case_id or other.case_id,
        shown=next((row.case_id for row in (ours, other) if row.input_state == "kept"), None),
        seq=other.seq if ours.variant == Variant.SHADOW.value else ours.seq,  # a shadow's record holds no inputs
        label=None if label is None else json.loads(label),
        left=_side(ours),
        right=_side(other),
    )


def _side(row: Any) -> Side:
    return Side(
        predicted=row.predicted,
        confidence=row.confidence,
        p_wrong=row.p_wrong,
        value=row.value,
        answer=row.answer,
        rows=tuple(row.predicted_rows or ()) if row.rows != 1 else (),
        correct=None if row.correct_rows is None else row.correct_rows == row.rows,
    )


def _chunks(items: Sequence[Any]) -> Iterable[list[Any]]:
    for start in range(0, len(items), _CHUNK):
        yield list(items[start : start + _CHUNK])
