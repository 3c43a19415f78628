"""Answers of a real Label Studio, recorded once, and a server that gives them again.

    python -m tests.support.label_studio_tape URL      # records anew from a running server

What is asked is part of the tape: a request that the recorded one was not is answered with 599 and named.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from monitoring.integrations import tool_rows
from tests.support.label_studio import TOKEN, call, choice
from tests.support.label_world import TOOL, LabelWorld, label_world

TAPE = Path(__file__).resolve().parents[1] / "monitoring" / "integrations" / "data" / "label_studio.json"
DIGITS = 6
Act = Callable[[str, str, object], Any]


@dataclass(kw_only=True)
class Tape:
    """Exchanges in order; `wrong` says what was asked that is not on it."""

    exchanges: list[dict[str, Any]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    at: int = 0


def story(world: LabelWorld, act: Act) -> Iterator[str]:
    """What happens: the worker's part goes to `world`'s server, the annotators' part through `act`."""
    tasks = {}
    world.ask()
    world.turns()
    yield "pushed"
    for i, case in enumerate(world.cases[:4]):
        tasks[case] = world.task(case).external_id
        act("POST", f"/api/tasks/{tasks[case]}/annotations/", {"result": choice(("one", "two", "three", "eleven")[i])})
    world.turns()
    yield "annotated"
    first = {case: act("GET", f"/api/tasks/{tasks[case]}/annotations/", None) for case in world.cases[:3]}
    numbers = {case: said[0]["id"] if said else 0 for case, said in first.items()}
    act("PATCH", f"/api/annotations/{numbers[world.cases[0]]}/", {"result": choice("nine")})
    act("DELETE", f"/api/annotations/{numbers[world.cases[1]]}/", None)
    act("PATCH", f"/api/annotations/{numbers[world.cases[2]]}/", {"was_cancelled": True})
    world.turns()
    yield "changed"
    tool_rows.ask_to_look(world.store, TOOL, 2, everything=True)
    world.turns()
    yield "looked again"


@contextmanager
def replaying(tape: Tape) -> Iterator[str]:
    """A server that gives the answers of a tape in order."""

    def answer(handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        wanted = tape.exchanges[tape.at] if tape.at < len(tape.exchanges) else {"method": "", "path": "the end"}
        asked = (handler.command, handler.path)
        if asked != (wanted["method"], wanted["path"]) or handler.headers["authorization"] != f"Token {TOKEN}":
            tape.wrong.append(f"{asked} instead of {wanted['method']} {wanted['path']}")
            return 599, b"{}"
        tape.at += 1
        return wanted["status"], json.dumps(wanted["answer"]).encode()

    with _serving(answer) as url:
        yield url


def record(real: str) -> list[dict[str, Any]]:
    """Play the story against a real server and write down what it answers."""
    exchanges: list[dict[str, Any]] = []

    def through(handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        headers = {k: v for k, v in handler.headers.items() if k.lower() in ("authorization", "content-type")}
        request = urllib.request.Request(
            real + handler.path, method=handler.command, data=body or None, headers=headers
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as got:
                status, content = got.status, got.read()
        except urllib.error.HTTPError as error:
            status, content = error.code, error.read()
        said = json.loads(content or b"null")
        exchanges.append({"method": handler.command, "path": handler.path, "status": status, "answer": said})
        return status, content

    with tempfile.TemporaryDirectory() as folder, _serving(through) as url:
        world = label_world(Path(folder), url, TOKEN, cases=DIGITS)
        for name in story(world, lambda method, path, body: call(real, method, path, body)):
            print(name, len(exchanges), flush=True)
        world.store.close()
    return exchanges


@contextmanager
def _serving(reply: Callable[[BaseHTTPRequestHandler, bytes], tuple[int, bytes]]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def handle_one(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            status, content = reply(self, body)
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_DELETE = handle_one  # names that the library calls

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


if __name__ == "__main__":
    TAPE.parent.mkdir(exist_ok=True)
    lines = ",\n".join(json.dumps(exchange) for exchange in record(sys.argv[1]))
    TAPE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
