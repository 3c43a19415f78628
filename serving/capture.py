"""From answered requests to record batches. The arrays of the batch are handed over as they are, without a copy."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import TypeAlias

from export.contracts.datatypes import Datatype
from export.contracts.errors import (
    ClientError,
    DeadlineExceeded,
    HardcaseError,
    NotSupported,
    Unavailable,
)
from export.contracts.privacy import PrivacyPolicy
from export.contracts.signature import OutputRole, Signature
from export.contracts.traffic import Variant
from monitoring.records.record import (
    Outcome,
    Ragged,
    RecordBatch,
    RecordSchema,
    Rows,
    TensorColumn,
    TensorData,
)
from monitoring.records.writer import RecordLogWriter
from serving.answer import BatchOutputs
from serving.entry import Entry
from serving.gathering import Gathering
from serving.tensors import Array, encode_bytes

EVERYTHING = PrivacyPolicy()
_Refusals: TypeAlias = tuple[str, str, Variant, Outcome, str]  # model, version, ..., public text


class IdSource:
    """Record ids of one process: 12 random hex digits and a counter; of constant length, unique across replicas."""

    def __init__(self) -> None:
        self._prefix = os.urandom(6).hex().encode() + b"-"
        self._count = 0

    def next(self) -> bytes:
        """A new id, 23 ASCII characters."""
        self._count += 1
        return self._prefix + b"%010x" % self._count


def outcome_of(error: HardcaseError | None) -> Outcome:
    """How a request that ended with this error is counted; None is a client that went away."""
    if error is None:
        return Outcome.CANCELLED
    if isinstance(error, ClientError | NotSupported):
        return Outcome.INVALID
    if isinstance(error, DeadlineExceeded):
        return Outcome.DEADLINE
    if isinstance(error, Unavailable):
        return Outcome.REJECTED
    return Outcome.FAILED


class Capture:
    """The record log as one version sees it.

    Args:
        writer: The replica's log; None records nothing.
        model, version, digest: What answered, as the records name it.
        signature: Its tensors; all outputs but internal ones are recorded.
        policy: What may be recorded; what may not never reaches the writer.
        together: Small batches may be handed over together, some milliseconds later: nobody waits for their records.
    """

    def __init__(
        self,
        writer: RecordLogWriter | None,
        model: str,
        version: str,
        digest: str,
        signature: Signature,
        policy: PrivacyPolicy = EVERYTHING,
        together: bool = False,
    ) -> None:
        self._writer = writer
        self._slot = writer.slot(model, version) if writer is not None else None
        self._inputs = [(i, s) for i, s in enumerate(signature.inputs) if policy.keeps_input(s.name)]
        self._redact = policy.redactor("parameters")
        self._traces = policy.keeps_trace
        self.recorded = tuple(i for i, s in enumerate(signature.outputs) if s.role is not OutputRole.INTERNAL)
        self._outputs = [i for i in self.recorded if policy.keeps_output(signature.outputs[i].name)]
        self._specs = signature.outputs
        self._batched = signature.batched
        self.schema = RecordSchema(
            model=model,
            version=version,
            digest=digest,
            inputs=tuple(TensorColumn(s.name, s.datatype) for _, s in self._inputs),
            outputs=tuple(
                TensorColumn(signature.outputs[i].name, signature.outputs[i].datatype) for i in self._outputs
            ),
        )
        self._held = self._gathering(signature) if together and self._redact is None else None

    def _gathering(self, signature: Signature) -> Gathering | None:
        """Holds small batches; None when rows of this signature differ in bytes, or are too large for copies."""
        kept = [(spec.shape[1:], spec.datatype) for _, spec in self._inputs]
        kept += [(signature.outputs[i].shape[1:], signature.outputs[i].datatype) for i in self._outputs]
        shapes = [(shape, math.prod(shape) * datatype.itemsize) for shape, datatype in kept]
        fixed = all(min(shape, default=1) > 0 and size > 0 for shape, size in shapes)
        if self._writer is None or not self._batched or not shapes or not fixed:
            return None
        held = Gathering(self._writer, self.schema, shapes, [i for i, _ in self._inputs], self._outputs)
        return held if held.small > 1 else None

    def received(self, count: int) -> None:
        """Count requests whose outcome is known; each once, before its answer goes out and its record is offered."""
        if self._slot is not None:
            self._slot.received(count)

    def offer(
        self,
        entries: Sequence[Entry],
        outcome: Outcome,
        *,
        total_ns: Sequence[int],
        queue_ns: Sequence[int] | None = None,
        compute_ns: int = 0,
        inputs: Sequence[Array] = (),
        outputs: BatchOutputs | None = None,
        error: str | None = None,
        on_durable: Callable[[], None] | None = None,
        variant: Variant | None = None,
    ) -> None:
        """Offer the records of requests that ended together, in the same way.

        Args:
            entries: The requests, in the order of their rows in `inputs` and `outputs`.
            outcome: How they ended.
            total_ns: From last byte to answer, of each.
            queue_ns: Waiting time of each.
            compute_ns: Time of the batch in the runtime.
            inputs: The batch's input arrays, or () to record no payload.
            outputs: The batch's outputs, None when there are none.
            error: Public text.
            on_durable: Called from the writer's thread once the records are as safe as the settings promise.
            variant: As what the version took them; None asks the requests.
        """
        if self._writer is None:
            return
        held = self._held
        if held is not None:
            if outcome is Outcome.OK and outputs is not None and inputs and queue_ns:
                count = 0
                for e in entries:
                    count += e.plan.rows
                    if e.trace_id is not None or e.plan.params:
                        count = held.small + 1  # there is more to record
                        break
                if count <= held.small:
                    as_what = variant or entries[0].variant
                    held.add(entries, as_what, count, queue_ns, total_ns, compute_ns, inputs, outputs.arrays)
                    return
            held.flush()  # records stay in the order of their answers
        rows = [e.plan.rows for e in entries]
        params = [e.plan.params for e in entries]
        traces = [e.trace_id for e in entries] if self._traces else []
        if self._redact is not None:
            params = [self._redact(p) for p in params]
        self._writer.offer(
            RecordBatch(
                schema=self.schema,
                ids=[e.id for e in entries],
                time_ns=[e.time_ns for e in entries],
                variant=variant or entries[0].variant,
                outcome=outcome,
                queue_ns=queue_ns if queue_ns is not None else [0] * len(entries),
                total_ns=total_ns,
                compute_ns=compute_ns,
                rows=rows if self._batched and len(rows) != sum(rows) else None,
                inputs=self._input_data(entries, inputs),
                outputs=self._output_data(entries, outputs),
                error=[error] * len(entries) if error is not None else None,
                params=params if any(params) else None,
                trace_ids=traces if any(traces) else None,
            ),
            on_durable,
        )

    def close(self) -> None:
        """Hand over what is held back."""
        if self._held is not None:
            self._held.close()

    def _input_data(self, entries: Sequence[Entry], arrays: Sequence[Array]) -> list[TensorData]:
        if not arrays:
            return []
        return [self._tensor(entries, spec.datatype, arrays[i]) for i, spec in self._inputs]

    def _output_data(self, entries: Sequence[Entry], outputs: BatchOutputs | None) -> list[TensorData]:
        if outputs is None:
            return []
        result = []
        for index in self._outputs:
            array = outputs.arrays[index]
            assert array is not None  # recorded outputs are always run
            result.append(self._tensor(entries, self._specs[index].datatype, array))
        return result

    def _tensor(self, entries: Sequence[Entry], datatype: Datatype, array: Array) -> TensorData:
        if datatype is not Datatype.BYTES:
            if self._batched:
                return Rows(array, array.shape[1:], array.nbytes // array.shape[0])
            return Rows(array, array.shape, array.nbytes)
        if not self._batched:
            return Ragged([encode_bytes(array)], [array.shape])
        data, shapes, start = [], [], 0
        for entry in entries:
            part = array[start : start + entry.plan.rows]
            data.append(encode_bytes(part))
            shapes.append(part.shape)
            start += entry.plan.rows
        return Ragged(data, shapes)


def elapsed_ns(entries: Sequence[Entry]) -> list[int]:
    """Time since the last byte of each request."""
    now = perf_counter_ns()
    return [now - e.received_ns for e in entries]


_REFUSALS_IN_A_BATCH = 256
_REFUSALS_HELD_S = 0.01


class RefusalLog:
    """Records of requests that were refused before any version took them: error text, no payload.

    Refusals come in floods, so equal ones that come within 10 ms are handed over as one batch of records. They are
    counted at once: what is lost with the process is accounted for.

    Args:
        writer: The replica's log; None records nothing.
    """

    def __init__(self, writer: RecordLogWriter | None) -> None:
        self._writer = writer
        self._schemas: dict[tuple[str, str], RecordSchema] = {}
        self._held: dict[_Refusals, tuple[list[bytes], list[int]]] = {}
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    def record(
        self, model: str, version: str, request_id: bytes, time_ns: int, error: HardcaseError, variant: Variant
    ) -> None:
        """Count and hold one refusal. `model` and `version` are names that exist, or empty: never request data."""
        if self._writer is None:
            return
        self._writer.slot(model, version).received()
        key = (model, version, variant, outcome_of(error), error.message)
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = ([], [])
        held[0].append(request_id)
        held[1].append(time_ns)
        self._count += 1
        if self._count >= _REFUSALS_IN_A_BATCH:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_REFUSALS_HELD_S, self.flush)

    def flush(self) -> None:
        """Hand over what is held. Call before the writer is closed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        held, self._held, self._count = self._held, {}, 0
        for (model, version, variant, outcome, message), (ids, times) in held.items():
            assert self._writer is not None  # nothing is held without one
            schema = self._schemas.get((model, version))
            if schema is None:
                schema = self._schemas[model, version] = RecordSchema(model=model, version=version)
            self._writer.offer(
                RecordBatch(
                    schema=schema,
                    ids=ids,
                    time_ns=times,
                    variant=variant,
                    outcome=outcome,
                    queue_ns=[0] * len(ids),
                    total_ns=[0] * len(ids),
                    error=[message] * len(ids),
                )
            )
