"""MLflow and the loop in step: runs, registered versions, aliases, and what comes in. One bounded piece a turn.

The worker never holds the loop up: it has a thread of its own, reads what the loop has written, and what it cannot say
now it says later.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from monitoring.integrations import tool_rows
from monitoring.integrations.egress import EgressError
from monitoring.integrations.mlflow.incoming import Incoming
from monitoring.integrations.mlflow.names import Service
from monitoring.integrations.mlflow.runs import RunMirror
from monitoring.integrations.mlflow.versions import VersionMirror
from monitoring.store import Store

logger = logging.getLogger(__name__)

LONGEST_PAUSE_S = 300.0


@dataclass(kw_only=True)
class MlflowWorker:
    """Everything between the loop and one MLflow. `turn` never raises for what MLflow does.

    Attributes:
        incoming: None where nothing is taken in.
        poll_s: Time between two looks at MLflow where nothing here has changed.
        clock: Nanoseconds since the epoch.
        draw: Uniform in [0, 1), for the pauses.
    """

    store: Store
    runs: RunMirror
    versions: VersionMirror
    incoming: Incoming | None = None
    poll_s: float = 30.0
    clock: Callable[[], int] = time.time_ns
    draw: Callable[[], float] = field(default_factory=lambda: random.SystemRandom().random)
    _looked_ns: int | None = None

    def turn(self) -> bool:
        """Do a piece; returns whether there is more to do at once."""
        now_ns = self.clock()
        state = tool_rows.tool_row(self.store, Service.MLFLOW)
        if now_ns < state.next_ns:
            return False
        due = self._looked_ns is None or now_ns - self._looked_ns >= self.poll_s * 1e9
        try:
            more = self.runs.turn() or self.versions.turn(afresh=due)
            if self.incoming is not None:
                if due:
                    self.incoming.look()
                more = self.incoming.turn() or more
        except EgressError as error:
            pause_s = min(LONGEST_PAUSE_S, 2.0**state.failures) * (0.5 + self.draw() / 2)
            tool_rows.note_failed(self.store, Service.MLFLOW, error.message, now_ns, now_ns + int(pause_s * 1e9))
            if not state.failures:
                logger.warning("mlflow: %s; what is to be said waits", error.message)
            return False
        if due:
            self._looked_ns = now_ns
        if more or due or state.failures:
            tool_rows.note_answered(self.store, Service.MLFLOW, self.clock())
        return more
