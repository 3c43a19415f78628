"""What the API needs besides store and catalogue: its settings, and how the monitor behind it is doing."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from monitoring.people.contracts import SignIn
from monitoring.people.roster import RosterOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class ConsoleOptions:
    """Settings of the console and API.

    Attributes:
        host: Address to bind. Beyond loopback only with a token, or with `sign_in` "always".
        port: Port to bind; 0 takes a free one.
        token_sha256: SHA-256 (hex, lower case) of the tokens of which everybody must show one; none asks for none.
        allowed_hosts: Names under which browsers may reach the console, besides IP addresses and `localhost`. A page
            of another site that points its own name here (DNS rebinding) is refused.
        public_url: Where links in answers lead, e.g. behind a proxy; empty makes them relative.
        secure_cookie: The console is behind TLS: its cookie is marked `Secure`. So it is where `public_url` says https.
        sign_in: When people have to say who they are.
        session_idle_s: An unused session ends after so long.
        session_s: Every session ends after so long.
        trusted_proxies: Addresses of proxies whose `X-Forwarded-For` is believed, for throttling and the audit.
        state_dir: The monitor's folder, for the one-time link of the first start; None: there is no such link.
        ready_lag_s: The monitor is ready while its ingest is not further behind than this.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    token_sha256: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    public_url: str = ""
    secure_cookie: bool = False
    sign_in: SignIn = SignIn.AUTO
    session_idle_s: float = 7200.0
    session_s: float = 43_200.0
    trusted_proxies: tuple[str, ...] = ()
    state_dir: Path | None = None
    ready_lag_s: float = 120.0

    @property
    def secure(self) -> bool:
        """Whether browsers reach the console by TLS."""
        return self.secure_cookie or self.public_url.startswith("https://")

    @property
    def always(self) -> bool:
        """Whether a credential is needed even while there is no user."""
        return self.sign_in == SignIn.ALWAYS or not is_loopback(self.host)

    @property
    def roster(self) -> RosterOptions:
        """What is about people."""
        return RosterOptions(
            tokens=self.token_sha256,
            always=self.always,
            idle_s=self.session_idle_s,
            most_s=self.session_s,
            state_dir=self.state_dir,
        )

    def check(self) -> None:
        """Refuse to be open to a network.

        Raises:
            ValueError: bound beyond loopback without any credential, or a token digest that is none.
        """
        if any(len(t) != 64 or set(t) - set("0123456789abcdef") for t in self.token_sha256):
            raise ValueError("monitor.token_sha256 must be 64 lower-case hex digits: the SHA-256 of a token")
        if not self.token_sha256 and self.sign_in != SignIn.ALWAYS and not is_loopback(self.host):
            raise ValueError(
                f"monitor.host {self.host} is reachable from a network, and nobody is asked who they are: set "
                "monitor.sign_in to always (people sign in; a one-time link makes the first admin), or "
                "monitor.token_sha256 (the SHA-256 of a token of your own), or bind 127.0.0.1"
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestHealth:
    """How the monitor's loop is doing.

    Attributes:
        heartbeat_age_s: Seconds since the loop last came round; None before the first time.
        lag_s: Age of the oldest record that is in the log and not yet consumed; 0 when everything is.
        lag_bytes: Bytes in the log that are not consumed yet.
        records: Records consumed since the process started.
        error: Public text of what stops the loop, or None.
    """

    heartbeat_age_s: float | None = None
    lag_s: float = 0.0
    lag_bytes: int = 0
    records: int = 0
    error: str | None = None


class MonitorView(Protocol):
    """What the API asks the monitor."""

    def health(self) -> IngestHealth:
        """How the loop is doing now."""
        ...


Targets = Callable[[], list[str]]
"""Addresses `host:port` that Prometheus scrapes: serving replicas and the monitor itself."""
