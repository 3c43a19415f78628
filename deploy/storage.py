"""The bucket of the settings: the store, and the registry that is a copy of the one in it."""

from __future__ import annotations

import logging
import secrets
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from deploy.errors import CommandError
from deploy.run_state import write_atomically
from deploy.settings_storage import StorageSettings
from export.registry import Registry
from export.storage.objects import ObjectStore


def open_store(settings: StorageSettings, *, retry_s: float | None = None) -> ObjectStore:
    """The bucket.

    Args:
        settings: `storage`, with a URL.
        retry_s: Another time than the settings' for one operation.

    Raises:
        CommandError: what S3 needs is not installed.
        StorageError: no credentials, or the URL is not one.
    """
    try:
        from export.storage.s3 import S3Options, S3Store
    except ImportError:
        raise CommandError("storage.url needs botocore", "pip install 'hardcase[bucket]'") from None
    from export.storage.retry import Retry

    options = S3Options(
        url=settings.url,
        endpoint=settings.endpoint,
        region=settings.region,
        connect_s=settings.connect_s,
        read_s=settings.read_s,
    )
    return S3Store(options, retry=Retry(total_s=settings.retry_s if retry_s is None else retry_s))


def open_registry(settings: StorageSettings, root: Path) -> Registry:
    """The registry: a folder, or a folder that is a copy of what the bucket has."""
    if not settings.url:
        return Registry(root)
    from export.bucket_registry import BucketRegistry

    return BucketRegistry(root, open_store(settings))


def first_pull(registry: Registry) -> None:
    """Bring the folder up to date before replicas look into it.

    Raises:
        StorageUnavailable: the bucket is away, and the folder is empty.
    """
    from export.bucket_registry import BucketRegistry
    from export.storage.objects import StorageUnavailable

    if not isinstance(registry, BucketRegistry):
        return
    try:
        registry.pull()
    except StorageUnavailable:
        if not registry.models():
            raise
        logging.getLogger("hardcase.storage").warning("the bucket is away: starting with what this machine has")


def node_name(settings: StorageSettings, state: Path) -> str:
    """This machine's name among those that send records: as set, or its host name with an id that its disk keeps.

    Two machines of one host name would take each other's beats for their own, and neither would ever be missed.

    Args:
        settings: May name it.
        state: Folder of this machine's own state.
    """
    if settings.node:
        return settings.node
    file = state / "node-id"
    if not file.exists():
        write_atomically(file, secrets.token_hex(4))
    host = "".join(c if c.isalnum() or c in "_.-" else "_" for c in socket.gethostname())[:50] or "node"
    return f"{host}-{file.read_text().strip()}"


@dataclass(frozen=True, kw_only=True)
class BucketStatus:
    """What is in the bucket.

    Attributes:
        record_bytes: Of the record log, not consumed yet.
        nodes: Machine to the seconds since everything that it had was there.
    """

    models: tuple[str, ...]
    sources: int
    record_bytes: int
    nodes: dict[str, float]


def bucket_status(store: ObjectStore) -> BucketStatus:
    """Look at the whole bucket: lists everything but the packages' files."""
    from deploy.shipping.keys import NODES, RECORDS, Beat, piece_of

    models = {o.key.split("/")[2] for o in store.list("registry/models/")}
    pieces = [(p[0], o.size_bytes) for o in store.list(RECORDS) if (p := piece_of(o.key)) is not None]
    beats = {o.key.removeprefix(NODES): Beat.load(store.get(o.key).data) for o in store.list(NODES)}
    return BucketStatus(
        models=tuple(sorted(models)),
        sources=len({source for source, _ in pieces}),
        record_bytes=sum(size for _, size in pieces),
        nodes={node: max(0.0, (time.time_ns() - beat.as_of_ns) / 1e9) for node, beat in beats.items()},
    )


def check_bucket(store: ObjectStore) -> list[str]:
    """Try what we need of a bucket, with objects of our own that are removed again; returns what does not work.

    Raises:
        StorageError: it refuses.
        StorageUnavailable: it does not answer.
    """
    key = f"check/{secrets.token_hex(8)}"
    wrong = []
    try:
        store.put(key, b"1")
        if store.get(key).data != b"1":
            wrong.append("what was written is not what is read")
        if [o.key for o in store.list("check/") if o.key == key] != [key]:
            wrong.append("a list does not show what was just written")
        if store.create(key, b"2") or store.get(key).data != b"1":
            wrong.append(
                "conditional writes (If-None-Match: *) are not honoured: two machines could overwrite each other"
            )
    finally:
        store.delete(key)
    return wrong
