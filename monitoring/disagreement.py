"""A shadow's answer beside the champion's, to the same request: where they differ, the champion's record is a case.

A shadow's record has the id of the request that the champion answered, is written after it to the same log, and holds
no inputs; so whatever pair there is, is complete when the shadow's record is read, in any order of the logs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa

from export.contracts.traffic import Variant
from monitoring import schema as t
from monitoring.baseline import Baseline
from monitoring.baselines import Baselines
from monitoring.batches import Batch
from monitoring.case_pools import DISAGREEMENT_BIT
from monitoring.keys import record_hashes
from monitoring.options import MonitorOptions
from monitoring.records.record import Outcome

Row = Mapping[str, Any]


def contradictions(
    connection: sa.Connection, baselines: Baselines, batches: Sequence[Batch], options: MonitorOptions
) -> list[tuple[Row, int]]:
    """Champions' records that a shadow's record in `batches` contradicts, with their flags, which are updated.

    Classes contradict when one row's differ; numbers when they are further apart than an error that would count as
    wrong. A shadow that failed says nothing.
    """
    found: dict[int, tuple[Row, int]] = {}
    for batch in batches:
        if batch.variant != Variant.SHADOW.value or batch.outcome is not Outcome.OK:
            continue
        hashes = sorted(set(record_hashes(batch.model, batch.ids)))
        for start in range(0, len(hashes), 400):
            for record, flags in _among(connection, baselines, hashes[start : start + 400], options):
                found[record["seq"]] = (record, flags)
    r = t.records.c
    for seq, (_, flags) in found.items():
        connection.execute(t.records.update().where(r.seq == seq).values(flags=flags))
    return [found[seq] for seq in sorted(found)]


def _among(
    connection: sa.Connection, baselines: Baselines, hashes: list[int], options: MonitorOptions
) -> list[tuple[Row, int]]:
    r, v = t.records.c, t.versions.c
    query = sa.select(t.records, v.model, v.version).join(t.versions, r.version_id == v.id)
    query = query.where(r.id_hash.in_(hashes), r.outcome == Outcome.OK.value).order_by(r.time_ns, r.seq)
    pairs: dict[tuple[str, str], tuple[list[Row], list[Row]]] = {}
    for row in connection.execute(query).mappings():
        answered, shadowed = pairs.setdefault((row["model"], row["record_id"]), ([], []))
        (shadowed if row["variant"] == Variant.SHADOW.value else answered).append(dict(row))
    made: list[tuple[Row, int]] = []
    for answered, shadowed in pairs.values():
        # Ids are used again at times: the shadow's record belongs to the last answer before it.
        for shadow in shadowed:
            before = [a for a in answered if a["time_ns"] <= shadow["time_ns"]]
            if not before or before[-1]["flags"] & DISAGREEMENT_BIT:
                continue
            champion = before[-1]
            baseline = baselines.get(champion["model"], champion["version"])
            if differ(champion, shadow, value_tolerance(baseline, options)):
                made.append((champion, champion["flags"] | DISAGREEMENT_BIT))
    return made


def value_tolerance(baseline: Baseline, options: MonitorOptions) -> float | None:
    """How far two numbers may lie from each other; None where the version's reference says nothing about that."""
    error = None if baseline.profile is None else baseline.profile.value_error
    return None if error is None else options.cases.value_error_factor * error


def differ(champion: Row, shadow: Row, apart: float | None) -> bool:
    """Whether two answers to one request contradict each other; `apart` is how far numbers may lie from each other."""
    ours = champion["predicted_rows"] or [champion["predicted"]]
    theirs = shadow["predicted_rows"] or [shadow["predicted"]]
    if None not in ours and None not in theirs:
        return bool(list(ours) != list(theirs))
    if champion["value"] is None or shadow["value"] is None or apart is None:
        return False
    return bool(np.abs(champion["value"] - shadow["value"]) > apart)
