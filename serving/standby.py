"""The champion before the present one, kept in memory for a while: a roll-back is then a moved pointer, not a load.

What is kept answers nobody new. It goes when its time is over, when a third version of the model is loaded (so that a
promotion needs no more memory than it did), or when a load of any model finds no room.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from serving.runtime.memory import MemoryRefused
from serving.served import ServedModel, VersionEntry

if TYPE_CHECKING:
    from serving.version import LoadedVersion

KEPT = "kept for a roll-back"
_ROOM_S = 10.0  # in which versions that were kept must have given their memory back
_AGAIN_S = 0.5


class Standby:
    """What is kept in this process. Used on the event loop only.

    Args:
        keep_s: How long; 0 keeps nothing.
    """

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._kept: dict[VersionEntry, asyncio.Event] = {}
        self._previous: dict[str, str] = {}

    def replaced(self, served: ServedModel, before: LoadedVersion | None) -> None:
        """Another version answers now; `before` is the one to keep, and what was kept until now is not."""
        self.release(served)
        if before is not None:
            self._previous[served.name] = before.version

    def release(self, served: ServedModel | None = None, *, entry: VersionEntry | None = None) -> bool:
        """Let go of what is kept: of one version, of one model, or all; says whether anything was."""
        mine = set(served.entries.values()) if served is not None else set(self._kept)
        going = [e for e in self._kept if e in mine and (entry is None or e is entry)]
        for one in going:
            self._kept.pop(one).set()
            one.reason = ""
        return bool(going)

    async def keep(self, served: ServedModel, entry: VersionEntry) -> None:
        """Come back when a version that nobody wants any more need not be kept any longer."""
        if self._keep_s <= 0 or self._previous.get(served.name) != entry.version:
            return
        over = self._kept[entry] = asyncio.Event()
        entry.reason = KEPT
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), self._keep_s)
        if self._kept.get(entry) is over:
            self.release(entry=entry)

    async def make_room(self, load: Callable[[], Awaitable[LoadedVersion]]) -> LoadedVersion:
        """Load; where there is no room, again without what is kept.

        Raises:
            Exception: what the load raises.
        """
        until = 0.0
        while True:
            try:
                return await load()
            except MemoryRefused:
                if self.release():
                    until = time.monotonic() + _ROOM_S
                if time.monotonic() > until:
                    raise
            await asyncio.sleep(_AGAIN_S)
