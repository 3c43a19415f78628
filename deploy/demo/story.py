"""The day in the life: phases in order, told while they happen, then what was found."""

from __future__ import annotations

import asyncio
import math
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from deploy.convergence import TOKEN_VARIABLE
from deploy.demo import findings as f
from deploy.demo.claims import judge
from deploy.demo.digits import load_digits
from deploy.demo.shifts import Shift
from deploy.demo.traffic import Phase, Sent, Traffic
from deploy.monitor_client import TOKEN_VARIABLE as MONITOR_TOKEN
from deploy.monitor_client import MonitorClient

MIN_HEALTHY_S = 5.0
INGEST_TIMEOUT_S = 60.0
SETTLED_S = 30.0


WAITING = Phase(
    key="waiting", title="turned digits, not labelled", shift=Shift.ROTATION, count=60, seconds=1.0, harmful=True
)


def phases(*, quick: bool, healthy_s: float) -> list[Phase]:
    """The parts of the day; `healthy_s` is the time until the next window of the monitor begins."""
    many, pace_s = 300, 1.0 if quick else 2.0
    shifted = [
        ("rotation", "turned digits", Shift.ROTATION),
        ("noise", "a noisy sensor", Shift.NOISE),
        ("blur", "out of focus", Shift.BLUR),
        ("inversion", "black on white", Shift.INVERSION),
    ]
    return [
        Phase(
            key="healthy", title="healthy traffic", shift=Shift.NONE, count=400 if quick else 797,
            seconds=healthy_s, harmful=False,
        ),
        Phase(
            key="brightness", title="more light", shift=Shift.BRIGHTNESS, count=many, seconds=pace_s, harmful=False
        ),
        *(Phase(key=k, title=t, shift=s, count=many, seconds=pace_s, harmful=True) for k, t, s in shifted),
    ]  # fmt: skip


def tell(serving: str, client: MonitorClient, window_s: int, out: Console, *, quick: bool) -> f.Findings:
    """Run the whole story against a running system.

    Args:
        serving: Address of inference.
        client: The monitor.
        window_s: Length of the monitor's windows.
        out: Where progress goes.
        quick: Fewer requests.

    Raises:
        CommandError: something did not answer, or not in time.
    """
    return asyncio.run(_tell(serving, client, window_s, out, quick=quick))


async def _tell(serving: str, client: MonitorClient, window_s: int, out: Console, *, quick: bool) -> f.Findings:
    started, run = time.monotonic(), datetime.now(UTC).strftime("%H%M%S") + secrets.token_hex(2)
    digits = load_digits()
    traffic = Traffic(serving, run, os.environ.get(TOKEN_VARIABLE))
    # Healthy traffic fills the monitor's present window: "before" and "under" must not share one.
    now = time.time()
    boundary = math.ceil((now + MIN_HEALTHY_S) / window_s) * window_s
    day = phases(quick=quick, healthy_s=boundary - now - 0.5)
    sent: list[Sent] = []
    try:
        out.print(f"Run {run}: {len(day)} parts of a day, real handwritten digits that the model has never seen.")
        with _progress(out) as bar:
            for number, phase in enumerate(day):
                step = bar(
                    phase.title + (f" (until {_clock(boundary)}, a new window)" if number == 0 else ""), phase.count
                )
                sent.append(await traffic.send(phase, digits.live, seed=100 + number, advance=step))
                if number == 0:
                    await asyncio.sleep(max(0.0, boundary - time.time() + 0.05))
        _wait(out, "the monitor reads the record log", lambda: f.is_ingested(client, sent))
        flagged = f.flagged_cases(client, sent)
        out.print(f"{len(flagged)} requests of the shifted part are flagged, before anybody said what is true.")
        with _progress(out) as bar:
            step = bar("feedback with the true labels", sum(len(s.ids) for s in sent))
            count = await traffic.feedback(sent, step)
            _wait(out, "the monitor joins labels and answers", lambda: f.is_ingested(client, sent, labelled=True))
            step = bar("accuracy, record by record", count)
            results = await f.phase_results(client.base, os.environ.get(MONITOR_TOKEN), sent, step)
            step = bar("and some that nobody has labelled yet: they wait for a reviewer", WAITING.count)
            await traffic.send(WAITING, digits.live, seed=200, advance=step)
    finally:
        await traffic.close()
    _wait(out, "drift signals of the last window", lambda: bool(f.signal_results(client, sent, window_s)))
    found = f.Findings(
        run=run,
        started_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        seconds=time.monotonic() - started,
        console=client.base,
        phases=results,
        signals=f.signal_results(client, sent, window_s),
        cases=f.case_results(client, flagged, day),
        flagged=len(flagged),
        accounting=settled_accounting(client),
    )
    return replace(found, claims=judge(found))


def settled_accounting(client: MonitorClient) -> dict[str, object]:
    """The account once nothing is under way any more; the last look after half a minute."""
    deadline = time.monotonic() + SETTLED_S
    while True:
        found: dict[str, object] = client.get("/api/accounting")
        if found["balanced"] or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def _wait(out: Console, what: str, done: Callable[[], bool]) -> None:
    if out.is_terminal:
        with out.status(f"waiting until {what}"):
            f.wait_until(done, INGEST_TIMEOUT_S, f"not done: {what},")
    else:
        f.wait_until(done, INGEST_TIMEOUT_S, f"not done: {what},")


@contextmanager
def _progress(out: Console) -> Iterator[Callable[[str, int], Callable[[int], None]]]:
    """Bars on a terminal, one line a step elsewhere."""
    if not out.is_terminal:

        def plain(title: str, total: int) -> Callable[[int], None]:
            out.print(f"  {title}: {total}")
            return lambda n: None

        yield plain
        return
    columns = (TextColumn("  {task.description:<44}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out) as progress:

        def bar(title: str, total: int) -> Callable[[int], None]:
            task = progress.add_task(title, total=total)
            return lambda n: progress.advance(task, n)

        yield bar


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%H:%M:%S")
