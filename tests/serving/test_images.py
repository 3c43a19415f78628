"""Encoded images through the data plane: answers, refusals of one request only, batches, records, limits."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from export.contracts.datatypes import Datatype
from export.images import decoded_rows, encoded_rows, image_input
from export.package import Package
from monitoring.records.record import CaptureOptions, Outcome
from serving.call import Call
from serving.dataplane import HttpAnswer
from serving.loading import load_version
from serving.options import BatchOptions, ServingOptions
from serving.preprocess import Team
from serving.runtime.loader import load_runtime
from serving.runtime.proof import prove
from tests.support import images as im
from tests.support import wire
from tests.support.planes import Plane, running
from tests.support.records import recorded

FILES = [im.encode(im.picture(20 + i, 30 + 2 * i, seed=i), fmt) for i, fmt in enumerate(["PNG", "JPEG", "WEBP"] * 3)]


def tensor(files: list[bytes], shape: tuple[int, ...] | None = None) -> wire.Tensor:
    array = encoded_rows(files).reshape(shape or (len(files), 1))
    return wire.Tensor(name="image", datatype=Datatype.BYTES, array=array)


async def ask(plane: Plane, files: list[bytes], shape: tuple[int, ...] | None = None, **how: Any) -> HttpAnswer:
    headers, body = wire.request([tensor(files, shape)], **how)
    length = headers.get(wire.HEADER)
    return await plane.data.infer(Call(model="images", header_length=length.encode() if length else None), body)


def pixels(answer: HttpAnswer) -> np.ndarray[Any, Any]:
    assert answer.status == 200, answer.body
    return outputs(answer)["pixels"]


def outputs(answer: HttpAnswer) -> wire.Answer:
    return wire.answer(httpx.Headers(answer.headers), answer.body)


def assert_conserved(plane: Plane, outcomes: dict[Outcome, int]) -> None:
    """Every request is in the log once, with its outcome."""
    found = Counter({outcome: 0 for outcome in outcomes})
    for records in recorded(plane.records):
        found[records.outcome] += len(records.ids)
    assert found == outcomes


def no_payload(records: Any) -> bool:
    try:
        records.input("image")
    except KeyError:
        return True
    return False


def refused(answer: HttpAnswer) -> tuple[int, str]:
    return answer.status, json.loads(answer.body)["error"]


async def test_each_request_gets_what_its_own_images_decode_to(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [im.image_package(tmp_path)], inline=False)
    plane.runtimes["images"].sleep_s = 0.02
    groups = [[FILES[(i + k) % 9] for k in range(1 + i % 3)] for i in range(12)]
    answers = await asyncio.gather(*(ask(plane, g) for g in groups))
    for group, answer in zip(groups, answers, strict=True):
        np.testing.assert_array_equal(pixels(answer), decoded_rows(encoded_rows(group), im.SMALL, "image"))
    assert len(plane.runtimes["images"].batches) < 12, "requests that wait together run together"
    assert max(plane.runtimes["images"].batches) <= 8
    plane.close()


async def test_one_bad_image_fails_its_own_request_and_no_other(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [im.image_package(tmp_path)], inline=False, capture=CaptureOptions())
    plane.runtimes["images"].sleep_s = 0.5
    first = asyncio.create_task(ask(plane, FILES[:1]))  # occupies the thread, so that the others share a batch
    await running(plane.runtimes["images"])
    good, bad, truncated, other = await asyncio.gather(
        ask(plane, FILES[:2]),
        ask(plane, [FILES[0], FILES[1], b"GIF89a" + bytes(20)]),
        ask(plane, [FILES[1][:-30]]),
        ask(plane, FILES[2:4]),
    )
    assert (await first).status == 200
    np.testing.assert_array_equal(pixels(good), decoded_rows(encoded_rows(FILES[:2]), im.SMALL, "image"))
    np.testing.assert_array_equal(pixels(other), decoded_rows(encoded_rows(FILES[2:4]), im.SMALL, "image"))
    assert refused(bad) == (400, "inputs[0] 'image'[2]: not a JPEG, PNG or WebP image")
    assert refused(truncated) == (400, "inputs[0] 'image'[0]: the JPEG image is damaged or truncated")
    assert plane.runtimes["images"].batches == [1, 4], "the refused rows never reached the model"
    plane.close()
    assert_conserved(plane, {Outcome.OK: 3, Outcome.INVALID: 2})


async def test_a_batch_of_bad_images_alone_runs_nothing(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [im.image_package(tmp_path)], inline=False, capture=CaptureOptions())
    assert refused(await ask(plane, [b"no image"])) == (400, "inputs[0] 'image'[0]: not a JPEG, PNG or WebP image")
    assert (await ask(plane, FILES[:1])).status == 200
    assert plane.runtimes["images"].batches == [1]
    plane.close()
    assert_conserved(plane, {Outcome.OK: 1, Outcome.INVALID: 1})


async def test_the_record_holds_the_files_as_they_came_and_refusals_hold_none(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [im.image_package(tmp_path)], inline=False, capture=CaptureOptions())
    await asyncio.gather(ask(plane, FILES[:2], id="good"), ask(plane, [b"x"], id="bad"), ask(plane, FILES[2:3]))
    plane.close()
    by_id = {i: (r, n) for r in recorded(plane.records) for n, i in enumerate(r.ids)}
    records, at = by_id["good"]
    assert records.input("image").get(at).ravel().tolist() == FILES[:2]
    assert records.output("logits").get(at).shape == (2, 10)
    bad, at = by_id["bad"]
    assert bad.error[at] == "inputs[0] 'image'[0]: not a JPEG, PNG or WebP image"
    assert no_payload(bad)
    others = [r.input("image").get(n).ravel().tolist() for i, (r, n) in by_id.items() if i not in ("good", "bad")]
    assert others == [FILES[2:3]], "rows are not shifted by those that were refused"


async def test_a_request_with_more_images_than_a_batch_is_decoded_piece_by_piece(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [im.image_package(tmp_path)], inline=False, capture=CaptureOptions())
    files = [FILES[i % 9] for i in range(21)]
    got = pixels(await ask(plane, files))
    np.testing.assert_array_equal(got, decoded_rows(encoded_rows(files), im.SMALL, "image"))
    assert plane.runtimes["images"].batches == [8, 8, 5]
    files[18] = b"broken"
    assert refused(await ask(plane, files)) == (400, "inputs[0] 'image'[18]: not a JPEG, PNG or WebP image")
    plane.close()
    assert_conserved(plane, {Outcome.OK: 1, Outcome.INVALID: 1})
    (bad,) = [r for r in recorded(plane.records) if r.outcome is Outcome.INVALID]
    assert no_payload(bad)


async def test_what_is_too_late_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plane = Plane(tmp_path, [im.image_package(tmp_path)], inline=False, batch=BatchOptions(decode_threads=2))
    decoded: list[bytes] = []
    real = serving_decode()

    def slow(data: bytes, *rest: Any) -> Any:
        decoded.append(data)
        time.sleep(0.3)
        return real(data, *rest)

    monkeypatch.setattr("serving.preprocess.decode_image", slow)
    answer = await ask(plane, FILES[:8], parameters={"timeout": 500_000})
    assert answer.status == 504
    async with asyncio.timeout(20):
        while not plane.versions["images"].idle:
            await asyncio.sleep(0.01)
    assert 1 <= len(decoded) < 8, "the rest was left when the time limit had passed"
    assert plane.runtimes["images"].batches == []
    plane.close()


def serving_decode() -> Any:
    from serving.preprocess import decode_image

    return decode_image


async def test_json_carries_images_as_base64(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [im.image_package(tmp_path)], inline=False)

    async def post(data: list[str]) -> HttpAnswer:
        head = {"name": "image", "shape": [len(data), 1], "datatype": "BYTES", "data": data}
        return await plane.data.infer(Call(model="images"), json.dumps({"inputs": [head]}).encode())

    for _ in range(2):  # the second time by the remembered plan
        answer = await post([base64.b64encode(f).decode() for f in FILES[:2]])
        np.testing.assert_array_equal(pixels(answer), decoded_rows(encoded_rows(FILES[:2]), im.SMALL, "image"))
    bad = refused(await post([base64.b64encode(FILES[0]).decode(), "?"]))
    assert bad == (400, "inputs[0] 'image'.data[1]: is not Base64, which images are in JSON")
    plane.close()


async def test_the_raw_form_takes_the_file_itself(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [im.image_package(tmp_path)], inline=False)
    answer = await plane.data.infer(Call(model="images", header_length=b"0"), FILES[1])
    np.testing.assert_array_equal(pixels(answer), decoded_rows(encoded_rows(FILES[1:2]), im.SMALL, "image"))
    plane.close()


async def test_a_model_without_a_batch_axis_takes_one_image(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [im.image_package(tmp_path, batched=False)], inline=False)
    got = pixels(await ask(plane, FILES[:1], (1, 1)))
    np.testing.assert_array_equal(got, decoded_rows(encoded_rows(FILES[:1]), im.SMALL, "image"))
    assert refused(await ask(plane, [b"x"], (1, 1)))[0] == 400
    plane.close()


def test_a_version_with_preprocessing_never_runs_on_the_loop(tmp_path: Path) -> None:
    from export.admission_limits import AdmissionLimits
    from export.admission_rules import check_package

    package = im.image_package(tmp_path)

    class Admitted:
        digest = package.digest

    def admit(folder: Path, limits: AdmissionLimits) -> Any:
        check_package(folder, limits)
        return Admitted()

    options = ServingOptions(registry="", records="", batch=BatchOptions(inline_below_us=1e12))
    ready = load_version(package, options, admit)
    assert not ready.inline
    assert ready.proof.golden_rows == 3
    ready.runtime.close()


def damaged(package: Package, change: Any) -> Package:
    """The package with other golden tensors."""
    golden = package.golden()
    assert golden is not None
    change(golden.tensors["image"])

    class Damaged:
        manifest, dir, digest = package.manifest, package.dir, package.digest

        @staticmethod
        def golden() -> Any:
            return golden

    return Damaged()  # type: ignore[return-value]


def test_a_decoder_that_is_not_the_one_of_the_export_is_found_at_load(tmp_path: Path) -> None:
    package = im.image_package(tmp_path)
    options = ServingOptions(registry="", records="")
    runtime = load_runtime(package.dir, package.manifest, options.runtime)
    assert prove(runtime, package, 8, timed=False).golden_rows == 3

    def shift(tensors: Any) -> None:
        tensors[1] += np.float32(2 / 255)

    with pytest.raises(Exception, match="decoded differently from how it was at the export, by 2 levels"):
        prove(runtime, damaged(package, shift), 8, timed=False)
    runtime.close()


@pytest.mark.parametrize(("size", "count"), [(1, 5), (4, 1), (4, 3), (3, 200), (2, 0)])
def test_a_team_does_every_row_once(size: int, count: int) -> None:
    team, done = Team(size), []
    team.run(done.append, count)
    assert sorted(done) == list(range(count))
    team.close()


def test_what_a_worker_raises_reaches_the_caller() -> None:
    team = Team(3)

    def fail(row: int) -> None:
        if row == 4:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        team.run(fail, 9)
    team.close()


async def test_other_inputs_lose_the_refused_rows_as_well(tmp_path: Path) -> None:
    plane = Plane(tmp_path, [im.image_package(tmp_path, extra=True)], inline=False, capture=CaptureOptions())
    plane.runtimes["images"].sleep_s = 0.5

    async def both(files: list[bytes], extra: list[float]) -> HttpAnswer:
        given = wire.Tensor(name="extra", datatype=Datatype.FP32, array=np.array(extra, "<f4")[:, None])
        headers, body = wire.request([given, tensor(files)])
        return await plane.data.infer(Call(model="images", header_length=headers[wire.HEADER].encode()), body)

    first = asyncio.create_task(both(FILES[:1], [0.5]))
    await running(plane.runtimes["images"])
    bad, good = await asyncio.gather(both([FILES[0], b"x"], [1, 2]), both(FILES[1:3], [3, 4]))
    assert refused(bad) == (400, "inputs[1] 'image'[1]: not a JPEG, PNG or WebP image")
    assert outputs(good)["extra_out"].ravel().tolist() == [3, 4]
    assert (await first).status == 200
    plane.close()


async def test_grey_bytes_in_another_layout(tmp_path: Path) -> None:
    decode = image_input(8, colour="GREY", values="raw", datatype="UINT8", layout="HWC")
    package = im.image_package(tmp_path, decode=decode)
    plane = Plane(tmp_path, [package], inline=False)
    got = pixels(await ask(plane, FILES[:3]))
    assert got.shape == (3, 8, 8, 1)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, decoded_rows(encoded_rows(FILES[:3]), decode, "image"))
    plane.close()
