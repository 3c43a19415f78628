"""One replica: record log, pool and data plane of a process, made and closed in the right order, under any server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import platform
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from export.registry import Registry
from monitoring.records.record import Event
from monitoring.records.writer import RecordLogWriter
from serving.access_log import AccessLog
from serving.auth import Authenticator
from serving.dataplane import DataPlane
from serving.fastlane import FastLaneProtocol, bind, install, sweep_forever
from serving.health import broken_device
from serving.options import ServingOptions
from serving.pool import Pool
from serving.stats import ServerStats
from serving.tracing import Tracer

if TYPE_CHECKING:
    from serving.version import LoadedVersion

DEVICE_LOST_STATUS = 70
_DEVICE_LOOK_S = 0.02
_LAST_WORDS_S = 2.0  # for the record log, when a device was lost
_log = logging.getLogger("hardcase.replica")
_SETTLE_MARGIN_S = 15.0  # admission and proof, around what the load itself may take


class Replica:
    """Everything that one process serves with.

    Made on the event loop that will answer. `open` begins to load; whoever starts the server decides what to wait for.

    Args:
        options: The settings.
        name: Name of the replica in the record log, for people.

    Raises:
        ValueError: an option that cannot be followed.
        OSError: the folder of the record log cannot be made.
    """

    def __init__(self, options: ServingOptions, name: str) -> None:
        self.options = options
        self.name = name
        self.stats = ServerStats()
        auth = Authenticator(options.auth)
        self.writer = RecordLogWriter(Path(options.records), name, options.capture) if options.capture else None
        self.access_log = AccessLog(options.access_log, name) if options.access_log is not None else None
        self.tracer = Tracer(options.tracing, name) if options.tracing.endpoint else None
        observers = [observer for observer in (self.access_log, self.tracer) if observer is not None]
        registry = Registry(Path(options.registry))
        self.pool = Pool(options, registry, self.writer, stats=self.stats, observers=observers)
        self.plane = DataPlane(
            pool=self.pool, options=options, auth=auth, writer=self.writer, stats=self.stats, observers=observers
        )
        self.protocol: type[FastLaneProtocol] = bind(self.plane, lane=options.fast_lane)
        self.stats.lane = "fast" if options.fast_lane else "asgi"
        self._sweeper: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._closed = False

    async def open(self) -> None:
        """Look at the registry and begin to load what the plans name."""
        self._event("replica_started", {"pid": os.getpid(), "host": platform.node(), "lane": self.stats.lane})
        await self.pool.start()
        self._sweeper = asyncio.get_running_loop().create_task(sweep_forever(self.protocol))
        self._watcher = asyncio.get_running_loop().create_task(self._watch_devices())

    def hook(self) -> None:
        """Make the HTTP server that somebody else starts later in this process use our protocol class."""
        self.protocol = install(self.plane, lane=self.options.fast_lane)
        self.stats.lane = "fast" if self.options.fast_lane else "asgi"

    async def settled(self) -> bool:
        """Wait until everything that the plans name is READY or UNAVAILABLE; False when that takes too long."""
        settled = await self.pool.settled(self.options.runtime.load_timeout_s + _SETTLE_MARGIN_S)
        # What is alive now stays alive: full collections need not walk through it, so they pause requests for less.
        gc.collect()
        gc.freeze()
        return settled

    async def close(self) -> None:
        """Unload everything and write the record log out. Call when the server has answered its last request."""
        if self._closed:
            return
        self._closed = True
        for task in (self._sweeper, self._watcher):
            if task is not None:
                task.cancel()
        await self.pool.stop()
        self.plane.flush()
        self._event("replica_stopped", {"pid": os.getpid()})
        for closing in (self.writer, self.access_log, self.tracer):
            if closing is not None:
                await asyncio.to_thread(closing.close)

    def versions(self) -> list[LoadedVersion]:
        """Every version in memory."""
        return [version for model in self.pool.models.values() for version in model.loaded()]

    async def _watch_devices(self) -> None:
        """End the process as soon as a device has failed for good: whoever runs it starts another one.

        Connections are cut first. What has no byte of an answer yet, HAProxy asks of another replica; waiting for the
        next health check would cost every request until then.
        """
        while (lost := broken_device(self.versions())) is None:
            await asyncio.sleep(_DEVICE_LOOK_S)
        for connection in list(self.protocol.open):
            connection.transport.abort()
        _log.error("the device of %s failed for good: this process ends, another one takes its place", lost)
        if self.writer is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.to_thread(self.writer.close), _LAST_WORDS_S)
        os._exit(DEVICE_LOST_STATUS)

    def _event(self, kind: str, detail: dict[str, str | int | float | bool | None]) -> None:
        if self.writer is not None:
            self.writer.event(Event(kind=kind, time_ns=time.time_ns(), detail={"replica": self.name, **detail}))


def bind_socket(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        OSError: the port is taken, or the host is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host.strip("[]"), port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {host} port {port}: {error.strerror}") from None
    listener.setblocking(False)
    return listener
