"""Softmax and classes: against scipy and torch, in every float type, at the edges; records keep the raw scores."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import scipy.special
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from export.contracts.datatypes import Datatype
from export.contracts.signature import OutputSpec
from monitoring.records.record import CaptureOptions
from serving.call import Call
from serving.postprocess import classify, softmax
from tests.support import wire
from tests.support.packages import digits_like_package
from tests.support.planes import Plane, running
from tests.support.records import recorded

SPEC = OutputSpec(name="y", datatype=Datatype.FP32, shape=(-1, 5))
TOLERANCE = {np.dtype(np.float16): 1e-3, np.dtype(np.float32): 1e-6, np.dtype(np.float64): 1e-14}


@settings(max_examples=200, deadline=None)
@given(
    scores=st.sampled_from(sorted(TOLERANCE, key=str)).flatmap(
        lambda kind: arrays.arrays(
            kind,
            st.tuples(st.integers(0, 4), st.integers(1, 7)),
            elements=st.floats(-60000, 60000, width=16, allow_nan=False),
        )
    )
)
def test_it_is_scipys_softmax(scores: np.ndarray[Any, Any]) -> None:
    got = softmax(scores, SPEC)
    assert (got.dtype, got.shape) == (scores.dtype, scores.shape)
    if scores.size:
        truth = scipy.special.softmax(scores.astype(np.float64), axis=1)
        np.testing.assert_allclose(got, truth, rtol=0, atol=TOLERANCE[scores.dtype])


def test_infinite_scores_are_answered_as_torch_answers_them() -> None:
    scores = np.array([[np.inf, 0], [-np.inf, 0], [-np.inf, -np.inf], [np.nan, 1], [3e38, -3e38]], np.float32)
    got = softmax(scores, OutputSpec(name="y", datatype=Datatype.FP32, shape=(-1, 2)))
    np.testing.assert_array_equal(got, torch.softmax(torch.from_numpy(scores), dim=1).numpy())


def test_the_axis_that_is_named_class_is_taken() -> None:
    scores = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    spec = OutputSpec(
        name="mask", datatype=Datatype.FP32, shape=(-1, 3, -1, -1), axes=("batch", "class", "height", "width")
    )
    np.testing.assert_allclose(softmax(scores, spec), scipy.special.softmax(scores, axis=1), rtol=1e-6)


def test_the_order_of_classes_is_that_of_the_scores() -> None:
    scores = np.random.default_rng(1).normal(size=(6, 9)).astype(np.float32)
    raw, soft = (classify(a, 9, (), True) for a in (scores, softmax(scores, SPEC)))
    order = [[text.split(b":")[1] for text in row] for row in raw]
    assert order == [[text.split(b":")[1] for text in row] for row in soft]
    np.testing.assert_allclose([sum(float(t.split(b":")[0]) for t in row) for row in soft], 1.0, atol=1e-5)


@pytest.mark.parametrize("binary", [True, False])
async def test_requests_of_one_batch_get_what_each_asked_for_and_records_keep_the_scores(
    tmp_path: Path, binary: bool
) -> None:
    plane = Plane(tmp_path, [digits_like_package(tmp_path)], inline=False, capture=CaptureOptions())
    plane.runtimes["digits"].sleep_s = 0.5
    x = np.random.default_rng(2).random((6, 1, 8, 8), dtype=np.float32)

    async def ask(rows: slice, **asked: Any) -> np.ndarray[Any, Any]:
        tensor = wire.Tensor(name="x", datatype=Datatype.FP32, array=x[rows])
        wanted = [{"name": "logits", "parameters": asked | {"binary_data": binary}}]
        headers, body = wire.request([tensor], outputs=wanted)
        call = Call(model="digits", header_length=headers[wire.HEADER].encode())
        answer = await plane.data.infer(call, body)
        assert answer.status == 200, answer.body
        return wire.answer(httpx.Headers(answer.headers), answer.body)["logits"]

    first = asyncio.create_task(ask(slice(0, 1)))  # occupies the thread, so that the others share a batch
    await running(plane.runtimes["digits"])
    raw, soft, again, best = await asyncio.gather(
        ask(slice(0, 2)),
        ask(slice(2, 4), softmax=True),
        ask(slice(2, 4), softmax=False),
        ask(slice(4, 6), softmax=True, classification=2),
    )
    await first
    scores = plane.runtimes["digits"].inner.run([x], (0,))[0]
    assert plane.runtimes["digits"].batches == [1, 8]
    np.testing.assert_allclose(raw, scores[:2], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(again, scores[2:4], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(soft, scipy.special.softmax(scores[2:4], axis=1), rtol=1e-4, atol=1e-6)
    assert [t.split(b":")[1] for t in best[:, 0]] == [b"%d" % i for i in scores[4:6].argmax(axis=1)]
    plane.close()
    kept = np.concatenate([r.output("logits").get(n) for r in recorded(plane.records) for n in range(len(r.ids))])
    assert kept.shape == (9, 10)
    assert not np.allclose(kept.sum(axis=1), 1.0), "records hold what the model said"
