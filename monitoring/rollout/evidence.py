"""What the database says about a roll-out since the last look: counts by version, nothing twice, nothing left out.

`records.seq` is the order in which records were committed, so "everything above the cursor" is exact, also after a
restart: the cursor is stored in the transaction that stores what was counted. Records that capture kept with a
probability count by its inverse. Labels come late; what they say is therefore counted anew, since the phase began.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import sqlalchemy as sa

from export.contracts.cases import FlagReason
from export.contracts.traffic import Variant
from monitoring import schema as t
from monitoring.case_pools import SCORE_BITS
from monitoring.disagreement import differ
from monitoring.flags import FLAG_BITS
from monitoring.record_rows import newest_record
from monitoring.records.record import Outcome
from monitoring.rollout.policy import Metric, RolloutPolicy, StepKind
from monitoring.rollout.standing import Block, Counts, Pairs, Standing

Row = Mapping[str, Any]

PAIRS_A_LOOK = 5000  # pairs read at most; the first ones, which says nothing about how they come out
LATENCIES = 5000  # of the champion's newest answers, for its quantile
FEWEST_LATENCIES = 50
_QUANTILE = 0.95
_ANSWERED = (Variant.CHAMPION.value, Variant.CANARY.value)
_ENDS = (Outcome.OK.value, Outcome.FAILED.value, Outcome.DEADLINE.value)
_NOT_FINITE = FLAG_BITS[FlagReason.RULE_NOT_FINITE]
_AUDIT = FLAG_BITS[FlagReason.AUDIT]
_COLUMNS = ("id_hash", "record_id", "time_ns", "outcome", "flags", "predicted", "predicted_rows", "value", "rows",
            "correct_rows", "seq")  # fmt: skip


def gather(
    connection: sa.Connection,
    model: str,
    candidate: str,
    champion: str | None,
    standing: Standing,
    policy: RolloutPolicy,
    apart: Callable[[], float | None] = lambda: None,
) -> Block:
    """Everything that was committed since `standing.cursor`.

    Args:
        connection: A transaction.
        model: Of the roll-out.
        candidate: Its version.
        champion: The version that it is compared with.
        standing: Where the roll-out stands.
        policy: For the latency budget.
        apart: How far two numbers may lie from each other, for regressions.
    """
    until = newest_record(connection)
    ids = _version_ids(connection, model)
    ours, theirs = ids.get(candidate), ids.get(champion or "")
    budget_us = standing.budget_us
    if budget_us is None and theirs is not None and standing.phase not in (None, StepKind.SHADOW):
        budget_us = _budget(connection, theirs, standing.cursor, policy)
    groups = _groups(connection, list(ids.values()), standing.cursor, until, budget_us)
    mine = [g for g in groups if g["version_id"] == ours and g["variant"] in _ANSWERED]
    his = [g for g in groups if g["version_id"] == theirs and g["variant"] in _ANSWERED]
    counts = _counts(mine, his, budget_us is not None)
    pairs: dict[Metric, Pairs] = {}
    disagreed = compared = 0
    if ours is not None and theirs is not None:
        if standing.phase is StepKind.SHADOW:
            found = _pairs(connection, ours, theirs, standing.cursor, until)
            pairs, disagreed, compared = _compare(found, apart)
            pairs[Metric.WRONG] = _labelled_pairs(connection, ours, theirs, standing.phase_cursor)
        elif standing.phase is not None:
            counts[Metric.WRONG] = _labelled(connection, ours, theirs, standing.phase_cursor)
    rescued = sum(_rescued(g) for g in groups if g["variant"] == Variant.CANARY.value)
    beside = [g["n"] for g in groups if g["version_id"] == ours and g["variant"] == Variant.SHADOW.value]
    return Block(
        cursor=until,
        newest_ns=max((int(g["newest_ns"]) for g in groups), default=0),
        answered=_round(sum(g["n"] for g in groups if g["variant"] in _ANSWERED) - rescued),
        exposed=_round(sum(g["n"] - (_rescued(g) if g["variant"] == Variant.CANARY.value else 0) for g in mine)),
        shadowed=_round(sum(beside)),
        pairs=pairs,
        disagreed=disagreed,
        compared=compared,
        counts=counts,
        budget_us=budget_us,
    )


def trouble_since(connection: sa.Connection, model: str, version: str, since_ns: int) -> str:
    """Why serving does without the candidate: what replicas told since then; "" when they told nothing."""
    e = t.events.c
    query = (
        sa.select(e.kind, e.detail)
        .where(e.model == model, e.version == version, e.time_ns >= since_ns)
        .where(e.kind.in_(("challenger_tripped", "version_unavailable")))
        .order_by(e.time_ns, e.id)
        .limit(1)
    )
    row = connection.execute(query).first()
    if row is None:
        return ""
    said = "a replica took it out" if row.kind == "challenger_tripped" else "a replica does not load it"
    return f"{said}: {row.detail.get('reason', 'no reason given')}"


def _version_ids(connection: sa.Connection, model: str) -> dict[str, int]:
    v = t.versions.c
    return {row.version: row.id for row in connection.execute(sa.select(v.version, v.id).where(v.model == model))}


def _groups(
    connection: sa.Connection, versions: list[int], after: int, until: int, budget_us: float | None
) -> list[Row]:
    r = t.records.c
    weight = 1.0 / r.probability

    def where(condition: Any) -> Any:
        return sa.func.sum(sa.case((condition, weight), else_=0.0))

    slow = sa.literal(0.0) if budget_us is None else where(r.total_us > budget_us)
    query = (
        sa.select(
            r.version_id,
            r.variant,
            r.outcome,
            sa.func.sum(weight).label("n"),
            where(r.flags.op("&")(_NOT_FINITE) != 0).label("not_finite"),
            where(r.flags.op("&")(SCORE_BITS) != 0).label("flagged"),
            slow.label("slow"),
            sa.func.max(r.time_ns).label("newest_ns"),
        )
        .where(r.seq > after, r.seq <= until, r.version_id.in_(versions), r.outcome.in_(_ENDS))
        .where(r.variant.in_((*_ANSWERED, Variant.SHADOW.value)))
        .group_by(r.version_id, r.variant, r.outcome)
    )
    return [dict(row) for row in connection.execute(query).mappings()] if versions and until > after else []


def _counts(mine: list[Row], his: list[Row], timed: bool) -> dict[Metric, Counts]:
    def both(bad: Callable[[Row], float], of: Callable[[Row], bool]) -> Counts:
        sums = [
            _round(sum(part))
            for side in (mine, his)
            for part in ([bad(g) for g in side if of(g)], [g["n"] for g in side if of(g)])
        ]
        return Counts(bad=min(sums[0], sums[1]), n=sums[1], champion_bad=min(sums[2], sums[3]), champion_n=sums[3])

    def answered(group: Row) -> bool:
        return bool(group["outcome"] == Outcome.OK.value)

    made = {
        Metric.ERRORS: both(lambda g: 0.0 if answered(g) else g["n"], lambda g: True),
        Metric.INVALID: both(lambda g: g["not_finite"], answered),
        Metric.FLAGGED: both(lambda g: g["flagged"], answered),
    }
    if timed:
        made[Metric.LATENCY] = both(lambda g: g["slow"], answered)
    return made


def _rescued(group: Row) -> float:
    """Requests that a canary did not answer well: the champion did instead."""
    return float(group["n"] if group["outcome"] == Outcome.FAILED.value else group["not_finite"])


def _pairs(connection: sa.Connection, ours: int, theirs: int, after: int, until: int) -> list[tuple[Row, Row]]:
    """(candidate's, champion's) record of each request that the candidate ran on in the shadow."""
    s, c = t.records.alias("s"), t.records.alias("c")
    query = (
        sa.select(*[s.c[n].label(f"s_{n}") for n in _COLUMNS], *[c.c[n].label(f"c_{n}") for n in _COLUMNS])
        .join(c, sa.and_(c.c.id_hash == s.c.id_hash, c.c.record_id == s.c.record_id))
        .where(s.c.seq > after, s.c.seq <= until, s.c.version_id == ours, s.c.variant == Variant.SHADOW.value)
        .where(c.c.version_id == theirs, c.c.variant == Variant.CHAMPION.value, c.c.time_ns <= s.c.time_ns)
        .order_by(s.c.seq, c.c.time_ns)
        .limit(PAIRS_A_LOOK)
    )
    # ids are used again at times: the last answer before it is the shadow's
    return list({pair[0]["seq"]: pair for pair in _split(connection, query)}.values())


def _labelled_pairs(connection: sa.Connection, ours: int, theirs: int, after: int) -> Pairs:
    s, c = t.records.alias("s"), t.records.alias("c")
    query = (
        sa.select(*[s.c[n].label(f"s_{n}") for n in _COLUMNS], *[c.c[n].label(f"c_{n}") for n in _COLUMNS])
        .join(c, sa.and_(c.c.id_hash == s.c.id_hash, c.c.record_id == s.c.record_id))
        .where(s.c.label.is_not(None), s.c.correct_rows.is_not(None), s.c.seq > after, s.c.version_id == ours)
        .where(s.c.variant == Variant.SHADOW.value, c.c.version_id == theirs, c.c.correct_rows.is_not(None))
        .where(c.c.variant == Variant.CHAMPION.value, c.c.flags.op("&")(_AUDIT) != 0, c.c.time_ns <= s.c.time_ns)
        .order_by(s.c.seq, c.c.time_ns)
        .limit(PAIRS_A_LOOK)
    )
    made = Pairs()
    for ours_row, theirs_row in {pair[0]["seq"]: pair for pair in _split(connection, query)}.values():
        made += _pair(_wrong(ours_row), _wrong(theirs_row))
    return made


def _labelled(connection: sa.Connection, ours: int, theirs: int, after: int) -> Counts:
    r = t.records.c
    wrong = sa.func.sum(sa.case((r.correct_rows < r.rows, 1), else_=0))
    query = (
        sa.select(r.version_id, sa.func.count(), wrong)
        .where(r.version_id.in_((ours, theirs)), r.label.is_not(None), r.correct_rows.is_not(None))
        .where(r.seq > after, r.variant.in_(_ANSWERED), r.flags.op("&")(_AUDIT) != 0)
        .group_by(r.version_id)
    )
    found = {version: (int(n), int(bad)) for version, n, bad in connection.execute(query)}
    (n, bad), (champion_n, champion_bad) = found.get(ours, (0, 0)), found.get(theirs, (0, 0))
    return Counts(bad=bad, n=n, champion_bad=champion_bad, champion_n=champion_n)


def _compare(found: list[tuple[Row, Row]], apart: Callable[[], float | None]) -> tuple[dict[Metric, Pairs], int, int]:
    pairs = dict.fromkeys((Metric.ERRORS, Metric.INVALID, Metric.FLAGGED), Pairs())
    disagreed = compared = 0
    limit: float | None = None
    for ours, theirs in found:
        failed = [row["outcome"] != Outcome.OK.value for row in (ours, theirs)]
        pairs[Metric.ERRORS] += _pair(*failed)
        if any(failed):
            continue
        for metric, bits in ((Metric.INVALID, _NOT_FINITE), (Metric.FLAGGED, SCORE_BITS)):
            pairs[metric] += _pair(*[bool(row["flags"] & bits) for row in (ours, theirs)])
        if any(row["predicted"] is None and row["predicted_rows"] is None for row in (ours, theirs)):
            limit = apart() if limit is None else limit
            if limit is None or None in (ours["value"], theirs["value"]):
                continue
        compared += 1
        disagreed += differ(theirs, ours, limit)
    return pairs, disagreed, compared


def _pair(ours: bool, theirs: bool) -> Pairs:
    return Pairs(more=int(ours and not theirs), same=int(ours == theirs), less=int(theirs and not ours))


def _wrong(row: Row) -> bool:
    return bool(row["correct_rows"] < row["rows"])


def _split(connection: sa.Connection, query: sa.Select[Any]) -> list[tuple[Row, Row]]:
    made: list[tuple[Row, Row]] = []
    for row in connection.execute(query).mappings():
        made.append(({n: row[f"s_{n}"] for n in _COLUMNS}, {n: row[f"c_{n}"] for n in _COLUMNS}))
    return made


def _budget(connection: sa.Connection, champion: int, until: int, policy: RolloutPolicy) -> float | None:
    """What counts as slow: from the champion's answers before the candidate's first."""
    r = t.records.c
    query = (
        sa.select(r.total_us)
        .where(r.version_id == champion, r.variant == Variant.CHAMPION.value, r.outcome == Outcome.OK.value)
        .where(r.seq <= until, r.total_us.is_not(None))
        .order_by(r.seq.desc())
        .limit(LATENCIES)
    )
    found = np.array(connection.scalars(query).all(), np.float64)
    if len(found) < FEWEST_LATENCIES:
        return None
    return max(policy.latency_floor_us, float(np.quantile(found, _QUANTILE)) * policy.latency_factor)


def _round(value: float) -> int:
    return round(value)
