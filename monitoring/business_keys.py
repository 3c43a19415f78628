"""Business keys: names that an application has for a request, such as an order's number, given with the request.

Which parameters and tags are keys is a setting (`monitor.keys`). The ingest notes their values beside the record, after
the privacy settings have taken away what may not stay; feedback that names a key finds its records by them, whether it
comes before them or after.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
import xxhash

from export.contracts.privacy import REDACTED, Keep, PrivacyPolicy
from monitoring import schema as t
from monitoring.batches import Batch
from monitoring.keys import printable
from monitoring.records.record import Feedback

MAX_VALUE = 128
RECORDS_A_KEY = 100  # of records that one piece of feedback is about: the newest
_PART = 400


def key_hash(model: str, name: str, value: str) -> int:
    """Signed 64-bit hash of a key of a model's records."""
    number = xxhash.xxh64_intdigest(f"{model}\0{name}\0{value}".encode("utf-8", "surrogatepass"))
    return number - (1 << 64) if number >= 1 << 63 else number


def text_of(value: Any) -> str | None:
    """A key's value as text; None where it is none: not text or a whole number, empty, or too long.

    Example:
        >>> text_of(17), text_of("A-17"), text_of(True), text_of("")
        ('17', 'A-17', None, None)
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = printable(str(value))
    return text if 1 <= len(text) <= MAX_VALUE and text != REDACTED else None


def keeps_key(policy: PrivacyPolicy, name: str) -> bool:
    """Whether the privacy settings let a key stay."""
    spelled = name.replace("~", "~0").replace("/", "~1")
    hidden = {f"/{place}/{spelled}" for place in ("tags", "parameters")}
    return policy.keep is not Keep.NOTHING and not hidden & set(policy.redact)


def add_keys(
    connection: sa.Connection, batch: Batch, id_hashes: Sequence[int], names: Sequence[str], after: int
) -> set[int]:
    """Note the keys of a batch that was just inserted, and add the feedback that waited for them.

    Args:
        connection: Of the ingest's transaction.
        batch: The records.
        id_hashes: Of its records, in their order.
        names: Which parameters and tags are keys.
        after: Newest `records.seq` before the batch.

    Returns:
        Id hashes of the records that have feedback now.
    """
    wanted: dict[tuple[int, int], dict[str, str]] = {}
    for (time_ns, id_hash), values in zip(
        zip(batch.time_ns.tolist(), id_hashes, strict=True), _values(batch, names), strict=True
    ):
        if values:
            wanted[int(id_hash), time_ns] = values
    if not wanted:
        return set()
    r = t.records.c
    rows: list[dict[str, Any]] = []
    records: dict[int, list[str]] = {}
    for part in _parts(sorted({id_hash for id_hash, _ in wanted})):
        query = sa.select(r.seq, r.id_hash, r.time_ns, r.record_id).where(r.id_hash.in_(part), r.seq > after)
        for seq, id_hash, time_ns, record_id in connection.execute(query):
            for name, value in wanted.get((id_hash, time_ns), {}).items():
                hashed = key_hash(batch.model, name, value)
                rows.append({"seq": seq, "name": name, "value": value, "key_hash": hashed})
                records.setdefault(hashed, []).append(record_id)
    if not rows:
        return set()
    connection.execute(t.record_keys.insert(), rows)
    return _join(connection, batch.model, records)


def records_of(connection: sa.Connection, model: str, name: str, value: str) -> list[str]:
    """Ids of the records with that key, the newest first."""
    k, r, v = t.record_keys.c, t.records.c, t.versions.c
    query = (
        sa.select(r.record_id)
        .join(t.records, r.seq == k.seq)
        .join(t.versions, v.id == r.version_id)
        .where(k.key_hash == key_hash(model, name, value), k.name == name, k.value == value, v.model == model)
        .order_by(r.time_ns.desc(), r.seq.desc())
        .limit(RECORDS_A_KEY)
    )
    return list(dict.fromkeys(connection.scalars(query)))


def about(item: dict[str, Any], model: str, record_id: str, time_ns: int) -> Feedback:
    """A stored piece of keyed feedback as feedback about one of its records."""
    labels = item.get("labels")
    return Feedback(
        record_id=record_id,
        model=model,
        time_ns=time_ns,
        label=item.get("label"),
        labels=None if labels is None else tuple(labels),
        truth=item.get("truth"),
        score=item.get("score"),
        comment=item.get("comment"),
        source=item.get("source"),
    )


def _join(connection: sa.Connection, model: str, records: dict[int, list[str]]) -> set[int]:
    """Feedback that was given by these keys, about these records."""
    from monitoring.truth import add_feedback  # it is imported by the ingest, as this is

    f = t.keyed_feedback.c
    items = []
    for part in _parts(sorted(records)):
        query = sa.select(t.keyed_feedback).where(f.key_hash.in_(part)).order_by(f.time_ns, f.id)
        for row in connection.execute(query).mappings():
            items += [about(row["item"], model, record, row["time_ns"]) for record in records[row["key_hash"]]]
    return add_feedback(connection, items)


def _values(batch: Batch, names: Sequence[str]) -> Iterator[dict[str, str]]:
    """Keys of each record: tags win over parameters of the same name."""
    for piece in batch.pieces:
        params, tags = piece.records.params, piece.records.tags
        for item in piece.items.tolist():
            found: dict[str, str] = {}
            for text in (params[item], tags[item]):
                plain = _plain(text)
                for name in names:
                    value = text_of(plain.get(name))
                    if value is not None:
                        found[name] = value
            yield found


def _plain(text: bytes | None) -> dict[str, Any]:
    try:
        plain = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return plain if isinstance(plain, dict) else {}


def _parts(hashes: Iterable[int]) -> list[list[int]]:
    listed = list(hashes)
    return [listed[i : i + _PART] for i in range(0, len(listed), _PART)]
