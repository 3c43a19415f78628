"""Signing in slows down for whoever guesses: by name and by address, through restarts, also many at once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from export.contracts.errors import Unauthenticated
from monitoring.people import passwords
from monitoring.people.contracts import Role
from monitoring.people.office import Office
from monitoring.people.roster import Roster, RosterOptions, TooSoon
from monitoring.people.sessions import Browser
from monitoring.store import Store
from tests.support.people_console import BY, PASSWORD

HERE = Browser(agent="test", address="192.0.2.1")
S = 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.ns = BY.time_ns

    def __call__(self) -> int:
        return self.ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def roster(tmp_path: Path, clock: Clock) -> Iterator[Roster]:
    with closing(Store(f"sqlite:///{tmp_path}/m.db")) as store:
        made = Roster(store, RosterOptions(), now_ns=clock)
        Office(made).add("ann", Role.ADMIN, BY, PASSWORD)
        yield made


def guesses(roster: Roster, clock: Clock, name: str, hours: float, browser: Browser = HERE) -> int:
    """How many guesses a patient attacker gets in so many hours."""
    end, tried = clock.ns + int(hours * 3600) * S, 0
    while clock.ns < end:
        try:
            roster.sign_in(name, "wrong", browser)
        except TooSoon as soon:
            clock.ns += soon.retry_after_s * S
        except Unauthenticated:
            tried += 1
    return tried


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashing is not what these measure."""
    monkeypatch.setattr("monitoring.people.roster.password_holds", lambda kept, given: kept != "" and given == PASSWORD)


def test_fewer_than_a_hundred_guesses_an_hour(roster: Roster, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    assert 40 <= guesses(roster, clock, "ann", 1) <= 100
    assert guesses(roster, clock, "ann", 1) <= 62
    clock.ns += 61 * S  # a minute later whoever knows the password gets in
    assert roster.sign_in("ann", PASSWORD, HERE)


def test_one_address_that_tries_many_names_slows_down_too(
    roster: Roster, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    refused = 0
    for number in range(60):
        try:
            roster.sign_in(f"user{number}", "wrong", HERE)
        except TooSoon:
            refused += 1
        except Unauthenticated:
            pass
    assert refused == 40
    assert roster.sign_in("ann", PASSWORD, Browser(agent="", address="192.0.2.2"))  # others are let in


def test_a_restart_resets_nothing(roster: Roster, clock: Clock) -> None:
    for _ in range(5):
        with pytest.raises(Unauthenticated):
            roster.sign_in("ann", "wrong", HERE)
    again = Roster(roster.store, RosterOptions(), now_ns=clock)
    with pytest.raises(TooSoon):
        again.sign_in("ann", PASSWORD, HERE)


def test_guesses_at_once_are_counted_one_by_one(roster: Roster, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)

    def guess(_: int) -> str:
        try:
            roster.sign_in("ann", "wrong", HERE)
        except TooSoon:
            return "too soon"
        except Unauthenticated:
            return "tried"
        return "in"

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(guess, range(48)))
    assert found.count("tried") == 5
    assert "in" not in found


def test_an_unknown_name_costs_as_much_as_a_wrong_password(roster: Roster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same work is done: one Argon2 verification each. Wall-clock would only measure the machine."""
    verified: list[str] = []
    real = passwords._hasher().verify

    class Counting:
        def verify(self, kept: str, given: str) -> bool:
            verified.append(kept)
            return real(kept, given)

        def hash(self, given: str) -> str:
            return "unused"

    nobodys = passwords._nobodys()
    monkeypatch.setattr(passwords, "_hasher", Counting)
    texts = []
    for name in ("ann", "nobody-of-that-name"):
        with pytest.raises(Unauthenticated) as error:
            roster.sign_in(name, "a wrong password", HERE)
        texts.append(error.value.message)
    assert texts[0] == texts[1]
    assert len(verified) == 2
    assert verified[1] == nobodys
    assert verified[0].split("$")[3] == verified[1].split("$")[3] == "m=19456,t=2,p=1"


def test_an_idle_session_and_an_old_one_end(roster: Roster, clock: Clock) -> None:
    idle = roster.sign_in("ann", PASSWORD, HERE)
    busy = roster.sign_in("ann", PASSWORD, HERE)
    for minute in range(12 * 60):
        clock.ns += 60 * S
        roster.change(lambda _: None)  # forget what was remembered
        holds = roster.look_up(busy, cookie=True) is not None
        if roster.owes:
            roster.note_uses()
        assert holds == (minute < 12 * 60 - 1), minute
        if minute == 60:
            assert roster.look_up("x" + idle, cookie=True) is None
    assert roster.look_up(idle, cookie=True) is None
