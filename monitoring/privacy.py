"""Taking away from records what the privacy settings do not let stay; for what older replicas wrote, and for rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from export.contracts.privacy import Keep, PrivacyPolicy, policy_of
from monitoring.batches import Batch, Place, Poison, Records, assemble
from monitoring.records.decode import DecodedRecords
from monitoring.records.layout import Extra, StreamLayout

_JSON = ((Extra.PARAMS, "params", "parameters"), (Extra.TAGS, "tags", "tags"))


def strip(records: DecodedRecords, policy: PrivacyPolicy, *, at_rest: bool = False) -> DecodedRecords:
    """The records without what may not stay; the same object when all of it may.

    Args:
        records: From the log.
        policy: Of their model.
        at_rest: Also without inputs that only had to reach the monitor (`Keep.THUMBNAIL`).
    """
    if policy.keeps_everything:
        return records
    layout = stripped_layout(records.layout, policy, at_rest=at_rest)
    changed: dict[str, pa.Array] = {}
    for flag, column, place in _JSON:
        redact = policy.redactor(place)
        if flag in layout.extras and redact is not None:
            before = records.batch.column(column).to_pylist()
            after = [redact(value) for value in before]
            if after != before:
                changed[column] = pa.array(after, pa.binary())
    if layout == records.layout and not changed:
        return records
    schema = layout.arrow_schema()
    arrays = [changed[name] if name in changed else records.batch.column(name) for name in schema.names]
    return DecodedRecords(layout, pa.RecordBatch.from_arrays(arrays, schema=schema))


class Allowed:
    """What the monitor may look at and keep of what it reads.

    Args:
        policies: Of the models; none costs nothing.
    """

    def __init__(self, policies: Sequence[PrivacyPolicy]) -> None:
        self._policies = tuple(policies)

    def records(self, records: Records) -> Records:
        """Without what may not stay: replicas that were started before the settings recorded it."""
        if not self._policies or not isinstance(records, DecodedRecords):
            return records
        return strip(records, policy_of(self._policies, records.model))

    def batches(self, found: list[tuple[Place, Records]], poisons: list[Poison]) -> list[Batch]:
        """Batches of what was read, marked where only thumbnails of inputs may be kept."""
        batches = assemble(found, poisons)
        for batch in batches if self._policies else ():
            batch.thumbnails = policy_of(self._policies, batch.model).keep is Keep.THUMBNAIL
        return batches


def sample_values(batch: Batch, names: Sequence[str], values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Watched inputs, (rows, names), for a sample: where only thumbnails may be kept, descriptors of whole inputs."""
    if not batch.thumbnails or not names:
        return values
    return np.where([":" in name for name in names], values, np.float32(np.nan))


def at_rest(policies: Sequence[PrivacyPolicy]) -> Callable[[DecodedRecords], DecodedRecords]:
    """What the log and the archive may hold of records once the monitor has consumed them."""
    if not policies:
        return lambda records: records
    return lambda records: strip(records, policy_of(policies, records.model), at_rest=True)


def stripped_layout(layout: StreamLayout, policy: PrivacyPolicy, *, at_rest: bool) -> StreamLayout:
    """The layout of what may stay."""
    no_input = at_rest and policy.keep is Keep.THUMBNAIL

    def stays(column: str) -> bool:
        side, _, name = column.partition(".")
        return policy.keeps_output(name) if side == "out" else policy.keeps_input(name) and not no_input

    extras = layout.extras
    if policy.keep is Keep.NOTHING:
        extras &= ~(Extra.PARAMS | Extra.TAGS)
    if not policy.keeps_trace:
        extras &= ~Extra.TRACE
    return replace(layout, extras=extras, tensors=tuple(t for t in layout.tensors if stays(t.name)))
