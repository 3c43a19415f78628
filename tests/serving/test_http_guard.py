"""uvicorn's protocol with limits: heads, times, malformed requests, gentle closing. Real sockets, a bare ASGI app."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from serving.http_guard import guarded
from serving.options import Limits

LIMITS = Limits(receive_s=0.6, idle_s=1.0, head_bytes=4096, chunks=50, body_bytes=1 << 20)
Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def app(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    """`/read` echoes the length of the body, `/early` answers 413 without reading it, `/big` answers 32 MiB."""
    assert scope["type"] == "http"
    body, status = b"", 200
    if scope["path"] == "/read":
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        body = str(size).encode()
    elif scope["path"] == "/slow":
        await asyncio.sleep(1.5)
        body = b"slow"
    elif scope["path"] == "/big":
        body = bytes(32 << 20)
    elif scope["path"] == "/early":
        status, body = 413, b"no"
    headers = [(b"content-length", str(len(body)).encode())]
    if status == 413:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def serve(limits: Limits = LIMITS) -> AsyncIterator[Callable[[], Awaitable[Client]]]:
    config = uvicorn.Config(
        app, http=guarded(limits), port=0, lifespan="off", ws="none", log_config=None, timeout_keep_alive=60
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    writers: list[asyncio.StreamWriter] = []

    async def connect() -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)
        return reader, writer

    try:
        yield connect
    finally:
        for writer in writers:
            writer.close()
        server.should_exit = server.force_exit = True
        await task


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    lines = head.decode().split("\r\n")
    headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:-2])}
    return int(lines[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


async def closed_within(reader: asyncio.StreamReader, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            while await reader.read(1 << 16):
                pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


async def test_ordinary_requests_pass_and_keep_the_connection() -> None:
    async with serve() as connect:
        reader, writer = await connect()
        for size in (0, 5, 100_000):
            writer.write(b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
            status, _, body = await answer(reader)
            assert (status, body) == (200, str(size).encode())


@pytest.mark.parametrize("head", [b"GARBAGE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00"])
async def test_what_is_no_http_gets_a_json_error_and_the_connection_closes(head: bytes) -> None:
    async with serve() as connect:
        reader, writer = await connect()
        writer.write(head)
        status, headers, body = await answer(reader)
        assert status == 400
        assert headers["connection"] == "close"
        assert json.loads(body) == {"error": "the request is not valid HTTP"}
        assert await closed_within(reader, 4)


@pytest.mark.parametrize(
    "piece", [b"X-Flood: 1234567890\r\n", b"X-One: " + b"y" * 100_000, b"GET /" + b"u" * 9000 + b" HTTP/1.1\r\n"]
)
async def test_a_flood_of_headers_is_cut_at_the_limit(piece: bytes) -> None:
    async with serve() as connect:
        reader, writer = await connect()
        if not piece.startswith(b"GET"):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
        for _ in range(400):
            writer.write(piece)
            if writer.is_closing() or reader.at_eof():
                break
            await asyncio.sleep(0)
        status, _, body = await answer(reader)
        assert status == 431
        assert "4096" in json.loads(body)["error"]


async def test_a_head_at_the_limit_passes() -> None:
    async with serve() as connect:
        reader, writer = await connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Pad: " + b"y" * 4000 + b"\r\n\r\n")
        assert (await answer(reader))[0] == 200


@pytest.mark.parametrize(
    ("start", "drop", "part"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n", b"A", "headers"),
        (b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", b"z", "body"),
    ],
)
async def test_a_request_that_drips_in_is_cut_by_an_absolute_deadline(start: bytes, drop: bytes, part: str) -> None:
    async with serve() as connect:
        reader, writer = await connect()
        writer.write(start)
        loop = asyncio.get_running_loop()
        began = loop.time()
        pending = asyncio.create_task(answer(reader))
        while not pending.done():
            writer.write(drop)
            await asyncio.sleep(0.05)
        status, _, body = pending.result()
        assert (status, part in json.loads(body)["error"]) == (408, True)
        assert 0.5 < loop.time() - began < 2.0


async def test_a_body_that_nobody_reads_does_not_hold_the_connection() -> None:
    async with serve() as connect:
        reader, writer = await connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        assert (await answer(reader))[0] == 200
        assert await closed_within(reader, 5)


async def test_more_chunks_than_allowed_are_refused() -> None:
    async with serve() as connect:
        reader, writer = await connect()
        writer.write(b"POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 51)
        status, _, body = await answer(reader)
        assert status == 413
        assert "50 chunks" in json.loads(body)["error"]


async def test_as_many_chunks_as_allowed_pass() -> None:
    async with serve() as connect:
        reader, writer = await connect()
        chunks = b"1\r\nx\r\n" * 49 + b"0\r\n\r\n"
        writer.write(b"POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
        assert (await answer(reader))[2] == b"49"


@pytest.mark.parametrize("first", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"])
async def test_a_silent_connection_is_closed(first: bytes) -> None:
    async with serve() as connect:
        reader, writer = await connect()
        writer.write(first)
        assert not await closed_within(reader, 0.7)
        assert await closed_within(reader, 4)


async def test_a_client_that_never_reads_is_cut() -> None:
    async with serve() as connect:
        reader, writer = await connect()
        writer.transport.pause_reading()
        writer.write(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(2.5)
        writer.transport.resume_reading()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(32 << 20)


async def test_an_early_answer_survives_a_client_that_is_still_sending() -> None:
    async with serve() as connect:
        for _ in range(5):
            reader, writer = await connect()
            writer.write(b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n")
            for _ in range(20):
                writer.write(bytes(1_000_000))
                await asyncio.sleep(0)
            status, _, body = await answer(reader)
            assert (status, body) == (413, b"no")
            writer.close()


async def test_a_pipelined_request_behind_a_slow_one_is_not_blamed_for_the_wait() -> None:
    async with serve() as connect:
        reader, writer = await connect()
        writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        writer.write(b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" + bytes(300_000))
        assert (await answer(reader))[2] == b"slow"
        assert (await answer(reader))[2] == b"300000"


async def test_an_upgrade_is_ignored_and_ends_the_connection() -> None:
    async with serve() as connect:
        reader, writer = await connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        status, headers, _ = await answer(reader)
        assert (status, headers["connection"]) == (200, "close")
