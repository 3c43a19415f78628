"""The data plane under uvicorn in one process, without Ray: for tests, embedding, and machines where one process does.

    python -m serving.standalone --registry .hardcase/registry --records .hardcase/records --port 8000

Ctrl-C or SIGTERM stops taking requests, answers those under way, and writes the record log out.
Exit status: 0 stopped as asked, 2 the settings are wrong or the port is taken.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
import uvloop

from export.contracts import codec
from export.contracts.errors import HardcaseError
from serving.auth import require_safe_bind
from serving.grpc.server import GrpcServer, make_grpc_server
from serving.options import ServingOptions
from serving.replica import Replica, bind_socket

_log = logging.getLogger("hardcase.standalone")
_DRAIN_S = 30  # how long requests under way may take after the signal to stop


@dataclass(frozen=True, kw_only=True, slots=True)
class Listening:
    """Where the server can be reached, and by which process. What `--ready-file` holds, as JSON."""

    host: str
    port: int
    pid: int
    ready: bool
    grpc_port: int | None = None

    @property
    def url(self) -> str:
        """Base URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, which raise the signal again after a clean stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to `serve_async`."""
        yield


def serve(
    options: ServingOptions,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    grpc_port: int | None = None,
    on_ready: Callable[[Listening], None] | None = None,
    ready_file: Path | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        options: The settings.
        host: Address to bind; other machines need an API key.
        port: Port to bind; 0 takes a free one.
        grpc_port: Port for gRPC; 0 takes a free one, None serves HTTP only.
        on_ready: Called once, when the versions of all plans are loaded, or were refused.
        ready_file: The same as a file: appears whole when the server is ready.

    Raises:
        UnsafeBind: reachable from other machines without a credential.
        OSError: the port is taken.
    """
    uvloop.run(serve_async(options, host, port, grpc_port=grpc_port, on_ready=on_ready, ready_file=ready_file))


async def serve_async(
    options: ServingOptions,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    grpc_port: int | None = None,
    on_ready: Callable[[Listening], None] | None = None,
    ready_file: Path | None = None,
) -> None:
    """`serve` on a running loop."""
    from serving.app import build_app

    require_safe_bind(host, options.auth)
    listener = bind_socket(host, port)
    try:
        replica = Replica(options, "standalone")
    except BaseException:
        listener.close()
        raise
    config = uvicorn.Config(
        build_app(replica.plane),
        http=replica.protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=max(1, int(options.limits.idle_s)),
        timeout_graceful_shutdown=_DRAIN_S,
        backlog=2048,
    )
    server = _Server(config)
    stopping = _stop_on_signals(server)
    announcer: asyncio.Task[None] | None = None
    grpc_server: GrpcServer | None = None
    try:
        await replica.open()
        if grpc_port is not None:
            grpc_server = make_grpc_server(replica.plane, host, grpc_port)
            await grpc_server.start()
        bound = listener.getsockname()
        listening = Listening(
            host=bound[0],
            port=bound[1],
            pid=os.getpid(),
            ready=False,
            grpc_port=grpc_server.port if grpc_server is not None else None,
        )
        announcer = asyncio.create_task(_announce(replica, listening, on_ready, ready_file))
        await server.serve(sockets=[listener])
    finally:
        if announcer is not None:
            announcer.cancel()
        if grpc_server is not None:
            await grpc_server.stop(_DRAIN_S)
        await replica.close()
        listener.close()
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)
        for number in stopping:
            asyncio.get_running_loop().remove_signal_handler(number)


def _stop_on_signals(server: uvicorn.Server) -> tuple[int, ...]:
    """The first signal drains, a second one does not wait for clients."""

    def stop() -> None:
        if server.should_exit:
            server.force_exit = True
        server.should_exit = True

    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        asyncio.get_running_loop().add_signal_handler(number, stop)
    return numbers


async def _announce(
    replica: Replica,
    listening: Listening,
    on_ready: Callable[[Listening], None] | None,
    ready_file: Path | None,
) -> None:
    """Tell that the server is ready, once everything is loaded or refused."""
    await replica.settled()
    listening = dataclasses.replace(listening, ready=replica.pool.ready())
    for status in replica.pool.index():
        _log.info("%s/%s %s %s", status.name, status.version, status.state, status.reason)
    if ready_file is not None:
        partial = ready_file.with_name(ready_file.name + ".partial")
        partial.write_text(json.dumps(dataclasses.asdict(listening)))
        partial.replace(ready_file)
    if on_ready is not None:
        on_ready(listening)


def read_options(text: str, registry: str | None, records: str | None, fast_lane: bool | None) -> ServingOptions:
    """Options from JSON (or `@file`), with the command line's own on top.

    Raises:
        ValueError: names the field that is wrong or missing.
        OSError: the file cannot be read.
    """
    try:
        plain = json.loads(Path(text[1:]).read_text() if text.startswith("@") else text)
    except json.JSONDecodeError as error:
        raise ValueError(f"the options are not valid JSON: {error}") from None
    if not isinstance(plain, dict):
        raise ValueError("ServingOptions: expected an object")
    given = {"registry": registry, "records": records, "fast_lane": fast_lane}
    return codec.from_plain(ServingOptions, plain | {k: v for k, v in given.items() if v is not None})


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m serving.standalone", description=__doc__.split("\n")[0])
    parser.add_argument("--registry", help="folder of the registry")
    parser.add_argument("--records", help="folder of the record logs")
    parser.add_argument("--host", default="127.0.0.1", help="address to bind (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--grpc-port", type=int, help="serve gRPC on this port too; 0 takes a free one")
    parser.add_argument("--ready-file", type=Path, help="file that appears, with host and port, when all is loaded")
    parser.add_argument("--no-fast-lane", action="store_true", help="send every request through ASGI")
    parser.add_argument("--no-capture", action="store_true", help="record nothing")
    parser.add_argument("--options-json", default="{}", help="ServingOptions as JSON, or @file")
    parser.add_argument("--log-level", default="warning", choices=["debug", "info", "warning", "error"])
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=arguments.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        lane = False if arguments.no_fast_lane else None
        options = read_options(arguments.options_json, arguments.registry, arguments.records, lane)
        if arguments.no_capture:
            options = dataclasses.replace(options, capture=None)
        serve(
            options,
            arguments.host,
            arguments.port,
            grpc_port=arguments.grpc_port,
            ready_file=arguments.ready_file,
            on_ready=lambda listening: print(f"hardcase: serving on {listening.url} (pid {listening.pid})", flush=True),
        )
    except HardcaseError as error:
        print(f"hardcase: {error.message}", file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        print(f"hardcase: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
