"""Reading the record log: whole, verified frames in order, and the account of what is not there.

A log is one folder a writer, called a *source*. Of a living writer only what it has committed is read; of a dead one
everything that verifies. Bytes that do not verify are left out, listed under `damages`, and never guessed at.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from monitoring.records.counters import Accounting, CounterSnapshot, Global, read_counters
from monitoring.records.cursor import Cursor, SourceState, source_state
from monitoring.records.decode import DecodedRecords
from monitoring.records.folders import (
    FINAL_FILE,
    Position,
    acknowledge,
    acknowledged,
    delete_before,
    is_locked,
    list_sources,
    write_atomically,
)
from monitoring.records.frames import Kind, segment_numbers, segment_path
from monitoring.records.parse import parse_records, parse_schema
from monitoring.records.record import DropReason, Event, Feedback
from monitoring.records.scan import Damage

__all__ = ["Frame", "Position", "RecordLogReader", "SourceAccounting", "settle"]

_KIND_NAMES = {Kind.RECORDS: "records", Kind.FEEDBACK: "feedback", Kind.EVENT: "event"}


@dataclass(frozen=True, slots=True)
class Frame:
    """One data frame.

    Attributes:
        position: The place behind it; hand it to `read` to go on from there.
        kind: "records", "feedback" or "event"; call the method of that name.
        count: Records, or feedback items, in it.
        nbytes: What it takes in the log, head and padding included; what `read` counts.
    """

    source: str
    position: Position
    kind: str
    count: int
    payload: memoryview
    nbytes: int
    schema_message: bytes = b""
    flags: int = 0

    def records(self) -> DecodedRecords:
        """The records of a frame of kind "records"."""
        return parse_records(self.payload, self.schema_message, self.flags)

    def feedback(self) -> list[Feedback]:
        """The items of a frame of kind "feedback"."""
        items = json.loads(bytes(self.payload))
        return [Feedback(**{**i, "labels": None if i["labels"] is None else tuple(i["labels"])}) for i in items]

    def event(self) -> Event:
        """The event of a frame of kind "event"."""
        return Event(**json.loads(bytes(self.payload)))


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceAccounting:
    """Where everything that one writer was given has gone.

    Attributes:
        slots: Per (model, version); `requests` equals the sum of the rest for a final account.
        final: The writer is dead and the losses are settled; the account will not change any more.
        poisoned: Segments given up after a failed fsync.
    """

    replica: str
    slots: Mapping[tuple[str, str], Accounting]
    final: bool
    clean: bool = False
    feedback: int = 0
    feedback_dropped: int = 0
    events: int = 0
    events_dropped: int = 0
    poisoned: int = 0


class RecordLogReader:
    """Reads every source under a root. Not for several threads at once."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self._cursors: dict[str, Cursor] = {}
        self._damages: dict[str, set[Damage]] = {}

    def sources(self) -> tuple[str, ...]:
        """Names of all sources, oldest first."""
        return list_sources(self.root)

    def is_alive(self, source: str) -> bool:
        """Whether the writer of a source lives."""
        return is_locked(self.root / source)

    def read(self, source: str, after: Position | None, max_bytes: int) -> Iterator[Frame]:
        """Frames behind `after` (None: from the beginning), until `max_bytes` are reached; at least one."""
        state = source_state(self.root / source)
        cursor = self._cursors.get(source)
        if cursor is None or cursor.position != after:
            if cursor is not None:
                cursor.close()
            cursor = self._cursors[source] = Cursor(self.root / source, state.incarnation, after)
        left = max_bytes
        while left > 0:
            found = cursor.advance(state)
            self._damages.setdefault(source, set()).update(cursor.take_damages())
            if found is None:
                return
            raw, schema_message = found
            size = raw.end - raw.offset
            left -= size
            kind = _KIND_NAMES[raw.kind]
            yield Frame(source, cursor.position_now, kind, raw.count, raw.payload, size, schema_message, raw.flags)

    def lag_bytes(self, source: str, after: Position | None) -> int:
        """Bytes of the log behind a position."""
        total = 0
        for number in segment_numbers(self.root / source):
            if after is not None and number < after.segment:
                continue
            with contextlib.suppress(FileNotFoundError):
                total += segment_path(self.root / source, number).stat().st_size
                if after is not None and number == after.segment:
                    total -= after.offset
        return max(0, total)

    def damages(self, source: str) -> tuple[Damage, ...]:
        """What this reader had to leave out so far, in order of place."""
        return tuple(sorted(self._damages.get(source, ())))

    # ---- what was consumed may go ---------------------------------------------------------------------------------

    def acknowledge(self, source: str, position: Position) -> None:
        """Say that everything before `position` was consumed and may be deleted. Call it after the commit."""
        acknowledge(self.root / source, position)

    def acknowledged(self, source: str) -> Position | None:
        """The stored acknowledgement."""
        return acknowledged(self.root / source)

    def delete_segments(self, source: str, before: Position) -> int:
        """Delete whole segments before a position that is acknowledged; returns the bytes deleted.

        Raises:
            ValueError: the position is not acknowledged, or a dead writer's account is not settled (`finalise`).
        """
        done = self.acknowledged(source)
        if done is None or before > done:
            raise ValueError("only segments before the acknowledged position may be deleted")
        if not self.is_alive(source) and not (self.root / source / FINAL_FILE).exists():
            raise ValueError("the account of a dead writer must be settled before its segments are deleted")
        return delete_before(self.root / source, before.segment)

    def retire(self, source: str) -> bool:
        """Remove the folder of a dead, finalised and wholly acknowledged source; False when it is not that far."""
        directory = self.root / source
        done = self.acknowledged(source)
        if self.is_alive(source) or done is None or not (directory / FINAL_FILE).exists():
            return False
        cursor = Cursor(directory, source_state(directory).incarnation, done)
        unread = cursor.advance(source_state(directory))
        cursor.close()
        if unread is not None:
            return False
        self._forget(source)
        shutil.rmtree(directory)
        return True

    def _forget(self, source: str) -> None:
        cursor = self._cursors.pop(source, None)
        if cursor is not None:
            cursor.close()

    def close(self) -> None:
        """Close all files."""
        for source in list(self._cursors):
            self._forget(source)

    # ---- the account ----------------------------------------------------------------------------------------------

    def accounting(self, source: str) -> SourceAccounting:
        """The account of a source: as the counters say while its writer lives, settled once it is dead."""
        if self.is_alive(source):
            counters = read_counters(self.root / source)
            return _account(counters, counters.slots if counters else {}, final=False)
        return self.finalise(source)

    def finalise(self, source: str) -> SourceAccounting:
        """Settle the account of a dead writer: count what its log really holds, and store the result.

        Idempotent; the stored result is what later calls return.

        Raises:
            ValueError: the writer lives.
        """
        directory = self.root / source
        if self.is_alive(source):
            raise ValueError("the writer of this source lives; its account cannot be settled yet")
        stored = _load_final(directory)
        if stored is not None:
            return stored
        state = source_state(directory)
        result = _account(state.counters, settle(directory, state), final=True)
        # Where the folder cannot be written, the result is simply computed again next time.
        with contextlib.suppress(OSError):
            write_atomically(directory / FINAL_FILE, _dump_final(result))
        return result


