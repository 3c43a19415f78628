"""Encoded images over every transport: raw, binary, JSON, both tritonclients; refusals that name the place."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

from export.contracts.datatypes import Datatype
from export.images import decoded_rows, encoded_rows
from tests.support import images as im
from tests.support import wire
from tests.support.server import Server, infer_path

FILES = [im.encode(im.picture(30 + i, 50, seed=i), ("PNG", "JPEG", "WEBP")[i % 3], orientation=1 + i) for i in range(7)]
TRUTH = decoded_rows(encoded_rows(FILES), im.SMALL, "image")
PATH = infer_path("images")


def tensor(files: list[bytes]) -> wire.Tensor:
    return wire.Tensor(name="image", datatype=Datatype.BYTES, array=encoded_rows(files))


def test_metadata_shows_the_wire_and_config_the_declaration(server: Server) -> None:
    (given,) = server.get("/v2/models/images")["inputs"]
    assert given == {"name": "image", "datatype": "BYTES", "shape": [-1, 1]}
    declared = json.loads(server.get("/v2/models/images/config")["parameters"]["hardcase_preprocess"]["string_value"])
    assert declared["image"]["size"] == [16, 16]


@pytest.mark.parametrize("rows", [1, 3, 7, 20])
def test_files_of_all_formats_and_orientations_in_one_request(server: Server, rows: int) -> None:
    files = [FILES[i % 7] for i in range(rows)]
    answer = server.infer("images", [tensor(files)])
    np.testing.assert_array_equal(answer["pixels"], TRUTH[np.arange(rows) % 7])


def test_the_file_itself_is_a_request(server: Server) -> None:
    for content_type in ("image/jpeg", "application/octet-stream", "application/x-www-form-urlencoded"):
        headers = {wire.HEADER: "0", "Content-Type": content_type}
        response = server.client.post(PATH, content=FILES[1], headers=headers)
        assert response.status_code == 200, response.text
        np.testing.assert_array_equal(wire.answer(response.headers, response.content)["pixels"][0], TRUTH[1])


def test_base64_in_json(server: Server) -> None:
    data = [base64.b64encode(f).decode() for f in FILES]
    body = {"inputs": [{"name": "image", "shape": [7, 1], "datatype": "BYTES", "data": data}]}
    answer = server.client.post(PATH, json=body).json()
    pixels = next(o for o in answer["outputs"] if o["name"] == "pixels")
    np.testing.assert_allclose(np.reshape(pixels["data"], TRUTH.shape), TRUTH, rtol=1e-6)


def test_both_tritonclients(server: Server) -> None:
    rows = encoded_rows(FILES)
    for module, address in ((triton_http, server.netloc), (triton_grpc, server.grpc_netloc)):
        if address.endswith(":0"):
            continue
        given = module.InferInput("image", list(rows.shape), "BYTES")
        given.set_data_from_numpy(rows)
        client = module.InferenceServerClient(address)
        np.testing.assert_array_equal(client.infer("images", [given]).as_numpy("pixels"), TRUTH)
        client.close()


def test_bad_images_are_refused_with_their_place_and_good_ones_beside_them_are_answered(server: Server) -> None:
    bad: dict[bytes, str] = {
        b"": "empty",
        b"GIF89a" + bytes(40): "not a JPEG, PNG or WebP image",
        FILES[1][:-40]: "the JPEG image is damaged or truncated",
        im.png_of(50_000, 50_000): "2500000000 pixels, the limit is 25000000",
    }

    def send(i: int) -> Any:
        if i % 2:
            return server.infer("images", [tensor(FILES[:2])])["pixels"]
        data = list(bad)[i // 2 % len(bad)]
        return data, server.refused("images", *wire.request([tensor([FILES[0], data])]))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(40)))
    for answer in answers[1::2]:
        np.testing.assert_array_equal(answer, TRUTH[:2])
    for data, (status, text) in answers[::2]:
        assert status == 400
        assert text.startswith("inputs[0] 'image'[1]: ")
        assert bad[data] in text


def test_a_client_that_declares_another_datatype_is_told(server: Server) -> None:
    plain = wire.Tensor(name="image", datatype=Datatype.FP32, array=np.zeros((1, 1), np.float32))
    assert server.refused("images", *wire.request([plain])) == (
        400,
        "inputs[0] 'image': datatype is FP32, the model takes BYTES",
    )
