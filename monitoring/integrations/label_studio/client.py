"""Calls to Label Studio's REST API."""

from __future__ import annotations

import binascii
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from monitoring.integrations.contracts import ProjectGone, ToolError
from monitoring.integrations.egress import Answer, Egress

ACCESS_S = 240.0  # an access token is good for 300 s
LONG_S = 120.0  # for an import


@dataclass(kw_only=True)
class LabelStudioClient:
    """JSON in, JSON out. One instance is for one thread at a time.

    Attributes:
        base: The server's address.
        token: Gives the access token; asked for at every sign-in, so that it may change.
    """

    base: str
    token: Callable[[], str]
    egress: Egress
    monotonic: Callable[[], float] = time.monotonic
    _bearer: tuple[str, str, float] | None = field(default=None, repr=False)  # token, access token, good until

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        query: Mapping[str, object] | None = None,
        *,
        idempotent: bool | None = None,
        total_s: float | None = None,
        missing: bool = False,
    ) -> Any:
        """One call; `missing` says that 404 answers None instead of raising.

        Raises:
            EgressFailed: not reached; later perhaps.
            ProjectGone: 404.
            ToolError: any other refusal.
        """
        url = self.base.rstrip("/") + path + (f"?{urlencode(query)}" if query else "")
        more: dict[str, Any] = {"idempotent": idempotent, "total_s": total_s}
        for fresh in (False, True):
            headers = {"authorization": self._credential(fresh), "accept": "application/json"}
            if body is None:
                answer = self.egress.send(method, url, headers=headers, **more)
            else:
                answer = self.egress.send_json(method, url, body, headers=headers, **more)
            if answer.status != 401 or self._bearer is None:
                break
        if answer.status == 404 and missing:
            return None
        if not answer.ok:
            raise _refusal(answer)
        return answer.json() if answer.body else None

    def _credential(self, fresh: bool) -> str:
        token = self.token()
        if token.count(".") < 2 or not token.startswith("ey"):
            self._bearer = None
            return f"Token {token}"
        known = self._bearer
        if fresh or known is None or known[0] != token or self.monotonic() > known[2]:
            answer = self.egress.send_json(
                "POST", self.base.rstrip("/") + "/api/token/refresh", {"refresh": token}, idempotent=True
            )
            if not answer.ok:
                raise ToolError(f"the personal access token was not taken (status {answer.status})")
            known = (token, str(answer.json()["access"]), self.monotonic() + ACCESS_S)
            self._bearer = known
        return f"Bearer {known[1]}"


def _refusal(answer: Answer) -> ToolError:
    if answer.status == 404:
        return ProjectGone("what was asked for is no longer there (status 404)")
    if answer.status in (401, 403):
        return ToolError(f"the access token is not taken, or may not do this (status {answer.status})")
    if 300 <= answer.status < 400:
        return ToolError(f"the server redirects (status {answer.status}): set its final address as url")
    text = f"the server refused (status {answer.status}){_detail(answer)}"
    return ToolError(text, about_request=answer.status in (400, 413, 422))


def _detail(answer: Answer) -> str:
    """What a server of good manners says about a refusal, shortened; it repeats nothing of ours but names of fields."""
    try:
        said = json.loads(answer.body)
    except ValueError:
        return ""
    detail = said.get("detail") if isinstance(said, dict) else None
    return f": {detail[:200]}" if isinstance(detail, str) else ""


def data_url(png: bytes) -> str:
    """A picture inside the task: nobody has to fetch it, and nobody else can."""
    return "data:image/png;base64," + binascii.b2a_base64(png, newline=False).decode("ascii")
