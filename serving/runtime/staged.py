"""A runtime on an accelerator: page-locked inputs, lanes that overlap, recorded graphs at bucketed batch sizes.

`run` takes an idle lane, issues copy-in, computation and copy-out, and waits for them once. With several lanes, and as
many threads, the copies of one batch overlap with the computation of another.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from export.contracts.errors import HardcaseError, ModelFailed
from export.contracts.signature import OutputSpec, Signature
from serving.runtime.arena import Arena
from serving.runtime.base import MODEL_RAISED, Array, DeviceLost, Fact, OutOfMemory, as_float64, closed
from serving.runtime.buckets import bucket_of, buckets, sample_inputs
from serving.runtime.streams import Accelerator, Fault, Graph, Lane

_log = logging.getLogger("hardcase.runtime.staged")
# Every lane holds a batch's inputs, the next one is gathered, and the record log holds some until they are written.
_BLOCKS_BESIDE_LANES = 6
_STAGING_BYTES = 1 << 30  # page-locked memory is taken from everybody
_GRAPH_TOLERANCE = 1e-2  # of the largest value: a replay that computes something else is off by far more


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphOptions:
    """Which batch sizes are recorded.

    Attributes:
        enabled: Record at all.
        max_rows: The largest batch; powers of two up to it are recorded, and it itself.
        memory_bytes: Device memory that the records may take together; the largest batches are recorded first.
    """

    enabled: bool
    max_rows: int
    memory_bytes: int


@dataclass(slots=True)
class _Track:
    """A lane with its graphs by rows."""

    lane: Lane
    graphs: dict[int, Graph] = field(default_factory=dict)


class StagedRuntime:
    """One model on one accelerator. See `serving.runtime.base.Runtime`.

    Args:
        accelerator: The device with the model on it.
        signature: The model's inputs and outputs; none is BYTES.
        kind, provider: See `Runtime`.
        lanes: Batches that may be under way at once.
        graphs: Which batch sizes are recorded.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        signature: Signature,
        *,
        kind: str,
        provider: str,
        lanes: int,
        graphs: GraphOptions,
    ) -> None:
        self.kind, self.provider = kind, provider
        self.device = accelerator.name
        self.fallback = False
        self.healthy = True
        self.concurrency = lanes
        self._accelerator = accelerator
        self._signature = signature
        self._dtypes = [spec.datatype.numpy for spec in signature.inputs]
        self._arena = Arena(accelerator.host, blocks=2 * lanes + _BLOCKS_BESIDE_LANES, total_bytes=_STAGING_BYTES)
        self._graph_options = graphs
        self._graph_note = "off"
        self._idle = [_Track(accelerator.lane()) for _ in range(lanes)]
        self._places = threading.Semaphore(lanes)
        self._lock = threading.Lock()
        self._open_lanes = lanes
        self._closed = False

    @property
    def facts(self) -> dict[str, Fact]:
        """What the record log and `doctor` say about it."""
        sizes = sorted({rows for track in self._idle for rows in track.graphs})
        return {
            "lanes": self.concurrency,
            "graphs": ",".join(map(str, sizes)),
            "graph_note": self._graph_note,
            "pinned_bytes": self._arena.bytes,
        }

    def prepare(self) -> None:
        """Record graphs, where the settings and the signature allow it. Call once, before anybody is answered."""
        options, signature = self._graph_options, self._signature
        if not options.enabled:
            return
        if sample_inputs(signature, 1) is None:
            self._graph_note = "none: a shape of the signature is open besides the batch"
            return
        before, left_out = self._accelerator.memory_bytes(), []
        self._graph_note = "all sizes"
        for rows in reversed(buckets(options.max_rows) if signature.batched else [1]):
            try:
                for track in self._idle:
                    self._record(track, rows)
                fits = self._accelerator.memory_bytes() - before <= options.memory_bytes
            except Exception as error:
                # An attempt leaves no harm behind: every size works without its graph, only slower.
                _log.warning("no graph for batches of %d rows: %s", rows, error)
                fits = False
                if self._accelerator.fault(error) is not Fault.MEMORY:
                    self._drop_graphs(rows)
                    self._graph_note = f"the recording of {rows} rows failed: the log has the reason"
                    return
            if not fits:  # smaller ones may: they use the memory of the larger ones again
                self._drop_graphs(rows)
                left_out.append(rows)
        if left_out:
            self._graph_note = f"over the budget of graph_memory_bytes: {', '.join(map(str, left_out))} rows"

    def buffer(self, index: int, shape: tuple[int, ...]) -> Array | None:
        """Page-locked memory for an input, when there is some free; see `Runtime.buffer`."""
        return self._arena.array(index, shape, self._dtypes[index])

    def run(self, inputs: Sequence[Array], outputs: Sequence[int]) -> list[Array]:
        """Execute one batch; see `Runtime.run`. More threads than lanes wait for each other."""
        if not self.healthy:
            raise DeviceLost
        self._places.acquire()
        try:
            track = self._take()
            try:
                return self._run(track, inputs, outputs)
            except Exception as error:
                raise self._failed(error) from error
            finally:
                self._give(track)
        finally:
            self._places.release()

    def close(self) -> None:
        """Give up lanes, graphs, buffers and the model; a batch under way ends first. See `Runtime.close`."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            idle, self._idle = self._idle, []
        for track in idle:
            self._shut(track)
        self._arena.close()

    def _run(self, track: _Track, inputs: Sequence[Array], outputs: Sequence[int]) -> list[Array]:
        lane = track.lane
        if len(inputs) != len(self._dtypes):
            raise ModelFailed(MODEL_RAISED)
        rows = len(inputs[0]) if self._signature.batched else None
        graph = track.graphs.get(bucket_of(rows, self._graph_options.max_rows) if rows is not None else 1)
        hosts = [self._staged(i, a) for i, a in enumerate(inputs)]  # held until `finish` has returned
        with lane.work():
            try:
                if graph is None or not self._fits(hosts):
                    results = lane.compute([lane.upload(host) for host in hosts])
                    cut = None
                else:
                    for target, host in zip(graph.inputs, hosts, strict=True):
                        lane.upload(host, target)
                    results, cut = lane.replay(graph), rows
                downloads = [lane.download(results[i], cut) for i in outputs]
            finally:
                lane.finish()  # after an error, too: what was issued still reads the hosts
            return [lane.array(download) for download in downloads]

    def _fits(self, hosts: Sequence[Array]) -> bool:
        """Whether shapes and dtypes are the signature's, which the graphs were recorded for."""
        batched = self._signature.batched
        return all(
            host.dtype == dtype and host.shape[batched:] == spec.shape[batched:]
            for host, dtype, spec in zip(hosts, self._dtypes, self._signature.inputs, strict=True)
        )

    def _staged(self, index: int, array: Array) -> Array:
        """The array in page-locked memory: itself when `buffer` lent it, or a copy; ordinary where none is free."""
        if not array.nbytes or (self._arena.holds(array) and array.flags.writeable):
            return array if array.flags.writeable else array.copy()
        block = self._arena.array(index, array.shape, array.dtype)
        if block is None:
            return array if array.flags.writeable else array.copy()
        np.copyto(block, array)
        return block

    def _record(self, track: _Track, rows: int) -> None:
        """Record one size in one lane, and see that the record computes what the model computes."""
        lane = track.lane
        sample = sample_inputs(self._signature, rows)
        assert sample is not None  # prepare has asked
        with lane.work():
            try:
                tensors = [lane.upload(array) for array in sample]
                plain = [lane.download(t, None) for t in lane.compute(tensors)]
                lane.finish()
                graph = lane.capture(tensors)
                cut = rows - 1 or None if self._signature.batched else None  # so that the padding is tried, too
                for target, array in zip(graph.inputs, sample, strict=True):
                    lane.upload(array[:cut] if cut else array, target)
                again = [lane.download(t, cut) for t in lane.replay(graph)]
            finally:
                lane.finish()
            pairs = [(lane.array(a), lane.array(b)) for a, b in zip(plain, again, strict=True)]
        for spec, (a, b) in zip(self._signature.outputs, pairs, strict=True):
            if not _agree(spec, a[:cut] if cut else a, b):
                raise ModelFailed(f"a recorded batch of {rows} rows computes another '{spec.name}'")
        track.graphs[rows] = graph

    def _drop_graphs(self, rows: int) -> None:
        for track in self._idle:
            track.graphs.pop(rows, None)
        self._accelerator.relieve()

    def _failed(self, error: Exception) -> HardcaseError:
        """The public error of what was raised; the log gets the rest."""
        if isinstance(error, HardcaseError):
            return error
        _log.error("the model raised: %s", error)
        fault = self._accelerator.fault(error)
        if fault is Fault.MEMORY:
            self._accelerator.relieve()
            return OutOfMemory()
        if fault is Fault.LOST:
            self.healthy = False
        return ModelFailed(MODEL_RAISED)

    def _take(self) -> _Track:
        with self._lock:
            if self._closed:
                raise closed()
            return self._idle.pop()

    def _give(self, track: _Track) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(track)
                return
        self._shut(track)

    def _shut(self, track: _Track) -> None:
        track.graphs.clear()
        track.lane.close()
        with self._lock:
            self._open_lanes -= 1
            last = not self._open_lanes
        if last:
            self._accelerator.close()


def _agree(spec: OutputSpec, a: Array, b: Array) -> bool:
    """Whether two answers to the same sample agree: exactly where they are no floats."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not spec.datatype.is_float:
        return bool(np.array_equal(a, b))
    x, y = as_float64(spec.datatype, a), as_float64(spec.datatype, b)
    scale = float(np.max(np.abs(x), initial=1e-6, where=np.isfinite(x)))
    return bool(np.allclose(x, y, rtol=0.0, atol=_GRAPH_TOLERANCE * scale, equal_nan=True))
