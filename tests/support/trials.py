"""A model with a champion and a challenger on duty, over real runtimes that can be told to fail, without a registry."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.contracts.traffic import ChallengerMode, TrafficPlan
from export.package import Package
from monitoring.records.decode import DecodedRecords
from monitoring.records.reader import RecordLogReader
from monitoring.records.record import CaptureOptions
from serving.call import Call
from serving.duty import ChallengerDuty
from serving.entry import Entry
from serving.options import ChallengerOptions
from serving.runtime.loader import load_runtime
from serving.served import ServedModel, VersionEntry, VersionState
from serving.version import LoadedVersion
from tests.support.planes import Collected, Plane, WatchedRuntime
from tests.support.records import recorded


class Trial:
    """A plane whose first package is the champion, and whose second challenges it.

    Attributes:
        events: What was told, by kind, with version and detail.
    """

    def __init__(
        self,
        folder: Path,
        packages: Sequence[Package],
        *,
        inline: bool = True,
        challenger_inline: bool | None = None,
        capture: CaptureOptions | None = None,
        challenger: ChallengerOptions | None = None,
        **options: Any,
    ) -> None:
        first, second = packages
        self.plane = Plane(folder, [first], inline=inline, capture=capture, **options)
        self.name = first.manifest.name
        self.served: ServedModel = self.plane.pool.models[self.name]  # type: ignore[assignment]
        self.champion = self.plane.versions[self.name]
        self.champion_runtime = self.plane.runtimes[self.name]
        runtime = load_runtime(second.dir, second.manifest, self.plane.options.runtime)
        self.challenger_runtime = WatchedRuntime(runtime)
        self.challenger = LoadedVersion(
            package=second,
            runtime=self.challenger_runtime,
            options=self.plane.options,
            writer=self.plane.writer,
            inline=inline if challenger_inline is None else challenger_inline,
            batch_us=50.0,
        )
        entry = VersionEntry(self.challenger.version, 1)
        entry.loaded, entry.state = self.challenger, VersionState.READY
        self.served.entries[self.challenger.version] = entry
        self.entry = entry
        self.events: list[tuple[str, str, dict[str, Any]]] = []
        self.duty = ChallengerDuty(challenger or ChallengerOptions(), tell=self._tell)
        self.revision = 0

    def _tell(self, kind: str, model: str = "", version: str = "", detail: Any = None) -> None:
        self.events.append((kind, version, detail or {}))

    def kinds(self) -> list[str]:
        return [kind for kind, _, _ in self.events]

    def plan(self, mode: ChallengerMode, percent: float = 0.0) -> None:
        """Put the next revision of the plan in force."""
        self.revision += 1
        self.served.plan = TrafficPlan(
            model=self.name,
            revision=self.revision,
            champion=self.champion.version,
            challenger=None if mode is ChallengerMode.NONE else self.challenger.version,
            mode=mode,
            canary_percent=percent,
        )
        self.duty.arrange(self.served)

    def ask(self, reply: Collected, x: np.ndarray[Any, Any], *, sticky: bytes | None = None, **head: Any) -> Entry:
        """Send a request that names no version."""
        body, length = binary(x, outputs=[{"name": "logits", "parameters": {"binary_data": True}}], **head)
        return self.plane.data.accept(Call(model=self.name, header_length=length, sticky=sticky), body, reply)

    def recorded(self) -> list[DecodedRecords]:
        """What the record log holds after `close`; the account of every version closes."""
        reader = RecordLogReader(self.plane.records)
        for source in reader.sources():
            for slot in reader.accounting(source).slots.values():
                assert slot.in_flight == 0
        return recorded(self.plane.records)

    async def close(self) -> None:
        await self.duty.end(self.served)
        self.challenger.close()
        self.plane.close()


def binary(x: np.ndarray[Any, Any], name: str = "x", **head: Any) -> tuple[bytes, bytes]:
    """Body and header length of a request with one binary FP32 tensor."""
    tensor = {"name": name, "shape": list(x.shape), "datatype": "FP32", "parameters": {"binary_data_size": x.nbytes}}
    text = json.dumps({"inputs": [tensor], **head}).encode()
    return text + x.tobytes(), str(len(text)).encode()


def version_of(body: bytes) -> str:
    """Which version answered."""
    return body.split(b'"model_version":"', 1)[1].split(b'"', 1)[0].decode()


def images(count: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Inputs of `digits_like_package`."""
    return np.random.default_rng(seed).random((count, 1, 8, 8), dtype=np.float32)
