"""Feedback meets its records, in either order, and decides who was right.

`settle` is a function of the records and the feedback that the database holds for an id: it works out what label,
correctness and reasons the record should have, and moves windows and cases by the difference to what is stored. So it
may run as often as one likes, and the order of arrival leaves no trace.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa
import xxhash

from export.contracts.cases import CaseState
from export.contracts.scores import ScoreName
from monitoring import schema as t
from monitoring.alarms.rows import audit_label, drop_labels, write_labels
from monitoring.baseline import Baseline
from monitoring.baselines import Baselines
from monitoring.case_pools import AUDIT_BIT, FEEDBACK_BIT, PROBE_BIT
from monitoring.case_rows import InputState, Loaded, to_json
from monitoring.cases import Candidate, admit, mark_due, rank_of
from monitoring.keys import audit_ranks, case_id, printable, record_hash
from monitoring.options import MonitorOptions
from monitoring.origins import ASIDE
from monitoring.particulars import of_record
from monitoring.records.record import Feedback
from monitoring.scores import RANK_TIE
from monitoring.store import FIXED_POINT
from monitoring.tasks.protocol import WRONG, Row, Said, Verdict
from monitoring.window_rows import WindowDelta, WindowKey, add_to_window, window_start
from monitoring.windows import WindowStats

MAX_ERROR = 1e5  # tolerances; one absurd label must not own a window's mean error


def add_feedback(connection: sa.Connection, items: Iterable[Feedback]) -> set[int]:
    """Store feedback; the same item again changes nothing. Returns the id hashes it is about."""
    rows = {row["uid"]: row for row in map(_feedback_row, items)}
    if not rows:
        return set()
    f = t.feedback.c
    present: set[int] = set()
    for chunk in _chunked(list(rows), 500):
        present.update(connection.scalars(sa.select(f.uid).where(f.uid.in_(chunk))))
    fresh = [row for uid, row in rows.items() if uid not in present]
    if fresh:
        connection.execute(t.feedback.insert(), fresh)
    return {row["id_hash"] for row in rows.values()}


def waiting_for(connection: sa.Connection, id_hashes: list[int]) -> set[int]:
    """Those of `id_hashes` about which feedback came before its record."""
    f = t.feedback.c
    if connection.scalar(sa.select(f.id).where(f.joined.is_(False)).limit(1)) is None:
        return set()
    found: set[int] = set()
    for chunk in _chunked(id_hashes, 500):
        found.update(connection.scalars(sa.select(f.id_hash).where(f.id_hash.in_(chunk))))
    return found


def judge(item: Row, record: Row, baseline: Baseline, error_factor: float) -> tuple[Verdict, bool]:
    """What a row of `feedback` says of a row of `records`, and whether it makes the record a failure.

    A `score` of zero or below is a complaint (thumbs are -1 and 1, or 0 and 1).
    """
    verdict = compare(Said.of(item), record, baseline, error_factor) or Verdict()
    return verdict, verdict.wrong or (item["score"] is not None and item["score"] <= 0)


def compare(said: Said, record: Row, baseline: Baseline, error_factor: float) -> Verdict | None:
    """How a record's answer compares with what somebody said; None where that holds no truth."""
    if said.wrong:
        return Verdict(rows=1, correct=0, wrong=True) if record["rows"] == 1 else Verdict(wrong=True)
    truth = baseline.task.truth(said, record)
    return None if truth is None else baseline.task.judge(truth, record, error_factor)


