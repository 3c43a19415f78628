"""A bare HTTP/1.1 client over a socket, for what well-behaved clients cannot send."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self


@dataclass(frozen=True, kw_only=True)
class RawAnswer:
    """One answer. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        """Whether the server said that it closes the connection."""
        return self.headers.get("connection", "").lower() == "close"


class RawConnection:
    """One connection to a server on this machine.

    Args:
        port: On 127.0.0.1.
        timeout_s: For every single read and write.
    """

    def __init__(self, port: int, timeout_s: float = 10.0) -> None:
        self.port = port
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Write all of `data`."""
        self.socket.sendall(data)

    def send_unless_closed(self, data: bytes) -> bool:
        """Write what the server still takes; False when it has closed."""
        try:
            self.socket.sendall(data)
        except OSError:
            return False
        return True

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        length: bool = True,
    ) -> RawAnswer:
        """Send a whole request and read its answer."""
        self.send(head(method, path, body if length else None, headers) + body)
        return self.answer()

    def answer(self) -> RawAnswer:
        """Read one answer.

        Raises:
            ConnectionError: the server closed before a whole answer came.
        """
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        raw, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        lines = raw.decode("latin-1").split("\r\n")
        assert lines[0].startswith("HTTP/1.1 "), lines[0]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        status = int(lines[0].split()[1])
        if status == 100:
            return RawAnswer(status=100, headers=headers, body=b"")
        size = int(headers["content-length"])
        while len(self._buffer) < size:
            self._more()
        body, self._buffer = self._buffer[:size], self._buffer[size:]
        return RawAnswer(status=status, headers=headers, body=body)

    def closed_within(self, seconds: float) -> bool:
        """Whether the server closes; what it sends before is thrown away."""
        deadline = time.monotonic() + seconds
        try:
            while (left := deadline - time.monotonic()) > 0:
                self.socket.settimeout(left)
                if not self.socket.recv(1 << 16):
                    return True
        except TimeoutError:
            return False
        except OSError:
            return True
        return False

    def _more(self) -> None:
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the server closed the connection")
        self._buffer += data


def head(method: str, path: str, body: bytes | None = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """Request line and headers; Content-Length unless `body` is None."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body is not None and not any(name.lower() == "content-length" for name in headers or {}):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
