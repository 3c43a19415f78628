"""Encoded images in the monitor: drift of how they look, pictures drawn anew, nothing of the file in a browser."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from export.contracts.arrays import encode_bytes
from export.contracts.datatypes import Datatype
from export.contracts.manifest import Task, TaskKind
from export.contracts.signature import InputSpec, OutputRole
from export.from_onnx import import_onnx
from export.images import encoded_rows, image_input
from export.package import Package
from monitoring.api.app import build_console
from monitoring.api.options import ConsoleOptions
from monitoring.cycle import make_loop
from monitoring.images import is_picture, tensor_png
from monitoring.records.record import CaptureOptions
from monitoring.reports import ReportOptions, ReportService
from monitoring.store import Store
from serving.call import Call
from tests.support import images as im
from tests.support import monitor_world as w
from tests.support import packages as p
from tests.support import wire
from tests.support.console_server import client as connected
from tests.support.console_store import StillMonitor
from tests.support.monitor_child import drain
from tests.support.planes import Plane

DECODE = image_input(8, colour="GREY")
SECRET = b"<script>alert(1)</script>"


def photo(seed: int, *, dark: bool = False) -> bytes:
    """A picture of the training kind, or one that was taken in the dark by another camera, with something hidden."""
    pixels = im.picture(48, 64, seed)
    if dark:
        return im.encode(pixels // 6, "JPEG", comment=SECRET, orientation=6)
    return im.encode(pixels, ("PNG", "JPEG", "WEBP")[seed % 3])


@dataclass(frozen=True)
class World:
    client: httpx.Client
    store: Store
    package: Package

    def get(self, path: str, **query: Any) -> Any:
        response = self.client.get(path, params=query)
        assert response.status_code == 200, response.text
        return response.json()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("images")
    model = folder / "model.onnx"
    model.write_bytes(p.digits_like_model().SerializeToString())
    package = import_onnx(
        model,
        name="photos",
        version="1",
        task=Task(kind=TaskKind.CLASSIFICATION, class_names=w.NAMES),
        out_dir=folder / "package",
        output_roles={"logits": OutputRole.LOGITS},
        preprocess={"x": DECODE},
        reference_inputs=[photo(i) for i in range(80)],
        reference_labels=[i % 10 for i in range(80)],
    )
    plane = Plane(folder, [package], inline=False, capture=CaptureOptions())

    async def send() -> None:
        for i in range(120):
            rows = encoded_rows([photo(100 + i, dark=True)])
            headers, body = wire.request([wire.Tensor(name="x", datatype=Datatype.BYTES, array=rows)])
            call = Call(model="photos", header_length=headers[wire.HEADER].encode())
            answer = await plane.data.infer(call, body)
            assert answer.status == 200, answer.body
        headers, body = wire.request([wire.Tensor(name="x", datatype=Datatype.BYTES, array=encoded_rows([SECRET]))])
        assert (
            await plane.data.infer(Call(model="photos", header_length=headers[wire.HEADER].encode()), body)
        ).status == 400

    asyncio.run(send())
    plane.close()
    reference = package.reference_dir()
    assert reference is not None
    catalogue = w.MemoryCatalogue((package.manifest,), {"1": reference})
    options = w.options(folder)
    store = Store(options.database_url)
    drain(make_loop(options, store, catalogue))
    reports = ReportService(ReportOptions(folder=folder / "reports"), lambda request, most: ())
    app = build_console(store, catalogue, StillMonitor(), lambda: [], ConsoleOptions(), reports=reports)
    with connected(app) as client:
        yield World(client, store, package)
    reports.close()
    store.close()


def test_drift_is_seen_in_how_images_look(world: World) -> None:
    signals = {(s["subject"], s["method"]): s for s in world.get("/api/models/photos/drift")["signals"]}
    subjects = {subject for subject, _ in signals}
    assert {"x:mean", "x:sharpness", "x:aspect", "x:pixels", "x:length"} <= subjects

    def exceeded(subject: str) -> bool:
        return any(s["exceeded"] for (name, _), s in signals.items() if name == subject)

    assert exceeded("x:mean"), "they are dark"
    assert not exceeded("x:aspect"), "turned by EXIF is not another shape"
    assert not exceeded("x:pixels")


def test_every_record_was_taken_and_the_refused_one_has_no_payload(world: World) -> None:
    accounting = world.get("/api/accounting")
    assert (accounting["balanced"], accounting["requests"], accounting["dead_letters"]) == (True, 121, {})


def test_a_case_is_drawn_upright_and_anew(world: World) -> None:
    cases = world.get("/api/cases", model="photos")["cases"]
    assert cases
    case = next(c for c in cases if c["picture"])
    png = world.client.get(case["picture"], params={"side": 32})
    assert png.headers["content-type"] == "image/png"
    assert png.headers["x-content-type-options"] == "nosniff"
    drawn = Image.open(io.BytesIO(png.content))
    assert drawn.size == (32, 24), "upright, and shrunk to the side that was asked for"
    assert SECRET not in png.content
    raw = world.client.get(case["input"])
    assert SECRET in raw.content, "the control: the file holds it"
    assert raw.headers["content-disposition"].startswith("attachment")
    assert raw.headers["content-type"] == "application/octet-stream"
    assert "sandbox" in raw.headers["content-security-policy"]
    page = world.client.get(f"/cases/{case['id']}")
    assert page.status_code == 200
    assert "input.png" in page.text


SPEC = InputSpec(name="x", datatype=Datatype.BYTES, shape=(-1, 1), preprocess=DECODE)


def test_each_row_of_a_recorded_request_is_drawn() -> None:
    pictures = [im.picture(30, 20, seed=i) for i in range(3)]
    data = encode_bytes(encoded_rows([im.encode(x) for x in pictures]))
    assert is_picture(SPEC)
    for row, pixels in enumerate(pictures):
        png = tensor_png(data, Datatype.BYTES, (3, 1), row, SPEC, 30)
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), pixels)
    grey = encode_bytes(encoded_rows([im.encode(pictures[0][..., 0])]))
    assert Image.open(io.BytesIO(tensor_png(grey, Datatype.BYTES, (1, 1), 0, SPEC, 100))).size == (80, 120)


@pytest.mark.parametrize(
    ("data", "datatype", "shape", "row"),
    [
        (encode_bytes(encoded_rows([im.png_of(50_000, 50_000)])), Datatype.BYTES, (1, 1), 0),
        (encode_bytes(encoded_rows([b"no image"])), Datatype.BYTES, (1, 1), 0),
        (encode_bytes(encoded_rows([im.encode(im.picture())])), Datatype.BYTES, (1, 1), 1),
        (encode_bytes(encoded_rows([im.encode(im.picture())]))[:-9], Datatype.BYTES, (1, 1), 0),
        (b"", Datatype.BYTES, (1, 1), 0),
        (bytes(64), Datatype.UINT8, (1, 64), 0),
    ],
    ids=["bomb", "no image", "row", "cut", "empty", "datatype"],
)
def test_what_cannot_be_drawn_is_refused(data: bytes, datatype: Datatype, shape: tuple[int, ...], row: int) -> None:
    with pytest.raises((ValueError, IndexError)):
        tensor_png(data, datatype, shape, row, SPEC, 64)
