"""Stand-alone servers with one package and chosen settings, for as long as they are measured."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

from deploy.errors import CommandError
from deploy.loadtest.orders import Protocol
from deploy.loadtest.parsing import Target
from deploy.processes import stop_child
from deploy.tune.search import Candidate
from export.contracts import codec
from serving.options import AuthOptions, CacheOptions, ServingOptions, TracingOptions

_START_S = 120.0
_STOP_S = 10.0
_LOG_BYTES = 64 << 20  # of records that a server may hold while it is measured


class NotServed(CommandError):
    """The version does not come up with these settings; the text has the server's reason."""


@contextlib.asynccontextmanager
async def serving(base: ServingOptions, registry: Path, candidate: Candidate) -> AsyncIterator[list[Target]]:
    """Servers with a candidate's settings, one process an instance, each on a free port of loopback.

    Args:
        base: The settings' options: device, limits, capture. What would answer without the model is switched off.
        registry: Holds nothing but the model.
        candidate: Batch, threads and instances.

    Raises:
        NotServed: the model does not load with these settings.
    """
    # The folder name is short: sockets and temporary files of the runtimes may live below it.
    with tempfile.TemporaryDirectory(prefix="hct-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        servers: list[subprocess.Popen[bytes]] = []
        try:
            for number in range(candidate.instances):
                servers.append(_start(options_for(base, registry, folder / str(number), candidate), folder, number))
            try:
                async with asyncio.timeout(_START_S):
                    targets = [await _ready(server, folder, number) for number, server in enumerate(servers)]
            except TimeoutError:
                raise NotServed(f"a server was not ready after {_START_S:.0f} s") from None
            yield targets
        finally:
            for server in servers:
                await asyncio.to_thread(stop_child, server, _STOP_S)


def options_for(base: ServingOptions, registry: Path, folder: Path, candidate: Candidate) -> ServingOptions:
    """The options of one server: as in production but for the cache, traces, keys and the size of the record log."""
    capture = replace(base.capture, quota_bytes=_LOG_BYTES) if base.capture is not None else None
    return replace(
        base,
        registry=str(registry),
        records=str(folder / "records"),
        models=(),
        elsewhere=(),
        batch=replace(base.batch, max_rows=candidate.max_batch_rows),
        runtime=replace(base.runtime, intra_op_threads=candidate.intra_op_threads),
        auth=AuthOptions(),
        capture=capture,
        cache=CacheOptions(),
        tracing=TracingOptions(),
        access_log=None,
    )


def _start(options: ServingOptions, folder: Path, number: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "deploy.tune.server", "--port", "0"]
    command += ["--ready-file", str(folder / f"ready{number}"), "--options-json", codec.dumps(options).decode()]
    root = str(Path(__file__).resolve().parents[2])
    search = [root, *(part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part)]
    with (folder / f"log{number}").open("wb") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C in the terminal is ours to act on
            env={**os.environ, "PYTHONPATH": os.pathsep.join(search)},
        )


async def _ready(server: subprocess.Popen[bytes], folder: Path, number: int) -> Target:
    file = folder / f"ready{number}"
    while not file.exists():
        if server.poll() is not None:
            raise NotServed(f"a server ended with {server.returncode}: {_last_line(folder / f'log{number}')}")
        await asyncio.sleep(0.05)
    listening = json.loads(file.read_text(encoding="utf-8"))
    target = Target(name="tuned", protocol=Protocol.HTTP, host=listening["host"], port=int(listening["port"]))
    if not listening["ready"]:
        raise NotServed(await asyncio.to_thread(_reason, target))
    return target


def _reason(target: Target) -> str:
    from deploy import probes

    code, body = probes.post_json(f"http://{target.host}:{target.port}/v2/repository/index", {})
    if code == 200:
        for entry in json.loads(body):
            if entry.get("reason"):
                return str(entry["reason"])
    return "the version does not load"


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "no reason given"
