"""The bucket of the settings: the store, and the registry that is a copy of the one in it."""

from __future__ import annotations

import socket
from pathlib import Path

from deploy.errors import CommandError
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


def node_name(settings: StorageSettings) -> str:
    """This machine's name among those that send records."""
    return (
        settings.node or "".join(c if c.isalnum() or c in "_.-" else "_" for c in socket.gethostname())[:63] or "node"
    )
