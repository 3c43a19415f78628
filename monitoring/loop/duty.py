"""The loop's duties: look whether models are to be trained, and move the turns that are under way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring.duties import Duty
from monitoring.loop.driver import Driver
from monitoring.loop.trigger import Trigger

if TYPE_CHECKING:
    from monitoring.cycle import Loop


def loop_duties(trigger: Trigger, driver: Driver) -> tuple[Duty[Loop], ...]:
    """Both; moving turns waits for snapshots and child processes, so it has a thread of its own."""

    def look(_: Loop) -> None:
        trigger.turn()

    def move(_: Loop) -> bool:
        return driver.turn()

    return (
        Duty(name="triggers", interval_s=trigger.options.look_s, run=look, aside=True),
        Duty(name="trainings", interval_s=driver.options.step_s, run=move, aside=True, alone=True, while_behind=True),
    )
