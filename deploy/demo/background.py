"""The story's traffic, as a process of its own: constant, from several clients, every single answer judged.

    python -m deploy.demo.background HTTP_HOST:PORT [--grpc HOST:PORT] [--rate 280] [--run NAME] [--seed 0]

Six clients keep an HTTP connection, one opens a new one for every request, one speaks gRPC. Orders come as JSON lines
on standard input (`Order`), accounts go out as JSON lines every second (`Account`); when standard input ends, so does
the process. Every request has exactly one fate: answered (right or wrong, by the truth that this process knows), or
failed with a reason. Nothing is sent twice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from deploy.demo.grpc_client import GrpcClient
from deploy.demo.pictures import Camera, Scene, Shown
from deploy.demo.traffic import MODEL, binary_request
from deploy.demo.wire import BrokenAnswer, Wire

KEPT = 6  # clients that keep their connection
ACCOUNT_S = 1.0
REASONS = 40  # kept, word for word


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to send from now on."""

    scene: str = Scene.UPRIGHT.value
    pool: str = "a"
    dead_pixel: bool = False
    rate: float = 280.0


@dataclass(kw_only=True)
class Account:
    """What became of the requests of one second, by version: [answered, right]."""

    time_s: float
    scene: str
    sent: int = 0
    failed: int = 0
    by_client: dict[str, int] = field(default_factory=dict)
    answers: dict[str, list[int]] = field(default_factory=dict)
    slowest_ms: float = 0.0
    total_ms: float = 0.0
    reasons: list[str] = field(default_factory=list)
    under_way: int = 0


Ask = Callable[[Shown, str], Awaitable[tuple[str, int]]]


class Crowd:
    """All clients.

    Args:
        http: Host and port of inference over HTTP.
        grpc: The same over gRPC; None leaves it out.
        run: First part of every request's id.
        seed: Of the pictures.
        token: Bearer token, when serving asks for one.
    """

    def __init__(self, http: tuple[str, int], grpc: str | None, run: str, seed: int, token: str | None = None) -> None:
        self._http, self._grpc, self._run = http, grpc, run
        self._camera = Camera(seed)
        self._token = token
        self.order = Order()
        self.number = 0
        self.account = Account(time_s=time.time(), scene=self.order.scene)
        self.under_way = 0

    def swap(self) -> Account:
        """The account so far; a new one begins."""
        done, self.account = self.account, Account(time_s=time.time(), scene=self.order.scene)
        done.under_way = self.under_way
        return done

    async def run(self, stop: asyncio.Event) -> None:
        """Send until told to stop, and finish what is under way."""
        shares: list[tuple[str, float, Ask]] = []
        fresh = 0.05
        spoken = 0.1 if self._grpc else 0.0
        for i in range(KEPT):
            shares.append((f"keep-alive {i + 1}", (1.0 - fresh - spoken) / KEPT, self._keeping()))
        shares.append(("new connections", fresh, self._anew))
        grpc = GrpcClient(self._grpc, MODEL, self._token) if self._grpc else None
        if grpc is not None:
            shares.append(("gRPC", spoken, grpc.ask))
        async with asyncio.TaskGroup() as group:
            for name, share, ask in shares:
                group.create_task(self._client(name, share, ask, stop))
        if grpc is not None:
            await grpc.close()

    async def _client(self, name: str, share: float, ask: Ask, stop: asyncio.Event) -> None:
        due = time.monotonic()
        while not stop.is_set():
            # A client that was held up goes on from now: it does not make up for what it missed.
            due = max(due + 1.0 / max(self.order.rate * share, 1e-3), time.monotonic() - 0.05)
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            order = self.order
            shown = self._camera.take(Scene(order.scene), order.pool, dead_pixel=order.dead_pixel)
            self.number += 1
            identity = f"{self._run}-{self.number:07d}-{shown.number}"
            self.under_way += 1
            self.account.sent += 1
            self.account.by_client[name] = self.account.by_client.get(name, 0) + 1
            started = time.perf_counter()
            try:
                version, said = await ask(shown, identity)
            except (BrokenAnswer, OSError, TimeoutError, ValueError, KeyError, RuntimeError) as error:
                self.account.failed += 1
                if len(self.account.reasons) < REASONS:
                    self.account.reasons.append(f"{name}: {type(error).__name__}: {str(error)[:200]}")
            else:
                cell = self.account.answers.setdefault(version, [0, 0])
                cell[0] += 1
                cell[1] += said == shown.label
                took = 1000 * (time.perf_counter() - started)
                self.account.total_ms += took
                self.account.slowest_ms = max(self.account.slowest_ms, took)
            finally:
                self.under_way -= 1

    def _keeping(self) -> Ask:
        wire = Wire(*self._http)

        async def ask(shown: Shown, identity: str) -> tuple[str, int]:
            reply = await wire.ask(self._request(shown, identity))
            return judge(reply.status, reply.body)

        return ask

    async def _anew(self, shown: Shown, identity: str) -> tuple[str, int]:
        wire = Wire(*self._http)
        try:
            reply = await wire.ask(self._request(shown, identity, b"Connection: close\r\n"))
        finally:
            wire.close()
        return judge(reply.status, reply.body)

    def _request(self, shown: Shown, identity: str, more: bytes = b"") -> bytes:
        body, headers = binary_request(shown.image, identity)
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        host, port = self._http
        head = (
            f"POST /v2/models/{MODEL}/infer HTTP/1.1\r\nHost: {host}:{port}\r\n{lines}Content-Length: {len(body)}\r\n"
        )
        return head.encode() + more + b"\r\n" + body


def judge(status: int, body: bytes) -> tuple[str, int]:
    """The version that answered, and its class.

    Raises:
        ValueError: it is no whole answer.
    """
    if status != 200:
        raise ValueError(f"status {status}: {body[:150].decode('utf-8', 'replace')}")
    answer: dict[str, Any] = json.loads(body)
    logits = next(o["data"] for o in answer["outputs"] if o["name"] == "logits")
    if len(logits) != 10:
        raise ValueError(f"{len(logits)} logits instead of 10")
    return str(answer["model_version"]), int(np.argmax(logits))


async def _main(crowd: Crowd) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def orders() -> None:
        while line := await reader.readline():
            crowd.order = Order(**json.loads(line))
        stop.set()

    async def accounts() -> None:
        while not stop.is_set():
            await asyncio.sleep(ACCOUNT_S)
            print(json.dumps(asdict(crowd.swap())), flush=True)

    async with asyncio.TaskGroup() as group:
        group.create_task(orders())
        told = group.create_task(accounts())
        await crowd.run(stop)
        told.cancel()
    print(json.dumps(asdict(crowd.swap())), flush=True)


def main() -> None:
    """Command line."""
    import os

    from deploy.convergence import TOKEN_VARIABLE

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("http")
    parser.add_argument("--grpc")
    parser.add_argument("--run", default="story")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    host, _, port = given.http.rpartition(":")
    crowd = Crowd((host, int(port)), given.grpc, given.run, given.seed, os.environ.get(TOKEN_VARIABLE))
    asyncio.run(_main(crowd))


if __name__ == "__main__":
    main()
