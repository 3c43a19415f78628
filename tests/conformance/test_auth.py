"""S03: without a credential everything but the two probes answers 401, however the path is written; in both lanes."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator

import pytest
from starlette.routing import Route

from export.registry import Registry
from serving.app import build_app
from serving.app_boundary import OPEN_PATHS
from serving.auth import hash_token
from serving.options import ApiKey, AuthOptions, Limits, ServingOptions
from serving.replica import Replica
from tests.conformance.conftest import LANES, Models, leaks
from tests.support import wire
from tests.support.http_raw import RawConnection, head
from tests.support.server import Server, infer_path, standalone
from tests.support.wire import Tensor

TOKEN = "s3cret-token"
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "PROPFIND")


@pytest.fixture(scope="module", params=LANES)
def guarded(
    request: pytest.FixtureRequest, models: Models, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    lane: str = request.param
    folder = tmp_path_factory.mktemp(f"auth-{lane}")
    registry = Registry(folder / "registry")
    registry.add(models.packages["digits", "1"].dir)
    registry.promote("digits", "1", author="tests", reason="auth")
    keys = (ApiKey(name="ci", sha256=hash_token(TOKEN)), ApiKey(name="other", sha256=hash_token("another")))
    options = ServingOptions(registry="", records="", auth=AuthOptions(keys=keys), limits=Limits(body_bytes=1 << 20))
    with standalone(folder / "server", registry.root, lane=lane, options=options, token=TOKEN) as server:
        yield server


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Every path of the live app with its parameters filled in, and other spellings of each."""
    folder = tmp_path_factory.mktemp("routes")
    options = ServingOptions(registry=str(folder / "registry"), records=str(folder), capture=None)
    app = build_app(Replica(options, "routes").plane)
    plain = [r.path.replace("{model}", "digits").replace("{version}", "1") for r in app.routes if isinstance(r, Route)]
    assert len(plain) == 22
    spelled = itertools.chain.from_iterable(
        (
            p,
            p + "/",
            "/" + p,
            p.upper(),
            p.replace("d", "%64", 1),
            p.replace("/", "%2F"),
            p + "?a=/v2/health/live",
            p.replace("/v2", "/v2/./", 1),
            "/v2/health/live/.." + p,
            p + "#/v2/health/live",
            p + "%00",
            p + ";x",
        )
        for p in plain
    )
    extra = [
        "/",
        "/docs",
        "/redoc",
        "/-/routes",
        "/v2/health",
        "/v2/health/live/",
        "/V2/HEALTH/LIVE",
        "//v2/health/live",
    ]
    return [
        p for p in [*spelled, *extra] if p not in OPEN_PATHS and not p.startswith(tuple(f"{o}?" for o in OPEN_PATHS))
    ]


@pytest.mark.parametrize("method", METHODS)
def test_nothing_answers_without_a_credential(guarded: Server, paths: list[str], method: str) -> None:
    raw = RawConnection(guarded.port)
    for path in paths:
        if percent_decoded(path) in OPEN_PATHS:
            continue  # another spelling of the same open path
        raw.send(head(method, path))
        if method == "HEAD":  # has no body, whatever its Content-Length says
            status = int(raw.socket.recv(65_536).split()[1])
            closes = status == 400
        else:
            answer = raw.answer()
            status, closes = answer.status, answer.closes
            assert not leaks(answer.body)
            assert status == 400 or answer.headers["www-authenticate"] == "Bearer"
        assert status == 401 or (status == 400 and closes), (method, path)  # 400: no HTTP target at all
        if closes:
            raw.socket.close()
            raw = RawConnection(guarded.port)
    raw.socket.close()


def percent_decoded(path: str) -> str:
    from urllib.parse import unquote

    return unquote(path.partition("?")[0].partition("#")[0])


def test_the_probes_answer_without_a_credential(guarded: Server) -> None:
    with RawConnection(guarded.port) as raw:
        for path in sorted(OPEN_PATHS):
            assert raw.request("GET", path).status == 200
            assert raw.request("POST", path).status == 405
    assert len(OPEN_PATHS) == 2


WRONG = [
    "",
    "Bearer",
    "Bearer ",
    "Bearer wrong",
    f"Basic {TOKEN}",
    TOKEN,
    f"Bearer {TOKEN}x",
    f"Bearer {TOKEN[:-1]}",
    f"Bearer {TOKEN} x",
    "Bearer " + "x" * 9000,
    "Bearer \u00fc",
    f"Bearer {hash_token(TOKEN)}",
]


@pytest.mark.parametrize("credential", WRONG)
def test_wrong_credentials_are_401_on_the_infer_path(guarded: Server, credential: str) -> None:
    headers, body = wire.request([random_digit()])
    with RawConnection(guarded.port) as raw:
        answer = raw.request("POST", infer_path("digits"), body, {**headers, "Authorization": credential})
        assert answer.status == 401
        assert TOKEN.encode() not in answer.body
        right = raw.request("POST", infer_path("digits"), body, {**headers, "Authorization": f"Bearer {TOKEN}"})
        assert right.status == 200  # the connection goes on


def random_digit() -> Tensor:
    import numpy as np

    from export.contracts.datatypes import Datatype

    return Tensor(name="x", datatype=Datatype.FP32, array=np.random.default_rng(1).random((1, 1, 8, 8), np.float32))


@pytest.mark.parametrize("credential", [f"Bearer {TOKEN}", f"bearer {TOKEN}", "Bearer another"])
def test_right_credentials_pass(guarded: Server, credential: str) -> None:
    headers, body = wire.request([random_digit()])
    with RawConnection(guarded.port) as raw:
        headers["Authorization"] = credential
        assert raw.request("POST", infer_path("digits"), body, headers).status == 200
        assert raw.request("GET", "/v2", headers={"Authorization": credential}).status == 200


def test_a_credential_given_twice_is_no_credential(guarded: Server) -> None:
    headers, body = wire.request([random_digit()])
    both = {**headers, "Authorization": f"Bearer {TOKEN}", "authorization": "Bearer wrong"}
    with RawConnection(guarded.port) as raw:
        assert raw.request("POST", infer_path("digits"), body, both).status == 401


def test_a_body_is_not_taken_in_before_the_credential_is_checked(guarded: Server) -> None:
    """A stranger cannot make the server hold bodies, nor learn which are too large."""
    for length in (1 << 19, 1 << 30):
        with RawConnection(guarded.port, timeout_s=5) as raw:
            raw.send(head("POST", infer_path("digits"), None, {"Content-Length": str(length)}))
            assert raw.answer().status == 401


def test_refused_credentials_are_counted(guarded: Server) -> None:
    def refused() -> float:
        lines = guarded.client.get("/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if "unauthenticated" in line and line[0] != "#")

    before = refused()
    with RawConnection(guarded.port) as raw:
        headers, body = wire.request([random_digit()])
        assert raw.request("POST", infer_path("digits"), body, headers).status == 401
        assert raw.request("GET", "/v2").status == 401
    assert refused() - before == 2


def test_random_paths_are_401_too(guarded: Server) -> None:
    generator = random.Random(4)
    letters = "abcdefgv2/.-_%~"
    with RawConnection(guarded.port) as raw:
        for _ in range(300):
            path = "/" + "".join(generator.choice(letters) for _ in range(generator.randrange(30)))
            answer = raw.request("GET", path)
            assert (answer.status, list(json.loads(answer.body))) == (401, ["error"])
