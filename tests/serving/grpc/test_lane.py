"""The lane: what calls get from it, what they cost at most, and what a peer that breaks the rules gets."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc import aio

from export.package import Package
from monitoring.records.record import CaptureOptions
from serving.auth import hash_token
from serving.grpc import http2
from serving.grpc.http2 import Code, Kind, Setting
from serving.grpc.lane import GrpcLane
from serving.grpc.messages import messages
from serving.grpc.service import INFER, STREAM_INFER
from serving.options import ApiKey, AuthOptions, Limits
from tests.support import packages
from tests.support.grpc_raw import RawClient, framed, infer_request, lane_over
from tests.support.planes import Plane

M = messages()
LIMITS = Limits(body_bytes=1 << 20, receive_s=0.6, idle_s=1.5, timeout_s=5.0)
X = np.arange(6, dtype=np.float32).reshape(2, 3)
BODY = infer_request("varlen", "x", "FP32", (2, 3), X.tobytes())


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return packages.variable_length_package(tmp_path_factory.mktemp("package"))


@pytest.fixture
def plane(tmp_path: Path, package: Package) -> Any:
    made = Plane(tmp_path, [package], inline=False, limits=LIMITS)
    yield made
    made.close()


@pytest.fixture
async def lane(plane: Plane) -> AsyncIterator[GrpcLane]:
    async with lane_over(plane) as running:
        yield running
    assert plane.data.stats.in_flight == 0
    assert plane.data.stats.connections == 0


@pytest.fixture
async def client(lane: GrpcLane) -> AsyncIterator[RawClient]:
    made = await RawClient.open(lane.port)
    yield made
    made.close()


def sums(body: bytes) -> list[float]:
    answer = M.ModelInferResponse.FromString(body)
    found: list[float] = np.frombuffer(answer.raw_output_contents[0], np.float32).tolist()
    return found


async def works(lane: GrpcLane) -> None:
    """Whatever happened before: the next client is served."""
    client = await RawClient.open(lane.port)
    client.call(1, BODY)
    status, _, body = await client.answer(1)
    assert (status, sums(body)) == (0, [3.0, 12.0])
    client.close()


# calls


async def test_calls_on_one_connection_are_answered_whatever_the_frames_look_like(client: RawClient):
    client.call(1, BODY)
    client.begin(3)
    whole = framed(BODY)
    for byte in whole[:-1]:
        client.data(3, bytes((byte,)), end=False)
    client.data(3, whole[-1:], end=False)
    client.data(3, b"", end=True)
    client.begin(5)
    padded = bytes((7,)) + whole + bytes(7)
    client.send(http2.frame(Kind.DATA, http2.END_STREAM | http2.PADDED, 5, padded))
    for stream in (1, 3, 5):
        status, text, body = await client.answer(stream)
        assert (status, text, sums(body)) == (0, "", [3.0, 12.0])


async def test_a_head_in_pieces_and_trailers_of_a_request(client: RawClient):
    fields = [(b":method", b"POST"), (b":path", INFER.encode()), (b"content-type", b"application/grpc+proto")]
    block = http2.header_block(fields)
    client.send(http2.frame(Kind.HEADERS, http2.PRIORITY_FLAG, 1, bytes(5) + block[:9]))
    client.send(http2.frame(Kind.CONTINUATION, 0, 1, block[9:20]))
    client.send(http2.frame(Kind.CONTINUATION, http2.END_HEADERS, 1, block[20:]))
    client.data(1, framed(BODY), end=False)
    trailers = http2.header_block([(b"x", b"y")])
    client.send(http2.frame(Kind.HEADERS, http2.END_HEADERS | http2.END_STREAM, 1, trailers))
    status, _, body = await client.answer(1)
    assert (status, sums(body)) == (0, [3.0, 12.0])


async def test_many_clients_share_a_batch(lane: GrpcLane, plane: Plane):
    async with aio.insecure_channel(f"127.0.0.1:{lane.port}") as channel:
        infer = channel.unary_unary(INFER)
        bodies = await asyncio.gather(*[infer(BODY) for _ in range(200)])
    assert all(sums(body) == [3.0, 12.0] for body in bodies)
    assert sum(plane.runtimes["varlen"].batches) == 400
    assert len(plane.runtimes["varlen"].batches) < 200


async def test_answers_wait_for_the_clients_windows(lane: GrpcLane):
    client = await RawClient.open(lane.port, settings=http2.settings({Setting.INITIAL_WINDOW_SIZE: 10}))
    client.call(1, BODY)
    received = b""
    while len(received) < 10:
        found = await client.frame()
        assert found is not None
        received += found[3] if found[0] == Kind.DATA else b""
    assert len(received) == 10
    with pytest.raises(TimeoutError):
        await client.frame(0.2)
    client.send(http2.window_update(1, 1 << 20))
    assert (await client.answer(1))[0] == 0
    whole = b"".join(f[3] for f in client.frames if f[0] == Kind.DATA)
    assert sums(whole[5:]) == [3.0, 12.0]
    client.send(http2.settings({Setting.INITIAL_WINDOW_SIZE: 1 << 16}))
    client.call(3, BODY)
    assert (await client.answer(3))[0] == 0
    client.close()


async def test_a_deadline_of_the_caller_is_kept(client: RawClient, plane: Plane):
    plane.runtimes["varlen"].sleep_s = 0.5
    begun = time.monotonic()
    client.call(1, BODY, grpc_timeout="50m")
    status, text, _ = await client.answer(1)
    assert (status, "time limit" in text) == (4, True)
    assert time.monotonic() - begun < 0.4
    client.call(3, BODY, grpc_timeout="soon")
    assert (await client.answer(3))[0] == 3


async def test_a_cancelled_call_never_reaches_the_model(client: RawClient, lane: GrpcLane, plane: Plane):
    runtime = plane.runtimes["varlen"]
    runtime.sleep_s = 0.3
    client.call(1, BODY)
    while not runtime.batches:
        await asyncio.sleep(0.01)
    client.call(3, BODY)
    client.call(5, infer_request("varlen", "x", "FP32", (1, 3), X[:1].tobytes()))
    await asyncio.sleep(0.05)
    client.send(http2.reset(3, Code.CANCEL))
    assert (await client.answer(1))[0] == 0
    assert (await client.answer(5))[0] == 0
    assert runtime.batches == [2, 1], "positive control: 5 was run, 3 was not"
    assert plane.data.stats.in_flight == 0


async def test_a_client_that_goes_away_takes_its_calls_with_it(lane: GrpcLane, plane: Plane):
    runtime = plane.runtimes["varlen"]
    runtime.sleep_s = 0.2
    first = await RawClient.open(lane.port)
    first.call(1, BODY)
    while not runtime.batches:
        await asyncio.sleep(0.01)
    second = await RawClient.open(lane.port)
    second.call(1, BODY)
    second.begin(3, STREAM_INFER)
    second.data(3, framed(BODY), end=False)
    await asyncio.sleep(0.05)
    assert plane.data.stats.in_flight == 3
    second.writer.transport.abort()
    assert (await first.answer(1))[0] == 0
    await asyncio.sleep(0.3)
    assert runtime.batches == [2]
    assert plane.data.stats.in_flight == 0
    first.close()


async def test_stopping_answers_what_is_under_way_and_loses_nothing(plane: Plane):
    plane.runtimes["varlen"].sleep_s = 0.05
    async with lane_over(plane) as lane, aio.insecure_channel(f"127.0.0.1:{lane.port}") as channel:
        infer = channel.unary_unary(INFER)
        stream = channel.stream_stream(STREAM_INFER)()
        await stream.write(BODY)
        calls = [asyncio.ensure_future(_call(infer)) for _ in range(100)]
        await asyncio.sleep(0.02)
        begun = time.monotonic()
        stopping = asyncio.create_task(lane.stop(5.0))
        assert all(sums(body) == [3.0, 12.0] for body in await asyncio.gather(*calls))
        answer = M.ModelStreamInferResponse.FromString(await stream.read())
        assert not answer.error_message
        with pytest.raises(aio.AioRpcError) as ended:
            await stream.read()
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        await stopping
        assert time.monotonic() - begun < 4.0, "an idle stream does not hold the server up"


async def _call(infer: Any) -> bytes:
    body: bytes = await infer(BODY)
    return body


async def test_a_stream_takes_no_more_than_it_answers(client: RawClient, plane: Plane):
    plane.runtimes["varlen"].sleep_s = 0.01
    client.begin(1, STREAM_INFER)
    for n in range(600):
        client.data(1, framed(BODY), end=n == 599)
    await asyncio.sleep(0.05)
    assert plane.data.stats.in_flight <= 256
    status, _, _ = await client.answer(1, 20)
    answers, at = 0, 5
    whole = b"".join(f[3] for f in client.frames if f[0] == Kind.DATA)
    at = 0
    while at < len(whole):
        size = int.from_bytes(whole[at + 1 : at + 5], "big")
        one = M.ModelStreamInferResponse.FromString(whole[at + 5 : at + 5 + size])
        assert not one.error_message
        answers, at = answers + 1, at + 5 + size
    assert (status, answers) == (0, 600)


async def test_compressed_requests_and_bombs(client: RawClient):
    def compressed(stream: int, data: bytes, **metadata: str) -> None:
        client.begin(stream, **metadata)
        client.data(stream, framed(data, 1))

    compressed(1, gzip.compress(BODY), grpc_encoding="gzip")
    assert sums((await client.answer(1))[2]) == [3.0, 12.0]
    compressed(3, gzip.compress(bytes(8 << 20)), grpc_encoding="gzip")
    status, text, _ = await client.answer(3)
    assert (status, "1048576" in text) == (8, True)
    compressed(5, b"no gzip", grpc_encoding="gzip")
    assert (await client.answer(5))[0] == 3
    compressed(7, gzip.compress(BODY))
    assert (await client.answer(7))[0] == 3
    compressed(9, BODY, grpc_encoding="snappy")
    assert (await client.answer(9))[0] == 12


async def test_messages_over_the_limit_are_refused_before_they_are_here(client: RawClient):
    client.begin(1)
    client.data(1, b"\x00" + (2 << 20).to_bytes(4, "big") + bytes(100), end=False)
    status, text, _ = await client.answer(1)
    assert (status, "over the limit of 1048576 bytes" in text) == (8, True)
    client.call(3, BODY)
    assert (await client.answer(3))[0] == 0, "the connection goes on"


@pytest.mark.parametrize(
    "payload", [b"", b"\x00", framed(BODY) + b"x", framed(BODY)[:-1], framed(BODY) * 2, b"\x02" + bytes(4)]
)
async def test_calls_that_do_not_hold_one_message_are_refused(client: RawClient, payload: bytes):
    client.begin(1, end=not payload)
    if payload:
        client.data(1, payload)
    assert (await client.answer(1))[0] == 3
    client.call(3, BODY)
    assert (await client.answer(3))[0] == 0


async def test_what_is_not_grpc_gets_an_http_status(client: RawClient):
    fields = [(b":method", b"GET"), (b":path", b"/v2"), (b":scheme", b"http"), (b":authority", b"x")]
    flags = http2.END_HEADERS | http2.END_STREAM
    client.send(http2.frame(Kind.HEADERS, flags, 1, http2.header_block(fields)))
    assert (await client.answer(1))[0] == -1405
    fields[0] = (b":method", b"POST")
    client.send(http2.frame(Kind.HEADERS, flags, 3, http2.header_block(fields)))
    assert (await client.answer(3))[0] == -1415


# limits


async def test_slow_requests_are_cut_off_and_other_calls_go_on(client: RawClient):
    client.begin(1)
    client.data(1, framed(BODY)[:20], end=False)
    client.begin(3, STREAM_INFER)
    client.data(3, framed(BODY)[:20], end=False)
    begun = time.monotonic()
    status, text, _ = await client.answer(1, 3)
    assert (status, "did not arrive within 0.6 s" in text) == (4, True)
    assert 0.5 < time.monotonic() - begun < 2.0
    client.call(5, BODY)
    assert (await client.answer(5))[0] == 0


async def test_idle_connections_are_closed_and_silent_ones_sooner(lane: GrpcLane):
    silent = await RawClient.open(lane.port, greet=False)
    idle = await RawClient.open(lane.port)
    begun = time.monotonic()
    await silent.closed(4)
    assert time.monotonic() - begun < 1.4
    assert await idle.closed(4) == Code.NO_ERROR
    assert time.monotonic() - begun > 1.2


async def test_no_more_than_the_announced_streams(tmp_path: Path, package: Package):
    plane = Plane(tmp_path, [package])
    async with lane_over(plane) as lane:
        client = await RawClient.open(lane.port)
        for n in range(http2.MAX_STREAMS + 10):
            client.begin(2 * n + 1)
        status, _, _ = await client.answer(2 * http2.MAX_STREAMS + 1)
        assert status == -Code.REFUSED_STREAM
        client.close()
        await works(lane)
    plane.close()


def _frames(kind: int, count: int, payload: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    return http2.frame(kind, flags, stream, payload) * count


HEAD = http2.frame(
    Kind.HEADERS,
    http2.END_HEADERS,
    1,
    http2.header_block([(b":method", b"POST"), (b":path", INFER.encode()), (b"content-type", b"application/grpc")]),
)
BOMB = b"\x40\x01a" + b"\x7f\x81\x1e" + bytes(3968) + b"\xbe" * 10_000  # one large field, named ten thousand times


@pytest.mark.parametrize(
    ("attack", "code"),
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", Code.PROTOCOL_ERROR, id="HTTP/1"),
        pytest.param(http2.PREFACE + b"\xff" * 9, Code.FRAME_SIZE_ERROR, id="frame size"),
        pytest.param(http2.PREFACE + _frames(Kind.SETTINGS, 1, b"12345"), Code.FRAME_SIZE_ERROR, id="settings size"),
        pytest.param(
            http2.PREFACE + _frames(Kind.SETTINGS, 1, b"\x00\x04\xff\xff\xff\xff"), Code.FLOW_CONTROL_ERROR, id="window"
        ),
        pytest.param(http2.PREFACE + _frames(Kind.SETTINGS, 1, stream=1), Code.PROTOCOL_ERROR, id="settings stream"),
        pytest.param(http2.PREFACE + _frames(Kind.SETTINGS, 3000), Code.ENHANCE_YOUR_CALM, id="settings flood"),
        pytest.param(http2.PREFACE + _frames(Kind.PING, 3000, bytes(8)), Code.ENHANCE_YOUR_CALM, id="ping flood"),
        pytest.param(http2.PREFACE + _frames(Kind.PING, 1, bytes(7)), Code.FRAME_SIZE_ERROR, id="ping size"),
        pytest.param(http2.PREFACE + _frames(99, 3000), Code.ENHANCE_YOUR_CALM, id="unknown flood"),
        pytest.param(http2.PREFACE + _frames(Kind.DATA, 1, b"x", stream=1), Code.PROTOCOL_ERROR, id="data on nothing"),
        pytest.param(
            http2.PREFACE + HEAD + _frames(Kind.DATA, 3000, stream=1), Code.ENHANCE_YOUR_CALM, id="empty data flood"
        ),
        pytest.param(
            http2.PREFACE + HEAD + http2.frame(Kind.DATA, http2.PADDED, 1, b"\xff12"), Code.PROTOCOL_ERROR, id="padding"
        ),
        pytest.param(http2.PREFACE + http2.window_update(0, 0), Code.PROTOCOL_ERROR, id="update of nothing"),
        pytest.param(
            http2.PREFACE + http2.window_update(0, http2.LARGEST_WINDOW) * 2, Code.FLOW_CONTROL_ERROR, id="overflow"
        ),
        pytest.param(
            http2.PREFACE + HEAD + http2.window_update(1, http2.LARGEST_WINDOW) * 2,
            Code.FLOW_CONTROL_ERROR,
            id="stream overflow",
        ),
        pytest.param(http2.PREFACE + http2.reset(1, Code.CANCEL), Code.PROTOCOL_ERROR, id="reset of nothing"),
        pytest.param(http2.PREFACE + _frames(Kind.PUSH_PROMISE, 1), Code.PROTOCOL_ERROR, id="push"),
        pytest.param(
            http2.PREFACE + http2.frame(Kind.CONTINUATION, http2.END_HEADERS, 1, b""),
            Code.PROTOCOL_ERROR,
            id="continues",
        ),
        pytest.param(
            http2.PREFACE + http2.frame(Kind.HEADERS, 0, 1, b"\x88") + _frames(Kind.PING, 1, bytes(8)),
            Code.PROTOCOL_ERROR,
            id="interrupted head",
        ),
        pytest.param(
            http2.PREFACE + http2.frame(Kind.HEADERS, 0, 1) + _frames(Kind.CONTINUATION, 3000, stream=1),
            Code.ENHANCE_YOUR_CALM,
            id="continuation flood",
        ),
        pytest.param(
            http2.PREFACE + http2.frame(Kind.HEADERS, http2.END_HEADERS, 1, b"\x00" * 20_000),
            Code.ENHANCE_YOUR_CALM,
            id="large head",
        ),
        pytest.param(
            http2.PREFACE + http2.frame(Kind.HEADERS, http2.END_HEADERS, 1, BOMB),
            Code.ENHANCE_YOUR_CALM,
            id="HPACK bomb",
        ),
        pytest.param(
            http2.PREFACE + http2.frame(Kind.HEADERS, http2.END_HEADERS, 1, b"\xff\xff\xff"),
            Code.COMPRESSION_ERROR,
            id="HPACK junk",
        ),
        pytest.param(http2.PREFACE + HEAD[:8] + b"\x02" + HEAD[9:], Code.PROTOCOL_ERROR, id="even stream"),
    ],
)
async def test_a_peer_that_breaks_the_rules_is_told_why_and_cut_off(lane: GrpcLane, attack: bytes, code: Code):
    client = await RawClient.open(lane.port, greet=False)
    client.send(attack)
    assert await client.closed() == code
    client.close()
    await works(lane)


async def test_rapid_resets_end_the_connection(lane: GrpcLane):
    client = await RawClient.open(lane.port)
    for n in range(3000):
        client.begin(2 * n + 1)
        client.send(http2.reset(2 * n + 1, Code.CANCEL))
    assert await client.closed() == Code.ENHANCE_YOUR_CALM
    client.close()
    await works(lane)


async def test_more_than_the_windows_allow_ends_the_connection(lane: GrpcLane):
    client = await RawClient.open(lane.port)
    client.begin(1, STREAM_INFER)
    client.data(1, b"\x00" + (1 << 20).to_bytes(4, "big"), end=False)
    for _ in range(20):
        client.data(1, bytes(http2.MAX_FRAME), end=False)
    assert await client.closed() in (Code.FLOW_CONTROL_ERROR, Code.NO_ERROR, None)
    await works(lane)


# who may call


async def test_sticky_header_trace_and_caller_reach_the_data_plane(tmp_path: Path, package: Package):
    auth = AuthOptions(keys=(ApiKey(name="ci", sha256=hash_token("s3cret")),))
    plane = Plane(tmp_path, [package], auth=auth, sticky_header="Who")
    seen: list[Any] = []
    accept = plane.data.accept
    plane.data.accept = lambda call, *rest: (seen.append((call, rest[-1])), accept(call, *rest))[1]  # type: ignore[method-assign]
    async with lane_over(plane) as lane:
        client = await RawClient.open(lane.port)
        trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        client.call(1, BODY, authorization="Bearer s3cret", who="me", traceparent=trace)
        assert (await client.answer(1))[0] == 0
        client.call(3, BODY, authorization="Bearer wrong")
        assert (await client.answer(3))[0] == 16
        client.call(5, BODY)
        assert (await client.answer(5))[0] == 16
        client.begin(7, authorization="Bearer s3cret")
        client.data(7, framed(BODY))
        assert (await client.answer(7))[0] == 0
        client.close()
    plane.close()
    (call, caller), (plain, _) = seen
    assert (call.sticky, call.trace_id, caller) == (b"me", b"4bf92f3577b34da6a3ce929d0e0e4736", "ci")
    assert (plain.sticky, plain.traceparent) == (None, None)
    assert plane.data.stats.unauthenticated == 2


async def test_http_and_grpc_share_a_batch_and_every_request_is_recorded(tmp_path: Path, package: Package):
    from serving.call import Call
    from tests.support import wire
    from tests.support.planes import Collected
    from tests.support.records import recorded

    plane = Plane(tmp_path, [package], inline=False, capture=CaptureOptions())
    runtime = plane.runtimes["varlen"]
    runtime.sleep_s = 0.2
    async with lane_over(plane) as lane:
        client = await RawClient.open(lane.port)
        client.call(101, BODY)
        while not runtime.batches:
            await asyncio.sleep(0.01)
        for n in range(51, 61):
            client.call(2 * n + 1, BODY)
        bad = infer_request("varlen", "x", "FP32", (2, 3), b"short")
        client.call(141, bad)
        client.call(143, b"\xff")
        while plane.data.stats.in_flight < 11:
            await asyncio.sleep(0.005)
        collected = Collected()
        tensor = wire.Tensor(name="x", datatype=package.manifest.signature.inputs[0].datatype, array=X)
        headers, body = wire.request([tensor])
        length = headers.get("Inference-Header-Content-Length")
        call = Call(model="varlen", header_length=length.encode() if length else None)
        for _ in range(10):
            plane.data.accept(call, body, collected)
        assert [(await client.answer(s))[0] for s in (141, 143)] == [3, 3]
        await collected.wait(10)
        assert (await client.answer(2 * 60 + 1))[0] == 0
        client.close()
    assert runtime.batches == [2, 40], "both transports in one batch"
    plane.close()
    records = recorded(plane.records)
    assert sum(len(part.ids) for part in records) == 23
