"""The one HTTP client with which the monitor leaves its machine.

- A host is resolved once, and the connection goes to what was found: a name that changes its mind in between (DNS
  rebinding) gains nothing. Where one of its addresses is refused, the host is.
- Private and loopback addresses only where the settings name the host; link-local ones never.
- No redirects, no proxies, no cookies, no compressed answers; limits on time and size hold for the whole exchange.
- A call that can be repeated is, after a random pause; one that cannot is repeated only where no connection came about.
- Errors name neither URL nor headers: both may hold secrets.

EgressError
├── EgressRefused    the call is not allowed, or is malformed: repeating it cannot help
└── EgressFailed     not reached, too slow, too large: the same call may work later
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpcore

from export.contracts.errors import HardcaseError
from monitoring.integrations.addresses import refusal, resolve
from monitoring.integrations.network import Pinned, secured_context

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
TRY_AGAIN = frozenset({429, 502, 503, 504})
PORTS = {"http": 80, "https": 443}


class EgressError(HardcaseError):
    """A call that left no usable answer."""


class EgressRefused(EgressError):
    """The address or the request is not allowed. Change the settings or the URL."""

    code = "egress_refused"


class EgressFailed(EgressError):
    """The other side was not reached or did not answer within the limits. Try again later."""

    code = "egress_failed"
    http_status = 502
    grpc_status = "UNAVAILABLE"


class _NoConnection(EgressFailed):
    """Nothing was sent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EgressOptions:
    """Limits of calls that leave the monitor.

    Attributes:
        allowed_hosts: `host` or `host:port` that may be on this machine or in a private network.
        connect_s: Until the connection stands, TLS included.
        total_s: Until the answer's last byte, of one attempt.
        max_bytes: Of an answer's body.
        attempts: Of a call that can be repeated.
        pause_s: The pause before attempt n + 1 is uniform between 0 and `pause_s` * 2**n.
    """

    allowed_hosts: tuple[str, ...] = ()
    connect_s: float = 5.0
    total_s: float = 30.0
    max_bytes: int = 16 << 20
    attempts: int = 3
    pause_s: float = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What came back, whatever its status.

    Attributes:
        headers: Names in lower case; of repeated ones the last.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether the status is one of success. Redirects are not followed, so they are no success."""
        return 200 <= self.status < 300  # RFC 9110, 15.3

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            EgressFailed: it is none.
        """
        try:
            return json.loads(self.body)
        except ValueError:
            raise EgressFailed(f"the answer (status {self.status}) is not JSON") from None


