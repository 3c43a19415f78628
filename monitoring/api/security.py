"""Who may ask, from where, and what a browser may do with the answer: one ASGI middleware in front of everything.

- *Host*: an IP address, `localhost`, or a configured name. A foreign name means DNS rebinding and is refused.
- *Origin* and *Sec-Fetch-Site*: anything that changes state must come from the console itself or from no browser.
- *Credential*: a session's cookie, an API key, or a token of the settings, as soon as anybody needs one
  (`monitoring.people.roster`). Whoever it stands for is in `request.state.principal`.
- *Headers*: no inline script or style, nothing from elsewhere, no framing, no content sniffing.
"""

from __future__ import annotations

import ipaddress
import json
import re
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monitoring.api.body_limits import body_limit
from monitoring.api.options import ConsoleOptions
from monitoring.people.contracts import ASKING, LOCAL, NOBODY, Principal
from monitoring.people.roster import Roster

COOKIE = "hardcase_session"
SECURE_COOKIE = "__Host-" + COOKIE  # browsers take that name only with Secure, for "/", from this very host
HOOK_PATHS = ("/api/integrations/label-studio/hook",)  # brings a credential of its own
JOB_HOOK = "/api/loop/jobs/{job}/events"
_JOB_HOOK = re.compile(r"/api/loop/jobs/[^/]{1,128}/events")
HOOKS = ("/api/integrations/label-studio/hook", JOB_HOOK)  # prove themselves by a secret of their own, which they check
# Answered without a credential.
OPEN_PATHS = (*HOOKS, "/api/health/live", "/api/health/ready", "/sign-in", "/first-start", "/invitation", *HOOK_PATHS)
STATIC_PREFIX = "/static/"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

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


class Guard:
    """The middleware. See the module's text.

    Args:
        app: What is guarded.
        options: Hosts and proxies.
        roster: Whose credential is whose.
    """

    def __init__(self, app: ASGIApp, options: ConsoleOptions, roster: Roster) -> None:
        self._app = app
        self._options = options
        self._roster = roster
        self._cookie = cookie_name(options)
        self._public = urlsplit(options.public_url).hostname

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

        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        principal = None if refusal else await self._who(headers, scope["path"])
        if principal is None:
            await _refuse(guarded, *(refusal or _unknown(headers, scope)))
            return
        state = scope.setdefault("state", {})
        state["principal"], state["address"] = principal, self._address(scope, headers)
        before = ASKING.set(principal)
        try:
            await self._app(scope, receive, guarded)
        finally:
            ASKING.reset(before)
        if self._roster.owes:
            await run_in_threadpool(self._roster.note_uses)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str, dict[str, str]] | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._host_allowed(hosts[0]):
            return 400, "the Host header names a host that this console does not answer to (monitor.allowed_hosts)", {}
        if scope["method"] not in SAFE_METHODS:
            if not _same_origin(headers, hosts[0]):
                return 403, "this request comes from another site's page", {}
            # Neither a length nor a transfer encoding: there is no body (RFC 9112, 6.3), as with a browser's DELETE.
            length = headers.get("content-length", "" if "transfer-encoding" in headers else "0")
            most = body_limit(scope["path"])
            if not length.isdecimal() or int(length) > most:
                return 413, f"a Content-Length of at most {most} bytes is needed", {}
        return None

    async def _who(self, headers: Headers, path: str) -> Principal | None:
        """Whoever asks; None: nobody that is known."""
        anybody = self._roster.open_to_all()
        if anybody or (anybody is None and await run_in_threadpool(self._roster.look_if_open)):
            return LOCAL
        credential, is_cookie = self._credential(headers)
        found = None
        if credential:
            found = self._roster.remembered(credential)
            if found is None:
                found = await run_in_threadpool(self._roster.look_up, credential, cookie=is_cookie)
        if found is None and _is_open(path):
            return NOBODY
        return found

    def _credential(self, headers: Headers) -> tuple[str, bool]:
        """What was shown, and whether it is a cookie. Who shows a bearer token means that one."""
        if "authorization" in headers:
            scheme, _, token = headers["authorization"].partition(" ")
            return (token.strip(), False) if scheme.lower() == "bearer" else ("", False)
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return "", True
        return ("" if morsel is None else morsel.value), True

    def _address(self, scope: Scope, headers: Headers) -> str:
        """Where the request comes from: the connection's other end, or whom a trusted proxy names."""
        client = scope.get("client")
        address = str(client[0]) if client else ""
        if address in self._options.trusted_proxies:
            named = headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
            try:
                return str(ipaddress.ip_address(named))
            except ValueError:
                return address
        return address

    def _host_allowed(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name == "localhost" or name in self._options.allowed_hosts or name == self._public:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _is_open(path: str) -> bool:
    """Whether it is answered without a credential."""
    return path in OPEN_PATHS or path.startswith(STATIC_PREFIX) or _JOB_HOOK.fullmatch(path) is not None


def cookie_name(options: ConsoleOptions) -> str:
    """How the session's cookie is called."""
    return SECURE_COOKIE if options.secure else COOKIE


def _unknown(headers: Headers, scope: Scope) -> tuple[int, str, dict[str, str]]:
    """Nobody that is known: people are led to the sign-in page."""
    if "text/html" in headers.get("accept", "") and scope["method"] == "GET":
        query = scope.get("query_string", b"").decode("latin-1")
        wanted = scope["path"] + (f"?{query}" if query else "")
        return 303, "sign in first", {"location": "/sign-in?next=" + quote(wanted, safe="")}
    return 401, "a session, an API key or a token is needed", {"www-authenticate": 'Bearer realm="hardcase"'}


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
