"""Connections of the egress client: to addresses that were looked up before, until one deadline."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpcore


@dataclass(kw_only=True)
class Pinned(httpcore.NetworkBackend):
    """Connects to what was resolved, whatever it is asked for, and gives streams that end at one deadline."""

    addresses: Sequence[str]
    deadline: float
    monotonic: Callable[[], float]
    inner: httpcore.NetworkBackend = field(default_factory=httpcore.SyncBackend)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """A connection to the first address that takes one."""
        for last, address in enumerate(self.addresses, 1 - len(self.addresses)):
            left = self.left(timeout)
            try:
                return _Timed(self.inner.connect_tcp(address, port, left, local_address, socket_options), self.left)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if not last:
                    raise
        raise httpcore.ConnectError

    def left(self, timeout: float | None) -> float:
        """Seconds that the next step may take."""
        left = self.deadline - self.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout
        return left if timeout is None else min(left, timeout)


class _Timed(httpcore.NetworkStream):
    """A stream whose every step ends at the deadline of the whole exchange."""

    def __init__(self, inner: httpcore.NetworkStream, left: Callable[[float | None], float]) -> None:
        self._inner = inner
        self._left = left

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        view = memoryview(buffer)
        for start in range(0, len(view), 1 << 16):  # the deadline is looked at between pieces
            self._inner.write(bytes(view[start : start + (1 << 16)]), self._left(timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Timed(self._inner.start_tls(ssl_context, server_hostname, self._left(timeout)), self._left)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def secured_context() -> ssl.SSLContext:
    """TLS as a browser would: authorities of `certifi` and of the system."""
    context = httpcore.default_ssl_context()
    context.load_default_certs()  # the system's, too: companies have authorities of their own
    return context
