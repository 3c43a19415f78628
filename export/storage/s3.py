"""An `ObjectStore` in an S3-compatible bucket.

Written against what every such store has: GET, PUT with Content-MD5, HEAD, DELETE, ListObjectsV2, and the header
`If-None-Match: *` on PUT, which `doctor` tries out. Credentials come from the environment alone (botocore's chain:
keys, or the web identity that Kubernetes mounts), never from our settings.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import botocore.config
import botocore.exceptions
import botocore.session
import urllib3.exceptions

from export.storage.objects import NoSuchObject, ObjectInfo, StorageError, StoredObject, sha256_of
from export.storage.retry import Retry, TryAgain

T = TypeVar("T")
_URL = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/([A-Za-z0-9!_.*'()/=-]*))?")
_PIECE_BYTES = 1 << 20
_AGAIN = {"InternalError", "SlowDown", "ServiceUnavailable", "RequestTimeout", "ConditionalRequestConflict",
          "OperationAborted", "BadDigest", "IncompleteBody", "Throttling", "RequestTimeTooSkewed"}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class S3Options:
    """Where, and how long an attempt may take.

    Attributes:
        url: `s3://bucket/prefix`.
        endpoint: URL of another store than Amazon's; empty: Amazon's.
        read_s: Longest silence of the store; `object_s` is the longest time for one whole object.
    """

    url: str
    endpoint: str = ""
    region: str = ""
    connect_s: float = 3.0
    read_s: float = 10.0
    object_s: float = 300.0
    connections: int = 16


class S3Store:
    """See `ObjectStore`. Threads may share one.

    Raises:
        StorageError: the URL is not one, or there are no credentials.
    """

    def __init__(self, options: S3Options, *, retry: Retry | None = None) -> None:
        match = _URL.fullmatch(options.url)
        if match is None:
            raise StorageError("the bucket's URL is not of the form s3://bucket/prefix")
        self._bucket, prefix = match[1], (match[2] or "").strip("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._options = options
        self._retry = retry or Retry()
        session = botocore.session.get_session()
        if session.get_credentials() is None:
            raise StorageError("no credentials for the bucket: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        config = botocore.config.Config(
            connect_timeout=options.connect_s,
            read_timeout=options.read_s,
            retries={"total_max_attempts": 1},  # ours: with a shared budget, and one that knows lost acknowledgements
            s3={"addressing_style": "path" if options.endpoint else "auto"},
            request_checksum_calculation="when_required",  # Content-MD5 is what every store checks
            response_checksum_validation="when_required",
            max_pool_connections=options.connections,
        )
        self._client: Any = session.create_client(
            "s3",
            endpoint_url=options.endpoint or None,
            region_name=options.region or session.get_config_variable("region") or "us-east-1",
            config=config,
        )

    def get(self, key: str) -> StoredObject:
        """See `ObjectStore`."""
        pieces: list[bytes] = []

        def attempt() -> StoredObject:
            pieces.clear()
            tag = self._read(key, pieces.append)
            return StoredObject(data=b"".join(pieces), tag=tag)

        return self._retry.call(attempt)

    def get_if_changed(self, key: str, tag: str) -> StoredObject | None:
        """See `ObjectStore`."""
        pieces: list[bytes] = []

        def attempt() -> StoredObject | None:
            pieces.clear()
            found = self._read(key, pieces.append, unless=tag)
            return StoredObject(data=b"".join(pieces), tag=found) if found != tag else None

        try:
            return self._retry.call(attempt)
        except NoSuchObject:
            return None

    def download(self, key: str, path: Path) -> None:
        """See `ObjectStore`."""
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")

        def attempt() -> None:
            with temporary.open("wb") as file:
                self._read(key, file.write)
                file.flush()
                os.fsync(file.fileno())

        try:
            self._retry.call(attempt)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def put(self, key: str, content: bytes | Path) -> None:
        """See `ObjectStore`."""
        self._retry.call(lambda: self._write(key, content))

    def create(self, key: str, data: bytes) -> bool:
        """See `ObjectStore`.

        An acknowledgement that was lost on the way back makes the repetition find an object: whose it is, is told by
        the mark of this call that the object carries.
        """
        mark = secrets.token_hex(16)

        def attempt() -> bool:
            try:
                self._write(key, data, mark=mark)
            except _Taken:
                try:
                    return bool(self._head(key)["Metadata"].get("hardcase-mark") == mark)
                except NoSuchObject:
                    raise TryAgain("an object came and went") from None
            return True

        return self._retry.call(attempt)

    def exists(self, key: str) -> bool:
        """See `ObjectStore`."""
        try:
            self._retry.call(lambda: self._head(key))
        except NoSuchObject:
            return False
        return True

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `ObjectStore`."""
        more: dict[str, str] = {}
        while True:
            page = self._retry.call(functools.partial(self._page, prefix, more))
            for entry in page.get("Contents", ()):
                key = str(entry["Key"])[len(self._prefix) :]
                yield ObjectInfo(key=key, size_bytes=int(entry["Size"]), tag=str(entry["ETag"]))
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def delete(self, key: str) -> None:
        """See `ObjectStore`."""
        self._retry.call(lambda: self._ask(lambda: self._client.delete_object(**self._at(key))))

    # ---- single attempts

    def _read(self, key: str, write: Callable[[bytes], object], *, unless: str = "") -> str:
        """One attempt to read; returns the tag. Raises `TryAgain` when the body is not whole or not right."""
        condition = {"IfNoneMatch": unless} if unless else {}
        try:
            answer = self._ask(lambda: self._client.get_object(**self._at(key), **condition))
        except _Unchanged:
            return unless
        digest, length, body = hashlib.sha256(), 0, answer["Body"]
        deadline = time.monotonic() + self._options.object_s
        try:
            while piece := body.read(_PIECE_BYTES):
                digest.update(piece)
                length += len(piece)
                write(piece)
                if time.monotonic() > deadline:
                    raise TryAgain("an object takes too long")
        except (botocore.exceptions.BotoCoreError, urllib3.exceptions.HTTPError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
                raise  # our own disk
            raise TryAgain(f"a body broke off: {type(error).__name__}") from error
        finally:
            with contextlib.suppress(Exception):
                body.close()
        wanted = answer["Metadata"].get("hardcase-sha256")
        if length != answer["ContentLength"] or (wanted is not None and wanted != digest.hexdigest()):
            raise TryAgain("a body is not the one that was written")
        return str(answer["ETag"])

    def _write(self, key: str, content: bytes | Path, *, mark: str = "") -> None:
        metadata = {"hardcase-sha256": sha256_of(content)}
        condition = {"IfNoneMatch": "*"} if mark else {}
        if mark:
            metadata["hardcase-mark"] = mark
        with contextlib.ExitStack() as stack:
            body = content if isinstance(content, bytes) else stack.enter_context(content.open("rb"))
            self._ask(
                lambda: self._client.put_object(
                    **self._at(key), Body=body, Metadata=metadata, ContentMD5=_md5_of(content), **condition
                )
            )

    def _head(self, key: str) -> dict[str, Any]:
        found: dict[str, Any] = self._ask(lambda: self._client.head_object(**self._at(key)))
        return found

    def _page(self, prefix: str, more: dict[str, str]) -> dict[str, Any]:
        page: dict[str, Any] = self._ask(
            lambda: self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix + prefix, **more)
        )
        return page

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    def _ask(self, call: Callable[[], T]) -> T:
        """One call; its failure as ours."""
        try:
            return call()
        except botocore.exceptions.ClientError as error:
            raise _meaning(error) from error
        except (botocore.exceptions.BotoCoreError, urllib3.exceptions.HTTPError) as error:
            if isinstance(error, botocore.exceptions.ParamValidationError | botocore.exceptions.NoCredentialsError):
                raise StorageError("the bucket cannot be asked like this") from error
            raise TryAgain(type(error).__name__) from error


class _Taken(Exception):
    """A conditional write found an object."""


class _Unchanged(Exception):
    """A conditional read found the object as it was."""


def _meaning(error: botocore.exceptions.ClientError) -> Exception:
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(error.response.get("Error", {}).get("Code", ""))
    if status == 304:
        return _Unchanged()
    if code == "NoSuchBucket":
        return StorageError("there is no such bucket")
    if status == 404:
        return NoSuchObject("there is no such object in the bucket")
    if status == 412:
        return _Taken()
    if status >= 500 or status in (0, 408, 429) or code in _AGAIN:
        return TryAgain(code or f"status {status}")
    return StorageError(f"the bucket refuses: {code or status}")


def _md5_of(content: bytes | Path) -> str:
    """Content-MD5: against bytes that change on the way, not against people."""
    if isinstance(content, bytes):
        digest = hashlib.md5(content, usedforsecurity=False)
    else:
        with content.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    return base64.b64encode(digest.digest()).decode()
