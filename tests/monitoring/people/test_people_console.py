"""People at a console that listens: signing in, roles, limited keys, sessions, links, the audit, and every route."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

import httpx
import pytest
import sqlalchemy as sa

from monitoring import schema as t
from monitoring.api.roles import OWN, nameless_changes, role_of, routes_of
from monitoring.api.security import OPEN_PATHS, SAFE_METHODS
from monitoring.people.contracts import Role
from monitoring.people.first_start import make_link
from tests.support.people_console import BY, PASSWORD, PeopleConsole, people_console

PEOPLE = {"ann": Role.ADMIN, "otto": Role.OPERATOR, "rita": Role.REVIEWER, "vera": Role.VIEWER}
FILL = {"model": "digits", "case": "0" * 16, "report": "0" * 20, "alarm": "0" * 16, "slice_id": "0" * 12}


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PeopleConsole]:
    with people_console(tmp_path_factory.mktemp("people"), people=PEOPLE) as made:
        yield made


def address_of(path: str) -> str:
    return re.sub(r"{(\w+)(:\w+)?}", lambda found: FILL.get(found[1], "1" * 12), path)


def test_every_route_asks_for_a_credential_but_the_named_few(console: PeopleConsole) -> None:
    asked = 0
    with console.browser() as nobody:
        for route in routes_of(console.app.routes):
            if route.path in OPEN_PATHS or route.path.startswith("/static/"):
                continue
            for method in route.methods or ():
                answer = nobody.request(method, address_of(route.path))
                assert answer.status_code == 401, (method, route.path, answer.status_code)
                asked += 1
    assert asked > 80


def test_every_change_names_a_role_and_a_viewer_may_do_none_of_them(console: PeopleConsole) -> None:
    assert nameless_changes(console.app.routes) == []
    own = {"/api/me/password", "/settings/password", "/api/sessions/{session}/end", "/settings/sessions/{session}/end"}
    refused = 0
    with console.browser("vera") as vera:
        for route in routes_of(console.app.routes):
            for method in sorted((route.methods or set()) - set(SAFE_METHODS)):
                if route.path in OWN or route.path in own:
                    continue
                role = role_of(route)
                assert role is not None
                if role is Role.VIEWER:
                    continue
                answer = vera.request(method, address_of(route.path), json={})
                assert answer.status_code == 403, (method, route.path, answer.status_code, answer.text)
                refused += 1
    assert refused > 25


def test_a_role_includes_those_before_it_and_no_other(console: PeopleConsole) -> None:
    silence = {"model": "digits", "minutes": 5, "author": "somebody else", "reason": "a test"}
    with console.browser("rita") as rita:
        assert rita.post("/api/silences", json=silence).status_code == 403
        assert rita.get("/api/keys").status_code == 403
    with console.browser("otto") as otto:
        made = otto.post("/api/silences", json=silence)
        assert made.status_code == 201
        assert made.json()["author"] == "otto"  # not whoever the body names
        assert otto.post("/api/users", json={"name": "x", "role": "admin"}).status_code == 403
        assert otto.post("/api/erasures", json={"records": ["x"]}).status_code == 403
    with console.browser("ann") as ann:
        kinds = [e["kind"] for e in ann.get("/api/audit", params={"actor": "otto"}).json()["events"]]
        assert kinds == ["silence_started", "sign_in"]


def test_the_cookie_is_as_it_should_be(console: PeopleConsole) -> None:
    with console.browser() as client:
        cookie = client.post("/sign-in", data={"name": "ann", "password": PASSWORD}).headers["set-cookie"]
    parts = {p.strip().lower() for p in cookie.split(";")[1:]}
    assert parts == {"httponly", "path=/", "samesite=lax"}
    assert len(cookie.split("=", 1)[1].split(";")[0]) >= 43
    with console.store.read() as connection:
        digests = list(connection.scalars(sa.select(t.sessions.c.digest)))
    assert all(len(d) == 64 and d not in cookie for d in digests)


def test_behind_tls_the_cookie_is_secure_and_bound_to_the_host(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("tls")
    with people_console(root, people={"ann": Role.ADMIN}, options={"public_url": "https://c.example"}) as console:
        with console.browser() as client:
            answer = client.post("/sign-in", data={"name": "ann", "password": PASSWORD})
            cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-hardcase_session=")
        assert "secure" in cookie.lower()
        assert "domain" not in cookie.lower()
        with console.with_key("x") as client:
            assert client.get("/api/me", headers={"host": "c.example"}).status_code == 401
            assert client.get("/api/me", headers={"host": "evil.example"}).status_code == 400


def test_a_session_survives_a_restart_and_ends_when_it_is_revoked(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("restart")
    with people_console(root, people={"ann": Role.ADMIN}) as first, first.browser("ann") as client:
        cookies = dict(client.cookies)
    with people_console(root, cases=0) as second, second.browser() as client:
        client.cookies.update(cookies)
        me = client.get("/api/me").json()
        assert (me["name"], me["role"]) == ("ann", "admin")
        with second.browser("ann") as other:
            assert other.post(f"/api/sessions/{me['session']}/end").status_code == 204
        assert client.get("/api/me").status_code == 401
        page = client.get("/cases?state=open", headers={"accept": "text/html"})
        assert page.headers["location"] == "/sign-in?next=%2Fcases%3Fstate%3Dopen"


def test_signing_out_ends_the_session_and_not_only_the_cookie(console: PeopleConsole) -> None:
    with console.browser("rita") as rita:
        kept = dict(rita.cookies)
        assert rita.post("/sign-out").status_code == 303
        rita.cookies.update(kept)
        assert rita.get("/api/me").status_code == 401


def test_roles_and_disabling_hold_at_once(console: PeopleConsole) -> None:
    console.office.add("tom", Role.VIEWER, BY, PASSWORD)
    with console.browser("tom") as tom, console.browser("ann") as ann:
        assert tom.get("/api/me").json()["role"] == "viewer"
        assert ann.post("/api/users/tom", json={"role": "admin"}).status_code == 200
        assert tom.get("/api/keys").status_code == 200
        assert ann.post("/api/users/tom", json={"disabled": True}).json()["disabled"] is True
        assert tom.get("/api/me").status_code == 401
        refused = tom.post("/sign-in", data={"name": "tom", "password": PASSWORD})
        assert refused.status_code == 401
        assert ann.post("/api/users/ann", json={"role": "viewer"}).status_code == 409  # the only admin
        assert ann.post("/api/users/ann", json={"disabled": True}).status_code == 409


def test_an_invitation_sets_a_password_once(console: PeopleConsole) -> None:
    with console.browser("ann") as ann:
        made = ann.post("/api/users", json={"name": "Nora", "role": "reviewer"})
        assert made.status_code == 201
        link = made.json()["link"]
        assert ann.post("/api/users", json={"name": "nora", "role": "viewer"}).status_code == 409
    page, token = link.split("#")
    with console.browser() as nora:
        assert nora.get(page).status_code == 200
        for bad in ("short", "aaaaaaaaaaaaaaaa", "password1234", "my name is nora!"):
            form = {"token": token, "password": bad, "again": bad}
            assert nora.post("/invitation", data=form).status_code == 400, bad
        form = {"token": token, "password": PASSWORD, "again": PASSWORD}
        assert nora.post("/invitation", data=form | {"again": "another one entirely"}).status_code == 400
        assert nora.post("/invitation", data=form).status_code == 303
        assert nora.get("/api/me").json()["name"] == "nora"
        assert nora.post("/invitation", data=form).status_code == 401  # it holds once


def test_a_changed_password_ends_every_other_session(console: PeopleConsole) -> None:
    console.office.add("kim", Role.VIEWER, BY, PASSWORD)
    new = "eleven grey herons wait"
    with console.browser("kim") as here, console.browser("kim") as there:
        wrong = here.post("/api/me/password", json={"current": "not the password", "new": new})
        assert wrong.status_code == 401
        assert here.post("/api/me/password", json={"current": PASSWORD, "new": new}).status_code == 200
        assert here.get("/api/me").status_code == 200
        assert there.get("/api/me").status_code == 401


def test_a_key_is_shown_once_and_ends_when_revoked(console: PeopleConsole) -> None:
    with console.browser("ann") as ann:
        made = ann.post("/api/keys", json={"name": "prometheus", "role": "viewer"}).json()
        listed = ann.get("/api/keys").text
        assert made["text"] not in listed
        assert made["key"]["hint"] in listed
        with console.with_key(made["text"]) as program:
            assert program.get("/metrics").status_code == 200
            assert program.get("/api/me").json()["name"] == "key:prometheus"
            assert program.post("/api/reports", json={}).status_code == 403
            assert ann.post("/api/keys/prometheus/revoke").json()["holds"] is False
            assert program.get("/metrics").status_code == 401
        past = ann.post("/api/keys", json={"name": "old", "role": "viewer", "expires": "2020-01-01T00:00:00Z"})
        assert past.status_code == 400


def test_a_key_of_one_model_reaches_nothing_of_another(console: PeopleConsole) -> None:
    """Object-level checks: whatever the operation, with ids of another model in path, query or body."""
    _, mine = console.office.make_key("of-digits", Role.OPERATOR, BY, models=("digits",))
    _, foreign = console.office.make_key("of-other", Role.OPERATOR, BY, models=("other",))
    case = console.day.case_ids[0]
    decide = {"key": "k1", "decisions": [{"case": case, "edition": 0, "verdict": "correct"}]}
    with console.with_key(mine) as own:
        assert own.get(f"/api/cases/{case}").status_code == 200
        assert own.get("/api/cases", params={"model": "digits"}).status_code == 200
        assert own.get("/api/cases").status_code == 403
        assert [m["name"] for m in own.get("/api/models").json()["models"]] == ["digits"]
        assert own.post("/api/review/bulk/preview", json=bulk({"filter": {}})).status_code == 403
    with console.with_key(foreign) as other:
        assert [m["name"] for m in other.get("/api/models").json()["models"]] == ["other"]
        assert other.post("/api/review/decisions", json=decide).status_code == 404
        assert other.post("/api/review/bulk", json=bulk({"cases": [case]})).status_code == 404
        assert other.post("/api/review/bulk", json=bulk({"like": case, "likeness": 0.5})).status_code == 404
        assert other.post("/api/review/bulk", json=bulk({"filter": {"model": "digits"}})).status_code == 404
        assert other.post("/api/review/lease", json={"model": "digits", "count": 1}).status_code == 404
        tried = 0
        for route in routes_of(console.app.routes):
            path = route.path.replace("{case}", case)
            for method in route.methods or ():
                if route.path in OPEN_PATHS or route.path.startswith("/static/"):
                    continue
                answer = other.request(method, address_of(path))
                if answer.status_code < 300:
                    assert "digits" not in answer.text, (method, path)
                    assert route.path in ("/api/me", "/api/models", "/api/health"), (method, path)
                else:
                    assert answer.status_code in (400, 403, 404), (method, path, answer.status_code)
                tried += 1
        assert tried > 80
    with console.store.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(t.decisions)) == 0


def bulk(selection: dict[str, object]) -> dict[str, object]:
    return {"key": "b1", "selection": selection, "verdict": "dismiss"}


def test_settings_show_an_admin_everything_and_a_viewer_themselves(console: PeopleConsole) -> None:
    with console.browser("ann") as ann, console.browser("vera") as vera:
        full, bare = ann.get("/settings?format=json").json(), vera.get("/settings?format=json").json()
        assert {u["name"] for u in full["users"]} >= set(PEOPLE)
        assert bare["users"] == bare["keys"] == bare["effective"] == []
        assert {s["user"] for s in bare["sessions"]} == {"vera"}
        assert "API keys" in ann.get("/settings").text
        assert "API keys" not in vera.get("/settings").text
        assert 'action="/silences"' not in vera.get("/alarms").text
        audit = ann.get("/audit?kind=sign_in&format=json").json()
        assert audit["events"]
        assert all(e["kind"] == "sign in" for e in audit["events"])
        assert vera.get("/audit?format=json").json()["events"] == []
        assert ann.get("/audit?nonsense=1").status_code == 400


def test_the_audit_only_grows(console: PeopleConsole) -> None:
    for change in (t.audit_events.update().values(actor="x"), t.audit_events.delete()):
        with pytest.raises(sa.exc.DatabaseError, match="only ever added"), console.store.write() as connection:
            connection.execute(change)


def test_the_first_start_has_no_default_password_and_one_link(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("first")
    with people_console(root, options={"sign_in": "always"}) as console, console.browser() as client:
        assert client.get("/api/me").status_code == 401
        for name, password in (("admin", "admin"), ("admin", ""), ("root", "hardcase"), ("", "")):
            assert client.post("/sign-in", data={"name": name, "password": password}).status_code == 401
        form = {"name": "Ann", "password": PASSWORD, "again": PASSWORD}
        assert client.post("/first-start", data=form | {"token": ""}).status_code == 401
        old = make_link(console.state_dir, console.address, time.time_ns() - 2 * 86_400 * 10**9)
        assert client.post("/first-start", data=form | {"token": old.split("#")[1]}).status_code == 401
        link = make_link(console.state_dir, console.address, time.time_ns())
        token = link.split("#")[1]
        assert all(token not in f.read_text() for f in console.state_dir.iterdir())
        assert client.post("/first-start", data=form | {"token": token}).status_code == 303
        assert client.get("/api/me").json() | {"session": 0} == {
            "name": "ann", "role": "admin", "models": [], "user": True, "session": 0
        }  # fmt: skip
        assert client.get("/first-start", headers={"accept": "text/html"}).status_code == 404
        again = make_link(console.state_dir, console.address, time.time_ns())
        assert client.post("/first-start", data=form | {"token": again.split("#")[1]}).status_code == 401


def test_a_laptop_needs_no_sign_in_until_there_is_somebody(tmp_path_factory: pytest.TempPathFactory) -> None:
    with people_console(tmp_path_factory.mktemp("laptop")) as console, console.browser() as client:
        assert client.get("/api/me").json()["name"] == "local"
        made = client.post("/api/users", json={"name": "ann", "role": "admin"}).json()
        assert client.get("/api/me").status_code == 401
        form = {"token": made["link"].split("#")[1], "password": PASSWORD, "again": PASSWORD}
        assert client.post("/invitation", data=form).status_code == 303
        assert client.get("/api/me").json()["name"] == "ann"


def test_no_secret_is_in_answers_logs_metrics_or_tables(
    tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """S20: planted passwords, tokens and keys are found nowhere but where they were put in."""
    caplog.set_level("DEBUG")
    root = tmp_path_factory.mktemp("canary")
    canaries = {"wrong": "canary-typed-wrong-1", "as-name": "canary-typed-as-name-2", "new": "canary new password 3"}
    seen: list[str] = []

    def keep(answer: httpx.Response) -> httpx.Response:
        seen.append(answer.text + json.dumps(dict(answer.headers)))
        return answer

    with people_console(root, people={"ann": Role.ADMIN}) as console, console.browser("ann") as ann:
        cookie = next(iter(ann.cookies.values()))
        with console.browser() as other:
            keep(other.post("/sign-in", data={"name": "ann", "password": canaries["wrong"]}))
            other.post("/sign-in", data={"name": canaries["as-name"], "password": "x"})
        key = ann.post("/api/keys", json={"name": "k", "role": "viewer"}).json()["text"]
        link = ann.post("/api/users", json={"name": "bob", "role": "viewer"}).json()["link"]
        with console.browser() as bob:
            form = {"token": link.split("#")[1], "password": canaries["new"], "again": canaries["new"]}
            keep(bob.post("/invitation", data=form))
            seen.pop()  # its cookie is bob's own
        for path in ("/metrics", "/api/audit", "/api/keys", "/api/users", "/api/sessions", "/settings", "/audit",
                     "/settings?format=json", "/openapi.json", "/api/nope", "/sign-in"):  # fmt: skip
            keep(ann.get(path))
        with console.store.read() as connection:
            for table in (t.users, t.sessions, t.api_keys, t.sign_in_tries, t.audit_events):
                seen.append(repr(connection.execute(sa.select(table)).all()))
    ours = [r.getMessage() for r in caplog.records if not r.name.startswith(("httpx", "httpcore"))]  # not the client's
    everything = "\n".join([*seen, *ours])
    for secret in (*canaries.values(), PASSWORD, key, link.split("#")[1], cookie):
        assert secret not in everything
    assert "sign_in_failed" in everything  # what was planted was seen
