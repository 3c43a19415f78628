"""`hardcase rescore`: from its options to a summary."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.cli.context import Invocation, console, print_json
from deploy.errors import CommandError, Missing, UsageError
from deploy.wiring import monitor_options
from monitoring.records.folders import write_atomically
from monitoring.rescore import Part, RescoreRequest, Summary, plan, summarise

if TYPE_CHECKING:
    from deploy.rescore_ray import Job

_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_ROUNDS = 5  # segments are archived while we work: what moved is looked for again
EVER_NS = (1 << 63) - 1


def parse_time(text: str, now_s: float) -> int:
    """RFC 3339 (a day alone is its first moment, UTC), or how long ago: `90m`, `24h`, `7d`; in ns since the epoch.

    Raises:
        UsageError: neither.

    Example:
        >>> parse_time("1970-01-02", 0.0), parse_time("2h", 7200.0)
        (86400000000000, 0)
    """
    ago = _AGO.fullmatch(text)
    if ago:
        return int((now_s - float(ago[1]) * _SECONDS[ago[2]]) * 1e9)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"'{text}' is no time: give 2026-03-01, 2026-03-01T12:00:00Z, or 24h") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()) * 10**9


def run_rescore(
    invocation: Invocation, request: RescoreRequest, *, local: bool, cpus: int | None, as_json: bool
) -> None:
    """Score the records of a time again, part by part; called again it goes on behind the parts that are done.

    Raises:
        Missing: there is no such model, version or reference, or nothing was recorded.
    """
    from deploy.rescore_ray import Job

    options = monitor_options(invocation.settings, invocation.paths)
    _check(invocation, request)
    out = options.records_root.with_name("rescored") / request.id
    job = Job(
        request=request,
        registry=invocation.paths.registry.absolute(),
        records=options.records_root.absolute(),
        archive=options.archive_root.absolute(),
        out=out.absolute(),
        cases=options.cases,
    )
    address = invocation.settings.ray.address
    if not local and address is not None and invocation.settings.ray.auth_token_file:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": invocation.settings.ray.auth_token_file}
    started = time.monotonic()
    parts, total, skipped = rescore(job, address=address, cpus=cpus, local=local, quiet=as_json)
    result = {
        "id": request.id,
        "parts": len(parts),
        "skipped": skipped,
        "seconds": round(time.monotonic() - started, 2),
        "folder": str(out),
        **asdict(total),
        "mean_move": total.moved / total.compared if total.compared else None,
    }
    write_atomically(out / "summary.json", json.dumps({**asdict(request), **result}).encode())
    if as_json:
        print_json(result)
    else:
        console().print(describe(total, out))


def rescore(
    job: Job, *, address: str | None, cpus: int | None, local: bool, quiet: bool = False
) -> tuple[list[Part], Summary, int]:
    """All parts of a job; returns them, the sum, and how many had been done before.

    Raises:
        Missing: nothing was recorded in that time.
        CommandError: parts keep moving, or one cannot be read.
    """
    from deploy.rescore_ray import do_part, run_on_ray

    skipped = -1
    for _ in range(_ROUNDS):
        parts = plan(job.records, job.archive, job.request)
        if not parts:
            raise Missing("nothing is recorded of that time", "`hardcase records tail` shows what there is")
        todo = [part for part in parts if not (job.out / f"{part.key}.json").exists()]
        skipped = len(parts) - len(todo) if skipped < 0 else skipped
        if not todo:
            total, _ = summarise(job.out, parts)
            return parts, total, skipped
        job.out.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _Progress(parts, todo, quiet=quiet) as progress:
            if local:
                for part in todo:
                    try:
                        progress.done(part, do_part(job, part))
                    except FileNotFoundError:
                        continue  # archived, or written anew, a moment ago: the next round finds it
                    except ValueError as error:
                        raise CommandError(f"a part of the history cannot be read: {error}") from None
            else:
                run_on_ray(job, todo, progress.done, address=address, cpus=cpus)
    raise CommandError("the log was moving all the time", "call the command again: it goes on where it stopped")


def describe(total: Summary, out: Path) -> str:
    """For people."""
    lines = [f"{total.records:,} records, {total.scored:,} with scores; {total.flagged:,} would be flagged now"]
    if total.compared:
        lines.append(
            f"of {total.compared:,} whose old scores are known {total.flagged_then:,} were flagged: "
            f"{total.newly:,} are new, {total.no_longer:,} are no longer; "
            f"P(wrong) moved by {total.moved / total.compared:.4f} on average"
        )
    else:
        lines.append("none of them is in the archive, so what was flagged then is not known here")
    if total.unscored:
        lines.append(f"{total.unscored:,} could not be scored: their tensors do not fit the version")
    return "\n".join([*lines, f"new scores: {out}/*.parquet"])


def _check(invocation: Invocation, request: RescoreRequest) -> None:
    registry = invocation.registry
    if request.model is not None and request.model not in registry.models():
        raise Missing(f"there is no model '{request.model}'", "`hardcase registry list` shows them")
    for version in filter(None, (request.version, request.reference)):
        if request.model is None:
            raise UsageError("--version and --with-reference need --model")
        if version not in registry.versions(request.model):
            raise Missing(f"model '{request.model}' has no version '{version}'")
    if request.start_ns >= request.end_ns:
        raise UsageError("--from is not before --to")


class _Progress:
    """A bar over bytes, with records a second."""

    def __init__(self, parts: Sequence[Part], todo: Sequence[Part], *, quiet: bool) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
        self._bar = Progress(*columns, TimeRemainingColumn(), console=console(), disable=quiet)
        everything, left = (sum(p.bytes for p in some) for some in (parts, todo))
        self._task = self._bar.add_task("scoring", total=everything, completed=everything - left)
        self._started, self._records = time.monotonic(), 0
        self.done: Callable[[Part, Summary], None] = self._done

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _done(self, part: Part, summary: Summary) -> None:
        self._records += summary.records
        rate = self._records / max(1e-9, time.monotonic() - self._started)
        self._bar.update(self._task, advance=part.bytes, description=f"scoring {rate:,.0f} records/s")
