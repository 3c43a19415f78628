"""Evidently's reports: one per (model, version, range, kind), made in a worker process, kept as files.

A report informs; it never alarms. Starting the same report twice gives the same report. Each lives in a folder:
`status.json` (what was asked, what became of it), `report.html`, `report.json` (Evidently's own) and `result.json`
(per column: method, threshold, value).
"""

from __future__ import annotations

import json
import logging
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from export.contracts.errors import HardcaseError, NotFound, Overloaded
from monitoring.report_frames import ColumnTest, Frame, column_tests
from monitoring.report_quality import figure, too_little
from monitoring.report_shelf import (
    ColumnResult,
    Report,
    ReportKind,
    ReportRequest,
    ReportShelf,
    ReportState,
    request_of,
    rfc3339,
)
from monitoring.report_worker import QUIET

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportOptions:
    """Bounds of the reports.

    Attributes:
        folder: Where reports are kept.
        memory_bytes: Address space of the worker process (Evidently maps 1.8 GiB before it does anything).
        timeout_s: Wall-clock limit of one report.
        max_rows: Rows of each frame; more are sampled, and the report says so.
        keep: Finished reports kept; the oldest go first.
        keep_bytes: Bytes of their files kept; the newest report stays whatever its size.
        waiting: Reports that may wait; past it a start is answered with 503.
    """

    folder: Path
    memory_bytes: int = 4 << 30
    timeout_s: float = 180.0
    max_rows: int = 2000
    keep: int = 100
    keep_bytes: int = 1 << 30
    waiting: int = 16


FrameSource = Callable[[ReportRequest, int], tuple[Frame, Frame]]
"""(request, most rows) → (reference, current). Raises `HardcaseError` with a public text when there is no reference."""


