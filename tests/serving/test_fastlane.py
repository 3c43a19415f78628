"""The fast lane on real sockets: order, switches to uvicorn's own path and back, limits in time and size, flow."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn

from serving.app import build_app
from serving.fastlane import FastLaneProtocol, bind, sweep_forever
from serving.lane_head import read_head
from serving.options import ApiKey, AuthOptions, Limits
from tests.support.packages import digits_like_package
from tests.support.planes import Plane

HEADER = b"inference-header-content-length"


class Server:
    """A real uvicorn server on this loop, with the lane bound to a plane."""

    def __init__(self, plane: Plane, protocol: type[FastLaneProtocol], port: int) -> None:
        self.plane, self.protocol, self.port = plane, protocol, port
        self._clients: list[asyncio.StreamWriter] = []

    async def connect(self) -> Connection:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._clients.append(writer)
        return Connection(reader, writer)

    async def hang_up(self) -> None:
        for writer in self._clients:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


class Connection:
    """A client that sees raw answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)).decode()
        status, *lines = head.strip().split("\r\n")
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(status.split()[1]), headers, body

    async def closed(self, within_s: float = 5.0) -> bytes:
        return await asyncio.wait_for(self.reader.read(), within_s)


@contextlib.asynccontextmanager
async def serving(plane: Plane, *, lane: bool = True) -> AsyncIterator[Server]:
    protocol = bind(plane.data, lane=lane)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        build_app(plane.data), http=protocol, log_level="critical", lifespan="off", timeout_graceful_shutdown=5
    )
    server = uvicorn.Server(config)
    sweeper = asyncio.create_task(sweep_forever(protocol))
    task = asyncio.create_task(server._serve([listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    handle = Server(plane, protocol, listener.getsockname()[1])
    try:
        yield handle
    finally:
        server.should_exit = True
        await asyncio.wait_for(task, 10)
        await handle.hang_up()
        sweeper.cancel()
        listener.close()
        plane.close()


def infer(request_id: str = "", model: str = "digits", extra: str = "", rows: int = 1) -> bytes:
    x = np.random.default_rng(0).random((rows, 1, 8, 8), dtype=np.float32)
    tensor = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "parameters": {"binary_data_size": x.nbytes}}
    head: dict[str, Any] = {"inputs": [tensor]}
    if request_id:
        head["id"] = request_id
    text = json.dumps(head).encode()
    length = len(text) + x.nbytes
    lines = f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: t\r\nContent-Length: {length}\r\n"
    lines += f"Inference-Header-Content-Length: {len(text)}\r\n{extra}\r\n"
    return lines.encode() + text + x.tobytes()


GET = b"GET /v2 HTTP/1.1\r\nHost: t\r\n\r\n"


def identifier(body: bytes) -> str:
    return str(json.loads(body)["id"])


async def test_pipelined_requests_of_both_lanes_are_answered_in_order(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [digits_like_package(tmp_path)], inline=False)
    plane.runtimes["digits"].sleep_s = 0.02
    async with serving(plane) as server:
        client = await server.connect()
        stream = infer("a") + infer("b") + GET + infer("c") + GET + GET + infer("d", model="nope") + infer("e")
        client.writer.write(stream)
        seen = []
        for _ in range(8):
            status, _, body = await client.answer()
            plain = json.loads(body[: body.rindex(b"}") + 1] if body.endswith(b"}") else body)
            seen.append(plain.get("id") or plain.get("name") or status)
        assert seen == ["a", "b", "hardcase", "c", "hardcase", "hardcase", 404, "e"]


async def test_a_flood_of_one_connection_waits_in_its_socket_and_is_answered_in_order(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [digits_like_package(tmp_path)], inline=False)
    plane.runtimes["digits"].sleep_s = 0.005
    most = 0
    async with serving(plane) as server:
        client = await server.connect()
        client.writer.write(b"".join(infer(f"n{i}", rows=8) for i in range(100)))
        for i in range(100):
            most = max(most, plane.data.stats.in_flight)
            status, _, body = await client.answer()
            assert (status, identifier(body)) == (200, f"n{i}")
    assert most == 2, "one runs, one is ready to follow"


@pytest.mark.parametrize("step", [1, 3, 17, 64, 200])
async def test_a_stream_cut_into_pieces_of_any_size_gives_the_same_answers(tmp_path: Path, step: int) -> None:
    plane = Plane(tmp_path, [digits_like_package(tmp_path)])
    async with serving(plane) as server:
        client = await server.connect()
        stream = infer("first") + GET + infer("second", extra="X-Odd: 1\r\n") + infer("third")
        for at in range(0, len(stream), step):
            client.writer.write(stream[at : at + step])
            await client.writer.drain()
            await asyncio.sleep(0)
        seen = [json.loads((await client.answer())[2]) for _ in range(4)]
        assert [s.get("id", s.get("name")) for s in seen] == ["first", "hardcase", "second", "third"]


async def test_special_requests_take_the_normal_way_and_get_equal_answers(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [digits_like_package(tmp_path)])
    async with serving(plane) as server:
        client = await server.connect()
        plain = infer("same")
        client.writer.write(plain)
        _, _, expected = await client.answer()
        head, body = plain.split(b"\r\n\r\n", 1)
        packed = gzip.compress(body)
        lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
        chunked = b"\r\n".join([*lines, b"Transfer-Encoding: chunked"]) + b"\r\n\r\n"
        chunked += b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in (body[:50], body[50:])) + b"0\r\n\r\n"
        zipped = b"\r\n".join([*lines, b"Content-Encoding: gzip", b"Content-Length: %d" % len(packed)])
        for special in (chunked, zipped + b"\r\n\r\n" + packed, plain):
            client.writer.write(special)
            status, _, answer = await client.answer()
            assert status == 200
            assert answer == expected
        client.writer.write(infer("last", extra="Connection: close\r\n"))
        status, headers, answer = await client.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert identifier(answer) == "last"
        assert await client.closed() == b""


async def test_answers_are_compressed_when_the_client_asks(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [digits_like_package(tmp_path)])
    async with serving(plane) as server:
        client = await server.connect()
        client.writer.write(infer("big", extra="Accept-Encoding: gzip\r\n", rows=64))
        status, headers, body = await client.answer()
        assert (status, headers["content-encoding"]) == (200, "gzip")
        assert len(json.loads(gzip.decompress(body))["outputs"][0]["data"]) == 640


async def test_a_slow_head_and_a_slow_body_are_cut_and_others_are_not(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [digits_like_package(tmp_path)], limits=Limits(receive_s=0.5))
    async with serving(plane) as server:
        stream = infer("slow")
        for cut in (10, 60, len(stream) - 5):
            slow, good = await server.connect(), await server.connect()
            slow.writer.write(stream[:cut])
            for _ in range(5):
                good.writer.write(infer("good"))
                assert (await good.answer())[0] == 200
                await asyncio.sleep(0.2)
            rest = await slow.closed()
            assert rest == b"" or b" 408 " in rest.split(b"\r\n")[0]


async def test_an_idle_connection_is_closed_and_a_busy_one_lives(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [digits_like_package(tmp_path)], limits=Limits(idle_s=0.6))
    async with serving(plane) as server:
        idle, busy = await server.connect(), await server.connect()
        for _ in range(8):
            busy.writer.write(infer("b"))
            assert (await busy.answer())[0] == 200
            await asyncio.sleep(0.2)
        assert await idle.closed() == b""


@pytest.mark.parametrize("lane", [True, False])
async def test_bodies_and_heads_over_the_limit_are_refused_before_they_are_read(tmp_path: Path, lane: bool) -> None:
    plane = Plane(tmp_path, [digits_like_package(tmp_path)], limits=Limits(body_bytes=1000, head_bytes=4096, chunks=10))
    async with serving(plane, lane=lane) as server:
        cases = [
            (b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: t\r\nContent-Length: 1000000000\r\n\r\n", 413),
            (
                b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
                + b"1\r\nx\r\n" * 11,
                413,
            ),
        ]
        for stream, expected in cases:
            client = await server.connect()
            client.writer.write(stream)
            status, headers, _ = await client.answer()
            assert (status, headers["connection"]) == (expected, "close")
            await client.closed()
        flood = await server.connect()
        flood.writer.write(b"POST /v2/models/digits/infer HTTP/1.1\r\n" + b"X-A: b\r\n" * 1000)
        first = (await flood.closed()).split(b"\r\n")[0]
        assert first.split()[1] in (b"431", b"400")
        client = await server.connect()
        client.writer.write(infer("after"))
        assert (await client.answer())[0] == 200


async def test_without_the_right_key_nothing_is_answered(tmp_path: Path) -> None:
    import hashlib

    key = ApiKey(name="app", sha256=hashlib.sha256(b"s3cret").hexdigest())
    plane = Plane(tmp_path, [digits_like_package(tmp_path)], auth=AuthOptions(keys=(key,)))
    async with serving(plane) as server:
        client = await server.connect()
        for extra, expected in (
            ("", 401),
            ("Authorization: Bearer wrong\r\n", 401),
            ("Authorization: Bearer s3cret\r\n", 200),
            ("Authorization: Bearer wrong\r\nAuthorization: Bearer s3cret\r\n", 401),
        ):
            client.writer.write(infer("k", extra=extra))
            status, headers, _ = await client.answer()
            assert status == expected, extra
            if status == 401:
                assert headers["www-authenticate"].startswith("Bearer")


async def test_a_client_that_does_not_read_stops_being_read(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [digits_like_package(tmp_path)])
    async with serving(plane) as server:
        client = await server.connect()
        request = infer("flood", rows=256)
        sent = 0
        with contextlib.suppress(asyncio.TimeoutError):
            for _ in range(2000):
                client.writer.write(request)
                await asyncio.wait_for(client.writer.drain(), 1.0)
                sent += 1
        assert sent < 2000, "the server stopped reading"
        buffered = sum(c.transport.get_write_buffer_size() for c in server.protocol.open)
        assert buffered < 8 << 20
        other = await server.connect()
        other.writer.write(infer("other"))
        assert (await other.answer())[0] == 200


async def test_what_is_under_way_is_answered_at_shutdown(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [digits_like_package(tmp_path)], inline=False)
    plane.runtimes["digits"].sleep_s = 0.3
    async with serving(plane) as server:
        client = await server.connect()
        client.writer.write(infer("last"))
        await asyncio.sleep(0.1)
        answer = asyncio.create_task(client.answer())
    status, _, body = await answer
    assert (status, identifier(body)) == (200, "last")


async def test_counters_return_to_zero_when_clients_vanish(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [digits_like_package(tmp_path)], inline=False)
    plane.runtimes["digits"].sleep_s = 0.1
    async with serving(plane) as server:
        for _ in range(10):
            client = await server.connect()
            client.writer.write(infer("gone") + infer("gone") + infer("gone", model="nope"))
            await client.writer.drain()
            client.writer.transport.abort()
        await asyncio.sleep(0.5)
        stats = plane.data.stats
        assert (stats.in_flight, stats.connections) == (0, 0)
        # those that waited while the first batch ran never reached the model
        assert sum(plane.runtimes["digits"].batches) < 20


@pytest.mark.parametrize(
    "head",
    [
        b"GET /v2/models/m/infer HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\n",
        b"POST /v2/models/m/infer HTTP/1.0\r\nHost: t\r\nContent-Length: 1\r\n\r\n",
        b"POST /v2/models/m%2f/infer HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\n",
        b"POST /v2/models/m/infer?x=1 HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\n",
        b"POST /v2/models/m/stats HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n\r\n",
        b"POST /v2/models/m/infer HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        b"POST /v2/models/m/infer HTTP/1.1\r\nHost: t\r\nContent-Length: +1\r\n\r\n",
        b"POST /v2/models/m/infer HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n",
        b"POST /v2/models/m/infer HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /v2/models/m/infer HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nContent-Encoding: gzip\r\n\r\n",
        b"POST /v2/models/m/infer HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\nConnection: close\r\n\r\n",
        b"POST /v2/models/m/infer HTTP/1.1\r\nHost: t\r\n\r\n",
        b"POST /v2/models/m/infer HTTP/1.1\r\nHo st: t\r\nContent-Length: 1\r\n\r\n",
        b"POST /v2/models/m/infer HTTP/1.1\r\n Host: t\r\nContent-Length: 1\r\n\r\n",
    ],
)
def test_a_head_with_anything_special_goes_the_normal_way(head: bytes) -> None:
    assert read_head(head) is None


def test_a_plain_head_is_read() -> None:
    head = read_head(
        b"POST /v2/models/my-model/versions/1.2/infer HTTP/1.1\r\nHost: t\r\ncontent-LENGTH: 42\r\n"
        b"Inference-Header-Content-Length: 7\r\ntraceparent: 00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01\r\n\r\n"
    )
    assert head is not None
    assert (head.call.model, head.call.version, head.content_length) == ("my-model", "1.2", 42)
    assert (head.call.header_length, head.call.trace_id) == (b"7", b"a" * 32)
