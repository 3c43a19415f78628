"""Reports on disk: what was asked, what became of it, and the files. One folder a report, never half written."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

METHOD_VERSION = 2  # part of a report's identity: raise it when methods or thresholds change
_STATUS = "status.json"


class ReportKind(StrEnum):
    """What a report is about."""

    DRIFT = "drift"  # every column beside the reference, each with a named test
    SUMMARY = "summary"  # what each column looks like: missing values, range, quantiles, common values
    QUALITY = "quality"  # answers beside the labels that came in, and beside the reference's


class ReportCause(StrEnum):
    """Why there is a report."""

    ASKED = "asked"  # by somebody, on the page, over the API or the command line
    SCHEDULE = "schedule"  # a span of the schedule is over
    ALARM = "alarm"  # an alarm fired


class ReportState(StrEnum):
    """What became of a report."""

    QUEUED = "queued"  # waits for the worker
    RUNNING = "running"  # a worker process has it
    DONE = "done"  # HTML and JSON can be read
    NOT_ENOUGH_DATA = "not_enough_data"  # the window holds too few records: a result, not a fault
    FAILED = "failed"  # `error` says why; starting it again tries again


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportRequest:
    """Which records are compared with the version's reference: `start` <= event time < `end`, aware, UTC.

    An alarm's report is kept apart from others of the same range, so that what was seen when it fired stays.
    """

    model: str
    version: str
    start: datetime
    end: datetime
    kind: ReportKind = ReportKind.DRIFT
    cause: ReportCause = ReportCause.ASKED
    alarm: str | None = None

    @property
    def id(self) -> str:
        """Name of the report: the same request has the same name."""
        text = "\n".join((self.model, self.version, rfc3339(self.start), rfc3339(self.end), str(METHOD_VERSION)))
        text += f"\n{self.kind.value}\n{self.alarm or ''}"
        return hashlib.sha256(text.encode()).hexdigest()[:20]


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnResult:
    """One figure of a finished report; `value` is None where it is undefined, `threshold` where it has none."""

    column: str
    method: str
    threshold: float | None
    value: float | None
    drifted: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What was asked and what became of it. Times are RFC 3339 in UTC."""

    id: str
    model: str
    version: str
    start: str
    end: str
    state: ReportState
    created_at: str
    kind: ReportKind = ReportKind.DRIFT
    cause: ReportCause = ReportCause.ASKED
    alarm: str | None = None
    sampling: str = ""
    finished_at: str | None = None
    error: str | None = None
    reference_rows: int = 0
    current_rows: int = 0
    total_rows: int = 0
    dropped_rows: int = 0
    columns: tuple[ColumnResult, ...] = ()

    @property
    def drifted(self) -> int:
        """Columns whose distance reached the threshold."""
        return sum(c.drifted for c in self.columns)


class ReportShelf:
    """The folder of all reports. Every answer is read from the files, so a restart forgets nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def folder(self, report_id: str) -> Path:
        """Where a report's files are."""
        return self._folder / report_id

    def read(self, report_id: str) -> Report | None:
        """A report, or None for an unknown or impossible id."""
        path = self._folder / report_id / _STATUS
        if not _is_id(report_id) or not path.exists():
            return None
        plain = json.loads(path.read_text())
        columns = tuple(ColumnResult(**c) for c in plain.pop("columns"))
        enums = {"state": ReportState(plain["state"]), "kind": ReportKind(plain.get("kind", ReportKind.DRIFT))}
        enums |= {"cause": ReportCause(plain.get("cause", ReportCause.ASKED))}
        return Report(**plain | enums | {"columns": columns})

    def write(self, report: Report) -> None:
        """Keep what is known of a report now."""
        folder = self._folder / report.id
        folder.mkdir(exist_ok=True)
        draft = folder / f"{_STATUS}.part"
        draft.write_text(json.dumps(asdict(report)))
        draft.replace(folder / _STATUS)

    def newest(
        self, model: str | None = None, limit: int | None = None, alarm: str | None = None
    ) -> tuple[Report, ...]:
        """Newest first."""
        found = [self.read(entry.name) for entry in self._folder.iterdir()]
        reports = [
            r for r in found if r is not None and model in (None, r.model) and (alarm is None or r.alarm == alarm)
        ]
        reports.sort(key=lambda r: (r.created_at, r.id), reverse=True)
        return tuple(reports[:limit])

    def tidy(self, keep: int, keep_bytes: int) -> None:
        """Drop the oldest finished reports past `keep`, or past `keep_bytes` of files."""
        used = 0
        for place, report in enumerate(self.newest()):
            used += sum(f.stat().st_size for f in (self._folder / report.id).iterdir())
            busy = report.state in (ReportState.QUEUED, ReportState.RUNNING)
            if not busy and (place >= keep or (place and used > keep_bytes)):
                shutil.rmtree(self._folder / report.id, ignore_errors=True)


def rfc3339(moment: datetime) -> str:
    """UTC with whole milliseconds and `Z`: 2026-01-31T12:00:00.000Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_rfc3339(text: str) -> datetime:
    """The inverse of `rfc3339`."""
    return datetime.fromisoformat(text)


def request_of(report: Report) -> ReportRequest:
    """What was asked."""
    start, end = parse_rfc3339(report.start), parse_rfc3339(report.end)
    return ReportRequest(
        model=report.model,
        version=report.version,
        start=start,
        end=end,
        kind=report.kind,
        cause=report.cause,
        alarm=report.alarm,
    )


def _is_id(text: str) -> bool:
    return len(text) == 20 and all(c in "0123456789abcdef" for c in text)
