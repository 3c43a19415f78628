"""Who may call: known tokens pass with their name, everything else is refused with the same status."""

from __future__ import annotations

import secrets

import pytest

from export.contracts.errors import Unauthenticated
from serving.auth import ANONYMOUS, Authenticator, UnsafeBind, hash_token, require_safe_bind
from serving.options import ApiKey, AuthOptions


def options(*tokens: str) -> AuthOptions:
    return AuthOptions(keys=tuple(ApiKey(name=f"key-{i}", sha256=hash_token(t)) for i, t in enumerate(tokens)))


def test_each_known_token_gives_the_name_of_its_key() -> None:
    tokens = [secrets.token_urlsafe() for _ in range(5)]
    authenticator = Authenticator(options(*tokens))
    assert [authenticator.check(f"Bearer {t}".encode()) for t in tokens] == [f"key-{i}" for i in range(5)]


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer "])
def test_the_scheme_is_read_as_http_reads_it(scheme: str) -> None:
    assert Authenticator(options("t")).check(f" {scheme} t ".encode()) == "key-0"


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer ",
        b"Basic dDp0",
        b"t",
        b"Bearer T",
        b"Bearer t t",
        b"Bearer \xff",
        b"Bearer " + b"x" * 5000,
    ],
)
def test_anything_else_is_unauthenticated_and_the_text_does_not_repeat_it(header: bytes | None) -> None:
    with pytest.raises(Unauthenticated) as caught:
        Authenticator(options("t")).check(header)
    assert caught.value.http_status == 401
    assert "dDp0" not in caught.value.message


def test_the_digest_itself_is_no_credential() -> None:
    with pytest.raises(Unauthenticated):
        Authenticator(options("t")).check(f"Bearer {hash_token('t')}".encode())


def test_without_keys_everybody_is_anonymous() -> None:
    assert Authenticator(AuthOptions()).check(None) == ANONYMOUS


def test_a_key_that_is_no_digest_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'ci': sha256"):
        Authenticator(AuthOptions(keys=(ApiKey(name="ci", sha256="plain-text-token"),)))
    with pytest.raises(ValueError, match="twice"):
        Authenticator(AuthOptions(keys=(ApiKey(name="a", sha256="0" * 64), ApiKey(name="a", sha256="1" * 64))))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.5", "example.org", "127.0.0.1.example.org"])
def test_other_machines_need_a_key(host: str) -> None:
    with pytest.raises(UnsafeBind, match="no API key"):
        require_safe_bind(host, AuthOptions())
    require_safe_bind(host, options("t"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_loopback_needs_none(host: str) -> None:
    require_safe_bind(host, AuthOptions())
