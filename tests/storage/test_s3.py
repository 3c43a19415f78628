"""Objects in a real S3-compatible server, with harm on the way: nothing half is ever seen, nothing is done twice."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from export.storage.objects import MemoryStore, NoSuchObject, ObjectStore, StorageError, StorageUnavailable
from export.storage.retry import Budget, Retry, TryAgain
from export.storage.s3 import S3Options, S3Store
from tests.support.bucket import BUCKET, Harm, Proxy, store

DATA = bytes(range(256)) * 4000


@pytest.fixture(params=["memory", "s3"])
def any_store(request: pytest.FixtureRequest) -> ObjectStore:
    if request.param == "memory":
        return MemoryStore()
    return store(request.getfixturevalue("server"), secrets.token_hex(4))


def through(proxy: Proxy, **options: object) -> S3Store:
    return store(f"http://127.0.0.1:{proxy.port}", secrets.token_hex(4), **options)  # type: ignore[arg-type]


def test_what_was_written_is_read_listed_and_deleted(any_store: ObjectStore, tmp_path: Path):
    file = tmp_path / "f"
    file.write_bytes(DATA)
    any_store.put("a/1", b"one")
    any_store.put("a/2", file)
    any_store.put("b", b"")
    assert any_store.get("a/2").data == DATA
    assert any_store.get("b").data == b""
    assert [(o.key, o.size_bytes) for o in any_store.list("a/")] == [("a/1", 3), ("a/2", len(DATA))]
    any_store.download("a/2", tmp_path / "g")
    assert (tmp_path / "g").read_bytes() == DATA
    any_store.delete("a/1")
    any_store.delete("a/1")
    assert not any_store.exists("a/1")
    assert any_store.exists("a/2")
    with pytest.raises(NoSuchObject):
        any_store.get("a/1")
    with pytest.raises(NoSuchObject):
        any_store.download("a/1", tmp_path / "h")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f", "g"]


def test_an_object_is_read_again_only_when_it_changed(any_store: ObjectStore):
    assert any_store.get_if_changed("x", "") is None
    any_store.put("x", b"1")
    first = any_store.get_if_changed("x", "")
    assert first is not None
    assert any_store.get_if_changed("x", first.tag) is None
    any_store.put("x", b"2")
    second = any_store.get_if_changed("x", first.tag)
    assert second is not None
    assert second.data == b"2"


def test_of_many_who_create_one_wins(any_store: ObjectStore):
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda i: any_store.create("plan", b"%d" % i), range(16)))
    assert won.count(True) == 1
    assert any_store.get("plan").data == b"%d" % won.index(True)


@pytest.mark.slow
def test_long_lists_are_read_to_their_end(server: str):
    made = store(server, secrets.token_hex(4))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: made.put(f"n/{i:04d}", b"x"), range(1003)))
    assert [o.key for o in made.list("n/")] == [f"n/{i:04d}" for i in range(1003)]


HARMS: dict[Harm, tuple[str, Callable[[S3Store], object]]] = {
    Harm.ERROR: ("GET", lambda s: s.get("x").data),
    Harm.SILENCE: ("GET", lambda s: s.get("x").data),
    Harm.TRUNCATE: ("GET", lambda s: s.get("x").data),
    Harm.FLIP: ("GET", lambda s: s.get("x").data),
    Harm.CUT_UPLOAD: ("PUT", lambda s: (s.put("x", DATA), s.get("x").data)[1]),
    Harm.LOSE_ACK: ("PUT", lambda s: (s.put("x", DATA), s.get("x").data)[1]),
}


@pytest.mark.parametrize("harm", list(HARMS))
def test_harm_on_the_way_is_survived(proxy: Proxy, harm: Harm):
    made = through(proxy, read_s=0.5)
    made.put("x", DATA)
    method, act = HARMS[harm]
    proxy.harm(harm, harm, method=method)
    assert act(made) == DATA
    assert proxy.done == {harm: 2}


@pytest.mark.parametrize("harm", [Harm.TRUNCATE, Harm.FLIP])
def test_a_file_is_never_seen_half(proxy: Proxy, harm: Harm, tmp_path: Path):
    made = through(proxy, attempts=2)
    made.put("x", DATA)
    proxy.harm(harm, harm, method="GET")
    with pytest.raises(StorageUnavailable):
        made.download("x", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
    made.download("x", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == DATA


def test_an_upload_that_was_cut_leaves_no_object(proxy: Proxy):
    made = through(proxy, attempts=2)
    proxy.harm(Harm.CUT_UPLOAD, Harm.CUT_UPLOAD, method="PUT")
    with pytest.raises(StorageUnavailable):
        made.put("x", DATA)
    assert not made.exists("x")
    assert proxy.done[Harm.CUT_UPLOAD] == 2


def test_a_lost_acknowledgement_does_not_make_us_lose_our_own_race(proxy: Proxy):
    made = through(proxy)
    proxy.harm(Harm.LOSE_ACK, method="PUT")
    assert made.create("plan", b"mine")  # the repetition found an object, and it was ours
    assert proxy.done == {Harm.LOSE_ACK: 1}
    assert not made.create("plan", b"mine")  # the same bytes of somebody else's call


def test_a_broken_store_is_not_asked_without_end(proxy: Proxy):
    made = through(proxy, attempts=4, budget=20)  # 4 repetitions in all
    proxy.harm(*[Harm.ERROR] * 50)
    for _ in range(10):
        with pytest.raises(StorageUnavailable):
            made.get("x")
    assert proxy.requests == 10 + 4


def test_repetitions_stop_at_their_time():
    now = [0.0]
    retry = Retry(attempts=100, total_s=3.0, first_pause_s=1.0, clock=lambda: now[0],
                  sleep=lambda s: now.__setitem__(0, now[0] + s), budget=Budget(10_000))  # fmt: skip

    def fail() -> None:
        raise TryAgain("no")

    with pytest.raises(StorageUnavailable, match="asked"):
        retry.call(fail)
    assert now[0] <= 3.0


def test_what_asking_again_does_not_change_is_said_at_once(server: str, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(StorageError, match="form"):
        S3Store(S3Options(url="http://bucket"))
    elsewhere = S3Store(S3Options(url="s3://no-such-bucket-here", endpoint=server))
    begun = time.monotonic()
    with pytest.raises(StorageError, match="no such bucket"):
        elsewhere.get("x")
    assert time.monotonic() - begun < 3
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(StorageError, match="no credentials"):
        S3Store(S3Options(url=f"s3://{BUCKET}", endpoint=server))
