"""The labelled records of a version that P(wrong) may learn from, and how much of the traffic each stands for.

Reviewers are shown what the scores picked, so labels come mostly from there; taken as they are they would make
every model look worse than it is. Three kinds of labels are told apart:

- of records drawn for audit, and of records that the scores or novelty picked: who was labelled is known, so each
  stands for its share of its stratum (picked or not), and for what capture did not keep;
- of other records, which came by themselves (a complaint, a client's own truth): people report failures more readily
  than successes, so they are left out, right and wrong alike, unless the options call them a fair sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import sqlalchemy as sa

from export.contracts.scores import ScoreName
from export.contracts.scores.fitting import FOLDS
from export.contracts.traffic import Variant
from monitoring import schema as t
from monitoring.baseline import Baseline
from monitoring.case_pools import AUDIT_BIT, SCORE_BITS
from monitoring.options import ScoreOptions
from monitoring.origins import NOT_TRAFFIC
from monitoring.records.record import Outcome
from monitoring.score_fits.refit import Sample
from monitoring.score_rows import unpack
from monitoring.tasks.protocol import Said
from monitoring.window_rows import NANOSECONDS

HEAVIEST = 50.0  # a label stands for at most so many times what the lightest does


def labelled_sample(
    connection: sa.Connection,
    model: str,
    version_id: int,
    baseline: Baseline,
    until_ns: int,
    options: ScoreOptions,
    since_ns: int = 0,
) -> Sample:
    """Labels given before `until_ns`, the newest for each record; of very many, the newest.

    Those given from `since_ns` on are counted as fresh. Only rows count whose truth fits the answer; of a record of
    several rows, the one that the scores called worst.
    """
    found = [
        (record, wrong, label["time_ns"] >= since_ns)
        for record, label in _labels(connection, model, version_id, until_ns, options.labels)
        if record["scores"] is not None and (wrong := _wrong(record, label, baseline)) is not None
    ]
    kind = [_kind(record) for record, _, _ in found]
    fair = np.array([k == "audit" or (k == "other" and options.all_labels) for k in kind], dtype=bool)
    picked = np.array([k == "picked" for k in kind], dtype=bool)
    use = fair | picked
    columns = unpack([record["scores"] for record, _, _ in found])
    wanted = (
        () if baseline.profile is None or baseline.profile.classes is None else baseline.profile.classes.score_names
    )
    needed = {ScoreName.MSP.value, *wanted}
    for name in needed:
        use &= np.isfinite(columns[name])
    keep = np.flatnonzero(use)
    records = [found[i][0] for i in keep]
    kept = np.array([r["probability"] for r in records], dtype=np.float64)
    base = 1.0 / np.maximum(kept, 1e-6)
    strata = _strata(connection, version_id, [int(r["time_ns"]) for r in records], until_ns)
    weight = base.copy()
    for inside, traffic in ((picked[keep], strata[0]), (fair[keep], strata[1])):
        if inside.any() and traffic > 0:
            weight[inside] *= traffic / weight[inside].sum()
    if len(weight):
        weight = np.minimum(weight, HEAVIEST * weight.min())
    return Sample(
        scores={name: columns[name][keep] for name in needed},
        wrong=np.array([found[i][1] for i in keep], dtype=bool),
        weight=weight,
        fold=np.array([int(r["id_hash"]) % FOLDS for r in records], dtype=np.int64),
        audited=int(fair[keep].sum()),
        reviewed=int(picked[keep].sum()),
        fresh=sum(found[i][2] for i in keep),
        left_out=int((~(fair | picked)).sum()),
    )


def _labels(
    connection: sa.Connection, model: str, version_id: int, until_ns: int, limit: int
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Records of the version with their newest label before `until_ns`, in an order that arrival does not decide."""
    f, r = t.feedback.c, t.records.c
    given = sa.or_(f.label.is_not(None), f.labels.is_not(None))
    newest: dict[tuple[int, str], Mapping[str, Any]] = {}
    about = sa.select(t.feedback).where(f.model == model, f.time_ns < until_ns, given, f.withdrawn.is_(False))
    for item in connection.execute(about.order_by(f.time_ns.desc(), f.uid.desc()).limit(4 * limit)).mappings():
        newest.setdefault((item["id_hash"], item["record_id"]), dict(item))
    hashes = sorted({key[0] for key in list(newest)[:limit]})
    out: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = []
    for i in range(0, len(hashes), 400):
        query = sa.select(t.records).where(
            r.id_hash.in_(hashes[i : i + 400]),
            r.version_id == version_id,
            r.variant.not_in(NOT_TRAFFIC),
            r.outcome == Outcome.OK.value,
        )
        for record in connection.execute(query).mappings():
            label = newest.get((record["id_hash"], record["record_id"]))
            if label is not None and label["about_ns"] in (None, record["time_ns"]):
                out.append((dict(record), label))
    return sorted(out, key=lambda pair: (pair[0]["time_ns"], pair[0]["id_hash"], pair[0]["sequence"]))


def _wrong(record: Mapping[str, Any], label: Mapping[str, Any], baseline: Baseline) -> bool | None:
    """Whether the row that the scores speak of was answered wrong; None when that cannot be told."""
    said = Said.of(label)
    if said.wrong:
        return True if record["rows"] == 1 else None
    truth = baseline.task.truth(said, record)
    if truth is None or len(truth) != record["rows"]:
        return None
    row = {**record, "rows": 1, "predicted_rows": None}  # the columns of a record hold its worst row
    verdict = baseline.task.judge([truth[record["worst_row"]]], row, 0.0)
    return None if verdict.correct is None or verdict.rows != 1 else verdict.correct < 1


def _kind(record: Mapping[str, Any]) -> str:
    if record["flags"] & SCORE_BITS:
        return "picked"
    return "audit" if record["flags"] & AUDIT_BIT else "other"


def _strata(connection: sa.Connection, version_id: int, times_ns: list[int], until_ns: int) -> tuple[float, float]:
    """Records that the scores picked, and others, in the windows that the labels come from."""
    if not times_ns:
        return 0.0, 0.0
    w = t.windows.c
    query = sa.select(sa.func.sum(w.requests), sa.func.sum(w.flagged)).where(
        w.version_id == version_id,
        w.variant != Variant.SHADOW.value,
        w.start_s > min(times_ns) // NANOSECONDS - w.length_s,
        w.start_s <= max(times_ns) // NANOSECONDS,
        w.start_s + w.length_s <= until_ns // NANOSECONDS,
    )
    requests, flagged = connection.execute(query).one()
    picked = float(flagged or 0)
    return picked, max(float(requests or 0) - picked, 0.0)
