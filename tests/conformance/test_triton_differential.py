"""The same ONNX files behind the real Triton front end and behind ours: same requests, same answers.

Triton is PyTriton's wheel in `.venvs/pytriton` (`python -m benchmarks.peers.setup pytriton`). The table of the last
run is `benchmarks/results/triton_differential.json`; `HARDCASE_WRITE_RESULTS=1` writes it. Where the statuses differ on
purpose, the case stands in `DIFFERS` with the reason.

Two differences of good answers, allowed for below. Triton lists outputs in the model's order, we in the order in which
they were named: clients look them up by name. Triton ignores `binary_data_output` as soon as outputs are named; the
extension's text makes it the default of every output, and so do we.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import httpx
import numpy as np
import pytest

from deploy.processes import free_ports
from export.contracts.datatypes import Datatype
from tests.conformance.conftest import Models
from tests.support import wire
from tests.support.packages import random_tensor
from tests.support.server import ROOT, Server, infer_path
from tests.support.wire import Tensor

PYTHON = ROOT / ".venvs" / "pytriton" / "bin" / "python"
RESULT = ROOT / "benchmarks" / "results" / "triton_differential.json"
NAMES = ("digits", "multi", "dtypes", "echo", "varlen")

TRANSPORTS = ["fast"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not PYTHON.exists(),
        reason="no .venvs/pytriton (python -m benchmarks.peers.setup pytriton); "
        "the last run's table is benchmarks/results/triton_differential.json",
    ),
]


@pytest.fixture(scope="module")
def triton(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("triton")
    listed = []
    for name in NAMES:
        package = models.packages[name, "1"]
        signature = package.manifest.signature
        listed.append(
            {
                "name": name,
                "path": str(package.dir / "model.onnx"),
                "inputs": [[s.name, str(s.datatype.numpy), s.shape[1:]] for s in signature.inputs],
                "outputs": [[s.name, str(s.datatype.numpy), s.shape[1:]] for s in signature.outputs],
            }
        )
    (folder / "models.json").write_text(json.dumps(listed))
    port, grpc_port = free_ports(2)
    command = [str(PYTHON), str(ROOT / "tests" / "support" / "triton_server.py"), "--port", str(port)]
    command += ["--grpc-port", str(grpc_port), str(folder / "models.json")]
    environment = {
        "PATH": f"{PYTHON.parent}:/usr/bin:/bin",
        "HOME": str(folder),
        "PYTRITON_HOME": str(folder / "home"),
        "TMPDIR": str(folder),
    }
    log = (folder / "log.txt").open("wb")
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, headers={"Accept-Encoding": ""}) as client:
            deadline = time.monotonic() + 120
            while not all(_ready(client, name) for name in NAMES):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError((folder / "log.txt").read_text()[-3000:])
                time.sleep(0.3)
            yield client
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def _ready(client: httpx.Client, name: str) -> bool:
    try:
        return client.get(f"/v2/models/{name}/ready").status_code == 200
    except httpx.TransportError:
        return False


@dataclass(frozen=True, kw_only=True)
class Case:
    """One request that both get."""

    name: str
    model: str
    headers: dict[str, str]
    body: bytes


def good_cases() -> list[Case]:
    rng = np.random.default_rng(11)
    x = Tensor(name="x", datatype=Datatype.FP32, array=rng.random((5, 1, 8, 8), dtype=np.float32))
    v = Tensor(name="x", datatype=Datatype.FP32, array=rng.random((3, 9), dtype=np.float32))
    a = Tensor(name="a", datatype=Datatype.FP32, array=rng.random((2, 3), dtype=np.float32))
    b = Tensor(name="b", datatype=Datatype.INT64, array=rng.integers(-99, 99, (2, 2, 2)))
    words = np.array([["grüße ☃".encode()], [b""], [b'a\\"b']], dtype=object)
    text = Tensor(name="text", datatype=Datatype.BYTES, array=words)
    every = []
    for d in Datatype:
        if d is not Datatype.BF16:
            array = random_tensor(d, (3, 2), seed=2)
            if d is Datatype.BYTES:
                array = np.array([[b"x", b"yy"], [b"", b"z"], ["é".encode(), b"w"]], dtype=object)
            every.append(Tensor(name=f"in_{d}", datatype=d, array=array))

    def named(*names: str, binary: bool = False) -> list[dict[str, Any]]:
        return [{"name": n, "parameters": {"binary_data": binary}} for n in names]

    cases: list[tuple[str, str, tuple[dict[str, str], bytes]]] = []
    for binary in (True, False):
        for out in (True, False):
            form = f"{'binary' if binary else 'JSON'} in, {'binary' if out else 'JSON'} out"
            how: dict[str, Any] = {"binary": binary, "parameters": {"binary_data_output": out}}
            cases += [
                (f"digits, {form}", "digits", wire.request([x], outputs=named("logits", binary=out), binary=binary)),
                (
                    f"both outputs, {form}",
                    "digits",
                    wire.request([x], outputs=named("embedding", "logits", binary=out), binary=binary),
                ),
                (f"two inputs, {form}", "multi", wire.request([a, b], **how)),
                (f"two inputs in the other order, {form}", "multi", wire.request([b, a], **how)),
                (f"strings, {form}", "echo", wire.request([text], **how)),
                (f"variable length, {form}", "varlen", wire.request([v], **how)),
            ]
        how = {"binary": binary, "parameters": {"binary_data_output": True}}
        without = [t for t in every if binary or t.datatype is not Datatype.FP16]
        if without == every:
            cases.append((f"every datatype, {form}", "dtypes", wire.request(every, **how)))
    cases += [
        ("nested JSON", "digits", wire.request([x], binary=False, flat=False, outputs=named("logits"))),
        ("mixed inputs", "multi", wire.request([a, b], binary=["b"])),
        ("an id", "digits", wire.request([x], outputs=named("logits"), id="seven")),
        (
            "one output binary",
            "digits",
            wire.request([x], outputs=[{"name": "logits", "parameters": {"binary_data": True}}]),
        ),
    ]
    return [Case(name=n, model=m, headers=h, body=body) for n, m, (h, body) in cases]


def bad_cases() -> list[Case]:
    item: dict[str, Any] = {"name": "x", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": [0.5] * 64}

    def plain(case: str, *, model: str = "digits", **changes: Any) -> Case:
        changed = {k: v for k, v in (item | changes).items() if v is not ...}
        return Case(name=case, model=model, headers={}, body=json.dumps({"inputs": [changed]}).encode())

    def binary(name: str, size: Any, tail: int, header: str | None = None) -> Case:
        body = json.dumps({"inputs": [{**item, "data": None, "parameters": {"binary_data_size": size}}]}).encode()
        body = body.replace(b'"data": null, ', b"")
        return Case(name=name, model="digits", headers={wire.HEADER: header or str(len(body))}, body=body + bytes(tail))

    return [
        plain("unknown model", model="nowhere"),
        plain("unknown input", name="y"),
        plain("wrong datatype", datatype="FP64"),
        plain("unknown datatype", datatype="FLOAT"),
        plain("wrong rank", shape=[1, 64]),
        plain("wrong fixed dimension", shape=[1, 1, 8, 9]),
        plain("negative dimension", shape=[-1, 1, 8, 8]),
        plain("too few elements", data=[0.5] * 63),
        plain("too many elements", data=[0.5] * 65),
        plain("string elements", data=["a"] * 64),
        plain("no data", data=...),
        plain("no shape", shape=...),
        plain("no datatype", datatype=...),
        plain("more rows than the largest batch", shape=[65, 1, 8, 8], data=[0.5] * 64 * 65),
        Case(name="no JSON", model="digits", headers={}, body=b"{"),
        Case(name="no body", model="digits", headers={}, body=b""),
        Case(name="no inputs", model="digits", headers={}, body=b'{"inputs":[]}'),
        Case(
            name="one input of two",
            model="multi",
            headers={},
            body=b'{"inputs":[{"name":"a","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}',
        ),
        Case(
            name="unknown output",
            model="digits",
            headers={},
            body=json.dumps({"inputs": [item], "outputs": [{"name": "z"}]}).encode(),
        ),
        Case(name="input twice", model="digits", headers={}, body=json.dumps({"inputs": [item, item]}).encode()),
        binary("binary size too small", 252, 252),
        binary("binary size too large", 260, 260),
        binary("bytes missing", 256, 200),
        binary("bytes left over", 256, 300),
        binary("header length past the end", 256, 256, "99999"),
        binary("header length no number", 256, 256, "abc"),
        binary("header length negative", 256, 256, "-1"),
    ]


# Where we answer otherwise than Triton does, and why.
_CLIENT = "Triton answers 500 to what its JSON reader cannot take in; the request is at fault, so we answer 400"
DIFFERS: dict[str, str] = {
    "wrong fixed dimension": _CLIENT,
    "negative dimension": _CLIENT,
    "too few elements": _CLIENT,
    "too many elements": _CLIENT,
    "string elements": _CLIENT,
    "no shape": _CLIENT,
    "no datatype": _CLIENT,
    "no JSON": _CLIENT,
    "more rows than the largest batch": "we run a larger request in pieces, up to limits.rows",
}


@pytest.mark.parametrize("case", good_cases(), ids=lambda case: case.name)
def test_good_requests_get_the_same_answers(server: Server, triton: httpx.Client, case: Case) -> None:
    ours = server.client.post(infer_path(case.model), content=case.body, headers=case.headers)
    theirs = triton.post(infer_path(case.model), content=case.body, headers=case.headers)
    assert (ours.status_code, theirs.status_code) == (200, 200), (ours.text, theirs.text)
    assert (wire.HEADER in ours.headers) == (wire.HEADER in theirs.headers)
    mine, other = decode(ours), decode(theirs)
    assert mine.model == other.model
    assert sorted(mine.tensors) == sorted(other.tensors)
    assert mine.id == other.id or not other.id  # Triton leaves out an id that it was not given
    for name, tensor in mine.tensors.items():
        reference = other.tensors[name]
        assert tensor.datatype is reference.datatype
        if tensor.array.ndim == 1:  # PyTriton needs at least one dimension behind the batch
            reference = replace(reference, array=reference.array.reshape(-1))
        assert tensor.array.shape == reference.array.shape
        if tensor.datatype.is_float:
            np.testing.assert_allclose(tensor.array, reference.array, rtol=1e-5, atol=1e-5)
        else:
            np.testing.assert_array_equal(tensor.array, reference.array)


def decode(response: httpx.Response) -> wire.Answer:
    length = int(response.headers.get(wire.HEADER, len(response.content)))
    plain = json.loads(response.content[:length])
    plain.setdefault("id", "")
    text = json.dumps(plain).encode()
    headers = {wire.HEADER: str(len(text))} if wire.HEADER in response.headers else {}
    return wire.answer(headers, text + response.content[length:])


def test_bad_requests_get_the_same_statuses_or_a_stated_reason(server: Server, triton: httpx.Client) -> None:
    rows = []
    for case in bad_cases():
        ours = server.client.post(infer_path(case.model), content=case.body, headers=case.headers)
        theirs = triton.post(infer_path(case.model), content=case.body, headers=case.headers)
        row = {
            "case": case.name,
            "ours": ours.status_code,
            "triton": theirs.status_code,
            "text": ours.json()["error"] if ours.status_code != 200 else "",
        }
        try:
            row["triton_text"] = theirs.json()["error"] if theirs.status_code != 200 else ""
        except ValueError:
            row["triton_text"] = theirs.text[:80]
        if ours.status_code != theirs.status_code:
            row["reason"] = DIFFERS.get(case.name, "")
        rows.append(row)
    if os.environ.get("HARDCASE_WRITE_RESULTS"):
        version = triton.get("/v2").json()["version"]
        good = [case.name for case in good_cases()]
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        RESULT.write_text(json.dumps({"triton": version, "same_answers": good, "bad_requests": rows}, indent=1) + "\n")
    unexplained = [row for row in rows if row["ours"] != row["triton"] and not row.get("reason")]
    assert not unexplained, json.dumps(unexplained, indent=1)
    assert set(DIFFERS) == {row["case"] for row in rows if row["ours"] != row["triton"]}


@pytest.mark.parametrize("path", ["/v2/models/{}", "/v2/models/{}/stats", "/v2/models/{}/ready", "/v2/health/live"])
def test_other_routes_have_the_same_fields(server: Server, triton: httpx.Client, path: str) -> None:
    for name in NAMES:
        ours, theirs = server.client.get(path.format(name)), triton.get(path.format(name))
        if theirs.status_code == 403:
            continue  # PyTriton switches some routes off
        assert ours.status_code == theirs.status_code == 200
        if theirs.content and "json" in theirs.headers.get("content-type", ""):
            assert set(ours.json()) >= set(theirs.json()) - {"parameters"}
            if "model_stats" in theirs.json():
                mine, other = ours.json()["model_stats"][0], theirs.json()["model_stats"][0]
                assert set(mine) >= set(other) - {"response_stats", "memory_usage"}
                assert set(mine["inference_stats"]) >= set(other["inference_stats"])
