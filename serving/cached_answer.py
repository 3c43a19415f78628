"""Answering from the response cache: what happens to a request whose inputs came before."""

from __future__ import annotations

import asyncio
from time import perf_counter_ns
from typing import TYPE_CHECKING

import numpy as np

from export.contracts.errors import InvalidRequest, ModelFailed
from serving.answer import BatchOutputs
from serving.entry import Entry
from serving.execution import Execution
from serving.runtime.base import Array

if TYPE_CHECKING:
    from serving.response_cache import ResponseCache
    from serving.version import LoadedVersion


def answered_again(loaded: LoadedVersion, cache: ResponseCache, entry: Entry) -> bool:
    """Look a request up. When it is found, its answer goes out on the loop's next turn, and True comes back.

    Otherwise the request's `cache_key` is set, so that its outputs are kept when they are there.
    """
    begun = perf_counter_ns()
    key = cache.key(entry)
    arrays = cache.find(key)
    if arrays is None:
        entry.cache_key = key
        cache.misses += 1
        cache.miss_ns += perf_counter_ns() - begun
        return False
    cache.hits += 1
    cache.hit_ns += perf_counter_ns() - begun
    asyncio.get_running_loop().call_soon(_answer, loaded, entry, arrays)
    return True


def _answer(loaded: LoadedVersion, entry: Entry, arrays: list[Array | None]) -> None:
    rows = entry.plan.rows
    inputs = _inputs(loaded, entry)
    if entry.cancelled:
        loaded.drop([entry], None, inputs=inputs)
        return
    outputs = BatchOutputs(loaded.signature.outputs, arrays, rows, loaded.signature.batched)
    execution = Execution(inputs=inputs, outputs=outputs, begun_ns=perf_counter_ns())
    try:
        headers, body = loaded.rendered(entry, outputs, 0)
    except (InvalidRequest, ModelFailed) as error:
        loaded.drop([entry], error, inputs=inputs, outputs=outputs)
        return
    loaded.hand_over([(entry, headers, body)], [entry], execution, outputs, inputs, rows, 0)


def _inputs(loaded: LoadedVersion, entry: Entry) -> list[Array]:
    """The request's inputs as arrays, for its record."""
    return [
        buffer
        if isinstance(buffer, np.ndarray)
        else np.frombuffer(buffer, dtype=spec.datatype.numpy).reshape(entry.plan.shapes[index])
        for index, (spec, buffer) in enumerate(zip(loaded.signature.inputs, entry.buffers, strict=True))
    ]
