"""Negative controls: what the guards refuse goes through once the guard is taken away, so the refusals are theirs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from monitoring.api.limits import Limits
from monitoring.integrations.label_studio.tool import HOOK_HEADER, HOOK_PATH, hook_secret
from monitoring.integrations.options import IntegrationOptions, LabelStudioOptions
from monitoring.notify.options import ChannelKind, ChannelOptions
from monitoring.people.contracts import Principal, Role
from tests.support.people_console import BY, PeopleConsole, people_console

TOKEN = "a token of a labelling tool"
FOREIGN = ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"})


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeopleConsole]:
    root: Path = tmp_path_factory.mktemp("guards")
    (root / "token").write_text(TOKEN)
    studio = LabelStudioOptions(url="http://127.0.0.1:9", token_file=str(root / "token"))
    people = {"otto": Role.OPERATOR, "vera": Role.VIEWER}
    channels = (ChannelOptions(name="pager", kind=ChannelKind.SLACK, url="http://127.0.0.1:9/"),)
    more: dict[str, Any] = {"integrations": IntegrationOptions(label_studio=studio), "channels": channels}
    with people_console(root, people=people, **more) as made:
        yield made


@pytest.mark.parametrize("headers", FOREIGN)
def test_only_the_look_at_where_it_comes_from_stops_another_sites_page(
    console: PeopleConsole, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The browser would send the cookie along: the change is made once nobody looks at Origin and Fetch metadata."""
    with console.browser("otto") as otto:

        def ask() -> httpx.Response:
            return otto.post("/api/notices/test", json={"channel": "pager"}, headers=headers)

        told = len(otto.get("/api/notices").json()["notices"])
        refused = ask()
        assert (refused.status_code, refused.json()["error"]) == (403, "this request comes from another site's page")
        assert len(otto.get("/api/notices").json()["notices"]) == told
        monkeypatch.setattr("monitoring.api.security._same_origin", lambda headers, host: True)
        assert ask().status_code == 202
        assert len(otto.get("/api/notices").json()["notices"]) == told + 1


def test_only_its_limits_keep_a_key_from_another_model(console: PeopleConsole, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are two: what a request names, and what is found. Without both, the key reads the other model's case."""
    _, text = console.office.make_key("of-other", Role.OPERATOR, BY, models=("other",))
    path = f"/api/cases/{console.day.case_ids[0]}"  # of the model digits
    with console.with_key(text) as key:
        assert key.get(path).status_code == 404
        monkeypatch.setattr(Limits, "_check", lambda *_: None)
        assert key.get(path).status_code == 404
        monkeypatch.setattr(Principal, "sees", lambda *_: True)
        answer = key.get(path)
        assert (answer.status_code, answer.json()["model"]) == (200, "digits")


def test_only_its_header_makes_a_hook_ours(console: PeopleConsole, monkeypatch: pytest.MonkeyPatch) -> None:
    def knock(**headers: str) -> int:
        return httpx.post(console.address + HOOK_PATH, json={}, headers=headers, trust_env=False).status_code

    forged = {HOOK_HEADER: hook_secret("another token")}
    assert (knock(), knock(**forged), knock(**{HOOK_HEADER: hook_secret(TOKEN)})) == (401, 401, 204)
    monkeypatch.setattr("monitoring.api.tool_routes.hmac.compare_digest", lambda given, wanted: True)
    assert knock(**forged) == 204


def test_settings_show_what_channels_took_and_let_operators_try_them(console: PeopleConsole) -> None:
    with console.browser("otto") as otto, console.browser("vera") as vera:
        before = len(otto.get("/settings?format=json").json()["told"]["notices"])
        asked = otto.post("/settings/notices/test", data={"channel": "pager"})
        assert (asked.status_code, asked.headers["location"]) == (303, "/settings#notices")
        told = otto.get("/settings?format=json").json()["told"]
        assert len(told["notices"]) == before + 1
        assert (told["channels"][0]["name"], told["channels"][0]["sent"]) == ("pager", 0)
        page = otto.get("/settings").text
        assert "Send a test" in page
        assert "A test of notifications" in page
        assert "Send a test" not in vera.get("/settings").text
        assert vera.post("/settings/notices/test", data={"channel": "pager"}).status_code == 403
        assert otto.post("/settings/notices/retry", data={"channel": "pager"}).status_code == 303
        assert otto.post("/settings/notices/test", data={"channel": "nobody"}).status_code == 404
