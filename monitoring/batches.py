"""Frames of the log → batches that can be scored in one go: records that share version, outcome and tensor shapes.

Small frames are joined, so that a quiet service and a busy one cost the same per record. A record whose tensors cannot
be read becomes a `Poison` and is left out; the others go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.datatypes import Datatype
from monitoring.origins import ASIDE, is_aside
from monitoring.records.record import Outcome

Array: TypeAlias = npt.NDArray[Any]
Ints: TypeAlias = npt.NDArray[np.int64]


class TensorView(Protocol):
    """One tensor of all records of a frame (`monitoring.records.decode.TensorColumnView`)."""

    @property
    def datatype(self) -> Datatype: ...  # noqa: D102  # described where it is implemented

    @property
    def uniform(self) -> Array | None: ...  # noqa: D102

    def get(self, index: int) -> Array: ...  # noqa: D102


class Records(Protocol):
    """The records of one frame (`monitoring.records.decode.DecodedRecords`)."""

    model: str
    version: str
    digest: str
    variant: str
    outcome: Outcome

    def __len__(self) -> int: ...

    @property
    def ids(self) -> list[str]: ...  # noqa: D102
    @property
    def time_ns(self) -> Array: ...  # noqa: D102
    @property
    def rows(self) -> Array: ...  # noqa: D102
    @property
    def queue_us(self) -> Array: ...  # noqa: D102
    @property
    def compute_us(self) -> Array: ...  # noqa: D102
    @property
    def total_us(self) -> Array: ...  # noqa: D102
    @property
    def probability(self) -> Array: ...  # noqa: D102
    @property
    def error(self) -> list[str | None]: ...  # noqa: D102
    @property
    def params(self) -> list[bytes | None]: ...  # noqa: D102
    @property
    def trace_ids(self) -> list[bytes | None]: ...  # noqa: D102
    @property
    def tags(self) -> list[bytes | None]: ...  # noqa: D102
    @property
    def input_names(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def output_names(self) -> tuple[str, ...]: ...  # noqa: D102
    def input(self, name: str) -> TensorView: ...  # noqa: D102
    def output(self, name: str) -> TensorView: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a frame stands: reading `source` on from (segment, offset, sequence - 1) gives it."""

    source: str
    segment: int
    offset: int
    sequence: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Poison:
    """What could not be read. `item` is the record within its frame, -1 the whole frame."""

    place: Place
    item: int
    reason: str
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Some records of one frame."""

    place: Place
    records: Records
    items: Ints  # indices into `records`


@dataclass(kw_only=True, eq=False)
class Batch:
    """Records that share version, variant, outcome and tensor shapes.

    Attributes:
        row_record: Which record each row belongs to, (rows,); rows of a record are neighbours.
        inputs: By name, (rows, ...).
        outputs: By name, (rows, ...).
        datatypes: Wire datatype by "in.<name>" and "out.<name>".
        thumbnails: Of its inputs only small pictures may be kept.
    """

    model: str
    version: str
    digest: str
    variant: str
    outcome: Outcome
    pieces: list[Piece]
    ids: list[str]
    time_ns: Ints
    rows: Ints
    queue_us: Ints
    compute_us: Ints
    total_us: Ints
    probability: npt.NDArray[np.float64]
    row_record: Ints
    inputs: dict[str, Array] = field(default_factory=dict)
    outputs: dict[str, Array] = field(default_factory=dict)
    datatypes: dict[str, Datatype] = field(default_factory=dict)
    thumbnails: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    def origin(self, record: int) -> tuple[Piece, int]:
        """The frame of a record of this batch, and its index there."""
        for piece in self.pieces:
            if record < len(piece.items):
                return piece, int(piece.items[record])
            record -= len(piece.items)
        raise IndexError(record)

    def rows_of(self, record: int) -> slice:
        """The rows of a record."""
        first = int(np.searchsorted(self.row_record, record, side="left"))
        return slice(first, int(np.searchsorted(self.row_record, record, side="right")))

    def pick(self, record: int) -> Batch:
        """The batch of this one record."""
        piece, item = self.origin(record)
        rows, one = self.rows_of(record), slice(record, record + 1)
        return Batch(
            model=self.model,
            version=self.version,
            digest=self.digest,
            variant=self.variant,
            outcome=self.outcome,
            pieces=[Piece(place=piece.place, records=piece.records, items=np.array([item], dtype=np.int64))],
            ids=self.ids[one],
            time_ns=self.time_ns[one],
            rows=self.rows[one],
            queue_us=self.queue_us[one],
            compute_us=self.compute_us[one],
            total_us=self.total_us[one],
            probability=self.probability[one],
            row_record=np.zeros(rows.stop - rows.start, dtype=np.int64),
            inputs={name: array[rows] for name, array in self.inputs.items()},
            outputs={name: array[rows] for name, array in self.outputs.items()},
            datatypes=self.datatypes,
            thumbnails=self.thumbnails,
        )


_Tensors: TypeAlias = dict[str, Array]


def assemble(frames: Iterable[tuple[Place, Records]], poisons: list[Poison]) -> list[Batch]:
    """Join the records of `frames` into batches; what cannot be read is added to `poisons`."""
    groups: dict[tuple[object, ...], list[tuple[Piece, list[_Tensors], Mapping[str, Datatype]]]] = {}
    for place, records in frames:
        for variant, piece, tensors, datatypes in _by_origin(_pieces(place, records, poisons)):
            shapes = tuple(
                (name, tensors[0][name].dtype.str, tensors[0][name].shape[1:]) for name in sorted(tensors[0])
            )
            r = piece.records
            key = (r.model, r.version, r.digest, variant, r.outcome, shapes)
            groups.setdefault(key, []).append((piece, tensors, datatypes))
    return [_join(group, str(key[3])) for key, group in groups.items()]


def _pieces(
    place: Place, records: Records, poisons: list[Poison]
) -> list[tuple[Piece, list[_Tensors], Mapping[str, Datatype]]]:
    """Pieces of one frame, each with its tensors: one block when uniform, else one block a record."""
    views = {f"in.{n}": records.input(n) for n in records.input_names}
    views |= {f"out.{n}": records.output(n) for n in records.output_names}
    datatypes = {name: view.datatype for name, view in views.items()}
    uniform = {name: view.uniform for name, view in views.items()}
    whole = {name: array for name, array in uniform.items() if array is not None}
    if len(whole) == len(views) and (views or bool((records.rows == 1).all())):
        return [(Piece(place=place, records=records, items=np.arange(len(records))), [whole], datatypes)]
    by_shape: dict[tuple[object, ...], tuple[list[int], list[_Tensors]]] = {}
    for item, rows in enumerate(records.rows.tolist()):
        try:
            tensors = {name: _with_rows(view.get(item), rows) for name, view in views.items()}
        except (ValueError, IndexError, OverflowError) as error:
            poisons.append(Poison(place=place, item=item, reason="tensor_unreadable", detail=str(error)[:500]))
            continue
        shape = tuple(array.shape[1:] for array in tensors.values())
        items, blocks = by_shape.setdefault(shape, ([], []))
        items.append(item)
        blocks.append(tensors)
    return [
        (Piece(place=place, records=records, items=np.array(items, dtype=np.int64)), blocks, datatypes)
        for items, blocks in by_shape.values()
    ]


def _with_rows(array: Array, rows: int) -> Array:
    """One record's tensor as (rows, ...); an unbatched model's tensor is one row."""
    if array.ndim and array.shape[0] == rows:
        return array
    if rows == 1:
        return array[None]
    raise ValueError(f"a tensor of shape {list(array.shape)} for {rows} rows")


def _by_origin(
    pieces: list[tuple[Piece, list[_Tensors], Mapping[str, Datatype]]],
) -> Iterator[tuple[str, Piece, list[_Tensors], Mapping[str, Datatype]]]:
    """The pieces with the variant that they count as; what is no traffic becomes a piece of its own."""
    for piece, tensors, datatypes in pieces:
        aside = np.array([is_aside(piece.records.params[i]) for i in piece.items.tolist()], dtype=bool)
        if not aside.any():
            yield piece.records.variant, piece, tensors, datatypes
            continue
        of_row = np.repeat(aside, piece.records.rows[piece.items])
        for variant, wanted, rows in ((piece.records.variant, ~aside, ~of_row), (ASIDE, aside, of_row)):
            if not wanted.any():
                continue
            if len(tensors) == len(aside) and len(aside) != 1:  # one block a record
                chosen = [block for block, there in zip(tensors, wanted.tolist(), strict=True) if there]
            else:
                chosen = [{name: array[rows] for name, array in block.items()} for block in tensors]
            yield variant, replace(piece, items=piece.items[wanted]), chosen, datatypes


def _join(group: list[tuple[Piece, list[_Tensors], Mapping[str, Datatype]]], variant: str) -> Batch:
    pieces = [piece for piece, _, _ in group]
    first, datatypes = pieces[0].records, dict(group[0][2])

    def column(name: str, dtype: type[np.generic]) -> Array:
        return np.concatenate([np.asarray(getattr(p.records, name))[p.items] for p in pieces]).astype(dtype)

    rows = column("rows", np.int64)
    ids = [p.records.ids if len(p.items) == len(p.records) else [p.records.ids[i] for i in p.items] for p in pieces]
    blocks = [block for _, tensors, _ in group for block in tensors]
    joined = {
        name: np.concatenate([b[name] for b in blocks]) if len(blocks) > 1 else blocks[0][name] for name in datatypes
    }
    return Batch(
        model=first.model,
        version=first.version,
        digest=first.digest,
        variant=variant,
        outcome=first.outcome,
        pieces=pieces,
        ids=[identity for part in ids for identity in part],
        time_ns=column("time_ns", np.int64),
        rows=rows,
        queue_us=column("queue_us", np.int64),
        compute_us=column("compute_us", np.int64),
        total_us=column("total_us", np.int64),
        probability=column("probability", np.float64),
        row_record=np.repeat(np.arange(len(rows)), rows if datatypes else np.zeros_like(rows)),
        inputs={name[3:]: array for name, array in joined.items() if name.startswith("in.")},
        outputs={name[4:]: array for name, array in joined.items() if name.startswith("out.")},
        datatypes=datatypes,
    )