@dataclass(kw_only=True)
class Egress:
    """The client; safe to use from several threads. See the module's text.

    Attributes:
        resolver: Host and port to addresses.
        sleep: Between attempts.
        draw: Uniform in [0, 1), for the pauses.
    """

    options: EgressOptions = field(default_factory=EgressOptions)
    resolver: Callable[[str, int], Sequence[str]] = resolve
    sleep: Callable[[float], None] = time.sleep
    draw: Callable[[], float] = field(default_factory=lambda: random.SystemRandom().random)
    monotonic: Callable[[], float] = time.monotonic

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        idempotent: bool | None = None,
        total_s: float | None = None,
        max_bytes: int | None = None,
    ) -> Answer:
        """Send a request and read the whole answer; a status of failure is an answer, too.

        Args:
            method: In upper case.
            url: `http` or `https`, without user and password.
            headers: In addition to Host, Accept-Encoding and Content-Length.
            body: None sends none.
            idempotent: Whether the call can be repeated; None goes by the method.
            total_s: Instead of the options'.
            max_bytes: Instead of the options'.

        Raises:
            EgressRefused: the address is not allowed, or the request is malformed.
            EgressFailed: no answer within the limits, after the attempts that were due.
        """
        repeatable = method in IDEMPOTENT if idempotent is None else idempotent
        failed: EgressFailed | None = None
        for attempt in range(1, self.options.attempts + 1):
            try:
                answer = self._once(method, url, headers or {}, body, total_s, max_bytes)
            except EgressFailed as error:
                if not (repeatable or isinstance(error, _NoConnection)):
                    raise
                failed, answer = error, None
            if answer is not None and not (repeatable and answer.status in TRY_AGAIN):
                return answer
            if attempt == self.options.attempts:
                if answer is not None:
                    return answer
                break
            self.sleep(self.draw() * self.options.pause_s * 2**attempt)
        raise failed or EgressFailed("no attempt was allowed")

    def send_json(self, method: str, url: str, document: object, **more: Any) -> Answer:
        """`send` with a JSON body."""
        headers = {"content-type": "application/json", **(more.pop("headers", None) or {})}
        return self.send(method, url, headers=headers, body=json.dumps(document).encode(), **more)

    @classmethod
    def to(cls, url: str, allowed_hosts: Sequence[str] = (), **limits: Any) -> Egress:
        """A client for a tool whose URL somebody wrote into the settings: that host may be a private one."""
        return cls(options=EgressOptions(allowed_hosts=(*allowed_hosts, urlsplit(url).netloc), **limits))

    def check(self, url: str) -> None:
        """Whether a URL could be called; resolves its host.

        Raises:
            EgressRefused: it could not be.
            EgressFailed: the host is not known.
        """
        self._addresses(*_parts(url)[1:3])

    def _addresses(self, host: str, port: int) -> Sequence[str]:
        named = bool({host, f"{host}:{port}", f"[{host}]:{port}"} & set(self.options.allowed_hosts))
        try:
            found = self.resolver(host, port)
        except OSError:
            raise _NoConnection("the host's name is not known") from None
        if not found:
            raise _NoConnection("the host has no address")
        for address in found:
            why = refusal(address, named)
            if why is not None:
                raise EgressRefused(f"the host is not called: {why} (integrations.allowed_hosts)")
        return found

    def _once(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        total_s: float | None,
        max_bytes: int | None,
    ) -> Answer:
        scheme, host, port, target = _parts(url)
        addresses = self._addresses(host, port)
        deadline = self.monotonic() + (total_s or self.options.total_s)
        limit = max_bytes or self.options.max_bytes
        fields = {"host": urlsplit(url).netloc, "accept-encoding": "identity", "connection": "close"}
        fields |= {name.lower(): value for name, value in headers.items()}
        if body is not None:
            fields["content-length"] = str(len(body))
        try:
            raw = [(k.encode("ascii"), v.encode("latin-1")) for k, v in fields.items()]
        except UnicodeEncodeError:
            raise EgressRefused("a header holds characters that HTTP does not carry") from None
        origin = httpcore.Origin(scheme.encode(), host.encode(), port)
        request = httpcore.Request(
            method,
            httpcore.URL(scheme=origin.scheme, host=origin.host, port=port, target=target),
            headers=raw,
            content=body or b"",
            extensions={"timeout": {"connect": self.options.connect_s, "read": None, "write": None, "pool": None}},
        )
        network = Pinned(addresses=addresses, deadline=deadline, monotonic=self.monotonic)
        # A context of its own for every call: connections are not kept, so neither is what secures them.
        secured = secured_context() if scheme == "https" else None
        try:
            with httpcore.HTTPConnection(origin, ssl_context=secured, network_backend=network) as connection:
                answer = connection.handle_request(request)
                try:
                    content = _read(answer.iter_stream(), limit)
                finally:
                    answer.close()
        except (httpcore.ConnectError, httpcore.ConnectTimeout):
            raise _NoConnection("no connection came about") from None
        except httpcore.TimeoutException:
            raise EgressFailed("there was no whole answer in time") from None
        except (httpcore.NetworkError, httpcore.RemoteProtocolError):
            raise EgressFailed("the connection broke, or the answer is not HTTP") from None
        except httpcore.LocalProtocolError:
            raise EgressRefused("the request is malformed") from None
        names = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in answer.headers}
        return Answer(status=answer.status, headers=names, body=content)


def _parts(url: str) -> tuple[str, str, int, bytes]:
    """Scheme, host, port and request target.

    Raises:
        EgressRefused: not a plain HTTP URL.
    """
    try:
        split = urlsplit(url)
        port = split.port or PORTS.get(split.scheme, 0)
        target = (split.path or "/") + (f"?{split.query}" if split.query else "")
        coded = target.encode("ascii")
        host = split.hostname or ""
        host = host if ":" in host else host.encode("idna").decode("ascii")
    except ValueError:
        raise EgressRefused("the URL is malformed") from None
    if split.scheme not in PORTS or not host or split.username is not None or not url.isprintable() or " " in url:
        raise EgressRefused("the URL must be http or https, with a host and without user and password")
    return split.scheme, host, port, coded


def _read(pieces: Iterable[bytes], limit: int) -> bytes:
    held = bytearray()
    for piece in pieces:
        held += piece
        if len(held) > limit:
            raise EgressFailed(f"the answer is longer than {limit} bytes")
    return bytes(held)
