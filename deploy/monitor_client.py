"""The monitor's JSON API as the command line and the demo use it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urljoin

import httpx

from deploy.addresses import addresses
from deploy.errors import CommandError, Missing, NotRunning
from deploy.settings import Settings

TOKEN_VARIABLE = "HARDCASE_MONITOR_TOKEN"


class MonitorClient:
    """Calls to a running monitor.

    Args:
        base: Its address, such as `http://127.0.0.1:8080`.
        token: Bearer token; the variable `HARDCASE_MONITOR_TOKEN` when one is needed.
        client: For tests; otherwise one of its own.
    """

    def __init__(self, base: str, token: str | None = None, client: httpx.Client | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.base = base
        # No proxies: the monitor is where the settings say, and its answers are nobody else's business.
        self._client = client or httpx.Client(base_url=base, headers=headers, timeout=30.0, trust_env=False)

    @classmethod
    def of(cls, settings: Settings) -> MonitorClient:
        """The monitor that the settings name."""
        return cls(addresses(settings)["console"], os.environ.get(TOKEN_VARIABLE))

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def get(self, path: str, **query: object) -> Any:
        """GET a JSON document.

        Raises:
            NotRunning: nothing answers.
            Missing: 404.
            CommandError: any other status, with the monitor's own text.
        """
        return self._checked(self._send("GET", path, params={k: v for k, v in query.items() if v is not None})).json()

    def post(self, path: str, body: object) -> Any:
        """POST a JSON document; errors as for `get`."""
        return self._checked(self._send("POST", path, json=body)).json()

    def post_lines(self, path: str, body: bytes, **query: object) -> Any:
        """POST JSON Lines; errors as for `get`."""
        headers = {"content-type": "application/x-ndjson"}
        return self._checked(
            self._send("POST", path, params=query, content=body, headers=headers, timeout=600.0)
        ).json()

    @contextmanager
    def lines(self, path: str, **query: object) -> Iterator[Iterator[str]]:
        """GET an answer line by line, as it comes; errors as for `get`."""
        given = {k: str(v) for k, v in query.items() if v is not None}
        try:
            with self._client.stream("GET", path, params=given, timeout=600.0) as response:
                if response.status_code >= 400:
                    response.read()
                yield _split(self._checked(response))
        except httpx.TransportError:
            raise NotRunning(f"the monitor at {self.base} does not answer, or broke off") from None

    def cases(
        self,
        *,
        model: str | None = None,
        reason: str | None = None,
        limit: int = 20,
        **query: object,
    ) -> list[dict[str, Any]]:
        """Cases, most probably wrong first; pages are followed up to `limit`."""
        found: list[dict[str, Any]] = []
        for page in self._pages("/api/cases", model=model, reason=reason, limit=min(limit, 500), **query):
            found += page
            if len(found) >= limit:
                break
        return found[:limit]

    def _pages(self, path: str, **query: object) -> Iterator[list[dict[str, Any]]]:
        cursor: str | None = None
        while True:
            page = self.get(path, cursor=cursor, **query)
            yield page["cases"]
            cursor = page.get("next")
            if not cursor:
                return

    def case(self, case: str) -> dict[str, Any]:
        """One case."""
        found: dict[str, Any] = self.get(f"/api/cases/{quote(case, safe='')}")
        return found

    def case_page(self, case: object) -> str:
        """Where people see a case."""
        return f"{self.base}/cases/{quote(str(case), safe='')}"

    @staticmethod
    def case_row(case: dict[str, Any]) -> tuple[object, ...]:
        """A line of `hardcase cases list`."""
        wrong = case.get("p_wrong")
        return (
            case["id"],
            case["model"],
            case["version"],
            case.get("predicted_label") or case.get("predicted"),
            case.get("label"),
            "" if wrong is None else f"{wrong:.3f}",
            ", ".join(case.get("reasons", [])),
            case.get("time"),
        )

    def report(
        self,
        model: str,
        version: str | None,
        *,
        minutes: float = 60.0,
        start: datetime | None = None,
        end: datetime | None = None,
        kind: str = "drift",
        wait_s: float = 180.0,
    ) -> dict[str, Any]:
        """Start an Evidently report and wait until it is done.

        Args:
            model: Whose.
            version: Which; None for the champion.
            minutes: How far the range reaches back from its end, where it has no start.
            start: Of the range.
            end: Of the range; None for now.
            kind: "drift", "summary" or "quality".
            wait_s: Longest time to wait.

        Raises:
            CommandError: it failed, or took longer than `wait_s`.
        """
        to = end or datetime.now(UTC)
        since = start or to - timedelta(minutes=minutes)
        body = {
            "model": model,
            "version": version,
            "from": since.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "to": to.astimezone(UTC).isoformat().replace("+00:00", "Z"),
            "kind": kind,
        }
        done: dict[str, Any] = self.post("/api/reports", body)
        deadline = time.monotonic() + wait_s
        while done["finished_at"] is None:
            if time.monotonic() > deadline:
                raise CommandError(f"report {done['id']} is not done after {wait_s:.0f} s", f"{self.base}/reports")
            time.sleep(0.5)
            done = self.get(f"/api/reports/{done['id']}")
        if done["html"] is None:
            raise CommandError(f"the report failed: {done.get('error') or done['state']}")
        return done

    def report_html(self, done: dict[str, Any]) -> bytes:
        """The report as a page."""
        return self._checked(self._send("GET", str(done["html"]))).content

    def bytes_of(self, address: str) -> bytes:
        """What lies at an address that the monitor gave, such as a case's picture."""
        return self._checked(self._send("GET", address)).content

    def describe_report(self, done: dict[str, Any]) -> str:
        """A line for people."""
        shown = [c for c in done["columns"] if c["drifted"] or (done["kind"] == "quality" and c["column"] == "all")]
        rows = "\n".join(
            f"  {c['column']}: {c['method']} {c['value']:.4g}"
            + ("" if c["threshold"] is None else f", threshold {c['threshold']:.4g}")
            for c in shown
            if c["value"] is not None
        )
        page = urljoin(self.base, str(done["html"]))
        found = f"{done['drifted']} of {len(done['columns'])} columns drifted, " if done["kind"] == "drift" else ""
        return (
            f"{found}{done['current_rows']} rows against {done['reference_rows']} of the reference "
            f"({done['sampling']})\n{rows}\n{page}"
        )

    def _send(self, method: str, path: str, **given: Any) -> httpx.Response:
        try:
            return self._client.request(method, path, **given)
        except httpx.TransportError:
            raise NotRunning(f"no monitor answers at {self.base}", "`hardcase up` starts one") from None

    def _checked(self, response: httpx.Response) -> httpx.Response:
        if response.status_code < 400:
            return response
        try:
            text = str(response.json()["error"])
        except (ValueError, KeyError, TypeError):
            text = f"the monitor answered {response.status_code}"
        if response.status_code == 404:
            raise Missing(text)
        if response.status_code in (401, 403):
            raise CommandError(text, f"put an API key (or a token of the settings) into the variable {TOKEN_VARIABLE}")
        raise CommandError(text)


def _split(response: httpx.Response) -> Iterator[str]:
    """Lines at newlines only: other line breaks belong to the text in them."""
    rest = b""
    for piece in response.iter_bytes():
        *whole, rest = (rest + piece).split(b"\n")
        yield from (line.decode() for line in whole)
    if rest:
        yield rest.decode()
