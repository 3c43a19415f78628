"""The monitor as a whole: its loop in a thread, and on a shared database the lease that says whether it works."""

from __future__ import annotations

import functools
import logging
import random
import threading
from collections.abc import Callable

from monitoring.api.options import IngestHealth
from monitoring.catalogue import Catalogue
from monitoring.cycle import make_loop, run_cycle
from monitoring.leases import GuardedStore, Lease
from monitoring.loop.contracts import Workshop
from monitoring.options import MonitorOptions
from monitoring.store import Store

logger = logging.getLogger(__name__)

RETRY_FIRST_S = 0.2
RETRY_LAST_S = 10.0


class Monitor:
    """The loop in a thread of its own.

    Args:
        on_cycle: Called after every cycle of the one that works, in the loop's thread.
        workshop: What models are trained again with; None: nothing is.
    """

    def __init__(
        self,
        options: MonitorOptions,
        store: Store,
        catalogue: Catalogue,
        on_cycle: Callable[[], None] | None = None,
        workshop: Workshop | None = None,
    ) -> None:
        self._lease = None if options.database_url.startswith("sqlite") else Lease(store)
        own = store if self._lease is None else GuardedStore(store, self._lease)
        self._fresh = functools.partial(make_loop, options, own, catalogue, workshop)
        self.loop = self._fresh()
        self._on_cycle = on_cycle
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread; a second call changes nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="hardcase-monitor", daemon=True)
            self._thread.start()

    def stop(self, timeout_s: float = 30.0) -> bool:
        """Finish the running cycle and end; returns whether it ended in time."""
        self._stop.set()
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive() and self.loop.roster.wait(timeout_s)

    def health(self) -> IngestHealth:
        """How the loop is doing now."""
        p = self.loop.progress
        return IngestHealth(
            heartbeat_age_s=None if p.heartbeat is None else max(0.0, self.loop.monotonic() - p.heartbeat),
            lag_s=p.lag_s,
            lag_bytes=p.lag_bytes,
            records=p.records,
            error=p.last_error,
        )

    def _run(self) -> None:
        progress, pause = self.loop.progress, RETRY_FIRST_S
        while not self._stop.is_set():
            try:
                leads = self._leads()
                more = leads and run_cycle(self.loop)
            except Exception:
                # Nothing was committed: the same cycle runs again. Jitter, so that many monitors do not march in step.
                logger.exception("the monitor's cycle failed; it is tried again in about %.1f s", pause)
                progress.errors += 1
                progress.last_error = "the monitor's last cycle failed; its log says why"
                self._stop.wait(pause * random.uniform(0.5, 1.5))
                pause = min(pause * 2, RETRY_LAST_S)
                continue
            progress.last_error, pause = self.loop.roster.problem, RETRY_FIRST_S
            if leads and self._on_cycle is not None:
                self._on_cycle()
            if not more:
                self._stop.wait(self.loop.options.poll_interval_s)
        self.loop.reader.close()
        if self._lease is not None:
            self._lease.release()

    def _leads(self) -> bool:
        """Whether this monitor is the one that works. Who begins to, begins with nothing in memory."""
        if self._lease is None:
            return True
        before = self._lease.held
        if self._lease.hold() and not before:
            progress = self.loop.progress
            self.loop.__dict__.update(vars(self._fresh()) | {"progress": progress})
        if not self._lease.held:
            self.loop.progress.heartbeat = self.loop.monotonic()
        return self._lease.held
