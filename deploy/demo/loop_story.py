"""`hardcase demo`: the whole story, from the first request to the report."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console
from rich.text import Text

from deploy.convergence import TOKEN_VARIABLE
from deploy.demo.background import Account, Order
from deploy.demo.chapters import QUICK, Director, Pace
from deploy.demo.crowd import Totals, Traffic
from deploy.demo.digits import load_digits
from deploy.demo.loop_claims import judge_told
from deploy.demo.pictures import Scene
from deploy.demo.reviewer import Reviewer
from deploy.demo.story import settled_accounting
from deploy.demo.told import Event, Moment, Recovery, Told, Turn, accuracy
from deploy.demo.told_page import clock
from deploy.demo.watch import SeenTurn, Watch
from deploy.loadtest.environment import environment_facts
from deploy.monitor_client import MonitorClient
from export.registry import Registry

ERROR_RATE = 0.02


def tell_loop(
    *,
    serving: str,
    grpc: str | None,
    client: MonitorClient,
    registry: Registry,
    faults: Path,
    log: Path,
    out: Console,
    quick: bool,
    settings: dict[str, object],
) -> Told:
    """Run the story against a system that has the demo's trainer.

    Args:
        serving: Address of inference over HTTP.
        grpc: "host:port" of gRPC; None leaves that client out.
        client: The monitor.
        registry: Of the system: its plan is looked at, nothing is written.
        faults: File that the trainer reads.
        log: For what the clients complain of.
        out: Where progress goes.
        quick: The short form.
        settings: What the report says of the system's settings.

    Raises:
        CommandError: something did not answer, or a chapter did not end in time.
    """
    pace = QUICK if quick else Pace()
    run = "s" + datetime.now(UTC).strftime("%H%M%S") + secrets.token_hex(2)
    events: list[Event] = []

    def tell(event: Event) -> None:
        events.append(event)
        out.print(f"  {clock(event.at_s):>5}  {event.kind.value:<9} {event.text}")

    digits = load_digits()
    where = urlsplit(serving)
    order = Order(scene=Scene.UPRIGHT.value, rate=pace.rate)
    traffic = Traffic(f"{where.hostname}:{where.port}", grpc, run=run, seed=1, order=order, log=log)
    try:
        traffic.await_first()
        begun, wall = time.monotonic(), time.time()
        watch = Watch(client=client, registry=registry, started=begun, tell=tell)
        watch.begin()
        reviewer = Reviewer(client, run, digits.live.labels, error_rate=ERROR_RATE, seed=2)
        director = Director(
            traffic=traffic,
            reviewer=reviewer,
            watch=watch,
            faults=faults,
            pace=pace,
            say=lambda line: out.print(Text(line, style="bold")),
        )
        director.run()
        totals = traffic.close()
    except BaseException:
        traffic.kill()
        raise
    moments = [_moment(account, wall) for account in traffic.accounts()]
    told = Told(
        run=run,
        started_at=datetime.fromtimestamp(wall, UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        seconds=round(time.monotonic() - begun, 1),
        console=client.base,
        quick=quick,
        error_rate=ERROR_RATE,
        sent=totals.sent,
        answered=totals.answered,
        failed=totals.failed,
        failures=totals.reasons,
        by_client=totals.by_client,
        by_version=totals.by_version,
        recoveries=recoveries(director, moments),
        labels=director.labels,
        turns=[_turn(seen, fault, totals, moments, client) for seen, fault in director.turns],
        events=events,
        moments=moments,
        accounting=settled_accounting(client),
        settings=settings | {"pace": asdict(pace), "token": bool(os.environ.get(TOKEN_VARIABLE))},
        machine=dict(environment_facts()),
    )
    return replace(told, claims=judge_told(told))


def recoveries(director: Director, moments: Sequence[Moment]) -> list[Recovery]:
    """What each shift cost, and what came back with the champion that a turn made for it."""
    found = []
    end = max((m.at_s for m in moments), default=0.0) + 1.0
    before = accuracy(list(moments), Scene.UPRIGHT.value, 0.0, end)
    for i, (began, scene) in enumerate(director.scenes):
        if scene is Scene.UPRIGHT:
            continue
        until = director.scenes[i + 1][0] if i + 1 < len(director.scenes) else end
        made = [t for t, _ in director.turns if t.champion_s is not None and began <= t.champion_s < until]
        at = made[-1].champion_s if made else None
        labels = _labels_until(director, began, at if at is not None else until)
        after = None if at is None else accuracy(list(moments), scene.value, at + 1.0, until)
        found.append(
            Recovery(
                scene=scene.value,
                before=before,
                under=accuracy(list(moments), scene.value, began + 1.0, until if at is None else at),
                after=after,
                labels=labels,
                seconds=None if at is None else round(at - began, 1),
            )
        )
        before = after
    return found


def _labels_until(director: Director, began: float, until: float) -> int:
    """Labels typed up to a new champion: everything since the story began for the first shift, else since the shift."""
    first = next((s for s, scene in director.scenes if scene is not Scene.UPRIGHT), began)
    since = 0.0 if began == first else began
    return sum(since <= at < until for at in director.typed_s)


def _moment(account: Account, wall: float) -> Moment:
    answered = sum(n for n, _ in account.answers.values())
    return Moment(
        at_s=round(max(account.time_s - wall, 0.0), 2),  # the first answers came before the clock began
        scene=account.scene,
        sent=account.sent,
        failed=account.failed,
        answers={version: (n, right) for version, (n, right) in account.answers.items()},
        mean_ms=round(account.total_ms / answered, 2) if answered else None,
        slowest_ms=round(account.slowest_ms, 1),
    )


def _turn(seen: SeenTurn, fault: str, totals: Totals, moments: Sequence[Moment], client: MonitorClient) -> Turn:
    until = seen.champion_s if seen.champion_s is not None else float("inf")
    answered = sum(m.answers.get(seen.version, (0, 0))[0] for m in moments if m.at_s < until)
    plain = seen.plain
    return Turn(
        id=seen.id,
        version=seen.version,
        stage=seen.stage.value,
        fault=fault,
        reason=str(plain.get("problem") or plain.get("gate_words") or ""),
        trigger=str(plain.get("reason") or ""),
        began_s=round(seen.first_s, 2),
        ended_s=None if seen.ended_s is None else round(seen.ended_s, 2),
        took_s=None if seen.ended_s is None else round(seen.ended_s - seen.first_s, 2),
        answered=answered,
        pages={"loop": f"{client.base}/loop"},
    )
