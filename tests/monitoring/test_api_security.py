"""Who may ask: Host, Origin, token, headers, addresses that a console must not be opened on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest
from fastapi import FastAPI

from monitoring.api.app import build_console
from monitoring.api.options import ConsoleOptions
from monitoring.api.security import OPEN_PATHS
from monitoring.reports import ReportOptions, ReportService
from monitoring.store import Store
from tests.support.console_server import client as connected
from tests.support.console_store import MemoryCatalogue, StillMonitor, fill, manifest

TOKEN = "correct horse battery staple"
DIGEST = hashlib.sha256(TOKEN.encode()).hexdigest()
REPORT = {"model": "digits", "from": "2026-02-25T06:14:00Z", "to": "2026-02-25T06:15:00Z"}


def refuse(request: object, most: int) -> object:
    raise AssertionError("no report is wanted here")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, ReportService]]:
    root = tmp_path_factory.mktemp("security")
    store = Store(f"sqlite:///{root}/m.db")
    fill(store, windows=6, cases=20)
    reports = ReportService(ReportOptions(folder=root / "reports"), refuse)  # type: ignore[arg-type]  # never called
    yield store, reports
    reports.close()
    store.close()


def app_with(parts: tuple[Store, ReportService], options: ConsoleOptions) -> FastAPI:
    catalogue = MemoryCatalogue(manifests=(manifest(version="2"),))
    return build_console(parts[0], catalogue, StillMonitor(), list, options, reports=parts[1])


@pytest.fixture(scope="module")
def open_console(parts: tuple[Store, ReportService]) -> Iterator[httpx.Client]:
    with connected(app_with(parts, ConsoleOptions(allowed_hosts=("console.example",)))) as client:
        yield client


@pytest.fixture(scope="module")
def guarded(parts: tuple[Store, ReportService]) -> Iterator[tuple[httpx.Client, FastAPI]]:
    app = app_with(parts, ConsoleOptions(token_sha256=("0" * 64, DIGEST)))
    with connected(app) as client:
        yield client, app


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "[", "a b"])
def test_a_foreign_host_name_is_refused(open_console: httpx.Client, host: str) -> None:
    for path in ("/", "/api/cases", "/metrics", "/static/console.js"):
        response = open_console.get(path, headers={"host": host})
        assert response.status_code == 400, (host, path)


@pytest.mark.parametrize(
    "host", ["127.0.0.1:9", "localhost", "LOCALHOST:80", "[::1]:8080", "console.example", "10.1.2.3"]
)
def test_addresses_and_known_names_are_answered(open_console: httpx.Client, host: str) -> None:
    assert open_console.get("/api/health", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://[", "sec-fetch-site": "same-origin"},
    ],
)
@pytest.mark.parametrize("path", ["/api/reports", "/reports", "/sign-in"])
def test_another_sites_page_cannot_change_anything(
    open_console: httpx.Client, path: str, headers: dict[str, str]
) -> None:
    response = open_console.post(path, json=REPORT, headers=headers)
    assert response.status_code == 403
    assert response.json()["error"] == "this request comes from another site's page"


def test_a_form_of_another_type_and_a_body_without_length_are_refused(open_console: httpx.Client) -> None:
    assert open_console.post("/api/reports", content=iter([b"{}"])).status_code == 413
    assert open_console.post("/api/reports", content=b"x" * 70_000).status_code == 413
    assert open_console.post("/reports", json=REPORT).status_code == 400


@pytest.mark.parametrize("path", ["/", "/api/cases", "/nope", "/api/nope", "/metrics", "/openapi.json"])
def test_every_answer_has_the_headers(open_console: httpx.Client, path: str) -> None:
    headers = open_console.get(path, headers={"accept": "text/html"}).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert "server" not in headers or "hardcase" not in headers["server"]


def test_a_network_address_without_a_token_is_refused(parts: tuple[Store, ReportService]) -> None:
    for host in ("0.0.0.0", "10.0.0.1", "::", "example.com"):
        with pytest.raises(ValueError, match=r"monitor\.token_sha256"):
            app_with(parts, ConsoleOptions(host=host))
    app_with(parts, ConsoleOptions(host="0.0.0.0", token_sha256=(DIGEST,)))
    app_with(parts, ConsoleOptions(host="::1"))
    with pytest.raises(ValueError, match="64 lower-case hex"):
        app_with(parts, ConsoleOptions(token_sha256=(TOKEN,)))


def every_address(app: FastAPI) -> list[tuple[str, str]]:
    """Method and path of every route of the live application, with parameters filled in."""
    found = []
    for path, operations in app.openapi()["paths"].items():
        found += [(method.upper(), path) for method in operations]
    found += [("GET", p) for p in ("/", "/cases", "/reports", "/models/{model}", "/cases/{case}", "/openapi.json")]
    found += [("POST", "/reports")]
    names = {"{model}": "digits", "{case}": "0" * 16, "{report}": "0" * 20, "{record_id}": "x"}
    filled = []
    for method, path in found:
        for name, value in names.items():
            path = path.replace(name, value)  # noqa: PLW2901  # one parameter after the other
        filled.append((method, path))
    return filled


def test_without_a_token_nothing_but_the_allow_list_is_answered(guarded: tuple[httpx.Client, FastAPI]) -> None:
    client, app = guarded
    addresses = every_address(app)
    assert len(addresses) > 20
    for method, path in addresses:
        for variant in (path, path + "/", path.upper(), "/" + path, path.replace("/api", "/%61pi"), path + "?token=x"):
            for verb in {method, "GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"}:
                body = {"content": b"{}"} if verb not in ("GET", "HEAD", "OPTIONS") else {}
                response = client.request(verb, "http://" + client.base_url.netloc.decode() + variant, **body)  # type: ignore[arg-type]
                if unquote(variant.split("?")[0]) in OPEN_PATHS:
                    continue
                assert response.status_code == 401, (verb, variant, response.status_code)


@pytest.mark.parametrize("sent", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \u00ff"])
def test_a_wrong_credential_is_refused(guarded: tuple[httpx.Client, FastAPI], sent: str) -> None:
    response = guarded[0].get("/api/cases", headers={"authorization": sent.encode("latin-1")})
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")


def test_the_token_opens_the_api(guarded: tuple[httpx.Client, FastAPI]) -> None:
    assert guarded[0].get("/api/cases", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_a_browser_signs_in_and_is_led_where_it_wanted(guarded: tuple[httpx.Client, FastAPI]) -> None:
    client = guarded[0]
    page = client.get("/cases", headers={"accept": "text/html"})
    assert page.status_code == 303
    assert page.headers["location"] == "/sign-in?next=%2Fcases"
    form = client.get(page.headers["location"])
    assert 'name="next" value="/cases"' in form.text
    wrong = client.post("/sign-in", data={"token": "guess", "next": "/cases"})
    assert wrong.status_code == 401
    assert "not the configured token" in wrong.text
    right = client.post("/sign-in", data={"token": TOKEN, "next": "/cases"})
    assert right.status_code == 303
    assert right.headers["location"] == "/cases"
    cookie = right.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    value = cookie.split(";")[0]
    assert client.get("/cases", headers={"cookie": value}).status_code == 200
    assert client.get("/cases", headers={"cookie": value + "x"}).status_code == 401
    assert TOKEN not in cookie


@pytest.mark.parametrize("target", ["https://evil.example", "//evil.example", "/\\evil.example", "", "/a\r\nb: c"])
def test_signing_in_never_leads_to_another_site(guarded: tuple[httpx.Client, FastAPI], target: str) -> None:
    response = guarded[0].post("/sign-in", data={"token": TOKEN, "next": target})
    assert response.headers["location"] == "/"


@pytest.mark.parametrize(
    "name", ["../pages.py", "..%2fpages.py", "%2e%2e/pages.py", "console.css%00", "/etc/passwd", "templates/base.html"]
)
def test_static_files_are_a_list_and_not_a_folder(open_console: httpx.Client, name: str, tmp_path: Path) -> None:
    assert open_console.get(f"/static/{name}").status_code == 404
