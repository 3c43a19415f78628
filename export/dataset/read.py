"""Opening a snapshot: digests first, then rows as arrays, dictionaries or a PyTorch data set."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from export.contracts import codec
from export.contracts.dataset import DATA_FILE, SNAPSHOT_FILE, SNAPSHOT_SCHEMA_VERSION, SnapshotManifest, Split
from export.contracts.errors import SnapshotError
from export.dataset.columns import schema_of, tensors_of, to_rows
from export.dataset.labels import to_arrays
from export.dataset.rows import Array, DatasetRow, Rows

if TYPE_CHECKING:
    from export.dataset.for_torch import TorchRows

ID_DIGITS = 16
MAX_MANIFEST_BYTES = 16 << 20


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """An opened snapshot; its data file was found to be what the manifest says.

    Attributes:
        digest: "sha256:" and the hex SHA-256 of the manifest's bytes; it covers the data, because the manifest does.
    """

    folder: Path
    manifest: SnapshotManifest
    digest: str

    @classmethod
    def open(cls, folder: Path | str, *, digest: str | None = None) -> Snapshot:
        """Open and check it.

        Args:
            folder: Where it lies.
            digest: What it must have, as a training request says; None: any.

        Raises:
            SnapshotError: names the file that is missing, damaged, or of another snapshot.
        """
        folder = Path(folder)
        data = _read(folder / SNAPSHOT_FILE)
        found = hashlib.sha256(data).hexdigest()
        if digest is not None and digest.removeprefix("sha256:") != found:
            raise SnapshotError(f"{SNAPSHOT_FILE}: its digest is sha256:{found[:16]}…, wanted is {digest[:23]}…")
        _check_name(folder, found)
        try:
            manifest = codec.loads(SnapshotManifest, data)
        except ValueError as error:
            raise SnapshotError(f"{SNAPSHOT_FILE}: {error}") from None
        if manifest.schema_version != SNAPSHOT_SCHEMA_VERSION:
            raise SnapshotError(f"{SNAPSHOT_FILE}: schema version {manifest.schema_version} is not known here")
        _check_data(folder / DATA_FILE, manifest)
        return cls(folder=folder, manifest=manifest, digest=f"sha256:{found}")

    @property
    def id(self) -> str:
        """First 16 hex digits of the digest: the name of its folder."""
        return self.digest.removeprefix("sha256:")[:ID_DIGITS]

    def table(self, split: Split | str | None = None, columns: list[str] | None = None) -> pa.Table:
        """Rows as an Arrow table, all of them or of one split."""
        wanted = columns if columns is None or split is None or "split" in columns else [*columns, "split"]
        table = pq.read_table(self.folder / DATA_FILE, columns=wanted, use_threads=False)
        if split is not None:
            table = table.filter(pc.equal(table["split"], Split(split).value))
        return table if columns is None else table.select(columns)

    def items(self, split: Split | str | None = None) -> list[DatasetRow]:
        """Rows with everything that is known of them."""
        return to_rows(self.table(split), self.manifest.signature)

    def arrays(self, split: Split | str | None = None) -> Rows:
        """Rows as arrays, see `Rows`."""
        signature, table = self.manifest.signature, self.table(split)
        items = to_rows(table, signature)
        inputs = {spec.name: _stacked(tensors_of(table, spec.name, spec.datatype)) for spec in signature.inputs}
        if not items:
            inputs = {
                spec.name: np.empty((0, *(max(n, 0) for n in spec.shape[1:])), spec.datatype.numpy)
                for spec in signature.inputs
            }
        return Rows(
            inputs=inputs,
            labels=to_arrays([row.label for row in items], self.manifest.task),
            row_ids=[row.row_id for row in items],
            weights=np.array([row.weight for row in items], dtype=np.float64),
            groups=[row.group for row in items],
            sources=[row.source.value for row in items],
        )

    def rows(self, split: Split | str | None = None) -> Iterator[dict[str, Any]]:
        """Rows as dictionaries, in the way of Hugging Face data sets: inputs by name, label, row_id, weight."""
        for row in self.items(split):
            yield {
                **row.inputs,
                "label": row.label,
                "row_id": row.row_id,
                "split": row.split.value,
                "source": row.source.value,
                "group": row.group,
                "weight": row.weight,
            }

    def torch(self, split: Split | str | None = None) -> TorchRows:
        """A `torch.utils.data.Dataset`: an item is (inputs by name, label, weight)."""
        from export.dataset.for_torch import TorchRows

        return TorchRows(self.arrays(split))


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise SnapshotError(f"{path.name}: larger than any manifest")
        return path.read_bytes()
    except OSError as error:
        raise SnapshotError(f"{path.name}: {error.strerror or 'cannot be read'}") from None


def _check_name(folder: Path, found: str) -> None:
    """A folder named as snapshots are must hold the one of its name: else its manifest was changed."""
    name = folder.name
    if len(name) == ID_DIGITS and set(name) <= set("0123456789abcdef") and not found.startswith(name):
        raise SnapshotError(f"{SNAPSHOT_FILE}: it is not what it was when it was written: its digest is {found[:16]}")


def _check_data(path: Path, manifest: SnapshotManifest) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise SnapshotError(f"{path.name}: {error.strerror or 'cannot be read'}") from None
    if found != manifest.data_sha256:
        raise SnapshotError(f"{path.name}: it is not what it was when it was written: its digest is {found[:16]}")
    try:
        schema = pq.read_schema(path)
    except pa.ArrowException as error:
        raise SnapshotError(f"{path.name}: not a Parquet file ({type(error).__name__})") from None
    missing = [name for name in schema_of(manifest.signature).names if name not in schema.names]
    if missing:
        raise SnapshotError(f"{path.name}: column {missing[0]} is missing")


def _stacked(tensors: Any) -> Array:
    if isinstance(tensors, np.ndarray):
        return tensors
    if len({t.shape for t in tensors}) == 1:
        return np.stack(tensors)
    made = np.empty(len(tensors), dtype=object)
    for i, tensor in enumerate(tensors):
        made[i] = tensor
    return made
