"""A small real Open Inference Protocol server that can be told to stall, to refuse, and how to frame its answers.

It knows one model, `m`, with one input `x` FP32 [-1, 2], and answers each request at once unless it stalls.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_METADATA = {
    "name": "m",
    "versions": ["1"],
    "platform": "test",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
}


def framed(status: int, body: bytes, more: str = "") -> bytes:
    """An answer with its length in front."""
    return (
        f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{more}Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )


@dataclass
class Stalling:
    """What the server has done, and what it is told to do.

    Attributes:
        inferred: Requests for inference that it has answered.
        stall_after: It stalls once, when this many were answered; None never.
        stall_s: For so long.
        frame: Makes the bytes of an answer from its body.
        status: Of every answer to inference.
        silent: Takes requests for inference and never answers.
    """

    port: int = 0
    inferred: int = 0
    stall_after: int | None = None
    stall_s: float = 1.0
    stalled_at: float | None = None
    status: int = 200
    silent: bool = False
    frame: Callable[[int, bytes], bytes] = field(default=framed)


def chunked(status: int, body: bytes) -> bytes:
    """The same in chunks of three bytes."""
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(body[n : n + 3]), body[n : n + 3]) for n in range(0, len(body), 3))
    return b"HTTP/1.1 %d X\r\nTransfer-Encoding: chunked\r\n\r\n%s0\r\n\r\n" % (status, chunks)


@contextmanager
def stalling_server(told: Stalling) -> Iterator[Stalling]:
    """Run the server on a thread until the block ends."""
    ready, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        gate = asyncio.Event()
        gate.set()
        server = await asyncio.start_server(lambda r, w: _answer(told, gate, r, w), "127.0.0.1", 0)
        told.port = server.sockets[0].getsockname()[1]
        ready.set()
        await asyncio.to_thread(stop.wait)
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield told
    finally:
        stop.set()
        thread.join(10)


async def _answer(
    told: Stalling, gate: asyncio.Event, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lengths = [line.split(":")[1] for line in head.split("\r\n") if line.lower().startswith("content-length:")]
            await reader.readexactly(int(lengths[0]) if lengths else 0)
            path = head.split()[1]
            if not path.endswith("/infer"):
                status, body = _control(path)
                writer.write(framed(status, json.dumps(body).encode()))
                continue
            if told.silent:
                continue
            if told.stall_after is not None and told.inferred >= told.stall_after and told.stalled_at is None:
                told.stalled_at = asyncio.get_running_loop().time()
                gate.clear()
                asyncio.get_running_loop().call_later(told.stall_s, gate.set)
            await gate.wait()
            told.inferred += 1
            writer.write(told.frame(told.status, b'{"model_name":"m","model_version":"1","outputs":[]}'))
            if b"connection: close" in told.frame(200, b"").lower():
                writer.close()
                return
    except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
        writer.close()


def _control(path: str) -> tuple[int, object]:
    if path == "/v2":
        return 200, {"name": "stalling", "version": "1", "extensions": []}
    if path == "/v2/models/m":
        return 200, _METADATA
    return 404, {"error": "there is no such thing"}
