"""Who may ask, from where, and what a browser may do with the answer: one ASGI middleware in front of everything.

- *Host*: an IP address, `localhost`, or a configured name. A foreign name means DNS rebinding and is refused.
- *Origin* and *Sec-Fetch-Site*: anything that changes state must come from the console itself or from no browser.
- *Token*: when one is configured, a bearer token, or the cookie that the sign-in page gives for it.
- *Headers*: no inline script or style, nothing from elsewhere, no framing, no content sniffing.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import secrets
import threading
from collections import OrderedDict
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monitoring.api.options import ConsoleOptions
from monitoring.people.contracts import LOCAL, SHARED

COOKIE = "hardcase_session"
OPEN_PATHS = ("/api/health/live", "/api/health/ready", "/sign-in")  # answered without a credential
STATIC_PREFIX = "/static/"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
MAX_SESSIONS = 256
MAX_BODY_BYTES = 64 << 10

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; font-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}


class Sessions:
    """Signed-in browsers, in memory: a restart signs everybody out. The oldest goes when there are too many."""

    def __init__(self, options: ConsoleOptions) -> None:
        self._digests = options.token_sha256
        self._known: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def token_holds(self, token: str) -> bool:
        """Whether this is a configured token, compared in constant time."""
        given = hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
        return any([hmac.compare_digest(given, digest) for digest in self._digests])  # all: constant time

    def begin(self) -> str:
        """A new session's cookie value."""
        value = secrets.token_urlsafe(32)
        with self._lock:
            self._known[_digest(value)] = None
            while len(self._known) > MAX_SESSIONS:
                self._known.popitem(last=False)
        return value

    def knows(self, value: str) -> bool:
        """Whether a cookie value belongs to a session."""
        with self._lock:
            return _digest(value) in self._known


class Guard:
    """The middleware. See the module's text.

    Args:
        app: What is guarded.
        options: Hosts and token.
        sessions: Shared with the sign-in page.
    """

    def __init__(self, app: ASGIApp, options: ConsoleOptions, sessions: Sessions) -> None:
        self._app = app
        self._options = options
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on with the headers added."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(scope)
        if refusal is None:
            scope.setdefault("state", {})["principal"] = SHARED if self._options.token_sha256 else LOCAL
            await self._app(scope, receive, guarded)
        else:
            await _refuse(guarded, *refusal)

    def _refusal(self, scope: Scope) -> tuple[int, str, dict[str, str]] | None:
        headers, method, path = Headers(scope=scope), scope["method"], scope["path"]
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._host_allowed(hosts[0]):
            return 400, "the Host header names a host that this console does not answer to (monitor.allowed_hosts)", {}
        if method not in SAFE_METHODS:
            if not _same_origin(headers, hosts[0]):
                return 403, "this request comes from another site's page", {}
            length = headers.get("content-length", "")
            if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
                return 413, f"a Content-Length of at most {MAX_BODY_BYTES} bytes is needed", {}
        if self._options.token_sha256 and not self._known(headers, path):
            if "text/html" in headers.get("accept", "") and method == "GET":
                return 303, "sign in first", {"location": "/sign-in?next=" + quote(path, safe="")}
            return 401, "a bearer token is needed", {"www-authenticate": 'Bearer realm="hardcase"'}
        return None

    def _host_allowed(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name == "localhost" or name in self._options.allowed_hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _known(self, headers: Headers, path: str) -> bool:
        if path in OPEN_PATHS or path.startswith(STATIC_PREFIX):
            return True
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._sessions.token_holds(token.strip()):
            return True
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return morsel is not None and self._sessions.knows(morsel.value)


def _same_origin(headers: Headers, host: str) -> bool:
    """Browsers say where a request comes from; what says nothing is no browser."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site not in ("same-origin", "none"):
        return False
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False


async def _refuse(send: Send, status: int, text: str, headers: dict[str, str]) -> None:
    body = json.dumps({"error": text}).encode()
    raw = {"content-type": "application/json", "content-length": str(len(body)), **headers}
    lines = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in raw.items()]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()
