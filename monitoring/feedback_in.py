"""Feedback that comes to the monitor itself: late, in bulk, by record id or by business key.

Every item is answered by itself. What is said twice is one: an item with a `time` by everything it says, one without by
being what its source said last about that record. Whoever is right is decided as for feedback from the record log: the
newest label holds, whoever gave it, and all that was said stays visible.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

import sqlalchemy as sa
import xxhash

from export.contracts.errors import InvalidRequest
from export.contracts.privacy import REDACTED, PrivacyPolicy, policy_of
from monitoring import schema as t
from monitoring.business_keys import about, keeps_key, key_hash, records_of, text_of
from monitoring.case_rows import to_json
from monitoring.keys import printable, record_hash
from monitoring.records.feedback_items import read_item
from monitoring.records.record import Feedback
from monitoring.review.truths import mark_settle
from monitoring.store import Store
from monitoring.truth import add_feedback

MAX_ITEMS = 10_000
AHEAD_NS = 300 * 10**9  # clocks of others
_PART = 400
_Whom: TypeAlias = tuple[str, str, str | None]  # model, record, source
_SAID = ("label", "labels", "truth", "score", "comment", "source")


class ItemState(StrEnum):
    """What became of an item."""

    ACCEPTED = "accepted"  # kept, and its records are known
    WAITING = "waiting"  # kept; no record with this id or key has been read yet
    DUPLICATE = "duplicate"  # said before
    INVALID = "invalid"  # not kept; the error says why


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemResult:
    """What became of one item. `records` is how many records it is about."""

    state: ItemState
    records: int = 0
    error: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Item:
    number: int
    said: Feedback  # of an item by key, the record id is ""
    dated: bool
    key: tuple[str, str] | None = None


def read_lines(body: bytes) -> list[Any]:
    """The items of a body: a JSON object, a JSON array, or JSON Lines.

    Raises:
        InvalidRequest: not JSON, nothing in it, or too much.
    """
    try:
        plain = json.loads(body)
    except RecursionError:
        raise InvalidRequest("the feedback is nested too deeply") from None
    except ValueError:
        plain = [_line(line, i) for i, line in enumerate(body.splitlines(), 1) if line.strip()]
    items = plain if isinstance(plain, list) else [plain]
    if not 1 <= len(items) <= MAX_ITEMS:
        raise InvalidRequest(f"a request holds 1 to {MAX_ITEMS} items of feedback, this one {len(items)}")
    return items


class FeedbackDesk:
    """Takes feedback in.

    Args:
        store: The monitor's database.
        keys: Names of business keys.
        privacy: What may be kept.
        clock: Nanoseconds since the epoch.
    """

    def __init__(
        self, store: Store, keys: Sequence[str], privacy: Sequence[PrivacyPolicy], clock: Callable[[], int]
    ) -> None:
        self._store = store
        self._keys = tuple(keys)
        self._privacy = tuple(privacy)
        self._clock = clock

    def take(self, plain: Sequence[Any], model: str | None) -> list[ItemResult]:
        """Keep items of feedback, all that are valid in one transaction; a result for each, in their order.

        Args:
            plain: Decoded JSON.
            model: Of the items that name none.
        """
        now_ns = self._clock()
        results: list[ItemResult | None] = [None] * len(plain)
        items: list[_Item] = []
        for number, one in enumerate(plain):
            try:
                items.append(self._read(number, one, model, now_ns))
            except InvalidRequest as error:
                results[number] = ItemResult(state=ItemState.INVALID, error=error.message)
        if items:
            with self._store.write() as connection:
                touched = self._keep([x for x in items if x.key is None], connection, results)
                for item in items:
                    touched |= self._keep_keyed(item, connection, results) if item.key is not None else set()
                mark_settle(connection, sorted(touched))
        return [one or ItemResult(state=ItemState.DUPLICATE) for one in results]

    def _read(self, number: int, one: Any, model: str | None, now_ns: int) -> _Item:
        if not isinstance(one, dict):
            raise InvalidRequest("feedback must be an object")
        rest = dict(one)
        name, given, moment = rest.pop("model", model), rest.pop("key", None), rest.pop("time", None)
        if not isinstance(name, str) or not 1 <= len(name) <= 64:
            raise InvalidRequest("'model' must be the name of a model, in the item or in the query")
        time_ns = now_ns if moment is None else _time(moment, now_ns)
        policy = policy_of(self._privacy, name)
        if given is None:
            return _Item(
                number=number, said=_kept(read_item(rest, "", name, time_ns), policy), dated=moment is not None
            )
        if "id" in rest:
            raise InvalidRequest("'id' and 'key' exclude each other")
        if not isinstance(given, dict) or len(given) != 1:
            raise InvalidRequest("'key' must be an object with one name and its value")
        ((key, value),) = given.items()
        if key not in self._keys:
            raise InvalidRequest(
                f"'{str(key)[:64]}' is none of the business keys that the settings list (monitor.keys)"
            )
        if not keeps_key(policy, key):
            raise InvalidRequest(f"the privacy settings do not keep '{key}' of this model")
        text = text_of(value)
        if text is None:
            raise InvalidRequest("the value of a key is a text of 1 to 128 characters or a whole number")
        said = _kept(read_item(rest | {"id": "-"}, "", name, time_ns), policy)
        return _Item(number=number, said=replace(said, record_id=""), dated=moment is not None, key=(key, text))

    def _keep(self, items: Sequence[_Item], connection: sa.Connection, results: list[ItemResult | None]) -> set[int]:
        """Items by record id."""
        hashes = {record_hash(x.said.model, x.said.record_id) for x in items}
        (last, said), known = _said(connection, hashes), _known(connection, hashes)
        fresh: list[Feedback] = []
        for x in items:
            where, content = (x.said.model, printable(x.said.record_id), x.said.source), _content(x.said)
            if (*where, x.said.time_ns, content) in said if x.dated else last.get(where) == content:
                continue
            last[where] = content
            said.add((*where, x.said.time_ns, content))
            seen = record_hash(x.said.model, x.said.record_id) in known
            state = ItemState.ACCEPTED if seen else ItemState.WAITING
            results[x.number] = ItemResult(state=state, records=int(seen))
            fresh.append(x.said)
        return add_feedback(connection, fresh)

    def _keep_keyed(self, x: _Item, connection: sa.Connection, results: list[ItemResult | None]) -> set[int]:
        """An item by key: kept for records to come, and said of those that there are."""
        assert x.key is not None
        (name, value), said, f = x.key, x.said, t.keyed_feedback
        hashed = key_hash(said.model, name, value)
        item = {part: asdict(said)[part] for part in _SAID if asdict(said)[part] is not None}
        uid = _uid([hashed, said.time_ns, item])
        of_key = sa.select(f.c.uid, f.c.item).where(f.c.key_hash == hashed).order_by(f.c.time_ns, f.c.id)
        rows = connection.execute(of_key).all()
        mine = [row.item for row in rows if row.item.get("source") == said.source]
        plain = json.loads(to_json(item))
        if any(row.uid == uid for row in rows) or (not x.dated and mine and mine[-1] == plain):
            return set()
        made = {"uid": uid, "key_hash": hashed, "model": said.model, "name": name, "value": value}
        connection.execute(f.insert().values(**made, time_ns=said.time_ns, item=plain))
        records = records_of(connection, said.model, name, value)
        state = ItemState.ACCEPTED if records else ItemState.WAITING
        results[x.number] = ItemResult(state=state, records=len(records))
        return add_feedback(connection, [about(plain, said.model, record, said.time_ns) for record in records])


def _line(line: bytes, number: int) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise InvalidRequest(f"line {number} of the feedback is not JSON") from None


def _time(value: Any, now_ns: int) -> int:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise InvalidRequest("'time' must be an RFC 3339 time with a zone") from None
    if moment.tzinfo is None:
        raise InvalidRequest("'time' must have a zone")
    time_ns = int(moment.timestamp() * 1e6) * 1000
    if not 0 <= time_ns <= now_ns + AHEAD_NS:
        raise InvalidRequest("'time' lies in the future")
    return time_ns


def _kept(said: Feedback, policy: PrivacyPolicy) -> Feedback:
    comment = said.comment if said.comment is None or policy.keeps_feedback("comment") else REDACTED
    source = said.source if said.source is None or policy.keeps_feedback("source") else REDACTED
    return replace(said, comment=comment, source=source)


def _content(said: Feedback) -> str:
    given = said.label if said.truth is None else {"rows": said.truth}
    return to_json([given, None if said.labels is None else list(said.labels), said.score, said.comment])


def _said(connection: sa.Connection, hashes: Iterable[int]) -> tuple[dict[_Whom, str], set[tuple[Any, ...]]]:
    """What each source said last about each record; and everything that was said, with its time."""
    f = t.feedback.c
    last: dict[_Whom, str] = {}
    said: set[tuple[Any, ...]] = set()
    for part in _parts(hashes):
        query = sa.select(t.feedback).where(f.id_hash.in_(part), f.withdrawn.is_(False)).order_by(f.time_ns, f.uid)
        for row in connection.execute(query).mappings():
            label = None if row["label"] is None else json.loads(row["label"])
            content = to_json([label, row["labels"], row["score"], row["comment"]])
            where = (row["model"], row["record_id"], row["author"])
            last[where] = content
            said.add((*where, row["time_ns"], content))
    return last, said


def _known(connection: sa.Connection, hashes: Iterable[int]) -> set[int]:
    r = t.records.c
    found: set[int] = set()
    for part in _parts(hashes):
        found.update(connection.scalars(sa.select(r.id_hash).where(r.id_hash.in_(part))))
    return found


def _uid(content: object) -> int:
    number = xxhash.xxh64_intdigest(to_json(content).encode("utf-8", "surrogatepass"))
    return number - (1 << 64) if number >= 1 << 63 else number


def _parts(hashes: Iterable[int]) -> list[list[int]]:
    listed = sorted(hashes)
    return [listed[i : i + _PART] for i in range(0, len(listed), _PART)]
