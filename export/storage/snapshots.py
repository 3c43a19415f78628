"""Snapshots of data sets in the bucket: `blobs/sha256/<data>`, then `snapshots/<digest>`, which makes it exist."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from pathlib import Path

from export.contracts import codec
from export.contracts.dataset import DATA_FILE, SNAPSHOT_FILE, SnapshotManifest
from export.contracts.errors import SnapshotError
from export.dataset.read import Snapshot
from export.storage.objects import NoSuchObject, ObjectStore

PREFIX = "snapshots/"
GONE = "gone:"  # before the name of a folder, in what is known: nothing of it is in the bucket any more


def upload_snapshot(store: ObjectStore, snapshot: Snapshot) -> bool:
    """Bring a snapshot into the bucket; False when it was there."""
    key = PREFIX + snapshot.digest.removeprefix("sha256:")
    if store.exists(key):
        return False
    blob = f"blobs/sha256/{snapshot.manifest.data_sha256}"
    if not store.exists(blob):
        store.put(blob, snapshot.folder / DATA_FILE)
    return store.create(key, (snapshot.folder / SNAPSHOT_FILE).read_bytes())


def download_snapshot(store: ObjectStore, digest: str, root: Path) -> Snapshot:
    """`root/<id>`, from the bucket unless it is there; checked in any case.

    Raises:
        SnapshotError: the bucket has no such snapshot, or what came is not it.
    """
    wanted = digest.removeprefix("sha256:")
    folder = root / wanted[:16]
    if not folder.is_dir():
        try:
            data = store.get(PREFIX + wanted).data
        except NoSuchObject:
            raise SnapshotError(f"the bucket has no snapshot with digest sha256:{wanted[:16]}…") from None
        root.mkdir(parents=True, exist_ok=True)
        # The name has to be the snapshot's own for the check, and nobody may see the folder before it.
        temporary = root / f".pull-{secrets.token_hex(6)}" / wanted[:16]
        temporary.mkdir(parents=True)
        try:
            (temporary / SNAPSHOT_FILE).write_bytes(data)
            store.download(f"blobs/sha256/{_data_of(data)}", temporary / DATA_FILE)
            Snapshot.open(temporary, digest=digest)
            if not folder.is_dir():
                temporary.rename(folder)
        finally:
            shutil.rmtree(temporary.parent, ignore_errors=True)
    return Snapshot.open(folder, digest=digest)


def upload_new(store: ObjectStore, root: Path, known: set[str]) -> int:
    """Bring every snapshot below `root` that is not in `known` into the bucket; adds to `known`.

    A snapshot whose data were deleted here, because rows of it had to go, is deleted in the bucket as well.
    """
    sent = 0
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        if folder.name.startswith(".") or not (folder / SNAPSHOT_FILE).is_file():
            continue
        if not (folder / DATA_FILE).exists():
            if (gone := GONE + folder.name) not in known:
                delete_snapshot(store, folder)
                known.add(gone)
        elif folder.name not in known:
            sent += upload_snapshot(store, Snapshot.open(folder))
            known.add(folder.name)
    return sent


def delete_snapshot(store: ObjectStore, folder: Path) -> None:
    """Take a snapshot out of the bucket whose manifest lies in `folder`.

    Another snapshot with the same data has the same rows, so it has to go as well: nobody needs the data any more.
    """
    manifest = (folder / SNAPSHOT_FILE).read_bytes()
    digest = hashlib.sha256(manifest).hexdigest()
    if not digest.startswith(folder.name):
        return  # whatever that is, it was not uploaded from here
    key, blob = PREFIX + digest, f"blobs/sha256/{_data_of(manifest)}"
    if not store.exists(key):
        return
    store.delete(blob)  # first: whoever is stopped in between finds the name again
    store.delete(key)


def _data_of(manifest: bytes) -> str:
    try:
        return codec.loads(SnapshotManifest, manifest).data_sha256
    except ValueError as error:
        raise SnapshotError(f"{SNAPSHOT_FILE}: {error}") from None
