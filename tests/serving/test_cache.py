"""The response cache: equal answers from less work, never another's answer, bounded, and accounted for."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.records.record import CaptureOptions, Outcome
from serving.call import Call
from serving.dataplane import HttpAnswer
from serving.options import CacheOptions
from serving.response_cache import ResponseCache, cache_for
from tests.support.packages import digits_like_package, echo_package
from tests.support.planes import Plane
from tests.support.records import recorded

LARGE = CacheOptions(bytes=1 << 20)
rng = np.random.default_rng(5)


def images(rows: int = 1) -> np.ndarray[Any, Any]:
    return rng.random((rows, 1, 8, 8), dtype=np.float32)


async def ask(
    plane: Plane, x: np.ndarray[Any, Any], *, outputs: list[dict[str, Any]] | None = None, **head: Any
) -> HttpAnswer:
    tensor = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "parameters": {"binary_data_size": x.nbytes}}
    text = json.dumps({"inputs": [tensor], **({"outputs": outputs} if outputs else {}), **head}).encode()
    call = Call(model="digits", header_length=str(len(text)).encode())
    return await plane.data.infer(call, text + x.tobytes())


def logits(answer: HttpAnswer) -> list[float]:
    assert answer.status == 200, answer.body
    return next(o["data"] for o in json.loads(answer.body)["outputs"] if o["name"] == "logits")  # type: ignore[no-any-return]


async def test_the_same_input_is_computed_once_and_answered_the_same_with_its_own_id(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [digits_like_package(tmp_path)], cache=LARGE)
    x, other = images(2), images(2)
    first, second = await ask(plane, x, id="one"), await ask(plane, x, id="two")
    third = await ask(plane, other)
    assert logits(first) == logits(second) != logits(third)
    assert [json.loads(a.body)["id"] for a in (first, second)] == ["one", "two"]
    assert plane.runtimes["digits"].batches == [2, 2], "the second request did not reach the model"
    cache = plane.versions["digits"].cache
    assert cache is not None
    assert (cache.hits, cache.misses, len(cache)) == (1, 2, 2)
    plane.close()


async def test_an_answer_in_another_form_comes_from_the_same_entry(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [digits_like_package(tmp_path)], cache=LARGE)
    x = images()
    plain = logits(await ask(plane, x))
    text = json.dumps(
        {"inputs": [{"name": "x", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": x.reshape(-1).tolist()}]}
    )
    as_json = await plane.data.infer(Call(model="digits"), text.encode())
    assert logits(as_json) == plain
    classes = await ask(plane, x, outputs=[{"name": "logits", "parameters": {"classification": 1}}])
    best = json.loads(classes.body)["outputs"][0]["data"][0]
    assert best.split(":")[1] == str(int(np.argmax(plain)))
    assert plane.runtimes["digits"].batches == [1], "both came from memory"
    plane.close()


async def test_every_cached_answer_is_counted_and_recorded_like_any_other(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [digits_like_package(tmp_path)], cache=LARGE, capture=CaptureOptions())
    x = images()
    for _ in range(3):
        await ask(plane, x)
    stats = plane.versions["digits"].stats
    assert stats.success_count == 3
    assert stats.execution_count == 1
    plane.close()
    found = recorded(plane.records)
    assert sum(len(records) for records in found) == 3
    for records in found:
        assert records.outcome is Outcome.OK
        for place in range(len(records)):
            np.testing.assert_array_equal(records.input("x").get(place), x)


async def test_a_cache_that_is_off_or_for_another_model_is_not_there(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [digits_like_package(tmp_path)])
    assert plane.versions["digits"].cache is None
    x = images()
    await ask(plane, x), await ask(plane, x)
    assert plane.runtimes["digits"].batches == [1, 1]
    plane.close()
    assert cache_for(CacheOptions(bytes=10, models=("other",)), "digits") is None


async def test_bytes_inputs_are_told_apart_by_their_lengths(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [echo_package(tmp_path)], cache=LARGE)

    async def echo(words: list[str]) -> Any:
        text = json.dumps({"inputs": [{"name": "text", "shape": [len(words), 1], "datatype": "BYTES", "data": words}]})
        answer = await plane.data.infer(Call(model="echo"), text.encode())
        assert answer.status == 200, answer.body
        return json.loads(answer.body)["outputs"][0]["data"]

    for words in (["ab", "c"], ["a", "bc"], ["ab", "c"]):
        assert await echo(words) == words
    cache = plane.versions["echo"].cache
    assert cache is not None
    assert cache.hits == 1
    plane.close()


async def test_many_requests_at_once_get_their_own_answers(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [digits_like_package(tmp_path)], cache=LARGE)
    known = [images() for _ in range(8)]
    expected = [logits(await ask(plane, x)) for x in known]
    order = [int(i) for i in rng.integers(0, 8, 200)]
    answers = await asyncio.gather(*(ask(plane, known[i]) for i in order))
    assert [logits(a) for a in answers] == [expected[i] for i in order]
    plane.close()


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 300)), max_size=60), st.integers(500, 4000))
def test_it_stays_within_its_bytes_and_keeps_the_most_recent(steps: list[tuple[int, int]], limit: int) -> None:
    cache, used = ResponseCache(limit), []
    for name, size in steps:
        key = name.to_bytes(2, "little")
        array = np.full(size, name, np.uint8)
        cache.put(key, [array, None])
        if size + 400 <= limit:
            used = [k for k in used if k != key] + [key]
            array[:] = 99  # the cache holds its own copy
            found = cache.find(key)
            assert found is not None
            assert found[0] is not None
            assert (found[0] == name).all()
            assert found[1] is None
        assert cache.nbytes <= limit
        held = [k for k in used if cache.find(k) is not None]
        for k in used:  # find() refreshes: restore the order of use
            cache.find(k)
        assert held == used[len(used) - len(held) :], "the least recently used went first"


@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (6,)])
def test_keys_depend_on_shape_and_content(shape: tuple[int, ...]) -> None:
    class Plan:
        def __init__(self, shape: tuple[int, ...]) -> None:
            self.shapes = (shape,)
            self.answer = type("A", (), {"extra": ()})

    class Asked:
        def __init__(self, shape: tuple[int, ...], content: bytes) -> None:
            self.plan, self.buffers = Plan(shape), (memoryview(content),)

    cache = ResponseCache(100)
    content = rng.bytes(24)
    base = cache.key(Asked(shape, content))  # type: ignore[arg-type]
    assert base == cache.key(Asked(shape, content))  # type: ignore[arg-type]
    assert base != cache.key(Asked((1, *shape), content))  # type: ignore[arg-type]
    assert base != cache.key(Asked(shape, bytes([content[0] ^ 1]) + content[1:]))  # type: ignore[arg-type]
    assert base != ResponseCache(100).key(Asked(shape, content))  # type: ignore[arg-type]  # salted by process
