"""The access log: one JSON line an inference request, written by a thread, in files that are bounded.

A line holds what an operator greps for, never a tensor or a credential:
`{"time": "2026-11-21T12:00:00.123456Z", "id": …, "model": …, "version": …, "variant": "champion", "transport": "http",
"caller": "ci", "outcome": "ok", "status": 200, "trace_id": …, "error": …, "rows": 1, "queue_ms": 0.02, "infer_ms": 0.4,
"total_ms": 0.6}`. Fields without a value are left out. `status` is HTTP's, 499 for a client that went away.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import orjson

from monitoring.records.record import Outcome
from serving.observers import Backlog, Ended, Turned
from serving.options import AccessLogOptions

GONE = 499
_SECOND_NS = 1_000_000_000


class AccessLog:
    """An observer that writes files. The newest is `<name>.jsonl`; older ones are `<name>.1.jsonl`, `<name>.2.jsonl`.

    Args:
        options: Where, and how much.
        name: Of the replica.

    Raises:
        OSError: the folder cannot be made.
    """

    name = "access_log"

    def __init__(self, options: AccessLogOptions, name: str) -> None:
        self._options = options
        self._folder = Path(options.folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._replica = name
        self._file: IO[bytes] | None = None
        self._backlog: Backlog[Ended | Turned] = Backlog("hardcase-access-log", self._write)

    @property
    def dropped(self) -> int:
        """Bunches of lines that were not written: the disk was too slow, full, or away."""
        return self._backlog.dropped

    def ended(self, ended: Ended) -> None:
        """Take requests that ended together."""
        self._backlog.put(ended)

    def turned(self, turned: Turned) -> None:
        """Take a refusal."""
        self._backlog.put(turned)

    def close(self) -> None:
        """Write what waits."""
        self._backlog.close()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, items: list[Ended | Turned]) -> None:
        block = b"".join([line for item in items for line in lines(item)])
        file = self._file or self._open()
        try:
            file.write(block)
            file.flush()
        except OSError:
            self._file = None  # another try opens it anew: the folder may be back
            raise
        if file.tell() > self._options.rotate_bytes:
            self._rotate(file)

    def _open(self) -> IO[bytes]:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file = self._path(0).open("ab")
        return self._file

    def _rotate(self, file: IO[bytes]) -> None:
        file.close()
        self._file = None
        for age in range(self._options.keep - 1, -1, -1):
            if self._path(age).exists():
                self._path(age).replace(self._path(age + 1))
        self._path(self._options.keep).unlink(missing_ok=True)

    def _path(self, age: int) -> Path:
        return self._folder / (f"{self._replica}.{age}.jsonl" if age else f"{self._replica}.jsonl")


def lines(item: Ended | Turned) -> Iterator[bytes]:
    """The lines of one item, in the order of its requests.

    What neighbours share is written once, as a template; a line is one formatting with the request's own numbers, which
    takes a fifth of the time of encoding a dict for each (`docs/decisions/0251-cheaper-watching.md`).
    """
    if isinstance(item, Turned):
        head = _head(item.time_ns, _quoted(item.id.decode("utf-8", "replace"))[1:-1])
        yield head + _fields(
            model=item.call.model[:64],
            version=item.version,
            variant=item.variant.value,
            transport=item.call.transport.value,
            caller=item.caller,
            outcome=item.outcome.value,
            status=item.error.http_status,
            trace_id=_text(item.call.trace_id),
            error=item.error.message,
        )
        return
    status = item.error.http_status if item.error is not None else (200 if item.outcome is Outcome.OK else GONE)
    ended = (item.model, item.version, item.outcome.value, status, item.error.message if item.error else None)
    infer = b',"infer_ms":%.3f' % (item.infer_ns / 1e6) if item.infer_ns else b""
    waited: Iterable[int | None] = item.queue_ns or itertools.repeat(None, len(item.entries))
    call = variant = caller = trace = None
    line, begun, stamp = b"", 0, b""
    for entry, queue_ns, total_ns in zip(item.entries, waited, item.total_ns, strict=True):
        if entry.call is not call or entry.variant is not variant or entry.caller != caller or entry.trace_id != trace:
            call, variant, caller, trace = entry.call, entry.variant, entry.caller, entry.trace_id
            make = _template if trace is None else _template.__wrapped__  # no other line will have this trace
            line = make(*ended, variant.value, call.transport.value, caller, trace, queue_ns is not None)
        since = entry.time_ns - begun
        if not 0 <= since < _SECOND_NS:
            begun = entry.time_ns - entry.time_ns % _SECOND_NS
            since, stamp = entry.time_ns - begun, _second(begun // _SECOND_NS)
        if queue_ns is None:
            yield line % (stamp, since // 1000, entry.id_json, entry.plan.rows, infer, total_ns / 1e6)
        else:
            yield line % (stamp, since // 1000, entry.id_json, entry.plan.rows, queue_ns / 1e6, infer, total_ns / 1e6)


@functools.lru_cache(maxsize=256)
def _template(
    model: str,
    version: str,
    outcome: str,
    status: int,
    error: str | None,
    variant: str,
    transport: str,
    caller: str,
    trace: bytes | None,
    queued: bool,
) -> bytes:
    """A line without what is each request's own."""
    fields = _fields(
        model=model,
        version=version,
        variant=variant,
        transport=transport,
        caller=caller,
        outcome=outcome,
        status=status,
        trace_id=_text(trace),
        error=error,
    )
    queue = b',"queue_ms":%.3f' if queued else b""
    return b'{"time":"%b.%06dZ","id":"%b","rows":%d' + queue + b'%b,"total_ms":%.3f' + fields.replace(b"%", b"%%")


def _head(time_ns: int, id_json: bytes) -> bytes:
    second, rest = divmod(time_ns, _SECOND_NS)
    return b'{"time":"%b.%06dZ","id":"%b"' % (_second(second), rest // 1000, id_json)


@functools.lru_cache(maxsize=16)
def _second(second: int) -> bytes:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}".encode()


def _fields(**fields: str | int | None) -> bytes:
    """The end of a line: these fields, without the absent ones."""
    return b"," + orjson.dumps({k: v for k, v in fields.items() if v is not None}, option=orjson.OPT_APPEND_NEWLINE)[1:]


def _quoted(text: str) -> bytes:
    return orjson.dumps(text)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("ascii", "replace")