def settle(directory: Path, state: SourceState) -> dict[tuple[str, str], Accounting]:
    """The account of a dead writer, by counting what its log holds."""
    counters = state.counters
    known = dict(counters.slots) if counters else {}
    found = _count(directory, state)
    for key in [k for k in found if k not in known]:
        if counters is not None:  # there was no space for its slot: it was counted under the shared one
            found["", ""] = found.get(("", ""), 0) + found.pop(key)
        else:
            known[key] = Accounting(requests=found[key], captured=found[key])
    return {key: _settle(account, found.get(key, 0)) for key, account in known.items()}


def _settle(account: Accounting, found: int) -> Accounting:
    """Split what is missing into what was never written and what was written and is gone."""
    logged = max(account.captured, found)
    elsewhere = account.sampled_out + sum(account.dropped.values())
    # The page is older than the log after a power failure: then the log proves more requests than were counted.
    requests = max(account.requests, logged + elsewhere)
    return replace(
        account,
        requests=requests,
        captured=found,
        lost_corrupt=logged - found,
        lost_crash=requests - logged - elsewhere,
    )


def _count(directory: Path, state: SourceState) -> dict[tuple[str, str], int]:
    """Records of each (model, version) that the log holds, or held before acknowledged segments were deleted."""
    cursor = Cursor(directory, state.incarnation, None)
    found: dict[tuple[str, str], int] = {}
    while (item := cursor.advance(state)) is not None:
        raw, schema_message = item
        if raw.kind is Kind.RECORDS:
            layout, _ = parse_schema(schema_message)
            key = (layout.model, layout.version)
            found[key] = found.get(key, 0) + raw.count
    for model, version, count in cursor.totals_before:
        found[model, version] = found.get((model, version), 0) + count
    cursor.close()
    return found


def _account(
    counters: CounterSnapshot | None, slots: Mapping[tuple[str, str], Accounting], *, final: bool
) -> SourceAccounting:
    values = counters.globals if counters else (0,) * len(Global)
    return SourceAccounting(
        replica=counters.replica if counters else "",
        slots=slots,
        final=final,
        clean=bool(values[Global.CLEAN]),
        feedback=values[Global.FEEDBACK],
        feedback_dropped=values[Global.FEEDBACK_DROPPED],
        events=values[Global.EVENTS],
        events_dropped=values[Global.EVENTS_DROPPED],
        poisoned=values[Global.POISONED],
    )


def _dump_final(result: SourceAccounting) -> bytes:
    plain = {**asdict(result), "slots": [[*key, asdict(account)] for key, account in sorted(result.slots.items())]}
    return json.dumps(plain, sort_keys=True).encode()


def _load_final(directory: Path) -> SourceAccounting | None:
    try:
        plain = json.loads((directory / FINAL_FILE).read_bytes())
        slots = {
            (model, version): Accounting(
                **{**account, "dropped": {DropReason(k): n for k, n in account["dropped"].items()}}
            )
            for model, version, account in plain["slots"]
        }
        return SourceAccounting(**{**plain, "slots": slots})
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):  # damaged: it is computed again
        return None
