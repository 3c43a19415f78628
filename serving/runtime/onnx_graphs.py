"""ONNX Runtime with CUDA graphs at bucketed batch sizes: fewer launches for small models, one batch at a time.

ONNX Runtime records a graph for each `gpu_graph_id` and replays it on the memory that it was recorded with; it does not
allow runs of such a session to overlap. So this is a choice for models that the launches slow down, and an option.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.contracts.datatypes import Datatype
from export.contracts.signature import InputSpec, OutputSpec, Signature
from serving.runtime.arena import Allocate
from serving.runtime.base import Array, Fact
from serving.runtime.buckets import bucket_of, buckets, sample_inputs
from serving.runtime.devices import Device
from serving.runtime.onnx_bound import CODES, BoundOnnxRuntime
from serving.runtime.staged import GraphOptions

_RUNS_TO_RECORD = 3  # ONNX Runtime runs once to plan its memory, then records, then replays
_NO_GRAPH = -1


@dataclass(frozen=True, slots=True)
class _Bound:
    """One batch size: memory on the device that never moves, and the number of its graph."""

    binding: Any
    inputs: list[Any]
    outputs: list[Any]
    options: Any


class GraphedOnnxRuntime(BoundOnnxRuntime):
    """See `serving.runtime.base.Runtime`.

    Args:
        session: Opened with CUDA graphs enabled.
        signature: Its inputs and outputs.
        device: Where it runs.
        memory: Allocates page-locked memory.
        graphs: The sizes to record.
    """

    def __init__(
        self, session: Any, signature: Signature, device: Device, memory: Allocate, graphs: GraphOptions
    ) -> None:
        super().__init__(session, signature, device, memory, lanes=1)
        self._where = (device.kind, device.index)
        for options in (self._options, self._shrinking):  # of runs at other sizes than the recorded ones
            options.add_run_config_entry("gpu_graph_id", str(_NO_GRAPH))
        self._graphs = graphs
        self._sizes: dict[int, _Bound] = {}
        self._one = threading.Lock()
        tensors: tuple[InputSpec | OutputSpec, ...] = (*signature.inputs, *signature.outputs)
        bits = any(s.datatype in (Datatype.BF16, Datatype.BYTES) for s in tensors)  # numpy cannot name them
        self._recordable = not bits and all(n > 0 for s in tensors for n in s.shape[signature.batched :])

    @property
    def facts(self) -> dict[str, Fact]:
        """What the record log and `doctor` say about it."""
        note = "all sizes" if self._recordable else "none: a shape is open besides the batch, or BF16"
        return {**super().facts, "graphs": ",".join(map(str, sorted(self._sizes))), "graph_note": note}

    def prepare(self) -> None:
        """Record every size. A model that cannot be recorded fails its load."""
        super().prepare()
        if not self._recordable:
            return
        for rows in reversed(buckets(self._graphs.max_rows) if self._signature.batched else [1]):
            sample = sample_inputs(self._signature, rows)
            assert sample is not None  # no shape is open
            bound = self._bind(rows, sample)
            try:
                for _ in range(_RUNS_TO_RECORD):
                    self._session.run_with_iobinding(bound.binding, bound.options)
            except Exception as error:
                raise self._failed(error) from error
            self._sizes[rows] = bound

    def run(self, inputs: Sequence[Array], outputs: Sequence[int]) -> list[Array]:
        """Execute one batch; see `Runtime.run`."""
        batched = self._signature.batched
        rows = len(inputs[0]) if batched and inputs else 1
        bound = self._sizes.get(bucket_of(rows, self._graphs.max_rows) if batched else 1)
        if bound is None or self._session is None or not self.healthy or not self._fits(inputs):
            with self._one:
                return super().run(inputs, outputs)
        try:
            with self._one:
                for value, array in zip(bound.inputs, inputs, strict=True):
                    value.update_inplace(_padded(array, value.shape()[0]) if batched else array)
                self._session.run_with_iobinding(bound.binding, bound.options)
                # Copies: on the CPU `numpy()` may be the very memory that the next run writes.
                answers = [
                    np.array(bound.outputs[i].numpy()[:rows] if batched else bound.outputs[i].numpy()) for i in outputs
                ]
        except Exception as error:
            raise self._failed(error) from error
        return answers

    def close(self) -> None:
        """Drop graphs, session and buffers; see `Runtime.close`."""
        self._sizes.clear()
        super().close()

    def _fits(self, inputs: Sequence[Array]) -> bool:
        batched = self._signature.batched
        return len(inputs) == len(self._dtypes) and all(
            a.dtype == dtype and a.shape[batched:] == spec.shape[batched:]
            for a, dtype, spec in zip(inputs, self._dtypes, self._signature.inputs, strict=True)
        )

    def _bind(self, rows: int, sample: Sequence[Array]) -> _Bound:
        import onnxruntime as ort

        def tensor(shape: tuple[int, ...], datatype: Datatype) -> Any:
            whole = (rows, *shape[1:]) if self._signature.batched else shape
            return ort.OrtValue.ortvalue_from_shape_and_type(list(whole), CODES[datatype], *self._where)

        binding = self._session.io_binding()
        inputs = [tensor(s.shape, s.datatype) for s in self._signature.inputs]
        outputs = [tensor(s.shape, s.datatype) for s in self._signature.outputs]
        for spec, value, array in zip(self._signature.inputs, inputs, sample, strict=True):
            value.update_inplace(array)
            binding.bind_ortvalue_input(spec.name, value)
        for out, value in zip(self._signature.outputs, outputs, strict=True):
            binding.bind_ortvalue_output(out.name, value)
        options = ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(rows))
        return _Bound(binding, inputs, outputs, options)


def _padded(array: Array, rows: int) -> Array:
    """The array with its last row repeated up to `rows`."""
    return array if len(array) == rows else np.concatenate([array, np.repeat(array[-1:], rows - len(array), axis=0)])
