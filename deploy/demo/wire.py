"""One HTTP/1.1 connection as the story's clients use it: one request at a time, the answer whole or an error."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass


class BrokenAnswer(Exception):
    """The connection ended, or what came is no HTTP answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """Status and body of an answer, and whether the server ends the connection after it."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def closes(self) -> bool:
        """Whether this was the connection's last answer."""
        return self.headers.get(b"connection", b"").lower() == b"close"


class Wire:
    """A connection.

    Args:
        host: Where to.
        port: Where to.
        timeout_s: For connecting, and from a request to the whole answer.
    """

    def __init__(self, host: str, port: int, timeout_s: float = 30.0) -> None:
        self._address = (host, port)
        self._timeout_s = timeout_s
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes) -> Reply:
        """Send a whole request and read its answer. A connection that ended while it was idle is opened again before.

        Raises:
            BrokenAnswer: it ended on the way, or it is no HTTP.
            TimeoutError: no whole answer in time.
            OSError: nobody is there.
        """
        async with asyncio.timeout(self._timeout_s):
            if self._reader is None or self._writer is None or self._reader.at_eof() or self._writer.is_closing():
                self.close()
                self._reader, self._writer = await asyncio.open_connection(*self._address)
            try:
                self._writer.write(request)
                reply = await _read(self._reader)
            except (BrokenAnswer, OSError):
                self.close()
                raise
        if reply.closes:
            self.close()
        return reply

    def close(self) -> None:
        """End it."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


async def _read(reader: asyncio.StreamReader) -> Reply:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head[:-4].split(b"\r\n")
        status = int(lines[0].split(b" ", 2)[1])
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(b":") for line in lines[1:])}
        if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
            body = await _chunks(reader)
        else:
            body = await reader.readexactly(int(headers.get(b"content-length", b"0")))
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, IndexError) as error:
        raise BrokenAnswer(type(error).__name__) from None
    return Reply(status=status, headers=headers, body=body)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while True:
        size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        parts.append((await reader.readexactly(size + 2))[:-2])
        if size == 0:
            return b"".join(parts)
