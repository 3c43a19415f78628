"""A data plane over chosen packages, without registry, Ray or HTTP: for tests of what lies between lanes and model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.contracts.errors import HardcaseError
from export.package import Package
from monitoring.records.record import CaptureOptions
from monitoring.records.writer import RecordLogWriter
from serving.auth import Authenticator
from serving.dataplane import DataPlane
from serving.entry import Entry
from serving.errors import error_body
from serving.options import ServingOptions
from serving.runtime.base import Array, Runtime
from serving.runtime.loader import load_runtime
from serving.served import ServedModel, VersionEntry, VersionState
from serving.version import LoadedVersion


class StaticPool:
    """Models that are there from the start."""

    def __init__(self) -> None:
        self.models: dict[str, ServedModel[LoadedVersion]] = {}


class WatchedRuntime:
    """A real runtime that tells which batches it ran, and can be slow, fail, or answer the wrong number of rows."""

    def __init__(self, inner: Runtime) -> None:
        self.inner = inner
        self.kind, self.device, self.provider = inner.kind, inner.device, inner.provider
        self.batches: list[int] = []
        self.seen: list[list[Array]] = []
        self.sleep_s = 0.0
        self.error: Exception | None = None
        self.lose_rows = 0
        self.concurrency = inner.concurrency
        self.healthy, self.fallback = inner.healthy, inner.fallback

    def buffer(self, index: int, shape: tuple[int, ...]) -> Array | None:
        return self.inner.buffer(index, shape)

    def run(self, inputs: Sequence[Array], outputs: Sequence[int]) -> list[Array]:
        self.batches.append(len(inputs[0]))
        self.seen.append([np.array(x) for x in inputs])
        if self.sleep_s:
            time.sleep(self.sleep_s)
        if self.error is not None:
            raise self.error
        arrays = self.inner.run(inputs, outputs)
        return [a[self.lose_rows :] for a in arrays] if self.lose_rows else arrays

    def close(self) -> None:
        self.inner.close()


async def running(runtime: WatchedRuntime, batches: int = 1) -> None:
    """Wait until a runtime has begun its n-th batch: what is asked now waits for it, and shares the next one."""
    async with asyncio.timeout(20):
        while len(runtime.batches) < batches:
            await asyncio.sleep(0.001)


class Plane:
    """A data plane with one version a package, each the champion of its model."""

    def __init__(
        self,
        folder: Path,
        packages: Sequence[Package],
        *,
        inline: bool = True,
        depth: int = 1,
        capture: CaptureOptions | None = None,
        **options: Any,
    ) -> None:
        self.records = folder / "records"
        self.options = ServingOptions(registry="", records=str(self.records), capture=capture, **options)
        self.writer = RecordLogWriter(self.records, "test", capture) if capture else None
        self.pool = StaticPool()
        self.runtimes: dict[str, WatchedRuntime] = {}
        self.versions: dict[str, LoadedVersion] = {}
        for package in packages:
            name = package.manifest.name
            runtime = WatchedRuntime(load_runtime(package.dir, package.manifest, self.options.runtime))
            runtime.concurrency = depth
            version = LoadedVersion(
                package=package, runtime=runtime, options=self.options, writer=self.writer, inline=inline, batch_us=50.0
            )
            served: ServedModel[LoadedVersion] = ServedModel(name)
            entry: VersionEntry[LoadedVersion] = VersionEntry(version.version, 1)
            entry.loaded, entry.state = version, VersionState.READY
            served.entries[version.version] = entry
            served.champion = version
            self.pool.models[name] = served
            self.runtimes[name], self.versions[name] = runtime, version
        self.data = DataPlane(
            pool=self.pool,  # type: ignore[arg-type]
            options=self.options,
            auth=Authenticator(self.options.auth),
            writer=self.writer,
        )

    def close(self) -> None:
        for version in self.versions.values():
            version.close()
        self.data.flush()
        if self.writer is not None:
            self.writer.close()


class Collected:
    """A reply that keeps what it gets, and lets a test wait for it."""

    def __init__(self) -> None:
        self.answers: list[tuple[Entry, int, bytes, bytes]] = []
        self._event = asyncio.Event()

    def answer(self, entry: Entry, headers: bytes, body: bytes) -> None:
        self.answers.append((entry, 200, headers, body))
        self._event.set()

    def fail(self, entry: Entry, error: HardcaseError) -> None:
        self.answers.append((entry, *error_body(error)))
        self._event.set()

    async def wait(self, count: int) -> None:
        while len(self.answers) < count:
            self._event.clear()
            await asyncio.wait_for(self._event.wait(), 10)
