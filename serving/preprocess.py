"""Encoded images on their way into a batch: decoded beside each other, and one that is damaged fails only its request.

Runs on the batcher's thread, with a few threads of its own to help: Pillow decodes without the interpreter's lock. What
is decoded is bounded by the largest batch; a single request with more rows runs, and is decoded, in parts.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter_ns

import numpy as np

from export.contracts.errors import DeadlineExceeded, HardcaseError, InvalidRequest
from export.contracts.imagefile import ImageRefused
from export.contracts.imagepixels import decode_image
from export.contracts.preprocess import ImageDecode
from export.contracts.signature import Signature
from serving.entry import Entry
from serving.execution import Execution
from serving.runtime.base import Array, Runtime

MAX_THREADS = 4  # by default: more help only when little else runs


class Team:
    """A few threads and the caller, which share rows of work.

    Args:
        size: Threads, the caller's included; 0 takes the processors that this process may use, at most four.
    """

    def __init__(self, size: int) -> None:
        self.size = size or min(MAX_THREADS, len(os.sched_getaffinity(0)))
        self._executor = (
            ThreadPoolExecutor(self.size - 1, thread_name_prefix="hardcase-decode") if self.size > 1 else None
        )

    def run(self, work: Callable[[int], None], count: int) -> None:
        """Call `work` with each of 0 to count - 1, in no certain order. Returns when all are done."""
        left = deque(range(count))

        def share() -> None:
            while True:
                try:
                    row = left.popleft()
                except IndexError:
                    return
                work(row)

        helpers = min(self.size, count) - 1 if self._executor is not None else 0
        futures = [self._executor.submit(share) for _ in range(helpers)] if self._executor is not None else []
        share()
        for future in futures:
            future.result()

    def close(self) -> None:
        """Let the threads go."""
        if self._executor is not None:
            self._executor.shutdown(wait=False)


class Preprocessor:
    """Declared preprocessing of one version.

    Args:
        signature: The version's, with at least one input that declares preprocessing.
        runtime: Asked for memory to decode into.
        threads: See `Team`.
    """

    def __init__(self, signature: Signature, runtime: Runtime, threads: int) -> None:
        self._runtime = runtime
        self._encoded = [(i, spec, spec.preprocess) for i, spec in enumerate(signature.inputs) if spec.preprocess]
        self._batched = signature.batched
        self._team = Team(threads)

    def prepare(
        self, entries: list[Entry], execution: Execution, first_row: int = 0
    ) -> tuple[list[Entry], Sequence[Array], int]:
        """The model's tensors of a batch.

        Args:
            entries: The batch.
            execution: Has the inputs as they came, (rows, ...) each. Who is refused leaves them, and is noted.
            first_row: Of a part of a request: the row at which it begins, for the texts of errors.

        Returns:
            The requests that are left, their tensors in signature order, and the number of their rows.
        """
        inputs = execution.inputs
        spans = np.cumsum([0] + [e.plan.rows for e in entries])
        rows = int(spans[-1])
        owners = np.repeat(np.arange(len(entries)), np.diff(spans))
        failures: list[tuple[int, HardcaseError | None]] = []  # by row of the batch
        tensors: list[Array] = list(inputs)
        for index, spec, decode in self._encoded:
            lead = (rows,) if self._batched else spec.shape[:-1]
            shape = (*lead, *decode.tensor_shape)
            lent = self._runtime.buffer(index, shape)
            out = np.empty(shape, dtype=decode.datatype.numpy) if lent is None else lent
            flat_out, files = out.reshape(rows, *decode.tensor_shape), inputs[index].reshape(-1)
            fields = [f"inputs[{e.plan.order[index]}] '{spec.name}'" for e in entries]

            # a loop's variables as defaults: each input's work keeps its own
            def one(
                row: int,
                files: Array = files,
                out: Array = flat_out,
                decode: ImageDecode = decode,
                fields: list[str] = fields,
            ) -> None:
                owner = int(owners[row])
                entry = entries[owner]
                if entry.answered or entry.cancelled:
                    failures.append((row, None))
                    return
                error = _decode_row(
                    entry, files[row], decode, out[row], fields[owner], first_row + row - int(spans[owner])
                )
                if error is not None:
                    failures.append((row, error))

            self._team.run(one, rows)
            tensors[index] = out
        refused: dict[int, HardcaseError | None] = {}
        for row, error in sorted(failures, key=lambda failure: failure[0]):
            refused.setdefault(int(owners[row]), error)
        if refused:
            keep = ~np.isin(owners, list(refused))
            tensors = [np.ascontiguousarray(t[keep]) for t in tensors]
            entries = [e for i, e in enumerate(entries) if i not in refused]
            execution.inputs, execution.refused = [array[keep] for array in inputs], refused
            rows = int(keep.sum())
        return entries, tensors, rows

    def decoded(self, inputs: Sequence[Array]) -> list[Array]:
        """The model's tensors of inputs that belong to nobody's answer, on the calling thread alone.

        Raises:
            InvalidRequest: an image is refused.
        """
        tensors = list(inputs)
        for index, spec, decode in self._encoded:
            files = inputs[index].reshape(-1)
            lead = (len(files),) if self._batched else spec.shape[:-1]
            out = np.empty((len(files), *decode.tensor_shape), dtype=decode.datatype.numpy)
            for row, data in enumerate(files):
                try:
                    decode_image(data, decode, out[row])
                except ImageRefused as error:
                    raise InvalidRequest(f"input '{spec.name}'[{row}]: {error}") from None
            tensors[index] = out.reshape(*lead, *decode.tensor_shape)
        return tensors

    def close(self) -> None:
        """Let the threads go."""
        self._team.close()


def preprocessor_for(signature: Signature, runtime: Runtime, threads: int) -> Preprocessor | None:
    """The preprocessor of a version; None when its signature declares none."""
    return Preprocessor(signature, runtime, threads) if signature.preprocesses else None


def _decode_row(
    entry: Entry, data: bytes, decode: ImageDecode, out: Array, field: str, row: int
) -> HardcaseError | None:
    """Decode one image, unless its request is too late; the error, if there is one."""
    if entry.deadline_ns <= perf_counter_ns():
        return DeadlineExceeded("the time limit passed before the images were decoded")
    try:
        decode_image(data, decode, out)
    except ImageRefused as error:
        return InvalidRequest(f"{field}[{row}]: {error}")
    return None