class ReportService:
    """Queue, worker thread and shelf of the reports.

    Args:
        options: Bounds and folder.
        frames: Where the two tables come from.
        clock: Wall clock, for the stamps.
        on_done: Told of every report that was made, in the worker's thread, before anybody can read it.
    """

    def __init__(
        self,
        options: ReportOptions,
        frames: FrameSource,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        on_done: Callable[[Report], None] | None = None,
    ) -> None:
        self.options = options
        self._frames = frames
        self._clock = clock
        self._on_done = on_done
        self._queue: queue.Queue[ReportRequest | None] = queue.Queue(maxsize=options.waiting + 1)
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._shelf = ReportShelf(options.folder)
        self._thread = threading.Thread(target=self._work, name="hardcase-reports", daemon=True)
        self._resume()
        self._thread.start()

    def start(self, request: ReportRequest) -> Report:
        """Begin a report, or find the one that exists.

        One that failed, had too little data, or was made before its range was over, is made again.

        Raises:
            Overloaded: too many reports wait.
        """
        with self._lock:
            known = self._shelf.read(request.id)
            if known is not None and not _again(known):
                return known
            if self._queue.qsize() >= self.options.waiting:
                raise Overloaded("too many reports are waiting: try again when some are done", retry_after_s=30)
            report = Report(
                id=request.id,
                model=request.model,
                version=request.version,
                start=rfc3339(request.start),
                end=rfc3339(request.end),
                state=ReportState.QUEUED,
                created_at=rfc3339(self._clock()),
                kind=request.kind,
                cause=request.cause,
                alarm=request.alarm,
            )
            self._shelf.write(report)
            self._queue.put_nowait(request)
            return report

    def get(self, report_id: str) -> Report:
        """A report by its id.

        Raises:
            NotFound: there is none.
        """
        report = self._shelf.read(report_id)
        if report is None:
            raise NotFound("there is no report with this id")
        return report

    def model_of(self, report_id: str) -> str | None:
        """Whose a report is; None where there is none."""
        try:
            return self.get(report_id).model
        except NotFound:
            return None

    def newest(self, model: str | None = None, limit: int = 50, alarm: str | None = None) -> tuple[Report, ...]:
        """Newest first; of one alarm, when it is named."""
        return self._shelf.newest(model, limit, alarm)

    def document(self, report_id: str, kind: str) -> bytes:
        """The finished report as "html" or "json".

        Raises:
            NotFound: unknown, or not done.
        """
        report = self.get(report_id)
        if report.state is not ReportState.DONE:
            raise NotFound(f"the report is {report.state.value}: it has no {kind} yet")
        return (self._shelf.folder(report.id) / f"report.{kind}").read_bytes()

    def wait(self, report_id: str, timeout_s: float) -> Report:
        """Block until the report is finished or the time is over; for command lines and tests."""
        gone = threading.Event()
        waited = 0.0
        while (report := self.get(report_id)).state in (ReportState.QUEUED, ReportState.RUNNING) and waited < timeout_s:
            gone.wait(0.1)
            waited += 0.1
        return report

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop the worker; a report under way stays queued and is made after the next start."""
        self._stopping.set()
        child = self._child
        if child is not None and child.poll() is None:
            child.kill()
        self._queue.put(None)
        self._thread.join(timeout_s)

    def _resume(self) -> None:
        """Queue again what a stopped monitor left unfinished."""
        for report in reversed(self._shelf.newest(limit=self.options.waiting)):
            if report.state in (ReportState.QUEUED, ReportState.RUNNING):
                self._queue.put_nowait(request_of(report))

    def _work(self) -> None:
        while not self._stopping.is_set():
            request = self._queue.get()
            if request is None:
                return
            report = self._shelf.read(request.id)
            if report is None:
                continue
            self._shelf.write(replace(report, state=ReportState.RUNNING, error=None))
            try:
                finished = self._make(request, report)
                if self._on_done is not None and finished.state is ReportState.DONE:
                    self._on_done(finished)
            except HardcaseError as error:
                finished = replace(report, state=ReportState.FAILED, error=error.message)
            except Exception:
                log.exception("report %s failed", request.id)
                finished = replace(report, state=ReportState.FAILED, error="the report failed: see the monitor's log")
            if self._stopping.is_set() and finished.state is not ReportState.DONE:
                finished = replace(report, state=ReportState.QUEUED)
            if finished.state is not ReportState.QUEUED:
                finished = replace(finished, finished_at=rfc3339(self._clock()))
            self._shelf.write(finished)
            self._shelf.tidy(self.options.keep, self.options.keep_bytes)

    def _make(self, request: ReportRequest, report: Report) -> Report:
        """Gather the frames, run the child, read its answer."""
        reference, current = self._frames(request, self.options.max_rows)
        facts = replace(
            report,
            reference_rows=reference.rows,
            current_rows=current.rows,
            total_rows=current.total_rows,
            dropped_rows=current.dropped_rows,
        )
        problem = too_little(request.kind, reference, current)
        if problem:
            return replace(facts, state=ReportState.NOT_ENOUGH_DATA, error=problem)
        facts = replace(facts, sampling=_sampling(request.kind, facts))
        tests = column_tests(reference, current.rows, seed=int(report.id[:8], 16)) if reference.rows else _bare(current)
        folder = self._shelf.folder(report.id)
        np.savez(folder / "frames.npz", reference=reference.values, current=current.values)
        (folder / "job.json").write_text(json.dumps(_job(facts, tests)))
        result = self._run_child(folder)
        if "error" in result:
            return replace(facts, state=ReportState.FAILED, error=str(result["error"]))
        if request.kind is ReportKind.DRIFT:
            columns = tuple(_result(t, v) for t, v in zip(tests, result["values"], strict=True))
        else:
            figures: list[tuple[str, str, float | None]] = result["figures"]
            columns = tuple(figure(n, method, v, reference, current) for n, method, v in figures)
        return replace(facts, state=ReportState.DONE, columns=columns)

    def _run_child(self, folder: Path) -> dict[str, Any]:
        limits = (str(self.options.memory_bytes), str(max(1, int(self.options.timeout_s))))
        command = [sys.executable, "-m", "monitoring.report_worker", str(folder.resolve()), *limits]
        (folder / "result.json").unlink(missing_ok=True)
        with (folder / "worker.log").open("wb") as output:
            self._child = subprocess.Popen(command, env=os.environ | QUIET, stdout=output, stderr=output)
            if self._stopping.is_set():  # close() may have looked for a child a moment too early
                self._child.kill()
            try:
                status = self._child.wait(self.options.timeout_s)
            except subprocess.TimeoutExpired:
                return {"error": f"the report took longer than {self.options.timeout_s:g} s and was stopped"}
            finally:
                self._child.kill()
                self._child.wait()
                (folder / "frames.npz").unlink(missing_ok=True)
        answer = folder / "result.json"
        if not answer.exists():
            return {"error": f"the worker process ended with status {status}: see worker.log in the report's folder"}
        found: dict[str, Any] = json.loads(answer.read_text())
        return found


def _job(report: Report, tests: tuple[ColumnTest, ...]) -> dict[str, Any]:
    names = ("model", "version", "start", "end", "total_rows", "dropped_rows", "sampling")
    facts = {k: getattr(report, k) for k in names}
    facts["method"] = "; ".join(sorted({f"{t.method} over its own threshold, at least 0.1" for t in tests if t.method}))
    return {"kind": report.kind, "facts": facts, "drift_share": 0.5, "columns": [asdict(t) for t in tests]}


def _sampling(kind: ReportKind, report: Report) -> str:
    """Which records took part, in words."""
    if kind is ReportKind.QUALITY:
        return f"{report.current_rows} of {report.total_rows} answers with a label; labels may be a biased sample"
    sampled = report.current_rows + report.dropped_rows < report.total_rows
    return f"{report.current_rows} of {report.total_rows} records" if sampled else "every record"


def _bare(current: Frame) -> tuple[ColumnTest, ...]:
    """Columns without anything to compare them with."""
    return tuple(ColumnTest(name=c.name, method="", threshold=0.0, categories=c.categories) for c in current.columns)


def _again(report: Report) -> bool:
    """Whether asking once more can give another answer."""
    if report.state in (ReportState.FAILED, ReportState.NOT_ENOUGH_DATA):
        return True
    return report.state is ReportState.DONE and report.created_at < report.end


def _result(test: ColumnTest, value: float | None) -> ColumnResult:
    drifted = value is not None and value >= test.threshold
    return ColumnResult(column=test.name, method=test.method, threshold=test.threshold, value=value, drifted=drifted)
