"""A lane carries one request at a time to the server under test. HTTP: a connection; gRPC: a place on a channel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

OK = ""  # the reason of a request that succeeded

# Told when a request has ended: the lane, OK or why not, bytes received.
Ended = Callable[["Lane", str, int], None]


class Lane(Protocol):
    """One request in flight, or none.

    Attributes:
        open: Can send. A lane that broke is opened again by whoever drives it.
        busy: A request is in flight.
        start_ns: When that request was meant to leave.
    """

    open: bool
    busy: bool
    start_ns: int

    async def connect(self) -> None:
        """Make the lane ready to send.

        Raises:
            OSError: the server cannot be reached.
        """
        ...

    def send(self, request: int) -> None:
        """Send request number `request` of the prepared ones; `ended` is called exactly once for it."""
        ...

    def give_up(self, reason: str) -> None:
        """End the request in flight, if there is one, with a reason."""
        ...

    def close(self) -> None:
        """Let go of the lane; a request in flight is forgotten."""
        ...


class Road(Protocol):
    """Makes lanes to one server."""

    def lane(self, ended: Ended) -> Lane:
        """A lane that is not connected yet."""
        ...

    async def close(self) -> None:
        """Let go of what the lanes share."""
        ...
