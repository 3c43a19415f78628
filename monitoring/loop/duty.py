"""The loop's duties: look whether models are to be trained, and move the turns that are under way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring.catalogue import Catalogue
from monitoring.datasets.build import SnapshotSource
from monitoring.duties import Duty
from monitoring.loop.contracts import Workshop
from monitoring.loop.driver import Driver
from monitoring.loop.rooms import Rooms
from monitoring.loop.trigger import Trigger
from monitoring.refetch import Refetch
from monitoring.store import Store

if TYPE_CHECKING:
    from monitoring.cycle import Loop
    from monitoring.options import MonitorOptions


def duties_of_loop(
    options: MonitorOptions, store: Store, catalogue: Catalogue, workshop: Workshop
) -> tuple[Duty[Loop], ...]:
    """The duties of a monitor."""
    source = SnapshotSource(store=store, catalogue=catalogue, refetch=Refetch(options, store), privacy=options.privacy)
    rooms = Rooms(
        source=source, workshop=workshop, options=options.loop, rollout_of=options.rollout.of, gate=options.gate
    )
    return loop_duties(
        trigger_of(options, store, catalogue, workshop),
        Driver(store=store, workshop=workshop, stations=rooms, options=options.loop),
    )


def trigger_of(options: MonitorOptions, store: Store, catalogue: Catalogue, workshop: Workshop | None) -> Trigger:
    """Looks at a monitor's models."""
    return Trigger(
        store=store,
        catalogue=catalogue,
        options=options.loop,
        trainers={} if workshop is None else workshop.trainers,
    )


def loop_duties(trigger: Trigger, driver: Driver) -> tuple[Duty[Loop], ...]:
    """Both; moving turns waits for snapshots and child processes, so it has a thread of its own."""

    def look(_: Loop) -> None:
        trigger.turn()

    def move(_: Loop) -> bool:
        return driver.turn()

    return (
        Duty(name="triggers", interval_s=trigger.options.look_s, run=look, aside=True, alone=True),
        Duty(name="trainings", interval_s=driver.options.step_s, run=move, aside=True, alone=True, while_behind=True),
    )
