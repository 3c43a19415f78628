"""Rows of the database as answers of the API: functions of one row."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from monitoring.api import fields, report_models
from monitoring.api import models as m
from monitoring.feedback_held import standings
from monitoring.report_shelf import Report, ReportState
from monitoring.review.contracts import Standing, Verdict
from monitoring.review.machine import leased, shown_state
from monitoring.rows import FeedbackRow, SignalRow


def standing_answer(standing: Standing, now_ns: int | None = None) -> m.Standing:
    """A standing as an answer; a lease that is past is left out."""
    now = time.time_ns() if now_ns is None else now_ns
    held = leased(standing, now)
    return m.Standing(
        state=shown_state(standing, now),
        edition=standing.edition,
        lease_by=standing.lease_by if held else None,
        lease_until=fields.from_ns(standing.lease_until_ns) if held else None,
        assignee=standing.assignee or None,
        priority=standing.priority,
        opinions=standing.opinions,
        verdict=Verdict(standing.verdict) if standing.verdict else None,
        label=json.loads(standing.label) if standing.label else None,
        decided_by=standing.decided_by or None,
        decided_at=fields.from_ns(standing.decided_ns) if standing.decided_ns else None,
    )


def row_truth(label: Any, row: int) -> Any:
    """What an effective label says of one row of its record; None where there is none."""
    if isinstance(label, dict):
        rows = label.get("rows") or []
        return rows[row] if row < len(rows) else None
    return label


def signal(row: SignalRow) -> m.Signal:
    """A signal's row as an answer."""
    same = {n: getattr(row, n) for n in m.Signal.model_fields if n != "start"}
    return m.Signal.model_validate(same | {"start": fields.from_ns(row.start_s * 1_000_000_000)})


def feedback(rows: Sequence[FeedbackRow], time_ns: int, names: Sequence[str] = ()) -> list[m.Feedback]:
    """What was said about the record of that time, with what became of it."""
    made = []
    for row, standing in zip(rows, standings(rows, time_ns, names), strict=True):
        same = {n: getattr(row, n) for n in m.Feedback.model_fields if n not in ("time", "held", "because")}
        more = {"time": fields.from_ns(row.time_ns), "held": standing.held, "because": standing.because}
        made.append(m.Feedback.model_validate(same | more))
    return made


def report(row: Report) -> report_models.Report:
    """A report as an answer."""
    done = row.state is ReportState.DONE
    same = {n: getattr(row, n) for n in report_models.Report.model_fields if n not in ("html", "json_")}
    links = {kind: f"/api/reports/{row.id}.{kind}" if done else None for kind in ("html", "json")}
    return report_models.Report.model_validate(same | links)