class Settler:
    """Joins feedback and records within one transaction.

    Args:
        load: Fetches a record (a row of `records` with its model and version) from the log.
    """

    def __init__(
        self,
        connection: sa.Connection,
        baselines: Baselines,
        options: MonitorOptions,
        load: Callable[[Row], Loaded | None],
    ) -> None:
        self._connection = connection
        self._baselines = baselines
        self._options = options
        self._load = load
        self._factor = options.cases.value_error_factor
        self._deltas: dict[WindowKey, WindowDelta] = {}
        self._candidates: dict[tuple[str, str, int], list[Candidate]] = {}
        self._updates: list[tuple[str, dict[str, Any]]] = []
        self._audited: list[dict[str, Any]] = []
        self._unaudited: list[str] = []

    def settle(self, id_hashes: set[int]) -> None:
        """Bring records, windows and cases in line with the feedback about these ids."""
        for chunk in _chunked(sorted(id_hashes), 400):
            self._settle_chunk(chunk)
        drop_labels(self._connection, self._unaudited)
        write_labels(self._connection, self._audited)
        for key in sorted(self._deltas, key=lambda k: (k.version_id, k.variant, k.start_s)):
            add_to_window(self._connection, key, self._options.window_s, self._deltas[key])
        for (model, version, start_s), candidates in sorted(self._candidates.items()):
            admit(self._connection, model, version, start_s, candidates, self._options.cases)
        for identity, values in self._updates:
            c = t.cases.c
            found = self._connection.execute(
                t.cases.update()
                .where(c.id == identity)
                .values(**values)
                .returning(c.model, c.version, c.window_start_s)
            )
            for model, version, start_s in found.all():
                mark_due(self._connection, model, version, start_s)

    def dispute(self, records: Sequence[tuple[Row, int]]) -> None:
        """Let records in, each with the flags that it has now, about which another version says something else."""
        wanted: dict[tuple[str, str, int], list[Candidate]] = {}
        for record, flags in records:
            identity = case_id(record["model"], record["record_id"], record["time_ns"])
            start = window_start(record["time_ns"], self._options.window_s)
            where = (record["model"], record["version"], start)
            wanted.setdefault(where, []).append(self._candidate(identity, record, flags))
        for (model, version, start_s), candidates in sorted(wanted.items()):
            admit(self._connection, model, version, start_s, candidates, self._options.cases)

    def _settle_chunk(self, hashes: list[int]) -> None:
        r, v, f = t.records.c, t.versions.c, t.feedback.c
        query = sa.select(t.records, v.model, v.version).join(t.versions, r.version_id == v.id)
        found = self._connection.execute(query.where(r.id_hash.in_(hashes)).order_by(r.seq))
        records: list[Row] = [dict(row) for row in found.mappings()]
        about = sa.select(t.feedback).where(f.id_hash.in_(hashes)).order_by(f.time_ns, f.uid)
        items: dict[tuple[str, str], list[Row]] = {}
        for item in self._connection.execute(about).mappings():
            items.setdefault((item["model"], item["record_id"]), []).append(dict(item))
        joined: set[int] = set()
        for record in records:
            named = items.get((record["model"], record["record_id"]), [])
            said = [item for item in named if item["about_ns"] in (None, record["time_ns"])]
            if said:
                self._settle_record(record, said)
                joined.update(item["id"] for item in said if not item["joined"])
        for chunk in _chunked(sorted(joined), 500):
            self._connection.execute(t.feedback.update().where(f.id.in_(chunk)).values(joined=True))

    def _settle_record(self, record: Row, said: list[Row]) -> None:
        """Of a record about which something was said, which may all be withdrawn."""
        baseline = self._baselines.get(record["model"], record["version"])
        items = [item for item in said if not item["withdrawn"]]
        verdicts = [judge(item, record, baseline, self._factor) for item in items]
        labelled = [
            (i, x) for i, (x, _) in zip(items, verdicts, strict=True) if i["label"] is not None or i["labels"] or x.rows
        ]
        if record["flags"] & (AUDIT_BIT | PROBE_BIT):
            audited = audit_label(record, labelled, self._options)
            self._audited += [] if audited is None else [audited]
            self._unaudited += [_case_of(record)] if audited is None else []
        label, truth = None, None
        if labelled:  # the newest label holds
            item, truth = labelled[-1]
            label = item["label"] if item["label"] is not None else to_json(item["labels"])
        flags = record["flags"]
        if any(negative for _, negative in verdicts):
            flags |= FEEDBACK_BIT
        elif any(judge(item, record, baseline, self._factor)[1] for item in said if item["withdrawn"]):
            flags &= ~FEEDBACK_BIT
        correct = None if truth is None else truth.correct
        if (label, correct, flags) != (record["label"], record["correct_rows"], record["flags"]):
            self._move_window(record, truth, baseline)
            values = {"label": label, "correct_rows": correct, "flags": flags}
            self._connection.execute(t.records.update().where(t.records.c.seq == record["seq"]).values(**values))
        comments = [item["comment"] for item in items if item["comment"]]
        right = None if truth is None or correct is None else correct == truth.rows
        self._update_case(record, flags, label, right, comments[-1] if comments else None)

    def _move_window(self, record: Row, truth: Verdict | None, baseline: Baseline) -> None:
        """Add the new label's counts to the record's window and take the old one's away."""
        if record["variant"] == ASIDE:
            return
        before = None
        if record["correct_rows"] is not None:
            before = compare(Said.stored(json.loads(record["label"])), record, baseline, self._factor)
        start = window_start(record["time_ns"], self._options.window_s)
        key = WindowKey(record["version_id"], record["variant"], start)
        delta = self._deltas.setdefault(key, WindowDelta(stats=WindowStats.empty(baseline)))
        for verdict, sign in ((before, -1), (truth, 1)):
            if verdict is None or verdict.correct is None:
                continue
            delta.labelled += sign * verdict.rows
            delta.correct += sign * verdict.correct
            if record["flags"] & AUDIT_BIT:
                delta.audit_labelled += sign * verdict.rows
                delta.audit_correct += sign * verdict.correct
            delta.matched += sign * verdict.matched
            delta.missed += sign * verdict.missed
            delta.spurious += sign * verdict.spurious
            if verdict.error is not None:
                delta.error_sum += sign * round(min(verdict.error, MAX_ERROR) * FIXED_POINT)
            if len(delta.stats.labels):
                np.add.at(delta.stats.labels, list(verdict.classes), sign)

    def _update_case(self, record: Row, flags: int, label: str | None, right: bool | None, comment: str | None) -> None:
        identity = _case_of(record)
        shown = None if label == to_json(WRONG) else label  # that it is wrong is in `correct`
        values = {"flags": flags, "label": shown, "correct": right, "comment": comment}
        state = CaseState.LABELLED if label is not None else CaseState.OPEN
        # Only these two follow feedback, and while nobody has decided; what a reviewer decided stands.
        c = t.cases.c
        undecided = sa.and_(c.state.in_([CaseState.OPEN, CaseState.LABELLED]), c.decided_by == "")
        follow = sa.case((undecided, state), else_=c.state)
        self._updates.append((identity, values | {"state": follow}))
        if flags & FEEDBACK_BIT:
            start = window_start(record["time_ns"], self._options.window_s)
            where = (record["model"], record["version"], start)
            self._candidates.setdefault(where, []).append(self._candidate(identity, record, flags))

    def _candidate(self, identity: str, record: Row, flags: int) -> Candidate:
        p, sure = record["p_wrong"], record["confidence"]
        lot = audit_ranks(np.array([record["id_hash"]]), np.array([record["time_ns"]]))[0]
        content, cell, vector = of_record(record, self._baselines.get(record["model"], record["version"]))
        return Candidate(
            id=identity,
            flags=flags,
            rank=rank_of(flags, 0.0 if p is None else p + RANK_TIE * (1.0 - sure)),
            audit_rank=float(lot),
            load=lambda: self._load(record),
            place=(record["source"], record["sequence"]),
            known=lambda: self._known(record, flags),
            content=content,
            cell=cell,
            vector=vector,
        )

    def _known(self, record: Row, flags: int) -> dict[str, Any]:
        names = self._baselines.get(record["model"], record["version"]).class_names
        predicted = record["predicted"]
        same = ("id_hash", "record_id", "model", "version", "variant", "time_ns", "p_wrong", "confidence", "predicted")
        scores = {ScoreName.P_WRONG.value: record["p_wrong"], ScoreName.MSP.value: record["confidence"]}
        chance = self._options.cases.audit_rate * record["probability"] if flags & AUDIT_BIT else None
        return {name: record[name] for name in same} | {
            "predicted_label": names[predicted] if predicted is not None and predicted < len(names) else None,
            "scores": {name: value for name, value in scores.items() if value is not None},
            "probabilities": None,
            "answer": record["answer"][record["worst_row"]] if record["answer"] else None,
            "outcome": record["outcome"],
            "error": None,
            "rows": record["rows"],
            "row": record["worst_row"],
            "inclusion_probability": chance,
            "timing_us": {},
            "params": None,
            "trace_id": None,
            "tags": None,
            "source": record["source"],
            "input_state": InputState.GONE.value,
        }


def _case_of(record: Row) -> str:
    return case_id(record["model"], record["record_id"], record["time_ns"], record["variant"])


def _feedback_row(item: Feedback) -> dict[str, Any]:
    given = item.label if item.truth is None else {"rows": item.truth}
    label = None if given is None else to_json(given)
    labels = None if item.labels is None else list(item.labels)
    whole = to_json([item.model, item.record_id, item.time_ns, given, labels, item.score, item.comment, item.source])
    uid = np.array([xxhash.xxh64_intdigest(whole.encode("utf-8", "surrogatepass"))], dtype=np.uint64)
    return {
        "uid": int(uid.view(np.int64)[0]),
        "id_hash": record_hash(item.model, item.record_id),
        "model": item.model,
        "record_id": printable(item.record_id),
        "time_ns": item.time_ns,
        "label": None if label is None else printable(label),
        "labels": labels,
        "score": item.score,
        "comment": None if item.comment is None else printable(item.comment),
        "author": None if item.source is None else printable(item.source),
        "joined": False,
    }


def _chunked(items: list[int], size: int) -> list[list[int]]:
    return [items[i : i + size] for i in range(0, len(items), size)]
