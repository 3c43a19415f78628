"""What is asked of a bucket, and a bucket in memory for tests.

Objects appear whole or not at all, and every object carries the SHA-256 of its bytes, which is checked whenever it is
read. A list shows everything that was acknowledged before it was asked for (as S3 has promised since 2020).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from export.contracts.errors import HardcaseError, Unavailable


class StorageError(HardcaseError):
    """The bucket refuses, for a reason that asking again does not change: credentials, name, rights."""

    code = "storage"


class StorageUnavailable(Unavailable):
    """The bucket did not answer properly within its time or retry budget; nothing half is visible. Ask again later."""


class NoSuchObject(StorageError):
    """There is no object under the key."""

    code = "no_such_object"


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectInfo:
    """An object in a list.

    Attributes:
        key: Below the prefix of the store.
        tag: Changes when the content does.
    """

    key: str
    size_bytes: int
    tag: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredObject:
    """An object that was read whole, and whose digest is right."""

    data: bytes
    tag: str


class ObjectStore(Protocol):
    """A bucket, or a folder of one. Every method may raise `StorageError` and `StorageUnavailable`."""

    def get(self, key: str) -> StoredObject:
        """Read an object.

        Raises:
            NoSuchObject: there is none.
        """
        ...

    def get_if_changed(self, key: str, tag: str) -> StoredObject | None:
        """Read an object, unless its tag is `tag`; None also when there is no object."""
        ...

    def download(self, key: str, path: Path) -> None:
        """Read an object into a new file, which is there only when it is whole.

        Raises:
            NoSuchObject: there is none.
        """
        ...

    def put(self, key: str, content: bytes | Path) -> None:
        """Write an object, replacing the one before."""
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Write an object unless there is one; True when this call wrote it. Of several callers one gets True."""
        ...

    def exists(self, key: str) -> bool:
        """Whether there is an object."""
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Objects whose keys begin with `prefix`, in order of their keys."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens when there is none."""
        ...


def sha256_of(content: bytes | Path) -> str:
    """Hex SHA-256 of bytes or of a file."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class MemoryStore:
    """An `ObjectStore` in memory, for tests and examples.

    Example:
        >>> store = MemoryStore()
        >>> store.create("a", b"1"), store.create("a", b"2"), store.get("a").data
        (True, False, b'1')
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def get(self, key: str) -> StoredObject:
        """See `ObjectStore`."""
        try:
            data = self.objects[key]
        except KeyError:
            raise NoSuchObject("there is no such object in the bucket") from None
        return StoredObject(data=data, tag=sha256_of(data))

    def get_if_changed(self, key: str, tag: str) -> StoredObject | None:
        """See `ObjectStore`."""
        found = self.get(key) if key in self.objects else None
        return found if found is not None and found.tag != tag else None

    def download(self, key: str, path: Path) -> None:
        """See `ObjectStore`."""
        path.write_bytes(self.get(key).data)

    def put(self, key: str, content: bytes | Path) -> None:
        """See `ObjectStore`."""
        self.objects[key] = content if isinstance(content, bytes) else content.read_bytes()

    def create(self, key: str, data: bytes) -> bool:
        """See `ObjectStore`."""
        return self.objects.setdefault(key, data) is data

    def exists(self, key: str) -> bool:
        """See `ObjectStore`."""
        return key in self.objects

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `ObjectStore`."""
        for key in sorted(k for k in self.objects if k.startswith(prefix)):
            data = self.objects[key]
            yield ObjectInfo(key=key, size_bytes=len(data), tag=sha256_of(data))

    def delete(self, key: str) -> None:
        """See `ObjectStore`."""
        self.objects.pop(key, None)
