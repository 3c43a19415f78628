"""Records of small batches, held for a moment so that they reach the record log's thread as one batch.

A batch of one costs the thread as much as a batch of fifty, and what waits for it in the form of arrays keeps memory
from being used again while it is still in the processor's cache. So small batches are copied behind each other, and
handed over when there are enough of them, or after five milliseconds
(`docs/decisions/0250-small-batches-are-recorded-together.md`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from export.contracts.traffic import Variant
from monitoring.records.record import CaptureOptions, Durability, Outcome, RecordBatch, RecordSchema, Rows
from monitoring.records.writer import RecordLogWriter
from serving.entry import Entry
from serving.tensors import Array

ROWS = 64  # enough to be handed over
SMALL = 32  # a batch with more rows goes by itself
HELD_S = 0.005  # with the writer's 20 ms well within the 50 ms that the default durability promises
_HELD_BYTES = 128 << 10


def waited_for(options: CaptureOptions | None) -> bool:
    """Whether an answer waits until its record is safe: in the modes "synced" and "before_answer"."""
    return options is not None and options.durability is not Durability.ASYNC


class Gathering:
    """What one version holds back of its records. On the loop; only for records that nobody waits for.

    Args:
        writer: The replica's log.
        schema: Of the records.
        shapes: Row shape and bytes of a row of each recorded input, then of each recorded output.
        inputs: Which arrays of a batch's inputs are recorded.
        outputs: Which of its outputs.
    """

    def __init__(
        self,
        writer: RecordLogWriter,
        schema: RecordSchema,
        shapes: Sequence[tuple[tuple[int, ...], int]],
        inputs: Sequence[int],
        outputs: Sequence[int],
    ) -> None:
        self._writer = writer
        self._schema = schema
        self._shapes = tuple(shapes)
        self._inputs, self._outputs = tuple(inputs), tuple(outputs)
        row_bytes = sum(size for _, size in shapes)
        self._enough = min(ROWS, _HELD_BYTES // max(1, row_bytes))
        self.small = min(SMALL, self._enough // 2)
        self._timer: asyncio.TimerHandle | None = None
        self.rows = 0
        self._begin(Variant.CHAMPION)

    def _begin(self, variant: Variant) -> None:
        self.rows = 0
        self._variant = variant
        self._heads: list[tuple[bytes, int, int, int, int, int]] = []  # id, time, queue, total, compute, rows
        self._data: list[list[bytes]] = [[] for _ in self._shapes]
        put = [data.append for data in self._data]
        self._put_inputs = tuple(zip(put, self._inputs, strict=False))
        self._put_outputs = tuple(zip(put[len(self._inputs) :], self._outputs, strict=True))

    def add(
        self,
        entries: Sequence[Entry],
        variant: Variant,
        rows: int,
        queue_ns: Sequence[int],
        total_ns: Sequence[int],
        compute_ns: int,
        inputs: Sequence[Array],
        outputs: Sequence[Array | None],
    ) -> None:
        """Take the records of a batch of at most `small` rows, all with success. Its arrays are free afterwards."""
        if variant is not self._variant:
            self.flush()
            self._variant = variant
        for e, queued, total in zip(entries, queue_ns, total_ns, strict=True):
            self._heads.append((e.id, e.time_ns, queued, total, compute_ns, e.plan.rows))
        for put, index in self._put_inputs:
            put(inputs[index].tobytes())
        for put, index in self._put_outputs:
            put(outputs[index].tobytes())  # type: ignore[union-attr]  # recorded outputs are always run
        self.rows += rows
        if self.rows >= self._enough:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(HELD_S, self._late)

    def _late(self) -> None:
        self._timer = None
        self.flush()

    def flush(self) -> None:
        """Hand over what is held."""
        if not self.rows:
            return
        columns = [
            Rows(memoryview(b"".join(data)), shape, size)
            for data, (shape, size) in zip(self._data, self._shapes, strict=True)
        ]
        ids, time_ns, queue_ns, total_ns, compute_ns, counts = zip(*self._heads, strict=True)
        inputs = len(self._inputs)
        batch = RecordBatch(
            schema=self._schema,
            ids=ids,
            time_ns=time_ns,
            variant=self._variant,
            outcome=Outcome.OK,
            queue_ns=queue_ns,
            total_ns=total_ns,
            compute_ns=compute_ns,
            rows=counts if len(counts) != self.rows else None,
            inputs=columns[:inputs],
            outputs=columns[inputs:],
        )
        self._begin(self._variant)
        self._writer.offer(batch)

    def close(self) -> None:
        """Hand over what is held, and wait for nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.flush()
